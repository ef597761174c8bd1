"""How many kill points of every change converge: `python -m tests.benchmarks.kills [STORY …]`.

Each story is told once undisturbed; then again for every passage of it, with the bot killed before it and after it.
"""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from tests.conftest import a_server
from tests.core.conftest import make_mlflow_store
from tests.crash.kills import STORIES, World, differences, sides
from tests.crash.scenes import registry_server


@contextmanager
def world() -> Iterator[World]:
    """A server of databases and one of MLflow, for as long as the block lasts."""
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        server = stack.enter_context(a_server())
        store = make_mlflow_store(folder)
        registry = stack.enter_context(registry_server(folder, f"sqlite:///{store}"))
        yield World(server, registry, folder)


def main(names: list[str]) -> int:
    """Tells every story at every kill point; 1 where one did not converge."""
    tried, missed, wrong = 0, 0, 0
    with world() as made:
        for name in names or STORIES:
            whole, wanted = made.undisturbed(name), made.wanted(name)
            print(f"{name}: {len(set(whole.seen))} passages", *differences(wanted, whole), sep="\n  ", flush=True)
            for at, side in sides(whole.seen):
                try:
                    told = made.tell(name, at, side)
                    found = differences(wanted, told)
                except AssertionError as error:
                    found = [str(error)]
                else:
                    missed += not told.was_killed
                tried += 1
                wrong += bool(found)
                if found:
                    print(f"  {side} {at.what} ({at.nth}):", *found, sep="\n    ", flush=True)
    print(f"{tried} kill points: {tried - missed - wrong} converged, {missed} not reached, {wrong} wrong")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
