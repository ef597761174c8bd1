"""What `/rollout simulate` makes happen is found by the bot's own jobs, on the real database."""

import threading
from collections.abc import Iterator
from contextlib import ExitStack
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from slack_sdk import WebClient
from sqlalchemy import Engine, select, text

from bot import commands, running, schedule, verbs, words
from bot.blocks import Answer
from bot.channels import Channels
from bot.demo import breakfast, clock, simulate, world
from bot.demo.assignment import unit_name
from bot.demo.simulate import Simulation
from bot.demo.traffic import Traffic
from bot.desk import Desk
from bot.people import People
from bot.sandbox import Sandbox
from core import db, experiments, recommendations, registry
from core.errors import Refused
from core.recommendations import Standing
from core.rules.approval import Actor
from core.settings import Settings
from core.tables import LedgerEntry, Recommendation
from tests.bot.acts import answer
from tests.bot.conftest import ROLLOUTS, alice, configure, sandbox, web, workspace  # noqa: F401 - fixtures
from tests.demo.live import load_locally, rows, until
from tests.workspace import Person

ENOUGH = 400
PLANS_A_DAY = 100
SIMULATED_A_DAY = 400
TOUCHED = "SELECT updated_at FROM exp.experiments WHERE id = :id"
HALF = "UPDATE exp.variants SET allocation = 0.5 WHERE experiment_id = :id"
NUMBERED = """
INSERT INTO exp.assignments (experiment_id, unit_type, unit_id, variant_id, assigned_at)
SELECT experiment_id, unit_type, :unit, variant_id, assigned_at
  FROM exp.assignments WHERE experiment_id = :id ORDER BY assigned_at, id LIMIT 1"""
ALICE = Actor("U1")
# typed -> why not
REFUSED = {
    "": "Which of the three",
    "rain": "I can simulate regression, recovery, days, not `rain`",
    "days": "How many days",
    "days 0": "I can let 1 to 30 whole days pass, not `0`",
    "days 31": "not `31`",
    "days two": "not `two`",
    "days 1 2": "I do not know what to do with `2`",
    "regression nowhere": "There is no experiment nowhere",
    f"regression {world.EXPERIMENT}": "No candidate is running",
    "recovery": "nothing to recover from",
}


@pytest.fixture
def lived(engine: Engine) -> Engine:
    """The seeded world; too few plans so far to say much about the candidate.

    Its units are numbered on from the same number at any time of day: what variant one gets depends on its number, and
    among those that follow on this one the split is never far from the shares.
    """
    world.seed(engine, seed=5, now=datetime.now(UTC), plans_a_day=PLANS_A_DAY)
    last = unit_name(breakfast.UNIT_TYPE, 2_000_000)
    with engine.begin() as connection:
        connection.execute(text(NUMBERED), {"id": breakfast.EXPERIMENT_ID, "unit": last})
    return engine


@pytest.fixture
def traffic(lived: Engine) -> Iterator[Traffic]:
    made = Traffic(lived, load_locally, seed=3, rate=1.0, parts={breakfast.EXPERIMENT_ID: 1.0})
    made.start()
    yield made
    made.stop()
    until(lambda: not any(thread.name == "demo-traffic" for thread in threading.enumerate()))


@pytest.fixture
def simulation(traffic: Traffic) -> Simulation:
    parts = {breakfast.EXPERIMENT_ID: breakfast.PART_OF_PLANS}
    return Simulation(traffic, seed=3, plans_a_day=SIMULATED_A_DAY, parts=parts)


@pytest.fixture
def configured(sandbox: Sandbox, tmp_path: Path) -> Settings:  # noqa: F811
    return configure(sandbox, mlflow_tracking_uri=f"sqlite:///{tmp_path / 'mlflow.db'}", promotion_bot_data=tmp_path)


@pytest.fixture
def table(lived: Engine, configured: Settings, web: WebClient) -> Desk:  # noqa: F811
    """The desk that verbs and jobs work at, without a bot around it; all that happened so far has been looked at."""
    made = Desk(lived, registry.at(configured.tracking_uri), People(web, configured), Channels(web), configured)
    schedule.run_now(made, *simulate.LOOKS)
    return made


def does(simulation: Simulation, table: Desk, typed: str) -> Answer:
    verb, rest = words.parse(f"simulate {typed}")
    return verbs.run(verb, table, rest, ALICE, simulate.verbs(simulation))


def stands(engine: Engine) -> Standing:
    """How the breakfast experiment's candidate stands at this moment."""
    with db.transaction(engine, patience_ms=60_000) as session:
        [[found]] = recommendations.recommend(session, [breakfast.EXPERIMENT_ID], Settings().terms).values()
        return found


def daily_looks(engine: Engine) -> list[tuple[datetime, str]]:
    with db.transaction(engine) as session:
        query = select(Recommendation).where(Recommendation.is_daily).order_by(Recommendation.id)
        return [(found.made_at, found.action) for found in session.scalars(query)]


def test_a_regression_is_found_at_once_and_recovery_ends_it(
    lived: Engine, table: Desk, simulation: Simulation, traffic: Traffic
) -> None:
    assert stands(lived).decision.action == "wait"
    said = does(simulation, table, "regression").text
    assert "`candidate_v2` in `breakfast_policy_exp` is worse from now on" in said
    found = stands(lived)
    assert found.decision.action == found.decision.calibrated == "rollback"
    assert not found.decision.concerns
    worse = {f.metric.name for f in found.decision.findings if f.state == "worse"}
    assert "acceptance_rate" in worse
    assert found.candidate.sample_size > ENOUGH
    [variant] = traffic.worse
    assert variant == found.variant.id
    assert "`candidate_v2`: the live traffic is again as good as the model" in does(simulation, table, "recovery").text
    assert not traffic.worse
    with pytest.raises(Refused, match="nothing to recover from"):
        does(simulation, table, "recovery")


def test_the_burst_lies_in_the_present_step(lived: Engine, table: Desk, simulation: Simulation) -> None:
    with lived.begin() as connection:
        connection.execute(text(HALF), {"id": breakfast.EXPERIMENT_ID})
    schedule.run_now(table, "measure")
    assert "came in over the last 10 min" in does(simulation, table, "regression breakfast_policy_exp").text
    found = stands(lived)
    assert found.candidate.sample_size > ENOUGH
    assert found.decision.action == "rollback"


def test_each_day_that_passes_is_looked_at(lived: Engine, table: Desk, simulation: Simulation) -> None:
    began, before = clock.now(lived), daily_looks(lived)
    said = does(simulation, table, "days 2").text
    now = clock.now(lived)
    assert timedelta(days=2) <= now - began < timedelta(days=2, minutes=2)
    looks = daily_looks(lived)[len(before) :]
    assert {made.date() for made, _ in looks} == {began.date() + timedelta(days=n) for n in (1, 2)}
    assert "hold" not in {action for _, action in looks}
    assert "2 days have passed" in said
    assert "2 daily looks" in said
    a_day = rows(
        lived,
        "SELECT count(*) FROM exp.events WHERE event_type = 'plan_generated' AND timestamp > :since "
        "AND experiments @> CAST(:here AS jsonb)",
        since=began,
        here=f'[{{"experiment_id": "{breakfast.EXPERIMENT_ID}"}}]',
    )[0][0]
    assert 0.75 < a_day / (2 * SIMULATED_A_DAY * breakfast.PART_OF_PLANS) < 1.3
    assert not rows(lived, "SELECT 1 FROM exp.events WHERE timestamp > now() OR created_at > now()")
    assert not rows(lived, "SELECT unit_id FROM exp.events EXCEPT SELECT unit_id FROM exp.assignments")
    with db.transaction(lived) as session:
        experiments.set_status(session, experiment=breakfast.EXPERIMENT, status="paused", actor="U1", reason="r")
    with db.transaction(lived) as session:
        assert session.scalars(select(LedgerEntry.at).where(LedgerEntry.actor == "U1")).one() >= now
        assert session.scalar(text(TOUCHED), {"id": breakfast.EXPERIMENT_ID}) >= now
    with pytest.raises(Refused, match="breakfast_policy_exp is paused: nobody is served"):
        does(simulation, table, "regression breakfast_policy_exp")


def test_a_week_after_a_burst_nothing_seems_to_be_missing(
    lived: Engine, table: Desk, simulation: Simulation, traffic: Traffic
) -> None:
    does(simulation, table, "regression")
    traffic.stop()
    does(simulation, table, "days 7")
    found = stands(lived)
    assert not found.decision.concerns
    assert found.decision.action == "rollback"


def test_what_cannot_be_simulated_is_refused(table: Desk, simulation: Simulation) -> None:
    for typed, why in REFUSED.items():
        with pytest.raises(Refused, match=why):
            does(simulation, table, typed)


def test_two_at_once_do_not_mix(
    table: Desk, simulation: Simulation, traffic: Traffic, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("bot.demo.traffic._LONGEST_WAIT_S", 0.2)
    with traffic.paused(), pytest.raises(Refused, match="Something else is being simulated"):
        does(simulation, table, "days 1")


def test_the_demo_has_the_verb_and_others_have_not(
    lived: Engine,
    configured: Settings,
    simulation: Simulation,
    alice: Person,  # noqa: F811
) -> None:
    assert "simulate" not in commands.VERBS
    token = configured.slack_app_token
    assert token is not None
    with ExitStack() as stack:
        made = stack.enter_context(running.running(lived, configured, verbs=simulate.verbs(simulation)))
        stack.enter_context(running.listening(made, token.get_secret_value()))
        everything = answer(alice, "help")
        assert all(f"`/rollout {verb}" in everything for verb in (*commands.VERBS, "simulate"))
        assert "*Here alone*\n`/rollout simulate" in everything
        assert "`/rollout simulate regression [EXPERIMENT]" in answer(alice, "help simulate")
        for typed, said in {"recovery": "nothing to recover from", "rain": "not “rain”", "days 0": "not “0”"}.items():
            assert said in answer(alice, f"simulate {typed}")
        assert "Working on it" in answer(alice, "simulate days 1")
        alice.waits_for("A day has passed", ROLLOUTS)
        assert "is worse from now on" in answer(alice, "simulate regression")
    with pytest.raises(Refused, match="I do not know the verb `simulate`"):
        verbs.known("simulate", commands.VERBS)
