"""The event ingestion service: what becomes of one plan, as rows of exp.events and exp.assignments."""

from __future__ import annotations

import json
import math
import uuid
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, NamedTuple, Protocol, cast

import numpy as np
from psycopg import Connection, sql
from sqlalchemy.orm import Session

from bot.demo import planner

APP_VERSION = "5.3.1"
_REJECTED_OF_NOT_ACCEPTED = 0.75
_SWAPPED = 0.04
WORSE_ACCEPTANCE, WORSE_INTERVENTION, WORSE_LATENCY = 0.7, 3.0, 2.0
"""What a regression makes of these, as factors."""

NewId = Callable[[], str]
"""Gives a new id as text in the usual form."""


class Planned(Protocol):
    """What a planner answers, whichever module its class was loaded into."""

    items: list[str]
    latency_ms: float
    latency_spread: float
    token_count: int
    cost: float
    acceptance: float
    edits: float
    intervention: float


def checked(answer: Any) -> Planned:
    """A model's answer as a plan.

    Raises:
        TypeError: where a quantity is missing or no number, or a probability is out of range.
    """
    quantities = [name for name in Planned.__annotations__ if name != "items"]
    wrong = [name for name in quantities if not isinstance(getattr(answer, name, None), int | float)]
    wrong += [
        name for name in ("acceptance", "intervention") if name not in wrong and not 0 <= getattr(answer, name) <= 1
    ]
    if wrong or answer.edits < 0:
        raise TypeError(f"the answer is no plan: {', '.join(wrong or ['edits'])}")
    return cast(Planned, answer)


def worsened(plan: Planned) -> Planned:
    """The same plan from a model that has gone bad: accepted less, corrected more, slower."""
    kept = {name: getattr(plan, name) for name in Planned.__annotations__}
    return planner.Plan(
        **kept
        | {
            "acceptance": plan.acceptance * WORSE_ACCEPTANCE,
            "intervention": min(plan.intervention * WORSE_INTERVENTION, 1.0),
            "latency_ms": plan.latency_ms * WORSE_LATENCY,
        }
    )


class EventRow(NamedTuple):
    """One row of exp.events; the four JSON columns are texts."""

    id: str
    event_type: str
    unit_type: str
    unit_id: str
    experiments: str
    context: str
    metrics: str
    payload: str
    timestamp: datetime
    created_at: datetime


class AssignmentRow(NamedTuple):
    """One row of exp.assignments."""

    id: str
    experiment_id: uuid.UUID
    unit_type: str
    unit_id: str
    variant_id: uuid.UUID
    assigned_at: datetime


@dataclass(frozen=True)
class Place:
    """The variant that serves a plan, as its events name it: two JSON texts."""

    unit_type: str
    experiments: str
    context: str


def place(
    unit_type: str, experiment_id: uuid.UUID, variant_id: uuid.UUID, policy_version_id: uuid.UUID | None
) -> Place:
    """Where the events of a variant come from."""
    context = {"app_version": APP_VERSION}
    if policy_version_id is not None:
        context["policy_version_id"] = str(policy_version_id)
    named = [{"experiment_id": str(experiment_id), "variant_id": str(variant_id)}]
    return Place(unit_type, json.dumps(named), json.dumps(context))


def events_of(
    plan: Planned, where: Place, unit_id: str, at: datetime, rng: np.random.Generator, new_id: NewId, *, pause_s: float
) -> list[EventRow]:
    """The events of one plan in the order they happen; people take `pause_s` on average for each thing they do."""
    payload = f'{{"plan_id": "{new_id()}"}}'

    def event(kind: str, when: datetime, metrics: str = "{}") -> EventRow:
        return EventRow(
            new_id(), kind, where.unit_type, unit_id, where.experiments, where.context, metrics, payload, when, when
        )

    latency_ms = plan.latency_ms * math.exp(plan.latency_spread * rng.standard_normal())
    metrics = f'{{"latency_ms": {latency_ms:.1f}, "token_count": {plan.token_count}, "cost": {plan.cost:.6f}}}'
    rows = [event("plan_generated", at, metrics)]
    at += timedelta(milliseconds=latency_ms)
    if rng.random() < plan.intervention:
        rows.append(event("validator_intervention", at))
    for kind in _acts(plan, rng):
        at += timedelta(seconds=0.1 + rng.exponential(pause_s))
        rows.append(event(kind, at))
    return rows


def _acts(plan: Planned, rng: np.random.Generator) -> list[str]:
    acts = ["edit_applied"] * int(rng.poisson(plan.edits))
    if rng.random() < _SWAPPED:
        acts.append("meal_swapped")
    mood = rng.random()
    if mood < plan.acceptance:
        return [*acts, "plan_accepted"]
    if mood < plan.acceptance + (1 - plan.acceptance) * _REJECTED_OF_NOT_ACCEPTED:
        return [*acts, "plan_rejected"]
    return acts


def write_events(session: Session, rows: Iterable[EventRow]) -> None:
    """Appends events within the session's transaction."""
    _copy(session, "events", EventRow._fields, rows)


def write_assignments(session: Session, rows: Iterable[AssignmentRow]) -> None:
    """Stores first assignments within the session's transaction."""
    _copy(session, "assignments", AssignmentRow._fields, rows)


def _copy(session: Session, table: str, columns: Iterable[str], rows: Iterable[tuple[Any, ...]]) -> None:
    connection = cast("Connection[Any]", session.connection().connection.driver_connection)
    names = sql.SQL(", ").join(map(sql.Identifier, columns))
    command = sql.SQL("COPY exp.{} ({}) FROM STDIN").format(sql.Identifier(table), names)
    with connection.cursor() as cursor, cursor.copy(command) as copy:
        for row in rows:
            copy.write_row(row)
