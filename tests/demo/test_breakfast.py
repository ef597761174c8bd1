"""The rollout in progress: the bot says at once what to do with it, and why."""

from datetime import UTC, datetime
from functools import partial

import pytest
from sqlalchemy import Engine

from bot.demo import breakfast, world
from bot.demo.rows import demo_id
from core import db, evidence, recommendations, rollup, steps
from core.rules.decision import Terms
from core.tables import Experiment
from core.variants import find_variant

TERMS = Terms()


@pytest.fixture
def measured(engine: Engine) -> Engine:
    """The whole world up to the present moment, with its events taken and its units counted."""
    world.seed(engine, seed=7, now=datetime.now(UTC))
    is_done = False
    while not is_done:
        with db.transaction(engine, patience_ms=60_000) as session:
            is_done = rollup.advance(session).is_done
    steps.count_assigned(partial(db.transaction, engine, patience_ms=60_000))
    return engine


def test_the_candidate_does_well_and_has_a_day_to_go(measured: Engine) -> None:
    with db.transaction(measured, patience_ms=60_000) as session:
        [[made]] = recommendations.recommend(session, [breakfast.EXPERIMENT_ID], TERMS).values()
        found = made.decision
        assert found.action == found.calibrated == "wait"
        assert found.why == "4.0 of the 5 days needed at this share have passed."
        assert {f.state for f in found.findings} <= {"fine", "inconclusive"}
        latency = next(f.overall for f in found.findings if f.metric.name == "p50_latency")
        assert latency.ratio == pytest.approx(0.76, abs=0.05)
        assert not found.concerns
        place = session.get_one(Experiment, breakfast.EXPERIMENT_ID)
        candidate = find_variant(session, place, breakfast.CANDIDATE)
        rows = evidence.checklist(session, place, candidate, TERMS)
        assert rows[0].passed, rows[0]
        [found] = recommendations.recommend(session, [demo_id("experiment", world.EXPERIMENT)], TERMS).values()
        assert not found
