"""The meal planner that the demo promotes, in one file: MLflow stores this text as the code of every version.

Outcomes follow from the version's `Behaviour`, which MLflow keeps as the model's configuration, so a version that
plans badly does so wherever it is loaded.
"""

import hashlib
import math
from dataclasses import asdict, dataclass
from functools import lru_cache
from statistics import NormalDist

from pydantic import BaseModel

MEALS = (
    "lentil soup",
    "roast vegetables",
    "chickpea curry",
    "mushroom risotto",
    "fish tacos",
    "tofu stir-fry",
    "shakshuka",
    "bean chilli",
    "pasta al limone",
    "barley salad",
)
DAYS_AHEAD = 5
AVERAGE_HOUSEHOLD = 3
DEFAULT_MAX_TOKENS = 2048
_NORMAL = NormalDist()


@dataclass(frozen=True)
class Behaviour:
    """How good a version is, over its average unit; shares of 1, milliseconds, tokens, money per plan.

    `latency_spread` is the sigma of the log of the latency that comes from the machine, not from the request.
    """

    acceptance: float
    edits: float
    intervention: float
    latency_ms: float
    latency_spread: float
    token_count: float
    price_per_1000_tokens: float


class Request(BaseModel):
    """What the planner is asked: a unit, an ISO date and the numbers of the serving configuration."""

    unit_id: str
    day: str
    config: dict[str, float] = {}


class Plan(BaseModel):
    """A plan and what will become of it: probabilities of acceptance and intervention, expected number of edits."""

    items: list[str]
    latency_ms: float
    latency_spread: float
    token_count: int
    cost: float
    acceptance: float
    edits: float
    intervention: float


def _uniforms(*key: object) -> list[float]:
    """Eight numbers strictly between 0 and 1 that depend on the key only."""
    digest = hashlib.blake2b(":".join(map(str, key)).encode(), digest_size=32).digest()
    return [(int.from_bytes(digest[at : at + 4]) + 0.5) / 2**32 for at in range(0, 32, 4)]


@lru_cache(maxsize=50_000)
def _unit(unit_id: str) -> tuple[float, float, int]:
    """A unit's taste and patience (standard normal) and the size of its household (1 to 5)."""
    taste, patience, size, *_ = _uniforms("unit", unit_id)
    return _NORMAL.inv_cdf(taste), _NORMAL.inv_cdf(patience), 1 + int(size * 5)


def plan(behaviour: Behaviour, request: Request) -> Plan:
    """The same plan for the same unit, day and version, and how this unit takes it."""
    taste, patience, household = _unit(request.unit_id)
    load, length, *picks = _uniforms("day", request.unit_id, request.day)
    size = 1 + 0.1 * (household - AVERAGE_HOUSEHOLD)
    tokens = behaviour.token_count * size * math.exp(0.15 * _NORMAL.inv_cdf(length))
    tokens = round(min(tokens, request.config.get("max_tokens", DEFAULT_MAX_TOKENS)))
    return Plan(
        items=[MEALS[int(pick * len(MEALS))] for pick in picks[:DAYS_AHEAD]],
        latency_ms=behaviour.latency_ms * size * math.exp(0.2 * _NORMAL.inv_cdf(load)),
        latency_spread=behaviour.latency_spread,
        token_count=tokens,
        cost=tokens * behaviour.price_per_1000_tokens / 1000,
        acceptance=min(max(behaviour.acceptance + 0.12 * taste, 0.05), 0.98),
        edits=behaviour.edits * math.exp(0.3 * patience - 0.045),
        intervention=min(behaviour.intervention * household / AVERAGE_HOUSEHOLD, 1.0),
    )


def _register() -> None:
    import mlflow.pyfunc

    class Planner(mlflow.pyfunc.PythonModel):  # type: ignore[misc]
        def load_context(self, context: mlflow.pyfunc.PythonModelContext) -> None:
            self.behaviour = Behaviour(**{name: context.model_config[name] for name in _FIELDS})

        def predict(self, model_input: list[Request]) -> list[Plan]:
            return [plan(self.behaviour, request) for request in model_input]

    mlflow.models.set_model(Planner())


def as_config(behaviour: Behaviour) -> dict[str, float]:
    """The behaviour as MLflow keeps it with the model."""
    return asdict(behaviour)


_FIELDS = tuple(Behaviour.__dataclass_fields__)

# MLflow runs this text under a name of its own, far from the package; imported by the package it needs no mlflow.
if not __name__.startswith("bot."):
    _register()
