"""Taking over a platform that is there already: what it has, what the bot adds, what does not fit."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Engine, RowMapping, text
from sqlalchemy.orm import Session

from core import db, ledger, rights, stages
from core.errors import Refused
from core.registry import ModelVersion, Registry, production_alias
from core.rules import adoption
from core.rules.adoption import Experiment, Link, Misfit, Platform, Variant, Version
from core.rules.lifecycle import Stage
from core.variants import is_baseline_name, is_new_shape, linked_version_id, written_link

PATIENCE_MS = 10 * 60_000
"""A large platform may take its time; nothing is locked meanwhile."""
COUNTED = 10_000
"""So many events are counted at most."""


@dataclass(frozen=True)
class Found:
    """What is there: counts, of events an estimate where they are many, and the time they span."""

    experiments: Mapping[str, int]
    """By status."""
    variants: int
    new_shapes: int
    policies: int
    versions: int
    without_model: int
    """Policy versions of prompts or plain rules."""
    stages: Mapping[str, int] | None
    """Model versions by MLflow's tag; None where MLflow was not asked."""
    events: int
    are_events_counted: bool
    since: datetime | None
    until: datetime | None


@dataclass(frozen=True)
class Added:
    """What adopting adds, beyond what is there already."""

    has_schema: bool
    migrations: tuple[str, ...]
    """Those that are still to be run, each in a sentence."""
    stages: Mapping[str, Stage]
    """Policy versions whose stage is recorded, by how people call them."""


@dataclass(frozen=True)
class Survey:
    """What was found. Where something keeps the bot from starting at all, nothing else was looked at."""

    blockers: tuple[str, ...]
    found: Found | None = None
    added: Added | None = None
    misfits: Mapping[str, tuple[str, tuple[Misfit, ...]]] | None = None

    @property
    def fits(self) -> bool:
        """True where there is nothing to mend."""
        return not self.blockers and not self.misfits


def survey(engine: Engine, registry: Registry | None) -> Survey:
    """Reads everything once, in transactions that can write nothing.

    Raises:
        RegistryUnavailable: where MLflow does not answer.
    """
    with db.transaction(engine, patience_ms=PATIENCE_MS, only_reads=True) as session:
        blockers = _blockers(session)
        if blockers:
            return Survey(tuple(blockers))
        models = _models(session)
    registered = _registered(registry, models) if registry else None
    with db.transaction(engine, patience_ms=PATIENCE_MS, only_reads=True) as session:
        platform, new_shapes = _platform(session, registered)
        recorded = _recorded(session)
        labels = {version.key: version.label for version in platform.versions}
        reached = {labels[key]: stage for key, stage in adoption.reached(platform).items() if key not in recorded}
        return Survey(
            (),
            _found(session, platform, new_shapes),
            Added(_has_promotion(session), db.pending(session), reached),
            _obstacles(session) | adoption.misfits(platform),
        )


# --- What keeps the bot from starting -------------------------------------------------------------------------------

_COLUMNS = """
SELECT c.relname AS table, c.relkind AS kind, a.attname AS column, t.typname AS type, a.attnotnull AS is_needed,
       a.atthasdef OR a.attidentity <> '' OR a.attgenerated <> '' AS is_filled,
       format_type(a.atttypid, a.atttypmod) AS written
  FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace AND n.nspname = 'exp'
  JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped
  JOIN pg_type t ON t.oid = a.atttypid
 WHERE c.relname = ANY(:tables) AND c.relkind IN ('r', 'p', 'v', 'm', 'f')
"""
_LEADING = """
SELECT DISTINCT c.relname AS table, a.attname AS column, i.indisunique AND i.indnkeyatts = 1 AS is_unique
  FROM pg_index i JOIN pg_class c ON c.oid = i.indrelid
  JOIN pg_namespace n ON n.oid = c.relnamespace AND n.nspname = 'exp'
  JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum = i.indkey[0]
 WHERE i.indisvalid AND i.indpred IS NULL
"""
_DENIED = """
SELECT w.n FROM unnest(CAST(:tables AS text[]), CAST(:columns AS text[]), CAST(:privileges AS text[]))
                WITH ORDINALITY w (table_name, column_name, privilege, n)
  JOIN pg_class c ON c.relname = w.table_name
  JOIN pg_namespace s ON s.oid = c.relnamespace AND s.nspname = 'exp'
  LEFT JOIN pg_attribute a ON a.attrelid = c.oid AND a.attname = w.column_name
 WHERE NOT CASE WHEN a.attnum IS NULL THEN has_table_privilege(c.oid, w.privilege)
                ELSE has_column_privilege(c.oid, a.attnum, w.privilege) END
"""
_GUARDED = """
SELECT c.relname AS table FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace AND n.nspname = 'exp'
 WHERE c.relname = ANY(:tables) AND c.relkind IN ('r', 'p') AND row_security_active(c.oid) ORDER BY c.relname
"""
_SCHEMAS = """
SELECT to_regnamespace('exp') IS NOT NULL AS has_exp, to_regnamespace('promotion') IS NOT NULL AS has_promotion,
       has_database_privilege(current_database(), 'CREATE') AS may_create,
       has_database_privilege(current_database(), 'TEMPORARY') AS may_have_temporary,
       has_schema_privilege(to_regnamespace('promotion'), 'USAGE')  -- of a list of rights any one would do
       AND has_schema_privilege(to_regnamespace('promotion'), 'CREATE') AS may_fill_promotion,
       current_database() AS base, current_user AS role
"""


def _rows(session: Session, query: str, **values: Any) -> list[RowMapping]:
    return list(session.execute(text(query), values).mappings())


def _has_promotion(session: Session) -> bool:
    return bool(_rows(session, _SCHEMAS)[0]["has_promotion"])


def blockers(session: Session) -> list[str]:
    """What keeps the bot from starting: on the platform's schema, or where it creates everything by itself."""
    here = _rows(session, _SCHEMAS)[0]
    if here["has_exp"]:
        return _blockers(session)
    needed = {"CREATE": here["may_create"], "TEMPORARY": here["may_have_temporary"]}
    lacking = ", ".join(right for right, is_given in needed.items() if not is_given)
    grant = f"GRANT {lacking} ON DATABASE {rights.quoted(here['base'])} TO {rights.quoted(here['role'])};"
    return [f"The role {here['role']} lacks a right: {grant}"] if lacking else []


def _blockers(session: Session) -> list[str]:
    here = _rows(session, _SCHEMAS)[0]
    if not here["has_exp"]:
        return [
            f"The database {here['base']} has no schema exp, so there is nothing to adopt. "
            "On an empty database `promotion-bot run` creates everything by itself."
        ]
    columns = _rows(session, _COLUMNS, tables=list(rights.COLUMNS))
    faults = [*_shape_faults(columns), *_coarse(columns), *_key_faults(session)]
    return faults or _missing_rights(session, here)


def _shape_faults(columns: Sequence[RowMapping]) -> list[str]:
    """Tables and columns that are not there or hold something else."""
    there = {(row["table"], row["column"]): row["type"] for row in columns}
    kinds = {row["table"]: row["kind"] for row in columns}
    missing = [table for table in rights.COLUMNS if table not in kinds]
    found = [f"exp.{t} is missing. An empty one will do, with {rights.definition(t)}." for t in missing]
    found += [f"exp.{table} is a view or foreign table, not a table." for table in kinds if kinds[table] not in "rp"]
    for table, wanted in rights.COLUMNS.items():
        for column, types in wanted.items() if table in kinds else ():
            present = there.get((table, column))
            if present is None:
                found.append(f"exp.{table}.{column} is missing ({types[0]}).")
            elif present not in types:
                found.append(f"exp.{table}.{column} is {present}; the bot reads {types[0]}.")
    return found


def _coarse(columns: Sequence[RowMapping]) -> list[str]:
    """Shares that the table would round, so that they add up to something else than what was decided."""
    share = {row["written"] for row in columns if (row["table"], row["column"]) == ("variants", "allocation")}
    return [
        f"exp.variants.allocation is {written}, which does not hold every share from 0.0000 to 1.0000; "
        "the bot needs numeric with at least four decimals, as numeric(5,4), or without a limit."
        for written in share
        if not rights.holds_shares(written)
    ]


def _key_faults(session: Session) -> list[str]:
    """What the bot's own rows point to has to be unique."""
    unique = {(row["table"], row["column"]) for row in _rows(session, _LEADING) if row["is_unique"]}
    return [
        f"exp.{table}.id is no key: add a primary key, so that the bot's rows can point to it."
        for table in ("experiments", "policy_versions")
        if (table, "id") not in unique
    ]


def _missing_rights(session: Session, here: RowMapping) -> list[str]:
    role = here["role"]
    each = [(right, column) for right in rights.RIGHTS for column in right.columns or ("",)]
    denied = _rows(
        session,
        _DENIED,
        tables=[right.table for right, _ in each],
        columns=[column for _, column in each],
        privileges=[right.privilege for right, _ in each],
    )
    short = list(dict.fromkeys(rights.grant(each[row["n"] - 1][0], role) for row in denied))
    if not session.execute(text("SELECT has_schema_privilege('exp', 'USAGE')")).scalar_one():
        short.insert(0, f"GRANT USAGE ON SCHEMA exp TO {rights.quoted(role)};")
    if not here["has_promotion"] and not here["may_create"]:
        short.append(f"CREATE SCHEMA promotion AUTHORIZATION {rights.quoted(role)};")
    if here["has_promotion"] and not here["may_fill_promotion"]:
        short.append(f"ALTER SCHEMA promotion OWNER TO {rights.quoted(role)};")
    if not here["may_have_temporary"]:
        short.append(f"GRANT TEMPORARY ON DATABASE {rights.quoted(here['base'])} TO {rights.quoted(role)};")
    if not short:
        return []
    return [f"The role {role} lacks rights. Somebody who may runs this, or all of `adopt --grants {role}`:", *short]


# --- What gets in the way -------------------------------------------------------------------------------------------


def _obstacles(session: Session) -> dict[str, tuple[str, tuple[Misfit, ...]]]:
    """What of the tables themselves will get in the way of some work."""
    columns = _rows(session, _COLUMNS, tables=list(rights.GIVEN))
    leading = _rows(session, _LEADING)
    is_led = {(row["table"], row["column"]) for row in leading}
    is_unique = {(row["table"], row["column"]) for row in leading if row["is_unique"]}
    unfilled = [
        Misfit(
            f"exp.{row['table']}",
            f"{row['column']} must be filled and has no default, so {rights.VERBS_OF_ADDING[row['table']]}",
        )
        for row in columns
        if row["is_needed"] and row["column"] not in rights.GIVEN[row["table"]]
        # What the bot writes NULL to is empty whatever the default.
        if not row["is_filled"] or row["column"] in rights.LEFT_EMPTY.get(row["table"], ())
    ]
    nameless = [Misfit("exp.policies", "name is not unique")] if ("policies", "name") not in is_unique else []
    guarded = [
        Misfit(f"exp.{row['table']}", "row security holds for this role")
        for row in _rows(session, _GUARDED, tables=list(rights.COLUMNS))
    ]
    is_slow = ("events", "timestamp") not in is_led
    slow = [Misfit("exp.events", "timestamp has no index")] if is_slow else []
    kinds = (
        (
            "Columns that the bot does not fill",
            "The bot fills only what it knows. Give the column a default.",
            unfilled,
        ),
        ("Policies without a unique name", "Making a policy from chat fails. Add a unique index.", nameless),
        (
            "Tables with row security",
            "The bot would decide on the rows that it is shown. Give its role a policy for all rows, or BYPASSRLS.",
            guarded,
        ),
        ("Events without an index", "Every reading scans the whole table. CREATE INDEX CONCURRENTLY.", slow),
    )
    return {name: (remedy, tuple(found)) for name, remedy, found in kinds if found}


# --- What is there --------------------------------------------------------------------------------------------------

_VERSIONS = """
SELECT CAST(v.id AS text) AS key, coalesce(p.name, 'nameless') AS policy, v.version AS number, v.status,
       v.mlflow_model_name AS model, v.mlflow_model_version AS model_version
  FROM exp.policy_versions v LEFT JOIN exp.policies p ON p.id = v.policy_id ORDER BY p.name, v.version
"""
_EXPERIMENTS = """
WITH heard AS (
    SELECT DISTINCT x ->> 'experiment_id' AS id
      FROM exp.events e CROSS JOIN LATERAL jsonb_array_elements(
           CASE jsonb_typeof(e.experiments) WHEN 'array' THEN e.experiments ELSE '[]' END) x
     WHERE e.event_type = 'plan_generated' AND e.timestamp > now() - interval '7 days' AND :is_indexed
)
SELECT CAST(e.id AS text) AS key, e.name, coalesce(e.status, '') AS status,
       :is_indexed AND coalesce(e.start_at, e.created_at) < now() - interval '7 days'
       AND NOT EXISTS (SELECT FROM heard h WHERE h.id = CAST(e.id AS text))
       AND NOT EXISTS (SELECT FROM exp.metric_aggregates a WHERE a.experiment_id = e.id) AS is_mute
  FROM exp.experiments e ORDER BY e.name
"""
"""Without an index on the time of events nobody is called mute, since it would take minutes to know."""
_VARIANTS = """
SELECT CAST(id AS text) AS key, CAST(experiment_id AS text) AS experiment, name, allocation AS share, config
  FROM exp.variants ORDER BY created_at, id
"""


def _models(session: Session) -> list[str]:
    named = "SELECT DISTINCT mlflow_model_name FROM exp.policy_versions WHERE mlflow_model_name <> '' ORDER BY 1"
    return list(session.execute(text(named)).scalars())


Registered = Mapping[str, Sequence[ModelVersion]]
"""The versions that MLflow has, by model."""


def _registered(registry: Registry, models: Sequence[str]) -> Registered:
    """What MLflow says of some models. With a thousand of them it takes a minute, for which no transaction waits."""
    return {name: registry.versions(name) for name in models}


def _platform(session: Session, registered: Registered | None) -> tuple[Platform, int]:
    """Everything, by a query for each table, and how many variants have a config of the new shape."""
    experiments = _rows(session, _EXPERIMENTS, is_indexed=_has_time_index(session))
    versions = [Version(**row) for row in _rows(session, _VERSIONS)]
    known = {version.key for version in versions}
    rows = _rows(session, _VARIANTS)
    platform = Platform(
        [Experiment(**row) for row in experiments],
        [_variant(row, known) for row in rows],
        list(session.execute(text("SELECT name FROM exp.policies ORDER BY name")).scalars()),
        versions,
        None if registered is None else {name: {v.version: v.stage for v in registered[name]} for name in registered},
        {name: production_alias(found) for name, found in (registered or {}).items()},
    )
    return platform, sum(is_new_shape(row["config"]) for row in rows)


def _variant(row: RowMapping, known: set[str]) -> Variant:
    link, version = _link(row["config"], known)
    return Variant(
        row["key"], row["experiment"], row["name"], row["share"], version, link, is_baseline_name(row["name"])
    )


def _link(config: Any, known: set[str]) -> tuple[Link, str | None]:
    found = linked_version_id(config)
    if found is not None:
        return ("sound", str(found)) if str(found) in known else ("unknown", None)
    is_object = config is None or isinstance(config, Mapping)
    model = config.get("mlflow_model") if is_new_shape(config) else None
    is_readable = is_object and written_link(config) is None and (model is None or isinstance(model, Mapping))
    return ("missing" if is_readable else "unreadable"), None


def _found(session: Session, platform: Platform, new_shapes: int) -> Found:
    events, are_counted = _events(session)
    limit = "" if _has_time_index(session) else " LIMIT 0"  # without an index it takes as long
    span = f"SELECT min(at) AS since, max(at) AS until FROM (SELECT timestamp AS at FROM exp.events{limit}) e"
    tags = [stage or "" for found in (platform.tags or {}).values() for stage in found.values()]
    return Found(
        experiments=dict(Counter(experiment.status for experiment in platform.experiments)),
        variants=len(platform.variants),
        new_shapes=new_shapes,
        policies=len(platform.policies),
        versions=len(platform.versions),
        without_model=sum(not version.model and not version.model_version for version in platform.versions),
        stages=None if platform.tags is None else dict(Counter(tags)),
        events=events,
        are_events_counted=are_counted,
        **_rows(session, span)[0],
    )


def _events(session: Session) -> tuple[int, bool]:
    """How many there are, and whether they were counted: many are what the planner expects, since counting a hundred
    million rows would take minutes."""
    few = text("SELECT count(*) FROM (SELECT FROM exp.events LIMIT :most) e")
    counted = int(session.execute(few, {"most": COUNTED + 1}).scalar_one())
    if counted <= COUNTED:
        return counted, True
    plan = session.execute(text("EXPLAIN (FORMAT JSON) SELECT FROM exp.events")).scalar_one()
    return max(round(plan[0]["Plan"]["Plan Rows"]), counted), False


def _has_time_index(session: Session) -> bool:
    return any((row["table"], row["column"]) == ("events", "timestamp") for row in _rows(session, _LEADING))


def _recorded(session: Session) -> set[str]:
    """The policy versions that have a stage already."""
    if session.execute(text("SELECT to_regclass('promotion.stages') IS NULL")).scalar_one():
        return set()
    return set(session.execute(text("SELECT CAST(policy_version_id AS text) FROM promotion.stages")).scalars())


# --- Adopting -------------------------------------------------------------------------------------------------------

_RECORD = """
WITH added AS (
    INSERT INTO promotion.stages (policy_version_id, mlflow_model_name, mlflow_model_version, stage)
    SELECT v.id, v.mlflow_model_name, v.mlflow_model_version, w.stage
      FROM unnest(CAST(:keys AS uuid[]), CAST(:stages AS text[])) w (key, stage)
      JOIN exp.policy_versions v ON v.id = w.key
        ON CONFLICT DO NOTHING RETURNING policy_version_id, stage
)
INSERT INTO promotion.ledger (actor, action, subject, after, evidence)
SELECT :actor, :action, coalesce(p.name, 'nameless') || ' v' || v.version, jsonb_build_object('stage', a.stage),
       jsonb_build_object('policy_version_id', v.id, 'variant_id', CAST(:arms AS jsonb) -> CAST(v.id AS text))
  FROM added a JOIN exp.policy_versions v ON v.id = a.policy_version_id LEFT JOIN exp.policies p ON p.id = v.policy_id
 ORDER BY p.name, v.version
"""


def adopt(engine: Engine, registry: Registry) -> int:
    """Adds the schema `promotion` and records the stages that versions have reached; returns how many it recorded.

    Each migration, and the stages together, are a transaction: whatever was broken off is gone on with by the next
    call, and what people decided since stands. Shares need no record here: the bot opens the first steps itself when
    it starts, from who was assigned when.

    Raises:
        Refused: where something keeps the bot from starting.
    """
    with db.transaction(engine, patience_ms=PATIENCE_MS) as session:
        blockers = _blockers(session)
        if blockers:
            raise Refused("\n".join(blockers))
        models = _models(session)
    db.migrate(engine)
    registered = _registered(registry, models)
    with db.transaction(engine, patience_ms=PATIENCE_MS) as session:
        platform, _ = _platform(session, registered)
        reached = adoption.reached(platform)
        arms = {arm.version: arm.key for arm in platform.variants if arm.share and arm.version in reached}
        rows = {"keys": list(reached), "stages": [stage.value for stage in reached.values()], "arms": json.dumps(arms)}
        values = {**rows, "actor": ledger.BOT, "action": stages.TAKE_OVER}
        return int(getattr(session.execute(text(_RECORD), values), "rowcount"))  # noqa: B009 - untyped there
