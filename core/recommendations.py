"""The daily look at each candidate as a row, and the verdict that stands now."""

from __future__ import annotations

import uuid
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import Any

from sqlalchemy import func, select
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session

from core import looks, measure
from core.looks import Seen
from core.rules import aggregated, verdict
from core.rules.decision import Terms
from core.rules.metrics import VariantMetrics, variant_metrics
from core.rules.sequential import Memory
from core.rules.verdict import Decision
from core.tables import Experiment, Recommendation, Variant
from core.variants import baseline_or_note, variants


@dataclass(frozen=True)
class Standing:
    """How a candidate stands: the verdict, since when its present share lasts, and which look it was found by.

    `recommended` is the newest daily look of the present run, None before the first.
    """

    variant: Variant
    seen: Seen
    decision: Decision
    candidate: VariantMetrics
    baseline: VariantMetrics
    recommended: Recommendation | None

    @property
    def share(self) -> Decimal:
        """The candidate's present share of 1."""
        return self.seen.look.share


def _now(session: Session) -> datetime:
    return session.execute(select(func.now())).scalar_one()


def _newest(session: Session, variant: Variant, seen: Seen) -> Recommendation | None:
    query = select(Recommendation).where(
        Recommendation.variant_id == variant.id, Recommendation.first_step_id == seen.first_step_id
    )
    return session.scalar(query.order_by(Recommendation.id.desc()).limit(1))


def _memory(found: Recommendation | None) -> Memory:
    return Memory.from_json(found.memory) if found else Memory()


def standing(session: Session, experiment: Experiment, variant: Variant, baseline: Variant, terms: Terms) -> Standing:
    """What holds at this moment, today's look made first where it was not yet; to ask again changes nothing more.

    The statistics allow a rollback on two grounds: the daily look's boundary, and evidence so strong that it counts
    at any time. So a rollback found by the newest daily look of this step stands until the next one, and
    in between only a disaster adds to it. Doubts about the data come before both.

    Raises:
        Refused: where no step on record gives the candidate a share.
    """
    if experiment.status == "active":
        recommend(session, experiment, variant, baseline, terms)
    seen = looks.read(session, experiment, variant, baseline, terms, now=_now(session), is_daily=False)
    last = _newest(session, variant, seen)
    found, candidate, base = _decide(session, experiment, variant, baseline, seen, _memory(last), terms)
    stands = last is not None and last.action == "rollback" and last.step_id == seen.step_id
    if last is not None and stands and found.action != "hold":
        found = recomputed(session, last)
    return Standing(variant, seen, found, candidate, base, last)


def _decide(
    session: Session,
    experiment: Experiment,
    variant: Variant,
    baseline: Variant,
    seen: Seen,
    memory: Memory,
    terms: Terms,
) -> tuple[Decision, VariantMetrics, VariantMetrics]:
    """The verdict of this moment with the numbers of both arms in the present step."""
    if not any(step.candidate.plans or step.baseline.plans for step in seen.look.steps):
        found = measure.from_aggregates(session, experiment.id, since=seen.since)
        if variant.id in found and baseline.id in found:
            candidate, base = found[variant.id].metrics, found[baseline.id].metrics
            return aggregated.decide(seen.look, candidate, base, terms), candidate, base
    candidate, base = (variant_metrics(arm) for arm in (seen.look.steps[-1].candidate, seen.look.steps[-1].baseline))
    rule = terms.rule_of(experiment.name)
    return verdict.decide(seen.look, memory, terms, rule=rule, metrics=terms.metrics)[0], candidate, base


def recommend(
    session: Session, experiment: Experiment, variant: Variant, baseline: Variant, terms: Terms
) -> Recommendation | None:
    """Makes today's recommendation (the day is UTC's) unless it is made; None where there is nothing to judge.

    However many ask, one is made; while it holds for doubtful data it may be made again, since a look that trusted
    nothing has spent nothing.
    """
    now = _now(session)
    query = select(Recommendation).where(Recommendation.variant_id == variant.id, Recommendation.day == now.date())
    made = session.scalar(query)
    if made is not None and made.action != "hold":
        return made
    seen = looks.read(session, experiment, variant, baseline, terms, now=now, is_daily=True)
    if seen.step_id == looks.UNKNOWN or not any(step.candidate.plans for step in seen.look.steps):
        return None
    before = _previous(session, variant, seen, now)
    decision, memory = verdict.decide(
        seen.look, _memory(before), terms, rule=terms.rule_of(experiment.name), metrics=terms.metrics
    )
    values: dict[str, Any] = {
        "experiment_id": experiment.id,
        "variant_id": variant.id,
        "first_step_id": seen.first_step_id,
        "step_id": seen.step_id,
        "day": now.date(),
        "action": decision.action,
        "why": decision.why,
        "terms": looks.keep_terms(terms, experiment.name),
        "look": looks.keep(session, seen.look),
        "previous_id": before.id if before else None,
        "memory": memory.to_json(),
    }
    made_now = insert(Recommendation).values(**values)
    made_now = made_now.on_conflict_do_update(
        constraint="one_recommendation_per_day",
        set_={**values, "made_at": func.now()},
        where=Recommendation.action == "hold",
    )
    mine = session.scalar(made_now.returning(Recommendation), execution_options={"populate_existing": True})
    return mine if mine is not None else session.scalar(query)  # somebody else made it at the same moment


def _previous(session: Session, variant: Variant, seen: Seen, now: datetime) -> Recommendation | None:
    """The last look of the same run before today's."""
    query = select(Recommendation).where(
        Recommendation.variant_id == variant.id,
        Recommendation.first_step_id == seen.first_step_id,
        Recommendation.day < now.date(),
    )
    return session.scalar(query.order_by(Recommendation.day.desc()).limit(1))


def recomputed(session: Session, made: Recommendation) -> Decision:
    """The verdict of a recommendation, computed anew from nothing but what was stored."""
    before = session.get(Recommendation, made.previous_id) if made.previous_id else None
    terms = looks.restore_terms(made.terms)
    look = looks.restore(session, made.look)
    return verdict.decide(look, _memory(before), terms, rule=terms.rule, metrics=terms.metrics)[0]


def running(session: Session, experiment: Experiment) -> tuple[Variant | None, list[Variant]]:
    """The baseline, and the candidates with traffic beside it; none without a baseline."""
    base, _ = baseline_or_note(session, experiment)
    if base is None:
        return None, []
    return base, [v for v in variants(session, experiment) if v.id != base.id and v.allocation > 0]


def active(session: Session) -> list[uuid.UUID]:
    """The experiments that are to be looked at."""
    return list(session.scalars(select(Experiment.id).where(Experiment.status == "active").order_by(Experiment.name)))


def recommend_all(session: Session, experiment: uuid.UUID, terms: Terms) -> list[Recommendation]:
    """Today's recommendations for the candidates of one experiment."""
    place = session.get_one(Experiment, experiment)
    base, candidates = running(session, place)
    found = [recommend(session, place, v, base, terms) for v in candidates] if base else []
    return [made for made in found if made]
