"""What charts say: short names, numbers, and the sentence that stands for a whole chart. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from decimal import Decimal

from bot.blocks import cut, one_line
from core.chart_cards import ChartCard, Difference, Period
from core.rules.decision import format_value, percent
from core.rules.findings import State
from core.rules.metrics import Metric

NAME_LIMIT = 20
"""Letters in the name of a series or a category."""
LEAST, MOST = -200, 400
"""What charts show of benefit and harm, in percent of a limit: one metric far off would squeeze all others flat."""
MOST_SERIES = 6
OTHERS = "all others"
LABELS = {
    "acceptance_rate": "Acceptance",
    "avg_edits": "Edits",
    "validator_rate": "Validator",
    "p50_latency": "p50",
    "p99_latency": "p99",
    "cost_per_plan": "Cost",
}
"""For the axis of a phone; metrics of one's own are cut."""
SIGNS: dict[State, str] = {
    "worse": "✕ worse",
    "tolerable": "~ tolerable",
    "inconclusive": "? inconclusive",
    "fine": "✓ fine",
    "no interval": "– no interval",
    "not measurable": "– not measurable",
    "informative": "i for information",
}
SAID: dict[State, str] = {
    "worse": "worse, beyond chance and tolerance",
    "tolerable": "worse, within tolerance",
    "inconclusive": "inconclusive",
    "fine": "fine",
    "no interval": "known without an interval",
    "not measurable": "not measurable",
    "informative": "for information",
}
INTERVALS = "Intervals hold at 95 % at all looks together."
NAMED: tuple[State, ...] = ("worse", "tolerable")
"""States whose metrics a sentence names one by one."""


def unique(names: Iterable[str]) -> list[str]:
    """The names, each at most NAME_LIMIT letters and no two alike."""
    made: list[str] = []
    for name in names:
        wanted = cut(one_line(name), NAME_LIMIT)
        number = 2
        while wanted in made:
            end = f" {number}"
            wanted, number = cut(one_line(name), NAME_LIMIT - len(end)) + end, number + 1
        made.append(wanted)
    return made


def label(metric: Metric) -> str:
    """A metric's name on an axis."""
    return LABELS.get(metric.name, metric.title)


def signed(change: float | None) -> str:
    """A change in percent: `+7.1 %`."""
    return "–" if change is None else f"{change:+.1f} %".replace("-", "−")


def interval(found: Difference) -> str:
    """The ends of an interval: `+2.0 … +12.2 %`; an open end is said."""
    if found.low is None and found.high is None:
        return "–"
    low = "open" if found.low is None else signed(found.low).removesuffix(" %")
    return f"{low} … {'open' if found.high is None else signed(found.high)}"


def value(metric: Metric, number: float | None) -> str:
    """A number in the metric's own unit."""
    return "–" if number is None else format_value(metric, number)


def day(at: datetime) -> str:
    """A date as sentences have it."""
    return f"{at.day} {at:%b %Y}"


def undrawn(found: Difference) -> str | None:
    """Why a metric has no place in a chart of harm against limits; None where it has one."""
    if found.change is None:
        return found.problem or "the baseline is zero"
    if found.limit is None:
        return "it has no limit"
    return None if found.room is not None else "the baseline is beyond the limit itself"


def grouped(card: ChartCard) -> list[tuple[str, tuple[str, ...]]]:
    """The variants as charts tell them apart, in the order they joined: a name, and who it stands for."""
    now = card.periods[-1].shares
    ranked = sorted(card.variants, key=lambda name: (name not in (card.variant, card.baseline), -now.get(name, 0)))
    kept = set(ranked if len(ranked) <= MOST_SERIES else ranked[: MOST_SERIES - 1])
    rest = tuple(name for name in card.variants if name not in kept)
    return [(name, (name,)) for name in card.variants if name in kept] + ([(OTHERS, rest)] if rest else [])


def together(period: Period, group: Iterable[str]) -> float:
    """The share of several variants together, of 1."""
    return float(sum((period.shares.get(name, Decimal(0)) for name in group), Decimal(0)))


# --- Sentences ------------------------------------------------------------------------------------------------------


def shares(card: ChartCard) -> str:
    """Who has which share now, since when, and where the candidate came from."""
    now = card.periods[-1]
    listed = [f"{one_line(name)} {percent(now.shares[name])}" for name in card.variants if name in now.shares]
    there = f"In {one_line(card.experiment)} the shares are {_joined(listed)} since {day(now.started_at)}"
    return f"{there}{_way(card)}."


def _way(card: ChartCard) -> str:
    """The shares that the candidate had one after the other in its present run."""
    name = card.variant
    if name is None:
        return ""
    run: list[str] = []
    for period in card.periods:
        run = [*run, percent(period.shares[name])] if name in period.shares else []
    steps = [share for n, share in enumerate(run) if n == 0 or share != run[n - 1]]
    return f"; {one_line(name)} came from {_joined(steps[:-1], 'then')}" if len(steps) > 1 else ""


def differences(card: ChartCard) -> str:
    """How many metrics are in which state, and the numbers of those that are worse."""
    if card.variant is None:
        return "No candidate is running, so there is nothing to compare."
    found = [(state, [d for d in card.differences if d.state == state]) for state in SAID]
    parts = [_counted(state, these) for state, these in found if these]
    base = one_line(card.baseline or "the baseline")
    return f"Of {len(card.differences)} metrics of {one_line(card.variant)} against {base}, {_joined(parts)}."


def _counted(state: State, these: list[Difference]) -> str:
    names = ", ".join(f"{d.metric.title} {signed(d.change)} with a limit of {signed(d.limit)}" for d in these)
    numbers = f" ({names})" if state in NAMED else ""
    return f"{len(these)} {'is' if len(these) == 1 else 'are'} {SAID[state]}{numbers}"


def sentence(card: ChartCard) -> str:
    """Everything that the charts of a card show, for notifications and for those who hear them."""
    return f"{shares(card)} {differences(card)}".replace(" %", "\u00a0%")


def line(found: Difference) -> str:
    """One metric where there is no chart."""
    if found.change is None:
        return f"{SIGNS[found.state]}: {found.metric.title}, {undrawn(found)}"
    limit = "" if found.limit is None else f", limit {signed(found.limit)}"
    return f"{SIGNS[found.state]}: {found.metric.title} {signed(found.change)} ({interval(found)}){limit}"


def _joined(parts: list[str], last: str = "and") -> str:
    return f" {last} ".join([", ".join(parts[:-1]), parts[-1]] if len(parts) > 1 else parts)


# --- Time -----------------------------------------------------------------------------------------------------------


def at(card: ChartCard, moment: datetime) -> Period:
    """The period that a moment belongs to."""
    return next((p for p in reversed(card.periods) if p.started_at <= moment), card.periods[0])
