"""One id from what somebody did, or the clock began, to all that comes of it: in the log and on its effects."""

from __future__ import annotations

import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Any


def fresh() -> str:
    """An id that nothing else has."""
    return uuid.uuid4().hex[:12]


@dataclass
class Trace:
    """What is under way in this thread, and in those that it hands on to."""

    id: str
    about: dict[str, Any] = field(default_factory=dict)
    """What each of its lines in the log says besides; nothing secret, and nothing that people wrote."""
    effects: int = 0
    """How many were put."""


_present: ContextVar[Trace | None] = ContextVar("trace", default=None)


def _said(about: Mapping[str, Any]) -> dict[str, Any]:
    return {key: said for key, said in about.items() if said is not None}


@contextmanager
def begun(id: str | None = None, **about: Any) -> Iterator[Trace]:
    """Something of its own begins, or what has this id goes on; until the end of the block all that is done is part of
    it."""
    made = Trace(id or fresh(), _said(about))
    before = _present.set(made)
    try:
        yield made
    finally:
        _present.reset(before)


def current() -> Trace | None:
    """What is under way; None at the start, between two jobs."""
    return _present.get()


def current_id() -> str | None:
    """The id of what is under way."""
    there = _present.get()
    return there.id if there else None


def note(**about: Any) -> None:
    """From now on each line of what is under way says this, too."""
    there = _present.get()
    if there is not None:
        there.about |= _said(about)


def about() -> Mapping[str, Any]:
    """What each line says of what is under way, its id first."""
    there = _present.get()
    return {"id": there.id, **there.about} if there else {}
