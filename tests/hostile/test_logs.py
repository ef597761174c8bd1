"""Whatever has to be logged: one object a line, and nothing in it that only one person should know."""

from __future__ import annotations

import json
import logging
from collections import Counter
from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from slack_bolt import App
from sqlalchemy import Engine

from bot import buttons, logs
from bot.sandbox import Sandbox
from bot.submissions import FORMS
from core import trace
from tests.bot.test_logs import Kept, kept  # noqa: F401 - a fixture
from tests.hostile.strategies import jsons, texts, tried
from tests.hostile.test_slack import dispatched, sent, team  # noqa: F401 - fixtures
from tests.workspace import Person, waits_until

SAID = "what only I should know"


def record(message: str, error: Exception | None, more: list[Any]) -> logging.LogRecord:
    info = (type(error), error, None) if error else None
    made = logging.LogRecord("a.logger", logging.WARNING, __file__, 1, message, (), info)
    vars(made).update({f"more_{number}": said for number, said in enumerate(more)})
    return made


@tried
@given(message=texts, why=texts, more=st.lists(jsons, max_size=3), has_error=st.booleans())
def test_whatever_is_logged_is_one_object(message: str, why: str, more: list[Any], has_error: bool) -> None:
    error = ValueError(f"wrong\n{SAID}") if has_error else None
    with trace.begun(actor=why):
        said = logs.AsJson().format(record(message, error, more))
        for_people = logs.AsText().format(record(message, None, more))
    assert len(said.split("\n")) == 1
    found = json.loads(said)
    assert list(found)[:4] == ["time", "level", "logger", "message"]
    assert SAID not in said
    assert for_people.isprintable()


FIELDS = ("reason", "experiment", "variant", "policy", "model", "length", "minutes", "version", "share")


def test_what_people_write_is_not_logged(
    dispatched: App,  # noqa: F811
    team: str,  # noqa: F811
    sandbox: Sandbox,
    desk: Engine,
    bob: Person,
    kept: Kept,  # noqa: F811
) -> None:
    state = {field: {field: {"value": SAID, "selected_option": {"value": SAID}}} for field in FIELDS}
    url = f"{sandbox.url}/response/a-secret-address"
    about = json.dumps({"id": "1", "response_url": url, "channel": "C1", "user": bob.id})
    form = {"id": "V1", "type": "modal", "private_metadata": about, "state": {"values": state}}
    for callback in (*FORMS, "policy", "unknown"):
        sent(dispatched, team, "view_submission", bob.id, view=form | {"callback_id": callback})
    place = {"channel": {"id": "C1"}, "response_url": url, "container": {}}
    click = {"block_id": "b", "type": "button", "value": f"1:{SAID}"}
    for action in (*buttons.BUTTONS, "unknown"):
        sent(dispatched, team, "block_actions", bob.id, actions=[click | {"action_id": action}], **place)
    expected = {"form": len(FORMS) + 1, "click": len(buttons.BUTTONS), "unknown click": 1}
    waits_until(lambda: Counter(line["message"] for line in kept.lines) >= Counter(expected), 30, str(expected))
    everything = json.dumps(kept.lines)
    found = [word for word in (SAID, "a-secret-address", "xoxb-", "xapp-", "postgresql://") if word in everything]
    assert found == []
