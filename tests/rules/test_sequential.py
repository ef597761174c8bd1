"""Boundaries spend what they may, remember what they must, and survive a restart to the last bit."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import multivariate_normal, norm

from core.rules.estimates import Step, compare
from core.rules.sequential import (
    ANY_LOOK_BUDGET,
    BUDGET,
    LOWEST_BOUNDARY,
    Memory,
    _newly,
    any_look_limit,
    daily_boundary,
    likelihood_ratio,
    released,
)
from tests.rules.worlds import traffic


def some(plans: int, seed: int) -> dict:
    return {c.metric.name: c for c in compare([Step(traffic(9 * plans, seed), traffic(plans, seed + 1))])}


@pytest.mark.parametrize(("above", "before", "r"), [(2, 2.5, 0.9), (2.2, 2.21, 0.999), (4, 3, 0.2), (1.645, 9, 0.7)])
def test_chance_of_a_first_crossing(above: float, before: float, r: float) -> None:
    exact = multivariate_normal.cdf([-above, before], cov=[[1, -r], [-r, 1]])
    assert _newly(np.array([above]), np.array([before]), np.array([r]))[0] == pytest.approx(exact, rel=1e-3)
    assert _newly(np.array([above]), np.array([math.inf]), np.array([0.0]))[0] == pytest.approx(norm.sf(above))


@given(st.floats(0, 100), st.floats(0, 100), st.floats(0, 50))
def test_the_budget_is_released_in_order_and_never_exceeded(a: float, b: float, u: float) -> None:
    early, late = sorted((a, b))
    assert 0 <= released(early, u) <= released(late, u) <= BUDGET - ANY_LOOK_BUDGET + 1e-12


def test_a_look_spends_no_more_than_it_may_and_keeps_the_rest() -> None:
    memory = Memory()
    for day in range(1, 20):
        before = memory
        boundary, memory = daily_boundary(some(300 * day, day), {}, memory, day)
        assert boundary >= LOWEST_BOUNDARY
        assert memory.released >= before.released
        assert 0 <= memory.left <= before.left + memory.released - before.released
    assert memory.released <= BUDGET - ANY_LOOK_BUDGET


def test_looking_twice_at_the_same_data_costs_nothing_new() -> None:
    tests = some(2000, 1)
    boundary, memory = daily_boundary(tests, {}, Memory(), 5)
    again, after = daily_boundary(tests, {}, memory, 5)
    assert again >= boundary - 0.01
    assert after.released == memory.released


def test_nothing_to_test_spends_nothing() -> None:
    boundary, memory = daily_boundary({}, {}, Memory(), 4)
    assert boundary == math.inf
    assert memory.left == memory.released > 0


def test_a_restart_changes_nothing() -> None:
    _, memory = daily_boundary(some(2000, 1), {}, Memory(), 5)
    restored = Memory.from_json(json.loads(json.dumps(memory.to_json())))
    for day in (6, 7, 9):
        tests = some(300 * day, 3)
        (a, memory), (b, restored) = daily_boundary(tests, {}, memory, day), daily_boundary(tests, {}, restored, day)
        assert a == b
        assert memory.to_json() == restored.to_json()


def test_a_boundary_of_never_survives_json() -> None:
    _, memory = daily_boundary(some(2000, 1), {}, Memory(days=3, released=0.075), 3)
    assert Memory.from_json(json.loads(json.dumps(memory.to_json()))).to_json() == memory.to_json()
    assert math.isinf(next(iter(memory.tests.values())).exceed)


@given(st.floats(-37, 37), st.floats(0, 37))
def test_evidence_is_always_a_number(z: float, u: float) -> None:
    assert math.isfinite(likelihood_ratio(z, u))


def test_looking_at_any_time_keeps_its_budget() -> None:
    """A driftless path looked at 2,000 times crosses ln(1/0.05) in less than 5 % of runs."""
    rng = np.random.default_rng(1)
    n = np.arange(1, 2001)
    crossed = 0
    for _ in range(400):
        z = np.cumsum(rng.normal(size=2000)) / np.sqrt(n)
        u = 0.1 * np.sqrt(n)
        crossed += any(
            likelihood_ratio(float(a), float(b)) >= math.log(20) for a, b in zip(z[::5], u[::5], strict=True)
        )
    assert crossed / 400 <= 0.05 + 2 * math.sqrt(0.05 * 0.95 / 400)
    assert any_look_limit(6) == pytest.approx(math.log(6 / 0.01))
