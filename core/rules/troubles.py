"""What is wrong with a rollout, and whose trouble it is; asked before anybody is told to roll back."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Literal

from core.rules import checks
from core.rules.checks import Concern, Traffic
from core.rules.decision import format_value
from core.rules.findings import Finding
from core.rules.verdict import Decision, Look

Cause = Literal["regression", "constraints", "limit", "silence", "both arms", "baseline", "sample ratio", "lingering"]
Whose = Literal["candidate", "both", "data", "assignment"]


@dataclass(frozen=True)
class Trouble:
    """One cause for an alert: whose trouble it is, whether somebody has to act at once, and one sentence why."""

    cause: Cause
    whose: Whose
    is_critical: bool
    why: str


OF_PLACE: Final[frozenset[Cause]] = frozenset({"silence", "lingering"})
"""The causes that are an experiment's, with or without a candidate to look at."""
_OF_CONCERN: Final[Mapping[str, tuple[Cause, Whose, bool]]] = {
    "constraints": ("constraints", "both", True),
    "sample ratio": ("sample ratio", "assignment", False),
    "freshness": ("silence", "data", True),
    "baseline": ("baseline", "both", False),
    "both arms": ("both arms", "both", True),
}


def of_candidate(look: Look, decision: Decision) -> tuple[Trouble, ...]:
    """What one look at a candidate gives reason to alert people about.

    Harm by the candidate alone is only claimed where the data are trusted; whether events arrive is not asked here,
    since that is the same for all candidates (see `of_place`).
    """
    found = [_of_concern(concern) for concern in decision.concerns if concern.kind != "freshness"]
    is_shared = any(concern.kind == "constraints" for concern in decision.concerns)
    is_violated = look.constraint_respect is not None and look.constraint_respect < 1 and not is_shared
    if decision.action == "rollback" and (is_violated or not decision.concerns):
        found.append(Trouble("constraints" if is_violated else "regression", "candidate", True, decision.why))
    elif not decision.concerns:
        found += _limits(decision.findings)
    return tuple(found)


def of_place(traffic: Traffic | None, lingering: Sequence[str]) -> tuple[Trouble, ...]:
    """What is wrong with an experiment as a whole; `lingering` names variants that are served though at 0 %."""
    found = []
    concern = checks.freshness(traffic) if traffic is not None and traffic.measured_minutes_ago is not None else None
    if concern is not None:
        found.append(_of_concern(concern))
    if lingering:
        names = ", ".join(lingering)
        found.append(
            Trouble(
                "lingering",
                "assignment",
                False,
                f"At 0 % for two days and still served: {names}. Have their units assigned anew.",
            )
        )
    return tuple(found)


def _of_concern(concern: Concern) -> Trouble:
    cause, whose, is_critical = _OF_CONCERN[concern.kind]
    return Trouble(cause, whose, is_critical, concern.why)


def _limits(findings: Sequence[Finding]) -> list[Trouble]:
    """The absolute limits that the candidate exceeds for certain; where the baseline does too, it is nobody's news."""
    over = [f for f in findings if f.metric.is_guardrail and f.overall.surely_breaks_limit]
    return [
        Trouble("limit", whose, whose == "candidate", _over(whose, [f for f in over if _whose(f) == whose]))
        for whose in ("candidate", "both")
        if any(_whose(f) == whose for f in over)
    ]


def _whose(finding: Finding) -> Whose:
    base = finding.overall.baseline
    return "both" if base is not None and finding.metric.breaks_limit(base) else "candidate"


def _over(whose: Whose, findings: Sequence[Finding]) -> str:
    listed = "; ".join(
        f"{f.metric.title} is {format_value(f.metric, f.overall.candidate)} (baseline "
        f"{format_value(f.metric, f.overall.baseline)}), the limit is {format_value(f.metric, f.metric.limit)}"
        for f in findings
    )
    return f"Beyond an absolute limit{' in both arms' if whose == 'both' else ''}: {listed}."
