"""Which refusals people are shown in the tests: each place of the code that makes one, and whether a click or a
command in the local workspace came to it.

    python -m tests.benchmarks.refusals [what pytest is to run, by default tests/bot]
"""

from __future__ import annotations

import ast
import os
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from core import errors

ROOT: Final = Path(__file__).parents[2]
SEEN: Final = "REFUSALS_SEEN"
"""Names the file to which each process of the tests adds the places it came to."""
NAMES: Final = ("Refused", "RegistryUnavailable", "IsFrozen")
COMMAND_LINE: Final = (
    "bot/__main__.py",
    "bot/demo/show.py",
    "bot/differences.py",
    "bot/http.py",
    "bot/running.py",
    "core/audit.py",
    "core/replays.py",
    "core/settings.py",
)
"""Where refusals are for whoever runs the program; nobody in the chat is shown them."""

Place = tuple[str, int]


def places() -> dict[Place, tuple[int, str]]:
    """Every place in the code that makes a refusal: file and first line -> last line, and the sentence's code."""
    found = {}
    for file in sorted([*ROOT.glob("core/**/*.py"), *ROOT.glob("bot/**/*.py")]):
        name = file.relative_to(ROOT).as_posix()
        for node in ast.walk(ast.parse(file.read_text())):
            if isinstance(node, ast.Call) and getattr(node.func, "id", "") in NAMES and name not in COMMAND_LINE:
                said = ast.unparse(node.args[0]) if node.args else ""
                found[(name, node.lineno)] = (node.end_lineno or node.lineno, said)
    return found


# --- In the tests: this module is a plugin of pytest's ----------------------------------------------------------------


def pytest_configure() -> None:
    """From here on each refusal that is not made by a test itself is noted: what people do runs on other threads."""

    def noted(self: errors.Refused, *args: object) -> None:
        if threading.current_thread() is not threading.main_thread():
            _note()
        Exception.__init__(self, *args)

    errors.Refused.__init__ = noted  # type: ignore[method-assign]


def _note() -> None:
    frame = sys._getframe(2)
    while frame.f_code.co_name == "__init__":  # of a refusal of its own kind
        assert frame.f_back is not None
        frame = frame.f_back
    file = Path(frame.f_code.co_filename)
    if file.is_relative_to(ROOT):
        with Path(os.environ[SEEN]).open("a") as log:
            log.write(f"{file.relative_to(ROOT).as_posix()}:{frame.f_lineno}\n")


# --- The report -------------------------------------------------------------------------------------------------------


def _seen(log: Path) -> Iterator[Place]:
    for line in set(log.read_text().splitlines()):
        file, _, number = line.rpartition(":")
        yield file, int(number)


def main() -> int:
    """Runs the tests and tells which places they did not come to; 1 where there are any."""
    with tempfile.TemporaryDirectory() as folder:
        log = Path(folder) / "seen"
        log.touch()
        what = sys.argv[1:] or ["tests/bot"]
        pytest = [sys.executable, "-m", "pytest", "-q", "-p", "tests.benchmarks.refusals", *what]
        subprocess.run(pytest, cwd=ROOT, env={**os.environ, SEEN: str(log)}, check=False)
        seen = set(_seen(log))
    there = places()
    missed = {
        place: said
        for place, (last, said) in there.items()
        if not any((place[0], line) in seen for line in range(place[1], last + 1))
    }
    print(f"{len(there)} places make a refusal; {len(there) - len(missed)} were shown, {len(missed)} were not:")
    for (file, line), said in missed.items():
        print(f"  {file}:{line}  {said}")
    return 1 if missed else 0


if __name__ == "__main__":
    raise SystemExit(main())
