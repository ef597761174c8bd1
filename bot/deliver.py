"""Carries out chat effects, rendering from the rows as they are now. Every handler may run again after a crash."""

from __future__ import annotations

import logging
import threading
from collections.abc import Mapping
from functools import partial

from slack_sdk import WebClient
from slack_sdk.errors import SlackApiError

from bot import screens
from bot.blocks import Answer
from bot.desk import Desk
from core import cards, outbox, stages
from core.db import Session
from core.outbox import Due, Handler, Later

log = logging.getLogger(__name__)

IDLE_S = 0.5
TROUBLE_S = 2.0
EVENT_TYPE = "promotion_bot_delivery"
HISTORY_PAGES = 10
GONE = ("message_not_found", "cant_update_message")


def _find_posted(client: WebClient, channel: str, delivery: str) -> str | None:
    """The ts of a message that an interrupted attempt posted, known by its metadata."""
    cursor = ""
    for _ in range(HISTORY_PAGES):
        page = client.conversations_history(channel=channel, include_all_metadata=True, limit=200, cursor=cursor)
        for found in page["messages"]:
            metadata = found.get("metadata") or {}
            if metadata.get("event_type") == EVENT_TYPE and metadata["event_payload"].get("delivery") == delivery:
                return str(found["ts"])
        cursor = (page.get("response_metadata") or {}).get("next_cursor") or ""
        if not cursor:
            break
    return None


def _post(client: WebClient, channel: str, answer: Answer, delivery: str, *, is_retry: bool) -> tuple[str, bool]:
    """The ts of the message of this delivery, and whether it was posted just now."""
    posted = _find_posted(client, channel, delivery) if is_retry else None
    if posted is not None:
        return posted, False
    response = client.chat_postMessage(
        channel=channel,
        text=answer.text,
        blocks=list(answer.blocks),
        unfurl_links=False,
        unfurl_media=False,
        metadata={"event_type": EVENT_TYPE, "event_payload": {"delivery": delivery}},
    )
    return str(response["ts"]), True


def _redraw(client: WebClient, place: cards.Place, answer: Answer) -> bool:
    """Redraws a message in place; False where it is gone."""
    try:
        client.chat_update(channel=place.channel, ts=place.ts, text=answer.text, blocks=list(answer.blocks))
    except SlackApiError as error:
        if error.response["error"] in GONE:
            return False
        raise
    return True


def request_card(client: WebClient, desk: Desk, session: Session, due: Due) -> None:
    """The card of a request stands in the approvals channel as the request is now."""
    if due.request_id is None:
        raise LookupError("a card belongs to a request")
    answer = screens.request(cards.request_card(session, due.request_id))
    key = f"request:{due.request_id}"
    place = cards.place_of(session, key)
    if place is not None and _redraw(client, place, answer):
        return
    channel = desk.channels.id_of(desk.settings.slack.approvals_channel)
    # An earlier effect of this card may have posted it without knowing; only the very first cannot have one.
    is_first = due.key == f"card:{due.request_id}:opened" and not due.is_retry
    ts, is_new = _post(client, channel, answer, key, is_retry=not is_first)
    place = cards.Place(channel, ts)
    if not is_new:
        _redraw(client, place, answer)
    cards.remember_place(session, key, place)


def notice(client: WebClient, desk: Desk, session: Session, due: Due) -> None:
    """Those who follow rollouts are told one row of the record, once."""
    answer = screens.notice(cards.notice(session, due.payload["ledger_id"]), desk.command)
    channel = desk.channels.id_of(desk.settings.slack.rollouts_channel)
    _post(client, channel, answer, due.key, is_retry=due.is_retry)


CHAT = {"card": request_card, "notice": notice}


def _patient(handler: Handler) -> Handler:
    """Slack says when to come back after too many calls; that is not a failure."""

    def carried(session: Session, due: Due) -> None:
        try:
            handler(session, due)
        except SlackApiError as error:
            if error.response["error"] != "ratelimited":
                raise
            raise Later("rate limited", float(error.response.headers.get("Retry-After", 1))) from error

    return carried


class Deliverer:
    """Two threads that carry out effects until stopped: one for the chat, one for the registry.

    Apart, so that a registry that hangs never holds up what people are shown.
    """

    def __init__(self, desk: Desk, client: WebClient) -> None:
        self._desk = desk
        self._stopping = threading.Event()
        chat = {kind: _patient(partial(handler, client, desk)) for kind, handler in CHAT.items()}
        registry: Mapping[str, Handler] = {"registry": partial(_align, desk)}
        self._threads = [
            threading.Thread(target=self._work, args=(handlers,), name=f"deliver-{name}", daemon=True)
            for name, handlers in (("chat", chat), ("registry", registry))
        ]

    def start(self) -> None:
        """Starts both threads."""
        for thread in self._threads:
            thread.start()

    def stop(self, timeout_s: float = 10) -> None:
        """Finishes the effects at hand, then stops."""
        self._stopping.set()
        self._desk.rouse()
        for thread in self._threads:
            thread.join(timeout_s)

    def _work(self, handlers: Mapping[str, Handler]) -> None:
        while not self._stopping.is_set():
            try:
                is_busy = outbox.deliver_next(self._desk.engine, handlers)
            except Exception:
                log.exception("effects cannot be carried out at the moment")
                self._stopping.wait(TROUBLE_S)
                continue
            if not is_busy:
                with self._desk.wake:
                    self._desk.wake.wait(IDLE_S)


def _align(desk: Desk, session: Session, due: Due) -> None:
    stages.align_registry(session, due, desk.registry)
