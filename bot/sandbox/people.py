"""users.*, usergroups.*, bots.* and auth.*: who is in the workspace."""

from bot.sandbox.call import Call
from bot.sandbox.errors import SlackError
from bot.sandbox.messages import bot_profile
from bot.sandbox.store import Json
from bot.sandbox.workspace import SLACKBOT, Workspace


def auth_test(call: Call) -> Json:
    """auth.test"""
    ws = call.ws
    return {
        "url": f"{ws.url}/",
        "team": ws.team_name,
        "team_id": ws.team_id,
        "user": (ws.user(ws.bot_user_id) or {})["handle"],
        "user_id": ws.bot_user_id,
        "bot_id": ws.bot_id,
        "is_enterprise_install": False,
    }


def api_test(call: Call) -> Json:
    """api.test: sends the arguments back, and fails if told to"""
    if call.has("error"):
        raise SlackError(call.text("error"), args=call.args)
    return {"args": call.args} if call.args else {}


def listed(call: Call) -> Json:
    """users.list"""
    found, cursor = call.page(call.ws.users(), 1_000, 1_000)
    return {
        "members": [as_slack(call.ws, user) for user in found],
        "cache_ts": int(call.ws.clock()),
        "response_metadata": {"next_cursor": cursor},
    }


def info(call: Call) -> Json:
    """users.info"""
    return {"user": as_slack(call.ws, call.user())}


def by_email(call: Call) -> Json:
    """users.lookupByEmail"""
    email = call.required("email").lower()
    for user in call.ws.users():
        if user["email"].lower() == email and not user["deleted"] and not user["is_bot"]:
            return {"user": as_slack(call.ws, user)}
    raise SlackError("users_not_found")


def groups(call: Call) -> Json:
    """usergroups.list"""
    found = [
        {
            "id": group["id"],
            "team_id": call.ws.team_id,
            "is_usergroup": True,
            "name": group["handle"],
            "handle": group["handle"],
            "description": "",
            "date_delete": 0,
            **({"users": group["users"]} if call.flag("include_users") else {}),
            **({"user_count": len(group["users"])} if call.flag("include_count") else {}),
        }
        for group in call.ws.groups()
    ]
    return {"usergroups": found}


def group_members(call: Call) -> Json:
    """usergroups.users.list, without people who have left"""
    group = call.ws.store.get("group", call.required("usergroup"))
    if not group:
        raise SlackError("no_such_subteam")
    gone = {user["id"] for user in call.ws.users() if user["deleted"]}
    with_gone = call.flag("include_disabled")
    return {"users": [user for user in group["users"] if with_gone or user not in gone]}


def bot_info(call: Call) -> Json:
    """bots.info"""
    if call.has("bot") and call.text("bot") != call.ws.bot_id:
        raise SlackError("bot_not_found")
    return {"bot": bot_profile(call.ws) | {"updated": 0, "icons": {}}}


def as_slack(ws: Workspace, user: Json) -> Json:
    """The person as the Web API shows them; the e-mail only with its scope."""
    profile = {
        "real_name": user["name"],
        "display_name": user["handle"],
        "title": user["title"],
        "team": ws.team_id,
    }
    if "users:read.email" in ws.manifest.scopes and not user["is_bot"]:
        profile["email"] = user["email"]
    return {
        "id": user["id"],
        "team_id": ws.team_id,
        "name": user["handle"],
        "real_name": user["name"],
        "deleted": user["deleted"],
        "color": user["colour"].lstrip("#"),
        "tz": user["tz"],
        "profile": profile,
        "is_admin": False,
        "is_owner": False,
        "is_restricted": user["is_restricted"],
        "is_ultra_restricted": False,
        "is_bot": user["is_bot"] and user["id"] != SLACKBOT,  # Slack says of its own bot that it is none
        "is_app_user": False,
        "updated": 0,
    }
