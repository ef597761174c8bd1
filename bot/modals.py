"""Open a view, read its submission."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from decimal import Decimal
from typing import Any

from bot import blocks, request_screens
from bot.blocks import Answer, Block
from bot.desk import Desk
from core import cards, choices, experiments, requests, stages
from core.cards import RequestCard
from core.db import Session
from core.errors import Refused
from core.plans import Ask
from core.rules import returns
from core.rules.approval import Actor

OPTIONS = 100
MOST_OPTIONS = 1000
OPTION_TEXT = 75
OPTION_VALUE = 150
REASON_LIMIT = 1000

Values = Mapping[str, Any]


class Faulty(Exception):
    """A submission with faults, each by the field it belongs to."""

    def __init__(self, faults: Mapping[str, str]) -> None:
        super().__init__(str(faults))
        self.faults = dict(faults)


# --- Pieces ---------------------------------------------------------------------------------------------------------


def _text(text: str) -> Block:
    return {"type": "plain_text", "text": text}


def _option(text: str, value: str) -> Block:
    return {"text": _text(blocks.cut(blocks.one_line(text), OPTION_TEXT)), "value": value}


def _choices(options: Sequence[Block]) -> Block:
    """A list takes a hundred options; more come in groups of a hundred, and past a thousand one has to type."""
    if len(options) <= OPTIONS:
        return {"options": list(options)}
    starts = range(0, min(len(options), MOST_OPTIONS), OPTIONS)
    pages = {start + 1: list(options[start : start + OPTIONS]) for start in starts}
    return {"option_groups": [{"label": _text(f"From no. {n}"), "options": page} for n, page in pages.items()]}


def _select(field: str, label: str, options: Sequence[Block], hint: str = "", *, optional: bool = False) -> Block:
    element: Block = {"type": "static_select", "action_id": field, "placeholder": _text("Choose"), **_choices(options)}
    if len(options) == 1:
        element["initial_option"] = options[0]
    return _input(field, label, element, hint, optional=optional)


def _both(one: str, word: str, other: str) -> str:
    """Two names in the text of an option, so that a long one does not push the other out."""
    room = (OPTION_TEXT - len(word) - 2) // 2
    return f"{blocks.cut(blocks.one_line(one), room)} {word} {blocks.cut(blocks.one_line(other), room)}"


def _input(field: str, label: str, element: Block, hint: str = "", *, optional: bool = False) -> Block:
    made: Block = {"type": "input", "block_id": field, "label": _text(label), "element": element, "optional": optional}
    return made | ({"hint": _text(hint)} if hint else {})


def _typed(field: str, label: str, hint: str = "", *, optional: bool = False, **element: Any) -> Block:
    shape = {"type": "plain_text_input", "action_id": field, "max_length": REASON_LIMIT, **element}
    return _input(field, label, shape, hint, optional=optional)


def modal(title: str, callback_id: str, body: Sequence[Block], *, submit: str | None = None, about: str = "") -> Block:
    """A view; `about` travels with it and comes back on submission."""
    made: Block = {
        "type": "modal",
        "callback_id": callback_id,
        "title": _text(blocks.cut(title, 24)),
        "close": _text("Cancel" if submit else "Close"),
        "blocks": list(body),
        "private_metadata": about,
    }
    return made | ({"submit": _text(submit)} if submit else {})


def loading(title: str, callback_id: str) -> Block:
    """What is shown while the registry is read, so that the view opens at once."""
    return modal(title, callback_id, [blocks.section(":hourglass_flowing_sand: Reading the registry…")])


def message(title: str, text: str) -> Block:
    """A view that only says something."""
    return modal(title, "message", [blocks.section(text)])


def _within(found: Any, *path: str) -> Any:
    """What lies at the end of a path of keys; None where it breaks off."""
    for key in path:
        found = found.get(key) if isinstance(found, Mapping) else None
    return found


def _chosen(values: Values, field: str) -> str | None:
    chosen = _within(values, field, field, "selected_option", "value")
    found = _within(values, field, field, "value") if chosen is None else chosen
    return blocks.storable(found).strip() or None if isinstance(found, str) else None


def _required(values: Values, field: str) -> str:
    found = _chosen(values, field)
    if found is None:
        raise Faulty({field: "This is needed."})
    return found


# --- Start ----------------------------------------------------------------------------------------------------------


def start(session: Session, command: str) -> Block:
    """The form for letting a candidate join an experiment."""
    places = choices.experiment_choices(session, statuses=("active", "draft"))
    versions = choices.candidate_lines(session)
    if not places or not versions:
        lack = "no experiment can take a candidate" if not places else "there is no candidate policy version"
        hint = f"Qualify a model version with `{command} qualify` first." if places else "Activate an experiment first."
        return message("Start a candidate", f"At the moment {lack}. {hint}")
    return modal(
        "Start a candidate",
        "start",
        [
            _select("experiment", "Experiment", [_option(name, id) for name, id in places]),
            _select("version", "Policy version", [_option(_both(v.label, "·", v.model), v.id) for v in versions]),
            _input(
                "share",
                "Share of traffic, in %",
                {
                    "type": "number_input",
                    "action_id": "share",
                    "is_decimal_allowed": True,
                    "min_value": "0.01",
                    "max_value": "10",
                },
                "At most 10; left out, the first step of the experiment. The other variants shrink in proportion.",
                optional=True,
            ),
            _typed("reason", "Why", optional=True, multiline=True),
        ],
        submit="Ask for approval",
    )


def read_start(values: Values) -> Ask:
    """The wish in a submitted start form."""
    share = _chosen(values, "share")
    return Ask(
        "start",
        stages.as_id(_required(values, "experiment")),
        reason=_chosen(values, "reason"),
        policy_version_id=stages.as_id(_required(values, "version")),
        share=Decimal(share) / 100 if share else None,
    )


# --- Rollback -------------------------------------------------------------------------------------------------------


def rollback(session: Session) -> Block:
    """The form for giving traffic back to the baseline."""
    running = choices.running_choices(session)
    if not running:
        return message("Roll back", "No candidate has traffic and nothing in production has a predecessor.")
    return modal(
        "Roll back",
        "rollback",
        [
            _select(
                "variant", "What failed", [_option(_both(c.variant, "in", c.experiment), c.variant_id) for c in running]
            ),
            _input(
                "scope",
                "What goes back",
                {
                    "type": "radio_buttons",
                    "action_id": "scope",
                    "options": (
                        scopes := [
                            _option("All traffic to the baseline", "all"),
                            _option("Only this variant's share", "share"),
                        ]
                    ),
                    "initial_option": scopes[0],
                },
            ),
            _typed("reason", "Why", multiline=True),
        ],
        submit="Ask",
    )


def read_rollback(values: Values, session: Session) -> Ask:
    """The wish in a submitted rollback form."""
    variant = _required(values, "variant")
    found = next((c for c in choices.running_choices(session) if c.variant_id == variant), None)
    if found is None:
        raise Faulty({"variant": "This variant has no traffic any more."})
    scope = _required(values, "scope")
    return Ask(
        "rollback",
        found.experiment,
        reason=_required(values, "reason"),
        variant=found.variant,
        scope="share" if scope == "share" else "all",
    )


# --- Reject ---------------------------------------------------------------------------------------------------------


def reject(request_id: str, *, verb: str = "Reject") -> Block:
    """The form that asks why a request is rejected, or taken back."""
    why = _typed("reason", "Why", "The person who asked will read it.", multiline=True)
    return modal(f"{verb} #{request_id}", "reject", [why], submit=verb, about=json.dumps({"id": request_id}))


def break_glass(card: RequestCard, channels: str, reason: str | None) -> Block:
    """The form that says what breaking the glass does, and asks why; what it shows is what its submission is for."""
    typed: dict[str, Any] = {"initial_value": blocks.cut(reason, REASON_LIMIT)} if reason else {}
    why = _typed("reason", "Why", "Everybody will read it; a few words at least.", multiline=True, **typed)
    body = blocks.fitted(request_screens.breaking_glass(card, channels), [why])
    about = json.dumps({"id": f"{card.id}:{card.mark}"})
    return modal(f"Break glass: #{card.id}", "break_glass", body, submit="Push it through", about=about)


LENGTHS = (15, 30, 60, 120, 240)
"""Minutes after which a candidate may return by itself."""


def sign_safety(number: int, variant: str) -> Block:
    """The form in which an owner signs that a candidate returns by itself where nobody answers an alert."""
    said = (
        f"If a *critical alert* about {blocks.name(variant)} is unanswered for as long as this, it returns to its "
        "*previous share* by itself. The alert shows a countdown with a button to stop it; any answer stops it, too. "
        "It holds for this run of the candidate, with your name."
    )
    options = [_option(f"{minutes} minutes", str(minutes)) for minutes in LENGTHS]
    length = _select("minutes", "Unanswered for", options)
    length["element"]["initial_option"] = options[LENGTHS.index(round(returns.USUAL.total_seconds() / 60))]
    why = _typed("reason", "Why", "Whoever is on call at night reads it on the alert.", multiline=True)
    about = json.dumps({"id": str(number)})
    body = [blocks.section(said), length, why]
    return modal("Sign the return", "sign_safety", body, submit="Sign", about=about)


def read_safety(values: Values) -> tuple[timedelta, str]:
    """After how long, and why, from a submitted form."""
    minutes = _required(values, "minutes")
    if minutes not in map(str, LENGTHS):
        raise Faulty({"minutes": "Choose one of the list."})
    return timedelta(minutes=int(minutes)), _required(values, "reason")


def reason_of(values: Values) -> str:
    """The reason in a submitted form."""
    return _required(values, "reason")


# --- Hold and dismiss -----------------------------------------------------------------------------------------------


HOLDS: Mapping[str, tuple[str, timedelta]] = {
    "0": ("Lift the hold now", timedelta()),
    "4h": ("For 4 hours", timedelta(hours=4)),
    "1d": ("For a day", timedelta(days=1)),
    "3d": ("For 3 days", timedelta(days=3)),
    "7d": ("For a week", timedelta(days=7)),
}


def hold(rollout_id: int, variant: str, *, is_held: bool) -> Block:
    """The form that asks how long a rollout is held, and why."""
    options = [_option(text, key) for key, (text, length) in HOLDS.items() if length or is_held]
    why = _typed("reason", "Why", "Everybody who follows it will read it.", multiline=True)
    about = json.dumps({"id": str(rollout_id)})
    body = [blocks.section(f"{blocks.name(variant)} stays at its share meanwhile. Alerts go on as ever.")]
    return modal("Hold", "hold", [*body, _select("length", "How long", options), why], submit="Save", about=about)


def read_hold(values: Values) -> tuple[timedelta, str]:
    """How long and why, from a submitted hold form."""
    chosen = HOLDS.get(_required(values, "length"))
    if chosen is None:
        raise Faulty({"length": "Choose one of the list."})
    return chosen[1], _required(values, "reason")


def dismiss(alert_id: str) -> Block:
    """The form that asks why an alert is no reason to act."""
    why = _typed(
        "reason",
        "Why it is no reason to act",
        "The same cause then stays quiet for a day at these shares.",
        multiline=True,
    )
    return modal(f"Dismiss alert {alert_id}", "dismiss", [why], submit="Dismiss", about=json.dumps({"id": alert_id}))


# --- Policy version -------------------------------------------------------------------------------------------------


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


def policy(desk: Desk) -> Block:
    """The form for a new policy version, with the model versions that the registry has. Reads MLflow."""
    with desk.reading() as session:
        lines = choices.model_lines(session, None, desk.registry)
        names = choices.policy_names(session)
    ordered = sorted(lines, key=lambda line: line.known_stage != "candidate")
    models = [
        _option(f"{blocks.cut(blocks.one_line(v.model), 50)} {v.version} · {v.known_stage}", value)
        for v in ordered
        if len(value := f"{v.version}@{v.model}") <= OPTION_VALUE
    ]
    if not models:
        return message("New policy version", "The registry has no model versions yet.")
    named = [_option(n, n) for n in names if len(n) <= OPTION_VALUE]
    known = [_select("policy", "Policy", named, optional=True)] if named else []
    new = _typed("new", "Or a new policy", optional=bool(named), max_length=255)
    return modal(
        "New policy version",
        "policy",
        [
            *known,
            new,
            _select("model", "Model version", models, "Candidates come first."),
            _typed("config", "Configuration", 'JSON, for example {"temperature": 0.7}', optional=True, multiline=True),
            _typed("override", "Override reason", "Needed only where it is no candidate.", optional=True),
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


def read_policy(values: Values) -> PolicyWish:
    """The wish in a submitted policy form."""
    new, known = _chosen(values, "new"), _chosen(values, "policy")
    if not (new or known):
        raise Faulty({"new": "Choose a policy or name a new one."})
    version, _, model = _required(values, "model").partition("@")
    if not model:
        raise Faulty({"model": "Choose a model version of the list."})
    return PolicyWish(
        policy=new or known or "",
        model=model,
        version=version,
        config=_config(_chosen(values, "config")),
        is_new=bool(new),
        override=_chosen(values, "override"),
    )


def create_policy_version(desk: Desk, wish: PolicyWish, actor: Actor) -> Answer:
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


# --- Submissions ----------------------------------------------------------------------------------------------------


def submit(desk: Desk, wish: Ask, actor: Actor) -> Answer:
    """Opens the request that a form describes."""
    with desk.transaction() as session:
        requests.check_may_ask(session, wish, actor=actor, roles=desk.people.roles)
        request = requests.ask(session, wish, requester=actor.id, terms=desk.settings.terms)
        return request_screens.asked(cards.request_card(session, request.id), desk.approvals)
