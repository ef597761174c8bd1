"""Chart cards -> Slack's own charts and tables, within its limits, with the sentence that says the same. Pure."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import datetime, timedelta
from functools import partial

from bot import chartwords, pictures
from bot.blocks import Answer, Block, context, cut, escaped, fitted, listing, section
from bot.chartwords import LEAST, MOST, at, grouped, interval, label, signed, together, undrawn, unique, value
from core.chart_cards import ChartCard, Difference, Period

MOST_POINTS = 20
TITLE_LIMIT = 50
INTERVALS = tuple(timedelta(hours=h) for h in (1 / 12, 0.25, 1, 3, 6, 12, 24, 48, 96, 168, 336, 672, 1344, 2688, 8760))
MOST_INTERVALS = 14


# --- Shares over time -----------------------------------------------------------------------------------------------


def _stamp(moment: datetime, apart: timedelta) -> str:
    """A moment as exactly as moments this far apart need it."""
    if apart >= timedelta(days=28):
        return f"{moment.day} {moment:%b %Y}"
    return f"{moment.day} {moment:%b}" if apart >= timedelta(days=1) else f"{moment.day} {moment:%b %H:%M}"


def _moments(card: ChartCard) -> list[tuple[str, Period]]:
    """Evenly spaced moments, the last one now; the starts of the newest steps where even ones would miss a step."""
    start, until = card.periods[0].started_at, card.until
    apart = next((i for i in INTERVALS if (until - start) / i <= MOST_INTERVALS), INTERVALS[-1])
    even = [start + apart * n for n in range(MOST_POINTS - 1) if start + apart * n < until] or [start]
    found = [(_stamp(moment, apart), at(card, moment)) for moment in even]
    seen = {id(period) for _, period in found}
    if any(id(period) not in seen for period in card.periods[:-1]):
        newest = card.periods[-(MOST_POINTS - 1) :]
        found = [(_stamp(period.started_at, timedelta(0)), period) for period in newest]
    return [*found, ("now", card.periods[-1])]


def _series(name: str, categories: Sequence[str], values: Sequence[float]) -> Block:
    points = [{"label": c, "value": round(v, 2)} for c, v in zip(categories, values, strict=True)]
    return {"name": name, "data": points}


def _chart(kind: str, title: str, categories: Sequence[str], series: Mapping[str, Sequence[float]], y: str) -> Block:
    return {
        "type": "data_visualization",
        "title": cut(title, TITLE_LIMIT),
        "chart": {
            "type": kind,
            "series": [_series(name, categories, values) for name, values in series.items()],
            "axis_config": {"categories": list(categories), "y_label": y},
        },
    }


def shares(card: ChartCard) -> Block:
    """The share of each variant over time."""
    moments = _moments(card)
    categories = unique(stamp for stamp, _ in moments)
    groups = grouped(card)
    drawn = {
        name: [100 * together(period, group) for _, period in moments]
        for name, (_, group) in zip(unique(name for name, _ in groups), groups, strict=True)
    }
    return _chart("area", f"Shares in {card.experiment}", categories, drawn, "% of the traffic, times in UTC")


# --- Differences ----------------------------------------------------------------------------------------------------

_MEASURED: Mapping[str, Callable[[Difference], float | None]] = {"Measured": lambda d: d.used}
_WITH_INTERVAL: Mapping[str, Callable[[Difference], float | None]] = {
    "At best": lambda d: d.used_at_best,
    **_MEASURED,
    "At worst": lambda d: d.used_at_worst,
}


def _drawable(card: ChartCard) -> tuple[list[Difference], Mapping[str, Callable[[Difference], float | None]]]:
    """The metrics whose harm can be held against a limit, and what of it is known for all of them."""
    there = [d for d in card.differences if undrawn(d) is None]
    whole = [d for d in there if all(read(d) is not None for read in _WITH_INTERVAL.values())]
    return (whole, _WITH_INTERVAL) if whole else (there, _MEASURED)


def _within(used: float) -> float:
    return min(max(used, LEAST), MOST)


def harms(card: ChartCard) -> Block | None:
    """How much of what each metric may lose it has lost, with the interval; None where no metric has a limit."""
    drawn, parts = _drawable(card)
    drawn = drawn[:MOST_POINTS]
    if not drawn:
        return None
    series = {name: [_within(read(d) or 0.0) for d in drawn] for name, read in parts.items()}
    series["Limit"] = [100.0] * len(drawn)
    title = "Harm in % of each metric's limit, up is worse"
    axis = f"0 = baseline, 100 = limit, cut at −{-LEAST} and {MOST}"
    return _chart("bar", title, unique(label(d.metric) for d in drawn), series, axis)


def _number(number: float | None, text: str) -> Block:
    if number is None:
        return {"type": "raw_text", "text": text}
    return {"type": "raw_number", "value": round(number, 6), "text": text}


def _row(found: Difference) -> list[Block]:
    return [
        {"type": "raw_text", "text": found.metric.title},
        {"type": "raw_text", "text": chartwords.SIGNS[found.state]},
        _number(found.change, signed(found.change)),
        {"type": "raw_text", "text": interval(found)},
        _number(found.limit, signed(found.limit)),
        _number(found.candidate, value(found.metric, found.candidate)),
        _number(found.baseline, value(found.metric, found.baseline)),
    ]


COLUMNS = ("Metric", "State", "Change", "Interval", "Limit", "Candidate", "Baseline")


def table(card: ChartCard) -> Block:
    """Every metric with its numbers."""
    head = [{"type": "raw_text", "text": title} for title in COLUMNS]
    return {
        "type": "data_table",
        "caption": f"{card.variant} against {card.baseline}",
        "rows": [head, *(_row(found) for found in card.differences[:100])],
        "page_size": 10,
    }


def _left_out(card: ChartCard) -> list[Block]:
    """What the chart of harms does not show, and why."""
    drawn = {d.metric.name for d in _drawable(card)[0][:MOST_POINTS]}
    missing = [f"{d.metric.title} ({undrawn(d) or 'its interval is open'})" for d in card.differences]
    listed = [text for text, d in zip(missing, card.differences, strict=True) if d.metric.name not in drawn]
    return [context(escaped(f"Not in the chart: {', '.join(listed)}."))] if listed else []


# --- The whole ------------------------------------------------------------------------------------------------------


def blocks(card: ChartCard) -> list[Block]:
    """The charts and the table of a card, to stand among other blocks; a message takes two charts and one table."""
    harm = harms(card) if card.differences else None
    compared = [*([harm] if harm else []), *_left_out(card), table(card)] if card.differences else []
    return [shares(card), *compared]


def words(card: ChartCard) -> list[Block]:
    """The same without any chart."""
    return [
        section(escaped(chartwords.sentence(card))),
        *listing(escaped(chartwords.line(d)) for d in card.differences),
    ]


def answer(card: ChartCard, command: str) -> Answer:
    """Charts with the sentence that says what they show, and what takes their place where they are not taken."""
    said = escaped(chartwords.sentence(card))
    place = escaped(card.experiment)
    hint = [context(f"{chartwords.INTERVALS} Everything behind it: `{command} why {place}`")] if card.variant else []
    return Answer(
        said,
        fitted([section(said), *blocks(card)], hint),
        pictures=partial(pictures.drawn, card),
        words=fitted(words(card), hint),
    )
