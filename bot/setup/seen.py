"""All that a check has looked at, and what of it the configuration names."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from bot.setup.facts import Slack
from core.condition import Database, Models, Trouble
from core.settings import Settings

UNOPENED = "unopened"
"""Of a store of MLflow's that would be changed by opening it: one in a folder or a database makes itself."""


@dataclass(frozen=True)
class Folder:
    """The data folder: whether the bot keeps anything in it, and what is there already."""

    path: Path
    is_used: bool
    is_writable: bool
    has_database: bool


@dataclass(frozen=True)
class Seen:
    """What an installation is like."""

    settings: Settings
    file: Path | None
    """The configuration; None where there is none and the defaults hold."""
    slack: Slack | None
    """None where there is no bot token to ask with."""
    database: Database | Trouble | None
    """None where the bot starts a PostgreSQL of its own, which does not run now."""
    models: Models | Trouble | None
    """None where the bot makes a store of its own, which is not there yet."""
    folder: Folder
    health: str | Trouble
    """Where the bot says how it is."""


def has_bot_token(settings: Settings) -> bool:
    """True where there is something to ask Slack with."""
    token = settings.slack_bot_token
    return token is not None and token.get_secret_value().startswith("xoxb-")


def has_app_token(settings: Settings) -> bool:
    """True where there is something to ask Slack for a Socket Mode connection with."""
    token = settings.slack_app_token
    return token is not None and token.get_secret_value().startswith("xapp-")


def named_channels(settings: Settings) -> dict[str, str]:
    """The channels that are posted to, each with the first setting that names it."""
    found = {settings.slack.rollouts_channel: "rollouts_channel"}
    found.setdefault(settings.slack.approvals_channel, "approvals_channel")
    for name, one in settings.experiments.items():
        if one.channel is not None:
            found.setdefault(one.channel, f"channel in [experiments.{name}]")
    return found


def named_experiments(settings: Settings) -> dict[str, str]:
    """The experiments that the configuration speaks of, each with what does."""
    frozen = {name: f"The freeze {one.name}" for one in settings.freezes for name in one.experiments}
    return frozen | {name: f"[experiments.{name}]" for name in settings.experiments}


def named_people(settings: Settings) -> dict[str, tuple[str, ...]]:
    """Who is named, in the order of the configuration, each with what for."""
    roles = (
        ("approvers", settings.slack.approvers),
        ("operators", settings.slack.operators),
        ("owners", settings.slack.owners),
        ("on_call", settings.alerts.on_call),
        *((f"owners in [experiments.{name}]", one.owners) for name, one in settings.experiments.items()),
    )
    found: dict[str, tuple[str, ...]] = {}
    for role, entries in roles:
        for entry in entries:
            found[entry] = (*found.get(entry, ()), role)
    return found
