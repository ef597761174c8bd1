"""Slack users -> actors, from a cache that is refreshed in the background: a click never waits for a look-up."""

from __future__ import annotations

import logging
from collections.abc import Collection, Iterator, Mapping, Sequence
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
    """Who the configured approvers and those on call are, and which groups a person is in."""

    def __init__(self, client: WebClient, approvers: Sequence[str], on_call: Sequence[str] = ()) -> None:
        self._client = client
        self._approvers, self._on_call = tuple(approvers), tuple(on_call)
        self._groups: Mapping[str, frozenset[str]] = {}
        self.approvers: frozenset[str] = frozenset(entry for entry in approvers if not entry.startswith("@"))
        self.on_call: tuple[str, ...] = tuple(entry for entry in on_call if not entry.startswith("@"))
        """User and group ids, in the order of the configuration."""

    def actor(self, user_id: str) -> Actor:
        """The person behind a click or a command, with the groups known at the last refresh."""
        return Actor(user_id, frozenset(g for g, members in self._groups.items() if user_id in members))

    def members_on_call(self) -> tuple[str, ...]:
        """The users on call, those of groups too, each once."""
        found = (member for entry in self.on_call for member in sorted(self._groups.get(entry, {entry})))
        return tuple(dict.fromkeys(member for member in found if member[:1] in ("U", "W")))

    def mentions(self, spared: Collection[str]) -> tuple[str, ...]:
        """Mentions of those on call without the `spared` people: of a group with one of them only its other members."""
        found: list[str] = []
        for entry in self.on_call:
            members = self._groups.get(entry)
            if members is not None and members.isdisjoint(spared):
                found.append(f"<!subteam^{entry}>")
            else:
                found += [f"<@{member}>" for member in sorted(members or {entry}) if member not in spared]
        return tuple(dict.fromkeys(found))

    def refresh(self) -> None:
        """Reads handles and group members from Slack; where groups cannot be read, the listed users still count."""
        wanted = self._approvers + self._on_call
        groups = self._read_groups(wanted)
        handles = {f"@{handle}": group for group, (handle, _) in groups.items()}
        if any(entry.startswith("@") and entry not in handles for entry in wanted):
            handles |= {f"@{user['name']}": user["id"] for user in _pages(self._client.users_list, "members")}
        for entry in wanted:
            if entry.startswith("@") and entry not in handles:
                log.warning("no such user or group in the workspace: %s", entry)
        self._groups = {group: members for group, (_, members) in groups.items()}
        self.approvers = frozenset(handles.get(entry, entry) for entry in self._approvers)
        self.on_call = tuple(handles.get(entry, entry) for entry in self._on_call)

    def _read_groups(self, wanted: Sequence[str]) -> dict[str, tuple[str, frozenset[str]]]:
        if not any(entry.startswith(("S", "@")) for entry in wanted):
            return {}
        try:
            found = self._client.usergroups_list(include_users=True)["usergroups"]
        except SlackApiError as error:
            if error.response["error"] not in CLOSED:
                raise
            log.warning("user groups could not be read (%s); only listed users count", error.response["error"])
            return {}
        return {group["id"]: (group["handle"], frozenset(group.get("users") or ())) for group in found}
