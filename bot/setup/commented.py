"""The configuration file as `promotion-bot init` writes it: every setting with its default or an example; pure."""

from __future__ import annotations

import json
import textwrap
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import time
from decimal import Decimal
from typing import Any, Final

from core.settings import Settings


@dataclass(frozen=True)
class Key:
    """One setting: what it means, and how it is written where it has no default."""

    name: str
    says: str
    example: str = ""


@dataclass(frozen=True)
class Part:
    """One section, as its header has it; one that has no default is an example as a whole."""

    header: str
    says: str
    keys: Sequence[Key]


ENVIRONMENT: Final[Mapping[str, str]] = {
    "slack_bot_token": "the bot's token, xoxb-…",
    "slack_app_token": "the app-level token, xapp-…, for Socket Mode; or",
    "slack_signing_secret": "for signed HTTP requests",
    "slack_api_url": "Slack, or anything compatible (default: Slack's own)",
    "database_url": "PostgreSQL 14 or newer (default: one of its own in the data folder)",
    "mlflow_tracking_uri": "an MLflow server with a registry (default: a store in the data folder)",
    "mlflow_timeout_s": "patience with MLflow in seconds (default: 10)",
    "promotion_bot_data": "the data folder (default: .promotion-bot)",
    "promotion_bot_health": "where it says how it is (default: 127.0.0.1:3001)",
    "promotion_bot_secrets": "a folder with files of secrets (default: /run/secrets)",
    "log_format": "json or text (default: text to a terminal, else json)",
}
"""What does not belong in the file."""

PARTS: Final[Sequence[Part]] = (
    Part(
        "slack",
        "How the bot appears in Slack, and who may do what. People are named by handle, by user group or by id "
        "(U… or W… of a person, S… of a group; in somebody's profile: Copy member ID).",
        (
            Key("command", "the slash command, as in the app's manifest"),
            Key("rollouts_channel", "cards, alerts and the digest of each day"),
            Key("approvals_channel", "requests; the bot has to be in both channels"),
            Key(
                "approvers", "who approves; nobody, as long as it is not set", '["@bob", "@ml-approvers", "U012ABCDEF"]'
            ),
            Key("operators", "who may ask, beside approvers and owners; else everybody", '["@ml-engineers"]'),
            Key("owners", "who may approve in every experiment, and break the glass", '["@ml-leads"]'),
        ),
    ),
    Part(
        "approvals",
        "How many people it takes beside whoever asks, and how long they have. A rollback always takes one.",
        (
            Key("step", "joining, retiring, steps up to 50 %"),
            Key("production", "a promotion"),
            Key("against", "so many more against the recommendation or the checklist"),
            Key("expires_hours", "then a request that nobody decided is closed"),
            Key("remind_hours", "before that; 0: no reminder"),
        ),
    ),
    Part(
        "rollout",
        "The steps of every rollout, and what judges them.",
        (
            Key("steps", "shares of traffic; the first at most 0.10, the last 1.0"),
            Key("minimum_samples", "plans a candidate must have served at a step"),
            Key("minimum_days", "of each step below 1.0; else 3 days, 5 from 25 % on, 7 from 50 % on", "[3, 5, 7]"),
            Key("rule", '"calibrated" asks for chance, too; "document": the fixed thresholds alone'),
        ),
    ),
    Part(
        "recommendations",
        "When people get the day's recommendation.",
        (
            Key("at", "the time of day"),
            Key("timezone", 'a place, like "Europe/Berlin", or UTC'),
            Key("weekdays", "the days on which there is one"),
        ),
    ),
    Part(
        "alerts",
        "How often running steps are looked at, and who is told when nobody answers a critical alert.",
        (
            Key("every_minutes", "from one look to the next"),
            Key("on_call", "who is told", '["@ml-oncall", "@carol"]'),
            Key("thread_after_minutes", "a reminder in the alert's thread,"),
            Key("group_after_minutes", "then one that mentions those on call,"),
            Key("direct_after_minutes", "then a direct message to each of them"),
        ),
    ),
    Part(
        "metrics",
        "What is measured, and how much worse than the baseline is too much.",
        (Key("price_per_1000_tokens", "where events log token_count instead of cost", "0.002"),),
    ),
    Part(
        "metrics.acceptance_rate",
        "The six metrics that are always there are judged by the document, unless their sections say otherwise: "
        "acceptance_rate, avg_edits, validator_rate, p50_latency, p99_latency, cost_per_plan.",
        (Key("tolerance", "0.03 is 3 % worse than the baseline", "0.03"),),
    ),
    Part("metrics.p99_latency", "", (Key("limit", "the worst value that is accepted, here in ms", "1500"),)),
    Part(
        "metrics.cost_per_plan",
        "",
        (Key("required", "nothing is concluded without it; false: skipped where nobody logs it", "true"),),
    ),
    Part("metrics.avg_edits", "", (Key("guardrail", "only shown: never decides", "false"),)),
    Part("metrics.validator_rate", "", (Key("tolerance", "", "0.10"),)),
    Part("metrics.p50_latency", "", (Key("tolerance", "", "0.30"),)),
    Part(
        "metrics.custom.swaps_per_plan",
        "A metric of your own is a section with a name of your own. It says what is collected (count, share, ratio, "
        "mean or quantile), and how much worse than the baseline is too much (tolerance) or how much at all (limit).",
        (
            Key("count", "events of this type per plan", '"meal_swapped"'),
            Key("tolerance", "0.10 is 10 % worse than the baseline", "0.10"),
        ),
    ),
    Part(
        "metrics.custom.favourites",
        "",
        (
            Key("share", "plans with at least one event of this type", '"plan_saved"'),
            Key("tolerance", "", "0.05"),
            Key("higher_is_better", "more is better", "true"),
            Key("required", "must be measurable before an increase", "true"),
            Key("title", "what people are shown; else the name", '"Saved plans"'),
        ),
    ),
    Part(
        "metrics.custom.tokens_per_plan",
        "",
        (
            Key("mean", "a type of event and a number in its `metrics`, per plan", '"plan_generated.token_count"'),
            Key("guardrail", "only shown: never decides", "false"),
        ),
    ),
    Part(
        "metrics.custom.p90_latency",
        "",
        (
            Key("quantile", "of the latency of plans", "0.90"),
            Key("limit", "the worst value that is accepted, here in ms", "1500"),
        ),
    ),
    Part(
        "metrics.custom.p95_tokens",
        "",
        (
            Key("quantile", "", "0.95"),
            Key(
                "of",
                "instead of the latency: a number that events log",
                '"plan_generated.token_count"',
            ),
            Key("tolerance", "", "0.20"),
        ),
    ),
    Part(
        "metrics.custom.swaps_per_acceptance",
        "",
        (
            Key("ratio", "events over events, or sums of EVENT.FIELD", '["meal_swapped", "plan_accepted"]'),
            Key("tolerance", "", "0.10"),
        ),
    ),
    Part(
        "[freezes]",
        "Windows in which nothing gives a candidate more traffic; rollbacks go on. As many as you need, each with "
        "weekdays, hours, dates, or several of them.",
        (
            Key("name", "what people call it", '"nights"'),
            Key("weekdays", "on which it begins; else every day", '["mon", "tue", "wed", "thu"]'),
            Key("from", "", '"18:00"'),
            Key("until", "not later than `from`: on the next day", '"08:00"'),
            Key("timezone", "else that of the recommendations", '"Europe/Berlin"'),
        ),
    ),
    Part(
        "[freezes]",
        "",
        (
            Key("name", "", '"end of the year"'),
            Key("first", "", "2026-12-20"),
            Key("last", "the last day is part of it", "2027-01-03"),
            Key("experiments", "else all", '["planner_policy_exp"]'),
        ),
    ),
    Part(
        "experiments.planner_policy_exp",
        "What is different for one experiment, by its name; what is left out is as for all.",
        (
            Key("steps", "", "[0.05, 0.25, 0.50, 1.00]"),
            Key("minimum_samples", "", "2000"),
            Key("minimum_days", "", "[4, 6, 8]"),
            Key("rule", "", '"document"'),
            Key("channel", "where its cards, alerts and digest go; the bot has to be there, too", '"planner-rollouts"'),
            Key("owners", "may approve its changes, and break the glass", '["@planner-team"]'),
            Key("at", "", '"08:30"'),
            Key("timezone", "", '"America/New_York"'),
            Key("weekdays", "", '["mon", "thu"]'),
        ),
    ),
    Part(
        "experiments.planner_policy_exp.approvals",
        "",
        (Key("step", "", "2"), Key("production", "", "3"), Key("against", "", "0")),
    ),
    Part(
        "experiments.planner_policy_exp.metrics.acceptance_rate",
        "",
        (Key("tolerance", "as in [metrics.acceptance_rate], for this experiment alone", "0.02"),),
    ),
)

WIDTH: Final = 110
HEAD: Final = """\
# How promotion-bot works here. Every setting stands in this file with its default.
# A line with "#" right before it is an example of what has no default: remove the "#" and write your own.
# `promotion-bot check` tells whether all of it is right.
#
# Secrets and addresses belong in the environment:"""


def commented() -> str:
    """The whole file; as it is, it equals the defaults."""
    width = max(map(len, ENVIRONMENT))
    environment = (f"#   {name.upper():<{width}}  {says}" for name, says in ENVIRONMENT.items())
    lines = [HEAD, *environment]
    for part in PARTS:
        lines += ["", *(f"# {line}" for line in textwrap.wrap(part.says, WIDTH)), *_lines(part)]
    return "\n".join(lines) + "\n"


def _lines(part: Part) -> Iterator[str]:
    defaults = _defaults(part.header)
    is_example = all(value in (None, (), {}) for value in (defaults or {}).values())
    yield f"{'#' if is_example else ''}[{part.header}]"
    settings = [_setting(key, (defaults or {}).get(key.name)) for key in part.keys]
    width = max(map(len, settings))
    for key, setting in zip(part.keys, settings, strict=True):
        yield f"{setting:<{width}}  # {key.says}" if key.says else setting


def _defaults(header: str) -> Mapping[str, Any] | None:
    """What a section is where nobody configures it; None where it is not there then."""
    found: Any = Settings.model_construct().model_dump(by_alias=True)
    for name in header.split("."):
        found = found.get(name) if isinstance(found, Mapping) else None
    return found if isinstance(found, Mapping) else None


def _setting(key: Key, default: Any) -> str:
    if default in (None, (), {}):
        return f"#{key.name} = {key.example}"
    return f"{key.name} = {_toml(default)}"


def _toml(value: Any) -> str:
    if isinstance(value, (tuple, list)):
        return f"[{', '.join(map(_toml, value))}]"
    if isinstance(value, time):
        return f'"{value:%H:%M}"'
    return f"{value:.2f}" if isinstance(value, Decimal) else json.dumps(value)
