"""The environment and one TOML file; every fault is named at once, and no secret is ever printed."""

from __future__ import annotations

from datetime import date, time, timedelta
from decimal import Decimal
from pathlib import Path

import pytest

from core import faults, metric_sections, settings
from core.errors import Refused
from core.rules.allocation import STEPS
from core.rules.approval import Quorums
from core.rules.metrics import METRICS, Collected, Quantile, Ratio

SECRETS = {
    "SLACK_BOT_TOKEN": "xoxb-secret-1",
    "SLACK_APP_TOKEN": "xapp-secret-2",
    "SLACK_SIGNING_SECRET": "secret-3",
    "DATABASE_URL": "postgresql://bot:secret-4@db/exp",
}
KNOWN = [*SECRETS, "SLACK_API_URL", "MLFLOW_TRACKING_URI", "MLFLOW_TIMEOUT_S", "PROMOTION_BOT_DATA", "SLACK", "ROLLOUT",
         "METRICS", "EXPERIMENTS"]  # fmt: skip


@pytest.fixture(autouse=True)
def alone(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """An empty folder and an environment that says nothing."""
    monkeypatch.chdir(tmp_path)
    for name in KNOWN:
        monkeypatch.delenv(name, raising=False)


def written(text: str, name: str = "promotion-bot.toml") -> Path:
    path = Path.cwd() / name
    path.write_text(text)
    return path


def test_without_anything_the_documents_defaults() -> None:
    found = settings.load()
    assert found.terms.usual.steps == STEPS
    assert (found.terms.usual.minimum_samples, found.terms.price_per_1000_tokens) == (1000, None)
    assert (found.slack.command, found.slack.approvers) == ("/rollout", ())
    assert found.slack_api_url == "https://slack.com/api/"
    assert found.tracking_uri == f"sqlite:///{Path.cwd() / '.promotion-bot' / 'mlflow.db'}"


def test_the_file() -> None:
    written(
        """
        mlflow_tracking_uri = "http://mlflow:5000"
        [slack]
        command = "/promote"
        approvers = ["U2", "@ml-approvers"]
        [rollout]
        steps = [0.05, 0.2, 1.0]
        minimum_samples = 200
        [metrics]
        price_per_1000_tokens = 0.002
        """
    )
    found = settings.load()
    assert (found.slack.command, found.slack.approvers) == ("/promote", ("U2", "@ml-approvers"))
    assert found.terms.usual.steps == (Decimal("0.05"), Decimal("0.2"), Decimal(1))
    assert (found.terms.usual.minimum_samples, found.terms.price_per_1000_tokens) == (200, Decimal("0.002"))
    assert found.tracking_uri == "http://mlflow:5000"


@pytest.mark.parametrize(
    "uri",
    ["127.0.0.1:5962", "localhost:5000", "./mlruns", "/mlruns", "mlruns", "file:///mlruns", "http://", "s3://x", "x"],
)
def test_an_mlflow_that_cannot_be_is_refused_at_once(uri: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
    with pytest.raises(Refused, match="mlflow_tracking_uri: this has to begin with http:// or https://") as refused:
        settings.load()
    assert "a folder is no store any more" in str(refused.value)
    assert "(environment variable MLFLOW_TRACKING_URI)" in str(refused.value)


@pytest.mark.parametrize(
    "uri",
    [
        "http://mlflow:5000", "HTTPS://mlflow/path", "sqlite:///mlflow.db", "sqlite:////data/mlflow.db",
        "postgresql://me@host/base", "postgresql+psycopg2://me@host/base", "mysql+pymysql://me@host/base",
        "mssql+pyodbc://me@host/base", "databricks", "databricks://profile", "databricks-uc",
    ],
)  # fmt: skip
def test_an_mlflow_that_can_be(uri: str) -> None:
    assert settings.load(mlflow_tracking_uri=uri).tracking_uri == uri


def test_the_environment_comes_before_the_file_and_the_command_line_before_both(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    path = written('mlflow_tracking_uri = "http://file"\nslack_api_url = "http://file"', "other.toml")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://environment")
    found = settings.load(path)
    assert (found.mlflow_tracking_uri, found.slack_api_url) == ("http://environment", "http://file")
    assert settings.load(path, mlflow_tracking_uri="http://command-line").tracking_uri == "http://command-line"


def test_every_fault_at_once_each_with_its_key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_TIMEOUT_S", "soon")
    written(
        """
        colour = "blue"
        [slack]
        comand = "/rollout"
        command = "rollout"
        approvers = "U2"
        [rollout]
        steps = [0.5, 1.0]
        minimum_samples = 0
        [metrics]
        price_per_1000_tokens = -1
        """
    )
    with pytest.raises(Refused) as refused:
        settings.load()
    keys = {line.split(":")[0].strip() for line in str(refused.value).splitlines()[1:]}
    assert keys == {
        "mlflow_timeout_s", "colour", "slack.comand", "slack.command", "slack.approvers", "rollout.steps",
        "rollout.minimum_samples", "metrics.price_per_1000_tokens",
    }  # fmt: skip
    assert "colour: this is no setting; remove it or correct its name" in str(refused.value)


@pytest.mark.parametrize(
    ("toml", "says"),
    [
        ('[slack]\napprovers = ["@ann", "bob"]', 'slack.approvers, entry 2: write a handle with its @, like "@bob"'),
        ('[alerts]\non_call = ["carol"]', 'alerts.on_call, entry 1: write a handle with its @, like "@bob"'),
        ('[slack]\napprovers = "@bob"', "slack.approvers: this has to be a list in square brackets; write handles"),
        (
            '[slack]\nrollouts_channel = "#"',
            'rollouts_channel: write the name of one channel, like "ml-rollouts"',
        ),
        ('[slack]\ncommand = "rollout"', "slack.command: this is not how it is written; write a slash"),
        ("[rollout]\nminimum_samples = 0", "this has to be at least 1; write a whole number of plans"),
        ('[rollout]\nrule = "documents"', "this is none of 'calibrated' or 'document'; write rule ="),
        ('[recommendations]\nat = "9"', 'recommendations.at: write hours and minutes, like "09:00"'),
        ("[experiments.x]\nat = 9", 'experiments.x.at: write hours and minutes, like "09:00"'),
        ('[experiments.x]\nat = "09:00Z"', 'experiments.x.at: write hours and minutes, like "09:00"'),
        ("[recommendations]\nweekdays = []", "recommendations.weekdays: name at least one day"),
        (
            '[metrics.custom]\nx = { count = "a", tolerance = 10 }',
            "at most 1.0; write a part of 1, since 0.10 means",
        ),
        ("slack = 3", "slack: this has to be a section; write [slack]"),
    ],
)
def test_a_fault_says_what_to_write(toml: str, says: str) -> None:
    written(toml)
    with pytest.raises(Refused) as refused:
        settings.load()
    assert says in str(refused.value)


def test_every_setting_has_a_remedy() -> None:
    sections = (settings.SlackSection, settings.RolloutSection, settings.MetricsSection, metric_sections.MetricSection,
                metric_sections.CustomMetric, settings.RecommendationsSection, settings.AlertsSection,
                settings.ApprovalsSection, settings.ExperimentSection, settings.FreezeSection)  # fmt: skip
    keys = {field.alias or key for section in sections for key, field in section.model_fields.items()} - {"custom"}
    keys |= settings.Settings.model_fields.keys() - {
        "slack", "rollout", "metrics", "recommendations", "alerts", "approvals", "experiments", "freezes",
    }  # fmt: skip
    keys -= {"metrics", "approvals", *(metric.name for metric in METRICS)}  # sections within sections
    assert keys - faults.REMEDIES.keys() == set()


def test_a_fault_names_its_line_or_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_TIMEOUT_S", "soon")
    written(
        """\
mlflow_timeout_s = 5
[slack]
command = 1
approvers = [
  "bob",
]
[experiments."my.exp"]  # with a dot
rule = 'none'
[colour]
[rollout]
steps = []
"""
    )
    with pytest.raises(Refused) as refused:
        settings.load()
    ends = {line.split(":")[0].strip(): line.rpartition("(")[2] for line in str(refused.value).splitlines()[1:]}
    assert list(ends.items()) == list(
        {
            "mlflow_timeout_s": "environment variable MLFLOW_TIMEOUT_S)",
            "slack.command": "line 3)",
            "slack.approvers, entry 1": "line 4)",
            "experiments.my.exp.rule": "line 8)",
            "colour": "line 9)",
            "rollout.steps": "line 11)",
        }.items()
    )  # in the order in which they stand there


def test_channels_with_and_without_their_sign() -> None:
    written(
        '[slack]\nrollouts_channel = "#ml-rollouts"\napprovals_channel = "C012ABC"\n[experiments.x]\nchannel = "#x"'
    )
    found = settings.load()
    assert (found.slack.rollouts_channel, found.slack.approvals_channel) == ("ml-rollouts", "C012ABC")
    assert found.channel_of("x") == "x"


def test_how_many_approve_and_who_owns_what() -> None:
    written(
        """
        [slack]
        operators = ["@ml-engineers"]
        owners = ["U5"]
        [approvals]
        production = 3
        expires_hours = 48
        [experiments.planner_policy_exp]
        owners = ["@planner-team"]
        """
    )
    found = settings.load()
    assert found.terms.usual.quorums == Quorums(step=1, production=3, against=1, expires_after=timedelta(hours=48))
    assert (found.slack.operators, found.slack.owners) == (("@ml-engineers",), ("U5",))
    assert found.experiments["planner_policy_exp"].owners == ("@planner-team",)


@pytest.mark.parametrize(
    ("line", "key"),
    [
        ("rollback = 2", "approvals.rollback: this is no setting"),
        ("step = 0", "approvals.step"),
        ("remind_hours = 24", "approvals: .*remind_hours must be less than expires_hours"),
    ],
)
def test_what_approvals_cannot_be(line: str, key: str) -> None:
    written(f"[approvals]\n{line}")
    with pytest.raises(Refused, match=key):
        settings.load()


def test_a_metric_of_ones_own_is_one_line() -> None:
    written(
        """
        [metrics.custom]
        swaps = { count = "meal_swapped", tolerance = 0.10 }
        rejected = { share = "plan_rejected", tolerance = 0.05, title = "Rejections" }
        tokens = { mean = "plan_generated.token_count", guardrail = false }
        p90 = { quantile = 0.9, limit = 1500 }
        """
    )
    found = settings.load()
    added = {metric.name: metric for metric in found.terms.usual.metrics[len(METRICS) :]}
    assert found.terms.usual.metrics[: len(METRICS)] == METRICS
    assert added["swaps"].source == Ratio("extra:swaps", "extra:swaps:plans")
    assert (added["swaps"].title, added["swaps"].unit, added["swaps"].required) == ("Swaps", "count", False)
    assert (added["rejected"].title, added["rejected"].unit) == ("Rejections", "share")
    assert (added["tokens"].is_guardrail, added["tokens"].source) == (
        False,
        Ratio("extra:tokens", "extra:tokens:plans", 1e-9),
    )
    assert (added["p90"].source, added["p90"].limit, added["p90"].unit) == (Quantile(0.9), 1500, "ms")
    assert found.collected == (
        Collected("swaps", "count", "meal_swapped"),
        Collected("rejected", "share", "plan_rejected"),
        Collected("tokens", "mean", "plan_generated", "token_count"),
    )


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ("x = { tolerance = 0.1 }", "give exactly one of share, count, ratio, mean, quantile"),
        ('x = { share = "a", count = "a", tolerance = 0.1 }', "give exactly one of"),
        ("x = { quantile = 0.9, limit = 9, tolerance = 0.1 }", "give a tolerance against the baseline or an absolute"),
        ('x = { ratio = ["a"], tolerance = 0.1 }', "metrics.custom.x.ratio: name two: what is counted"),
        ('x = { ratio = ["a b", "c"], tolerance = 0.1 }', "metrics.custom.x.ratio, entry 1: this is not how it is"),
        ('x = { mean = "a.b", of = "a.b", tolerance = 0.1 }', "of is for a quantile, like quantile = 0.95"),
        ('x = { quantile = 0.9, of = "latency_ms", limit = 1 }', "metrics.custom.x.of: this is not how it is written"),
        ("x = { quantile = 0.9, limit = 0 }", "the limit of a quantile has to be more than 0"),
        ("x = { quantile = 0.9, limit = nan }", "metrics.custom.x.limit: this has to be a number"),
        ('x = { count = "a", guardrail = false, required = true }', "what is only shown (guardrail = false) cannot be"),
        (
            'x = { count = "a", tolerence = 0.1 }',
            "x.tolerence: this is no setting; remove it or correct its name; the nearest is tolerance",
        ),
        ('x = { count = "meal_swapped" }', "a guardrail needs a tolerance or a limit"),
        ('x = { count = "meal swapped", tolerance = 0.1 }', "metrics.custom.x.count"),
        ('x = { mean = "token_count", tolerance = 0.1 }', "metrics.custom.x.mean"),
        ("x = { quantile = 90, tolerance = 0.1 }", "metrics.custom.x.quantile"),
        ('X-1 = { count = "a", tolerance = 0.1 }', "metrics.custom.X-1"),
        ('avg_edits = { count = "a", tolerance = 0.1 }', "avg_edits is one of the six that are there"),
        ('x = { count = "a", tolerance = 0.1, colour = 1 }', "metrics.custom.x.colour: this is no setting"),
    ],
)
def test_a_line_that_is_no_metric(line: str, says: str) -> None:
    written(f"[metrics.custom]\n{line}")
    with pytest.raises(Refused) as refused:
        settings.load()
    assert says in str(refused.value)


def test_windows_in_which_nothing_moves_on() -> None:
    written(
        """
        [recommendations]
        timezone = "Europe/Berlin"
        [[freezes]]
        name = "nights"
        from = "18:00"
        until = "08:00"
        [[freezes]]
        name = "fair"
        first = 2026-12-20
        timezone = "UTC"
        experiments = ["planner"]
        """
    )
    found = settings.load()
    nights, fair = found.terms.freezes
    assert (nights.begins, nights.ends, nights.zone.key) == (time(18), time(8), "Europe/Berlin")
    assert (fair.first, fair.zone.key, fair.experiments) == (date(2026, 12, 20), "UTC", frozenset({"planner"}))
    assert found.policy["freezes"][0]["from"] == "18:00:00"


@pytest.mark.parametrize(
    ("lines", "says"),
    [
        ('name = "x"', "freezes, entry 2: say when: give weekdays, from and until, or first and last (line 4)"),
        ('weekdays = ["sat"]', "freezes.name, entry 2: this is missing; write what people call it"),
        ('name = "x"\nfrom = "08:00"\nuntil = "08:00"', "from and until are the same"),
        ('name = "x"\nfirst = 2026-12-20\nlast = 2026-12-19', "last must not be before first"),
        ('name = "x"\nfirst = 20', "freezes.first, entry 2: write year, month and day, like 2026-12-20 (line 6)"),
    ],
)
def test_windows_that_are_none(lines: str, says: str) -> None:
    written(f'[[freezes]]\nname = "first"\nweekdays = ["sun"]\n[[freezes]]\n{lines}')
    with pytest.raises(Refused) as refused:
        settings.load()
    assert says in str(refused.value)


def test_how_the_six_are_judged() -> None:
    written(
        """
        [metrics]
        acceptance_rate = { tolerance = 0.03 }
        p50_latency = { limit = 900, required = false }
        p99_latency = { tolerance = 0.5, required = true }
        [metrics.cost_per_plan]
        guardrail = false
        """
    )
    found = {metric.name: metric for metric in settings.load().terms.usual.metrics}
    assert found["avg_edits"] == next(metric for metric in METRICS if metric.name == "avg_edits")
    assert (found["acceptance_rate"].tolerance, found["acceptance_rate"].higher_is_better) == (0.03, True)
    p50, p99, cost = (found[name] for name in ("p50_latency", "p99_latency", "cost_per_plan"))
    assert (p50.tolerance, p50.limit, p50.required) == (None, 900, False)
    assert (p99.tolerance, p99.limit, p99.required) == (0.5, None, True)
    assert (cost.tolerance, cost.is_guardrail) == (0.1, False)


def test_ratios_and_quantiles_of_ones_own() -> None:
    written(
        """
        [metrics.custom]
        swaps_per_plan = { ratio = ["meal_swapped", "plan_accepted"], tolerance = 0.10 }
        revenue = { ratio = ["order_placed.amount", "plan_accepted"], limit = 3.5, higher_is_better = true }
        p95_tokens = { quantile = 0.95, of = "plan_generated.token_count", tolerance = 0.10 }
        """
    )
    found = settings.load()
    swaps, revenue, tokens = found.terms.usual.metrics[len(METRICS) :]
    assert swaps.source == Ratio("extra:swaps_per_plan", "extra:swaps_per_plan:over", counts_plans=False)
    assert revenue.source == Ratio("extra:revenue", "extra:revenue:over", 1e-9, counts_plans=False)
    assert tokens.source == Quantile(0.95, "extra:p95_tokens")
    assert (swaps.unit, revenue.unit, tokens.unit) == ("count", "number", "number")
    assert (revenue.limit, revenue.higher_is_better) == (3.5, True)
    assert found.collected == (
        Collected("swaps_per_plan", "ratio", "meal_swapped", None, ("plan_accepted", None)),
        Collected("revenue", "ratio", "order_placed", "amount", ("plan_accepted", None)),
        Collected("p95_tokens", "quantile", "plan_generated", "token_count"),
    )


def test_days_are_those_of_the_steps() -> None:
    written(
        "[rollout]\nsteps = [0.05, 0.2, 1]\nminimum_days = [1, 2]\n[experiments.a]\nsteps = [0.1, 0.5, 1]\n"
        "[experiments.b]\nsteps = [0.1, 1]\nminimum_days = [4]\n[experiments.c]\nminimum_days = [5, 6]"
    )
    terms = settings.load().terms
    found = {name: {str(share): days for share, days in terms.of(name).minimum_days.items()} for name in "abcd"}
    assert found == {"a": {"0.1": 1, "0.5": 2}, "b": {"0.1": 4}, "c": {"0.05": 5, "0.2": 6}, "d": {"0.05": 1, "0.2": 2}}
    days = [terms.of("d").days_at(Decimal(share)) for share in ("0.01", "0.05", "0.19", "0.2", "0.9")]
    assert days == [1, 1, 1, 2, 2]
    assert settings.Settings().terms.usual.minimum_days == {Decimal("0.10"): 3, Decimal("0.25"): 5, Decimal("0.50"): 7}


def test_what_several_settings_have_wrong_is_said_with_all_the_others() -> None:
    written(
        """\
[slack]
comand = "/rollout"
[rollout]
minimum_samples = 0
minimum_days = [1, 2]
[metrics.custom]
swaps = { count = "meal_swapped", tolerance = 0.1 }
wrong = { count = "meal_swapped", tolerance = 10 }
shown = { count = "meal_swapped", guardrail = false }
p90 = { quantile = 0.9, tolerance = 0.1 }
[[freezes]]
name = "nights"
weekdays = ["mon"]
[[freezes]]
name = "nights"
weekdays = ["tue"]
[experiments.x]
steps = [0.1, 0.05, 1.0]
[experiments."y.z"]
steps = [0.1, 1.0]
[experiments."y.z".metrics]
swap = { tolerance = 0.1 }
wrong = { tolerance = 0.1 }
shown = { required = true }
p90 = { limit = 0 }
acceptance_rate = { required = true, guardrail = false }
"""
    )
    with pytest.raises(Refused) as refused:
        settings.load()
    assert {
        line.split(": ")[0].strip(): line.rpartition("line ")[2].strip(")")
        for line in str(refused.value).splitlines()[1:]
    } == {
        "slack.comand": "2", "rollout.minimum_samples": "4", "rollout.minimum_days": "5",
        "metrics.custom.wrong.tolerance": "8", "freezes.name, entry 2": "15", "experiments.x.steps": "18",
        "experiments.y.z.steps": "20", "experiments.y.z.metrics.swap": "22", "experiments.y.z.metrics.shown": "24",
        "experiments.y.z.metrics.p90": "25", "experiments.y.z.metrics.acceptance_rate": "26",
    }  # fmt: skip
    for says in (
        "slack.comand: this is no setting; remove it or correct its name; the nearest is command (line 2)",
        "rollout.minimum_days: minimum_days needs one number for each step below 1.0: 3 for these steps, not 2",
        "experiments.y.z.steps: minimum_days needs one number for each step below 1.0: 1 for these steps, not 2",
        "metrics.swap: there is no such metric; the nearest is swaps",
        "metrics.shown: what is only shown (guardrail = false) cannot be required",
        "metrics.p90: the limit of a quantile has to be more than 0",
        "freezes.name, entry 2: entry 1 has this name, too; give each its own",
    ):
        assert says in str(refused.value)


@pytest.mark.parametrize(
    ("lines", "nearest"),
    [
        ("[metrics]\nacceptance = { tolerance = 0.1 }", "acceptance_rate"),
        ("[experiments.x]\nstep = [0.1, 1.0]", "steps"),
        ("[experiments.x.metrics.avg_edits]\ntolerence = 0.1", "tolerance"),
        ('[[freezes]]\nname = "x"\nweekday = ["mon"]', "weekdays"),
        ("[approval]\nstep = 2", "approvals"),
    ],
)
def test_a_wrong_name_gets_the_nearest_of_its_section(lines: str, nearest: str) -> None:
    written(lines)
    with pytest.raises(Refused, match=f"correct its name; the nearest is {nearest}"):
        settings.load()


def test_the_rule_of_all_and_of_one() -> None:
    written('[rollout]\nrule = "document"\n[experiments."my exp"]\nrule = "calibrated"')
    terms = settings.load().terms
    assert (terms.of("my exp").rule, terms.of("another").rule) == ("calibrated", "document")
    assert settings.Settings().terms.of("my exp").rule == "calibrated"


@pytest.mark.parametrize(
    "steps",
    ["[]", "[1.0]", "[0.5, 1.0]", "[0.1, 0.5]", "[0.1, 0.1, 1.0]", "[0.5, 0.1, 1.0]", "[0.0, 0.1, 1.0]",
     "[-0.1, 0.1, 1.0]", "[0.1, 1.5]", "[0.1, 0.33333, 1.0]", "[nan, 1.0]", "[0.1, inf]"],
)  # fmt: skip
def test_steps_that_are_none(steps: str) -> None:
    written(f"[rollout]\nsteps = {steps}")
    with pytest.raises(Refused, match=r"rollout\.steps"):
        settings.load()


@pytest.mark.parametrize("content", ["[slack", "command = ", "a = 1\na = 2", "\x00"])
def test_a_file_that_is_no_toml(content: str) -> None:
    written(content)
    with pytest.raises(Refused, match=r"promotion-bot\.toml is not valid TOML"):
        settings.load()


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(Refused, match="There is no configuration file"):
        settings.load(tmp_path / "none.toml")
    with pytest.raises(Refused, match="There is no configuration file"):
        settings.load(tmp_path)


def test_a_section_in_the_environment_that_is_no_json(monkeypatch: pytest.MonkeyPatch) -> None:
    """A name as common as METRICS may stand in anybody's environment."""
    monkeypatch.setenv("METRICS", "on")
    with pytest.raises(Refused, match=r"The environment has a fault.*metrics"):
        settings.load()


def test_secrets_may_be_files(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name, value in SECRETS.items():
        (tmp_path / name.lower()).write_text(f"{value}\n")
    monkeypatch.setenv("PROMOTION_BOT_SECRETS", str(tmp_path))
    found = settings.load()
    read = {name: getattr(found, name.lower()).get_secret_value() for name in SECRETS}
    assert read == SECRETS
    monkeypatch.setenv("SLACK_APP_TOKEN", "xapp-of-the-environment")
    token = settings.load().slack_app_token
    assert token is not None
    assert token.get_secret_value() == "xapp-of-the-environment"


def test_a_folder_of_secrets_that_is_not_there(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PROMOTION_BOT_SECRETS", str(tmp_path / "none"))
    with pytest.raises(Refused, match=r"There is no folder .*none\. Correct PROMOTION_BOT_SECRETS"):
        settings.load()


def test_secrets_never_print(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in SECRETS.items():
        monkeypatch.setenv(name, value)
    found = settings.load()
    assert found.slack_bot_token is not None
    assert found.slack_bot_token.get_secret_value() == "xoxb-secret-1"
    for shown in (repr(found), str(found), found.model_dump_json()):
        assert "secret-" not in shown


def test_secrets_are_not_in_the_faults() -> None:
    written('slack_bot_token = ["xoxb-secret-1"]\ndatabase_url = 17\n[slack]\nslack_bot_token = "xoxb-secret-1"')
    with pytest.raises(Refused) as refused:
        settings.load()
    assert "slack_bot_token" in str(refused.value)
    assert "secret-1" not in str(refused.value)
    assert refused.value.__cause__ is None


def test_an_empty_secret_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    """Compose and Kubernetes pass unset variables as empty strings; nobody may sign with one."""
    monkeypatch.setenv("SLACK_SIGNING_SECRET", "")
    assert settings.load().slack_signing_secret is None
