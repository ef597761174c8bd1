"""Two configurations compared on the command line: what differs, and which past verdicts would have been others."""

from __future__ import annotations

from collections.abc import Callable
from datetime import date, time
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Engine, text

from bot import differences
from bot.__main__ import main
from core.errors import Refused
from core.policies import Difference
from core.settings import Key
from tests.core import steps
from tests.core.test_hindsight import LOOSE, put, slower

TOLERANCE = '[metrics.custom]\np90_latency = {{ quantile = 0.9, title = "Latency p90", tolerance = {} }}\n'


@pytest.mark.parametrize(("typed", "expected"), [("90d", 90), ("12W", 84), (" 1d", 1), ("3650d", 3650)])
def test_lengths(typed: str, expected: int) -> None:
    assert differences.days(typed) == expected


@pytest.mark.parametrize("typed", ["0d", "90", "d", "-3d", "4h", "1.5d", "3651d", "99999d", "٣d", "soon"])
def test_what_is_no_length(typed: str) -> None:
    with pytest.raises(Refused, match="like 90d or 12w"):
        differences.days(typed)


@pytest.mark.parametrize(
    ("key", "value", "expected"),
    [
        (("rollout", "steps"), (Decimal("0.10"), Decimal("0.125"), Decimal(1)), "10 %, 12.5 %, 100 %"),
        (("rollout", "minimum_samples"), 2000, "2,000 plans"),
        (("metrics", "custom", "swaps", "tolerance"), 0.05, "5 %"),
        (("metrics", "custom", "swaps", "guardrail"), False, "no"),
        (("metrics", "custom", "swaps", "limit"), None, "none"),
        (("metrics", "custom", "swaps", "ratio"), ("meal_swapped", "plan_accepted"), "meal_swapped / plan_accepted"),
        (("metrics", "acceptance_rate", "tolerance"), None, "5 %"),
        (("metrics", "cost_per_plan", "required"), None, "no"),
        (("metrics", "avg_edits", "guardrail"), None, "yes"),
        (("metrics", "p99_latency", "limit"), None, "2000.0"),
        (("metrics", "p99_latency", "tolerance"), None, "none"),
        (("rollout", "minimum_days"), None, "the document's"),
        (("rollout", "minimum_days"), (1, 2), "1, 2 days"),
        (("experiments", "a", "metrics", "avg_edits", "tolerance"), None, "as for all"),
        (("metrics", "price_per_1000_tokens"), None, "none"),
        (("slack", "operators"), None, "everybody"),
        (("experiments", "a", "rule"), None, "as for all"),
        (("experiments", "a", "owners"), None, "nobody"),
        (("freezes", "nights", "from"), time(18), "18:00"),
        (("freezes", "nights", "weekdays"), None, "every day"),
        (("freezes", "year", "first"), date(2026, 12, 20), "2026-12-20"),
    ],
)
def test_values_in_plain_words(key: Key, value: Any, expected: str) -> None:
    assert differences.said(key, value) == expected


def test_what_is_new() -> None:
    found = Difference(("freezes", "nights", "from"), None, time(18), was_there=False)
    assert differences.line(found) == "freezes.nights.from: not there -> 18:00"


Said = Callable[..., tuple[int, str, str]]


@pytest.fixture
def diff(
    database_url: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> Said:
    """What the command ends with and prints, with LOOSE's configuration in force."""
    monkeypatch.setenv("DATABASE_URL", database_url)
    monkeypatch.chdir(tmp_path)
    Path("promotion-bot.toml").write_text(TOLERANCE.format(0.5))
    files = {
        "same": TOLERANCE.format("0.50"),
        "strict": TOLERANCE.format(0.05),
        "bad": "[rollout]\nx = 1",
    }
    for name, written in files.items():
        Path(f"{name}.toml").write_text(written)

    def said(*words: str) -> tuple[int, str, str]:
        return main(["policy", "diff", *words]), *capsys.readouterr()

    return said


def test_a_stricter_tolerance_changes_past_verdicts_and_the_same_file_nothing(desk: Engine, diff: Said) -> None:
    steps.change(desk, "start")
    put(desk, slower(), LOOSE)
    with desk.begin() as connection:  # from here on nobody who connects can write
        name = connection.scalar(text("SELECT current_database()"))
        connection.execute(text(f"ALTER DATABASE {name} SET default_transaction_read_only = on"))
    end, same, _ = diff("same.toml", "--replay", "90d")
    assert end == 0
    assert "promotion-bot.toml -> same.toml: nothing differs" in same
    assert "8 daily looks since" in same
    assert ", 0 differ." in same
    end, strict, _ = diff("strict.toml", "--replay", "2w")
    assert end == 1
    assert "metrics.custom.p90_latency.tolerance: 50 % -> 5 %\n" in strict
    head, first, second = (line for line in strict.splitlines() if "->" in line and "  " in line.strip())
    assert head.split()[:3] == ["experiment", "variant", "day"]
    assert first.split()[:2] == ["planner_policy_exp", "candidate_v3"]
    assert "increase -> rollback" in first
    assert "Latency p90 is worse" in first
    assert second.startswith("~")
    assert "2 differ (increase -> rollback: 2)." in strict
    assert "\n~ comes after a verdict of the same rollout" in strict


def test_errors_name_the_file_the_line_and_the_remedy(diff: Said) -> None:
    assert diff("gone.toml") == (2, "", "There is no file gone.toml. Name the configuration to compare with.\n")
    end, _, said = diff("bad.toml")
    assert end == 2
    assert "The configuration (bad.toml) has faults:\n  rollout.x: this is no setting" in said
    assert "(line 2)" in said
    end, printed, said = diff("strict.toml", "--replay", "long")
    assert (end, printed) == (2, "")
    assert "like 90d or 12w" in said


def test_a_database_of_another_version_is_left_as_it_is(engine: Engine, diff: Said) -> None:
    with engine.begin() as connection:
        connection.execute(text("UPDATE promotion.alembic_version SET version_num = '0001'"))
    end, _, said = diff("strict.toml", "--replay", "1d")
    assert end == 2
    assert "Start this version of the bot" in said
    with engine.connect() as connection:
        assert connection.scalar(text("SELECT version_num FROM promotion.alembic_version")) == "0001"
