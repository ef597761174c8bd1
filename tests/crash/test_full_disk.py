"""PostgreSQL's disk is really full while somebody approves: words, nothing half-applied; then all is done, once."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest
from sqlalchemy import Engine, text
from sqlalchemy.exc import DBAPIError

from core import db, ledger
from core.errors import Refused
from tests.bot.acts import Json, ask, told
from tests.bot.conftest import APPROVALS, Bot, waiting
from tests.conftest import with_template
from tests.core import steps
from tests.crash.small_disk import SmallDisk, can_mount, small_disk
from tests.crash.test_outside import (  # noqa: F401 - fixtures
    LONG_S,
    NO_ROOM,
    SLACKS_LIMIT_MS,
    UNREACHABLE,
    Place,
    approvals,
    bot,
    is_applied,
    is_done_once,
    mlflow_server,
    place,
)
from tests.workspace import Person, text_of, waits_until

pytestmark = pytest.mark.timeout(240)


@pytest.fixture(scope="module")
def disk() -> Iterator[SmallDisk]:
    if not can_mount():
        pytest.skip("a disk of its own cannot be mounted here")
    folder = Path(tempfile.mkdtemp(prefix="promotion-bot-"))
    with small_disk(folder) as made:
        yield made
    shutil.rmtree(folder)


@pytest.fixture(scope="module")
def postgres(disk: SmallDisk) -> str:
    """A server on a disk that can be filled."""
    return with_template(disk.url)


def uses_up_the_room(engine: Engine) -> None:
    """What the record still has room for, in the blocks that it has."""
    said = ""
    while NO_ROOM not in said:
        try:
            with db.transaction(engine) as session:
                ledger.record(session, actor="U1", action="mirror", subject="filler", reason="x" * 500)
        except Refused as refused:
            said = str(refused)


def has_no_log(engine: Engine) -> None:
    """PostgreSQL's log goes on to its next file until there is no room for one: it ends."""
    with suppress(DBAPIError), engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        while True:
            connection.execute(text("SELECT pg_logical_emit_message(false, 'filler', 'one'), pg_switch_wal()"))


FULL = {"for what it keeps": (uses_up_the_room, NO_ROOM), "for its log": (has_no_log, UNREACHABLE)}


@pytest.mark.parametrize("no_room", FULL)
def test_one_approval(no_room: str, disk: SmallDisk, bot: Bot, place: Place, alice: Person, bob: Person) -> None:  # noqa: F811
    fills, says = FULL[no_room]
    card = ask(alice)
    waits_until(lambda: not waiting(place.engine), LONG_S, "the card")
    disk.fills_up()
    fills(place.engine)
    assert says in text_of(_answer(bob, card))
    disk.has_room_again()
    assert not is_applied(place.engine)
    assert approvals(place.engine) == 0
    assert steps.shares(place.engine) == steps.shares_of(control="1")
    is_done_once(place, bob, card)


def _answer(bob: Person, card: Json) -> object:
    """What he is told within Slack's limit."""
    before = len(told(bob, APPROVALS))
    clicked = bob.clicks(card, "Approve")
    assert clicked.acked
    assert clicked.ms < SLACKS_LIMIT_MS
    return waits_until(lambda: told(bob, APPROVALS)[before:], LONG_S, "an answer")[0]["blocks"]
