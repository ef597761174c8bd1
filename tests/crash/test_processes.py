"""Three processes at one database: deliveries are shared, one leads; nothing is told twice when it dies or freezes."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime
from pathlib import Path

import pytest
from sqlalchemy import Engine, text

import bot as package
from bot.demo import clock
from bot.sandbox import Sandbox
from core import db, ledger, outbox
from tests.bot.acts import aloud
from tests.bot.conftest import ROLLOUTS, waiting
from tests.core import steps
from tests.workspace import Person, text_of, waits_until

MONDAY = datetime(2045, 11, 20, 7, tzinfo=UTC)
LONG_S = 40
"""For what takes a few seconds on a machine that has nothing else to do."""
LEADS, LOST = "this process leads", "this process does not lead"


class Process:
    """A bot in a process of its own, and what it logs."""

    def __init__(self, environment: dict[str, str], folder: Path) -> None:
        self._log = folder / "log"
        with self._log.open("w") as log:
            self.running = subprocess.Popen(
                [sys.executable, "-m", "bot", "run"], env=environment, cwd=folder, stdout=log, stderr=log
            )

    def says(self, line: str) -> int:
        """How often it has said this so far."""
        return self._log.read_text().count(line)

    def waits_for(self, line: str, times: int = 1) -> None:
        """Until it has said this so often."""
        waits_until(lambda: self.says(line) >= times, LONG_S, f"{line!r} in {self._log.read_text()}")


@pytest.fixture
def started(
    sandbox: Sandbox, database_url: str, mlflow_uri: str, tmp_path: Path
) -> Iterator[Callable[[], list[Process]]]:
    """Starts three, which end with the test; they are ready when it returns."""
    plain = {key: os.environ[key] for key in ("PATH", "HOME") if key in os.environ}
    environment = plain | {
        "PYTHONPATH": str(Path(package.__path__[0]).parent),
        "SLACK_BOT_TOKEN": sandbox.bot_token,
        "SLACK_APP_TOKEN": sandbox.app_token,
        "SLACK_API_URL": sandbox.api_url,
        "DATABASE_URL": database_url,
        "MLFLOW_TRACKING_URI": mlflow_uri,
        "PROMOTION_BOT_DATA": str(tmp_path),
    }
    with ExitStack() as stack:

        def start(name: str) -> Process:
            folder = tmp_path / name
            folder.mkdir()
            (folder / "promotion-bot.toml").write_text('[recommendations]\nat = "08:00"\n')
            made = Process(environment, folder)
            stack.callback(made.running.wait)
            stack.callback(made.running.kill)
            return made

        def all_ready() -> list[Process]:
            made = [start(name) for name in ("first", "second", "third")]
            for one in made:
                one.waits_for("ready")
            return made

        yield all_ready


def leader(processes: list[Process], but: Process | None = None) -> Process:
    """The one that leads, once there is one."""

    def look() -> Process | None:
        return next((one for one in processes if one is not but and one.says(LEADS) > one.says(LOST)), None)

    return waits_until(look, LONG_S, "a leader")


def tell(engine: Engine, names: list[str]) -> None:
    """Effects that can all be carried out at the same time: one notice each."""
    with db.transaction(engine) as session:
        for name in names:
            entry = ledger.record(session, actor="U1", action="mirror", subject=name)
            outbox.put(session, kind="notice", subject=name, key=f"notice:{entry.id}", ledger_id=entry.id)


def told(person: Person, name: str) -> int:
    """How many messages have this in them."""
    return sum(name in text_of(message) for message in aloud(person, ROLLOUTS))


def all_told(engine: Engine, person: Person, names: list[str]) -> dict[str, int]:
    """How often each was told, once nothing waits any more."""
    waits_until(lambda: not waiting(engine), LONG_S, "everything that is to be told")
    return {name: told(person, name) for name in names}


def a_day_passes(engine: Engine) -> None:
    """To the next day's recommendation, with traffic."""
    clock.advance(engine, days=1)
    steps.serve_all(engine, 2_000)


def digests(engine: Engine) -> int:
    """The channel's days that were summed up and told."""
    query = "SELECT count(*) FROM promotion.messages WHERE key LIKE 'digest:%'"
    with engine.connect() as connection:
        return int(connection.execute(text(query)).scalar_one())


@contextmanager
def frozen(one: Process) -> Iterator[None]:
    """It does nothing meanwhile, and keeps its connections."""
    one.running.send_signal(signal.SIGSTOP)
    try:
        yield
    finally:
        one.running.send_signal(signal.SIGCONT)


def test_a_killed_leader_a_frozen_one_that_wakes_up_and_a_clean_stop(
    desk: Engine, started: Callable[[], list[Process]], alice: Person
) -> None:
    clock.set_to(desk, MONDAY)
    steps.change(desk, "start")
    steps.serve_all(desk, 2_000)
    processes = started()
    first = leader(processes)
    waits_until(lambda: not waiting(desk), LONG_S, "what the start has to tell")
    assert [one.says(LEADS) for one in processes if one is not first] == [0, 0]
    before, cards = digests(desk), told(alice, "Rollouts on")
    assert cards == before

    # The leader is killed in the middle of the deliveries, just as the day's recommendation comes due.
    names = [f"number-{n:02}" for n in range(30)]
    tell(desk, names)
    waits_until(lambda: told(alice, "number-") > 3, LONG_S, "the first messages")
    first.running.kill()
    a_day_passes(desk)
    processes.remove(first)
    second = leader(processes)
    waits_until(lambda: digests(desk) == before + 1, LONG_S, "the day's digest")
    assert all_told(desk, alice, names) == dict.fromkeys(names, 1)
    assert told(alice, "Rollouts on") == before + 1

    # The next one is frozen: the third takes over, and goes on alone when the other wakes up.
    names = [f"more-{n}" for n in range(10)]
    with frozen(second):
        a_day_passes(desk)
        third = leader(processes, but=second)
        waits_until(lambda: digests(desk) == before + 2, LONG_S, "the next day's digest")
        tell(desk, names)
        assert all_told(desk, alice, names) == dict.fromkeys(names, 1)
    second.waits_for(LOST)
    assert (second.says(LEADS), third.says(LOST)) == (1, 0)
    assert told(alice, "Rollouts on") == before + 2

    # Whoever is told to stop lets go at once, and what it did not come to is made up for.
    a_day_passes(desk)
    third.running.terminate()
    assert third.running.wait(LONG_S) == 0
    second.waits_for(LEADS, times=2)
    waits_until(lambda: digests(desk) == before + 3, LONG_S, "the last day's digest")
    waits_until(lambda: not waiting(desk), LONG_S, "everything")
    assert told(alice, "Rollouts on") == before + 3
