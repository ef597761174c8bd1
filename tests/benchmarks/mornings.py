"""A morning with many rollouts: how long until all are looked at, the digest stands, and every card does.

    python -m tests.benchmarks.mornings --experiments 500

The workspace refuses what Slack would refuse: more than one message a second in a channel, more than 50 edits a minute.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from pathlib import Path
from typing import Any

from slack_sdk import WebClient
from sqlalchemy import Engine, text

from bot import schedule
from bot.channels import Channels
from bot.deliver import Deliverer
from bot.desk import Desk
from bot.people import People
from core import db, registry, settings
from tests.benchmarks.verdicts import _fill, _world
from tests.bot.conftest import make_sandbox

POLL_S = 0.5


def _count(engine: Engine, query: str) -> int:
    with engine.connect() as connection:
        return int(connection.execute(text(query)).scalar_one())


def morning(desk: Desk, client: WebClient, patience_s: float) -> None:
    """Runs the jobs, then delivers until everything is told or patience is over; prints when what was done."""
    began = time.perf_counter()
    schedule.run_now(desk, "watch", "recommend")
    print(f"looked at, recommended  {time.perf_counter() - began:6.1f} s")
    deliverer = Deliverer(desk, client)
    deliverer.start()
    said = False
    while time.perf_counter() - began < patience_s:
        time.sleep(POLL_S)
        if not said and _count(desk.engine, "SELECT count(*) FROM promotion.messages WHERE key LIKE 'digest:%'"):
            said = True
            print(f"digest posted           {time.perf_counter() - began:6.1f} s")
        if not _count(desk.engine, "SELECT count(*) FROM promotion.effects WHERE done_at IS NULL"):
            break
    waiting = _count(desk.engine, "SELECT count(*) FROM promotion.effects WHERE done_at IS NULL")
    tries = _count(
        desk.engine, "SELECT coalesce(sum(attempts - 1), 0) FROM promotion.effects WHERE done_at IS NOT NULL"
    )
    print(f"everything told         {time.perf_counter() - began:6.1f} s, {waiting} waiting, {tries} tried again")
    deliverer.stop()


def main() -> None:
    """Measures and prints."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--experiments", type=int, default=500)
    parser.add_argument("--patience", type=float, default=1200.0, help="seconds")
    chosen = parser.parse_args()
    steps, days, _ = _world()
    with tempfile.TemporaryDirectory(prefix="promotion-bot-") as folder, db.embedded(Path(folder)) as url:
        _fill(url, chosen.experiments, steps, days)
        sandbox = make_sandbox(rate_limited=True)
        sandbox.start()
        try:
            more: dict[str, Any] = {"slack_bot_token": sandbox.bot_token, "slack_api_url": sandbox.api_url}
            found = settings.load(promotion_bot_data=Path(folder), **more)
            client = WebClient(token=sandbox.bot_token, base_url=sandbox.api_url, retry_handlers=[])
            engine, channels = db.connect(url), Channels(client)
            channels.read()
            desk = Desk(engine, registry.at(found.tracking_uri), People(client, found), channels, found)
            morning(desk, client, chosen.patience)
            engine.dispose()
        finally:
            sandbox.stop()


if __name__ == "__main__":
    main()
