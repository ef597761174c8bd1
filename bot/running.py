"""A running bot: listeners, deliverers and jobs, started in order and stopped in reverse."""

from __future__ import annotations

import importlib
import logging
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager

from slack_bolt import App
from slack_bolt.error import BoltError
from slack_sdk.errors import SlackApiError

from bot import app, commands, schedule
from bot.channels import Channels
from bot.client import Client
from bot.deliver import Deliverer
from bot.desk import Desk
from bot.hands import Hands
from bot.listing import is_passing
from bot.people import People
from bot.pulse import Pulse
from bot.socketmode import SocketMode
from bot.tell import LOST
from bot.verbs import Verbs
from core import ledger, policies, registry, trace
from core.db import BACKGROUND_MS, Engine
from core.errors import Refused
from core.outbox import Later
from core.settings import Settings

log = logging.getLogger(__name__)

SLACK_TIMEOUT_S = 10


def _client(settings: Settings, pulse: Pulse) -> Client:
    """A client that never tries again by itself: a repeated post would be seen twice. The outbox decides that."""
    token = settings.slack_bot_token.get_secret_value() if settings.slack_bot_token else None
    about = {"token": token, "base_url": settings.slack_api_url, "timeout": SLACK_TIMEOUT_S}
    return Client(pulse.meters, settings.channels, **about, retry_handlers=[])


@contextmanager
def running(
    engine: Engine,
    settings: Settings,
    *,
    verbs: Verbs = commands.VERBS,
    stopping: threading.Event | None = None,
    pulse: Pulse | None = None,
) -> Iterator[App]:
    """A bot that delivers effects and runs its jobs; listening is up to the caller.

    As soon as `stopping` is set, jobs end at their next batch and the lead is let go, while people are still answered.
    At the end of the block the answers and effects at hand are finished, within some seconds.

    Raises:
        Refused: where Slack cannot be reached or does not accept the token.
    """
    pulse = pulse or Pulse()
    client = _client(settings, pulse)
    people = People(client, settings)
    channels = Channels(client, settings.channels)
    models = registry.at(settings.tracking_uri, settings.mlflow_timeout_s)
    desk = Desk(engine, models, people, channels, settings, pulse=pulse, stopping=stopping or threading.Event())
    pulse.has_registry = lambda: models.is_loaded
    hands = Hands()
    with ExitStack() as stack:
        stack.enter_context(pulse.of(engine, settings))
        stack.callback(people.close)
        secret = settings.slack_signing_secret
        with _reachable(settings.slack_api_url, "SLACK_BOT_TOKEN"):
            signed = secret.get_secret_value() if secret else None
            made = app.build(desk, hands, client, signing_secret=signed, verbs=verbs)
            _read("people", people.refresh)
            if _read("channels", channels.read):
                for closed in client.closed():
                    log.warning("%s", closed)
        with trace.begun(job="start"), desk.transaction(patience_ms=BACKGROUND_MS) as session:
            ledger.record_policy(session, settings.policy)
            for stranger in policies.strangers(session, settings):
                log.warning("the configuration: %s", stranger)
        deliverer = Deliverer(desk, client)
        deliverer.start()
        stack.callback(deliverer.stop)
        stack.enter_context(schedule.scheduled(desk))
        stack.callback(hands.finish)
        stack.callback(desk.stopping.set)
        yield made


def _read(what: str, read: Callable[[], None]) -> bool:
    """A list of thousands that Slack does not give whole now is no reason not to start: it is read on when needed.
    True where it was read to its end.

    Raises:
        SlackApiError: where Slack refuses it.
    """
    try:
        read()
    except (Later, SlackApiError, *LOST) as error:
        if isinstance(error, SlackApiError) and not is_passing(error):
            raise
        why = _named(error) if isinstance(error, SlackApiError) else error
        log.warning("%s could not be read to the end (%s); that is done later", what, why)
        return False
    return True


@contextmanager
def _reachable(url: str, token: str) -> Iterator[None]:
    """What can be wrong with Slack at the start, in words for whoever runs the bot."""
    try:
        yield
    except (BoltError, SlackApiError) as error:
        raise Refused(f"Slack at {url} does not accept {token}: {_named(error)}.") from error
    except LOST as error:
        raise Refused(f"Slack at {url} cannot be reached ({error}).") from error


def _named(error: Exception) -> str:
    """Slack's name for what is wrong; Bolt wraps it."""
    inner = error if isinstance(error, SlackApiError) else error.__cause__ or error.__context__
    return str(inner.response["error"]) if isinstance(inner, SlackApiError) else str(error)


@contextmanager
def listening(made: App, app_token: str, pulse: Pulse | None = None) -> Iterator[None]:
    """Listens over Socket Mode until the end of the block.

    Raises:
        Refused: where Slack cannot be reached or does not accept the token.
    """
    slack = SocketMode(made, app_token, pulse)
    with _reachable(made.client.base_url, "SLACK_APP_TOKEN"):
        slack.start()
    try:
        yield
    finally:
        slack.stop()


def load_rest(settings: Settings) -> None:
    """Loads beside the work what takes seconds and some answers need; whoever needs it sooner waits for it."""
    threading.Thread(target=_load_rest, args=(settings,), name="load", daemon=True).start()


def _load_rest(settings: Settings) -> None:
    began = time.monotonic()
    try:
        importlib.import_module("scipy.special")
        registry.at(settings.tracking_uri, settings.mlflow_timeout_s).load()
    except Exception:
        log.exception("not everything could be loaded; it is tried again when it is needed")
    else:
        log.info("all is loaded", extra={"ms": round((time.monotonic() - began) * 1000)})
