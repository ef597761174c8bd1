"""One function per button; its value is one id. Who may, and what state it is in, is read again at the click."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final

from bot import (
    alert_screens,
    asking,
    blocks,
    charts,
    glass,
    history_screens,
    modals,
    request_screens,
    safety,
    verdicts,
)
from bot.blocks import Answer
from bot.desk import Desk
from core import alerts, approvals, cards, chart_cards, db, rollout_cards, rollouts, settling
from core.errors import Refused
from core.plans import Ask
from core.promotions import Scope
from core.rules import calendar
from core.rules.approval import Actor

GONE = "This button is not one of mine any more. Ask for the change anew."


def id_of(value: str) -> int:
    """The id that a button or a form carries.

    Raises:
        Refused: where this is something else.
    """
    if not value.isdecimal() or len(value) > 9:
        raise Refused(GONE)
    return int(value)


def approve(desk: Desk, value: str, actor: Actor) -> Answer:
    """Approve a request, or confirm a rollback."""
    number, _, shown = value.partition(":")
    sure, terms = desk.people.checked(actor), desk.settings.terms
    with desk.transaction() as session:
        decided = approvals.approve(
            session, id_of(number), shown=shown, actor=sure, roles=desk.people.roles, terms=terms
        )
        if decided.outcome == "applied":
            return request_screens.applied(cards.request_card(session, id_of(number)))
    return blocks.literal(decided.sentence)


def reject_form(desk: Desk, value: str, actor: Actor) -> Answer:
    """The form that asks why a request is rejected, where this person may reject it at all."""
    sure = desk.people.checked(actor)
    with desk.transaction() as session:
        approvals.check_may_reject(session, id_of(value), actor=sure, roles=desk.people.roles)
    return Answer("", view=modals.reject(value))


def withdraw_form(desk: Desk, value: str, actor: Actor) -> Answer:
    """The form that asks why a request is taken back."""
    with desk.transaction() as session:
        approvals.check_may_withdraw(session, id_of(value), actor=actor)
    return Answer("", view=modals.reject(value, verb="Withdraw"))


def break_glass_form(desk: Desk, value: str, actor: Actor) -> Answer:
    """The form in which an owner carries a request out without its approvals."""
    number, _, shown = value.partition(":")
    return glass.form(desk, id_of(number), actor, shown=shown)


def sign_safety_form(desk: Desk, value: str, actor: Actor) -> Answer:
    """The form in which an owner signs for what a request starts."""
    return safety.form(desk, id_of(value), actor)


# --- On the card of a rollout ---------------------------------------------------------------------------------------


def ask_step(desk: Desk, value: str, actor: Actor) -> Answer:
    """Ask for what a card recommends; the verdict is looked at again."""
    number, _, asked = value.partition(":")
    with desk.reading() as session:
        shown = rollout_cards.rollout_card(session, id_of(number), terms=desk.settings.terms)
    if shown.candidate is None:
        raise Refused(f"{shown.variant} has no traffic any more.")
    action = shown.candidate.decision.action
    if action != asked:
        raise Refused(f"By now the verdict is {action}: {shown.candidate.decision.why}")
    reason = shown.candidate.decision.why if action == "rollback" else None
    wish = Ask(action, shown.experiment, reason=reason, variant=shown.variant)
    return asking.ask(desk, wish, actor, is_slow=True)


def why(desk: Desk, value: str, actor: Actor) -> Answer:
    """Everything behind the verdict on a rollout."""
    with desk.reading() as session:
        found = rollouts.one(session, id_of(value))
        if found.ended_at is not None:
            raise Refused(f"{found.variant} has no traffic any more; the history shows what was decided.")
        card = rollout_cards.why_card(session, found.experiment_id, found.variant_id, terms=desk.settings.terms)
        return verdicts.why(card)


def chart(desk: Desk, value: str, actor: Actor) -> Answer:
    """The charts of a rollout."""
    with desk.reading() as session:
        found = rollouts.one(session, id_of(value))
        card = chart_cards.chart_card(session, found.experiment_id, found.variant_id, terms=desk.settings.terms)
    return charts.answer(card, desk.command)


def history(desk: Desk, value: str, actor: Actor) -> Answer:
    """What happened in the experiment of a rollout."""
    with desk.transaction() as session:
        found = rollouts.one(session, id_of(value))
        lines, tenures = cards.history(session, found.experiment_id), cards.tenures(session, found.experiment_id)
    return history_screens.history(lines, tenures, lines[0].experiment or "?" if lines else found.variant)


def hold_form(desk: Desk, value: str, actor: Actor) -> Answer:
    """The form that asks how long a rollout is held, and why."""
    with desk.transaction() as session:
        found = rollouts.one(session, id_of(value))
        return Answer("", view=modals.hold(found.id, found.variant, is_held=rollouts.is_held(session, found)))


# --- On the card of an alert ----------------------------------------------------------------------------------------


def _confirm(desk: Desk, value: str, actor: Actor, scope: Scope) -> Answer:
    number, _, shown = value.partition(":")
    sure = desk.people.checked(actor)
    with desk.transaction() as session:
        decided = approvals.confirm(
            session,
            id_of(number),
            scope=scope,
            shown=shown,
            actor=sure,
            roles=desk.people.roles,
            terms=desk.settings.terms,
        )
    return blocks.literal(decided.sentence)


def alert_rollback(desk: Desk, value: str, actor: Actor) -> Answer:
    """Confirm the rollback that an alert proposes."""
    return _confirm(desk, value, actor, "all")


def alert_share(desk: Desk, value: str, actor: Actor) -> Answer:
    """Return only the share of the candidate that an alert is about."""
    return _confirm(desk, value, actor, "share")


def alert_snooze(desk: Desk, value: str, actor: Actor) -> Answer:
    """Let an alert rest for a while."""
    number, _, key = value.partition(":")
    if key not in alert_screens.SNOOZES:
        raise Refused(GONE)
    _, length = alert_screens.SNOOZES[key]
    sure = desk.people.checked(actor)
    with desk.transaction() as session:
        now = db.now_of(session)
        _, place = alerts.open_one(session, id_of(number))
        desk.check_may_act(place.name, sure)
        until = now + length if length else calendar.next_morning(desk.settings.schedule_of(place.name), now)
        alerts.snooze(session, id_of(number), by=actor.id, until=until)
    return blocks.plain(
        f":sleeping: Alert {number} rests until {blocks.moment(until)}. Its card goes on showing how it stands."
    )


def dismiss_form(desk: Desk, value: str, actor: Actor) -> Answer:
    """The form that asks why an alert is no reason to act."""
    sure = desk.people.checked(actor)
    with desk.transaction() as session:
        _, place = alerts.open_one(session, id_of(value))
        desk.check_may_act(place.name, sure)
    return Answer("", view=modals.dismiss(value))


def alert_stop(desk: Desk, value: str, actor: Actor) -> Answer:
    """Stop the countdown at whose end the candidate would return by itself."""
    return safety.stop(desk, id_of(value), actor)


# --- On the card of a discrepancy -----------------------------------------------------------------------------------


def _settle(desk: Desk, value: str, actor: Actor, way: settling.Way) -> Answer:
    number, _, shown = value.partition(":")
    sure, terms = desk.people.checked(actor), desk.settings.terms
    with desk.transaction() as session:
        said = settling.settle(
            session, id_of(number), way, shown=shown, actor=sure, roles=desk.people.roles, terms=terms
        )
    return blocks.literal(said)


def adopt(desk: Desk, value: str, actor: Actor) -> Answer:
    """What others changed becomes what was decided."""
    return _settle(desk, value, actor, "adopt")


def revert(desk: Desk, value: str, actor: Actor) -> Answer:
    """What was decided is put back."""
    return _settle(desk, value, actor, "revert")


BUTTONS: Mapping[str, Callable[[Desk, str, Actor], Answer]] = {
    "approve": approve,
    "reject": reject_form,
    "withdraw": withdraw_form,
    "break_glass": break_glass_form,
    "sign_safety": sign_safety_form,
    "ask_step": ask_step,
    "why": why,
    "chart": chart,
    "history": history,
    "hold": hold_form,
    "alert_rollback": alert_rollback,
    "alert_share": alert_share,
    "alert_snooze": alert_snooze,
    "alert_dismiss": dismiss_form,
    "alert_stop": alert_stop,
    "adopt": adopt,
    "revert": revert,
}
"""What each button does; one that answers with a view opens it."""
SLOW: Final = frozenset({"ask_step", "why", "chart"})
"""The buttons that measure, which takes longer than Slack waits: they are acknowledged first."""
