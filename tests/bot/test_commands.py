"""What is typed after /rollout, and what comes back."""

from __future__ import annotations

import re
from decimal import Decimal
from typing import Any

import pytest
from sqlalchemy import Engine, text

from bot import commands, verbs, words
from core.errors import Refused
from tests.bot.acts import answer
from tests.bot.conftest import APPROVALS, ROLLOUTS, Bot
from tests.core import steps
from tests.core.conftest import EXPERIMENT, MODEL
from tests.workspace import Person, Workspace, text_of

# typed -> what the answer says
GOOD = {
    "list": f"`{EXPERIMENT}`",
    "LIST": "`control` 100 %",
    "status": "`control`",
    f"status {EXPERIMENT}": "`planner_policy v2`, production",
    f"status “{EXPERIMENT}”": "large_green_circle",
    f"  status    '{EXPERIMENT}'  ": "Served shares since",
    "candidates": f"`{MODEL}` *3*  `candidate`",
    f"candidates {MODEL}": f"`{MODEL}` *4*  `no tag`",
    f"qualify {MODEL} v3": f"`{MODEL}` *3* is a candidate.",
    f"qualify {MODEL} 4": f"`{MODEL}` *4* is not a candidate.",
    f"policy planner_policy {MODEL} 3 temperature=0.7 mode=fast": "`planner_policy v4` serves `planner_model 3`",
    f"policy another {MODEL} 3 new": "`another v1` serves",
    f"policy planner_policy {MODEL} 4 because the pipeline is down": "`planner_policy v5` serves",
    f"history {EXPERIMENT}": f"Nothing is on record for `{EXPERIMENT}` yet.",
    f"pause {EXPERIMENT} because Friday": f"`{EXPERIMENT}` is paused now.",
    f"resume {EXPERIMENT}": f"`{EXPERIMENT}` is active now.",
    "": "I take models from trained to production",
}
BAD = {
    "lst": "I do not know the verb lst. Did you mean list?",
    "roll-back x": "Did you mean rollback?",
    "𝓼𝓽𝓪𝓽𝓾𝓼": "Type help to see them all.",
    "status planer_policy_exp": f"There is no experiment planer_policy_exp. Did you mean {EXPERIMENT}?",
    "status zzz": f"There is: {EXPERIMENT}.",
    "status a b": "I do not know what to do with b. Reasons go after the word because; "
    'a name with spaces stands in quotes: "my experiment".',
    "list all": "I do not know what to do with all.",
    "history": "Which experiment? Type it like this: /rollout history EXPERIMENT",
    "candidates plannr_model": f"MLflow has no model plannr_model. Registered models: {MODEL}. Did you mean {MODEL}?",
    "qualify": "Which model? Type it like this: /rollout qualify MODEL VERSION",
    f"qualify {MODEL}": "Which version of the model? Type it like this:",
    f"qualify {MODEL} 9": f"MLflow has no version 9 of {MODEL}. It has: 1, 2, 3, 4.",
    f"qualify {MODEL} ²": "MLflow has no version ²",
    f"policy planer_policy {MODEL} 3": "There is no policy planer_policy. Did you mean planner_policy?",
    f"policy planner_policy {MODEL} 4": "is not a candidate",
    f"policy planner_policy {MODEL} 3 fast": "fast is not a setting. Write settings like temperature=0.7.",
    f"policy {'p' * 256} {MODEL} 3 new": "at most 255",
    f"start {EXPERIMENT}": "The policy version is missing",
    f"start {EXPERIMENT} planner_policy": "Which version of planner_policy?",
    f"start {EXPERIMENT} planner_policy 9": "planner_policy has no version 9. It has: v1, v2, v3.",
    f"start {EXPERIMENT} planner_policy 99999999999999999999": "has no version 99999999999999999999",
    f"start {EXPERIMENT} planner_policy ²": "Which version of planner_policy?",
    f"start {EXPERIMENT} planer_policy 3": "Did you mean planner_policy?",
    f"start {EXPERIMENT} planner_policy 2": "planner_policy v2 already runs in planner_policy_exp as control.",
    f"start {EXPERIMENT} planner_policy 3 12": "at most 10 %",
    f"start {EXPERIMENT} planner_policy 3 0": "more than 0 %",
    f"start {EXPERIMENT} planner_policy 3 -1%": "more than 0 %",
    f"start {EXPERIMENT} planner_policy 3 NaN": "NaN is not a share. Write it like 10% or 0.1.",
    f"start {EXPERIMENT} planner_policy 3 ten": "ten is not a share.",
    f"start {EXPERIMENT} planner_policy 3 0.00001": "four decimals",
    f"increase {EXPERIMENT}": "No candidate is running",
    f"increase {EXPERIMENT} contrl": "There is no variant contrl. Did you mean control?",
    f"promote {EXPERIMENT} control": "control is the baseline",
    f"rollback {EXPERIMENT}": "Say why: add because and the reason to the rollback.",
    f"rollback {EXPERIMENT} because it hurts": "control is in production, and no version before it",
    f"retire {EXPERIMENT}": "has no variant at 0 % that could be retired",
    f"checklist {EXPERIMENT}": "No candidate is running",
    f"resume {EXPERIMENT}": "is active; only an experiment that is paused can become active",
    f"qualify {MODEL} 2": "planner_model 2 is already in stage production",
    f"start {EXPERIMENT} planner_policy 1": "planner_policy v1 is not a candidate (its stage is",
    "break-glass seven because nobody answers": "Write the number of a request like /rollout break-glass 12.",
    "explain 99": "There is no request #99.",
    f"hold {EXPERIMENT} 31d because of the fair": "A hold lasts at most 30 days",
    f"hold {EXPERIMENT} 4h": "Say why: add because and the reason for the hold.",
    f"unfreeze {EXPERIMENT}": f"Nobody froze {EXPERIMENT}. Windows end by themselves.",
}
# what happens first, then typed -> what the answer says
LATER: tuple[tuple[str, dict[str, str]], ...] = (
    (
        "running",
        {
            f"hold {EXPERIMENT} 4h because of the fair": "candidate_v3 has no card yet",
            f"start {EXPERIMENT} planner_policy 3": "planner_policy v3 already runs",
        },
    ),
    ("at half", {f"increase {EXPERIMENT} because we must": "After 50 % comes production. Promote candidate_v3"}),
    (
        "paused",
        {
            f"start {EXPERIMENT} planner_policy 1": "is paused, so no candidate can join it. Resume it first.",
            f"increase {EXPERIMENT} because we must": "is paused; its shares change only while it is active.",
            f"recommend {EXPERIMENT}": "is paused; there is something to recommend while it is active.",
            "status": "No experiment is active. Name one of those that list shows.",
        },
    ),
    (
        "rolled back",
        {
            f"increase {EXPERIMENT} candidate_v3": "candidate_v3 has no traffic. Start it first.",
            f"rollback {EXPERIMENT} candidate_v3 because it hurts": "there is nothing to roll back",
        },
    ),
)


def plain(said: str) -> str:
    return re.sub("[`“”]", "", said)


def test_every_verb_answers_when_all_is_well(bot: Bot, alice: Person) -> None:
    for typed, expected in GOOD.items():
        assert expected in answer(alice, typed), typed


def test_every_verb_says_what_is_wrong(bot: Bot, alice: Person, workspace: Workspace) -> None:
    found = {typed: plain(answer(alice, typed)) for typed in BAD}
    assert {typed: said for typed, said in found.items() if BAD[typed] not in said} == {}
    assert all(said.startswith("⚠️") for said in found.values())
    assert "did you mean “list”?" in answer(alice, "lst").lower(), "a backtick would be shown as one"
    assert alice.sees(APPROVALS) == []


def test_what_is_refused_depends_on_how_things_stand(bot: Bot, alice: Person, desk: Engine) -> None:
    def happens(what: str) -> None:
        if what == "running":
            steps.change(desk, "start")
        elif what == "at half":
            with desk.begin() as connection:
                connection.execute(text("UPDATE exp.variants SET allocation = 0.5 WHERE allocation > 0"))
        elif what == "paused":
            answer(alice, f"pause {EXPERIMENT} because Friday")
        else:
            answer(alice, f"resume {EXPERIMENT}")
            steps.change(desk, "rollback", reason="slow")

    for what, cases in LATER:
        happens(what)
        found = {typed: plain(answer(alice, typed)) for typed in cases}
        assert {typed: said for typed, said in found.items() if cases[typed] not in said} == {}, what


def test_who_may_end_a_freeze_and_that_there_is_one(bot: Bot, alice: Person, carol: Person) -> None:
    answer(alice, f"freeze {EXPERIMENT} because of the fair")
    assert "There is a freeze of planner_policy_exp already" in answer(alice, f"freeze {EXPERIMENT} because I say so")
    assert "Only an approver, or whoever froze it" in answer(carol, f"unfreeze {EXPERIMENT}")


def test_help_explains_each_verb(bot: Bot, alice: Person) -> None:
    everything = answer(alice, "help")
    for title in ("Look", "Models and policies", "Ask for a change", "Stop and return", "On record"):
        assert f"*{title}*\n`/rollout " in everything
    assert "Here alone" not in everything
    for verb in commands.VERBS:
        assert f"/rollout {verb}" in everything
        explained = answer(alice, f"help {verb}")
        assert explained.startswith(verbs.summary(verb, commands.VERBS))
        assert f"`/rollout {verb}" in explained
        takes_names = verbs.usage(verb, commands.VERBS) != verb
        assert (f"\nFor example: `/rollout {verb} " in explained) == takes_names
    assert "Did you mean promote?" in plain(answer(alice, "help promot"))


def test_a_pause_is_told_to_everybody_and_stands_in_the_history(bot: Bot, alice: Person, bob: Person) -> None:
    answer(alice, f"pause {EXPERIMENT} BECAUSE  of the “sale”")
    assert "of the “sale”" in text_of(bob.waits_for(f"paused `{EXPERIMENT}`", ROLLOUTS))
    answer(alice, f"resume {EXPERIMENT}")
    bob.waits_for(f"resumed `{EXPERIMENT}`", ROLLOUTS)
    said = answer(alice, f"history {EXPERIMENT}")
    assert said.index("resumed") < said.index("paused")
    assert f"<@{alice.id}> paused" in said


def test_a_start_shows_what_changes_and_where_it_is_decided(bot: Bot, alice: Person, bob: Person, desk: Engine) -> None:
    said = answer(alice, f"start {EXPERIMENT} planner_policy v3 4 % because it is “better”")
    assert said.startswith(f"Start candidate_v3 in {EXPERIMENT}")
    assert "`control` *100 % → 96 %*" in said
    assert "`candidate_v3` *0 % → 4 %*" in said
    assert "Request #1 waits in <#C" in said
    assert "> it is “better”" in text_of(alice.waits_for("Start candidate_v3", APPROVALS))
    refused = answer(bob, f"start {EXPERIMENT} 3")
    assert "Request #1 (start) of planner_policy_exp is still open" in refused
    assert "add “instead” to replace it by yours" in refused
    assert "Request #2 waits" in answer(bob, f"start {EXPERIMENT} 3 instead")
    assert steps.shares(desk) == steps.shares_of(control="1")


def test_a_running_candidate_is_measured_and_judged(bot: Bot, alice: Person, desk: Engine) -> None:
    steps.change(desk, "start")
    assert "Not yet:\n• The rollout rule says: wait." in answer(alice, f"increase {EXPERIMENT}")
    steps.serve_all(desk, 15_000, accepted=0.4)
    steps.days_pass(desk, 4)
    said = answer(alice, "status")
    assert ":rewind: *Roll back*  `candidate_v3`\nAcceptance is worse, beyond chance and beyond tolerance" in said
    assert ":x: Acceptance  *40." in said
    assert "Day 4.0 of at least 3 at 10 %" in said
    said = answer(alice, "recommend")
    assert said.startswith(f"What to do in `{EXPERIMENT}` today\n:rewind: *Roll back*")
    said = answer(alice, f"why {EXPERIMENT}")
    assert "*Fixed thresholds* (rule `document`): Roll back. Beyond tolerance: Acceptance" in said
    assert "10 % since" in said
    said = answer(alice, f"checklist {EXPERIMENT}")
    assert "of 10 passed" in said
    assert ":x: *Acceptance*  40." in said
    assert ":hourglass_flowing_sand: *Minimum duration*  10\u00a0%: 4.0 d, 3 needed, 25\u00a0%: 0.0 of 5 d" in said
    said = answer(alice, f"promote {EXPERIMENT} candidate_v3")
    assert "Not yet:\n•" in said
    assert "add “because” and your reason" in said
    assert "Promote candidate_v3 to production" in answer(alice, f"promote {EXPERIMENT} because we were told to")


@pytest.mark.parametrize(
    ("typed", "verb", "names", "reason"),
    [
        ("start x p 3 10 %", "start", ("x", "p", "3", "10%"), None),
        ("START  x\tp  v3", "start", ("x", "p", "v3"), None),
        ("status ‘my exp’", "status", ("my exp",), None),
        ("status “my exp”  BECAUSE\nof *this* and `that`", "status", ("my exp",), "of *this* and `that`"),
        ("rollback x because because", "rollback", ("x",), "because"),
        ("rollback x because", "rollback", ("x",), None),
        ('status "lone', "status", ('"lone',), None),
        ("status a&amp;b&lt;c", "status", ("a&b<c",), None),
        ("status a\0b", "status", ("ab",), None),
        ("", "help", (), None),
    ],
)
def test_words(typed: str, verb: str, names: tuple[str, ...], reason: str | None) -> None:
    assert words.parse(typed) == (verb, words.Words(names, reason))


@pytest.mark.parametrize(
    ("typed", "fraction"),
    [
        ("10%", "0.1"),
        ("10 %", "0.1"),
        ("0.1", "0.1"),
        ("0,1", "0.1"),
        ("5.5%", "0.055"),
        ("12", "0.12"),
        ("0.5%", "0.005"),
    ],
)
def test_shares(typed: str, fraction: str) -> None:
    assert words.share(typed) == Decimal(fraction)


@pytest.mark.parametrize("typed", ["", "%", "ten", "nan", "inf%", "1e400000000000000000000", "10%%", "1/10"])
def test_what_is_no_share_is_refused(typed: str) -> None:
    with pytest.raises(Refused, match="is not a share"):
        words.share(typed)


def test_only_verbs_that_measure_or_ask_the_registry_are_acknowledged_first(
    bot: Bot, alice: Person, workspace: Any
) -> None:
    answer(alice, "help")
    assert workspace.requests("response_url") == []
    answer(alice, "status")
    assert len(workspace.requests("response_url")) == 1
