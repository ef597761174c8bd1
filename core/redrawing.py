"""Drawing a request anew where its card holds no more, so that a click is never for something else than was shown."""

from __future__ import annotations

from sqlalchemy.orm import Session

from core import bindings, db, ledger, outbox, plans, requests, rollouts
from core.errors import Refused
from core.plans import Look
from core.rules.decision import AllTerms, Terms
from core.tables import Experiment, Request
from core.variants import find_experiment


def _redraw(session: Session, place: Experiment, request: Request, look: Look | None, since: str, terms: Terms) -> str:
    """Plans the request anew for a fresh decision; where that is not possible any more it is closed. Says which."""
    action = plans.ACTIONS[request.action]
    wish = plans.as_ask(place, request)
    try:
        with session.begin_nested():
            plan = action.plan(session, place, wish, look, terms)
            if plan.objections and not request.override:
                raise Refused(" ".join(plan.objections))
            requests.draw(session, place, request, plan, terms)
            session.flush()
    except Refused as refused:
        return _give_up(session, place, request, f"{since} {refused}")
    _redrawn(session, place, request, "redraw", since, look)
    return f"{since} The card is redrawn; look again, then decide."


def _give_up(session: Session, place: Experiment, request: Request, why: str) -> str:
    requests.close(session, request, "superseded", by=ledger.BOT, why=why)
    _redrawn(session, place, request, "supersede", why)
    return f"{why} So the request is closed."


def _redrawn(
    session: Session, place: Experiment, request: Request, action: str, why: str, look: Look | None = None
) -> None:
    number = requests.record(session, place, request, actor=ledger.BOT, action=action, reason=why, look=look)
    outbox.put_card(session, request_id=request.id, why=f"ledger-{number}")
    rollouts.touch(session, place.id)


def _since(differences: list[str]) -> str:
    return f"Since this card was drawn: {'; '.join(differences)}."


def redraw(session: Session, request_id: int, *, terms: AllTerms) -> None:
    """Measures anew what a request rests on and draws it for a fresh decision, where its card holds no more."""
    request = session.get(Request, request_id)
    if request is None or request.state != "open":
        return
    wish = plans.as_ask(find_experiment(session, request.experiment_id, lock=False), request)
    look, gone = None, None
    try:
        look = plans.look_at(session, wish, terms) if plans.ACTIONS[request.action].is_measured else None
    except Refused as refused:
        gone = str(refused)
    place = find_experiment(session, request.experiment_id)
    session.refresh(request, with_for_update=True)
    own = terms.of(place.name)
    differences = bindings.differences(session, place, request, own)
    if request.state != "open" or not differences:
        return
    if gone is not None:
        _give_up(session, place, request, f"{_since(differences)} {gone}")
    else:
        _redraw(session, place, request, look, _since(differences), own)


def overtaken(session: Session, place: Experiment, request: Request, shown: str, terms: Terms) -> str | None:
    """What a click comes to that is for something else than there is now; None where it is for just this."""
    differences = bindings.differences(session, place, request, terms)
    if differences and plans.takes_long(request.action, request.params):
        key = f"redraw:{request.id}:{db.now_of(session).isoformat()}"
        outbox.put(session, kind="redraw", subject=outbox.card_key(request.id), key=key, request=request.id)
        return f"{_since(differences)} It is measured anew; look again, then decide."
    if differences:
        return _redraw(session, place, request, None, _since(differences), terms)
    if shown != request.mark:
        why = ledger.newest_reason(session, request_id=request.id, action="redraw") or ""
        return f"This card was redrawn meanwhile. {why} Look at the new one, then decide."
    return None
