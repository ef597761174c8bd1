"""What an installation configures: the environment for secrets and addresses, one TOML file for the way of working."""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Iterator
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Annotated, Any
from zoneinfo import ZoneInfo

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    SecretStr,
    ValidationError,
    field_validator,
    model_validator,
)
from pydantic_settings import (
    BaseSettings,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
    SettingsError,
    TomlConfigSettingsSource,
)

from core import faults
from core.errors import Refused
from core.rules import allocation, calendar, metrics
from core.rules.approval import Quorums
from core.rules.calendar import Schedule, Weekday
from core.rules.decision import Rule, Terms
from core.rules.freezes import MIDNIGHT, Window
from core.rules.metrics import Collected, Metric, Quantile

CONFIG_FILE = "promotion-bot.toml"
SECRETS_FOLDER = "/run/secrets"
"""Where containers find their secrets as files; the environment's PROMOTION_BOT_SECRETS names another folder."""


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


def _person(value: str) -> str:
    if not re.fullmatch(r"@\S+|[UWS][A-Z0-9]+", value):
        raise ValueError('write a handle with its @, like "@bob", or an id (U… or W… of a person, S… of a group)')
    return value


def _channel(value: str) -> str:
    name = value.removeprefix("#")
    if not re.fullmatch(r"[^\s#,]+", name):
        raise ValueError('write the name of one channel, like "ml-rollouts", or its id (C…)')
    return name


People = tuple[Annotated[str, AfterValidator(_person)], ...]
"""Slack user ids (U…, W…), user group ids (S…) or handles (@bob, @ml-approvers)."""
Channel = Annotated[str, AfterValidator(_channel)]
"""The name of a channel without its #, or its id."""


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
    tolerance: Annotated[float, Field(gt=0, le=1)] | None = None
    """Relative to the baseline: 0.10 is 10 %."""
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


def _some(value: tuple[Weekday, ...]) -> tuple[Weekday, ...]:
    if not value:
        raise ValueError('name at least one day, like ["mon"], or leave it out for every day')
    return value


def _clock(value: object) -> object:
    """A time of day without a zone; what else can be read as one, such as seconds, was hardly meant as one."""
    if isinstance(value, time) or re.fullmatch(r"([01]\d|2[0-3]):[0-5]\d(:[0-5]\d)?", str(value)):
        return value
    raise ValueError('write hours and minutes, like "09:00"; the zone is `timezone`')


Weekdays = Annotated[tuple[Weekday, ...], AfterValidator(_some)]
Clock = Annotated[time, BeforeValidator(_clock)]


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


def _day(value: object) -> object:
    """A date; what else can be read as one, such as seconds, was hardly meant as one."""
    is_date = isinstance(value, date) and not isinstance(value, datetime)
    if is_date or (isinstance(value, str) and re.fullmatch(r"\d{4}-\d\d-\d\d", value)):
        return value
    raise ValueError("write year, month and day, like 2026-12-20")


Day = Annotated[date, BeforeValidator(_day)]


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


class ExperimentSection(Section):
    """What is different for one experiment; what is left out is as for all."""

    rule: Rule | None = None
    channel: Channel | None = None
    """Where its cards, alerts and digest go."""
    owners: People = ()
    """Who may approve its changes beside the approvers."""
    at: Clock | None = None
    timezone: Zone | None = None
    weekdays: Weekdays | None = None


_POLICY = {"slack", "rollout", "metrics", "recommendations", "alerts", "approvals", "experiments", "freezes"}
"""The sections of the file; what only the environment says are addresses and secrets."""


Key = tuple[str, ...]
"""A setting by the names of its sections and its own."""


def _flat(nested: dict[str, Any], above: Key = ()) -> Iterator[tuple[Key, Any]]:
    for key, value in nested.items():
        if isinstance(value, dict):
            yield from _flat(value, (*above, key))
        else:
            yield (*above, key), value


class Settings(BaseSettings):
    """Environment first, then files of secrets, then the TOML file, then these defaults. Secrets never print."""

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
    approvals: ApprovalsSection = ApprovalsSection()
    freezes: tuple[FreezeSection, ...] = ()
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
            quorums=self.approvals.quorums,
            freezes=tuple(one.window(self.recommendations.timezone) for one in self.freezes),
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
        found = _flat(self.model_dump(mode="json", by_alias=True, include=_POLICY))
        return {".".join(key): value for key, value in found}

    @property
    def values(self) -> dict[Key, Any]:
        """The same as Python has it, so that 0.1 is 0.10; freezes are by name, and what is not set is left out."""
        usual = self.recommendations.timezone
        freezes, seen = {}, Counter[str]()
        for one in self.freezes:
            seen[one.name] += 1
            name = one.name if seen[one.name] == 1 else f"{one.name} ({seen[one.name]})"
            freezes[name] = one.model_dump(by_alias=True, exclude={"name"}) | {"timezone": one.timezone or usual}
        found = _flat(self.model_dump(by_alias=True, include=_POLICY - {"freezes"}) | {"freezes": freezes})
        return {key: value for key, value in found if value not in (None, ())}

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
        return init_settings, env_settings, file_secret_settings, TomlConfigSettingsSource(settings_cls)


def load(config: Path | None = None, **overrides: Any) -> Settings:
    """Reads the environment, files of secrets and `config` (default: ./promotion-bot.toml where it exists).

    Raises:
        Refused: with every fault at once, each naming its key and the remedy.
    """
    if config is not None and not config.is_file():
        raise Refused(f"There is no configuration file {config}. Give an existing file to --config, or leave it out.")

    class FromFile(Settings):
        model_config = SettingsConfigDict(toml_file=config or CONFIG_FILE)

    try:
        return FromFile(_secrets_dir=_secrets(), **overrides)
    except ValidationError as error:
        file = Path(config or CONFIG_FILE)
        written = file.read_text(encoding="utf-8") if file.is_file() else ""
        found = faults.listed(error.errors(), written, {name.upper() for name in os.environ})
        raise Refused(f"The configuration has faults:\n{found}") from None
    except SettingsError as error:
        raise Refused(f"The environment has a fault: {error}. Set it to JSON, or leave it to the file.") from None
    except ValueError as error:
        raise Refused(f"{config or CONFIG_FILE} is not valid TOML: {error}") from None
    except OSError as error:
        raise Refused(f"{error.filename} cannot be read: {error.strerror}. Let the bot's user read it.") from None


def _secrets() -> Path | None:
    """The folder with a file for each secret, named like the variable: `slack_bot_token`; None where there is none."""
    named = os.environ.get("PROMOTION_BOT_SECRETS")
    folder = Path(named or SECRETS_FOLDER)
    if named and not folder.is_dir():
        raise Refused(f"There is no folder {folder}. Correct PROMOTION_BOT_SECRETS, or leave it out.")
    return folder if folder.is_dir() else None


def keep_to_ourselves() -> None:
    """Has MLflow report its use to nobody, which it does unless it is told before it is imported."""
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
