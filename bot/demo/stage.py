"""The stage hands: MLflow's own page as a child process beside the demo."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import threading
import time
import urllib.request
from pathlib import Path

from bot.demo import models

_SERVER = Path(__file__).with_name("mlflow_page.py")
_LONGEST_START_S = 120.0
_POLL_S = 0.1
_GRACE_S = 2.0


class MlflowPage:
    """MLflow's server on 127.0.0.1, on the demo's store, which `models.set_up` must have made before."""

    def __init__(self, data_dir: Path, port: int) -> None:
        self.url = f"http://127.0.0.1:{port}/"
        self._command = [
            sys.executable,
            "-P",  # this folder's modules must not stand before other people's
            str(_SERVER),
            models.tracking_uri(data_dir),
            models.artifacts(data_dir).as_uri(),
            str(port),
        ]
        self._log = data_dir / "mlflow-server.log"
        self._child: subprocess.Popen[bytes] | None = None
        self._answered = threading.Event()
        self._over = threading.Event()

    @property
    def ready(self) -> bool:
        """True when the page answers; never waits."""
        return self._answered.is_set() and self._is_alive()

    def start(self) -> None:
        """Starts the server and returns at once."""
        with self._log.open("ab") as output:
            self._child = subprocess.Popen(
                self._command, stdin=subprocess.PIPE, stdout=output, stderr=output, start_new_session=True
            )
        threading.Thread(target=self._watch, name="demo-mlflow-page", daemon=True).start()

    def wait(self, timeout_s: float) -> bool:
        """Waits until the page answers, or cannot any more; says whether it does."""
        until = time.monotonic() + timeout_s
        while not self.ready and self._is_alive() and time.monotonic() < until:
            self._answered.wait(_POLL_S)
        return self.ready

    def stop(self) -> None:
        """Ends the server and whatever it started, within some 2 s; safe to call twice."""
        self._over.set()
        child = self._child
        if child is None:
            return
        if child.stdin is not None:
            child.stdin.close()
        _signal_group(child.pid, signal.SIGTERM)
        with contextlib.suppress(subprocess.TimeoutExpired):
            child.wait(timeout=_GRACE_S)
        _signal_group(child.pid, signal.SIGKILL)
        child.wait()
        self._child = None

    def _is_alive(self) -> bool:
        return self._child is not None and self._child.poll() is None

    def _watch(self) -> None:
        until = time.monotonic() + _LONGEST_START_S
        while self._is_alive() and time.monotonic() < until and not self._over.wait(_POLL_S):
            if _answers(f"{self.url}health"):
                self._answered.set()
                return


def _answers(url: str) -> bool:
    try:
        with urllib.request.urlopen(url, timeout=1.0) as answer:
            return bool(answer.status == 200)
    except OSError:
        return False


def _signal_group(group: int, number: signal.Signals) -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(group, number)
