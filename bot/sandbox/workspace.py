"""The workspace itself: who and what is in it, its ids and its time."""

import secrets
from collections.abc import Callable, Mapping, Sequence

from bot.sandbox.seed import Channel, Manifest, Person
from bot.sandbox.store import Json, Store
from bot.sandbox.streams import Streams

SLACKBOT = "USLACKBOT"
DIGITS = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ"
FIRST_ID = 36**8  # so that ids have the length of Slack's
COLOURS = ("4bbe2e", "e7392d", "3c989f", "674b1b", "e96699", "5b89d5", "9d8eee", "d58247")


class Workspace:
    """Everything that exists in the workspace, read from the store each time; safe for one thread at a time."""

    def __init__(self, store: Store, manifest: Manifest, clock: Callable[[], float], team_name: str) -> None:
        self.store = store
        self.manifest = manifest
        self.clock = clock
        self.streams = Streams()
        self.url = ""
        self.links: Sequence[Json] = ()
        self.new_blocks = True
        self.emit: Callable[[Json], None] = lambda event: None
        with store.together():
            identity = store.get("identity", "app") or self._found(team_name)
        self.team_id: str = identity["team_id"]
        self.team_name: str = identity["team_name"]
        self.team_domain: str = identity["team_domain"]
        self.app_id: str = identity["app_id"]
        self.bot_id: str = identity["bot_id"]
        self.bot_user_id: str = identity["bot_user_id"]
        self.bot_token: str = identity["bot_token"]
        self.app_token: str = identity["app_token"]
        self.signing_secret: str = identity["signing_secret"]
        self.verification_token: str = identity["verification_token"]
        self.standing: str = identity["standing"]

    def _found(self, team_name: str) -> Json:
        app_id = self.new_id("A")
        identity: Json = {
            "team_id": self.new_id("T"),
            "team_name": team_name,
            "team_domain": team_name.lower().replace(" ", "-"),
            "app_id": app_id,
            "bot_id": self.new_id("B"),
            "bot_user_id": self.new_id("U"),
            "bot_token": f"xoxb-{secrets.randbelow(10**12):012}-{secrets.token_hex(12)}",
            "app_token": f"xapp-1-{app_id}-{secrets.randbelow(10**12):012}-{secrets.token_hex(32)}",
            "signing_secret": secrets.token_hex(16),
            "verification_token": secrets.token_hex(12),
            "standing": "live",
        }
        self.store.put("identity", "app", identity)
        return identity

    def set_standing(self, state: str) -> None:
        """`live`, `revoked` or `inactive`: what the app's tokens are worth."""
        self.standing = state
        self.store.put("identity", "app", {**(self.store.get("identity", "app") or {}), "standing": state})

    # -- ids and time ------------------------------------------------------------------------------------------------

    def new_id(self, prefix: str) -> str:
        """An id nobody had before, greater than all earlier ones of its prefix."""
        number = self._count("id", FIRST_ID)
        text = ""
        while number:
            number, digit = divmod(number, 36)
            text = DIGITS[digit] + text
        return f"{prefix}0{text}"

    def new_ts(self) -> str:
        """A message timestamp later than every earlier one."""
        record = self.store.get("counter", "ts") or {"micros": 0}
        micros = max(int(self.clock() * 1_000_000), record["micros"] + 1)
        self.store.put("counter", "ts", {"micros": micros})
        return f"{micros // 1_000_000}.{micros % 1_000_000:06}"

    def _count(self, name: str, first: int) -> int:
        record = self.store.get("counter", name) or {"next": first}
        self.store.put("counter", name, {"next": record["next"] + 1})
        return int(record["next"])

    # -- people ------------------------------------------------------------------------------------------------------

    def users(self) -> list[Json]:
        """Everybody, in the order they came."""
        return self.store.all("user")

    def user(self, name: str) -> Json | None:
        """The user of this id or handle, or None."""
        found = self.store.get("user", name)
        return found or next((user for user in self.users() if user["handle"] == name.lstrip("@")), None)

    def put_user(self, user: Json) -> None:
        """Keep the user and tell every page."""
        self.store.put("user", user["id"], user)
        self.streams.publish({"type": "state"})

    def groups(self) -> list[Json]:
        """The user groups."""
        return self.store.all("group")

    # -- channels ----------------------------------------------------------------------------------------------------

    def channels(self) -> list[Json]:
        """The channels, without direct messages."""
        return self.store.all("channel")

    def channel(self, name: str) -> Json | None:
        """The channel or direct message of this id or name, or None."""
        name = name.lstrip("#")
        found = self.store.get("channel", name) or self.store.get("im", name)
        return found or next((channel for channel in self.channels() if channel["name"] == name), None)

    def put_channel(self, channel: Json) -> None:
        """Keep the channel and tell every page."""
        self.store.put("channel", channel["id"], channel)
        self.streams.publish({"type": "state"})

    def im(self, user_id: str) -> Json:
        """The app's direct message with this person, made when it is first needed."""
        found = next((im for im in self.store.all("im") if im["user"] == user_id), None)
        if found:
            return found
        im: Json = {
            "id": self.new_id("D"),
            "user": user_id,
            "members": [user_id, self.bot_user_id],
            "private": True,
            "archived": False,
            "created": int(self.clock()),
        }
        self.store.put("im", im["id"], im)
        self.streams.publish({"type": "state"})
        return im

    def may_read(self, user_id: str, channel: Json) -> bool:
        """Whether this person can see the channel at all; guests see only what they are in."""
        user = self.user(user_id)
        guest = bool(user and user["is_restricted"])
        return user_id in channel["members"] or not (channel["private"] or guest)

    def readers(self, channel: Json) -> list[str]:
        """Everybody who can see the channel."""
        return [user["id"] for user in self.users() if self.may_read(user["id"], channel)]


def seed(
    ws: Workspace, people: Sequence[Person], channels: Sequence[Channel], groups: Mapping[str, Sequence[str]]
) -> None:
    """Put in what is not there yet; what a restart finds is left as it was."""
    with ws.store.together():
        if not ws.store.get("user", SLACKBOT):
            _add_user(ws, SLACKBOT, Person("slackbot", "Slackbot", bot=True))
            _add_user(ws, ws.bot_user_id, Person(_handle(ws.manifest.bot_name), ws.manifest.bot_name, bot=True))
        for person in people:
            if not ws.user(person.handle):
                _add_user(ws, ws.new_id("U"), person)
        for channel in channels:
            if not ws.channel(channel.name):
                _add_channel(ws, channel)
        for person in people:
            if not person.bot:
                ws.im(_user_id(ws, person.handle))
        for handle, members in groups.items():
            if not any(group["handle"] == handle for group in ws.groups()):
                group_id = ws.new_id("S")
                users = [_user_id(ws, member) for member in members]
                ws.store.put("group", group_id, {"id": group_id, "handle": handle, "users": users})


def _handle(name: str) -> str:
    return name.lower().replace(" ", "-")


def _user_id(ws: Workspace, handle: str) -> str:
    user = ws.user(handle)
    if not user:
        raise ValueError(f"nobody here is called {handle}")
    return str(user["id"])


def _add_user(ws: Workspace, user_id: str, person: Person) -> None:
    user: Json = {
        "id": user_id,
        "handle": person.handle,
        "name": person.name or person.handle,
        "title": person.title,
        "is_bot": person.bot,
        "is_restricted": person.guest,
        "deleted": person.deleted,
        "email": person.email or f"{person.handle}@{ws.team_domain}.example",
        "tz": person.tz,
        "colour": "#" + COLOURS[len(ws.users()) % len(COLOURS)],
    }
    ws.store.put("user", user_id, user)


def _add_channel(ws: Workspace, channel: Channel) -> None:
    members = [_user_id(ws, handle) for handle in channel.members]
    record: Json = {
        "id": ws.new_id("C"),
        "name": channel.name,
        "topic": channel.topic,
        "private": channel.private,
        "archived": channel.archived,
        "members": [*members, *([ws.bot_user_id] if channel.with_app else [])],
        "created": int(ws.clock()),
    }
    ws.store.put("channel", record["id"], record)
