"""What this process counts, for Prometheus: in a registry of its own, so that several bots in a process stay apart."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from importlib.metadata import version
from typing import Any, Final, Literal

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, Info, ProcessCollector

from core.leader import NotLeading
from core.outbox import Later

SLACKS_PATIENCE_S: Final = 3.0
ACKED_WITHIN_S: Final = (0.05, 0.1, 0.2, 0.3, 0.5, 0.75, 1.0, 1.5, 2.0, 2.5, SLACKS_PATIENCE_S, 5.0)
DONE_WITHIN_S: Final = (0.1, 0.3, 1.0, 3.0, 10.0, 30.0, 60.0, 300.0, 900.0)

Outcome = Literal["ok", "late", "refused", "unknown", "failed"]
OUTCOMES: Final[Mapping[int, Outcome]] = {200: "ok", 400: "refused", 401: "refused", 404: "unknown", 413: "refused"}
"""By the status of the answer: `refused` is unsigned, unreadable or too large, `unknown` what nobody listens for; any
other is a fault."""
KINDS: Final[Mapping[str, str]] = {"block_actions": "button", "view_submission": "form", "event_callback": "event"}


def kind_of(body: Mapping[str, Any]) -> str:
    """What Slack sent: a command, a button, a form, an event, or something else."""
    return "command" if "command" in body else KINDS.get(str(body.get("type")), "other")


class Meters:
    """Counters that begin with the process. What the database knows is read there, when somebody asks."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        ProcessCollector(registry=self.registry)
        build = Info("promotion_bot_build", "The release that runs.", registry=self.registry)
        build.info({"version": version("promotion-bot")})
        self._acks = self._counter("acks", "Answers to what Slack sent: late is after 3 s.", "kind", "outcome")
        self._ack_seconds = self._histogram(
            "ack_seconds", "From its arrival until the acknowledgement.", "kind", ACKED_WITHIN_S
        )
        self._references = self._counter("unexpected_errors", "Faults of which people were told a reference.")
        self._deliveries = self._counter("deliveries", "Attempts to carry out an effect.", "kind", "outcome")
        self._posts = self._counter("posts", "New messages in Slack, threads included; redrawing is none.", "kind")
        self._jobs = self._counter("job_runs", "Runs of scheduled jobs.", "job", "outcome")
        self._job_seconds = self._histogram("job_seconds", "How long a run of a job took.", "job", DONE_WITHIN_S)
        self._job_succeeded = Gauge(
            "promotion_bot_job_last_success_timestamp_seconds",
            "When a job last ended well in this process.",
            ["job"],
            registry=self.registry,
        )

    def _counter(self, name: str, what: str, *labels: str) -> Counter:
        return Counter(f"promotion_bot_{name}", what, labels, registry=self.registry)

    def _histogram(self, name: str, what: str, label: str, within_s: tuple[float, ...]) -> Histogram:
        return Histogram(f"promotion_bot_{name}", what, [label], registry=self.registry, buckets=within_s)

    def acknowledged(self, kind: str, status: int, began: float) -> None:
        """Something that arrived at `began`, by the monotonic clock, was answered just now."""
        seconds = time.monotonic() - began
        outcome = "late" if seconds > SLACKS_PATIENCE_S else OUTCOMES.get(status, "failed")
        self._acks.labels(kind, outcome).inc()
        self._ack_seconds.labels(kind).observe(seconds)

    def erred(self) -> None:
        """Somebody was told that something went wrong, with a reference."""
        self._references.inc()

    def posted(self, delivery: str) -> None:
        """A message was posted; the first word of its delivery says what it is about."""
        self._posts.labels(delivery.partition(":")[0]).inc()

    def delivered(self, kind: str, failure: Exception | None) -> None:
        """One attempt to carry out an effect is over; done is only what is committed."""
        outcome = "done" if failure is None else "postponed" if isinstance(failure, Later) else "failed"
        self._deliveries.labels(kind, outcome).inc()

    @contextmanager
    def job(self, name: str) -> Iterator[None]:
        """One run of a job."""
        began = time.monotonic()
        try:
            yield
        except NotLeading:
            self._jobs.labels(name, "not leading").inc()
            raise
        except Exception:
            self._jobs.labels(name, "failed").inc()
            raise
        finally:
            self._job_seconds.labels(name).observe(time.monotonic() - began)
        self._jobs.labels(name, "done").inc()
        self._job_succeeded.labels(name).set_to_current_time()
