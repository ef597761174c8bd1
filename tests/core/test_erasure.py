"""Deleting a variant with many rows: decided by a click, carried out afterwards, whatever comes in between."""

from __future__ import annotations

import uuid

import pytest
from sqlalchemy import Engine, text
from sqlalchemy.orm import Session

from core import blocks, cards, db, discrepancies, erasure, experiments, outbox
from core.errors import Refused
from core.outbox import Due
from core.tables import Variant
from core.variants import find_experiment
from tests.core import steps
from tests.core.conftest import EXPERIMENT, add_variant
from tests.core.steps import place, shares, shares_of

FILL = """
INSERT INTO exp.assignments (experiment_id, unit_type, unit_id, variant_id)
SELECT v.experiment_id, 'user', v.name || n, v.id FROM exp.variants v, generate_series(1, 300) n;
INSERT INTO exp.metric_aggregates (experiment_id, variant_id, metric_name, bucket_type, bucket_start)
SELECT v.experiment_id, v.id, 'cost', 'hourly', now() - make_interval(hours => n)
  FROM exp.variants v, generate_series(1, 150) n;
"""
LEFT = """
SELECT (SELECT count(*) FROM exp.assignments), (SELECT count(*) FROM exp.metric_aggregates),
       (SELECT count(*) FROM exp.variants)"""


@pytest.fixture
def old(desk: Engine, monkeypatch: pytest.MonkeyPatch) -> uuid.UUID:
    """A variant at 0 % beside control, each with 300 assignments and 150 aggregates; a part is one block of a table."""
    monkeypatch.setattr(erasure, "BLOCKS", 1)
    with db.transaction(desk) as session:
        made = add_variant(session, place(session), "old", "0", steps.version(session, 3)).id
    with desk.begin() as connection:
        connection.exec_driver_sql(FILL)
    return made


def left(engine: Engine) -> tuple[int, ...]:
    with engine.connect() as connection:
        return tuple(connection.execute(text(LEFT)).one())


def progress(engine: Engine, number: int) -> list[tuple[str, bool]]:
    with db.transaction(engine) as session:
        return [(part.what, part.is_done) for part in cards.request_card(session, number).progress]


def by_hand(engine: Engine, statement: str, **values: object) -> None:
    with engine.begin() as connection:
        connection.execute(text(statement), values)


def part(engine: Engine) -> bool:
    return outbox.deliver_next(engine, {erasure.KIND: erasure.erase})


def test_the_click_neither_counts_nor_touches_a_row(desk: Engine, old: uuid.UUID) -> None:
    number = steps.ask(desk, "retire", mode="delete")
    with desk.begin() as others:
        others.execute(text("LOCK exp.assignments, exp.metric_aggregates IN ACCESS EXCLUSIVE MODE"))
        assert steps.approve(desk, number).outcome == "applied"
    assert shares(desk) == shares_of(control="1")
    assert left(desk) == (600, 300, 2)
    assert progress(desk, number) == [("Shares in the database", True), ("Rows of what is deleted", False)]
    assert steps.ledger(desk)[-1].after == {
        "mode": "delete", "lost": {"old": {"assignments": 300, "aggregates": 150, "events": 0}}
    }  # fmt: skip


def test_large_tables_are_not_counted(desk: Engine, old: uuid.UUID) -> None:
    by_hand(desk, "ALTER TABLE exp.assignments SET (fillfactor = 10)")
    by_hand(desk, "INSERT INTO exp.assignments (experiment_id, unit_type, unit_id, variant_id)"
                  " SELECT experiment_id, 'user', 'n' || n || repeat('x', 240), id FROM exp.variants,"
                  " generate_series(1, 35000) n WHERE id = :id", id=old)  # fmt: skip
    by_hand(desk, "ANALYZE exp.assignments")
    with db.transaction(desk) as session:
        assert blocks.extent(session, "exp.assignments").blocks > experiments.COUNTED_BLOCKS
        variant = session.get_one(Variant, old)
        assert experiments.history_that_would_go(session, variant)["assignments"] == pytest.approx(35_300, rel=0.05)


def test_its_rows_go_part_by_part_then_the_variant(desk: Engine, old: uuid.UUID) -> None:
    number = steps.change(desk, "retire", mode="delete")
    assert steps.erase(desk) > 5
    assert left(desk) == (300, 150, 1)
    assert progress(desk, number) == [("Shares in the database", True), ("Rows of what is deleted", True)]
    newest = steps.ledger(desk)[-1]
    assert (newest.actor, newest.action, newest.subject, newest.request_id) == ("promotion-bot", "erase", "old", number)
    assert newest.after == {"deleted": {"assignments": 300, "metric_aggregates": 150}}
    with db.transaction(desk) as session:
        keys = [effect.key for effect in outbox.pending(session, request_id=number)]
    assert any(key.startswith(f"card:{number}:done-") for key in keys), "the card follows"


def test_what_is_killed_in_the_middle_is_gone_on_with(desk: Engine, old: uuid.UUID) -> None:
    steps.change(desk, "retire", mode="delete")
    assert part(desk)
    there = left(desk)

    def killed(session: Session, due: Due) -> None:
        erasure.erase(session, due)
        raise SystemExit

    with pytest.raises(SystemExit):
        outbox.deliver_next(desk, {erasure.KIND: killed})
    assert left(desk) == there, "a part is kept whole or not at all"
    by_hand(desk, "UPDATE promotion.effects SET due_at = now()")
    steps.erase(desk)
    assert left(desk) == (300, 150, 1)


def test_for_people_it_is_gone_at_once(desk: Engine, old: uuid.UUID) -> None:
    steps.change(desk, "retire", mode="delete")
    assert part(desk)
    with pytest.raises(Refused, match="has no variant at 0 %"):
        steps.ask(desk, "retire", mode="delete")
    steps.change(desk, "start")
    assert shares(desk) == shares_of(control="0.9", candidate_v3="0.1"), "another one joins; that one does not return"
    with db.transaction(desk) as session:
        assert discrepancies.suspects(session) == []
        assert discrepancies.compare(session, find_experiment(session, EXPERIMENT).id) == []
    steps.erase(desk)
    assert shares(desk) == shares_of(control="0.9", candidate_v3="0.1")
    assert left(desk)[2] == 2


def test_its_name_is_free_at_once(desk: Engine, old: uuid.UUID) -> None:
    steps.change(desk, "retire", mode="delete")
    with db.transaction(desk) as session:
        add_variant(session, place(session), "old", "0")
    steps.erase(desk)
    assert shares(desk) == shares_of(control="1", old="0")


def test_one_that_others_gave_traffic_is_there_again_and_stays(desk: Engine, old: uuid.UUID) -> None:
    number = steps.change(desk, "retire", mode="delete")
    with desk.begin() as connection:
        connection.execute(text("UPDATE exp.variants SET allocation = 0.4 WHERE id = :id"), {"id": old})
        connection.execute(text("UPDATE exp.variants SET allocation = 0.6 WHERE id <> :id"), {"id": old})
    before = left(desk)
    with db.transaction(desk) as session:
        assert discrepancies.suspects(session) == [place(session).id]
    steps.erase(desk)
    assert left(desk) == before
    assert shares(desk) == shares_of(control="0.6", old="0.4"), "under its name"
    assert steps.ledger(desk)[-1].action == "keep"
    assert progress(desk, number)[-1] == ("Rows of what is deleted", True)
    by_hand(desk, "UPDATE exp.variants SET allocation = CASE WHEN id = :id THEN 0 ELSE 1 END", id=old)
    steps.erase(desk)
    assert left(desk) == before, "whatever its share is later"


def test_rows_that_come_meanwhile_go_too(desk: Engine, old: uuid.UUID) -> None:
    steps.change(desk, "retire", mode="delete")
    while left(desk)[0] > 300:
        assert part(desk)
    by_hand(desk, "INSERT INTO exp.assignments (experiment_id, unit_type, unit_id, variant_id)"
                  " SELECT experiment_id, 'user', 'late', id FROM exp.variants WHERE id = :id", id=old)  # fmt: skip
    steps.erase(desk)
    assert left(desk) == (300, 150, 1)
    assert steps.ledger(desk)[-1].after == {"deleted": {"assignments": 301, "metric_aggregates": 150}}


def test_one_that_others_deleted_meanwhile_is_no_trouble(desk: Engine, old: uuid.UUID) -> None:
    number = steps.change(desk, "retire", mode="delete")
    for table in (*erasure.TABLES, "variants"):
        by_hand(desk, f"DELETE FROM exp.{table} WHERE {'id' if table == 'variants' else 'variant_id'} = :id", id=old)
    steps.erase(desk)
    assert progress(desk, number)[-1] == ("Rows of what is deleted", True)
