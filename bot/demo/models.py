"""The model registry's contents: a meal planner and a breakfast model, with their tags and offline evaluations."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from bot.demo import planner
from bot.demo.planner import Behaviour

MODEL = "planner_model"
DATASET = "meal_replay_2026_q3"
_COMPLETE = "demo_complete"


@dataclass(frozen=True)
class Version:
    """One version of the model: how it behaves, what its replay scored, where it stands when the demo begins."""

    number: str
    description: str
    behaviour: Behaviour
    scores: Mapping[str, float]
    stage: str | None = None


@dataclass(frozen=True)
class Model:
    """A registered model, and the dataset on which its versions were replayed."""

    name: str
    description: str
    dataset: str
    versions: Sequence[Version]

    @property
    def short_name(self) -> str:
        """How its runs call it: planner."""
        return self.name.removesuffix("_model")


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

PLANNER = Model(MODEL, "Plans a week of meals for a household.", DATASET, VERSIONS)

_BREAKFAST_PRODUCTION = Behaviour(
    acceptance=0.72,
    edits=1.20,
    intervention=0.08,
    latency_ms=380.0,
    latency_spread=0.46,
    token_count=900.0,
    price_per_1000_tokens=0.0028,
)

BREAKFAST = Model(
    "breakfast_model",
    "Suggests breakfasts to a household.",
    "breakfast_replay_2026_q3",
    (
        Version(
            "1",
            "Suggests what the household liked before. In production.",
            _BREAKFAST_PRODUCTION,
            _scores(1.0, 0.856, 0.812, 0.631, 0.702),
            stage="production",
        ),
        Version(
            "2",
            "Smaller and quicker; people change a little less of what it suggests.",
            replace(
                _BREAKFAST_PRODUCTION,
                acceptance=0.74,
                edits=1.14,
                intervention=0.055,
                latency_ms=290.0,
                token_count=840.0,
            ),
            _scores(1.0, 0.868, 0.819, 0.640, 0.709),
            stage="experiment",
        ),
    ),
)
REGISTERED = (PLANNER, BREAKFAST)

Load = Callable[[str], Any]


def tracking_uri(data_dir: Path) -> str:
    """Where the demo's MLflow store is: a SQLite file in the data folder."""
    return f"sqlite:///{data_dir.absolute() / 'mlflow.db'}"


def artifacts(data_dir: Path) -> Path:
    """Where the demo's models are stored."""
    return data_dir.absolute() / "artifacts"


def set_up(data_dir: Path) -> dict[str, dict[str, str]]:
    """Fills the registry where anything is missing; a complete one is left as it is.

    Returns the run that evaluated each version, by model and version number. Takes some 5 s on an empty folder, beside
    the 3 s that importing mlflow costs. It points this process's MLflow at the demo's store.
    """
    client = _connect(data_dir)
    complete = _complete(client)
    for model in REGISTERED:
        if model.name not in complete:
            _fill(client, model, data_dir)
    return {model.name: _evaluation_runs(client, model) for model in REGISTERED}


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


def _complete(client: Any) -> set[str]:
    return {model.name for model in client.search_registered_models() if model.tags.get(_COMPLETE) == "true"}


def _fill(client: Any, model: Model, data_dir: Path) -> None:
    """Each piece on its own, so that a set-up that was cut short is carried on; the stages come last and once."""
    training = _experiment(client, f"{model.short_name}_training", data_dir)
    replay = _experiment(client, _replay_name(model), data_dir)
    if not client.search_registered_models(filter_string=f"name = '{model.name}'"):
        client.create_registered_model(model.name, description=model.description)
    known = {str(found.version) for found in client.search_model_versions(f"name = '{model.name}'")}
    evaluated = _evaluation_runs(client, model)
    for version in model.versions:
        if version.number not in known:
            _log(client, model, version, training)
        if version.number not in evaluated:
            _evaluate(client, model, version, replay)
    for version in model.versions:
        if version.stage is not None:
            client.set_model_version_tag(model.name, version.number, "stage", version.stage)
        if version.stage == "production":
            client.set_registered_model_alias(model.name, "production", version.number)
    client.set_registered_model_tag(model.name, _COMPLETE, "true")


def _replay_name(model: Model) -> str:
    return f"{model.short_name}_offline_replay"


def _experiment(client: Any, name: str, data_dir: Path) -> str:
    found = client.get_experiment_by_name(name)
    if found is not None:
        return str(found.experiment_id)
    return str(client.create_experiment(name, artifact_location=artifacts(data_dir).as_uri()))


def _log(client: Any, model: Model, version: Version, experiment_id: str) -> None:
    import mlflow.pyfunc

    with mlflow.start_run(experiment_id=experiment_id, run_name=f"train {model.short_name} {version.number}") as run:
        mlflow.log_params(planner.as_config(version.behaviour))
        logged = mlflow.pyfunc.log_model(
            name=model.short_name,
            python_model=planner.__file__,
            model_config=planner.as_config(version.behaviour),
            pip_requirements=[],  # spares the seconds that inferring them takes; mlflow itself brings all it needs
        )
    made = client.create_model_version(
        model.name, logged.model_uri, run.info.run_id, description=version.description, model_id=logged.model_id
    )
    if str(made.version) != version.number:
        raise RuntimeError(f"{model.name} has version {made.version} where the demo expected {version.number}")


def _evaluate(client: Any, model: Model, version: Version, experiment_id: str) -> None:
    tags = {
        "model_name": model.name,
        "model_version": version.number,
        "dataset_version": model.dataset,
        "evaluation_type": "offline_replay",
    }
    run = client.create_run(experiment_id, tags=tags, run_name=f"replay {model.short_name} {version.number}")
    for name, value in version.scores.items():
        client.log_metric(run.info.run_id, name, value)
    client.set_terminated(run.info.run_id)


def _evaluation_runs(client: Any, model: Model) -> dict[str, str]:
    replay = client.get_experiment_by_name(_replay_name(model))
    if replay is None:
        return {}
    runs = client.search_runs(
        [replay.experiment_id],
        filter_string=f"tags.model_name = '{model.name}' and attributes.status = 'FINISHED'",
        order_by=["attributes.end_time ASC"],
    )
    numbers = {version.number for version in model.versions}
    found = ((run.data.tags.get("model_version"), run.info.run_id) for run in runs)
    return {number: run_id for number, run_id in found if number in numbers}


if __name__ == "__main__":
    print(json.dumps(set_up(Path(sys.argv[1]))))
