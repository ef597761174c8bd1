"""What an approval is bound to: all that the card showed. Where that is no longer so, a click counts for nothing."""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from decimal import Decimal
from typing import Any

from sqlalchemy import select
from sqlalchemy.orm import Session

from core import db, plans
from core.plans import Plan
from core.rules import approval, chain
from core.rules.decision import Terms, percent
from core.tables import Alert, Experiment, PolicyStage, Recommendation, Request, Rollout
from core.variants import linked_version_id, variants

NAMED = 3
"""Differences of one kind that are spelled out."""


def bind(session: Session, place: Experiment, request: Request, plan: Plan, terms: Terms) -> None:
    """Notes what the card shows from now on, and how many it takes; approvals given before count no longer."""
    request.shown = {
        "drawing": (request.shown or {}).get("drawing", 0) + 1,
        "share": str(plan.share),
        "is_against": plan.is_against or request.override is not None,
        "variants": _variants(session, place),
        "alerts": _alerts(session, request),
    }
    request.needed = _needed(request, terms)
    request.drawn_at = db.now_of(session)
    facts = [request.params, request.changes, request.checklist, request.override, request.needed, request.shown]
    request.mark = chain.mark(facts)


def _needed(request: Request, terms: Terms) -> int:
    share, is_against = Decimal(request.shown["share"]), request.shown["is_against"]
    return terms.quorums.needed(request.action, share, is_against=is_against)


def _variants(session: Session, place: Experiment) -> dict[str, dict[str, str | None]]:
    """Name, share, policy version and its stage of each variant, by id."""
    there = {variant: linked_version_id(variant.config) for variant in variants(session, place)}
    query = select(PolicyStage).where(PolicyStage.policy_version_id.in_(filter(None, there.values())))
    stages = {found.policy_version_id: found.stage for found in session.scalars(query)}
    return {
        str(variant.id): {
            "name": variant.name,
            "share": f"{variant.allocation:.4f}",
            "version": str(version) if version else None,
            "stage": stages.get(version, "none") if version else None,
        }
        for variant, version in there.items()
    }


def _alerts(session: Session, request: Request) -> list[int]:
    """The open alerts that speak against a request on measurements: about its candidate, or about the data."""
    if not plans.ACTIONS[request.action].is_measured:
        return []
    is_about = Alert.variant_id.is_(None) | (Alert.variant_id == uuid.UUID(request.params["variant_id"]))
    query = select(Alert.id).where(Alert.experiment_id == request.experiment_id, Alert.state == "open", is_about)
    return list(session.scalars(query.where(Alert.cause != "lingering").order_by(Alert.id)))


# --- What has changed since -----------------------------------------------------------------------------------------


def differences(session: Session, place: Experiment, request: Request, terms: Terms) -> list[str]:
    """What matters and is other than the card showed, in words; empty where the card still holds."""
    if not request.mark:
        return ["I was brought up to date"]
    needed = _needed(request, terms)
    return [
        *_moved(request.shown["variants"], _variants(session, place)),
        *([f"it takes {needed} approvals now, not {request.needed}"] if needed != request.needed else []),
        *(_outdated(session, request) if plans.ACTIONS[request.action].is_measured else []),
    ]


def _moved(before: Mapping[str, Mapping[str, Any]], now: Mapping[str, Mapping[str, Any]]) -> list[str]:
    found = [
        *(f"{now[key]['name']} joined" for key in now.keys() - before.keys()),
        *(f"{before[key]['name']} is gone" for key in before.keys() - now.keys()),
        *(line for key in before.keys() & now.keys() for line in _moves(before[key], now[key])),
    ]
    more = [f"{len(found) - NAMED} more changes of variants"] if len(found) > NAMED else []
    return [*sorted(found)[:NAMED], *more]


def _moves(before: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    """What happened to one variant."""
    name = before["name"]
    return [
        *([f"the share of {name} {_from_to(before, now)}"] if before["share"] != now["share"] else []),
        *([f"{name} is called {now['name']}"] if name != now["name"] else []),
        *([f"{name} serves another policy version"] if before["version"] != now["version"] else []),
        *(
            [f"the stage of {name} turned from {before['stage']} to {now['stage']}"]
            if before["version"] == now["version"] and before["stage"] != now["stage"]
            else []
        ),
    ]


def _from_to(before: Mapping[str, Any], now: Mapping[str, Any]) -> str:
    return f"went from {percent(float(before['share']))} to {percent(float(now['share']))}"


def _outdated(session: Session, request: Request) -> list[str]:
    """What speaks against measurements that were good enough when they were made."""
    now = db.now_of(session)
    then, verdict = request.params["verdict"], _verdict_since(session, request)
    raised = [number for number in _alerts(session, request) if number not in request.shown["alerts"]]
    hours = approval.EVIDENCE_LASTS.total_seconds() / 3600
    return [
        *(
            [f"its numbers are older than {hours:.0f} hours"]
            if now - request.drawn_at > approval.EVIDENCE_LASTS
            else []
        ),
        *([f"the verdict turned from {then} to {verdict}"] if verdict and approval.has_turned(then, verdict) else []),
        *(f"alert {number} was raised" for number in raised),
    ]


def _verdict_since(session: Session, request: Request) -> str | None:
    """The newest verdict on the candidate since the card was drawn, by a look on record or on the rollout's card."""
    variant = uuid.UUID(request.params["variant_id"])
    looked = (
        select(Recommendation.made_at.label("at"), Recommendation.action)
        .where(Recommendation.variant_id == variant, Recommendation.made_at > request.drawn_at)
        .order_by(Recommendation.id.desc())
        .limit(1)
    )
    told = (
        select(Rollout.told_at.label("at"), Rollout.action)
        .where(Rollout.variant_id == variant, Rollout.ended_at.is_(None), Rollout.told_at > request.drawn_at)
        .limit(1)
    )
    found = sorted((at, action) for query in (looked, told) for at, action in session.execute(query))
    return found[-1][1] if found else None
