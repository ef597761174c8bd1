"""The hashes that tie the rows of the record together: SHA-256 over canonical JSON."""

from __future__ import annotations

import hashlib
import json
import uuid
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, Final

START: Final = "0" * 64
"""What stands for the hash before the first."""


def canonical(value: Any) -> str:
    """The one way to write a value as JSON: sorted keys, no blanks, ASCII, every float to its last bit."""
    return _encode(value)


_encode: Final = json.JSONEncoder(sort_keys=True, separators=(",", ":"), check_circular=False).encode


def digest(text: str) -> str:
    """The SHA-256 of a text, as 64 hexadecimal digits."""
    return hashlib.sha256(text.encode()).hexdigest()


def mark(shown: Any) -> str:
    """A short mark of what a card shows, by which a click is known to mean just this."""
    return digest(json.dumps(shown, sort_keys=True))[:12]


Column = str | int | uuid.UUID | datetime | None


def hashed(columns: Mapping[str, Column]) -> str:
    """The hash of a row. JSON columns come as the text that PostgreSQL writes, so that no number is rounded.

    Columns without a value are left out: a column that is added later changes no hash.
    """
    return digest(canonical({name: _plain(value) for name, value in columns.items() if value is not None}))


def _plain(value: str | int | uuid.UUID | datetime) -> str | int:
    if isinstance(value, str | int):
        return value
    return str(value) if isinstance(value, uuid.UUID) else value.astimezone(UTC).isoformat(timespec="microseconds")
