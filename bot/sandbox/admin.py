"""What an administrator, or the weather, can do to the app."""

from collections.abc import Callable
from typing import Any

from bot.sandbox.errors import ActRefused
from bot.sandbox.site import Site
from bot.sandbox.store import Json


def _token(state: str) -> Callable[[Site, Json], None]:
    return lambda site, given: site.ws.set_standing(state)


def _channel(**fields: Any) -> Callable[[Site, Json], None]:
    return lambda site, given: site.ws.put_channel(found_channel(site, given) | fields)


def _user(**fields: Any) -> Callable[[Site, Json], None]:
    return lambda site, given: site.ws.put_user(found_user(site, given) | fields)


def _leave(site: Site, given: Json) -> None:
    _without(site, found_channel(site, given), site.ws.bot_user_id)


def _join(site: Site, given: Json) -> None:
    _with(site, found_channel(site, given), site.ws.bot_user_id)


def _kick(site: Site, given: Json) -> None:
    _without(site, found_channel(site, given), found_user(site, given)["id"])


def _invite(site: Site, given: Json) -> None:
    _with(site, found_channel(site, given), found_user(site, given)["id"])


def _without(site: Site, channel: Json, user: str) -> None:
    site.ws.put_channel(channel | {"members": [member for member in channel["members"] if member != user]})


def _with(site: Site, channel: Json, user: str) -> None:
    site.ws.put_channel(channel | {"members": list(dict.fromkeys([*channel["members"], user]))})


def _group(site: Site, given: Json) -> None:
    group = next((group for group in site.ws.groups() if given.get("group") in (group["id"], group["handle"])), None)
    if not group:
        raise ActRefused("no_such_subteam", "There is no such user group.")
    users = [found_user(site, {"user": name})["id"] for name in given.get("users", [])]
    site.ws.store.put("group", group["id"], group | {"users": users})
    site.ws.streams.publish({"type": "state"})


def _rename(site: Site, given: Json) -> None:
    channel, name = found_channel(site, given), str(given.get("to", ""))
    if not name or site.ws.channel(name):
        raise ActRefused("name_taken", f"No channel can be called {name!r}: it is nothing, or one is.")
    site.ws.put_channel(channel | {"name": name})


def _rate_limits(site: Site, given: Json) -> None:
    site.limits.on = bool(given.get("on", True))
    site.ws.streams.publish({"type": "state"})


def _new_blocks(site: Site, given: Json) -> None:
    site.ws.new_blocks = bool(given.get("on", True))
    site.ws.streams.publish({"type": "state"})


ACTS: dict[str, Callable[[Site, Json], None]] = {
    "archive": _channel(archived=True),
    "unarchive": _channel(archived=False),
    "rename": _rename,
    "leave": _leave,
    "join": _join,
    "kick": _kick,
    "invite": _invite,
    "revoke_token": _token("revoked"),
    "uninstall": _token("inactive"),
    "restore_token": _token("live"),
    "deactivate": _user(deleted=True),
    "reactivate": _user(deleted=False),
    "guest": _user(is_restricted=True),
    "member": _user(is_restricted=False),
    "group": _group,
    "rate_limits": _rate_limits,
    "new_blocks": _new_blocks,
}


def found_user(site: Site, given: Json) -> Json:
    """The user that is named by id or handle."""
    user = site.ws.user(str(given.get("user", "")))
    if not user:
        raise ActRefused("user_not_found", f"There is nobody called {given.get('user')}.")
    return user


def found_channel(site: Site, given: Json) -> Json:
    """The channel that is named by id or name."""
    channel = site.ws.channel(str(given.get("channel", "")))
    if not channel:
        raise ActRefused("channel_not_found", f"There is no channel {given.get('channel')}.")
    return channel
