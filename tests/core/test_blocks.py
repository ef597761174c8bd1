"""A table is gone through whole, once, in parts of the size that was asked for, also where it is in partitions."""

from __future__ import annotations

import pytest
from sqlalchemy import text
from sqlalchemy.orm import Session

from core import blocks

PARTED = """
CREATE TABLE exp.parted (n int, kind text) PARTITION BY HASH (n);
CREATE TABLE exp.parted_0 PARTITION OF exp.parted FOR VALUES WITH (MODULUS 3, REMAINDER 0);
CREATE TABLE exp.parted_1 PARTITION OF exp.parted FOR VALUES WITH (MODULUS 3, REMAINDER 1);
CREATE TABLE exp.parted_2 PARTITION OF exp.parted FOR VALUES WITH (MODULUS 3, REMAINDER 2) PARTITION BY LIST (kind);
CREATE TABLE exp.parted_2_user PARTITION OF exp.parted_2 FOR VALUES IN ('user');
"""
WHOLE = "CREATE TABLE exp.parted (n int, kind text)"
FILL = "INSERT INTO exp.parted SELECT n, 'user' FROM generate_series(1, 5000) n"


@pytest.mark.parametrize(("made", "partitions", "at_once"), [(WHOLE, 1, 4), (PARTED, 3, 1)])
def test_every_row_lies_in_one_part(session: Session, made: str, partitions: int, at_once: int) -> None:
    session.connection().exec_driver_sql(made)
    session.execute(text(FILL))
    there = blocks.extent(session, "exp.parted")
    assert there.partitions == partitions
    assert there.blocks > 5
    assert there.at_once(4) == at_once
    found: list[int] = []
    for first in range(0, there.blocks, at_once):
        query = text(f"SELECT n FROM exp.parted WHERE {blocks.RANGE}")
        found += session.scalars(query, blocks.bounds(first, first + at_once))
    assert sorted(found) == list(range(1, 5_001))
    session.rollback()


def test_an_empty_table_has_no_part(session: Session) -> None:
    session.connection().exec_driver_sql(WHOLE)
    assert blocks.extent(session, "exp.parted") == blocks.Extent(0, 1)
    assert blocks.Extent(9, 5_000).at_once(2_000) == 1
    session.rollback()
