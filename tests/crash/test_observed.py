"""What those see who watch over a process: whether it lives and is ready, part by part, and what it counts."""

from __future__ import annotations

import time
from collections.abc import Callable

import pytest
from sqlalchemy import Engine, text

from bot.__main__ import main
from bot.sandbox import Sandbox
from core import db, outbox
from tests.bot.acts import approve, ask
from tests.crash.test_processes import LONG_S
from tests.crash.watched import Begin, Watched
from tests.crash.wires import State, Wire
from tests.workspace import Person, Workspace, waits_until

pytestmark = pytest.mark.timeout(300)
NO_ANSWER = "The database did not answer within 0.6 s."
SLOW_S = 2
"""What a machine that does something else may add to a second."""
AWAY: tuple[tuple[State, set[str]], ...] = (
    ("dead", {NO_ANSWER}),
    ("cut", {NO_ANSWER, "The database does not answer."}),
)


# --- One process, over Socket Mode ----------------------------------------------------------------------------------


Health = Callable[..., tuple[int, str]]


@pytest.fixture
def health(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Health:
    """What `promotion-bot health` says of a process, and how it ends."""

    def asked(one: Watched, *words: str) -> tuple[int, str]:
        monkeypatch.setenv("PROMOTION_BOT_HEALTH", one.address)
        code, said = main(["health", *words]), capsys.readouterr()
        return code, said.out + said.err

    return asked


def test_a_process_says_how_it_is(
    desk: Engine,
    line: Wire,
    begin: Begin,
    sandbox: Sandbox,
    workspace: Workspace,
    alice: Person,
    bob: Person,
    health: Health,
) -> None:
    one = begin("one", {"SLACK_APP_TOKEN": sandbox.app_token})
    one.process.waits_for("ready")
    waits_until(lambda: set(one.parts().values()) == {"ok"}, LONG_S, "everything well")
    assert list(one.parts()) == [
        "process", "threads", "database", "schema", "leader", "effects", "socket", "configuration", "registry",
    ]  # fmt: skip
    assert one.get("/healthz").text == "ok"
    assert health(one) == (0, "ok\n")
    _counts_what_people_do(one, alice, bob)
    _old_effects_are_no_reason_to_go_away(desk, one)
    _without_a_database(one, line, health)
    _without_a_socket(one, workspace)
    one.process.running.terminate()
    assert one.process.ends() == 0
    assert health(one)[0] == 1
    code, said = health(one, "--ready")
    assert (code, "Nobody answers at" in said) == (1, True)


def _counts_what_people_do(one: Watched, alice: Person, bob: Person) -> None:
    approve(bob, ask(alice))
    waits_until(lambda: one.counts().get(("promotion_bot_acks_total", "button", "ok"), 0) >= 1, LONG_S, "the click")
    found = one.counts()
    assert found["promotion_bot_acks_total", "command", "ok"] == 1
    assert found["promotion_bot_ack_seconds_count", "command"] == 1
    assert found["promotion_bot_ack_seconds_bucket", "button", "+Inf"] == 1
    assert found["promotion_bot_posts_total", "request"] == 1
    assert found["promotion_bot_deliveries_total", "card", "done"] >= 2
    assert found["promotion_bot_leads",] == found["promotion_desk_has_leader",] == 1
    assert found["promotion_bot_socket_connected",] == 1
    assert found["promotion_bot_database_up",] == 1
    assert found["promotion_bot_unexpected_errors_total",] == 0
    assert found["promotion_bot_job_runs_total", "seal", "done"] >= 1
    assert found["promotion_bot_job_last_success_timestamp_seconds", "seal"] > time.time() - 3_600
    assert found["process_resident_memory_bytes",] > 1e7
    waits_until(
        lambda: ("promotion_desk_requests_closed_total", "start", "applied") in one.counts(), 10, "the decision"
    )
    found = one.counts()
    assert found["promotion_desk_decision_seconds_bucket", "start", "+Inf", "applied"] == 1
    assert found["promotion_desk_decision_seconds_bucket", "start", "300.0", "applied"] == 1
    assert found["promotion_desk_rollout_posts_today",] <= found["promotion_desk_rollout_posts_budget",]


def _old_effects_are_no_reason_to_go_away(desk: Engine, one: Watched) -> None:
    """An effect that nobody knows is never done."""
    with db.transaction(desk) as session:
        outbox.put(session, kind="of another release", subject="s", key="k")
    with desk.begin() as connection:
        connection.execute(text("UPDATE promotion.effects SET created_at = now() - interval '1 hour' WHERE key = 'k'"))
    waits_until(lambda: one.parts()["effects"] == "degraded", 20, "the effect to be noticed")
    assert one.is_ready()
    assert one.get("/readyz").json()["status"] == "degraded"
    about = ("of another release", "waiting")
    waits_until(
        lambda: ("promotion_desk_effect_oldest_seconds", *about) in one.counts(), 10, "the effect to be counted"
    )
    assert one.counts()["promotion_desk_effect_oldest_seconds", *about] >= 3_600
    assert one.counts()["promotion_desk_effects", *about] == 1
    with desk.begin() as connection:
        connection.execute(text("UPDATE promotion.effects SET done_at = now() WHERE key = 'k'"))


def _without_a_database(one: Watched, line: Wire, health: Health) -> None:
    for state, says in AWAY:
        line.becomes(state)
        time.sleep(1.1)  # what was seen before the fault counts for a second
        began = time.monotonic()
        said = one.get("/readyz")
        assert time.monotonic() - began < 1 + SLOW_S
        assert (said.status_code, said.json()["status"]) == (503, "not ready")
        assert said.json()["parts"]["database"]["says"] in says
        code, again = health(one, "--ready")
        assert (code, '"status":"not ready"' in again) == (1, True)
        assert health(one) == (0, "ok\n"), "a restart does not help"
        waits_until(lambda: one.counts()["promotion_bot_database_up",] == 0, 20, "the metrics to notice")
        found = one.counts()
        assert found["promotion_bot_acks_total", "command", "ok"] == 1
        assert not [name for name, *_ in found if name.startswith("promotion_desk_")]
        assert "Traceback" not in said.text
        line.becomes("whole")
        waits_until(one.is_ready, LONG_S, "the database to be back")
    waits_until(lambda: one.counts()["promotion_bot_database_up",] == 1, 20, "the metrics to notice")
    assert health(one, "--ready")[0] == 0


def _without_a_socket(one: Watched, workspace: Workspace) -> None:
    workspace.fails("apps.connections.open", "server_error", times=2)
    workspace.socket("drop")
    waits_until(lambda: not one.is_ready(), 20, "the missing socket to be noticed")
    waits_until(one.is_ready, LONG_S, "a new socket")
