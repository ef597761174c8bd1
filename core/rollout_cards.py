"""How experiments, their candidates and their rollouts stand, as frozen values that people are shown."""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import Final

from sqlalchemy import select
from sqlalchemy.orm import Session

from core import evidence, freezes, measure, recommendations, rollouts, signatures, stages
from core.errors import Refused
from core.freezes import Frozen
from core.looks import Seen
from core.measure import StepSamples
from core.recommendations import Standing
from core.rules import allocation, decision
from core.rules.decision import AllTerms, CheckRow, Terms
from core.rules.metrics import METRICS, VariantMetrics
from core.rules.verdict import Decision
from core.signatures import Signature
from core.tables import Alert, DailyRecommendation, Experiment, LedgerEntry, Request, Rollout, Variant
from core.variants import (
    baseline,
    baseline_or_note,
    beside,
    candidate,
    find_experiment,
    linked_version,
    running_of,
    variants,
)


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


@dataclass(frozen=True, eq=False)
class CandidateCard:
    """A candidate at its present step: the verdict with all its numbers, and what time and share it is at."""

    experiment: str
    variant: str
    decision: Decision
    share: Decimal
    next_step: Decimal | None
    days: float
    minimum_days: int
    looked_at: datetime | None
    """When the newest daily look was made."""


@dataclass(frozen=True)
class StepLine:
    """One period of constant shares: since when, the candidate's share, the plans of both arms, how it is known."""

    started_at: datetime | None
    share: Decimal
    candidate_plans: int
    baseline_plans: int
    source: str


@dataclass(frozen=True, eq=False)
class WhyCard:
    """Everything behind a verdict: the steps it rests on, and what was wrong with events on the way."""

    candidate: CandidateCard
    daily: Decision | None
    """What the newest daily look said, computed anew."""
    steps: tuple[StepLine, ...]
    flaws: Mapping[str, int]


@dataclass(frozen=True, eq=False)
class ExperimentCard:
    """An experiment at a glance."""

    name: str
    status: str
    variants: tuple[VariantLine, ...]
    candidates: tuple[CandidateCard, ...]
    baseline_metrics: Mapping[str, str]
    """What the baseline does by itself, by title, where no candidate stands beside it."""
    open_request: int | None
    note: str | None
    since: datetime
    frozen: Frozen | None = None


def _alone(measured: VariantMetrics | None) -> dict[str, str]:
    if measured is None:
        return {}
    return {m.title: decision.format_value(m, getattr(measured, m.name)) for m in METRICS}


def candidate_card(experiment: Experiment, look: Standing, terms: Terms) -> CandidateCard:
    """A candidate as it was looked at."""
    return CandidateCard(
        experiment=experiment.name,
        variant=look.variant.name,
        decision=look.decision,
        share=look.share,
        next_step=allocation.next_step(look.share, terms.steps),
        days=look.seen.look.days_in_step,
        minimum_days=terms.days_at(look.share),
        looked_at=look.recommended.made_at if look.recommended else None,
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


def experiment_card(session: Session, experiment: str, *, terms: AllTerms, measured: bool = True) -> ExperimentCard:
    """An experiment with its variants, and, where `measured`, each running candidate's numbers and verdict.

    Raises:
        Refused: where there is no such experiment.
    """
    place = find_experiment(session, experiment, lock=False)
    there, own = variants(session, place), terms.of(place.name)
    base, note = baseline_or_note(session, place)
    found = evidence.measure_step(session, place, own) if measured else {}
    total = sum(metrics.sample_size for metrics in found.values())
    running = beside(base, there) if base is not None else []
    looks = [evidence.standing(session, place, v, own) for v in running] if measured else []
    return ExperimentCard(
        name=place.name,
        status=place.status,
        variants=tuple(
            _variant_line(session, v, base, found.get(v.id, measure.NOTHING).sample_size / total if total else None)
            for v in there
        ),
        candidates=tuple(candidate_card(place, look, own) for look in looks),
        baseline_metrics=_alone(found.get(base.id)) if base is not None and not looks else {},
        open_request=session.scalar(
            select(Request.id).where(Request.experiment_id == place.id, Request.state == "open")
        ),
        note=note,
        since=evidence.step_start(session, place),
        frozen=freezes.frozen(session, place, own),
    )


LISTED: Final = 45
"""Experiments in one message."""
_ORDER: Final = ("active", "paused", "draft", "completed")


def experiments(session: Session, *, terms: AllTerms) -> tuple[list[ExperimentCard], int]:
    """The first experiments without measurements, those that run before the others, and how many there are in all."""
    order = {status: n for n, status in enumerate(_ORDER)}
    names = session.execute(select(Experiment.name, Experiment.status)).all()
    ordered = sorted(names, key=lambda row: (order.get(row.status, len(order)), row.name))[:LISTED]
    return [experiment_card(session, row.name, terms=terms, measured=False) for row in ordered], len(names)


def checklist_card(
    session: Session, experiment: str, variant: str | None, *, terms: AllTerms
) -> tuple[str, tuple[CheckRow, ...]]:
    """The candidate's name and its ten rows.

    Raises:
        Refused: where the experiment has no such candidate.
    """
    place = find_experiment(session, experiment, lock=False)
    chosen = candidate(session, place, variant)
    return chosen.name, evidence.checklist(session, place, chosen, terms.of(place.name))


def recommended(session: Session, experiment: str, *, terms: AllTerms) -> tuple[CandidateCard, ...]:
    """Each running candidate's verdict.

    Raises:
        Refused: where there is no such experiment, no baseline or no candidate with traffic.
    """
    place = find_experiment(session, experiment, lock=False)
    if place.status != "active":
        raise Refused(f"{place.name} is {place.status}; there is something to recommend while it is active.")
    base, running = running_of(session, place)
    if base is None or not running:
        candidate(session, place)  # says what is missing
    own = terms.of(place.name)
    return tuple(candidate_card(place, evidence.standing(session, place, v, own), own) for v in running)


def why_card(
    session: Session, experiment: str | uuid.UUID, variant: str | uuid.UUID | None, *, terms: AllTerms
) -> WhyCard:
    """Everything behind the verdict on a candidate.

    Raises:
        Refused: where the experiment has no such candidate.
    """
    place = find_experiment(session, experiment, lock=False)
    own = terms.of(place.name)
    look = evidence.standing(session, place, candidate(session, place, variant), own)
    flaws = {kind: sum(days.values()) for kind, days in measure.flaws(session, place.id).items()}
    steps = _steps(look.seen, look.variant, baseline(session, place))
    daily = recommendations.recomputed(session, look.recommended) if look.recommended else None
    return WhyCard(candidate_card(place, look, own), daily, steps, flaws)


def _steps(seen: Seen, variant: Variant, base: Variant) -> tuple[StepLine, ...]:
    def plans(step: StepSamples, arm: Variant) -> int:
        return step.variants[arm.id].sample.plans if arm.id in step.variants else 0

    return tuple(
        StepLine(
            step.started_at,
            step.shares.get(variant.id, Decimal(0)),
            plans(step, variant),
            plans(step, base),
            step.source,
        )
        for step in seen.run
    )


# --- The living card ------------------------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class RolloutCard:
    """The living card of a rollout; without a candidate where it has ended."""

    id: int
    experiment: str
    variant: str
    candidate: CandidateCard | None
    checklist: tuple[CheckRow, ...]
    share: Decimal
    hold_until: datetime | None
    held_by: str | None
    hold_reason: str | None
    open_request: int | None
    open_alerts: tuple[int, ...]
    is_late: bool
    ended_at: datetime | None
    ending: str | None
    """How it ended, in the words of the record: promote, rollback; None where others changed the shares."""
    message_key: str
    channel: str
    frozen: Frozen | None = None
    signature: Signature | None = None


def rollout_card(session: Session, rollout_id: int, *, terms: AllTerms) -> RolloutCard:
    """A rollout as it stands now, with its verdict, numbers and checklist.

    Raises:
        Refused: where it is not on record any more.
    """
    rollout = rollouts.one(session, rollout_id)
    place = session.get(Experiment, rollout.experiment_id)
    is_running = rollout.ended_at is None
    candidate, rows = _as_it_stands(session, place, rollout, terms) if place and is_running else (None, ())
    there = rollout.experiment_id
    is_open = Request.experiment_id == there, Request.state == "open"
    alerts = select(Alert.id).where(Alert.experiment_id == there, Alert.state == "open").order_by(Alert.id)
    made = select(DailyRecommendation.is_late).where(DailyRecommendation.experiment_id == there)
    is_held = rollouts.is_held(session, rollout)
    return RolloutCard(
        id=rollout.id,
        experiment=place.name if place else rollouts.DELETED,
        variant=rollout.variant,
        candidate=candidate,
        checklist=rows,
        share=Decimal(rollout.shown["share"]),
        hold_until=rollout.hold_until if is_held else None,
        held_by=rollout.held_by if is_held else None,
        hold_reason=rollout.hold_reason if is_held else None,
        open_request=session.scalar(select(Request.id).where(*is_open)),
        open_alerts=tuple(session.scalars(alerts)),
        is_late=bool(session.scalar(made.order_by(DailyRecommendation.day.desc()).limit(1))),
        ended_at=rollout.ended_at,
        ending=_ending(session, rollout) if rollout.ended_at else None,
        message_key=rollouts.message_key(rollout),
        channel=rollout.channel,
        frozen=freezes.frozen(session, place, terms) if place else None,
        signature=signatures.shown(signatures.of_candidate(session, place, rollout.variant_id)) if place else None,
    )


def _as_it_stands(
    session: Session, place: Experiment, rollout: Rollout, terms: AllTerms
) -> tuple[CandidateCard | None, tuple[CheckRow, ...]]:
    """The verdict and the checklist; nothing where the candidate has lost its traffic a moment ago."""
    base, running = running_of(session, place)
    variant = next((v for v in running if v.id == rollout.variant_id), None)
    if base is None or variant is None:
        return None, ()
    own = terms.of(place.name)
    look = recommendations.standing(session, place, variant, base, own)
    is_linked = linked_version(session, variant) is not None
    rows = evidence.checklist(session, place, variant, own, look) if is_linked else ()
    return candidate_card(place, look, own), rows


def _ending(session: Session, rollout: Rollout) -> str | None:
    was = LedgerEntry.action
    query = select(was).where(
        LedgerEntry.experiment_id == rollout.experiment_id,
        (was == "rollback") | ((was == "promote") & (LedgerEntry.subject == rollout.variant)),
        LedgerEntry.at >= rollout.told_at,
    )
    return session.scalar(query.order_by(LedgerEntry.id.desc()).limit(1))
