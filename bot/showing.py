"""Showing charts: as blocks where the workspace takes them, else as pictures, else in words; none is ever lost."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any

from slack_sdk import WebClient
from slack_sdk.errors import SlackClientError

from bot import tell
from bot.abilities import Abilities
from bot.blocks import Answer, context, person, section
from bot.tell import LOST, UNKNOWN_BLOCKS

log = logging.getLogger(__name__)


def privately(
    client: WebClient, able: Abilities, where: Mapping[str, str], answer: Answer, *, replaces: bool = False
) -> None:
    """Answers in private, with charts; pictures cannot be private, so they go to the channel that was asked in.

    Where the bot is not in that channel they go to the person; where no picture can be uploaded, words remain.
    """
    url = where["response_url"]
    if answer.pictures is None:
        tell.privately(client, url, answer, replaces=replaces)
        return
    if able.has_charts:
        why = tell.privately(client, url, answer)
        if why is None or UNKNOWN_BLOCKS not in why:
            return
        able.refused()
    comment = f"{person(where['user'])} asked for this. {answer.text}"
    place = uploaded(client, (where["channel"], where["user"]), answer, comment)
    tell.privately(client, url, _instead(answer, place))


def _instead(answer: Answer, place: str | None) -> Answer:
    """What the person is told instead of charts."""
    if place is None:
        return Answer(answer.text, [*answer.words, context("Slack takes neither charts nor pictures from me here.")])
    where = "above" if place[:1] != "D" else "in our direct messages"
    told = f"Slack takes no charts here, so they are pictures {where}."
    return Answer(told, [section(told)])


def uploaded(client: WebClient, places: tuple[str, ...], answer: Answer, comment: str) -> str | None:
    """Posts the pictures of an answer in the first of the places (channels or people) that takes them: which it was.

    None where none took them, or they could not be drawn.
    """
    files = _drawn(answer)
    for place in places if files else ():
        try:
            channel = place if place[:1] not in ("U", "W") else _direct(client, place)
            client.files_upload_v2(file_uploads=files, channel=channel, initial_comment=comment)
        except (SlackClientError, *LOST) as error:
            log.info("pictures could not be posted in %s: %s", place, tell.why(error))
            continue
        return channel
    return None


def _drawn(answer: Answer) -> list[dict[str, Any]]:
    """The pictures as the client takes them; none where they cannot be drawn, since words are better than nothing."""
    try:
        pictures = answer.pictures() if answer.pictures else ()
    except Exception:
        log.exception("a picture could not be drawn")
        return []
    return [{"filename": p.name, "title": p.title, "content": p.content, "alt_txt": p.alt} for p in pictures]


def _direct(client: WebClient, user: str) -> str:
    return str(client.conversations_open(users=user)["channel"]["id"])
