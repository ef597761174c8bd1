"""One function per form: what it does once it is submitted. Who may, and what state it is in, is read again then."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from bot import asking, blocks, glass, modals, safety, screens
from bot.blocks import Answer
from bot.buttons import id_of
from bot.desk import Desk
from bot.fields import Values
from core import alerts, approvals, db, rollouts
from core.rules.approval import Actor
from core.variants import find_experiment

About = Mapping[str, str]
"""What the bot wrote into a form when it opened it; `id` says what the form is for."""


@dataclass(frozen=True)
class Form:
    """One form: how its submission is read, what it does, and the field that shows a refusal."""

    submit: Callable[[Desk, Values, About, Actor], Answer]
    field: str


def start(desk: Desk, values: Values, about: About, actor: Actor) -> Answer:
    """Ask for a candidate to join an experiment."""
    return asking.ask(desk, modals.read_start(values), actor, is_slow=False)


def rollback(desk: Desk, values: Values, about: About, actor: Actor) -> Answer:
    """Ask for traffic to go back to the baseline."""
    with desk.transaction() as session:
        wish = modals.read_rollback(values, session)
    return asking.ask(desk, wish, actor, is_slow=False)


def reject(desk: Desk, values: Values, about: About, actor: Actor) -> Answer:
    """Reject a request, or take one's own back."""
    reason, sure = modals.reason_of(values), desk.people.checked(actor)
    with desk.transaction() as session:
        decided = approvals.reject(session, id_of(about["id"]), actor=sure, roles=desk.people.roles, reason=reason)
    return blocks.literal(decided.sentence)


def break_glass(desk: Desk, values: Values, about: About, actor: Actor) -> Answer:
    """Carry out what the form showed, without its approvals."""
    reason = modals.reason_of(values)
    number, _, shown = about["id"].partition(":")
    return glass.submit(desk, id_of(number), shown, reason, actor)


def sign_safety(desk: Desk, values: Values, about: About, actor: Actor) -> Answer:
    """Sign for what a request starts."""
    return safety.submit(desk, id_of(about["id"]), values, actor)


def hold(desk: Desk, values: Values, about: About, actor: Actor) -> Answer:
    """Put a rollout on hold, or lift it."""
    length, reason = modals.read_hold(values)
    sure = desk.people.checked(actor)
    with desk.transaction() as session:
        found = rollouts.one(session, id_of(about["id"]))
        desk.check_may_act(find_experiment(session, found.experiment_id).name, sure)
        until = db.now_of(session) + length
        held = rollouts.hold(
            session,
            experiment=found.experiment_id,
            variant=found.variant_id,
            until=until,
            reason=reason,
            by=actor.id,
        )
        return screens.held(held.variant, held.hold_until)


def dismiss(desk: Desk, values: Values, about: About, actor: Actor) -> Answer:
    """End an alert as no reason to act."""
    reason, sure = modals.reason_of(values), desk.people.checked(actor)
    with desk.transaction() as session:
        number = id_of(about["id"])
        _, place = alerts.open_one(session, number)
        desk.check_may_act(place.name, sure)
        alerts.dismiss(session, number, by=actor.id, reason=reason)
    return blocks.plain(
        f":no_bell: Alert {about['id']} is dismissed. The same cause stays quiet for a day at these shares."
    )


FORMS: Mapping[str, Form] = {
    "start": Form(start, "version"),
    "rollback": Form(rollback, "variant"),
    "reject": Form(reject, "reason"),
    "break_glass": Form(break_glass, "reason"),
    "sign_safety": Form(sign_safety, "reason"),
    "hold": Form(hold, "reason"),
    "dismiss": Form(dismiss, "reason"),
}
"""What the submission of each form does; that of a policy version waits for MLflow, so it is apart."""
