"""What an installation configures: the environment for secrets and addresses, one TOML file for the way of working."""

from __future__ import annotations

import copy
import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, Self
from zoneinfo import ZoneInfo

from pydantic import Field, ModelWrapValidatorHandler, SecretStr, ValidationError, model_validator
from pydantic_core import InitErrorDetails, PydanticCustomError
from pydantic_settings import (
    BaseSettings,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
    SettingsError,
    TomlConfigSettingsSource,
)

from core import contradictions, faults
from core.errors import Refused
from core.metric_sections import MetricsSection
from core.rules.calendar import Schedule
from core.rules.decision import Rulebook, Terms
from core.rules.metrics import Collected
from core.sections import (
    AlertsSection,
    ApprovalsSection,
    ExperimentSection,
    FreezeSection,
    RecommendationsSection,
    RolloutSection,
    SlackSection,
    days_by_share,
)

CONFIG_FILE = "promotion-bot.toml"
SECRETS_FOLDER = "/run/secrets"
"""Where containers find their secrets as files; the environment's PROMOTION_BOT_SECRETS names another folder."""


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
    log_format: Literal["json", "text"] | None = None
    """Where unset, text to a terminal and JSON to anything else."""

    slack: SlackSection = SlackSection()
    rollout: RolloutSection = RolloutSection()
    metrics: MetricsSection = MetricsSection()
    recommendations: RecommendationsSection = RecommendationsSection()
    alerts: AlertsSection = AlertsSection()
    approvals: ApprovalsSection = ApprovalsSection()
    freezes: tuple[FreezeSection, ...] = ()
    experiments: dict[str, ExperimentSection] = {}
    """By the experiment's name."""

    @model_validator(mode="wrap")
    @classmethod
    def _is_whole(cls, data: Any, handler: ModelWrapValidatorHandler[Self]) -> Self:
        """Every fault at once: those of single settings, and what only several of them together have wrong."""
        errors: list[InitErrorDetails] = []
        rest = copy.deepcopy(data)
        while True:
            try:
                made = handler(rest)
                break
            except ValidationError as error:
                errors = errors or _again(error)
                if not _take_out(rest, error):
                    raise ValidationError.from_exception_data("Settings", errors, hide_input=True) from None
        errors += made._contradictions(data)
        if errors:
            raise ValidationError.from_exception_data("Settings", errors, hide_input=True)
        return made

    def _contradictions(self, data: Any) -> list[InitErrorDetails]:
        found = contradictions.found(
            self.rollout, self.metrics, self.experiments, self.freezes, own_metrics=_own_metrics(data)
        )
        return [
            InitErrorDetails(type=PydanticCustomError("value_error", "{error}", {"error": said}), loc=key, input=None)
            for key, said in found
        ]

    @property
    def tracking_uri(self) -> str:
        """Where MLflow is: as configured, else a SQLite store in the data folder."""
        return self.mlflow_tracking_uri or f"sqlite:///{self.promotion_bot_data.absolute() / 'mlflow.db'}"

    @property
    def terms(self) -> Rulebook:
        """What rollouts are judged by and decided on."""
        steps, days = self.rollout.steps, self.rollout.minimum_days
        usual = Terms(
            steps,
            self.rollout.minimum_samples,
            self.metrics.price_per_1000_tokens,
            minimum_days=days_by_share(steps, days),
            metrics=self.metrics.judged,
            rule=self.rollout.rule,
            quorums=self.approvals.quorums,
            freezes=tuple(one.window(self.recommendations.timezone) for one in self.freezes),
        )
        return Rulebook(usual, {name: one.terms(usual, days) for name, one in self.experiments.items()})

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
    def channels(self) -> frozenset[str]:
        """All that are posted to."""
        own = (one.channel for one in self.experiments.values() if one.channel is not None)
        return frozenset({self.slack.rollouts_channel, self.slack.approvals_channel, *own})

    @property
    def policy(self) -> dict[str, Any]:
        """The way of working, without addresses and secrets: each setting by its dotted name, as JSON has it."""
        found = _flat(self.model_dump(mode="json", by_alias=True, include=_POLICY))
        return {".".join(key): value for key, value in found}

    @property
    def values(self) -> dict[Key, Any]:
        """The same as Python has it, so that 0.1 is 0.10; freezes are by name, and what is not set is left out."""
        usual = self.recommendations.timezone
        freezes = {
            one.name: one.model_dump(by_alias=True, exclude={"name"}) | {"timezone": one.timezone or usual}
            for one in self.freezes
        }
        found = _flat(self.model_dump(by_alias=True, include=_POLICY - {"freezes"}) | {"freezes": freezes})
        return {key: value for key, value in found if value not in (None, ())}

    @property
    def collected(self) -> tuple[Collected, ...]:
        """What is collected from events beyond what the document's six metrics need."""
        return self.metrics.collected

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


def _again(error: ValidationError) -> list[InitErrorDetails]:
    """The faults, to be raised together with others."""
    return [
        InitErrorDetails(
            type=PydanticCustomError(each["type"], "{text}", {**each.get("ctx", {}), "text": each["msg"]}),
            loc=each["loc"],
            input=None,
        )
        for each in error.errors(include_url=False, include_input=False)
    ]


def _take_out(data: Any, error: ValidationError) -> bool:
    """Takes what is wrong out of the settings, so that the rest can be looked at; False where nothing can be."""
    keys = {tuple(part for part in each["loc"] if part != "[key]") for each in error.errors()}
    return all(_is_taken_out(data, key) for key in keys)


def _is_taken_out(data: Any, key: Sequence[str | int]) -> bool:
    """Removes the innermost thing on the way to a key that can be removed."""
    for depth in range(len(key), 0, -1):
        above = data
        for part in key[: depth - 1]:
            above = above.get(part) if isinstance(above, dict) else None
        if isinstance(above, dict) and key[depth - 1] in above:
            del above[key[depth - 1]]
            return True
    return False


def _own_metrics(data: Any) -> tuple[str, ...]:
    """The names of a team's own metrics, whatever is wrong with these."""
    section = data.get("metrics") if isinstance(data, Mapping) else None
    if isinstance(section, MetricsSection):
        return tuple(section.custom)
    custom = section.get("custom") if isinstance(section, Mapping) else None
    return tuple(custom) if isinstance(custom, Mapping) else ()


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
        found = faults.listed(error.errors(), written, {name.upper() for name in os.environ}, Settings)
        named = f" ({file})" if written else ""
        raise Refused(f"The configuration{named} has faults:\n{found}") from None
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
