"""Automatic returns: the form in which an owner signs, what is signed, and the button that stops a countdown."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta
from typing import Any

from bot import blocks, modals, screens
from bot.blocks import Answer
from bot.desk import Desk
from bot.words import Words
from core import countdowns, signatures
from core.errors import Refused
from core.rules import returns
from core.rules.approval import Actor


def form(desk: Desk, number: int, actor: Actor) -> Answer:
    """The form for what an open request starts, where this person may sign."""
    sure = desk.people.checked(actor)
    with desk.transaction() as session:
        variant = signatures.check_may_sign(session, number, actor=sure, roles=desk.people.roles)
    return Answer("", view=modals.sign_safety(number, variant))


def submit(desk: Desk, number: int, values: Mapping[str, Any], actor: Actor) -> Answer:
    """Signs for what a request starts."""
    length, reason = modals.read_safety(values)
    sure = desk.people.checked(actor)
    with desk.transaction() as session:
        run = signatures.sign_request(
            session, number, length=length, reason=reason, actor=sure, roles=desk.people.roles
        )
    return screens.signed(run.variant, length)


def verb(desk: Desk, words: Words, actor: Actor) -> Answer:
    """What `safety` was typed for: to look, to sign, to withdraw."""
    experiment, rest = words.at_most(4).at(0, "experiment"), list(words.names[1:])
    if rest and rest[-1].lower() == "withdraw":
        return _withdraw(desk, experiment, _one(rest[:-1]), words.reason, actor)
    if len(rest) > 1 and rest[-2].lower() == "sign":
        return _sign(desk, experiment, _one(rest[:-2]), _minutes(rest[-1]), words.reason, actor)
    if rest and rest[-1].lower() == "sign":
        return _sign(desk, experiment, _one(rest[:-1]), returns.USUAL, words.reason, actor)
    words.at_most(1)
    with desk.transaction() as session:
        name, found = signatures.of_experiment(session, experiment)
    return screens.safety(name, found, desk.command)


def _one(names: list[str]) -> str | None:
    if len(names) > 1:
        raise Refused(f"I do not know what to do with `{names[1]}`. Reasons go after the word `because`.")
    return names[0] if names else None


def _minutes(text: str) -> timedelta:
    digits = text.lower().removesuffix("m").removesuffix("min")
    if not digits.isascii() or not digits.isdecimal() or len(digits) > 4:
        raise Refused(f"`{text}` is no number of minutes. Write it like 30.")
    return timedelta(minutes=int(digits))


def _sign(
    desk: Desk, experiment: str, variant: str | None, length: timedelta, reason: str | None, actor: Actor
) -> Answer:
    sure = desk.people.checked(actor)
    with desk.transaction() as session:
        run = signatures.sign(
            session, experiment, variant, length=length, reason=reason, actor=sure, roles=desk.people.roles
        )
    return screens.signed(run.variant, length)


def _withdraw(desk: Desk, experiment: str, variant: str | None, reason: str | None, actor: Actor) -> Answer:
    sure = desk.people.checked(actor)
    with desk.transaction() as session:
        run = signatures.withdraw(session, experiment, variant, reason=reason, actor=sure, roles=desk.people.roles)
    return blocks.plain(f"Nothing acts by itself for {blocks.name(run.variant)} any more.")


def stop(desk: Desk, number: int, actor: Actor) -> Answer:
    """Stops the countdown of an alert."""
    with desk.transaction() as session:
        variant = countdowns.stop(session, number, actor=desk.people.checked(actor), roles=desk.people.roles)
    return blocks.plain(
        f":raised_hand: The countdown is stopped: {blocks.name(variant)} stays at its share until somebody clicks."
    )
