"""What the traffic says about each variant: reads the samples that core.rollup keeps, in time that does not depend on
how many events there ever were. Where no pass over the events is through yet, `variant_metrics` reads them itself."""

from __future__ import annotations

import uuid
from collections.abc import Mapping
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

# A metric may arrive as a string or as null; only what reads as a number counts. A number as long as this fits
# float8 whatever its exponent; one longer (1e400 is a legal JSON number) would fail the query for the whole experiment.
_NUMBER = r"""
CASE WHEN {field} #>> '{{}}' ~ '^\s*[+-]?[0-9]{{1,30}}(\.[0-9]{{0,40}})?([eE][+-]?[0-9]{{1,2}})?\s*$'
     THEN ({field} #>> '{{}}')::float8 END"""

# One pass, grouped by plan: the planner cannot estimate `@>`, so it would join outcomes to plans in nested loops.
_PLANS = text(
    f"""
WITH mine AS (
    SELECT id, event_type, timestamp, payload ->> 'plan_id' AS plan_id,
           CASE WHEN event_type = 'plan_generated' THEN metrics END AS generated,
           CASE WHEN event_type = 'edit_applied' THEN md5(payload::text) END AS edit,
           {_NUMBER.format(field="metrics -> 'edit_count'")} AS edit_count,
           (SELECT x ->> 'variant_id' FROM jsonb_array_elements(experiments) x
             WHERE x ->> 'experiment_id' = CAST(:experiment_id AS text) LIMIT 1) AS variant_id
      FROM exp.events
     WHERE experiments @> jsonb_build_array(jsonb_build_object('experiment_id', CAST(:experiment_id AS text)))
       AND timestamp >= :since
       AND event_type IN ('plan_generated', 'plan_accepted', 'edit_applied', 'validator_intervention')
       AND payload ->> 'plan_id' IS NOT NULL
), plans AS (
    SELECT (array_agg(variant_id ORDER BY timestamp, id) FILTER (WHERE event_type = 'plan_generated'))[1] AS variant_id,
           (array_agg(generated ORDER BY timestamp, id) FILTER (WHERE event_type = 'plan_generated'))[1] AS generated,
           bool_or(event_type = 'plan_accepted')::int AS accepted,
           bool_or(event_type = 'validator_intervention')::int AS intervened,
           count(DISTINCT (timestamp, edit)) FILTER (WHERE event_type = 'edit_applied') AS edits,
           max(edit_count) AS edit_count
      FROM mine GROUP BY plan_id HAVING bool_or(event_type = 'plan_generated')
), numbers AS (
    SELECT variant_id, accepted, intervened, greatest(edits, edit_count) AS edits,
           {_NUMBER.format(field="generated -> 'latency_ms'")} AS latency_ms,
           {_NUMBER.format(field="generated -> 'cost'")} AS cost,
           {_NUMBER.format(field="generated -> 'token_count'")} AS tokens
      FROM plans
)
SELECT variant_id, count(*) AS plans,
       avg(accepted)::float8 AS acceptance_rate,
       avg(edits)::float8 AS avg_edits,
       avg(intervened)::float8 AS validator_rate,
       percentile_cont(0.5) WITHIN GROUP (ORDER BY latency_ms) AS p50_latency,
       percentile_cont(0.99) WITHIN GROUP (ORDER BY latency_ms) AS p99_latency,
       avg(coalesce(cost, tokens / 1000 * CAST(:price AS float8))) AS cost_per_plan
  FROM numbers GROUP BY variant_id
"""
)

NOTHING = VariantMetrics(sample_size=0)


# --- Samples -----------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Served:
    """What one variant did in one step: its sums, and how many distinct units it served."""

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
    """`bot`, `noticed` or `reconstructed`; `none` for step 0."""
    variants: Mapping[uuid.UUID, Served]


_STEPS = text("""
SELECT id, started_at, lead(started_at) OVER (ORDER BY started_at, id) AS until, shares, source
  FROM promotion.allocation_steps WHERE experiment_id = :id ORDER BY started_at, id
""")
_TOTALS = text("""
SELECT s.step, a.variant_id, s.units, s.content
  FROM promotion.measure_experiments e JOIN promotion.measure_arms a ON a.experiment = e.id
  JOIN promotion.samples s ON s.arm = a.id
 WHERE e.experiment_id = :id AND (CAST(:steps AS bigint[]) IS NULL OR s.step = ANY(CAST(:steps AS bigint[])))
""")


def steps(session: Session, experiment_id: uuid.UUID) -> list[Row[Any]]:
    """The allocation steps of an experiment in order: id, started_at, until, shares, source."""
    return list(session.execute(_STEPS, {"id": experiment_id}))


def samples(
    session: Session,
    experiment_id: uuid.UUID,
    *,
    since_step: int | None = None,
    price_per_1000_tokens: Decimal | None = None,
) -> tuple[StepSamples, ...]:
    """The samples of an experiment, step by step in order, from `since_step` on where one is given.

    A step in which nobody served anything is there too, without variants.
    """
    there = steps(session, experiment_id)
    if since_step is not None:
        there = there[next((n for n, step in enumerate(there) if step.id == since_step), len(there)) :]
    wanted = None if since_step is None else [step.id for step in there]
    found: dict[int, dict[uuid.UUID, Served]] = {}
    for row in session.execute(_TOTALS, {"id": experiment_id, "steps": wanted}):
        sample = priced(Sample.from_bytes(row.content), price_per_1000_tokens)
        if sample.plans:
            found.setdefault(row.step, {})[row.variant_id] = Served(sample, row.units)
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
    if len(rest) == len(sample.sums) or price_per_1000_tokens is None:
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
  FROM promotion.measure_experiments e JOIN promotion.measure_arms a ON a.experiment = e.id
  JOIN promotion.samples_daily d ON d.arm = a.id
 WHERE e.experiment_id = :id AND d.day >= :since AND d.day < :until
   AND (CAST(:variant AS uuid) IS NULL OR a.variant_id = CAST(:variant AS uuid))
 ORDER BY d.day, d.step, a.variant_id
""")


def daily(
    session: Session,
    experiment_id: uuid.UUID,
    *,
    since: date = date.min,
    until: date = date.max,
    variant_id: uuid.UUID | None = None,
    price_per_1000_tokens: Decimal | None = None,
) -> tuple[DaySample, ...]:
    """The daily parts from the day `since` up to, not with, the day `until`, in order; they add up to the steps."""
    values = {"id": experiment_id, "since": since, "until": until, "variant": variant_id}
    return tuple(
        DaySample(row.step, row.variant_id, row.day, priced(Sample.from_bytes(row.content), price_per_1000_tokens))
        for row in session.execute(_DAYS, values)
    )


def past_days(
    session: Session,
    experiment_id: uuid.UUID,
    variant_id: uuid.UUID,
    *,
    since: date,
    until: date,
    price_per_1000_tokens: Decimal | None = None,
) -> dict[date, VariantMetrics]:
    """A variant's six numbers on each day of a period, whatever the steps; a day without plans is absent."""
    found: dict[date, list[Sample]] = {}
    for part in daily(
        session,
        experiment_id,
        since=since,
        until=until,
        variant_id=variant_id,
        price_per_1000_tokens=price_per_1000_tokens,
    ):
        found.setdefault(part.day, []).append(part.sample)
    totals = {day: Sample.total(parts) for day, parts in found.items()}
    return {day: metrics.variant_metrics(total) for day, total in totals.items() if total.plans}


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
    plans_same_hour_last_week: int


_FRESHNESS = text("""
WITH seen AS (SELECT seen_at, date_bin('15 minutes', seen_at, '2000-01-01Z') AS slot FROM promotion.measure_cursor)
SELECT seen.seen_at AS seen_until,
       (SELECT max(slot) FROM promotion.measure_slots h
         WHERE h.experiment = e.id AND h.slot <= now() AND h.plans > 0) AS last_plan_at,
       (SELECT coalesce(CAST(sum(plans) AS bigint), 0) FROM promotion.measure_slots h WHERE h.experiment = e.id
           AND h.slot >= seen.slot - interval '1 hour' AND h.slot < seen.slot) AS plans_last_hour,
       (SELECT coalesce(CAST(sum(plans) AS bigint), 0) FROM promotion.measure_slots h WHERE h.experiment = e.id
           AND h.slot >= seen.slot - interval '169 hours' AND h.slot < seen.slot - interval '168 hours')
           AS plans_same_hour_last_week
  FROM seen LEFT JOIN promotion.measure_experiments e ON e.experiment_id = :id
""")


def freshness(session: Session, experiment_id: uuid.UUID) -> Freshness:
    """How new the data of an experiment is; reads at most a few hundred short rows."""
    return Freshness(**session.execute(_FRESHNESS, {"id": experiment_id}).mappings().one())


@dataclass(frozen=True)
class Units:
    """Distinct units by step and variant, and where that is known from."""

    source: Literal["assignments", "events"]
    by_step: Mapping[int, Mapping[uuid.UUID, int]]


_ASSIGNED = text("""
SELECT s.id AS step, a.variant_id, count(*) AS units
  FROM exp.assignments a JOIN (
       SELECT id, started_at, lead(started_at, 1, 'infinity') OVER (ORDER BY started_at, id) AS until
         FROM promotion.allocation_steps WHERE experiment_id = :id) s
    ON a.assigned_at >= s.started_at AND a.assigned_at < s.until
 WHERE a.experiment_id = :id AND s.id = ANY(CAST(:steps AS bigint[])) GROUP BY s.id, a.variant_id
""")


def assigned_units(session: Session, experiment_id: uuid.UUID, *, since_step: int | None = None) -> Units:
    """How many units were newly assigned to each variant in each step; where nobody keeps assignments, how many
    distinct units each variant served (units that return count again in the next step)."""
    has_any = session.execute(
        text("SELECT EXISTS (SELECT FROM exp.assignments WHERE experiment_id = :id)"), {"id": experiment_id}
    ).scalar_one()
    if not has_any:
        found = samples(session, experiment_id, since_step=since_step)
        return Units("events", {step.step_id: {v: s.units for v, s in step.variants.items()} for step in found})
    wanted = [step.id for step in steps(session, experiment_id)]
    if since_step is not None:
        wanted = wanted[wanted.index(since_step) :] if since_step in wanted else []
    by_step: dict[int, dict[uuid.UUID, int]] = {step: {} for step in wanted}
    for row in session.execute(_ASSIGNED, {"id": experiment_id, "steps": wanted}):
        by_step[row.step][row.variant_id] = row.units
    return Units("assignments", by_step)


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


@dataclass(frozen=True)
class Aggregated:
    """Point estimates from aggregates: they know nothing of units, so there is no interval to be had."""

    metrics: VariantMetrics
    interval: Literal["no interval"] = "no interval"


# The hours of a day that is not closed yet; a day that has its daily row is taken from that.
_AGGREGATES = text("""
SELECT m.variant_id, m.metric_name, CAST(sum(m.count) AS bigint) AS many,
       CAST(sum(coalesce(m.sum, m.mean * m.count)) AS float8) AS total
  FROM exp.metric_aggregates m
 WHERE m.experiment_id = :id AND m.bucket_start >= :since AND m.count > 0
   AND (m.bucket_type = 'daily' OR m.bucket_type = 'hourly' AND NOT EXISTS (
        SELECT FROM exp.metric_aggregates d
         WHERE d.experiment_id = m.experiment_id AND d.variant_id = m.variant_id AND d.metric_name = m.metric_name
           AND d.bucket_type = 'daily' AND d.bucket_start >= :since
           AND d.bucket_start <= m.bucket_start AND d.bucket_start > m.bucket_start - interval '1 day'))
 GROUP BY m.variant_id, m.metric_name
""")


def from_aggregates(session: Session, experiment_id: uuid.UUID, *, since: datetime) -> dict[uuid.UUID, Aggregated]:
    """Each variant's numbers from the platform's aggregates whose bucket begins at or after `since`.

    A mean is the sum over the count of its buckets; a percentile of several buckets is their mean weighted by count,
    which is no percentile of the whole and only as good as the days are alike.
    """
    found: dict[uuid.UUID, dict[str, tuple[int, float | None]]] = {}
    for row in session.execute(_AGGREGATES, {"id": experiment_id, "since": since}):
        found.setdefault(row.variant_id, {})[row.metric_name] = (row.many, row.total)
    return {variant: Aggregated(_metrics(rows)) for variant, rows in found.items()}


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
    """The metrics of each variant over the plans generated at or after `since`; each plan counts once.

    A repeated event changes nothing, an event that names no plan or another experiment is left out, control
    events never count. The edits of a plan are its `edit_applied` events, or the logged count where that is more.
    Where `cost` is not logged it is tokens times the price; None where neither is there. From samples, up to the last
    pass over the events, where `since` is the start of a step; else from the events themselves.
    """
    there = steps(session, experiment_id)
    seen = session.execute(text("SELECT seen_at FROM promotion.measure_cursor")).scalar_one()
    is_start = any(step.started_at == since for step in there) or all(step.started_at > since for step in there)
    if seen is None or not is_start:
        return _from_events(session, experiment_id, since, price_per_1000_tokens)
    found = samples(session, experiment_id, price_per_1000_tokens=price_per_1000_tokens)
    is_from_start = not there or there[0].started_at > since
    wanted = [s for s in found if (is_from_start if s.started_at is None else s.started_at >= since)]
    variants = {variant for step in wanted for variant in step.variants}
    return {
        variant: metrics.variant_metrics(
            Sample.total(step.variants[variant].sample for step in wanted if variant in step.variants)
        )
        for variant in variants
    }


def _from_events(
    session: Session, experiment_id: uuid.UUID, since: datetime, price_per_1000_tokens: Decimal | None
) -> dict[uuid.UUID, VariantMetrics]:
    rows = session.execute(
        _PLANS,
        {
            "experiment_id": str(experiment_id),
            "since": since,
            "price": None if price_per_1000_tokens is None else float(price_per_1000_tokens),
        },
    ).mappings()
    return {
        uuid.UUID(row["variant_id"]): VariantMetrics(
            sample_size=row["plans"], **{key: row[key] for key in row if key not in ("variant_id", "plans")}
        )
        for row in rows
        if _is_uuid(row["variant_id"])
    }


def _is_uuid(value: str | None) -> bool:
    try:
        return bool(value and uuid.UUID(value))
    except ValueError:
        return False
