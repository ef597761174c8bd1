"""The Slack app manifest: exactly the scopes, events and commands that the bot uses."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

SCOPES: Mapping[str, str] = {
    "channels:history": "a message that was posted while the connection broke is not found again",
    "channels:read": "channels are not found by their names",
    "chat:write": "nothing can be posted",
    "commands": "the slash command does not come through",
    "files:write": "no pictures of charts where the workspace takes no charts in messages",
    "groups:history": "as channels:history, in private channels",
    "groups:read": "as channels:read, for private channels",
    "im:history": "a direct message may come twice",
    "im:write": "no direct messages: to those on call, nor charts where the bot is not in the channel",
    "usergroups:read": "members of user groups are not known, so only people who are listed themselves count",
    "users:read": "handles are not found, and whoever decides may be a guest or a bot",
}
"""Each scope, and what is missing without it."""

NAME = "Promotion Bot"
HINT = "status EXPERIMENT · start · increase EXPERIMENT · help"


def manifest(command: str = "/rollout", *, request_url: str | None = None, hint: str = HINT) -> dict[str, Any]:
    """The manifest for Socket Mode, or for signed HTTP requests to `request_url`."""
    at = {"url": request_url} if request_url else {}
    return {
        "_metadata": {"major_version": 2},
        "display_information": {
            "name": NAME,
            "description": "Takes models from trained to production, with people approving.",
        },
        "features": {
            "app_home": {
                "home_tab_enabled": True,
                "messages_tab_enabled": True,
                "messages_tab_read_only_enabled": True,
            },
            "bot_user": {"display_name": NAME, "always_online": True},
            "slash_commands": [
                {
                    "command": command,
                    "description": "Promote, watch and roll back models",
                    "usage_hint": hint,
                    "should_escape": False,
                    **at,
                }
            ],
        },
        "oauth_config": {"scopes": {"bot": list(SCOPES)}},
        "settings": {
            "event_subscriptions": {
                "bot_events": ["app_home_opened"],
                **({"request_url": request_url} if request_url else {}),
            },
            "interactivity": {"is_enabled": True, **({"request_url": request_url} if request_url else {})},
            "org_deploy_enabled": False,
            "socket_mode_enabled": request_url is None,
            "token_rotation_enabled": False,
        },
    }
