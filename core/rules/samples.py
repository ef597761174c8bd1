"""What is kept of a variant's traffic: integer sums and latency counts per bucket of units, which add in any order."""

from __future__ import annotations

import json
import zlib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Final

import numpy as np
import numpy.typing as npt

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]

BUCKETS: Final = 256
"""Units fall into this many buckets by a hash that is independent of the assignment's and the same for all variants."""
NANO: Final = 1_000_000_000
"""Amounts that are no counts (cost) are kept in billionths, as integers: sums of floats depend on their order."""

_BELOW, _ABOVE = 384, 233
EDGES_MS: Final[Floats] = np.array([2000.0 * 1.02**k for k in range(-_BELOW, _ABOVE + 1)])
"""Ascending bin edges in ratio 1.02 from 1 ms to 202 s; 2,000 ms, the document's limit, is one of them."""
BINS: Final = len(EDGES_MS) + 1
"""Bin 0 lies below the first edge, bin `BINS - 1` at or above the last."""
WIDE_EDGES: Final[Floats] = np.array([1.02**k for k in range(-698, 1048)])
"""The same for numbers of any unit, from a millionth to a billion; what is smaller, and zero, is in bin 0."""
_FIRST_CELLS: Final[Ints] = np.arange(len(WIDE_EDGES) + 2) * BUCKETS

PLANS, ACCEPTED, EDITS, INTERVENTIONS = "plans", "accepted", "edits", "interventions"
COST_NANO, COST_PLANS = "cost_nano", "cost_plans"
LATENCY = "latency"
"""The names of the platform's own sums, and of its one histogram. A team's further metrics add names of their own."""


def edges_of(histogram: str) -> Floats:
    """The ascending edges of a histogram's bins, by its name."""
    return EDGES_MS if histogram == LATENCY else WIDE_EDGES


def bin_of(value: npt.ArrayLike, edges: Floats = EDGES_MS) -> Ints:
    """The bin of each value (in milliseconds): the number of edges at or below it, as PostgreSQL's
    `width_bucket(value, edges)` counts. Values must be finite."""
    return np.searchsorted(edges, np.asarray(value, dtype=np.float64), side="right").astype(np.int64)


def _frozen(values: Ints) -> Ints:
    values.setflags(write=False)
    return values


@dataclass(frozen=True, eq=False)
class Counts:
    """A histogram per bucket, kept sparse: ascending cells (bin x BUCKETS + bucket), and how many fell in each."""

    cells: Ints
    counts: Ints
    bins: int = BINS

    @staticmethod
    def of(
        buckets: npt.ArrayLike, bins: npt.ArrayLike, counts: npt.ArrayLike | None = None, *, edges: Floats = EDGES_MS
    ) -> Counts:
        """From parallel arrays of bucket, bin and count (one each where `counts` is None), in any order, repeats add.

        Raises:
            ValueError: where a bucket or a bin is out of range.
        """
        b, k = np.asarray(buckets, dtype=np.int64).ravel(), np.asarray(bins, dtype=np.int64).ravel()
        there = len(edges) + 1
        if not (np.all((b >= 0) & (b < BUCKETS)) and np.all((k >= 0) & (k < there))):
            raise ValueError("a bucket or a bin is out of range")
        many = np.ones(len(b), dtype=np.int64) if counts is None else np.asarray(counts, dtype=np.int64).ravel()
        dense = np.zeros(BUCKETS * there, dtype=np.int64)
        np.add.at(dense, k * BUCKETS + b, many)
        return Counts.of_dense(dense, bins=there)

    @staticmethod
    def of_dense(dense: Ints, *, first: int = 0, bins: int = BINS) -> Counts:
        """From one count per cell, from the cell `first` on."""
        at = np.flatnonzero(dense)
        return Counts(_frozen(at + first), _frozen(dense[at]), bins)

    @staticmethod
    def total(parts: Iterable[Counts]) -> Counts:
        """The sum of histograms."""
        filled = [part for part in parts if len(part.cells)]
        if len(filled) < 2:
            return filled[0] if filled else _NO_COUNTS[BINS]
        # Latencies fill a small part of all cells, and what is slow is going over memory.
        first, last = (int(end(part.cells[at] for part in filled)) for end, at in ((min, 0), (max, -1)))
        dense = np.zeros(last + 1 - first, dtype=np.int64)
        for part in filled:
            dense[part.cells - first] += part.counts
        return Counts.of_dense(dense, first=first, bins=filled[0].bins)

    @cached_property
    def by_bin(self) -> Floats:
        """Values per bin, all buckets together; shape (bins,)."""
        first_cells = _FIRST_CELLS[: self.bins + 1]
        up_to = np.concatenate(([0.0], self._weights.cumsum()))[self.cells.searchsorted(first_cells)]
        return up_to[1:] - up_to[:-1]

    @cached_property
    def _buckets(self) -> Ints:
        return self.cells & (BUCKETS - 1)  # the remainder, as BUCKETS is a power of two

    @cached_property
    def _weights(self) -> Floats:
        return self.counts.astype(np.float64)

    @cached_property
    def _slower(self) -> dict[int, Floats]:
        return {}

    @cached_property
    def many(self) -> int:
        """All values together."""
        return int(self.counts.sum())

    @cached_property
    def by_bucket(self) -> Floats:
        """Values per bucket, all bins together; shape (BUCKETS,)."""
        return self.slower(0)

    def slower(self, from_bin: int) -> Floats:
        """Values per bucket that fell in `from_bin` or above; shape (BUCKETS,)."""
        if (known := self._slower.get(from_bin)) is not None:
            return known
        start = self.cells.searchsorted(from_bin * BUCKETS)
        found = np.asarray(np.bincount(self._buckets[start:], self._weights[start:], BUCKETS), np.float64)
        return self._slower.setdefault(from_bin, found)


_NOTHING: Final = _frozen(np.zeros(BUCKETS, dtype=np.int64))
_NO_COUNTS: Final = {
    bins: Counts(_frozen(np.zeros(0, dtype=np.int64)), _frozen(np.zeros(0, dtype=np.int64)), bins)
    for bins in (BINS, len(WIDE_EDGES) + 1)
}


@dataclass(frozen=True, eq=False)
class Sample:
    """The additive sums of one variant over one period: equal events give equal bits, whatever the order of adding.

    `sums` maps a name to one int64 per bucket (counts, or billionths where the name ends in `_nano`); `histograms`
    maps a name to counts per bucket and bin. An absent name is all zeros.
    """

    sums: Mapping[str, Ints] = field(default_factory=dict)
    histograms: Mapping[str, Counts] = field(default_factory=dict)
    stored: bytes | None = field(default=None, repr=False)
    """What it was read from, so that it need not be packed again."""

    @staticmethod
    def empty() -> Sample:
        """No traffic at all; the neutral element of `+`."""
        return Sample()

    @staticmethod
    def of(sums: Mapping[str, npt.ArrayLike], histograms: Mapping[str, Counts] | None = None) -> Sample:
        """From arrays of 256 integers by name; names whose values are all zero are dropped, so that equal is equal.

        Raises:
            ValueError: where an array has another shape.
        """
        arrays = {name: np.array(values, dtype=np.int64) for name, values in sums.items()}
        if any(values.shape != (BUCKETS,) for values in arrays.values()):
            raise ValueError(f"every sum needs {BUCKETS} values, one per bucket")
        return Sample(
            {name: _frozen(arrays[name]) for name in sorted(arrays) if arrays[name].any()},
            {name: part for name, part in sorted((histograms or {}).items()) if len(part.cells)},
        )

    @staticmethod
    def total(parts: Iterable[Sample]) -> Sample:
        """The sum of samples, faster than adding them one by one."""
        found = list(parts)
        if len(found) == 1:
            return found[0]
        names = {name for part in found for name in part.sums}
        kinds = {name for part in found for name in part.histograms}
        return Sample.of(
            {name: np.sum([part.sums[name] for part in found if name in part.sums], axis=0) for name in names},
            {name: Counts.total(p.histograms[name] for p in found if name in p.histograms) for name in kinds},
        )

    def __add__(self, other: Sample) -> Sample:
        return Sample.total((self, other))

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Sample) and self._same(self.sums, other.sums) and self._same_counts(other)

    __hash__ = None  # type: ignore[assignment]

    @staticmethod
    def _same(mine: Mapping[str, Ints], theirs: Mapping[str, Ints]) -> bool:
        return mine.keys() == theirs.keys() and all(np.array_equal(mine[name], theirs[name]) for name in mine)

    def _same_counts(self, other: Sample) -> bool:
        mine, theirs = self.histograms, other.histograms
        return mine.keys() == theirs.keys() and all(
            np.array_equal(mine[name].cells, theirs[name].cells)
            and np.array_equal(mine[name].counts, theirs[name].counts)
            for name in mine
        )

    def sum_of(self, name: str) -> Ints:
        """One integer per bucket; zeros where nothing of that name was ever kept."""
        return self.sums.get(name, _NOTHING)

    def counts_of(self, name: str) -> Counts:
        """The histogram of that name; empty where nothing was ever kept."""
        found = self.histograms.get(name)
        return _NO_COUNTS[len(edges_of(name)) + 1] if found is None else found

    @cached_property
    def _totals(self) -> dict[str, int]:
        return {name: int(values.sum()) for name, values in self.sums.items()}

    def total_of(self, name: str) -> int:
        """The sum over all buckets; zero where nothing of that name was ever kept."""
        return self._totals.get(name, 0)

    @property
    def plans(self) -> int:
        """How many plans were served."""
        return self.total_of(PLANS)

    def to_bytes(self) -> bytes:
        """A compact, deterministic form for storage; `from_bytes` reads it back to the last bit."""
        if self.stored is not None:
            return self.stored
        packed = [_packed(values) for values in self.sums.values()]
        for part in self.histograms.values():
            packed += [_packed(np.diff(part.cells, prepend=part.cells[:1])), _packed(part.counts)]
        header = {
            "sums": list(self.sums),
            "histograms": [[name, len(part.cells), int(part.cells[0])] for name, part in self.histograms.items()],
            "widths": [values.itemsize for values in packed],
        }
        content = b"".join([json.dumps(header).encode(), b"\n", *(values.tobytes() for values in packed)])
        return bytes([_FORMAT]) + zlib.compress(content, 1)

    @staticmethod
    def from_bytes(stored: bytes) -> Sample:
        """What `to_bytes` stored.

        Raises:
            ValueError: where it is of another format.
        """
        if stored[:1] != bytes([_FORMAT]):
            raise ValueError(f"a stored sample of another format than {_FORMAT}")
        content = zlib.decompress(stored[1:])
        start = content.index(b"\n") + 1
        header = json.loads(content[:start])
        read = _Reader(content, start, iter(header["widths"]))
        sums = {name: _frozen(read.next(BUCKETS)) for name in header["sums"]}
        histograms = {
            # The first cell was once kept with the gaps between cells, and made all of them wider.
            name: Counts(
                _frozen(read.next(size).cumsum() + sum(first)), _frozen(read.next(size)), len(edges_of(name)) + 1
            )
            for name, size, *first in header["histograms"]
        }
        return Sample(sums, histograms, stored)


_FORMAT: Final = 1
_KINDS: Final = {width: np.dtype(f"<i{width}") for width in (1, 2, 4, 8)}


def _packed(values: Ints) -> npt.NDArray[Any]:
    """The same integers in the narrowest type that holds them."""
    low, high = (int(values.min()), int(values.max())) if len(values) else (0, 0)
    width = next(size for size in _KINDS if -(1 << (8 * size - 1)) <= low and high < 1 << (8 * size - 1))
    return values.astype(_KINDS[width])


@dataclass
class _Reader:
    """Takes packed arrays off a stored sample one after the other."""

    content: bytes
    at: int
    widths: Iterator[int]

    def next(self, size: int) -> Ints:
        kind = _KINDS[next(self.widths)]
        found = np.frombuffer(self.content, kind, size, self.at).astype(np.int64)
        self.at += kind.itemsize * size
        return found
