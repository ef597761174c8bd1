"""The README's way from nothing to the first answer in a workspace."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

import bot as package
from bot.__main__ import main
from bot.sandbox import Channel, Sandbox
from core.settings import Settings
from tests.bot.conftest import EVERYBODY, PEOPLE
from tests.workspace import Workspace

CHANNELS = [Channel(name, members=EVERYBODY, with_app=False) for name in ("ml-rollouts", "ml-approvals")]


@contextmanager
def running() -> Iterator[None]:
    """The bot as a process of its own, for as long as the block lasts."""
    command = [sys.executable, "-m", "bot", "run"]
    environment = os.environ | {"PYTHONPATH": str(Path(package.__path__[0]).parent)}
    with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True) as made:
        try:
            assert made.stdout is not None
            assert made.stdout.readline() == "ready\n"
            yield
        finally:
            made.terminate()


def test_from_nothing_to_the_first_answer(
    tmp_path: Path,
    database_url: str,
    mlflow_uri: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def runs(command: str) -> tuple[int, str]:
        return main([command]), capsys.readouterr().out

    for name in Settings.model_fields:
        monkeypatch.delenv(name.upper(), raising=False)
    monkeypatch.chdir(tmp_path)
    app = json.loads(runs("manifest")[1])
    with Sandbox(app, PEOPLE, CHANNELS, rate_limited=False) as sandbox, Workspace(sandbox) as workspace:
        assert runs("init")[0] == 0
        config = tmp_path / "promotion-bot.toml"
        named = re.sub("^#approvers = .*?]", 'approvers = ["@bob"]', config.read_text(), flags=re.MULTILINE)
        config.write_text(named.replace("production = 2", "production = 1").replace("against = 1", "against = 0"))
        monkeypatch.setenv("SLACK_BOT_TOKEN", sandbox.bot_token)
        monkeypatch.setenv("SLACK_APP_TOKEN", sandbox.app_token)
        monkeypatch.setenv("SLACK_API_URL", sandbox.api_url)
        monkeypatch.setenv("DATABASE_URL", database_url)
        monkeypatch.setenv("MLFLOW_TRACKING_URI", mlflow_uri)
        ended, said = runs("check")
        assert (ended, said.count("✗"), said.count("Type in it: /invite @Promotion Bot")) == (1, 2, 2)
        for channel in ("ml-rollouts", "ml-approvals"):
            workspace.admin("join", channel=channel)
        ended, said = runs("check")
        assert (ended, said.splitlines()[-1]) == (0, "Nothing is wrong, 2 warnings, 1 not known.")
        with running():
            alice = workspace.person("alice")
            assert alice.types("/rollout help", channel="ml-rollouts").acked
            assert alice.waits_for("promote EXPERIMENT", channel="ml-rollouts")
            assert runs("check")[0] == 0, "while it runs"
            assert workspace.state()["app"]["connections"] == 1
