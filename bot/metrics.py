"""What Prometheus reads: what this process counts and is (`promotion_bot_…`), and how the installation is, which every
process reads in the same database (`promotion_desk_…`)."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from prometheus_client import Metric
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily
from prometheus_client.exposition import choose_encoder
from prometheus_client.registry import Collector

from bot.pulse import Pulse
from core.db import POOL_SIZE
from core.probe import NoAnswer
from core.vitals import DECIDED_WITHIN_S, Decisions, Effects, Vitals

Rows = Iterable[tuple[tuple[str, ...], float]]


class Watched(Collector):
    """Looks when it is asked. Where the database is away, what it knows is left out, and the rest is there."""

    def __init__(self, pulse: Pulse) -> None:
        self._pulse = pulse

    def describe(self) -> Iterable[Metric]:
        """Nothing: names are looked at by nobody, and a look costs."""
        return ()

    def collect(self) -> Iterator[Metric]:
        """All that is not counted as it happens."""
        yield from _process(self._pulse)
        found = self._found()
        yield _gauge("promotion_bot_database_up", "Whether the database answered this question.", found is not None)
        if found is not None:
            yield from _desk(found)

    def _found(self) -> Vitals | None:
        vitals = self._pulse.vitals  # which a stop takes away meanwhile
        try:
            return vitals.look() if vitals is not None else None
        except NoAnswer:
            return None


def exposed(pulse: Pulse) -> None:
    """From now on the registry of a process has everything."""
    pulse.meters.registry.register(Watched(pulse))


def page(pulse: Pulse, accepted: str) -> tuple[bytes, str]:
    """All metrics in the form that is asked for, and the name of that form."""
    encode, content_type = choose_encoder(accepted)
    return encode(pulse.meters.registry), content_type


def _gauge(name: str, what: str, value: float) -> GaugeMetricFamily:
    return GaugeMetricFamily(name, what, value=float(value))


def _gauges(name: str, what: str, labels: tuple[str, ...], rows: Rows) -> GaugeMetricFamily:
    made = GaugeMetricFamily(name, what, labels=labels)
    for values, number in rows:
        made.add_metric(values, number)
    return made


# --- This process ---------------------------------------------------------------------------------------------------


def _process(pulse: Pulse) -> Iterator[Metric]:
    yield _gauge("promotion_bot_up", "Whether it runs: not while it starts or stops.", pulse.phase == "running")
    yield _gauge("promotion_bot_threads_lost", "Threads that have ended or hang.", len(pulse.faults))
    yield _gauge("promotion_bot_leads", "Whether scheduled jobs run here.", pulse.leads())
    if pulse.is_connected is not None:
        yield _gauge("promotion_bot_socket_connected", "Whether Slack can reach it.", pulse.is_connected())
    yield _gauge("promotion_bot_database_connections", "Connections taken from the pool.", pulse.connections())
    yield _gauge("promotion_bot_database_connections_max", "How many the pool has at most.", 2 * POOL_SIZE)


# --- The installation -----------------------------------------------------------------------------------------------


def _desk(found: Vitals) -> Iterator[Metric]:
    yield _gauge("promotion_desk_has_leader", "Whether some process leads.", found.has_leader)
    yield from _effects(found.effects)
    yield _gauges(
        "promotion_desk_recommendations",
        "What the daily looks of today (UTC) recommend, for rollouts that go on.",
        ("action",),
        (((action,), number) for action, number in sorted(found.recommendations.items())),
    )
    yield _gauges(
        "promotion_desk_alerts_open",
        "Open alerts.",
        ("cause", "severity"),
        (((cause, _severity(critical)), number) for (cause, critical), number in sorted(found.alerts.items())),
    )
    yield _gauges(
        "promotion_desk_requests_open",
        "Requests that nobody has decided.",
        ("action",),
        (((action,), number) for action, number in sorted(found.open_requests.items())),
    )
    yield from _decisions(found.decisions)
    yield _gauge(
        "promotion_desk_rollout_posts_today",
        "Rollouts that have had their message of the local day.",
        found.posts_today,
    )
    yield _gauge(
        "promotion_desk_rollout_posts_budget", "How many could: one message a rollout and day.", found.posts_budget
    )


def _severity(is_critical: bool) -> str:
    return "critical" if is_critical else "warning"


def _effects(found: tuple[Effects, ...]) -> Iterator[Metric]:
    yield _gauges(
        "promotion_desk_effects",
        "Effects that are not done.",
        ("kind", "state"),
        (((each.kind, each.state), each.number) for each in found),
    )
    yield _gauges(
        "promotion_desk_effect_oldest_seconds",
        "For how long the first of them has been asked for.",
        ("kind", "state"),
        (((each.kind, each.state), each.oldest_s) for each in found),
    )


def _decisions(found: tuple[Decisions, ...]) -> Iterator[Metric]:
    ended = CounterMetricFamily(
        "promotion_desk_requests_closed", "Requests that are decided or ended otherwise.", labels=("action", "outcome")
    )
    waited = HistogramMetricFamily(
        "promotion_desk_decision_seconds",
        "How long people took to decide, of all time: until it was applied or rejected.",
        labels=("action", "outcome"),
    )
    names = [*(f"{limit:.1f}" for limit in DECIDED_WITHIN_S), "+Inf"]
    for each in found:
        outcome = each.outcome if each.by_people or each.outcome != "applied" else "returned"
        ended.add_metric((each.action, outcome), each.number)
        if each.by_people:
            within = list(zip(names, (*each.within, each.number), strict=True))
            waited.add_metric((each.action, outcome), within, each.seconds)
    yield ended
    yield waited
