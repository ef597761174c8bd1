"""Requests -> what people are shown of them: one function per screen, pure."""

from __future__ import annotations

from collections.abc import Sequence

from bot import verdicts
from bot.blocks import (
    Answer,
    Block,
    button,
    confirmation,
    context,
    cut,
    escaped,
    fitted,
    header,
    listing,
    moment,
    name,
    one_line,
    person,
    quoted,
    section,
    unbroken,
)
from bot.screens import MARKS, check_lines, frozen_line, signature_line
from core.cards import Change, Progress, RequestCard
from core.freezes import Frozen
from core.rules.decision import percent

STATE_MARKS = {
    "applied": ":white_check_mark: Approved",
    "rejected": ":x: Rejected",
    "withdrawn": ":leftwards_arrow_with_hook: Withdrawn",
    "superseded": ":no_entry_sign: Closed",
    "expired": ":hourglass: Expired",
}
TITLES = {
    "start": "Start {subject} in {experiment}",
    "increase": "Increase {subject} in {experiment}",
    "promote": "Promote {subject} to production",
    "rollback": "Roll back {subject} in {experiment}",
    "retire": "Retire variants of {experiment}",
}


def change_line(change: Change) -> str:
    """One variant's share: `control` 90 % → 75 %."""
    if change.before == change.after:
        return f"{name(change.variant)} {percent(change.before)}, unchanged"
    return f"{name(change.variant)} *{percent(change.before)} → {percent(change.after)}*"


def title(card: RequestCard) -> str:
    """What a request is for, in plain words."""
    subject, experiment = (cut(one_line(text), 60) for text in (card.subject, card.experiment))
    return TITLES[card.action].format(subject=subject, experiment=experiment)


def _consequence(card: RequestCard) -> str | None:
    """What happens besides the shares."""
    if card.action == "promote":
        return "Then: its MLflow version becomes production, the previous one is archived, variants at 0 % are retired."
    if card.action == "rollback":
        return f"Then: {name(card.subject)} is archived in MLflow. Units assigned earlier may keep it for a while."
    if _deletes(card):
        lost = ", ".join(
            f"{name(variant)}: {_some(counts['assignments'])} assignments, {_some(counts['aggregates'])} aggregates "
            f"deleted, {_some(counts['events'])} events orphaned"
            for variant, counts in card.params["lost"].items()
        )
        return f":warning: Deleting loses history. {lost}"
    return None


MANY = 100_000


def _some(many: int) -> str:
    """Of large tables it is what the database expects."""
    return f"about {many:,}" if many >= MANY else f"{many:,}"


def _deletes(card: RequestCard) -> bool:
    return card.action == "retire" and card.params["mode"] == "delete"


def _what(card: RequestCard) -> list[Block]:
    """What would change: every variant's share, or the names that are retired."""
    if card.action != "retire":
        return listing(change_line(change) for change in card.changes)
    verb = {"archive": "Archive", "delete": "Delete"}[card.params["mode"]]
    return listing([f"{verb}:", *(name(n) for n in card.params["names"])])


def _against(card: RequestCard) -> list[Block]:
    """What a request goes against, and what the engine says of it."""
    override = f":warning: *Override*, because\n{quoted(card.override or '')}"
    return [
        *([section(override)] if card.override else []),
        *([section(_verdict(card))] if "verdict" in card.params else []),
    ]


def _request_body(card: RequestCard) -> list[Block]:
    consequence = _consequence(card)
    return [
        *_what(card),
        *([context(consequence)] if consequence else []),
        *([section(f"*Why*\n{quoted(card.reason)}")] if card.reason else []),
        *_against(card),
        *([section(check_lines(card.checklist))] if card.checklist else []),
        *([context(signature_line(card.signature))] if card.signature else []),
    ]


def _verdict(card: RequestCard) -> str:
    """What the engine said of what is asked for, on the measurements that the card shows."""
    action = card.params["verdict"]
    return f"{verdicts.MARKS[action]} Verdict: *{verdicts.WORDS[action]}*\n{unbroken(cut(card.params['why'], 400))}"


def _card_buttons(card: RequestCard, *, has_owners: bool) -> Block:
    """The card is shared: where there are owners, the button to break the glass is there for all to see."""
    decide = _decide_buttons(card)
    if card.action == "rollback" or not has_owners:
        return decide
    sure = confirmation(
        "Break glass", "For owners alone: a form opens, and sending it carries this out without its approvals.", "Go on"
    )
    glass = button("Break glass…", "break_glass", f"{card.id}:{card.mark}", confirm=sure)
    can_sign = card.action == "start" and card.signature is None
    sign = [button("Sign the return…", "sign_safety", str(card.id))] if can_sign else []
    return {**decide, "elements": [*decide["elements"], *sign, glass]}


def _decide_buttons(card: RequestCard) -> Block:
    changes = ", ".join(
        f"{cut(c.variant, 40)} {percent(c.before)} → {percent(c.after)}" for c in card.changes if c.before != c.after
    )
    value = f"{card.id}:{card.mark}"
    no = button("Reject", "reject", str(card.id), style=None if card.action == "rollback" else "danger")
    back = button("Withdraw", "withdraw", str(card.id))
    if card.action == "rollback":
        sure = confirmation("Confirm rollback", changes or "The previous version is restored.", "Roll back")
        yes = button("Confirm rollback", "approve", value, style="danger", confirm=sure)
    else:
        yes = button("Approve", "approve", value, style="primary")
    return {"type": "actions", "elements": [yes, no, back]}


def progress_line(progress: Progress) -> str:
    """Done, or on its way with what holds it up."""
    if progress.is_done:
        return f":white_check_mark: {progress.what}"
    held = " – no answer yet, it is tried again" if progress.error else ""
    return f":hourglass_flowing_sand: {progress.what}: recorded, on its way{held}"


def _lack(card: RequestCard) -> str:
    """With how many approvals a request is carried out by breaking the glass."""
    return f"with {len(card.approvals)} of {card.needed} approvals" if card.approvals else "without approval"


def _state(card: RequestCard) -> str:
    if card.is_as_signed:
        return f":shield: Carried out by itself, as {person(card.requester)} had signed"
    if card.is_glass_broken:
        return f":rotating_light: Pushed through {_lack(card)}"
    words = STATE_MARKS[card.state]
    return words.replace("Approved", "Confirmed") if card.action == "rollback" else words


MOST_NAMED = 5


def _people(ids: Sequence[str]) -> str:
    more = f" and {len(ids) - MOST_NAMED} more" if len(ids) > MOST_NAMED else ""
    return ", ".join(person(each) for each in ids[:MOST_NAMED]) + more


def missing(card: RequestCard, eligible: Sequence[str]) -> str:
    """How many approvals there are, by whom, and who may give those that are missing."""
    if card.action == "rollback":
        return "One confirmation is enough, and it may be the requester's own."
    left = [each for each in eligible if each not in card.approvals]
    lack = card.needed - len(card.approvals)
    given = f": {_people(card.approvals)}" if card.approvals else ""
    who = f": {_people(left)}" if left else ""
    few = " :warning: There are not enough of them." if len(left) < lack else ""
    return (
        f"*{len(card.approvals)} of {card.needed} approvals*{given}. "
        f"{lack} more needed, from approvers other than the requester{who}.{few}"
    )


def _decision(card: RequestCard, eligible: Sequence[str], frozen: Frozen | None, *, has_owners: bool) -> list[Block]:
    if card.state == "open":
        until = f"Expires {moment(card.expires_at)}."
        held = [context(frozen_line(frozen))] if frozen else []
        return [*held, _card_buttons(card, has_owners=has_owners), context(f"{missing(card, eligible)} {until}")]
    is_approved = card.state == "applied" and not (card.is_glass_broken or card.is_as_signed)
    deciders = card.approvals if is_approved else (card.decided_by,) if card.decided_by else ()
    by = f" by {_people(deciders)}" if deciders and not card.is_as_signed else ""
    at = f" · {moment(card.decided_at)}" if card.decided_at else ""
    return [
        section(f"*{_state(card)}*{by}{at}"),
        *([section(quoted(card.decision_reason))] if card.decision_reason else []),
        *([context("   ".join(progress_line(p) for p in card.progress))] if card.progress else []),
    ]


def request(
    card: RequestCard, eligible: Sequence[str] = (), frozen: Frozen | None = None, *, has_owners: bool = False
) -> Answer:
    """The card of a request in the approvals channel, redrawn in place as things go on; `eligible` may approve it."""
    asked = f"{name(card.experiment)} · #{card.id} · asked by {person(card.requester)} · {moment(card.created_at)}"
    blocks = [header(title(card)), context(asked), *_request_body(card)]
    state = "waits for a decision" if card.state == "open" else card.state
    last = _decision(card, eligible, frozen, has_owners=has_owners)
    return Answer(f"#{card.id} {escaped(title(card))}: {state}", fitted(blocks, last=last))


def deleted(number: int) -> Answer:
    """What stays of a card whose request was deleted with its experiment."""
    words = f"#{number} was closed: its experiment was deleted. The record keeps what was asked and decided."
    return Answer(words, [section(f":wastebasket: {words}")])


def reminder(card: RequestCard, eligible: Sequence[str]) -> Answer:
    """What is said in the thread of a card before its request expires."""
    text = f":hourglass: #{card.id}, asked by {person(card.requester)}, expires {moment(card.expires_at)}."
    return Answer(f"#{card.id} expires soon", [section(f"{text}\n{missing(card, eligible)}")])


def breaking_glass(card: RequestCard, channels: str) -> list[Block]:
    """What a form says before somebody breaks the glass: what happens at once, and against what."""
    lack = f"{len(card.approvals)} of {card.needed} approvals"
    warning = (
        f":rotating_light: Sending this carries out #{card.id} *at once, with {lack}*. {channels} are told with your "
        "name and your reason, the approvers are mentioned, and it stays in the record."
    )
    consequence = _consequence(card)
    short = ", ".join(escaped(row.title) for row in card.checklist if not row.passed)
    return [
        section(warning),
        header(title(card)),
        *_what(card),
        *([context(consequence)] if consequence else []),
        *_against(card),
        *([section(f":warning: Not passed: {short}.")] if short else []),
    ]


def glass_broken(card: RequestCard, mentions: Sequence[str], command: str) -> Answer:
    """What everybody is told when an owner carried a request out without its approvals."""
    by, asker = card.decided_by or "?", card.requester
    whose = "their own request" if by == asker else f"asked for by {person(asker)}"
    what = f"#{card.id} *{escaped(title(card))}* ({name(card.experiment)})"
    lack = f"with {len(card.approvals)} of {card.needed} approvals"
    told = f":rotating_light: *Glass broken* by {person(by)}: {what} is carried out {lack}, {whose}."
    why = f"*Why*\n{quoted(card.decision_reason or '')}"
    call = [section(f"{' '.join(mentions)} – you were not asked. Look at it now.")] if mentions else []
    back = context(f"See `{command} explain {card.id}`. A rollback takes one confirmation.")
    return Answer(
        f":rotating_light: Glass broken: #{card.id} {escaped(title(card))}",
        fitted([section(f"{told}\n{why}"), *_what(card), *_against(card)], [*call, back]),
    )


def request_short(card: RequestCard, frozen: Frozen | None = None) -> list[Block]:
    """A request on the Home tab: what would change, who asks, what holds it up, and the buttons."""
    asked = f"*#{card.id} {escaped(title(card))}*, asked by {person(card.requester)} {moment(card.created_at)}"
    lines = [change_line(change) for change in card.changes if change.before != change.after]
    held = [context(frozen_line(frozen))] if frozen else []
    return [section("\n".join([asked, *lines])), *held, _decide_buttons(card)]


def asked(card: RequestCard, where: str, closed: int | None) -> Answer:
    """What the requester is told: what was asked, where it is decided, and for a rollback the button right here; and
    the request that it took the place of."""
    waits = (
        f"Request #{card.id} waits in {where}." if card.action != "rollback" else "Nothing rolls back until confirmed."
    )
    waits += "" if closed is None else f" It takes the place of #{closed}, which is closed."
    last = [context(waits), *([_decide_buttons(card)] if card.action == "rollback" else [])]
    return Answer(f"{escaped(title(card))}. {waits}", fitted([header(title(card)), *_what(card)], last))


def applied(card: RequestCard) -> Answer:
    """What the person is told whose click carried a request out."""
    text = f"{MARKS[True]} *{escaped(title(card))}*: done."
    follows = "all their rows are gone" if _deletes(card) else "MLflow has followed"
    return Answer(
        f"{escaped(title(card))}: done.",
        fitted([section(text), *_what(card)], [context(f"The card shows when {follows}.")]),
        settles=True,
    )
