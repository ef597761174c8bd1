"""What the tests of core do again and again: ask, approve, let time pass, serve traffic, look."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from datetime import datetime, timedelta
from decimal import Decimal
from functools import partial
from typing import Any, TypeVar

from mlflow import MlflowClient
from sqlalchemy import Engine, select, text
from sqlalchemy.orm import Session

from bot.demo import clock
from core import approvals, db, erasure, outbox, plans, redrawing, requests, rollup, stages, watching
from core.registry import Registry
from core.rollouts import Talk
from core.rules.approval import Actor, Roles
from core.rules.calendar import Schedule
from core.rules.decision import Terms
from core.rules.lifecycle import Stage
from core.rules.metrics import Collected
from core.tables import Alert, Event, Experiment, LedgerEntry, PolicyVersion, Qualification, Request, Variant
from core.variants import find_experiment, find_policy_version, find_variant, variants
from tests.core.conftest import EXPERIMENT, MODEL

T = TypeVar("T")
TERMS = Terms()
TALK = Talk("ml-rollouts", Schedule(), looked_at_every=timedelta(minutes=15))
ALICE, BOB, CAROL, DAN = (Actor(f"U{n}") for n in range(1, 5))
ROLES = Roles(approvers=frozenset({BOB.id, CAROL.id, DAN.id}))
BECAUSE = "the numbers are made up"


def version(session: Session, number: int) -> PolicyVersion:
    return find_policy_version(session, "planner_policy", number)


def place(session: Session) -> Experiment:
    return find_experiment(session, EXPERIMENT)


def variant(session: Session, name: str) -> Variant:
    return find_variant(session, place(session), name)


def qualified(session: Session, number: int, source: str = "replay") -> None:
    """The record that a model version passed its offline evaluation."""
    evidence = {"dataset_version": "d1"}
    session.merge(
        Qualification(
            mlflow_model_name=MODEL,
            mlflow_model_version=str(number),
            source=source,
            evidence=evidence,
            actor="pipeline",
        )
    )
    session.flush()


def ask(engine: Engine, action: str, **wish: Any) -> int:
    with db.transaction(engine) as session:
        if action == "start":
            wish = {"policy_version_id": version(session, 3).id} | wish
        return requests.ask(session, plans.Ask(action, EXPERIMENT, **wish), requester=ALICE.id, terms=TERMS).id


def shown(engine: Engine, number: int) -> str:
    """The mark of what the card of a request shows."""
    with db.transaction(engine) as session:
        found = session.get(Request, number)
        return found.mark if found else ""


def approve(
    engine: Engine, number: int, actor: Actor = BOB, *, mark: str | None = None, roles: Roles = ROLES
) -> approvals.Decided:
    """A click on the card as it is, or as it was at that mark."""
    seen = shown(engine, number) if mark is None else mark
    with db.transaction(engine) as session:
        return approvals.approve(session, number, shown=seen, actor=actor, roles=roles, terms=TERMS)


def change(engine: Engine, action: str, actor: Actor = BOB, **wish: Any) -> int:
    """Asks and has it approved by as many as it takes."""
    number = ask(engine, action, **wish)
    found = [approve(engine, number, actor)]
    for another in (BOB, CAROL, DAN):
        if found[-1].outcome == "counted" and another != actor:
            found.append(approve(engine, number, another))
    assert found[-1].outcome == "applied", found
    return number


def redraw(engine: Engine, number: int) -> None:
    """What a click on an outdated card asks for: it is measured anew."""
    with db.transaction(engine, patience_ms=30_000) as session:
        redrawing.redraw(session, number, terms=TERMS)


def shares(engine: Engine) -> dict[str, Decimal]:
    with db.transaction(engine) as session:
        return {v.name: v.allocation for v in variants(session, place(session))}


def shares_of(**wanted: str) -> dict[str, Decimal]:
    return {name: Decimal(share) for name, share in wanted.items()}


def stages_of(engine: Engine, *numbers: int) -> list[Stage]:
    with db.transaction(engine) as session:
        return [stages.of(session, version(session, number).id) for number in numbers]


def erase(engine: Engine) -> int:
    """Carries out what deletes variants; returns in how many parts."""
    return sum(1 for _ in iter(lambda: outbox.deliver_next(engine, {erasure.KIND: erasure.erase}), False))


def deliver_registry(engine: Engine, registry: Registry) -> None:
    handlers = {"registry": lambda session, due: stages.align_registry(session, due, registry)}
    while outbox.deliver_next(engine, handlers):
        pass


def tags(client: MlflowClient) -> dict[str, str | None]:
    return {str(v.version): v.tags.get("stage") for v in client.search_model_versions(f"name='{MODEL}'")}


def alias(client: MlflowClient) -> str | None:
    found = client.get_registered_model(MODEL).aliases.get("production")
    return None if found is None else str(found)


def ledger(engine: Engine, action: str | None = None) -> list[LedgerEntry]:
    """The record, oldest first."""
    with db.transaction(engine) as session:
        found = session.scalars(select(LedgerEntry).order_by(LedgerEntry.id)).all()
        return [entry for entry in found if action in (None, entry.action)]


def deeds(engine: Engine) -> list[str]:
    """What people did, oldest first: the record without what the bot adds of itself."""
    return [entry.action for entry in ledger(engine) if entry.action not in ("policy", "mirror")]


def events(engine: Engine) -> list[tuple[str, dict[str, Any], list[Any]]]:
    """Control events in the order they were written: type, payload, experiments."""
    query = text(
        "SELECT event_type, payload, experiments FROM exp.events WHERE unit_type = 'control' ORDER BY created_at"
    )
    with engine.connect() as connection:
        return [tuple(row) for row in connection.execute(query)]


def days_pass(engine: Engine, days: float) -> None:
    """The clock goes on; whatever was served before is as old as that."""
    clock.advance(engine, days=days)
    serve_all(engine, 100)  # traffic goes on


def roll_up(engine: Engine, *, limit: int = 200_000, sweep: bool = False, collected: Sequence[Collected] = ()) -> int:
    """Takes all events, a transaction for each batch; returns how many there were."""
    transaction = partial(db.transaction, engine, patience_ms=30_000)
    return rollup.catch_up(transaction, limit=limit, sweep=sweep, collected=collected)


def event(
    session: Session,
    kind: str,
    plan: str | None,
    where: Sequence[tuple[Any, Any]] = (),
    *,
    at: datetime | None = None,
    metrics: Any = None,
    **payload: Any,
) -> None:
    """One event of the platform; `where` are pairs of experiment id and variant id."""
    session.add(
        Event(
            event_type=kind,
            unit_type="user",
            unit_id="u",
            experiments=[{"experiment_id": str(e), "variant_id": str(v)} for e, v in where],
            metrics=metrics,
            payload={**payload, **({"plan_id": plan} if plan else {})},
            timestamp=at or session.scalar(text("SELECT now()")),
        )
    )
    session.flush()


_SERVED = """
INSERT INTO exp.events (event_type, unit_type, unit_id, experiments, metrics, payload, timestamp)
SELECT :kind, 'user', CAST(:prefix AS text) || n,
       jsonb_build_array(jsonb_build_object('experiment_id', CAST(:e AS text), 'variant_id', CAST(:v AS text))),
       jsonb_build_object('latency_ms', CAST(:latency AS float8) * (0.8 + (hashtext(:name || n) & 1023) / 2500.0)
                                            * CASE WHEN n % 40 = 7 THEN 2 + (hashtext(:name || n) & 7) / 4.0 ELSE 1 END,
                          'cost', 0.01 + (hashtext(n || :name) & 1023) / 1e6),
       jsonb_build_object('plan_id', CAST(:prefix AS text) || n), now()
  FROM generate_series(1, CAST(:n AS int)) n WHERE n % CAST(:every AS int) = 0
"""


def serve(engine: Engine, name: str, plans_served: int, *, accepted: float = 0.8, latency_ms: float = 400.0) -> None:
    """Plans generated and measured for a variant now: a part accepted, one in 5 edited, one in 20 corrected."""
    with db.transaction(engine, patience_ms=30_000) as session:
        where = {"e": str(place(session).id), "v": str(variant(session, name).id), "name": name}
        where["prefix"] = f"{name}-{session.scalar(text('SELECT count(*) FROM exp.events'))}-"
        for kind, n, every in (
            ("plan_generated", plans_served, 1),
            ("plan_accepted", int(plans_served * accepted), 1),
            ("edit_applied", plans_served, 5),
            ("validator_intervention", plans_served, 20),
        ):
            session.execute(text(_SERVED), where | {"kind": kind, "n": n, "every": every, "latency": latency_ms})
    roll_up(engine)


def serve_all(engine: Engine, plans_served: int, **candidate: float) -> None:
    """Plans for every variant by its present share; what is given is how the variants beside `control` differ."""
    for name, share in shares(engine).items():
        serve(engine, name, int(plans_served * share), **({} if name == "control" else candidate))


def goes_wrong(engine: Engine) -> None:
    """The candidate's plans are hardly accepted any more."""
    serve(engine, "control", 3600)
    serve(engine, "candidate_v3", 400, accepted=0.3)


def watch(engine: Engine, talk: Talk = TALK) -> list[Alert]:
    """One look for trouble; the alerts that are open then."""
    with db.transaction(engine, patience_ms=30_000) as session:
        return watching.watch(session, {place(session).id: talk}, terms=TERMS)


def long_ago(session: Session, days: float) -> datetime:
    now: datetime = session.execute(text("SELECT now()")).scalar_one()
    return now - timedelta(days=days)


def at_once(*works: Callable[[], T]) -> list[T | BaseException]:
    """Runs each work in a thread of its own, started together; their results or what they raised, in order."""
    barrier, found = threading.Barrier(len(works)), [None] * len(works)  # type: ignore[var-annotated]

    def run(n: int, work: Callable[[], T]) -> None:
        barrier.wait()
        try:
            found[n] = work()  # type: ignore[call-overload]
        except BaseException as error:
            found[n] = error  # type: ignore[call-overload]

    threads = [threading.Thread(target=run, args=(n, work)) for n, work in enumerate(works)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return found  # type: ignore[return-value]
