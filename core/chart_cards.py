"""What charts show of a rollout: its shares over time, and how far each metric is from its limit."""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from decimal import Decimal

from sqlalchemy.orm import Session

from core import db, evidence, measure
from core.recommendations import Standing
from core.rules.decision import AllTerms
from core.rules.findings import Finding, State
from core.rules.metrics import Metric
from core.tables import Experiment, Variant
from core.variants import baseline_or_note, candidate, find_experiment, running_of, variants


@dataclass(frozen=True)
class Period:
    """Constant shares since a moment, by variant; variants without any are left out."""

    started_at: datetime
    shares: Mapping[str, Decimal]


@dataclass(frozen=True)
class Difference:
    """One metric of the candidate against the baseline.

    `change`, its interval from `low` to `high`, and `limit` (the worst that is still accepted) are in percent of the
    baseline; None where there is none, at an end of the interval where it is open.
    """

    metric: Metric
    state: State
    candidate: float | None
    baseline: float | None
    change: float | None
    low: float | None
    high: float | None
    limit: float | None
    problem: str | None

    @property
    def room(self) -> float | None:
        """How much worse is accepted, in percent; None without a limit, and where the baseline keeps it no better."""
        room = None if self.limit is None else self._harm(self.limit)
        return room if room is not None and room > 0 else None

    @property
    def used(self) -> float | None:
        """The harm in percent of the room: above 0 is worse than the baseline, above 100 beyond the limit."""
        return self._part(self.change)

    @property
    def used_at_best(self) -> float | None:
        """The same at that end of the interval which is the better one."""
        return self._part(self.high if self.metric.higher_is_better else self.low)

    @property
    def used_at_worst(self) -> float | None:
        """The same at that end of the interval which is the worse one."""
        return self._part(self.low if self.metric.higher_is_better else self.high)

    def _harm(self, change: float) -> float:
        return -change if self.metric.higher_is_better else change

    def _part(self, change: float | None) -> float | None:
        room = self.room
        return None if change is None or room is None else 100 * self._harm(change) / room


@dataclass(frozen=True)
class ChartCard:
    """An experiment's shares since its first step, and where a candidate is looked at, its differences."""

    experiment: str
    variants: tuple[str, ...]
    """Those that had a share, in the order they joined."""
    periods: tuple[Period, ...]
    until: datetime
    variant: str | None = None
    baseline: str | None = None
    share: Decimal | None = None
    differences: tuple[Difference, ...] = ()
    seen_until: datetime | None = None


def chart_card(
    session: Session, experiment: str | uuid.UUID, variant: str | uuid.UUID | None, *, terms: AllTerms
) -> ChartCard:
    """What charts show; without a running candidate and without `variant`, the shares alone.

    Raises:
        Refused: where there is no such experiment or variant, or several candidates run and no name says which.
    """
    place = find_experiment(session, experiment, lock=False)
    if variant is None and not running_of(session, place)[1]:
        return _shares_card(session, place)
    own = terms.of(place.name)
    return _of_candidate(session, place, evidence.standing(session, place, candidate(session, place, variant), own))


def _shares_card(session: Session, experiment: Experiment) -> ChartCard:
    """The shares of an experiment over time."""
    now = db.now_of(session)
    there = variants(session, experiment)
    names = {one.id: one.name for one in there}
    periods = _periods(session, experiment, there, names)
    served = {name for period in periods for name in period.shares}
    joined = [*names.values(), *sorted(served - set(names.values()))]
    return ChartCard(experiment.name, tuple(name for name in joined if name in served), periods, now)


def _of_candidate(session: Session, experiment: Experiment, look: Standing) -> ChartCard:
    base, _ = baseline_or_note(session, experiment)
    return replace(
        _shares_card(session, experiment),
        variant=look.variant.name,
        baseline=base.name if base else None,
        share=look.share,
        differences=tuple(_difference(finding) for finding in look.decision.findings),
        seen_until=look.decision.seen_until,
    )


def _periods(
    session: Session, experiment: Experiment, there: list[Variant], names: Mapping[uuid.UUID, str]
) -> tuple[Period, ...]:
    steps = measure.steps(session, experiment.id)
    if not steps:
        present = {one.name: one.allocation for one in there if one.allocation}
        return (Period(evidence.step_start(session, experiment), present),)
    return tuple(
        Period(
            step.started_at,
            {_name(key, names): Decimal(str(share)) for key, share in step.shares.items() if Decimal(str(share))},
        )
        for step in steps
    )


def _name(key: str, names: Mapping[uuid.UUID, str]) -> str:
    return names.get(uuid.UUID(key), f"deleted {key[:8]}")


def _difference(finding: Finding) -> Difference:
    found = finding.telling
    is_bounded = found.bound is not None and bool(found.baseline)
    return Difference(
        metric=replace(finding.metric, title=f"{finding.metric.title}{finding.where}"),
        state=finding.state,
        candidate=found.candidate,
        baseline=found.baseline,
        change=_percent(found.ratio),
        low=_percent(found.low),
        high=_percent(found.high),
        limit=_percent((found.bound or 0.0) / (found.baseline or 1.0)) if is_bounded else None,
        problem=found.problem,
    )


def _percent(ratio: float | None) -> float | None:
    return None if ratio is None else 100 * (ratio - 1)
