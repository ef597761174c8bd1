"""Every limit on blocks and views: what is just allowed passes, one more is refused by name and with its pointer."""

from collections.abc import Callable
from typing import Any

import pytest
from slack_sdk.errors import SlackObjectFormationError
from slack_sdk.models import blocks as sdk
from slack_sdk.models.views import View

from bot.sandbox.checks import check_blocks, check_metadata, check_view, message_faults
from bot.sandbox.errors import SlackError

Json = dict[str, Any]


def plain(length: int) -> Json:
    return {"type": "plain_text", "text": "x" * length}


def mrkdwn(length: int) -> Json:
    return {"type": "mrkdwn", "text": "x" * length}


def option(number: int = 0, text: int = 1, value: int = 0) -> Json:
    return {"text": plain(text), "value": "v" * value or f"v{number}"}


def options(count: int) -> list[Json]:
    return [option(number) for number in range(count)]


def button(**more: Any) -> Json:
    return {"type": "button", "action_id": "a", "text": plain(1), **more}


def buttons(count: int) -> list[Json]:
    return [button(action_id=f"a{number}") for number in range(count)]


def actions(*elements: Json) -> Json:
    return {"type": "actions", "elements": list(elements)}


def asks(element: Json, **more: Any) -> Json:
    return {"type": "input", "label": plain(1), "element": {"action_id": "a", **element}, **more}


def confirm(**more: Any) -> Json:
    return button(confirm={"title": plain(1), "text": plain(1), "confirm": plain(1), "deny": plain(1), **more})


def select(**more: Any) -> Json:
    return {"type": "static_select", "action_id": "a", **more}


def picture(**more: Any) -> Json:
    return {"type": "image", "image_url": "https://x.example/a.png", "alt_text": "a", **more}


def table(rows: int, columns: int) -> Json:
    return {"type": "table", "rows": [[{"type": "raw_text", "text": "x"}] * columns] * rows}


def data_table(height: int, columns: int = 1, **more: Any) -> Json:
    return table(height, columns) | {"type": "data_table", "caption": "c"} | more


def chart(categories: int = 1, names: list[str] | None = None, axes: Json | None = None, **more: Any) -> Json:
    labels = [f"c{number}" for number in range(categories)]
    points = [{"label": label, "value": 1.5} for label in labels]
    series = [{"name": name, "data": points} for name in names or ["s"]]
    drawn = {"type": "line", "series": series, "axis_config": {"categories": labels, **(axes or {})}}
    return {"type": "data_visualization", "title": "t", "chart": drawn, **more}


def charted(kind: str = "line", labels: tuple[str, ...] = ("c",), values: tuple[Any, ...] = (1,), **more: Any) -> Json:
    """A chart of one category `c` whose series has these points."""
    points = [{"label": label, "value": value} for label, value in zip(labels, values, strict=True)]
    drawn = {"type": kind, "series": [{"name": "s", "data": points}], "axis_config": {"categories": ["c"]}, **more}
    return {"type": "data_visualization", "title": "t", "chart": drawn}


def pie(count: int, value: float = 1, label: str = "") -> Json:
    segments = [{"label": label or f"s{number}", "value": value} for number in range(count)]
    return {"type": "data_visualization", "title": "t", "chart": {"type": "pie", "segments": segments}}


def named(length: int) -> Json:
    """A chart with a category of so many letters."""
    made = charted(labels=("x" * length,))
    made["chart"]["axis_config"]["categories"] = ["x" * length]
    return made


def section(**more: Any) -> Json:
    return {"type": "section", "text": plain(1), **more}


# what, the block for a size, the greatest size allowed, the pointer of the fault with one more
LIMITS: list[tuple[str, Callable[[int], Json], int, str]] = [
    ("section text", lambda n: section(text=mrkdwn(n)), 3_000, "/text/text"),
    ("section field", lambda n: section(fields=[mrkdwn(n)]), 2_000, "/fields/0/text"),
    ("section fields", lambda n: section(fields=[mrkdwn(1)] * n), 10, "/fields"),
    ("block_id", lambda n: section(block_id="b" * n), 255, "/block_id"),
    ("header", lambda n: {"type": "header", "text": plain(n)}, 150, "/text/text"),
    ("context elements", lambda n: {"type": "context", "elements": [mrkdwn(1)] * n}, 10, "/elements"),
    ("actions elements", lambda n: actions(*buttons(n)), 25, "/elements"),
    ("action_id", lambda n: actions(button(action_id="a" * n)), 255, "/elements/0/action_id"),
    ("button text", lambda n: actions(button(text=plain(n))), 75, "/elements/0/text/text"),
    ("button value", lambda n: actions(button(value="v" * n)), 2_000, "/elements/0/value"),
    ("button url", lambda n: actions(button(url="https://" + "x" * (n - 8))), 3_000, "/elements/0/url"),
    ("button accessibility_label", lambda n: actions(button(accessibility_label="x" * n)), 75, "/elements/0/accessib"),
    ("confirm title", lambda n: actions(confirm(title=plain(n))), 100, "/elements/0/confirm/title/text"),
    ("confirm text", lambda n: actions(confirm(text=mrkdwn(n))), 300, "/elements/0/confirm/text/text"),
    ("confirm yes", lambda n: actions(confirm(confirm=plain(n))), 30, "/elements/0/confirm/confirm/text"),
    ("confirm no", lambda n: actions(confirm(deny=plain(n))), 30, "/elements/0/confirm/deny/text"),
    ("overflow options", lambda n: actions({"type": "overflow", "options": options(n)}), 5, "/elements/0/options"),
    ("select options", lambda n: actions(select(options=options(n))), 100, "/elements/0/options"),
    ("option text", lambda n: actions(select(options=[option(text=n)])), 75, "/elements/0/options/0/text/text"),
    ("option value", lambda n: actions(select(options=[option(value=n)])), 150, "/elements/0/options/0/value"),
    (
        "option description",
        lambda n: actions(select(options=[{**option(), "description": plain(n)}])),
        75,
        "/elements/0/options/0/description/text",
    ),
    (
        "option groups",
        lambda n: actions(select(option_groups=[{"label": plain(1), "options": options(1)}] * n)),
        100,
        "/elements/0/option_groups",
    ),
    (
        "option group label",
        lambda n: actions(select(option_groups=[{"label": plain(n), "options": options(1)}])),
        75,
        "/elements/0/option_groups/0/label/text",
    ),
    (
        "placeholder",
        lambda n: actions(select(options=options(1), placeholder=plain(n))),
        150,
        "/elements/0/placeholder/text",
    ),
    ("radio options", lambda n: actions({"type": "radio_buttons", "options": options(n)}), 10, "/elements/0/options"),
    ("checkbox options", lambda n: actions({"type": "checkboxes", "options": options(n)}), 10, "/elements/0/options"),
    ("input label", lambda n: asks({"type": "plain_text_input"}, label=plain(n)), 2_000, "/label/text"),
    ("input hint", lambda n: asks({"type": "plain_text_input"}, hint=plain(n)), 2_000, "/hint/text"),
    (
        "initial_value",
        lambda n: asks({"type": "plain_text_input", "initial_value": "x" * n}),
        3_000,
        "/element/initial_value",
    ),
    ("max_length", lambda n: asks({"type": "plain_text_input", "max_length": n}), 3_000, "/element/max_length"),
    ("image url", lambda n: picture(image_url="https://" + "x" * (n - 8)), 3_000, "/image_url"),
    ("image alt_text", lambda n: picture(alt_text="x" * n), 2_000, "/alt_text"),
    ("image title", lambda n: picture(title=plain(n)), 2_000, "/title/text"),
    ("markdown", lambda n: {"type": "markdown", "text": "x" * n}, 12_000, "/text"),
    ("table rows", lambda n: table(n, 1), 100, "/rows"),
    ("table columns", lambda n: table(1, n), 20, "/rows/0"),
    ("data table rows", lambda n: data_table(n), 101, "/rows"),
    ("data table columns", lambda n: data_table(2, n), 20, "/rows/0"),
    ("data table page size", lambda n: data_table(2, page_size=n), 100, "/page_size"),
    ("chart title", lambda n: chart(title="t" * n), 50, "/title"),
    ("chart series", lambda n: chart(names=[f"s{number}" for number in range(n)]), 6, "/chart/series"),
    ("chart series name", lambda n: chart(names=["s" * n]), 20, "/chart/series/0/name"),
    ("chart points", lambda n: chart(n), 20, "/chart/series/0/data"),
    ("chart category", named, 20, "/chart/series/0/data/0/label"),
    ("chart x_label", lambda n: chart(axes={"x_label": "x" * n}), 50, "/chart/axis_config/x_label"),
    ("chart y_label", lambda n: chart(axes={"y_label": "y" * n}), 50, "/chart/axis_config/y_label"),
    ("pie segments", pie, 6, "/chart/segments"),
    ("pie label", lambda n: pie(1, label="x" * n), 20, "/chart/segments/0/label"),
]


@pytest.mark.parametrize(("block", "most", "pointer"), [limit[1:] for limit in LIMITS], ids=[row[0] for row in LIMITS])
def test_a_block_at_its_limit_passes_and_beyond_it_is_refused(
    block: Callable[[int], Json], most: int, pointer: str
) -> None:
    assert check_blocks([block(most)])
    with pytest.raises(SlackError) as refusal:
        check_blocks([block(most + 1)])
    assert refusal.value.error == "invalid_blocks"
    assert f"json-pointer:/blocks/0{pointer}" in refusal.value.extra["response_metadata"]["messages"][0]
    assert refusal.value.extra["errors"]


BASE_SECTION = {"type": "section", "text": plain(1)}
MODAL: Json = {"type": "modal", "title": plain(1), "blocks": [BASE_SECTION]}
VIEW_LIMITS: list[tuple[str, Callable[[int], Json], int, str]] = [
    ("title", lambda n: {"title": plain(n)}, 24, "/title/text"),
    ("submit", lambda n: {"submit": plain(n)}, 24, "/submit/text"),
    ("close", lambda n: {"close": plain(n)}, 24, "/close/text"),
    ("private_metadata", lambda n: {"private_metadata": "x" * n}, 3_000, "/private_metadata"),
    ("callback_id", lambda n: {"callback_id": "x" * n}, 255, "/callback_id"),
    ("external_id", lambda n: {"external_id": "x" * n}, 255, "/external_id"),
    ("blocks", lambda n: {"blocks": [BASE_SECTION] * n}, 100, "/blocks"),
]


@pytest.mark.parametrize(
    ("fields", "most", "pointer"), [limit[1:] for limit in VIEW_LIMITS], ids=[row[0] for row in VIEW_LIMITS]
)
def test_a_view_at_its_limit_passes_and_beyond_it_is_refused(
    fields: Callable[[int], Json], most: int, pointer: str
) -> None:
    assert check_view({**MODAL, **fields(most)}, "modal")
    with pytest.raises(SlackError) as refusal:
        check_view({**MODAL, **fields(most + 1)}, "modal")
    assert refusal.value.error == "invalid_arguments"
    assert f"json-pointer:/view{pointer}]" in refusal.value.extra["response_metadata"]["messages"][0]


def test_a_message_holds_fifty_blocks_and_no_more() -> None:
    assert check_blocks([{"type": "divider"}] * 50)
    with pytest.raises(SlackError, match="invalid_blocks"):
        check_blocks([{"type": "divider"}] * 51)


def test_a_message_is_refused_as_too_long_beyond_its_characters_as_a_whole() -> None:
    around = len('[{"type":"section","text":{"type":"plain_text","text":""}}]')
    each = around - 2 + 3_000
    filler = [section(text=plain(3_000))] * 4
    left = 13_200 - 2 - 4 * (each + 1) - (around - 2)
    assert check_blocks([*filler, section(text=plain(left))])
    with pytest.raises(SlackError, match="msg_blocks_too_long"):
        check_blocks([*filler, section(text=plain(left + 1))])


def test_all_markdown_of_a_message_counts_together() -> None:
    assert check_blocks([{"type": "markdown", "text": "x" * 6_000}] * 2)
    faults = message_faults([{"type": "markdown", "text": "x" * 6_001}] * 2)
    assert [fault.at for fault in faults] == ["/blocks"]


def test_a_view_of_250_kb_is_too_large() -> None:
    with pytest.raises(SlackError, match="view_too_large"):
        check_view({**MODAL, "blocks": [section(text=plain(3_000))] * 84}, "modal")
    assert check_view({**MODAL, "blocks": [section(text=plain(2_900))] * 80}, "modal")


WITHOUT_AXES = charted("bar")
del WITHOUT_AXES["chart"]["axis_config"]
RICH = [{"type": "rich_text_section", "elements": [{"type": "text", "text": "x"}]}]

# what, the blocks of a message, the pointer and a part of what is said of it
WRONG: list[tuple[str, list[Any], str, str]] = [
    ("unknown type", [{"type": "poll"}], "/blocks/0/type", "unsupported type"),
    ("no type", [{"text": plain(1)}], "/blocks/0", "missing required field: type"),
    ("not an object", ["text"], "/blocks/0", "must provide an object"),
    ("unknown key", [section(colour="red")], "/blocks/0", "invalid additional property: colour"),
    ("emoji in mrkdwn", [section(text={**mrkdwn(1), "emoji": True})], "/blocks/0/text", "invalid additional property"),
    ("empty text", [section(text=plain(0))], "/blocks/0/text/text", "more than 0"),
    ("blank text", [section(text={"type": "mrkdwn", "text": " \n"})], "/blocks/0/text/text", "more than 0"),
    ("empty section", [{"type": "section"}], "/blocks/0", "text, fields"),
    ("empty actions", [actions()], "/blocks/0/elements", "no fewer than 1"),
    ("empty options", [actions(select(options=[]))], "/blocks/0/elements/0/options", "no fewer than 1"),
    ("no options", [actions(select())], "/blocks/0/elements/0", "exactly one of"),
    ("mrkdwn header", [{"type": "header", "text": mrkdwn(1)}], "/blocks/0/text/type", "unsupported type"),
    ("mrkdwn button", [actions(button(text=mrkdwn(1)))], "/blocks/0/elements/0/text/type", "unsupported type"),
    ("style", [actions(button(style="blue"))], "/blocks/0/elements/0/style", "enum"),
    ("same block_id", [section(block_id="b"), section(block_id="b")], "/blocks/1/block_id", "already exists"),
    ("same action_id", [actions(button(), button())], "/blocks/0/elements/1/action_id", "already exists"),
    ("text input in actions", [actions({"type": "plain_text_input"})], "/blocks/0/elements/0/type", "unsupported"),
    ("button in input", [asks(button())], "/blocks/0/element/type", "unsupported"),
    ("two tables", [table(1, 1), table(1, 1)], "/blocks/1", "only one table"),
    (
        "uneven table",
        [{"type": "table", "rows": [*table(1, 2)["rows"], *table(1, 1)["rows"]]}],
        "/blocks/0/rows/1",
        "2",
    ),
    ("a table and a data table", [table(1, 1), data_table(2)], "/blocks/1", "only one table"),
    ("data table without rows", [data_table(1)], "/blocks/0/rows", "no fewer than 2"),
    (
        "data table without caption",
        [{key: value for key, value in data_table(2).items() if key != "caption"}],
        "/blocks/0",
        "missing required field: caption",
    ),
    (
        "rich text in the head",
        [data_table(2, rows=[[{"type": "rich_text", "elements": RICH}], [{"type": "raw_text", "text": "x"}]])],
        "/blocks/0/rows/0/0/type",
        "rich_text",
    ),
    (
        "row header that is not there",
        [data_table(2, row_header_column_index=1)],
        "/blocks/0/row_header_column_index",
        "less",
    ),
    (
        "number without text",
        [data_table(2, rows=[[{"type": "raw_text", "text": "x"}], [{"type": "raw_number", "value": 1}]])],
        "/blocks/0/rows/1/0",
        "missing required field: text",
    ),
    ("three charts", [chart(), chart(), chart()], "/blocks/2", "only 2 charts"),
    ("unknown kind of chart", [charted("radar")], "/blocks/0/chart/type", "unsupported type"),
    ("series of one name", [chart(names=["s", "s"])], "/blocks/0/chart/series/1", "already exists"),
    ("category left out", [charted(labels=("other",))], "/blocks/0/chart/series/0/data", "each category"),
    (
        "category twice",
        [charted(labels=("c", "c"), values=(1, 2), axis_config={"categories": ["c", "c"]})],
        "/blocks/0/chart/axis_config/categories/1",
        "already exists",
    ),
    ("text for a number", [charted(values=("1",))], "/blocks/0/chart/series/0/data/0/value", "number"),
    ("not a number", [charted(values=(float("nan"),))], "/blocks/0/chart/series/0/data/0/value", "number"),
    ("chart without axes", [WITHOUT_AXES], "/blocks/0/chart", "missing required field: axis_config"),
    ("nothing of a pie", [pie(1, 0)], "/blocks/0/chart/segments/0/value", "greater than 0"),
    ("segments of one name", [pie(2, label="x")], "/blocks/0/chart/segments/1", "already exists"),
    ("image without source", [{"type": "image", "alt_text": "a"}], "/blocks/0", "image_url, slack_file"),
    ("image by file path", [picture(image_url="file:///etc/passwd")], "/blocks/0/image_url", "format"),
    (
        "initial option not offered",
        [actions(select(options=options(2), initial_option=option(7)))],
        "/blocks/0/elements/0/initial_option",
        "must match",
    ),
    (
        "date",
        [actions({"type": "datepicker", "initial_date": "2026-13-01"})],
        "/blocks/0/elements/0/initial_date",
        "fo",
    ),
    ("time", [actions({"type": "timepicker", "initial_time": "24:00"})], "/blocks/0/elements/0/initial_time", "format"),
    (
        "number bounds",
        [asks({"type": "number_input", "is_decimal_allowed": False, "min_value": "5", "max_value": "4"})],
        "/blocks/0/element/max_value",
        "less than",
    ),
    ("a bool for a string", [section(block_id=True)], "/blocks/0/block_id", "must provide a string"),
    (
        "response_url in a message",
        [asks({"type": "conversations_select", "response_url_enabled": True})],
        "/blocks/0/element/response_url_enabled",
        "modals",
    ),
]


@pytest.mark.parametrize(("blocks", "pointer", "words"), [case[1:] for case in WRONG], ids=[row[0] for row in WRONG])
def test_what_is_wrong_is_refused_with_its_place(blocks: list[Any], pointer: str, words: str) -> None:
    found = message_faults(blocks)
    assert [fault.at for fault in found] == [pointer]
    assert words in found[0].message


@pytest.mark.parametrize("kind", ["line", "bar", "area"])
def test_charts_and_data_tables_are_taken_with_numbers_below_zero(kind: str) -> None:
    cells = [{"type": "raw_number", "value": -4.5, "text": "−4.5 %"}, {"type": "rich_text", "elements": RICH}]
    head = [{"type": "raw_text", "text": "Change"}, {"type": "raw_number", "value": 2026, "text": "2026"}]
    assert check_blocks([charted(kind, values=(-4.5,)), pie(6), data_table(2, rows=[head, cells], page_size=5)])


def test_blocks_that_are_no_list_have_the_wrong_format() -> None:
    with pytest.raises(SlackError, match="invalid_blocks_format"):
        check_blocks({"type": "section"})


# what, the fields that differ from a good modal, the pointer
WRONG_VIEWS: list[tuple[str, Json, str]] = [
    ("input without submit", {"blocks": [asks({"type": "plain_text_input"})]}, "/view/submit"),
    ("markdown in a view", {"blocks": [{"type": "markdown", "text": "x"}]}, "/view/blocks/0/type"),
    ("chart in a view", {"blocks": [chart()]}, "/view/blocks/0/type"),
    ("data table in a view", {"blocks": [data_table(2)]}, "/view/blocks/0/type"),
    ("table in a view", {"blocks": [table(1, 1)]}, "/view/blocks/0/type"),
    ("no blocks", {"blocks": []}, "/view/blocks"),
    ("mrkdwn title", {"title": mrkdwn(1)}, "/view/title/type"),
    ("empty title", {"title": plain(0)}, "/view/title/text"),
    ("read-only field", {"hash": "1.2"}, "/view"),
    ("type", {"type": "dialog"}, "/view/type"),
    (
        "two in focus",
        {
            "submit": plain(1),
            "blocks": [asks({"type": "plain_text_input", "focus_on_load": True}) for _ in range(2)],
        },
        "/view/blocks/1/element/focus_on_load",
    ),
]


@pytest.mark.parametrize(("fields", "pointer"), [case[1:] for case in WRONG_VIEWS], ids=[row[0] for row in WRONG_VIEWS])
def test_a_wrong_view_is_refused_with_its_place(fields: Json, pointer: str) -> None:
    with pytest.raises(SlackError) as refusal:
        check_view({**MODAL, **fields}, "modal")
    assert refusal.value.error == "invalid_arguments"
    assert f"json-pointer:{pointer}]" in refusal.value.extra["response_metadata"]["messages"][0]


@pytest.mark.parametrize(
    ("metadata", "error"),
    [
        ("text", "invalid_metadata_format"),
        ({"event_type": "x"}, "invalid_metadata_schema"),
        ({"event_type": "", "event_payload": {}}, "invalid_metadata_schema"),
        ({"event_type": "x", "event_payload": {}, "more": 1}, "invalid_metadata_schema"),
        ({"event_type": "x", "event_payload": {"a": "x" * 8_000}}, "metadata_too_large"),
    ],
)
def test_wrong_metadata_is_refused_by_name(metadata: Any, error: str) -> None:
    with pytest.raises(SlackError, match=error):
        check_metadata(metadata)


# Limits that the official SDK checks itself: whatever it refuses, we refuse.
SDK_REFUSES: list[tuple[str, Callable[[], Any]]] = [
    ("header", lambda: sdk.HeaderBlock(text="x" * 151)),
    ("section", lambda: sdk.SectionBlock(text="x" * 3_001)),
    ("section fields", lambda: sdk.SectionBlock(fields=["x"] * 11)),
    ("empty section", lambda: sdk.SectionBlock()),
    ("context", lambda: sdk.ContextBlock(elements=[sdk.MarkdownTextObject(text="x")] * 11)),
    ("actions", lambda: sdk.ActionsBlock(elements=[sdk.ButtonElement(text="x", action_id=f"{n}") for n in range(26)])),
    ("button text", lambda: sdk.ActionsBlock(elements=[sdk.ButtonElement(text="x" * 76, action_id="a")])),
    (
        "button value",
        lambda: sdk.ActionsBlock(elements=[sdk.ButtonElement(text="x", action_id="a", value="x" * 2_001)]),
    ),
    (
        "option value",
        lambda: sdk.ActionsBlock(
            elements=[sdk.StaticSelectElement(action_id="a", options=[sdk.Option(text="x", value="x" * 151)])]
        ),
    ),
    (
        "overflow",
        lambda: sdk.ActionsBlock(
            elements=[
                sdk.OverflowMenuElement(action_id="a", options=[sdk.Option(text="x", value=f"{n}") for n in range(6)])
            ]
        ),
    ),
    ("image", lambda: sdk.ImageBlock(image_url="https://x.example/" + "x" * 3_000, alt_text="x")),
    ("markdown", lambda: sdk.MarkdownBlock(text="x" * 12_001)),
    ("label", lambda: sdk.InputBlock(label="x" * 2_001, element=sdk.PlainTextInputElement(action_id="a"))),
]


@pytest.mark.parametrize("build", [case[1] for case in SDK_REFUSES], ids=[row[0] for row in SDK_REFUSES])
def test_what_the_official_sdk_refuses_is_refused_here(build: Callable[[], Any]) -> None:
    built = build()
    with pytest.raises(SlackObjectFormationError):
        built.to_dict()
    built.validate_json = lambda: None
    for element in built.__dict__.get("elements") or []:
        element.validate_json = lambda: None
        for each in getattr(element, "options", None) or []:
            each.validate_json = lambda: None
    with pytest.raises(SlackError, match="invalid_blocks"):
        check_blocks([built.to_dict()])


def test_what_the_official_sdk_builds_is_taken() -> None:
    built = [
        sdk.HeaderBlock(text="Head"),
        sdk.SectionBlock(text="*bold*", fields=["a", "b"], accessory=sdk.ButtonElement(text="x", action_id="b")),
        sdk.ContextBlock(
            elements=[sdk.MarkdownTextObject(text="x"), sdk.ImageElement(image_url="https://x.example/a", alt_text="a")]
        ),
        sdk.DividerBlock(),
        sdk.ActionsBlock(
            elements=[
                sdk.ButtonElement(
                    text="Go",
                    action_id="go",
                    value="1",
                    style="primary",
                    confirm=sdk.ConfirmObject(title="Sure?", text="Yes?"),
                ),
                sdk.StaticSelectElement(action_id="s", placeholder="pick", options=[sdk.Option(text="x", value="1")]),
                sdk.DatePickerElement(action_id="d", initial_date="2026-11-23"),
            ]
        ),
        sdk.MarkdownBlock(text="**x**"),
        sdk.RichTextBlock(elements=[sdk.RichTextSectionElement(elements=[sdk.RichTextElementParts.Text(text="x")])]),
    ]
    assert check_blocks([block.to_dict() for block in built])
    view = View(
        type="modal",
        title="T",
        submit="Go",
        close="No",
        blocks=[
            sdk.InputBlock(
                label="L", element=sdk.NumberInputElement(action_id="n", is_decimal_allowed=True, min_value="1")
            )
        ],
    )
    assert check_view(view.to_dict(), "modal")
