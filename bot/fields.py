"""The fields of a form: how they are drawn within Slack's limits, and how what was filled in is read. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from bot import blocks
from bot.blocks import Block

OPTIONS = 100
MOST_OPTIONS = 1000
OPTION_TEXT = 75
OPTION_VALUE = 150
REASON_LIMIT = 1000

Values = Mapping[str, Any]


class Faulty(Exception):
    """A submission with faults, each by the field it belongs to."""

    def __init__(self, faults: Mapping[str, str]) -> None:
        super().__init__(str(faults))
        self.faults = dict(faults)


def _text(text: str) -> Block:
    return {"type": "plain_text", "text": text}


def option(text: str, value: str) -> Block:
    """One of those that there are to choose from; `value` comes back where it is chosen."""
    return {"text": _text(blocks.cut(blocks.one_line(text), OPTION_TEXT)), "value": value}


def _choices(options: Sequence[Block]) -> Block:
    """A list takes a hundred options; more come in groups of a hundred, and past a thousand one has to type."""
    if len(options) <= OPTIONS:
        return {"options": list(options)}
    starts = range(0, min(len(options), MOST_OPTIONS), OPTIONS)
    pages = {start + 1: list(options[start : start + OPTIONS]) for start in starts}
    return {"option_groups": [{"label": _text(f"From no. {n}"), "options": page} for n, page in pages.items()]}


def select(field: str, label: str, options: Sequence[Block], hint: str = "", *, optional: bool = False) -> Block:
    """A list to choose one from; what there is no choice about is chosen already."""
    element: Block = {"type": "static_select", "action_id": field, "placeholder": _text("Choose"), **_choices(options)}
    if len(options) == 1:
        element["initial_option"] = options[0]
    return labelled(field, label, element, hint, optional=optional)


def both(one: str, word: str, other: str) -> str:
    """Two names in the text of an option, so that a long one does not push the other out."""
    room = (OPTION_TEXT - len(word) - 2) // 2
    return f"{blocks.cut(blocks.one_line(one), room)} {word} {blocks.cut(blocks.one_line(other), room)}"


def labelled(field: str, label: str, element: Block, hint: str = "", *, optional: bool = False) -> Block:
    """An element as a field, with what is asked above it."""
    made: Block = {"type": "input", "block_id": field, "label": _text(label), "element": element, "optional": optional}
    return made | ({"hint": _text(hint)} if hint else {})


def typed(field: str, label: str, hint: str = "", *, optional: bool = False, **element: Any) -> Block:
    """A field to type into."""
    shape = {"type": "plain_text_input", "action_id": field, "max_length": REASON_LIMIT, **element}
    return labelled(field, label, shape, hint, optional=optional)


def modal(title: str, callback_id: str, body: Sequence[Block], *, submit: str | None = None, about: str = "") -> Block:
    """A view; `about` travels with it and comes back on submission."""
    made: Block = {
        "type": "modal",
        "callback_id": callback_id,
        "title": _text(blocks.cut(title, 24)),
        "close": _text("Cancel" if submit else "Close"),
        "blocks": list(body),
        "private_metadata": about,
    }
    return made | ({"submit": _text(submit)} if submit else {})


def message(title: str, text: str) -> Block:
    """A view that only says something."""
    return modal(title, "message", [blocks.section(text)])


def _within(found: Any, *path: str) -> Any:
    """What lies at the end of a path of keys; None where it breaks off."""
    for key in path:
        found = found.get(key) if isinstance(found, Mapping) else None
    return found


def chosen(values: Values, field: str) -> str | None:
    """What was chosen or typed in a field; None where it is empty."""
    picked = _within(values, field, field, "selected_option", "value")
    found = _within(values, field, field, "value") if picked is None else picked
    return blocks.storable(found).strip() or None if isinstance(found, str) else None


def required(values: Values, field: str) -> str:
    """What was chosen or typed in a field.

    Raises:
        Faulty: where it is empty.
    """
    found = chosen(values, field)
    if found is None:
        raise Faulty({field: "This is needed."})
    return found
