"""The Dockerfile keeps what the README says of the image; building it takes a Docker engine, reading it does not."""

from __future__ import annotations

import re
import tomllib

import pytest
import yaml

from bot.__main__ import COMMANDS
from bot.setup.commented import ENVIRONMENT
from tests.dockerfile import ROOT, Step, steps

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
STEPS = tuple(steps())
BASES = [step.words[0] for step in STEPS if step.word == "FROM"]


def last(word: str) -> Step:
    """What holds for the image that is run: the last instruction of this kind in its stage."""
    return [step for step in STEPS if step.word == word and step.stage == len(BASES) - 1][-1]


def test_both_stages_stand_on_one_pinned_python_that_the_project_supports() -> None:
    base = re.fullmatch(r"python:(\d+)\.(\d+)\.\d+-slim-\w+", BASES[0])
    assert base is not None
    assert len(BASES) == BASES.count(BASES[0]) == 2
    assert last("LABEL").pairs["org.opencontainers.image.base.name"].endswith(BASES[0])
    oldest = PROJECT["requires-python"].removeprefix(">=").split(".")
    assert (int(base[1]), int(base[2])) >= (int(oldest[0]), int(oldest[1]))


def test_labels_say_what_the_project_says() -> None:
    labels = last("LABEL").pairs
    assert labels["org.opencontainers.image.title"] == PROJECT["name"]
    assert labels["org.opencontainers.image.version"] == PROJECT["version"]
    assert labels["org.opencontainers.image.licenses"] == PROJECT["license"]


def test_it_runs_as_a_user_without_rights_who_is_root_nowhere_later() -> None:
    user, group = last("USER").rest.split(":")
    assert int(user) > 0
    assert int(group) > 0
    later = [step.word for step in STEPS[STEPS.index(last("USER")) :]]
    assert "RUN" not in later
    assert "COPY" not in later


@pytest.mark.parametrize("word", ["CMD", "HEALTHCHECK"])
def test_it_runs_commands_that_there_are_without_a_shell(word: str) -> None:
    told = last(word).rest
    program, command = Step(0, word, told[told.index("[") :]).words
    assert program in PROJECT["scripts"]
    assert command in COMMANDS


def test_all_that_is_copied_is_there_and_not_ignored() -> None:
    allowed = [line[1:] for line in (ROOT / ".dockerignore").read_text().splitlines() if line.startswith("!")]
    copied = [name for step in STEPS if step.word == "COPY" for name in step.words[:-1]]
    here = [name for name in copied if not name.startswith(("--from", "/"))]
    assert sorted(here) == sorted(allowed)
    assert all((ROOT / name).exists() for name in here)


def test_whatever_pip_installs_is_pinned() -> None:
    said = [part for step in STEPS if step.word == "RUN" for part in step.rest.split("&&")]
    installed = [part.split() for part in said if re.search(r"\bpip\b.* install ", part)]
    assert len(installed) == 2
    assert all("constraints.txt" in words for words in installed)
    pinned = {line.split("==")[0] for line in (ROOT / "constraints.txt").read_text().splitlines()}
    assert {"hatchling", "trove-classifiers"} < pinned


def test_the_compose_example_names_what_there_is() -> None:
    section = (ROOT / "README.md").read_text().partition("\n### The image\n")[2].partition("\n### ")[0]
    (example,) = re.findall(r"^```yaml\n(.*?)^```$", section, re.MULTILINE | re.DOTALL)
    made = yaml.safe_load(example)
    services = made["services"]
    assert {service["restart"] for service in services.values()} == {"unless-stopped"}
    bot = services["bot"]
    assert {name.lower() for name in (*bot["environment"], *bot["secrets"])} <= set(ENVIRONMENT)
    assert set(bot["secrets"]) == set(made["secrets"])
    mounted = {volume.split(":")[0] for service in services.values() for volume in service.get("volumes", ())}
    assert {name for name in mounted if not name.startswith(".")} == set(made["volumes"])
    told = re.findall(rf"(?: bot| {bot['image']}) promotion-bot (\w+)", section)
    assert told == ["init", "check"]
    assert set(told) <= set(COMMANDS)
    assert [user for user in re.findall(r"user (\d+)", section) if user not in last("USER").rest] == []
