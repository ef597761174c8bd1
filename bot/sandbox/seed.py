"""What a workspace is made from: people, channels and the app's manifest."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

T = TypeVar("T")

MANIFEST_LIMITS = {
    ("display_information", "name"): 35,
    ("display_information", "description"): 140,
    ("display_information", "long_description"): 4_000,
    ("features", "bot_user", "display_name"): 80,
}
COMMAND_LIMITS = {"command": 32, "description": 2_000, "usage_hint": 1_000, "url": 3_000}
MOST_COMMANDS = 50
MOST_SCOPES = 255
MOST_EVENTS = 100


@dataclass(frozen=True)
class Person:
    """Somebody in the workspace; `handle` is the @name, `guest` makes them a restricted account."""

    handle: str
    name: str = ""
    title: str = ""
    guest: bool = False
    bot: bool = False
    deleted: bool = False
    email: str = ""
    tz: str = "Europe/London"


@dataclass(frozen=True)
class Channel:
    """A channel with its members by handle; `with_app` puts the app in it from the start."""

    name: str
    topic: str = ""
    members: tuple[str, ...] = ()
    with_app: bool = True
    private: bool = False
    archived: bool = False


@dataclass(frozen=True)
class Command:
    """A slash command as the manifest declares it."""

    command: str
    description: str = ""
    usage_hint: str = ""
    should_escape: bool = False


@dataclass(frozen=True)
class Manifest:
    """The parts of an app manifest that the workspace acts on."""

    name: str
    bot_name: str
    scopes: frozenset[str]
    commands: tuple[Command, ...]
    events: frozenset[str]
    socket_mode: bool
    interactivity: bool
    home_tab: bool


def read_manifest(raw: Mapping[str, Any]) -> Manifest:
    """The manifest's meaning; ValueError, naming the field, where Slack would refuse it."""
    for path, most in MANIFEST_LIMITS.items():
        _refuse_longer("/".join(path), _at(raw, *path) or "", most)
    settings = raw.get("settings", {})
    name = _at(raw, "display_information", "name")
    if not name:
        raise ValueError("manifest: display_information/name is required")
    return Manifest(
        name=name,
        bot_name=_at(raw, "features", "bot_user", "display_name") or name,
        scopes=frozenset(_at_most("oauth_config/scopes/bot", _scopes(raw), MOST_SCOPES)),
        commands=tuple(
            _command(each)
            for each in _at_most("slash_commands", _at(raw, "features", "slash_commands") or [], MOST_COMMANDS)
        ),
        events=frozenset(_at_most("bot_events", _at(settings, "event_subscriptions", "bot_events") or [], MOST_EVENTS)),
        socket_mode=bool(settings.get("socket_mode_enabled")),
        interactivity=bool(_at(settings, "interactivity", "is_enabled")),
        home_tab=bool(_at(raw, "features", "app_home", "home_tab_enabled")),
    )


def _scopes(raw: Mapping[str, Any]) -> list[str]:
    scopes = _at(raw, "oauth_config", "scopes") or {}
    return [*scopes.get("bot", []), *scopes.get("bot_optional", [])]


def _command(raw: Mapping[str, Any]) -> Command:
    for key, most in COMMAND_LIMITS.items():
        _refuse_longer(f"slash_commands/{key}", raw.get(key, ""), most)
    if not raw["command"].startswith("/"):
        raise ValueError(f"manifest: the command {raw['command']} must start with /")
    return Command(
        command=raw["command"],
        description=raw.get("description", ""),
        usage_hint=raw.get("usage_hint", ""),
        should_escape=bool(raw.get("should_escape")),
    )


def _at(raw: Mapping[str, Any], *path: str) -> Any:
    value: Any = raw
    for key in path:
        value = value.get(key) if isinstance(value, Mapping) else None
    return value


def _refuse_longer(name: str, value: str, most: int) -> None:
    if len(value) > most:
        raise ValueError(f"manifest: {name} must be at most {most} characters")


def _at_most(name: str, values: list[T], most: int) -> list[T]:
    if len(values) > most:
        raise ValueError(f"manifest: at most {most} of {name}")
    return values
