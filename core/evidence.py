"""How a candidate stands: its verdict, and the checklist before production."""

from __future__ import annotations

import uuid
from datetime import datetime
from decimal import Decimal

from sqlalchemy import select
from sqlalchemy.orm import Session

from core import db, ledger, measure, recommendations, stages
from core.recommendations import Standing
from core.rules import allocation, decision
from core.rules.decision import CheckRow, Evidence, Terms
from core.rules.metrics import VariantMetrics
from core.rules.verdict import judged
from core.tables import AllocationStep, Experiment, PolicyVersion, Qualification, Variant
from core.variants import baseline, required_version


def step_start(session: Session, experiment: Experiment) -> datetime:
    """When the present shares came into force."""
    steps = _steps(session, experiment)
    return steps[-1].started_at if steps else experiment.start_at or experiment.created_at


def _steps(session: Session, experiment: Experiment) -> list[AllocationStep]:
    query = select(AllocationStep).where(AllocationStep.experiment_id == experiment.id)
    return list(session.scalars(query.order_by(AllocationStep.started_at, AllocationStep.id)))


def _periods(session: Session, experiment: Experiment, variant: Variant) -> list[tuple[Decimal, float]]:
    steps, now = _steps(session, experiment), db.now_of(session)
    pauses = ledger.pauses(session, [experiment.id], until=now)[experiment.id]
    ends = [*(step.started_at for step in steps[1:]), now]
    return [
        (Decimal(step.shares.get(str(variant.id), "0")), ledger.days_at_work(step.started_at, end, pauses))
        for step, end in zip(steps, ends, strict=True)
    ]


def measure_step(session: Session, experiment: Experiment, terms: Terms) -> dict[uuid.UUID, VariantMetrics]:
    """What each variant did since the present shares came into force."""
    return measure.variant_metrics(
        session,
        experiment_id=experiment.id,
        since=step_start(session, experiment),
        price_per_1000_tokens=terms.price_per_1000_tokens,
    )


def standing(session: Session, experiment: Experiment, variant: Variant, terms: Terms) -> Standing:
    """How the candidate stands against the baseline at this moment."""
    return recommendations.standing(session, experiment, variant, baseline(session, experiment), terms)


def _evaluation(session: Session, version: PolicyVersion) -> tuple[bool | None, str]:
    found = session.get(Qualification, stages.model_of(version))
    if found is None:
        return None, "no evaluation on record"
    if found.source == "override":
        return False, f"overridden: {found.reason}"
    on = found.evidence.get("dataset_version") or "an unnamed dataset"
    return True, {"replay": f"replay on {on}", "run": f"MLflow run on {on}"}.get(found.source, "tagged by the pipeline")


def entry_checklist(session: Session, version: PolicyVersion, share: Decimal) -> tuple[CheckRow, ...]:
    """The rows of the checklist that can be judged before a candidate has any traffic."""
    passed, detail = _evaluation(session, version)
    return (
        CheckRow("Offline evaluation", passed, detail),
        CheckRow("Policy version", True, _link(version)),
        CheckRow("Experiment variant", share <= allocation.INITIAL_LIMIT, f"joins at {decision.percent(share)}"),
    )


def _link(version: PolicyVersion) -> str:
    return f"{stages.label(version)} → {' '.join(stages.model_of(version))}"


def checklist(
    session: Session, experiment: Experiment, variant: Variant, terms: Terms, measured: Standing | None = None
) -> tuple[CheckRow, ...]:
    """The ten rows of the document's section 7 for a candidate, each with its numbers."""
    version = required_version(session, variant)
    look = measured or standing(session, experiment, variant, terms)
    periods = _periods(session, experiment, variant)
    passed, detail = _evaluation(session, version)
    return decision.checklist(
        Evidence(
            evaluation_passed=passed,
            evaluation_detail=detail,
            is_linked=True,
            link_detail=_link(version),
            initial_share=next((share for share, _ in decision.present_run(periods)), None),
            held=decision.held(periods, terms.steps),
            candidate=look.candidate,
            baseline=look.baseline,
            judged=None if look.decision.rule == "document" else judged(look.decision),
            terms=terms,
        )
    )
