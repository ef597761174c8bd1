"""None → Candidate: the newest completed offline evaluation of a model version, judged by the platform's rule."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal

from sqlalchemy import select
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session

from core import ledger, outbox, stages
from core.errors import Refused
from core.registry import EvaluationRun, ModelVersion, Registry
from core.rules.evaluation import SCORES, Acceptance, accept
from core.rules.lifecycle import Stage
from core.tables import PolicyVersion, Qualification, ReplayResult
from core.variants import unknown_model

Source = Literal["replay", "run", "tag"]


@dataclass(frozen=True)
class Evaluated:
    """The evidence about one model version: where it was found, how it was judged, and on what data."""

    mlflow_model_name: str
    mlflow_model_version: str
    source: Source
    passed: bool
    acceptance: Acceptance | None
    dataset_version: str | None
    baseline: str | None
    evaluated_at: datetime | None
    note: str | None = None

    def as_evidence(self) -> dict[str, Any]:
        """The JSON that is stored with a qualification."""
        rows = self.acceptance.rows if self.acceptance else ()
        return {
            "source": self.source,
            "dataset_version": self.dataset_version,
            "baseline": self.baseline,
            "evaluated_at": self.evaluated_at.isoformat() if self.evaluated_at else None,
            "rows": [{"title": r.title, "passed": r.passed, "detail": r.detail} for r in rows],
            "note": self.note,
        }


def known_version(registry: Registry, name: str, version: str) -> ModelVersion:
    """The model version in MLflow.

    Raises:
        Refused: where MLflow does not have it, naming what it has.
    """
    found = registry.version(name, version)
    if found is not None:
        return found
    there = [v.version for v in reversed(registry.versions(name))]
    if there:
        raise Refused(f"MLflow has no version {version} of {name}. It has: {', '.join(there)}.")
    raise unknown_model(name, registry.models())


def _scores(result: ReplayResult) -> dict[str, float | None]:
    values = {score: getattr(result, score) for score in SCORES}
    return {score: None if value is None else float(value) for score, value in values.items()}


def _newest_replay(session: Session, name: str, version: str) -> ReplayResult | None:
    return session.scalar(
        select(ReplayResult)
        .join(PolicyVersion, PolicyVersion.id == ReplayResult.policy_version_id)
        .where(
            PolicyVersion.mlflow_model_name == name,
            PolicyVersion.mlflow_model_version == version,
            ReplayResult.status == "completed",
        )
        .order_by(ReplayResult.created_at.desc())
        .limit(1)
    )


def _baseline_replay(session: Session, result: ReplayResult) -> ReplayResult | None:
    if result.dataset_version is None:  # two unknown datasets are not the same one
        return None
    return session.scalar(
        select(ReplayResult)
        .where(
            ReplayResult.policy_version_id == result.baseline_version_id,
            ReplayResult.dataset_version == result.dataset_version,
            ReplayResult.status == "completed",
        )
        .order_by(ReplayResult.created_at.desc())
        .limit(1)
    )


def _from_replay(session: Session, name: str, version: str, result: ReplayResult) -> Evaluated:
    base = _baseline_replay(session, result)
    base_version = session.get(PolicyVersion, result.baseline_version_id) if result.baseline_version_id else None
    acceptance = accept(_scores(result), _scores(base) if base else {}, result.is_better_than_baseline)
    return Evaluated(
        name,
        version,
        "replay",
        passed=acceptance.passed,
        acceptance=acceptance,
        dataset_version=result.dataset_version,
        baseline=stages.label(base_version) if base_version else None,
        evaluated_at=result.created_at,
        note=acceptance.disagreement if base else "There is no completed result of the baseline on the same dataset.",
    )


def _from_run(
    run: EvaluationRun, baseline: EvaluationRun | None, name: str, version: str, against: str | None
) -> Evaluated:
    missing = (
        f"MLflow has no finished evaluation of {name} {against} on the same dataset."
        if against
        else f"No version of {name} is in production, so there is none to compare with. "
        "Set the tag stage=production on the one that serves; where there is none, override with `policy … because`."
    )
    acceptance = accept(run.scores, baseline.scores if baseline else {})
    return Evaluated(
        name,
        version,
        "run",
        passed=acceptance.passed,
        acceptance=acceptance,
        dataset_version=run.dataset_version,
        baseline=f"{name} {against}" if against else None,
        evaluated_at=run.finished_at,
        note=None if baseline else missing,
    )


def _production_version(session: Session, registry: Registry, name: str) -> str | None:
    decided = stages.in_production(session, name)
    if decided is not None:
        return decided.mlflow_model_version
    tagged = [v.version for v in registry.versions(name) if v.stage == Stage.PRODUCTION]
    return tagged[0] if len(tagged) == 1 else None


def _judged_run(session: Session, registry: Registry, run: EvaluationRun, name: str, version: str) -> Evaluated:
    against = _production_version(session, registry, name)
    on_same = registry.evaluations(name, against, run.dataset_version) if against and run.dataset_version else []
    return _from_run(run, next(iter(on_same), None), name, version, against)


def evaluate(session: Session, *, mlflow_model_name: str, mlflow_model_version: str, registry: Registry) -> Evaluated:
    """Judges the newest completed evaluation: a stored replay result or the MLflow run that logged it.

    Where neither exists, a tag `stage=candidate` that the pipeline set by itself is accepted and shown as such.
    Reads MLflow; call it before anything is locked.

    Raises:
        Refused: where MLflow does not have the version.
        RegistryUnavailable: where MLflow does not answer.
    """
    name, version = mlflow_model_name, mlflow_model_version
    known = known_version(registry, name, version)
    replay = _newest_replay(session, name, version)
    runs = registry.evaluations(name, version)
    newest = runs[0] if runs else None
    if replay and not (newest and newest.run_id != replay.mlflow_run_id and newest.finished_at > replay.created_at):
        return _from_replay(session, name, version, replay)
    if newest:
        return _judged_run(session, registry, newest, name, version)
    passed, note = _by_tag(session, known)
    return Evaluated(name, version, "tag", passed, None, None, None, None, note)


def _by_tag(session: Session, known: ModelVersion) -> tuple[bool, str]:
    qualification = session.get(Qualification, (known.name, known.version))
    if known.stage != Stage.CANDIDATE:
        return (
            False,
            "No completed offline evaluation was found, neither as a replay result nor as an MLflow run. "
            "What I look for stands in .github/PLATFORM.md of the bot's repository.",
        )
    if qualification is not None and qualification.source == "override":  # then the tag is the bot's own
        return (
            False,
            f"No completed offline evaluation was found; it is a candidate by override: {qualification.reason}",
        )
    return True, "The pipeline set the tag stage=candidate by itself; no evaluation is stored to check it by."


def qualify(
    session: Session, *, mlflow_model_name: str, mlflow_model_version: str, actor: str, registry: Registry
) -> Evaluated:
    """Makes a model version a candidate where its evaluation passes; otherwise changes nothing.

    Raises:
        Refused: where MLflow does not have the version, or it is already past being a candidate.
    """
    found = evaluate(
        session, mlflow_model_name=mlflow_model_name, mlflow_model_version=mlflow_model_version, registry=registry
    )
    stages.lock(session, mlflow_model_name)
    present = stages.decided(session, mlflow_model_name).get(mlflow_model_version, Stage.NONE)
    if present in (Stage.EXPERIMENT, Stage.PRODUCTION):
        raise Refused(f"{mlflow_model_name} {mlflow_model_version} is already in stage “{present}”.")
    if found.passed:
        admit(session, found.as_evidence(), mlflow_model_name, mlflow_model_version, found.source, actor)
    return found


def admit(
    session: Session,
    evidence: Mapping[str, Any],
    mlflow_model_name: str,
    mlflow_model_version: str,
    source: str,
    actor: str,
    reason: str | None = None,
) -> None:
    """Records a model version as a candidate with its evidence and moves the policy versions that link to it."""
    stages.lock(session, mlflow_model_name)
    row = {"source": source, "evidence": dict(evidence), "actor": actor, "reason": reason}
    key = {"mlflow_model_name": mlflow_model_name, "mlflow_model_version": mlflow_model_version}
    added = insert(Qualification).values(row | key)
    session.execute(
        # An override adds to what is known; it never takes the place of an evaluation.
        added.on_conflict_do_nothing(index_elements=list(key))
        if source == "override"
        else added.on_conflict_do_update(index_elements=list(key), set_=row)
    )
    for policy_version in stages.versions_of_model(session, mlflow_model_name, mlflow_model_version):
        if stages.of(session, policy_version.id) in (Stage.NONE, Stage.ARCHIVED):
            stages.move(session, policy_version, Stage.CANDIDATE)
    entry = ledger.record(
        session,
        actor=actor,
        action="override" if source == "override" else "qualify",
        subject=f"{mlflow_model_name} {mlflow_model_version}",
        reason=reason,
        after={"stage": Stage.CANDIDATE, **evidence},
    )
    stages.mirror(session, mlflow_model_name, occasion=f"ledger-{entry.id}")
    outbox.put_notice(session, ledger_id=entry.id)


def archive(session: Session, mlflow_model_name: str, mlflow_model_version: str) -> None:
    """Takes a candidate out: it has to qualify anew. The record and the registry are up to the caller."""
    for policy_version in stages.versions_of_model(session, mlflow_model_name, mlflow_model_version):
        if stages.of(session, policy_version.id) == Stage.CANDIDATE:
            stages.move(session, policy_version, Stage.ARCHIVED, is_adoption=True)
    stages.forget_qualification(session, mlflow_model_name, mlflow_model_version)
