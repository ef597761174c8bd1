"""Chart cards -> PNG, for workspaces whose messages take no charts: legible on a phone, and without any colour."""

from __future__ import annotations

import io
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from bot import chartwords
from bot.blocks import Picture, cut, one_line
from bot.chartwords import LEAST, MOST, SIGNS, signed, undrawn
from core.chart_cards import ChartCard, Difference
from core.rules.decision import percent
from core.rules.findings import State

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

WIDTH_IN = 4.7
"""As wide as a phone shows it, so that the letters keep about their size there."""
DPI = 230
ROW_IN = 0.52
ALT_LIMIT = 1000
NAME_LIMIT = 26
INK, MUTED, RULE, SHEET, HARM = "#1c2227", "#59626b", "#d9d6ce", "#ffffff", "#b3261e"
QUIET = "#d5d9dd"
"""For the baseline, so that what is under test stands out."""
FILLS = ("#0072b2", "#e69f00", "#009e73", "#cc79a7", "#56b4e9", "#8c6d1f")
"""Okabe and Ito's, which colour-blind people can tell apart."""
HATCHES = ("", "///", "...", "xx", "\\\\\\", "++")
MARKS: dict[State, tuple[str, str, bool]] = {
    "worse": ("X", HARM, True),
    "tolerable": ("D", "#b36200", True),
    "inconclusive": ("o", "#59626b", False),
    "fine": ("o", "#00634a", True),
    "no interval": ("s", "#0072b2", False),
    "not measurable": ("o", "#59626b", False),
    "informative": ("s", "#59626b", False),
}
"""Of each state: the marker, its colour, whether it is filled."""

_drawing = threading.Lock()
"""Matplotlib keeps its settings and fonts for the whole process."""


def drawn(card: ChartCard) -> tuple[Picture, ...]:
    """The shares over time, and where a candidate is compared, its differences as a forest plot."""
    name = one_line(card.experiment)
    pictures = [_picture("shares", f"Shares in {name}", chartwords.shares(card), _shares(card))]
    if card.differences:
        title = f"{one_line(card.variant or '')} against {one_line(card.baseline or '')}"
        told = f"{chartwords.differences(card)} {'. '.join(chartwords.line(d) for d in card.differences)}."
        pictures.append(_picture("differences", title, told, _forest(card)))
    return tuple(pictures)


def _picture(name: str, title: str, alt: str, content: bytes) -> Picture:
    return Picture(f"{name}.png", cut(title, 150), content, cut(alt, ALT_LIMIT))


# --- Paper ----------------------------------------------------------------------------------------------------------


@contextmanager
def _paper(height_in: float) -> Iterator[tuple[Figure, io.BytesIO]]:
    """A figure to draw on; what was drawn is in the buffer afterwards."""
    from matplotlib import rc_context
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    settings: dict[str, Any] = {
        "font.family": "DejaVu Sans",
        "font.size": 10.5,
        "text.color": INK,
        "text.parse_math": False,  # a dollar in a name is a dollar
        "hatch.linewidth": 0.8,
        "axes.edgecolor": RULE,
    }
    buffer = io.BytesIO()
    with _drawing, rc_context(settings):
        figure = Figure(figsize=(WIDTH_IN, height_in), facecolor=SHEET)
        FigureCanvasAgg(figure)
        yield figure, buffer
        figure.savefig(buffer, format="png", dpi=DPI)


def _written(text: str, limit: int = NAME_LIMIT) -> str:
    """A name in letters that the font has; others are shown as a box."""
    from matplotlib.font_manager import findfont, get_font

    font = get_font(findfont("DejaVu Sans"))
    return "".join(c if font.get_char_index(ord(c)) else "□" for c in cut(one_line(text), limit))


def _axes(figure: Figure, height_in: float, *, top_in: float, bottom_in: float, left_in: float) -> Axes:
    """Axes without a box, with so many inches around them."""
    across = (WIDTH_IN - left_in - 0.22) / WIDTH_IN
    place = (left_in / WIDTH_IN, bottom_in / height_in, across, (height_in - top_in - bottom_in) / height_in)
    axes = figure.add_axes(place)
    for side in axes.spines.values():
        side.set_visible(False)
    axes.tick_params(length=0, labelsize=10, labelcolor=MUTED)
    return axes


def _titled(figure: Figure, height_in: float, title: str, below: str) -> None:
    figure.text(0.2 / WIDTH_IN, 1 - 0.14 / height_in, title, fontsize=12, fontweight="bold", va="top")
    figure.text(0.2 / WIDTH_IN, 1 - 0.40 / height_in, below, fontsize=9.5, color=MUTED, va="top")


# --- Shares ---------------------------------------------------------------------------------------------------------


def _stacked(card: ChartCard) -> list[tuple[str, tuple[str, ...]]]:
    """What is told apart, from the bottom up: the candidate grows from the ground, its baseline gives way above it."""
    heights = {card.variant: 0, card.baseline: 2}
    return sorted(chartwords.grouped(card), key=lambda group: heights.get(group[0], 1))


def _shares(card: ChartCard) -> bytes:
    groups, now = _stacked(card), card.periods[-1]
    rows = (len(groups) + 1) // 2
    height_in = 3.0 + 0.24 * rows
    with _paper(height_in) as (figure, buffer):
        _titled(figure, height_in, f"Shares in {_written(card.experiment)}", "of the traffic, times in UTC")
        axes = _axes(figure, height_in, top_in=0.78 + 0.24 * rows, bottom_in=0.34, left_in=0.62)
        _bands(axes, card, groups)
        figure.legend(
            axes.collections[: len(groups)],
            [f"{_written(name, 15)} {percent(chartwords.together(now, group))}" for name, group in groups],
            loc="upper left",
            bbox_to_anchor=(0.14 / WIDTH_IN, 1 - 0.60 / height_in),
            ncols=2,
            frameon=False,
            fontsize=10,
            handlelength=1.4,
            columnspacing=1.2,
            borderpad=0,
        )
    return buffer.getvalue()


def _bands(axes: Axes, card: ChartCard, groups: Sequence[tuple[str, tuple[str, ...]]]) -> None:
    from matplotlib.dates import date2num
    from matplotlib.ticker import PercentFormatter

    until = max(card.until, card.periods[0].started_at + timedelta(minutes=1))
    starts = [date2num(moment) for moment in (*(p.started_at for p in card.periods), until)]
    below = [0.0] * len(starts)
    for n, (name, group) in enumerate(groups):
        is_quiet = name == card.baseline
        shares = [chartwords.together(period, group) for period in (*card.periods, card.periods[-1])]
        above = [low + share for low, share in zip(below, shares, strict=True)]
        axes.fill_between(
            starts,
            below,
            above,
            step="post",
            facecolor=QUIET if is_quiet else FILLS[n % len(FILLS)],
            hatch="" if is_quiet else HATCHES[n % len(HATCHES)],
            edgecolor=SHEET,
            linewidth=0.8,
        )
        if not is_quiet:
            _numbers(axes, starts, below, shares)
        below = above
    axes.set(xlim=(starts[0], starts[-1]), ylim=(0, 1))
    axes.yaxis.set_major_formatter(PercentFormatter(1, symbol=" %"))
    axes.set_yticks([0, 0.25, 0.5, 0.75, 1])
    _dated(axes, until - card.periods[0].started_at)


def _dated(axes: Axes, span: timedelta) -> None:
    """Few dates, each written out, with the time of day where days are too coarse."""
    from matplotlib.dates import AutoDateLocator, DateFormatter

    axes.xaxis.set_major_locator(AutoDateLocator(minticks=3, maxticks=5))
    is_short, is_long = span < timedelta(days=3), span > timedelta(days=300)
    axes.xaxis.set_major_formatter(DateFormatter("%d %b %H:%M" if is_short else "%b %Y" if is_long else "%d %b"))


def _numbers(axes: Axes, starts: Sequence[float], below: Sequence[float], shares: Sequence[float]) -> None:
    """The share of each step, where its band is large enough for it."""
    whole = starts[-1] - starts[0]
    boxed = {"facecolor": SHEET, "edgecolor": "none", "pad": 1.2, "alpha": 0.92}
    for n in range(len(starts) - 1):
        if starts[n + 1] - starts[n] > 0.095 * whole and shares[n] >= 0.08:
            middle = ((starts[n] + starts[n + 1]) / 2, below[n] + shares[n] / 2)
            axes.text(*middle, percent(shares[n]), ha="center", va="center", fontsize=10, bbox=boxed)


# --- Differences ----------------------------------------------------------------------------------------------------


def _range(found: Sequence[Difference]) -> tuple[float, float]:
    """The axis: always the baseline and the limit, and the intervals; what lies too far out ends in an arrow."""
    values = [v for d in found for v in (d.used_at_best, d.used, d.used_at_worst) if v is not None]
    least, most = min([-60.0, *values]), max([160.0, *values])
    return max(least - 10, LEAST), min(most + 10, MOST)


def _forest(card: ChartCard) -> bytes:
    found = card.differences
    signs = list(dict.fromkeys(SIGNS[d.state] for d in found))
    notes = [*("   ".join(signs[n : n + 4]) for n in range(0, len(signs), 4)), chartwords.INTERVALS]
    foot_in = 0.24 + 0.18 * len(notes)
    height_in = 0.84 + foot_in + ROW_IN * len(found)
    with _paper(height_in) as (figure, buffer):
        title = f"{_written(card.variant or '', 18)} against {_written(card.baseline or '', 13)}"
        _titled(figure, height_in, title, "Harm in % of each metric's limit; right is worse")
        axes = _axes(figure, height_in, top_in=0.84, bottom_in=foot_in, left_in=0.22)
        axes.set(xlim=_range(found), ylim=(len(found), 0))
        axes.set_xticks([0, 100], ["baseline", "limit"])
        axes.xaxis.set_ticks_position("top")
        axes.tick_params(axis="x", labelsize=9.5, pad=1)
        axes.set_yticks([])
        for row, difference in enumerate(found):
            _row(axes, difference, row)
        note = "\n".join(notes)
        figure.text(0.2 / WIDTH_IN, 0.12 / height_in, note, fontsize=9, color=MUTED, va="bottom", linespacing=1.35)
    return buffer.getvalue()


def _row(axes: Axes, found: Difference, row: int) -> None:
    """A metric's name and numbers on one line, and below it the strip where its interval lies."""
    colour, why = MARKS[found.state][1], undrawn(found)
    numbers = signed(found.change) if found.limit is None else f"{signed(found.change)}, limit {signed(found.limit)}"
    words: dict[str, Any] = {"transform": axes.get_yaxis_transform(), "va": "center", "fontsize": 10}
    sign = SIGNS[found.state].split(" ")[0]
    axes.text(0, row + 0.28, f"{sign} {_written(found.metric.title)}", color=colour, fontweight="bold", **words)
    axes.text(1, row + 0.28, numbers if found.change is not None else "", ha="right", **words)
    if why is None:
        _strip(axes, row)
        _whisker(axes, found, row + 0.72, colour)
        _mark(axes, found, row + 0.72)
    else:
        axes.text(0, row + 0.68, cut(f"not drawn: {why}", 56), **(words | {"fontsize": 9, "color": MUTED}))


def _strip(axes: Axes, row: int) -> None:
    """Where a metric is like the baseline, and where it is beyond its limit."""
    top, bottom, most = row + 0.52, row + 0.92, axes.get_xlim()[1]
    axes.fill_between([100, most], top, bottom, facecolor=HARM, alpha=0.12, linewidth=0)
    axes.plot([0, 0], [top, bottom], color=MUTED, linewidth=1.2)
    axes.plot([100, 100], [top, bottom], color=HARM, linewidth=1.8)


def _mark(axes: Axes, found: Difference, y: float) -> None:
    """What was measured; nothing where it lies beyond the axis, since the arrow there says so."""
    marker, colour, is_filled = MARKS[found.state]
    least, most = axes.get_xlim()
    if found.used is None or not least <= found.used <= most:
        return
    style: dict[str, Any] = {
        "markerfacecolor": colour if is_filled else SHEET,
        "markeredgecolor": colour,
        "markeredgewidth": 1.6,
    }
    axes.plot([found.used], [y], marker=marker, markersize=8, zorder=5, clip_on=False, **style)


def _whisker(axes: Axes, found: Difference, y: float, colour: str) -> None:
    """The interval; an end beyond the axis, or open, is an arrow."""
    has_interval = found.low is not None or found.high is not None
    least, most = axes.get_xlim()
    best, worst = (found.used_at_best, found.used_at_worst) if has_interval else (found.used, found.used)
    ends = (float("-inf") if best is None else best, float("inf") if worst is None else worst)
    shown = [min(max(end, least), most) for end in ends]
    axes.plot(shown, [y, y], color=colour, linewidth=2.6, solid_capstyle="butt", zorder=3)
    for end, place in zip(ends, shown, strict=True):
        marker = "<" if end < place else ">" if end > place else "|" if has_interval else ""
        axes.plot([place], [y], marker=marker, markersize=7, color=colour, markeredgewidth=2, zorder=4, clip_on=False)
