"""What people type after the slash command, taken apart: a verb, names, and a reason."""

from __future__ import annotations

import html
import re
import shlex
from dataclasses import dataclass
from datetime import timedelta
from decimal import Decimal, InvalidOperation

from bot import blocks
from core.errors import Refused

_SMART_QUOTES = str.maketrans("“”„‘’", '"""\'\'')
_APART = re.compile(r"(?<=\d)\s+%")
"""The blank that many languages write between a number and its percent sign."""
_BECAUSE = re.compile(r"(?:^|\s)because\s+(?P<reason>.+)$", re.IGNORECASE | re.DOTALL)


class Missing(Refused):
    """A name that the verb needs was not typed."""


@dataclass(frozen=True)
class Words:
    """What was typed after the verb: names in order, and the free text after `because`."""

    names: tuple[str, ...]
    reason: str | None

    def at(self, index: int, what: str) -> str:
        """The name at a place.

        Raises:
            Refused: where it is missing, saying what belongs there.
        """
        if index >= len(self.names):
            raise Missing(f"Which {what}?")
        return self.names[index]

    def maybe(self, index: int) -> str | None:
        """The name at a place, or None."""
        return self.names[index] if index < len(self.names) else None

    def without(self, word: str) -> tuple[bool, Words]:
        """Whether an option word was typed, and the words without it."""
        kept = tuple(n for n in self.names if n.lower() != word)
        return len(kept) < len(self.names), Words(kept, self.reason)

    def at_most(self, count: int) -> Words:
        """These words.

        Raises:
            Refused: where there are more names than the verb takes, rather than guessing what they mean.
        """
        if len(self.names) > count:
            raise Refused(
                f"I do not know what to do with `{self.names[count]}`. Reasons go after the word `because`; "
                'a name with spaces stands in quotes: "my experiment".'
            )
        return self


def parse(text: str) -> tuple[str, Words]:
    """Splits what was typed into verb and words; quotation marks keep names with blanks together."""
    plain = blocks.storable(html.unescape(text)).strip()
    found = _BECAUSE.search(plain)
    head = plain[: found.start()] if found else plain
    straight = _APART.sub("%", head.translate(_SMART_QUOTES))
    try:
        words = shlex.split(straight)
    except ValueError:  # a lone quotation mark is part of a name
        words = straight.split()
    if words[1:] and words[-1].lower() == "because":  # the reason is still missing
        words.pop()
    reason = found["reason"].strip() if found else None
    return (words[0].lower() if words else "help"), Words(tuple(words[1:]), reason)


def share(text: str) -> Decimal:
    """A share as people type it: `10%`, `10 %` or `0.1`, as a fraction of 1.

    Raises:
        Refused: where it is none.
    """
    refused = Refused(f"`{text}` is not a share. Write it like 10% or 0.1.")
    try:
        number = Decimal(text.removesuffix("%").strip().replace(",", "."))
    except InvalidOperation:
        raise refused from None
    if not number.is_finite():
        raise refused
    return number / 100 if text.endswith("%") or number > 1 else number


_LENGTH = re.compile(r"^(?P<many>\d{1,3})\s*(?P<unit>h|d|w)?$", re.IGNORECASE)
_HOURS = {"h": 1, "d": 24, "w": 168}


def length(text: str) -> timedelta:
    """A length of time as people type it: `4h`, `2d`, `1w`; `0` is none.

    Raises:
        Refused: where it is none, or longer than 30 days.
    """
    found = _LENGTH.match(text)
    if found is None or (found["unit"] is None and int(found["many"])):
        raise Refused(f"`{text}` is no length of time. Write it like 4h, 2d or 1w; 0 lifts a hold.")
    hours = int(found["many"]) * _HOURS[(found["unit"] or "h").lower()]
    if hours > 30 * 24:
        raise Refused("A hold lasts at most 30 days; look again then.")
    return timedelta(hours=hours)
