"""Posts to Slack what is carried out once, also where it is tried again: messages are known by their metadata."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from functools import partial
from typing import Any

from slack_sdk import WebClient
from slack_sdk.errors import SlackApiError

from bot.blocks import Answer
from bot.desk import Desk
from core import cards, outbox, trace
from core.db import Session
from core.outbox import Due, Later

EVENT_TYPE = "promotion_bot_delivery"
HISTORY_PAGES = 10
CARD_FIRST_S = 2.0
GONE = ("message_not_found", "cant_update_message")
THREAD_GONE = ("thread_not_found", "cannot_reply_to_message", "message_not_found")


def _said(client: WebClient, channel: str, thread: str | None) -> Iterator[Mapping[str, Any]]:
    """What was said in a channel, newest first, or in one of its threads; as far back as an attempt can be."""
    cursor = ""
    for _ in range(HISTORY_PAGES):
        about: dict[str, Any] = {"channel": channel, "include_all_metadata": True, "limit": 200, "cursor": cursor}
        page = client.conversations_replies(ts=thread, **about) if thread else client.conversations_history(**about)
        yield from page["messages"]
        cursor = (page.get("response_metadata") or {}).get("next_cursor") or ""
        if not cursor:
            return


def find_posted(client: WebClient, channel: str, delivery: str, thread: str | None) -> str | None:
    """The ts of a message that an interrupted attempt posted, known by its metadata.

    Without the scope to read what was said there is nothing to find: rather told twice than not at all.
    """
    try:
        for found in _said(client, channel, thread):
            metadata = found.get("metadata") or {}
            if metadata.get("event_type") == EVENT_TYPE and metadata["event_payload"].get("delivery") == delivery:
                return str(found["ts"])
    except SlackApiError as error:
        if error.response["error"] != "missing_scope":
            raise
        trace.note(lacks=error.response.get("needed"), channel=channel)
    return None


def is_anywhere(client: WebClient, delivery: str, places: Iterable[tuple[str, str | None]]) -> bool:
    """Whether an interrupted attempt posted it in one of these channels, or threads as far as they are there."""
    for channel, thread in places:
        try:
            if find_posted(client, channel, delivery, thread) is not None:
                return True
        except SlackApiError as error:
            if error.response["error"] not in THREAD_GONE:
                raise
    return False


def post(
    client: WebClient,
    session: Session,
    channel: str,
    answer: Answer,
    delivery: str,
    *,
    is_retry: bool,
    thread: str | None = None,
    is_broadcast: bool = False,
) -> tuple[str, bool]:
    """The ts of the message of this delivery, and whether it was posted just now."""
    posted = find_posted(client, channel, delivery, thread) if is_retry else None
    if posted is not None:
        trace.note(did="found as it was posted before", channel=channel)
        return posted, False
    outbox.hold(session)
    response = client.chat_postMessage(
        channel=channel,
        text=answer.text,
        blocks=list(answer.blocks),
        unfurl_links=False,
        unfurl_media=False,
        metadata={"event_type": EVENT_TYPE, "event_payload": {"delivery": delivery}},
        thread_ts=thread,
        reply_broadcast=is_broadcast or None,
    )
    trace.note(did="posted", channel=channel)
    return str(response["ts"]), True


def redraw(client: WebClient, place: cards.Place, answer: Answer) -> bool:
    """Redraws a message in place; False where it is gone."""
    try:
        client.chat_update(channel=place.channel, ts=place.ts, text=answer.text, blocks=list(answer.blocks))
    except SlackApiError as error:
        if error.response["error"] in GONE:
            return False
        raise
    trace.note(did="redrawn", channel=place.channel)
    return True


def stand(
    client: WebClient,
    desk: Desk,
    session: Session,
    key: str,
    channel: str,
    answer: Answer,
    *,
    is_first: bool,
    is_over: bool = False,
) -> None:
    """Brings the one message of a key in line: redrawn where it stands, else posted and remembered.

    What `is_over` before anybody was told is not posted any more.
    """
    place = cards.place_of(session, key)
    if place is not None and redraw(client, place, answer):
        return
    with desk.channels.at(channel) as where:
        # An earlier effect of this card may have posted it without knowing; only the very first cannot have one.
        if is_over and place is None and (is_first or find_posted(client, where, key, None) is None):
            return
        cards.remember_place(session, key, _placed(client, session, where, answer, key, is_first=is_first))


def _placed(
    client: WebClient, session: Session, where: str, answer: Answer, key: str, *, is_first: bool
) -> cards.Place:
    """Where the message of a key stands from now on."""
    ts, is_new = post(client, session, where, answer, key, is_retry=not is_first)
    place = cards.Place(where, ts)
    if is_new or redraw(client, place, answer):
        return place
    # Found, and not to be changed: an app that was made anew must not draw in the messages of the former one.
    return cards.Place(where, post(client, session, where, answer, key, is_retry=False)[0])


def reply(
    client: WebClient, session: Session, key: str, due: Due, answer: Answer, *, is_broadcast: bool = False
) -> None:
    """Answers in the thread of a card, once; while the card is on its way it comes first.

    Without a card there is nothing to answer to.
    """
    place = cards.place_of(session, key)
    if place is not None:
        in_thread(client, session, place, answer, due.key, is_retry=due.is_retry, is_broadcast=is_broadcast)
    elif outbox.is_behind(session, due):
        raise Later("the card comes first", CARD_FIRST_S)


def in_thread(
    client: WebClient,
    session: Session,
    place: cards.Place,
    answer: Answer,
    delivery: str,
    *,
    is_retry: bool,
    is_broadcast: bool = False,
) -> None:
    """Posts in the thread of a card; where somebody deleted the card, in its channel."""
    posted = partial(post, client, session, place.channel, answer, delivery, is_retry=is_retry)
    try:
        posted(thread=place.ts, is_broadcast=is_broadcast)
    except SlackApiError as error:
        if error.response["error"] not in THREAD_GONE:
            raise
        posted()
