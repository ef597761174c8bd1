"""Coverage-guided fuzzing of what reads what others write; it ends at an input that is neither taken nor refused.

pip install atheris
python -m tests.benchmarks.fuzz typed|configured|form --seconds 120
"""

from __future__ import annotations

import argparse
import json
import sys
import tomllib
from collections.abc import Callable, Mapping
from contextlib import suppress

import atheris
from pydantic import ValidationError

with atheris.instrument_imports(include=["bot", "core"]):
    from bot import blocks, differences, modals, tell, words
    from core import faults
    from core.errors import Refused
    from core.settings import Settings

LONGEST = 4_000


def typed(text: str) -> None:
    """A command: its verb and words, and each word as anything that a verb may read it as."""
    _, found = words.parse(text)
    readers = (words.share, words.length, differences.days, lambda word: modals.config_from_pairs([word]))
    for word in found.names:
        for read in readers:
            try:
                read(word)
            except Refused as refused:
                tell.message(blocks.literal(f"⚠️ {refused}"))


def configured(text: str) -> None:
    """A configuration: each fault gets a sentence, and none repeats what was written."""
    with suppress(tomllib.TOMLDecodeError, RecursionError):
        data = tomllib.loads(text)
        try:
            Settings.model_validate(data)
        except ValidationError as error:
            faults.listed(error.errors(), text, (), Settings)


def form(text: str) -> None:
    """A submission: whatever stands where the fields were."""
    try:
        values = json.loads(text)
    except (ValueError, RecursionError):
        return
    if not isinstance(values, dict):
        return
    for read in (modals.read_start, modals.read_policy, modals.read_hold, modals.read_safety, modals.reason_of):
        with suppress(Refused):  # `Faulty` is one
            read(values)


TARGETS: Mapping[str, Callable[[str], None]] = {"typed": typed, "configured": configured, "form": form}


def main() -> None:
    """Fuzzes one target; the figures that libFuzzer prints are inputs, coverage and inputs a second."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("target", choices=TARGETS)
    parser.add_argument("--seconds", type=int, default=120)
    chosen = parser.parse_args()
    read = TARGETS[chosen.target]

    def one(data: bytes) -> None:
        read(data.decode("utf-8", "replace"))

    atheris.Setup([sys.argv[0], f"-max_total_time={chosen.seconds}", f"-max_len={LONGEST}"], one)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
