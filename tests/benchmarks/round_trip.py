"""How long a slash command takes, against an empty Bolt app on the same machine in the same run.

    python -m tests.benchmarks.round_trip [COUNT]

Prints, for each command, milliseconds from typing to the acknowledgement as the workspace measures it, and for
commands that answer after it also until the answer is there. The two apps take turns, so noise hits both.
"""

from __future__ import annotations

import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime
from pathlib import Path

from slack_bolt import App
from slack_sdk import WebClient

from bot import running
from bot.demo import models, world
from bot.demo.show import CHANNELS, PEOPLE, SLACK
from bot.manifest import manifest
from bot.sandbox import Sandbox
from core import db, settings
from tests.workspace import Workspace, text_of

CHANNEL = "ml-rollouts"


def _sandbox(stack: ExitStack) -> Sandbox:
    return stack.enter_context(Sandbox(manifest(), PEOPLE, CHANNELS, rate_limited=False))


@contextmanager
def _bot(sandbox: Sandbox, folder: Path) -> Iterator[None]:
    with db.embedded(folder) as url:
        engine = db.connect(url)
        db.migrate(engine)
        models.set_up(folder)
        world.seed(engine, seed=7, now=datetime.now(UTC))
        found = settings.load(
            slack_bot_token=sandbox.bot_token,
            slack_app_token=sandbox.app_token,
            slack_api_url=sandbox.api_url,
            mlflow_tracking_uri=models.tracking_uri(folder),
            promotion_bot_data=folder,
            slack=SLACK,
        )
        with running.running(engine, found) as made, running.listening(made, sandbox.app_token):
            yield
        engine.dispose()


@contextmanager
def _empty(sandbox: Sandbox) -> Iterator[None]:
    app = App(client=WebClient(token=sandbox.bot_token, base_url=sandbox.api_url), signing_secret="unused")
    app.command("/rollout")(lambda ack: ack("ok"))
    with running.listening(app, sandbox.app_token):
        yield


def _acknowledged(workspace: Workspace, text: str) -> Callable[[], float]:
    alice = workspace.person("alice")
    return lambda: alice.types(text, channel=CHANNEL).ms


def _answered(workspace: Workspace, text: str) -> Callable[[], float]:
    """Milliseconds until the answer can be read, looked for every millisecond."""
    alice = workspace.person("alice")

    def once() -> float:
        before = len(alice.sees(CHANNEL))
        began = time.perf_counter()
        alice.types(text, channel=CHANNEL)
        while len(alice.sees(CHANNEL)) == before:
            time.sleep(0.001)
        took = (time.perf_counter() - began) * 1000
        assert "went wrong" not in text_of(alice.sees(CHANNEL)[-1])
        return took

    return once


def _row(name: str, times: list[float], base: float) -> str:
    ordered = sorted(times)
    middle, p99 = statistics.median(ordered), ordered[min(len(ordered) - 1, int(len(ordered) * 0.99))]
    return f"{name:34} {middle:8.1f} {p99:8.1f} {middle / base:8.2f}"


def main(count: int) -> None:
    """Measures and prints."""
    with ExitStack() as stack:
        ours, theirs = _sandbox(stack), _sandbox(stack)
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="promotion-bot-")))
        stack.enter_context(_bot(ours, folder))
        stack.enter_context(_empty(theirs))
        mine, empty = Workspace(ours), Workspace(theirs)
        subjects = {
            "empty app, acknowledged": _acknowledged(empty, "/rollout x"),
            "help, answered with the ack": _acknowledged(mine, "/rollout help"),
            "list, answered with the ack": _acknowledged(mine, "/rollout list"),
            "history, answered with the ack": _acknowledged(mine, f"/rollout history {world.EXPERIMENT}"),
        }
        times: dict[str, list[float]] = {name: [] for name in subjects}
        for measure in subjects.values():
            measure()
        for _ in range(count):
            for name, measure in subjects.items():
                times[name].append(measure())
            time.sleep(0.05)
        base = statistics.median(times["empty app, acknowledged"])
        print(f"{'ms, ' + str(count) + ' each':34} {'median':>8} {'p99':>8} {'ratio':>8}")
        for name, found in times.items():
            print(_row(name, found, base))
        status = _answered(mine, f"/rollout status {world.EXPERIMENT}")
        print(_row("status, answer can be read", [status() for _ in range(max(1, count // 10))], base))


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 200)
