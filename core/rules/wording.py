"""Comparisons as people read them."""

from __future__ import annotations

from core.rules.decision import format_value
from core.rules.estimates import Comparison


def change(found: Comparison) -> str:
    """A ratio and its interval as people read them: `+7.1 % (−2.0 … +16.4 %)`."""
    if found.ratio is None:
        return "no ratio: the baseline is zero"
    low = "no limit yet" if found.low is None else _signed(found.low)
    high = "no limit yet" if found.high is None else f"{_signed(found.high)} %"
    return f"{_signed(found.ratio)} % ({low} … {high})"


def _signed(ratio: float) -> str:
    """How much more or less than the baseline, in percent."""
    return f"{100 * (ratio - 1):+.1f}".replace("-", "−")


def compared(found: Comparison) -> str:
    """Both values, the change and the bound in one breath."""
    values = f"{format_value(found.metric, found.candidate)} against {format_value(found.metric, found.baseline)}"
    if not found.is_measurable:
        return f"not measurable: {found.problem}"
    to = "down to" if found.metric.higher_is_better else "up to"
    bound = "" if found.bound is None else f", accepted {to} {format_value(found.metric, found.bound)}"
    return f"{values}, {change(found)}{bound}"
