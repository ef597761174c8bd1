"""Who may ask for and decide a request, how many it takes, and until when."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from decimal import Decimal


@dataclass(frozen=True)
class Actor:
    """A person as the rules see them."""

    id: str
    barred: str | None = None
    """Why they never decide anything, as a sentence for them: guests, people of other workspaces, bots."""
    is_known: bool = True
    """False where it could not be found out in time who they are."""


@dataclass(frozen=True)
class Roles:
    """Who may do what, by user id."""

    approvers: frozenset[str] = frozenset()
    operators: frozenset[str] | None = None
    """Who may ask for changes; None where everybody may."""
    on_call: frozenset[str] = frozenset()
    owners: frozenset[str] = frozenset()
    owners_of: Mapping[str, frozenset[str]] = field(default_factory=dict)
    """By the experiment's name, beside the owners of all."""

    def approvers_of(self, experiment: str) -> frozenset[str]:
        """Who may approve changes of an experiment: the approvers and its owners."""
        return self.approvers | self.all_owners_of(experiment)

    def all_owners_of(self, experiment: str) -> frozenset[str]:
        """Who owns an experiment: its owners and those of all."""
        return self.owners | self.owners_of.get(experiment, frozenset())

    @property
    def deciders(self) -> frozenset[str]:
        """Everybody who decides anything, in whichever experiment."""
        return self.approvers.union(self.owners, self.on_call, *self.owners_of.values())


EVIDENCE_LASTS = timedelta(hours=24)
"""How long the measurements on a card may be decided on."""
LARGEST_STEP = Decimal("0.50")
"""A larger share takes as many approvals as production."""


@dataclass(frozen=True)
class Quorums:
    """How many people it takes, and how long they have."""

    step: int = 1
    production: int = 2
    against: int = 1
    """How many more where the request goes against the recommendation or overrides the checklist."""
    expires_after: timedelta = timedelta(hours=24)

    def needed(self, action: str, share: Decimal, *, is_against: bool) -> int:
        """How many approvals a request takes that gives a candidate this share; a rollback always takes one."""
        if action == "rollback":
            return 1
        is_large = action == "promote" or share > LARGEST_STEP
        return (self.production if is_large else self.step) + (self.against if is_against else 0)


@dataclass(frozen=True)
class Right:
    """What it takes to decide one kind of request."""

    needs_someone_else: bool = True
    needs_approver: bool = True


RIGHTS: Mapping[str, Right] = {
    "start": Right(),
    "increase": Right(),
    "promote": Right(),
    "retire": Right(),
    # Getting out of harm's way needs one confirmation, which may be the requester's own.
    "rollback": Right(needs_someone_else=False, needs_approver=False),
}


def asking_objection(action: str, *, experiment: str, actor: Actor, roles: Roles) -> str | None:
    """Why this actor may not ask for this, as a sentence for them; None where they may."""
    if roles.operators is None or actor.id in roles.operators | roles.approvers_of(experiment):
        return None
    if action == "rollback" and actor.id in roles.on_call:
        return None
    return f"Only operators, approvers and the owners of {experiment} may ask for this. Ask one of them to do so."


def acting_objection(experiment: str | None, *, actor: Actor, roles: Roles) -> str | None:
    """Why this actor may not do what takes no approval, in an experiment or in none; None where they may.

    That is to qualify, to create a policy version, to pause, to hold, to dismiss an alert or let it rest.
    """
    if actor.barred:
        return actor.barred
    deciders = roles.deciders if experiment is None else roles.approvers_of(experiment) | roles.on_call
    if roles.operators is None or actor.id in roles.operators | deciders:
        return None
    return "Only operators, approvers, owners and those on call may do this. Ask one of them to do so."


def _deciders(experiment: str | None, roles: Roles) -> frozenset[str]:
    return roles.approvers | roles.owners if experiment is None else roles.approvers_of(experiment)


def freezing_objection(experiment: str | None, *, actor: Actor, roles: Roles) -> str | None:
    """Why this actor may not freeze an experiment, or all (None), as a sentence for them; None where they may.

    Whoever may ask for something may stop everything, and so may those on call.
    """
    return _halting_objection("freeze", experiment, actor, roles)


def _halting_objection(verb: str, experiment: str | None, actor: Actor, roles: Roles) -> str | None:
    if actor.barred:
        return actor.barred
    if roles.operators is None or actor.id in roles.operators | roles.on_call | _deciders(experiment, roles):
        return None
    return f"Only operators, approvers, owners and those on call may {verb} this. Ask one of them to do so."


def thawing_objection(experiment: str | None, *, frozen_by: str, actor: Actor, roles: Roles) -> str | None:
    """Why this actor may not end a freeze, as a sentence for them; None where they may."""
    if actor.barred:
        return actor.barred
    if actor.id == frozen_by:
        return None
    if actor.id not in _deciders(experiment, roles):
        return "Only an approver, or whoever froze it, may unfreeze this. Ask one of them to do so."
    if not actor.is_known:
        return "Slack did not say in time who you are, so nothing was changed. Type it once more."
    return None


def signing_objection(experiment: str, *, actor: Actor, roles: Roles) -> str | None:
    """Why this actor may not sign that a candidate returns by itself, or take that back; None where they may."""
    if actor.barred:
        return actor.barred
    if actor.id not in roles.all_owners_of(experiment):
        return f"Only an owner of {experiment} may sign or withdraw this. Ask one of them to do so."
    if not actor.is_known:
        return "Slack did not say in time who you are, so nothing was changed. Try once more."
    return None


def stopping_objection(experiment: str, *, actor: Actor, roles: Roles) -> str | None:
    """Why this actor may not stop an automatic return; None where they may: whoever may freeze may stop that too."""
    return _halting_objection("stop", experiment, actor, roles)


def settling_objection(experiment: str | None, *, raises: bool, actor: Actor, roles: Roles) -> str | None:
    """Why this actor may not adopt or revert what others changed, as a sentence for them; None where they may.

    What `raises` the share of a candidate takes an approver, as the request would; all else whoever may ask.
    """
    if actor.barred:
        return actor.barred
    deciders = _deciders(experiment, roles)
    if raises and actor.id not in deciders:
        return "This gives a candidate more traffic, so an approver has to do it. Ask one of them to press the button."
    if raises and not actor.is_known:
        return "Slack did not say in time who you are, so nothing was changed. Press the button once more."
    if roles.operators is None or actor.id in roles.operators | deciders:
        return None
    return "Only operators, approvers and owners may settle this. Ask one of them to do so."


def objection(action: str, *, requester: str, actor: Actor, approvers: Collection[str]) -> str | None:
    """Why this actor may not approve this request, as a sentence for them; None where they may."""
    right = RIGHTS[action]
    if actor.barred:
        return actor.barred
    if right.needs_someone_else and actor.id == requester:
        return "You asked for this yourself, so somebody else has to approve it."
    if right.needs_approver and actor.id not in approvers:
        return "Only the configured approvers may decide this. Ask one of them to press the button."
    if right.needs_approver and not actor.is_known:
        return "Slack did not say in time who you are, so this does not count yet. Press the button once more."
    return None


def rejection_objection(action: str, *, requester: str, actor: Actor, approvers: Collection[str]) -> str | None:
    """Why this actor may not reject this request; the requester may always take their own request back."""
    if actor.id == requester:
        return None
    return objection(action, requester=requester, actor=actor, approvers=approvers)


SHORTEST_REASON = 10
"""Letters and digits of a reason to break the glass, which others read who were not asked."""


def breaking_objection(action: str, *, experiment: str, actor: Actor, roles: Roles) -> str | None:
    """Why this actor may not carry a request out without its approvals, as a sentence for them; None where they may.

    An owner may for their own request, too: nobody else may be awake.
    """
    owners = roles.all_owners_of(experiment)
    if actor.barred:
        return actor.barred
    if not RIGHTS[action].needs_someone_else:
        return "This takes one confirmation, which may be your own, so there is no glass to break."
    if not owners:
        return (
            f"{experiment} has no owners, so nobody can break the glass. The configuration names them: `owners` "
            f"in [slack] for all experiments, or in [experiments.{experiment}]."
        )
    if actor.id not in owners:
        return f"Only the owners of {experiment} may break the glass. Ask one of them, or have it approved."
    if not actor.is_known:
        return "Slack did not say in time who you are, so nothing was changed. Try once more."
    return None


def says_why(reason: str) -> bool:
    """True where a reason to break the glass is more than a word."""
    return sum(map(str.isalnum, reason)) >= SHORTEST_REASON


_WORSE: Mapping[str, Collection[str]] = {
    "increase": ("wait", "hold", "rollback"),
    "promote": ("wait", "hold", "rollback"),
    "wait": ("hold", "rollback"),
    "hold": ("rollback",),
    "rollback": ("hold",),
}
"""Verdicts that speak against a request which another one spoke for, or against less."""


def has_turned(then: str, now: str) -> bool:
    """True where the present verdict is a worse one than that on the card."""
    return now in _WORSE[then]
