"""Charts reach people: as blocks, where those are refused as pictures, and where these are refused too in words."""

from __future__ import annotations

from typing import Any

import pytest
from matplotlib.font_manager import findfont
from sqlalchemy import Engine

from bot.abilities import A_DAY_S, Abilities
from tests.bot.acts import answer, told
from tests.bot.conftest import ROLLOUTS, Bot
from tests.core import steps
from tests.core.conftest import EXPERIMENT
from tests.workspace import Person, Workspace, waits_until

Json = dict[str, Any]
CHART = f"chart {EXPERIMENT}"


@pytest.fixture(scope="module")
def fonts() -> None:
    """Fonts are found: on a machine that never drew anything this takes longer than an answer is waited for."""
    findfont("DejaVu Sans")


@pytest.fixture
def rollout(bot: Bot, desk: Engine, fonts: None) -> None:
    """A candidate at 10 % whose plans are accepted less often."""
    steps.change(desk, "start")
    steps.serve_all(desk, 4_000, accepted=0.5)


def refusals(workspace: Workspace) -> int:
    """How often blocks were refused."""
    return sum(entry.get("error") == "invalid_blocks" for entry in workspace.requests())


def with_files(person: Person, channel: str) -> list[Json]:
    return [message for message in person.sees(channel) if message.get("files")]


@pytest.mark.usefixtures("rollout")
def test_where_the_workspace_takes_charts(alice: Person, bob: Person) -> None:
    said = answer(alice, CHART)
    assert "candidate_v3" in said
    (message,) = told(alice)
    kinds = [block["type"] for block in message["blocks"]]
    assert kinds.count("data_visualization") == 2
    assert kinds.count("data_table") == 1
    assert message["text"].startswith(f"In {EXPERIMENT} the shares are control")
    assert "Acceptance −3" in message["text"]
    assert not told(bob)
    assert not with_files(alice, ROLLOUTS)


@pytest.mark.usefixtures("rollout")
def test_where_it_does_not_pictures_are_posted_and_that_is_remembered(alice: Person, workspace: Workspace) -> None:
    workspace.admin("new_blocks", on=False)
    assert "Slack takes no charts here, so they are pictures above." in answer(alice, CHART)
    assert refusals(workspace) == 1
    (message,) = with_files(alice, ROLLOUTS)
    assert [(file["name"], file["mimetype"]) for file in message["files"]] == [
        ("shares.png", "image/png"),
        ("differences.png", "image/png"),
    ]
    assert message["files"][0]["alt_txt"].startswith(f"In {EXPERIMENT} the shares are control")
    assert "✕ worse: Acceptance" in message["files"][1]["alt_txt"]
    assert message["text"].startswith(f"<@{alice.id}> asked for this. In {EXPERIMENT}")

    answer(alice, CHART)
    waits_until(lambda: len(with_files(alice, ROLLOUTS)) == 2, 30, "pictures again")
    assert refusals(workspace) == 1, "blocks were tried though they were refused a moment ago"


@pytest.mark.usefixtures("rollout")
def test_pictures_go_to_the_person_where_the_bot_is_not_in_the_channel(alice: Person, workspace: Workspace) -> None:
    workspace.admin("new_blocks", on=False)
    workspace.admin("leave", channel=ROLLOUTS)
    assert "pictures in our direct messages" in answer(alice, CHART)
    assert not with_files(alice, ROLLOUTS)
    assert len(with_files(alice, "app")) == 1


@pytest.mark.usefixtures("rollout")
@pytest.mark.parametrize("method", ["files.getUploadURLExternal", "files.completeUploadExternal"])
def test_words_remain_where_pictures_fail_too(alice: Person, workspace: Workspace, method: str) -> None:
    workspace.admin("new_blocks", on=False)
    workspace.fails(method, "error", error="missing_scope", times=9)
    said = answer(alice, CHART)
    assert "✕ worse: Acceptance" in said
    assert "? inconclusive" in said or "✓ fine" in said
    assert "takes neither charts nor pictures" in said
    assert not with_files(alice, ROLLOUTS)


def test_charts_are_tried_again_after_a_day() -> None:
    now = 0.0
    able = Abilities(lambda: now)
    assert able.has_charts
    able.refused()
    now = A_DAY_S - 1
    assert not able.has_charts
    now = A_DAY_S
    assert able.has_charts


@pytest.mark.usefixtures("bot")
@pytest.mark.parametrize(
    ("typed", "said"), [("chart", "Which experiment?"), (f"chart {EXPERIMENT} nobody", "There is no variant nobody")]
)
def test_refusals_are_as_anywhere(alice: Person, typed: str, said: str) -> None:
    assert said in answer(alice, typed)
