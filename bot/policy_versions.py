"""New policy versions, from a form or from what was typed: what is wanted, and its creation. Reads MLflow."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from bot import blocks, fields
from bot.blocks import Answer, Block
from bot.desk import Desk
from bot.fields import Faulty, Values
from core import choices, experiments, stages
from core.errors import Refused
from core.rules.approval import Actor


@dataclass(frozen=True)
class PolicyWish:
    """A policy version that somebody wants."""

    policy: str
    model: str
    version: str
    config: Mapping[str, Any]
    is_new: bool
    override: str | None


def _value(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        return text


def config_from_pairs(pairs: Sequence[str]) -> dict[str, Any]:
    """`temperature=0.7 mode=fast` as a configuration; values are JSON where they read as such.

    Raises:
        Refused: where a word is no pair.
    """
    broken = next((pair for pair in pairs if "=" not in pair), None)
    if broken is not None:
        raise Refused(f"`{broken}` is not a setting. Write settings like temperature=0.7.")
    return {key: _value(value) for key, value in (pair.split("=", 1) for pair in pairs)}


def loading() -> Block:
    """What is shown while the registry is read, so that the view opens at once."""
    body = [blocks.section(":hourglass_flowing_sand: Reading the registry…")]
    return fields.modal("New policy version", "message", body)


def form(desk: Desk) -> Block:
    """The form for a new policy version, with the model versions that the registry has. Reads MLflow."""
    with desk.reading() as session:
        lines = choices.model_lines(session, None, desk.registry)
        names = choices.policy_names(session)
    ordered = sorted(lines, key=lambda line: line.known_stage != "candidate")
    models = [
        fields.option(f"{blocks.cut(blocks.one_line(v.model), 50)} {v.version} · {v.known_stage}", value)
        for v in ordered
        if len(value := f"{v.version}@{v.model}") <= fields.OPTION_VALUE
    ]
    if not models:
        return fields.message("New policy version", "The registry has no model versions yet.")
    named = [fields.option(n, n) for n in names if len(n) <= fields.OPTION_VALUE]
    known = [fields.select("policy", "Policy", named, optional=True)] if named else []
    new = fields.typed("new", "Or a new policy", optional=bool(named), max_length=255)
    return fields.modal(
        "New policy version",
        "policy",
        [
            *known,
            new,
            fields.select("model", "Model version", models, "Candidates come first."),
            fields.typed(
                "config", "Configuration", 'JSON, for example {"temperature": 0.7}', optional=True, multiline=True
            ),
            fields.typed("override", "Override reason", "Needed only where it is no candidate.", optional=True),
        ],
        submit="Create",
    )


def _config(text: str | None) -> dict[str, Any]:
    try:
        found = json.loads(text) if text else {}
    except ValueError as error:
        raise Faulty({"config": f"This is not JSON: {error}"[:140]}) from None
    if not isinstance(found, dict):
        raise Faulty({"config": 'A JSON object is needed, for example {"temperature": 0.7}.'})
    return found


def read(values: Values) -> PolicyWish:
    """The wish in a submitted policy form."""
    new, known = fields.chosen(values, "new"), fields.chosen(values, "policy")
    if not (new or known):
        raise Faulty({"new": "Choose a policy or name a new one."})
    version, _, model = fields.required(values, "model").partition("@")
    if not model:
        raise Faulty({"model": "Choose a model version of the list."})
    return PolicyWish(
        policy=new or known or "",
        model=model,
        version=version,
        config=_config(fields.chosen(values, "config")),
        is_new=bool(new),
        override=fields.chosen(values, "override"),
    )


def create(desk: Desk, wish: PolicyWish, actor: Actor) -> Answer:
    """Creates it and says what comes next. Reads MLflow."""
    desk.check_may_act(None, desk.people.checked(actor))
    with desk.reading() as session:
        made = experiments.create_policy_version(
            session,
            policy=wish.policy,
            mlflow_model_name=wish.model,
            mlflow_model_version=wish.version,
            config_defaults=wish.config,
            create_policy=wish.is_new,
            override_reason=wish.override,
            actor=actor.id,
            registry=desk.registry,
        )
        label = stages.label(made)
    next_step = f"Next, let it join an experiment: `{desk.command} start EXPERIMENT {blocks.escaped(label)}`"
    text = f":white_check_mark: {blocks.name(label)} serves {blocks.name(f'{wish.model} {wish.version}')}."
    return Answer(f"{blocks.escaped(label)} is created.", [blocks.section(text), blocks.context(next_step)])
