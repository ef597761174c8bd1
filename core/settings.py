"""What an installation configures: the environment for secrets and addresses, one TOML file for the way of working."""

from __future__ import annotations

from decimal import Decimal
from pathlib import Path
from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, SecretStr, ValidationError
from pydantic_core import ErrorDetails
from pydantic_settings import (
    BaseSettings,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
    SettingsError,
    TomlConfigSettingsSource,
)

from core.errors import Refused
from core.rules import allocation, metrics
from core.rules.decision import Terms

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


class SlackSection(Section):
    """How the bot appears in the workspace and who may approve."""

    command: Annotated[str, Field(pattern=r"^/[a-z0-9_-]{1,31}$")] = "/rollout"
    rollouts_channel: str = "ml-rollouts"
    approvals_channel: str = "ml-approvals"
    approvers: tuple[str, ...] = ()
    """Slack user ids (U…, W…), user group ids (S…) or handles (@bob, @ml-approvers)."""


class RolloutSection(Section):
    """The allocation steps, and how many plans a candidate must have served."""

    steps: Annotated[tuple[Decimal, ...], AfterValidator(_steps)] = allocation.STEPS
    minimum_samples: Annotated[int, Field(ge=1)] = metrics.MINIMUM_SAMPLES


class MetricsSection(Section):
    """How costs are read where teams log tokens instead of money."""

    price_per_1000_tokens: Annotated[Decimal, Field(gt=0)] | None = None


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

    @property
    def tracking_uri(self) -> str:
        """Where MLflow is: as configured, else a SQLite store in the data folder."""
        return self.mlflow_tracking_uri or f"sqlite:///{self.promotion_bot_data.absolute() / 'mlflow.db'}"

    @property
    def terms(self) -> Terms:
        """What rollouts are judged by."""
        return Terms(self.rollout.steps, self.rollout.minimum_samples, self.metrics.price_per_1000_tokens)

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
