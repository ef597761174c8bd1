"""What the command line says of two configurations and of the verdicts that they would have given. Pure."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from datetime import date, time
from typing import Any

from core.errors import Refused
from core.hindsight import Change, Hindsight
from core.policies import Difference
from core.rules.decision import percent
from core.rules.metrics import METRICS
from core.settings import Key

LONGEST_DAYS = 3650
_DAYS = {"d": 1, "w": 7}


def days(typed: str) -> int:
    """A length of time in days as people type it: `90d`, `12w`.

    Raises:
        Refused: where it is none, or longer than ten years.
    """
    found = re.fullmatch(r"([0-9]{1,4})([dw])", typed.strip().lower())
    many = int(found[1]) * _DAYS[found[2]] if found else 0
    if not 1 <= many <= LONGEST_DAYS:
        raise Refused(f"--replay {typed}: give days or weeks, like 90d or 12w, from 1d to {LONGEST_DAYS}d.")
    return many


# --- Settings -------------------------------------------------------------------------------------------------------

AS_FOR_ALL = "as for all"
UNSET: Mapping[str, str] = {
    "owners": "nobody",
    "approvers": "nobody",
    "on_call": "nobody",
    "operators": "everybody",
    "experiments": "all",
    "weekdays": "every day",
    "from": "midnight",
    "until": "midnight",
    "first": "any day",
    "last": "any day",
    "minimum_days": "the document's",
}
"""By the last word of a key: what it means to leave it out."""
SAYS: Mapping[str, Callable[[Any], str]] = {
    "steps": lambda steps: ", ".join(map(percent, steps)),
    "tolerance": percent,
    "minimum_samples": lambda plans: f"{plans:,} plans",
    "minimum_days": lambda days: f"{', '.join(map(str, days))} days",
    "ratio": " / ".join,
    "expires_hours": lambda hours: f"{hours} h",
    "remind_hours": lambda hours: f"{hours} h",
}
"""By the last word of a key: its value as people read it."""


def lines(found: Sequence[Difference], before: str, after: str) -> Iterator[str]:
    """What differs between two configurations with these names."""
    deciding = [one for one in found if one.decides]
    yield f"{before} -> {after}: {'what differs in what decides' if deciding else 'nothing differs in what decides'}"
    yield from (f"  {line(one)}" for one in deciding)
    if others := [one for one in found if not one.decides]:
        yield "What differs beside, in how and when people are told:"
        yield from (f"  {line(one)}" for one in others)


def line(found: Difference) -> str:
    """`key: before -> after`."""
    before = said(found.key, found.before) if found.was_there else "not there"
    after = said(found.key, found.after) if found.is_there else "not there"
    return f"{'.'.join(found.key)}: {before} -> {after}"


def said(key: Key, value: Any) -> str:
    """A setting in plain words; None where it is not set."""
    if value is None and key[0] == "experiments" and key[-1] != "owners":
        return AS_FOR_ALL
    found = _of_document(key) if value is None else value
    return UNSET.get(key[-1], "none") if found is None else SAYS.get(key[-1], _plain)(found)


def _of_document(key: Key) -> Any:
    """How the document judges one of its six metrics; None for any other key."""
    metric = next((metric for metric in METRICS if key[:-1] == ("metrics", metric.name)), None)
    return metric and getattr(metric, {"guardrail": "is_guardrail"}.get(key[-1], key[-1]))


def _plain(value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, tuple):
        return ", ".join(map(str, value))
    return value.strftime("%H:%M") if isinstance(value, time) else str(value)


# --- Verdicts -------------------------------------------------------------------------------------------------------

MARK = "~"
PRICE = ("metrics", "price_per_1000_tokens")
HEAD = ("", "experiment", "variant", "day", "said then -> said by the new file", "why")


def table(seen: Hindsight, found: Iterable[Difference], since: date) -> Iterator[str]:
    """The verdicts that would have been others, how many they are, and what could not be replayed."""
    if seen.changes:
        yield from _aligned([HEAD, *map(_row, seen.changes)])
        yield ""
    yield _summary(seen, since)
    if any(change.is_hypothetical for change in seen.changes):
        yield (
            f"{MARK} comes after a verdict of the same rollout that would have been another: people might have acted "
            "otherwise, and what then happened is not known."
        )
    if older := sum(change.is_older for change in seen.changes):
        yield f"{older:,} of them were judged by settings other than those in force now; that may be why they differ."
    if unknown := list(_unknown(seen, found)):
        yield "What cannot be replayed:"
        yield from (f"  {sentence}" for sentence in unknown)


def _row(change: Change) -> tuple[str, ...]:
    mark = MARK if change.is_hypothetical else ""
    run, verdicts = change.run, f"{change.said} -> {change.found}"
    why = f"{change.why} (Judged without {', '.join(change.without)}.)" if change.without else change.why
    return mark, run.experiment, run.variant, change.day.isoformat(), verdicts, why


def _aligned(rows: Sequence[Sequence[str]]) -> Iterator[str]:
    """The last column is as wide as it likes."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)][:-1]
    for *cells, last in rows:
        yield "  ".join([*(cell.ljust(width) for cell, width in zip(cells, widths, strict=True)), last])


def _summary(seen: Hindsight, since: date) -> str:
    ways = Counter(f"{change.said} -> {change.found}" for change in seen.changes)
    each = ", ".join(f"{way}: {many:,}" for way, many in ways.most_common())
    looks = "1 daily look" if seen.looks == 1 else f"{seen.looks:,} daily looks"
    differ = "1 differs" if len(seen.changes) == 1 else f"{len(seen.changes):,} differ"
    return f"{looks} since {since}, {differ}{f' ({each})' if each else ''}."


def _unknown(seen: Hindsight, found: Iterable[Difference]) -> Iterator[str]:
    for metric, days in sorted(seen.without.items()):
        between = f"on {days[0]}" if days[0] == days[-1] else f"from {days[0]} to {days[-1]}"
        yield (
            f"{metric} was not collected as the new file asks, or not from the beginning of the rollout, for "
            f"{len(days):,} of these looks, {between}; they are judged as if it had shown nothing."
        )
    if any(one.key == PRICE for one in found):
        yield "Costs are those of then: tokens were priced when a look was made, not by the new price_per_1000_tokens."
    if seen.not_whole:
        yield f"Of {seen.not_whole:,} looks no more was kept than action and sentence; only their actions are compared."
