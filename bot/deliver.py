"""Carries out chat effects, rendering from the rows as they are now. Every handler may run again after a crash."""

from __future__ import annotations

import logging
import threading
import time
import uuid
from collections.abc import Callable, Mapping
from contextlib import nullcontext
from datetime import date
from functools import partial

from slack_sdk import WebClient
from slack_sdk.errors import SlackApiError

from bot import alert_screens, discrepancy_screens, history_screens, posting, request_screens, rollout_screens
from bot.channels import GONE
from bot.desk import Desk
from core import (
    alert_cards,
    alerts,
    cards,
    digests,
    discrepancies,
    erasure,
    freezes,
    outbox,
    redrawing,
    rollout_cards,
    rollouts,
    settling,
    stages,
    trace,
    watching,
)
from core.db import Session
from core.errors import Refused
from core.outbox import Due, Handler, Later
from core.variants import find_experiment

log = logging.getLogger(__name__)

IDLE_S = 0.5
TROUBLE_S = 2.0
FINISH_S = 3.0


# --- Handlers -------------------------------------------------------------------------------------------------------


def request_card(client: WebClient, desk: Desk, session: Session, due: Due) -> None:
    """The card of a request stands in the approvals channel as the request is now."""
    number = due.payload.get("request", due.request_id)  # the release before names it in the row alone
    key = outbox.card_key(number)
    if not cards.has_request(session, number):
        return _deleted(client, session, number, key)
    card = cards.request_card(session, number)
    frozen = cards.request_frozen(session, card.id, terms=desk.settings.terms)
    eligible, owners = desk.people.eligible(card.experiment, card.requester), desk.people.owners_of(card.experiment)
    answer = request_screens.request(card, eligible, frozen, has_owners=bool(owners))
    is_first = due.key == f"card:{number}:opened" and not due.is_retry
    posting.stand(client, desk, session, key, desk.settings.slack.approvals_channel, answer, is_first=is_first)


def _deleted(client: WebClient, session: Session, number: int, key: str) -> None:
    place = cards.place_of(session, key)
    if place is not None:
        try:
            posting.redraw(client, place, request_screens.deleted(number))
        except SlackApiError as error:  # an archived channel shows nobody a button
            if error.response["error"] not in GONE:
                raise
        cards.forget_place(session, key)


def _of_request(handler: ChatHandler) -> ChatHandler:
    """What is about a request that was deleted with its experiment is not needed any more."""

    def handled(client: WebClient, desk: Desk, session: Session, due: Due) -> None:
        if cards.has_request(session, due.payload["request"]):
            handler(client, desk, session, due)

    return handled


def reminder(client: WebClient, desk: Desk, session: Session, due: Due) -> None:
    """Before a request expires, the thread of its card says so once."""
    card = cards.request_card(session, due.payload["request"])
    if card.state == "open":
        answer = request_screens.reminder(card, desk.people.eligible(card.experiment, card.requester))
        posting.reply(client, session, outbox.card_key(card.id), due, answer)


def redraw(client: WebClient, desk: Desk, session: Session, due: Due) -> None:
    """A request whose card does not hold any more is measured anew."""
    redrawing.redraw(session, due.payload["request"], terms=desk.settings.terms)


def notice(client: WebClient, desk: Desk, session: Session, due: Due) -> None:
    """Those who follow rollouts are told one row of the record, once: in the thread of the rollout's card.

    While the card is on its way it comes first, however many others are before it.
    """
    news = cards.notice(session, due.payload["ledger_id"])
    answer, experiment = history_screens.notice(news, desk.command), news.line.experiment
    rollout = rollouts.newest(session, experiment) if experiment else None
    place = cards.place_of(session, rollouts.message_key(rollout)) if rollout else None
    if rollout and place is None and outbox.is_under_way(session, rollouts.card_key(rollout.id)):
        raise Later("the card comes first", posting.CARD_FIRST_S)
    channel = desk.settings.channel_of(experiment) if experiment else desk.settings.slack.rollouts_channel
    with nullcontext(place.channel) if place else desk.channels.at(channel) as where:
        if due.is_retry and _was_told(client, session, due, where, rollout.id if rollout else None):
            return
        if place:
            posting.in_thread(client, session, place, answer, due.key, is_retry=False)
        else:
            posting.post(client, session, where, answer, due.key, is_retry=False)


def _was_told(client: WebClient, session: Session, due: Due, channel: str, rollout: int | None) -> bool:
    """Also elsewhere than it would be told now: an attempt may have been made before the card stood where it does."""
    stood = cards.places_of(session, f"{rollouts.card_key(rollout)}:") if rollout else []
    return posting.is_anywhere(client, due.key, [(channel, None), *((one.channel, one.ts) for one in stood)])


def glass(client: WebClient, desk: Desk, session: Session, due: Due) -> None:
    """Broken glass is told aloud in a channel, once, to all who might have approved and were not asked."""
    card = cards.request_card(session, due.payload["request"])
    spared = {card.requester, card.decided_by or "", *card.approvals}
    mentions = desk.people.approver_mentions(card.experiment, spared)
    answer = request_screens.glass_broken(card, mentions, desk.command)
    approvals_channel, rollouts_channel = desk.aloud_in(card.experiment)
    channel = approvals_channel if due.payload["where"] == "approvals" else rollouts_channel
    if due.payload["where"] == "approvals" or rollouts_channel != approvals_channel:
        with desk.channels.at(channel) as where:
            posting.post(client, session, where, answer, due.key, is_retry=due.is_retry)


def rollout_card(client: WebClient, desk: Desk, session: Session, due: Due) -> None:
    """The living card of a rollout stands in its channel as the rollout is now."""
    shown = rollout_cards.rollout_card(session, due.payload["rollout"], terms=desk.settings.terms)
    is_over = shown.candidate is None and not cards.has_stood(session, f"{rollouts.card_key(shown.id)}:")
    answer, is_first = rollout_screens.card(shown), not due.is_retry and not outbox.is_uncertain(session, due)
    posting.stand(client, desk, session, shown.message_key, shown.channel, answer, is_first=is_first, is_over=is_over)


def moved(client: WebClient, desk: Desk, session: Session, due: Due) -> None:
    """Where a card stood before, one line says that it goes on in a newer message."""
    place = cards.place_of(session, due.payload["message"])
    if place is not None:
        shown = rollout_cards.rollout_card(session, due.payload["rollout"], terms=desk.settings.terms)
        posting.redraw(client, place, rollout_screens.moved(shown))


def turned(client: WebClient, desk: Desk, session: Session, due: Due) -> None:
    """A verdict that changed after the day's message is told in the card's thread."""
    shown = rollout_cards.rollout_card(session, due.payload["rollout"], terms=desk.settings.terms)
    # In that day's thread, also where the card stands in a new message by now: there an attempt may have told it.
    message = due.payload.get("message", shown.message_key)
    posting.reply(client, session, message, due, rollout_screens.turned(shown, due.payload["before"]))


def digest(client: WebClient, desk: Desk, session: Session, due: Due) -> None:
    """The digest of a channel's day stands there as the day is now."""
    channel, day = due.payload["channel"], date.fromisoformat(due.payload["day"])
    answer = rollout_screens.digest(digests.digest(session, channel, day), desk.command)
    is_first = not due.is_retry and not outbox.is_uncertain(session, due)
    posting.stand(client, desk, session, digests.message_key(channel, day), channel, answer, is_first=is_first)


def alert_card(client: WebClient, desk: Desk, session: Session, due: Due) -> None:
    """The card of an alert stands in the rollout's channel as the alert is now."""
    number = due.payload["alert"]
    shown, key = alert_cards.alert_card(session, number), alerts.message_key(number)
    is_first, is_over = due.key == f"{key}:opened" and not due.is_retry, shown.state != "open"
    posting.stand(
        client, desk, session, key, shown.channel, alert_screens.card(shown), is_first=is_first, is_over=is_over
    )


def discrepancy_card(client: WebClient, desk: Desk, session: Session, due: Due) -> None:
    """The card of a discrepancy stands in the approvals channel as the discrepancy is now."""
    shown = settling.card(session, due.payload["discrepancy"])
    key = discrepancies.message_key(shown.id)
    is_first, is_over = not due.is_retry and not outbox.is_uncertain(session, due), shown.state != "open"
    answer, channel = discrepancy_screens.card(shown), desk.settings.slack.approvals_channel
    posting.stand(client, desk, session, key, channel, answer, is_first=is_first, is_over=is_over)


def escalation(client: WebClient, desk: Desk, session: Session, due: Due) -> None:
    """An unanswered alert is brought up again: in its thread, to those on call, to each of them in person."""
    number, step = due.payload["alert"], due.payload["step"]
    shown = alert_cards.alert_card(session, number)
    if not shown.is_waiting:
        return
    minutes = desk.settings.alerts.escalates_after[step].total_seconds() / 60
    spared = alert_cards.acted_lately(session, alert_cards.experiment_of(session, number))
    if step < len(alert_screens.ESCALATIONS) - 1:
        people = desk.people.mentions(spared) if step else ()
        answer = alert_screens.escalation(shown, step, minutes, people)
        posting.reply(client, session, alerts.message_key(number), due, answer, is_broadcast=bool(step))
        return
    for member in desk.people.members_on_call():
        if member not in spared:
            alerts.put_direct(session, number, member, step=step, occasion=due.key)


def direct(client: WebClient, desk: Desk, session: Session, due: Due) -> None:
    """One person on call is told of an unanswered alert."""
    shown, step = alert_cards.alert_card(session, due.payload["alert"]), due.payload["step"]
    if not shown.is_waiting:
        return
    minutes = desk.settings.alerts.escalates_after[step].total_seconds() / 60
    channel = str(client.conversations_open(users=due.payload["person"])["channel"]["id"])
    answer = alert_screens.escalation(shown, step, minutes, ())
    posting.post(client, session, channel, answer, due.key, is_retry=due.is_retry)


def follow(client: WebClient, desk: Desk, session: Session, due: Due) -> None:
    """After a change of shares the cards and alerts of an experiment follow at once."""
    try:
        place = find_experiment(session, uuid.UUID(due.payload["experiment"]), lock=False)
    except Refused:
        return  # it was deleted meanwhile
    watching.watch(session, {place.id: desk.talk(place.name)}, terms=desk.settings.terms)


def frozen(client: WebClient, desk: Desk, session: Session, due: Due) -> None:
    """When a freeze begins or ends, the cards of an experiment are drawn again."""
    try:
        freezes.redraw(session, uuid.UUID(due.payload["experiment"]), why=due.key)
    except Refused:
        return  # it was deleted meanwhile


ChatHandler = Callable[[WebClient, Desk, Session, Due], None]
URGENT: Mapping[str, ChatHandler] = {
    "card": request_card,
    "redraw": _of_request(redraw),
    "reminder": _of_request(reminder),
    "notice": notice,
    "glass": _of_request(glass),
    "alert": alert_card,
    "discrepancy": discrepancy_card,
    "escalation": escalation,
    "direct": direct,
    "digest": digest,
    "follow": follow,
    "frozen": frozen,
}
CALM: Mapping[str, ChatHandler] = {"rollout": rollout_card, "moved": moved, "turned": turned}
"""What there can be hundreds of at once: carried out apart, no faster than Slack takes it."""
BURST = 10
PAUSE_S = 1.2
"""Slack takes a handful of calls at once, then some 50 edits a minute."""


class SlackRefuses(Exception):
    """By its name for what is wrong, and the channel that it is about."""


def _patient(desk: Desk, handler: Handler) -> Handler:
    """Slack says when to come back after too many calls; that is not a failure."""

    def carried(session: Session, due: Due) -> None:
        try:
            handler(session, due)
        except SlackApiError as error:
            why = error.response["error"]
            trace.note(slack=why)
            if why != "ratelimited":
                raise SlackRefuses(f"{why}{_where(desk, error)}") from error
            raise Later("rate limited", float(error.response.headers.get("Retry-After", 1))) from error

    return carried


def _where(desk: Desk, error: SlackApiError) -> str:
    """The channel that a call was about, by its name where it is one of the configuration's."""
    sent = error.response.req_args
    about = next((sent[part] for part in ("json", "data", "params") if (sent.get(part) or {}).get("channel")), None)
    if about is None:
        return ""
    link = f"<#{about['channel']}>"
    name = next((name for name in desk.settings.channels if desk.channels.mention(name) == link), None)
    return f" in #{name.removeprefix('#')}" if name else f" in {about['channel']}"


class Deliverer:
    """Three threads that carry out effects until stopped: what is urgent in the chat, the many cards, and the rest.

    Apart, so that neither a registry that hangs, a deletion of millions of rows nor a morning's five hundred cards hold
    up what people wait for.
    """

    def __init__(self, desk: Desk, client: WebClient) -> None:
        self._desk = desk
        self._stopping = threading.Event()
        urgent, calm = (
            {kind: _patient(desk, partial(handler, client, desk)) for kind, handler in table.items()}
            for table in (URGENT, CALM)
        )
        registry: Mapping[str, Handler] = {"registry": partial(_align, desk), erasure.KIND: erasure.erase}
        self._threads = [
            threading.Thread(target=self._work, args=(handlers, pause_s), name=f"deliver-{name}", daemon=True)
            for name, handlers, pause_s in (
                ("urgent", urgent, 0.0),
                ("calm", calm, PAUSE_S),
                ("registry", registry, 0.0),
            )
        ]

    def start(self) -> None:
        """Starts the threads."""
        for thread in self._threads:
            thread.start()
            self._desk.pulse.needs(thread)

    def stop(self) -> None:
        """Finishes the effects at hand, then stops; one that takes long is given up, and done again by the next bot."""
        self._stopping.set()
        self._desk.rouse()
        until = time.monotonic() + FINISH_S
        for thread in self._threads:
            thread.join(max(0.0, until - time.monotonic()))

    def _work(self, handlers: Mapping[str, Handler], pause_s: float) -> None:
        at_once = 0
        while not self._stopping.is_set():
            self._desk.pulse.beat()
            try:
                is_busy = outbox.deliver_next(self._desk.engine, handlers, self._desk.pulse.meters.delivered)
            except Exception:
                log.exception("effects cannot be carried out at the moment")
                self._stopping.wait(TROUBLE_S)
                continue
            at_once = at_once + 1 if is_busy else 0
            if at_once > BURST:
                self._stopping.wait(pause_s)
            if not is_busy:
                with self._desk.wake:
                    self._desk.wake.wait(IDLE_S)


def _align(desk: Desk, session: Session, due: Due) -> None:
    """What others set in the registry is left as it is, and told."""
    found = stages.align_registry(session, due, desk.registry)
    trace.note(model=due.payload["mlflow_model_name"], tags=found.tags, alias=found.alias)
    if found.spared or found.is_alias_spared:
        name = due.payload["mlflow_model_name"]
        discrepancies.compare_model(session, name, desk.registry, besides=due.id)
