"""Live traffic against a real database: it follows the shares there, and nobody who was assigned moves."""

import time
from collections import Counter
from datetime import UTC, datetime

import pytest
from sqlalchemy import Engine, text

from bot.demo import breakfast
from bot.demo.assignment import bucket
from bot.demo.models import VERSIONS
from tests.demo.live import CONTROL_ID, EXPERIMENT_ID, V3, join, plans, playing, rows, until

SERVED = """
SELECT DISTINCT unit_id, experiments -> 0 ->> 'variant_id', context ->> 'policy_version_id'
  FROM exp.events WHERE timestamp >= :since AND payload <> '{}' AND experiments <> '[]'
"""
ASSIGNED = "SELECT unit_id, variant_id::text FROM exp.assignments WHERE experiment_id = :experiment"
ALL_TO_CONTROL = "UPDATE exp.variants SET allocation = (id = :control)::int WHERE experiment_id = :experiment"


def test_it_follows_a_changed_allocation_and_leaves_old_units_where_they_are(small: Engine) -> None:
    start = datetime.now(UTC)
    with playing(small):
        until(lambda: len(plans(small, start)) > 90)
        before = dict(rows(small, ASSIGNED, experiment=EXPERIMENT_ID))
        assert set(before.values()) == {str(CONTROL_ID)}
        joined = join(small, "0.4000", {"policy_version_id": str(V3), "params": {}})
        until(lambda: sum(p.variant_id == str(joined) for p in plans(small, start)) > 90)
    after = dict(rows(small, ASSIGNED, experiment=EXPERIMENT_ID))
    assert before.items() <= after.items()
    fresh = {unit: variant for unit, variant in after.items() if unit not in before}
    assert sum(variant == str(joined) for variant in fresh.values()) / len(fresh) == pytest.approx(0.4, abs=0.15)
    served = rows(small, SERVED, since=start)
    assert all(after[unit] == variant for unit, variant, _ in served)
    assert {version for _, variant, version in served if variant == str(joined)} == {str(V3)}
    assert all(bucket(EXPERIMENT_ID, unit) >= 6000 for unit, variant in fresh.items() if variant == str(joined))


def test_a_rollback_to_nothing_still_serves_the_units_that_have_it(small: Engine) -> None:
    joined = join(small, "0.5000", {"policy_version_id": str(V3)})
    start = datetime.now(UTC)
    with playing(small):
        until(lambda: sum(p.variant_id == str(joined) for p in plans(small, start)) > 50)
        with small.begin() as connection:
            connection.execute(text(ALL_TO_CONTROL), {"control": CONTROL_ID, "experiment": EXPERIMENT_ID})
        time.sleep(1.5)
        settled = datetime.now(UTC)
        known = {row[0] for row in rows(small, "SELECT unit_id FROM exp.assignments")}
        until(lambda: sum(p.variant_id == str(joined) for p in plans(small, settled)) > 5)
    late = rows(small, "SELECT unit_id FROM exp.assignments WHERE variant_id = :v", v=joined)
    assert {row[0] for row in late} <= known


def test_outcomes_have_the_rates_of_the_model_that_served(small: Engine) -> None:
    start = datetime.now(UTC)
    with playing(small, rate=500.0):
        until(lambda: len(plans(small, start)) > 1200, seconds=25)
    counts = Counter(row[0] for row in rows(small, "SELECT event_type FROM exp.events WHERE timestamp >= :s", s=start))
    generated, expected = counts["plan_generated"], VERSIONS[1].behaviour
    assert counts["plan_accepted"] / generated == pytest.approx(expected.acceptance, abs=0.06)
    assert counts["edit_applied"] / generated == pytest.approx(expected.edits, rel=0.12)
    assert counts["validator_intervention"] / generated == pytest.approx(expected.intervention, abs=0.025)


def test_a_paused_experiment_gets_no_traffic(small: Engine) -> None:
    start = datetime.now(UTC)
    with playing(small):
        until(lambda: len(plans(small, start)) > 20)
        with small.begin() as connection:
            connection.execute(text("UPDATE exp.experiments SET status = 'paused' WHERE id = :e"), {"e": EXPERIMENT_ID})
        time.sleep(1.5)
        paused = datetime.now(UTC)
        time.sleep(0.8)
        assert not plans(small, paused)


def test_a_second_run_of_the_same_seed_goes_on_with_new_units(small: Engine) -> None:
    start = datetime.now(UTC)
    for _ in range(2):
        begun = datetime.now(UTC)
        with playing(small):
            until(lambda begun=begun: len(plans(small, begun)) > 50)  # type: ignore[misc]
    found = rows(
        small,
        "SELECT payload ->> 'plan_id' FROM exp.events WHERE event_type = 'plan_generated' AND timestamp >= :s",
        s=start,
    )
    assert len(found) == len(set(found)) > 100


def test_a_rollout_in_progress_goes_on_at_its_own_pace(small: Engine) -> None:
    with small.begin() as connection:
        connection.execute(text("UPDATE exp.experiments SET status = 'active' WHERE status = 'paused'"))
    start = datetime.now(UTC)
    with playing(small, rate=400.0, parts={breakfast.EXPERIMENT_ID: 0.25}):
        until(lambda: len(plans(small, start)) > 900, seconds=25)
    served = rows(
        small,
        "SELECT v.name, e.unit_type, count(*) FROM exp.events e "
        "JOIN exp.variants v ON v.id::text = e.experiments -> 0 ->> 'variant_id' "
        "WHERE e.event_type = 'plan_generated' AND e.timestamp >= :s GROUP BY 1, 2",
        s=start,
    )
    counts = {(name, unit_type): n for name, unit_type, n in served}
    mine = counts["control", "household"] + counts[breakfast.CANDIDATE, "household"]
    assert mine / counts["control", "user"] == pytest.approx(0.25, abs=0.07)
    assert counts[breakfast.CANDIDATE, "household"] / mine == pytest.approx(0.22, abs=0.12)
