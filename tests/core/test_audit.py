"""The chain of hashes over the record: what is changed behind the bot's back is found and named."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Connection, Engine, func, select, text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.orm import Session

from bot.demo import clock
from core import audit, db, ledger, settings
from core.audit import Report
from core.errors import Refused
from core.registry import Registry
from core.rules import chain
from core.tables import LedgerEntry, Seal
from tests.core import steps
from tests.core.conftest import MODEL
from tests.core.steps import at_once


def write(engine: Engine, count: int = 1) -> None:
    with db.transaction(engine) as session:
        for number in range(count):
            after = {"share": 0.1, "exact": 12345678901234567890, "ü": "„x“"}
            ledger.record(session, actor="U1", action="hold", subject=f"s{number}", after=after)


def seal(engine: Engine) -> int:
    with db.transaction(engine, patience_ms=db.BACKGROUND_MS) as session:
        return audit.seal(session)


def verify(engine: Engine, told: str | None = None) -> Report:
    with db.transaction(engine) as session:
        return audit.verify(session, told=told)


def faults(engine: Engine) -> list[tuple[str, int | None]]:
    return [(fault.kind, fault.ledger_id) for fault in verify(engine).faults]


@contextmanager
def tampering(engine: Engine) -> Iterator[Connection]:
    """What somebody can do who owns the database: no trigger is asked."""
    with engine.begin() as connection:
        connection.execute(text("SET LOCAL session_replication_role = replica"))
        yield connection


@pytest.fixture
def sealed(engine: Engine) -> Engine:
    """Five rows, sealed in two goes."""
    write(engine, 3)
    seal(engine)
    clock.advance(engine, hours=3)
    write(engine, 2)
    seal(engine)
    return engine


def test_an_untouched_record_has_no_faults(sealed: Engine) -> None:
    report = verify(sealed)
    assert (report.entries, report.unsealed, report.faults) == (5, 0, ())
    assert report.head is not None
    assert report.head.number == 5
    write(sealed)
    assert (verify(sealed).unsealed, verify(sealed).faults) == (1, ())
    assert seal(sealed) == 1
    assert seal(sealed) == 0


def test_nothing_on_record(engine: Engine) -> None:
    assert verify(engine) == Report(0, 0, None, ())
    assert seal(engine) == 0


@pytest.mark.parametrize(
    ("statement", "expected"),
    [
        ("UPDATE promotion.ledger SET reason = 'other' WHERE id = 2", [("edited", 2)]),
        ("UPDATE promotion.ledger SET at = at + interval '1 microsecond' WHERE id = 2", [("edited", 2)]),
        (
            "UPDATE promotion.ledger SET after = after || '{\"exact\": 12345678901234567891}' WHERE id = 5",
            [("edited", 5)],
        ),
        ("UPDATE promotion.ledger SET evidence = '{}' WHERE id = 1", [("edited", 1)]),
        ("DELETE FROM promotion.ledger WHERE id = 3", [("missing", 3)]),
        (
            "UPDATE promotion.ledger l SET subject = o.subject, at = o.at FROM promotion.ledger o"
            " WHERE (l.id, o.id) IN ((2, 3), (3, 2))",
            [("moved", 2), ("moved", 3)],
        ),
        (
            "INSERT INTO promotion.ledger (id, at, actor, action, subject, after) OVERRIDING SYSTEM VALUE"
            " SELECT 77, at, actor, action, subject, after FROM promotion.ledger WHERE id = 2;"
            "DELETE FROM promotion.ledger WHERE id = 2",
            [("missing", 2), ("slipped in", 77)],
        ),
        ("DELETE FROM promotion.seals WHERE number = 2", [("gap", None), ("slipped in", 2)]),
        ("DELETE FROM promotion.seals WHERE number = 1", [("gap", None), ("slipped in", 1)]),
        (
            "DELETE FROM promotion.ledger WHERE id = 2; DELETE FROM promotion.seals WHERE number = 2",
            [("gap", None)],
        ),
        (
            "UPDATE promotion.seals SET ledger_id = -ledger_id WHERE number IN (2, 3);"
            "UPDATE promotion.seals SET ledger_id = CASE number WHEN 2 THEN 3 ELSE 2 END WHERE number IN (2, 3)",
            [("broken", 3), ("moved", 3), ("broken", 2), ("moved", 2)],
        ),
        ("UPDATE promotion.seals SET sealed_at = sealed_at - interval '1 s' WHERE number = 5", [("broken", 5)]),
        (
            f"UPDATE promotion.seals SET previous = '{chain.digest('x')}' WHERE number = 4",
            [("broken", 4), ("broken", 4)],
        ),
        (
            "INSERT INTO promotion.ledger (at, actor, action, subject)"
            " VALUES (now() - interval '1 day', 'U1', 'approve', 'x')",
            [("slipped in", 6)],
        ),
    ],
)
def test_what_was_changed_is_named(sealed: Engine, statement: str, expected: list[tuple[str, int | None]]) -> None:
    with tampering(sealed) as connection:
        for each in statement.split(";"):
            connection.execute(text(each))
    assert faults(sealed) == expected


def test_a_row_that_was_slipped_in_is_still_named_once_it_is_sealed(sealed: Engine) -> None:
    with sealed.begin() as connection:  # adding rows is what anybody with the bot's own rights can do
        connection.execute(
            text("""INSERT INTO promotion.ledger (id, at, actor, action, subject) OVERRIDING SYSTEM VALUE
                    VALUES (-7, now() - interval '3 days', 'U1', 'approve', 'x')""")
        )
    assert seal(sealed) == 1
    assert faults(sealed) == [("slipped in", -7)]


def test_a_hash_with_forged_seal_breaks_the_next_link(sealed: Engine) -> None:
    """Whoever edits a row and makes its seal anew has to make all later ones anew, too."""
    with Session(sealed) as session:
        found = session.get_one(Seal, 2)
        place = {name: getattr(found, name) for name in audit._PLACE} | {"content": chain.digest("other")}
    with tampering(sealed) as connection:
        connection.execute(
            text("UPDATE promotion.seals SET content = :content, hash = :hash WHERE number = 2"),
            {"content": place["content"], "hash": chain.hashed(place)},
        )
    assert faults(sealed) == [("edited", 2), ("broken", 3)]


def test_a_chain_made_anew_is_known_by_the_head_that_people_were_told(sealed: Engine) -> None:
    before = verify(sealed).head
    assert before is not None
    write(sealed)
    seal(sealed)
    assert verify(sealed, before.hash[:12]).faults == ()
    with tampering(sealed) as connection:
        connection.execute(text("UPDATE promotion.ledger SET actor = 'U9' WHERE id = 1"))
        connection.execute(text("TRUNCATE promotion.seals"))
    seal(sealed)
    assert verify(sealed).faults == ()
    (fault,) = verify(sealed, before.hash[:12]).faults
    assert fault.kind == "replaced"
    assert before.hash[:12] in fault.sentence


@pytest.mark.parametrize("told", ["", "abc", "g" * 12, "a" * 65, "%" * 20])
def test_what_is_no_hash_is_refused(engine: Engine, told: str) -> None:
    with pytest.raises(Refused, match="is no hash"):
        verify(engine, told)


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE promotion.seals SET hash = previous",
        "DELETE FROM promotion.seals",
        "TRUNCATE promotion.seals",
        "TRUNCATE promotion.seals, promotion.ledger",
    ],
)
def test_a_seal_is_never_changed(sealed: Engine, statement: str) -> None:
    with pytest.raises(DBAPIError, match="append-only"), sealed.begin() as connection:
        connection.execute(text(statement))
    assert verify(sealed).faults == ()


def test_the_chain_cannot_fork(sealed: Engine) -> None:
    """Not even where somebody seals without the lock."""
    row = "SELECT 6, 99, content, previous, repeat('a', 64) FROM promotion.seals WHERE number = 5"
    with pytest.raises(DBAPIError, match="seals_previous_key"), sealed.begin() as connection:
        connection.execute(text(f"INSERT INTO promotion.seals (number, ledger_id, content, previous, hash) {row}"))


def test_writers_and_sealers_at_once_leave_one_chain(engine: Engine) -> None:
    stop = threading.Event()

    def keep_sealing() -> None:
        while not stop.is_set():
            seal(engine)

    def keep_writing() -> None:
        for _ in range(25):
            write(engine, 2)

    sealers = [threading.Thread(target=keep_sealing) for _ in range(2)]
    for thread in sealers:
        thread.start()
    try:
        found = at_once(keep_writing, keep_writing)
    finally:
        stop.set()
        for thread in sealers:
            thread.join()
    assert found == [None, None]
    seal(engine)
    report = verify(engine)
    assert (report.entries, report.unsealed, report.faults) == (100, 0, ())


def test_a_row_that_is_committed_after_later_ones_comes_after_them(engine: Engine) -> None:
    """Numbers are given out before the commit; nothing of that is a fault."""
    with db.transaction(engine) as session:
        ledger.record(session, actor="U1", action="hold", subject="slow")
        write(engine)
        assert seal(engine) == 1
    assert seal(engine) == 1
    assert verify(engine).faults == ()
    with Session(engine) as session:
        assert session.scalars(select(Seal.ledger_id).order_by(Seal.number)).all() == [2, 1]
        assert session.scalar(select(func.count()).select_from(LedgerEntry)) == 2


def test_more_rows_than_are_held_at_once(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(audit, "AT_ONCE", 3)
    write(engine, 8)
    assert seal(engine) == 8
    assert verify(engine).entries == 8


# --- What the bot records of itself ----------------------------------------------------------------------------------


def test_a_changed_policy_is_recorded_once_with_what_differs(engine: Engine) -> None:
    def start(policy: dict[str, Any]) -> LedgerEntry | None:
        with db.transaction(engine, patience_ms=db.BACKGROUND_MS) as session:
            return ledger.record_policy(session, policy)

    first = {"rollout.steps": ["0.1", "1.0"], "rollout.rule": "calibrated", "metrics.price": None}
    second = {"rollout.steps": ["0.05", "1.0"], "rollout.rule": "calibrated", "alerts.on_call": []}
    assert start(first) is not None
    assert start(first) is None
    with ThreadPoolExecutor() as other:
        with db.transaction(engine, patience_ms=db.BACKGROUND_MS) as session:
            assert ledger.record_policy(session, second) is not None
            waiting = other.submit(start, second)  # another process that starts before this one has committed
            with pytest.raises(TimeoutError):
                waiting.result(0.3)
        assert waiting.result() is None
    entry = steps.ledger(engine, "policy")[-1]
    assert (entry.actor, entry.before, entry.after) == (
        "promotion-bot",
        {"rollout.steps": ["0.1", "1.0"], "metrics.price": None},
        {"rollout.steps": ["0.05", "1.0"], "alerts.on_call": []},
    )
    assert start(second) is None
    assert start(first) is not None, "also back to what was before"


def test_the_policy_has_no_secrets(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in ("SLACK_BOT_TOKEN", "SLACK_SIGNING_SECRET", "DATABASE_URL"):
        monkeypatch.setenv(name, "s3cret")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "https://me:s3cret@mlflow")
    config = tmp_path / "bot.toml"
    config.write_text('[rollout]\nsteps = [0.05, 1.0]\n[experiments."a.b"]\nrule = "document"\n')
    policy = settings.load(config).policy
    assert policy["rollout.steps"] == ["0.05", "1.0"]
    assert policy["experiments.a.b.rule"] == "document"
    assert policy["slack.approvers"] == []
    assert "s3cret" not in str(policy)


def test_what_was_changed_in_the_registry_is_recorded(desk: Engine, registry: Registry) -> None:
    number = steps.change(desk, "start")
    steps.deliver_registry(desk, registry)
    (entry,) = steps.ledger(desk, "mirror")
    assert (entry.actor, entry.subject, entry.request_id) == ("promotion-bot", MODEL, number)
    assert entry.before == {"tags": {"3": "candidate"}, "alias": "2"}
    assert entry.after == {"tags": {"3": "experiment"}, "alias": "2"}
    assert entry.evidence is not None
    assert entry.evidence["decided"] == {"1": "archived", "2": "production", "3": "experiment"}
