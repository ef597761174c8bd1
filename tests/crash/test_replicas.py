"""Two processes behind a load balancer, over signed HTTP: whichever gets it does it, once; one may go."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

import httpx
import pytest
from sqlalchemy import Engine, text

from bot.http import DRAIN_S
from bot.manifest import manifest
from bot.sandbox import Sandbox
from bot.stopping import STOP_S
from tests.bot.acts import aloud, answer, approve, redrawn
from tests.bot.conftest import APPROVALS, ROLLOUTS, make_sandbox, waiting
from tests.bot.test_http import command, free_port
from tests.core import steps
from tests.core.conftest import EXPERIMENT
from tests.crash.balancer import Balancer, balancing
from tests.crash.test_processes import LONG_S, READY
from tests.crash.test_stopping import LATE_S
from tests.crash.watched import Begin, Watched
from tests.workspace import Person, Reply, waits_until

pytestmark = pytest.mark.timeout(300)


@pytest.fixture
def port() -> int:
    """The load balancer's."""
    return free_port()


@pytest.fixture
def sandbox(port: int) -> Iterator[Sandbox]:
    url = f"http://127.0.0.1:{port}/slack/events"
    with make_sandbox(manifest=manifest(request_url=url), http_request_url=url, retry_after=(0.0, 0.1)) as made:
        yield made


@pytest.fixture
def servers() -> list[int]:
    """The ports of the processes."""
    return [free_port(), free_port()]


@pytest.fixture
def replicas(begin: Begin, sandbox: Sandbox, servers: list[int]) -> list[Watched]:
    """The processes, both ready."""
    secret = {"SLACK_SIGNING_SECRET": sandbox.signing_secret}
    made = [begin(f"replica-{each}", secret, "--port", str(each)) for each in servers]
    for one in made:
        one.process.waits_for("ready")
    return made


@pytest.fixture
def balancer(replicas: list[Watched], servers: list[int], port: int) -> Iterator[Balancer]:
    with balancing(port, [f"http://127.0.0.1:{each}" for each in servers]) as made:
        yield made


def acks(replicas: list[Watched], kind: str) -> list[float]:
    """How many of a kind each has acknowledged in time."""
    return [one.counts().get(("promotion_bot_acks_total", kind, "ok"), 0) for one in replicas]


def leaders(replicas: list[Watched]) -> list[float]:
    """Whether each leads, lowest first."""
    return sorted(one.counts()["promotion_bot_leads",] for one in replicas)


@contextmanager
def somebody_changes_it(engine: Engine) -> Iterator[None]:
    """Whoever wants to change the experiment waits meanwhile."""
    with engine.begin() as connection:
        connection.execute(text("SELECT FROM exp.experiments FOR UPDATE"))
        yield


def waits_for_somebody(engine: Engine) -> bool:
    """Whether a session waits for the lock of another."""
    query = "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND datname = current_database()"
    with engine.connect() as connection:
        return bool(connection.execute(text(query)).scalar_one())


def test_two_behind_a_load_balancer(
    desk: Engine, replicas: list[Watched], balancer: Balancer, alice: Person, bob: Person
) -> None:
    assert all(one.is_ready() for one in replicas)
    assert all("socket" not in one.parts() for one in replicas)
    waits_until(lambda: leaders(replicas) == [0, 1], LONG_S, "one leader")

    # What the one opened goes on at the other: a form, a card.
    assert alice.types("/rollout start", channel=ROLLOUTS).acked
    form = alice.modal()
    assert alice.submits(form, {"share": "5"}).response == "closed"
    assert balancer.went[0][0] != balancer.went[1][0]
    card = alice.waits_for("#1 ·", APPROVALS)
    approve(bob, card)
    assert steps.shares(desk) == steps.shares_of(control="0.95", candidate_v3="0.05")

    _an_event_whose_answer_was_lost(balancer, alice)
    _what_comes_twice_is_done_once(desk, balancer, alice, bob)
    assert all(acks(replicas, "command"))
    assert all(acks(replicas, "button"))
    _one_that_is_told_to_stop_finishes_what_it_holds(desk, replicas, balancer, alice, bob)


def _an_event_whose_answer_was_lost(balancer: Balancer, alice: Person) -> None:
    """Slack tries again, and the other process draws the same."""
    before, balancer.loses = len(balancer.went), 1
    assert "Waiting for you" in str(alice.home())
    waits_until(lambda: len(balancer.went) == before + 2, LONG_S, "Slack's second attempt")
    (first, at_first), (second, again) = balancer.went[before:]
    assert (at_first, again) == ("", "1")
    assert first != second


def _what_comes_twice_is_done_once(desk: Engine, balancer: Balancer, alice: Person, bob: Person) -> None:
    """A load balancer may send the same request to both."""
    done = steps.deeds(desk)
    balancer.doubles = True
    assert alice.types(f"/rollout rollback {EXPERIMENT} because it comes twice", channel=ROLLOUTS).acked
    card = alice.waits_for("#2 ·", APPROVALS)
    bob.clicks(card, "Confirm rollback", confirm=True)
    redrawn(bob, card, "Confirmed")
    balancer.doubles = False
    waits_until(lambda: not waiting(desk), LONG_S, "everything that is to be told")
    assert steps.deeds(desk)[len(done) :] == ["request", "approve", "rollback"]
    assert len(aloud(bob, APPROVALS)) == 2


def _one_that_is_told_to_stop_finishes_what_it_holds(
    desk: Engine, replicas: list[Watched], balancer: Balancer, alice: Person, bob: Person
) -> None:
    said: list[Reply] = []
    typed = f"/rollout pause {EXPERIMENT}"
    clicking = threading.Thread(target=lambda: said.append(alice.types(typed, channel=ROLLOUTS)))
    with somebody_changes_it(desk):
        clicking.start()
        waits_until(lambda: waits_for_somebody(desk), LONG_S, "the command to wait")
        holder, other = replicas if balancer.went[-1][0].endswith(replicas[0].words[-1]) else replicas[::-1]
        holder.process.running.terminate()
    clicking.join()
    assert said[0].acked
    assert holder.process.ends() == 0
    waits_until(lambda: leaders([other]) == [1], LONG_S, "the other to lead")
    for _ in range(2):
        assert "control" in answer(bob, f"status {EXPERIMENT}")
    assert other.is_ready()


def test_what_a_balancer_still_sends_after_sigterm_is_answered(
    begin: Begin, sandbox: Sandbox, alice: Person, port: int
) -> None:
    one = begin("one", {"SLACK_SIGNING_SECRET": sandbox.signing_secret}, "--port", str(port))
    one.process.waits_for(READY)
    where = f"http://127.0.0.1:{port}"
    one.process.running.terminate()
    told = time.monotonic()
    waits_until(lambda: one.parts()["process"] == "failing", LONG_S, "it to say that it ends")
    assert httpx.get(f"{where}/readyz").status_code == 503
    while time.monotonic() - told < DRAIN_S - 0.5:
        sent = command(sandbox.signing_secret, sandbox, alice.id, "alerts")
        answered = httpx.post(f"{where}/slack/events", **sent)
        assert (answered.status_code, answered.headers["connection"]) == (200, "close")
        assert "No alert is open" in answered.text
    assert one.process.ends() == 0
    assert time.monotonic() - told < STOP_S + LATE_S
    assert "not everything ended in time" not in one.process.said()
