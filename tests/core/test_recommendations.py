"""The daily look as a row: one a day, remembered, recomputed from what was stored; and the verdict that stands."""

from __future__ import annotations

import uuid
from datetime import timedelta
from decimal import Decimal

import pytest
from sqlalchemy import Engine, select, text
from sqlalchemy.orm import Session

from core import db, evidence, looks, measure, recommendations, steps
from core.recommendations import Standing
from core.rules.decision import AllTerms, Rulebook, Terms
from core.rules.verdict import Decision
from core.tables import AllocationStep, Evidence, Recommendation
from core.variants import baseline, variants
from tests.core.steps import (
    TERMS,
    at_once,
    change,
    days_pass,
    long_ago,
    place,
    serve_all,
    variant,
)

CANDIDATE = "candidate_v3"


def recommend(engine: Engine, terms: AllTerms = TERMS) -> list[Recommendation]:
    with db.transaction(engine, patience_ms=60_000) as session:
        [found] = recommendations.recommend(session, [place(session).id], terms).values()
        session.expunge_all()
        return [look.recommended for look in found if look.recommended]


def rows(engine: Engine) -> list[Recommendation]:
    with db.transaction(engine) as session:
        found = list(session.scalars(select(Recommendation).order_by(Recommendation.id)))
        session.expunge_all()
        return found


def standing(engine: Engine, terms: AllTerms = TERMS) -> Standing:
    with db.transaction(engine) as session:
        here = place(session)
        found = recommendations.standing(session, here, variant(session, CANDIDATE), baseline(session, here), terms)
        session.expunge_all()
        return found


def recomputed(engine: Engine, made: Recommendation) -> Decision:
    with db.transaction(engine) as session:
        return recommendations.recomputed(session, made)


@pytest.fixture
def running(desk: Engine) -> Engine:
    """A candidate at 10 % for four days, with enough plans."""
    change(desk, "start")
    serve_all(desk, 12_000)
    days_pass(desk, 4)
    return desk


def test_one_a_day_however_many_ask(running: Engine) -> None:
    made = at_once(*[lambda: recommend(running)] * 4)
    assert [len(found) for found in made] == [1] * 4  # type: ignore[arg-type]
    (row,) = rows(running)
    assert row.action == "increase"
    recommend(running)
    assert [r.id for r in rows(running)] == [row.id]


def test_each_look_goes_on_from_the_one_before(running: Engine) -> None:
    recommend(running)
    days_pass(running, 1)
    recommend(running)
    first, second = rows(running)
    assert (first.previous_id, second.previous_id) == (None, first.id)
    assert second.memory["released"] > first.memory["released"]
    assert second.memory["tests"].keys() == first.memory["tests"].keys() != set()


def test_a_verdict_is_recomputed_from_what_was_stored(running: Engine) -> None:
    """Whatever came later, to the last word; and the next look's memory too."""
    recommend(running)
    days_pass(running, 1)
    recommend(running)
    serve_all(running, 5_000, accepted=0.1)
    assert standing(running).decision.action == "rollback"
    for made in rows(running):
        found = recomputed(running, made)
        assert (found.action, found.why) == (made.action, made.why)


def next_day(engine: Engine) -> None:
    """What was recommended so far was recommended a day earlier; traffic and steps stay where they are."""
    with engine.begin() as connection:
        connection.execute(text("UPDATE promotion.recommendations SET day = day - 1"))


def test_a_step_that_is_over_is_kept_once(running: Engine) -> None:
    recommend(running)
    change(running, "increase")
    for _ in range(2):
        serve_all(running, 2_000)
        next_day(running)
        recommend(running)
    found = rows(running)
    assert found[1].look["steps"][0] == found[2].look["steps"][0], "the first step is over and did not change"
    assert found[1].look["steps"][1] != found[2].look["steps"][1]
    wanted = {key for row in found for pair in row.look["steps"] for key in pair}
    wanted |= {key for row in found for parts in row.look["history"] or () for key in parts}
    with db.transaction(running) as session:
        assert session.scalar(text("SELECT count(*) FROM promotion.evidence")) == len(wanted)


TWIN = (
    """INSERT INTO exp.experiments (id, name, status, start_at)
       SELECT CAST(md5(CAST(id AS text)) AS uuid), name || ' again', status, start_at FROM exp.experiments""",
    """INSERT INTO exp.variants (id, experiment_id, name, allocation)
       SELECT CAST(md5(CAST(id AS text)) AS uuid), CAST(md5(CAST(experiment_id AS text)) AS uuid), name, allocation
         FROM exp.variants""",
    """INSERT INTO promotion.allocation_steps (experiment_id, started_at, shares)
       SELECT CAST(md5(CAST(experiment_id AS text)) AS uuid), started_at, (
              SELECT jsonb_object_agg(CAST(md5(key) AS uuid), value) FROM jsonb_each(shares))
         FROM promotion.allocation_steps ORDER BY id""",
    """INSERT INTO promotion.measure_experiments (experiment_id)
       SELECT CAST(md5(CAST(experiment_id AS text)) AS uuid) FROM promotion.measure_experiments""",
    """INSERT INTO promotion.measure_arms (experiment, variant_id)
       SELECT t.id, CAST(md5(CAST(a.variant_id AS text)) AS uuid) FROM promotion.measure_arms a
         JOIN promotion.measure_experiments e ON e.id = a.experiment
         JOIN promotion.measure_experiments t ON t.experiment_id = CAST(md5(CAST(e.experiment_id AS text)) AS uuid)""",
    """INSERT INTO promotion.measure_slots (experiment, slot, plans)
       SELECT t.id, slot, plans FROM promotion.measure_slots s JOIN promotion.measure_experiments e ON e.id = experiment
         JOIN promotion.measure_experiments t ON t.experiment_id = CAST(md5(CAST(e.experiment_id AS text)) AS uuid)""",
    """INSERT INTO promotion.samples (arm, step, units, content)
       SELECT t.id, n.id, units, content FROM promotion.samples s JOIN promotion.measure_arms a ON a.id = s.arm
         JOIN promotion.measure_arms t ON t.variant_id = CAST(md5(CAST(a.variant_id AS text)) AS uuid)
         JOIN promotion.allocation_steps o ON o.id = s.step
         JOIN promotion.allocation_steps n ON n.started_at = o.started_at
          AND n.experiment_id = CAST(md5(CAST(o.experiment_id AS text)) AS uuid)""",
)


def twin(engine: Engine) -> uuid.UUID:
    """A second experiment in which the very same happened."""
    with engine.begin() as connection:
        for query in TWIN:
            connection.execute(text(query))
        query = "SELECT id FROM exp.experiments WHERE name LIKE '% again'"
        found: uuid.UUID = connection.execute(text(query)).scalar_one()
    return found


def test_experiments_looked_at_together_are_looked_at_as_if_alone(running: Engine) -> None:
    other, nowhere = twin(running), uuid.uuid4()
    serve_all(running, 3_000, accepted=0.3)
    with db.transaction(running) as session:
        here = place(session).id
    for _ in range(2):
        with db.transaction(running) as session:
            found = recommendations.recommend(session, [here, nowhere, other], TERMS)
            assert [len(found[key]) for key in (here, nowhere, other)] == [1, 0, 1]
            assert {one.recommended.experiment_id for key in found for one in found[key] if one.recommended} == {
                here,
                other,
            }
    mine, theirs = sorted(rows(running), key=lambda row: row.experiment_id != here)
    assert (mine.action, theirs.action) == ("rollback", "increase")
    with running.begin() as connection:
        connection.execute(text("DELETE FROM promotion.recommendations"))
    with db.transaction(running) as session:
        recommendations.recommend(session, [other], TERMS)
    (alone,) = rows(running)
    assert (alone.why, alone.look["steps"], alone.look["shares"]) == (
        theirs.why,
        theirs.look["steps"],
        theirs.look["shares"],
    )


def test_looking_changes_nothing(running: Engine) -> None:
    recommend(running)
    before = rows(running)[0].memory
    for _ in range(3):
        standing(running)
    (row,) = rows(running)
    assert row.memory == before


def harmed(engine: Engine) -> None:
    """Harm that a daily look proves, and that is no disaster."""
    change(engine, "start")
    serve_all(engine, 11_000, accepted=0.752)
    days_pass(engine, 4)


def test_between_daily_looks_only_a_disaster_is_called(desk: Engine) -> None:
    change(desk, "start")
    serve_all(desk, 1_000)
    recommend(desk)
    serve_all(desk, 10_000, accepted=0.752)
    with desk.begin() as connection:
        connection.execute(text("UPDATE promotion.allocation_steps SET started_at = started_at - interval '4 days'"))
    assert standing(desk).decision.action == "increase"
    next_day(desk)
    assert standing(desk).decision.action == "rollback"
    assert [row.action for row in rows(desk)] == ["wait", "rollback"]


def test_a_disaster_between_daily_looks_is_kept_and_stands(running: Engine) -> None:
    recommend(running)
    serve_all(running, 8_000, accepted=0.3)
    assert [row.action for row in recommend(running)] == ["rollback"]
    daily, alarm = rows(running)
    assert (daily.is_daily, daily.action, alarm.is_daily, alarm.action) == (True, "increase", False, "rollback")
    assert (alarm.previous_id, alarm.memory) == (daily.id, daily.memory), "it spends nothing of the daily looks' part"
    assert recomputed(running, alarm).why == alarm.why
    serve_all(running, 20_000)
    assert standing(running).decision.why == alarm.why, "an alarm is not undone by looking on"
    assert len(rows(running)) == 2


def test_what_the_daily_look_found_stands_until_the_next(desk: Engine) -> None:
    harmed(desk)
    found = standing(desk)
    assert (found.decision.action, found.recommended.action if found.recommended else "") == ("rollback", "rollback")
    assert "Acceptance is worse" in found.decision.why
    serve_all(desk, 40_000)
    assert standing(desk).decision.why == found.decision.why
    next_day(desk)
    assert standing(desk).decision.action != "rollback", "the next look saw more"


def test_it_outlives_a_smaller_share_and_not_a_larger_one(desk: Engine) -> None:
    harmed(desk)
    assert standing(desk).decision.action == "rollback"
    for control, candidate, action in (("0.92", "0.08", "rollback"), ("0.75", "0.25", "wait")):
        set_by_hand(desk, control=control, candidate_v3=candidate)
        with db.transaction(desk) as session:
            steps.notice(session)
        assert standing(desk).decision.action == action


def test_it_is_the_verdict_of_one_rule(desk: Engine) -> None:
    harmed(desk)
    assert standing(desk).decision.action == "rollback"
    found = standing(desk, Terms(rule="document")).decision
    assert (found.rule, found.why) == ("document", "Beyond tolerance: Acceptance.")


def test_doubts_about_the_data_come_first_and_cost_nothing(desk: Engine) -> None:
    harmed(desk)
    recommend(desk)
    days_pass(desk, 1)
    with desk.begin() as connection:
        connection.execute(text("DELETE FROM promotion.measure_slots"))
        connection.execute(text("UPDATE promotion.allocation_steps SET started_at = started_at - interval '1 day'"))
    assert standing(desk).decision.action == "hold"
    (held,) = recommend(desk)
    assert held.action == "hold"
    assert held.memory == rows(desk)[0].memory
    serve_all(desk, 100)
    (made,) = recommend(desk)
    assert (made.id, made.day) == (held.id, held.day)
    assert made.action != "hold"


def test_a_new_run_starts_without_a_past(running: Engine) -> None:
    recommend(running)
    change(running, "rollback", reason="slow")
    with running.begin() as connection:
        connection.execute(
            text("UPDATE promotion.stages SET stage = 'candidate', failed_at = NULL WHERE stage = 'archived'")
        )
    change(running, "start")
    days_pass(running, 1)
    serve_all(running, 3_000)
    recommend(running)
    first, second = rows(running)
    assert second.previous_id is None
    assert second.first_step_id > first.first_step_id
    assert standing(running).seen.look.days == pytest.approx(1, abs=0.1)


def test_a_pause_is_no_time_at_a_share(running: Engine) -> None:
    with running.begin() as connection:
        for action, status, days in (("pause", "paused", 3.5), ("resume", "active", 1.0)):
            connection.execute(
                text("""INSERT INTO promotion.ledger (at, actor, action, subject, experiment_id, after)
                        SELECT now() - make_interval(secs => :s), 'U1', :action, name, id,
                               jsonb_build_object('status', CAST(:status AS text)) FROM exp.experiments"""),
                {"s": days * 86_400, "action": action, "status": status},
            )
    found = standing(running)
    assert found.seen.look.days_in_step == pytest.approx(1.5, abs=0.01)
    assert found.decision.why == "1.5 of the 3 days needed at this share have passed."
    with db.transaction(running) as session:
        rows = evidence.checklist(session, place(session), variant(session, CANDIDATE), TERMS)
    assert next(row.detail for row in rows if row.title == "Minimum duration").startswith("10 %: 1.5 of 3 d")


def test_by_the_documents_rule_where_that_was_chosen(running: Engine) -> None:
    terms = Rulebook(own={"planner_policy_exp": Terms(rule="document")})
    (made,) = recommend(running, terms)
    assert made.terms["rule"] == "document"
    assert recomputed(running, made).rule == "document"
    assert Rulebook().of("planner_policy_exp").rule == "calibrated"


def test_nothing_to_judge_is_no_recommendation(desk: Engine) -> None:
    assert recommend(desk) == []
    change(desk, "start")
    assert recommend(desk) == []
    assert rows(desk) == []


def test_what_was_rolled_back_can_be_asked_about_and_gets_no_look(running: Engine) -> None:
    change(running, "rollback", reason="slow")
    assert standing(running).decision.action in ("wait", "hold")
    assert rows(running) == []


# --- Shares that others changed -----------------------------------------------------------------------------------


def set_by_hand(engine: Engine, **shares: str) -> None:
    with engine.begin() as connection:
        for name, share in shares.items():
            connection.execute(
                text("UPDATE exp.variants SET allocation = :share WHERE name = :name"), {"name": name, "share": share}
            )


def test_a_share_changed_by_hand_is_seen_at_once_and_opens_a_step_when_noticed(running: Engine) -> None:
    set_by_hand(running, control="0.7", candidate_v3="0.3")
    found = standing(running)
    assert (found.share, found.seen.step_id) == (Decimal("0.3"), looks.UNKNOWN)
    assert found.decision.why == "0 of the 1,000 plans needed have been served.", "what came before says nothing"
    assert rows(running) == [], "whose samples these are is not known until the change is noticed"
    with db.transaction(running) as session:
        assert len(steps.notice(session)) == 1
    with db.transaction(running) as session:
        newest = session.scalars(select(AllocationStep).order_by(AllocationStep.id.desc())).first()
        assert newest is not None
        assert newest.source == "noticed"
    found = standing(running)
    assert (found.seen.step_id, found.seen.look.days_in_step < 1) == (newest.id, True)


# --- Teams that keep aggregates only ------------------------------------------------------------------------------


def aggregate(session: Session, name: str, metric: str, count: int, mean: float) -> None:
    values = {"e": place(session).id, "v": variant(session, name).id, "metric": metric, "n": count, "mean": mean}
    session.execute(
        text("""INSERT INTO exp.metric_aggregates (experiment_id, variant_id, metric_name, bucket_type, bucket_start,
                                                   count, sum, mean)
                VALUES (:e, :v, :metric, 'daily', :at, :n, :mean * :n, :mean)"""),
        values | {"at": long_ago(session, 1)},
    )


@pytest.mark.parametrize(("accepted", "action"), [(0.8, "increase"), (0.6, "rollback")])
def test_aggregates_alone_get_the_documents_rule_and_no_interval(desk: Engine, accepted: float, action: str) -> None:
    change(desk, "start")
    with desk.begin() as connection:
        connection.execute(text("UPDATE promotion.allocation_steps SET started_at = started_at - interval '4 days'"))
    with db.transaction(desk) as session:
        for name, rate in (("control", 0.8), (CANDIDATE, accepted)):
            aggregate(session, name, "plan_generated", 2_000, 1)
            aggregate(session, name, "acceptance_rate", 2_000, rate)
            for metric in ("edit_count", "validator_intervention", "latency_p50"):
                aggregate(session, name, metric, 2_000, 0.5)
    found = standing(desk)
    assert (found.decision.action, found.decision.rule, found.decision.calibrated) == (action, "document", None)
    assert "it may be chance" in found.decision.why
    states = {f.metric.name: f.state for f in found.decision.findings}
    assert states["acceptance_rate"] == "no interval"
    assert states["cost_per_plan"] == "not measurable"
    assert found.candidate.sample_size == 2_000
    (row,) = rows(desk)
    assert (recomputed(desk, row).action, recomputed(desk, row).why) == (action, found.decision.why)


@pytest.fixture
def aggregated(desk: Engine) -> Engine:
    """A candidate of which only aggregates are known, as good as the baseline."""
    change(desk, "start")
    with desk.begin() as connection:
        connection.execute(text("UPDATE promotion.allocation_steps SET started_at = started_at - interval '4 days'"))
    with db.transaction(desk) as session:
        for name in ("control", CANDIDATE):
            aggregate(session, name, "plan_generated", 2_000, 1)
            for metric in ("acceptance_rate", "edit_count", "validator_intervention", "latency_p50"):
                aggregate(session, name, metric, 2_000, 0.5)
    return desk


def test_violated_constraints_go_before_point_estimates(aggregated: Engine) -> None:
    assert standing(aggregated).decision.action == "increase"
    with db.transaction(aggregated) as session:
        aggregate(session, CANDIDATE, "constraint_respect", 100, 0.5)
    found = standing(aggregated).decision
    assert (found.action, "respect is 0.5000" in found.why) == ("rollback", True)


def test_aggregates_that_stopped_are_not_trusted(aggregated: Engine) -> None:
    with aggregated.begin() as connection:
        connection.execute(text("UPDATE exp.metric_aggregates SET bucket_start = bucket_start - interval '2 days'"))
    found = standing(aggregated).decision
    assert (found.action, found.why[:33]) == ("hold", "The newest aggregates end 48 hour")


def test_the_lowest_constraint_respect_counts(running: Engine) -> None:
    with db.transaction(running) as session:
        for name, respect in (("control", 1.0), (CANDIDATE, 0.9996)):
            aggregate(session, name, "constraint_respect", 100, respect)
    found = standing(running).decision
    assert found.action == "rollback"
    assert "0.9996" in found.why


def test_a_look_is_restored_to_the_last_bit(running: Engine) -> None:
    with db.transaction(running) as session:
        here = place(session)
        now = session.execute(text("SELECT now()")).scalar_one()
        pair = looks.Pair(here, variant(session, CANDIDATE), baseline(session, here), variants(session, here))
        [seen] = looks.read(session, [pair], now=now)
        [kept] = looks.keep(session, [seen.look])
        assert looks.restore(session, kept) == seen.look
        assert session.scalar(select(Evidence.digest).limit(1)) is not None


def test_silence_is_counted_from_now(running: Engine) -> None:
    """Measuring that stands still is no silence, and it is no news either."""
    with db.transaction(running) as session:
        fresh = measure.freshness(session, place(session).id)
        assert fresh.last_plan_at is not None
        traffic = looks.traffic(fresh, fresh.last_plan_at, fresh.last_plan_at + timedelta(minutes=95))
        assert traffic.minutes_since_last == 80
        session.execute(text("UPDATE promotion.measure_cursor SET seen_at = now() - interval '40 minutes'"))
    found = standing(running).decision
    assert (found.action, found.why[:35]) == ("hold", "Traffic was last measured 40 minute")
