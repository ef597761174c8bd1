"""The looks at each candidate as rows, and the verdict that stands now."""

from __future__ import annotations

import uuid
from collections.abc import Mapping, Sequence, Set
from dataclasses import dataclass, replace
from datetime import date
from decimal import Decimal
from typing import Any

from sqlalchemy import func, select, text
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session

from core import db, looks
from core.looks import Pair, Seen
from core.rules import verdict
from core.rules.decision import AllTerms, Rule, Terms
from core.rules.metrics import VariantMetrics, variant_metrics
from core.rules.sequential import Memory
from core.rules.verdict import Decision, Look
from core.rules.wording import compared
from core.tables import Experiment, Recommendation, Variant
from core.variants import baselines, beside, variants, variants_of

_LOCK = 7_203_445


@dataclass(frozen=True)
class Grounds:
    """All that a verdict is made of; the same grounds always give the same verdict."""

    look: Look
    memory: Memory
    terms: Terms

    def decide(self) -> tuple[Decision, Memory]:
        """The verdict, and the memory for the next look."""
        return verdict.decide(self.look, self.memory, self.terms)


@dataclass(frozen=True)
class Standing:
    """How a candidate stands: the verdict, and the newest look of its present run that is on record."""

    variant: Variant
    seen: Seen
    decision: Decision
    present: Decision
    """What this moment's numbers say by themselves; another than `decision` where a rollback on record stands."""
    recommended: Recommendation | None
    grounds: Grounds
    """What `decision` is made of."""

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


_NEWEST = text("""
SELECT newest.* FROM unnest(CAST(:variants AS uuid[]), CAST(:first_steps AS bigint[]), CAST(:before AS date[]))
                     k (variant_id, first_step_id, before)
 CROSS JOIN LATERAL (
       SELECT * FROM promotion.recommendations r
        WHERE r.variant_id = k.variant_id AND r.first_step_id = k.first_step_id
          AND r.day < coalesce(k.before, 'infinity') ORDER BY r.id DESC LIMIT 1) newest
""")


def _newest(
    session: Session, runs: Mapping[uuid.UUID, Seen], *, before: Mapping[uuid.UUID, date] | None = None
) -> dict[uuid.UUID, Recommendation]:
    """The newest look on record of each variant's run, or the newest before a day."""
    values = {
        "variants": list(runs),
        "first_steps": [seen.first_step_id for seen in runs.values()],
        "before": [(before or {}).get(variant) for variant in runs],
    }
    query = select(Recommendation).from_statement(_NEWEST).execution_options(populate_existing=True)
    return {found.variant_id: found for found in session.scalars(query, values)}


def _memory(found: Recommendation | None) -> Memory:
    return Memory.from_json(found.memory) if found else Memory()


def standing(
    session: Session, experiment: Experiment, variant: Variant, baseline: Variant, terms: AllTerms
) -> Standing:
    """What holds at this moment; the day's look (the day is UTC's) is made and kept where it was not yet.

    The statistics allow a rollback on two grounds: the daily look's boundary, and evidence so strong that it counts
    at any time. Once found, it is on record and stands until the next daily look, whatever the looks in between show,
    unless people gave the candidate more traffic all the same. Doubts about the data come before both; a daily look
    that trusted nothing has spent nothing and is made again.

    Rows are written without locking the experiment: they change neither shares nor stages, and looks at one variant
    wait for each other.
    """
    [found] = _standings(session, [Pair(experiment, variant, baseline, variants(session, experiment))], terms)
    return found


@dataclass(frozen=True)
class _Made:
    """A verdict that was reached a moment ago, and the look on record that it goes on from."""

    pair: Pair
    seen: Seen
    grounds: Grounds
    before: Recommendation | None
    found: Decision
    memory: Memory

    @property
    def look(self) -> Look:
        """What was seen."""
        return self.grounds.look

    @property
    def is_to_keep(self) -> bool:
        """True for a daily look, and for the first alarm of a look in between."""
        is_alarm = self.found.action == "rollback" and _may_keep(self.pair)
        return self.look.is_daily or (is_alarm and self.before is not None and self.before.action != "rollback")


def _may_keep(pair: Pair) -> bool:
    return pair.experiment.status == "active" and pair.variant.allocation > 0


def _standings(session: Session, pairs: Sequence[Pair], terms: AllTerms) -> list[Standing]:
    """How candidates stand, each variant once; what is due is kept."""
    if not pairs:
        return []
    now = db.now_of(session)
    found = looks.read(session, pairs, now=now, price_per_1000_tokens=terms.price_per_1000_tokens)
    seen = {pair.variant.id: one for pair, one in zip(pairs, found, strict=True)}
    judged = {pair.variant.id for pair in pairs if _may_keep(pair) and seen[pair.variant.id].can_be_judged}
    due = _due(session, judged, now.date())
    before = _newest(session, seen, before=dict.fromkeys(due, now.date()))
    made = [_decide(pair, seen[key := pair.variant.id], before.get(key), terms, is_daily=key in due) for pair in pairs]
    to_keep = [one for one in made if one.is_to_keep]
    _keep(session, sorted(to_keep, key=lambda one: one.pair.variant.id), now.date())
    last = before | _newest(session, {one.pair.variant.id: one.seen for one in to_keep}) if to_keep else before
    return [_standing(session, one, last.get(one.pair.variant.id)) for one in made]


def _decide(pair: Pair, seen: Seen, before: Recommendation | None, terms: AllTerms, *, is_daily: bool) -> _Made:
    look = replace(seen.look, is_daily=is_daily)
    grounds = Grounds(look, _memory(before), terms.of(pair.experiment.name))
    return _Made(pair, seen, grounds, before, *grounds.decide())


def _standing(session: Session, made: _Made, last: Recommendation | None) -> Standing:
    found, grounds = made.found, made.grounds
    if last is not None and found.action != "hold" and _stands(last, made.look, grounds.terms.rule):
        grounds = grounds_of(session, last)
        found = grounds.decide()[0]
    return Standing(made.pair.variant, made.seen, found, made.found, last, grounds)


_LOCKED = text("""
SELECT pg_advisory_xact_lock(:lock, lane)
  FROM (SELECT DISTINCT hashtext(id) AS lane FROM unnest(CAST(:ids AS text[])) id ORDER BY lane OFFSET 0) lanes
""")
"""Always in the same order, so that nobody waits for somebody who waits for them."""


def _due(session: Session, among: Set[uuid.UUID], day: date) -> Set[uuid.UUID]:
    """Of which variants the day's look is still to be made, or trusted nothing; others wait until this one is kept."""

    def still(among: Set[uuid.UUID]) -> Set[uuid.UUID]:
        query = select(Recommendation.variant_id).where(
            Recommendation.variant_id.in_(among),
            Recommendation.day == day,
            Recommendation.is_daily,
            Recommendation.action != "hold",
        )
        return among - set(session.scalars(query)) if among else among

    if not (due := still(among)):
        return due
    session.execute(_LOCKED, {"lock": _LOCK, "ids": [str(variant) for variant in due]})
    return still(due)


def _keep(session: Session, made: Sequence[_Made], day: date) -> None:
    """Keeps looks; a daily one takes the place of one that trusted nothing, and nothing else is ever replaced."""
    if not made:
        return
    kept = looks.keep(session, [one.look for one in made])
    rows = [
        {
            "experiment_id": one.pair.experiment.id,
            "variant_id": one.pair.variant.id,
            "first_step_id": one.seen.first_step_id,
            "step_id": one.seen.step_id,
            "day": day,
            "is_daily": one.look.is_daily,
            "action": one.found.action,
            "why": one.found.why,
            "terms": looks.keep_terms(one.grounds.terms),
            "look": look,
            "previous_id": one.before.id if one.before else None,
            "memory": one.memory.to_json(),
            "decision": verdict.as_text(one.found),
        }
        for one, look in zip(made, kept, strict=True)
    ]
    query = insert(Recommendation)
    session.execute(
        query.on_conflict_do_update(
            constraint="one_look_of_a_kind_per_day",
            set_={**{name: query.excluded[name] for name in rows[0]}, "made_at": func.now()},
            where=(Recommendation.action == "hold") & (query.excluded.action != "hold"),
        ),
        rows,
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
    return grounds_of(session, made).decide()[0]


def grounds_of(session: Session, made: Recommendation) -> Grounds:
    """What a recommendation was made of, from nothing but what was stored."""
    before = session.get(Recommendation, made.previous_id) if made.previous_id else None
    return Grounds(looks.restore(session, made.look), _memory(before), looks.restore_terms(made.terms))


def keep_evidence(session: Session, standing: Standing) -> dict[str, Any]:
    """A verdict with all that it is made of, for the record; `restore_evidence` gives the grounds back."""
    found, grounds = standing.decision, standing.grounds
    [look] = looks.keep(session, [grounds.look])
    return {
        "look": look,
        "terms": looks.keep_terms(grounds.terms),
        "memory": grounds.memory.to_json(),
        "recommendation": standing.recommended.id if standing.recommended else None,
        "metrics": [[f.state, f.metric.title + f.where, compared(f.telling)] for f in found.findings],
        "decision": verdict.as_text(found),
    }


def restore_evidence(session: Session, kept: Mapping[str, Any]) -> Grounds:
    """The grounds that `keep_evidence` kept."""
    look, memory = looks.restore(session, kept["look"]), Memory.from_json(kept["memory"])
    return Grounds(look, memory, looks.restore_terms(kept["terms"]))


def recommend(session: Session, experiments: Sequence[uuid.UUID], terms: AllTerms) -> dict[uuid.UUID, list[Standing]]:
    """Looks at the candidates of some experiments together, at a fraction of the cost of one by one.

    What is due is kept; where one of them fails, nothing of any, and the caller then takes them one by one. More than
    some 25 is hardly faster, and people who ask about one of them wait for all.
    """
    pairs = _pairs(session, list(session.scalars(select(Experiment).where(Experiment.id.in_(experiments)))))
    found: dict[uuid.UUID, list[Standing]] = {experiment: [] for experiment in experiments}
    for pair, one in zip(pairs, _standings(session, pairs, terms), strict=True):
        found[pair.experiment.id].append(one)
    return found


def _pairs(session: Session, experiments: Sequence[Experiment]) -> list[Pair]:
    there = variants_of(session, [experiment.id for experiment in experiments])
    bases = baselines(session, there)
    return [
        Pair(experiment, variant, base, there[experiment.id])
        for experiment in experiments
        if (base := bases.get(experiment.id))
        for variant in beside(base, there[experiment.id])
    ]
