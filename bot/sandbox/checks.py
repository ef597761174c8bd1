"""Refuses blocks and views that Slack would refuse, by the same names and with a pointer to each fault."""

import json
from collections.abc import Iterator
from typing import Any

from bot.sandbox.blockkit import HOME, MESSAGE, MESSAGE_BLOCKS, MODAL, NEW_BLOCKS, VIEWS
from bot.sandbox.errors import SlackError
from bot.sandbox.schema import ByType, Fault, Faults
from bot.sandbox.store import Json

MOST_MARKDOWN = 12_000  # of all markdown blocks of a message together
MOST_IN_TABLES = 10_000
MOST_CHARTS = 2  # undocumented; seen by vercel/chat#696
MOST_IN_BLOCKS = 13_200  # undocumented; seen in bolt-js#2509
MOST_IN_VIEW = 250_000
MOST_METADATA = 8_000


def check_blocks(blocks: Any, new_blocks: bool = True) -> list[Json]:
    """The blocks of a message, if Slack would take them; `new_blocks`: those it hands out bit by bit as well."""
    if not isinstance(blocks, list):
        raise SlackError("invalid_blocks_format")
    refuse("invalid_blocks", message_faults(blocks) or ([] if new_blocks else list(_unknown_here(blocks))))
    if len(json.dumps(blocks, separators=(",", ":"), ensure_ascii=False)) > MOST_IN_BLOCKS:
        raise SlackError("msg_blocks_too_long")
    return blocks


def check_view(view: Any, surface: str) -> Json:
    """The view, if Slack would take it on this surface (`modal` or `home`)."""
    if isinstance(view, dict) and len(json.dumps(view).encode()) > MOST_IN_VIEW:
        raise SlackError("view_too_large")
    refuse("invalid_arguments", view_faults(view, (surface,)))
    return dict(view)


def check_metadata(metadata: Any) -> Json:
    """The metadata of a message, if Slack would take it; an empty object removes it."""
    if not isinstance(metadata, dict):
        raise SlackError("invalid_metadata_format")
    if not metadata:
        return {}
    kind, payload = metadata.get("event_type"), metadata.get("event_payload")
    if set(metadata) != {"event_type", "event_payload"} or not isinstance(kind, str) or not kind:
        raise SlackError("invalid_metadata_schema")
    if not isinstance(payload, dict):
        raise SlackError("invalid_metadata_schema")
    if len(json.dumps(metadata)) > MOST_METADATA:
        raise SlackError("metadata_too_large")
    return metadata


def refuse(error: str, faults: list[Fault]) -> None:
    """Raise Slack's error if there is any fault."""
    if faults:
        lines = [str(fault) for fault in faults]
        raise SlackError(error, lines, errors=lines)


def message_faults(blocks: list[Any]) -> list[Fault]:
    """Everything wrong with the blocks of a message."""
    return list(MESSAGE_BLOCKS.faults(blocks, "/blocks")) or [
        *_duplicate_ids(blocks, "/blocks"),
        *_too_much_markdown(blocks),
        *_too_much_table(blocks),
        *_too_many_charts(blocks),
        *_several_in_focus(blocks, "/blocks"),
        *_response_urls(blocks, MESSAGE, "/blocks"),
    ]


def view_faults(view: Any, surfaces: tuple[str, ...] = (MODAL, HOME)) -> list[Fault]:
    """Everything wrong with a view."""
    found = list(ByType({surface: VIEWS[surface] for surface in surfaces}).faults(view, "/view"))
    if found:
        return found
    at = "/view/blocks"
    return [
        *_duplicate_ids(view["blocks"], at),
        *_several_in_focus(view["blocks"], at),
        *_response_urls(view["blocks"], view["type"], at),
        *_missing_submit(view),
    ]


def _duplicate_ids(blocks: list[Json], at: str) -> Faults:
    seen: set[str] = set()
    for number, block in enumerate(blocks):
        block_id = block.get("block_id")
        if block_id in seen:
            yield Fault(f"`block_id` {block_id} already exists", f"{at}/{number}/block_id")
        seen |= {block_id} if block_id else set()


def _too_much_markdown(blocks: list[Json]) -> Faults:
    length = sum(len(block["text"]) for block in blocks if block["type"] == "markdown")
    if length > MOST_MARKDOWN:
        yield Fault(f"markdown blocks must have less than {MOST_MARKDOWN + 1} characters together", "/blocks")


def _too_much_table(blocks: list[Json]) -> Faults:
    tables = [number for number, block in enumerate(blocks) if block["type"] in ("table", "data_table")]
    for number in tables[1:]:
        yield Fault("only one table allowed", f"/blocks/{number}")
    for number in tables[:1]:
        if sum(len(each) for each in _texts(blocks[number]["rows"])) > MOST_IN_TABLES:
            yield Fault(f"must be less than {MOST_IN_TABLES + 1} characters", f"/blocks/{number}/rows")


def _too_many_charts(blocks: list[Json]) -> Faults:
    charts = [number for number, block in enumerate(blocks) if block["type"] == "data_visualization"]
    for number in charts[MOST_CHARTS:]:
        yield Fault(f"only {MOST_CHARTS} charts allowed", f"/blocks/{number}")


def _unknown_here(blocks: list[Json]) -> Faults:
    for number, block in enumerate(blocks):
        if block["type"] in NEW_BLOCKS:
            yield Fault(f"unsupported type: {block['type']}", f"/blocks/{number}/type")


def _several_in_focus(blocks: list[Json], at: str) -> Faults:
    found = [place for place, element in _elements(blocks, at) if element.get("focus_on_load")]
    for place in found[1:]:
        yield Fault("only one element may have focus_on_load", f"{place}/focus_on_load")


def _response_urls(blocks: list[Json], surface: str, at: str) -> Faults:
    for place, element in _elements(blocks, at):
        if element.get("response_url_enabled") and not (surface == MODAL and place.endswith("/element")):
            yield Fault("response_url_enabled is for input blocks of modals", f"{place}/response_url_enabled")


def _missing_submit(view: Json) -> Faults:
    if view["type"] == MODAL and "submit" not in view and any(block["type"] == "input" for block in view["blocks"]):
        yield Fault("`submit` is required when a view has input blocks", "/view/submit")


def _elements(blocks: list[Json], at: str) -> Iterator[tuple[str, Json]]:
    for number, block in enumerate(blocks):
        place = f"{at}/{number}"
        for key in ("element", "accessory"):
            if key in block:
                yield f"{place}/{key}", block[key]
        if block["type"] == "actions":
            yield from ((f"{place}/elements/{index}", each) for index, each in enumerate(block["elements"]))


def _texts(value: Any) -> Iterator[str]:
    if isinstance(value, dict):
        yield from [value["text"]] if isinstance(value.get("text"), str) else []
        yield from (text for item in value.values() if isinstance(item, (dict, list)) for text in _texts(item))
    elif isinstance(value, list):
        yield from (text for item in value for text in _texts(item))
