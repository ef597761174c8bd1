"""What Slack allows in blocks, as tables: fields, limits, and where each block and element may stand."""

from typing import Any

from bot.sandbox.charts import CHART
from bot.sandbox.elements import ELEMENTS, HTTP_URL, plain, text
from bot.sandbox.schema import (
    Array,
    Boolean,
    ByType,
    Fault,
    Faults,
    Integer,
    Nullable,
    Number,
    Record,
    Rule,
    Spec,
    String,
    at_least_one,
    exactly_one,
)

IN_SECTION = (
    "button",
    "overflow",
    "static_select",
    "multi_static_select",
    "users_select",
    "multi_users_select",
    "conversations_select",
    "radio_buttons",
    "checkboxes",
    "datepicker",
    "timepicker",
)
IN_ACTIONS = tuple(name for name in IN_SECTION if not name.startswith("multi_"))
IN_INPUT = (*(name for name in IN_SECTION if name not in ("button", "overflow")), "plain_text_input", "number_input")

IMAGE_FIELDS: dict[str, Spec] = {
    "image_url": String(3_000, pattern=HTTP_URL),
    "slack_file": Record({"id": String(255), "url": String(3_000)}, (), (exactly_one("id", "url"),)),
    "alt_text": String(2_000),
}
IMAGE_SOURCE = exactly_one("image_url", "slack_file")
IMAGE = Record(IMAGE_FIELDS, ("alt_text",), (IMAGE_SOURCE,))

RICH_STYLE = Record({name: Boolean() for name in ("bold", "italic", "strike", "code", "underline")})
INLINE = ByType(
    {
        "text": Record({"text": String(), "style": RICH_STYLE}, ("text",)),
        "link": Record({"url": String(3_000), "text": String(), "unsafe": Boolean(), "style": RICH_STYLE}, ("url",)),
        "emoji": Record({"name": String(), "unicode": String(), "style": RICH_STYLE}, ("name",)),
        "user": Record({"user_id": String(), "style": RICH_STYLE}, ("user_id",)),
        "channel": Record({"channel_id": String(), "style": RICH_STYLE}, ("channel_id",)),
        "usergroup": Record({"usergroup_id": String(), "style": RICH_STYLE}, ("usergroup_id",)),
        "broadcast": Record({"range": String(one_of=("here", "channel", "everyone"))}, ("range",)),
        "color": Record({"value": String(pattern=r"#[0-9a-fA-F]{6}")}, ("value",)),
        "date": Record(
            {"timestamp": Integer(0, 2**53), "format": String(), "url": String(3_000), "fallback": String()},
            ("timestamp", "format"),
        ),
    }
)
RICH_BORDER = Integer(0, 1)
RICH_SECTION = Record({"elements": Array(INLINE)}, ("elements",))
PREFORMATTED = Record({"elements": Array(INLINE), "border": RICH_BORDER, "language": String()}, ("elements",))
QUOTE = Record({"elements": Array(INLINE), "border": RICH_BORDER}, ("elements",))
RICH_LIST = Record(
    {
        "style": String(one_of=("bullet", "ordered")),
        "elements": Array(ByType({"rich_text_section": RICH_SECTION})),
        "indent": Integer(0, 8),
        "offset": Integer(0, 10_000),
        "border": RICH_BORDER,
    },
    ("style", "elements"),
)
RICH_ELEMENTS = Array(
    ByType(
        {
            "rich_text_section": RICH_SECTION,
            "rich_text_list": RICH_LIST,
            "rich_text_preformatted": PREFORMATTED,
            "rich_text_quote": QUOTE,
        }
    )
)
RAW_TEXT = Record({"text": String()}, ("text",))
RICH_TEXT = Record({"elements": RICH_ELEMENTS}, ("elements",))
RAW_NUMBER = Record({"value": Number(), "text": String()}, ("value", "text"))
CELL = ByType({"raw_text": RAW_TEXT, "rich_text": RICH_TEXT})
DATA_CELL = ByType({"raw_text": RAW_TEXT, "rich_text": RICH_TEXT, "raw_number": RAW_NUMBER})
COLUMN = Record({"align": String(one_of=("left", "center", "right")), "is_wrapped": Boolean()})
TABLE_ROWS = 100
TABLE_COLUMNS = 20


def rows_are_even(block: dict[str, Any], at: str) -> Faults:
    """A rule: every row of a table has as many cells as the first, and settings for no more columns."""
    width = len(block["rows"][0])
    for number, row in enumerate(block["rows"]):
        if len(row) != width:
            yield Fault(f"must have {width} cells like the first row", f"{at}/rows/{number}")
    if len(block.get("column_settings", [])) > width:
        yield Fault(f"no more than {width} items allowed", f"{at}/column_settings")


def header_is_plain(block: dict[str, Any], at: str) -> Faults:
    """A rule: the first row of a data table has no rich text."""
    for number, cell in enumerate(block["rows"][0]):
        if cell["type"] == "rich_text":
            yield Fault("unsupported type: rich_text", f"{at}/rows/0/{number}/type")


def row_header_is_a_column(block: dict[str, Any], at: str) -> Faults:
    """A rule: the column that names the rows is there."""
    if block.get("row_header_column_index", 0) >= len(block["rows"][0]):
        yield Fault(f"must be less than {len(block['rows'][0])}", f"{at}/row_header_column_index")


def action_ids_differ(block: dict[str, Any], at: str) -> Faults:
    """A rule: no action_id twice within a block."""
    seen: set[str] = set()
    for number, each in enumerate(block["elements"]):
        action_id = each.get("action_id")
        if action_id in seen:
            yield Fault(f"`action_id` {action_id} already exists", f"{at}/elements/{number}/action_id")
        seen |= {action_id} if action_id else set()


def only(names: tuple[str, ...]) -> dict[str, Record]:
    """These elements."""
    return {name: ELEMENTS[name] for name in names}


def block(required: tuple[str, ...] = (), rules: tuple[Rule, ...] = (), /, **fields: Spec) -> Record:
    """A block with a block_id and these fields."""
    return Record({"block_id": String(255), **fields}, required, rules)


MESSAGE = "message"
MODAL = "modal"
HOME = "home"
EVERYWHERE = frozenset({MESSAGE, MODAL, HOME})

# type -> what it must look like
BLOCKS: dict[str, Record] = {
    "section": block(
        (),
        (at_least_one("text", "fields"),),
        text=text(3_000),
        fields=Array(text(2_000), 10),
        accessory=ByType({**only(IN_SECTION), "image": IMAGE}),
        expand=Boolean(),
    ),
    "header": block(("text",), text=plain(150)),
    "context": block(("elements",), elements=Array(ByType({**text(3_000).types, "image": IMAGE}), 10)),
    "actions": block(("elements",), (action_ids_differ,), elements=Array(ByType(only(IN_ACTIONS)), 25)),
    "divider": block(),
    "input": block(
        ("label", "element"),
        label=plain(2_000),
        element=ByType(only(IN_INPUT)),
        hint=plain(2_000),
        optional=Boolean(),
        dispatch_action=Boolean(),
    ),
    "image": block(("alt_text",), (IMAGE_SOURCE,), title=plain(2_000), **IMAGE_FIELDS),
    "rich_text": block(("elements",), elements=RICH_ELEMENTS),
    "markdown": block(("text",), text=String(12_000, filled=True)),
    "table": block(
        ("rows",),
        (rows_are_even,),
        rows=Array(Array(CELL, TABLE_COLUMNS), TABLE_ROWS),
        column_settings=Array(Nullable(COLUMN), TABLE_COLUMNS),
    ),
    "data_table": block(
        ("rows", "caption"),
        (rows_are_even, header_is_plain, row_header_is_a_column),
        rows=Array(Array(DATA_CELL, TABLE_COLUMNS), 1 + TABLE_ROWS, least=2),
        caption=String(filled=True),
        page_size=Integer(1, 100),
        row_header_column_index=Integer(0, TABLE_COLUMNS - 1),
    ),
    "data_visualization": block(("title", "chart"), title=String(50, filled=True), chart=CHART),
}
# type -> the surfaces it may stand on, if not everywhere
SURFACES: dict[str, frozenset[str]] = {
    "markdown": frozenset({MESSAGE}),
    "table": frozenset({MESSAGE}),
    "data_table": frozenset({MESSAGE}),
    "data_visualization": frozenset({MESSAGE}),
}
NEW_BLOCKS = ("data_table", "data_visualization")
"""Not every workspace takes these: Slack hands new blocks out bit by bit."""
MOST_BLOCKS = {MESSAGE: 50, MODAL: 100, HOME: 100}


def blocks_on(surface: str) -> Array:
    """The blocks that may stand on this surface."""
    allowed = {name: spec for name, spec in BLOCKS.items() if surface in SURFACES.get(name, EVERYWHERE)}
    return Array(ByType(allowed), MOST_BLOCKS[surface], least=0 if surface == MESSAGE else 1)


VIEW_FIELDS: dict[str, Spec] = {
    "private_metadata": String(3_000, least=0),
    "callback_id": String(255, least=0),
    "external_id": String(255, least=0),
}
VIEWS: dict[str, Record] = {
    MODAL: Record(
        {
            "title": plain(24),
            "submit": plain(24),
            "close": plain(24),
            "blocks": blocks_on(MODAL),
            "clear_on_close": Boolean(),
            "notify_on_close": Boolean(),
            "submit_disabled": Boolean(),
            **VIEW_FIELDS,
        },
        ("title", "blocks"),
    ),
    HOME: Record({"blocks": blocks_on(HOME), **VIEW_FIELDS}, ("blocks",)),
}
MESSAGE_BLOCKS = blocks_on(MESSAGE)
