"""Charts within Slack's limits, and the same as pictures: the harmful direction shows, and a sentence says it all."""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import numpy as np
import pytest
from PIL import Image

from bot import charts, chartwords, pictures
from bot.sandbox.checks import check_blocks
from core.chart_cards import ChartCard, Difference, Period
from core.rules.findings import State
from core.rules.metrics import METRICS, Metric, Ratio

Json = dict[str, Any]
NOW = datetime(2026, 11, 23, 18, tzinfo=UTC)
HOSTILE = ("a$b_$c", "نموذج", "模型", "🚀", "x" * 200, "x" * 201, "<!channel>", "  ")


def period(days_ago: float, **shares: str) -> Period:
    return Period(NOW - timedelta(days=days_ago), {name: Decimal(share) for name, share in shares.items()})


def difference(name: str, state: State, change: float | None, **more: Any) -> Difference:
    metric = next(m for m in METRICS if m.name == name)
    limit = -5.0 if metric.higher_is_better else 10.0
    ends = {"low": None if change is None else change - 4, "high": None if change is None else change + 4}
    return Difference(
        metric,
        state,
        **({"candidate": 1.0, "baseline": 1.0, "change": change, "limit": limit, "problem": None} | ends | more),
    )


CARD = ChartCard(
    "planner_policy_exp",
    ("control", "candidate_v3"),
    (
        period(9, control="1"),
        period(8, control="0.9", candidate_v3="0.1"),
        period(5, control="0.75", candidate_v3="0.25"),
    ),
    NOW,
    variant="candidate_v3",
    baseline="control",
    share=Decimal("0.25"),
    differences=(
        difference("acceptance_rate", "worse", -10.0),
        difference("avg_edits", "tolerable", 5.0),
        difference("validator_rate", "fine", -5.0),
        difference("p50_latency", "inconclusive", 1.0, high=None),
        difference("p99_latency", "inconclusive", 1.0, limit=-3.0),
        difference("cost_per_plan", "not measurable", None, limit=None, problem="nobody logs it"),
    ),
)


def of_type(found: Sequence[Json], kind: str) -> list[Json]:
    return [block for block in found if block["type"] == kind]


def points(block: Json) -> dict[str, dict[str, float]]:
    return {s["name"]: {p["label"]: p["value"] for p in s["data"]} for s in block["chart"]["series"]}


def test_an_answer_has_two_charts_a_table_and_a_sentence() -> None:
    made = charts.answer(CARD, "/rollout")
    assert check_blocks(list(made.blocks))
    assert [block["type"] for block in made.blocks] == [
        "section",
        "data_visualization",
        "data_visualization",
        "context",
        "data_table",
        "context",
    ]
    assert made.text.replace("\u00a0", " ") == (
        "In planner_policy_exp the shares are control 75 % and candidate_v3 25 % since 18 Nov 2026; candidate_v3 came"
        " from 10 %. Of 6 metrics of candidate_v3 against control, 1 is worse, beyond chance and tolerance (Acceptance"
        " −10.0 % with a limit of −5.0 %), 1 is worse, within tolerance (Edits per plan +5.0 % with a limit of"
        " +10.0 %), 2 are inconclusive, 1 is fine and 1 is not measurable."
    )


def test_shares_are_spaced_evenly_in_time() -> None:
    drawn = points(charts.shares(CARD))
    assert list(drawn) == ["control", "candidate_v3"]
    assert list(drawn["control"])[:3] == ["14 Nov", "15 Nov", "16 Nov"]
    assert list(drawn["control"].items())[-1] == ("now", 75.0)
    assert list(drawn["candidate_v3"].values()) == [0.0, 10.0, 10.0, 10.0, 25.0, 25.0, 25.0, 25.0, 25.0, 25.0]


def test_a_step_that_lasted_minutes_is_not_lost() -> None:
    short = period(8.5, control="0.5", candidate_v3="0.5")
    card = replace(
        CARD,
        periods=(
            CARD.periods[0],
            short,
            replace(CARD.periods[0], started_at=short.started_at + timedelta(minutes=3)),
            *CARD.periods[1:],
        ),
    )
    drawn = points(charts.shares(card))
    assert 50.0 in drawn["candidate_v3"].values()
    many = [period(30 - n / 10, control=f"0.{50 + n}", candidate_v3=f"0.{50 - n:02}") for n in range(40)]
    assert len(points(charts.shares(replace(CARD, periods=tuple(many))))["control"]) == 20


def test_worse_is_up_for_every_metric_and_the_limit_is_at_100() -> None:
    block = charts.harms(CARD)
    assert block is not None
    drawn = points(block)
    assert drawn["Measured"] == {"Acceptance": 200.0, "Edits": 50.0, "Validator": -50.0}
    assert drawn["At worst"] == {"Acceptance": 280.0, "Edits": 90.0, "Validator": -10.0}
    assert set(drawn["Limit"].values()) == {100.0}
    assert "up is worse" in block["chart"]["type"] + block["title"]
    (left_out,) = [b for b in charts.blocks(CARD) if b["type"] == "context"]
    assert left_out["elements"][0]["text"] == (
        "Not in the chart: Latency p50 (its interval is open), Latency p99 (the baseline is beyond the limit itself),"
        " Cost per plan (nobody logs it)."
    )


def test_what_is_far_off_does_not_squeeze_the_rest() -> None:
    far = replace(
        CARD, differences=(difference("avg_edits", "worse", 900.0), difference("validator_rate", "fine", -90.0))
    )
    block = charts.harms(far)
    assert block is not None
    assert points(block)["Measured"] == {"Edits": 400.0, "Validator": -200.0}
    assert block["chart"]["axis_config"]["y_label"] == "0 = baseline, 100 = limit, cut at −200 and 400"
    assert [row[2]["text"] for row in charts.table(far)["rows"]] == ["Change", "+900.0 %", "−90.0 %"]


def test_point_estimates_are_drawn_without_an_interval() -> None:
    bare = replace(CARD, differences=(difference("avg_edits", "no interval", 5.0, low=None, high=None),))
    block = charts.harms(bare)
    assert block is not None
    assert list(points(block)) == ["Measured", "Limit"]
    assert pictures.drawn(bare)


def test_without_a_candidate_and_without_any_limit() -> None:
    alone = replace(CARD, variant=None, baseline=None, differences=())
    assert [b["type"] for b in charts.answer(alone, "/rollout").blocks] == ["section", "data_visualization"]
    assert len(pictures.drawn(alone)) == 1
    unlimited = replace(CARD, differences=(difference("cost_per_plan", "informative", 3.0, limit=None),))
    assert charts.harms(unlimited) is None
    assert check_blocks(list(charts.answer(unlimited, "/rollout").blocks))


@pytest.mark.parametrize("count", [1, 6, 7, 8])
def test_any_names_and_any_number_of_variants(count: int) -> None:
    names = HOSTILE[:count]
    shares = {name: Decimal(1) / count for name in names}
    custom = [Metric(f"m{n}", f"{HOSTILE[n % 8]} {n}", "count", Ratio("plans"), tolerance=0.1) for n in range(25)]
    found = tuple(Difference(m, "fine", 1.0, 1.0, 2.0, 1.0, 3.0, 10.0, None) for m in custom)
    card = ChartCard("<!here> " + "e" * 300, names, (Period(NOW, shares),), NOW, names[0], names[-1], Decimal(1), found)
    made = charts.answer(card, "/rollout")
    assert check_blocks(list(made.blocks))
    assert check_blocks(list(made.words))
    assert "<!" not in made.text
    assert len(points(charts.shares(card))) == min(count, 6)
    assert len(pictures.drawn(card)) == 2  # warnings are errors: every letter is in the font


def test_pictures_are_legible_png_with_words_for_them() -> None:
    shares, forest = pictures.drawn(CARD)
    for picture in (shares, forest):
        drawn = Image.open(io.BytesIO(picture.content))
        assert drawn.format == "PNG"
        assert drawn.width == round(pictures.WIDTH_IN * pictures.DPI)
        assert picture.name.endswith(".png")
        assert len(picture.content) < 300_000
    assert shares.alt == chartwords.shares(CARD)
    assert "✕ worse: Acceptance −10.0 % (−14.0 … −6.0 %), limit −5.0 %" in forest.alt
    assert "– not measurable: Cost per plan, nobody logs it" in forest.alt
    assert all(len(picture.alt) <= 1_000 for picture in (shares, forest))


@pytest.mark.parametrize("ends", [{}, {"low": None, "high": None}], ids=["interval", "point"])
def test_a_worse_metric_is_drawn_further_right(ends: Json) -> None:
    """The colour of its state, which nothing else in its strip has, is looked for in the pixels."""

    def middle(change: float) -> float:
        only = replace(CARD, differences=(difference("avg_edits", "tolerable", change, **ends),))
        drawn = np.asarray(Image.open(io.BytesIO(pictures.drawn(only)[1].content)).convert("RGB"))
        strip = drawn[round(1.2 * pictures.DPI) : round(1.33 * pictures.DPI)]
        return float(np.nonzero((strip == (179, 98, 0)).all(axis=2))[1].mean())

    assert middle(-5.0) < middle(0.0) < middle(5.0) < middle(15.0)


def test_words_say_the_same_without_any_chart() -> None:
    said = "\n".join(block["text"]["text"] for block in of_type(charts.words(CARD), "section"))
    for difference in CARD.differences:
        assert difference.metric.title in said
    assert "–".join(chartwords.unique(["x" * 30, "x" * 40])) == f"{'x' * 19}…–{'x' * 17}… 2"
