"""Rows of the record -> sentences, and the notices of them; pure."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace

from bot.blocks import (
    Answer,
    Block,
    context,
    cut,
    escaped,
    fitted,
    moment,
    name,
    person,
    plain,
    quoted,
    section,
)
from bot.request_screens import change_line, title
from core.cards import HistoryLine, News, RequestCard
from core.ledger import Tenure
from core.rules.decision import percent

MOST_TENURES = 8
MOVES = 12
"""Shares that a line of the history spells out."""
DEEDS = {
    "request": "asked for",
    "approve": "approved",
    "break glass": "broke the glass :rotating_light: and pushed through",
    "reject": "rejected",
    "redraw": "redrew",
    "expire": "let expire",
    "supersede": "closed",
    "start": "started",
    "increase": "increased",
    "promote": "promoted",
    "rollback": "rolled back",
    "retire": "retired",
    "erase": "deleted, as decided,",
    "keep": "did not delete",
    "pause": "paused",
    "resume": "resumed",
    "qualify": "qualified",
    "override": "overrode the evaluation of",
    "create_policy_version": "created",
    "hold": "put on hold",
    "unhold": "lifted the hold of",
    "freeze": "froze",
    "unfreeze": "unfroze",
    "alert": "raised",
    "alert dismissed": "dismissed",
    "alert recovered": "saw the end of",
    "alert superseded": "closed",
    "snooze": "snoozed",
    "alert returned": "closed, as its candidate was returned,",
    "sign safety": "signed the return, without a click, of",
    "withdraw safety": "withdrew what was signed for",
    "countdown": "began the countdown of",
    "stop countdown": "stopped the countdown of",
    "drop countdown": "ended the countdown of",
    "fail countdown": "could not return, as signed,",
    "return as signed": "returned, as signed,",
    "discrepancy": "found changed by others:",
    "discrepancy gone": "saw settled:",
    "adopt": "adopted as others changed it:",
    "revert": "put back as it was decided:",
    "send back": "made a candidate again, as its variant was deleted:",
    "mirror": "brought the registry in line for",
    "take over": "took over",
    "policy": "began to work by another version of",
}


def _share_changes(line: HistoryLine) -> str:
    before, after = line.before.get("shares") or {}, line.after.get("shares") or {}
    moved = [key for key in {**before, **after} if before.get(key, "0") != after.get(key, "0")]
    shown = [
        f"{name(key, 40)} {percent(float(before.get(key, 0)))} → {percent(float(after.get(key, 0)))}"
        for key in moved[:MOVES]
    ]
    return ", ".join([*shown, *([f"and {len(moved) - MOVES} more"] if len(moved) > MOVES else [])])


def _other_changes(line: HistoryLine) -> str:
    """What a discrepancy that is not about shares was, and became."""
    if line.action not in ("discrepancy", "adopt", "revert") or "shares" in line.before:
        return ""
    moved = [
        ("" if key == line.subject else f"{name(key, 40)} ")
        + f"{name(before or 'none', 40)} → {name(after or 'none', 40)}"
        for key, before in line.before.items()
        if (after := line.after.get(key)) != before
    ]
    return ", ".join([*moved[:MOVES], *([f"and {len(moved) - MOVES} more"] if len(moved) > MOVES else [])])


def deed(line: HistoryLine, *, with_changes: bool = True) -> str:
    """One row of the record as a sentence."""
    changes = (_share_changes(line) or _other_changes(line)) if with_changes else ""
    place = f" in {name(line.experiment)}" if line.experiment and line.experiment != line.subject else ""
    reason = f"\n{quoted(line.reason, 200)}" if line.reason else ""
    if line.answered is not None:
        alerts = ", ".join(f"alert {number}" for number in line.answered.alerts)
        rolled_back = f"{name(line.answered.variant)}{place} rolled back by {person(line.actor)} ({alerts})"
        return rolled_back + (f": {changes}" if changes else "")
    return (
        f"{person(line.actor)} {DEEDS[line.action]} {name(line.subject)}{place}"
        + (f": {changes}" if changes else "")
        + reason
    )


def history(lines: Sequence[HistoryLine], tenures: Sequence[Tenure], experiment_name: str) -> Answer:
    """What happened, newest first, below which version was in production when."""
    if not lines:
        told = plain(f"Nothing is on record for {name(experiment_name)} yet.")
        return replace(told, blocks=fitted([*_production(tenures), *told.blocks]))
    happened = [section(f"{moment(line.at)}  {deed(line, with_changes=_has_changes(line))}") for line in lines]
    return Answer(f"History of {escaped(experiment_name)}", fitted([*_production(tenures), *happened]))


def _production(tenures: Sequence[Tenure]) -> list[Block]:
    if not tenures:
        return []
    shown = [_tenure(one) for one in tenures[:MOST_TENURES]]
    more = [f"and {len(tenures) - MOST_TENURES} before"] if len(tenures) > MOST_TENURES else []
    return [context("In production: " + ", ".join([*shown, *more]))]


def _tenure(one: Tenure) -> str:
    if one.until is None:
        since = f" since {moment(one.since)}" if one.since else " since before this record"
        return f"{name(one.version)}{since}"
    since = f" from {moment(one.since)}" if one.since else ""
    return f"{name(one.version)}{since} until {moment(one.until)}"


def _has_changes(line: HistoryLine) -> bool:
    """The shares of what was decided stand in the line of its request, unless one click made both."""
    return line.action not in ("approve", "break glass") or line.answered is not None


def _decided(line: HistoryLine, card: RequestCard) -> str:
    """A decision with what it was about and who asked, so that nobody has to look it up."""
    verb = "confirmed" if (card.action, line.action) == ("rollback", "approve") else DEEDS[line.action]
    asked_by = "" if card.requester == line.actor else f", asked by {person(card.requester)}"
    why = card.override or card.reason
    return "\n".join(
        [
            f"{person(line.actor)} {verb} #{card.id} *{escaped(title(card))}*{asked_by}",
            *([change_line(change) for change in card.changes if change.before != change.after]),
            *([f"{':warning: Override, because' if card.override else 'Why'}\n{quoted(why, 200)}"] if why else []),
            *([f"Rejected, because\n{quoted(line.reason, 200)}"] if line.reason else []),
        ]
    )


def notice(news: News, command: str) -> Answer:
    """What everybody who follows rollouts is told."""
    line = news.line
    text = deed(line) if news.request is None else _decided(line, news.request)
    is_plain = line.experiment is not None and re.fullmatch(r"[\w.-]{1,60}", line.experiment)
    blocks = [section(text), *([context(f"See `{command} status {line.experiment}`")] if is_plain else [])]
    return Answer(cut(text, 300), blocks)
