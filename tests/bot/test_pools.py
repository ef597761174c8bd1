"""Threads: what is handed on keeps its id; what hangs is given up, and what was not begun is never done."""

from __future__ import annotations

import threading
import time

import pytest

from bot.pools import Pool
from core import trace


def test_what_is_handed_on_keeps_its_id() -> None:
    first, second = Pool(1, "first"), Pool(1, "second")
    with trace.begun() as begun:
        found = first.submit(lambda: second.submit(trace.current_id).result()).result()
    assert found == begun.id
    assert first.submit(trace.current_id).result() is None
    for pool in (first, second):
        assert pool.finish(time.monotonic() + 10) == 0


def test_what_is_held_is_finished() -> None:
    pool, goes_on = Pool(1, "slow"), threading.Event()
    held = [pool.submit(goes_on.wait, 10) for _ in range(2)]
    threading.Timer(0.1, goes_on.set).start()
    assert pool.finish(time.monotonic() + 30) == 0
    assert [one.result() for one in held] == [True, True]
    with pytest.raises(RuntimeError):
        pool.submit(goes_on.wait)


def test_what_hangs_is_given_up() -> None:
    pool, goes_on = Pool(1, "hangs"), threading.Event()
    begun, waits = pool.submit(goes_on.wait, 10), pool.submit(goes_on.wait, 10)
    assert pool.finish(time.monotonic() + 0.1) == 2
    pool.give_up()
    goes_on.set()
    assert begun.result()
    assert waits.cancelled()
