"""The table of every listener, and the one place where an error becomes words."""

from __future__ import annotations

import json
import logging
import re
import secrets
import time
from collections.abc import Callable
from functools import partial, wraps
from typing import Any

from slack_bolt import Ack, App, BoltContext, BoltResponse
from slack_sdk import WebClient

from bot import blocks, buttons, fields, home, policy_versions, screens, showing, submissions, tell
from bot.blocks import Answer, Block
from bot.desk import Desk
from bot.fields import Faulty
from bot.hands import Hands
from bot.policy_versions import PolicyWish
from bot.submissions import Form
from bot.verbs import Verbs, first_words, is_slow, run
from bot.words import parse
from core import trace
from core.errors import Refused
from core.freezes import IsFrozen
from core.rules.approval import Actor

log = logging.getLogger(__name__)

Body = dict[str, Any]

OTHER_WORKSPACE = "I work for another workspace, so I did nothing. Ask where I am installed."
OLD_FORM = "This form is not one of mine any more. Open it anew."


# --- Words for errors -----------------------------------------------------------------------------------------------


def _reference(desk: Desk) -> str:
    """Notes the exception at hand in the log; the sentence that people get names the id that its line has."""
    reference = trace.current_id() or trace.fresh()
    log.exception("unexpected error, reference %s", reference)
    desk.pulse.meters.erred()
    return f"Something went wrong on my side and nothing was changed. Reference for the log: {reference}"


def told(desk: Desk, work: Callable[[], Answer]) -> Answer:
    """What the person is told, whatever happens: the answer, why it was refused, or a reference to the log."""
    try:
        return work()
    except IsFrozen as refused:
        log.info("refused: frozen")
        return screens.is_frozen(refused.frozen)
    except Refused as refused:
        log.info("refused")
        return blocks.literal(f"⚠️ {refused}")
    except Exception:
        return blocks.literal(f"💥 {_reference(desk)}")


def _only_ours(context: BoltContext, next: Callable[[], BoltResponse]) -> BoltResponse:
    """Nothing happens for another workspace, unless it is of the same Enterprise organisation."""
    home, asks = context.authorize_result, context.team_id
    is_home = home is None or asks in (None, home.team_id, home.enterprise_id)
    if is_home or (context.enterprise_id is not None and home and context.enterprise_id == home.enterprise_id):
        return next()
    log.warning("something of another workspace was left undone: %s", asks)
    return BoltResponse(status=200, body={"response_type": "ephemeral", "text": OTHER_WORKSPACE})


def _actor(desk: Desk, body: Body) -> Actor:
    return desk.people.actor(body["user_id"] if "user_id" in body else body["user"]["id"])


# --- Where answers go -----------------------------------------------------------------------------------------------

Where = dict[str, str]
"""Where the answer to a click or a command goes: to its address, with the channel and the person; or to the Home tab of
a person, which has none."""
NOT_OPENED = blocks.literal("⚠️ Slack did not open the form in time. Try once more.")


def _where(body: Body) -> Where:
    url = body.get("response_url")
    if not url:
        return {"home": body["user"]["id"]}
    if "user_id" in body:
        return {"response_url": url, "channel": body["channel_id"], "user": body["user_id"]}
    return {"response_url": url, "channel": body["channel"]["id"], "user": body["user"]["id"]}


def _answer(
    hands: Hands, desk: Desk, client: WebClient, where: Where, answer: Answer, *, replaces: bool = False
) -> None:
    """Says in private what came of something; on the Home tab it stands above everything else."""
    if "response_url" in where:
        hands.tell(partial(showing.privately, client, desk.able, where, answer, replaces=replaces))
    elif "home" in where:
        hands.read(partial(_draw_home, hands, desk, client, where["home"], answer))
    else:  # a form that the bot did not open: whoever sent it has seen what came of it, if anything
        log.warning("an answer had nowhere to go")


def _draw_home(hands: Hands, desk: Desk, client: WebClient, user: str, said: Answer | None = None) -> None:
    drawn = told(desk, lambda: Answer("", view=home.view(desk, desk.people.actor(user), said)))
    view = drawn.view or {"type": "home", "blocks": list(drawn.blocks)}
    hands.tell(lambda: tell.publish(client, user, view))


def _open(hands: Hands, desk: Desk, client: WebClient, body: Body, answer: Answer) -> None:
    """Opens a modal at once and fills it afterwards where that takes longer than the trigger lives."""
    where, view = _where(body), answer.view or {}
    about = json.dumps(json.loads(view.get("private_metadata") or "{}") | where)
    opened = tell.open_view(client, body["trigger_id"], {**view, "private_metadata": about})
    if opened is None:
        _answer(hands, desk, client, where, NOT_OPENED)
    elif answer.fill is not None:
        hands.read(partial(_fill, hands, desk, client, opened, about, partial(answer.fill, desk)))


def _fill(hands: Hands, desk: Desk, client: WebClient, view_id: str, about: str, fill: Callable[[], Block]) -> None:
    filled = told(desk, lambda: Answer("", view=fill()))
    view = filled.view or fields.modal("That did not work", "message", filled.blocks)
    hands.tell(partial(_update, hands, desk, client, view_id, {**view, "private_metadata": about}, filled))


def _update(hands: Hands, desk: Desk, client: WebClient, view_id: str, view: Block, answer: Answer) -> None:
    """Shows a view in place of another; where that was closed meanwhile, an answer with words is told in private."""
    if not tell.update_view(client, view_id, view) and answer.text:
        _answer(hands, desk, client, json.loads(view["private_metadata"]), answer)


# --- Commands -------------------------------------------------------------------------------------------------------


def on_command(hands: Hands, desk: Desk, verbs: Verbs, ack: Ack, body: Body, client: WebClient) -> None:
    """Runs a verb. Quick ones answer with the acknowledgement; those that measure or ask the registry follow it."""
    name, words = parse(body.get("text") or "")
    trace.note(command=name if name in verbs else "unknown")
    actor = _actor(desk, body)
    work = partial(told, desk, lambda: run(name, desk, words, actor, verbs))
    if is_slow(name, words, verbs):
        first = first_words(name, words, verbs)
        if first:
            ack(**tell.message(blocks.plain(first)), response_type="ephemeral")
        else:
            ack()
        hands.read(lambda: _answer(hands, desk, client, _where(body), work()))
        return
    answer = work()
    if answer.view is None:
        ack(**tell.message(answer), response_type="ephemeral")
    else:
        ack()
        hands.tell(partial(_open, hands, desk, client, body, answer))


# --- Buttons --------------------------------------------------------------------------------------------------------


def _value(action: Body) -> str:
    """The one id that a button carries, or that somebody chose from a list."""
    return str(action["selected_option"]["value"] if "selected_option" in action else action["value"])


def _number(value: str) -> int | None:
    """What a button is about, for the log; nothing else that it may carry."""
    number = value.partition(":")[0]
    return int(number) if re.fullmatch(r"[0-9]{1,18}", number) else None


def on_button(
    press: Callable[[Desk, str, Actor], Answer],
    hands: Hands,
    desk: Desk,
    ack: Ack,
    body: Body,
    action: Body,
    client: WebClient,
) -> None:
    """Records the click, acknowledges it, then says in private what came of it, or opens the form that it needs.

    What measures changes nothing before it is asked for, so it may follow the acknowledgement.
    """
    trace.note(button=action["action_id"], on=_number(_value(action)))
    work = partial(told, desk, partial(press, desk, _value(action), _actor(desk, body)))
    if action["action_id"] in buttons.SLOW:
        ack()
        hands.read(lambda: _answer(hands, desk, client, _where(body), work()))
        return
    answer = work()
    ack()
    if answer.view is not None:
        hands.tell(partial(_open, hands, desk, client, body, answer))
        return
    replaces = answer.settles and bool(body.get("container", {}).get("is_ephemeral"))
    _answer(hands, desk, client, _where(body), answer, replaces=replaces)


def on_unknown(hands: Hands, desk: Desk, ack: Ack, body: Body, client: WebClient) -> None:
    """A click on something this version does not know is never silently ignored."""
    ack()
    answer = blocks.literal("This button is not one of mine any more. Type the command again.")
    _answer(hands, desk, client, _where(body), answer)


# --- Submissions ----------------------------------------------------------------------------------------------------


def _about(view: Body) -> Where:
    """What the bot wrote into a form when it opened it.

    Raises:
        Refused: where this is something else.
    """
    try:
        found = json.loads(view["private_metadata"])
    except ValueError:
        found = None
    if not isinstance(found, dict) or not all(isinstance(value, str) for value in found.values()):
        raise Refused(OLD_FORM)
    return {"id": ""} | found


def on_form(form: Form, hands: Hands, desk: Desk, ack: Ack, body: Body, view: Body, client: WebClient) -> None:
    """Does what a form asks, or shows what is wrong with it under the field, with everything typed still there."""
    trace.note(form=view["callback_id"])
    try:
        about = _about(view)
        answer = form.submit(desk, view["state"]["values"], about, _actor(desk, body))
    except Faulty as faulty:
        ack(response_action="errors", errors=faulty.faults)
    except Refused as refused:
        log.info("refused")
        ack(response_action="errors", errors={form.field: blocks.spelled(str(refused))})
    except Exception:
        ack(response_action="errors", errors={form.field: _reference(desk)})
    else:
        ack()
        # A modal has no channel of its own; the address of what opened it still takes an answer.
        _answer(hands, desk, client, about, answer)


def on_policy_form(hands: Hands, desk: Desk, ack: Ack, body: Body, view: Body, client: WebClient) -> None:
    """Creates a policy version; the view says that MLflow is asked, then what came of it."""
    trace.note(form=view["callback_id"])
    try:
        _about(view)
        wish = policy_versions.read(view["state"]["values"])
    except Faulty as faulty:
        ack(response_action="errors", errors=faulty.faults)
        return
    except Refused as refused:
        ack(response_action="errors", errors={"model": blocks.spelled(str(refused))})
        return
    ack(response_action="update", view=policy_versions.loading())
    hands.read(partial(_create, hands, desk, client, view, wish, _actor(desk, body)))


def _create(hands: Hands, desk: Desk, client: WebClient, view: Body, wish: PolicyWish, actor: Actor) -> None:
    answer = told(desk, lambda: policy_versions.create(desk, wish, actor))
    shown = fields.modal("New policy version", "message", answer.blocks, about=view["private_metadata"])
    hands.tell(partial(_update, hands, desk, client, view["id"], shown, answer))


# --- Home -----------------------------------------------------------------------------------------------------------


def on_home(hands: Hands, desk: Desk, body: Body, client: WebClient) -> None:
    """Draws the Home tab for the person who opened it."""
    if body["event"].get("tab") == "home":
        hands.read(partial(_draw_home, hands, desk, client, body["event"]["user"]))


# --- The log --------------------------------------------------------------------------------------------------------


def _who(body: Body) -> str:
    """The user id of whoever typed, clicked, submitted or opened something."""
    found = body.get("user_id") or body.get("user") or body.get("event", {}).get("user")
    return str(found.get("id") if isinstance(found, dict) else found)


def _logged(what: str, listener: Callable[..., None]) -> Callable[..., None]:
    """The same listener, with an id on its line in the log and on all that comes of it."""

    @wraps(listener)  # Bolt looks at the names of what it takes
    def listened(**given: Any) -> None:
        with trace.begun(actor=_who(given["body"])):
            began = time.monotonic()
            try:
                listener(**given)
            finally:
                log.info(what, extra={"ack_ms": round((time.monotonic() - began) * 1000)})

    return listened


# --- The table ------------------------------------------------------------------------------------------------------


def build(
    desk: Desk,
    hands: Hands,
    client: WebClient,
    *,
    verbs: Verbs,
    signing_secret: str | None = None,
) -> App:
    """The Bolt app with every listener. Checks the token with Slack."""
    app = App(
        client=client,
        signing_secret=signing_secret or secrets.token_hex(),  # Socket Mode signs nothing; nobody may guess it,
        listener_executor=hands.listeners,
    )
    app.use(_only_ours)
    app.command(desk.command)(_logged("command", partial(on_command, hands, desk, verbs)))
    for action_id, press in buttons.BUTTONS.items():
        app.action(action_id)(_logged("click", partial(on_button, press, hands, desk)))
    for callback_id, form in submissions.FORMS.items():
        app.view(callback_id)(_logged("form", partial(on_form, form, hands, desk)))
    app.view("policy")(_logged("form", partial(on_policy_form, hands, desk)))
    app.event("app_home_opened")(_logged("home", partial(on_home, hands, desk)))
    app.action(re.compile(".*"))(_logged("unknown click", partial(on_unknown, hands, desk)))
    return app
