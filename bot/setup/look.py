"""Looks at an installation from outside: writes nothing anywhere, and needs no bot that runs."""

from __future__ import annotations

import os
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import Any

from bot.setup import facts
from bot.setup.facts import Slack, Wanted
from bot.setup.seen import (
    UNOPENED,
    Folder,
    Seen,
    has_app_token,
    has_bot_token,
    named_channels,
    named_people,
)
from bot.setup.together import together
from core import condition, db
from core.addresses import health_address
from core.condition import Database, Models, Trouble, plainly
from core.errors import Refused
from core.settings import Settings

WITHIN_S = 13.0
"""However much of it hangs. Each part by itself is given up on before that."""


def look(settings: Settings, file: Path | None, now: Callable[[], datetime]) -> Seen:
    """Everything that the checks need; `now` reads the clock of this machine."""
    parts: dict[str, Callable[[], Any]] = {
        "Slack": lambda: _slack(settings, now),
        "the database": lambda: _database(settings, now),
        "MLflow": lambda: _models(settings),
    }
    slack, database, models = together(parts, WITHIN_S).values()
    return Seen(
        settings,
        file,
        facts.nothing(slack) if isinstance(slack, Trouble) else slack,
        database,
        models,
        _folder(settings),
        _health(),
    )


def _slack(settings: Settings, now: Callable[[], datetime]) -> Slack | None:
    token, app_token = settings.slack_bot_token, settings.slack_app_token
    if token is None or not has_bot_token(settings):
        return None
    wanted = Wanted(
        named_channels(settings),
        named_people(settings),
        app_token.get_secret_value() if app_token is not None and has_app_token(settings) else None,
    )
    return facts.ask(settings.slack_api_url, token.get_secret_value(), wanted, now)


def _database(settings: Settings, now: Callable[[], datetime]) -> Database | Trouble | None:
    given = settings.database_url
    try:
        url = given.get_secret_value() if given is not None else db.running(settings.promotion_bot_data)
    except Refused as refused:
        return Trouble(plainly(refused))
    return None if url is None else condition.database(url, now)


def _models(settings: Settings) -> Models | Trouble | None:
    uri = settings.tracking_uri
    if uri.startswith("sqlite:///"):
        return condition.models(uri) if Path(uri.removeprefix("sqlite:///")).exists() else None
    return condition.models(uri) if uri.startswith("http") else Trouble(UNOPENED)


def _health() -> str | Trouble:
    try:
        return health_address().promotion_bot_health
    except Refused as refused:
        return Trouble(str(refused))


def _folder(settings: Settings) -> Folder:
    path = settings.promotion_bot_data  # whose folders may be closed to us, where `Path.exists` would raise
    nearest = next(one for one in (path.absolute(), *path.absolute().parents) if os.path.exists(one))
    return Folder(
        path,
        is_used=settings.database_url is None or settings.mlflow_tracking_uri is None,
        is_writable=nearest.is_dir() and os.access(nearest, os.W_OK | os.X_OK),
        has_database=os.path.exists(path / "postgres" / "PG_VERSION"),
    )
