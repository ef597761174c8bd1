"""Verbs as a table: whether there is one, how it is typed, whether it may take long, and running it."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from bot.blocks import Answer
from bot.desk import Desk
from bot.words import Missing, Words
from core.errors import Refused
from core.rules.approval import Actor

Function = Callable[[Desk, Words, Actor], Answer]


@dataclass(frozen=True)
class Verb:
    """One verb: its function, and whether it may take longer than an acknowledgement should."""

    run: Function
    is_slow: bool = False
    says_first: Callable[[Words], str | None] = lambda words: None
    """What is said before it is run, where somebody would wonder whether anything happens."""
    has_form: bool = False
    """Typed alone it opens a form, which cannot wait: Slack lets go of the trigger after 3 s."""


Verbs = Mapping[str, Verb]


def is_slow(verb: str, words: Words, verbs: Verbs) -> bool:
    """Whether it may take longer than an acknowledgement should, as far as one knows before it is run."""
    found = verbs.get(verb)
    return found is not None and found.is_slow and bool(words.names or not found.has_form)


def first_words(verb: str, words: Words, verbs: Verbs) -> str | None:
    """What is said at once where an answer takes long; None where nothing is."""
    found = verbs.get(verb)
    return found.says_first(words) if found else None


def summary(verb: str, verbs: Verbs) -> str:
    """The first line of a verb's help."""
    return (verbs[verb].run.__doc__ or "").splitlines()[0]


def usage(verb: str, verbs: Verbs) -> str:
    """The second line of a verb's help: how it is typed."""
    return (verbs[verb].run.__doc__ or "").splitlines()[1].strip()


def example(verb: str, verbs: Verbs) -> str | None:
    """The third line of a verb's help: how somebody typed it; None where there is nothing to type besides."""
    return next((line.strip() for line in (verbs[verb].run.__doc__ or "").splitlines()[2:3]), None)


def manual(verb: str, command: str, verbs: Verbs) -> str:
    """All of a verb's help, with the command to type it after."""
    shown = example(verb, verbs)
    return "\n".join(
        (
            summary(verb, verbs),
            f"`{command} {usage(verb, verbs)}`",
            *([f"For example: `{command} {shown}`"] if shown else []),
        )
    )


def known(verb: str, verbs: Verbs) -> str:
    """The verb as it stands in the table.

    Raises:
        Refused: where there is none, with the nearest.
    """
    if verb in verbs:
        return verb
    near = difflib.get_close_matches(verb, verbs, n=1, cutoff=0.5)
    hint = f"Did you mean `{near[0]}`?" if near else "Type `help` to see them all."
    raise Refused(f"I do not know the verb `{verb[:40]}`. {hint}")


def run(verb: str, desk: Desk, words: Words, actor: Actor, verbs: Verbs) -> Answer:
    """Runs a verb; where a name is missing, the refusal shows how the verb is typed.

    Raises:
        Refused: where the verb is unknown, or it refuses.
    """
    name = known(verb, verbs)
    try:
        return verbs[name].run(desk, words, actor)
    except Missing as missing:
        raise Refused(f"{missing} Type it like this: {desk.command} {usage(name, verbs)}") from None
