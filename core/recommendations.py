"""The looks at each candidate as rows, and the verdict that stands now."""

from __future__ import annotations

import uuid
from dataclasses import dataclass, replace
from datetime import date, datetime
from decimal import Decimal
from typing import Any

from sqlalchemy import func, select
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session

from core import looks
from core.looks import Seen
from core.rules import verdict
from core.rules.decision import Rule, Terms
from core.rules.metrics import VariantMetrics, variant_metrics
from core.rules.sequential import Memory
from core.rules.verdict import Decision, Look
from core.tables import Experiment, Recommendation, Variant
from core.variants import baseline_or_note, variants

_LOCK = 7_203_442


@dataclass(frozen=True)
class Standing:
    """How a candidate stands: the verdict, and the newest look of its present run that is on record."""

    variant: Variant
    seen: Seen
    decision: Decision
    recommended: Recommendation | None

    @property
    def share(self) -> Decimal:
        """The candidate's present share of 1."""
        return self.seen.look.share

    @property
    def candidate(self) -> VariantMetrics:
        """The candidate's numbers in the present step."""
        given = self.seen.look.aggregated
        return given.candidate if given else variant_metrics(self.seen.look.steps[-1].candidate)

    @property
    def baseline(self) -> VariantMetrics:
        """The baseline's numbers in the present step."""
        given = self.seen.look.aggregated
        return given.baseline if given else variant_metrics(self.seen.look.steps[-1].baseline)


def _newest(session: Session, variant: Variant, seen: Seen, *, before: date | None = None) -> Recommendation | None:
    """The newest look of the run on record, or the newest before a day."""
    query = select(Recommendation).where(
        Recommendation.variant_id == variant.id, Recommendation.first_step_id == seen.first_step_id
    )
    if before is not None:
        query = query.where(Recommendation.day < before)
    newest = query.order_by(Recommendation.id.desc()).limit(1)
    return session.scalar(newest.execution_options(populate_existing=True))


def _memory(found: Recommendation | None) -> Memory:
    return Memory.from_json(found.memory) if found else Memory()


def standing(session: Session, experiment: Experiment, variant: Variant, baseline: Variant, terms: Terms) -> Standing:
    """What holds at this moment; the day's look (the day is UTC's) is made and kept where it was not yet.

    The statistics allow a rollback on two grounds: the daily look's boundary, and evidence so strong that it counts
    at any time. Once found, it is on record and stands until the next daily look, whatever the looks in between show,
    unless people gave the candidate more traffic all the same. Doubts about the data come before both; a daily look
    that trusted nothing has spent nothing and is made again.

    Rows are written without locking the experiment: they change neither shares nor stages, and looks at one variant
    wait for each other.
    """
    may_keep = experiment.status == "active" and variant.allocation > 0
    now: datetime = session.execute(select(func.now())).scalar_one()
    seen, rule = looks.read(session, experiment, variant, baseline, terms, now=now), terms.rule_of(experiment.name)
    is_daily = may_keep and seen.can_be_judged and _is_due(session, variant, now.date())
    before = _newest(session, variant, seen, before=now.date() if is_daily else None)
    look = replace(seen.look, is_daily=is_daily)
    found, memory = verdict.decide(look, _memory(before), terms, rule=rule, metrics=terms.metrics)
    is_alarm = may_keep and found.action == "rollback"
    is_first_alarm = is_alarm and before is not None and before.action != "rollback"
    if is_daily or is_first_alarm:
        row = {
            "experiment_id": experiment.id,
            "variant_id": variant.id,
            "first_step_id": seen.first_step_id,
            "step_id": seen.step_id,
            "day": now.date(),
            "is_daily": is_daily,
            "action": found.action,
            "why": found.why,
            "terms": looks.keep_terms(terms, experiment.name),
            "look": looks.keep(session, look),
            "previous_id": before.id if before else None,
            "memory": memory.to_json(),
        }
        _keep(session, row)
    last = _newest(session, variant, seen)
    if last is not None and found.action != "hold" and _stands(last, look, rule):
        found = recomputed(session, last)
    return Standing(variant, seen, found, last)


def _is_due(session: Session, variant: Variant, day: date) -> bool:
    """True where the day's look is still to be made, or trusted nothing; then others wait until this one is kept."""

    def is_due() -> bool:
        query = select(Recommendation.action).where(
            Recommendation.variant_id == variant.id, Recommendation.day == day, Recommendation.is_daily
        )
        return session.scalar(query) in (None, "hold")

    if not is_due():
        return False
    session.execute(select(func.pg_advisory_xact_lock(_LOCK, func.hashtext(str(variant.id)))))
    return is_due()


def _keep(session: Session, row: dict[str, Any]) -> None:
    """Keeps a look; a daily one takes the place of one that trusted nothing, and nothing else is ever replaced."""
    made = insert(Recommendation).values(**row)
    session.execute(
        made.on_conflict_do_update(
            constraint="one_look_of_a_kind_per_day",
            set_={**row, "made_at": func.now()},
            where=(Recommendation.action == "hold") & (row["action"] != "hold"),
        )
    )


def _stands(last: Recommendation, look: Look, rule: Rule) -> bool:
    """True where a rollback on record still holds: by the same rule, and nobody gave the candidate more since."""
    return (
        last.action == "rollback"
        and rule == last.terms["rule"] == "calibrated"
        and look.share <= Decimal(last.look["share"])
    )


def recomputed(session: Session, made: Recommendation) -> Decision:
    """The verdict of a recommendation, computed anew from nothing but what was stored."""
    before = session.get(Recommendation, made.previous_id) if made.previous_id else None
    terms = looks.restore_terms(made.terms)
    look = looks.restore(session, made.look)
    return verdict.decide(look, _memory(before), terms, rule=terms.rule, metrics=terms.metrics)[0]


def has_turned(session: Session, variant_id: uuid.UUID, *, verdict_then: str, since: datetime) -> bool:
    """True where a look since then speaks against the candidate, and the one that was decided on did not."""
    query = select(Recommendation.action).where(Recommendation.variant_id == variant_id, Recommendation.made_at > since)
    newest = session.scalar(query.order_by(Recommendation.id.desc()).limit(1))
    return newest in ("rollback", "hold") and newest != verdict_then


def running(session: Session, experiment: Experiment) -> tuple[Variant | None, list[Variant]]:
    """The baseline, and the candidates with traffic beside it; none without a baseline."""
    base, _ = baseline_or_note(session, experiment)
    if base is None:
        return None, []
    return base, [v for v in variants(session, experiment) if v.id != base.id and v.allocation > 0]


def active(session: Session) -> list[uuid.UUID]:
    """The experiments that are to be looked at."""
    return list(session.scalars(select(Experiment.id).where(Experiment.status == "active").order_by(Experiment.name)))


def recommend_all(session: Session, experiment: uuid.UUID, terms: Terms) -> list[Standing]:
    """Looks at the candidates of one experiment; what is due is kept."""
    place = session.get_one(Experiment, experiment)
    base, candidates = running(session, place)
    return [standing(session, place, v, base, terms) for v in candidates] if base else []
