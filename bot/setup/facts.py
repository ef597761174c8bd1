"""What Slack says of the app, its channels and the people of a workspace: each thing that is asked, or why not."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from email.utils import parsedate_to_datetime
from functools import partial
from http.client import HTTPException
from typing import Any, TypeVar

from slack_sdk import WebClient
from slack_sdk.errors import SlackApiError
from slack_sdk.web import SlackResponse

from bot.listing import PAGE
from bot.people import barred
from bot.setup.together import SLOW, together
from core.condition import Trouble, plainly

TIMEOUT_S = 4
WITHIN_S = 7.0
"""How long the token, channels and people may take together; a large workspace has thousands of them."""

T = TypeVar("T")


@dataclass(frozen=True)
class Identity:
    """Whose the bot token is."""

    team: str
    team_id: str
    organisation: str | None
    handle: str
    bot_id: str
    scopes: frozenset[str] | None
    """None where Slack does not say."""
    ahead_s: float | None
    """How far Slack's clock is before this machine's."""


@dataclass(frozen=True)
class Channel:
    """A channel as the bot sees it."""

    id: str
    name: str
    is_archived: bool
    is_member: bool


@dataclass(frozen=True)
class User:
    """Somebody of the workspace."""

    id: str
    handle: str
    names: tuple[str, ...]
    """What people see instead of the handle."""
    barred: str | None
    """Why they never decide anything, by Slack."""


@dataclass(frozen=True)
class Group:
    """A user group."""

    id: str
    handle: str
    members: frozenset[str]


@dataclass(frozen=True)
class Slack:
    """What Slack answered."""

    identity: Identity | Trouble
    app_id: str | Trouble
    """Of the app that the bot token belongs to."""
    socket: Trouble | None
    """None where Slack opens Socket Mode connections, or was not asked to."""
    channels: tuple[Channel, ...] | Trouble
    groups: tuple[Group, ...] | Trouble
    users: tuple[User, ...] | Trouble


def nothing(trouble: Trouble) -> Slack:
    """What is known where Slack answers nothing."""
    return Slack(trouble, trouble, None, trouble, trouble, trouble)


@dataclass(frozen=True)
class Wanted:
    """What the configuration names, which one need not look further than."""

    channels: Collection[str]
    people: Collection[str]
    app_token: str | None


def ask(url: str, bot_token: str, wanted: Wanted, now: Callable[[], datetime]) -> Slack:
    """Asks Slack everything; it takes `WITHIN_S` and `TIMEOUT_S` at most, and changes nothing.

    No Socket Mode connection is made of what Slack opens: it would get a part of what is meant for a running bot.
    """
    end = time.monotonic() + WITHIN_S
    client = WebClient(token=bot_token, base_url=url, timeout=TIMEOUT_S, retry_handlers=[])
    identity = _asked(url, lambda: _identity(client, now))
    if isinstance(identity, Trouble):
        return nothing(identity)
    looks: Mapping[str, Callable[[], Any]] = {
        "the app": lambda: str(client.bots_info(bot=identity.bot_id)["bot"]["app_id"]),
        "Socket Mode": lambda: _opened(client, wanted.app_token),
        "channels": lambda: _channels(client, wanted.channels, end),
        "user groups": lambda: tuple(map(_group, client.usergroups_list(include_users=True)["usergroups"])),
        "people": lambda: _users(client, wanted.people, identity, end),
    }
    left = end - time.monotonic() + TIMEOUT_S
    found = together({name: partial(_asked, url, look) for name, look in looks.items()}, left)
    app_id, socket, channels, groups, users = found.values()
    return Slack(identity, app_id, socket, channels, groups, users)


class _OutOfTime(Exception):
    """A list was too long to be read to its end."""


def _asked(url: str, call: Callable[[], T]) -> T | Trouble:
    try:
        return call()
    except SlackApiError as error:
        return Trouble(str(error.response.get("error") or f"Slack answers {error.response.get('status')}"))
    except _OutOfTime:
        return Trouble(SLOW)
    except (OSError, HTTPException) as error:
        return Trouble(f"Slack cannot be reached at {url}: {plainly(getattr(error, 'reason', error))}")


def _identity(client: WebClient, now: Callable[[], datetime]) -> Identity:
    answer = client.auth_test()
    headers = {name.lower(): value for name, value in answer.headers.items()}
    scopes, date = headers.get("x-oauth-scopes"), headers.get("date")
    return Identity(
        team=answer["team"],
        team_id=answer["team_id"],
        organisation=answer.get("enterprise_id"),
        handle=answer["user"],
        bot_id=answer.get("bot_id") or "",
        scopes=None if scopes is None else frozenset(each.strip() for each in scopes.split(",")),
        ahead_s=(parsedate_to_datetime(date) - now()).total_seconds() if date else None,
    )


def _opened(client: WebClient, app_token: str | None) -> None:
    if app_token is not None:
        client.apps_connections_open(app_token=app_token)


def _pages(ask: Callable[..., SlackResponse], key: str, end: float, **about: Any) -> Iterator[Mapping[str, Any]]:
    """Everything that a list has, while there is time.

    Raises:
        _OutOfTime: when there is none left.
    """
    cursor = ""
    while time.monotonic() < end:
        page = ask(limit=PAGE, cursor=cursor, **about)
        yield from page[key]
        cursor = (page.get("response_metadata") or {}).get("next_cursor") or ""
        if not cursor:
            return
    raise _OutOfTime


def _channels(client: WebClient, wanted: Collection[str], end: float) -> tuple[Channel, ...]:
    """The channels that the bot can see, up to the last one wanted."""
    found, missing = [], set(wanted)
    for one in _pages(client.conversations_list, "channels", end, types="public_channel,private_channel"):
        found.append(Channel(one["id"], one["name"], bool(one.get("is_archived")), bool(one.get("is_member"))))
        missing -= {one["id"], one["name"]}
        if not missing:
            break
    return tuple(found)


def _users(client: WebClient, wanted: Collection[str], here: Identity, end: float) -> tuple[User, ...]:
    """The people of the workspace, up to the last one wanted."""
    found, missing = [], set(wanted)
    for one in _pages(client.users_list, "members", end) if missing else ():
        profile = one.get("profile") or {}
        names = (profile.get("display_name"), profile.get("real_name"), one.get("real_name"))
        why = barred(one, here.team_id, here.organisation)
        found.append(User(one["id"], one["name"], tuple(dict.fromkeys(filter(None, names))), why))
        missing -= {one["id"], f"@{one['name']}"}
        if not missing:
            break
    return tuple(found)


def _group(one: Mapping[str, Any]) -> Group:
    return Group(one["id"], one["handle"], frozenset(one.get("users") or ()))
