"""Processes that are watched over: each with a port where it says how it is, and a database at the end of a wire."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import httpx
import pytest
from prometheus_client.parser import text_string_to_metric_families
from sqlalchemy import Engine

from bot.sandbox import Sandbox
from tests.bot.test_http import free_port
from tests.crash import gates
from tests.crash.test_processes import HERE, PLAIN, Process
from tests.crash.wires import Wire, wire

APPROVERS = '[slack]\napprovers = ["@bob"]\n'


class Watched:
    """A bot in a process of its own, and the port where it says how it is."""

    def __init__(self, environment: dict[str, str], folder: Path, *words: str) -> None:
        self.folder, self.words = folder, words
        self.address = f"127.0.0.1:{free_port()}"
        self.environment = {**environment, "PROMOTION_BOT_HEALTH": self.address, "PYTHONPATH": str(HERE)}
        self.process = Process(self.environment, folder, "run", *words, config=APPROVERS)
        self._http = httpx.Client(base_url=f"http://{self.address}", trust_env=False, timeout=10)

    def end(self) -> None:
        """It ends, however it was."""
        self._http.close()
        self.process.running.kill()
        self.process.running.wait()

    def get(self, path: str) -> httpx.Response:
        """What it says there."""
        return self._http.get(path)

    def parts(self) -> dict[str, str]:
        """The parts of its readiness, by their names."""
        return {name: part["state"] for name, part in self.get("/readyz").json()["parts"].items()}

    def is_ready(self) -> bool:
        """Whether it can do its work, and says so."""
        said = self.get("/readyz")
        assert (said.status_code == 200) == (said.json()["status"] != "not ready"), said.text
        return said.status_code == 200

    def counts(self) -> dict[tuple[str, ...], float]:
        """All samples by name and the values of their labels, which are in order of their names."""
        said = self.get("/metrics")
        assert said.headers["content-type"].startswith("text/plain")
        families = text_string_to_metric_families(said.text)
        return {
            (each.name, *(value for _, value in sorted(each.labels.items()))): each.value
            for family in families
            for each in family.samples
        }


Begin = Callable[..., Watched]


@pytest.fixture
def line(desk: Engine) -> Iterator[Wire]:
    """What leads to the database."""
    with wire(lambda: gates.server(desk.url.render_as_string(hide_password=False))) as made:
        yield made


@pytest.fixture
def begin(desk: Engine, line: Wire, sandbox: Sandbox, mlflow_uri: str, tmp_path: Path) -> Iterator[Begin]:
    """Starts processes at the other end of the line, which end with the test."""
    far = desk.url.set(
        drivername="postgresql",
        host="127.0.0.1",
        port=line.port,
        query={"sslmode": "disable", "gssencmode": "disable"},
    )
    environment = PLAIN | {
        "SLACK_BOT_TOKEN": sandbox.bot_token,
        "SLACK_API_URL": sandbox.api_url,
        "DATABASE_URL": far.render_as_string(hide_password=False),
        "MLFLOW_TRACKING_URI": mlflow_uri,
        "PROMOTION_BOT_DATA": str(tmp_path),
    }
    with ExitStack() as stack:

        def made(name: str, secret: dict[str, str], *words: str) -> Watched:
            one = Watched(environment | secret, tmp_path / name, *words)
            stack.callback(one.end)
            return one

        yield made
