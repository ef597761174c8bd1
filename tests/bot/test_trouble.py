"""Slack's three seconds are kept whatever hangs, and what goes wrong is told without giving anything away."""

from __future__ import annotations

import logging
import re
import socket
import threading
from collections.abc import Iterator

import pytest
from sqlalchemy import Engine, text

from bot.sandbox import Sandbox
from core.settings import Settings
from tests.bot.acts import answer, ask, redrawn, told
from tests.bot.conftest import APPROVALS, ROLLOUTS, Bot
from tests.core import steps
from tests.core.conftest import EXPERIMENT, MODEL
from tests.workspace import Person, Workspace, text_of, waits_until

SOON_MS = 1_500
"""Half of what Slack allows, on a busy machine."""


@pytest.fixture
def hanging() -> Iterator[str]:
    """The address of a server that takes connections and never says a word."""
    with socket.create_server(("127.0.0.1", 0), backlog=100) as listener:
        held: list[socket.socket] = []

        def hold() -> None:
            while True:
                try:
                    held.append(listener.accept()[0])
                except OSError:
                    return

        thread = threading.Thread(target=hold)
        thread.start()
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
        listener.shutdown(socket.SHUT_RDWR)
        thread.join()
        for connection in held:
            connection.close()


def test_while_the_registry_hangs(
    hanging: str, desk: Engine, configured: Settings, alice: Person, bob: Person, workspace: Workspace
) -> None:
    found = configured.model_copy(update={"mlflow_tracking_uri": hanging, "mlflow_timeout_s": 1})
    bot = Bot(desk, found).start()
    try:
        slow = (f"qualify {MODEL} 3", "candidates", f"policy planner_policy {MODEL} 3", "policy")
        replies = [alice.types(f"/rollout {typed}", channel=ROLLOUTS) for typed in slow * 4]
        replies += [alice.types(f"/rollout {typed}", channel=ROLLOUTS) for typed in ("list", "start", "help")]
        alice.types(f"/rollout start {EXPERIMENT} planner_policy 3", channel=ROLLOUTS)
        card = bob.waits_for("#1 ·", APPROVALS)
        replies.append(bob.clicks(card, "Approve"))
        drawn = redrawn(bob, card, "MLflow tags and alias: recorded, on its way")
        assert ":white_check_mark: Shares in the database" in text_of(drawn)
        assert steps.shares(desk) == steps.shares_of(control="0.9", candidate_v3="0.1")
        assert all(reply.acked for reply in replies)
        assert max(reply.ms for reply in replies) < SOON_MS
        alice.waits_for("The model registry did not answer", ROLLOUTS, timeout=30)
    finally:
        bot.stop()


def test_while_slack_is_slow(bot: Bot, alice: Person, bob: Person, workspace: Workspace, desk: Engine) -> None:
    card = ask(alice)
    workspace.fails("*", "slow", seconds=3, times=40)
    clicks = [bob.clicks(card, "Reject") for _ in range(12)]
    replies = [*clicks, bob.clicks(card, "Approve"), *(alice.types("/rollout policy", ROLLOUTS) for _ in range(3))]
    replies += [alice.types(f"/rollout {typed}", ROLLOUTS) for typed in ("status", "help", f"history {EXPERIMENT}")]
    assert all(reply.acked for reply in replies)
    assert max(reply.ms for reply in replies) < SOON_MS
    assert steps.shares(desk) == steps.shares_of(control="0.9", candidate_v3="0.1")
    workspace.fails_no_more()
    redrawn(bob, card, "Approved")


def test_while_slacks_web_api_is_out(bot: Bot, alice: Person, bob: Person, workspace: Workspace) -> None:
    card = ask(alice)
    workspace.fails("*", "server_error", times=1000)
    replies = [alice.types(f"/rollout {typed}", ROLLOUTS) for typed in ("start", "policy", "status", "help")]
    replies += [bob.clicks(card, "Reject"), bob.clicks(card, "Approve")]
    assert all(reply.acked and reply.ms < SOON_MS for reply in replies)
    alice.waits_for("`control`", ROLLOUTS)  # answers to commands do not go through the Web API


def test_an_unexpected_error_gives_a_reference(
    bot: Bot, alice: Person, desk: Engine, caplog: pytest.LogCaptureFixture
) -> None:
    with desk.begin() as connection:
        connection.execute(text("ALTER TABLE exp.variants RENAME TO away"))
    for typed in ("status", "start", f"history {EXPERIMENT} x", "help"):
        alice.types(f"/rollout {typed}", channel=ROLLOUTS)
    said = [text_of(alice.waits_for("Reference for the log", ROLLOUTS)["blocks"])]
    reference = re.search(r"nothing was changed\. Reference for the log: ([0-9a-f]{12})$", said[0])
    assert reference
    assert f"unexpected error, reference {reference[1]}" in caplog.text
    assert 'relation "exp.variants" does not exist' in caplog.text
    everything = str(alice.sees(ROLLOUTS))
    assert not re.search(r"Traceback|psycopg|SELECT|exp\.variants|\.py", everything)
    with desk.begin() as connection:
        connection.execute(text("ALTER TABLE promotion.alerts RENAME TO away"))
    assert "went wrong" in text_of(alice.home())


def test_the_database_is_busy(bot: Bot, alice: Person, desk: Engine) -> None:
    with desk.begin() as connection:
        connection.execute(text("SELECT * FROM exp.experiments FOR UPDATE"))
        reply = alice.types(f"/rollout pause {EXPERIMENT}", channel=ROLLOUTS)
        assert reply.acked
        assert reply.ms < 2_500
    alice.waits_for("Somebody else is changing this at this moment. Nothing was changed; try again.", ROLLOUTS)
    assert "is paused now" in answer(alice, f"pause {EXPERIMENT}")


def test_secrets_stay_out_of_the_log_and_of_slack(
    sandbox: Sandbox,
    configured: Settings,
    desk: Engine,
    alice: Person,
    bob: Person,
    workspace: Workspace,
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.INFO)
    bot = Bot(desk, configured).start()
    workspace.fails("chat.postMessage", "server_error")
    workspace.fails("chat.postMessage", "drop_before")
    answer(alice, f"start {EXPERIMENT} 3")
    workspace.socket("drop")
    workspace.admin("revoke_token")
    waits_until(lambda: "token_revoked" in caplog.text or "no connection to Slack" in caplog.text, 30, "a complaint")
    bot.stop()
    secrets = (sandbox.bot_token, sandbox.app_token, sandbox.signing_secret)
    seen = caplog.text + str(configured) + str(told(alice))
    assert [secret for secret in secrets if secret in seen] == []
