"""What the traffic of a period says about each variant: exp.events -> VariantMetrics."""

from __future__ import annotations

import uuid
from datetime import datetime
from decimal import Decimal

from sqlalchemy import text
from sqlalchemy.orm import Session

from core.rules.metrics import VariantMetrics

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


def variant_metrics(
    session: Session, *, experiment_id: uuid.UUID, since: datetime, price_per_1000_tokens: Decimal | None = None
) -> dict[uuid.UUID, VariantMetrics]:
    """The metrics of each variant over the plans generated at or after `since`; each plan counts once.

    A repeated event changes nothing, an event that names no plan or another experiment is left out, control
    events never count. The edits of a plan are its `edit_applied` events, or the logged count where that is more.
    Where `cost` is not logged it is tokens times the price; None where neither is there.
    """
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
