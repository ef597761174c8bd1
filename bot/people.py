"""Slack users -> actors, from a cache that is refreshed in the background: a click never waits for a look-up."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from slack_sdk import WebClient
from slack_sdk.errors import SlackApiError

from core.rules.approval import Actor

log = logging.getLogger(__name__)

CLOSED = ("missing_scope", "plan_upgrade_required", "not_allowed_token_type", "no_permission")
"""Slack's answers to somebody who will not be told about groups; anything else may be different next time."""


def _pages(method: Any, key: str, **arguments: Any) -> Iterator[Mapping[str, Any]]:
    cursor = ""
    while True:
        page = method(limit=200, **({"cursor": cursor} if cursor else {}), **arguments)
        yield from page[key]
        cursor = (page.get("response_metadata") or {}).get("next_cursor") or ""
        if not cursor:
            return


class People:
    """Who the configured approvers are, by user id, and which groups a person is in."""

    def __init__(self, client: WebClient, approvers: Sequence[str]) -> None:
        self._client = client
        self._wanted = tuple(approvers)
        self._groups: Mapping[str, frozenset[str]] = {}
        self.approvers: frozenset[str] = frozenset(entry for entry in approvers if not entry.startswith("@"))

    def actor(self, user_id: str, name: str = "") -> Actor:
        """The person behind a click or a command, with the groups known at the last refresh."""
        return Actor(
            user_id, name or user_id, frozenset(g for g, members in self._groups.items() if user_id in members)
        )

    def refresh(self) -> None:
        """Reads handles and group members from Slack; where groups cannot be read, the listed users still count."""
        groups = self._read_groups()
        handles = {f"@{handle}": group for group, (handle, _) in groups.items()}
        if any(entry.startswith("@") and entry not in handles for entry in self._wanted):
            handles |= {f"@{user['name']}": user["id"] for user in _pages(self._client.users_list, "members")}
        for entry in self._wanted:
            if entry.startswith("@") and entry not in handles:
                log.warning("no such user or group in the workspace: approver %s", entry)
        self._groups = {group: members for group, (_, members) in groups.items()}
        self.approvers = frozenset(handles.get(entry, entry) for entry in self._wanted)

    def _read_groups(self) -> dict[str, tuple[str, frozenset[str]]]:
        if not any(entry.startswith(("S", "@")) for entry in self._wanted):
            return {}
        try:
            found = self._client.usergroups_list(include_users=True)["usergroups"]
        except SlackApiError as error:
            if error.response["error"] not in CLOSED:
                raise
            log.warning("user groups could not be read (%s); only listed users may approve", error.response["error"])
            return {}
        return {group["id"]: (group["handle"], frozenset(group.get("users") or ())) for group in found}
