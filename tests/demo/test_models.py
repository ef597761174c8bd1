"""The registry's contents, in a real MLflow store."""

from datetime import UTC, datetime
from pathlib import Path
from statistics import fmean
from typing import Any

import pytest
from mlflow import MlflowClient
from mlflow.exceptions import MlflowException
from sqlalchemy import Engine

from bot.demo import models
from bot.demo.models import BREAKFAST, DATASET, MODEL, REGISTERED
from core.registry import Registry
from core.rules.evaluation import accept
from tests.demo.live import CONTROL_ID, V3, join, plans, playing, rows, until

REQUESTS = [{"unit_id": f"user-{n}", "day": "2026-11-23", "config": {"temperature": 0.7}} for n in range(3000)]


def _client(data_dir: Path) -> MlflowClient:
    uri = models.tracking_uri(data_dir)
    return MlflowClient(tracking_uri=uri, registry_uri=uri)


def _contents(data_dir: Path) -> Any:
    client = _client(data_dir)
    versions = sorted(client.search_model_versions(f"name = '{MODEL}'"), key=lambda v: v.version)
    runs = client.search_runs([e.experiment_id for e in client.search_experiments()])
    aliases = client.get_registered_model(MODEL).aliases
    return [(v.version, v.tags, v.source) for v in versions], aliases, sorted(run.info.run_id for run in runs)


def test_tags_and_alias_say_where_each_version_stands(data_dir: Path) -> None:
    found = {v.version: v for v in Registry(models.tracking_uri(data_dir)).versions(MODEL)}
    assert {number: v.stage for number, v in found.items()} == {
        "1": "archived",
        "2": "production",
        "3": None,
        "4": None,
    }
    aliases = _client(data_dir).get_registered_model(MODEL).aliases
    assert {alias: str(version) for alias, version in aliases.items()} == {"production": "2"}
    rollout = Registry(models.tracking_uri(data_dir)).versions(BREAKFAST.name)
    assert {v.version: v.stage for v in rollout} == {"1": "production", "2": "experiment"}


def test_setting_up_again_adds_nothing_and_leaves_changed_tags_alone(data_dir: Path) -> None:
    before = _contents(data_dir)
    client = _client(data_dir)
    client.set_model_version_tag(MODEL, "3", "stage", "candidate")
    try:
        runs = models.set_up(data_dir)
        assert Registry(models.tracking_uri(data_dir)).version(MODEL, "3").stage == "candidate"  # type: ignore[union-attr]
    finally:
        client.delete_model_version_tag(MODEL, "3", "stage")
    assert _contents(data_dir) == before
    assert {name: set(found) for name, found in runs.items()} == {MODEL: {*"1234"}, BREAKFAST.name: {*"12"}}


def test_a_set_up_that_was_cut_short_is_carried_on(data_dir: Path) -> None:
    before = _contents(data_dir)
    client = _client(data_dir)
    client.delete_registered_model_tag(MODEL, "demo_complete")
    client.delete_model_version_tag(MODEL, "1", "stage")
    models.set_up(data_dir)
    assert _contents(data_dir) == before


@pytest.mark.parametrize(("version", "passes"), [("1", False), ("3", True), ("4", False)])
def test_the_evaluation_against_production(data_dir: Path, version: str, passes: bool) -> None:
    registry = Registry(models.tracking_uri(data_dir))
    [run], [baseline] = registry.evaluations(MODEL, version), registry.evaluations(MODEL, "2")
    assert run.dataset_version == baseline.dataset_version == DATASET
    assert accept(run.scores, baseline.scores).passed is passes


def test_version_4_fails_for_its_violations_only(data_dir: Path) -> None:
    registry = Registry(models.tracking_uri(data_dir))
    [run], [baseline] = registry.evaluations(MODEL, "4"), registry.evaluations(MODEL, "2")
    failed = [row for row in accept(run.scores, baseline.scores).rows if not row.passed]
    assert [row.title for row in failed] == ["Constraint respect"]
    assert run.scores["constraint_respect_score"] == 0.98


@pytest.mark.parametrize(
    ("name", "version"),
    [pytest.param(m.name, v, id=f"{m.short_name} {v.number}") for m in REGISTERED for v in m.versions],
)
def test_each_version_loads_and_behaves_as_it_was_logged(data_dir: Path, name: str, version: models.Version) -> None:
    model = models.loader(data_dir)(f"models:/{name}/{version.number}")
    plans = model.predict(REQUESTS)
    assert plans == model.predict(REQUESTS)
    assert all(len(plan.items) == 5 for plan in plans)
    assert fmean(p.acceptance for p in plans) == pytest.approx(version.behaviour.acceptance, abs=0.01)
    assert fmean(p.edits for p in plans) == pytest.approx(version.behaviour.edits, rel=0.03)
    assert fmean(p.intervention for p in plans) == pytest.approx(version.behaviour.intervention, rel=0.03)
    assert fmean(p.latency_ms for p in plans) == pytest.approx(version.behaviour.latency_ms, rel=0.04)
    assert fmean(p.token_count for p in plans) == pytest.approx(version.behaviour.token_count, rel=0.04)


def test_the_configuration_reaches_the_model(data_dir: Path) -> None:
    model = models.loader(data_dir)(f"models:/{MODEL}/2")
    [plan] = model.predict([{"unit_id": "user-1", "day": "2026-11-23", "config": {"max_tokens": 500.0}}])
    assert plan.token_count == 500


def test_the_stored_code_needs_nothing_of_this_package(data_dir: Path) -> None:
    model = models.loader(data_dir)(f"models:/{MODEL}/3")
    [plan] = model.predict(REQUESTS[:1])
    assert not type(plan).__module__.startswith("bot")
    code = next(models.artifacts(data_dir).rglob("planner.py")).read_text()
    assert "import bot" not in code
    assert "from bot" not in code


def test_an_unknown_version_is_an_error(data_dir: Path) -> None:
    with pytest.raises(MlflowException, match=r"version=99\) not found"):
        models.loader(data_dir)(f"models:/{MODEL}/99")


def test_the_registered_models_serve(small: Engine, data_dir: Path) -> None:
    joined = join(small, "0.5000", {"policy_version_id": str(V3), "params": {"max_tokens": 900, "style": "brief"}})
    start = datetime.now(UTC)
    with playing(small, models.loader(data_dir)):
        until(lambda: sum(p.variant_id == str(joined) for p in plans(small, start)) > 30)
    tokens = dict(
        rows(
            small,
            "SELECT experiments -> 0 ->> 'variant_id', max((metrics ->> 'token_count')::int) FROM exp.events "
            "WHERE event_type = 'plan_generated' AND timestamp >= :s GROUP BY 1",
            s=start,
        )
    )
    assert tokens[str(joined)] == 900
    assert tokens[str(CONTROL_ID)] > 900
