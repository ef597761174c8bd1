"""What the bot needs of the platform's schema `exp`: columns with their types, rights on them, nothing more."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from core.errors import Refused

TEXT = ("varchar", "text", "bpchar")
WHOLE = ("int2", "int4", "int8")
NUMBER = ("numeric", "float4", "float8", *WHOLE)
UUID, SHARE, JSON, TIME, FLAG = ("uuid",), ("numeric",), ("jsonb",), ("timestamptz",), ("bool",)

COLUMNS: Mapping[str, Mapping[str, tuple[str, ...]]] = {
    "policies": {"id": UUID, "name": TEXT, "description": TEXT, "created_at": TIME},
    "policy_versions": {
        "id": UUID,
        "policy_id": UUID,
        "version": WHOLE,
        "mlflow_model_name": TEXT,
        "mlflow_model_version": TEXT,
        "config_defaults": JSON,
        "status": TEXT,
        "created_at": TIME,
    },
    "experiments": {
        "id": UUID,
        "name": TEXT,
        "description": TEXT,
        "status": TEXT,
        "unit_type": TEXT,
        "start_at": TIME,
        "end_at": TIME,
        "created_at": TIME,
    },
    "variants": {
        "id": UUID,
        "experiment_id": UUID,
        "name": TEXT,
        "description": TEXT,
        "allocation": SHARE,
        "config": JSON,
        "created_at": TIME,
    },
    "assignments": {"experiment_id": UUID, "variant_id": UUID, "assigned_at": TIME},
    "events": {
        "id": UUID,
        "event_type": TEXT,
        "unit_type": TEXT,
        "unit_id": TEXT,
        "experiments": JSON,
        "context": JSON,
        "metrics": JSON,
        "payload": JSON,
        "timestamp": TIME,
        "created_at": TIME,
    },
    "metric_aggregates": {
        "experiment_id": UUID,
        "variant_id": UUID,
        "metric_name": TEXT,
        "bucket_type": TEXT,
        "bucket_start": TIME,
        "count": NUMBER,
        "sum": NUMBER,
        "mean": NUMBER,
        "min": NUMBER,
    },
    "offline_replay_results": {
        "id": UUID,
        "policy_version_id": UUID,
        "dataset_version": TEXT,
        "mlflow_run_id": TEXT,
        "plan_alignment_score": SHARE,
        "constraint_respect_score": SHARE,
        "edit_distance_score": SHARE,
        "diversity_score": SHARE,
        "leftovers_score": SHARE,
        "baseline_version_id": UUID,
        "is_better_than_baseline": FLAG,
        "status": TEXT,
        "error_message": TEXT,
        "created_at": TIME,
    },
}
"""Each column that is read or written, with the types it may have, as PostgreSQL calls them within."""

GIVEN: Mapping[str, tuple[str, ...]] = {
    "policies": ("name",),
    "policy_versions": (
        "policy_id", "version", "mlflow_model_name", "mlflow_model_version", "config_defaults", "status",
    ),
    "variants": ("experiment_id", "name", "allocation", "config"),
    "events": ("event_type", "unit_type", "unit_id", "experiments", "payload", "timestamp"),
}  # fmt: skip
"""What the bot fills in of each row that it adds."""
LEFT_EMPTY: Mapping[str, tuple[str, ...]] = {
    "policies": ("description",),
    "variants": ("description",),
    "events": ("context", "metrics"),
}
"""What it writes NULL to."""


@dataclass(frozen=True)
class Right:
    """One privilege on a table of `exp`, or on some of its columns only, and what it is for."""

    privilege: str
    table: str
    columns: tuple[str, ...]
    purpose: str


_PURPOSE_OF_ADDING = {
    "policies": "policy … new",
    "policy_versions": "policy",
    "variants": "start",
    "events": "the events model_promoted and model_rollback",
}
VERBS_OF_ADDING: Mapping[str, str] = {
    "policies": "`policy … new` fails",
    "policy_versions": "`policy` fails",
    "variants": "`start` fails",
    "events": "`promote` and `rollback` fail",
}
"""What people cannot do where a row of a table cannot be added."""
RIGHTS: tuple[Right, ...] = (
    *(Right("SELECT", table, (), "to read") for table in COLUMNS),
    *(
        Right("INSERT", table, (*GIVEN[table], *LEFT_EMPTY.get(table, ())), _PURPOSE_OF_ADDING[table])
        for table in GIVEN
    ),
    Right("UPDATE", "variants", ("name", "allocation"), "shares; archived names"),
    Right("UPDATE", "experiments", ("status",), "pause, resume; to lock an experiment while it is changed"),
    Right("UPDATE", "policy_versions", ("status",), "only to revert that others put one out of use"),
    Right("UPDATE", "policies", ("description",), "only to lock a policy while its next version gets a number"),
    Right("REFERENCES", "experiments", ("id",), "steps and requests go where their experiment is deleted"),
    Right("REFERENCES", "policy_versions", ("id",), "so do stages with their policy version"),
)
"""Without one of these the bot cannot do its work."""
TO_DELETE: tuple[Right, ...] = tuple(
    Right("DELETE", table, (), "retire … delete") for table in ("variants", "assignments", "metric_aggregates")
)
"""Only for `retire … delete`."""


def holds_shares(written: str) -> bool:
    """True where a type, as PostgreSQL writes it, keeps 1 and four decimals; of what is no numeric others tell."""
    limits = re.fullmatch(r"numeric\((\d+),(-?\d+)\)", written)
    if limits is None:
        return True
    digits, decimals = int(limits[1]), int(limits[2])
    return decimals >= 4 and digits > decimals


def definition(table: str) -> str:
    """The columns of a table with their types, as people write them."""
    return ", ".join(f"{column} {types[0]}" for column, types in COLUMNS[table].items())


def quoted(name: str) -> str:
    """A name as SQL has it."""
    return '"' + name.replace('"', '""') + '"'


def grant(right: Right, role: str) -> str:
    """The statement that gives a right."""
    columns = f" ({', '.join(right.columns)})" if right.columns else ""
    return f"GRANT {right.privilege}{columns} ON exp.{right.table} TO {quoted(role)};"


def script(role: str, database: str) -> str:
    """What a database owner runs so that a role without any other right can be the bot's.

    Raises:
        Refused: where the name is none.
    """
    if not role.strip():
        raise Refused("Name the role: promotion-bot adopt --grants ROLE.")
    lines = [(grant(right, role), right.purpose) for right in RIGHTS if right.privilege != "SELECT"]
    width = max(len(statement) for statement, _ in lines)
    tables = ", ".join(f"exp.{table}" for table in COLUMNS)
    return "\n".join(
        [
            "-- Run this as a superuser, or as the owner of the database and of the schema exp. The role has to exist:",
            f"--   CREATE ROLE {quoted(role)} LOGIN PASSWORD '…';",
            f"GRANT CONNECT, TEMPORARY ON DATABASE {quoted(database)} TO {quoted(role)};",
            f"CREATE SCHEMA IF NOT EXISTS promotion AUTHORIZATION {quoted(role)};",
            f"GRANT USAGE ON SCHEMA exp TO {quoted(role)};",
            f"GRANT SELECT ON {tables} TO {quoted(role)};",
            *(f"{statement:<{width}}  -- {purpose}" for statement, purpose in lines),
            "-- Only where people may `retire … delete`:",
            *(grant(right, role) for right in TO_DELETE),
        ]
    )
