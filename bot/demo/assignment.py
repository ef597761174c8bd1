"""The assignment service: which variant a unit gets, for good."""

from __future__ import annotations

import hashlib
import uuid
from collections.abc import Sequence
from dataclasses import dataclass, field
from decimal import Decimal

import numpy as np
from sqlalchemy import text
from sqlalchemy.orm import Session

BUCKETS = 10_000
_REMEMBERED = 20_000
_NEW_SHARE = 0.5
_RECENT = 400
"""Units that come back are about this many arrivals old, so that what they get follows the allocations in minutes."""


def bucket(experiment_id: uuid.UUID, unit_id: str) -> int:
    """A number from 0 to 9999 that depends on the experiment and the unit only."""
    digest = hashlib.blake2b(f"{experiment_id}:{unit_id}".encode(), digest_size=8).digest()
    return int.from_bytes(digest) % BUCKETS


def pick(shares: Sequence[tuple[uuid.UUID, Decimal]], at: int) -> uuid.UUID | None:
    """The variant whose cumulative share covers bucket `at`; None where the shares do not reach that far.

    `shares` are fractions of 1 in the order the variants were created.
    """
    reached = 0
    for variant_id, share in shares:
        reached += int(share * BUCKETS)
        if at < reached:
            return variant_id
    return None


def unit_name(unit_type: str, number: int) -> str:
    """How the demo calls its units: user-0000042."""
    return f"{unit_type}-{number:07d}"


@dataclass
class Units:
    """The units of one experiment that may come back, and the variant each was given first."""

    experiment_id: uuid.UUID
    unit_type: str
    given: dict[str, uuid.UUID]
    next_number: int
    _arrivals: list[str] = field(init=False)

    def __post_init__(self) -> None:
        self._arrivals = list(self.given)

    def visitor(self, rng: np.random.Generator) -> str:
        """The unit that asks next: half are new, the others came before, most of them lately."""
        age = int(rng.exponential(_RECENT))
        if self._arrivals and rng.random() >= _NEW_SHARE:
            return self._arrivals[-1 - age % len(self._arrivals)]
        name = unit_name(self.unit_type, self.next_number)
        self.next_number += 1
        return name

    def assign(self, unit_id: str, shares: Sequence[tuple[uuid.UUID, Decimal]]) -> tuple[uuid.UUID | None, bool]:
        """The unit's variant, and whether it was assigned just now. What was given first is kept."""
        if unit_id in self.given:
            return self.given[unit_id], False
        variant_id = pick(shares, bucket(self.experiment_id, unit_id))
        if variant_id is not None:
            self.given[unit_id] = variant_id
            self._arrivals.append(unit_id)
        return variant_id, variant_id is not None

    def forget_all_but(self, variant_ids: set[uuid.UUID]) -> None:
        """Units whose variant was deleted are as new as any other."""
        if not variant_ids.issuperset(self.given.values()):
            self.given = {unit: variant for unit, variant in self.given.items() if variant in variant_ids}
            self._arrivals = list(self.given)


def read_units(session: Session, experiment_id: uuid.UUID, unit_type: str) -> Units:
    """The units assigned lately, oldest first."""
    rows = session.execute(
        text(
            "SELECT unit_id, variant_id FROM exp.assignments WHERE experiment_id = :id "
            "ORDER BY assigned_at DESC, unit_id LIMIT :limit"
        ),
        {"id": experiment_id, "limit": _REMEMBERED},
    ).all()
    highest = session.scalar(
        text(
            "SELECT max(substring(unit_id FROM '-([0-9]{1,12})$')::bigint) FROM exp.assignments "
            "WHERE experiment_id = :id AND unit_type = :unit_type"
        ),
        {"id": experiment_id, "unit_type": unit_type},
    )
    given = {row.unit_id: row.variant_id for row in reversed(rows)}
    return Units(experiment_id, unit_type, given, next_number=(highest or 0) + 1)
