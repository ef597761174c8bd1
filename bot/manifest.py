"""The Slack app manifest: exactly the scopes, events and commands that the bot uses."""

from __future__ import annotations

from typing import Any

SCOPES = (
    "channels:history",  # finds a message again that was posted when the connection broke
    "channels:read",  # names of channels -> ids
    "chat:write",
    "commands",
    "files:write",  # charts as pictures where a workspace takes no charts in messages
    "groups:history",  # the same two for private channels
    "groups:read",
    "im:history",  # finds a direct message again, as in channels
    "im:write",  # direct messages: to those on call, and charts for somebody where the bot is not in the channel
    "usergroups:read",  # members of approver groups
    "users:read",  # handles of approvers -> ids; whether who decides is a guest, a bot or of another workspace
)

HINT = "status EXPERIMENT · start · increase EXPERIMENT · help"


def manifest(command: str = "/rollout", *, request_url: str | None = None, hint: str = HINT) -> dict[str, Any]:
    """The manifest for Socket Mode, or for signed HTTP requests to `request_url`."""
    at = {"url": request_url} if request_url else {}
    return {
        "_metadata": {"major_version": 2},
        "display_information": {
            "name": "Promotion Bot",
            "description": "Takes models from trained to production, with people approving.",
        },
        "features": {
            "app_home": {
                "home_tab_enabled": True,
                "messages_tab_enabled": True,
                "messages_tab_read_only_enabled": True,
            },
            "bot_user": {"display_name": "Promotion Bot", "always_online": True},
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
