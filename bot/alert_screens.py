"""Alerts -> what people are shown: the card with its buttons, the list, the scorecard. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime, timedelta
from decimal import Decimal

from bot.blocks import (
    Answer,
    Block,
    button,
    confirmation,
    context,
    cut,
    escaped,
    fitted,
    moment,
    name,
    one_line,
    person,
    quoted,
    section,
    unbroken,
)
from bot.verdicts import STATE_MARKS
from core.alert_cards import AlertCard, CountdownLine, Glass, Score
from core.rules.decision import percent

TITLES: Mapping[str, str] = {
    "candidate": ":rotating_light: *Roll back {variant}?*",
    "both": ":warning: *Not only the candidate: both arms are bad*",
    "data": ":satellite_antenna: *The data cannot be trusted*",
    "assignment": ":scales: *Units are not assigned as configured*",
}
KINDS: Mapping[str, str] = {
    "candidate": "Only the candidate: the baseline is as it was, events arrive, units are assigned as configured.",
    "both": "Both arms: look at what they share, such as a back end or a release. A rollback would not help.",
    "data": "Data missing or late: nothing can be said about the candidate until events arrive again.",
    "assignment": "Assignment: the arms are not what the shares say, so they cannot be compared.",
}
STATES: Mapping[str, str] = {
    "confirmed": ":rewind: *Rolled back*",
    "dismissed": ":no_bell: *Dismissed*",
    "returned": ":shield: *Returned to its previous share*, as signed",
    "recovered": ":large_green_circle: *Recovered*",
    "superseded": ":heavy_minus_sign: *Settled otherwise*",
}
MOST_QUIET = 4
SNOOZES: Mapping[str, tuple[str, timedelta | None]] = {
    "1h": ("For 1 hour", timedelta(hours=1)),
    "4h": ("For 4 hours", timedelta(hours=4)),
    "morning": ("Until tomorrow 9:00", None),
}
"""What a snooze is called, and how long it is; None is until the next morning."""
ESCALATIONS = (
    "Nobody has answered this for {minutes:.0f} minutes.",
    "Still unanswered after {minutes:.0f} minutes. {people}",
    "A critical alert has been unanswered for {minutes:.0f} minutes.",
)

Proposal = Mapping[str, tuple[Decimal, Decimal]]


# --- The card -------------------------------------------------------------------------------------------------------


def card(shown: AlertCard) -> Answer:
    """An alert: whose trouble it is, why, what one can do about it, the numbers; once it ended, how."""
    about = context(f"{name(shown.experiment)} · alert {shown.id} · {KINDS[shown.whose]}")
    if shown.state != "open":
        return Answer(_sentence(shown), fitted([section(_ending(shown)), section(unbroken(shown.why)), about]))
    why = section(f"{_title(shown)}\n{unbroken(shown.why)}")
    return Answer(_sentence(shown), fitted([why, about, *_offer(shown), *_numbers(shown)], [_since(shown)]))


def _title(shown: AlertCard) -> str:
    variant = name(shown.variant) if shown.variant else "the candidate"
    return TITLES[shown.whose].format(variant=variant)


def _sentence(shown: AlertCard) -> str:
    state = "" if shown.state == "open" else f" ({shown.state})"
    what = f"{shown.variant} in {shown.experiment}" if shown.variant else shown.experiment
    return escaped(cut(f"Alert {shown.id}{state} about {one_line(what)}: {shown.why}", 300))


def _numbers(shown: AlertCard) -> list[Block]:
    lines = [f"{STATE_MARKS[state]} {escaped(title)}: {unbroken(words)}" for state, title, words in shown.numbers]
    return [section("\n".join(lines))] if lines else []


def changes(proposal: Proposal) -> str:
    """Shares before and after, those that change."""
    moved = [f"{cut(v, 40)} {percent(a)} → {percent(b)}" for v, (a, b) in proposal.items() if a != b]
    return ", ".join(moved)


def _offer(shown: AlertCard) -> list[Block]:
    """What the buttons would do, in shares, and the buttons."""
    everything, own = shown.proposals.get("all", {}), shown.proposals.get("share", {})
    value, elements, lines = str(shown.id), [], []
    if shown.whose == "candidate" and everything:
        what = f"{cut(shown.variant or '', 60)} in {cut(shown.experiment, 60)}: {changes(everything)}. MLflow follows."
        sure = confirmation("Confirm rollback", what, "Roll back")
        marked = f"{value}:{shown.marks['all']}"
        elements.append(button("Confirm rollback", "alert_rollback", marked, style="danger", confirm=sure))
        lines.append(f"*Confirm rollback* gives: {escaped(changes(everything))}")
    if shown.whose == "candidate" and own and own != everything:
        sure = confirmation("Return only this share", f"{changes(own)}. Other candidates keep theirs.", "Return it")
        marked = f"{value}:{shown.marks['share']}"
        elements.append(button("Return only this share", "alert_share", marked, confirm=sure))
        lines.append(f"*Return only this share* gives: {escaped(changes(own))}")
    stop = [button("Stop the countdown", "alert_stop", value, style="primary")] if _counts(shown) else []
    buttons: Block = {
        "type": "actions",
        "elements": [*stop, *elements, button("Dismiss…", "alert_dismiss", value), _snooze(value)],
    }
    rests = (
        f":sleeping: Snoozed until {moment(shown.snoozed_until)} by {person(shown.snoozed_by or '?')}."
        if shown.snoozed_until
        else ""
    )
    return [
        *([section(_countdown(shown.countdown))] if shown.countdown else []),
        *([section("\n".join(lines))] if lines else []),
        *([context(rests)] if rests else []),
        buttons,
    ]


def _counts(shown: AlertCard) -> datetime | None:
    """When the candidate returns by itself, where a countdown runs."""
    line = shown.countdown
    return line.returns_at if line and line.state == "running" else None


def _countdown(line: CountdownLine) -> str:
    """What happens by itself and when, or why nothing does any more."""
    share, by = percent(line.share_after), person(line.signed_by)
    if line.state == "running":
        when = f":stopwatch: *Returns to {share} by itself {moment(line.returns_at)}*"
        signed = f"{by} signed this for alerts that nobody answers for {line.minutes} minutes:"
        return f"{when}\n{signed}\n{quoted(line.reason, 200)}"
    if line.state == "stopped":
        who = person(line.ended_by) if line.ended_by else "somebody"
        return f":raised_hand: The countdown to {share}, signed by {by}, was stopped by {who}. It waits for a click."
    return f":warning: {escaped(line.why or '')} It waits for a click."


def _snooze(value: str) -> Block:
    options = [{"text": {"type": "plain_text", "text": t}, "value": f"{value}:{k}"} for k, (t, _) in SNOOZES.items()]
    placeholder = {"type": "plain_text", "text": "Snooze"}
    return {"type": "static_select", "action_id": "alert_snooze", "placeholder": placeholder, "options": options}


def _since(shown: AlertCard) -> Block:
    promise = " Nothing rolls back without a click." if shown.whose == "candidate" and not _counts(shown) else ""
    times = f", seen {shown.looks} times, last {moment(shown.seen_at)}" if shown.looks > 1 else ""
    return context(
        f"Raised {moment(shown.opened_at)}{times}. It may have begun as early as {moment(shown.began_at)}.{promise}"
    )


def _ending(shown: AlertCard) -> str:
    is_person = shown.state in ("confirmed", "dismissed")
    by = f" by {person(shown.ended_by)}" if shown.ended_by and is_person else ""
    took = f" after {lasted((shown.ended_at - shown.opened_at).total_seconds() / 60)}" if shown.ended_at else ""
    why = f"\n{quoted(shown.end_reason)}" if shown.end_reason else ""
    request = f" · request #{shown.request_id}" if shown.request_id is not None else ""
    return f"{STATES[shown.state]}{by}{took}{request}{why}"


def lasted(minutes: float) -> str:
    """A length of time as people say it."""
    if minutes < 1:
        return "less than a minute"
    if minutes < 90:
        return f"{minutes:.0f} min"
    return f"{minutes / 60:.1f} h" if minutes < 48 * 60 else f"{minutes / 1440:.1f} days"


def escalation(shown: AlertCard, step: int, minutes: float, people: Iterable[str]) -> Answer:
    """A reminder of an unanswered alert, for its thread or for one person."""
    text = ESCALATIONS[step].format(minutes=minutes, people=" ".join(people)).strip()
    if shown.countdown is not None and shown.countdown.state == "running":
        text += f" It returns to {percent(shown.countdown.share_after)} by itself {moment(shown.countdown.returns_at)}."
    about = f"{_title(shown)} {name(shown.experiment)}\n{escaped(cut(shown.why, 300))}"
    return Answer(cut(f"{text} {_sentence(shown)}", 300), [section(f"{text}\n{about}")])


def short(shown: AlertCard) -> list[Block]:
    """An alert on the Home tab: what it says, the shares it proposes, and the buttons."""
    return [section(line(shown)), *_offer(shown)]


# --- The list and the scorecard -------------------------------------------------------------------------------------


def line(shown: AlertCard) -> str:
    """An open alert in two lines."""
    rests = " · :sleeping: snoozed" if shown.snoozed_until else ""
    ends = _counts(shown)
    counts = f" · :stopwatch: returns by itself {moment(ends)}" if ends else ""
    return (
        f"{_title(shown)} {name(shown.experiment)} · alert {shown.id}{rests}{counts}\n{unbroken(cut(shown.why, 200))}"
    )


def listed(found: Sequence[AlertCard], quiet: Sequence[AlertCard], where: str) -> Answer:
    """The open alerts, and those that are quiet because somebody dismissed them lately."""
    count = f"{len(found)} open alert{'s' if len(found) != 1 else ''}"
    blocks = [section(line(one)) for one in found] or [section(":large_green_circle: No alert is open.")]
    by = [f"alert {one.id} about {name(one.experiment)} by {person(one.ended_by or '?')}" for one in quiet[:MOST_QUIET]]
    by += [f"and {len(quiet) - MOST_QUIET} more"] if len(quiet) > MOST_QUIET else []
    hushed = [context(f":no_bell: Dismissed within the last day, so quiet: {', '.join(by)}.")] if by else []
    return Answer(count, fitted(blocks, [*hushed, context(f"Their cards are in {where}.")]))


def scorecard(found: Sequence[Score], glass: Glass) -> Answer:
    """How good the alerts have been, and how often owners went past the approvals."""
    if not found:
        text = "No alert was raised yet, so there is nothing to score."
        return Answer(text, [section(text), section(_glass(glass))])
    total = found[0]
    text = f"{total.raised} alerts: {_precision(total)}, {_times(total)}."
    blocks = [section(_score(score)) for score in found]
    legend = (
        "Precision: confirmed, of those that a person confirmed or dismissed. To detect: from when the trouble can have"
        " begun at the earliest to the alert. To decide: from the alert to the person's click. Medians."
    )
    return Answer(text, fitted(blocks, [section(_glass(glass)), context(legend)]))


def _glass(found: Glass) -> str:
    if not found.applied:
        return "*Broken glass*  no change was carried out yet (rollbacks aside)"
    changes = "1 change" if found.applied == 1 else f"{found.applied} changes"
    if not found.broken:
        return f"*Broken glass*  never, in {changes} (rollbacks aside)"
    by = ", ".join(f"{person(owner)} {many}" for owner, many in sorted(found.by.items(), key=lambda one: -one[1]))
    return (
        f"*Broken glass*  {found.broken} of {changes} (rollbacks aside) carried out without approvals, "
        f"{found.lately} of these within 30 days: {by}"
    )


def _score(score: Score) -> str:
    states = ", ".join(f"{count} {state}" for state, count in score.by_state.items())
    title = "All alerts" if score.cause == "all" else score.cause.capitalize()
    return f"*{title}*  {score.raised} raised: {states}\n{_precision(score)} · {_times(score)}"


def _precision(score: Score) -> str:
    if score.precision is None:
        return "precision unknown, nobody judged one"
    judged = score.by_state.get("confirmed", 0) + score.by_state.get("dismissed", 0)
    return f"precision {percent(round(score.precision, 3))} of {judged} judged"


def _times(score: Score) -> str:
    detect = "–" if score.minutes_to_detect is None else lasted(score.minutes_to_detect)
    decide = "–" if score.minutes_to_decide is None else lasted(score.minutes_to_decide)
    return f"to detect {detect}, to decide {decide}"
