"""Who may approve: people and groups as they are configured, whatever Slack lets the bot know of them."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from typing import Any

import pytest
from slack_sdk import WebClient
from slack_sdk.errors import SlackApiError

from bot import people as looking
from bot.manifest import manifest
from bot.people import People, barred
from bot.sandbox import Sandbox
from core.outbox import Later
from core.rules.approval import Actor
from core.settings import ExperimentSection, Settings, SlackSection
from tests.bot.conftest import make_sandbox
from tests.workspace import Workspace


@pytest.fixture
def sandbox() -> Iterator[Sandbox]:
    """With the group `ml-approvers`, in which bob is."""
    with make_sandbox(groups={"ml-approvers": ("bob",)}) as made:
        yield made


def may(people: People, workspace: Workspace) -> list[str]:
    """The handles of those who may approve."""
    everybody = [workspace.person(handle) for handle in ("alice", "bob", "carol")]
    return [p.handle for p in everybody if p.id in people.roles.approvers]


def named(web: WebClient, *approvers: str, **slack: tuple[str, ...]) -> People:
    return People(web, Settings(slack=SlackSection(approvers=approvers, **slack)))  # type: ignore[arg-type]


def read(web: WebClient, *approvers: str) -> People:
    people = named(web, *approvers)
    people.refresh()
    return people


def test_handles_ids_and_groups(web: WebClient, workspace: Workspace) -> None:
    group = workspace.state()["groups"][0]["id"]
    assert may(read(web), workspace) == []
    assert may(read(web, "@bob"), workspace) == ["bob"]
    assert may(read(web, workspace.person("alice").id), workspace) == ["alice"]
    assert may(read(web, "@ml-approvers", "@carol"), workspace) == ["bob", "carol"]
    assert may(read(web, group), workspace) == ["bob"]


def test_before_the_first_refresh_only_ids_count(web: WebClient, workspace: Workspace) -> None:
    carol = workspace.person("carol").id
    assert may(named(web, "@bob", carol), workspace) == ["carol"]


def test_members_come_and_go(web: WebClient, workspace: Workspace) -> None:
    people = read(web, "@ml-approvers")
    workspace.admin("group", group="ml-approvers", users=["alice", "carol"])
    assert may(people, workspace) == ["bob"]
    people.refresh()
    assert may(people, workspace) == ["alice", "carol"]


@pytest.mark.parametrize("error", ["plan_upgrade_required", "missing_scope"])
def test_without_groups_the_listed_people_still_count(
    error: str, web: WebClient, workspace: Workspace, caplog: pytest.LogCaptureFixture
) -> None:
    workspace.fails("usergroups.list", "error", error=error)
    assert may(read(web, "@bob", "S0123"), workspace) == ["bob"]
    assert f"user groups could not be read ({error})" in caplog.text


def test_an_app_without_the_scope_for_groups(caplog: pytest.LogCaptureFixture) -> None:
    less = manifest()
    less["oauth_config"]["scopes"]["bot"].remove("usergroups:read")
    with make_sandbox(manifest=less, groups={"ml-approvers": ("bob",)}) as sandbox, Workspace(sandbox) as workspace:
        web = WebClient(token=sandbox.bot_token, base_url=sandbox.api_url, retry_handlers=[])
        assert may(read(web, "@ml-approvers", "@carol"), workspace) == ["carol"]
    assert "no such user or group in the workspace: @ml-approvers" in caplog.text


@pytest.mark.parametrize("method", ["usergroups.list", "users.list"])
@pytest.mark.parametrize("fault", ["ratelimited", "server_error"])
def test_a_fault_in_passing_takes_nobodys_right_away(
    method: str, fault: str, web: WebClient, workspace: Workspace, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.CRITICAL, "slack_sdk")
    people = read(web, "@ml-approvers", "@carol")
    workspace.fails(method, fault)
    with pytest.raises((SlackApiError, Later)):
        people.refresh()
    assert may(people, workspace) == ["bob", "carol"]


def test_roles_of_the_configuration(web: WebClient, workspace: Workspace) -> None:
    alice, bob, carol = (workspace.person(handle).id for handle in ("alice", "bob", "carol"))
    owned = {"exp": ExperimentSection(owners=("@carol",))}
    people = People(
        web, Settings(slack=SlackSection(operators=("@alice",), owners=("@ml-approvers",)), experiments=owned)
    )
    people.refresh()
    assert people.roles.operators == {alice}
    assert people.roles.approvers_of("exp") == {bob, carol}
    assert people.roles.approvers_of("another") == {bob}
    assert read(web, "@bob").roles.operators is None, "everybody may ask"


# --- At the click ---------------------------------------------------------------------------------------------------


@pytest.fixture
def passing(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is cached is old at once."""
    monkeypatch.setattr(looking, "CACHED_S", -1.0)


@pytest.mark.usefixtures("passing")
def test_a_click_sees_who_is_in_the_group_now(web: WebClient, workspace: Workspace) -> None:
    people = read(web, "@ml-approvers")
    workspace.admin("group", group="ml-approvers", users=["carol"])
    people.checked(Actor(workspace.person("bob").id))
    assert may(people, workspace) == ["carol"]


def test_what_was_read_within_the_minute_is_not_asked_again(web: WebClient, workspace: Workspace) -> None:
    people = read(web, "@ml-approvers")
    bob = Actor(workspace.person("bob").id)
    assert people.checked(bob) == bob
    workspace.admin("group", group="ml-approvers", users=["carol"])
    workspace.admin("guest", user="bob")
    assert people.checked(bob) == bob
    assert may(people, workspace) == ["bob"]


@pytest.mark.usefixtures("passing")
@pytest.mark.parametrize(("act", "says"), [("guest", "You are a guest"), ("deactivate", "is deactivated")])
def test_guests_and_those_who_left_do_not_decide(act: str, says: str, web: WebClient, workspace: Workspace) -> None:
    people, bob = read(web, "@bob"), Actor(workspace.person("bob").id)
    assert people.checked(bob).barred is None
    workspace.admin(act, user="bob")
    assert says in str(people.checked(bob).barred)
    assert people.eligible("exp", requester="U1") == ()
    assert may(people, workspace) == [], "what they approved does not count any more"


def test_who_is_a_guest_no_more_decides_again(web: WebClient, workspace: Workspace) -> None:
    workspace.admin("guest", user="bob")
    people = read(web, "@bob")
    assert may(people, workspace) == []
    workspace.admin("member", user="bob")
    people.refresh()
    assert may(people, workspace) == ["bob"]


@pytest.mark.usefixtures("passing")
def test_without_an_answer_of_slack_what_was_known_counts(
    web: WebClient, workspace: Workspace, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.CRITICAL, "slack_sdk")
    people, bob = read(web, "@ml-approvers"), Actor(workspace.person("bob").id)
    stranger = Actor(workspace.person("alice").id)
    workspace.fails("users.info", "server_error")
    assert not people.checked(stranger).is_known, "nobody has looked yet"
    assert people.checked(bob).is_known
    for method in ("usergroups.list", "users.info"):
        workspace.fails(method, "server_error")
    assert people.checked(bob) == bob
    assert may(people, workspace) == ["bob"]


@pytest.mark.parametrize(
    ("user", "organisation", "may"),
    [
        ({"team_id": "T1"}, None, True),
        ({"team_id": "T2"}, None, False),
        ({"team_id": "T1", "is_stranger": True}, None, False),
        ({"team_id": "T2", "enterprise_user": {"enterprise_id": "E1"}}, "E1", True),
        ({"team_id": "T2", "enterprise_user": {"enterprise_id": "E2"}}, "E1", False),
        ({"team_id": "T2"}, "E1", False),
        ({"team_id": "T1", "is_bot": True}, None, False),
        ({"team_id": "T1", "is_ultra_restricted": True}, None, False),
    ],
)
def test_who_is_of_this_workspace(user: dict[str, Any], organisation: str | None, may: bool) -> None:
    assert (barred(user, "T1", organisation) is None) is may
