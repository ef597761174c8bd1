"""Going through a table as it lies on the disk, some blocks at a time: each part is short, all of it is one pass."""

from __future__ import annotations

from typing import Final

from sqlalchemy import text
from sqlalchemy.orm import Session

RANGE: Final = "ctid >= CAST(:first AS tid) AND ctid < CAST(:until AS tid)"
"""The condition that a row lies in the blocks of `bounds`; of a table in partitions, in those blocks of each."""
_NUMBER = """
SELECT coalesce(max(pg_relation_size(c.oid)) / CAST(current_setting('block_size') AS int), 0) FROM pg_class c
 WHERE c.oid = to_regclass(:table) OR c.oid IN (SELECT relid FROM pg_partition_tree(to_regclass(:table)))
"""


def number(session: Session, table: str) -> int:
    """How many blocks, of mostly 8 kB, a table has; one in partitions as many as the largest of them."""
    found: int = session.execute(text(_NUMBER), {"table": table}).scalar_one()
    return found


def bounds(first: int, blocks: int) -> dict[str, str]:
    """The parameters of RANGE for so many blocks from the first."""
    return {"first": f"({first},0)", "until": f"({first + blocks},0)"}
