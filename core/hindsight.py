"""What past days' verdicts would have been on other terms, from nothing but what was stored."""

from __future__ import annotations

import uuid
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from datetime import date, datetime, timedelta
from itertools import chain
from typing import Any, Final

from sqlalchemy import select, text
from sqlalchemy.orm import Session

from core import db, ledger, looks
from core.recommendations import Grounds
from core.rules.decision import Terms
from core.rules.metrics import Metric, Quantile, Ratio
from core.rules.samples import LATENCY, Sample
from core.rules.sequential import Memory
from core.rules.verdict import Action, Look
from core.settings import Settings
from core.tables import AllocationStep, LedgerEntry, Recommendation

NOTHING: Final = Ratio("", "")
"""Where a metric reads that nobody collected."""


@dataclass(frozen=True)
class Run:
    """One run of a candidate in an experiment; the names are those of then, or ids where nobody knows them."""

    experiment: str
    variant: str
    variant_id: uuid.UUID
    first_step_id: int


@dataclass(frozen=True)
class Change:
    """A day's verdict that would have been another."""

    run: Run
    day: date
    said: str
    found: Action
    why: str
    """Why it would have been `found`."""
    is_hypothetical: bool
    """True after the first such verdict of a run: people would have acted otherwise from there on."""
    is_older: bool
    """True where it was judged on other terms than those in force now."""
    without: tuple[str, ...] = ()
    """The metrics that it was judged without, since they were not collected then."""


@dataclass(frozen=True)
class Hindsight:
    """The verdicts of some days judged anew: how many, which would have been others, and what could not be known."""

    looks: int = 0
    changes: tuple[Change, ...] = ()
    without: Mapping[str, tuple[date, ...]] = field(default_factory=dict)
    """By metric: the days of the looks that were judged anew as if nobody logged it, since what is stored of it was
    not collected then, or by another definition."""
    not_whole: int = 0
    """Looks of which only the action and the sentence were kept."""

    @staticmethod
    def total(parts: Iterable[Hindsight]) -> Hindsight:
        """All of them together."""
        found = list(parts)
        return Hindsight(
            sum(part.looks for part in found),
            tuple(change for part in found for change in part.changes),
            {name: _days(part.without.get(name, ()) for part in found) for part in found for name in part.without},
            sum(part.not_whole for part in found),
        )


def _days(parts: Iterable[tuple[date, ...]]) -> tuple[date, ...]:
    return tuple(sorted(chain.from_iterable(parts)))


@dataclass(frozen=True)
class Question:
    """Two ways of judging: the one in force and another, from which day on."""

    before: Settings
    after: Settings
    since: date
    redefined: Mapping[str, datetime] = field(default_factory=dict)
    """By metric: since when it is collected as the other way asks, where something else was collected before."""

    @property
    def strangers(self) -> frozenset[str]:
        """Metrics for which something is collected that is not collected now, or something else."""
        known = self.before.collected
        return frozenset(one.name for one in self.after.collected if one not in known)


def first_day(session: Session, days: int) -> date:
    """The first of the last so many days (UTC's), today included."""
    return db.now_of(session).date() - timedelta(days=days - 1)


def redefined(session: Session, after: Settings) -> dict[str, datetime]:
    """By metric: since when it is collected as a configuration asks, where the record knows another definition."""
    query = select(LedgerEntry.at, LedgerEntry.evidence).where(LedgerEntry.action == ledger.POLICY)
    known = session.execute(query.order_by(LedgerEntry.id)).all()
    wanted = {metric.name: _definition(after.policy, metric.name) for metric in after.collected}
    found: dict[str, datetime] = {}
    for name, definition in wanted.items():
        was_other = False
        for row in known:
            then = _definition(row.evidence or {}, name)
            if was_other and then == definition:
                found[name] = row.at
            was_other = then != definition and (was_other or any(then))
    return found


def _definition(policy: Mapping[str, Any], name: str) -> tuple[Any, ...]:
    return tuple(policy.get(f"metrics.custom.{name}.{kind}") for kind in ("share", "count", "mean", "ratio", "of"))


_RUNS = text("""
SELECT coalesce(e.name, CAST(r.experiment_id AS text)) AS experiment,
       coalesce(o.variant, v.name, CAST(r.variant_id AS text)) AS variant, r.variant_id, r.first_step_id
  FROM (SELECT experiment_id, variant_id, first_step_id, min(id) AS first
          FROM promotion.recommendations WHERE is_daily AND day >= :since GROUP BY 1, 2, 3) r
  LEFT JOIN exp.experiments e ON e.id = r.experiment_id
  LEFT JOIN exp.variants v ON v.id = r.variant_id
  LEFT JOIN promotion.rollouts o ON o.variant_id = r.variant_id AND o.first_step_id = r.first_step_id
 ORDER BY 1, r.first
""")


def runs(session: Session, since: date) -> list[Run]:
    """The runs with a daily look since a day, by the name of their experiment."""
    return [Run(*row) for row in session.execute(_RUNS, {"since": since})]


_DAILY = (
    select(
        Recommendation.id,
        Recommendation.day,
        Recommendation.action,
        Recommendation.terms,
        Recommendation.look,
        Recommendation.decision.is_not(None).label("is_whole"),
    )
    .where(Recommendation.is_daily)
    .order_by(Recommendation.id)
)


def judge_anew(session: Session, run: Run, question: Question) -> Hindsight:
    """The daily verdicts of a run since a day, on other terms.

    It begins with the run's first look, whenever that was: what a daily look has spent of the budget is carried along.
    Looks in between do not change it.
    """
    mine = (Recommendation.variant_id == run.variant_id) & (Recommendation.first_step_id == run.first_step_id)
    again = _Again(session, run, question)
    return Hindsight.total([again.next(row) for row in session.execute(_DAILY.where(mine)).all()])


class _Again:
    """Goes along the daily looks of one run, oldest first."""

    def __init__(self, session: Session, run: Run, question: Question) -> None:
        self._session, self._run, self._question = session, run, question
        self._old, self._new = (_terms(found, run) for found in (question.before, question.after))
        self._memory: Memory | None = None
        """What the look before left on the other terms; None while it is just what was stored."""
        self._last: int | None = None
        self._samples: dict[str, Sample] = {}
        self._has_differed = False
        began = session.scalar(select(AllocationStep.started_at).where(AllocationStep.id == run.first_step_id))
        self._redefined = frozenset(
            name for name, since in question.redefined.items() if began is not None and began < since
        )
        """Metrics of which at least a part was collected by another definition: sums go back to the run's beginning."""

    def next(self, row: Any) -> Hindsight:
        """The next look."""
        then = looks.restore_terms(row.terms)
        action, why, without = self._judged(row, then)
        self._last = row.id
        is_hypothetical, differs = self._has_differed, action != row.action
        self._has_differed |= differs
        if row.day < self._question.since:
            return Hindsight()
        change = Change(self._run, row.day, row.action, action, why, is_hypothetical, then != self._old, without)
        return Hindsight(1, (change,) * differs, dict.fromkeys(without, (row.day,)), int(not row.is_whole))

    def _judged(self, row: Any, then: Terms) -> tuple[Action, str, tuple[str, ...]]:
        if self._memory is None and then == self._new and not (self._question.strangers or self._redefined):
            return row.action, "", ()  # the same grounds always give the same verdict
        if self._memory is None:
            self._memory = self._stored()
        look = looks.restore(self._session, row.look, self._samples)
        without = tuple(m.name for m in self._new.metrics if self._is_unknown(m, then, look))
        metrics = tuple(_unknown(m) if m.name in without else m for m in self._new.metrics)
        grounds = Grounds(look, self._memory, replace(self._new, metrics=metrics))
        found, self._memory = grounds.decide()
        return found.action, found.why, without

    def _stored(self) -> Memory:
        kept = self._session.scalar(select(Recommendation.memory).where(Recommendation.id == self._last))
        return Memory() if kept is None else Memory.from_json(kept)

    def _is_unknown(self, metric: Metric, then: Terms, look: Look) -> bool:
        """True where the look cannot say what the metric was; what nobody logged though it was asked for is known."""
        if look.aggregated is not None:
            return False
        if metric.name in self._redefined:
            return True
        before = next((known.source for known in then.metrics if known.name == metric.name), None)
        if before is not None and _reads(before) != _reads(metric.source):
            return _reads(metric.source) != LATENCY  # which is collected of everybody
        is_there = before is not None or any(_has(metric, arm) for s in look.steps for arm in (s.baseline, s.candidate))
        return metric.name in self._question.strangers or not is_there


def _terms(found: Settings, run: Run) -> Terms:
    """What a look at a run keeps of the terms."""
    return looks.restore_terms(looks.keep_terms(found.terms.of(run.experiment)))


def _has(metric: Metric, sample: Sample) -> bool:
    source = metric.source
    if isinstance(source, Ratio):
        return sample.total_of(source.denominator) > 0
    return sample.counts_of(source.histogram).many > 0


def _reads(source: Ratio | Quantile) -> Ratio | str:
    """What of a sample is read: all quantiles of one histogram are known together."""
    return source if isinstance(source, Ratio) else source.histogram


def _unknown(metric: Metric) -> Metric:
    """The metric as if nobody logged it, holding up nothing."""
    return replace(metric, source=NOTHING, required=False)
