"""Where a bot says how it is: only the environment tells, so that a faulty file makes no bot that runs look ill."""

from __future__ import annotations

import re
from typing import Annotated

from pydantic import AfterValidator, ValidationError
from pydantic_settings import BaseSettings, SettingsConfigDict

from core.errors import Refused

_WRITTEN = re.compile(r"(?:\[(?P<six>[0-9a-fA-F:.]+)\]|(?P<host>[^\s:\[\]/]+)):(?P<port>\d{1,5})")
EVERYWHERE = {"0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104 - what may be configured
"""Where one listens to all, and where that is asked from the same machine."""


def _address(value: str) -> str:
    found = _WRITTEN.fullmatch(value)
    if found is None or not 0 < int(found["port"]) < 65_536:
        raise ValueError
    return value


class HealthAddress(BaseSettings):
    """A host and a port."""

    model_config = SettingsConfigDict(frozen=True, env_ignore_empty=True)

    promotion_bot_health: Annotated[str, AfterValidator(_address)] = "127.0.0.1:3001"

    @property
    def host(self) -> str:
        """Where it listens."""
        return self.promotion_bot_health.rpartition(":")[0].strip("[]")

    @property
    def port(self) -> int:
        """The port."""
        return int(self.promotion_bot_health.rpartition(":")[2])

    @property
    def is_chosen(self) -> bool:
        """True where somebody named it."""
        return bool(self.model_fields_set)

    @property
    def url(self) -> str:
        """Where it is asked from this machine."""
        host = EVERYWHERE.get(self.host, self.host)
        return f"http://[{host}]:{self.port}" if ":" in host else f"http://{host}:{self.port}"


def health_address() -> HealthAddress:
    """The configured address.

    Raises:
        Refused: where it is none.
    """
    try:
        return HealthAddress()
    except ValidationError:
        raise Refused(
            "PROMOTION_BOT_HEALTH has to be a host and a port, like 127.0.0.1:3001, or 0.0.0.0:3001 in a container."
        ) from None
