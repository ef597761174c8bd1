"""The sections of the configuration file but those of metrics: what each setting means, and its default."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import date, time, timedelta
from decimal import Decimal
from typing import Annotated
from zoneinfo import ZoneInfo

from pydantic import Field, model_validator

from core.metric_sections import MetricSection
from core.rules import allocation, calendar, metrics
from core.rules.approval import Quorums
from core.rules.decision import MINIMUM_DAYS, Rule, Terms
from core.rules.freezes import MIDNIGHT, Window
from core.written import Channel, Clock, Day, Days, MetricName, People, Plans, Section, Steps, Weekdays, Zone


class SlackSection(Section):
    """How the bot appears in the workspace and who may approve."""

    command: Annotated[str, Field(pattern=r"^/[a-z0-9_-]{1,31}$")] = "/rollout"
    rollouts_channel: Channel = "ml-rollouts"
    approvals_channel: Channel = "ml-approvals"
    approvers: People = ()
    operators: People = ()
    """Who may ask for changes beside approvers and owners; everybody where nobody is named."""
    owners: People = ()
    """Who may approve in every experiment; those of one experiment are named there."""


class RolloutSection(Section):
    """The allocation steps, how many plans and days each takes at least, and which rule decides."""

    steps: Steps = allocation.STEPS
    """Shares of 1 that rise: the first at most 0.10, the last 1.0."""
    minimum_samples: Plans = metrics.MINIMUM_SAMPLES
    """Plans that a candidate must have served in a step."""
    minimum_days: Days | None = None
    """Days that each step below 1.0 lasts at least, one number for each. Where it is left out, the document's: 3 days,
    5 from 0.25 on, 7 from 0.50 on."""
    rule: Rule = "calibrated"
    """"calibrated" asks whether what is seen can be chance; "document": the fixed thresholds alone."""


class RecommendationsSection(Section):
    """When people get the day's recommendation."""

    at: Clock = time(9)
    timezone: Zone = "UTC"
    weekdays: Weekdays = calendar.WEEKDAYS


class AlertsSection(Section):
    """How often running steps are looked at, and who is told when nobody answers a critical alert, after how long."""

    every_minutes: Annotated[int, Field(ge=1, le=60)] = 15
    on_call: People = ()
    thread_after_minutes: Annotated[int, Field(ge=1)] = 10
    group_after_minutes: Annotated[int, Field(ge=1)] = 20
    direct_after_minutes: Annotated[int, Field(ge=1)] = 40

    @model_validator(mode="after")
    def _rises(self) -> AlertsSection:
        if not self.thread_after_minutes <= self.group_after_minutes <= self.direct_after_minutes:
            raise ValueError("thread_after_minutes, group_after_minutes, direct_after_minutes must not fall")
        return self

    @property
    def escalates_after(self) -> tuple[timedelta, ...]:
        """How long an alert may be unanswered before each step of its escalation."""
        minutes = (self.thread_after_minutes, self.group_after_minutes, self.direct_after_minutes)
        return tuple(timedelta(minutes=each) for each in minutes)


class ApprovalsSection(Section):
    """How many people it takes to approve a change, and how long they have; a rollback always takes one."""

    step: Annotated[int, Field(ge=1, le=10)] = 1
    """For joining, steps up to 50 % and retiring variants."""
    production: Annotated[int, Field(ge=1, le=10)] = 2
    against: Annotated[int, Field(ge=0, le=10)] = 1
    """How many more where the request goes against the recommendation or overrides the checklist."""
    expires_hours: Annotated[int, Field(ge=1, le=720)] = 24
    remind_hours: Annotated[int, Field(ge=0)] = 2
    """How long before that a reminder is given; 0 for none."""

    @model_validator(mode="after")
    def _reminds_before(self) -> ApprovalsSection:
        if self.remind_hours >= self.expires_hours:
            raise ValueError("remind_hours must be less than expires_hours")
        return self

    @property
    def quorums(self) -> Quorums:
        """The same as the rules know it."""
        return Quorums(self.step, self.production, self.against, timedelta(hours=self.expires_hours))


class FreezeSection(Section):
    """A window in which nothing gives a candidate more traffic; rollbacks are never stopped."""

    name: Annotated[str, Field(pattern=r"\S")]
    weekdays: Weekdays | None = None
    """On which it begins; a night that begins on Friday lasts into Saturday."""
    from_: Annotated[Clock | None, Field(alias="from")] = None
    until: Clock | None = None
    """Not later than `from`: on the next day."""
    first: Day | None = None
    last: Day | None = None
    timezone: Zone | None = None
    """Else that of the recommendations."""
    experiments: tuple[str, ...] = ()
    """Their names; all where none is named."""

    @model_validator(mode="after")
    def _says_when(self) -> FreezeSection:
        if all(said is None for said in (self.weekdays, self.from_, self.until, self.first, self.last)):
            raise ValueError("say when: give weekdays, from and until, or first and last")
        if self.from_ is not None and self.from_ == self.until:
            raise ValueError("from and until are the same; for whole days leave both out")
        if self.first is not None and self.last is not None and self.last < self.first:
            raise ValueError("last must not be before first")
        return self

    def window(self, usual_zone: str) -> Window:
        """The same as the rules know it."""
        return Window(
            self.name,
            self.from_ or MIDNIGHT,
            self.until or MIDNIGHT,
            frozenset(self.weekdays or calendar.WEEKDAYS),
            self.first or date.min,
            self.last or date.max,
            ZoneInfo(self.timezone or usual_zone),
            frozenset(self.experiments),
        )


class OwnApprovals(Section):
    """How many people it takes in one experiment; what is left out is as for all."""

    step: Annotated[int, Field(ge=1, le=10)] | None = None
    """For joining, retiring and steps up to 50 %."""
    production: Annotated[int, Field(ge=1, le=10)] | None = None
    """For a promotion."""
    against: Annotated[int, Field(ge=0, le=10)] | None = None
    """How many more against the recommendation or the checklist."""

    def applied(self, usual: Quorums) -> Quorums:
        """The numbers of the experiment, where all others have these."""
        return replace(usual, **self.model_dump(exclude_none=True))


class ExperimentSection(Section):
    """What is different for one experiment; what is left out is as for all."""

    steps: Steps | None = None
    """Its own steps; where `minimum_days` names another number of days than they need, name these, too."""
    minimum_samples: Plans | None = None
    """Plans that a candidate must have served in a step."""
    minimum_days: Days | None = None
    """Days that each of its steps below 1.0 lasts at least."""
    rule: Rule | None = None
    """The rule that decides it."""
    metrics: dict[MetricName, MetricSection] = Field(default_factory=dict)
    """How metrics are judged in it, by their names: the six, and a team's own."""
    approvals: OwnApprovals = OwnApprovals()
    """How many people it takes in it."""
    channel: Channel | None = None
    """Where its cards, alerts and digest go."""
    owners: People = ()
    """Who may approve its changes beside the approvers."""
    at: Clock | None = None
    """When people get its recommendation."""
    timezone: Zone | None = None
    """The zone of `at`."""
    weekdays: Weekdays | None = None
    """The days on which they get it."""

    def terms(self, usual: Terms, usual_days: Days | None) -> Terms:
        """The terms of the experiment, where all others have these."""
        steps = self.steps or usual.steps
        return replace(
            usual,
            steps=steps,
            minimum_samples=self.minimum_samples or usual.minimum_samples,
            rule=self.rule or usual.rule,
            minimum_days=days_by_share(steps, self.minimum_days or usual_days),
            metrics=tuple(self.metrics.get(one.name, _AS_USUAL).applied(one) for one in usual.metrics),
            quorums=self.approvals.applied(usual.quorums),
        )


_AS_USUAL = MetricSection()


def days_by_share(steps: Sequence[Decimal], days: Days | None) -> Mapping[Decimal, int]:
    """The days that each step lasts at least; the document's where nobody says."""
    return MINIMUM_DAYS if days is None else dict(zip(steps[:-1], days, strict=True))
