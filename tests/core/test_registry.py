"""MLflow behind five verbs: real stores on SQLite, and a port where nobody listens."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from mlflow import MlflowClient
from sqlalchemy import create_engine, text

import core as package
from core import registry as registries
from core.errors import Refused, RegistryUnavailable
from core.registry import Registry
from core.rules.lifecycle import Stage
from tests.core.conftest import MODEL
from tests.core.steps import alias, tags

DECIDED = {"1": Stage.ARCHIVED, "2": Stage.ARCHIVED, "3": Stage.PRODUCTION}


def stamps(client: MlflowClient) -> dict[str, int]:
    return {str(v.version): v.last_updated_timestamp for v in client.search_model_versions(f"name='{MODEL}'")}


def test_versions_newest_first_with_what_their_tags_claim(registry: Registry) -> None:
    assert [(v.version, v.stage, v.aliases) for v in registry.versions(MODEL)] == [
        ("4", None, ()),
        ("3", "candidate", ()),
        ("2", "production", ("production",)),
        ("1", "archived", ()),
    ]
    assert registry.models() == [MODEL]


def test_ten_comes_after_nine(registry: Registry, client: MlflowClient) -> None:
    for _ in range(6):
        client.create_model_version(MODEL, source="/tmp")
    assert [v.version for v in registry.versions(MODEL)][:3] == ["10", "9", "8"]


def test_one_version(registry: Registry) -> None:
    found = registry.version(MODEL, "2")
    assert found is not None
    assert (found.name, found.version, found.stage, found.aliases) == (MODEL, "2", "production", ("production",))


@pytest.mark.parametrize(
    "name", ["nope", "", "a/b", "a:b", "it's", 'a"b', "back\\slash", "%", "x" * 300, "<!channel>", "\u202e", "🚀"]
)
def test_a_model_that_is_not_there(registry: Registry, name: str) -> None:
    assert registry.versions(name) == []
    assert registry.version(name, "1") is None
    assert registry.evaluations(name, "1") == []


@pytest.mark.parametrize("version", ["0", "5", "03", "٣", "²", "-1", "1.0", " 1", "", "latest", "9" * 30])
def test_a_version_that_is_not_there(registry: Registry, version: str) -> None:
    assert registry.version(MODEL, version) is None


@pytest.mark.parametrize("name", ["it's", 'a"b', "back\\slash", "100%", "名前"])
def test_names_with_quotes_are_found(registry: Registry, client: MlflowClient, name: str) -> None:
    client.create_registered_model(name)
    client.create_model_version(name, source="/tmp")
    client.create_run("0", tags={"model_name": name, "model_version": "1", "evaluation_type": "offline_replay"})
    assert [v.version for v in registry.versions(name)] == ["1"]
    registry.align(name, {"1": Stage.PRODUCTION})
    assert registry.versions(name)[0].aliases == ("production",)


def test_both_kinds_of_quotes_are_refused_in_words(registry: Registry) -> None:
    with pytest.raises(Refused, match="both kinds of quotes"):
        registry.versions("a'b\"c")


def test_align_sets_tags_and_moves_the_alias(registry: Registry, client: MlflowClient) -> None:
    registry.align(MODEL, DECIDED)
    assert tags(client) == {"1": "archived", "2": "archived", "3": "production", "4": None}
    assert alias(client) == "3"


def test_align_again_writes_nothing(registry: Registry, client: MlflowClient, mlflow_uri: str) -> None:
    registry.align(MODEL, DECIDED)
    before, dump = stamps(client), contents(mlflow_uri)
    registry.align(MODEL, DECIDED)
    assert (stamps(client), contents(mlflow_uri)) == (before, dump)


def contents(uri: str) -> dict[str, list[Any]]:
    engine = create_engine(uri)
    with engine.connect() as connection:
        tables = ("model_version_tags", "registered_model_aliases", "registered_models", "model_versions")
        found = {table: sorted(map(str, connection.execute(text(f"SELECT * FROM {table}")))) for table in tables}
    engine.dispose()
    return found


def test_versions_that_nothing_was_decided_about_are_left_alone(registry: Registry, client: MlflowClient) -> None:
    client.set_model_version_tag(MODEL, "4", "owner", "carol")
    before = stamps(client)
    registry.align(MODEL, {"3": Stage.EXPERIMENT})
    assert tags(client) == {"1": "archived", "2": "production", "3": "experiment", "4": None}
    assert alias(client) == "2"
    after = stamps(client)
    assert {version for version in after if after[version] != before[version]} <= {"3"}
    assert client.get_model_version(MODEL, "4").tags == {"owner": "carol"}


@pytest.mark.parametrize("stages", [DECIDED, {"3": Stage.PRODUCTION}, {"3": Stage.PRODUCTION, "4": Stage.NONE}])
def test_a_production_tag_made_by_hand_is_archived(
    registry: Registry, client: MlflowClient, stages: dict[str, Stage]
) -> None:
    client.set_model_version_tag(MODEL, "4", "stage", "production")
    client.set_registered_model_alias(MODEL, "production", "4")
    registry.align(MODEL, stages)
    assert [version for version, tag in tags(client).items() if tag == "production"] == ["3"]
    assert tags(client)["4"] == "archived"
    assert alias(client) == "3"


def test_the_alias_goes_where_nothing_is_in_production(registry: Registry, client: MlflowClient) -> None:
    registry.align(MODEL, {"2": Stage.ARCHIVED})
    assert alias(client) is None
    client.set_registered_model_alias(MODEL, "production", "4")
    registry.align(MODEL, {"2": Stage.ARCHIVED})
    assert alias(client) == "4", "nothing was decided about that one"


def test_a_version_or_model_that_was_deleted_stops_nobody(registry: Registry, client: MlflowClient) -> None:
    client.delete_model_version(MODEL, "3")
    registry.align(MODEL, DECIDED)
    assert tags(client) == {"1": "archived", "2": "archived", "4": None}
    client.delete_registered_model(MODEL)
    registry.align(MODEL, DECIDED)


def evaluated(client: MlflowClient, version: str, **more: Any) -> str:
    wanted = {"model_name": MODEL, "model_version": version, "evaluation_type": "offline_replay"} | more
    run = client.create_run(client.create_experiment(f"replay-{time.time_ns()}"), tags=wanted)
    client.log_metric(run.info.run_id, "diversity_score", 0.1)
    client.log_metric(run.info.run_id, "diversity_score", 0.6)
    client.set_terminated(run.info.run_id)
    return str(run.info.run_id)


def test_evaluations_of_one_version_in_any_experiment_newest_first(registry: Registry, client: MlflowClient) -> None:
    first = evaluated(client, "3", dataset_version="d1")
    time.sleep(0.01)
    second = evaluated(client, "3")
    evaluated(client, "4")
    evaluated(client, "3", evaluation_type="training")
    found = registry.evaluations(MODEL, "3")
    assert [run.run_id for run in found] == [second, first]
    assert [run.dataset_version for run in found] == [None, "d1"]
    assert found[0].scores["diversity_score"] == 0.6
    assert found[0].scores["leftovers_score"] is None


@pytest.fixture
def closed_port() -> int:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        return int(taken.getsockname()[1])


VERBS: dict[str, Callable[[Registry], Any]] = {
    "models": lambda r: r.models(),
    "versions": lambda r: r.versions(MODEL),
    "version": lambda r: r.version(MODEL, "1"),
    "evaluations": lambda r: r.evaluations(MODEL, "1"),
    "align": lambda r: r.align(MODEL, DECIDED),
}


@pytest.mark.parametrize("verb", VERBS)
def test_a_registry_that_does_not_answer_says_so_quickly(closed_port: int, verb: str) -> None:
    start = time.monotonic()
    with pytest.raises(RegistryUnavailable, match=r"did not answer .* Nothing was changed; try again in a minute"):
        VERBS[verb](Registry(f"http://127.0.0.1:{closed_port}", timeout_s=2))
    assert time.monotonic() - start < 15


def test_a_store_that_is_broken_says_so(tmp_path: Path) -> None:
    path = tmp_path / "mlflow.db"
    path.write_bytes(b"this is no database" * 100)
    with pytest.raises(RegistryUnavailable):
        Registry(f"sqlite:///{path}").models()


def test_one_client_per_address(mlflow_uri: str) -> None:
    assert registries.at(mlflow_uri) is registries.at(mlflow_uri)
    assert registries.at(mlflow_uri) is not registries.at(mlflow_uri + "x")


def test_mlflow_reports_its_use_to_nobody(mlflow_uri: str, tmp_path: Path) -> None:
    asked = (
        "from core.registry import Registry\n"
        f"assert Registry({mlflow_uri!r}).models() == [{MODEL!r}]\n"
        "from mlflow.telemetry import get_telemetry_client\n"
        "assert get_telemetry_client() is None"
    )
    # Beside a test or in CI it would not report anyway.
    plain = {"PATH": os.environ["PATH"], "HOME": str(tmp_path), "PYTHONPATH": str(Path(package.__path__[0]).parent)}
    subprocess.run([sys.executable, "-c", asked], env=plain, cwd=tmp_path, check=True, timeout=60)
