"""What several settings together have wrong, though each by itself is right; pure."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from decimal import Decimal

from core import faults
from core.metric_sections import MetricsSection
from core.rules.metrics import METRICS
from core.sections import ExperimentSection, FreezeSection, RolloutSection
from core.written import Days

Fault = tuple[tuple[str | int, ...], str]
"""The key of a setting, entries of a list by their number, and what is wrong with it."""


def found(
    rollout: RolloutSection,
    metrics: MetricsSection,
    experiments: Mapping[str, ExperimentSection],
    freezes: Sequence[FreezeSection],
    *,
    own_metrics: Collection[str],
) -> Iterator[Fault]:
    """Every contradiction. `own_metrics` are all the metrics that the file names, right or wrong by themselves."""
    yield from _days(("rollout", "minimum_days"), rollout.steps, rollout.minimum_days)
    for metric in METRICS:
        if said := getattr(metrics, metric.name).contradiction(metric):
            yield ("metrics", metric.name), said
    for name, own in experiments.items():
        yield from _of_experiment(name, own, rollout, metrics, own_metrics)
    yield from _namesakes(freezes)


def _days(key: tuple[str, ...], steps: Sequence[Decimal], days: Days | None) -> Iterator[Fault]:
    needed = len(steps) - 1
    if days is not None and len(days) != needed:
        yield key, f"minimum_days needs one number for each step below 1.0: {needed} for these steps, not {len(days)}"


def _of_experiment(
    name: str,
    own: ExperimentSection,
    rollout: RolloutSection,
    metrics: MetricsSection,
    own_metrics: Collection[str],
) -> Iterator[Fault]:
    key = ("experiments", name)
    if own.steps or own.minimum_days:
        at = "minimum_days" if own.minimum_days else "steps"
        yield from _days((*key, at), own.steps or rollout.steps, own.minimum_days or rollout.minimum_days)
    usual = {metric.name: metric for metric in metrics.judged}
    known = [*(metric.name for metric in METRICS), *own_metrics]
    for metric, section in own.metrics.items():
        if metric in usual and (said := section.contradiction(usual[metric])):
            yield (*key, "metrics", metric), said
        if metric not in known:
            yield (*key, "metrics", metric), f"there is no such metric{faults.nearest(metric, known)}"


def _namesakes(freezes: Sequence[FreezeSection]) -> Iterator[Fault]:
    first: dict[str, int] = {}
    for n, freeze in enumerate(freezes):
        if freeze.name in first:
            yield ("freezes", n, "name"), f"entry {first[freeze.name] + 1} has this name, too; give each its own"
        first.setdefault(freeze.name, n)
