"""What the traffic says about each variant: reads the samples that core.rollup keeps, in time that does not depend on
how many events or assignments there ever were."""

from __future__ import annotations

import uuid
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from decimal import Decimal
from typing import Any, Final, Literal

import numpy as np
from sqlalchemy import Row, text
from sqlalchemy.orm import Session

from core.rules import metrics
from core.rules.metrics import VariantMetrics
from core.rules.samples import COST_NANO, COST_PLANS, NANO, Sample
from core.sample_store import TOKEN_PLANS, TOKENS

NOTHING = VariantMetrics(sample_size=0)


# --- Samples -----------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Served:
    """What one variant did in one step: its sums, and for how many units that was the first in the experiment."""

    sample: Sample
    units: int


@dataclass(frozen=True)
class StepSamples:
    """One allocation step: shares as fractions of 1 by variant, and what each variant did in it."""

    step_id: int
    started_at: datetime | None
    """None for step 0: traffic from before the first step on record."""
    until: datetime | None
    """None for the present step."""
    shares: Mapping[uuid.UUID, Decimal]
    source: str
    """`bot`, `noticed`, `adopted` or `reconstructed`; `none` for step 0."""
    variants: Mapping[uuid.UUID, Served]


_STEPS = text("""
SELECT experiment_id, id, started_at, shares, source,
       lead(started_at) OVER (PARTITION BY experiment_id ORDER BY started_at, id) AS until
  FROM promotion.allocation_steps WHERE experiment_id = ANY(:ids) ORDER BY experiment_id, started_at, id
""")
_TOTALS = text("""
SELECT e.experiment_id, s.step, a.variant_id, s.units, s.content
  FROM promotion.measure_experiments e JOIN promotion.measure_arms a ON a.experiment = e.id
  JOIN promotion.samples s ON s.arm = a.id
 WHERE e.experiment_id = ANY(:ids) AND s.step = ANY(:steps)
""")
Steps = Sequence[Row[Any]]
"""The allocation steps of an experiment in order, all or the last ones: id, started_at, until, shares, source."""


def steps(session: Session, experiment_id: uuid.UUID) -> Steps:
    """The allocation steps of an experiment."""
    return steps_of(session, [experiment_id])[experiment_id]


def steps_of(session: Session, experiments: Collection[uuid.UUID]) -> dict[uuid.UUID, Steps]:
    """The allocation steps of some experiments."""
    found: dict[uuid.UUID, list[Row[Any]]] = {experiment: [] for experiment in experiments}
    for row in session.execute(_STEPS, {"ids": list(experiments)}):
        found[row.experiment_id].append(row)
    return dict(found)


def samples(
    session: Session,
    experiment_id: uuid.UUID,
    *,
    price_per_1000_tokens: Decimal | None = None,
) -> tuple[StepSamples, ...]:
    """The samples of an experiment, step by step in order.

    A step in which nobody served anything is there too, without variants.
    """
    wanted = {experiment_id: steps(session, experiment_id)}
    return samples_of(session, wanted, price_per_1000_tokens=price_per_1000_tokens)[experiment_id]


def samples_of(
    session: Session, wanted: Mapping[uuid.UUID, Steps], *, price_per_1000_tokens: Decimal | None = None
) -> dict[uuid.UUID, tuple[StepSamples, ...]]:
    """The samples of some experiments in the steps that are wanted of each, with step 0 where there is one."""
    values = {"ids": list(wanted), "steps": [0, *(step.id for there in wanted.values() for step in there)]}
    found: dict[uuid.UUID, dict[int, dict[uuid.UUID, Served]]] = {experiment: {} for experiment in wanted}
    for row in session.execute(_TOTALS, values):
        sample = priced(Sample.from_bytes(row.content), price_per_1000_tokens)
        if sample.plans:
            found[row.experiment_id].setdefault(row.step, {})[row.variant_id] = Served(sample, row.units)
    return {experiment: _step_samples(there, found[experiment]) for experiment, there in wanted.items()}


def _step_samples(there: Steps, found: Mapping[int, Mapping[uuid.UUID, Served]]) -> tuple[StepSamples, ...]:
    before = [StepSamples(0, None, there[0].started_at if there else None, {}, "none", found[0])] if 0 in found else []
    return (
        *before,
        *(
            StepSamples(step.id, step.started_at, step.until, _shares(step), step.source, found.get(step.id, {}))
            for step in there
        ),
    )


def _shares(step: Row[Any]) -> dict[uuid.UUID, Decimal]:
    return {uuid.UUID(variant): Decimal(str(share)) for variant, share in step.shares.items()}


def priced(sample: Sample, price_per_1000_tokens: Decimal | None) -> Sample:
    """Where plans logged tokens and no cost, their cost at this price; exact, whatever the price was before."""
    rest = {name: values for name, values in sample.sums.items() if name not in (TOKENS, TOKEN_PLANS)}
    if len(rest) == len(sample.sums):
        return sample
    if price_per_1000_tokens is None:
        return Sample.of(rest, sample.histograms)
    nano = int(price_per_1000_tokens * NANO)
    cost = np.array([int(tokens) * nano // 1000 for tokens in sample.sum_of(TOKENS)], dtype=np.int64)
    rest[COST_NANO] = sample.sum_of(COST_NANO) + cost
    rest[COST_PLANS] = sample.sum_of(COST_PLANS) + sample.sum_of(TOKEN_PLANS)
    return Sample.of(rest, sample.histograms)


@dataclass(frozen=True)
class DaySample:
    """The part of a step that fell on one day (UTC)."""

    step_id: int
    variant_id: uuid.UUID
    day: date
    sample: Sample


_DAYS = text("""
SELECT d.step, a.variant_id, d.day, d.content
  FROM unnest(CAST(:variants AS uuid[]), CAST(:since AS date[])) k (variant_id, since)
  JOIN promotion.measure_arms a USING (variant_id)
  JOIN promotion.samples_daily d ON d.arm = a.id AND d.day >= k.since
 ORDER BY d.day, d.step, a.variant_id
""")


def days_of(
    session: Session, since: Mapping[uuid.UUID, date], *, price_per_1000_tokens: Decimal | None = None
) -> tuple[DaySample, ...]:
    """The daily parts of each variant from a day on, in order; they add up to the steps."""
    values = {"variants": list(since), "since": list(since.values())}
    return tuple(
        DaySample(row.step, row.variant_id, row.day, priced(Sample.from_bytes(row.content), price_per_1000_tokens))
        for row in session.execute(_DAYS, values)
    )


_ARMS = text("""
SELECT a.variant_id FROM promotion.measure_arms a JOIN promotion.measure_experiments e ON e.id = a.experiment
 WHERE e.experiment_id = :id
""")


def daily(
    session: Session,
    experiment_id: uuid.UUID,
    *,
    since: date = date.min,
) -> tuple[DaySample, ...]:
    """The daily parts of all variants of an experiment from the day `since` on."""
    arms = session.scalars(_ARMS, {"id": experiment_id})
    return days_of(session, dict.fromkeys(arms, since))


# --- Whether the data can be trusted -----------------------------------------------------------------------------


@dataclass(frozen=True)
class Freshness:
    """How new the data is, and whether there is as much of it as there should be."""

    seen_until: datetime | None
    """Everything that was committed before has been taken; None before the first pass."""
    last_plan_at: datetime | None
    """Start of the last quarter of an hour, not later than now, in which a plan was generated."""
    plans_last_hour: int
    """Plans of the four quarters of an hour before `seen_until`'s own."""
    plans_same_hour_last_week: int | None
    """None where nothing was measured as long ago as that."""
    plans_an_hour: float | None
    """On average since the first plan, of the last week at most; None where there was no plan."""


_FRESHNESS = text("""
WITH seen AS (SELECT seen_at, date_bin('15 minutes', seen_at, '2000-01-01Z') AS slot FROM promotion.measure_cursor)
SELECT k.experiment_id, seen.seen_at AS seen_until,
       (SELECT max(slot) FROM promotion.measure_slots h
         WHERE h.experiment = e.id AND h.slot <= now() AND h.plans > 0) AS last_plan_at,
       (SELECT coalesce(CAST(sum(plans) AS bigint), 0) FROM promotion.measure_slots h WHERE h.experiment = e.id
           AND h.slot >= seen.slot - interval '1 hour' AND h.slot < seen.slot) AS plans_last_hour,
       CASE WHEN EXISTS (SELECT FROM promotion.measure_slots h
                          WHERE h.experiment = e.id AND h.slot < seen.slot - interval '168 hours')
            THEN (SELECT coalesce(CAST(sum(plans) AS bigint), 0) FROM promotion.measure_slots h
                   WHERE h.experiment = e.id AND h.slot >= seen.slot - interval '169 hours'
                     AND h.slot < seen.slot - interval '168 hours') END AS plans_same_hour_last_week,
       (SELECT CAST(sum(plans) / (extract(epoch FROM greatest(now() - min(slot), interval '1 hour')) / 3600) AS float8)
          FROM promotion.measure_slots h
         WHERE h.experiment = e.id AND h.slot >= seen.slot - interval '168 hours' AND h.slot <= now()) AS plans_an_hour
  FROM seen CROSS JOIN unnest(CAST(:ids AS uuid[])) k (experiment_id)
  LEFT JOIN promotion.measure_experiments e USING (experiment_id)
""")


def freshness(session: Session, experiment_id: uuid.UUID) -> Freshness:
    """How new the data of an experiment is."""
    return freshness_of(session, [experiment_id])[experiment_id]


def freshness_of(session: Session, experiments: Collection[uuid.UUID]) -> dict[uuid.UUID, Freshness]:
    """How new the data of some experiments is; reads at most a few hundred short rows of each."""
    return {row[0]: Freshness(*row[1:]) for row in session.execute(_FRESHNESS, {"ids": list(experiments)})}


@dataclass(frozen=True)
class Units:
    """New units by step and variant, and where that is known from."""

    source: Literal["assignments", "events"]
    by_step: Mapping[int, Mapping[uuid.UUID, int]]


_ASSIGNED = text("""
SELECT experiment_id, step, variant_id, units FROM promotion.measure_assigned WHERE experiment_id = ANY(:ids)
""")


def assigned_units(session: Session, there: Mapping[uuid.UUID, Sequence[StepSamples]]) -> dict[uuid.UUID, Units]:
    """How many units came to each variant in each of the steps that `samples` gave of some experiments: newly
    assigned, as far as `steps.count_assigned` counted last; where nobody keeps assignments, units whose first plan was
    in that step.

    A unit that returns keeps its variant whatever the shares are by then, so newcomers alone can be held against them.
    """
    counted: dict[uuid.UUID, list[Row[Any]]] = {}
    for row in session.execute(_ASSIGNED, {"ids": list(there)}):
        counted.setdefault(row.experiment_id, []).append(row)
    return {experiment: _units(counted.get(experiment, ()), found) for experiment, found in there.items()}


def _units(counted: Sequence[Row[Any]], there: Sequence[StepSamples]) -> Units:
    if not counted:
        return Units("events", {step.step_id: {v: s.units for v, s in step.variants.items()} for step in there})
    by_step: dict[int, dict[uuid.UUID, int]] = {step.step_id: {} for step in there}
    for row in counted:
        by_step.setdefault(row.step, {})[row.variant_id] = row.units
    return Units("assignments", {step.step_id: by_step[step.step_id] for step in there})


def flaws(session: Session, experiment_id: uuid.UUID) -> dict[str, dict[date, int]]:
    """What was wrong with events, by kind and day: late, repeated, malformed and so on, as core.rollup names them.

    `waiting` counts the plans of which only outcomes have come so far, under the day of the first.
    """
    rows = session.execute(
        text("""
            SELECT kind, day, events FROM promotion.measure_counts WHERE experiment_id = :id AND events <> 0
            UNION ALL
            SELECT 'waiting', CAST(p.at AT TIME ZONE 'UTC' AS date), count(*)
              FROM promotion.plans p JOIN promotion.measure_experiments e ON e.id = p.experiment
             WHERE e.experiment_id = :id AND p.arm IS NULL GROUP BY 2 ORDER BY 1, 2"""),
        {"id": experiment_id},
    )
    found: dict[str, dict[date, int]] = {}
    for row in rows:
        found.setdefault(row.kind, {})[row.day] = row.events
    return found


# --- Teams without events ----------------------------------------------------------------------------------------

AGGREGATES: Final[Mapping[str, tuple[str, ...]]] = {
    "acceptance_rate": ("acceptance_rate", "accepted", "plan_accepted"),
    "avg_edits": ("avg_edits", "edit_count", "edits", "edit_applied"),
    "validator_rate": ("validator_rate", "validator_intervention", "validator_interventions"),
    "p50_latency": ("p50_latency", "latency_p50", "latency_ms_p50"),
    "p99_latency": ("p99_latency", "latency_p99", "latency_ms_p99"),
    "cost_per_plan": ("cost_per_plan", "cost"),
}
"""Under which names in `exp.metric_aggregates` each metric is looked for, the first that is there; means per plan."""


# The hours of a day that is not closed yet; a day that has its daily row is taken from that.
_AGGREGATES = text("""
SELECT m.variant_id, m.metric_name, CAST(sum(m.count) AS bigint) AS many,
       CAST(sum(coalesce(m.sum, m.mean * m.count)) AS float8) AS total,
       max(m.bucket_start + CASE m.bucket_type WHEN 'daily' THEN interval '1 day' ELSE interval '1 hour' END) AS until,
       bool_or(m.bucket_type = 'hourly') AS is_hourly
  FROM exp.metric_aggregates m
 WHERE m.experiment_id = :id AND m.bucket_start >= :since AND m.count > 0
   AND (m.bucket_type = 'daily' OR m.bucket_type = 'hourly' AND NOT EXISTS (
        SELECT FROM exp.metric_aggregates d
         WHERE d.experiment_id = m.experiment_id AND d.variant_id = m.variant_id AND d.metric_name = m.metric_name
           AND d.bucket_type = 'daily' AND d.bucket_start >= :since
           AND d.bucket_start <= m.bucket_start AND d.bucket_start > m.bucket_start - interval '1 day'))
 GROUP BY m.variant_id, m.metric_name
""")


@dataclass(frozen=True)
class Aggregated:
    """What the platform's aggregates say: each variant's numbers, until when, and how long the shortest buckets are."""

    variants: Mapping[uuid.UUID, VariantMetrics]
    until: datetime
    bucket_hours: float


def from_aggregates(session: Session, experiment_id: uuid.UUID, *, since: datetime) -> Aggregated | None:
    """Each variant's numbers from the buckets that begin at or after `since`; None where there are none.

    A mean is the sum over the count of its buckets; a percentile of several buckets is their mean weighted by count,
    which is no percentile of the whole and only as good as the days are alike.
    """
    rows = session.execute(_AGGREGATES, {"id": experiment_id, "since": since}).all()
    if not rows:
        return None
    found: dict[uuid.UUID, dict[str, tuple[int, float | None]]] = {}
    for row in rows:
        found.setdefault(row.variant_id, {})[row.metric_name] = (row.many, row.total)
    return Aggregated(
        {variant: _metrics(by_name) for variant, by_name in found.items()},
        max(row.until for row in rows),
        1.0 if any(row.is_hourly for row in rows) else 24.0,
    )


def _metrics(rows: Mapping[str, tuple[int, float | None]]) -> VariantMetrics:
    chosen = {
        metric: next((rows[name] for name in names if name in rows), None) for metric, names in AGGREGATES.items()
    }
    plans = rows.get("plan_generated") or rows.get("latency_ms")
    size = plans[0] if plans else max((count for count, _ in rows.values()), default=0)
    return VariantMetrics(size, **{metric: _mean(value) for metric, value in chosen.items()})


def _mean(value: tuple[int, float | None] | None) -> float | None:
    return None if value is None or value[1] is None else value[1] / value[0]


# --- The six numbers ---------------------------------------------------------------------------------------------


def variant_metrics(
    session: Session, *, experiment_id: uuid.UUID, since: datetime, price_per_1000_tokens: Decimal | None = None
) -> dict[uuid.UUID, VariantMetrics]:
    """The metrics of each variant over the plans generated since the start of a step; each plan counts once.

    A repeated event changes nothing, an event that names no plan or another experiment is left out, control
    events never count. The edits of a plan are its `edit_applied` events, or the logged count where that is more.
    Where `cost` is not logged it is tokens times the price; None where neither is there. Up to the last pass over the
    events; a step that was in force at `since` counts from its start.
    """
    found = samples(session, experiment_id, price_per_1000_tokens=price_per_1000_tokens)
    wanted = [step for step in found if step.until is None or step.until > since]
    variants = {variant for step in wanted for variant in step.variants}
    return {
        variant: metrics.variant_metrics(
            Sample.total(step.variants[variant].sample for step in wanted if variant in step.variants)
        )
        for variant in variants
    }
