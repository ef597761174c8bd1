"""Workspaces of thousands: who and which channels are named is found, without more calls than Slack takes."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from slack_sdk import WebClient
from slack_sdk.errors import SlackApiError
from sqlalchemy import Engine

from bot import channels as looking
from bot import listing, people, schedule
from bot.channels import Channels
from bot.listing import Listing
from bot.people import People
from bot.sandbox import Channel, Sandbox
from bot.sandbox.workspace import seed
from core.errors import Refused
from core.outbox import Later
from core.settings import ExperimentSection, Settings, SlackSection
from tests.bot.acts import answer
from tests.bot.conftest import APPROVALS, EVERYBODY, PEOPLE, ROLLOUTS, Bot, configure, effects, hurry, make_sandbox
from tests.core.conftest import EXPERIMENT
from tests.workspace import Person, Workspace, waits_until

CROWD = 4_300
NEW = "ml-approvals-new"


def fill(sandbox: Sandbox) -> None:
    """Thousands of channels and people; those who are named in the configuration come after them."""
    store = sandbox._ws.store
    channel, person = store.all("channel")[0], store.all("user")[-1]
    with store.together():
        for number in range(CROWD):
            store.put("channel", f"C1{number:05}", channel | {"id": f"C1{number:05}", "name": f"talk-{number}"})
            store.put("user", f"U1{number:05}", person | {"id": f"U1{number:05}", "handle": f"somebody-{number}"})
    rooms = [Channel(name=name, members=EVERYBODY) for name in (ROLLOUTS, APPROVALS)]
    seed(sandbox._ws, PEOPLE, rooms, {})


@pytest.fixture
def large() -> Iterator[Sandbox]:
    """A large workspace, with Slack's limits."""
    made = make_sandbox(channels=[Channel("general")], people=[PEOPLE[0]], rate_limited=True)
    fill(made)
    with made:
        yield made


def calls(workspace: Workspace, method: str) -> int:
    """How often the app has called a method."""
    return len(workspace.requests(method))


def test_a_bot_starts_in_a_large_workspace(
    large: Sandbox, desk: Engine, mlflow_uri: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    found = configure(large, mlflow_tracking_uri=mlflow_uri, promotion_bot_data=tmp_path)
    bot = Bot(desk, found).start()
    try:
        with Workspace(large) as workspace:
            answer(workspace.person("alice"), f"start {EXPERIMENT} 3")
            workspace.person("bob").waits_for("#1 ·", APPROVALS)
            assert (calls(workspace, "conversations.list"), calls(workspace, "users.list")) == (5, 5)
    finally:
        bot.stop()
    assert "could not be read" not in caplog.text
    assert "no such user" not in caplog.text


def test_what_is_found_ends_the_reading(sandbox: Sandbox, web: WebClient, workspace: Workspace) -> None:
    fill(sandbox)
    known = Channels(web, (ROLLOUTS, APPROVALS))
    known.read()
    assert known.id_of(APPROVALS) == workspace.channel(APPROVALS)["id"]
    asked = People(web, Settings(slack=SlackSection(approvers=("@bob",))))
    asked.refresh()
    assert asked.roles.approvers == {workspace.person("bob").id}
    assert (calls(workspace, "conversations.list"), calls(workspace, "users.list")) == (1, 1)


@pytest.mark.parametrize("gone", ["first", "second"])
def test_a_handle_is_that_of_whoever_has_it_now(
    gone: str, sandbox: Sandbox, web: WebClient, workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(listing, "PAGE", 1 if gone == "first" else 999)
    store, first = sandbox._ws.store, workspace.person("bob").id
    bob = store.get("user", first) or {}
    store.put("user", first, bob | {"deleted": gone == "first"})
    store.put("user", "U2", bob | {"id": "U2", "deleted": gone == "second"})
    asked = People(web, Settings(slack=SlackSection(approvers=("@bob",))))
    asked.refresh()
    assert asked.roles.approvers == {"U2" if gone == "first" else first}


# --- What breaks off ------------------------------------------------------------------------------------------------


def test_a_list_is_read_on_from_where_slack_asked_for_a_pause(
    web: WebClient, workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(listing, "PAGE", 1)
    everybody = Listing(web.users_list, "members", "deleted")
    workspace.fails("users.list", "slow", seconds=0, times=2)
    workspace.fails("users.list", "ratelimited", seconds=1)
    began = time.monotonic()
    with pytest.raises(Later) as told:
        everybody.look_up({"carol"})
    assert told.value.seconds == 1
    with pytest.raises(Later):
        everybody.look_up({"carol"})
    assert calls(workspace, "users.list") == 3, "Slack is left alone until then"
    time.sleep(max(0.0, began + 1.2 - time.monotonic()))
    assert everybody.look_up({"carol"})["carol"] == workspace.person("carol").id
    pages = len(workspace.state()["users"])
    assert calls(workspace, "users.list") <= pages + 1, "nothing is read twice but the page that was refused"


def test_a_cursor_that_is_too_old(web: WebClient, workspace: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(listing, "PAGE", 1)
    everybody = Listing(web.users_list, "members", "deleted")
    workspace.fails("users.list", "slow", seconds=0, times=2)
    workspace.fails("users.list", "error", error="invalid_cursor")
    with pytest.raises(SlackApiError, match="invalid_cursor"):
        everybody.look_up({"carol"})
    assert not everybody.found, "it begins anew"
    assert {"alice", "bob", "carol"} <= everybody.look_up({"nobody"}).keys()


@pytest.mark.parametrize(("fault", "says"), [("ratelimited", "asked less often"), ("server_error", "")])
def test_lists_that_cannot_be_read_are_no_reason_not_to_start(
    fault: str,
    says: str,
    desk: Engine,
    configured: Settings,
    alice: Person,
    bob: Person,
    workspace: Workspace,
    caplog: pytest.LogCaptureFixture,
) -> None:
    for method in ("conversations.list", "users.list"):
        workspace.fails(method, fault, seconds=1)
    bot = Bot(desk, configured).start()
    try:
        for what in ("people", "channels"):
            assert f"{what} could not be read to the end" in caplog.text
        assert says in caplog.text
        answer(alice, f"start {EXPERIMENT} 3")
        waits_until(lambda: effects(desk, "card"), 10, "the card to be asked for")
        time.sleep(1)
        hurry(desk)
        bob.waits_for("#1 ·", APPROVALS)
    finally:
        bot.stop()


def test_the_job_reads_on(web: WebClient, workspace: Workspace, configured: Settings, desk: Engine) -> None:
    table = schedule.Desk(desk, None, People(web, configured), Channels(web), configured)  # type: ignore[arg-type]
    workspace.fails("users.list", "ratelimited", seconds=1)
    schedule.refresh_people(table)
    assert not table.people.roles.approvers
    time.sleep(1.1)
    schedule.refresh_people(table)
    assert table.people.roles.approvers == {workspace.person("bob").id}
    read = calls(workspace, "users.list")
    schedule.refresh_people(table)
    assert calls(workspace, "users.list") == read, "not each minute"
    assert people.READ_AGAIN_S < 300


@pytest.mark.parametrize("method", ["conversations.list", "users.list", "usergroups.list"])
def test_a_token_that_is_refused_ends_the_start(
    method: str, desk: Engine, configured: Settings, workspace: Workspace
) -> None:
    workspace.fails(method, "error", error="token_revoked")
    with pytest.raises(Refused, match="does not accept SLACK_BOT_TOKEN: token_revoked"):
        Bot(desk, configured).start()


# --- Channels that are not there, or not any more -------------------------------------------------------------------


def test_an_unknown_name_is_looked_for_once_a_minute(
    web: WebClient, workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    known = Channels(web, (ROLLOUTS, "nowhere"))
    known.read()
    for _ in range(5):
        with pytest.raises(LookupError, match="sees no channel #nowhere"):
            known.id_of("#nowhere")
    assert known.id_of(ROLLOUTS)
    assert calls(workspace, "conversations.list") == 1
    monkeypatch.setattr(looking, "AGAIN_S", -1.0)
    workspace.admin("rename", channel=APPROVALS, to="nowhere")
    assert known.id_of("#nowhere") == workspace.channel("nowhere")["id"]


def test_a_name_that_another_channel_has_now(
    bot: Bot, alice: Person, workspace: Workspace, desk: Engine, monkeypatch: pytest.MonkeyPatch, sandbox: Sandbox
) -> None:
    """The channel was archived and its name given to a new one, while the bot runs."""
    seed(sandbox._ws, (), [Channel(NEW, members=EVERYBODY)], {})
    workspace.admin("rename", channel=APPROVALS, to="former")
    workspace.admin("archive", channel="former")
    workspace.admin("rename", channel=NEW, to=APPROVALS)
    monkeypatch.setattr(looking, "AGAIN_S", -1.0)
    answer(alice, f"start {EXPERIMENT} 3")
    waits_until(lambda: effects(desk, "card")[0].last_error, 30, "the refusal")
    hurry(desk)
    alice.waits_for("#1 ·", APPROVALS)


@pytest.mark.parametrize("error", ["is_archived", "channel_not_found"])
def test_a_channel_that_is_gone_is_read_anew_once(
    error: str, web: WebClient, workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    known = Channels(web, (ROLLOUTS, APPROVALS))
    before = known.id_of(APPROVALS)
    monkeypatch.setattr(looking, "AGAIN_S", -1.0)
    workspace.fails("chat.postMessage", "error", error=error)
    with pytest.raises(SlackApiError), known.at(APPROVALS) as where:
        web.chat_postMessage(channel=where, text="x")
    workspace.admin("rename", channel=APPROVALS, to="former")
    workspace.admin("rename", channel=ROLLOUTS, to=APPROVALS)
    assert known.id_of(APPROVALS) == workspace.channel(APPROVALS)["id"] != before
    known.id_of(APPROVALS)
    assert calls(workspace, "conversations.list") == 2


def test_a_channel_that_is_archived_is_known_as_such(web: WebClient, workspace: Workspace) -> None:
    """So that the record says what is wrong, and a post succeeds as soon as it is open again."""
    workspace.admin("archive", channel=APPROVALS)
    assert Channels(web, (APPROVALS,)).id_of(APPROVALS) == workspace.channel(APPROVALS)["id"]


def test_all_channels_of_the_configuration_are_wanted() -> None:
    own = {"a": ExperimentSection(channel="of-a"), "b": ExperimentSection()}
    assert Settings(experiments=own).channels == {"ml-rollouts", "ml-approvals", "of-a"}
