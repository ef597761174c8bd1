"""Contrasts of both arms within each step, combined over steps, with errors clustered by bucket of units."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from core.rules.samples import BUCKETS, Floats


@dataclass(frozen=True, eq=False)
class Contrast:
    """The combined contrasts of several rows at once; arrays of shape (rows,) and (rows, BUCKETS).

    `count_df` is `df` for sums of single events. `mix` is the candidate's share of the plans; `squares` and `cubes`
    sum each arm's part, (2, rows). `influence` is each bucket's part in a contrast, of length one.
    """

    difference: Floats
    candidate: Floats
    baseline: Floats
    se: Floats
    df: Floats
    count_df: Floats
    skew: Floats
    influence: npt.NDArray[np.float32]
    ratio_se: Floats
    mix: Floats
    squares: Floats
    cubes: Floats


def divided(over: Floats, under: Floats) -> Floats:
    return np.divide(over, under, out=np.zeros(np.broadcast(over, under).shape), where=under > 0)


def weights(n: Floats) -> Floats:
    """Weights of the steps, (steps, rows), from plans (steps, 2, rows): they sum to one, or are zero without plans."""
    weight = divided(n[:, 0] * n[:, 1], n[:, 0] + n[:, 1])
    return divided(weight, weight.sum(axis=0))


def degrees(squares: Floats, fourths: Floats) -> Floats:
    """Degrees of freedom of a sum of squares over buckets, few where few buckets make it up."""
    kurtosis = divided(BUCKETS * fourths, squares**2)
    freedom: Floats = np.minimum(BUCKETS - 1, np.maximum(2.0, 2 * BUCKETS / np.maximum(kurtosis - 1, 1e-9)))
    return freedom


def contrast(y: Floats, n: Floats) -> Contrast:
    """From sums and plans of shape (steps, 2 arms: baseline and candidate, rows, BUCKETS)."""
    plans, total = n.sum(axis=-1), y.sum(axis=-1)
    weight, rates = weights(plans), divided(total, plans)
    levels = np.einsum("kr,kar->ar", weight, rates)
    parts = np.einsum("kar,karb->arb", divided(weight[:, None], plans), y - rates[..., None] * n)
    psi = parts[1] - parts[0]
    psi2, parts2 = psi * psi, parts * parts
    squares, fourths = psi2.sum(axis=-1), (psi2 * psi2).sum(axis=-1)
    # What single events add to the fourth powers: it tells of their number, which a score test knows, not of units.
    single = (divided(weight[:, None], plans) ** 4 * total).sum(axis=(0, 1))
    scale = BUCKETS / (BUCKETS - 1)
    ratio = divided(levels[1], levels[0])
    ratio_squares = ((parts[1] - ratio[:, None] * parts[0]) ** 2).sum(axis=-1)
    return Contrast(
        difference=levels[1] - levels[0],
        candidate=levels[1],
        baseline=levels[0],
        se=np.sqrt(scale * squares),
        df=degrees(squares, fourths),
        count_df=degrees(squares, fourths - single),
        skew=divided((psi2 * psi).sum(axis=-1), squares**1.5),
        influence=divided(psi, np.sqrt(squares)[:, None]).astype(np.float32),
        ratio_se=divided(np.sqrt(scale * ratio_squares), levels[0]),
        mix=(weight * divided(plans[:, 1], plans.sum(axis=1))).sum(axis=0),
        squares=scale * parts2.sum(axis=-1),
        cubes=(parts2 * parts).sum(axis=-1),
    )
