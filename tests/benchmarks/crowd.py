"""Many people at once while the day's work runs: acknowledgements, memory and connections of a bot of its own process.

python -m tests.benchmarks.crowd --people 50 --experiments 500 --seconds 120
"""

from __future__ import annotations

import argparse
import os
import random
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

import psutil
from sqlalchemy import Engine, text

from bot.sandbox import Channel, Person, Sandbox
from bot.sandbox.sandbox import ACK_WITHIN_S
from core import db
from tests.benchmarks.verdicts import _fill, _world
from tests.bot.conftest import APPROVALS, ROLLOUTS, make_sandbox
from tests.workspace import Workspace

CONFIGURATION = """
[slack]
approvers = ["@p0", "@p1", "@p2"]
[recommendations]
at = "00:00"
"""


@dataclass
class Seen:
    """What was measured."""

    acks_ms: list[float] = field(default_factory=list)
    missed: int = 0
    memory_mb: list[float] = field(default_factory=list)
    connections: list[int] = field(default_factory=list)


@contextmanager
def bot(sandbox: Sandbox, url: str, folder: Path) -> Iterator[psutil.Process]:
    """`promotion-bot run` until the end of the block."""
    (folder / "promotion-bot.toml").write_text(CONFIGURATION)
    environment = os.environ | {
        "SLACK_BOT_TOKEN": sandbox.bot_token,
        "SLACK_APP_TOKEN": sandbox.app_token,
        "SLACK_API_URL": sandbox.api_url,
        "DATABASE_URL": url,
        "PROMOTION_BOT_DATA": str(folder / "data"),
        "PYTHONPATH": str(Path.cwd()),
    }
    with (folder / "log").open("w") as log:
        made = subprocess.Popen(
            [sys.executable, "-m", "bot", "run"], env=environment, cwd=folder, stdout=log, stderr=log
        )
    try:
        yield psutil.Process(made.pid)
    finally:
        made.kill()
        made.wait()


def stops(process: psutil.Process) -> float:
    """Tells the bot to stop in the middle of it all; how long it takes to end."""
    began = time.monotonic()
    process.terminate()
    process.wait(120)
    return time.monotonic() - began


def acts(sandbox: Sandbox, handle: str, names: list[str], until: float, seen: Seen) -> None:
    """One person: types something, or clicks on a card, every second or so."""
    chance = random.Random(handle)
    with Workspace(sandbox) as workspace:
        person = workspace.person(handle)
        while time.monotonic() < until:
            name = chance.choice(names)
            with suppress(AssertionError):
                if chance.random() < 0.3:
                    card = chance.choice([m for m in person.sees(APPROVALS)[-20:] if "#" in str(m)] or [{}])
                    reply = person.clicks(card, chance.choice(["Approve", "Reject", "Why"]), confirm=True)
                else:
                    typed = chance.choice(
                        ["list", "help", f"status {name}", f"history {name}", f"rollback {name} because slow", "alerts"]
                    )
                    reply = person.types(f"/rollout {typed}", channel=ROLLOUTS)
                seen.acks_ms.append(reply.ms)
                seen.missed += not reply.acked or reply.ms > ACK_WITHIN_S * 1_000  # the workspace is busy, too
            time.sleep(chance.uniform(0.5, 1.5))


def watched(engine: Engine, process: psutil.Process, until: float, seen: Seen) -> None:
    """Memory and connections of the bot, once a second."""
    query = text(
        "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'promotion-bot' AND pid <> pg_backend_pid()"
    )
    while time.monotonic() < until:
        seen.memory_mb.append(process.memory_info().rss / 1e6)
        with engine.connect() as connection:
            seen.connections.append(connection.execute(query).scalar_one())
        time.sleep(1)


def main() -> None:
    """Measures and prints."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--people", type=int, default=50)
    parser.add_argument("--experiments", type=int, default=500)
    parser.add_argument("--seconds", type=float, default=120)
    chosen = parser.parse_args()
    steps, days, _ = _world()
    handles = [f"p{n}" for n in range(chosen.people)]
    people = [Person(handle=handle, name=handle, title="") for handle in handles]
    channels = [Channel(name=name, topic="", members=tuple(handles), with_app=True) for name in (ROLLOUTS, APPROVALS)]
    with tempfile.TemporaryDirectory(prefix="promotion-bot-") as there, db.embedded(Path(there)) as url:
        folder, seen = Path(there), Seen()
        _fill(url, chosen.experiments, steps, days)
        engine = db.connect(url)
        with engine.connect() as connection:
            names = list(connection.execute(text("SELECT name FROM exp.experiments")).scalars())
        with make_sandbox(people=people, channels=channels) as sandbox, bot(sandbox, url, folder) as process:
            with Workspace(sandbox) as workspace:
                workspace.waits_until_connected(60)
            until = time.monotonic() + chosen.seconds
            threads = [threading.Thread(target=acts, args=(sandbox, one, names, until, seen)) for one in handles]
            threads.append(threading.Thread(target=watched, args=(engine, process, until, seen)))
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
            stopped_s = stops(process)
            with engine.connect() as connection:
                looked = connection.execute(text("SELECT count(*) FROM promotion.recommendations")).scalar_one()
            said = (folder / "log").read_text()
        ordered = sorted(seen.acks_ms)
        print(f"{len(ordered):,} commands and clicks of {chosen.people} people, {seen.missed} not acknowledged")
        print("acknowledged in ms: " + ", ".join(f"p{p} {ordered[len(ordered) * p // 100]:.0f}" for p in (50, 95, 99)))
        course = [seen.memory_mb[(len(seen.memory_mb) - 1) * quarter // 4] for quarter in range(5)]
        print("memory in MB at first and after each quarter: " + ", ".join(f"{mb:.0f}" for mb in course))
        print(f"memory {max(seen.memory_mb):.0f} MB at most")
        print(f"connections at most {max(seen.connections)}; {looked} experiments recommended meanwhile")
        print(f"told to stop in the middle of it, ended after {stopped_s:.1f} s")
        print(f"deadlocks {said.count('deadlock')}, unexpected errors {said.count('unexpected error')}")
        engine.dispose()


if __name__ == "__main__":
    main()
