"""Cards and notices reach Slack exactly once, whatever Slack, the network and administrators do."""

from __future__ import annotations

from datetime import timedelta

import pytest
from mlflow import MlflowClient
from slack_sdk import WebClient
from sqlalchemy import Engine, text

from bot.posting import EVENT_TYPE
from bot.pulse import Pulse
from core import approvals, db
from core.sections import ExperimentSection
from core.settings import Settings
from tests.bot.acts import aloud, answer, approve, ask, notices, redrawn
from tests.bot.conftest import APPROVALS, ROLLOUTS, Bot, broken, effects, hurry, waiting
from tests.core import steps
from tests.core.conftest import EXPERIMENT
from tests.workspace import Person, Workspace, text_of, waits_until

FAULTS = ("ratelimited", "server_error", "drop_before", "drop_after")


def tried(engine: Engine, kind: str) -> None:
    """Waits until an effect of this kind has failed, and lets its pause be over."""
    waits_until(lambda: any(effect.last_error for effect in effects(engine, kind)), 30, f"a failed {kind}")
    hurry(engine)


@pytest.mark.parametrize("fault", FAULTS)
def test_one_card_and_one_notice_under(
    fault: str, bot: Bot, alice: Person, bob: Person, workspace: Workspace, desk: Engine
) -> None:
    workspace.fails("chat.postMessage", fault)
    answer(alice, f"start {EXPERIMENT} 3")
    tried(desk, "card")
    card = alice.waits_for("#1 ·", APPROVALS)
    workspace.fails("chat.update", fault)
    workspace.fails("chat.postMessage", fault)
    bob.clicks(card, "Approve")
    tried(desk, "notice")
    tried_again = bob.waits_for(f"<@{bob.id}> approved #1", ROLLOUTS)
    hurry(desk)
    redrawn(bob, card, "Approved")
    redrawn(bob, card, ":white_check_mark: MLflow tags and alias")
    assert notices(bob) == [tried_again]
    assert len(aloud(bob, APPROVALS)) == 1


def test_an_app_that_may_not_read_posts_all_the_same(
    bot: Bot, alice: Person, workspace: Workspace, desk: Engine
) -> None:
    workspace.fails("chat.postMessage", "server_error")
    workspace.fails("conversations.history", "error", error="missing_scope", times=9)
    answer(alice, f"start {EXPERIMENT} 3")
    tried(desk, "card")
    alice.waits_for("#1 ·", APPROVALS)


def test_a_card_of_a_former_app_is_posted_anew(
    bot: Bot, alice: Person, bob: Person, workspace: Workspace, desk: Engine
) -> None:
    """It is found by its metadata, and Slack lets nobody but who posted it draw in it."""
    card = ask(alice)
    workspace.fails("chat.update", "error", error="cant_update_message", times=2)
    bob.clicks(card, "Approve")
    waits_until(lambda: not waiting(desk), 30, "all that follows")
    assert ["Approved" in text_of(one) for one in aloud(bob, APPROVALS)] == [False, True]


def test_what_is_told_in_a_cards_thread_waits_for_the_card(
    bot: Bot, alice: Person, workspace: Workspace, desk: Engine
) -> None:
    workspace.fails("chat.postMessage", "ratelimited", seconds=30)
    answer(alice, f"start {EXPERIMENT} 3")
    waits_until(lambda: effects(desk, "card")[0].last_error, 30, "the refusal")
    with db.transaction(desk) as session:
        approvals.remind(session, timedelta(days=2))
    waits_until(lambda: effects(desk, "reminder")[0].last_error, 30, "the card to be waited for")
    hurry(desk)
    card = alice.waits_for("#1 ·", APPROVALS)
    hurry(desk)
    waits_until(lambda: effects(desk, "reminder")[0].done_at, 30, "the reminder")
    assert [said["ts"] for said in alice.sees(APPROVALS) if said.get("thread_ts") == card["ts"] != said["ts"]]


def test_a_notice_is_also_looked_for_where_its_rollouts_card_stood_before(
    bot: Bot, alice: Person, bob: Person, desk: Engine
) -> None:
    """It was told in the thread of yesterday's card, and nobody knows; today's is not posted yet."""
    approve(bob, ask(alice))
    waits_until(lambda: not waiting(desk), 30, "all that follows")
    before = notices(bob)
    assert before[-1]["thread_ts"]
    with desk.begin() as connection:
        connection.execute(text("UPDATE promotion.rollouts SET posted_on = posted_on + 1"))
        connection.execute(text("UPDATE promotion.effects SET done_at = NULL, due_at = now() WHERE kind = 'notice'"))
    waits_until(lambda: not waiting(desk), 30, "the notices once more")
    assert notices(bob) == before


def test_slack_says_when_to_come_back(bot: Bot, alice: Person, workspace: Workspace, desk: Engine) -> None:
    workspace.fails("chat.postMessage", "ratelimited", seconds=30)
    answer(alice, f"start {EXPERIMENT} 3")
    waits_until(lambda: effects(desk, "card")[0].last_error, 30, "the refusal")
    query = "SELECT EXTRACT(epoch FROM due_at - now()) FROM promotion.effects WHERE kind = 'card'"
    with desk.connect() as connection:
        assert 25 < connection.execute(text(query)).scalar_one() <= 30


def test_killed_between_post_and_commit(
    bot: Bot, alice: Person, workspace: Workspace, desk: Engine, web: WebClient
) -> None:
    workspace.fails("chat.postMessage", "drop_after")
    answer(alice, f"start {EXPERIMENT} 3")
    tried(desk, "card")
    bot.stop()
    with desk.begin() as connection:  # nothing of the attempt but its number was committed
        connection.execute(text("DELETE FROM promotion.messages"))
        connection.execute(text("UPDATE promotion.effects SET last_error = NULL, done_at = NULL WHERE kind = 'card'"))
    posted = alice.waits_for("#1 ·", APPROVALS)
    for n in range(210):  # people go on talking meanwhile, over more than one page of history
        web.chat_postMessage(channel=posted["channel"], text=f"talk {n}")
    bot.start()
    waits_until(lambda: effects(desk, "card")[0].done_at, 30, "the card")
    assert len([m for m in aloud(alice, APPROVALS) if "#1 ·" in text_of(m)]) == 1


REFUSES = """
CREATE FUNCTION promotion.refuse() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE 'not now'; END $$;
CREATE CONSTRAINT TRIGGER refuse AFTER UPDATE ON promotion.effects DEFERRABLE INITIALLY DEFERRED
   FOR EACH ROW WHEN (NEW.kind = 'card' AND NEW.done_at IS NOT NULL) EXECUTE FUNCTION promotion.refuse();
"""


def test_what_is_not_committed_is_not_counted_as_done(
    bot: Bot, alice: Person, desk: Engine, configured: Settings
) -> None:
    bot.stop()
    pulse = Pulse()
    counted = Bot(desk, configured, pulse).start()
    try:
        with desk.begin() as connection:
            connection.execute(text(REFUSES))
        answer(alice, f"start {EXPERIMENT} 3")
        tried(desk, "card")
        waits_until(lambda: deliveries(pulse).get("failed"), 30, "the failure to be counted")
        assert "done" not in deliveries(pulse)
        with desk.begin() as connection:
            connection.execute(text("DROP TRIGGER refuse ON promotion.effects"))
        hurry(desk)
        waits_until(lambda: deliveries(pulse).get("done") == 1, 30, "the card")
        assert effects(desk, "card")[0].done_at
    finally:
        counted.stop()


def deliveries(pulse: Pulse) -> dict[str, float]:
    """How many attempts at a card were counted, by outcome."""
    found = (sample for family in pulse.meters.registry.collect() for sample in family.samples)
    name = "promotion_bot_deliveries_total"
    return {one.labels["outcome"]: one.value for one in found if one.name == name and one.labels["kind"] == "card"}


def test_a_card_that_was_posted_without_the_bot_knowing_is_decided_all_the_same(
    bot: Bot, alice: Person, bob: Person, workspace: Workspace, desk: Engine
) -> None:
    workspace.fails("chat.postMessage", "drop_after")
    answer(alice, f"start {EXPERIMENT} 3")
    card = bob.waits_for("#1 ·", APPROVALS)
    approve(bob, card)
    hurry(desk)
    waits_until(lambda: all(effect.done_at for effect in effects(desk, "card")), 30, "the cards")
    assert len(aloud(bob, APPROVALS)) == 1


@pytest.mark.parametrize(
    ("harm", "heal", "error"), [("archive", "unarchive", "is_archived"), ("leave", "join", "not_in_channel")]
)
def test_what_cannot_be_posted_waits_until_it_can(
    harm: str,
    heal: str,
    error: str,
    bot: Bot,
    alice: Person,
    bob: Person,
    workspace: Workspace,
    desk: Engine,
    caplog: pytest.LogCaptureFixture,
) -> None:
    workspace.admin(harm, channel=APPROVALS)
    answer(alice, f"start {EXPERIMENT} 3")
    waits_until(lambda: effects(desk, "card")[0].last_error, 30, "the refusal")
    assert effects(desk, "card")[0].last_error == f"SlackRefuses: {error} in #{APPROVALS}"
    waits_until(lambda: "comes later" in caplog.messages, 30, "the line in the log")
    (late,) = {line.__dict__["why"] for line in caplog.records if line.message == "comes later"}
    assert late == f"SlackRefuses: {error} in #{APPROVALS}"
    workspace.admin(heal, channel=APPROVALS)
    hurry(desk)
    card = bob.waits_for("#1 ·", APPROVALS)

    workspace.admin(harm, channel=APPROVALS)
    steps.approve(desk, 1)
    waits_until(lambda: "applied" in effects(desk, "card")[1].key and effects(desk, "card")[1].attempts, 30, "a try")
    workspace.admin(heal, channel=APPROVALS)
    hurry(desk)
    redrawn(bob, card, "Approved")
    assert len(aloud(bob, APPROVALS)) == 1


def test_channels_that_cannot_be_posted_to_are_said_at_the_start(
    desk: Engine, configured: Settings, workspace: Workspace, caplog: pytest.LogCaptureFixture
) -> None:
    workspace.admin("leave", channel=ROLLOUTS)
    own = {"planner": ExperimentSection(channel="nowhere")}
    Bot(desk, configured.model_copy(update={"experiments": own})).start().stop()
    assert [line.getMessage() for line in caplog.records if "/invite" in line.getMessage()] == [
        "#ml-rollouts: the bot is not in it, so it cannot post; type in it: /invite @Promotion Bot",
        "#nowhere is no channel that the bot sees, so it cannot post; create it and type in it: /invite @Promotion Bot",
    ]


def test_no_such_channel_is_said_in_the_record(
    bot: Bot, alice: Person, desk: Engine, configured: Settings, sandbox: object
) -> None:
    bot.stop()
    slack = configured.slack.model_copy(update={"approvals_channel": "#nowhere"})
    elsewhere = Bot(desk, configured.model_copy(update={"slack": slack})).start()
    try:
        assert "waits in #nowhere" in answer(alice, f"start {EXPERIMENT} 3")
        waits_until(lambda: effects(desk, "card")[0].last_error, 30, "the refusal")
        assert "the bot sees no channel #nowhere: invite it there" in effects(desk, "card")[0].last_error
    finally:
        elsewhere.stop()


def test_a_card_deleted_by_hand_is_posted_anew(
    bot: Bot, alice: Person, bob: Person, web: WebClient, desk: Engine
) -> None:
    card = ask(alice)
    web.chat_delete(channel=card["channel"], ts=card["ts"])
    steps.approve(desk, 1)
    anew = bob.waits_for("Approved", APPROVALS)
    assert aloud(bob, APPROVALS) == [anew]
    assert anew["ts"] != card["ts"]


def test_on_its_way_is_said_while_the_registry_is_out_and_done_when_it_is_back(
    bot: Bot, alice: Person, bob: Person, desk: Engine, mlflow_uri: str, client: MlflowClient
) -> None:
    card = ask(alice)
    with broken(mlflow_uri):
        approve(bob, card)
        drawn = redrawn(bob, card, "MLflow tags and alias: recorded, on its way – no answer yet, it is tried again")
        assert ":white_check_mark: Shares in the database" in text_of(drawn)
        assert steps.shares(desk) == steps.shares_of(control="0.9", candidate_v3="0.1")
        assert "The model registry did not answer" in answer(alice, "candidates")
    hurry(desk)
    redrawn(bob, card, ":white_check_mark: MLflow tags and alias")
    assert steps.tags(client)["3"] == "experiment"
    assert len(aloud(bob, APPROVALS)) == 1


def test_cards_are_found_again_by_what_only_the_app_can_read(bot: Bot, alice: Person, web: WebClient) -> None:
    card = ask(alice)
    history = web.conversations_history(channel=card["channel"], include_all_metadata=True)
    assert [message["metadata"]["event_type"] for message in history["messages"]] == [EVENT_TYPE]


def test_what_follows_a_card_that_somebody_deleted_is_told_in_the_channel(
    bot: Bot, alice: Person, bob: Person, desk: Engine, web: WebClient
) -> None:
    approve(bob, ask(alice))
    waits_until(lambda: waiting(desk) == 0, 30, "the effects of the start")
    with desk.connect() as connection:
        for channel, ts in connection.execute(text("SELECT channel, ts FROM promotion.messages")):
            web.chat_delete(channel=channel, ts=ts)
    answer(alice, f"pause {EXPERIMENT}")
    alice.waits_for(f"<@{alice.id}> paused", ROLLOUTS)
    waits_until(lambda: waiting(desk) == 0, 30, "the notice")


def test_what_is_deleted_before_it_was_told_holds_up_nothing(bot: Bot, alice: Person, desk: Engine) -> None:
    bot.stop()
    steps.change(desk, "start")
    steps.ask(desk, "rollback", reason="slow")
    with db.transaction(desk) as session:
        approvals.remind(session, timedelta(days=2))
    with desk.begin() as connection:
        connection.execute(text("DELETE FROM exp.experiments"))
    bot.start()
    alice.waits_for("approved", ROLLOUTS)
    waits_until(lambda: waiting(desk) == 0, 30, "all effects")
