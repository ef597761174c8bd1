"""Whether this process lives, and whether it can do its work, part by part."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Final, Literal

from bot.pulse import Phase, Pulse
from core.probe import NoAnswer
from core.vitals import Readiness

LATE_S: Final = 600
"""Effects that have been asked for so long ago are late: somebody should look why."""

State = Literal["ok", "degraded", "failing"]


@dataclass(frozen=True)
class Part:
    """How one part is: `degraded` is worth a look, only `failing` keeps the process from its work."""

    state: State
    says: str


PHASES: Mapping[Phase, Part] = {
    "starting": Part("failing", "It starts."),
    "running": Part("ok", "It runs."),
    "stopping": Part("failing", "It was told to stop, and finishes what it holds."),
}


def liveness(pulse: Pulse) -> str:
    """What only a restart helps against; nothing where the process lives."""
    return "; ".join(pulse.faults)


def parts(pulse: Pulse) -> dict[str, Part]:
    """Every part by its name."""
    return {
        "process": PHASES[pulse.phase],
        "threads": _threads(pulse),
        **_database(pulse),
        **_socket(pulse),
        "configuration": _configuration(pulse),
        "registry": Part("ok", "MLflow is loaded." if pulse.has_registry() else "MLflow is loaded when it is needed."),
    }


def _threads(pulse: Pulse) -> Part:
    fault = liveness(pulse)
    return Part("failing", f"{fault}.") if fault else Part("ok", "All of them go on.")


def _database(pulse: Pulse) -> dict[str, Part]:
    readiness = pulse.readiness  # which a stop takes away meanwhile
    if readiness is None:
        return {"database": Part("failing", "It is not opened yet." if pulse.phase == "starting" else "It is closed.")}
    try:
        found = readiness.look()
    except NoAnswer as why:
        return {"database": Part("failing", str(why))}
    there = {"database": Part("ok", "It answers.")}
    if found.schema_fault is not None:
        return there | {"schema": Part("failing", found.schema_fault)}
    return there | {
        "schema": Part("ok", "It fits."),
        "leader": _leader(pulse, found),
        "effects": _effects(found),
    }


def _leader(pulse: Pulse, found: Readiness) -> Part:
    """A process that does not lead is as ready as the one that does; none is while the next one takes over."""
    if not found.has_leader:
        return Part("degraded", "No process leads: scheduled jobs wait.")
    return Part("ok", "This process leads." if pulse.leads() else "Another process leads.")


def _effects(found: Readiness) -> Part:
    """What waits is no reason to send people elsewhere: all processes share the work."""
    number = sum(each.number for each in found.effects)
    if not number:
        return Part("ok", "None waits.")
    failing = sum(each.number for each in found.effects if each.state == "failing")
    says = f"{number:,} wait, {failing:,} of them after a failure; the first for {found.oldest_s:,.0f} s."
    return Part("degraded" if found.oldest_s > LATE_S else "ok", says)


def _socket(pulse: Pulse) -> dict[str, Part]:
    if pulse.is_connected is None:
        return {}
    is_connected = pulse.is_connected()
    return {"socket": Part("ok", "Connected to Slack.") if is_connected else Part("failing", "Not connected to Slack.")}


def _configuration(pulse: Pulse) -> Part:
    if not pulse.differing:
        return Part("ok", "It is that of the process that started last.")
    return Part("degraded", f"A process that started later has other values of {', '.join(pulse.differing)}.")


def is_ready(found: Mapping[str, Part]) -> bool:
    """Whether the process can do its work."""
    return all(part.state != "failing" for part in found.values())


def told(found: Mapping[str, Part]) -> dict[str, Any]:
    """The same as JSON has it."""
    is_whole = all(part.state == "ok" for part in found.values())
    status = ("ready" if is_whole else "degraded") if is_ready(found) else "not ready"
    return {"status": status, "parts": {name: asdict(part) for name, part in found.items()}}
