"""Block Kit, pure and within Slack's limits. Names and reasons that people typed are always shown inert."""

from __future__ import annotations

import json
import re
import unicodedata
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

Block = dict[str, Any]

SECTION_LIMIT = 3000
CONTEXT_LIMIT = 2000
HEADER_LIMIT = 150
MESSAGE_BLOCKS = 50
MESSAGE_CHARACTERS = 12_000
NAME_LIMIT = 60


@dataclass(frozen=True)
class Picture:
    """A PNG with its file name, its title, and what it shows in words."""

    name: str
    title: str
    content: bytes
    alt: str


@dataclass(frozen=True)
class Answer:
    """What one person or one channel is shown: blocks, and the text that notifications and screen readers use."""

    text: str
    blocks: Sequence[Block] = ()
    view: Block | None = None
    """A modal to open instead of an answer."""
    settles: bool = False
    """Takes the place of the private message whose button was pressed, so that it is not pressed again."""
    fill: Callable[[Any], Block] | None = None
    """What the modal shows once it is read, where that takes longer than opening it may."""
    pictures: Callable[[], Sequence[Picture]] | None = None
    """Draws what is uploaded where a workspace takes no charts among its blocks."""
    words: Sequence[Block] = ()
    """The blocks where it takes neither."""


# --- Words ----------------------------------------------------------------------------------------------------------


def visible(text: str) -> str:
    """Free text without control characters and direction overrides; the joiner of composed emoji stays."""
    return "".join(c for c in text if c in "\n\t\u200d" or unicodedata.category(c) not in ("Cc", "Cf", "Cs"))


def storable(text: str) -> str:
    """What somebody typed without the one character that the database cannot keep."""
    return text.replace("\0", "")


def escaped(text: str) -> str:
    """Free text in mrkdwn without any mention or link."""
    return visible(text).replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


def unbroken(text: str) -> str:
    """Free text as `escaped` gives it, in which no number is parted from its unit at the end of a line."""
    return re.sub(r"(?<=\d) (?=%|ms\b|se\b)", "\u00a0", escaped(text))


def one_line(text: str) -> str:
    """Free text on one line; something is shown even where nothing of it can be."""
    return " ".join(visible(text).split()) or "?"


def cut(text: str, limit: int) -> str:
    """At most `limit` characters, with an ellipsis where something was left out."""
    return text if len(text) <= limit else text[: limit - 1].rstrip() + "…"


def name(text: str, limit: int = NAME_LIMIT) -> str:
    """A name in mrkdwn, inert whatever it holds; right-to-left names do not turn the line around."""
    inner = escaped(cut(one_line(text), limit)).replace("`", "'")
    return f"\u2068`{inner}`\u2069" if any(unicodedata.bidirectional(c) in ("R", "AL") for c in inner) else f"`{inner}`"


def person(actor: str) -> str:
    """A person by their Slack id; anything else by its name."""
    return f"<@{actor}>" if actor[:1] in ("U", "W") and actor.isalnum() and actor.isupper() else name(actor)


def moment(at: datetime) -> str:
    """A time in the reader's own time zone."""
    return f"<!date^{int(at.timestamp())}^{{date_short_pretty}} {{time}}|{at:%Y-%m-%d %H:%M} UTC>"


def quoted(text: str, limit: int = 500) -> str:
    """Free text as a quotation."""
    return "\n".join(f"> {line}" for line in escaped(cut(text, limit)).splitlines() or [""])


# --- Pieces ---------------------------------------------------------------------------------------------------------


def header(text: str) -> Block:
    """A heading; shown literally."""
    return {"type": "header", "text": {"type": "plain_text", "text": cut(one_line(text), HEADER_LIMIT)}}


def section(text: str, **more: Any) -> Block:
    """A paragraph of mrkdwn."""
    return {"type": "section", "text": {"type": "mrkdwn", "text": cut(text, SECTION_LIMIT)}, **more}


def context(text: str) -> Block:
    """Small print."""
    return {"type": "context", "elements": [{"type": "mrkdwn", "text": cut(text, CONTEXT_LIMIT)}]}


def button(text: str, action_id: str, value: str, *, style: str | None = None, confirm: Block | None = None) -> Block:
    """A button that carries one id."""
    made: Block = {
        "type": "button",
        "text": {"type": "plain_text", "text": text},
        "action_id": action_id,
        "value": value,
    }
    return made | ({"style": style} if style else {}) | ({"confirm": confirm} if confirm else {})


def confirmation(title: str, text: str, yes: str) -> Block:
    """Slack's own dialog before a button does what it says."""
    return {
        "title": {"type": "plain_text", "text": cut(title, 100)},
        "text": {"type": "plain_text", "text": cut(visible(text), 300)},
        "confirm": {"type": "plain_text", "text": yes},
        "deny": {"type": "plain_text", "text": "Cancel"},
        "style": "danger",
    }


def packed(pieces: Iterable[str], joint: str, limit: int) -> list[str]:
    """Pieces of mrkdwn in as few paragraphs of at most `limit` characters as hold them all, none cut in two."""
    paragraphs: list[str] = []
    for piece in pieces:
        if paragraphs and len(paragraphs[-1]) + len(joint) + len(piece) <= limit:
            paragraphs[-1] += joint + piece
        else:
            paragraphs.append(piece)
    return paragraphs


def listing(lines: Iterable[str]) -> list[Block]:
    """Lines of mrkdwn in as few paragraphs as hold them all, none cut in two."""
    return [section(paragraph) for paragraph in packed(lines, "\n", SECTION_LIMIT)]


def _size(blocks: Sequence[Block]) -> int:
    return len(json.dumps(blocks, ensure_ascii=False))


def fitted(blocks: Sequence[Block], last: Sequence[Block] = ()) -> list[Block]:
    """As many blocks as a message takes, and always the `last` ones; what is left out is said."""
    room, most = MESSAGE_CHARACTERS - _size(last), MESSAGE_BLOCKS - len(last) - 1
    kept: list[Block] = []
    for block in blocks:
        room -= _size([block])
        if len(kept) == most or room < 0:
            return [*kept, context(f"{len(blocks) - len(kept)} more are not shown here."), *last]
        kept.append(block)
    return [*kept, *last]


def plain(text: str) -> Answer:
    """One paragraph of mrkdwn."""
    return Answer(text, [section(text)])


def spelled(text: str) -> str:
    """For plain text, where a backtick would be shown as one: what somebody is to type stands in quotes."""
    return re.sub(r"`([^`\n]+)`", r"“\1”", text)


def literal(text: str) -> Answer:
    """One paragraph that is shown letter by letter, whatever names and reasons stand in it."""
    shown = cut(visible(spelled(text)), SECTION_LIMIT)
    paragraph = {"type": "section", "text": {"type": "plain_text", "text": shown, "emoji": False}}
    return Answer(escaped(cut(shown, 300)), [paragraph])
