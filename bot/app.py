"""The table of every listener, and the one place where an error becomes words."""

from __future__ import annotations

import json
import logging
import re
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

from slack_bolt import Ack, App, Respond
from slack_sdk import WebClient

from bot import blocks, buttons, commands, home, modals
from bot.blocks import Answer
from bot.desk import Desk
from bot.modals import Faulty, Values
from core.errors import Refused
from core.plans import Ask
from core.rules.approval import Actor

log = logging.getLogger(__name__)

Body = dict[str, Any]


# --- Words for errors -----------------------------------------------------------------------------------------------


def told(work: Callable[[], Answer]) -> Answer:
    """What the person is told, whatever happens: the answer, why it was refused, or a reference to the log."""
    try:
        return work()
    except Refused as refused:
        return blocks.plain(f":warning: {blocks.escaped(str(refused))}")
    except Exception:
        reference = uuid.uuid4().hex[:8]
        log.exception("unexpected error, reference %s", reference)
        return blocks.plain(
            f":boom: Something went wrong on my side and nothing was changed. Reference for the log: `{reference}`"
        )


def _message(answer: Answer) -> dict[str, Any]:
    return {"text": answer.text, "blocks": list(answer.blocks)}


def _actor(desk: Desk, body: Body) -> Actor:
    if "user_id" in body:
        return desk.people.actor(body["user_id"], body.get("user_name", ""))
    return desk.people.actor(body["user"]["id"], body["user"].get("username", ""))


def _privately(respond: Respond, answer: Answer) -> None:
    respond(**_message(answer), response_type="ephemeral", replace_original=False)


# --- Commands -------------------------------------------------------------------------------------------------------


def _open(desk: Desk, client: WebClient, body: Body, answer: Answer) -> None:
    """Opens a modal at once and fills it afterwards where that takes longer than the trigger lives."""
    about = json.dumps({"response_url": body["response_url"]})
    opened = client.views_open(trigger_id=body["trigger_id"], view={**(answer.view or {}), "private_metadata": about})
    if answer.fill is None:
        return
    filled = told(lambda: Answer("", view=(answer.fill or modals.policy)(desk)))
    view = filled.view or modals.message("That did not work", filled.text)
    client.views_update(view_id=opened["view"]["id"], view={**view, "private_metadata": about})


def on_command(desk: Desk, ack: Ack, body: Body, respond: Respond, client: WebClient) -> None:
    """Runs a verb. Quick ones answer with the acknowledgement; those that measure or ask the registry follow it."""
    name, words = commands.parse(body.get("text") or "")
    is_slow = name in commands.VERBS and commands.VERBS[name].is_slow
    if is_slow:
        ack()
    answer = told(lambda: commands.VERBS[commands.known(name)].run(desk, words, _actor(desk, body)))
    if answer.view is not None:
        if not is_slow:
            ack()
        _open(desk, client, body, answer)
    elif is_slow:
        _privately(respond, answer)
    else:
        ack(**_message(answer), response_type="ephemeral")


# --- Buttons --------------------------------------------------------------------------------------------------------


def on_button(
    press: Callable[[Desk, str, Actor], Answer], desk: Desk, ack: Ack, body: Body, action: Body, respond: Respond
) -> None:
    """Records the click, acknowledges it, then says in private what came of it."""
    answer = told(partial(press, desk, action["value"], _actor(desk, body)))
    ack()
    _privately(respond, answer)


def on_reject(desk: Desk, ack: Ack, body: Body, action: Body, respond: Respond, client: WebClient) -> None:
    """Asks for the reason, where this person may reject this request at all."""
    allowed = told(partial(buttons.may_reject, desk, action["value"], _actor(desk, body)))
    ack()
    if allowed.text:
        _privately(respond, allowed)
        return
    client.views_open(trigger_id=body["trigger_id"], view=modals.reject(action["value"], body["response_url"]))


def on_unknown(ack: Ack, respond: Respond) -> None:
    """A click on something this version does not know is never silently ignored."""
    ack()
    _privately(respond, blocks.plain("This button is not one of mine any more. Type the command again."))


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


def _tell_by_url(client: WebClient, about: Mapping[str, str], answer: Answer) -> None:
    """A modal has no channel of its own; the address of what opened it still takes an answer."""
    Respond(response_url=about["response_url"], proxy=client.proxy, ssl=client.ssl)(
        **_message(answer), response_type="ephemeral", replace_original=False
    )


def on_form(form: Form, desk: Desk, ack: Ack, body: Body, view: Body, client: WebClient) -> None:
    """Does what a form asks, or shows what is wrong with it under the field, with everything typed still there."""
    about = json.loads(view["private_metadata"])
    try:
        answer = form.submit(desk, view["state"]["values"], about, _actor(desk, body))
    except Faulty as faulty:
        ack(response_action="errors", errors=faulty.faults)
        return
    except Refused as refused:
        ack(response_action="errors", errors={form.field: str(refused)})
        return
    ack()
    _tell_by_url(client, about, answer)


def on_policy_form(desk: Desk, ack: Ack, body: Body, view: Body, client: WebClient) -> None:
    """Creates a policy version; the view says that MLflow is asked, then what came of it."""
    try:
        wish = modals.read_policy(view["state"]["values"])
    except Faulty as faulty:
        ack(response_action="errors", errors=faulty.faults)
        return
    ack(response_action="update", view=modals.loading("New policy version", "message"))
    answer = told(lambda: modals.create_policy_version(desk, wish, _actor(desk, body)))
    client.views_update(view_id=view["id"], view=modals.modal("New policy version", "message", answer.blocks))


# --- Home -----------------------------------------------------------------------------------------------------------


def on_home(desk: Desk, event: Body, client: WebClient) -> None:
    """Draws the Home tab for the person who opened it."""
    if event.get("tab") == "home":
        client.views_publish(user_id=event["user"], view=home.view(desk))


# --- The table ------------------------------------------------------------------------------------------------------


def build(desk: Desk, client: WebClient, *, signing_secret: str | None = None) -> App:
    """The Bolt app with every listener. Checks the token with Slack."""
    app = App(client=client, signing_secret=signing_secret or "unused-in-socket-mode")
    app.command(desk.command)(partial(on_command, desk))
    for action_id, press in buttons.BUTTONS.items():
        app.action(action_id)(partial(on_button, press, desk))
    app.action("reject")(partial(on_reject, desk))
    for callback_id, form in FORMS.items():
        app.view(callback_id)(partial(on_form, form, desk))
    app.view("policy")(partial(on_policy_form, desk))
    app.event("app_home_opened")(partial(on_home, desk))
    app.action(re.compile(".*"))(on_unknown)
    return app
