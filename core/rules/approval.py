"""Who may decide a request."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from datetime import timedelta


@dataclass(frozen=True)
class Actor:
    """A person as the rules see them: a stable id and the groups and handles they answer to."""

    id: str
    groups: frozenset[str] = frozenset()


EVIDENCE_LASTS = timedelta(hours=24)
"""How long the measurements on a card may be decided on."""


@dataclass(frozen=True)
class Quorum:
    """What it takes to let one kind of request through."""

    approvals: int = 1
    needs_someone_else: bool = True
    needs_approver: bool = True


QUORUM: Mapping[str, Quorum] = {
    "start": Quorum(),
    "increase": Quorum(),
    "promote": Quorum(),
    "retire": Quorum(),
    # Getting out of harm's way needs one confirmation, which may be the requester's own.
    "rollback": Quorum(needs_someone_else=False, needs_approver=False),
}


def is_approver(actor: Actor, approvers: Collection[str]) -> bool:
    """True where the actor, or a group of theirs, is among the configured approvers."""
    return actor.id in approvers or not actor.groups.isdisjoint(approvers)


def objection(action: str, *, requester: str, actor: Actor, approvers: Collection[str]) -> str | None:
    """Why this actor may not approve this request, as a sentence for them; None where they may."""
    quorum = QUORUM[action]
    if quorum.needs_someone_else and actor.id == requester:
        return "You asked for this yourself, so somebody else has to approve it."
    if quorum.needs_approver and not is_approver(actor, approvers):
        return "Only the configured approvers may decide this. Ask one of them to press the button."
    return None


def rejection_objection(action: str, *, requester: str, actor: Actor, approvers: Collection[str]) -> str | None:
    """Why this actor may not reject this request; the requester may always take their own request back."""
    if actor.id == requester:
        return None
    return objection(action, requester=requester, actor=actor, approvers=approvers)
