"""Normal deviates: how surprising something is, whatever distribution it comes from."""

from __future__ import annotations

import math
from typing import Final

INTERVAL_ERROR: Final = 0.05
SUREST: Final = 37.0
"""A deviate beyond this is not told apart from it: the normal tail is then below the smallest double."""


def deviate(t: float, df: float) -> float:
    """The normal deviate as surprising as Student's t (Wallace); t itself where there is no harm to prove."""
    if t > 0:
        t = (8 * df + 1) / (8 * df + 3) * math.sqrt(df * math.log1p(t**2 / df))
    return min(max(t, -SUREST), SUREST)


def unskewed(t: float, skew: float) -> float:
    """Hall's (1992) transformation: a studentised mean of skewed parts made normal to the second order.

    Without it more interventions, or more slow plans, have to be many more to count, as they raise the error too.
    """
    return t + skew * t**2 / 3 + skew**2 * t**3 / 27 + skew / 6


def gamma_deviate(t: float, skew: float) -> float:
    """The normal deviate as surprising as t of a skewed sum with a known error (Wilson and Hilferty 1931)."""
    if skew < 1e-6:
        return t
    return 6 / skew * (math.cbrt(max(1 + skew * t / 2, 0.0)) - 1) + skew / 6


def student(z: float, df: float) -> float:
    """The inverse of `deviate` for z > 0: how many standard errors are as surprising as z."""
    return math.sqrt(df * math.expm1(min((z * (8 * df + 3) / (8 * df + 1)) ** 2 / df, 600.0)))


def sequence_z(tolerance_z: float) -> float:
    """Half the width, in deviates, of an interval that holds at all looks together (normal mixture)."""
    v = max(tolerance_z, 0.5) ** 2
    return math.sqrt((1 + 1 / v) * math.log((1 + v) / INTERVAL_ERROR**2))
