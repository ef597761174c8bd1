"""One look at a candidate: read from samples, kept as evidence, and read back to the last bit."""

from __future__ import annotations

import hashlib
import uuid
from collections.abc import Callable, Mapping, MutableMapping, Sequence
from dataclasses import asdict, dataclass, fields, replace
from datetime import date, datetime, timedelta
from decimal import Decimal
from typing import Any, Final

from sqlalchemy import select, text
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session

from core import ledger, measure
from core.measure import DaySample, Freshness, StepSamples
from core.rules.checks import History, Traffic
from core.rules.decision import MINIMUM_DAYS, Terms
from core.rules.estimates import FEWEST_PLANS, Step
from core.rules.metrics import Metric, Quantile, Ratio, VariantMetrics
from core.rules.samples import Sample
from core.rules.verdict import Aggregates, Look
from core.tables import Evidence, Experiment, Variant

WEEK: Final = timedelta(days=7)
SLOT: Final = timedelta(minutes=15)


@dataclass(frozen=True)
class Seen:
    """A look with the period it belongs to: the first step of the candidate's present run, and the present step."""

    look: Look
    first_step_id: int
    step_id: int
    since: datetime
    run: Sequence[StepSamples]
    """The steps since the candidate joined, the present one last."""

    @property
    def can_be_judged(self) -> bool:
        """True where the present step is on record and there is something to judge by."""
        has_plans = any(step.candidate.plans for step in self.look.steps)
        return self.step_id != UNKNOWN and (has_plans or self.look.aggregated is not None)


# --- Reading --------------------------------------------------------------------------------------------------------


UNKNOWN: Final = 0
"""Stands for a step that is not on record yet: the shares were changed by others a moment ago."""


@dataclass(frozen=True)
class Pair:
    """A candidate, what it is compared with, and all variants of their experiment."""

    experiment: Experiment
    variant: Variant
    baseline: Variant
    there: Sequence[Variant]


def _first_of_run(steps: measure.Steps, variant_id: uuid.UUID) -> int:
    """Where the candidate last joined; whatever came before a step without a share of its own is void."""
    without = [n for n, step in enumerate(steps[:-1], 1) if not float(step.shares.get(str(variant_id), 0))]
    return max(without, default=0)


def first_step(steps: measure.Steps, variant_id: uuid.UUID) -> int:
    """The id of the step with which a candidate's present run began."""
    found: int = steps[_first_of_run(steps, variant_id)].id if steps else UNKNOWN
    return found


def _known(
    experiment: Experiment, there: Sequence[Variant], found: Sequence[StepSamples], now: datetime
) -> Sequence[StepSamples]:
    """The steps on record, and where the shares are others by now a step of its own that is not on record yet."""
    shares = {one.id: one.allocation for one in there if one.allocation}
    if found and found[-1].shares == shares:
        return found
    since = now if found else experiment.start_at or experiment.created_at
    return [*found, StepSamples(UNKNOWN, since, None, shares, "noticed", {})]


def _run(steps: Sequence[StepSamples], variant_id: uuid.UUID) -> Sequence[StepSamples]:
    """The same on steps that were read: shares changed a moment ago may have let the candidate in anew."""
    without = [n for n, step in enumerate(steps[:-1], 1) if not step.shares.get(variant_id)]
    return steps[max(without, default=0) :]


def read(
    session: Session, pairs: Sequence[Pair], *, now: datetime, price_per_1000_tokens: Decimal | None = None
) -> list[Seen]:
    """What is known of candidates against their baselines, from samples alone; for all at once, by few queries."""
    runs = _runs(session, pairs, price_per_1000_tokens, now)
    facts = _facts(session, pairs, runs, price_per_1000_tokens, now)
    found = []
    for pair, run, respect in zip(pairs, runs, _constraint_respect(session, pairs, runs, now), strict=True):
        seen = Seen(_look(pair, run, respect, facts), run[0].step_id, run[-1].step_id, run[-1].started_at or now, run)
        if not any(step.candidate.plans or step.baseline.plans for step in seen.look.steps):
            seen = replace(seen, look=_with_aggregates(session, seen.look, pair, since=seen.since, now=now))
        found.append(seen)
    return found


def _runs(session: Session, pairs: Sequence[Pair], price: Decimal | None, now: datetime) -> list[Sequence[StepSamples]]:
    """The steps of each candidate's present run; what came before the first of an experiment's runs is not read."""
    steps = measure.steps_of(session, {pair.experiment.id for pair in pairs})
    first: dict[uuid.UUID, int] = {}
    for pair in pairs:
        key = pair.experiment.id
        at = _first_of_run(steps[key], pair.variant.id)
        first[key] = min(at, first.get(key, at))
    wanted = {key: steps[key][at:] for key, at in first.items()}
    found = measure.samples_of(session, wanted, price_per_1000_tokens=price)
    return [
        _run(_known(pair.experiment, pair.there, found[pair.experiment.id], now), pair.variant.id) for pair in pairs
    ]


@dataclass(frozen=True)
class _Facts:
    """What is read beside the steps, by experiment; the days by variant."""

    now: datetime
    fresh: Mapping[uuid.UUID, Freshness]
    pauses: Mapping[uuid.UUID, ledger.Pauses]
    units: Mapping[uuid.UUID, measure.Units]
    days: Mapping[uuid.UUID, Sequence[DaySample]]


def _facts(
    session: Session, pairs: Sequence[Pair], runs: Sequence[Sequence[StepSamples]], price: Decimal | None, now: datetime
) -> _Facts:
    experiments = {pair.experiment.id for pair in pairs}
    present = {pair.experiment.id: run[-1:] for pair, run in zip(pairs, runs, strict=True)}
    return _Facts(
        now,
        measure.freshness_of(session, experiments),
        ledger.pauses(session, experiments, until=now),
        measure.assigned_units(session, present),
        _days(session, pairs, now.date(), price),
    )


def _look(pair: Pair, run: Sequence[StepSamples], respect: Mapping[uuid.UUID, float], facts: _Facts) -> Look:
    experiment, variant, baseline, now = pair.experiment.id, pair.variant, pair.baseline, facts.now
    present, names = run[-1], {one.id: one.name for one in pair.there}
    since, first = (step.started_at or now for step in (present, run[0]))
    fresh, pauses = facts.fresh[experiment], facts.pauses[experiment]
    units = _newcomers(present, facts.units[experiment])
    return Look(
        steps=tuple(
            _step(step, baseline.id, variant.id) for step in run if variant.id in step.variants or step is present
        ),
        share=variant.allocation,
        days=ledger.days_at_work(first, now, pauses),
        days_in_step=ledger.days_at_work(since, now, pauses),
        seen_until=fresh.seen_until or since,
        is_daily=False,
        units={names.get(key, str(key)): units.get(key, 0) for key in present.shares},
        shares={names.get(key, str(key)): share for key, share in present.shares.items()},
        traffic=traffic(fresh, since, now),
        history=_history(facts.days, pair, present.step_id, now.date()),
        constraint_respect=respect.get(variant.id),
        baseline_constraint_respect=respect.get(baseline.id),
    )


def _with_aggregates(session: Session, look: Look, pair: Pair, *, since: datetime, now: datetime) -> Look:
    """The look of a team that keeps aggregates instead of events; unchanged where there are none either."""
    variant, baseline = pair.variant, pair.baseline
    found = measure.from_aggregates(session, pair.experiment.id, since=since)
    if found is None or not {variant.id, baseline.id} <= found.variants.keys():
        return look
    behind = max((now - found.until).total_seconds() / 3600, 0.0)
    arms = (found.variants[variant.id], found.variants[baseline.id])
    aggregated = Aggregates(*arms, hours_behind=behind, bucket_hours=found.bucket_hours)
    return replace(look, aggregated=aggregated, seen_until=min(found.until, now), traffic=None, history=None)


def _newcomers(present: StepSamples, units: measure.Units) -> Mapping[uuid.UUID, int]:
    """The units that came to each variant in the present step; none where its shares or its beginning are a guess."""
    if present.step_id == UNKNOWN or present.source == "reconstructed":
        return {}
    return units.by_step.get(present.step_id, {})


def _step(step: StepSamples, baseline_id: uuid.UUID, variant_id: uuid.UUID) -> Step:
    return Step(
        *(step.variants[key].sample if key in step.variants else Sample.empty() for key in (baseline_id, variant_id))
    )


def traffic(fresh: Freshness, since: datetime, now: datetime) -> Traffic:
    """How events arrive. What counts is now: measuring that stands still is as bad as events that stay away."""
    last = since if fresh.last_plan_at is None else fresh.last_plan_at + SLOT
    return Traffic(
        minutes_since_last=max((now - last).total_seconds() / 60, 0.0),
        last_hour=fresh.plans_last_hour,
        last_hour_a_week_ago=fresh.plans_same_hour_last_week,
        measured_minutes_ago=None if fresh.seen_until is None else (now - fresh.seen_until).total_seconds() / 60,
        plans_an_hour=fresh.plans_an_hour,
    )


def _days(
    session: Session, pairs: Sequence[Pair], today: date, price: Decimal | None
) -> dict[uuid.UUID, Sequence[DaySample]]:
    """The parts of the last days by variant: of candidates since yesterday, of baselines with the week before that."""
    yesterday = today - timedelta(days=1)
    since = {pair.variant.id: yesterday for pair in pairs} | {pair.baseline.id: yesterday - WEEK for pair in pairs}
    found: dict[uuid.UUID, list[DaySample]] = {}
    for part in measure.days_of(session, since, price_per_1000_tokens=price):
        found.setdefault(part.variant_id, []).append(part)
    return dict(found)


def _history(days: Mapping[uuid.UUID, Sequence[DaySample]], pair: Pair, step_id: int, today: date) -> History | None:
    """The last day of both arms, with yesterday where today has too little yet, and the baseline's week before.

    What of the last day was in the present step, `step_id`, is there once more by itself.
    """
    baseline, candidate = (days.get(one.id, ()) for one in (pair.baseline, pair.variant))
    first = today
    if sum(part.sample.plans for part in candidate if part.day >= today) < FEWEST_PLANS:
        first = today - timedelta(days=1)
    week = tuple(part.sample for part in baseline if part.day < first)
    if not any(part.plans for part in week):
        return None
    last, mine = ([part for part in arm if part.day >= first] for arm in (baseline, candidate))
    lately = (tuple(part.sample for part in arm if part.step_id == step_id) for arm in (last, mine))
    return History(week, tuple(part.sample for part in last), tuple(part.sample for part in mine), *lately)


# A bucket counts where it ends after the beginning; what the hours of its other part saw cannot be told from it.
_RESPECT = text("""
SELECT k.n, m.variant_id, CAST(min(coalesce(m.min, m.mean)) AS float8) AS respect
  FROM unnest(CAST(:ids AS uuid[]), CAST(:since AS timestamptz[])) WITH ORDINALITY k (experiment_id, since, n)
  JOIN exp.metric_aggregates m USING (experiment_id)
 WHERE m.metric_name = 'constraint_respect'
   AND m.bucket_start > k.since - CASE m.bucket_type WHEN 'daily' THEN interval '1 day' ELSE interval '1 hour' END
 GROUP BY 1, 2
""")


def _constraint_respect(
    session: Session, pairs: Sequence[Pair], runs: Sequence[Sequence[StepSamples]], now: datetime
) -> list[dict[uuid.UUID, float]]:
    """The lowest share of plans that respected all constraints in each run, where the platform aggregates it."""
    values = {"ids": [pair.experiment.id for pair in pairs], "since": [run[0].started_at or now for run in runs]}
    found: list[dict[uuid.UUID, float]] = [{} for _ in pairs]
    for row in session.execute(_RESPECT, values):
        if row.respect is not None:
            found[row.n - 1][row.variant_id] = row.respect
    return found


# --- Keeping --------------------------------------------------------------------------------------------------------


def keep(session: Session, looks: Sequence[Look]) -> list[dict[str, Any]]:
    """Looks as rows keep them; their samples go to `promotion.evidence`, each once."""
    contents: dict[str, bytes] = {}
    kept = [_kept(look, contents) for look in looks]
    # In this order everywhere, so that two who keep the same never wait for each other.
    rows = [{"digest": key, "content": contents[key]} for key in sorted(contents)]
    if rows:
        session.execute(insert(Evidence).on_conflict_do_nothing(), rows)
    return kept


def _kept(look: Look, contents: dict[str, bytes]) -> dict[str, Any]:
    """A look as a row keeps it; the samples that it names by digest are added to `contents`."""

    def digest(sample: Sample) -> str:
        content = sample.to_bytes()
        key = hashlib.sha256(content).hexdigest()
        contents[key] = content
        return key

    return {
        "steps": [[digest(step.baseline), digest(step.candidate)] for step in look.steps],
        "share": str(look.share),
        "days": look.days,
        "days_in_step": look.days_in_step,
        "seen_until": look.seen_until.isoformat(),
        "is_daily": look.is_daily,
        "units": dict(look.units),
        "shares": {key: str(share) for key, share in look.shares.items()},
        "traffic": asdict(look.traffic) if look.traffic else None,
        "history": _history_kept(look.history, digest) if look.history else None,
        "constraint_respect": look.constraint_respect,
        "baseline_constraint_respect": look.baseline_constraint_respect,
        "aggregated": asdict(look.aggregated) if look.aggregated else None,
    }


def _history_kept(history: History, digest: Callable[[Sample], str]) -> list[list[str]]:
    return [[digest(sample) for sample in getattr(history, part.name)] for part in fields(History)]


def restore(session: Session, kept: Mapping[str, Any], known: MutableMapping[str, Sample] | None = None) -> Look:
    """The look that `keep` kept.

    `known` are samples of the look before, and afterwards those of this one: most of two that follow are the same.
    """
    # Each was once kept as the sum of its parts.
    history = [[found] if isinstance(found, str) else found for found in kept["history"] or ()]
    wanted = {key for keys in (*kept["steps"], *history) for key in keys}
    samples = {} if known is None else known
    for digest in samples.keys() - wanted:
        del samples[digest]
    missing = Evidence.digest.in_(wanted - samples.keys())
    rows = session.execute(select(Evidence.digest, Evidence.content).where(missing))
    samples.update({row.digest: Sample.from_bytes(row.content) for row in rows})
    return Look(
        steps=tuple(Step(*(samples[key] for key in pair)) for pair in kept["steps"]),
        share=Decimal(kept["share"]),
        days=kept["days"],
        days_in_step=kept["days_in_step"],
        seen_until=datetime.fromisoformat(kept["seen_until"]),
        is_daily=kept["is_daily"],
        units=kept["units"],
        shares={key: Decimal(share) for key, share in kept["shares"].items()},
        traffic=Traffic(**kept["traffic"]) if kept["traffic"] else None,
        history=History(*(tuple(samples[key] for key in keys) for keys in history)) if history else None,
        constraint_respect=kept["constraint_respect"],
        baseline_constraint_respect=kept["baseline_constraint_respect"],
        aggregated=_restored_aggregates(kept["aggregated"]),
    )


def _restored_aggregates(kept: Mapping[str, Any] | None) -> Aggregates | None:
    if kept is None:
        return None
    arms = {arm: VariantMetrics(**kept[arm]) for arm in ("candidate", "baseline")}
    return Aggregates(**{**kept, **arms})


_SOURCES: Final = {"ratio": Ratio, "quantile": Quantile}


def keep_terms(terms: Terms) -> dict[str, Any]:
    """The terms of a verdict as a row keeps them; prices are in the samples already."""
    return {
        "steps": [str(step) for step in terms.steps],
        "minimum_samples": terms.minimum_samples,
        "minimum_days": {str(share): days for share, days in terms.minimum_days.items()},
        "rule": terms.rule,
        "metrics": [
            asdict(metric) | {"source": {"kind": type(metric.source).__name__.lower(), **asdict(metric.source)}}
            for metric in terms.metrics
        ],
    }


def restore_terms(kept: Mapping[str, Any]) -> Terms:
    """The terms that `keep_terms` kept; before days could be chosen, they were the document's."""
    days = {Decimal(share): least for share, least in kept.get("minimum_days", {}).items()}
    return Terms(
        steps=tuple(Decimal(step) for step in kept["steps"]),
        minimum_samples=kept["minimum_samples"],
        minimum_days=days or MINIMUM_DAYS,
        rule=kept["rule"],
        metrics=tuple(Metric(**{**metric, "source": _source(metric["source"])}) for metric in kept["metrics"]),
    )


def _source(kept: Mapping[str, Any]) -> Ratio | Quantile:
    made: Ratio | Quantile = _SOURCES[kept["kind"]](**{key: value for key, value in kept.items() if key != "kind"})
    return made
