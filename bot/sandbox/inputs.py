"""What people can fill in: the state of each element type, its first value, and what may be sent back."""

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from bot.sandbox.elements import DATE, NUMBER, TIME, options_of
from bot.sandbox.errors import ActRefused
from bot.sandbox.messages import elements_of
from bot.sandbox.store import Json


@dataclass(frozen=True)
class Input:
    """How an element type keeps its value: under `key`, at first from `initial`."""

    key: str
    initial: str
    several: bool = False


INPUTS: dict[str, Input] = {
    "plain_text_input": Input("value", "initial_value"),
    "number_input": Input("value", "initial_value"),
    "static_select": Input("selected_option", "initial_option"),
    "multi_static_select": Input("selected_options", "initial_options", several=True),
    "radio_buttons": Input("selected_option", "initial_option"),
    "checkboxes": Input("selected_options", "initial_options", several=True),
    "users_select": Input("selected_user", "initial_user"),
    "multi_users_select": Input("selected_users", "initial_users", several=True),
    "conversations_select": Input("selected_conversation", "initial_conversation"),
    "datepicker": Input("selected_date", "initial_date"),
    "timepicker": Input("selected_time", "initial_time"),
}
REQUIRED = "Please complete this required field."


def state_of(blocks: list[Json], before: Json) -> Json:
    """The state of every input: what was filled in before, else the initial value."""
    values: Json = {}
    for block in blocks:
        for element in elements_of(block):
            kept = before.get(block["block_id"], {}).get(element.get("action_id"))
            if element["type"] in INPUTS:
                same = kept is not None and kept["type"] == element["type"]
                values.setdefault(block["block_id"], {})[element["action_id"]] = kept if same else first_state(element)
    return values


def first_state(element: Json) -> Json:
    """The state of an element nobody touched."""
    spec = INPUTS[element["type"]]
    return {"type": element["type"], spec.key: element.get(spec.initial, [] if spec.several else None)}


def find_element(blocks: list[Json], block_id: str, action_id: str) -> Json:
    """The element; refused if there is none."""
    for block in blocks:
        for element in elements_of(block):
            if block.get("block_id") == block_id and element.get("action_id") == action_id:
                return element
    raise ActRefused("element_not_found", f"There is no element {action_id} in block {block_id}.")


def taken_state(element: Json, given: Json) -> Json:
    """What the person chose, in Slack's form; refused if the element does not offer it."""
    spec = INPUTS[element["type"]]
    value = given.get(spec.key, given.get("value"))
    if spec.several:
        value = value if isinstance(value, list) else [value] if value else []
    elif not value:
        value = None
    if "option" in spec.key and value:
        value = [offered(element, each) for each in value] if spec.several else offered(element, value)
    return {"type": element["type"], spec.key: value}


def offered(element: Json, chosen: Any) -> Json:
    """The element's own option with this value; refused if it has none."""
    value = chosen.get("value") if isinstance(chosen, dict) else chosen
    for option in options_of(element):
        if option["value"] == value:
            return option
    raise ActRefused("option_not_found", f"{value} is not one of the options.")


def missing_or_wrong(blocks: list[Json], values: Json) -> dict[str, str]:
    """What the Slack client itself tells the person before it submits, by block_id."""
    errors: dict[str, str] = {}
    for block in blocks:
        if block["type"] == "input":
            element = block["element"]
            value = values[block["block_id"]][element["action_id"]][INPUTS[element["type"]].key]
            text = _complaint(element, value, bool(block.get("optional")))
            errors |= {block["block_id"]: text} if text else {}
    return errors


def _complaint(element: Json, value: Any, optional: bool) -> str:
    if value in (None, "", []):
        return "" if optional else REQUIRED
    check = COMPLAINTS.get(element["type"])
    return check(element, value) if check else ""


def _text(element: Json, value: str) -> str:
    least, most = element.get("min_length", 0), element.get("max_length", 3_000)
    if len(value) < least:
        return f"Please enter at least {least} characters."
    return f"Please enter at most {most} characters." if len(value) > most else ""


def _number(element: Json, value: str) -> str:
    if not re.fullmatch(NUMBER, value):
        return "Please enter a number."
    if "." in value and not element["is_decimal_allowed"]:
        return "Please enter a whole number."
    if "min_value" in element and float(value) < float(element["min_value"]):
        return f"Please enter a number of at least {element['min_value']}."
    if "max_value" in element and float(value) > float(element["max_value"]):
        return f"Please enter a number of at most {element['max_value']}."
    return ""


def _several(element: Json, value: list[Any]) -> str:
    most = element.get("max_selected_items", len(value))
    return f"Please choose at most {most}." if len(value) > most else ""


def _date(element: Json, value: str) -> str:
    return "" if re.fullmatch(DATE, value) else "Please enter a date."


def _time(element: Json, value: str) -> str:
    return "" if re.fullmatch(TIME, value) else "Please enter a time."


COMPLAINTS: dict[str, Callable[[Json, Any], str]] = {
    "plain_text_input": _text,
    "number_input": _number,
    "multi_static_select": _several,
    "multi_users_select": _several,
    "datepicker": _date,
    "timepicker": _time,
}
