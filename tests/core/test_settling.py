"""What others changed: noticed, told once, adopted or put back; a real database and a real MLflow store."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from mlflow import MlflowClient
from sqlalchemy import Engine, select, text
from sqlalchemy.orm import Session

from core import db, discrepancies, experiments, freezes, ledger, outbox, settling, stages
from core import steps as allocation_steps
from core.errors import Refused, RegistryUnavailable
from core.registry import Registry
from core.rules.approval import Actor
from core.rules.lifecycle import Stage
from core.settling import DiscrepancyCard, Way
from core.tables import AllocationStep, Discrepancy, Experiment
from core.variants import variants
from tests.core import steps
from tests.core.conftest import EXPERIMENT, MODEL, add_variant
from tests.core.steps import ALICE, BOB, ROLES, TERMS, alias, change, deliver_registry, place, shares, shares_of, tags


def others(engine: Engine, sql: str, **values: Any) -> None:
    with engine.begin() as connection:
        connection.execute(text(sql), values)


def others_set(engine: Engine, **wanted: str) -> None:
    """Somebody edits the shares in SQL."""
    with engine.begin() as connection:
        for name, share in wanted.items():
            query = "UPDATE exp.variants SET allocation = CAST(:share AS numeric) WHERE name = :name"
            connection.execute(text(query), {"share": share, "name": name})


def compare(engine: Engine) -> list[DiscrepancyCard]:
    """One comparison as the job makes it; the open discrepancies."""
    with db.transaction(engine) as session:
        suspects = discrepancies.suspects(session)
    for experiment in suspects:
        with db.transaction(engine) as session:
            discrepancies.compare(session, experiment)
    return cards(engine)


def compare_model(engine: Engine, registry: Registry) -> list[DiscrepancyCard]:
    with db.transaction(engine) as session:
        assert discrepancies.models(session) == [MODEL]
        discrepancies.compare_model(session, MODEL, registry)
    return cards(engine)


def deliver_once(engine: Engine, registry: Registry) -> None:
    handlers = {"registry": lambda session, due: stages.align_registry(session, due, registry)}
    assert outbox.deliver_next(engine, handlers)


def cards(engine: Engine, state: str = "open") -> list[DiscrepancyCard]:
    with db.transaction(engine) as session:
        found = session.scalars(select(Discrepancy.id).where(Discrepancy.state == state).order_by(Discrepancy.id))
        return [settling.card(session, number) for number in found]


def settle(engine: Engine, shown: DiscrepancyCard, way: Way, actor: Actor = BOB) -> str:
    with db.transaction(engine) as session:
        return settling.settle(session, shown.id, way, shown=shown.mark, actor=actor, roles=ROLES, terms=TERMS)


@pytest.fixture
def running(desk: Engine) -> Engine:
    """A candidate at 10 %, as request 1 decided."""
    change(desk, "start")
    assert compare(desk) == []
    return desk


def test_edited_shares_are_put_back(running: Engine) -> None:
    others_set(running, control="0.6", candidate_v3="0.4")
    (card,) = compare(running)
    assert compare(running) == [card], "told once"
    assert (card.kind, card.request_id, card.can_adopt, card.can_revert) == ("shares", 1, True, True)
    assert (card.decided["candidate_v3"], card.found["candidate_v3"]) == ("0.1000", "0.4000")
    assert "Reverted" in settle(running, card, "revert", ALICE), "less for the candidate takes no approver"
    assert shares(running) == shares_of(control="0.9", candidate_v3="0.1")
    assert compare(running) == []
    assert [entry.actor for entry in steps.ledger(running, "revert")] == [ALICE.id]
    with pytest.raises(Refused, match="settled already"):
        settle(running, card, "adopt")


def test_adopted_shares_are_decided_in_the_step_that_was_noticed(running: Engine) -> None:
    others_set(running, control="0.6", candidate_v3="0.4")
    with db.transaction(running) as session:
        (noticed,) = allocation_steps.notice(session)
    (card,) = compare(running)
    with pytest.raises(Refused, match="more traffic, so an approver"):
        settle(running, card, "adopt", ALICE)
    settle(running, card, "adopt")
    assert compare(running) == []
    with running.connect() as connection:
        newest = "SELECT id, source FROM promotion.allocation_steps ORDER BY id DESC LIMIT 1"
        assert connection.execute(text(newest)).one() == (noticed, "adopted")
        assert connection.execute(text("SELECT count(*) FROM promotion.allocation_steps")).scalar_one() == 3


def test_putting_a_candidate_back_waits_for_the_thaw(running: Engine) -> None:
    others_set(running, control="1", candidate_v3="0")
    (card,) = compare(running)
    with db.transaction(running) as session:
        freezes.freeze(session, experiment=EXPERIMENT, reason="the fair", actor=ALICE, roles=ROLES)
    with pytest.raises(freezes.IsFrozen):
        settle(running, card, "revert")
    assert "Adopted" in settle(running, card, "adopt", ALICE)


def test_a_click_counts_for_what_was_shown(running: Engine) -> None:
    others_set(running, control="0.6", candidate_v3="0.4")
    (card,) = compare(running)
    others_set(running, control="0.5", candidate_v3="0.5")
    assert "changed since the card was drawn" in settle(running, card, "adopt")
    assert cards(running)[0].found["candidate_v3"] == "0.5000"
    others_set(running, control="0.9", candidate_v3="0.1")
    assert "It is not so any more" in settle(running, cards(running)[0], "revert")
    assert [card.state for card in cards(running, "gone")] == ["gone"]


def test_a_later_decision_settles_it(running: Engine) -> None:
    others_set(running, control="0.6", candidate_v3="0.4")
    compare(running)
    change(running, "rollback", reason="slow")
    assert compare(running) == []
    assert [card.end_reason for card in cards(running, "gone")] == [discrepancies.SETTLED]


def test_shares_that_do_not_add_up_can_only_be_put_back(running: Engine) -> None:
    others(running, "ALTER TABLE exp.variants DISABLE TRIGGER ALL")
    try:
        others_set(running, candidate_v3="0.4")
    finally:
        others(running, "ALTER TABLE exp.variants ENABLE TRIGGER ALL")
    (card,) = compare(running)
    assert (card.can_adopt, card.can_revert) == (False, True)
    with pytest.raises(Refused, match="cannot be settled by this button"):
        settle(running, card, "adopt")
    settle(running, card, "revert")
    assert shares(running) == shares_of(control="0.9", candidate_v3="0.1")


def test_a_deleted_variant_leaves_its_share_to_the_baseline(running: Engine) -> None:
    delete_candidate(running)
    (card,) = compare(running)
    assert (card.kind, card.can_adopt, card.can_revert) == ("variants", True, False)
    settle(running, card, "adopt", ALICE)
    assert shares(running) == shares_of(control="1")
    assert compare(running) == []


@pytest.mark.parametrize(("status", "can_revert"), [("completed", False), ("paused", True)])
def test_a_status_set_elsewhere(running: Engine, status: str, can_revert: bool) -> None:
    others(running, "UPDATE exp.experiments SET status = :status", status=status)
    (card,) = compare(running)
    assert (card.kind, card.can_adopt, card.can_revert) == ("status", True, can_revert)
    settle(running, card, "revert" if can_revert else "adopt", ALICE)
    assert compare(running) == []
    with db.transaction(running) as session:
        assert place(session).status == ("active" if can_revert else "completed")


def set_status(engine: Engine, status: str) -> None:
    others(engine, "UPDATE exp.experiments SET status = :status", status=status)


@pytest.mark.parametrize("way", ["adopt", "revert"])
def test_an_experiment_that_has_run_is_made_a_draft_again(running: Engine, way: Way) -> None:
    set_status(running, "draft")
    assert compare(running) == [], "it may never have been more"
    set_status(running, "active")
    steps.serve_all(running, 100)
    steps.watch(running)
    set_status(running, "draft")
    (card,) = compare(running)
    assert (card.kind, card.decided, card.can_revert) == ("status", {"status": "active"}, True)
    settle(running, card, way)
    assert compare(running) == []
    set_status(running, "active")
    assert compare(running) == [], "whoever puts it together makes it active"


def test_a_draft_whose_shares_do_not_add_up_stays_one(running: Engine) -> None:
    steps.serve_all(running, 100)
    steps.watch(running)
    others(running, "UPDATE exp.experiments SET status = 'draft'; UPDATE exp.variants SET allocation = 0.3")
    (card,) = compare(running)
    with pytest.raises(Refused, match=r"add up to 0\.6000"):
        settle(running, card, "revert")


@pytest.mark.parametrize("way", ["adopt", "revert"])
def test_a_version_put_out_of_use(running: Engine, way: Way) -> None:
    others(running, "UPDATE exp.policy_versions SET status = 'archived' WHERE version = 3")
    (card,) = compare(running)
    assert (card.kind, card.found) == ("versions", {"planner_policy v3": "archived"})
    settle(running, card, way)
    assert compare(running) == []


def test_a_deleted_experiment_ends_it(running: Engine) -> None:
    others_set(running, control="0.6", candidate_v3="0.4")
    compare(running)
    others(running, "DELETE FROM exp.experiments")
    assert compare(running) == []
    assert [card.end_reason for card in cards(running, "gone")] == [discrepancies.DELETED]


@pytest.mark.parametrize("what", ["experiment", "variant"])
def test_what_is_deleted_leaves_its_version_a_candidate_that_may_join_again(
    running: Engine, registry: Registry, client: MlflowClient, what: str
) -> None:
    others(running, "UPDATE exp.variants SET config = '[1]' WHERE name = 'candidate_v3'")
    assert send_back(running) == 0, "it is there still"
    if what == "experiment":
        others(running, "DELETE FROM exp.experiments")
        with db.transaction(running) as session:
            add_variant(session, add_experiment(session), "control", "1", steps.version(session, 2))
    else:
        delete_candidate(running)
        settle(running, *compare(running), "adopt")
    with pytest.raises(Refused, match="is in stage “experiment” already"):
        change(running, "start")
    assert [send_back(running), send_back(running)] == [1, 0]
    deliver_registry(running, registry)
    assert tags(client)["3"] == "candidate"
    change(running, "start")
    assert shares(running) == shares_of(control="0.9", candidate_v3="0.1")


@pytest.mark.parametrize("what", ["share", "status"])
def test_what_is_adopted_leaves_no_version_behind(
    running: Engine, registry: Registry, client: MlflowClient, what: str
) -> None:
    if what == "share":
        others_set(running, control="1", candidate_v3="0")
    else:
        set_status(running, "completed")
    (card,) = compare(running)
    assert steps.stages_of(running, 3) == [Stage.EXPERIMENT]
    settle(running, card, "adopt", ALICE)
    assert steps.stages_of(running, 3) == [Stage.CANDIDATE]
    deliver_registry(running, registry)
    assert tags(client)["3"] == "candidate"
    if what == "share":
        change(running, "start")


def test_a_version_that_runs_elsewhere_stays_where_it_is(running: Engine) -> None:
    with db.transaction(running) as session:
        earlier = Experiment(name="an earlier one", status="active")
        session.add(earlier)
        session.flush()
        add_variant(session, earlier, "control", "1", steps.version(session, 2))
        add_variant(session, earlier, "candidate_v3", "0", steps.version(session, 3))
        session.add(AllocationStep(experiment_id=earlier.id, shares=named_ids(session, earlier), source="adopted"))
    others(running, "UPDATE exp.experiments SET status = 'completed' WHERE name = 'an earlier one'")
    (card,) = compare(running)
    settle(running, card, "adopt", ALICE)
    assert steps.stages_of(running, 3) == [Stage.EXPERIMENT]


def named_ids(session: Session, place: Experiment) -> dict[str, str]:
    return {str(v.id): str(v.allocation) for v in variants(session, place)}


def test_nothing_is_learned_while_others_have_paused_it(running: Engine) -> None:
    def worked(days: float) -> float:
        with db.transaction(running) as session:
            now, here = db.now_of(session), place(session).id
            pauses = ledger.pauses(session, [here], until=now)[here]
            return round(ledger.days_at_work(now - timedelta(days=days), now, pauses), 2)

    for status, way in (("paused", "adopt"), ("active", "adopt"), ("paused", "revert")):
        set_status(running, status)
        (card,) = compare(running)
        steps.days_pass(running, 1)
        settle(running, card, way)
        steps.days_pass(running, 1)
    assert worked(6) == 6 - 3, "two days after it was adopted, one before it was reverted"
    set_status(running, "paused")
    compare(running)
    steps.days_pass(running, 1)
    set_status(running, "active")
    compare(running)
    steps.days_pass(running, 1)
    assert worked(8) == 8 - 4, "and one until it was settled by itself"
    set_status(running, "paused")
    compare(running)
    for status in ("active", "paused"):
        with db.transaction(running) as session:
            experiments.set_status(session, experiment=EXPERIMENT, status=status, actor="U1", reason=None)
    compare(running)
    steps.days_pass(running, 1)
    assert worked(9) == 9 - 5, "and one that the bot paused itself, though what others did is gone"


def send_back(engine: Engine) -> int:
    with db.transaction(engine) as session:
        return len(discrepancies.send_back_stranded(session))


def add_experiment(session: Session) -> Experiment:
    made = Experiment(name=EXPERIMENT, status="active")
    session.add(made)
    session.flush()
    return made


def delete_candidate(engine: Engine) -> None:
    """Somebody deletes a variant with traffic, on a platform that does not keep the sum."""
    others(engine, "ALTER TABLE exp.variants DISABLE TRIGGER ALL")
    try:
        others(engine, "DELETE FROM exp.variants WHERE name = 'candidate_v3'")
    finally:
        others(engine, "ALTER TABLE exp.variants ENABLE TRIGGER ALL")


# --- The registry ---------------------------------------------------------------------------------------------------


@pytest.fixture
def mirrored(running: Engine, registry: Registry) -> Engine:
    deliver_registry(running, registry)
    assert compare_model(running, registry) == []
    return running


def test_a_tag_of_the_pipeline_is_adopted(mirrored: Engine, registry: Registry, client: MlflowClient) -> None:
    client.set_model_version_tag(MODEL, "1", "stage", "candidate")
    (card,) = compare_model(mirrored, registry)
    assert (card.decided, card.found, card.can_adopt) == ({"1": "archived"}, {"1": "candidate"}, True)
    settle(mirrored, card, "adopt", ALICE)
    assert steps.stages_of(mirrored, 1) == [Stage.CANDIDATE]
    deliver_registry(mirrored, registry)
    assert compare_model(mirrored, registry) == []
    assert tags(client)["1"] == "candidate"


def test_the_mirror_overwrites_nothing_that_others_set_until_it_is_reverted(
    mirrored: Engine, registry: Registry, client: MlflowClient
) -> None:
    client.set_model_version_tag(MODEL, "3", "stage", "production")
    client.set_registered_model_alias(MODEL, "production", "3")
    change(mirrored, "rollback", reason="slow")
    deliver_registry(mirrored, registry)
    assert (tags(client)["3"], alias(client)) == ("production", "3")
    found, holder = compare_model(mirrored, registry)
    assert (found.decided, found.found, found.can_adopt) == ({"3": "archived"}, {"3": "production"}, False)
    assert (holder.kind, holder.decided, holder.can_adopt) == ("alias", {"production": "2"}, False)
    settle(mirrored, found, "revert")
    assert compare_model(mirrored, registry) == cards(mirrored), "skipped while the mirror is on its way"
    deliver_registry(mirrored, registry)
    assert (tags(client)["3"], alias(client)) == ("archived", "3"), "the alias has a card of its own"
    (holder,) = compare_model(mirrored, registry)
    client.set_model_version_tag(MODEL, "1", "stage", "candidate")
    settle(mirrored, holder, "revert")
    deliver_registry(mirrored, registry)
    assert (tags(client)["1"], alias(client)) == ("candidate", "2"), "and so has a tag"
    assert [card.kind for card in compare_model(mirrored, registry)] == ["tags"]
    assert cards(mirrored, "gone") == []


def test_a_revert_is_of_what_the_card_showed(mirrored: Engine, registry: Registry, client: MlflowClient) -> None:
    client.set_model_version_tag(MODEL, "1", "stage", "candidate")
    (card,) = compare_model(mirrored, registry)
    client.set_model_version_tag(MODEL, "3", "stage", "archived")
    settle(mirrored, card, "revert")
    deliver_registry(mirrored, registry)
    assert (tags(client)["1"], tags(client)["3"]) == ("archived", "archived")
    (card,) = compare_model(mirrored, registry)
    assert card.found == {"3": "archived"}, "it gets a card of its own"

    settle(mirrored, card, "revert")
    deliver_registry(mirrored, registry)
    client.set_registered_model_alias(MODEL, "production", "3")
    (card,) = compare_model(mirrored, registry)
    client.set_registered_model_alias(MODEL, "production", "1")
    settle(mirrored, card, "revert")
    deliver_registry(mirrored, registry)
    assert alias(client) == "1"
    assert [card.found for card in compare_model(mirrored, registry)] == [{"production": "1"}]


def test_an_alias_from_before_the_bot_is_left_alone(running: Engine, registry: Registry, client: MlflowClient) -> None:
    client.set_registered_model_alias(MODEL, "production", "3")  # which somebody loads by it, whatever its stage
    deliver_registry(running, registry)
    assert alias(client) == "3"
    (card,) = compare_model(running, registry)
    assert (card.kind, card.found) == ("alias", {"production": "3"})
    settle(running, card, "revert")
    deliver_registry(running, registry)
    assert alias(client) == "2"


def test_what_others_set_while_the_registry_was_away_is_left_alone(
    mirrored: Engine, registry: Registry, client: MlflowClient
) -> None:
    change(mirrored, "rollback", reason="slow")
    deliver_once(mirrored, Registry("http://127.0.0.1:1", timeout_s=1))
    client.set_model_version_tag(MODEL, "3", "stage", "production")
    client.set_registered_model_alias(MODEL, "production", "3")
    others(mirrored, "UPDATE promotion.effects SET due_at = now()")
    deliver_registry(mirrored, registry)
    assert (tags(client)["3"], alias(client)) == ("production", "3")
    assert [card.kind for card in compare_model(mirrored, registry)] == ["tags", "alias"]


def test_what_was_decided_reaches_the_registry_though_its_experiment_is_deleted(
    mirrored: Engine, registry: Registry, client: MlflowClient
) -> None:
    change(mirrored, "promote", override=steps.BECAUSE)
    others(mirrored, "DELETE FROM exp.variants; DELETE FROM exp.experiments")
    deliver_registry(mirrored, registry)
    assert (tags(client)["2"], tags(client)["3"], alias(client)) == ("archived", "production", "3")
    assert compare_model(mirrored, registry) == []


@pytest.mark.parametrize("told", [1, 2])
def test_what_a_broken_off_attempt_wrote_is_nobody_elses(
    mirrored: Engine, registry: Registry, client: MlflowClient, told: int
) -> None:
    change(mirrored, "promote", override=steps.BECAUSE)
    for version, tag in (("3", "production"), ("2", "archived"))[:told]:  # then the bot was killed
        client.set_model_version_tag(MODEL, version, "stage", tag)
    others(mirrored, "UPDATE promotion.effects SET attempts = 1 WHERE kind = 'registry' AND done_at IS NULL")
    change(mirrored, "rollback", reason="slow")
    deliver_registry(mirrored, registry)
    assert (tags(client)["2"], tags(client)["3"], alias(client)) == ("production", "archived", "2")
    assert compare_model(mirrored, registry) == []


def test_a_registry_that_is_away_is_no_discrepancy(mirrored: Engine) -> None:
    with pytest.raises(RegistryUnavailable):
        compare_model(mirrored, Registry("http://127.0.0.1:1", timeout_s=1))
    assert cards(mirrored) == []
