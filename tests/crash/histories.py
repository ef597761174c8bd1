"""Histories of three processes at one database: killed, frozen, told to stop and started, while people act.

What happens, and in which order, follows from a seed; how it falls together with what the processes do does not.
"""

from __future__ import annotations

import os
import random
import signal
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from slack_sdk import WebClient
from slack_sdk.errors import SlackApiError
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError

from bot.demo import clock
from core import alerts, audit, db, stages
from core.errors import Refused
from core.rules.lifecycle import Stage
from tests.bot.acts import aloud
from tests.bot.conftest import APPROVALS, ROLLOUTS, hurry
from tests.core import steps
from tests.core.conftest import EXPERIMENT, MODEL
from tests.crash.kills import asked, harmed, on_trial, press, served
from tests.crash.scenes import Scene, scene_of, started
from tests.crash.test_processes import LEADS, LOST

MOVES = 40
PAUSE_S = 0.5
SETTLED_S = 120
"""More than what a process that was frozen keeps for itself."""
BEGINNINGS = (served, asked, on_trial, harmed)


# --- Processes ------------------------------------------------------------------------------------------------------


@dataclass
class Member:
    """One of the three: a bot that lives or not, and the logs of all the bots that it was."""

    scene: Scene
    name: str
    is_frozen: bool = False
    faults: list[str] = field(default_factory=list)
    _process: Any = None
    _log: Path | None = None
    _is_told: bool = False
    _lives: int = 0

    @property
    def is_there(self) -> bool:
        """Whether it runs, or is frozen, and was not told to stop."""
        return self._process is not None and not self._is_told

    @property
    def leads(self) -> bool:
        """Whether it leads, as far as it knows."""
        said = self._log.read_text() if self._log and self._log.exists() and self.is_there else ""
        return said.rfind(LEADS) > said.rfind(LOST)

    def start(self) -> None:
        """A new process, once one that was told to stop has."""
        self._buried(("stopped", 0))
        self._lives += 1
        folder = self.scene.folder / f"{self.name}-{self._lives}"
        folder.mkdir()
        self._log, self._process, self._is_told = folder / "log", started(self.scene, folder), False

    def kill(self) -> None:
        """As by the kernel, in the middle of anything."""
        self._signal(signal.SIGKILL)
        self.is_frozen = False
        self._buried(("killed", -signal.SIGKILL))

    def freeze(self) -> None:
        """It does nothing from now on, and keeps its connections and locks."""
        self._signal(signal.SIGSTOP)
        self.is_frozen = True

    def thaw(self) -> None:
        """It goes on where it was, and knows nothing of what has happened."""
        self._signal(signal.SIGCONT)
        self.is_frozen = False

    def term(self) -> None:
        """It is told to stop."""
        self._signal(signal.SIGTERM)
        self._is_told = True

    def end(self) -> None:
        """Whatever it was doing."""
        if self._process is not None:
            self._process.kill()
            self._process.join()

    def _signal(self, number: int) -> None:
        if self._process.exitcode is not None:
            self.faults.append(f"{self.name} ended by itself:\n{self._log.read_text() if self._log else ''}")
            return
        os.kill(self._process.pid, number)

    def _buried(self, wanted: tuple[str, int]) -> None:
        if self._process is None:
            return
        self._process.join(30)
        how, code = wanted
        # Told in the first moments, before it listens to that, it ends like any program.
        if self._process.exitcode not in (code, -signal.SIGTERM):
            self.faults.append(f"{self.name} should have {how}, and ended with {self._process.exitcode}")
            self._process.kill()
        self._process = None


@dataclass
class History:
    """A scene, its processes, and what was done."""

    scene: Scene
    chance: random.Random
    crew: tuple[Member, ...]
    people: ThreadPoolExecutor
    done: Counter[str] = field(default_factory=Counter)

    def of(self, *, there: bool, frozen: bool | None = None) -> list[Member]:
        """Those that are there, or are not; and are frozen, or are not."""
        return [one for one in self.crew if one.is_there == there and frozen in (None, one.is_frozen)]


# --- Moves ----------------------------------------------------------------------------------------------------------

TYPED = {
    f"start {EXPERIMENT} planner_policy 3": 6,
    f"increase {EXPERIMENT} because the numbers are made up": 3,
    f"promote {EXPERIMENT} because the numbers are made up": 2,
    f"rollback {EXPERIMENT} because it is slow": 2,
    f"retire {EXPERIMENT}": 2,
    f"freeze {EXPERIMENT} because of the audit": 1,
    f"unfreeze {EXPERIMENT}": 3,
    f"recommend {EXPERIMENT}": 1,
}
Move = Callable[[History], object]


def _types(history: History) -> None:
    (typed,) = history.chance.choices([*TYPED], [*TYPED.values()])
    history.people.submit(history.scene.person("alice").types, f"/rollout {typed}", ROLLOUTS)


def _presses(*who: str, button: str, channel: str = APPROVALS) -> Move:
    """Each of them at the same time, wherever the newest card has it."""

    def move(history: History) -> None:
        for one in who:
            history.people.submit(press, history.scene, one, channel, button)

    return move


def _hours_pass(history: History) -> None:
    clock.advance(history.scene.engine, hours=history.chance.choice((1, 5, 26)))


def _traffic(history: History, harm: Callable[..., object]) -> None:
    with suppress(Refused, DBAPIError, StopIteration):  # there is no candidate, or somebody holds what it needs
        harm(history.scene.engine)


def _one(do: Callable[[Member], None], *, there: bool = True, frozen: bool | None = False) -> Move:
    def move(history: History) -> None:
        found = history.of(there=there, frozen=frozen)
        if found:
            do(history.chance.choice(found))

    return move


def _one_of_many(do: Callable[[Member], None]) -> Move:
    """Not the last that works, or else nothing would happen any more."""

    def move(history: History) -> None:
        found = history.of(there=True, frozen=False)
        if len(found) > 1:
            do(history.chance.choice(found))

    return move


TO_DO: Mapping[str, tuple[int, Move]] = {
    "typed": (9, _types),
    "approved": (6, _presses("bob", button="Approve")),
    "approved by two at once": (4, _presses("bob", "carol", button="Approve")),
    "withdrawn while approved": (1, _presses("alice", "bob", button="Withdraw")),
    "rolled back by two at once": (2, _presses("alice", "carol", button="Confirm rollback")),
    "rolled back from an alert": (1, _presses("carol", button="Confirm rollback", channel=ROLLOUTS)),
    "hours passed": (2, _hours_pass),
    "traffic": (2, partial(_traffic, harm=partial(steps.serve_all, plans_served=2_000))),
    "harm": (1, partial(_traffic, harm=steps.goes_wrong)),
    "killed": (4, _one_of_many(Member.kill)),
    "killed while frozen": (1, _one(Member.kill, frozen=True)),
    "frozen": (3, _one_of_many(Member.freeze)),
    "thawed": (3, _one(Member.thaw, frozen=True)),
    "told to stop": (2, _one_of_many(Member.term)),
    "started": (8, _one(Member.start, there=False, frozen=None)),
}
"""What may happen next, and how often."""


# --- What never is --------------------------------------------------------------------------------------------------

NEVER: Mapping[str, str] = {
    "shares that do not sum to 1": """
        SELECT experiment_id, sum(allocation) FROM exp.variants GROUP BY 1 HAVING sum(allocation) <> 1""",
    "not one version in production": """
        SELECT mlflow_model_name, count(*) FROM promotion.stages WHERE stage = 'production'
         GROUP BY 1 HAVING count(*) <> 1""",
    "an effect that waits": "SELECT key, attempts, last_error FROM promotion.effects WHERE done_at IS NULL",
    "applied, and not once": """
        SELECT r.id, r.state, count(l.id) FROM promotion.requests r
          LEFT JOIN promotion.ledger l ON l.request_id = r.id AND l.action = r.action
         GROUP BY 1, 2 HAVING count(l.id) <> CASE r.state WHEN 'applied' THEN 1 ELSE 0 END""",
    "one request, two steps": """
        SELECT request_id, count(*) FROM promotion.allocation_steps WHERE request_id IS NOT NULL
         GROUP BY 1 HAVING count(*) > 1""",
    "not one leader": """
        SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND classid = 7203442 AND objid = 1 AND granted
           AND database = (SELECT oid FROM pg_database WHERE datname = current_database()) HAVING count(*) <> 1""",
}
"""Queries that find nothing once everything has settled."""


SAID = {"open": "waits for a decision"}
"""What the card of a request says where it is not the state itself."""


def _posted(scene: Scene) -> list[dict[str, Any]]:
    """Every message of the bot's in both channels, threads included, with its metadata."""
    web = WebClient(token=scene.sandbox.bot_token, base_url=scene.sandbox.api_url)
    found: dict[tuple[str, str], dict[str, Any]] = {}
    for name in (ROLLOUTS, APPROVALS):
        channel = scene.workspace.channel(name)["id"]
        for message in aloud(scene.person("alice"), name):
            with suppress(SlackApiError):
                about = {"channel": channel, "ts": message["ts"], "include_all_metadata": True}
                for one in web.conversations_replies(**about)["messages"]:
                    found[channel, one["ts"]] = one | {"channel": channel}
    return list(found.values())


def _wrong_in_slack(scene: Scene) -> Iterator[str]:
    posted = _posted(scene)
    delivered = Counter(str(((one.get("metadata") or {}).get("event_payload") or {}).get("delivery")) for one in posted)
    yield from (f"{key} stands {times} times" for key, times in delivered.items() if times > 1)
    with db.transaction(scene.engine, only_reads=True) as session:
        for number, state in session.execute(text("SELECT id, state FROM promotion.requests")):
            cards = [one for one in posted if one["text"].startswith(f"#{number} ")]
            if [one["text"].rpartition(": ")[2] for one in cards] != [SAID.get(state, state)]:
                yield f"request {number} is {state}, and its cards say {[one['text'] for one in cards]}"
        places = {(one["channel"], one["ts"]) for one in posted}
        for key, channel, ts in session.execute(text("SELECT key, channel, ts FROM promotion.messages")):
            if (channel, ts) not in places:
                yield f"{key} stands nowhere"
        told = session.scalars(text("SELECT key FROM promotion.effects WHERE kind = 'notice' AND done_at IS NOT NULL"))
        yield from (f"{key} was told nobody" for key in told if not delivered[key])
        for number in session.scalars(text("SELECT id FROM promotion.alerts WHERE state = 'open'")):
            if not delivered[alerts.message_key(number)]:
                yield f"alert {number} was told nobody"


def _wrong_in_mlflow(scene: Scene) -> Iterator[str]:
    with db.transaction(scene.engine, only_reads=True) as session:
        decided = {v: s.value for v, s in stages.decided(session, MODEL).items() if s != Stage.NONE}
    tags, alias = steps.tags(scene.client), steps.alias(scene.client)
    if decided != {version: tag for version, tag in tags.items() if version in decided}:
        yield f"MLflow has the tags {tags}, and not {decided}"
    if [alias] != [version for version, tag in tags.items() if tag == Stage.PRODUCTION]:
        yield f"MLflow has the alias at {alias}, and the tags {tags}"


def wrong(history: History) -> list[str]:
    """What is not as it has to be, a line each."""
    scene = history.scene
    with scene.engine.connect() as connection:
        found = [f"{what}: {tuple(row)}" for what, query in NEVER.items() for row in connection.execute(text(query))]
    with db.transaction(scene.engine, patience_ms=30_000) as session:
        audit.seal(session)
    with db.transaction(scene.engine, patience_ms=30_000) as session:
        found += [fault.sentence for fault in audit.verify(session).faults]
    leaders = [one.name for one in history.crew if one.leads]
    found += [f"{leaders} lead"] if len(leaders) != 1 else []
    return [*found, *_wrong_in_slack(scene), *_wrong_in_mlflow(scene)]


# --- Playing --------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Played:
    """What was wrong at the end, and what had happened."""

    wrong: list[str]
    done: Counter[str]


@contextmanager
def _beginning(server: str, registry: str, folder: Path, seed: int) -> Iterator[History]:
    with ExitStack() as stack:
        scene = stack.enter_context(scene_of(server, registry, folder))
        chance = random.Random(seed)
        chance.choice(BEGINNINGS)(scene.engine)
        crew = tuple(Member(scene, name) for name in ("first", "second", "third"))
        for one in crew:
            stack.callback(one.end)
            one.start()
        people = stack.enter_context(ThreadPoolExecutor(4))
        scene.workspace.waits_until_connected(60)
        yield History(scene, chance, crew, people)


def _goes_on(history: History, moves: int) -> None:
    weights = [often for often, _ in TO_DO.values()]
    for _ in range(moves):
        (name,) = history.chance.choices([*TO_DO], weights)
        TO_DO[name][1](history)
        history.done[name] += 1
        time.sleep(history.chance.uniform(0, PAUSE_S))


def _settled(history: History) -> list[str]:
    """What is still wrong when everything had time: everybody is awake, and three processes run."""
    for one in history.of(there=True, frozen=True):
        one.thaw()
    for one in history.of(there=False):
        one.start()
    end = time.monotonic() + SETTLED_S
    while (found := wrong(history)) and time.monotonic() < end:
        hurry(history.scene.engine)
        time.sleep(0.5)
    return found


def play(server: str, registry: str, folder: Path, seed: int, *, moves: int = MOVES) -> Played:
    """One history from its beginning to its end."""
    folder.mkdir()
    with _beginning(server, registry, folder, seed) as history:
        _goes_on(history, moves)
        found = _settled(history)
        history.done["requests applied"] = _applied(history.scene)
        return Played([*found, *(fault for one in history.crew for fault in one.faults)], history.done)


def _applied(scene: Scene) -> int:
    with scene.engine.connect() as connection:
        query = text("SELECT count(*) FROM promotion.requests WHERE state = 'applied'")
        return int(connection.execute(query).scalar_one())
