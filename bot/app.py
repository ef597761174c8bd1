"""The table of every listener, and the one place where an error becomes words."""

from __future__ import annotations

import json
import logging
import re
import secrets
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

from slack_bolt import Ack, App
from slack_sdk import WebClient

from bot import blocks, buttons, commands, home, modals, tell
from bot.blocks import Answer, Block
from bot.desk import Desk
from bot.hands import Hands
from bot.modals import Faulty, PolicyWish, Values
from bot.words import parse
from core.errors import Refused
from core.plans import Ask
from core.rules.approval import Actor

log = logging.getLogger(__name__)

Body = dict[str, Any]


# --- Words for errors -----------------------------------------------------------------------------------------------


def _reference() -> str:
    """Notes the exception at hand in the log; the sentence that people get names the note."""
    reference = uuid.uuid4().hex[:8]
    log.exception("unexpected error, reference %s", reference)
    return f"Something went wrong on my side and nothing was changed. Reference for the log: {reference}"


def told(work: Callable[[], Answer]) -> Answer:
    """What the person is told, whatever happens: the answer, why it was refused, or a reference to the log."""
    try:
        return work()
    except Refused as refused:
        return blocks.literal(f"⚠️ {refused}")
    except Exception:
        return blocks.literal(f"💥 {_reference()}")


def _actor(desk: Desk, body: Body) -> Actor:
    if "user_id" in body:
        return desk.people.actor(body["user_id"], body.get("user_name", ""))
    return desk.people.actor(body["user"]["id"], body["user"].get("username", ""))


# --- Commands -------------------------------------------------------------------------------------------------------


def _open(hands: Hands, desk: Desk, client: WebClient, body: Body, answer: Answer) -> None:
    """Opens a modal at once and fills it afterwards where that takes longer than the trigger lives."""
    url = body["response_url"]
    view = {**(answer.view or {}), "private_metadata": json.dumps({"response_url": url})}
    opened = tell.open_view(client, body["trigger_id"], view, url)
    fill = answer.fill
    if opened is not None and fill is not None:
        hands.read(partial(_fill, hands, client, opened, view["private_metadata"], url, partial(fill, desk)))


def _fill(hands: Hands, client: WebClient, view_id: str, about: str, url: str, fill: Callable[[], Block]) -> None:
    filled = told(lambda: Answer("", view=fill()))
    view = filled.view or modals.modal("That did not work", "message", filled.blocks)
    hands.tell(partial(tell.update_view, client, view_id, {**view, "private_metadata": about}, url, filled))


def on_command(hands: Hands, desk: Desk, ack: Ack, body: Body, client: WebClient) -> None:
    """Runs a verb. Quick ones answer with the acknowledgement; those that measure or ask the registry follow it."""
    name, words = parse(body.get("text") or "")
    actor = _actor(desk, body)
    work = partial(told, lambda: commands.run(name, desk, words, actor))
    if commands.is_slow(name, words):
        ack()
        hands.read(lambda: hands.tell(partial(tell.privately, client, body["response_url"], work())))
        return
    answer = work()
    if answer.view is None:
        ack(**tell.message(answer), response_type="ephemeral")
    else:
        ack()
        hands.tell(partial(_open, hands, desk, client, body, answer))


# --- Buttons --------------------------------------------------------------------------------------------------------


def on_button(
    press: Callable[[Desk, str, Actor], Answer],
    hands: Hands,
    desk: Desk,
    ack: Ack,
    body: Body,
    action: Body,
    client: WebClient,
) -> None:
    """Records the click, acknowledges it, then says in private what came of it."""
    answer = told(partial(press, desk, action["value"], _actor(desk, body)))
    ack()
    replaces = answer.settles and bool(body.get("container", {}).get("is_ephemeral"))
    hands.tell(partial(tell.privately, client, body["response_url"], answer, replaces=replaces))


def on_reject(hands: Hands, desk: Desk, ack: Ack, body: Body, action: Body, client: WebClient) -> None:
    """Asks for the reason, where this person may reject this request at all."""
    allowed = told(partial(buttons.may_reject, desk, action["value"], _actor(desk, body)))
    ack()
    url = body["response_url"]
    if allowed.text:
        hands.tell(partial(tell.privately, client, url, allowed))
    else:
        view = modals.reject(action["value"], url)
        hands.tell(partial(tell.open_form, client, body["trigger_id"], view, url))


def on_unknown(hands: Hands, ack: Ack, body: Body, client: WebClient) -> None:
    """A click on something this version does not know is never silently ignored."""
    ack()
    if "response_url" in body:
        answer = blocks.literal("This button is not one of mine any more. Type the command again.")
        hands.tell(partial(tell.privately, client, body["response_url"], answer))


# --- Submissions ----------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Form:
    """One form: how its submission is read, what it does, and the field that shows a refusal."""

    submit: Callable[[Desk, Values, Mapping[str, str], Actor], Answer]
    field: str


def _submit_start(desk: Desk, values: Values, about: Mapping[str, str], actor: Actor) -> Answer:
    return modals.submit(desk, modals.read_start(values), actor)


def _submit_rollback(desk: Desk, values: Values, about: Mapping[str, str], actor: Actor) -> Answer:
    with desk.transaction() as session:
        wish: Ask = modals.read_rollback(values, session)
    return modals.submit(desk, wish, actor)


def _submit_reject(desk: Desk, values: Values, about: Mapping[str, str], actor: Actor) -> Answer:
    return buttons.reject(desk, about["request"], actor, modals.reason_of(values))


FORMS: Mapping[str, Form] = {
    "start": Form(_submit_start, "version"),
    "rollback": Form(_submit_rollback, "variant"),
    "reject": Form(_submit_reject, "reason"),
}


def on_form(form: Form, hands: Hands, desk: Desk, ack: Ack, body: Body, view: Body, client: WebClient) -> None:
    """Does what a form asks, or shows what is wrong with it under the field, with everything typed still there."""
    about = json.loads(view["private_metadata"])
    try:
        answer = form.submit(desk, view["state"]["values"], about, _actor(desk, body))
    except Faulty as faulty:
        ack(response_action="errors", errors=faulty.faults)
    except Refused as refused:
        ack(response_action="errors", errors={form.field: str(refused)})
    except Exception:
        ack(response_action="errors", errors={form.field: _reference()})
    else:
        ack()
        # A modal has no channel of its own; the address of what opened it still takes an answer.
        hands.tell(partial(tell.privately, client, about["response_url"], answer))


def on_policy_form(hands: Hands, desk: Desk, ack: Ack, body: Body, view: Body, client: WebClient) -> None:
    """Creates a policy version; the view says that MLflow is asked, then what came of it."""
    try:
        wish = modals.read_policy(view["state"]["values"])
    except Faulty as faulty:
        ack(response_action="errors", errors=faulty.faults)
        return
    ack(response_action="update", view=modals.loading("New policy version", "message"))
    hands.read(partial(_create, hands, desk, client, view, wish, _actor(desk, body)))


def _create(hands: Hands, desk: Desk, client: WebClient, view: Body, wish: PolicyWish, actor: Actor) -> None:
    answer = told(lambda: modals.create_policy_version(desk, wish, actor))
    shown = modals.modal("New policy version", "message", answer.blocks)
    url = json.loads(view["private_metadata"])["response_url"]
    hands.tell(partial(tell.update_view, client, view["id"], shown, url, answer))


# --- Home -----------------------------------------------------------------------------------------------------------


def on_home(hands: Hands, desk: Desk, event: Body, client: WebClient) -> None:
    """Draws the Home tab for the person who opened it."""
    if event.get("tab") != "home":
        return
    drawn = told(lambda: Answer("", view=home.view(desk)))
    view = drawn.view or {"type": "home", "blocks": list(drawn.blocks)}
    hands.tell(lambda: tell.publish(client, event["user"], view))


# --- The table ------------------------------------------------------------------------------------------------------


def build(desk: Desk, hands: Hands, client: WebClient, *, signing_secret: str | None = None) -> App:
    """The Bolt app with every listener. Checks the token with Slack."""
    app = App(
        client=client,
        signing_secret=signing_secret or secrets.token_hex(),  # Socket Mode signs nothing; nobody may guess it,
        listener_executor=hands.listeners,
    )
    app.command(desk.command)(partial(on_command, hands, desk))
    for action_id, press in buttons.BUTTONS.items():
        app.action(action_id)(partial(on_button, press, hands, desk))
    app.action("reject")(partial(on_reject, hands, desk))
    for callback_id, form in FORMS.items():
        app.view(callback_id)(partial(on_form, form, hands, desk))
    app.view("policy")(partial(on_policy_form, hands, desk))
    app.event("app_home_opened")(partial(on_home, hands, desk))
    app.action(re.compile(".*"))(partial(on_unknown, hands))
    return app
