"""Followed rollouts -> what a channel is shown: the living card of each, and one digest a day. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping, Sequence

from bot import verdicts
from bot.blocks import (
    CONTEXT_LIMIT,
    Answer,
    Block,
    button,
    context,
    cut,
    escaped,
    fitted,
    header,
    moment,
    name,
    one_line,
    packed,
    person,
    section,
    unbroken,
)
from bot.screens import check_lines, check_mark, frozen_line, signature_line
from core.audit import Head
from core.digests import Digest, DigestLine
from core.rollout_cards import RolloutCard
from core.rules.decision import METRIC_ROWS, CheckRow, percent

ASKS: Mapping[str, str] = {
    "increase": "Ask for {next}",
    "promote": "Ask for production",
    "rollback": "Ask for the rollback",
}
"""What the first button of a card says, by verdict; the others have nothing to ask for."""
ENDINGS: Mapping[str | None, str] = {
    "promote": ":checkered_flag: *In production*",
    "rollback": ":rewind: *Rolled back*",
    None: ":white_circle: *No traffic any more*",
}
MOST_LINES = 25
"""Rollouts that a digest spells out; a list longer than this is not read."""
MOST_NAMES = 60
HEAD_DIGITS = 16
"""Of a hash: enough to find it again with `audit verify --head`, and nobody can make another that begins so."""


# --- The living card ------------------------------------------------------------------------------------------------


def card(shown: RolloutCard) -> Answer:
    """A rollout as its card shows it: the verdict, why, what one can do, each metric, the checklist."""
    if shown.candidate is None:
        return _ended(shown)
    found = shown.candidate.decision
    where = f"{verdicts.headline(shown.candidate)} in {name(shown.experiment)}"
    blocks = [
        section(f"{where}\n{unbroken(found.why)}"),
        *_circumstances(shown),
        _buttons(shown),
        section("\n".join(verdicts.metric_line(finding, is_full=True) for finding in found.findings)),
        *verdicts.remarks(shown.candidate),
        _checklist(shown.checklist),
    ]
    late = " · :alarm_clock: made after its time" if shown.is_late else ""
    last = [context(f"{verdicts.small_print(shown.candidate)}{late}")]
    return Answer(_sentence(shown), fitted(blocks, last))


def _checklist(rows: Sequence[CheckRow]) -> Block:
    """The rows with what they rest on; those whose numbers stand above already by their titles alone."""
    if not rows:
        return context("No checklist: this variant links to no policy version, so it cannot be promoted.")
    measured = [row for row in rows if row.title in METRIC_ROWS]
    others = [row for row in rows if row.title not in METRIC_ROWS]
    titles = " · ".join(f"{check_mark(row)} {row.title.replace(' ', verdicts.NBSP)}" for row in measured)
    passed = f"{sum(row.passed is True for row in rows)} of {len(rows)} passed"
    return section(f"*Checklist before production*, {passed}\n{check_lines(others)}\n{titles}")


def _sentence(shown: RolloutCard) -> str:
    candidate = shown.candidate
    verdict = verdicts.WORDS[candidate.decision.action] if candidate else "Ended"
    why = f": {candidate.decision.why}" if candidate else "."
    return escaped(cut(f"{verdict} {_short(shown.variant)} in {_short(shown.experiment)}{why}", 300))


def _short(text: str) -> str:
    return cut(one_line(text), 60)


def _circumstances(shown: RolloutCard) -> list[Block]:
    """What is under way already: a freeze, a hold, a request, alerts."""
    lines = [frozen_line(shown.frozen)] if shown.frozen else []
    if shown.hold_until is not None:
        by = person(shown.held_by or "?")
        lines.append(
            f":double_vertical_bar: On hold until {moment(shown.hold_until)} by {by}: "
            f"{escaped(cut(one_line(shown.hold_reason or ''), 300))}"
        )
    if shown.signature is not None:
        lines.append(signature_line(shown.signature))
    if shown.open_request is not None:
        lines.append(f":inbox_tray: Request #{shown.open_request} waits for a decision.")
    if shown.open_alerts:
        lines.append(f":rotating_light: Open: alert {', '.join(map(str, shown.open_alerts))}.")
    return [context(line) for line in lines]


def _buttons(shown: RolloutCard) -> Block:
    candidate, value = shown.candidate, str(shown.id)
    action = candidate.decision.action if candidate else "wait"
    asks = []
    is_stopped = action != "rollback" and (shown.hold_until is not None or shown.frozen is not None)
    if action in ASKS and not is_stopped and shown.open_request is None:
        step = candidate.next_step if candidate else None
        words = ASKS[action].format(next=percent(step) if step is not None else "the next step")
        asks = [button(words, "ask_step", f"{value}:{action}", style="danger" if action == "rollback" else "primary")]
    hold = "Change the hold" if shown.hold_until is not None else "Hold…"
    return {
        "type": "actions",
        "elements": [
            *asks,
            button(hold, "hold", value),
            button("Why", "why", value),
            button("Chart", "chart", value),
            button("History", "history", value),
        ],
    }


def _ended(shown: RolloutCard) -> Answer:
    end = f" · {moment(shown.ended_at)}" if shown.ended_at else ""
    whose = f"{name(shown.variant)} in {name(shown.experiment)}"
    line = f"{ENDINGS[shown.ending]}  {whose}, last at {percent(shown.share)}{end}"
    buttons: Block = {"type": "actions", "elements": [button("History", "history", str(shown.id))]}
    return Answer(_sentence(shown), [section(line), buttons])


def moved(shown: RolloutCard) -> Answer:
    """What stays of a card where it stood, once it goes on in a newer message."""
    words = f"{name(shown.variant)} in {name(shown.experiment)} goes on in a newer card; this thread stays."
    return Answer(words, [context(f":arrow_down: {words}")])


def turned(shown: RolloutCard, before: str) -> Answer:
    """A changed verdict, for the thread of the card."""
    after = shown.candidate.decision if shown.candidate else None
    if after is None:
        return Answer(_sentence(shown), [section(escaped(_sentence(shown)))])
    text = f"{verdicts.WORDS[before]} → *{verdicts.WORDS[after.action]}*. {escaped(after.why)}"
    return Answer(cut(text, 300), [section(text)])


# --- The digest -----------------------------------------------------------------------------------------------------


def digest(shown: Digest, command: str) -> Answer:
    """A channel's day on one screen: those that need somebody spelled out, the others by name."""
    urgent = [line for line in shown.lines if line.needs_somebody]
    rest = [line for line in shown.lines if not line.needs_somebody]
    summary = _summary(urgent, rest)
    blocks = [
        header(f"Rollouts on {shown.day:%A, %d %B}"),
        section(summary),
        *(section(line(one)) for one in urgent[:MOST_LINES]),
        *(
            [context(f"{len(urgent) - MOST_LINES} more need somebody: `{command} alerts` and `{command} list`.")]
            if len(urgent) > MOST_LINES
            else []
        ),
        *_resting(rest, _several(shown.lines)),
    ]
    last = [
        *([context(_late(shown.late))] if shown.late else []),
        *([context(_record(shown.record))] if shown.record else []),
    ]
    return Answer(f"{_plain(summary)} {_first(urgent)}".strip(), fitted(blocks, last))


def _record(head: Head) -> str:
    entries = "1 entry" if head.number == 1 else f"{head.number:,} entries"
    return f"Record: {entries}, head `{head.hash[:HEAD_DIGITS]}`"


def _summary(urgent: Sequence[DigestLine], rest: Sequence[DigestLine]) -> str:
    total = len(urgent) + len(rest)
    count = f"{total} rollout" + ("s" if total != 1 else "")
    if not urgent:
        return f"*{count}*, none needs anybody today."
    return f"*{count}*: *{len(urgent)}* need{'s' if len(urgent) == 1 else ''} somebody, {len(rest)} can go on alone."


def _plain(text: str) -> str:
    return text.replace("*", "")


def _first(urgent: Sequence[DigestLine]) -> str:
    if not urgent:
        return ""
    line = urgent[0]
    return escaped(f"First: {verdicts.WORDS[line.action].lower()} {_short(line.variant)} in {_short(line.experiment)}.")


def line(line: DigestLine, *, with_why: bool = True) -> str:
    """A rollout in two lines: the verdict, and what is open with, as a rule, why."""
    to = f" to {percent(line.next_step)}" if line.action == "increase" and line.next_step is not None else ""
    whose = f"{name(line.variant)} in {name(line.experiment)}"
    head = f"{verdicts.MARKS[line.action]} *{verdicts.WORDS[line.action]}{to}*  {whose}"
    notes = [
        *(
            [f":rotating_light: {line.open_alerts} open alert{'s' if line.open_alerts > 1 else ''}"]
            if line.open_alerts
            else []
        ),
        *([f":inbox_tray: #{line.open_request} waits"] if line.open_request is not None else []),
        *([escaped(cut(one_line(line.why.partition(": ")[0]), 160))] if with_why else []),
    ]
    return f"{head}\n{' · '.join(notes)}"


def _several(lines: Sequence[DigestLine]) -> frozenset[str]:
    """The experiments with more than one candidate."""
    counts = Counter(line.experiment for line in lines)
    return frozenset(experiment for experiment, many in counts.items() if many > 1)


def _resting(rest: Sequence[DigestLine], several: Collection[str]) -> list[Block]:
    """The rollouts that go on alone, by name with how long they still take; of `several` of one experiment which."""
    whose = [
        f"{name(line.experiment, 40)}{f' {name(line.variant, 40)}' if line.experiment in several else ''}"
        for line in rest[:MOST_NAMES]
    ]
    names = [f"{who} {_progress(line)}" for who, line in zip(whose, rest, strict=False)]
    more = [f"and {len(rest) - MOST_NAMES} more"] if len(rest) > MOST_NAMES else []
    return [context(paragraph) for paragraph in packed([*names, *more], " · ", CONTEXT_LIMIT)]


def _late(many: int) -> str:
    whose = "The recommendation of 1 experiment was" if many == 1 else f"The recommendations of {many} experiments were"
    return f":alarm_clock: {whose} made later in the day than is set."


def _progress(line: DigestLine) -> str:
    if line.has_ended:
        return "has ended"
    if line.held_until is not None:
        return f"on hold until {line.held_until:%d %b}"
    of = verdicts.of_days(line.days, line.minimum_days)
    return f"{percent(line.share)}, day {line.days:.0f} {of}{_left(line)}"


def _left(line: DigestLine) -> str:
    """How long it still takes; what rests on the numbers of today, which may be others tomorrow, is called a guess."""
    if line.days_left is None or line.days_left < 1:
        return ""
    if line.days_left <= line.minimum_days - line.days + 0.1:
        return f", {line.days_left:.0f} d left"
    by = "the first hours' traffic" if line.days < 1 else "today's numbers"
    return f", some {line.days_left:.0f} d left by {by}"


def why_button(line: DigestLine) -> Block:
    """Asks why, from a line."""
    return button("Why", "why", str(line.rollout))
