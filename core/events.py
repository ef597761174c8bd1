"""The query that reads events of exp.events: one row for each experiment that an event names.

Whatever teams log is read without failing: numbers as strings, nulls, arrays where there should be objects. What
cannot be used is left out and its flaw noted.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, time
from typing import Any, Final

from core.rules.metrics import Collected
from core.rules.samples import EDGES_MS, NANO, WIDE_EDGES, Floats

FLAWS: Final = (
    "late",  # came more than an hour after it happened
    "too_late",  # more than the 7 days that the platform promises; it counts all the same
    "early",  # happened more than an hour after it came; it counts all the same
    "no_plan",  # names no plan, so it speaks of none
    "no_experiment",  # this and the next two: promotion.measure_named
    "malformed_experiments",  # no array, or an entry without readable ids
    "orphaned",  # names an experiment or a variant that does not exist
    "malformed_metric",  # the plan counts, the metric does not
    "malformed_time",  # infinite
    "expired",  # speaks of a plan whose state is gone
)
_BIT: Final = {name: 1 << n for n, name in enumerate(FLAWS)}
_UNIT_SEED: Final = 7_203_441
_KINDS: Final = "'plan_generated', 'plan_accepted', 'edit_applied', 'validator_intervention'"


def _array(edges: Floats) -> str:
    return "{" + ",".join(map(repr, edges.tolist())) + "}"


_EDGES: Final = _array(EDGES_MS)
_WIDE: Final = _array(WIDE_EDGES)
_LIMITS: Final = {"latency": "1e9", "cost": "1e6", "tokens": "1e9", "edit_count": "1e6"}
"""The largest value of each metric that is believed; a sum of these never overflows."""
_OWN_LIMITS: Final = {"mean": ("-1e6", "1e6"), "quantile": ("0", "1e9"), "amount": ("0", "1e6")}
"""The same of the numbers that a team's own metrics read: the smallest and the largest that are believed."""


def _number(field: str) -> str:
    """A metric may arrive as a string or as null; only what reads as a number counts."""
    is_number = rf"{field} #>> '{{}}' ~ '^\s*[+-]?[0-9]{{1,30}}(\.[0-9]{{0,40}})?([eE][+-]?[0-9]{{1,2}})?\s*$'"
    return f"""
CASE jsonb_typeof({field}) WHEN 'number' THEN CAST({field} AS numeric)
     WHEN 'string' THEN CASE WHEN {is_number}
                             THEN CAST({field} #>> '{{}}' AS numeric) END END"""


def _believed(name: str) -> str:
    return f"CASE WHEN {name} BETWEEN 0 AND {_LIMITS[name]} THEN {name} END"


_MALFORMED: Final = " OR ".join(  # what most events are not comes first
    f"({name}_json IS NOT NULL AND {_believed(name)} IS NULL AND jsonb_typeof({name}_json) <> 'null')"
    for name in _LIMITS
)


def _flaw(**when: str) -> str:
    return " | ".join(f"CASE WHEN {condition} THEN {_BIT[name]} ELSE 0 END" for name, condition in when.items())


_PLAN_FLAWS: Final = _flaw(
    malformed_metric=f"({_MALFORMED})",
    no_plan="plan_id IS NULL",
    malformed_time="at IS NULL",
    expired="at < :frozen",
)

# OFFSET 0 keeps an expression from being computed once for each place that uses it. What `experiments` names depends on
# that value alone, so PostgreSQL remembers the answers (Memoize).
_READ: Final = f"""
SELECT experiment, plan, is_born, CASE WHEN is_counted THEN true END AS is_counted, at, tie,
       CASE WHEN is_born THEN arm END AS arm, unit,
       CAST(width_bucket(CAST(round(latency, 9) AS float8), CAST(:edges AS float8[])) AS smallint) AS bin,
       CAST(round(cost * {NANO}) AS bigint) AS cost_nano,
       CASE WHEN cost IS NULL THEN CAST(round(tokens) AS bigint) END AS tokens,
       accepted, intervened, CAST(round(edit_count) AS integer) AS edit_count, edit, flaws,
       CASE WHEN flaws <> 0 THEN CAST(coalesce(at, created_at) AT TIME ZONE 'UTC' AS date) END AS day {{extra}}
  FROM (
    SELECT experiment, kind, is_born, accepted, intervened, at, tie, arm, unit, edit, created_at, is_counted {{source}},
           CASE WHEN plan_id IS NOT NULL AND experiment > 0 AND at >= :frozen AND (NOT is_born OR arm IS NOT NULL)
                THEN hashtextextended(plan_id, 0) END AS plan,
           {", ".join(f"{_believed(name)} AS {name}" for name in _LIMITS)},
           flaws | {_PLAN_FLAWS} AS flaws
      FROM (
        SELECT *, {_number("latency_json")} AS latency, {_number("cost_json")} AS cost,
               {_number("tokens_json")} AS tokens, {_number("edit_count_json")} AS edit_count,
               CASE WHEN is_born THEN uuid_hash_extended(id, 0) END AS tie,
               CASE WHEN is_born THEN hashtextextended(unit_id, {_UNIT_SEED}) END AS unit
          FROM (
            SELECT e.id, e.event_type AS kind, nullif(e.payload ->> 'plan_id', '') AS plan_id, w.experiment, w.arm,
                   e.event_type = 'plan_generated' AS is_born, e.event_type = 'plan_accepted' AS accepted,
                   e.event_type = 'validator_intervention' AS intervened, e.event_type IN ({_KINDS}) AS is_counted,
                   CASE WHEN isfinite(e.timestamp) THEN e.timestamp END AS at, e.created_at, e.unit_id,
                   CASE WHEN e.event_type = 'edit_applied' THEN {{same}} END AS edit,
                   CASE WHEN e.event_type = 'plan_generated' THEN e.metrics -> 'latency_ms' END AS latency_json,
                   CASE WHEN e.event_type = 'plan_generated' THEN e.metrics -> 'cost' END AS cost_json,
                   CASE WHEN e.event_type = 'plan_generated' THEN e.metrics -> 'token_count' END AS tokens_json,
                   {{edits}} AS edit_count_json,
                   w.flaws | CASE WHEN e.created_at BETWEEN e.timestamp AND e.timestamp + interval '1 hour'
                                       OR NOT isfinite(e.timestamp) THEN 0
                                  WHEN e.created_at > e.timestamp + interval '7 days' THEN {_BIT["too_late"]}
                                  WHEN e.created_at > e.timestamp THEN {_BIT["late"]}
                                  WHEN e.created_at < e.timestamp - interval '1 hour' THEN {_BIT["early"]}
                                  ELSE 0 END AS flaws {{raw}}
              FROM exp.events e CROSS JOIN LATERAL promotion.measure_named(e.experiments) w
             WHERE {{which}} AND e.unit_type <> 'control'
               AND (e.event_type IN ({_KINDS})
                    OR e.event_type IN ('plan_rejected', 'meal_swapped') AND e.metrics ? 'edit_count' {{kinds}})
            OFFSET 0) AS read OFFSET 0) AS numbers OFFSET 0) AS judged
"""
_EDITS: Final = "e.metrics -> 'edit_count'"
_SAME: Final = "jsonb_hash_extended(e.payload, hash_array_extended(ARRAY[e.timestamp], 0))"
"""Equal for two events of one type with the same payload at the same time: a repeat."""


@dataclass(frozen=True)
class Reading:
    """A query with its values."""

    query: str
    values: dict[str, Any]


def reading(
    which: str,
    values: dict[str, Any],
    frozen_before: date | None,
    collected: Sequence[Collected] = (),
    only: int | None = None,
) -> Reading:
    """What reads the events that the condition `which` chooses.

    With `only`, no more than what names the experiment of that number.
    """
    frozen = "-infinity" if frozen_before is None else datetime.combine(frozen_before, time(), UTC).isoformat()
    extra, parts = _extras(collected)
    query = _READ.replace(":frozen", "CAST(:frozen AS timestamptz)")
    parts |= {"which": which}
    for name, part in (parts | {"same": _SAME}).items():
        query = query.replace(f"{{{name}}}", part)
    if only is not None:
        query = f"SELECT * FROM ({query}) AS mine WHERE experiment = :only"
    return Reading(query, named(query, {**values, **extra, "edges": _EDGES, "frozen": frozen, "only": only}))


def named(query: str, values: dict[str, Any]) -> dict[str, Any]:
    """Those of the values that the query names."""
    return {name: value for name, value in values.items() if f":{name}" in query}


# --- A team's own metrics ----------------------------------------------------------------------------------------

# One entry of an object for each thing that a plan has to remember, so that objects of several events unite by `||`:
# `true`, or an array of which the smallest wins. [time, tie, value] is of the first event that has the value.
_OF_FIRST: Final = "jsonb_build_array(CAST(extract(epoch FROM at) * 1000000 AS bigint), same_tie, {amount})"
_BIN: Final = "width_bucket(CAST(round({value}, 9) AS float8), CAST(:own_edges AS float8[]))"
_NANOS: Final = f"CAST(round({{value}} * {NANO}) AS bigint)"
_ENTRIES: Final = {
    "share": "'share:' || {name}, CASE WHEN kind = {event} THEN true END",
    "count": "'count:' || {name} || ':' || same, CASE WHEN kind = {event} THEN true END",
    "mean": f"'mean:' || {{name}}, CASE WHEN kind = {{event}} AND {{is_believed}}"
    f" THEN {_OF_FIRST.format(amount=_NANOS)} END",
    "quantile": f"'quantile:' || {{name}}, CASE WHEN kind = {{event}} AND {{is_believed}}"
    f" THEN {_OF_FIRST.format(amount=_BIN)} END",
    "event": "'{end}:' || {name} || ':' || same, CASE WHEN kind = {event} THEN jsonb_build_array(1) END",
    "amount": f"'{{end}}:' || {{name}} || ':' || same, CASE WHEN kind = {{event}} AND {{is_believed}}"
    f" THEN jsonb_build_array({_NANOS}) END",
}
_MOST_ENTRIES: Final = 50
_SEEN: Final = "'seen:' || {name}, CASE WHEN kind = 'plan_generated' THEN true END"


@dataclass(frozen=True)
class _Entry:
    """What one metric remembers of one type of event; of a ratio there are two, by their `end`."""

    name: str
    kind: str
    event: str
    field: str | None
    end: str = ""


def _entries(c: Collected) -> list[_Entry]:
    if c.over is None:
        return [_Entry(c.name, c.kind, c.event, c.field)]
    ends = ("sum", c.event, c.field), ("over", *c.over)
    return [_Entry(c.name, "event" if field is None else "amount", event, field, end) for end, event, field in ends]


def _object(entries: Sequence[str]) -> str:
    """One object of all entries: PostgreSQL gives no function more than 100 arguments."""
    parts = (entries[n : n + _MOST_ENTRIES] for n in range(0, len(entries), _MOST_ENTRIES))
    return " || ".join(f"jsonb_build_object({', '.join(part)})" for part in parts)


def _extras(collected: Sequence[Collected]) -> tuple[dict[str, Any], dict[str, str]]:
    """Values and parts of the query for metrics beyond the six; all empty where there are none."""
    if not collected:
        return {}, dict.fromkeys(("extra", "source", "raw", "kinds"), "") | {"edits": _EDITS}
    values: dict[str, Any] = {"own_kinds": sorted({event for c in collected for event in c.events})}
    values |= {"own_edges": _WIDE} if any(c.kind == "quantile" for c in collected) else {}
    entries, raw, source = (
        [],
        [f"coalesce({_SAME}, 0) AS same", "uuid_hash_extended(e.id, 0) AS same_tie"],
        ["same", "same_tie"],
    )
    for n, c in enumerate(each for one in collected for each in _entries(one)):
        values |= {f"own_name_{n}": c.name, f"own_event_{n}": c.event}
        bound = {"name": f"CAST(:own_name_{n} AS text)", "event": f"CAST(:own_event_{n} AS text)"}
        if c.field is not None:
            values[f"own_field_{n}"] = c.field
            raw.append(f"e.metrics -> CAST(:own_field_{n} AS text) AS own_json_{n}")
            source.append(f"{_number(f'own_json_{n}')} AS own_{n}")
            bound["is_believed"] = f"own_{n} BETWEEN {' AND '.join(_OWN_LIMITS[c.kind])}"
        entries.append(_ENTRIES[c.kind].format(**bound, value=f"own_{n}", end=c.end))
        if c.kind in ("share", "count") or c.end == "sum":
            entries.append(_SEEN.format(**bound))
    return values, {
        "extra": f", nullif(jsonb_strip_nulls({_object(entries)}), '{{}}') AS extra",
        "source": f", {', '.join(source)}",
        "raw": f", {', '.join(raw)}",
        "edits": f"CASE WHEN e.event_type IN ({_KINDS}, 'plan_rejected', 'meal_swapped') THEN {_EDITS} END",
        "kinds": "OR e.event_type = ANY(CAST(:own_kinds AS text[]))",
    }
