"""Going through a table as it lies on the disk, some blocks at a time: each part is short, all of it is one pass."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from sqlalchemy import text
from sqlalchemy.orm import Session

RANGE: Final = "ctid >= CAST(:first AS tid) AND ctid < CAST(:until AS tid)"
"""The condition that a row lies in the blocks of `bounds`; of a table in partitions, in those blocks of each."""
_EXTENT = """
SELECT coalesce(max(pg_relation_size(c.oid)) / CAST(current_setting('block_size') AS int), 0) AS blocks,
       greatest(count(*) FILTER (WHERE c.relkind = 'r'), 1) AS partitions
  FROM pg_class c
 WHERE c.oid = to_regclass(:table) OR c.oid IN (SELECT relid FROM pg_partition_tree(to_regclass(:table)))
"""


@dataclass(frozen=True)
class Extent:
    """How large a table is."""

    blocks: int
    """Of mostly 8 kB; of a table in partitions, those of the largest."""
    partitions: int
    """One where it has none."""

    def at_once(self, blocks: int) -> int:
        """How many blocks of each partition make up so many, at least one."""
        return max(1, blocks // self.partitions)


def extent(session: Session, table: str) -> Extent:
    """How large a table is now."""
    return Extent(**session.execute(text(_EXTENT), {"table": table}).mappings().one())


def bounds(first: int, until: int) -> dict[str, str]:
    """The parameters of RANGE for the blocks from one to before another."""
    return {"first": f"({first},0)", "until": f"({until},0)"}
