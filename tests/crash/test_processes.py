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
from tests.core import releases, steps
from tests.workspace import Person, text_of, waits_until

MONDAY = datetime(2045, 11, 20, 7, tzinfo=UTC)
LONG_S = 75
"""For what takes a few seconds on a machine that has nothing else to do; more than what is frozen keeps its locks, and
than jobs wait for their time."""
pytestmark = pytest.mark.timeout(400)
LEADS, LOST = "this process leads", "this process does not lead"
READY = '"message": "ready"'
"""Not only the word, which is in /readyz, too."""
HERE = Path(package.__path__[0]).parent
AT_EIGHT = '[recommendations]\nat = "08:00"\n'
PLAIN = {key: os.environ[key] for key in ("PATH", "HOME") if key in os.environ}


class Process:
    """A bot in a process of its own, and what it logs."""

    def __init__(self, environment: dict[str, str], folder: Path, *words: str, config: str = AT_EIGHT) -> None:
        folder.mkdir()
        (folder / "promotion-bot.toml").write_text(config)
        self._log = folder / "log"
        with self._log.open("w") as log:
            self.running = subprocess.Popen(
                [sys.executable, "-m", "bot", *words], env=environment, cwd=folder, stdout=log, stderr=log
            )

    def said(self) -> str:
        """All it has logged so far."""
        return self._log.read_text()

    def has_said(self, line: str, times: int = 1) -> bool:
        """Whether it has said this so often; it must not have ended before."""
        is_over = self.running.poll() is not None
        found = self.said().count(line) >= times
        assert found or not is_over, f"ended without {line!r}: {self.said()}"
        return found

    def waits_for(self, line: str, times: int = 1) -> None:
        """Until it has said this so often."""
        waits_until(lambda: self.has_said(line, times), LONG_S, f"{line!r} of a process")

    @property
    def leads(self) -> bool:
        """Whether it leads, as far as it knows."""
        return self.said().rfind(LEADS) > self.said().rfind(LOST)

    def ends(self) -> int:
        """How it ends, in a while."""
        return self.running.wait(LONG_S)


Start = Callable[..., Process]


@pytest.fixture
def start(sandbox: Sandbox, database_url: str, mlflow_uri: str, tmp_path: Path) -> Iterator[Start]:
    """Starts processes of a release, this one or another, which end with the test, however it ends."""
    environment = PLAIN | {
        "SLACK_BOT_TOKEN": sandbox.bot_token,
        "SLACK_APP_TOKEN": sandbox.app_token,
        "SLACK_API_URL": sandbox.api_url,
        "DATABASE_URL": database_url,
        "MLFLOW_TRACKING_URI": mlflow_uri,
        "PROMOTION_BOT_DATA": str(tmp_path),
    }
    with ExitStack() as stack:

        def begin(name: str, *words: str, release: Path = HERE, **more: str) -> Process:
            there = environment | {"PYTHONPATH": str(release)} | more
            made = Process(there, tmp_path / name, *(words or ("run",)))
            stack.callback(made.running.wait)
            stack.callback(made.running.kill)
            return made

        yield begin


def leader(processes: list[Process]) -> Process:
    """The one that leads, once there is one."""
    return waits_until(lambda: next((one for one in processes if one.leads), None), LONG_S, "a leader")


def one_leads(processes: list[Process]) -> None:
    """No two of them; of two only until the former has noticed."""
    waits_until(lambda: sum(one.leads for one in processes) == 1, LONG_S, "only one leader")


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


def tells(engine: Engine, person: Person, what: str) -> None:
    """Whoever runs now tells things, each once."""
    names = [f"{what}-{n:02}" for n in range(5)]
    tell(engine, names)
    assert all_told(engine, person, names) == dict.fromkeys(names, 1)


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


def test_a_killed_leader_a_frozen_one_that_wakes_up_and_a_clean_stop(desk: Engine, start: Start, alice: Person) -> None:
    clock.set_to(desk, MONDAY)
    steps.change(desk, "start")
    steps.serve_all(desk, 2_000)
    processes = [start(name) for name in ("first", "second", "third")]
    for one in processes:
        one.waits_for(READY)
    first = leader(processes)
    waits_until(lambda: not waiting(desk), LONG_S, "what the start has to tell")
    one_leads(processes)
    before = digests(desk)
    assert told(alice, "Rollouts on") == before

    # The leader is killed in the middle of the deliveries, just as the day's recommendation comes due.
    names = [f"number-{n:02}" for n in range(30)]
    tell(desk, names)
    waits_until(lambda: told(alice, "number-") > 3, LONG_S, "the first messages")
    clock.advance(desk, days=1)  # at once before: the next leader makes up for it as soon as it leads
    first.running.kill()
    processes.remove(first)
    second = leader(processes)
    waits_until(lambda: digests(desk) == before + 1, LONG_S, "the day's digest")
    assert all_told(desk, alice, names) == dict.fromkeys(names, 1)

    # The next one is frozen: the third takes over, and goes on alone when the other wakes up.
    (third,) = (one for one in processes if one is not second)
    with frozen(second):
        clock.advance(desk, days=1)
        third.waits_for(LEADS)
        waits_until(lambda: digests(desk) == before + 2, LONG_S, "the next day's digest")
        tells(desk, alice, "frozen")
    second.waits_for(LOST)
    tells(desk, alice, "awake")
    one_leads(processes)

    # Whoever is told to stop lets go at once, and what it did not come to is made up for.
    last = leader(processes)
    (other,) = (one for one in processes if one is not last)
    clock.advance(desk, days=1)
    last.running.terminate()
    assert last.ends() == 0
    waits_until(lambda: other.leads, LONG_S, "the last one to lead")
    waits_until(lambda: digests(desk) == before + 3, LONG_S, "the last day's digest")
    waits_until(lambda: not waiting(desk), LONG_S, "everything")
    assert told(alice, "Rollouts on") == before + 3


def test_a_new_release_starts_beside_the_old_one(desk: Engine, start: Start, alice: Person, tmp_path: Path) -> None:
    adds, takes_away = (f"ALTER TABLE promotion.effects {what} COLUMN more" for what in ("ADD", "DROP"))
    newer = releases.program(tmp_path / "newer", f"{adds} text NOT NULL DEFAULT ''", takes_away)
    old = start("old")
    old.waits_for(LEADS)
    new = start("new", release=newer)
    new.waits_for(READY)
    tells(desk, alice, "both")
    one_leads([old, new])
    with frozen(new):
        tells(desk, alice, "the-old-one")

    old.running.terminate()
    assert old.ends() == 0
    waits_until(lambda: new.leads, LONG_S, "the new one to lead")
    assert start("after", "migrate", "--after", release=newer).ends() == 0
    late = start("late")
    assert late.ends() == 2
    assert "newer release (revision 9002)" in late.said()
    tells(desk, alice, "the-new-one")
