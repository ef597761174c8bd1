"""What differs between two configurations: by key, by value, and whether it decides anything."""

from __future__ import annotations

from decimal import Decimal
from pathlib import Path

import pytest
from sqlalchemy import Engine, text

from core import db, policies, settings
from core.policies import Difference

NIGHTS = '[[freezes]]\nname = "nights"\nfrom = "18:00"\nuntil = "08:00"\n'
YEAR = '[[freezes]]\nname = "end of the year"\nfirst = 2026-12-20\n'


@pytest.fixture(autouse=True)
def alone(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """An empty folder."""
    monkeypatch.chdir(tmp_path)


def compared(before: str, after: str) -> list[Difference]:
    files = [Path("before.toml"), Path("after.toml")]
    for file, lines in zip(files, (before, after), strict=True):
        file.write_text(lines)
    return list(policies.differences(*(settings.load(file) for file in files)))


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("", "[rollout]\nsteps = [0.1, 0.25, 0.5, 1]\nminimum_samples = 1000\n[approvals]\nproduction = 2\n"),
        (
            f'[recommendations]\ntimezone = "Europe/Berlin"\n{NIGHTS}',
            f'[recommendations]\ntimezone = "Europe/Berlin"\n{NIGHTS}timezone = "Europe/Berlin"\n',
        ),
        ("", "[experiments.other]\nowners = []\n"),
        (NIGHTS + YEAR, YEAR + NIGHTS),
    ],
    ids=["defaults", "the usual time zone", "nobody", "order"],
)
def test_what_means_the_same_does_not_differ(before: str, after: str) -> None:
    assert compared(before, after) == []


def test_what_an_experiment_has_of_its_own_is_by_name() -> None:
    found = compared(
        "[metrics]\nacceptance_rate = { tolerance = 0.03 }",
        "[experiments.a]\nsteps = [0.05, 1.0]\nminimum_days = [2]\nmetrics.avg_edits = { limit = 2.5 }\n"
        "approvals = { production = 3 }",
    )
    assert {".".join(one.key): (one.before, one.after, one.decides) for one in found} == {
        "metrics.acceptance_rate.tolerance": (0.03, None, True),
        "experiments.a.steps": (None, (Decimal("0.05"), Decimal(1)), True),
        "experiments.a.minimum_days": (None, (2,), True),
        "experiments.a.metrics.avg_edits.limit": (None, 2.5, True),
        "experiments.a.approvals.production": (None, 3, True),
    }


def test_what_is_named_and_is_not_there(engine: Engine) -> None:
    with engine.begin() as connection:
        connection.execute(text("INSERT INTO exp.experiments (name, unit_type) VALUES ('planner_policy_exp', 'user')"))
    Path("here.toml").write_text(
        f'{NIGHTS}experiments = ["planner_policy_exp", "gone"]\n[experiments.planer_policy_exp]\nrule = "document"'
    )
    found = settings.load(Path("here.toml"))
    with db.transaction(engine) as session:
        assert policies.strangers(session, found) == [
            "[experiments.planer_policy_exp] is about an experiment that is not there: planer_policy_exp; "
            "the nearest is planner_policy_exp",
            "the freeze nights is about an experiment that is not there: gone",
        ]
        assert policies.strangers(session, settings.Settings()) == []


def test_each_key_that_differs() -> None:
    found = compared(
        '[slack]\ncommand = "/x"\n[experiments."a.b"]\nrule = "document"\n' + NIGHTS,
        "[rollout]\nsteps = [0.05, 1.0]\n[approvals]\nremind_hours = 1\n[slack]\napprovers = ['@bob']\n"
        + NIGHTS.replace("08", "07"),
    )
    keys = {".".join(one.key): (one.before, one.after, one.decides) for one in found}
    assert list(keys) == [
        "slack.command", "slack.approvers", "rollout.steps", "approvals.remind_hours", "freezes.nights.until",
        "experiments.a.b.rule",
    ]  # fmt: skip
    assert keys["slack.command"] == ("/x", "/rollout", False)
    assert keys["slack.approvers"] == (None, ("@bob",), True)
    assert keys["rollout.steps"][1:] == ((Decimal("0.05"), Decimal(1)), True)
    assert not keys["approvals.remind_hours"][2]
    assert keys["freezes.nights.until"][2]
    assert keys["experiments.a.b.rule"] == ("document", None, True)


def test_a_freeze_or_a_metric_that_is_new_or_gone() -> None:
    custom = '[metrics.custom]\nswaps = { count = "meal_swapped", tolerance = 0.1 }\n'
    found = compared(custom, NIGHTS)
    assert {(one.key[0], one.was_there, one.is_there) for one in found} == {
        ("metrics", True, False),
        ("freezes", False, True),
    }
    (one,) = compared(custom, custom.replace("tolerance = 0.1", "tolerance = 0.05"))
    assert one == Difference(("metrics", "custom", "swaps", "tolerance"), 0.1, 0.05)
