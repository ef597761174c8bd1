"""The model registry's contents: four versions of a meal planner, with their tags and offline evaluations."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from bot.demo import planner
from bot.demo.planner import Behaviour

MODEL = "planner_model"
DATASET = "meal_replay_2026_q3"
TRAINING = "planner_training"
REPLAY = "planner_offline_replay"
_COMPLETE = "demo_complete"


@dataclass(frozen=True)
class Version:
    """One version of the model: how it behaves, what its replay scored, where it stands when the demo begins."""

    number: str
    description: str
    behaviour: Behaviour
    scores: Mapping[str, float]
    stage: str | None = None


def _scores(
    constraint: float, alignment: float, edit_distance: float, diversity: float, leftovers: float
) -> dict[str, float]:
    return {
        "constraint_respect_score": constraint,
        "plan_alignment_score": alignment,
        "edit_distance_score": edit_distance,
        "diversity_score": diversity,
        "leftovers_score": leftovers,
    }


_PRODUCTION = Behaviour(
    acceptance=0.70,
    edits=1.30,
    intervention=0.05,
    latency_ms=420.0,
    latency_spread=0.46,
    token_count=1400.0,
    price_per_1000_tokens=0.0028,
)

VERSIONS = (
    Version(
        "1",
        "The first planner. Replaced by version 2.",
        replace(_PRODUCTION, acceptance=0.66, edits=1.5, intervention=0.06, latency_ms=480.0),
        _scores(1.0, 0.842, 0.801, 0.640, 0.710),
        stage="archived",
    ),
    Version(
        "2",
        "Plans around leftovers. In production.",
        _PRODUCTION,
        _scores(1.0, 0.871, 0.826, 0.655, 0.722),
        stage="production",
    ),
    Version(
        "3",
        "Learns from the edits people make. Passed offline replay; nobody has decided about it yet.",
        replace(_PRODUCTION, acceptance=0.74, edits=1.12, intervention=0.038, latency_ms=400.0, token_count=1350.0),
        _scores(1.0, 0.889, 0.848, 0.661, 0.735),
    ),
    Version(
        "4",
        "Fast and cheap, but it forgets an allergy in one plan of fifty.",
        replace(_PRODUCTION, acceptance=0.61, edits=1.75, intervention=0.11, latency_ms=290.0, token_count=1100.0),
        _scores(0.98, 0.894, 0.851, 0.648, 0.741),
    ),
)

Load = Callable[[str], Any]


def tracking_uri(data_dir: Path) -> str:
    """Where the demo's MLflow store is: a SQLite file in the data folder."""
    return f"sqlite:///{data_dir.absolute() / 'mlflow.db'}"


def artifacts(data_dir: Path) -> Path:
    """Where the demo's models are stored."""
    return data_dir.absolute() / "artifacts"


def set_up(data_dir: Path) -> dict[str, str]:
    """Fills the registry where anything is missing; a complete one is left as it is.

    Returns the run that evaluated each version, by version number. Takes some 5 s on an empty folder, beside the
    3 s that importing mlflow costs. It points this process's MLflow at the demo's store.
    """
    client = _connect(data_dir)
    if not _is_complete(client):
        _fill(client, data_dir)
    return _evaluation_runs(client)


def loader(data_dir: Path) -> Load:
    """A function that loads `models:/name/version` from the demo's registry."""

    def load(uri: str) -> Any:
        _connect(data_dir)
        import mlflow.pyfunc

        return mlflow.pyfunc.load_model(uri)

    return load


def _connect(data_dir: Path) -> Any:
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
    import mlflow

    artifacts(data_dir).mkdir(parents=True, exist_ok=True)
    uri = tracking_uri(data_dir)
    if mlflow.get_tracking_uri() != uri:
        mlflow.set_tracking_uri(uri)
        mlflow.set_registry_uri(uri)
    return mlflow.MlflowClient(tracking_uri=uri, registry_uri=uri)


def _is_complete(client: Any) -> bool:
    found = client.search_registered_models(filter_string=f"name = '{MODEL}'")
    return any(model.tags.get(_COMPLETE) == "true" for model in found)


def _fill(client: Any, data_dir: Path) -> None:
    """Each piece on its own, so that a set-up that was cut short is carried on; the stages come last and once."""
    training, replay = (_experiment(client, name, data_dir) for name in (TRAINING, REPLAY))
    if not client.search_registered_models(filter_string=f"name = '{MODEL}'"):
        client.create_registered_model(MODEL, description="Plans a week of meals for a household.")
    known = {str(found.version) for found in client.search_model_versions(f"name = '{MODEL}'")}
    evaluated = _evaluation_runs(client)
    for version in VERSIONS:
        if version.number not in known:
            _log(client, version, training)
        if version.number not in evaluated:
            _evaluate(client, version, replay)
    for version in VERSIONS:
        if version.stage is not None:
            client.set_model_version_tag(MODEL, version.number, "stage", version.stage)
        if version.stage == "production":
            client.set_registered_model_alias(MODEL, "production", version.number)
    client.set_registered_model_tag(MODEL, _COMPLETE, "true")


def _experiment(client: Any, name: str, data_dir: Path) -> str:
    found = client.get_experiment_by_name(name)
    if found is not None:
        return str(found.experiment_id)
    return str(client.create_experiment(name, artifact_location=artifacts(data_dir).as_uri()))


def _log(client: Any, version: Version, experiment_id: str) -> None:
    import mlflow.pyfunc

    with mlflow.start_run(experiment_id=experiment_id, run_name=f"train planner {version.number}") as run:
        mlflow.log_params(planner.as_config(version.behaviour))
        logged = mlflow.pyfunc.log_model(
            name="planner",
            python_model=planner.__file__,
            model_config=planner.as_config(version.behaviour),
            pip_requirements=[],  # spares the seconds that inferring them takes; mlflow itself brings all it needs
        )
    made = client.create_model_version(
        MODEL, logged.model_uri, run.info.run_id, description=version.description, model_id=logged.model_id
    )
    if str(made.version) != version.number:
        raise RuntimeError(f"{MODEL} has version {made.version} where the demo expected {version.number}")


def _evaluate(client: Any, version: Version, experiment_id: str) -> None:
    tags = {
        "model_name": MODEL,
        "model_version": version.number,
        "dataset_version": DATASET,
        "evaluation_type": "offline_replay",
    }
    run = client.create_run(experiment_id, tags=tags, run_name=f"replay planner {version.number}")
    for name, value in version.scores.items():
        client.log_metric(run.info.run_id, name, value)
    client.set_terminated(run.info.run_id)


def _evaluation_runs(client: Any) -> dict[str, str]:
    replay = client.get_experiment_by_name(REPLAY)
    if replay is None:
        return {}
    runs = client.search_runs(
        [replay.experiment_id],
        filter_string=f"tags.model_name = '{MODEL}' and attributes.status = 'FINISHED'",
        order_by=["attributes.end_time ASC"],
    )
    numbers = {version.number for version in VERSIONS}
    found = ((run.data.tags.get("model_version"), run.info.run_id) for run in runs)
    return {number: run_id for number, run_id in found if number in numbers}


if __name__ == "__main__":
    print(json.dumps(set_up(Path(sys.argv[1]))))
