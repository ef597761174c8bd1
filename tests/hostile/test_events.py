"""Whatever teams log: it is read once and never holds up what comes after it."""

from __future__ import annotations

import json
import uuid
from datetime import datetime

from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import Engine, text

from tests.core.raw_events import CONTROL, FIELDS, ONE, START, accepted, arrive, catch_up, generated, sums
from tests.hostile.strategies import jsons, texts, tried


def _storable(found: object) -> str:
    """As jsonb takes it: no NUL, no lone surrogate, no infinity."""
    written = json.dumps(found).replace("\\u0000", "").replace("NaN", "1e400").replace("Infinity", "1e999")
    return written.encode("utf-8", "replace").decode()


names = ("latency_ms", "cost", "token_count", "edit_count", "kcal", "plan_id")
objects = st.one_of(jsons, st.dictionaries(st.sampled_from(names), jsons, max_size=6)).map(_storable)
ids = st.one_of(st.just(str(ONE)), st.just(str(CONTROL)), texts, st.uuids().map(str), jsons)
named = st.one_of(
    jsons,
    st.lists(st.fixed_dictionaries({}, optional={"experiment_id": ids, "variant_id": ids}), max_size=4),
).map(_storable)
moments = st.one_of(
    st.sampled_from(["-infinity", "infinity", "0001-01-01", "9999-12-31", "4713-01-01 BC", "294276-01-01", str(START)]),
    st.datetimes(min_value=datetime(2020, 1, 1), max_value=datetime(2030, 1, 1)).map(str),  # noqa: DTZ001 - as text
)
kinds = st.one_of(
    st.sampled_from(["plan_generated", "plan_accepted", "edit_applied", "validator_intervention", "meal_swapped"]),
    texts.map(lambda found: found.replace("\x00", "")[:50]),
)
rows = st.fixed_dictionaries(
    {
        "kind": kinds,
        "unit": texts.map(lambda found: found.replace("\x00", "")[:200]),
        "experiments": named,
        "metrics": objects,
        "payload": objects,
        "at": moments,
        "arrived": moments,
    }
)
INSERT = text("""
INSERT INTO exp.events (event_type, unit_type, unit_id, experiments, metrics, payload, timestamp, created_at)
VALUES (:kind, 'user', :unit, CAST(:experiments AS jsonb), CAST(:metrics AS jsonb), CAST(:payload AS jsonb),
        CAST(:at AS timestamptz), CAST(:arrived AS timestamptz))""")


def test_whatever_is_logged(platform: Engine) -> None:
    served = 0

    @tried
    @given(found=st.lists(rows, min_size=1, max_size=20))
    def logged(found: list[dict[str, str]]) -> None:
        nonlocal served
        with platform.begin() as connection:
            connection.execute(INSERT, found)
        catch_up(platform, collected=FIELDS)
        arrive(platform, generated(plan := uuid.uuid4().hex, START), accepted(plan))
        catch_up(platform, collected=FIELDS)
        assert sums(platform)["accepted"] > served  # what follows is still counted
        served = sums(platform)["accepted"]

    logged()
