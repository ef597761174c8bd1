"""Who may approve: people and groups as they are configured, whatever Slack lets the bot know of them."""

from __future__ import annotations

import logging
from collections.abc import Iterator

import pytest
from slack_sdk import WebClient
from slack_sdk.errors import SlackApiError

from bot.manifest import manifest
from bot.people import People
from bot.sandbox import Sandbox
from core.rules import approval
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
    return [p.handle for p in everybody if approval.is_approver(people.actor(p.id), people.approvers)]


def read(web: WebClient, *approvers: str) -> People:
    people = People(web, approvers)
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
    assert may(People(web, ("@bob", carol)), workspace) == ["carol"]


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
    with pytest.raises(SlackApiError):
        people.refresh()
    assert may(people, workspace) == ["bob", "carol"]
