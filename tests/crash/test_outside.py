"""What happens outside while somebody approves: each fault has its behaviour; afterwards all is done, once."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import psycopg
import pytest
from mlflow import MlflowClient
from mlflow.exceptions import MlflowException
from sqlalchemy import Engine, text
from sqlalchemy.engine import make_url

from bot.demo import clock
from core import condition, db
from core.settings import Settings
from tests.bot.acts import Json, aloud, ask, notices, redrawn, told
from tests.bot.conftest import APPROVALS, ROLLOUTS, Bot, hurry, waiting
from tests.conftest import a_server
from tests.core import steps
from tests.core.conftest import MODEL, fill_mlflow
from tests.crash import gates
from tests.crash.scenes import registry_server, tags_as_at_first
from tests.crash.wires import State, Wire, wire
from tests.workspace import Person, Workspace, text_of, waits_until

pytestmark = pytest.mark.timeout(240)
LONG_S = 30
SLACKS_LIMIT_MS = 3_000
ON_ITS_WAY = "recorded, on its way"
UNREACHABLE, NO_CHANGES, NO_ROOM = "The database does not answer", "takes no changes at this moment", "has no room left"


@dataclass(frozen=True)
class Place:
    """What can be harmed."""

    engine: Engine
    """Past the wire."""
    database: Wire
    registry: Wire
    workspace: Workspace
    client: MlflowClient

    @property
    def url(self) -> str:
        """Of the database, past the wire."""
        return self.engine.url.set(drivername="postgresql").render_as_string(hide_password=False)

    def run(self, *statements: str) -> None:
        """Statements, each committed by itself."""
        with self.engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
            for statement in statements:
                connection.execute(text(statement))


Harm = Callable[[Place], contextlib.AbstractContextManager[None]]


END = """
SELECT pg_terminate_backend(pid) FROM pg_stat_activity
 WHERE backend_type = 'client backend' AND pid <> pg_backend_pid()"""
"""Every session but this one."""


# --- Faults ---------------------------------------------------------------------------------------------------------


@contextmanager
def crashes(place: Place) -> Iterator[None]:
    """PostgreSQL ends every session and restarts, as after a crash."""
    with psycopg.connect(place.url) as victim:
        os.kill(victim.info.backend_pid, signal.SIGKILL)
    yield


@contextmanager
def switches_over(place: Place) -> Iterator[None]:
    """Every session ends, and for a while there is only a standby, which takes no changes."""
    name = place.engine.url.database
    place.run(f"ALTER DATABASE {name} SET default_transaction_read_only = on", END)
    yield
    place.run(
        "SET default_transaction_read_only = off", f"ALTER DATABASE {name} RESET default_transaction_read_only", END
    )


@contextmanager
def is_crowded(place: Place) -> Iterator[None]:
    """Others take every connection that there is; those of the bot are ended."""
    held: list[psycopg.Connection[tuple[object, ...]]] = []
    place.run(END)
    with contextlib.suppress(psycopg.OperationalError):
        while len(held) < 1_000:
            held.append(psycopg.connect(place.url))
    assert len(held) < 1_000
    try:
        yield
    finally:
        for one in held:
            one.close()


@contextmanager
def is_full(place: Place) -> Iterator[None]:
    """Nothing can be added to the record: PostgreSQL says that its disk is full."""
    place.run(
        """CREATE FUNCTION public.full_disk() RETURNS trigger LANGUAGE plpgsql AS $$
           BEGIN RAISE EXCEPTION 'could not extend file' USING ERRCODE = 'disk_full'; END $$""",
        "CREATE TRIGGER full_disk BEFORE INSERT ON promotion.ledger EXECUTE FUNCTION public.full_disk()",
    )
    yield
    place.run("DROP TRIGGER full_disk ON promotion.ledger", "DROP FUNCTION public.full_disk()")


@contextmanager
def clock_jumps_and_is_set_back(place: Place) -> Iterator[None]:
    """Two hours ahead while it is approved, then right again."""
    clock.advance(place.engine, hours=2)
    yield
    clock.advance(place.engine, hours=-2)


@contextmanager
def loses_the_version(place: Place) -> Iterator[None]:
    """Somebody deletes the very version that is approved."""
    place.client.delete_model_version(MODEL, "3")
    yield


@contextmanager
def loses_the_model(place: Place) -> Iterator[None]:
    place.client.delete_registered_model(MODEL)
    yield


@contextmanager
def is_changed_behind_our_back(place: Place) -> Iterator[None]:
    """Somebody puts the version into production by hand: that stays, and there is a card about it."""
    place.client.set_model_version_tag(MODEL, "3", "stage", "production")
    yield
    place.workspace.person("bob").waits_for(f"Tags of {MODEL} were set by hand", APPROVALS)


def _on(which: str, state: State) -> Harm:
    @contextmanager
    def harm(place: Place) -> Iterator[None]:
        found: Wire = getattr(place, which)
        found.becomes(state)
        try:
            yield
        finally:
            found.becomes("whole")

    return harm


def _admin(harm: str, heal: str, channel: str = APPROVALS) -> Harm:
    @contextmanager
    def harmed(place: Place) -> Iterator[None]:
        place.workspace.admin(harm, channel=channel)
        yield
        place.workspace.admin(heal, channel=channel)

    return harmed


def _calls(kind: str) -> Harm:
    @contextmanager
    def harmed(place: Place) -> Iterator[None]:
        place.workspace.fails("*", kind, times=1_000, **({"seconds": 1} if kind == "ratelimited" else {}))
        yield
        place.workspace.fails_no_more()

    return harmed


@contextmanager
def socket_drops(place: Place) -> Iterator[None]:
    place.workspace.socket("drop")
    place.workspace.waits_until_connected()
    yield


@dataclass(frozen=True)
class Fault:
    """What goes wrong, and what is seen meanwhile: words for the approver, or the approval that counts at once."""

    harm: Harm
    says: str | None = None
    """What the approver is told where the click could not be recorded."""
    on_card: str = ""
    tag: str | None = "experiment"
    """What MLflow has at the end, for what was approved."""


FAULTS = {
    "PostgreSQL crashes and restarts": Fault(crashes),
    "PostgreSQL is not there": Fault(_on("database", "cut"), UNREACHABLE),
    "PostgreSQL never answers": Fault(_on("database", "dead"), UNREACHABLE),
    "PostgreSQL is switched over": Fault(switches_over, NO_CHANGES),
    "PostgreSQL has no connection left": Fault(is_crowded),
    "PostgreSQL has no room left": Fault(is_full, NO_ROOM),
    "MLflow is not there": Fault(_on("registry", "cut"), on_card=ON_ITS_WAY),
    "MLflow never answers": Fault(_on("registry", "dead"), on_card=ON_ITS_WAY),
    "MLflow answers 503": Fault(_on("registry", "503"), on_card=ON_ITS_WAY),
    "MLflow has lost the version": Fault(loses_the_version, tag=None),
    "MLflow has lost the model": Fault(loses_the_model, tag=None),
    "MLflow is changed behind our back": Fault(is_changed_behind_our_back, tag="production"),
    "Slack answers 429": Fault(_calls("ratelimited")),
    "Slack answers 500": Fault(_calls("server_error")),
    "Slack takes a call and drops the connection": Fault(_calls("drop_after")),
    "Slack drops the socket": Fault(socket_drops),
    "Slack revokes the token": Fault(_admin("revoke_token", "restore_token")),
    "the channel of the notices is archived": Fault(_admin("archive", "unarchive", ROLLOUTS)),
    "the bot is removed from the channel": Fault(_admin("leave", "join")),
    "the clock jumps and is set back": Fault(clock_jumps_and_is_set_back),
}


# --- The story ------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def postgres() -> Iterator[str]:
    """A server of its own, for what happens to it is felt by all of its databases."""
    if os.environ.get("TEST_DATABASE_URL"):
        pytest.skip("a server that others use is not harmed")
    with a_server() as url:
        with psycopg.connect(url, autocommit=True) as connection:  # what is committed outlives a crash here
            connection.execute("ALTER SYSTEM SET synchronous_commit = on")
            connection.execute("SELECT pg_reload_conf()")
        yield url


@pytest.fixture(scope="module")
def mlflow_server(mlflow_template: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    folder = tmp_path_factory.mktemp("registry")
    (folder / "mlflow.db").write_bytes(mlflow_template.read_bytes())
    with registry_server(folder, f"sqlite:///{folder / 'mlflow.db'}") as url:
        yield url


def _is_as_at_first(client: MlflowClient) -> None:
    """Also where a story before has deleted something, which MLflow does not take back."""
    if len(steps.tags(client)) < 4:
        with contextlib.suppress(MlflowException):
            client.delete_registered_model(MODEL)
        fill_mlflow(client)
    tags_as_at_first(client)


@pytest.fixture
def place(desk: Engine, workspace: Workspace, mlflow_server: str) -> Iterator[Place]:
    url = desk.url.render_as_string(hide_password=False)
    port = int(mlflow_server.rpartition(":")[2])
    client = MlflowClient(tracking_uri=mlflow_server, registry_uri=mlflow_server)
    _is_as_at_first(client)
    with ExitStack() as stack:
        database = stack.enter_context(wire(lambda: gates.server(url)))
        registry = stack.enter_context(wire(lambda: socket.create_connection(("127.0.0.1", port))))
        yield Place(desk, database, registry, workspace, client)


@pytest.fixture
def bot(place: Place, configured: Settings) -> Iterator[Bot]:
    plain = {"sslmode": "disable", "gssencmode": "disable"}
    through = make_url(str(place.engine.url.render_as_string(hide_password=False)))
    url = through.set(host="127.0.0.1", port=place.database.port, query=plain)
    engine = db.connect(url.render_as_string(hide_password=False))
    found = configured.model_copy(
        update={"mlflow_tracking_uri": f"http://127.0.0.1:{place.registry.port}", "mlflow_timeout_s": 2}
    )
    made = Bot(engine, found)
    try:
        yield made.start()
    finally:
        made.stop()
        engine.dispose()


@pytest.mark.parametrize("name", FAULTS)
def test_one_approval(name: str, bot: Bot, place: Place, alice: Person, bob: Person) -> None:
    fault = FAULTS[name]
    card = ask(alice)
    waits_until(lambda: not waiting(place.engine), LONG_S, "the card")
    with fault.harm(place):
        before = len(told(bob, APPROVALS))
        clicked = bob.clicks(card, "Approve")
        assert clicked.acked
        assert clicked.ms < SLACKS_LIMIT_MS
        if fault.says:
            answers = waits_until(lambda: told(bob, APPROVALS)[before:], LONG_S, "an answer")
            assert fault.says in text_of(answers[0]["blocks"])
        if fault.on_card:
            redrawn(bob, card, fault.on_card)
    is_done_once(place, bob, card, tag=fault.tag)


def is_done_once(place: Place, bob: Person, card: Json, *, tag: str | None = "experiment") -> None:
    """All that follows from the approval, which bob gives again where he was told to."""
    if not is_applied(place.engine):
        waits_until(lambda: _clicked(bob, card, place.engine), LONG_S, "an approval that counts")
    assert _all_done(place)
    redrawn(bob, card, ":white_check_mark: MLflow")
    assert steps.shares(place.engine) == steps.shares_of(control="0.9", candidate_v3="0.1")
    assert steps.tags(place.client).get("3") == tag
    assert len([one for one in aloud(bob, APPROVALS) if "#1 ·" in text_of(one)]) == 1
    assert len(notices(bob)) == 1
    assert approvals(place.engine) == 1


def approvals(engine: Engine) -> int:
    """How many are on record."""
    with engine.connect() as connection:
        query = text("SELECT count(*) FROM promotion.ledger WHERE action = 'approve'")
        return int(connection.execute(query).scalar_one())


def is_applied(engine: Engine) -> bool:
    """Whether the one request is, as soon as the database answers."""

    def look() -> list[str]:
        with contextlib.suppress(Exception), engine.connect() as connection:  # it may be restarting still
            return list(connection.execute(text("SELECT state FROM promotion.requests")).scalars())
        return []

    return waits_until(look, LONG_S, "the database") == ["applied"]


def _clicked(bob: Person, card: Json, engine: Engine) -> bool:
    with contextlib.suppress(AssertionError):
        bob.clicks(card, "Approve")
    return is_applied(engine)


def _all_done(place: Place) -> bool:
    def look() -> bool:
        hurry(place.engine)
        return not waiting(place.engine)

    return waits_until(look, LONG_S, "all effects")


def test_a_registry_that_is_well_says_which_release_it_is(mlflow_server: str) -> None:
    seen = condition.models(mlflow_server)
    assert isinstance(seen, condition.Models)
    assert (seen.models, seen.server) == (1, seen.client)
