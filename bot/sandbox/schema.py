"""A small language for saying what a JSON value must look like; faults carry a JSON pointer, as Slack's do."""

import math
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol


@dataclass(frozen=True)
class Fault:
    """What is wrong, and where."""

    message: str
    at: str

    def __str__(self) -> str:
        return f"{self.message} [json-pointer:{self.at}]"


Faults = Iterator[Fault]
Rule = Callable[[dict[str, Any], str], Faults]


class Spec(Protocol):
    """Anything that can find faults in a value."""

    def faults(self, value: Any, at: str) -> Faults:
        """Everything wrong with the value that stands at this pointer."""
        ...


@dataclass(frozen=True)
class String:
    """Text of `least` to `most` characters; `filled` also refuses nothing but white space."""

    most: int | None = None
    least: int = 1
    one_of: tuple[str, ...] = ()
    pattern: str = ""
    filled: bool = False

    def faults(self, value: Any, at: str) -> Faults:
        """A wrong type, length, choice or form."""
        if not isinstance(value, str):
            yield Fault("must provide a string", at)
            return
        if len(value) < self.least or (self.filled and not value.strip()):
            yield Fault(f"must be more than {max(self.least, 1) - 1} characters", at)
        if self.most is not None and len(value) > self.most:
            yield Fault(f"must be less than {self.most + 1} characters", at)
        if self.one_of and value not in self.one_of:
            yield Fault(f"must be a valid enum value ({', '.join(self.one_of)})", at)
        if self.pattern and not re.fullmatch(self.pattern, value):
            yield Fault("does not match the expected format", at)


@dataclass(frozen=True)
class Integer:
    """A whole number between `least` and `most`."""

    least: int
    most: int

    def faults(self, value: Any, at: str) -> Faults:
        """A wrong type or size."""
        if not isinstance(value, int) or isinstance(value, bool):
            yield Fault("must provide a number", at)
        elif value < self.least:
            yield Fault(f"must be greater than {self.least - 1}", at)
        elif value > self.most:
            yield Fault(f"must be less than {self.most + 1}", at)


@dataclass(frozen=True)
class Number:
    """A finite number, above `above` where that is given."""

    above: float = -math.inf

    def faults(self, value: Any, at: str) -> Faults:
        """A wrong type or size."""
        if not isinstance(value, (int, float)) or isinstance(value, bool) or not math.isfinite(value):
            yield Fault("must provide a number", at)
        elif value <= self.above:
            yield Fault(f"must be greater than {self.above:g}", at)


@dataclass(frozen=True)
class Boolean:
    """True or false."""

    def faults(self, value: Any, at: str) -> Faults:
        """A wrong type."""
        if not isinstance(value, bool):
            yield Fault("must provide a boolean", at)


@dataclass(frozen=True)
class Nullable:
    """Null, or what `spec` asks for."""

    spec: Spec

    def faults(self, value: Any, at: str) -> Faults:
        """The faults of a value that is not null."""
        if value is not None:
            yield from self.spec.faults(value, at)


@dataclass(frozen=True)
class Array:
    """`least` to `most` items, each as `item` says."""

    item: Spec
    most: int | None = None
    least: int = 1

    def faults(self, value: Any, at: str) -> Faults:
        """A wrong type, number of items, or item."""
        if not isinstance(value, list):
            yield Fault("must provide an array", at)
            return
        if len(value) < self.least:
            yield Fault(f"no fewer than {self.least} items allowed", at)
        if self.most is not None and len(value) > self.most:
            yield Fault(f"no more than {self.most} items allowed", at)
        for number, item in enumerate(value):
            yield from self.item.faults(item, f"{at}/{number}")


@dataclass(frozen=True)
class Record:
    """An object with these fields and no others; `rules` speak about several fields at once."""

    fields: Mapping[str, Spec]
    required: tuple[str, ...] = ()
    rules: tuple[Rule, ...] = field(default=())

    def faults(self, value: Any, at: str) -> Faults:
        """A wrong type, a field missing, unknown or wrong, a rule broken."""
        if not isinstance(value, dict):
            yield Fault("must provide an object", at)
            return
        missing = [Fault(f"missing required field: {key}", at) for key in self.required if value.get(key) is None]
        found = [*missing, *self._faults_of_fields(value, at)]
        yield from found
        if not found:
            for rule in self.rules:
                yield from rule(value, at)

    def _faults_of_fields(self, value: dict[str, Any], at: str) -> Faults:
        for key, item in value.items():
            if key not in self.fields:
                yield Fault(f"invalid additional property: {key}", at)
            else:
                yield from self.fields[key].faults(item, f"{at}/{key}")


@dataclass(frozen=True)
class ByType:
    """An object whose `type` says which record it must be."""

    types: Mapping[str, Record]

    def faults(self, value: Any, at: str) -> Faults:
        """A type that is missing or not allowed here, or the faults of that record."""
        if not isinstance(value, dict):
            yield Fault("must provide an object", at)
        elif "type" not in value:
            yield Fault("missing required field: type", at)
        elif not isinstance(value["type"], str) or value["type"] not in self.types:
            yield Fault(f"unsupported type: {value['type']}", f"{at}/type")
        else:
            rest = {key: item for key, item in value.items() if key != "type"}
            yield from self.types[value["type"]].faults(rest, at)


def exactly_one(*keys: str) -> Rule:
    """A rule: one of these fields, and only one."""

    def rule(value: dict[str, Any], at: str) -> Faults:
        if sum(key in value for key in keys) != 1:
            yield Fault(f"must provide exactly one of: {', '.join(keys)}", at)

    return rule


def at_least_one(*keys: str) -> Rule:
    """A rule: one of these fields, or several."""

    def rule(value: dict[str, Any], at: str) -> Faults:
        if not any(key in value for key in keys):
            yield Fault(f"must provide at least one of: {', '.join(keys)}", at)

    return rule
