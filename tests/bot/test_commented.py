"""`promotion-bot init`: a file in which every setting stands; as it is, it changes nothing."""

from __future__ import annotations

import re
import typing
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel

from bot.__main__ import main
from bot.setup.commented import ENVIRONMENT, commented
from core import settings
from core.addresses import HealthAddress
from core.settings import Settings
from core.written import Section


@pytest.fixture(autouse=True)
def alone(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """An empty folder and an environment that says nothing."""
    monkeypatch.chdir(tmp_path)
    for name in Settings.model_fields:
        monkeypatch.delenv(name.upper(), raising=False)


def sections(annotation: Any) -> Iterator[type[Section]]:
    """The sections that a setting of this type has in it, at any depth."""
    if isinstance(annotation, type) and issubclass(annotation, Section):
        yield annotation
        for field in annotation.model_fields.values():
            yield from sections(field.annotation)
    for part in typing.get_args(annotation):
        yield from sections(part)


def written(value: Any) -> Iterator[tuple[type[BaseModel], str]]:
    """Each setting that a file says, by its section."""
    if isinstance(value, Section):
        yield from ((type(value), name) for name in value.model_fields_set)
    parts = dict(value).values() if isinstance(value, (BaseModel, dict)) else value
    for part in parts if isinstance(value, (BaseModel, dict, tuple)) else ():
        yield from written(part)


def everything(file: Path) -> str:
    """The file with every example taken up."""
    return re.sub(r"^#(?=\S)", "", file.read_text(encoding="utf-8"), flags=re.MULTILINE)


def test_the_file_equals_the_defaults_and_is_not_overwritten(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    defaults = settings.load()
    assert main(["init"]) == 0
    assert "Wrote promotion-bot.toml." in capsys.readouterr().out
    assert settings.load().model_dump() == defaults.model_dump()
    file = tmp_path / "promotion-bot.toml"
    file.write_text("")
    assert main(["init"]) == 2
    assert "promotion-bot.toml is there already." in capsys.readouterr().err
    assert file.read_text() == ""
    assert main(["init", "--force"]) == 0
    assert file.read_text(encoding="utf-8") == commented()
    assert main(["init", str(tmp_path / "no" / "such.toml")]) == 2
    assert "such.toml cannot be written: No such file or directory." in capsys.readouterr().err


def test_every_setting_stands_in_it_and_every_example_is_right(tmp_path: Path) -> None:
    main(["init", "all.toml"])
    file = tmp_path / "all.toml"
    file.write_text(everything(file), encoding="utf-8")
    found = settings.load(file)
    known = {section for field in Settings.model_fields.values() for section in sections(field.annotation)}
    missing = {(section, name) for section in known for name in section.model_fields} - set(written(found))
    assert missing == set(), "add them to PARTS in bot/setup/commented.py"
    assert found.slack.approvers
    assert len(found.freezes) == 2


def test_what_belongs_in_the_environment_is_named() -> None:
    of_the_file = {name for name, field in Settings.model_fields.items() if list(sections(field.annotation))}
    of_its_own = HealthAddress.model_fields.keys() | {"promotion_bot_secrets"}  # read before any file
    assert ENVIRONMENT.keys() == Settings.model_fields.keys() - of_the_file | of_its_own
    assert max(map(len, commented().splitlines())) <= 120
