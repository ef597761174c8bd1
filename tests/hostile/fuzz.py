"""Coverage-guided fuzzing of what reads what others write, until an input is neither taken nor refused.

pip install atheris
python -m tests.hostile.fuzz typed|configured|form --seconds 120
"""

from __future__ import annotations

import argparse
import sys
import tomllib
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Any

import atheris
from hypothesis import given
from pydantic import ValidationError

with atheris.instrument_imports(include=["bot", "core"]):
    from bot import blocks, differences, modals, policy_versions, tell, words
    from bot.fields import Faulty
    from core import faults
    from core.errors import Refused
    from core.settings import Settings

from tests.hostile import strategies
from tests.hostile.test_config import files
from tests.hostile.test_slack import values

READERS = (words.share, words.length, differences.days, lambda word: policy_versions.config_from_pairs([word]))


@given(said=strategies.typed)
def typed(said: str) -> None:
    """A command: its verb and words, and each word as anything that a verb may read it as."""
    _, found = words.parse(said)
    for word in found.names:
        for read in READERS:
            try:
                read(word)
            except Refused as refused:
                tell.message(blocks.literal(f"⚠️ {refused}"))


@given(file=files)
def configured(file: str) -> None:
    """A configuration: each fault gets a sentence."""
    with suppress(tomllib.TOMLDecodeError, RecursionError):
        data = tomllib.loads(file)
        try:
            Settings.model_validate(data)
        except ValidationError as error:
            faults.listed(error.errors(), file, (), Settings)


@given(state=values)
def form(state: Mapping[str, Any]) -> None:
    """A submission: whatever stands where the fields were."""
    for read in (modals.read_start, policy_versions.read, modals.read_hold, modals.read_safety, modals.reason_of):
        with suppress(Refused, Faulty):
            read(state)


TARGETS: Mapping[str, Callable[..., None]] = {"typed": typed, "configured": configured, "form": form}


def main() -> None:
    """Fuzzes one target; libFuzzer prints how many inputs were run and what of the code they reached."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("target", choices=TARGETS)
    parser.add_argument("--seconds", type=int, default=120)
    chosen = parser.parse_args()
    one: Any = TARGETS[chosen.target]
    atheris.Setup([sys.argv[0], f"-max_total_time={chosen.seconds}"], one.hypothesis.fuzz_one_input)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
