"""What a check finds -> lines for the terminal, or JSON; pure."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Final, Literal

Level = Literal["ok", "warning", "fault", "unknown"]
MARKS: Final[dict[Level, str]] = {"ok": "✓", "warning": "!", "fault": "✗", "unknown": "?"}


@dataclass(frozen=True)
class Finding:
    """One line: what is so, and what to do about it where it is not as it should be, in one line or several."""

    level: Level
    says: str
    remedy: str = ""


def ok(says: str) -> Finding:
    """What is as it should be."""
    return Finding("ok", says)


def warning(says: str, remedy: str) -> Finding:
    """What works, and might be better."""
    return Finding("warning", says, remedy)


def fault(says: str, remedy: str) -> Finding:
    """What does not work."""
    return Finding("fault", says, remedy)


def unknown(says: str, remedy: str = "") -> Finding:
    """What could not be looked at."""
    return Finding("unknown", says, remedy)


@dataclass(frozen=True)
class Line:
    """A finding with where it belongs; `check` is its name for scripts."""

    area: str
    check: str
    finding: Finding


def report(lines: Sequence[Line]) -> str:
    """All of it by area, and how many of each there are."""
    shown: list[str] = []
    area = ""
    for line in lines:
        if line.area != area:
            area = line.area
            shown += ["", area] if shown else [area]
        shown.append(f"  {MARKS[line.finding.level]} {line.finding.says}")
        shown += [f"      {each}" for each in line.finding.remedy.splitlines()]
    return "\n".join([*shown, "", _sum(lines)])


def _sum(lines: Sequence[Line]) -> str:
    counts = Counter(line.finding.level for line in lines)
    faults, warnings, unknown = counts["fault"], counts["warning"], counts["unknown"]
    best = "Nothing is wrong" if warnings else "All is well"
    said = [_counted(faults, "fault") if faults else best]
    said += [_counted(warnings, "warning")] if warnings else []
    said += [f"{unknown} not known"] if unknown else []
    return ", ".join(said) + "."


def _counted(many: int, what: str) -> str:
    return f"{many} {what}{'' if many == 1 else 's'}"


def as_json(lines: Sequence[Line]) -> str:
    """The same for a program to read."""
    found = [{"area": line.area, "check": line.check, **asdict(line.finding)} for line in lines]
    return json.dumps({"is_well": not has_faults(lines), "findings": found}, indent=2, ensure_ascii=False)


def has_faults(lines: Sequence[Line]) -> bool:
    """True where something is wrong; what is not known, or could be better, is no fault."""
    return any(line.finding.level == "fault" for line in lines)
