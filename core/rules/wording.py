"""The reasons of a verdict as sentences for people."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, Protocol

from core.rules.decision import Judgement, format_value
from core.rules.estimates import Comparison
from core.rules.metrics import Metric


class Found(Protocol):
    """What a finding of `verdict` tells here."""

    @property
    def metric(self) -> Metric: ...
    @property
    def state(self) -> str: ...
    @property
    def overall(self) -> Comparison: ...
    @property
    def present(self) -> Comparison: ...
    @property
    def boundary(self) -> float | None: ...


def change(found: Comparison) -> str:
    """A ratio and its interval as people read them: `+7.1 % (−2.0 … +16.4 %)`."""
    if found.ratio is None:
        return "no ratio: the baseline is zero"
    return f"{_signed(found.ratio)} % ({_signed(found.low)} … {_signed(found.high)} %)"


def _signed(ratio: float | None) -> str:
    """How much more or less than the baseline, in percent."""
    return "unbounded" if ratio is None else f"{100 * (ratio - 1):+.1f}".replace("-", "−")


def compared(found: Comparison) -> str:
    """Both values, the change and the bound in one breath."""
    values = f"{format_value(found.metric, found.candidate)} against {format_value(found.metric, found.baseline)}"
    if not found.is_measurable:
        return f"not measurable: {found.problem}"
    to = "down to" if found.metric.higher_is_better else "up to"
    bound = "" if found.bound is None else f", accepted {to} {format_value(found.metric, found.bound)}"
    return f"{values}, {change(found)}{bound}"


def _telling(finding: Found) -> Comparison:
    """The comparison that shows the harm: over all steps, or the present step where only that is beyond."""
    return finding.overall if finding.overall.is_beyond else finding.present


def reason(worse: Sequence[Found]) -> str:
    """Why to roll back, the strongest evidence first."""
    first, *rest = sorted(worse, key=lambda finding: -_telling(finding).z)
    others = f" Also: {', '.join(finding.metric.title for finding in rest)}." if rest else ""
    where = "" if first.overall.is_beyond else " in the present step"
    how = f"{first.metric.title} is worse{where}, beyond chance and beyond tolerance"
    return f"{how}: {compared(_telling(first))}.{others}"


_SAYS: Final = {"increase": "increase", "wait": "wait", "rollback": "roll back"}


def difference(alone: Judgement, action: str, why: str, findings: Sequence[Found]) -> str:
    """Why the calibrated rule and the document's own rule part ways."""
    said = f"The document's rule alone says {_SAYS[alone.verdict]}: {alone.why}"
    if action == "hold":
        return f"{said} It does not ask whether the data can be trusted."
    if action == "rollback":
        return f"{said} It looks at the present step's point estimates only; over all evidence the harm is proven."
    if alone.verdict == "rollback":
        unproven = [f for f in findings if f.present.is_beyond and f.state != "worse"]
        shown = "; ".join(f"{f.metric.title} {change(f.overall)}" for f in unproven if f.overall.is_measurable)
        return f"{said} That much can be chance{': ' + shown if shown else ''}."
    return f"{said} The calibrated rule asks for more: {why}"
