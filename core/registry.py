"""The model registry, with MLflow behind it. Importing mlflow costs seconds, so it happens on first use."""

from __future__ import annotations

import logging
import re
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from functools import cache
from typing import Any

from sqlalchemy.exc import SQLAlchemyError

from core import settings
from core.errors import Refused, RegistryUnavailable
from core.rules import mirroring
from core.rules.evaluation import SCORES
from core.rules.lifecycle import Stage
from core.rules.mirroring import PRODUCTION_ALIAS, Written

_NO_SUCH_NAME = ("RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE")
"""MLflow's answers to a name that it does not have, or that no model can have."""
_VERSION = re.compile(r"[1-9][0-9]{0,8}")
"""How MLflow writes a version number; it would also read `03`, or the digits of other scripts."""
_RELEASE = re.compile(r"\d+\.\d+[.\w]{0,20}$")
STAGE_TAG = "stage"


@dataclass(frozen=True)
class ModelVersion:
    """One version of a registered model, with the stage that its tag claims."""

    name: str
    version: str
    stage: str | None
    aliases: tuple[str, ...]
    run_id: str | None
    created_at: datetime


@dataclass(frozen=True)
class Alignment:
    """What bringing a model in line changed: the tags that differ by version, and the version with the alias."""

    tags_before: Mapping[str, str | None]
    tags: Mapping[str, str | None]
    alias_before: str | None
    alias: str | None
    spared: Mapping[str, str | None] = field(default_factory=dict)
    """The tags that others had set since the last time, left as they are."""
    is_alias_spared: bool = False


@dataclass(frozen=True)
class EvaluationRun:
    """One finished offline replay as the pipeline logged it: five scores from 0 to 1, None where missing."""

    run_id: str
    dataset_version: str | None
    scores: Mapping[str, float | None]
    finished_at: datetime


def _quoted(value: str) -> str:
    """A string in MLflow's filter language, which knows two kinds of quotes and no escape."""
    if "'" in value and '"' in value:
        raise Refused("MLflow cannot search for a name with both kinds of quotes in it. Rename the model.")
    return f'"{value}"' if "'" in value else f"'{value}'"


def _utc(milliseconds: int | None) -> datetime:
    return datetime.fromtimestamp((milliseconds or 0) / 1000, tz=UTC)


class Registry:
    """Five verbs on an MLflow tracking and registry server.

    Every verb raises `RegistryUnavailable` where the server does not answer or faults.
    """

    def __init__(self, uri: str, *, timeout_s: int = 10) -> None:
        settings.keep_to_ourselves()
        self._uri = uri
        self._timeout_s = timeout_s
        self._lock = threading.Lock()
        self._client: Any = None

    @property
    def is_loaded(self) -> bool:
        """True once MLflow is imported and a client is there."""
        return self._client is not None

    def _connected(self) -> Any:
        with self._lock:
            if self._client is None:
                from mlflow import MlflowClient, environment_variables

                environment_variables.MLFLOW_HTTP_REQUEST_TIMEOUT.set(self._timeout_s)
                environment_variables.MLFLOW_HTTP_REQUEST_MAX_RETRIES.set(1)
                self._client = MlflowClient(tracking_uri=self._uri, registry_uri=self._uri)
                _log_as_all_do()
            return self._client

    def load(self) -> None:
        """Loads the client, which takes seconds, before it is needed."""
        self._connected()

    @contextmanager
    def _answering(self) -> Iterator[Any]:
        """The client; faults of the server become one error, a missing name stays MLflow's own."""
        from mlflow.exceptions import MlflowException

        try:
            yield self._connected()
        except (MlflowException, SQLAlchemyError, OSError) as error:
            if getattr(error, "error_code", None) in _NO_SUCH_NAME:
                raise
            raise RegistryUnavailable(
                f"The model registry did not answer ({type(error).__name__}). "
                "Nothing was changed; try again in a minute."
            ) from error

    def server_version(self) -> str | None:
        """What an MLflow server says of its release; None of a store without a server, or where it does not say."""
        if not self._uri.startswith("http"):
            return None
        with self._answering():
            from mlflow.utils.credentials import get_default_host_creds
            from mlflow.utils.rest_utils import http_request

            answer = http_request(
                get_default_host_creds(self._uri), "/version", "GET", timeout=self._timeout_s, raise_on_status=False
            )
        found = str(answer.text).strip()
        return found if answer.status_code == 200 and _RELEASE.match(found) else None

    def models(self) -> list[str]:
        """Names of all registered models."""
        with self._answering() as client:
            return [model.name for model in _pages(client.search_registered_models)]

    def versions(self, name: str) -> list[ModelVersion]:
        """All versions of a model, newest first; empty where there is no such model."""
        with self._answering() as client:
            found = _pages(client.search_model_versions, filter_string=f"name={_quoted(name)}")
            versions = sorted((_model_version(v) for v in found), key=lambda v: int(v.version), reverse=True)
            aliases = client.get_registered_model(name).aliases if versions else {}
            # A search leaves the aliases out; only the model itself has them.
            return [replace(v, aliases=_pointing_at(v.version, aliases)) for v in versions]

    def version(self, name: str, version: str) -> ModelVersion | None:
        """One version, or None where MLflow does not have it."""
        from mlflow.exceptions import MlflowException

        try:
            with self._answering() as client:
                return _model_version(client.get_model_version(name, version)) if _VERSION.fullmatch(version) else None
        except MlflowException:
            return None

    def evaluations(self, name: str, version: str, dataset_version: str | None = None) -> list[EvaluationRun]:
        """The finished offline replays of a model version, on one dataset or on all, newest first; 50 at most."""
        tags = {"model_name": name, "model_version": version, "evaluation_type": "offline_replay"}
        tags |= {"dataset_version": dataset_version} if dataset_version else {}
        wanted = " and ".join(f"tags.{key} = {_quoted(value)}" for key, value in tags.items())
        with self._answering() as client:
            everywhere = [e.experiment_id for e in _pages(client.search_experiments)]
            runs = client.search_runs(
                everywhere,
                filter_string=f"{wanted} and attributes.status = 'FINISHED'",
                order_by=["attributes.end_time DESC"],
                max_results=50,
            )
            return [_evaluation(run) for run in runs]

    def align(self, name: str, stages: Mapping[str, Stage], written: Written | None = None) -> Alignment:
        """Brings tags and the alias `production` of a model in line with the decided stages, by version.

        Versions that nothing was decided about keep their tag, unless they claim production as well. The alias goes
        where the version that it points to was decided to be something else and nothing is in production. What others
        set after it was `written` is left alone; None overwrites that, too. Returns how tags and alias were and are.
        """
        there = self.versions(name)
        present, holder = {v.version: v.stage for v in there}, production_alias(there)
        wanted, points_to = mirroring.wanted_tags(present, stages), mirroring.wanted_alias(present, stages, holder)
        spared = mirroring.set_by_others(present, wanted, written) if written else {}
        is_alias_spared = written is not None and mirroring.alias_set_by_others(holder, points_to, written)
        points_to = holder if is_alias_spared else points_to
        changed = {v: stage for v, stage in wanted.items() if present[v] != stage and v not in spared}
        with self._answering() as client:
            for version, stage in changed.items():
                client.set_model_version_tag(name, version, STAGE_TAG, stage)
            if points_to is not None and points_to != holder:
                client.set_registered_model_alias(name, PRODUCTION_ALIAS, points_to)
            if points_to is None and holder is not None:
                client.delete_registered_model_alias(name, PRODUCTION_ALIAS)
        return Alignment({v: present[v] for v in changed}, changed, holder, points_to, spared, is_alias_spared)


def _log_as_all_do() -> None:
    """MLflow writes to the log in a form of its own, and has Alembic and SQLAlchemy do so."""
    for name in ("mlflow", "alembic", "huey", "sqlalchemy.engine"):
        logger = logging.getLogger(name)
        logger.handlers.clear()
        logger.propagate = True
        logger.setLevel(logging.WARNING)


def production_alias(versions: Sequence[ModelVersion]) -> str | None:
    """The version that has the alias `production`."""
    return next((v.version for v in versions if PRODUCTION_ALIAS in v.aliases), None)


def _pages(search: Any, **arguments: Any) -> Iterator[Any]:
    token = None
    while True:
        page = search(page_token=token, **arguments) if token else search(**arguments)
        yield from page
        token = page.token
        if not token:
            return


def _pointing_at(version: str, aliases: Mapping[str, Any]) -> tuple[str, ...]:
    return tuple(alias for alias, target in aliases.items() if str(target) == version)


def _model_version(found: Any) -> ModelVersion:
    return ModelVersion(
        name=found.name,
        version=str(found.version),
        stage=found.tags.get(STAGE_TAG),
        aliases=tuple(found.aliases),
        run_id=found.run_id,
        created_at=_utc(found.creation_timestamp),
    )


def _evaluation(run: Any) -> EvaluationRun:
    return EvaluationRun(
        run_id=run.info.run_id,
        dataset_version=run.data.tags.get("dataset_version"),
        scores={score: run.data.metrics.get(score) for score in SCORES},
        finished_at=_utc(run.info.end_time),
    )


@cache
def at(uri: str, timeout_s: int = 10) -> Registry:
    """The registry at an MLflow URI; one client per address and process."""
    return Registry(uri, timeout_s=timeout_s)


def configured() -> Registry:
    """The registry that the environment and the configuration file name."""
    found = settings.load()
    return at(found.tracking_uri, found.mlflow_timeout_s)
