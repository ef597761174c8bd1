"""How shares of traffic move between variants; every result sums to exactly 1.0000 at four decimals."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from decimal import Decimal, InvalidOperation
from typing import TypeVar

from core.errors import Refused

K = TypeVar("K")

GRAIN = Decimal("0.0001")
"""The smallest share that `numeric(5,4)` can hold."""
NOTHING = Decimal(0)
INITIAL_LIMIT = Decimal("0.10")
"""A candidate never joins with more than this (model-promotion.md, 3.3)."""
STEPS: tuple[Decimal, ...] = (Decimal("0.10"), Decimal("0.25"), Decimal("0.50"), Decimal("1"))
"""The shares a candidate passes through (model-promotion.md, 3.3)."""

_WHOLE = 10_000


def _grains(share: Decimal) -> int:
    scaled = share / GRAIN
    if scaled != scaled.to_integral_value() or not 0 <= scaled <= _WHOLE:
        raise Refused(f"{share} is not a share between 0 and 1 with at most four decimals.")
    return int(scaled)


def _apportion(weights: Mapping[K, int], total: int) -> dict[K, int]:
    """Splits `total` whole grains in proportion to `weights` by largest remainder; ties go to the lesser key."""
    whole = sum(weights.values())
    parts = {key: divmod(weight * total, whole) for key, weight in weights.items()}
    short = total - sum(quotient for quotient, _ in parts.values())
    favoured = sorted(parts, key=lambda key: (-parts[key][1], str(key)))[:short]
    return {key: parts[key][0] + (key in favoured) for key in parts}


def as_share(value: Decimal | float | str) -> Decimal:
    """A fraction of 1 in steps of 0.0001, from a number or its text.

    Raises:
        Refused: where it is no such number.
    """
    try:
        share = Decimal(str(value))
    except InvalidOperation:
        raise Refused(f"{value} is not a number.") from None
    return _grains(share) * GRAIN


def check_whole(shares: Mapping[K, Decimal]) -> None:
    """Accepts shares that sum to exactly 1.

    Raises:
        Refused: where they do not, with the sum found.
    """
    total = sum((_grains(share) for share in shares.values()), 0)
    if total != _WHOLE:
        raise Refused(
            f"The experiment's shares add up to {total * GRAIN:.4f} instead of 1.0000. "
            "Correct the variants' allocations first; nothing was changed."
        )


def with_share(shares: Mapping[K, Decimal], key: K, share: Decimal) -> dict[K, Decimal]:
    """Gives `key` (new or present) exactly `share`; the others keep their proportions to one another.

    Shares are fractions of 1 in steps of 0.0001; the result sums to exactly 1.0000.

    Raises:
        Refused: where a share is out of range, or nobody is left to take the rest.
    """
    others = {k: _grains(v) for k, v in shares.items() if k != key}
    target = _grains(share)
    rest = _WHOLE - target
    if rest and not any(others.values()):
        raise Refused("No other variant has traffic that could take the rest. Roll back to a baseline instead.")
    split = _apportion(others, rest) if any(others.values()) else dict.fromkeys(others, 0)
    return {k: (target if k == key else split[k]) * GRAIN for k in [*shares, *([] if key in shares else [key])]}


def all_to(shares: Mapping[K, Decimal], key: K) -> dict[K, Decimal]:
    """Everything to `key`, nothing to the others."""
    return {k: Decimal(k == key) for k in shares}


def returned(shares: Mapping[K, Decimal], failed: K, baseline: K, kept: Decimal = NOTHING) -> dict[K, Decimal]:
    """Only the failed variant's share, but for what is `kept`, goes to the baseline; every other keeps its own.

    Raises:
        Refused: where the shares do not sum to 1, so that no return of one share could mend them.
    """
    check_whole(shares)
    moved = {**shares, failed: kept}
    moved[baseline] += shares[failed] - kept
    return moved


def next_step(share: Decimal, steps: Sequence[Decimal] = STEPS) -> Decimal | None:
    """The first step above `share`, or None at full traffic."""
    return next((step for step in steps if step > share), None)
