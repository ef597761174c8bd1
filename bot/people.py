"""Slack users -> actors, and who may do what. Read again at a click, but never for longer than Slack waits for it."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from concurrent.futures import Future, wait
from dataclasses import replace
from functools import partial
from typing import Any

from slack_sdk import WebClient
from slack_sdk.errors import SlackApiError

from bot.listing import Listing
from bot.pools import Pool
from core.rules.approval import Actor, Roles
from core.settings import Settings

log = logging.getLogger(__name__)

CLOSED = ("missing_scope", "plan_upgrade_required", "not_allowed_token_type", "no_permission")
"""Slack's answers to somebody who will not be told about groups; anything else may be different next time."""
UNKNOWN = ("user_not_found", "users_not_found", "user_not_visible")
CACHED_S = 60.0
READ_AGAIN_S = 290.0
"""After how long who is named is read anew; what could not be read whole is gone on with sooner."""
PATIENCE_S = 0.8
"""How long a click waits for Slack; with what the database may take it is acknowledged within 3 s."""
MOST_READ_AHEAD = 50
"""Of how many people who decide is read who they are before they click; Slack tells of some hundred a minute."""

ELSEWHERE = "You are not a member of this workspace, so you cannot decide here."
BARRED: Mapping[str, str] = {
    "deleted": "Your account is deactivated, so you cannot decide here.",
    "is_bot": "Bots do not decide.",
    "is_restricted": "You are a guest in this workspace, so you cannot decide here.",
    "is_ultra_restricted": "You are a guest in this workspace, so you cannot decide here.",
    "is_stranger": ELSEWHERE,
}
"""By what Slack says of a user."""


def barred(user: Mapping[str, Any], team: str | None, organisation: str | None) -> str | None:
    """Why a user of Slack never decides, seen from a workspace of an Enterprise organisation or of none.

    In an organisation somebody's home may be another of its workspaces; they count all the same.
    """
    found = next((sentence for key, sentence in BARRED.items() if user.get(key)), None)
    theirs = (user.get("enterprise_user") or {}).get("enterprise_id")
    is_here = user.get("team_id") in (None, team, organisation) or (organisation is not None and theirs == organisation)
    return found or (None if team is None or is_here else ELSEWHERE)


class People:
    """Who those named in the configuration are: users, and members of groups."""

    def __init__(self, client: WebClient, settings: Settings) -> None:
        self._client = client
        self._approvers, self._operators = settings.slack.approvers, settings.slack.operators
        self._owners, self._on_call = settings.slack.owners, settings.alerts.on_call
        self._owners_of = {name: one.owners for name, one in settings.experiments.items()}
        self._listing = Listing(client.users_list, "members", "deleted")
        self._handles: Mapping[str, str] = {}
        self._read_at = float("-inf")
        self._groups: Mapping[str, frozenset[str]] = {}
        self._groups_read_at = float("-inf")
        self._one_at_a_time = threading.Lock()
        self._home: tuple[str | None, str | None] = (None, None)
        self._barred: dict[str, tuple[float, str | None]] = {}
        self._asking = Pool(4, "people")

    @property
    def _wanted(self) -> tuple[str, ...]:
        owners = (entry for entries in self._owners_of.values() for entry in entries)
        return (*self._approvers, *self._operators, *self._owners, *owners, *self._on_call)

    def close(self) -> None:
        """Asks nothing more."""
        self._asking.give_up()

    # --- What is known ----------------------------------------------------------------------------------------------

    @property
    def on_call(self) -> tuple[str, ...]:
        """User and group ids, in the order of the configuration."""
        return self._ids(self._on_call)

    @property
    def roles(self) -> Roles:
        """Who may do what, as known at the last look; without those who are known to decide nothing."""
        return Roles(
            approvers=self._members(self._approvers),
            operators=self._members(self._operators) if self._operators else None,
            on_call=self._members(self._on_call),
            owners=self._members(self._owners),
            owners_of={name: self._members(entries) for name, entries in self._owners_of.items()},
        )

    def _ids(self, entries: Sequence[str]) -> tuple[str, ...]:
        found = (self._handles.get(entry, entry) for entry in entries)
        return tuple(entry for entry in found if not entry.startswith("@"))

    def _members(self, entries: Sequence[str]) -> frozenset[str]:
        found = (member for entry in self._ids(entries) for member in self._groups.get(entry, {entry}))
        return frozenset(member for member in found if member[:1] in ("U", "W") and not self._why_barred(member))

    def _why_barred(self, user_id: str) -> str | None:
        return self._barred.get(user_id, (0.0, None))[1]

    def actor(self, user_id: str) -> Actor:
        """The person behind a click or a command, as far as one knows without asking."""
        return Actor(user_id, self._why_barred(user_id))

    def eligible(self, experiment: str, requester: str) -> tuple[str, ...]:
        """Who may approve a request in an experiment, as far as one knows before they click."""
        return tuple(sorted(self.roles.approvers_of(experiment) - {requester}))

    def owners_of(self, experiment: str) -> frozenset[str]:
        """Who owns an experiment, as far as one knows before they click."""
        return self.roles.all_owners_of(experiment)

    def members_on_call(self) -> tuple[str, ...]:
        """The users on call, those of groups too, each once."""
        found = (member for entry in self.on_call for member in sorted(self._groups.get(entry, {entry})))
        return tuple(dict.fromkeys(member for member in found if member[:1] in ("U", "W")))

    def mentions(self, spared: Collection[str]) -> tuple[str, ...]:
        """Mentions of those on call without the `spared` people."""
        return self._mentions(self.on_call, spared)

    def approver_mentions(self, experiment: str, spared: Collection[str]) -> tuple[str, ...]:
        """Mentions of those who may approve changes of an experiment, without the `spared` people."""
        entries = (*self._approvers, *self._owners, *self._owners_of.get(experiment, ()))
        return self._mentions(self._ids(entries), spared)

    def _mentions(self, entries: Sequence[str], spared: Collection[str]) -> tuple[str, ...]:
        """Of a group with one of the `spared` people only its other members are mentioned."""
        found: list[str] = []
        for entry in entries:
            members = self._groups.get(entry)
            if members is not None and members.isdisjoint(spared):
                found.append(f"<!subteam^{entry}>")
            else:
                found += [f"<@{member}>" for member in sorted(members or {entry}) if member not in spared]
        return tuple(dict.fromkeys(found))

    # --- Asking Slack -----------------------------------------------------------------------------------------------

    def checked(self, actor: Actor) -> Actor:
        """The person who decides, with what Slack says of them now; the groups are read again where that is due.

        Where Slack takes too long, what was known before counts; about somebody unknown the actor says so.
        """
        asked: list[Future[None]] = []
        if self._is_old(self._barred.get(actor.id, (float("-inf"), None))[0]):
            asked.append(self._asking.submit(_logged, partial(self._read_user, actor.id)))
        if self._is_old(self._groups_read_at):
            asked.append(self._asking.submit(_logged, self._reread_groups))
        wait(asked, timeout=PATIENCE_S)
        known = self._barred.get(actor.id)
        return replace(actor, barred=known[1]) if known else replace(actor, is_known=False)

    def _is_old(self, read_at: float) -> bool:
        return time.monotonic() - read_at > CACHED_S

    def _read_user(self, user_id: str) -> None:
        self._barred[user_id] = time.monotonic(), self._ask_about(user_id)

    def _read_ahead(self, user_id: str) -> None:
        """So that there is an answer where Slack gives none at the click, which asks all the same."""
        self._barred[user_id] = float("-inf"), self._ask_about(user_id)

    def _ask_about(self, user_id: str) -> str | None:
        """Why a user does not decide, by Slack."""
        try:
            if self._home[0] is None:
                here = self._client.auth_test()
                self._home = here.get("team_id"), here.get("enterprise_id")
            return barred(self._client.users_info(user=user_id)["user"], *self._home)
        except SlackApiError as error:
            if error.response["error"] not in UNKNOWN:
                raise
            return ELSEWHERE

    def _reread_groups(self) -> None:
        with self._one_at_a_time:
            if self._is_old(self._groups_read_at):
                self._take_groups()

    def refresh_if_old(self) -> None:
        """Reads them where that is some minutes ago, or was not possible to the end.

        Raises:
            Later, SlackApiError, OSError, HTTPException: where it is not possible now either.
        """
        if time.monotonic() - self._read_at > READ_AGAIN_S:
            self.refresh()

    def refresh(self) -> None:
        """Reads handles and group members from Slack; where groups cannot be read, the listed users still count.

        Who decides is read ahead, so that their clicks count however slow Slack is then, and so that the approval of
        somebody who has left ceases to count.

        Raises:
            Later, SlackApiError, OSError, HTTPException: where it cannot be read to its end. What was read counts, the
                rest is as it was known before.
        """
        with self._one_at_a_time:
            self._take_handles(self._take_groups())
        self._read_at = time.monotonic()
        barred = {user_id for user_id, (_, why) in list(self._barred.items()) if why}
        ahead = sorted(self.roles.deciders | barred)[:MOST_READ_AHEAD]
        wait([self._asking.submit(_logged, partial(self._read_ahead, one)) for one in ahead], timeout=PATIENCE_S)

    def _take_handles(self, groups: Mapping[str, str]) -> None:
        """Reads the users who are named by their handles; a handle may also be a group's."""
        wanted = {entry[1:] for entry in self._wanted if entry.startswith("@") and entry not in groups}
        try:
            seen = self._listing.look_up(wanted)
        except Exception:
            self._handles = {**self._handles, **groups, **_handles(self._listing.found, wanted)}
            raise
        self._handles = {**groups, **_handles(seen, wanted)}
        for handle in sorted(wanted - seen.keys()):
            log.warning("no such user or group in the workspace: @%s", handle)

    def _take_groups(self) -> dict[str, str]:
        """Reads the members of groups; returns the groups by handle."""
        groups = self._read_groups()
        self._groups = {group: members for group, (_, members) in groups.items()}
        self._groups_read_at = time.monotonic()
        return {f"@{handle}": group for group, (handle, _) in groups.items()}

    def _read_groups(self) -> dict[str, tuple[str, frozenset[str]]]:
        if not any(entry.startswith(("S", "@")) for entry in self._wanted):
            return {}
        try:
            found = self._client.usergroups_list(include_users=True)["usergroups"]
        except SlackApiError as error:
            if error.response["error"] not in CLOSED:
                raise
            log.warning("user groups could not be read (%s); only listed users count", error.response["error"])
            return {}
        return {group["id"]: (group["handle"], frozenset(group.get("users") or ())) for group in found}


def _handles(ids: Mapping[str, str], wanted: Collection[str]) -> dict[str, str]:
    return {f"@{name}": ids[name] for name in wanted if name in ids}


def _logged(work: Callable[[], None]) -> None:
    """What fails is tried again at the next click; until then what was known before counts."""
    try:
        work()
    except Exception as error:
        log.warning("Slack could not be asked about people: %s", error)
