"""The Dockerfile as steps, as far as this project's own goes."""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parent.parent


@dataclass(frozen=True)
class Step:
    """One instruction: the number of its stage, its word and what follows."""

    stage: int
    word: str
    rest: str

    @property
    def words(self) -> list[str]:
        """What follows, as words: JSON where it is in exec form."""
        return list(json.loads(self.rest)) if self.rest.startswith("[") else shlex.split(self.rest)

    @property
    def pairs(self) -> dict[str, str]:
        """What follows, as KEY=VALUE pairs."""
        return dict(word.split("=", 1) for word in self.words)


def steps() -> Iterator[Step]:
    """All instructions in their order; comments are left out, continued lines joined."""
    lines = [line for line in (ROOT / "Dockerfile").read_text().splitlines() if not line.startswith("#")]
    stage = -1
    for line in re.sub(r"\\\n\s*", "", "\n".join(lines)).splitlines():
        word, _, rest = line.partition(" ")
        stage += word == "FROM"
        if word:
            yield Step(stage, word, rest)
