"""Whatever stands in the configuration: it is taken, or refused with words."""

from __future__ import annotations

import contextlib
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from core import settings
from core.errors import Refused
from tests.hostile.strategies import texts, tried

keys = st.sampled_from(
    [
        "slack",
        "approvals",
        "rollout",
        "recommendations",
        "alerts",
        "metrics",
        "experiments",
        "freezes",
        "steps",
        "owners",
        "rule",
        "at",
        "timezone",
        "weekdays",
        "step",
        "production",
        "expires_hours",
        "every_minutes",
        "from",
        "until",
        "name",
        "first",
        "price_per_1000_tokens",
        "minimum_days",
        "metrics.avg_edits.limit",
        "metrics.custom.x.ratio",
    ]
)
scalars = st.one_of(
    st.integers(-(2**70), 2**70).map(str),
    st.floats().map(str),
    st.booleans().map(lambda found: str(found).lower()),
    st.sampled_from(
        [
            '"09:00"',
            '"99:99"',
            '"Mars/Phobos"',
            '["mon", "mon"]',
            "[0.1, 0.2, 1.0]",
            "[]",
            "{}",
            "2026-12-20",
            "12:00:00",
            '"Europe/Berlin"',
            '"../../etc/passwd"',
            '"\\u0000"',
            '["@bob"]',
            "nan",
            "inf",
            "1e400",
        ]
    ),
    texts.map(lambda found: "'" + "".join(c for c in found if c.isprintable() and c != "'") + "'"),
)
lines = st.one_of(
    st.builds("{} = {}".format, keys, scalars),
    keys.map("[{}]".format),
    keys.map("[[{}]]".format),
    st.builds("[experiments.'{}']".format, keys),
    texts,
)
files = st.lists(lines, max_size=8).map("\n".join)


@tried
@given(written=files)
@example(written="[experiments]\nx = 1")
@example(written="[recommendations]\ntimezone = '../../etc/passwd'")
@example(written="[alerts]\nevery_minutes = 1e400")
def test_whatever_stands_in_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, written: str) -> None:
    file = tmp_path / "hostile.toml"
    file.write_bytes(written.encode("utf-8", "surrogatepass"))
    with contextlib.suppress(Refused):
        settings.load(file)


@tried
@given(content=st.binary(max_size=300))
def test_whatever_bytes_the_file_has(tmp_path: Path, content: bytes) -> None:
    file = tmp_path / "hostile.toml"
    file.write_bytes(content)
    with contextlib.suppress(Refused):
        settings.load(file)
