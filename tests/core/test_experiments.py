"""Candidate variants, baselines, retiring, pausing."""

from __future__ import annotations

import re
import uuid
from decimal import Decimal
from typing import Any

import pytest
from sqlalchemy import Engine, text
from sqlalchemy.orm import Session

from core import db, experiments, rollout_cards
from core.errors import Refused
from core.rules.lifecycle import Stage
from core.tables import RetiredName, Variant
from core.variants import baseline, candidate, find_experiment, former_baseline, linked_version_id
from tests.core import steps
from tests.core.conftest import EXPERIMENT, add_variant, set_stage
from tests.core.steps import at_once, days_pass, place, shares, shares_of, variant, version

ARCHIVED = re.compile(r"^(.*)_archived_\d{8}T\d{6}(_\d+)?Z$")


def join(engine: Engine, number: int = 3, share: Any = "0.10", **more: Any) -> str:
    with db.transaction(engine) as session:
        wanted = {"experiment": EXPERIMENT, "policy_version": version(session, number).id}
        return experiments.add_candidate_variant(session, **wanted, initial_allocation=share, **more).name


def retire(engine: Engine, **more: Any) -> list[str]:
    with db.transaction(engine) as session:
        return experiments.retire_old_variants(session, experiment=EXPERIMENT, **more)


def idle(engine: Engine, *names: str, number: int | None = None) -> None:
    with db.transaction(engine) as session:
        for name in names:
            add_variant(session, place(session), name, "0", version(session, number) if number else None)


# --- Joining --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("share", "after"),
    [
        ("0.10", {"control": "0.9", "candidate_v3": "0.1"}),
        (0.05, {"control": "0.95", "candidate_v3": "0.05"}),
        (Decimal("0.0001"), {"control": "0.9999", "candidate_v3": "0.0001"}),
    ],
)
def test_a_candidate_joins_and_the_others_shrink(desk: Engine, share: Any, after: dict[str, str]) -> None:
    assert join(desk, share=share, actor="U1", reason="new prompt") == "candidate_v3"
    assert shares(desk) == shares_of(**after)
    assert steps.stages_of(desk, 3) == [Stage.EXPERIMENT]
    (entry,) = steps.ledger(desk)
    assert (entry.actor, entry.action, entry.subject, entry.reason) == ("U1", "start", "candidate_v3", "new prompt")
    assert (entry.before, entry.after) == (
        {"shares": {"control": "1.0000"}},
        {"shares": {name: f"{Decimal(value):.4f}" for name, value in after.items()}},
    )


def test_three_others_shrink_in_proportion(desk: Engine) -> None:
    with db.transaction(desk) as session:
        variant(session, "control").allocation = Decimal("0.3334")
        for name in ("a", "b"):
            add_variant(session, place(session), name, "0.3333")
    join(desk)
    assert shares(desk) == shares_of(control="0.3", a="0.3", b="0.3", candidate_v3="0.1")


@pytest.mark.parametrize("share", ["0.1001", "0.11", "1", "0", "-0.1"])
def test_never_with_more_than_a_tenth(desk: Engine, share: str) -> None:
    with pytest.raises(Refused, match=r"at most 10 %|is not a share"):
        join(desk, share=share)
    assert shares(desk) == shares_of(control="1")


@pytest.mark.parametrize("share", ["ten", "NaN", "0.00001", ""])
def test_what_is_no_share_is_refused_in_words(desk: Engine, share: str) -> None:
    with pytest.raises(Refused, match="is not a"):
        join(desk, share=share)


@pytest.mark.parametrize(
    ("status", "may"), [("draft", True), ("active", True), ("paused", False), ("completed", False)]
)
def test_only_into_an_experiment_that_runs_or_is_being_put_together(desk: Engine, status: str, may: bool) -> None:
    with db.transaction(desk) as session:
        place(session).status = status
    if may:
        assert join(desk) == "candidate_v3"
        return
    with pytest.raises(Refused, match=f"is {status}, so no candidate can join"):
        join(desk)


@pytest.mark.parametrize(
    ("number", "says"), [(1, "is not a candidate .its stage is “archived”"), (2, "already runs in .* as control")]
)
def test_only_a_candidate_can_join(desk: Engine, number: int, says: str) -> None:
    with pytest.raises(Refused, match=says):
        join(desk, number)


def test_an_unknown_policy_version_or_experiment(desk: Engine) -> None:
    with pytest.raises(Refused, match="There is no policy version"), db.transaction(desk) as session:
        experiments.add_candidate_variant(session, experiment=EXPERIMENT, policy_version=uuid.uuid4())
    nearest = f"no experiment planner_policy_ex. Did you mean {EXPERIMENT}"
    with pytest.raises(Refused, match=nearest), db.transaction(desk) as session:
        experiments.add_candidate_variant(session, experiment="planner_policy_ex", policy_version=version(session, 3))


NEW_SHAPE = {
    "execution_strategy": "hybrid",
    "mlflow_model": {"policy_version_id": None, "model_name": "m"},
    "params": {},
}


@pytest.mark.parametrize("is_new", [False, True])
def test_the_link_is_written_in_the_experiments_shape(desk: Engine, is_new: bool) -> None:
    with db.transaction(desk) as session:
        if is_new:
            variant(session, "control").config = NEW_SHAPE
        wanted = version(session, 3)
    join(desk)
    with db.transaction(desk) as session:
        config = variant(session, "candidate_v3").config
        assert linked_version_id(config) == wanted.id
    assert config == (
        {
            "execution_strategy": "mlflow_model",
            "mlflow_model": {"policy_version_id": str(wanted.id), "model_name": "planner_model"},
            "params": {},
        }
        if is_new
        else {"policy_version_id": str(wanted.id), "params": {}}
    )


ID = uuid.uuid4()


@pytest.mark.parametrize(
    ("config", "linked"),
    [
        ({"policy_version_id": str(ID)}, ID),
        ({"execution_strategy": "mlflow_model", "mlflow_model": {"policy_version_id": str(ID)}}, ID),
        ({"execution_strategy": "prompt_template", "policy_version_id": str(ID)}, None),
        ({"execution_strategy": "mlflow_model", "mlflow_model": None}, None),
        ({"policy_version_id": "planner v3"}, None),
        ({"policy_version_id": None}, None),
        ({}, None),
        (None, None),
    ],
)
def test_both_shapes_are_read(config: dict[str, Any] | None, linked: uuid.UUID | None) -> None:
    assert linked_version_id(config) == linked


def test_it_comes_back_in_its_old_place_after_a_rollback(desk: Engine) -> None:
    join(desk)
    with db.transaction(desk) as session:
        first = variant(session, "candidate_v3").id
    steps.change(desk, "rollback", reason="slow")
    with db.transaction(desk) as session:
        set_stage(session, version(session, 3), Stage.CANDIDATE)
    join(desk, share="0.05")
    with db.transaction(desk) as session:
        assert variant(session, "candidate_v3").id == first
    assert shares(desk) == shares_of(control="0.95", candidate_v3="0.05")


def test_a_former_baseline_comes_back_as_a_candidate_not_as_control(desk: Engine) -> None:
    steps.change(desk, "start")
    steps.change(desk, "promote", override=steps.BECAUSE)
    with db.transaction(desk) as session:
        set_stage(session, version(session, 2), Stage.CANDIDATE)
    assert join(desk, 2) == "candidate_v2"
    assert shares(desk) == shares_of(candidate_v2="0.1", candidate_v3="0.9")
    with db.transaction(desk) as session:
        assert baseline(session, place(session)).name == "candidate_v3"
        assert session.query(RetiredName).count() == 0


def test_one_that_runs_cannot_join_again(desk: Engine) -> None:
    join(desk)
    with pytest.raises(Refused, match=r"already runs in .* as candidate_v3"):
        join(desk)
    with db.transaction(desk) as session:
        set_stage(session, version(session, 3), Stage.CANDIDATE)
    with pytest.raises(Refused, match=f"planner_policy v3 already runs in {EXPERIMENT} as candidate_v3"):
        join(desk)


def test_a_name_that_is_taken_by_another(desk: Engine) -> None:
    idle(desk, "candidate_v3")
    with pytest.raises(Refused, match="The name candidate_v3 is taken by another variant"):
        join(desk)
    retire(desk)
    assert join(desk) == "candidate_v3"


def test_two_candidates_at_the_same_moment(desk: Engine) -> None:
    """One waits for the other, then shrinks what it finds."""
    with db.transaction(desk) as session:
        set_stage(session, version(session, 1), Stage.CANDIDATE)
    assert sorted(map(str, at_once(lambda: join(desk, 1), lambda: join(desk, 3)))) == ["candidate_v1", "candidate_v3"]
    found = shares(desk)
    assert sum(found.values()) == 1
    assert sorted(found.values()) == [Decimal("0.09"), Decimal("0.1"), Decimal("0.81")]


# --- Baselines ------------------------------------------------------------------------------------------------------


def set_up(session: Session, *variants: tuple[str, str, int | None]) -> None:
    there = place(session)
    session.execute(text("DELETE FROM exp.variants"))
    for name, share, number in variants:
        add_variant(session, there, name, share, version(session, number) if number else None)


@pytest.mark.parametrize(
    ("variants", "name"),
    [
        ([("control", "0.5", 1), ("b", "0.5", 2)], "b"),
        ([("b", "0", 2), ("c", "1", 2), ("control", "0", None)], "c"),
        ([("a", "0.5", 1), ("control", "0.5", None)], "control"),
        ([("a", "0.5", None), ("Baseline", "0.5", 1)], "Baseline"),
    ],
)
def test_the_baseline_is_in_production_else_named_so(
    desk: Engine, variants: list[tuple[str, str, int | None]], name: str
) -> None:
    with db.transaction(desk) as session:
        set_up(session, *variants)
        assert baseline(session, place(session)).name == name


@pytest.mark.parametrize(
    ("variants", "why"),
    [
        ([("a", "1", 1)], "none is named control or baseline"),
        ([("control", "0.5", 1), ("baseline", "0.5", None)], "both control and baseline exist"),
    ],
)
def test_else_it_is_refused_with_how_to_name_one(
    desk: Engine, variants: list[tuple[str, str, int | None]], why: str
) -> None:
    with db.transaction(desk) as session:
        set_up(session, *variants)
        with pytest.raises(Refused) as refused:
            baseline(session, place(session))
        assert str(refused.value) == (
            f"{EXPERIMENT} has no clear baseline: no variant is in production and {why}. "
            "Rename the variant to compare with to `control`."
        )
        card = rollout_cards.experiment_card(session, EXPERIMENT, terms=steps.TERMS)
        assert card.note == str(refused.value)
        assert card.candidates == ()


@pytest.mark.parametrize(
    ("variants", "name", "says"),
    [
        ([("control", "1", 2)], None, "No candidate is running"),
        ([("control", "0.8", 2), ("a", "0.1", 1), ("b", "0.1", 3)], None, "Several candidates are running: a, b"),
        ([("control", "0.9", 2), ("a", "0.1", 1)], "control", "control is the baseline"),
        ([("control", "0.9", 2), ("alpha", "0.1", 1)], "alpa", "no variant alpa. Did you mean alpha"),
    ],
)
def test_which_candidate_is_meant(
    desk: Engine, variants: list[tuple[str, str, int | None]], name: str | None, says: str
) -> None:
    with db.transaction(desk) as session:
        set_up(session, *variants)
        with pytest.raises(Refused, match=says):
            candidate(session, place(session), name)


@pytest.mark.parametrize(
    ("names", "found"), [(["control"], True), (["a", "b"], False), (["control", "baseline"], False)]
)
def test_the_former_baseline_is_known_after_it_was_archived(desk: Engine, names: list[str], found: bool) -> None:
    with db.transaction(desk) as session:
        set_up(session, ("new", "1", 2), *((name, "0", None) for name in names))
    assert sorted(retire(desk)) == sorted(names)
    with db.transaction(desk) as session:
        former = former_baseline(session, place(session), variant(session, "new"))
        assert bool(former and ARCHIVED.match(former.name)) is found


# --- Retiring -------------------------------------------------------------------------------------------------------


def test_idle_variants_are_archived_once_only(desk: Engine) -> None:
    idle(desk, "a", "b", "c")
    assert sorted(retire(desk, actor="U1", reason="tidy", keep_variant="c")) == ["a", "b"]
    names = set(shares(desk))
    assert {"control", "c"} < names
    assert {m[1] for name in names if (m := ARCHIVED.match(name))} == {"a", "b"}
    assert retire(desk, keep_variant="c") == []
    assert set(shares(desk)) == names
    (entry,) = steps.ledger(desk)
    assert (entry.actor, entry.action, entry.reason) == ("U1", "retire", "tidy")
    assert entry.before is not None
    assert entry.after is not None
    assert set(entry.before["names"]) == {"a", "b"}
    assert entry.after["mode"] == "archive"
    assert set(entry.after["names"]) == names - {"control", "c"}


@pytest.mark.parametrize(
    "name",
    ["old_archived_2026-01-31 10:00:00.123456+00", "old_archived_20260131T100000Z", "old_archived_20260131T100000_2Z"],
)
def test_a_name_that_was_archived_by_hand_is_not_archived_again(desk: Engine, name: str) -> None:
    idle(desk, name)
    assert retire(desk) == []


@pytest.mark.parametrize("name", ["x_archived_by_bob", "archived_2026"])
def test_other_names_with_the_word_are(desk: Engine, name: str) -> None:
    idle(desk, name)
    assert retire(desk) == [name]


@pytest.mark.parametrize("letter", ["x", "é", "漢", "🚀", "\u202e"])
def test_255_characters_whatever_they_weigh(desk: Engine, letter: str) -> None:
    long = [letter * 254 + digit for digit in "123"]
    idle(desk, *long)
    assert sorted(retire(desk)) == sorted(long)
    names = [name for name in shares(desk) if name != "control"]
    assert len(set(names)) == 3
    assert all(len(name) == 255 and ARCHIVED.match(name) for name in names)
    with desk.connect() as connection:
        assert connection.scalar(text("SELECT max(length(name)) FROM exp.variants")) == 255


def test_variants_with_traffic_and_the_baseline_are_never_touched(desk: Engine) -> None:
    with db.transaction(desk) as session:
        set_up(session, ("old", "0", 2), ("busy", "1", 1), ("x", "0", None))
    assert retire(desk, mode="delete") == ["x"]
    assert shares(desk) == shares_of(old="0", busy="1")


def test_deleting_says_what_history_goes(desk: Engine) -> None:
    idle(desk, "gone", "kept")
    with db.transaction(desk) as session:
        there, gone = place(session).id, variant(session, "gone")
        for n in range(3):
            steps.event(session, "plan_generated", f"p{n}", [(there, gone.id)])
        for table in ("assignments (experiment_id, variant_id, unit_type, unit_id)",):
            for n in range(2):
                session.execute(
                    text(f"INSERT INTO exp.{table} VALUES (:e, :v, 'user', :u)"),
                    {"e": there, "v": gone.id, "u": str(n)},
                )
        session.execute(
            text(
                "INSERT INTO exp.metric_aggregates (experiment_id, variant_id, metric_name, bucket_type, bucket_start)"
                " VALUES (:e, :v, 'cost', 'daily', now())"
            ),
            {"e": there, "v": gone.id},
        )
        lost = {"assignments": 2, "aggregates": 1, "events": 3}
        assert experiments.history_that_would_go(session, gone) == lost
    assert retire(desk, mode="delete", keep_variant="kept") == ["gone"]
    assert set(shares(desk)) == {"control", "kept"}
    (entry,) = steps.ledger(desk)
    assert entry.after == {"mode": "delete", "lost": {"gone": lost}}


def test_an_archived_variant_can_be_deleted_when_asked(desk: Engine) -> None:
    idle(desk, "a")
    retire(desk)
    (name,) = retire(desk, mode="delete")
    assert ARCHIVED.match(name)
    assert set(shares(desk)) == {"control"}
    with db.transaction(desk) as session:
        assert session.query(RetiredName).count() == 0


# --- Pausing --------------------------------------------------------------------------------------------------------


def test_pause_and_resume(desk: Engine) -> None:
    for status, action, before in (("paused", "pause", "active"), ("active", "resume", "paused")):
        with db.transaction(desk) as session:
            experiments.set_status(session, experiment=EXPERIMENT, status=status, actor="U1", reason="maintenance")  # type: ignore[arg-type]
        entry = steps.ledger(desk)[-1]
        assert (entry.action, entry.actor, entry.reason) == (action, "U1", "maintenance")
        assert (entry.before, entry.after) == ({"status": before}, {"status": status})
    only = "is active; only an experiment that is paused can become active"
    with pytest.raises(Refused, match=only), db.transaction(desk) as session:
        experiments.set_status(session, experiment=EXPERIMENT, status="active", actor="U1", reason=None)


def test_the_platform_notes_when_an_experiment_changed(desk: Engine) -> None:
    def touched() -> Any:
        with desk.connect() as connection:
            return connection.scalar(text("SELECT updated_at FROM exp.experiments"))

    before = touched()
    with db.transaction(desk) as session:
        find_experiment(session, EXPERIMENT).description = "changed"
    assert touched() > before


def test_a_held_share_is_measured_from_the_last_change(desk: Engine) -> None:
    join(desk)
    days_pass(desk, 4)
    with db.transaction(desk) as session:
        (card,) = rollout_cards.experiment_card(session, EXPERIMENT, terms=steps.TERMS).candidates
    assert card.days == pytest.approx(4, abs=0.01)
    assert (card.minimum_days, card.next_step, card.decision.action) == (3, Decimal("0.25"), "wait")
    assert card.decision.why == "10 of the 1,000 plans needed have been served."


def test_variant_names_are_kept_as_they_are(desk: Engine) -> None:
    hostile = ["<!channel>", "`rm -rf`", "\u202eevil", "a\nb", "'; DROP TABLE exp.variants; --"]
    idle(desk, *hostile)
    with db.transaction(desk) as session:
        for name in hostile:
            found: Variant = variant(session, name)
            assert found.name == name
