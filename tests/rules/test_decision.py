"""The document's decision (4.1 to 4.3) at every boundary, and the ten rows before production."""

from __future__ import annotations

import math
from dataclasses import replace
from decimal import Decimal
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from core.rules import decision
from core.rules.decision import Evidence, Held, checklist, held, minimum_days, percent, should_increase_allocation, why
from core.rules.metrics import METRICS, VariantMetrics

D = Decimal
BASE = VariantMetrics(
    sample_size=5000,
    acceptance_rate=0.8,
    avg_edits=2.0,
    validator_rate=0.04,
    p50_latency=400.0,
    p99_latency=1500.0,
    cost_per_plan=0.01,
)
GOOD = replace(BASE, sample_size=1000)
ABOVE, BELOW = math.inf, -math.inf


def nudged(value: float, towards: float) -> float:
    """The next number that a float can hold."""
    return math.nextafter(value, towards)


def decide(days: float = 3, allocation: Decimal | float | None = None, **measured: Any) -> str:
    return should_increase_allocation(replace(GOOD, **measured), BASE, days, allocation)


def document(variant: VariantMetrics, base: VariantMetrics, days: float) -> str:
    """The document's pseudo-code, word for word."""
    if variant.sample_size < 1000:
        return "wait"
    if days < 3:
        return "wait"
    if variant.acceptance_rate < base.acceptance_rate * 0.95:  # type: ignore[operator]
        return "rollback"
    if variant.avg_edits > base.avg_edits * 1.10:  # type: ignore[operator]
        return "rollback"
    if variant.validator_rate > base.validator_rate * 1.05:  # type: ignore[operator]
        return "rollback"
    if variant.p50_latency > base.p50_latency * 1.20:  # type: ignore[operator]
        return "rollback"
    return "increase"


@pytest.mark.parametrize(
    ("measured", "verdict"),
    [
        ({}, "increase"),
        ({"sample_size": 999}, "wait"),
        ({"sample_size": 1000}, "increase"),
        ({"days": 2.999}, "wait"),
        ({"days": 3}, "increase"),
        ({"acceptance_rate": 0.8 * 0.95}, "increase"),
        ({"acceptance_rate": nudged(0.8 * 0.95, BELOW)}, "rollback"),
        ({"avg_edits": 2.0 * 1.10}, "increase"),
        ({"avg_edits": nudged(2.0 * 1.10, ABOVE)}, "rollback"),
        ({"validator_rate": 0.04 * 1.05}, "increase"),
        ({"validator_rate": nudged(0.04 * 1.05, ABOVE)}, "rollback"),
        ({"p50_latency": 400 * 1.20}, "increase"),
        ({"p50_latency": nudged(400 * 1.20, ABOVE)}, "rollback"),
        ({"p99_latency": 2000.0}, "increase"),
        ({"p99_latency": nudged(2000.0, ABOVE)}, "rollback"),
        ({"cost_per_plan": 0.01 * 1.10}, "increase"),
        ({"cost_per_plan": nudged(0.01 * 1.10, ABOVE)}, "rollback"),
    ],
)
def test_every_criterion_at_its_boundary(measured: dict[str, Any], verdict: str) -> None:
    assert decide(**measured) == verdict


@pytest.mark.parametrize(
    ("allocation", "days", "verdict"),
    [
        (None, 3, "increase"),
        (D("0.10"), 2.99, "wait"),
        (D("0.10"), 3, "increase"),
        (D("0.05"), 3, "increase"),
        (D("0.2499"), 3, "increase"),
        (D("0.25"), 4.99, "wait"),
        (D("0.25"), 5, "increase"),
        (D("0.50"), 6.99, "wait"),
        (D("0.50"), 7, "increase"),
        (0.1, 3, "increase"),
        (0.25, 4.99, "wait"),
        (0.5, 6.99, "wait"),
    ],
)
def test_each_allocation_has_its_own_minimum(allocation: Decimal | float | None, days: float, verdict: str) -> None:
    assert decide(days, allocation) == verdict


@pytest.mark.parametrize(("allocation", "days"), [(D("0.25"), 3), (D("0.50"), 3)])
def test_harm_is_acted_on_before_the_allocations_minimum(allocation: Decimal, days: float) -> None:
    assert decide(days, allocation, acceptance_rate=0.5) == "rollback"


@pytest.mark.parametrize(
    ("days", "sample_size"),
    [(2.9, 1000), (3, 999), (0, 0), (math.nan, 1000), (3, math.nan)],
)
def test_harm_too_early_or_on_too_little_waits(days: float, sample_size: int) -> None:
    assert decide(days, sample_size=sample_size, acceptance_rate=0.1) == "wait"


@pytest.mark.parametrize("days", [math.nan, -1])
def test_an_unknown_duration_waits(days: float) -> None:
    assert decide(days) == "wait"


@pytest.mark.parametrize("name", [m.name for m in METRICS if m.required])
@pytest.mark.parametrize("value", [None, math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("side", ["variant", "baseline"])
def test_a_required_metric_without_a_number_waits(name: str, value: float | None, side: str) -> None:
    broken = {name: value}
    variant, base = (replace(GOOD, **broken), BASE) if side == "variant" else (GOOD, replace(BASE, **broken))
    assert should_increase_allocation(variant, base, 3) == "wait"
    assert "Not measured" in why(variant, base, 3)


@pytest.mark.parametrize(
    ("mine", "base", "verdict"),
    [
        ({"p99_latency": None}, {}, "increase"),
        ({"cost_per_plan": None}, {}, "increase"),
        ({}, {"cost_per_plan": None}, "increase"),
        ({"p99_latency": None, "cost_per_plan": None}, {"p99_latency": None, "cost_per_plan": None}, "increase"),
        ({"p99_latency": 2001.0}, {"p99_latency": None}, "rollback"),
        ({"p99_latency": 1999.0}, {"p99_latency": math.nan}, "increase"),
        ({"p99_latency": math.nan}, {}, "wait"),
        ({"p99_latency": math.inf}, {}, "wait"),
        ({"cost_per_plan": math.nan}, {}, "wait"),
        ({}, {"cost_per_plan": math.nan}, "wait"),
        ({"cost_per_plan": math.nan, "avg_edits": 9.0}, {}, "rollback"),
    ],
)
def test_optional_inputs_are_skipped_only_when_absent(mine: dict[str, Any], base: dict[str, Any], verdict: str) -> None:
    assert should_increase_allocation(replace(GOOD, **mine), replace(BASE, **base), 3) == verdict


def test_objects_that_lack_the_optional_attributes_will_do() -> None:
    needed = {m.name: getattr(GOOD, m.name) for m in METRICS if m.required}
    bare, worse = SimpleNamespace(sample_size=1000, **needed), SimpleNamespace(sample_size=1000, **needed)
    worse.avg_edits = 9.0
    assert should_increase_allocation(bare, bare, 3) == "increase"
    assert should_increase_allocation(worse, bare, 3) == "rollback"
    del worse.avg_edits
    assert should_increase_allocation(worse, bare, 3) == "wait"


def test_a_baseline_of_zero_tolerates_nothing() -> None:
    zero = replace(BASE, validator_rate=0.0)
    assert should_increase_allocation(replace(GOOD, validator_rate=0.0), zero, 3) == "increase"
    assert should_increase_allocation(replace(GOOD, validator_rate=0.001), zero, 3) == "rollback"


def test_the_minimum_of_samples_can_be_configured() -> None:
    assert should_increase_allocation(replace(GOOD, sample_size=200), BASE, 3, minimum_samples=200) == "increase"
    assert should_increase_allocation(replace(GOOD, sample_size=199), BASE, 3, minimum_samples=200) == "wait"


rates = st.floats(0, 1, allow_nan=False)
amounts = st.floats(0, 1e6, allow_nan=False)
measurements = st.builds(VariantMetrics, st.integers(900, 1100), rates, amounts, rates, amounts)


@given(measurements, measurements, st.floats(2, 4))
def test_it_is_the_documents_pseudo_code(variant: VariantMetrics, base: VariantMetrics, days: float) -> None:
    assert should_increase_allocation(variant, base, days) == document(variant, base, days)


@pytest.mark.parametrize(
    ("measured", "sentence"),
    [
        ({"sample_size": 12}, "12 of the 1,000 plans needed have been served."),
        ({"days": 1.25}, "1.2 of the 3 days needed have passed."),
        ({"avg_edits": 9.0, "cost_per_plan": 1.0}, "Beyond tolerance: Edits per plan, Cost per plan."),
        ({"avg_edits": None}, "Not measured: Edits per plan. That is no good news."),
        ({"days": 4, "allocation": D("0.25")}, "4.0 of the 5 days needed at this share have passed."),
        ({}, "Enough plans and days, and no metric is beyond its tolerance."),
    ],
)
def test_the_reason_in_words(measured: dict[str, Any], sentence: str) -> None:
    days, allocation = measured.pop("days", 3), measured.pop("allocation", None)
    assert why(replace(GOOD, **measured), BASE, days, allocation) == sentence


# --- The checklist --------------------------------------------------------------------------------------------------

READY = Evidence(
    evaluation_passed=True,
    evaluation_detail="replay on d1",
    is_linked=True,
    link_detail="planner_policy v3 → planner_model 3",
    initial_share=D("0.10"),
    held=held([(D("0.10"), 3), (D("0.25"), 5), (D("0.50"), 7)], decision.STEPS),
    candidate=GOOD,
    baseline=BASE,
)
TITLES = [
    "Offline evaluation",
    "Policy version",
    "Experiment variant",
    "Minimum duration",
    "Sample size",
    "Acceptance",
    "Edits per plan",
    "Validator interventions",
    "Latency",
    "Cost per plan",
]


def verdicts(**changed: Any) -> dict[str, bool | None]:
    return {row.title: row.passed for row in checklist(replace(READY, **changed))}


def test_the_documents_ten_rows_in_its_order() -> None:
    rows = checklist(READY)
    assert [row.title for row in rows] == TITLES
    assert all(row.passed is True for row in rows)
    assert all(row.detail for row in rows)


@pytest.mark.parametrize(
    ("row", "changed", "passed"),
    [
        ("Offline evaluation", {"evaluation_passed": None}, None),
        ("Offline evaluation", {"evaluation_passed": False}, False),
        ("Policy version", {"is_linked": False}, False),
        ("Experiment variant", {"initial_share": D("0.1001")}, False),
        ("Experiment variant", {"initial_share": None}, None),
        ("Minimum duration", {"held": held([(D("0.10"), 3), (D("0.25"), 5), (D("0.50"), 6.9)], decision.STEPS)}, False),
        ("Minimum duration", {"held": held([(D("0.10"), 30)], decision.STEPS)}, False),
        ("Minimum duration", {"held": ()}, False),
        ("Sample size", {"candidate": replace(GOOD, sample_size=999)}, False),
        ("Acceptance", {"candidate": replace(GOOD, acceptance_rate=0.75)}, False),
        ("Acceptance", {"baseline": replace(BASE, acceptance_rate=None)}, None),
        ("Edits per plan", {"candidate": replace(GOOD, avg_edits=2.3)}, False),
        ("Edits per plan", {"candidate": replace(GOOD, avg_edits=math.nan)}, None),
        ("Validator interventions", {"candidate": replace(GOOD, validator_rate=0.05)}, False),
        ("Latency", {"candidate": replace(GOOD, p50_latency=481.0)}, False),
        ("Latency", {"candidate": replace(GOOD, p99_latency=2001.0)}, False),
        ("Latency", {"candidate": replace(GOOD, p99_latency=None)}, None),
        ("Latency", {"candidate": replace(GOOD, p50_latency=None, p99_latency=2001.0)}, False),
        ("Cost per plan", {"candidate": replace(GOOD, cost_per_plan=0.012)}, False),
        ("Cost per plan", {"candidate": replace(GOOD, cost_per_plan=None)}, None),
    ],
)
def test_one_fault_fails_its_own_row_only(row: str, changed: dict[str, Any], passed: bool | None) -> None:
    found = verdicts(**changed)
    assert found.pop(row) is passed
    # With too few plans nothing is said about the metrics either.
    assert set(found.values()) == ({True, None} if row == "Sample size" else {True})


@pytest.mark.parametrize(
    ("days", "passed", "waits"),
    [
        ([3, 5, 7], True, False),
        ([3, 5, 6.9], False, True),
        ([3, 0, 0], False, True),
        ([1, 0, 0], False, True),
        ([0, 0, 0], False, True),
        ([1, 5, 0], False, False),  # the first step was left too early, and no waiting makes up for that
        ([3, 1, 7], False, False),
    ],
)
def test_days_that_still_come_are_no_failure(days: list[float], passed: bool, waits: bool) -> None:
    shares = [step for step in decision.STEPS if step < 1]
    stayed = [Held(share, lasted) for share, lasted in zip(shares, days, strict=True)]
    row = next(row for row in checklist(replace(READY, held=stayed)) if row.title == "Minimum duration")
    assert (row.passed, row.waits) == (passed, waits)


def test_too_few_plans_are_waited_for_and_harm_is_not() -> None:
    early = checklist(replace(READY, candidate=replace(GOOD, sample_size=999)))
    assert [row.title for row in early if row.waits] == ["Sample size", *decision.METRIC_ROWS]
    harmed = checklist(replace(READY, candidate=replace(GOOD, avg_edits=2.3)))
    assert [(row.title, row.waits) for row in harmed if row.passed is False] == [("Edits per plan", False)]


@pytest.mark.parametrize(
    ("periods", "expected"),
    [
        ([], [0, 0, 0]),
        ([("0.10", 3), ("0.25", 5), ("0.50", 7)], [3, 5, 7]),
        ([("0.05", 2), ("0.10", 1)], [3, 0, 0]),
        ([("0.10", 1), ("0.25", 2), ("0.10", 2)], [3, 2, 0]),
        ([("0.10", 3), ("0.30", 5)], [3, 5, 0]),
        ([("0.10", 9), ("0.25", 9), ("0", 1), ("0.10", 2)], [2, 0, 0]),
        ([("0.10", 9), ("0", 1)], [0, 0, 0]),
        ([("0", 30), ("0.10", 3), ("1", 8)], [3, 0, 0]),
    ],
)
def test_days_at_each_step(periods: list[tuple[str, float]], expected: list[float]) -> None:
    found = held([(D(share), days) for share, days in periods], decision.STEPS)
    assert [h.days for h in found] == expected


@pytest.mark.parametrize(
    ("share", "text"), [("0.1", "10 %"), ("0.125", "12.5 %"), ("0.3333", "33.33 %"), ("1", "100 %"), ("0", "0 %")]
)
def test_shares_as_people_read_them(share: str, text: str) -> None:
    assert percent(D(share)).replace("\N{NARROW NO-BREAK SPACE}", " ").replace("\N{THIN SPACE}", " ") == text


def test_numbers_behind_the_rows() -> None:
    details = {row.title: row.detail for row in checklist(READY)}
    assert details["Sample size"] == "1,000 plans, 1,000 needed"
    assert details["Latency"] == "p50 400 ms against 400 ms; p99 1,500 ms against 1,500 ms"
    assert details["Edits per plan"] == "2.00 against 2.00"
    assert "3.0 d, 3 needed" in details["Minimum duration"]
    assert "7.0 d, 7 needed" in details["Minimum duration"]


@pytest.mark.parametrize(("share", "days"), [(None, 3), ("0.01", 3), ("0.10", 3), ("0.25", 5), ("0.50", 7), ("1", 7)])
def test_minimum_days(share: str | None, days: int) -> None:
    assert minimum_days(share and D(share)) == days
