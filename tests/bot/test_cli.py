"""The command line: what it prints, how it starts, stops and says what has to be put right."""

from __future__ import annotations

import ast
import json
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest
from sqlalchemy import Engine, text

import bot as package
from bot.__main__ import main
from bot.manifest import SCOPES, manifest
from bot.sandbox import Sandbox
from bot.sandbox.methods import METHODS
from bot.sandbox.seed import read_manifest
from tests.bot.acts import answer, ask
from tests.core import steps
from tests.workspace import Person, Workspace

HISTORY = {"channels:history", "groups:history", "im:history"}
BY_KIND = {
    "conversations.list": {"channels:read", "groups:read"},
    "conversations.history": HISTORY,
    "conversations.replies": HISTORY,
}
"""Methods whose scope depends on what kind of conversation it is."""
HELPERS = {"files_upload_v2": "files.completeUploadExternal"}
"""Functions of slack_sdk's that are no methods themselves, and the last method that each calls."""


def called() -> set[str]:
    """The Web API methods that the bot calls, by the names of slack_sdk's functions."""
    by_function = {name.replace(".", "_"): name for name in METHODS} | HELPERS
    here = Path(package.__path__[0])
    sources = [path.read_text() for path in (*here.glob("*.py"), *here.glob("setup/*.py"))]
    used = [node.attr for source in sources for node in ast.walk(ast.parse(source)) if isinstance(node, ast.Attribute)]
    return {by_function[name] for name in used if name in by_function}


def test_the_manifest_asks_for_exactly_the_scopes_that_are_used() -> None:
    assert {"chat.postMessage", "chat.update", "views.open", "users.list", "conversations.history"} < called()
    needed = {scope for name in called() for scope in BY_KIND.get(name, {METHODS[name].scope})}
    assert needed - {""} | {"commands"} == set(SCOPES)
    assert manifest()["oauth_config"]["scopes"] == {"bot": list(SCOPES)}


def test_the_manifest_keeps_within_slack_s_limits() -> None:
    for made in (manifest(), manifest("/" + 31 * "x", request_url="https://bot.example/slack/events")):
        read = read_manifest(made)
        assert (read.interactivity, read.home_tab, read.events) == (True, True, {"app_home_opened"})
        assert read.socket_mode == ("request_url" not in made["settings"]["interactivity"])
        assert [len(each.command) <= 32 for each in read.commands] == [True]


def test_the_manifest_is_printed(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    config = tmp_path / "other.toml"
    config.write_text('[slack]\ncommand = "/models"\n')
    assert main(["manifest", "--config", str(config), "--http", "https://bot.example/slack/events"]) == 0
    printed = json.loads(capsys.readouterr().out)
    assert printed["features"]["slash_commands"][0]["command"] == "/models"
    assert printed["settings"]["interactivity"]["request_url"] == "https://bot.example/slack/events"
    assert printed["settings"]["socket_mode_enabled"] is False
    assert main(["manifest"]) == 0
    assert json.loads(capsys.readouterr().out)["settings"]["socket_mode_enabled"] is True
    for address in ("http://bot.example/slack/events", "https://bot.example", "bot.example/slack/events"):
        assert main(["manifest", "--http", address]) == 2
        assert "like https://bot.example/slack/events" in capsys.readouterr().err


@pytest.fixture
def environment(sandbox: Sandbox, database_url: str, mlflow_uri: str, tmp_path: Path) -> dict[str, str]:
    """What an installation sets."""
    return {
        "SLACK_BOT_TOKEN": sandbox.bot_token,
        "SLACK_APP_TOKEN": sandbox.app_token,
        "SLACK_API_URL": sandbox.api_url,
        "DATABASE_URL": database_url,
        "MLFLOW_TRACKING_URI": mlflow_uri,
        "PROMOTION_BOT_DATA": str(tmp_path),
    }


@pytest.mark.parametrize(
    ("changed", "expected"),
    [
        ({"SLACK_BOT_TOKEN": None}, "Set SLACK_BOT_TOKEN (xoxb-…), and SLACK_APP_TOKEN"),
        ({"SLACK_APP_TOKEN": None}, "or SLACK_SIGNING_SECRET for HTTP"),
        ({"SLACK_BOT_TOKEN": "xoxb-s3cret"}, "does not accept SLACK_BOT_TOKEN: invalid_auth"),
        ({"SLACK_APP_TOKEN": "xapp-s3cret"}, "does not accept SLACK_APP_TOKEN: invalid_auth"),
        ({"SLACK_API_URL": "http://127.0.0.1:9/api/"}, "Slack at http://127.0.0.1:9/api/ cannot be reached"),
        ({"DATABASE_URL": "postgresql://me:s3cret@127.0.0.1:9/x"}, "The database at 127.0.0.1:9/x cannot be used"),
        ({"DATABASE_URL": "postgresql://127.0.0.1:9/x?password=s3cret&user=me"}, "at 127.0.0.1:9/x cannot be used"),
        ({"DATABASE_URL": "postgresql:///x?password=s3cret&host=127.0.0.1&port=9"}, "at 127.0.0.1:9/x cannot be used"),
        ({"DATABASE_URL": "postgresql://me:pa@s3cret@127.0.0.1:9/x"}, "with %40 for an @ in the password."),
        ({"DATABASE_URL": "s3cret"}, "DATABASE_URL is no address of a PostgreSQL."),
        ({"DATABASE_URL": "mysql://me:s3cret@127.0.0.1/x"}, "DATABASE_URL is no address of a PostgreSQL."),
    ],
)
def test_what_has_to_be_put_right_is_said(
    changed: dict[str, str | None],
    expected: str,
    environment: dict[str, str],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    caplog: pytest.LogCaptureFixture,
) -> None:
    for key, value in (environment | changed).items():
        monkeypatch.delenv(key, raising=False) if value is None else monkeypatch.setenv(key, value)
    assert main(["run"]) == 2
    said = capsys.readouterr().err
    assert expected in said
    assert said.endswith("`promotion-bot check` looks at all that the bot needs.\n")
    assert "Traceback" not in said
    assert "s3cret" not in said + caplog.text


def test_all_that_the_environment_has_wrong_is_said_at_once(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("DATABASE_URL", "nowhere")
    monkeypatch.setenv("PROMOTION_BOT_HEALTH", "nowhere")
    assert main(["run"]) == 2
    said = capsys.readouterr().err
    for names in ("SLACK_BOT_TOKEN", "PROMOTION_BOT_HEALTH", "DATABASE_URL"):
        assert names in said


def test_run_until_sigterm(
    desk: Engine, environment: dict[str, str], alice: Person, workspace: Workspace, sandbox: Sandbox
) -> None:
    plain = {key: os.environ[key] for key in ("PATH", "HOME") if key in os.environ}
    with socket.create_server(("127.0.0.1", 0)) as free:  # another bot on this machine may have the usual one
        plain["PROMOTION_BOT_HEALTH"] = f"127.0.0.1:{free.getsockname()[1]}"
    process = subprocess.Popen(
        [sys.executable, "-W", "error", "-m", "bot", "run"],
        env=plain | environment | {"PYTHONPATH": str(Path(package.__path__[0]).parent)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        assert "`control`" in answer(alice, "status")
        ask(alice)
        process.send_signal(signal.SIGTERM)
        told = time.monotonic()
        _, errors = process.communicate(timeout=30)
        assert time.monotonic() - told < 10
    finally:
        process.kill()
    assert process.returncode == 0
    lines = [json.loads(line) for line in errors.splitlines()]
    assert [line for line in lines if line["level"] != "INFO"] == []
    assert {"ready", "command", "recorded", "carried out", "told to stop", "stopped"} <= {
        one["message"] for one in lines
    }
    assert not workspace.state()["app"]["connected"]
    assert steps.deeds(desk) == ["request"]


def test_the_record_is_verified(
    desk: Engine, database_url: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    steps.change(desk, "start")
    monkeypatch.setenv("DATABASE_URL", database_url)
    assert main(["audit", "verify"]) == 0
    said = capsys.readouterr().out
    assert "3 entries, 0 faults, head " in said
    told = said.split()[-1][:12]
    assert main(["audit", "verify", "--head", told]) == 0
    with desk.begin() as connection:
        connection.execute(text("SET LOCAL session_replication_role = replica"))
        connection.execute(text("UPDATE promotion.ledger SET actor = 'U9' WHERE id = 2"))
    assert main(["audit", "verify"]) == 1
    assert "Row 2 was edited after it was sealed." in capsys.readouterr().out
    assert main(["audit", "verify", "--head", "x"]) == 2


def test_a_verdict_is_replayed(
    desk: Engine, database_url: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("DATABASE_URL", database_url)
    steps.change(desk, "start")
    steps.serve_all(desk, 2_000)
    number = steps.ask(desk, "increase", override=steps.BECAUSE)
    assert main(["replay", f"#{number}"]) == 0
    assert f"request #{number}: identical (" in capsys.readouterr().out
    assert main(["replay", "look", "1"]) == 0
    with desk.begin() as connection:
        connection.execute(text("UPDATE promotion.recommendations SET why = 'because'"))
    assert main(["replay", "look", "1"]) == 1
    assert "look 1: differs at character" in capsys.readouterr().out
    assert main(["replay", "1"]) == 2
    assert "rests on no verdict" in capsys.readouterr().err
    assert main(["replay", "everything"]) == 2
