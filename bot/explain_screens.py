"""A decision as a tree of reasons, and the history with the versions in production. Pure."""

from __future__ import annotations

from collections.abc import Iterator

from bot.blocks import Answer, Block, cut, escaped, fitted, listing, moment, one_line, person
from core.explanations import Branch

INDENT = "\u2003"
"""A blank that chat does not swallow at the beginning of a line."""
WORDS = 300


def explained(tree: Branch) -> Answer:
    """A decision with everything behind it, each reason below what it speaks for."""
    return Answer(escaped(cut(one_line(tree.what), WORDS)), fitted(_paragraphs(tree)))


def _paragraphs(tree: Branch) -> list[Block]:
    head = f"*{_line(Branch(tree.what, tree.by, tree.at, tree.why))}*"
    return [*listing([head.replace("\n", " ")]), *(b for one in tree.below for b in listing(_lines(one, 0)))]


def _lines(branch: Branch, depth: int) -> Iterator[str]:
    yield f"{INDENT * depth}{'└ ' if depth else '• '}{_line(branch)}"
    for one in branch.below:
        yield from _lines(one, depth + 1)


def _line(branch: Branch) -> str:
    by = f" by {person(branch.by)}" if branch.by else ""
    at = f" · {moment(branch.at)}" if branch.at else ""
    why = f" – “{escaped(cut(one_line(branch.why), WORDS))}”" if branch.why else ""
    return f"{escaped(cut(one_line(branch.what), WORDS))}{by}{at}{why}"
