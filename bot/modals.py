"""Open a view, read its submission."""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import timedelta
from decimal import Decimal
from typing import Any

from bot import blocks, fields, request_screens
from bot.blocks import Block
from bot.fields import Faulty, Values
from core import choices, stages
from core.cards import RequestCard
from core.db import Session
from core.plans import Ask
from core.rules import returns

# --- Start ----------------------------------------------------------------------------------------------------------


def start(session: Session, command: str) -> Block:
    """The form for letting a candidate join an experiment."""
    places = choices.experiment_choices(session, statuses=("active", "draft"))
    versions = choices.candidate_lines(session)
    if not places or not versions:
        lack = "no experiment can take a candidate" if not places else "there is no candidate policy version"
        hint = f"Qualify a model version with `{command} qualify` first." if places else "Activate an experiment first."
        return fields.message("Start a candidate", f"At the moment {lack}. {hint}")
    return fields.modal(
        "Start a candidate",
        "start",
        [
            fields.select("experiment", "Experiment", [fields.option(name, id) for name, id in places]),
            fields.select(
                "version", "Policy version", [fields.option(fields.both(v.label, "·", v.model), v.id) for v in versions]
            ),
            fields.labelled(
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
            fields.typed("reason", "Why", optional=True, multiline=True),
        ],
        submit="Ask for approval",
    )


def read_start(values: Values) -> Ask:
    """The wish in a submitted start form."""
    share = fields.chosen(values, "share")
    return Ask(
        "start",
        stages.as_id(fields.required(values, "experiment")),
        reason=fields.chosen(values, "reason"),
        policy_version_id=stages.as_id(fields.required(values, "version")),
        share=Decimal(share) / 100 if share else None,
    )


# --- Rollback -------------------------------------------------------------------------------------------------------


def rollback(session: Session) -> Block:
    """The form for giving traffic back to the baseline."""
    running = choices.running_choices(session)
    if not running:
        return fields.message("Roll back", "No candidate has traffic and nothing in production has a predecessor.")
    return fields.modal(
        "Roll back",
        "rollback",
        [
            fields.select(
                "variant",
                "What failed",
                [fields.option(fields.both(c.variant, "in", c.experiment), c.variant_id) for c in running],
            ),
            fields.labelled(
                "scope",
                "What goes back",
                {
                    "type": "radio_buttons",
                    "action_id": "scope",
                    "options": (
                        scopes := [
                            fields.option("All traffic to the baseline", "all"),
                            fields.option("Only this variant's share", "share"),
                        ]
                    ),
                    "initial_option": scopes[0],
                },
            ),
            fields.typed("reason", "Why", multiline=True),
        ],
        submit="Ask",
    )


def read_rollback(values: Values, session: Session) -> Ask:
    """The wish in a submitted rollback form."""
    variant = fields.required(values, "variant")
    found = next((c for c in choices.running_choices(session) if c.variant_id == variant), None)
    if found is None:
        raise Faulty({"variant": "This variant has no traffic any more."})
    scope = fields.required(values, "scope")
    return Ask(
        "rollback",
        found.experiment,
        reason=fields.required(values, "reason"),
        variant=found.variant,
        scope="share" if scope == "share" else "all",
    )


# --- Reject ---------------------------------------------------------------------------------------------------------


def reject(request_id: str, *, verb: str = "Reject") -> Block:
    """The form that asks why a request is rejected, or taken back."""
    why = fields.typed("reason", "Why", "The person who asked will read it.", multiline=True)
    return fields.modal(f"{verb} #{request_id}", "reject", [why], submit=verb, about=json.dumps({"id": request_id}))


def break_glass(card: RequestCard, channels: str, reason: str | None) -> Block:
    """The form that says what breaking the glass does, and asks why; what it shows is what its submission is for."""
    typed: dict[str, Any] = {"initial_value": blocks.cut(reason, fields.REASON_LIMIT)} if reason else {}
    why = fields.typed("reason", "Why", "Everybody will read it; a few words at least.", multiline=True, **typed)
    body = blocks.fitted(request_screens.breaking_glass(card, channels), [why])
    about = json.dumps({"id": f"{card.id}:{card.mark}"})
    return fields.modal(f"Break glass: #{card.id}", "break_glass", body, submit="Push it through", about=about)


LENGTHS = (15, 30, 60, 120, 240)
"""Minutes after which a candidate may return by itself."""


def sign_safety(number: int, variant: str) -> Block:
    """The form in which an owner signs that a candidate returns by itself where nobody answers an alert."""
    said = (
        f"If a *critical alert* about {blocks.name(variant)} is unanswered for as long as this, it returns to its "
        "*previous share* by itself. The alert shows a countdown with a button to stop it; any answer stops it, too. "
        "It holds for this run of the candidate, with your name."
    )
    options = [fields.option(f"{minutes} minutes", str(minutes)) for minutes in LENGTHS]
    length = fields.select("minutes", "Unanswered for", options)
    length["element"]["initial_option"] = options[LENGTHS.index(round(returns.USUAL.total_seconds() / 60))]
    why = fields.typed("reason", "Why", "Whoever is on call at night reads it on the alert.", multiline=True)
    about = json.dumps({"id": str(number)})
    body = [blocks.section(said), length, why]
    return fields.modal("Sign the return", "sign_safety", body, submit="Sign", about=about)


def read_safety(values: Values) -> tuple[timedelta, str]:
    """After how long, and why, from a submitted form."""
    minutes = fields.required(values, "minutes")
    if minutes not in map(str, LENGTHS):
        raise Faulty({"minutes": "Choose one of the list."})
    return timedelta(minutes=int(minutes)), fields.required(values, "reason")


def reason_of(values: Values) -> str:
    """The reason in a submitted form."""
    return fields.required(values, "reason")


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
    options = [fields.option(text, key) for key, (text, length) in HOLDS.items() if length or is_held]
    why = fields.typed("reason", "Why", "Everybody who follows it will read it.", multiline=True)
    about = json.dumps({"id": str(rollout_id)})
    body = [blocks.section(f"{blocks.name(variant)} stays at its share meanwhile. Alerts go on as ever.")]
    return fields.modal(
        "Hold", "hold", [*body, fields.select("length", "How long", options), why], submit="Save", about=about
    )


def read_hold(values: Values) -> tuple[timedelta, str]:
    """How long and why, from a submitted hold form."""
    chosen = HOLDS.get(fields.required(values, "length"))
    if chosen is None:
        raise Faulty({"length": "Choose one of the list."})
    return chosen[1], fields.required(values, "reason")


def dismiss(alert_id: str) -> Block:
    """The form that asks why an alert is no reason to act."""
    why = fields.typed(
        "reason",
        "Why it is no reason to act",
        "The same cause then stays quiet for a day at these shares.",
        multiline=True,
    )
    return fields.modal(
        f"Dismiss alert {alert_id}", "dismiss", [why], submit="Dismiss", about=json.dumps({"id": alert_id})
    )
