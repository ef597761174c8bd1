"""The log: one id from what somebody did to everything that came of it, found with one grep."""

from __future__ import annotations

import io
import json
import logging
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from typing import Any

import pytest
from sqlalchemy import Engine, text

from bot import logs
from core import trace
from tests.bot.acts import answer, approve, ask
from tests.bot.conftest import Bot, hurry, waiting
from tests.workspace import Person, Workspace, waits_until

Line = dict[str, Any]


class Kept(logging.Handler):
    """Lines as they stand in the log, kept."""

    def __init__(self) -> None:
        super().__init__()
        self.setFormatter(logs.AsJson())
        self.lines: list[Line] = []

    def emit(self, record: logging.LogRecord) -> None:
        said = self.format(record)
        assert "\n" not in said
        self.lines.append(json.loads(said))

    def of(self, id: str) -> list[Line]:
        """What one grep finds."""
        return [line for line in self.lines if id in line.values()]


@pytest.fixture
def kept(caplog: pytest.LogCaptureFixture) -> Iterator[Kept]:
    made = Kept()
    for name in logs.OURS:
        caplog.set_level(logging.INFO, name)
    logging.getLogger().addHandler(made)
    yield made
    logging.getLogger().removeHandler(made)


def origins(engine: Engine, id: str) -> set[str]:
    """The kinds of effects that came of one id."""
    with engine.connect() as connection:
        query = text("SELECT kind FROM promotion.effects WHERE origin = :id")
        return set(connection.execute(query, {"id": id}).scalars())


def test_one_id_from_click_to_tick(
    bot: Bot, kept: Kept, alice: Person, bob: Person, workspace: Workspace, desk: Engine
) -> None:
    card = ask(alice, "start planner_policy_exp planner_policy 3 because zebras")
    waits_until(lambda: not waiting(desk), 30, "the card")
    workspace.fails("chat.update", "server_error")
    approve(bob, card)
    hurry(desk)
    waits_until(lambda: not waiting(desk), 30, "everything")
    (click,) = [line for line in kept.lines if line["message"] == "click"]
    assert (click["button"], click["on"], click["actor"], click["logger"]) == ("approve", 1, bob.id, "bot.app")
    assert "ms" not in click, "what follows the acknowledgement takes its own time"
    assert click["ack_ms"] >= 0
    found = kept.of(click["id"])
    recorded = {line["action"]: line for line in found if line["message"] == "recorded"}
    assert {"approve", "start", "mirror"} <= set(recorded)
    assert (recorded["approve"]["by"], recorded["approve"]["request"]) == (bob.id, 1)
    done = {line["kind"]: line for line in found if line["message"] == "carried out"}
    assert set(done) == origins(desk, click["id"]) >= {"card", "rollout", "registry"}
    assert done["rollout"]["did"] == "posted"
    assert done["registry"]["tags"] == {"3": "experiment"}
    (late,) = [line for line in found if line["level"] == "WARNING"]
    assert (late["message"], late["attempt"]) == ("comes later", 1)
    again = [line for line in found if line["message"] == "carried out" and line["effect"] == late["effect"]]
    assert [(line["attempt"], line["did"]) for line in again] == [(2, "redrawn")]
    (typed,) = [line for line in kept.lines if line["message"] == "command"]
    assert typed["id"] != click["id"]
    assert (typed["command"], typed["actor"]) == ("start", alice.id)
    assert "card" in origins(desk, typed["id"])
    assert "zebras" not in json.dumps(kept.lines)


def test_the_reference_is_the_id(bot: Bot, kept: Kept, alice: Person, desk: Engine) -> None:
    with desk.begin() as connection:
        connection.execute(text("ALTER TABLE promotion.requests ADD CONSTRAINT odd CHECK (reason <> 'zebras')"))
    said = answer(alice, "start planner_policy_exp planner_policy 3 because zebras")
    reference = re.search(r"Reference for the log: (\w+)$", said)
    assert reference, said
    found = kept.of(reference[1])
    (failed,) = [line for line in found if line["level"] == "ERROR"]
    assert failed["id"] == reference[1]
    assert 'violates check constraint "odd"' in failed["trace"]
    assert "zebras" not in json.dumps(kept.lines)


def test_a_quiet_bot_is_quiet(kept: Kept, bot: Bot, desk: Engine) -> None:
    waits_until(lambda: not waiting(desk), 30, "what the start has to tell")
    waits_until(lambda: any("this process leads" in line["message"] for line in kept.lines), 30, "a leader")
    kept.lines.clear()
    time.sleep(1.5)  # some heartbeats, and many looks for effects
    assert kept.lines == []


def test_what_was_misspelt_is_not_repeated(bot: Bot, kept: Kept, alice: Person) -> None:
    assert "rollback" in answer(alice, "rollbakc x because zebras")
    (line,) = [line for line in kept.lines if line["message"] == "command"]
    assert (line["command"], line["actor"]) == ("unknown", alice.id)
    assert "rollbakc" not in json.dumps(kept.lines)


def formatted(formatter: logging.Formatter, error: Exception, **more: Any) -> str:
    """A line about an exception."""
    wrote = io.StringIO()
    handler = logging.StreamHandler(wrote)
    handler.setFormatter(formatter)
    logger = logging.Logger("a.logger")
    logger.addHandler(handler)
    with trace.begun("abc", actor="U1"):
        try:
            raise error
        except Exception:
            logger.exception("it failed", extra=more)
    return wrote.getvalue()


def test_a_line_for_people() -> None:
    said = formatted(logs.AsText(), ValueError("wrong\nDETAIL: a secret"), why="two words", number=3)
    head, _, below = said.partition("\n")
    assert re.fullmatch(r'\S+Z ERROR a.logger: it failed id=abc actor=U1 why="two words" number=3', head)
    assert below.startswith("Traceback")
    assert below.endswith("ValueError: wrong\n")
    assert "secret" not in said


def test_what_takes_long_to_load_is_not_loaded_at_the_start() -> None:
    """A bot in Socket Mode is ready without these."""
    slow = ("mlflow", "scipy.special", "matplotlib", "uvicorn")
    code = f"import bot.__main__, bot.running, sys; print([name for name in {slow} if name in sys.modules])"
    assert subprocess.check_output([sys.executable, "-c", code], text=True) == "[]\n"
