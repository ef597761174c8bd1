"""What Slack allows in text, option, confirm and interactive element objects, as tables."""

from itertools import pairwise
from typing import Any

from bot.sandbox.schema import Array, Boolean, ByType, Fault, Faults, Integer, Record, Rule, Spec, String, exactly_one

DATE = r"\d{4}-(0[1-9]|1[0-2])-(0[1-9]|[12]\d|3[01])"
TIME = r"([01]\d|2[0-3]):[0-5]\d"
NUMBER = r"-?\d+(\.\d+)?"
HTTP_URL = r"https?://[^\s]+"


def plain(most: int) -> ByType:
    """A plain_text object."""
    return ByType({"plain_text": Record({"text": String(most, filled=True), "emoji": Boolean()}, ("text",))})


def text(most: int) -> ByType:
    """A plain_text or mrkdwn object."""
    mrkdwn = Record({"text": String(most, filled=True), "verbatim": Boolean()}, ("text",))
    return ByType({**plain(most).types, "mrkdwn": mrkdwn})


STYLE = String(one_of=("primary", "danger"))
CONFIRM = Record(
    {"title": plain(100), "text": text(300), "confirm": plain(30), "deny": plain(30), "style": STYLE},
    ("title", "text", "confirm", "deny"),
)


def option(label: Spec, **more: Spec) -> Record:
    """An option whose text is `label`."""
    return Record({"text": label, "value": String(150), "description": plain(75), **more}, ("text", "value"))


OPTION = option(plain(75))
RICH_OPTION = Record({"text": text(75), "value": String(150), "description": text(75)}, ("text", "value"))
OPTIONS = Array(OPTION, 100)
OPTION_GROUPS = Array(Record({"label": plain(75), "options": OPTIONS}, ("label", "options")), 100)
TRIGGERS = Array(String(one_of=("on_enter_pressed", "on_character_entered")), 2)
DISPATCH = Record({"trigger_actions_on": TRIGGERS})
CONVERSATIONS = String(one_of=("im", "mpim", "private", "public"))
FILTER = Record(
    {
        "include": Array(CONVERSATIONS, 4),
        "exclude_external_shared_channels": Boolean(),
        "exclude_bot_users": Boolean(),
    }
)


def options_of(element: dict[str, Any]) -> list[dict[str, Any]]:
    """All options of an element, groups opened."""
    grouped = [option for group in element.get("option_groups", []) for option in group["options"]]
    return [*element.get("options", []), *grouped]


def initial_is_offered(element: dict[str, Any], at: str) -> Faults:
    """A rule: what is chosen at first is one of the options, word for word."""
    for key in ("initial_option", "initial_options"):
        chosen = element.get(key, [])
        for each in chosen if isinstance(chosen, list) else [chosen]:
            if each not in options_of(element):
                yield Fault("must match one of the options", f"{at}/{key}")


def numbers_in_order(element: dict[str, Any], at: str) -> Faults:
    """A rule: minimum, initial value and maximum come in this order, with no fraction unless allowed."""
    given = [key for key in ("min_value", "initial_value", "max_value") if key in element]
    for smaller, greater in pairwise(given):
        if float(element[smaller]) > float(element[greater]):
            yield Fault(f"must not be less than {smaller}", f"{at}/{greater}")
    for key in given:
        if "." in element[key] and not element["is_decimal_allowed"]:
            yield Fault("must be a whole number", f"{at}/{key}")


def lengths_in_order(element: dict[str, Any], at: str) -> Faults:
    """A rule: min_length is not above max_length, and the initial value obeys the latter."""
    most = element.get("max_length", 3_000)
    if element.get("min_length", 0) > most:
        yield Fault("must not be greater than max_length", f"{at}/min_length")
    if len(element.get("initial_value", "")) > most:
        yield Fault(f"must be less than {most + 1} characters", f"{at}/initial_value")


def element(required: tuple[str, ...] = (), rules: tuple[Rule, ...] = (), /, **fields: Spec) -> Record:
    """An element with an action_id and these fields."""
    return Record({"action_id": String(255), **fields}, required, rules)


def chooser(required: tuple[str, ...] = (), rules: tuple[Rule, ...] = (), /, **fields: Spec) -> Record:
    """An element that people choose something in."""
    common: dict[str, Spec] = {"confirm": CONFIRM, "focus_on_load": Boolean(), **fields}
    return element(required, rules, **common)


PLACEHOLDER = plain(150)
ONE_KIND = exactly_one("options", "option_groups")
FROM_OPTIONS: dict[str, Spec] = {"placeholder": PLACEHOLDER, "options": OPTIONS, "option_groups": OPTION_GROUPS}

LIST_OF_IDS = Array(String(255), 100)
SEVERAL: dict[str, Spec] = {"max_selected_items": Integer(1, 100)}

BUTTON = element(
    ("text",),
    text=plain(75),
    value=String(2_000),
    url=String(3_000, pattern=HTTP_URL),
    style=STYLE,
    confirm=CONFIRM,
    accessibility_label=String(75),
)
OVERFLOW_OPTION = option(plain(75), url=String(3_000, pattern=HTTP_URL))

# type -> what it must look like
ELEMENTS: dict[str, Record] = {
    "button": BUTTON,
    "overflow": element(("options",), options=Array(OVERFLOW_OPTION, 5), confirm=CONFIRM),
    "static_select": chooser((), (ONE_KIND, initial_is_offered), initial_option=OPTION, **FROM_OPTIONS),
    "multi_static_select": chooser(
        (), (ONE_KIND, initial_is_offered), initial_options=OPTIONS, **FROM_OPTIONS, **SEVERAL
    ),
    "users_select": chooser(placeholder=PLACEHOLDER, initial_user=String(255)),
    "multi_users_select": chooser(placeholder=PLACEHOLDER, initial_users=LIST_OF_IDS, **SEVERAL),
    "conversations_select": chooser(
        placeholder=PLACEHOLDER,
        initial_conversation=String(255),
        default_to_current_conversation=Boolean(),
        response_url_enabled=Boolean(),
        filter=FILTER,
    ),
    "plain_text_input": element(
        (),
        (lengths_in_order,),
        placeholder=PLACEHOLDER,
        initial_value=String(3_000, least=0),
        multiline=Boolean(),
        min_length=Integer(0, 3_000),
        max_length=Integer(1, 3_000),
        dispatch_action_config=DISPATCH,
        focus_on_load=Boolean(),
    ),
    "number_input": element(
        ("is_decimal_allowed",),
        (numbers_in_order,),
        is_decimal_allowed=Boolean(),
        placeholder=PLACEHOLDER,
        initial_value=String(pattern=NUMBER),
        min_value=String(pattern=NUMBER),
        max_value=String(pattern=NUMBER),
        dispatch_action_config=DISPATCH,
        focus_on_load=Boolean(),
    ),
    "radio_buttons": chooser(
        ("options",), (initial_is_offered,), options=Array(RICH_OPTION, 10), initial_option=RICH_OPTION
    ),
    "checkboxes": chooser(
        ("options",), (initial_is_offered,), options=Array(RICH_OPTION, 10), initial_options=Array(RICH_OPTION, 10)
    ),
    "datepicker": chooser(placeholder=PLACEHOLDER, initial_date=String(pattern=DATE)),
    "timepicker": chooser(placeholder=PLACEHOLDER, initial_time=String(pattern=TIME), timezone=String(255)),
}
