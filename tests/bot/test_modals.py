"""Forms: what they offer, what is wrong shown where it was typed, and nothing lost when one does not open."""

from __future__ import annotations

from decimal import Decimal

from sqlalchemy import Engine, text

from core import db
from core.tables import Experiment
from tests.bot.acts import answer, ask, told
from tests.bot.conftest import APPROVALS, ROLLOUTS, Bot, broken
from tests.core import steps
from tests.core.conftest import EXPERIMENT, MODEL, add_variant
from tests.workspace import Person, Workspace, text_of, waits_until


def opens(person: Person, typed: str, title: str) -> dict:  # type: ignore[type-arg]
    """The form that a command opens."""
    assert person.types(f"/rollout {typed}", channel=ROLLOUTS).acked
    form = person.modal()
    assert form["title"]["text"] == title
    return form


def test_start_by_form(bot: Bot, alice: Person) -> None:
    form = opens(alice, "start", "Start a candidate")
    assert alice.submits(form, {"share": "11"}).response == "errors"  # Slack itself keeps to the limits of the field
    sent = alice.submits(form, {"share": "7.5", "Why": "cheaper"})
    assert sent.response == "closed"
    alice.waits_for("Request #1 waits in", ROLLOUTS)
    card = text_of(alice.waits_for("#1 ·", APPROVALS))
    assert "`candidate_v3` *0 % → 7.5 %*" in card
    assert "> cheaper" in card


def test_a_share_left_out_is_the_first_step(bot: Bot, alice: Person) -> None:
    assert alice.submits(opens(alice, "start", "Start a candidate"), {}).response == "closed"
    assert "`candidate_v3` *0 % → 10 %*" in text_of(alice.waits_for("#1 ·", APPROVALS))


def test_what_is_wrong_is_said_under_a_field(bot: Bot, alice: Person, bob: Person, desk: Engine) -> None:
    form = opens(alice, "start", "Start a candidate")
    ask(bob)
    sent = alice.submits(form, {"share": "5"})
    assert "Request #1 (start) of planner_policy_exp is still open" in sent.errors["version"]
    with desk.begin() as connection:
        connection.execute(text("ALTER TABLE promotion.requests RENAME TO away"))
    sent = alice.submits(alice.modal(), {"share": "5"})
    assert "Something went wrong on my side and nothing was changed. Reference for the log: " in sent.errors["version"]


def test_there_has_to_be_something_to_choose(bot: Bot, alice: Person, desk: Engine) -> None:
    assert "No candidate has traffic" in text_of(opens(alice, "rollback", "Roll back"))
    alice.closes(alice.modal())
    steps.change(desk, "start")
    assert "there is no candidate policy version" in text_of(opens(alice, "start", "Start a candidate"))


def test_rollback_by_form(bot: Bot, alice: Person, desk: Engine) -> None:
    steps.change(desk, "start")
    with db.transaction(desk) as session:
        steps.variant(session, "control").allocation = Decimal("0.8")
        add_variant(session, steps.place(session), "other", "0.1")
    form = opens(alice, "rollback", "Roll back")
    values = {"variant": f"candidate_v3 in {EXPERIMENT}", "scope": "Only this variant's share", "Why": "slow"}
    assert alice.submits(form, {"variant": values["variant"]}).response == "errors"  # no reason
    assert alice.submits(form, values).response == "closed"
    alice.waits_for("Nothing rolls back until confirmed.", ROLLOUTS)
    alice.clicks(told(alice)[-1], "Confirm rollback", confirm=True)
    alice.waits_for("*: done.", ROLLOUTS)
    assert steps.shares(desk) == steps.shares_of(control="0.9", other="0.1", candidate_v3="0")


def test_a_variant_that_lost_its_traffic_meanwhile(bot: Bot, alice: Person, desk: Engine) -> None:
    steps.change(desk, "start")
    form = opens(alice, "rollback", "Roll back")
    steps.change(desk, "rollback", reason="somebody was faster")
    sent = alice.submits(form, {"variant": f"candidate_v3 in {EXPERIMENT}", "Why": "slow"})
    assert sent.errors == {"variant": "This variant has no traffic any more."}


def test_policy_by_form(bot: Bot, alice: Person) -> None:
    opens(alice, "policy", "New policy version")
    form = alice.modal(text="Candidates come first.")
    choices = next(block for block in form["blocks"] if block["block_id"] == "model")["element"]["options"]
    assert choices[0]["text"]["text"] == f"{MODEL} 3 · candidate"
    values = {"policy": "planner_policy", "model": f"{MODEL} 3 · candidate"}
    broken_json = alice.submits(form, values | {"config": "{nope"})
    assert "This is not JSON" in broken_json.errors["config"]
    assert "A JSON object is needed" in alice.submits(form, values | {"config": "[1]"}).errors["config"]
    assert alice.submits(form, values | {"policy": None, "config": ""}).errors.keys() == {"new"}
    assert alice.submits(form, values | {"config": '{"temperature": 0.7}'}).response == "updated"
    assert "`planner_policy v4` serves `planner_model 3`" in text_of(alice.modal(text="serves"))


def test_a_policy_form_that_was_closed_answers_in_the_channel(bot: Bot, alice: Person, workspace: Workspace) -> None:
    opens(alice, "policy", "New policy version")
    form = alice.modal(text="Candidates come first.")
    workspace.fails("views.update", "server_error")  # where the answer is there before she closes it
    alice.submits(form, {"policy": "planner_policy", "model": f"{MODEL} 3 · candidate"})
    for view in alice.modals():
        alice.closes(view)
    waits_until(lambda: alice.modals() == [] and ("serves" in str(told(alice)) or None), 30, "the answer")


def test_the_policy_form_says_that_the_registry_is_out(bot: Bot, alice: Person, mlflow_uri: str) -> None:
    answer(alice, "candidates")  # the client has looked at the store once
    with broken(mlflow_uri):
        opens(alice, "policy", "New policy version")
        assert "The model registry did not answer" in text_of(alice.modal(text="did not answer"))


def test_a_form_that_slack_does_not_open_is_told(bot: Bot, alice: Person, bob: Person, workspace: Workspace) -> None:
    card = ask(alice)
    for fault in ("server_error", "drop_before", "error"):
        workspace.fails("views.open", fault, error="expired_trigger_id")
        alice.types("/rollout policy", channel=ROLLOUTS)
        waits_until(lambda: "Slack did not open the form" in str(told(alice)[-1:]), 30, "a sentence")
        alice.types("/rollout help", channel=ROLLOUTS)
    workspace.fails("views.open", "server_error")
    bob.clicks(card, "Reject")
    bob.waits_for("Slack did not open the form in time. Try once more.", APPROVALS)


def test_many_and_long_names_can_be_chosen(bot: Bot, alice: Person, desk: Engine) -> None:
    with db.transaction(desk) as session:
        for n in range(250):
            session.add(Experiment(name=f"{n:03} " + "é" * 250, status="active"))
        session.flush()
    form = opens(alice, "start", "Start a candidate")
    element = next(block for block in form["blocks"] if block["block_id"] == "experiment")["element"]
    assert [len(group["options"]) for group in element["option_groups"]] == [100, 100, 51]
    last = element["option_groups"][-1]["options"][-2]["text"]["text"]
    sent = alice.submits(form, {"experiment": last, "share": "5"})
    assert "add up to" in sent.errors["version"]
    alice.closes(form)
    steps.change(desk, "start")
    assert "candidate_v3 in planner_policy_exp" in text_of(opens(alice, "rollback", "Roll back"))


def test_home_shows_what_waits_and_how_it_stands(bot: Bot, alice: Person, bob: Person) -> None:
    assert "Nothing waits for you at the moment." in text_of(bob.home())
    ask(alice)
    assert "Waiting for others: #1" in text_of(alice.home(text="#1"))
    shown = bob.home(text="*#1 Start candidate_v3")
    assert "`control` *100 % → 90 %*" in text_of(shown)
    bob.clicks(shown, "Approve")
    assert ": done." in text_of(bob.at_home(text="Nothing waits for you"))
    alice.waits_for("Checklist before production", ROLLOUTS)
    assert "You have asked for none" not in text_of(alice.home(text="`candidate_v3` in `planner_policy_exp`"))
