"""A running bot: listeners, deliverers and jobs, started in order and stopped in reverse."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

from slack_bolt import App
from slack_bolt.adapter.socket_mode import SocketModeHandler
from slack_sdk import WebClient

from bot import app, schedule
from bot.channels import Channels
from bot.deliver import Deliverer
from bot.desk import Desk
from bot.people import People
from core import registry
from core.db import Engine
from core.settings import Settings

log = logging.getLogger(__name__)

SLACK_TIMEOUT_S = 10


def _client(settings: Settings) -> WebClient:
    """A client that never tries again by itself: a repeated post would be seen twice. The outbox decides that."""
    token = settings.slack_bot_token.get_secret_value() if settings.slack_bot_token else None
    return WebClient(token=token, base_url=settings.slack_api_url, timeout=SLACK_TIMEOUT_S, retry_handlers=[])


@contextmanager
def running(engine: Engine, settings: Settings) -> Iterator[App]:
    """A bot that delivers effects and runs its jobs; listening is up to the caller."""
    client = _client(settings)
    channels = Channels(client)
    people = People(client, settings.slack.approvers)
    desk = Desk(engine, registry.at(settings.tracking_uri, settings.mlflow_timeout_s), people, channels, settings)
    with ExitStack() as stack:
        secret = settings.slack_signing_secret
        made = app.build(desk, client, signing_secret=secret.get_secret_value() if secret else None)
        people.refresh()
        channels.read()
        deliverer = Deliverer(desk, client)
        deliverer.start()
        stack.callback(deliverer.stop)
        stack.enter_context(schedule.scheduled(desk))
        yield made


@contextmanager
def listening(made: App, app_token: str) -> Iterator[None]:
    """Listens over Socket Mode until the end of the block."""
    handler = SocketModeHandler(made, app_token)
    handler.connect()  # type: ignore[no-untyped-call]
    try:
        yield
    finally:
        handler.close()  # type: ignore[no-untyped-call]
