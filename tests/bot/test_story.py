"""The whole way of a model, typed and clicked in the workspace."""

from __future__ import annotations

from mlflow import MlflowClient
from sqlalchemy import Engine, text

from core import db
from core.rules.evaluation import SCORES
from tests.bot.acts import aloud, answer, approve, ask, notices, redrawn
from tests.bot.conftest import APPROVALS, ROLLOUTS, Bot
from tests.core import steps
from tests.core.conftest import EXPERIMENT, MODEL, add_variant
from tests.workspace import Person, text_of, waits_until


def replayed(client: MlflowClient, version: str, score: float) -> None:
    """The pipeline's offline replay of a model version, as it logs it."""
    place = client.get_experiment_by_name("replay")
    where = place.experiment_id if place else client.create_experiment("replay")
    tags = {"model_name": MODEL, "model_version": version, "evaluation_type": "offline_replay", "dataset_version": "d7"}
    run = client.create_run(where, tags=tags)
    for name in SCORES:
        client.log_metric(run.info.run_id, name, 1.0 if name.startswith("constraint") else score)
    client.set_terminated(run.info.run_id)


def weeks_pass(desk: Engine, days: float) -> None:
    """Traffic that speaks for nobody, served since the last change."""
    steps.serve_all(desk, 12_000)
    steps.days_pass(desk, days)


def test_from_trained_to_production_and_back(
    bot: Bot, alice: Person, bob: Person, desk: Engine, client: MlflowClient
) -> None:
    replayed(client, "2", 0.8)
    replayed(client, "4", 0.9)
    said = answer(alice, f"qualify {MODEL} 4")
    assert f"`{MODEL}` *4* is a candidate." in said
    assert ":white_check_mark: *Plan alignment*" in said
    assert "MLflow evaluation run on `d7` against planner_model 2" in said

    alice.types("/rollout policy", channel=ROLLOUTS)
    form = alice.modal(text="Candidates come first.")
    version = next(o["text"]["text"] for o in form["blocks"][2]["element"]["options"] if f"{MODEL} 4" in str(o))
    alice.submits(form, {"policy": "planner_policy", "model": version, "config": '{"temperature": 0.7}'})
    alice.closes(alice.modal(text="`planner_policy v4` serves `planner_model 4`"))

    alice.types("/rollout start", channel=ROLLOUTS)
    values = {
        "experiment": EXPERIMENT,
        "version": f"planner_policy v4 · {MODEL} 4",
        "share": "10",
        "Why": "better plans",
    }
    assert alice.submits(alice.modal(text="Share of traffic"), values).response == "closed"
    card = approve(bob, alice.waits_for("#1 ·", APPROVALS))
    redrawn(bob, card, ":white_check_mark: MLflow tags")
    assert steps.shares(desk) == steps.shares_of(control="0.9", candidate_v4="0.1")
    assert steps.tags(client)["4"] == "experiment"

    refused = answer(alice, f"increase {EXPERIMENT}")
    assert "0 of the 1,000 plans needed have been served." in refused
    approve(bob, ask(alice, f"increase {EXPERIMENT} because the fair begins on Monday", 2))
    assert steps.shares(desk) == steps.shares_of(control="0.75", candidate_v4="0.25")
    weeks_pass(desk, 5.5)
    assert "*Increase to 50 %*" in answer(alice, "status")
    approve(bob, ask(alice, f"increase {EXPERIMENT} candidate_v4", 3))
    weeks_pass(desk, 21.5)

    assert "Minimum duration: 10 %: 0.0 of 3 d" in answer(alice, f"promote {EXPERIMENT}")
    card = ask(alice, f"promote {EXPERIMENT} because 10 % was skipped for the fair", 4)
    assert "*Override*, because\n> 10 % was skipped for the fair" in text_of(card)
    assert "Verdict: *" in text_of(card), "what the override is against"
    card = approve(bob, card)
    redrawn(bob, card, ":white_check_mark: MLflow tags")
    assert (steps.tags(client)["4"], steps.tags(client)["2"], steps.alias(client)) == ("production", "archived", "4")
    retired = next(name for name in steps.shares(desk) if name.startswith("control_archived_"))
    assert steps.shares(desk) == steps.shares_of(candidate_v4="1", **{retired: "0"})

    answer(alice, f"rollback {EXPERIMENT} candidate_v4 because plans lost their lunch breaks")
    card = alice.waits_for("#5 ·", APPROVALS)
    alice.clicks(card, "Confirm rollback", confirm=True)
    redrawn(alice, card, ":white_check_mark: MLflow tags")
    assert steps.shares(desk) == steps.shares_of(control="1", candidate_v4="0")
    assert (steps.tags(client)["4"], steps.tags(client)["2"], steps.alias(client)) == ("archived", "production", "2")

    card = ask(alice, f"retire {EXPERIMENT} because it is over", 6)
    assert "Archive:\n`candidate_v4`" in text_of(card)
    approve(bob, card)
    assert any(name.startswith("candidate_v4_archived_") for name in steps.shares(desk))
    said = answer(alice, f"history {EXPERIMENT}")
    deeds = ("#6 retire", "#5 rollback", "#4 promote", "#3 increase", "#2 increase", "#1 start")
    assert sorted(deeds, key=said.index) == list(deeds)
    assert "In production: `planner_policy v2` since" in said
    assert "`planner_policy v4` from" in said
    said = answer(alice, "explain #3")
    assert said.startswith(f"*#3 increase in {EXPERIMENT}: applied by <@{bob.id}> · ")
    assert "• approved by" in said
    assert "└ the rule said: increase – “Enough plans and days" in said
    assert "Acceptance, " in said
    assert "asked for against the rule – “10 % was skipped for the fair”" in answer(alice, "explain 4")
    assert "the registry followed for planner_model" in answer(alice, "explain 5")
    assert "There is no alert 9." in answer(alice, "explain alert 9")
    assert "Write the number of a request like" in answer(alice, "explain everything")
    waits_until(lambda: len(notices(bob)) == 7, 30, "six decisions and a qualification")
    assert len(aloud(bob, APPROVALS)) == 6


def test_what_is_deleted_goes_after_the_click(bot: Bot, alice: Person, bob: Person, desk: Engine) -> None:
    with db.transaction(desk) as session:
        old = add_variant(session, steps.place(session), "old", "0")
        session.execute(
            text("""INSERT INTO exp.assignments (experiment_id, unit_type, unit_id, variant_id)
                    SELECT :place, 'user', n, :old FROM generate_series(1, 50) n"""),
            {"place": old.experiment_id, "old": old.id},
        )
    card = ask(alice, f"retire {EXPERIMENT} delete")
    assert "`old`: 50 assignments, 0 aggregates deleted" in text_of(card)
    redrawn(bob, approve(bob, card), ":white_check_mark: Rows of what is deleted")
    with db.transaction(desk) as session:
        there = "SELECT (SELECT count(*) FROM exp.assignments), (SELECT count(*) FROM exp.variants)"
        assert session.execute(text(there)).one() == (0, 1)
    assert "deleted, as decided, `old`" in answer(alice, f"history {EXPERIMENT}")
