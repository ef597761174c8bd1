"""A running bot: listeners, deliverers and jobs, started in order and stopped in reverse."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

from slack_bolt import App
from slack_bolt.error import BoltError
from slack_sdk import WebClient
from slack_sdk.errors import SlackApiError

from bot import app, commands, schedule
from bot.channels import Channels
from bot.deliver import Deliverer
from bot.desk import Desk
from bot.hands import Hands
from bot.people import People
from bot.socketmode import SocketMode
from bot.tell import LOST
from core import ledger, policies, registry
from core.db import BACKGROUND_MS, Engine
from core.errors import Refused
from core.settings import Settings

log = logging.getLogger(__name__)

SLACK_TIMEOUT_S = 10


def _client(settings: Settings) -> WebClient:
    """A client that never tries again by itself: a repeated post would be seen twice. The outbox decides that."""
    token = settings.slack_bot_token.get_secret_value() if settings.slack_bot_token else None
    return WebClient(token=token, base_url=settings.slack_api_url, timeout=SLACK_TIMEOUT_S, retry_handlers=[])


@contextmanager
def running(engine: Engine, settings: Settings, *, verbs: commands.Verbs = commands.VERBS) -> Iterator[App]:
    """A bot that delivers effects and runs its jobs; listening is up to the caller.

    Raises:
        Refused: where Slack cannot be reached or does not accept the token.
    """
    client = _client(settings)
    people = People(client, settings)
    channels = Channels(client)
    desk = Desk(engine, registry.at(settings.tracking_uri, settings.mlflow_timeout_s), people, channels, settings)
    hands = Hands()
    with ExitStack() as stack:
        secret = settings.slack_signing_secret
        with _reachable(settings.slack_api_url):
            signed = secret.get_secret_value() if secret else None
            made = app.build(desk, hands, client, signing_secret=signed, verbs=verbs)
            people.refresh()
            channels.read()
        with desk.transaction(patience_ms=BACKGROUND_MS) as session:
            ledger.record_policy(session, settings.policy)
            for stranger in policies.strangers(session, settings):
                log.warning("the configuration: %s", stranger)
        deliverer = Deliverer(desk, client)
        deliverer.start()
        stack.callback(deliverer.stop)
        stack.enter_context(schedule.scheduled(desk))
        stack.callback(hands.finish)
        yield made


@contextmanager
def _reachable(url: str) -> Iterator[None]:
    """What can be wrong with Slack at the start, in words for whoever runs the bot."""
    try:
        yield
    except (BoltError, SlackApiError) as error:
        raise Refused(f"Slack at {url} does not accept the bot: {_named(error)}.") from error
    except LOST as error:
        raise Refused(f"Slack at {url} cannot be reached ({error}).") from error


def _named(error: Exception) -> str:
    """Slack's name for what is wrong; Bolt wraps it."""
    inner = error if isinstance(error, SlackApiError) else error.__cause__ or error.__context__
    return str(inner.response["error"]) if isinstance(inner, SlackApiError) else str(error)


@contextmanager
def listening(made: App, app_token: str) -> Iterator[None]:
    """Listens over Socket Mode until the end of the block.

    Raises:
        Refused: where Slack cannot be reached or does not accept the token.
    """
    slack = SocketMode(made, app_token)
    with _reachable(made.client.base_url):
        slack.start()
    try:
        yield
    finally:
        slack.stop()
