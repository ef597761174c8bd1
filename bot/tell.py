"""Telling people what came of a click or a command, after its acknowledgement: in private, or in a view."""

from __future__ import annotations

import logging
import time
from http.client import HTTPException
from typing import Any

from slack_sdk import WebClient
from slack_sdk.errors import SlackApiError
from slack_sdk.webhook import WebhookClient

from bot.blocks import Answer, Block

log = logging.getLogger(__name__)

PAUSES_S = (0.5, 2.0)
"""Between the attempts to answer: an answer that is seen twice is better than none."""
UNKNOWN_BLOCKS = "invalid_blocks"
"""Slack's name for blocks that it does not take, or not in this workspace."""
LOST = (OSError, HTTPException)
"""What a call raises whose answer did not arrive."""


def message(answer: Answer) -> dict[str, Any]:
    """An answer as Slack takes it."""
    return {"text": answer.text, "blocks": list(answer.blocks)}


def privately(client: WebClient, url: str, answer: Answer, *, replaces: bool = False) -> str | None:
    """Answers at the address that came with a click or a command, which only that person sees; why not, if it failed.

    Blocks that the workspace does not know are not sent again.
    """
    hook = WebhookClient(url, timeout=client.timeout, proxy=client.proxy, ssl=client.ssl, retry_handlers=[])
    body = {**message(answer), "response_type": "ephemeral", "replace_original": replaces}
    for pause_s in (*PAUSES_S, None):
        why = _posted(hook, body)
        if why is None or UNKNOWN_BLOCKS in why:
            return why
        if pause_s is not None:
            time.sleep(pause_s)
    log.warning("an answer could not be delivered: %s", why)
    return why


def _posted(hook: WebhookClient, body: dict[str, Any]) -> str | None:
    """Why a message was not taken; None where it was."""
    try:
        answered = hook.send_dict(body)
    except LOST as error:
        return type(error).__name__
    is_taken = answered.status_code == 200 and '"ok":false' not in answered.body.replace(" ", "")
    return None if is_taken else f"{answered.status_code} {answered.body[:200]}"


def open_view(client: WebClient, trigger_id: str, view: Block) -> str | None:
    """Opens a modal and returns its id; None where Slack does not open it."""
    try:
        return str(client.views_open(trigger_id=trigger_id, view=view)["view"]["id"])
    except (SlackApiError, *LOST) as error:
        log.warning("a form could not be opened: %s", why(error))
        return None


def update_view(client: WebClient, view_id: str, view: Block) -> bool:
    """Shows a view in place of another; False where that was closed meanwhile."""
    try:
        client.views_update(view_id=view_id, view=view)
    except (SlackApiError, *LOST) as error:
        log.info("a form could not be updated: %s", why(error))
        return False
    return True


def publish(client: WebClient, user: str, view: Block) -> None:
    """Shows a person's Home tab."""
    client.views_publish(user_id=user, view=view)


def why(error: Exception) -> str:
    """What went wrong with a call of Slack's, in a word."""
    return str(error.response["error"]) if isinstance(error, SlackApiError) else type(error).__name__
