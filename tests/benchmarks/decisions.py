"""How often the bot's verdicts are wrong and how late the right ones come, by simulation of whole rollouts.

    python -m tests.benchmarks.decisions                                            a quarter of an hour on two cores
    python -m tests.benchmarks.decisions --rollouts 1000 --disasters 400 --worlds 200 --compare 100 --seed 2     hours

Each rollout starts at 10 % and follows the bot's verdicts, with a look every 15 minutes; the last one of a day is the
daily look, the only one that may increase. The same seed is the same world for every model and every engine. Take a
seed of your own: the budgets in `core.rules.sequential` were chosen with small ones.
"""

from __future__ import annotations

import argparse
import math
import statistics
import time
import warnings
from collections import Counter
from collections.abc import Mapping, Sequence
from concurrent.futures import Executor, ProcessPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from functools import partial

import numpy as np

from core.rules import allocation, samples
from core.rules.contrasts import contrast, divided
from core.rules.decision import Terms, minimum_days
from core.rules.estimates import FEWEST_PLANS, _ratio_compared
from core.rules.metrics import METRICS, Quantile
from core.rules.samples import BINS, BUCKETS, EDGES_MS
from core.rules.sequential import Memory, any_look_limit
from core.rules.verdict import Look, decide
from tests.benchmarks.decisions_rivals import PresentStep, judges
from tests.benchmarks.simulate import MODELS, SUMS, THREEFOLD, WORLDS, Arms, Plans, Setting, World

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
LEGEND = """\
rollouts  simulated from 10 % to the end, each following the bot's own verdicts
wrong     of them, identical or better: rolled back all the same; harmful: never rolled back (the bot would promote)
se        the standard error of that share: another seed moves it by about as much, now and then by twice as much
median    day of the rollback in the median rollout, the wrong ones counted as never; 0.25 is six hours
ended     day on which the median rollout ended, either way
between   rollbacks called between daily looks
target    share of wrong ones and median day that are accepted
"met" is at or below the target, "unclear" above it by less than two standard errors, "MISSED" by more."""
HEAD = (
    f"{'model':30} {'rollouts':>8} {'wrong':>12} {'se':>6} {'median':>7} {'ended':>6} {'between':>7} {'target':>14}"
    f" {'':7} {'took':>6}  rolled back because of"
)
HARMLESS = ("identical", "better")
PLAN_ROW = SUMS.index(samples.PLANS)


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
    ln E >= limit. As ln E <= z^2/2, a smaller z rules it out. Of quantiles only the first is asked.
    """
    sums, bins = present.until(plans, bucket, ends)
    totals = [np.broadcast_to(arms.sums.sum(axis=-1), sums.shape[:3]) for arms in past] + [sums.sum(axis=-1)]
    total = np.array(totals, dtype=float).transpose(0, 2, 3, 1)  # (steps, arms, sums, looks)
    plans_of = total[:, :, PLAN_ROW]
    weights = divided(plans_of.prod(axis=1), plans_of.sum(axis=1))
    weights = divided(weights, weights.sum(axis=0))
    is_enough = plans_of[:, 1].sum(axis=0) >= FEWEST_PLANS
    is_hopeful = np.zeros(len(ends), dtype=bool)
    least = math.sqrt(2 * any_look_limit(len(METRICS)))
    for metric in METRICS:
        if isinstance(metric.source, Quantile):
            continue
        row = SUMS.index(metric.source.numerator)
        rates = divided(total[:, :, row] * metric.source.scale, plans_of)
        base, mine = (weights[:, None] * rates).sum(axis=0)
        looks = np.flatnonzero(is_enough & [metric.is_beyond(v, c) for v, c in zip(mine, base, strict=True)])
        if not len(looks):
            continue
        y, n = (_rows_of(past, sums[looks], of) for of in (row, PLAN_ROW))
        found = contrast(y * metric.source.scale, n)
        is_hopeful[looks] |= [_ratio_compared(metric, found, r).alarm_z >= least for r in range(len(looks))]
    return np.flatnonzero(is_hopeful | (is_enough & _is_slow(past, bins, weights))).tolist()


def _rows_of(past: Sequence[Arms], sums: np.ndarray, row: int) -> np.ndarray:
    """One sum over all steps, a row per look; shape (steps, arms, looks, BUCKETS)."""
    now = sums[:, :, row].transpose(1, 0, 2).astype(float)
    return np.array([*(np.broadcast_to(arms.sums[:, row, None], now.shape) for arms in past), now])


def _is_slow(past: Sequence[Arms], bins: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Where p50 or p99 may be beyond its bound, to the bin on the safe side; `bins` has shape (looks, arms, BINS)."""
    steps = [np.broadcast_to(arms.counts.reshape(2, BINS, BUCKETS).sum(axis=-1), bins.shape) for arms in past] + [bins]
    shares = np.array([divided(step.astype(float), step.sum(axis=-1, keepdims=True)) for step in steps])
    below = (weights[..., None, None] * shares).sum(axis=0).cumsum(axis=-1)
    found = np.zeros(len(bins), dtype=bool)
    for metric in METRICS:
        if isinstance(metric.source, Quantile):
            base, mine = (np.argmax(below[:, a] >= metric.source.q - 1e-9, axis=-1) for a in (0, 1))
            bound = np.array([metric.bound(EDGES_MS[max(k - 1, 0)]) or math.inf for k in base])
            found |= EDGES_MS[np.minimum(mine, BINS - 2)] >= bound * (1 - 1e-9)
    return found


def _error(count: int, of: int) -> float:
    """The standard error of a share; none or all of them count as one half more or less."""
    share = min(max(count, 0.5), of - 0.5) / of
    return math.sqrt(share * (1 - share) / of)


def _standing(wrong: int, of: int, delay: float, target: tuple[float, float | None]) -> str:
    accepted, latest = target
    if latest is not None and delay > latest:
        return "MISSED"
    excess = wrong / of - accepted
    return "met" if excess <= 0 else "unclear" if excess < 2 * _error(wrong, of) else "MISSED"


def _row(
    title: str, rides: Sequence[Ride], took: float, *, harmless: bool, target: tuple[float, float | None] | None
) -> str:
    back = [r for r in rides if r.ending == "rollback"]
    wrong, of = len(back) if harmless else len(rides) - len(back), len(rides)
    delay = math.inf if harmless else statistics.median([r.days if r.ending == "rollback" else math.inf for r in rides])
    shown = "-" if harmless else "never" if delay == math.inf else f"{delay:.3g}"
    causes = Counter(metric for r in back for metric in r.metrics).most_common()
    goal = "" if target is None else f"{target[0]:g}" + ("" if target[1] is None else f", {target[1]:g} d")
    standing = "" if target is None else _standing(wrong, of, delay, target)
    return (
        f"{title:30} {of:8} {f'{wrong} = {wrong / of:.3f}':>12} {_error(wrong, of):6.3f} {shown:>7} "
        f"{statistics.median([r.days for r in rides]):6.3g} {sum(r.between for r in back):7} {goal:>14} {standing:7} "
        f"{took:4.0f} s  {', '.join(f'{metric} {count}' for metric, count in causes)}"
    )


def hours_to_alarm(setting: Setting, name: str, seed: int) -> float:
    """Hours from the 15-minute look that first sees enough plans for any test to the alarm; infinite after a day."""
    world, arms, share = World(setting, THREEFOLD[name], seed), Arms(), allocation.STEPS[0]
    enough_at = None
    for quarter in range(4 * 24 * 4):
        arms.add(world.plans(quarter // 96, float(share), 1 / 96), world.bucket)
        if arms.sums[1, PLAN_ROW].sum() < FEWEST_PLANS:
            continue
        enough_at = quarter if enough_at is None else enough_at
        if quarter - enough_at > 96:
            break
        days = (quarter + 1) / 96
        look = Look((arms.step(),), share, days, days, START + timedelta(days=days), is_daily=False)
        if decide(look, Memory(), Terms())[0].action == "rollback":
            return (quarter - enough_at) / 4
    return math.inf


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
        called, middle = sum(day < math.inf for day in days), statistics.median(days)
        shown, share = "never" if middle == math.inf else f"{middle:.3g}", called / len(days)
        error = _error(called, len(days))
        print(
            f"{name:18} {engine:32} {len(days):8} {f'{called} = {share:.2f}':>11} {error:5.2f} {shown:>7}", flush=True
        )


def _seeds(chosen: argparse.Namespace, count: int) -> list[int]:
    return [chosen.seed * 1_000_003 + n for n in range(count)]


def _rollouts(pool: Executor, chosen: argparse.Namespace, plans: int) -> None:
    setting = Setting(plans_a_day=plans, sticky=chosen.sticky)
    keeps = "; a unit keeps the arm of its first plan" if chosen.sticky else ""
    print(f"\nWhole rollouts at {plans:,} plans a day, {chosen.looks_a_day} looks a day{keeps}\n{LEGEND}\n\n{HEAD}")
    for name in chosen.only:
        began = time.perf_counter()
        call = partial(ride, setting, name, chosen.looks_a_day)
        rides = list(pool.map(call, _seeds(chosen, chosen.rollouts), chunksize=4))
        target = TARGETS.get(plans, {}).get(name)
        print(_row(name, rides, time.perf_counter() - began, harmless=name in HARMLESS, target=target), flush=True)


def _worlds(pool: Executor, chosen: argparse.Namespace) -> None:
    print("\nAn identical model in other worlds, 2,000 plans a day unless said otherwise; columns as above")
    print(HEAD)
    for name, changed in WORLDS.items():
        began = time.perf_counter()
        setting = Setting(**{"plans_a_day": 2000, "sticky": chosen.sticky} | changed)
        call = partial(ride, setting, "identical", chosen.looks_a_day)
        rides = list(pool.map(call, _seeds(chosen, chosen.worlds), chunksize=4))
        print(_row(name, rides, time.perf_counter() - began, harmless=True, target=(0.05, None)), flush=True)


def _disasters(pool: Executor, chosen: argparse.Namespace) -> None:
    print(f"\nDisasters: hours from the look that first sees {FEWEST_PLANS} plans of the candidate (10 %) to the alarm")
    print(f"{'model':18} {'plans a day':>11} {'rollouts':>8} {'within 1 h':>14} {'se':>5} {'median':>7} {'9 of 10':>8}")
    for plans in chosen.plans_a_day:
        for name in THREEFOLD:
            call = partial(hours_to_alarm, Setting(plans_a_day=plans), name)
            hours = sorted(pool.map(call, _seeds(chosen, chosen.disasters), chunksize=4))
            soon, of = sum(hour <= 1 for hour in hours), len(hours)
            middle, most = statistics.median(hours), hours[math.ceil(0.9 * of) - 1]
            print(
                f"{name:18} {plans:11,} {of:8} {f'{soon} = {soon / of:.2f}':>14} {_error(soon, of):5.2f} "
                f"{middle:5.2f} h {most:6.2f} h",
                flush=True,
            )


def _engines(pool: Executor, chosen: argparse.Namespace) -> None:
    plans = min(chosen.plans_a_day)
    print(
        f"\nOther engines on the same plans: {plans:,} a day, looks daily, shares grow by the document's days.\n"
        "called: rollouts in which the engine says at least once that the candidate is worse; median: day of the\n"
        'first time in the median rollout. For "identical" every call is a false alarm. Ours alone decides\n'
        "about rollback (worse beyond chance and beyond tolerance); the others call any significant worsening."
    )
    print("\n".join(judges()[1]))
    print(f"{'model':18} {'engine':32} {'rollouts':>8} {'called':>11} {'se':>5} {'median':>7}")
    for name in chosen.only:
        call = partial(side_by_side, Setting(plans_a_day=plans), name, chosen.spotify)
        _compared(name, list(pool.map(call, _seeds(chosen, chosen.compare))))


def main() -> None:
    """Simulates and prints."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rollouts", type=int, default=60, help="per model and traffic")
    parser.add_argument("--plans-a-day", type=int, nargs="+", default=[2000, 20_000])
    parser.add_argument("--looks-a-day", type=int, default=96, help="the last of them is the daily one")
    parser.add_argument("--disasters", type=int, default=40, help="rollouts with threefold harm, until the alarm")
    parser.add_argument("--worlds", type=int, default=0, help="rollouts of an identical model in each other world")
    parser.add_argument("--compare", type=int, default=20, help="rollouts on which other engines are run as well")
    parser.add_argument("--spotify", action="store_true", help="also ask spotify-confidence: seconds a look")
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--only", nargs="*", default=list(MODELS), metavar="MODEL", help=", ".join(MODELS))
    parser.add_argument("--sticky", action="store_true", help="units keep the arm of their first plan")
    chosen = parser.parse_args()
    with ProcessPoolExecutor(chosen.processes) as pool:
        for plans in chosen.plans_a_day if chosen.rollouts else ():
            _rollouts(pool, chosen, plans)
        if chosen.disasters:
            _disasters(pool, chosen)
        if chosen.worlds:
            _worlds(pool, chosen)
        if chosen.compare:
            _engines(pool, chosen)


if __name__ == "__main__":
    main()
