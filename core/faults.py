"""What is wrong with a configuration -> sentences that say which key, on which line, and what to write instead."""

from __future__ import annotations

import difflib
import re
import sys
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from typing import Any, Final, get_args

from pydantic import BaseModel
from pydantic_core import ErrorDetails

WRONG: Final[Mapping[str, str]] = {
    "missing": "this is missing",
    "string_type": "this has to be text in quotes",
    "path_type": "this has to be text in quotes",
    "string_pattern_mismatch": "this is not how it is written",
    "tuple_type": "this has to be a list in square brackets",
    "int_type": "this has to be a whole number",
    "int_parsing": "this has to be a whole number",
    "int_from_float": "this has to be a whole number",
    "float_type": "this has to be a number",
    "float_parsing": "this has to be a number",
    "decimal_type": "this has to be a number",
    "decimal_parsing": "this has to be a number",
    "finite_number": "this has to be a number",
    "bool_type": "this has to be true or false",
    "bool_parsing": "this has to be true or false",
    "time_type": "this is no time of day",
    "time_parsing": "this is no time of day",
    "literal_error": "this is none of {expected}",
    "greater_than": "this has to be more than {gt}",
    "greater_than_equal": "this has to be at least {ge}",
    "less_than": "this has to be less than {lt}",
    "less_than_equal": "this has to be at most {le}",
    "too_short": "this is empty",
}
"""By pydantic's name for a fault."""
SECTIONS: Final = ("model_type", "model_attributes_type", "dict_type")
UNKNOWN: Final = "this cannot be read"

REMEDIES: Final[Mapping[str, str]] = {
    "command": 'a slash, then small letters, digits, "-" or "_", like command = "/rollout"',
    "rollouts_channel": 'the name or the id of a channel, like rollouts_channel = "ml-rollouts"',
    "approvals_channel": 'the name or the id of a channel, like approvals_channel = "ml-approvals"',
    "channel": 'the name or the id of a channel, like channel = "planner-rollouts"',
    "approvers": 'handles or ids, like approvers = ["@bob", "@ml-approvers", "U012ABCDEF"]',
    "operators": 'handles or ids, like operators = ["@ml-engineers"]; leave it out for everybody',
    "owners": 'handles or ids, like owners = ["@alice"]',
    "step": "a whole number of people, like step = 1",
    "production": "a whole number of people, like production = 2",
    "against": "how many people more, like against = 1",
    "expires_hours": "whole hours, like expires_hours = 24",
    "remind_hours": "whole hours, fewer than expires_hours, like remind_hours = 2; 0 for none",
    "on_call": 'handles or ids, like on_call = ["@ml-oncall", "@carol"]',
    "steps": "shares of 1 that rise, like steps = [0.10, 0.25, 0.50, 1.0]",
    "minimum_days": "whole days from 1 to 90, one number for each step below 1.0, like minimum_days = [3, 5, 7]",
    "minimum_samples": "a whole number of plans, like minimum_samples = 1000",
    "log_format": "LOG_FORMAT=json or LOG_FORMAT=text",
    "rule": 'rule = "calibrated" (chance is asked for) or rule = "document" (fixed thresholds)',
    "price_per_1000_tokens": "a price in your currency, like price_per_1000_tokens = 0.002",
    "share": 'a type of event in small letters and "_", like share = "plan_rejected"',
    "count": 'a type of event in small letters and "_", like count = "meal_swapped"',
    "ratio": 'two types of events, or fields of them, like ratio = ["meal_swapped", "plan_accepted"]',
    "of": 'a type of event, a dot and one of its metrics, like of = "plan_generated.token_count"',
    "mean": 'a type of event, a dot and one of its metrics, like mean = "plan_generated.token_count"',
    "quantile": "a share of plans between 0 and 1, like quantile = 0.90",
    "title": 'what people are shown, like title = "Saved plans"',
    "higher_is_better": "higher_is_better = true where more is better",
    "tolerance": "a part of 1, since 0.10 means 10 %, like tolerance = 0.10",
    "limit": "the worst value that is accepted, in the metric's own unit, like limit = 1500",
    "guardrail": "guardrail = false for a metric that is only shown",
    "required": "required = true for a metric that must be measurable before an increase",
    "at": 'hours and minutes, like at = "09:00"',
    "timezone": 'a place or UTC, like timezone = "Europe/Berlin"',
    "weekdays": 'days by three letters, like weekdays = ["mon", "thu"]',
    "freezes": "[[freezes]] and its settings below it, once for each window",
    "name": 'what people call it, like name = "weekend"',
    "from": 'hours and minutes, like from = "18:00"',
    "until": 'hours and minutes, like until = "08:00"; not later than from it is on the next day',
    "first": "a date, like first = 2026-12-20",
    "last": "a date, like last = 2027-01-03",
    "experiments": 'names in square brackets, like experiments = ["planner_policy_exp"]; leave it out for all',
    "every_minutes": "minutes from 1 to 60, like every_minutes = 15",
    "thread_after_minutes": "whole minutes, like thread_after_minutes = 10",
    "group_after_minutes": "whole minutes, like group_after_minutes = 20",
    "direct_after_minutes": "whole minutes, like direct_after_minutes = 40",
    "slack_bot_token": "the token that begins with xoxb-",
    "slack_app_token": "the token that begins with xapp-",
    "slack_signing_secret": "the signing secret from the app's page",
    "slack_api_url": 'an address, like slack_api_url = "https://slack.com/api/"',
    "database_url": "an address, like postgresql://name@host/base",
    "mlflow_tracking_uri": 'an address, like mlflow_tracking_uri = "http://mlflow:5000"',
    "mlflow_timeout_s": "whole seconds from 1 to 120, like mlflow_timeout_s = 10",
    "promotion_bot_data": 'a folder, like promotion_bot_data = ".promotion-bot"',
    "[key]": 'the name of a metric in small letters, digits and "_", like swaps_per_plan',
}
"""By the last word of a key: what to write."""

Path = tuple[str, ...]


def listed(
    errors: Sequence[ErrorDetails], toml: str, environment: Collection[str], settings: type[BaseModel] | None = None
) -> str:
    """A line for each fault, those of the environment first, then as they stand in the file.

    `toml` is its text, `environment` the variables that are set: they hold, whatever the file says. `settings` know
    what can be set, so that a wrong name gets the nearest.

    What was written is never repeated: it may be a secret.
    """
    lines = _lines(toml)
    placed = sorted(((_line(_place(e), lines, environment), e) for e in errors), key=lambda each: each[0])
    return "\n".join(f"  {_key(e)}: {_sentence(e)}{_meant(e, settings)}{_where(_place(e), line)}" for line, e in placed)


def nearest(written: str, known: Collection[str]) -> str:
    """The most similar of the known names, as the end of a sentence; nothing where none is."""
    near = difflib.get_close_matches(written, known, n=1, cutoff=0.6)
    return f"; the nearest is {near[0]}" if near else ""


def _meant(error: ErrorDetails, settings: type[BaseModel] | None) -> str:
    """The setting that an unknown one may have been meant for."""
    *above, last = error["loc"]
    if error["type"] != "extra_forbidden":
        return ""
    return nearest(str(last), _settings_in(settings, above))


def _settings_in(found: Any, key: Sequence[str | int]) -> Collection[str]:
    """The names of the settings in a section; a section is also what lists and tables of sections have in them."""
    for part in key:
        fields = found.model_fields if _is_section(found) else {}
        found = fields[str(part)].annotation if part in fields else next(filter(_is_section, get_args(found)), None)
    return [field.alias or name for name, field in found.model_fields.items()] if _is_section(found) else []


def _is_section(found: Any) -> bool:
    return isinstance(found, type) and issubclass(found, BaseModel)


def _names(error: ErrorDetails) -> Path:
    """The key of a fault without the number of a list's entry."""
    return tuple(part for part in error["loc"] if isinstance(part, str) and part != "[key]")


def _place(error: ErrorDetails) -> Path:
    """The key of a fault, each entry of a list by its number, as `_lines` counts them."""
    return tuple(str(part) for part in error["loc"] if part != "[key]")


def _key(error: ErrorDetails) -> str:
    entry = next((part for part in reversed(error["loc"]) if isinstance(part, int)), None)
    return ".".join(_names(error)) + ("" if entry is None else f", entry {entry + 1}")


def _sentence(error: ErrorDetails) -> str:
    kind, about = error["type"], error.get("ctx", {})
    if kind == "extra_forbidden":
        return "this is no setting; remove it or correct its name"
    if kind == "value_error":
        return str(about["error"])
    if kind in SECTIONS:
        return f"this has to be a section; write [{'.'.join(_names(error))}] and its settings below it"
    last = next((part for part in reversed(error["loc"]) if isinstance(part, str)), "")
    remedy = f"; write {REMEDIES[last]}" if last in REMEDIES else ""
    return WRONG.get(kind, UNKNOWN).format(**about) + remedy


# --- Where a key stands: the reader of TOML keeps no lines ----------------------------------------------------------

_HEADER = re.compile(r"\s*(\[\[?)([^\[\]]+)\]")
_SETTING = re.compile(r"""\s*((?:[\w.-]|"[^"]*"|'[^']*'|\s*\.\s*)+?)\s*=""")
_PART = re.compile(r"""[\w-]+|"[^"]*"|'[^']*'""")


def _parts(dotted: str) -> Path:
    return tuple(part.strip("\"'") for part in _PART.findall(dotted))


def _lines(toml: str) -> dict[Path, int]:
    """The line on which each section, each entry of a list of sections, and each key of a file begins."""
    found: dict[Path, int] = {}
    entries: Counter[Path] = Counter()
    section: Path = ()
    for number, line in enumerate(toml.splitlines(), 1):
        if header := _HEADER.match(line):
            section = _parts(header[2])
            if header[1] == "[[":
                entries[section] += 1
                section = (*section, str(entries[section] - 1))
            found.setdefault(section, number)
        elif setting := _SETTING.match(line):
            found.setdefault((*section, *_parts(setting[1])), number)
    return found


IN_ENVIRONMENT: Final = 0
NOWHERE: Final = sys.maxsize
"""What belongs to no line comes last."""


def _line(names: Path, lines: Mapping[Path, int], environment: Collection[str]) -> int:
    if names and names[0].upper() in environment:
        return IN_ENVIRONMENT
    return next((lines[names[:n]] for n in range(len(names), 0, -1) if names[:n] in lines), NOWHERE)


def _where(names: Path, line: int) -> str:
    if line == IN_ENVIRONMENT:
        return f" (environment variable {names[0].upper()})"
    return "" if line == NOWHERE else f" (line {line})"
