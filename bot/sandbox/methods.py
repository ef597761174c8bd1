"""Every Web API method there is here: what it does, the scope and token it needs, how often it may be called."""

from collections.abc import Callable
from dataclasses import dataclass

from bot.sandbox import chat, conversations, files, people, surfaces
from bot.sandbox.call import Call
from bot.sandbox.store import Json

BOT = "bot"
APP = "app"
ANY = ""
PER_MINUTE = {1: 1, 2: 20, 3: 50, 4: 100}
MANY = 300  # methods of Slack's `special` tier, for which it promises hundreds a minute
CONNECTIONS = 10  # tier 1 by the older page; ten connections may be open, so ten may be opened


@dataclass(frozen=True)
class Method:
    """A Web API method; `scope` is empty where none is needed or where it depends on the kind of conversation."""

    run: Callable[[Call], Json]
    scope: str
    token: str
    per_minute: int


METHODS: dict[str, Method] = {
    "api.test": Method(people.api_test, "", ANY, PER_MINUTE[4]),
    "auth.test": Method(people.auth_test, "", BOT, MANY),
    "apps.connections.open": Method(surfaces.open_connection, "", APP, CONNECTIONS),
    "blocks.validate": Method(surfaces.validate, "", ANY, PER_MINUTE[4]),
    "bots.info": Method(people.bot_info, "users:read", BOT, PER_MINUTE[3]),
    "chat.postMessage": Method(chat.post_message, "chat:write", BOT, MANY),
    "chat.postEphemeral": Method(chat.post_ephemeral, "chat:write", BOT, PER_MINUTE[4]),
    "chat.update": Method(chat.update, "chat:write", BOT, PER_MINUTE[3]),
    "chat.delete": Method(chat.delete, "chat:write", BOT, PER_MINUTE[3]),
    "chat.getPermalink": Method(chat.permalink, "", BOT, MANY),
    "conversations.list": Method(conversations.listed, "", BOT, PER_MINUTE[2]),
    "conversations.info": Method(conversations.info, "", BOT, PER_MINUTE[3]),
    "conversations.members": Method(conversations.members, "", BOT, PER_MINUTE[4]),
    "conversations.history": Method(conversations.history, "", BOT, PER_MINUTE[3]),
    "conversations.replies": Method(conversations.replies, "", BOT, PER_MINUTE[3]),
    "conversations.open": Method(conversations.opened, "im:write", BOT, PER_MINUTE[3]),
    "conversations.join": Method(conversations.join, "channels:join", BOT, PER_MINUTE[3]),
    "users.list": Method(people.listed, "users:read", BOT, PER_MINUTE[2]),
    "users.info": Method(people.info, "users:read", BOT, PER_MINUTE[4]),
    "users.conversations": Method(conversations.of_user, "", BOT, PER_MINUTE[3]),
    "users.lookupByEmail": Method(people.by_email, "users:read.email", BOT, PER_MINUTE[3]),
    "usergroups.list": Method(people.groups, "usergroups:read", BOT, PER_MINUTE[2]),
    "usergroups.users.list": Method(people.group_members, "usergroups:read", BOT, PER_MINUTE[2]),
    "views.open": Method(surfaces.open_view, "", BOT, PER_MINUTE[4]),
    "views.push": Method(surfaces.push_view, "", BOT, PER_MINUTE[4]),
    "views.update": Method(surfaces.update_view, "", BOT, PER_MINUTE[4]),
    "views.publish": Method(surfaces.publish_view, "", BOT, PER_MINUTE[4]),
    "files.getUploadURLExternal": Method(files.upload_url, "files:write", BOT, PER_MINUTE[4]),
    "files.completeUploadExternal": Method(files.complete, "files:write", BOT, PER_MINUTE[4]),
}
