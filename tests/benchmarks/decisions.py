"""How often the bot's verdicts are wrong and how late the right ones come, by simulation of whole rollouts.

    python -m tests.benchmarks.decisions [--rollouts 400] [--plans-a-day 2000 20000] [--looks-a-day 8]
                                         [--compare 100] [--spotify] [--processes 2]
                                         [--seed 1] [--only NAME ...] [--sticky]

Each rollout starts at 10 % and follows the bot's verdicts: looks at the end of each day, and in between at an even
grid. The platform looks every 15 minutes (`--looks-a-day 96`). The default of 8 leaves out looks that share nearly all
their plans with their neighbours: the any-look test is valid on every grid, and what a coarse one can hide is part of
its small budget and up to three hours of delay.
"""

from __future__ import annotations

import argparse
import math
import statistics
import time
import warnings
from collections.abc import Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from functools import partial

import numpy as np

from core.rules import allocation, samples
from core.rules.decision import Terms, minimum_days
from core.rules.estimates import FEWEST_PLANS, _contrast, _divided, _unskewed
from core.rules.metrics import METRICS, Quantile
from core.rules.samples import BINS, BUCKETS, EDGES_MS
from core.rules.sequential import Memory, any_look_limit
from core.rules.verdict import Look, decide
from tests.benchmarks.decisions_rivals import PresentStep, judges
from tests.benchmarks.simulate import MODELS, SUMS, THREEFOLD, Arms, Plans, Setting, World

START = datetime(2026, 1, 5, tzinfo=UTC)
LONGEST_DAYS = 60
TARGETS: Mapping[int, Mapping[str, tuple[float, float | None]]] = {
    20_000: {"identical": (0.05, None), "better": (0.02, None)} | dict.fromkeys(list(MODELS)[2:], (0.01, 2.0)),
    2_000: {
        "identical": (0.05, None),
        "better": (0.01, None),
        "acceptance -8 %": (0.01, 6),
        "edits +15 %": (0.12, 12),
        "validator +20 %": (0.14, 16),
        "p50 +30 %": (0.01, 1),
        "p99 doubled": (0.01, 4),
        "cost +20 %": (0.01, 2),
    },
}
"""From the issue: the accepted share of wrong endings, and the accepted median delay in days."""
HEAD = (
    f"{'model':18} {'rides':>6} {'wrong':>8} {'se':>7} {'median':>7} {'ended':>6} {'intra':>5} {'target':>15}"
    f" {'':7} {'time':>8}  rolled back because of"
)
HARMLESS = ("identical", "better")


@dataclass(frozen=True)
class Ride:
    """How one rollout ended: "promote", "rollback" or "open", after how many days, because of which metrics."""

    ending: str
    days: float
    metrics: tuple[str, ...] = ()
    between: bool = False


def ride(setting: Setting, name: str, looks_a_day: int, seed: int, *, asks_always: bool = False) -> Ride:
    """One rollout under the bot's own verdicts; `asks_always` asks `decide` at the hopeless looks too, for checking."""
    world, memory, terms = World(setting, (MODELS | THREEFOLD)[name], seed), Memory(), Terms()
    share, done, past, present, entered = allocation.STEPS[0], [], [], Arms(), 0
    for day in range(LONGEST_DAYS):
        plans, added = world.plans(day, float(share)), 0
        n = len(plans.unit)
        # Plans come in random order, so equal parts of them are equal parts of the day.
        ends = [n * k // looks_a_day for k in range(1, looks_a_day + 1)]
        asked = range(looks_a_day) if asks_always else hopeful(past, present, plans, world.bucket, ends)
        for k in [*(k for k in asked if k < looks_a_day - 1), looks_a_day - 1]:
            present.add(plans.part(slice(added, ends[k])), world.bucket)
            added, days = ends[k], day + (k + 1) / looks_a_day
            look = Look(
                steps=(*done, present.step()),
                share=share,
                days=days,
                days_in_step=days - entered,
                seen_until=START + timedelta(days=days),
                is_daily=k == looks_a_day - 1,
            )
            found, memory = decide(look, memory, terms)
            if found.action == "rollback":
                worse = tuple(f.metric.name for f in found.findings if f.state == "worse")
                return Ride("rollback", days, worse, between=not look.is_daily)
        if found.action == "promote":
            return Ride("promote", days)
        if found.action == "increase":
            share = allocation.next_step(share) or Decimal(1)
            done, past, present, entered = [*done, look.steps[-1]], [*past, present], Arms(), day + 1
    return Ride("open", LONGEST_DAYS)


def hopeful(past: Sequence[Arms], present: Arms, plans: Plans, bucket: np.ndarray, ends: Sequence[int]) -> list[int]:
    """The looks within a day at which `decide` could alarm: all others it need not be asked at.

    An alarm between daily looks needs a metric beyond its bound, which totals tell, and evidence E with
    ln E >= limit. As ln E <= z^2/2, a smaller z rules it out, and z never exceeds the corrected t (`_unskewed`).
    Of quantiles only the first is asked.
    """
    sums, bins = present.until(plans, bucket, ends)
    steps = [np.broadcast_to(arms.sums, sums.shape) for arms in past] + [sums]
    y = np.array(steps).transpose(0, 2, 3, 1, 4).astype(float)  # (steps, arms, sums, looks, BUCKETS)
    n = y[:, :, SUMS.index(samples.PLANS)]
    plans_of = n.sum(axis=-1)
    weights = _divided(plans_of.prod(axis=1), plans_of.sum(axis=1))
    weights = _divided(weights, weights.sum(axis=0))
    is_enough = plans_of[:, 1].sum(axis=0) >= FEWEST_PLANS
    is_hopeful = np.zeros(len(ends), dtype=bool)
    least = math.sqrt(2 * any_look_limit(len(METRICS)))
    for metric in METRICS:
        if isinstance(metric.source, Quantile):
            continue
        values = y[:, :, SUMS.index(metric.source.numerator)]
        base, mine = (weights[:, None] * _divided(values.sum(axis=-1), plans_of)).sum(axis=0)
        looks = np.flatnonzero(is_enough & [metric.is_beyond(v, c) for v, c in zip(mine, base, strict=True)])
        if not len(looks):
            continue
        found = _contrast(values[:, :, looks], n[:, :, looks])
        sign = -1 if metric.higher_is_better else 1
        t, skew = sign * found.difference / np.maximum(found.se, 1e-300), sign * found.skew
        is_hopeful[looks] |= _unskewed(np.clip(t, -1e6, 1e6), skew) >= least
    return np.flatnonzero(is_hopeful | (is_enough & _is_slow(past, bins, weights))).tolist()


def _is_slow(past: Sequence[Arms], bins: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Where p50 or p99 may be beyond its bound, to the bin on the safe side; `bins` has shape (looks, arms, BINS)."""
    steps = [np.broadcast_to(arms.counts.reshape(2, BINS, BUCKETS).sum(axis=-1), bins.shape) for arms in past] + [bins]
    shares = np.array([_divided(step.astype(float), step.sum(axis=-1, keepdims=True)) for step in steps])
    below = (weights[..., None, None] * shares).sum(axis=0).cumsum(axis=-1)
    found = np.zeros(len(bins), dtype=bool)
    for metric in METRICS:
        if isinstance(metric.source, Quantile):
            base, mine = (np.argmax(below[:, a] >= metric.source.q - 1e-9, axis=-1) for a in (0, 1))
            bound = np.array([metric.bound(EDGES_MS[max(k - 1, 0)]) or math.inf for k in base])
            found |= EDGES_MS[np.minimum(mine, BINS - 2)] >= bound * (1 - 1e-9)
    return found


def _row(name: str, plans: int, rides: Sequence[Ride], seconds: float) -> str:
    back = [r for r in rides if r.ending == "rollback"]
    wrong = len(back) if name in HARMLESS else len(rides) - len(back)
    share = wrong / len(rides)
    error = math.sqrt(max(share * (1 - share), 1 / len(rides) / 4 if wrong == 0 else 0) / len(rides))
    delay = statistics.median([r.days if r.ending == "rollback" else math.inf for r in rides])
    target, latest = TARGETS.get(plans, {}).get(name, (None, None))
    ok = (target is None or share <= target) and (latest is None or name in HARMLESS or delay <= latest)
    shown = "-" if name in HARMLESS else f"{delay:.3g}"
    causes: dict[str, int] = {}
    for r in back:
        for metric in r.metrics:
            causes[metric] = causes.get(metric, 0) + 1
    because = ", ".join(f"{metric} {count}" for metric, count in sorted(causes.items(), key=lambda item: -item[1]))
    ended = statistics.median([r.days for r in rides])
    goal = "" if target is None else f"<= {target:g}" + ("" if latest is None else f", {latest:g} d")
    return (
        f"{name:18} {len(rides):6} {share:8.4f} {error:7.4f} {shown:>7} {ended:6.3g} {sum(r.between for r in back):5} "
        f"{goal:>15} {'' if target is None else 'met' if ok else 'MISSED':7} {seconds:6.0f} s  {because}"
    )


def side_by_side(setting: Setting, name: str, with_spotify: bool, seed: int) -> dict[str, float]:
    """The day on which each engine first calls harm on the same plans; infinite where it never does.

    Shares follow the document's days; the ride ends when the bot would promote, or on day 36.
    """
    warnings.simplefilter("ignore")
    world, memory, terms = World(setting, (MODELS | THREEFOLD)[name], seed), Memory(), Terms()
    asked, _ = judges()
    first = dict.fromkeys(["promotion-bot", *(n for n in asked if with_spotify or "spotify" not in n)], math.inf)
    share, done, sums, present, entered = allocation.STEPS[0], [], Arms(), PresentStep(), 0
    for day in range(1, 37):
        plans = world.plans(day - 1, float(share))
        sums.add(plans, world.bucket)
        present.days.append(plans)
        present.step = sums.step()
        here = Look((*done, present.step), share, day, day - entered, START + timedelta(days=day))
        found, memory = decide(here, memory, terms)
        calls = {n: asked[n](present, day - entered) for n in first if n in asked and first[n] == math.inf}
        calls["promotion-bot"] = found.action == "rollback" and first["promotion-bot"] == math.inf
        first |= {n: float(day) for n, is_harm in calls.items() if is_harm}
        is_over = day - entered >= minimum_days(share) and present.step.candidate.plans >= terms.minimum_samples
        if (found.action == "promote" or (share == Decimal("0.50") and is_over and found.action != "wait")) or (
            math.inf not in first.values()
        ):
            break
        if is_over and share < Decimal("0.50") and found.action != "wait":
            share = allocation.next_step(share) or Decimal(1)
            done, sums, present, entered = [*done, present.step], Arms(), PresentStep(), day
    return first


def _compared(name: str, rides: Sequence[Mapping[str, float]]) -> None:
    for engine in rides[0]:
        days = [ride[engine] for ride in rides]
        called = sum(day < math.inf for day in days) / len(days)
        error = math.sqrt(max(called * (1 - called), 0.25 / len(days)) / len(days))
        middle = statistics.median(days)
        print(f"{name:18} {engine:32} {len(days):5} {called:7.3f} {error:6.3f} {middle:7.3g}", flush=True)


def main() -> None:
    """Simulates and prints."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rollouts", type=int, default=400)
    parser.add_argument("--plans-a-day", type=int, nargs="+", default=[2000, 20_000])
    parser.add_argument("--looks-a-day", type=int, default=8)
    parser.add_argument("--compare", type=int, default=100, help="rollouts on which the other engines are run as well")
    parser.add_argument("--spotify", action="store_true", help="also ask spotify-confidence: seconds a look")
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--only", nargs="*", default=list(MODELS))
    parser.add_argument("--sticky", action="store_true", help="units keep the arm of their first plan")
    chosen = parser.parse_args()
    with ProcessPoolExecutor(chosen.processes) as pool:
        for plans in chosen.plans_a_day:
            setting = Setting(plans_a_day=plans, sticky=chosen.sticky)
            print(f"\n{plans:,} plans a day, {chosen.looks_a_day} looks a day, sticky: {chosen.sticky}")
            print(HEAD)
            for name in chosen.only if chosen.rollouts else ():
                began = time.perf_counter()
                seeds = [chosen.seed * 1_000_003 + n for n in range(chosen.rollouts)]
                rides = list(pool.map(partial(ride, setting, name, chosen.looks_a_day), seeds, chunksize=4))
                print(_row(name, plans, rides, time.perf_counter() - began), flush=True)
        if chosen.compare:
            plans = min(chosen.plans_a_day)
            print(f"\nSide by side at {plans:,} plans a day, daily looks: share of rollouts in which harm is called")
            print("\n".join(judges()[1]))
            print(f"{'model':18} {'engine':32} {'rides':>5} {'called':>7} {'se':>6} {'median':>7}")
            for name in chosen.only:
                seeds = [chosen.seed * 1_000_003 + n for n in range(chosen.compare)]
                call = partial(side_by_side, Setting(plans_a_day=plans), name, chosen.spotify)
                _compared(name, list(pool.map(call, seeds)))


if __name__ == "__main__":
    main()
