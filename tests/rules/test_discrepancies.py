"""What counts as other than decided, what may be done about it, and what the mirror leaves alone."""

from __future__ import annotations

from dataclasses import replace
from decimal import Decimal

import pytest

from core.rules import discrepancies, mirroring
from core.rules.discrepancies import Decided, Discrepancy, Found
from core.rules.lifecycle import Stage
from core.rules.mirroring import Written


def of(**shares: str) -> dict[str, Decimal]:
    return {name: Decimal(share) for name, share in shares.items()}


DECIDED = Decided(of(control="0.9", candidate="0.1"), "active", {})


def kinds(
    shares: dict[str, Decimal],
    status: str = "active",
    versions: dict[str, str] | None = None,
    decided: Decided = DECIDED,
) -> list[str]:
    return [found.kind for found in discrepancies.of_experiment(decided, Found(shares, status, versions or {}))]


@pytest.mark.parametrize(
    ("shares", "status", "wanted"),
    [
        (of(control="0.9000", candidate="0.1000", old="0"), "active", []),
        (of(control="0.8", candidate="0.2"), "active", ["shares"]),
        (of(control="0.9", candidate="0.1", other="0.1"), "active", ["shares"]),
        (of(control="1"), "active", ["variants"]),
        (of(control="0.9", candidate="0.1"), "paused", ["status"]),
        (of(control="0.8", candidate="0.2"), "paused", ["status", "shares"]),
        (of(control="1", candidate="0"), "completed", ["status"]),
        (of(control="1", candidate="0"), "draft", ["status"]),
    ],
)
def test_of_experiment(shares: dict[str, Decimal], status: str, wanted: list[str]) -> None:
    assert kinds(shares, status) == wanted


def test_a_draft_is_told_once_it_has_run() -> None:
    new = Decided(DECIDED.shares, None, {})
    assert kinds(of(control="1"), "draft", decided=new) == []
    assert kinds(of(control="1", candidate="0"), decided=new) == ["shares"]
    assert kinds(DECIDED.shares, decided=new) == [], "whoever puts it together makes it active"
    assert kinds(DECIDED.shares, "paused", decided=new) == ["status"]


def test_a_version_out_of_use_is_adopted_once() -> None:
    shares, archived = dict(DECIDED.shares), {"planner v3": "archived"}
    assert kinds(shares, versions=archived) == ["versions"]
    assert kinds(shares, versions=archived, decided=Decided(shares, "active", archived)) == []


def test_what_a_deleted_variant_had_goes_to_the_baseline() -> None:
    assert discrepancies.settled(of(control="0.9"), "control") == of(control="1.0")
    assert discrepancies.settled(of(control="1"), None) == of(control="1")
    assert discrepancies.settled(of(control="0.9"), None) is None
    assert discrepancies.settled(of(control="0.9", other="0.2"), "control") is None


@pytest.mark.parametrize(
    ("found", "adopt", "revert"),
    [
        (Discrepancy("shares", {"a": "1"}, {"a": "0.9"}), False, True),
        (Discrepancy("variants", {"a": "1"}, {"a": None}), False, False),
        (Discrepancy("status", {"status": "active"}, {"status": "paused"}), True, True),
        (Discrepancy("status", {"status": "active"}, {"status": "completed"}), True, False),
        (Discrepancy("tags", {"1": "archived"}, {"1": "candidate"}), True, True),
        (Discrepancy("tags", {"1": "archived", "2": "production"}, {"1": "candidate", "2": "x"}), False, True),
        (Discrepancy("tags", {"3": "experiment"}, {"3": "production"}), False, True),
        (Discrepancy("alias", {"production": "2"}, {"production": "3"}), False, True),
    ],
)
def test_what_can_be_done(found: Discrepancy, adopt: bool, revert: bool) -> None:
    assert (discrepancies.can_adopt(found, None), discrepancies.can_revert(found)) == (adopt, revert)


def test_only_more_for_a_candidate_raises() -> None:
    assert discrepancies.raises(of(control="0.9", c="0.1"), of(control="0.8", c="0.2"), "control")
    assert not discrepancies.raises(of(control="0.9", c="0.1"), of(control="1", c="0"), "control")
    assert discrepancies.raises(of(control="0.9", c="0.1"), of(control="1", c="0"), None), "nobody knows the baseline"


STAGES = {"1": Stage.ARCHIVED, "2": Stage.PRODUCTION, "3": Stage.EXPERIMENT}
AS_DECIDED = {"1": "archived", "2": "production", "3": "experiment", "4": None}


@pytest.mark.parametrize(
    ("change", "tags"),
    [
        ({}, {}),
        ({"4": "candidate"}, {}),
        ({"1": "candidate"}, {"1": "candidate"}),
        ({"3": None}, {"3": None}),
        ({"4": "production"}, {"4": "production"}),
    ],
)
def test_of_model(change: dict[str, str | None], tags: dict[str, str | None]) -> None:
    found = discrepancies.of_model(AS_DECIDED | change, "2", STAGES, is_told=True)
    assert [(each.kind, each.found) for each in found] == ([("tags", tags)] if tags else [])


@pytest.mark.parametrize(("holder", "wanted"), [("2", []), ("3", ["alias"]), (None, ["alias"])])
def test_the_alias(holder: str | None, wanted: list[str]) -> None:
    assert [each.kind for each in discrepancies.of_model(AS_DECIDED, holder, STAGES, is_told=True)] == wanted
    unknown = discrepancies.of_model(AS_DECIDED, "4", {"1": Stage.ARCHIVED}, is_told=True)
    assert unknown == [], "nothing was decided about that one"


def test_tags_that_were_never_ours_differ_only_about_production() -> None:
    old = {"1": None, "2": "archived", "3": "candidate", "4": "production"}
    (found,) = discrepancies.of_model(old, None, STAGES, is_told=False)
    assert (found.kind, found.found) == ("tags", {"2": "archived", "4": "production"})


UNKNOWN = Written({}, None, is_known=False)
LAST = Written({"1": "archived", "2": "production", "3": "candidate"}, "2")
BROKEN_OFF = replace(LAST, maybe=({"3": "production", "2": "archived"},))


@pytest.mark.parametrize(
    ("present", "written", "spared"),
    [
        ({"3": "candidate"}, LAST, {}),
        ({"3": "production"}, LAST, {"3": "production"}),
        ({"3": None}, LAST, {"3": None}),
        ({"4": "production"}, LAST, {"4": "production"}),
        ({"4": "production"}, UNKNOWN, {}),
        ({"3": "candidate"}, UNKNOWN, {}),
        ({"3": "archived"}, UNKNOWN, {}),
        ({"3": "production"}, UNKNOWN, {"3": "production"}),
        ({"3": "prod!"}, UNKNOWN, {}),
        ({"3": "production"}, BROKEN_OFF, {}),
        ({"3": "archived"}, BROKEN_OFF, {"3": "archived"}),
        ({"3": None}, BROKEN_OFF, {"3": None}),
        ({"1": None}, BROKEN_OFF, {"1": None}),
    ],
)
def test_what_the_mirror_leaves_alone(
    present: dict[str, str | None], written: Written, spared: dict[str, str | None]
) -> None:
    there = AS_DECIDED | present
    assert mirroring.set_by_others(there, mirroring.wanted_tags(there, STAGES), written) == spared


def test_what_is_put_back_is_what_was_shown() -> None:
    there = AS_DECIDED | {"1": "candidate", "3": "archived"}
    reverts = replace(LAST, reverts="tags", shown={"1": "candidate", "2": None})
    assert mirroring.set_by_others(there, mirroring.wanted_tags(there, STAGES), reverts) == {"3": "archived"}
    assert mirroring.set_by_others(there, mirroring.wanted_tags(there, STAGES), replace(reverts, shown=None)) == {}
    reverts = replace(LAST, reverts="alias", shown={"production": "4"})
    assert not mirroring.alias_set_by_others("4", "3", reverts)
    assert mirroring.alias_set_by_others("1", "3", reverts)


def test_an_alias_that_others_moved_is_left_alone() -> None:
    assert mirroring.alias_set_by_others("4", "3", LAST)
    assert not mirroring.alias_set_by_others("2", "3", LAST)
    assert mirroring.alias_set_by_others("4", "3", UNKNOWN), "whoever loads it by its alias would get another"
    assert not mirroring.alias_set_by_others(None, "3", UNKNOWN)
    assert not mirroring.alias_set_by_others("2", "3", replace(UNKNOWN, tags={"2": "production"}))
    assert not mirroring.alias_set_by_others("3", "1", BROKEN_OFF)
    assert mirroring.alias_set_by_others("4", "1", BROKEN_OFF)
