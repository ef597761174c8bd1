"""What is other than was decided: values in, discrepancies out, and what can be done about each."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal
from typing import Literal

from core.rules import mirroring
from core.rules.lifecycle import Stage
from core.rules.mirroring import Tags

Kind = Literal["shares", "variants", "status", "versions", "tags", "alias"]
Values = Mapping[str, str | None]


@dataclass(frozen=True)
class Discrepancy:
    """What was decided and what is there, by name; None is nothing."""

    kind: Kind
    decided: Values
    found: Values


@dataclass(frozen=True)
class Decided:
    """What was decided about an experiment: shares by variant, its status, and that of policy versions it serves."""

    shares: Mapping[str, Decimal]
    status: str | None
    """None as long as it may still be put together; whoever does that makes it active."""
    versions: Mapping[str, str]


@dataclass(frozen=True)
class Found:
    """An experiment as it is: the shares of all its variants, its status, and that of policy versions it serves."""

    shares: Mapping[str, Decimal]
    status: str
    versions: Mapping[str, str]


def of_experiment(decided: Decided, found: Found) -> list[Discrepancy]:
    """What others changed in an experiment; one that is put together, or is over, has no shares to differ."""
    if found.status == "draft" and decided.status is None:
        return []
    wanted = decided.status or "active"
    status = [Discrepancy("status", {"status": wanted}, {"status": found.status})] if found.status != wanted else []
    is_without_shares = found.status in ("draft", "completed")
    return status if is_without_shares else [*status, *_of_shares(decided, found), *_of_versions(decided, found)]


def _of_shares(decided: Decided, found: Found) -> list[Discrepancy]:
    names = sorted({**decided.shares, **found.shares})
    kind: Kind = "variants" if decided.shares.keys() - found.shares.keys() else "shares"
    if all(decided.shares.get(name, 0) == found.shares.get(name, 0) for name in names):
        return []
    is_there = {name: f"{found.shares[name]:.4f}" if name in found.shares else None for name in names}
    return [Discrepancy(kind, {name: f"{decided.shares.get(name, 0):.4f}" for name in names}, is_there)]


def _of_versions(decided: Decided, found: Found) -> list[Discrepancy]:
    other = sorted(v for v, status in found.versions.items() if decided.versions.get(v, "active") != status)
    if not other:
        return []
    return [
        Discrepancy(
            "versions", {v: decided.versions.get(v, "active") for v in other}, {v: found.versions[v] for v in other}
        )
    ]


def of_model(present: Tags, holder: str | None, stages: Mapping[str, Stage], *, is_told: bool) -> list[Discrepancy]:
    """Where the tags of a model, or the version that has the alias `production`, are other than the stages say.

    Before the registry `is_told` anything, its tags are as old as the model: only those about production count.
    """
    wanted = mirroring.wanted_tags(present, stages)
    changed = [v for v, stage in wanted.items() if present[v] != stage]
    other = sorted(v for v in changed if is_told or Stage.PRODUCTION in (present[v], wanted[v]))
    tags = [Discrepancy("tags", {v: wanted[v] for v in other}, {v: present[v] for v in other})] if other else []
    alias = mirroring.wanted_alias(present.keys(), stages, holder)
    is_moved = is_told and alias != holder
    return [*tags, *([Discrepancy("alias", {"production": alias}, {"production": holder})] if is_moved else [])]


# --- What can be done -----------------------------------------------------------------------------------------------


def settled(shares: Mapping[str, Decimal], baseline: str | None) -> dict[str, Decimal] | None:
    """The shares after adopting that variants are gone: what they had goes to the baseline; None where it cannot."""
    rest = 1 - sum(shares.values(), Decimal(0))
    if rest == 0:
        return dict(shares)
    if rest < 0 or baseline is None or baseline not in shares:
        return None
    return {**shares, baseline: shares[baseline] + rest}


ADOPTABLE = {(Stage.ARCHIVED, Stage.CANDIDATE), (Stage.CANDIDATE, Stage.ARCHIVED)}
"""Tags that may become the decision. The others stand for traffic, which only a request gives or takes."""


def can_adopt(found: Discrepancy, after: Mapping[str, Decimal] | None) -> bool:
    """True where what is there may become what was decided; `after` are the shares that this would leave."""
    if found.kind in ("shares", "variants"):
        return after is not None
    if found.kind == "tags":
        return all((found.decided[v], tag) in ADOPTABLE for v, tag in found.found.items())
    return found.kind != "alias"


def can_revert(found: Discrepancy) -> bool:
    """True where what was decided can be put back: not what was deleted or completed."""
    return found.kind != "variants" and found.found.get("status") != "completed"


def raises(before: Mapping[str, Decimal], after: Mapping[str, Decimal], baseline: str | None) -> bool:
    """True where somebody else than the baseline has more traffic after than before."""
    return any(share > before.get(name, 0) for name, share in after.items() if name != baseline)
