"""Processes that are killed and frozen, at a workspace and a database that go on."""

from __future__ import annotations

from tests.bot.conftest import alice, bob, configured, sandbox, wishes, workspace  # noqa: F401 - fixtures
from tests.core.conftest import desk, mlflow_template, mlflow_uri  # noqa: F401 - fixtures
from tests.crash.watched import begin, line  # noqa: F401 - fixtures
