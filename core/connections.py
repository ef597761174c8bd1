"""Connections that give up on a server which takes what they say and never answers.

PostgreSQL's own limits help only where it is alive, and TCP's only where nobody is there: a server that is frozen, or
cut off behind a proxy, keeps a connection open for ever.
"""

from __future__ import annotations

from typing import Any, cast

import psycopg
from psycopg.abc import RV, PQGen
from psycopg.errors import _WaitTimeout
from sqlalchemy import Connection, Engine, event
from sqlalchemy.engine import ExceptionContext

PING_S = 1.0
"""How long a connection out of the pool may take to show that it lives: a click is answered within 3 s."""


class Silent(psycopg.OperationalError):
    """The server took what was said and did not answer; whether it was done nobody knows."""


class Bounded(psycopg.Connection[tuple[Any, ...]]):
    """A connection that is closed where the server is silent for longer than `bound_s`; None for no bound."""

    bound_s: float | None = None

    def wait(self, gen: PQGen[RV], interval: float = 0.1, timeout: float | None = None) -> RV:
        """Waits for the server's answer.

        Raises:
            Silent: where none came in time.
        """
        try:
            return super().wait(gen, interval, self.bound_s if timeout is None else timeout)
        except _WaitTimeout:
            self.close()
            raise Silent(f"the server did not answer within {self.bound_s:g} s") from None


def bound(connection: Connection, seconds: float | None) -> None:
    """Bounds every answer on this connection until it goes back to the pool."""
    cast(Bounded, connection.connection.dbapi_connection).bound_s = seconds


def install(engine: Engine) -> None:
    """Has an engine make such connections; those in the pool have PING_S to show that they live."""
    event.listen(engine, "do_connect", _connected)
    event.listen(engine, "checkin", _rests)
    event.listen(engine, "checkout", _works)
    event.listen(engine, "handle_error", _fails)


def _connected(dialect: object, record: object, arguments: tuple[Any, ...], named: dict[str, Any]) -> Bounded:
    return Bounded.connect(*arguments, **named)


def _rests(made: Bounded | None, record: object) -> None:
    if made is not None:  # else it died while it was out
        made.bound_s = PING_S


def _works(made: Bounded, record: object, proxy: object) -> None:
    made.bound_s = None


def _fails(context: ExceptionContext) -> None:
    """A connection that died is replaced by a new one; from a server that is silent none is to be had in time."""
    if context.is_pre_ping and isinstance(context.original_exception, Silent):
        context.is_disconnect = False
