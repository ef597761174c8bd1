"""What a process says of itself while it starts, runs, loses a thread and stops, and where it says it."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress

import httpx
import pytest
from sqlalchemy import Engine

from bot import http
from bot.pulse import Pulse
from core import settings
from core.addresses import HealthAddress, health_address
from core.errors import Refused
from core.leader import NotLeading
from core.outbox import Later
from tests.bot.test_http import free_port
from tests.workspace import waits_until


@pytest.fixture
def stop() -> Iterator[threading.Event]:
    """Ends the threads of a test."""
    made = threading.Event()
    yield made
    made.set()


Ask = Callable[[Pulse], httpx.Client]


@pytest.fixture
def asking() -> Iterator[Ask]:
    """The port where a process says how it is, and somebody who asks there."""
    with ExitStack() as stack:

        def asked(pulse: Pulse) -> httpx.Client:
            port = free_port()
            stack.enter_context(http.serving(http.watch(pulse), "127.0.0.1", port))
            return stack.enter_context(httpx.Client(base_url=f"http://127.0.0.1:{port}", trust_env=False))

        yield asked


def going_on(stop: threading.Event, name: str) -> threading.Thread:
    made = threading.Thread(target=stop.wait, name=name, daemon=True)
    made.start()
    return made


def test_from_the_start_to_the_stop(engine: Engine, asking: Ask) -> None:
    pulse = Pulse()
    asked = asking(pulse)
    assert asked.get("/healthz").text == "ok"
    said = asked.get("/readyz")
    assert (said.status_code, said.json()["parts"]["database"]["says"]) == (503, "It is not opened yet.")
    assert "promotion_bot_database_up 0.0" in asked.get("/metrics").text
    with pulse.of(engine, settings.load()):
        pulse.phase = "running"
        said = asked.get("/readyz")
        assert (said.status_code, said.json()["status"]) == (200, "degraded")
        assert said.json()["parts"]["leader"] == {
            "state": "degraded",
            "says": "No process leads: scheduled jobs wait.",
        }
        assert "promotion_bot_database_up 1.0" in asked.get("/metrics").text
        pulse.phase = "stopping"
        assert asked.get("/readyz").status_code == 503
    assert asked.get("/healthz").text == "ok"
    assert asked.get("/readyz").json()["parts"]["database"]["says"] == "It is closed."


def test_a_thread_that_ended_and_one_that_hangs(stop: threading.Event, asking: Ask) -> None:
    pulse = Pulse(stuck_s=0.3)
    asked = asking(pulse)
    pulse.needs(going_on(stop, "keeper"))
    assert asked.get("/healthz").status_code == 200
    beating = threading.Thread(target=lambda: (pulse.beat(), stop.wait()), name="deliver", daemon=True)
    beating.start()
    waits_until(lambda: asked.get("/healthz").status_code == 503, 10, "silence to be noticed")
    assert asked.get("/healthz").text == "deliver hangs"
    assert asked.get("/readyz").json()["parts"]["threads"] == {"state": "failing", "says": "deliver hangs."}
    assert "promotion_bot_threads_lost 1.0" in asked.get("/metrics").text
    stop.set()
    waits_until(lambda: "has ended" in asked.get("/healthz").text, 10, "the end to be noticed")
    assert "keeper has ended; deliver has ended" in asked.get("/healthz").text
    pulse.phase = "stopping"
    assert asked.get("/healthz").status_code == 200, "they are to end"


def test_what_is_counted(asking: Ask) -> None:
    pulse = Pulse()
    pulse.meters.acknowledged("command", 200, time.monotonic() - 3.1)
    pulse.meters.acknowledged("button", 500, time.monotonic())
    for error in (None, NotLeading(), OSError()):
        with suppress(NotLeading, OSError), pulse.meters.job("seal"):
            if error is not None:
                raise error
    for failure in (None, Later("Slack says", 3), OSError()):
        pulse.meters.delivered("card", failure)
    said = asking(pulse).get("/metrics").text
    for line in (
        'promotion_bot_acks_total{kind="command",outcome="late"} 1.0',
        'promotion_bot_acks_total{kind="button",outcome="failed"} 1.0',
        'promotion_bot_ack_seconds_bucket{kind="command",le="3.0"} 0.0',
        'promotion_bot_job_runs_total{job="seal",outcome="done"} 1.0',
        'promotion_bot_job_runs_total{job="seal",outcome="not leading"} 1.0',
        'promotion_bot_job_runs_total{job="seal",outcome="failed"} 1.0',
        'promotion_bot_job_seconds_count{job="seal"} 3.0',
        'promotion_bot_deliveries_total{kind="card",outcome="done"} 1.0',
        'promotion_bot_deliveries_total{kind="card",outcome="postponed"} 1.0',
        'promotion_bot_deliveries_total{kind="card",outcome="failed"} 1.0',
    ):
        assert line in said.splitlines()


def test_openmetrics_where_it_is_asked_for(asking: Ask) -> None:
    asked = asking(Pulse())
    said = asked.get("/metrics", headers={"accept": "application/openmetrics-text; version=1.0.0"})
    assert said.headers["content-type"].startswith("application/openmetrics-text")
    assert said.text.endswith("# EOF\n")


@pytest.mark.parametrize(
    ("written", "host", "port", "url"),
    [
        ("0.0.0.0:3001", "0.0.0.0", 3001, "http://127.0.0.1:3001"),
        ("localhost:80", "localhost", 80, "http://localhost:80"),
        ("[::]:9000", "::", 9000, "http://[::1]:9000"),
        ("", "127.0.0.1", 3001, "http://127.0.0.1:3001"),
    ],
)
def test_where_it_says_it(written: str, host: str, port: int, url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PROMOTION_BOT_HEALTH", written)
    found = health_address()
    assert (found.host, found.port, found.url, found.is_chosen) == (host, port, url, bool(written))


@pytest.mark.parametrize("written", ["3001", "127.0.0.1", "127.0.0.1:0", "127.0.0.1:65536", "::1:80", "a b:1", "h:1/x"])
def test_what_is_no_address(written: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PROMOTION_BOT_HEALTH", written)
    with pytest.raises(Refused, match=r"PROMOTION_BOT_HEALTH has to be a host and a port, like 127\.0\.0\.1:3001"):
        health_address()


def test_a_port_that_is_taken(caplog: pytest.LogCaptureFixture) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        chosen = HealthAddress(promotion_bot_health=f"127.0.0.1:{taken.getsockname()[1]}")
        with pytest.raises(Refused, match="Choose with PROMOTION_BOT_HEALTH"), http.watched(Pulse(), chosen):
            pass
    with ExitStack() as stack:
        with suppress(OSError):  # else it is taken already, by another bot on this machine
            stack.enter_context(socket.create_server(("127.0.0.1", 3001)))
        with http.watched(Pulse(), HealthAddress()):
            assert "without /healthz, /readyz and /metrics" in caplog.text
