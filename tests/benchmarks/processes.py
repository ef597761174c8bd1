"""Random histories of three processes: `python -m tests.benchmarks.processes [N] [--seed S] [--minutes M]`.

Each is played from its seed, S and on: people act while processes are killed, frozen, told to stop and started. What
never may be is looked for at the end.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections import Counter

from tests.benchmarks.kills import world
from tests.crash.histories import play


def main(words: list[str]) -> int:
    """Plays them; 1 where something was wrong at the end of one."""
    parser = argparse.ArgumentParser()
    parser.add_argument("histories", nargs="?", type=int, default=20)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--minutes", type=float, default=float("inf"), help="no history begins after that")
    given = parser.parse_args(words)
    end = time.monotonic() + given.minutes * 60
    done: Counter[str] = Counter()
    played, wrong = 0, 0
    with world() as made:
        for seed in range(given.seed, given.seed + given.histories):
            if time.monotonic() > end:
                break
            history = play(made.server, made.registry, made.folder / f"history-{seed}", seed)
            played, wrong, done = played + 1, wrong + bool(history.wrong), done + history.done
            print(f"seed {seed}: {history.done['requests applied']} applied", *history.wrong, sep="\n  ", flush=True)
    print(f"{played} histories: {played - wrong} as they have to be, {wrong} not")
    print(", ".join(f"{what} {times}" for what, times in done.most_common()))
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
