"""Live traffic in tests: what plays it, and how to see what it did."""

import json
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime
from typing import Any

from sqlalchemy import Engine, text

from bot.demo import models, planner, world
from bot.demo.rows import demo_id
from bot.demo.traffic import Traffic

EXPERIMENT_ID = demo_id("experiment", world.EXPERIMENT)
CONTROL_ID = demo_id("variant", world.EXPERIMENT, "control")
V3 = demo_id("policy version", 3)


class Local:
    """The planner's own code, without a registry."""

    def __init__(self, model: str, number: str) -> None:
        versions = next(each.versions for each in models.REGISTERED if each.name == model)
        self._behaviour = next(v.behaviour for v in versions if v.number == number)

    def predict(self, requests: list[dict[str, Any]]) -> list[planner.Plan]:
        return [planner.plan(self._behaviour, planner.Request(**request)) for request in requests]


def load_locally(uri: str) -> Local:
    return Local(*uri.removeprefix("models:/").split("/"))


@contextmanager
def playing(
    engine: Engine, load: Callable[[str], Any] = load_locally, rate: float = 150.0, **options: Any
) -> Iterator[Traffic]:
    traffic = Traffic(engine, load, seed=3, rate=rate, **options)
    traffic.start()
    try:
        yield traffic
    finally:
        traffic.stop(patience_s=30)


def rows(engine: Engine, query: str, **values: Any) -> list[Any]:
    with engine.begin() as connection:
        return list(connection.execute(text(query), values).all())


def plans(engine: Engine, since: datetime) -> list[Any]:
    return rows(
        engine,
        "SELECT unit_id, experiments -> 0 ->> 'variant_id' AS variant_id, timestamp FROM exp.events "
        "WHERE event_type = 'plan_generated' AND timestamp >= :since",
        since=since,
    )


def until(condition: Callable[[], bool], seconds: float = 15.0) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "did not happen in time"
        time.sleep(0.05)


def join(engine: Engine, share: str, config: dict[str, Any]) -> uuid.UUID:
    """Lets a variant join with `share`; control keeps the rest."""
    joined = uuid.uuid4()
    with engine.begin() as connection:
        connection.execute(
            text("UPDATE exp.variants SET allocation = 1 - CAST(:share AS numeric) WHERE id = :control"),
            {"share": share, "control": CONTROL_ID},
        )
        connection.execute(
            text(
                "INSERT INTO exp.variants (id, experiment_id, name, allocation, config) "
                "VALUES (:id, :experiment, 'joined', :share, CAST(:config AS jsonb))"
            ),
            {"id": joined, "experiment": EXPERIMENT_ID, "share": share, "config": json.dumps(config)},
        )
    return joined
