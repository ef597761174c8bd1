"""Whatever comes in."""

from __future__ import annotations

from tests.bot.conftest import (  # noqa: F401 - fixtures
    alice,
    bob,
    bot,
    carol,
    configured,
    desk,
    mlflow_template,
    mlflow_uri,
    registry,
    sandbox,
    web,
    wishes,
    workspace,
)
from tests.core.conftest import platform  # noqa: F401 - a fixture
