"""How long `promotion-bot run` takes until it is ready, and what memory it holds at rest.

    python -m tests.benchmarks.start [--starts 9] [--rest 60]

PostgreSQL and MLflow's server run already, the schema is in place, and everything is compiled as pip does it. A bare
Python that imports slack_bolt takes turns with the bot, so that times can be compared between machines.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import psutil

from bot.sandbox import Sandbox
from tests.bot.conftest import make_sandbox
from tests.conftest import a_server, fresh_database
from tests.core.conftest import make_mlflow_store
from tests.crash.scenes import registry_server

BARE = (sys.executable, "-c", "import slack_bolt; print('ready', flush=True); import time; time.sleep(1)")
RUN = (sys.executable, "-m", "bot", "run")


@contextmanager
def surroundings() -> Iterator[tuple[dict[str, str], Path]]:
    """What an installation has before the bot starts: its environment, and the folder it is started in."""
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="promotion-bot-")))
        url = stack.enter_context(fresh_database(stack.enter_context(a_server())))
        sandbox: Sandbox = stack.enter_context(make_sandbox())
        store = f"sqlite:///{make_mlflow_store(folder)}"
        mlflow = stack.enter_context(registry_server(folder, store))
        yield (
            {
                "SLACK_BOT_TOKEN": sandbox.bot_token,
                "SLACK_APP_TOKEN": sandbox.app_token,
                "SLACK_API_URL": sandbox.api_url,
                "DATABASE_URL": url,
                "MLFLOW_TRACKING_URI": mlflow,
                "PROMOTION_BOT_DATA": str(folder / "data"),
                "PYTHONPATH": str(Path.cwd()),
                "PYTHONPYCACHEPREFIX": str(folder / "compiled"),
                "PYTHONDONTWRITEBYTECODE": "",
            },
            folder,
        )


@contextmanager
def started(command: tuple[str, ...], environment: dict[str, str], folder: Path) -> Iterator[tuple[int, float, float]]:
    """The process id, and how many milliseconds it took until it said that it is ready, in all and of the processor."""
    began = time.perf_counter()
    process = subprocess.Popen(
        command, env=os.environ | environment, cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    )
    try:
        assert process.stdout is not None
        said = process.stdout.readline()
        assert said == "ready\n", said
        took = time.perf_counter() - began
        worked = psutil.Process(process.pid).cpu_times()
        yield process.pid, took * 1000, (worked.user + worked.system) * 1000
    finally:
        process.terminate()
        process.communicate()


def main() -> None:
    """Measures and prints."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--starts", type=int, default=9)
    parser.add_argument("--rest", type=float, default=60, help="seconds")
    chosen = parser.parse_args()
    bare: list[float] = []
    bot: list[float] = []
    work: list[float] = []
    with surroundings() as (environment, folder):
        for number in range(chosen.starts + 1):
            for command, times in ((BARE, bare), (RUN, bot)):
                with started(command, environment, folder) as (_, ms, worked_ms):
                    times += [ms] if number else []  # the first one compiles
                    work += [worked_ms] if number and command is RUN else []
        with started(RUN, environment, folder) as (pid, _, _):
            time.sleep(chosen.rest)
            memory = psutil.Process(pid).memory_full_info()
            threads = psutil.Process(pid).num_threads()
    middle, least = statistics.median(bot), statistics.median(bare)
    print(f"ready after {middle:.0f} ms in the median of {len(bot)} starts ({min(bot):.0f} … {max(bot):.0f})")
    print(f"of which the processor works {statistics.median(work):.0f} ms")
    print(f"a bare Python with slack_bolt takes {least:.0f} ms: {middle / least:.1f} times")
    print(
        f"at rest for {chosen.rest:.0f} s: {memory.rss / 1e6:.0f} MB resident, "
        f"{memory.pss / 1e6:.0f} MB its share, {threads} threads"
    )


if __name__ == "__main__":
    main()
