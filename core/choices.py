"""Names to choose from: experiments, policy versions, model versions, variants that can be rolled back."""

from __future__ import annotations

from dataclasses import dataclass

from sqlalchemy import select
from sqlalchemy.orm import Session

from core import stages
from core.registry import Registry
from core.rules.lifecycle import Stage
from core.tables import Experiment, Policy, PolicyVersion, Variant
from core.variants import baselines, former_baseline, linked_version, unknown_model, variants_of


@dataclass(frozen=True)
class VersionLine:
    """A model version in the registry with the stage decided here and the one its tag shows."""

    model: str
    version: str
    stage: str
    tag: str | None
    policies: tuple[str, ...]

    @property
    def known_stage(self) -> str:
        """The decided stage; where nothing was decided, what the tag claims."""
        return self.stage if self.stage != "none" else self.tag or "none"


@dataclass(frozen=True)
class PolicyVersionLine:
    """A policy version to choose from."""

    id: str
    label: str
    model: str


def experiment_names(session: Session, *, statuses: tuple[str, ...]) -> list[str]:
    """Names of the experiments in these states."""
    return list(
        session.scalars(select(Experiment.name).where(Experiment.status.in_(statuses)).order_by(Experiment.name))
    )


def experiment_choices(session: Session, *, statuses: tuple[str, ...]) -> list[tuple[str, str]]:
    """Name and id of the experiments in these states, for choosing one."""
    query = select(Experiment.name, Experiment.id).where(Experiment.status.in_(statuses)).order_by(Experiment.name)
    return [(row.name, str(row.id)) for row in session.execute(query)]


def policy_names(session: Session) -> list[str]:
    """Names of all policies."""
    return list(session.scalars(select(Policy.name).order_by(Policy.name)))


def candidate_lines(session: Session) -> list[PolicyVersionLine]:
    """The policy versions that are candidates, newest first within each policy."""
    return [
        PolicyVersionLine(str(v.id), stages.label(v), f"{v.mlflow_model_name} {v.mlflow_model_version}")
        for v in stages.policy_versions(session)
        if stages.of(session, v.id) == Stage.CANDIDATE
    ]


@dataclass(frozen=True)
class RunningVariant:
    """A variant that can be rolled back, for choosing one."""

    experiment: str
    variant: str
    variant_id: str


def running_choices(session: Session) -> list[RunningVariant]:
    """Every variant with traffic that has something to return to, experiments that run first."""
    query = select(Experiment).where(Experiment.status != "completed").order_by(Experiment.name)
    places = session.scalars(query).all()
    there = variants_of(session, [place.id for place in places])
    bases = baselines(session, there)
    return [
        RunningVariant(place.name, variant.name, str(variant.id))
        for place in places
        for variant in there[place.id]
        if variant.allocation > 0 and (variant != bases.get(place.id) or _has_predecessor(session, place, variant))
    ]


def _has_predecessor(session: Session, place: Experiment, variant: Variant) -> bool:
    linked = linked_version(session, variant)
    if linked is None:
        return False
    return bool(stages.predecessor(session, linked.id) or former_baseline(session, place, variant))


def labels_of_model(session: Session, model: str, version: str) -> list[str]:
    """The policy versions that serve a model version, oldest first."""
    return [stages.label(v) for v in stages.versions_of_model(session, model, version)]


def model_lines(session: Session, model: str | None, registry: Registry) -> list[VersionLine]:
    """The model versions in the registry; of every model where none is named. Reads MLflow."""
    names = [model] if model else registry.models()
    found = [version for name in names for version in registry.versions(name)]
    if model and not found:
        raise unknown_model(model, registry.models())
    return [_version_line(session, v.name, v.version, v.stage) for v in found]


def _version_line(session: Session, model: str, version: str, tag: str | None) -> VersionLine:
    linked: list[PolicyVersion] = stages.versions_of_model(session, model, version)
    return VersionLine(
        model,
        version,
        stages.decided(session, model).get(version, "none"),
        tag,
        tuple(stages.label(v) for v in linked),
    )
