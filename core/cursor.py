"""How far the events have been read: passes over what is new, each in stretches of a bounded size.

Neither `created_at` nor the id of an event says when its transaction was committed. So the cursor is a transaction
number: all events below `horizon` have been taken, and a new horizon is the oldest transaction that was still running
when a pass began. Every event is taken by exactly one pass, however late its transaction commits, with subtransactions
too. Events that are visible already but lie beyond the horizon (a long transaction runs somewhere) are taken at once
and remembered in `measure_ahead` until the horizon has passed them. System columns have no index, so a pass looks for
them where they can be: by `created_at` from an hour before the previous horizon was set, where the table has such an
index, else by the platform's own index on `timestamp`, eight days back. What that cannot find (a transaction that
idled for more than an hour before its first write, an event with a `created_at` of its own from long ago) is found by
a sweep, a scan of the whole table to be run once a day. The first pass reads the whole table.
"""

from __future__ import annotations

import uuid
from dataclasses import dataclass, replace
from datetime import date, timedelta
from typing import Any, Final

from sqlalchemy import text
from sqlalchemy.orm import Session

from core.events import named

_LAGS: Final = {"created_at": timedelta(hours=1), "timestamp": timedelta(days=8)}
_FIRST_ID: Final = uuid.UUID(int=0)
_LAST_ID: Final = uuid.UUID(int=2**128 - 1)

# Transaction numbers of rows have 32 bits and wrap around, so they are compared by age; a pass spans far fewer.
_AGE = "age(CAST(CAST({} & 4294967295 AS text) AS xid))"
_HIGH, _LOW = f"(SELECT {_AGE.format(':high')})", f"(SELECT {_AGE.format(':low_xid')})"
_IS_BELOW = f"age(e.xmin) > {_HIGH}"
_IS_NEWER = f"age(e.xmin) <= {_HIGH}"
_IS_FROM = f"age(e.xmin) <= {_LOW}"
_NOT_AHEAD = "NOT EXISTS (SELECT FROM promotion.measure_ahead h WHERE h.event_id = e.id)"
IS_TAKEN = f"({_IS_BELOW} OR e.id IN (SELECT event_id FROM promotion.measure_ahead))"
"""The events that have been taken, below the horizon `:high` or ahead of it."""
_MISSED = f"""EXISTS (
    SELECT FROM promotion.measure_passes w
     WHERE age(e.xmin) <= {_AGE.format("w.low_xid")} AND age(e.xmin) > {_AGE.format("w.high_xid")}
       AND CASE w.key WHEN 'created_at' THEN e.created_at ELSE e.timestamp END < w.low)"""


@dataclass(frozen=True)
class Cursor:
    """The one row of `measure_cursor`; None where there is nothing yet.

    `horizon`, `horizon_at`: see above. `seen_next`, `seen_at`: the next transaction number and the time when the last
    pass that was closed began. `scan` and `pass_...`: the pass that is under way; `after_...`: how far it has come.
    """

    is_the_one: bool
    horizon: Any
    horizon_at: Any
    seen_next: Any
    seen_at: Any
    frozen_before: date | None
    scan: str | None
    pass_horizon: Any
    pass_next: Any
    pass_at: Any
    pass_key: str | None
    pass_low: Any
    after_at: str | None
    after_id: uuid.UUID | None

    @property
    def has_ahead(self) -> bool:
        """Whether there may be events beyond the horizon, to be noted before they are taken."""
        return self.scan == "recent" and bool(self.pass_next > self.pass_horizon)


def seen(session: Session) -> Cursor:
    """The cursor as it is at this moment."""
    return Cursor(**session.execute(text("SELECT * FROM promotion.measure_cursor")).one()._mapping)


def locked(session: Session) -> Cursor:
    """The cursor, locked until the end of the transaction: one at a time."""
    return Cursor(**session.execute(text("SELECT * FROM promotion.measure_cursor FOR UPDATE")).one()._mapping)


def put(session: Session, **values: Any) -> Cursor:
    """Changes the cursor; returns it as it is then."""
    assigned = ", ".join(f"{name} = :{name}" for name in values)
    query = f"UPDATE promotion.measure_cursor SET {assigned} RETURNING *"
    return Cursor(**session.execute(text(query), values).one()._mapping)


def restart(session: Session, frozen_before: date | None) -> None:
    """Nothing has been read: the next pass is one over the whole table, of what speaks of `frozen_before` or later."""
    put(session, horizon=None, horizon_at=None, scan=None, frozen_before=frozen_before)
    session.execute(text("DELETE FROM promotion.measure_ahead"))
    session.execute(text("DELETE FROM promotion.measure_passes"))


def _key(session: Session) -> str:
    """The column that new events are looked for by: `created_at` where it has an index."""
    query = """
        SELECT EXISTS (SELECT FROM pg_index i JOIN pg_attribute a ON a.attrelid = i.indrelid AND a.attnum = i.indkey[0]
                        WHERE i.indrelid = to_regclass('exp.events') AND i.indisvalid AND i.indpred IS NULL
                          AND a.attname = 'created_at')"""
    return "created_at" if session.execute(text(query)).scalar_one() else "timestamp"


_EVERYTHING: Final[dict[str, Any]] = {
    "pass_key": "timestamp",
    "pass_low": None,
    "after_at": None,
    "after_id": _FIRST_ID,
}


def begin(session: Session, cursor: Cursor, sweep: bool) -> Cursor:
    """Opens a pass: everything that is committed by now and has not been taken."""
    now = session.execute(
        text("""SELECT CAST(CAST(pg_snapshot_xmin(s) AS text) AS bigint) AS horizon,
                       CAST(CAST(pg_snapshot_xmax(s) AS text) AS bigint) AS next, now() AS at
                  FROM pg_current_snapshot() s""")
    ).one()
    common = {"pass_horizon": now.horizon, "pass_next": now.next, "pass_at": now.at}
    if cursor.horizon is None:
        return put(session, **common, scan="all", **_EVERYTHING)
    if sweep:
        common["pass_horizon"] = cursor.horizon
        return put(session, **common, scan="sweep", **_EVERYTHING)
    key = _key(session)
    low = cursor.horizon_at - _LAGS[key]
    return put(session, **common, scan="recent", pass_key=key, pass_low=low, after_at=None, after_id=_FIRST_ID)


def _end(session: Session, cursor: Cursor) -> None:
    """Closes a pass. All transactions from the new horizon on got their number after `horizon_at`."""
    if cursor.scan == "sweep":
        values = {"high": cursor.pass_horizon}
        session.execute(text("DELETE FROM promotion.measure_passes WHERE high_xid <= :high"), values)
        session.execute(text("DELETE FROM promotion.measure_ahead WHERE xid < :high"), values)
        put(session, scan=None)
        return
    if cursor.scan == "recent" and cursor.pass_horizon > cursor.horizon:
        session.execute(
            text("""INSERT INTO promotion.measure_passes (low_xid, high_xid, key, low)
                    SELECT horizon, pass_horizon, pass_key, pass_low FROM promotion.measure_cursor""")
        )
    horizon, at = cursor.pass_horizon, cursor.horizon_at
    if cursor.pass_next <= horizon:
        at = cursor.pass_at
    elif at is None:
        at = cursor.pass_at - timedelta(days=1)
    elif cursor.seen_next <= horizon:
        at = cursor.seen_at
    put(session, scan=None, horizon=horizon, horizon_at=at, seen_next=cursor.pass_next, seen_at=cursor.pass_at)


@dataclass(frozen=True)
class Stretch:
    """The next events of a pass, by time: those that the condition `which` chooses with its values."""

    begins: Cursor
    which: str
    values: dict[str, Any]
    last: tuple[str, uuid.UUID] | None
    """Time and id of the last event; None where it ends with the pass."""

    @property
    def end(self) -> Cursor:
        """The cursor once the stretch is taken and the pass goes on."""
        at, id = self.last or (None, None)
        return replace(self.begins, after_at=at, after_id=id)


def stretch(session: Session, cursor: Cursor, limit: int) -> Stretch:
    """What is to be taken next. It chooses the same events later on, as long as the pass has none ahead of it."""
    key = f"e.{cursor.pass_key}"
    which = f"{key} >= :after_at AND ({key}, e.id) > (:after_at, :after_id)"
    values: dict[str, Any] = {
        "after_at": cursor.after_at or cursor.pass_low or "-infinity",
        "after_id": cursor.after_id,
        "high": cursor.pass_horizon,
        "low_xid": cursor.horizon,
    }
    if cursor.scan == "all":
        is_new = _IS_BELOW
    elif cursor.scan == "sweep":
        is_new = f"{_IS_BELOW} AND {_MISSED} AND {_NOT_AHEAD}"
    else:
        is_new = f"{_IS_FROM} AND {_NOT_AHEAD}" + ("" if cursor.has_ahead else f" AND {_IS_BELOW}")
    last = _last(session, cursor, which, is_new, values, limit)
    if last is not None:
        which += f" AND {key} <= :until_at AND ({key}, e.id) <= (:until_at, :until_id)"
        values |= {"until_at": last[0], "until_id": last[1]}
    if cursor.has_ahead:
        values["ahead"] = _ahead(session, which, values)
        is_new = f"{_IS_FROM} AND ({_IS_BELOW} AND {_NOT_AHEAD} OR e.id = ANY(CAST(:ahead AS uuid[])))"
    return Stretch(cursor, f"{which} AND {is_new}", values, last)


def passed(session: Session, stretch: Stretch) -> None:
    """The events of the stretch have been taken."""
    if stretch.last is None:
        _end(session, stretch.begins)
    else:
        put(session, after_at=stretch.end.after_at, after_id=stretch.end.after_id)


def _last(
    session: Session, cursor: Cursor, which: str, is_new: str, values: dict[str, Any], limit: int
) -> tuple[str, uuid.UUID] | None:
    """Time and id of the last event of a batch; None where the batch is the last one.

    Over the whole table the index alone says it, and events of one moment stay together.
    """
    key, values = f"e.{cursor.pass_key}", {**values, "skip": limit - 1}
    if cursor.scan != "recent":
        which = "true" if cursor.after_at is None else f"{key} > :after_at"
        query = f"""
            SELECT CAST(at AS text) FROM (
                SELECT {key} AS at FROM exp.events e WHERE {which} ORDER BY {key} OFFSET :skip LIMIT 1) AS found"""
        found = session.execute(text(query), named(query, values)).scalar_one_or_none()
        return None if found is None else (found, _LAST_ID)
    query = f"""
        SELECT CAST({key} AS text) AS at, e.id FROM exp.events e WHERE {which} AND {is_new}
         ORDER BY {key}, e.id OFFSET :skip LIMIT 1"""
    row = session.execute(text(query), named(query, values)).mappings().one_or_none()
    return None if row is None else (row["at"], row["id"])


def _ahead(session: Session, which: str, values: dict[str, Any]) -> list[uuid.UUID]:
    """Notes the events that can be seen beyond the horizon, before any is taken: what commits later is not lost."""
    query = f"""
        INSERT INTO promotion.measure_ahead (event_id, xid)
        SELECT e.id, :high + {_HIGH} - age(e.xmin) FROM exp.events e WHERE {which} AND {_IS_NEWER} AND {_NOT_AHEAD}
        RETURNING event_id"""
    return list(session.execute(text(query), named(query, values)).scalars())
