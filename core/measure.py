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

_PLANS = text(
    f"""
WITH mine AS MATERIALIZED (
    SELECT event_type, timestamp, experiments, metrics, payload, payload ->> 'plan_id' AS plan_id
      FROM exp.events
     WHERE experiments @> jsonb_build_array(jsonb_build_object('experiment_id', CAST(:experiment_id AS text)))
       AND timestamp >= :since
       AND event_type IN ('plan_generated', 'plan_accepted', 'edit_applied', 'validator_intervention')
       AND payload ->> 'plan_id' IS NOT NULL
), plans AS (
    SELECT DISTINCT ON (m.plan_id) m.plan_id, x.value ->> 'variant_id' AS variant_id,
           {_NUMBER.format(field="m.metrics -> 'latency_ms'")} AS latency_ms,
           {_NUMBER.format(field="m.metrics -> 'cost'")} AS cost,
           {_NUMBER.format(field="m.metrics -> 'token_count'")} AS tokens,
           {_NUMBER.format(field="m.metrics -> 'edit_count'")} AS edit_count
      FROM mine m CROSS JOIN LATERAL jsonb_array_elements(m.experiments) x
     WHERE m.event_type = 'plan_generated' AND x.value ->> 'experiment_id' = CAST(:experiment_id AS text)
     ORDER BY m.plan_id, m.timestamp
), outcomes AS (
    SELECT plan_id, bool_or(event_type = 'plan_accepted') AS accepted,
           count(DISTINCT (timestamp, payload)) FILTER (WHERE event_type = 'edit_applied') AS edits,
           max({_NUMBER.format(field="metrics -> 'edit_count'")}) AS edit_count,
           bool_or(event_type = 'validator_intervention') AS intervened
      FROM mine WHERE event_type <> 'plan_generated' GROUP BY plan_id
)
SELECT p.variant_id, count(*) AS plans,
       avg(coalesce(o.accepted, false)::int)::float8 AS acceptance_rate,
       avg(coalesce(greatest(o.edit_count, p.edit_count, o.edits), 0))::float8 AS avg_edits,
       avg(coalesce(o.intervened, false)::int)::float8 AS validator_rate,
       percentile_cont(0.5) WITHIN GROUP (ORDER BY p.latency_ms) AS p50_latency,
       percentile_cont(0.99) WITHIN GROUP (ORDER BY p.latency_ms) AS p99_latency,
       avg(coalesce(p.cost, p.tokens / 1000 * CAST(:price AS float8))) AS cost_per_plan
  FROM plans p LEFT JOIN outcomes o USING (plan_id)
 GROUP BY p.variant_id
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
