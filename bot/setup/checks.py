"""The table of all checks: what was seen -> lines by area; pure."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Final

from bot.setup import data, people, slack
from bot.setup.findings import Finding, Line
from bot.setup.seen import Seen
from core.errors import Refused

Check = Callable[[Seen], Iterator[Finding]]

CHECKS: Final[Mapping[str, Sequence[Check]]] = {
    "Configuration": (data.file, data.experiments, data.health),
    "Slack": (slack.bot_token, slack.scopes, slack.command, slack.listening, slack.clock),
    "Channels": (slack.channels,),
    "People": (people.lists, people.named, people.quorum, people.roles),
    "Database": (data.database, data.tables, data.platform),
    "MLflow": (data.registry,),
    "Data folder": (data.folder,),
}
"""By area; the name of a check is that of its function."""


def unread(refused: Refused) -> list[Line]:
    """The same where the configuration cannot be read, so that nothing else was looked at."""
    return [Line("Configuration", data.file.__name__, finding) for finding in data.unread(refused)]


def lines(seen: Seen) -> list[Line]:
    """Everything that is found, in the order of the table."""
    return [
        Line(area, check.__name__, finding)
        for area, checks in CHECKS.items()
        for check in checks
        for finding in check(seen)
    ]
