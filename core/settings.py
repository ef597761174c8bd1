"""What an installation configures: the environment for secrets and addresses, one TOML file for the way of working."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import time, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Annotated, Any, Literal
from zoneinfo import ZoneInfo

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    SecretStr,
    ValidationError,
    field_validator,
    model_validator,
)
from pydantic_core import ErrorDetails
from pydantic_settings import (
    BaseSettings,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
    SettingsError,
    TomlConfigSettingsSource,
)

from core.errors import Refused
from core.rules import allocation, calendar, metrics
from core.rules.calendar import Schedule
from core.rules.decision import Rule, Terms
from core.rules.metrics import Collected, Metric, Quantile

CONFIG_FILE = "promotion-bot.toml"


def _steps(value: tuple[Decimal, ...]) -> tuple[Decimal, ...]:
    is_rising = list(value) == sorted(set(value))
    if not (value and is_rising and 0 < value[0] <= allocation.INITIAL_LIMIT and value[-1] == 1):
        raise ValueError("steps must rise, start at 0.10 or less and end at 1.0, for example [0.10, 0.25, 0.50, 1.0]")
    if any(step % allocation.GRAIN for step in value):
        raise ValueError("a step has at most four decimals")
    return value


class Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


Event = Annotated[str, Field(pattern=r"^[a-z_]{1,100}$")]


class SlackSection(Section):
    """How the bot appears in the workspace and who may approve."""

    command: Annotated[str, Field(pattern=r"^/[a-z0-9_-]{1,31}$")] = "/rollout"
    rollouts_channel: str = "ml-rollouts"
    approvals_channel: str = "ml-approvals"
    approvers: tuple[str, ...] = ()
    """Slack user ids (U…, W…), user group ids (S…) or handles (@bob, @ml-approvers)."""


class RolloutSection(Section):
    """The allocation steps, how many plans a candidate must have served, and which rule decides."""

    steps: Annotated[tuple[Decimal, ...], AfterValidator(_steps)] = allocation.STEPS
    minimum_samples: Annotated[int, Field(ge=1)] = metrics.MINIMUM_SAMPLES
    rule: Rule = "calibrated"


class CustomMetric(Section):
    """A metric of a team's own, in one line: what is collected, and how much worse than the baseline is too much."""

    share: Event | None = None
    """Plans with at least one event of this type, as a share of all plans."""
    count: Event | None = None
    """Events of this type per plan."""
    mean: Annotated[str, Field(pattern=r"^[a-z_]+\.[a-zA-Z0-9_]+$")] | None = None
    """`EVENT.FIELD`: the number that events of this type log in `metrics`, per plan that has it."""
    quantile: Annotated[float, Field(gt=0, lt=1)] | None = None
    """Of the latency of plans, for example 0.9."""
    title: str | None = None
    higher_is_better: bool = False
    tolerance: Annotated[float, Field(gt=0, le=10)] | None = None
    limit: float | None = None
    guardrail: bool = True
    required: bool = False

    @model_validator(mode="after")
    def _is_one_metric(self) -> CustomMetric:
        if sum(kind is not None for kind in (self.share, self.count, self.mean, self.quantile)) != 1:
            raise ValueError('give exactly one of share, count, mean, quantile, for example count = "meal_swapped"')
        if self.tolerance is not None and self.limit is not None:
            raise ValueError("give a tolerance against the baseline or an absolute limit, not both")
        if self.limit is not None and self.higher_is_better:
            raise ValueError("a limit is an upper bound; for a metric where more is better give a tolerance")
        if self.guardrail and self.tolerance is None and self.limit is None:
            raise ValueError("a guardrail needs a tolerance or a limit; guardrail = false only shows the metric")
        return self

    def collected(self, name: str) -> Collected | None:
        """What the roll-up has to collect for it; None for a quantile of what is collected anyway."""
        if self.mean is not None:
            event, field = self.mean.split(".")
            return Collected(name, "mean", event, field)
        if self.share is not None:
            return Collected(name, "share", self.share)
        return None if self.count is None else Collected(name, "count", self.count)

    def metric(self, name: str) -> Metric:
        """The line of the table that it adds."""
        collected = self.collected(name)
        source = collected.ratio if collected else Quantile(self.quantile or 0.5)
        units: dict[str | None, metrics.Unit] = {"share": "share", None: "ms"}
        return Metric(
            name,
            self.title or name.replace("_", " ").capitalize(),
            units.get(collected.kind if collected else None, "count"),
            source,
            higher_is_better=self.higher_is_better,
            tolerance=self.tolerance,
            limit=self.limit,
            required=self.required,
            is_guardrail=self.guardrail,
        )


MetricName = Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]{0,39}$")]


class MetricsSection(Section):
    """How costs are read where teams log tokens instead of money, and metrics beyond the document's six."""

    price_per_1000_tokens: Annotated[Decimal, Field(gt=0)] | None = None
    custom: dict[MetricName, CustomMetric] = {}

    @field_validator("custom")
    @classmethod
    def _are_new(cls, value: dict[str, CustomMetric]) -> dict[str, CustomMetric]:
        if taken := value.keys() & {metric.name for metric in metrics.METRICS}:
            raise ValueError(f"{', '.join(sorted(taken))} is one of the six that are there; choose another name")
        return value


def _zone(value: str) -> str:
    try:
        ZoneInfo(value)
    except (ValueError, OSError, KeyError):
        raise ValueError(f"{value} is no time zone; write it like Europe/Berlin or UTC") from None
    return value


Zone = Annotated[str, AfterValidator(_zone)]
Weekday = Literal["mon", "tue", "wed", "thu", "fri", "sat", "sun"]
Weekdays = Annotated[tuple[Weekday, ...], Field(min_length=1)]


class RecommendationsSection(Section):
    """When people get the day's recommendation."""

    at: time = time(9)
    timezone: Zone = "UTC"
    weekdays: Weekdays = calendar.WEEKDAYS

    @field_validator("at")
    @classmethod
    def _is_local(cls, value: time) -> time:
        if value.tzinfo is not None:
            raise ValueError('write the time like "09:00"; its zone is `timezone`')
        return value


class AlertsSection(Section):
    """How often running steps are looked at, and who is told when nobody answers a critical alert, after how long."""

    every_minutes: Annotated[int, Field(ge=1, le=60)] = 15
    on_call: tuple[str, ...] = ()
    """Slack user ids, user group ids or handles, as for approvers."""
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


class ExperimentSection(Section):
    """What is different for one experiment; what is left out is as for all."""

    rule: Rule | None = None
    channel: str | None = None
    """Where its cards, alerts and digest go."""
    at: time | None = None
    timezone: Zone | None = None
    weekdays: Weekdays | None = None


_POLICY = {"slack", "rollout", "metrics", "recommendations", "alerts", "experiments"}
"""The sections of the file; what only the environment says are addresses and secrets."""


def _flat(nested: dict[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in nested.items():
        if isinstance(value, dict):
            yield from _flat(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value


class Settings(BaseSettings):
    """Environment first, then the TOML file, then these defaults. Secrets never print."""

    model_config = SettingsConfigDict(extra="forbid", frozen=True, env_ignore_empty=True)

    slack_bot_token: SecretStr | None = None
    slack_app_token: SecretStr | None = None
    slack_signing_secret: SecretStr | None = None
    slack_api_url: str = "https://slack.com/api/"
    database_url: SecretStr | None = None
    mlflow_tracking_uri: str | None = None
    mlflow_timeout_s: Annotated[int, Field(ge=1, le=120)] = 10
    promotion_bot_data: Path = Path(".promotion-bot")

    slack: SlackSection = SlackSection()
    rollout: RolloutSection = RolloutSection()
    metrics: MetricsSection = MetricsSection()
    recommendations: RecommendationsSection = RecommendationsSection()
    alerts: AlertsSection = AlertsSection()
    experiments: dict[str, ExperimentSection] = {}
    """By the experiment's name."""

    @property
    def tracking_uri(self) -> str:
        """Where MLflow is: as configured, else a SQLite store in the data folder."""
        return self.mlflow_tracking_uri or f"sqlite:///{self.promotion_bot_data.absolute() / 'mlflow.db'}"

    @property
    def terms(self) -> Terms:
        """What rollouts are judged by."""
        return Terms(
            self.rollout.steps,
            self.rollout.minimum_samples,
            self.metrics.price_per_1000_tokens,
            metrics=(*metrics.METRICS, *(custom.metric(name) for name, custom in self.metrics.custom.items())),
            rule=self.rollout.rule,
            rules={name: one.rule for name, one in self.experiments.items() if one.rule is not None},
        )

    def schedule_of(self, experiment: str) -> Schedule:
        """When the recommendation of an experiment is due."""
        own, usual = self.experiments.get(experiment, ExperimentSection()), self.recommendations
        return Schedule(
            own.at or usual.at,
            ZoneInfo(own.timezone or usual.timezone),
            frozenset(own.weekdays or usual.weekdays),
        )

    def channel_of(self, experiment: str) -> str:
        """The channel in which an experiment is talked about."""
        own = self.experiments.get(experiment)
        return (own and own.channel) or self.slack.rollouts_channel

    @property
    def policy(self) -> dict[str, Any]:
        """The way of working, without addresses and secrets: each setting by its dotted name, as JSON has it."""
        return dict(_flat(self.model_dump(mode="json", include=_POLICY)))

    @property
    def collected(self) -> tuple[Collected, ...]:
        """What is collected from events beyond what the document's six metrics need."""
        found = (custom.collected(name) for name, custom in self.metrics.custom.items())
        return tuple(collected for collected in found if collected)

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        return init_settings, env_settings, TomlConfigSettingsSource(settings_cls)


def _fault(error: ErrorDetails) -> str:
    return "this is no setting; remove it or correct its name" if error["type"] == "extra_forbidden" else error["msg"]


def load(config: Path | None = None, **overrides: Any) -> Settings:
    """Reads the environment and `config` (default: ./promotion-bot.toml where it exists).

    Raises:
        Refused: with every fault at once, each naming its key and the remedy.
    """
    if config is not None and not config.is_file():
        raise Refused(f"There is no configuration file {config}. Give an existing file to --config, or leave it out.")

    class FromFile(Settings):
        model_config = SettingsConfigDict(toml_file=config or CONFIG_FILE)

    try:
        return FromFile(**overrides)
    except ValidationError as error:
        faults = "\n".join(f"  {'.'.join(map(str, e['loc']))}: {_fault(e)}" for e in error.errors())
        raise Refused(f"The configuration has faults:\n{faults}") from None
    except SettingsError as error:
        raise Refused(f"The environment has a fault: {error}. Set it to JSON, or leave it to the file.") from None
    except ValueError as error:
        raise Refused(f"{config or CONFIG_FILE} is not valid TOML: {error}") from None
