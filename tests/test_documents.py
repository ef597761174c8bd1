"""What the documents point at is there."""

from __future__ import annotations

import re

import pytest

from tests.dockerfile import ROOT

DOCUMENTS = ("README.md", "CONTRIBUTING.md", "CHANGELOG.md", ".github/SECURITY.md")


@pytest.mark.parametrize("name", DOCUMENTS)
def test_links_within_the_repository_lead_somewhere(name: str) -> None:
    document = ROOT / name
    targets = re.findall(r"\]\((?!https?:)([^)#]+)", document.read_text())
    assert [target for target in targets if not (document.parent / target).exists()] == []


def test_each_promise_of_the_threat_model_names_tests_that_there_are() -> None:
    named = re.findall(r"`(tests/[\w/]+\.py)::(test_\w+)`", (ROOT / ".github/SECURITY.md").read_text())
    assert len(named) > 15
    assert [test for file, test in named if f"\ndef {test}(" not in (ROOT / file).read_text()] == []
    fences = re.findall(r"(?:trigger|constraint)s? `(\w+)`", (ROOT / ".github/SECURITY.md").read_text())
    schema = "\n".join(path.read_text() for path in (ROOT / "core/migrations/versions").glob("*.py"))
    assert len(fences) > 5
    assert [fence for fence in fences if fence not in schema] == []
