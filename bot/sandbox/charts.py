"""What Slack allows in a chart, as tables: the `data_visualization` block."""

from typing import Any

from bot.sandbox.schema import Array, ByType, Fault, Faults, Number, Record, String

MOST_SERIES = 6
MOST_POINTS = 20
MOST_SEGMENTS = 6
MOST_IN_LABEL = 20
MOST_IN_AXIS_LABEL = 50

LABEL = String(MOST_IN_LABEL, filled=True)
POINT = Record({"label": LABEL, "value": Number()}, ("label", "value"))
SEGMENT = Record({"label": LABEL, "value": Number(above=0)}, ("label", "value"))
SERIES = Record({"name": LABEL, "data": Array(POINT, MOST_POINTS)}, ("name", "data"))
AXES = Record(
    {
        "categories": Array(LABEL, MOST_POINTS),
        "x_label": String(MOST_IN_AXIS_LABEL, filled=True),
        "y_label": String(MOST_IN_AXIS_LABEL, filled=True),
    },
    ("categories",),
)


def series_cover_the_axis(chart: dict[str, Any], at: str) -> Faults:
    """A rule: categories and names differ, and every series has each category once, in whatever order."""
    categories = chart["axis_config"]["categories"]
    yield from _repeated(categories, f"{at}/axis_config/categories")
    yield from _repeated([series["name"] for series in chart["series"]], f"{at}/series")
    for number, series in enumerate(chart["series"]):
        if sorted(point["label"] for point in series["data"]) != sorted(categories):
            yield Fault("must have one data point for each category", f"{at}/series/{number}/data")


def labels_differ(chart: dict[str, Any], at: str) -> Faults:
    """A rule: no two segments of the same name."""
    yield from _repeated([segment["label"] for segment in chart["segments"]], f"{at}/segments")


def _repeated(names: list[str], at: str) -> Faults:
    for number, name in enumerate(names):
        if name in names[:number]:
            yield Fault(f"`{name}` already exists", f"{at}/{number}")


WITH_AXES = Record(
    {"series": Array(SERIES, MOST_SERIES), "axis_config": AXES}, ("series", "axis_config"), (series_cover_the_axis,)
)
PIE = Record({"segments": Array(SEGMENT, MOST_SEGMENTS)}, ("segments",), (labels_differ,))
CHART = ByType({"line": WITH_AXES, "bar": WITH_AXES, "area": WITH_AXES, "pie": PIE})
