"""Slack's lists of channels and people, which may be many thousands long: ids by name, read page by page."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection
from typing import Any

from slack_sdk.errors import SlackApiError
from slack_sdk.web import SlackResponse

from core.outbox import Later

PAGE = 999
"""The most that Slack gives of a list at once. It gives some twenty pages a minute."""
PASSING = ("ratelimited", "internal_error", "fatal_error", "service_unavailable", "request_timeout")
"""What Slack says where the same may succeed in a while, besides answers of 5xx."""


def is_passing(error: SlackApiError) -> bool:
    """Whether Slack asks for patience or has trouble of its own, and refuses nothing."""
    return error.response["error"] in PASSING or error.response.status_code >= 500


class Listing:
    """Ids by name, and by id, from one list.

    A reading that breaks off is gone on with from there, so that a list of more pages than Slack gives in a minute is
    read in parts.
    """

    def __init__(self, ask: Callable[..., SlackResponse], key: str, gone: str, **about: Any) -> None:
        """`key` is where a page has what it lists; whoever is `gone` gives a name away to whoever has it now."""
        self._ask, self._about = ask, about
        self._key, self._gone = key, gone
        self._not_before = float("-inf")
        self._begin()

    def _begin(self) -> None:
        self._cursor = ""
        self.found: dict[str, str] = {}
        self._past: dict[str, str] = {}

    def look_up(self, wanted: Collection[str]) -> dict[str, str]:
        """Reads until all who are wanted are found, or to the end; returns whoever was seen.

        Raises:
            Later: where Slack wants to be asked less often, with when to come back.
            SlackApiError, OSError, HTTPException: where it cannot be read. `found` has whoever was seen so far.
        """
        while not self.found.keys() >= set(wanted):
            self._read_page()
            if not self._cursor:
                break
        seen = {**self._past, **self.found}
        self._begin()
        return seen

    def _read_page(self) -> None:
        left_s = self._not_before - time.monotonic()
        if left_s > 0:
            raise Later("Slack wants to be asked less often", left_s)
        try:
            page = self._ask(limit=PAGE, cursor=self._cursor, **self._about)
        except SlackApiError as error:
            self._give_up(error)
            raise
        for one in page[self._key]:
            known = self._past if one.get(self._gone) else self.found
            known |= {one["name"]: one["id"], one["id"]: one["id"]}
        self._cursor = (page.get("response_metadata") or {}).get("next_cursor") or ""

    def _give_up(self, error: SlackApiError) -> None:
        if error.response["error"] == "invalid_cursor":  # it is too old by now
            self._begin()
        if error.response["error"] == "ratelimited":
            asked_s = float(error.response.headers.get("Retry-After", 1))
            self._not_before = time.monotonic() + asked_s
            raise Later("Slack wants to be asked less often", asked_s) from error
