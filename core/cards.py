"""Rows -> the frozen values that people are shown. Nothing here knows how they look."""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import Any

from sqlalchemy import select
from sqlalchemy.orm import Session

from core import evidence, ledger, measure, outbox, stages
from core.errors import Refused
from core.rules import allocation, decision
from core.rules.decision import CheckRow, Terms, Verdict
from core.rules.metrics import METRICS, VariantMetrics
from core.tables import Experiment, LedgerEntry, Message, Request, Variant
from core.variants import (
    baseline_or_note,
    candidate,
    find_experiment,
    linked_version,
    variants,
)


@dataclass(frozen=True)
class Change:
    """One variant's share before and after, as fractions of 1."""

    variant: str
    before: Decimal
    after: Decimal


@dataclass(frozen=True)
class Progress:
    """Something that follows a decision: done, or on its way with the last error."""

    what: str
    is_done: bool
    error: str | None = None


@dataclass(frozen=True)
class RequestCard:
    """A request as its card shows it."""

    id: int
    experiment: str
    action: str
    subject: str
    state: str
    requester: str
    reason: str | None
    override: str | None
    changes: tuple[Change, ...]
    checklist: tuple[CheckRow, ...]
    params: Mapping[str, Any]
    created_at: datetime
    decided_at: datetime | None
    decided_by: str | None
    decision_reason: str | None
    progress: tuple[Progress, ...]


@dataclass(frozen=True)
class MetricLine:
    """One metric of candidate and baseline; values as people read them."""

    title: str
    candidate: str
    baseline: str
    is_beyond: bool | None


@dataclass(frozen=True)
class CandidateCard:
    """A candidate at its present step: the document's verdict, why, and the numbers."""

    variant: str
    verdict: Verdict
    why: str
    days: float
    minimum_days: int
    next_step: Decimal | None
    metrics: tuple[MetricLine, ...]


@dataclass(frozen=True)
class VariantLine:
    """One variant of an experiment; `served` is its share of the plans since the present shares came into force."""

    name: str
    role: str
    share: Decimal
    served: float | None
    version: str | None
    model: str | None
    stage: str


@dataclass(frozen=True)
class ExperimentCard:
    """An experiment at a glance."""

    name: str
    status: str
    variants: tuple[VariantLine, ...]
    candidates: tuple[CandidateCard, ...]
    baseline_metrics: tuple[MetricLine, ...]
    """What the baseline does by itself, where no candidate stands beside it."""
    open_request: int | None
    note: str | None
    since: datetime


@dataclass(frozen=True)
class HistoryLine:
    """One row of the record."""

    id: int
    at: datetime
    actor: str
    action: str
    subject: str
    experiment: str | None
    request_id: int | None
    reason: str | None
    before: Mapping[str, Any]
    after: Mapping[str, Any]


@dataclass(frozen=True)
class Place:
    """Where a card stands in the chat."""

    channel: str
    ts: str


# --- Requests -------------------------------------------------------------------------------------------------------


def _subject(request: Request) -> str:
    """What a request is about: the variant whose share it decides."""
    if request.action == "retire":
        return ", ".join(request.params["names"])
    wanted = request.params.get("variant_id")
    for change in request.changes:
        if wanted == change["variant_id"] and (wanted or change["after"] != "0"):
            return str(change["variant"])
    return next(str(c["variant"]) for c in request.changes if c["before"] != c["after"])


def _progress(session: Session, request: Request) -> tuple[Progress, ...]:
    if request.state != "applied":
        return ()
    waiting = [effect for effect in outbox.pending(session, request_id=request.id) if effect.kind == "registry"]
    registry = Progress("MLflow tags and alias", not waiting, next((e.last_error for e in waiting), None))
    touches_registry = request.action not in ("increase", "retire")
    return (Progress("Shares in the database", True), *([registry] if touches_registry else []))


def request_card(session: Session, request_id: int) -> RequestCard:
    """One request as it is now.

    Raises:
        Refused: where there is none of that number.
    """
    request = session.get(Request, request_id, populate_existing=True)
    if request is None:
        raise Refused(f"There is no request #{request_id}.")
    experiment = session.get_one(Experiment, request.experiment_id)
    return RequestCard(
        id=request.id,
        experiment=experiment.name,
        action=request.action,
        subject=_subject(request),
        state=request.state,
        requester=request.requester,
        reason=request.reason,
        override=request.override,
        changes=tuple(Change(c["variant"], Decimal(c["before"]), Decimal(c["after"])) for c in request.changes),
        checklist=tuple(CheckRow(**row) for row in request.checklist),
        params=request.params,
        created_at=request.created_at,
        decided_at=request.decided_at,
        decided_by=request.decided_by,
        decision_reason=request.decision_reason,
        progress=_progress(session, request),
    )


def open_requests(session: Session) -> list[RequestCard]:
    """The requests that wait for a decision, oldest first."""
    found = session.scalars(select(Request.id).where(Request.state == "open").order_by(Request.id))
    return [request_card(session, number) for number in found]


# --- Experiments ----------------------------------------------------------------------------------------------------


def _metric_lines(look: evidence.Standing, terms: Terms) -> tuple[MetricLine, ...]:
    beyond = decision.beyond_tolerance(look.candidate, look.baseline)
    is_early = look.candidate.sample_size < terms.minimum_samples
    lines = []
    for metric in METRICS:
        mine, base = getattr(look.candidate, metric.name), getattr(look.baseline, metric.name)
        unknown = is_early or mine is None or (base is None and metric.limit is None)
        lines.append(
            MetricLine(
                metric.title,
                decision.format_value(metric, mine),
                decision.format_value(metric, base),
                None if unknown else metric in beyond,
            )
        )
    return tuple(lines)


def _alone(measured: VariantMetrics | None) -> tuple[MetricLine, ...]:
    if measured is None:
        return ()
    values = ((metric, getattr(measured, metric.name)) for metric in METRICS)
    return tuple(MetricLine(metric.title, decision.format_value(metric, value), "", None) for metric, value in values)


def _candidate_card(look: evidence.Standing, terms: Terms) -> CandidateCard:
    return CandidateCard(
        variant=look.variant.name,
        verdict=look.verdict,
        why=look.why,
        days=look.days,
        minimum_days=decision.minimum_days(look.share),
        next_step=allocation.next_step(look.share, terms.steps),
        metrics=_metric_lines(look, terms),
    )


def _variant_line(session: Session, variant: Variant, base: Variant | None, served: float | None) -> VariantLine:
    version = linked_version(session, variant)
    is_base = base is not None and variant.id == base.id
    role = "baseline" if is_base else "candidate" if variant.allocation > 0 else ""
    model = f"{version.mlflow_model_name} {version.mlflow_model_version}" if version else None
    return VariantLine(
        variant.name,
        role,
        variant.allocation,
        served,
        stages.label(version) if version else None,
        model,
        stages.of(session, version.id) if version else "none",
    )


def experiment_card(session: Session, experiment: str, *, terms: Terms, measured: bool = True) -> ExperimentCard:
    """An experiment with its variants, and, where `measured`, each running candidate's numbers and verdict.

    Raises:
        Refused: where there is no such experiment.
    """
    place = find_experiment(session, experiment, lock=False)
    there = variants(session, place)
    base, note = baseline_or_note(session, place)
    found = evidence.measure_step(session, place, terms) if measured else {}
    total = sum(metrics.sample_size for metrics in found.values())
    running = [v for v in there if base is not None and v.id != base.id and v.allocation > 0]
    looks = [evidence.standing(session, place, v, terms, found) for v in running] if measured else []
    return ExperimentCard(
        name=place.name,
        status=place.status,
        variants=tuple(
            _variant_line(session, v, base, found.get(v.id, measure.NOTHING).sample_size / total if total else None)
            for v in there
        ),
        candidates=tuple(_candidate_card(look, terms) for look in looks),
        baseline_metrics=_alone(found.get(base.id)) if base is not None and not looks else (),
        open_request=session.scalar(
            select(Request.id).where(Request.experiment_id == place.id, Request.state == "open")
        ),
        note=note,
        since=evidence.step_start(session, place),
    )


def experiments(session: Session, *, terms: Terms) -> list[ExperimentCard]:
    """Every experiment without measurements, those that run first."""
    order = {"active": 0, "paused": 1, "draft": 2, "completed": 3}
    names = session.execute(select(Experiment.name, Experiment.status)).all()
    ordered = sorted(names, key=lambda row: (order[row.status], row.name))
    return [experiment_card(session, row.name, terms=terms, measured=False) for row in ordered]


def checklist_card(
    session: Session, experiment: str, variant: str | None, *, terms: Terms
) -> tuple[str, tuple[CheckRow, ...]]:
    """The candidate's name and its ten rows.

    Raises:
        Refused: where the experiment has no such candidate.
    """
    place = find_experiment(session, experiment, lock=False)
    chosen = candidate(session, place, variant)
    return chosen.name, evidence.checklist(session, place, chosen, terms)


# --- The record -----------------------------------------------------------------------------------------------------


def _history_line(entry: LedgerEntry, experiment: str | None) -> HistoryLine:
    return HistoryLine(
        entry.id,
        entry.at,
        entry.actor,
        entry.action,
        entry.subject,
        experiment,
        entry.request_id,
        entry.reason,
        entry.before or {},
        entry.after or {},
    )


def history(session: Session, experiment: str, *, limit: int = 15) -> list[HistoryLine]:
    """What happened to an experiment, newest first.

    Raises:
        Refused: where there is no such experiment.
    """
    place = find_experiment(session, experiment, lock=False)
    return [_history_line(e, place.name) for e in ledger.entries(session, experiment_id=place.id, limit=limit)]


@dataclass(frozen=True)
class News:
    """One row of the record for telling it, with the request that it decided."""

    line: HistoryLine
    request: RequestCard | None


def notice(session: Session, ledger_id: int) -> News:
    """One row of the record, for telling it."""
    entry = session.get_one(LedgerEntry, ledger_id)
    place = session.get(Experiment, entry.experiment_id) if isinstance(entry.experiment_id, uuid.UUID) else None
    request = request_card(session, entry.request_id) if entry.request_id is not None else None
    return News(_history_line(entry, place.name if place else None), request)


# --- Where cards stand ----------------------------------------------------------------------------------------------


def place_of(session: Session, key: str) -> Place | None:
    """Where the card of that key was posted, or None where it was not yet."""
    found = session.get(Message, key)
    return Place(found.channel, found.ts) if found else None


def remember_place(session: Session, key: str, place: Place) -> None:
    """Keeps where a card was posted."""
    session.merge(Message(key=key, channel=place.channel, ts=place.ts))
