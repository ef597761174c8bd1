"""MLflow's page as a child process: it answers a browser, and it never outlives the demo."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from bot.demo.models import MODEL
from bot.demo.stage import MlflowPage


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return "Z" not in Path(f"/proc/{pid}/stat").read_text().split(")")[1][:3] if Path("/proc").exists() else True


@pytest.fixture
def page(data_dir: Path) -> Iterator[MlflowPage]:
    made = MlflowPage(data_dir, _free_port())
    yield made
    made.stop()


def test_the_page_answers_a_browser_and_ends_when_told(page: MlflowPage, data_dir: Path) -> None:
    began = time.monotonic()
    page.start()
    assert time.monotonic() - began < 3
    assert not page.ready
    assert page.wait(60)
    for host in ("127.0.0.1", "localhost"):
        origin = page.url.rstrip("/").replace("127.0.0.1", host)
        with urllib.request.urlopen(f"{origin}/", timeout=10) as answer:
            assert b"<html" in answer.read()
        body = json.dumps({"name": MODEL}).encode()
        headers = {"Content-Type": "application/json", "Origin": origin}
        ask = urllib.request.Request(
            f"{origin}/ajax-api/2.0/mlflow/registered-models/get-latest-versions", body, headers
        )
        with urllib.request.urlopen(ask, timeout=10) as answer:
            assert json.load(answer)["model_versions"]
    began = time.monotonic()
    page.stop()
    assert time.monotonic() - began < 10
    assert not page.ready
    with pytest.raises(urllib.error.URLError):
        urllib.request.urlopen(page.url, timeout=2)
    assert (data_dir / "mlflow-server.log").exists()
    page.stop()


def test_a_port_that_is_taken_is_seen_as_not_ready(data_dir: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        page = MlflowPage(data_dir, taken.getsockname()[1])
        page.start()
        assert not page.wait(60)
        page.stop()


def test_the_page_ends_with_a_demo_that_was_killed(tmp_path: Path) -> None:
    program = (
        "import sys, time; from pathlib import Path; from bot.demo.stage import MlflowPage; "
        f"page = MlflowPage(Path({str(tmp_path)!r}), {_free_port()}); page.start(); "
        "print(page._child.pid, flush=True); time.sleep(60)"
    )
    demo = subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE)
    with demo:
        assert demo.stdout is not None
        child = int(demo.stdout.readline())
        assert _is_alive(child)
        demo.send_signal(signal.SIGKILL)
    end = time.monotonic() + 10
    while _is_alive(child):
        assert time.monotonic() < end, "the page outlived the demo"
        time.sleep(0.05)
