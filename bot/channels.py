"""Slack channels by the names in the configuration."""

from __future__ import annotations

import threading
import time
from collections.abc import Collection, Iterator
from contextlib import contextmanager

from slack_sdk import WebClient
from slack_sdk.errors import SlackApiError

from bot.listing import Listing

AGAIN_S = 60.0
"""How often the list is read anew at most: for a name that is not there, or whose channel is gone."""
GONE = ("channel_not_found", "is_archived")


class Channels:
    """Channel names -> ids; read once, and again for a name that is not known or whose channel is gone."""

    def __init__(self, client: WebClient, names: Collection[str] = ()) -> None:
        """The list is read no further than until these are found, and who else is asked for."""
        types = "public_channel,private_channel"
        self._listing = Listing(client.conversations_list, "channels", "is_archived", types=types)
        self._names = frozenset(map(_plain, names))
        self._ids: dict[str, str] = {}
        self._doubted: set[str] = set()
        self._read_at = float("-inf")
        self._one_at_a_time = threading.Lock()

    def id_of(self, name: str) -> str:
        """The id of a channel.

        Raises:
            LookupError: where the bot sees no such channel.
            Later: where Slack wants to be asked less often.
        """
        wanted = _plain(name)
        if self._is_due(wanted):
            with self._one_at_a_time:
                if self._is_due(wanted):
                    self._read({wanted})
        if wanted in self._ids:
            return self._ids[wanted]
        raise LookupError(f"the bot sees no channel {name}: invite it there, or name another in the configuration")

    @contextmanager
    def at(self, name: str) -> Iterator[str]:
        """The id of a channel; where Slack says in this block that it is gone, the next one reads anew whose the name
        is now.

        Raises:
            LookupError: where the bot sees no such channel.
            Later: where Slack wants to be asked less often.
        """
        where = self.id_of(name)
        try:
            yield where
        except SlackApiError as error:
            if error.response["error"] in GONE:
                self._doubted.add(_plain(name))
            raise

    def mention(self, name: str) -> str:
        """A link to a channel where it is known, else its name; never waits for Slack."""
        known = self._ids.get(_plain(name))
        return f"<#{known}>" if known else f"#{_plain(name)}"

    def read(self) -> None:
        """Reads the channels of the configuration.

        Raises:
            Later, SlackApiError, OSError, HTTPException: where it cannot be read to its end; what was read is known.
        """
        with self._one_at_a_time:
            self._read(frozenset())

    def _is_due(self, name: str) -> bool:
        is_sure = name in self._ids and name not in self._doubted
        return not is_sure and time.monotonic() - self._read_at > AGAIN_S

    def _read(self, names: Collection[str]) -> None:
        sure = self._ids.keys() - self._doubted
        try:
            seen = self._listing.look_up({*self._names, *names} - sure)
        except Exception:
            self._ids |= self._listing.found
            self._doubted -= self._listing.found.keys()
            raise
        self._ids = {name: self._ids[name] for name in sure} | seen
        self._doubted.clear()
        self._read_at = time.monotonic()


def _plain(name: str) -> str:
    return name.removeprefix("#")
