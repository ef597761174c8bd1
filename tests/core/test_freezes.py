"""While an experiment is frozen nothing gives a candidate more traffic; rollbacks always pass."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import pytest
from sqlalchemy import Engine, func, select, text

from bot.demo import clock
from core import approvals, db, freezes, plans, requests
from core.errors import Refused
from core.freezes import ALL, IsFrozen
from core.rules.approval import Actor, Roles
from core.rules.freezes import Window
from core.tables import Effect
from tests.core import steps
from tests.core.conftest import EXPERIMENT
from tests.core.steps import ALICE, BOB, ROLES, TERMS, approve, ask, change, shares, shares_of

OPERATED = replace(ROLES, operators=frozenset({ALICE.id}), on_call=frozenset({"U7"}))


def freeze(engine: Engine, scope: str = EXPERIMENT, actor: Actor = ALICE, roles: Roles = ROLES) -> str:
    with db.transaction(engine) as session:
        return freezes.freeze(session, experiment=scope, reason="the fair", actor=actor, roles=roles)


def unfreeze(engine: Engine, scope: str = EXPERIMENT, actor: Actor = BOB) -> str:
    with db.transaction(engine) as session:
        return freezes.unfreeze(session, experiment=scope, reason=None, actor=actor, roles=ROLES)


@pytest.mark.parametrize("scope", [EXPERIMENT, ALL])
def test_asking_and_approving_wait_for_the_thaw(desk: Engine, scope: str) -> None:
    number = ask(desk, "start")
    freeze(desk, scope)
    with pytest.raises(IsFrozen, match="frozen until somebody unfreezes: the fair"):
        approve(desk, number)
    with pytest.raises(IsFrozen):
        ask(desk, "start", reason="another")
    assert shares(desk) == shares_of(control="1")
    unfreeze(desk, scope)
    assert approve(desk, number).outcome == "applied", "the request stayed open"
    assert [entry.reason for entry in steps.ledger(desk, "freeze")] == ["the fair"]
    assert len(steps.ledger(desk, "unfreeze")) == 1


def test_a_rollback_passes(desk: Engine) -> None:
    change(desk, "start")
    freeze(desk, ALL)
    with pytest.raises(IsFrozen):
        ask(desk, "increase", override="because")
    change(desk, "rollback", reason="slow")
    assert shares(desk) == shares_of(control="1", candidate_v3="0")


def test_a_window_stops_as_well(desk: Engine) -> None:
    number = ask(desk, "start")
    terms, mark = replace(TERMS, freezes=(Window("always"),)), steps.shown(desk, number)
    with pytest.raises(IsFrozen, match="always"), db.transaction(desk) as session:
        approvals.approve(session, number, shown=mark, actor=BOB, roles=ROLES, terms=terms)
    with pytest.raises(IsFrozen), db.transaction(desk) as session:
        requests.measure(session, plans.Ask("increase", EXPERIMENT), terms=terms)


def test_cards_follow_a_window_once_at_each_end(desk: Engine) -> None:
    ask(desk, "start")
    with db.transaction(desk) as session:
        now = db.now_of(session)
    begins, ends = (now + timedelta(hours=hours) for hours in (1, 3))
    fair = Window("fair", begins.time(), ends.time(), first=begins.date(), experiments=frozenset({EXPERIMENT}))
    windows = (fair, replace(fair, name="elsewhere", begins=now.time(), experiments=frozenset({"breakfast"})))

    def asked() -> int:
        for _ in range(2):
            with db.transaction(desk) as session:
                freezes.follow_windows(session, windows)
        with db.transaction(desk) as session:
            keys = session.scalars(select(Effect.key).where(Effect.kind == "frozen")).all()
            for key in keys:
                freezes.redraw(session, steps.place(session).id, why=key)
            cards = select(func.count()).where(Effect.kind == "card", Effect.key.contains(":window-"))
            assert session.scalar(cards) == len(keys)
        return len(keys)

    assert asked() == 0
    clock.advance(desk, hours=2)
    assert asked() == 1
    clock.advance(desk, hours=2)
    assert asked() == 2


def test_the_database_refuses_what_slips_through(desk: Engine) -> None:
    number = ask(desk, "start")
    freeze(desk)
    with pytest.raises(Refused, match="froze this just now"), db.transaction(desk) as session:
        session.execute(
            text("UPDATE promotion.requests SET needed = 1, state = 'applied' WHERE id = :n"), {"n": number}
        )


@pytest.fixture
def frozen(desk: Engine) -> Engine:
    freeze(desk)
    return desk


def test_there_is_one_freeze_of_a_kind(frozen: Engine) -> None:
    with pytest.raises(Refused, match="a freeze of planner_policy_exp already: the fair"):
        freeze(frozen)
    assert freeze(frozen, ALL) == "all experiments"
    unfreeze(frozen)
    with pytest.raises(Refused, match="`unfreeze all` ends that"):
        unfreeze(frozen)


def test_who_may(desk: Engine) -> None:
    with pytest.raises(Refused, match="Only operators"):
        freeze(desk, actor=Actor("U9"), roles=OPERATED)
    with pytest.raises(Refused, match="guest"):
        freeze(desk, actor=Actor("U1", barred="A guest does not decide."))
    freeze(desk, actor=Actor("U7"), roles=OPERATED)
    with pytest.raises(Refused, match="Only an approver, or whoever froze it"):
        unfreeze(desk, actor=ALICE)
    assert unfreeze(desk, actor=Actor("U7")) == EXPERIMENT


def test_a_freeze_has_a_reason(desk: Engine) -> None:
    with pytest.raises(Refused, match="Say why"), db.transaction(desk) as session:
        freezes.freeze(session, experiment=ALL, reason=" ", actor=ALICE, roles=ROLES)
