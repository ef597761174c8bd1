"""What Slack hands on, however odd: an answer or a refusal, never an error, and nothing happens that was not asked."""

from __future__ import annotations

import json
import logging
import threading
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from slack_bolt import App, BoltRequest, BoltResponse
from slack_sdk import WebClient
from sqlalchemy import Engine, text

from bot import buttons, running
from bot.sandbox import Sandbox
from bot.submissions import FORMS
from core.settings import Settings
from tests.bot.acts import told
from tests.bot.conftest import Bot
from tests.core import steps
from tests.hostile.strategies import jsons, texts, tried, typed
from tests.workspace import Person, text_of, waits_until

WRONG = ("Something went wrong", "Traceback", "sqlalchemy", "psycopg", "xoxb-", "xapp-", "postgresql://")


@pytest.fixture
def dispatched(desk: Engine, configured: Settings) -> Iterator[App]:
    """The bot without a socket: what Slack sends is handed to it."""
    with running.running(desk, configured) as made:
        yield made
    for thread in threading.enumerate():  # what was begun goes on for a while, and would be noted by the next test
        if thread.name.startswith(("listen", "read", "tell")):
            thread.join()


@pytest.fixture
def team(web: WebClient) -> str:
    return str(web.auth_test()["team_id"])


def untouched(engine: Engine) -> tuple[Any, ...]:
    """What only a decision may change."""
    with engine.connect() as connection:
        requests = connection.scalar(text("SELECT count(*) FROM promotion.requests WHERE state <> 'open'"))
        return requests, steps.shares(engine)


def no_errors(caplog: pytest.LogCaptureFixture) -> None:
    """Nothing unforeseen was noted since the last look."""
    found = [record.getMessage() for record in caplog.records if record.levelno >= logging.ERROR or record.exc_info]
    caplog.clear()
    assert found == []


@tried
@given(said=typed)
@example(said="start planner_policy_exp planner_policy 3 because `*<!channel>*`")
@example(said="start " + "x" * 7_900)
def test_whatever_is_typed_is_answered(
    bot: Bot, desk: Engine, alice: Person, caplog: pytest.LogCaptureFixture, said: str
) -> None:
    before = len(told(alice))
    assert alice.types(f"/rollout {said}", channel="ml-rollouts").acked
    shown = waits_until(lambda: [*told(alice)[before:], *alice.modals()], 15, f"an answer to {said!r}")[0]
    assert not [word for word in WRONG if word in text_of(shown)]
    for view in alice.modals():
        alice.closes(view)
    assert untouched(desk) == (0, steps.shares_of(control="1"))
    no_errors(caplog)


def sent(made: App, team: str, kind: str, user: str, **more: Any) -> BoltResponse:
    """Hands the bot what Slack would send it."""
    body = {"type": kind, "team": {"id": team}, "user": {"id": user}, "api_app_id": "A1", "trigger_id": "1.2.x"} | more
    return made.dispatch(BoltRequest(body=body, mode="socket_mode"))


@tried
@given(action=st.one_of(st.sampled_from([*buttons.BUTTONS]), texts.filter(bool)), value=texts)
@example(action="approve", value="1:" + "0" * 64)
@example(action="approve", value="٣:x")
def test_whatever_a_button_carries(
    dispatched: App, team: str, sandbox: Sandbox, desk: Engine, bob: Person, caplog: pytest.LogCaptureFixture,
    action: str, value: str,
) -> None:  # fmt: skip
    place = {"channel": {"id": "C1"}, "response_url": f"{sandbox.url}/response/none", "container": {}}
    click = {"action_id": action, "block_id": "b", "type": "button", "value": value}
    answered = sent(dispatched, team, "block_actions", bob.id, actions=[click], **place)
    assert answered.status == 200
    assert untouched(desk) == (0, steps.shares_of(control="1"))
    no_errors(caplog)


fields = ("experiment", "version", "variant", "reason", "share", "hours", "minutes", "policy", "model", "length")
values = st.one_of(
    st.dictionaries(st.sampled_from(fields), jsons, max_size=6),
    st.fixed_dictionaries(
        {
            field: st.one_of(
                st.builds(lambda said, field=field: {field: {"value": said}}, texts),
                st.builds(lambda said, field=field: {field: {"selected_option": {"value": said}}}, texts),
            )
            for field in fields
        }
    ),
)
abouts = st.one_of(
    st.just('{"id": "1"}'), texts, jsons.map(json.dumps), st.builds(lambda said: json.dumps({"id": said}), texts)
)


@tried
@given(callback=st.sampled_from([*FORMS, "policy"]), state=values, about=abouts)
def test_whatever_a_form_holds(
    dispatched: App, team: str, desk: Engine, bob: Person, caplog: pytest.LogCaptureFixture,
    callback: str, state: Any, about: str,
) -> None:  # fmt: skip
    view = {"id": "V1", "type": "modal", "callback_id": callback, "private_metadata": about, "state": {"values": state}}
    answered = sent(dispatched, team, "view_submission", bob.id, view=view)
    assert answered.status == 200
    assert not [word for word in WRONG if word in answered.body]
    assert untouched(desk) == (0, steps.shares_of(control="1"))
    no_errors(caplog)


def test_the_answer_to_a_form_that_the_bot_did_not_open_has_nowhere_to_go(
    dispatched: App, team: str, bob: Person, caplog: pytest.LogCaptureFixture
) -> None:
    state = {"values": {"new": {"new": {"value": "x"}}, "model": {"model": {"value": "9@none"}}}}
    view = {"id": "V1", "type": "modal", "callback_id": "policy", "private_metadata": "{}", "state": state}
    assert sent(dispatched, team, "view_submission", bob.id, view=view).status == 200
    waits_until(lambda: "an answer had nowhere to go" in caplog.text, 30, "the form to be done")
    no_errors(caplog)


@pytest.mark.parametrize("kind", ["team", "team_id"])
def test_another_workspace_decides_nothing(
    dispatched: App, desk: Engine, bob: Person, caplog: pytest.LogCaptureFixture, kind: str
) -> None:
    body = {"command": "/rollout", "text": "help", "user_id": bob.id, "channel_id": "C1", "response_url": "http://x"}
    theirs = {"team": {"id": "T0THEIRS"}, "team_id": "T0THEIRS"}
    answered = dispatched.dispatch(BoltRequest(body=body | {kind: theirs[kind]}, mode="socket_mode"))
    assert answered.status == 200
    assert "step by step" not in str(answered.body)
    assert "of another workspace" in caplog.text
