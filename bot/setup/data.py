"""The configuration, the database, the registry and the data folder: what was seen -> findings; pure."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Final

from bot.setup.findings import Finding, fault, ok, unknown, warning
from bot.setup.seen import UNOPENED, Seen, named_experiments
from bot.setup.slack import APART_S, SET_CLOCK
from bot.setup.together import SLOW
from core import faults
from core.condition import Database, Models, Trouble, plainly
from core.db import Standing
from core.errors import Refused
from core.settings import CONFIG_FILE, Misconfigured

# --- The configuration ----------------------------------------------------------------------------------------------


def file(seen: Seen) -> Iterator[Finding]:
    """Which file holds; one with faults does not get here."""
    if seen.file is not None:
        yield ok(f"{seen.file} is valid.")
    else:
        yield warning(
            f"There is no {CONFIG_FILE} in this folder, so the defaults hold.",
            "`promotion-bot init` writes one; `--config FILE` names another.",
        )


_TO_WRITE = re.compile(r"(?P<says>.+?); (?P<remedy>(?:write|remove) .+?)(?P<where> \((?:line|environment).+\))?")
"""A fault of the configuration, with what to write instead and where."""


def unread(refused: Refused) -> Iterator[Finding]:
    """What is wrong with a configuration that cannot be read."""
    if not isinstance(refused, Misconfigured):
        yield _refused(Trouble(plainly(refused)), "")
        return
    for one in refused.faults:
        apart = _TO_WRITE.fullmatch(one)
        says, remedy = (f"{apart['says']}{apart['where'] or ''}", apart["remedy"]) if apart else (one, "")
        yield fault(f"{says}.", f"{remedy[0].upper()}{remedy[1:]}." if remedy else "")


def experiments(seen: Seen) -> Iterator[Finding]:
    """Whether what is said of experiments is said of any that are there."""
    known = seen.database.experiments if isinstance(seen.database, Database) else None
    for name, where in named_experiments(seen.settings).items():
        if known is not None and name not in known:
            yield warning(
                f"{where} speaks of an experiment {name}, which the database does not have.",
                f"Correct the name, or create it{faults.nearest(name, known)}.",
            )


def health(seen: Seen) -> Iterator[Finding]:
    """Where the bot will say how it is."""
    if isinstance(seen.health, Trouble):
        yield fault(seen.health.why, "Correct it, or leave it out.")
    else:
        yield ok(f"The bot will say how it is at {seen.health}.")


# --- The database ---------------------------------------------------------------------------------------------------

OLDEST: Final = 140_000
MANY: Final = 5
"""Of what keeps the bot from starting, how much is shown here."""
STANDINGS: Final[Mapping[Standing, Finding]] = {
    "missing": ok("The bot's tables are not there yet: `promotion-bot run` creates them."),
    "behind": warning(
        "The bot's tables are those of an older release.",
        "`promotion-bot run` of this release brings them up to date; the older one may go on meanwhile.",
    ),
    "waiting": warning(
        "The bot's tables still have what only the release before needs.",
        "Once no process of it runs any more: `promotion-bot migrate --after`.",
    ),
    "current": ok("The bot's tables are those of this release."),
    "newer": warning("The bot's tables are those of a newer release, beside which this one works.", "Run that one."),
}
REACH: Final = (
    "Look whether it runs and lets this machine in; DATABASE_URL is written like postgresql://name:password@host/base."
)
ADOPT: Final = "`promotion-bot adopt` tells all of it, `promotion-bot adopt --grants {}` which rights the role needs."


ADOPT_FIRST: Final = (
    "`promotion-bot adopt` comes first: it tells what does not fit, and with --apply records the stages that versions "
    "have reached. Then `promotion-bot run`."
)


def database(seen: Seen) -> Iterator[Finding]:
    """Whether the database is reached, and is one that the bot can work with."""
    there = seen.database
    if isinstance(there, Trouble) and there.why != SLOW and seen.settings.database_url is None:
        yield _refused(there, REACH)
    elif isinstance(there, Trouble):
        says = "did not answer in time" if there.why == SLOW else f"cannot be used: {without_password(there.why)}"
        yield fault(f"The database {says}.", REACH)
    elif there is None:
        rest = "which does not run now and was not looked at" if seen.folder.has_database else "which is not there yet"
        yield warning(
            f"DATABASE_URL is not set, so the bot starts a PostgreSQL of its own in {seen.folder.path}, {rest}.",
            "Enough for a first try; name your platform's database before others work with it.",
        )
    else:
        yield from _server(there, f"in {seen.folder.path}" if seen.settings.database_url is None else there.address)


def _refused(trouble: Trouble, otherwise: str) -> Finding:
    """A refusal in two sentences says itself what to do."""
    says, _, remedy = trouble.why.partition(". ")
    return fault(f"{says}.", f"{remedy}." if remedy else otherwise)


def _server(there: Database, where: str) -> Iterator[Finding]:
    release = f"{there.server // 10_000}.{there.server % 10_000}"
    if there.server < OLDEST:
        yield fault(f"{where} is PostgreSQL {release}.", "The bot needs PostgreSQL 14 or newer.")
    else:
        yield ok(f"PostgreSQL {release} answers ({where}); the role is {there.role}.")
    if not there.takes_changes:
        yield fault("It takes no changes: it is a standby, or read-only.", "Name the primary in DATABASE_URL.")
    if abs(there.ahead_s) > APART_S:
        yield warning(f"Its clock is {abs(there.ahead_s):,.0f} s from this machine's; its own counts.", SET_CLOCK)


def tables(seen: Seen) -> Iterator[Finding]:
    """Whether the schema is of this release, and belongs to the role."""
    if not isinstance(seen.database, Database):
        return
    standing, others = seen.database.standing, seen.database.owned_by_others
    many = len(seen.database.experiments or ())
    if isinstance(standing, Trouble):
        yield _refused(standing, ADOPT.format(seen.database.role))
    elif standing == "missing" and many:
        there = "1 experiment" if many == 1 else f"{many:,} experiments"
        yield warning(f"The database has {there}, and the bot's tables are not there yet.", ADOPT_FIRST)
    else:
        yield STANDINGS[standing]
    if others:
        yield fault(
            f"{len(others)} of the bot's tables belong to another role, such as promotion.{others[0]}.",
            "Log in as the role that created them, or have them given to this one (REASSIGN OWNED).",
        )


def platform(seen: Seen) -> Iterator[Finding]:
    """Whether the role may do what it has to, and the platform's schema has what is read."""
    if not isinstance(seen.database, Database):
        return
    blockers, remedy = seen.database.blockers, ADOPT.format(seen.database.role)
    if isinstance(blockers, Trouble):
        yield fault(f"What the role may do could not be looked at: {blockers.why}.", remedy)
    elif not blockers:
        is_there = seen.database.experiments is not None
        rest = "the tables and columns of exp fit" if is_there else "the schema exp is still to be made"
        yield ok(f"The role may do all that the bot does; {rest}.")
    else:
        yield _blocked(blockers, seen.database.role, remedy)


def _blocked(blockers: Sequence[str], role: str, remedy: str) -> Finding:
    """What keeps the bot from starting is one fault: rights with the statements that give them, or all else."""
    first, *more = blockers
    says, is_right, statement = first.partition(" a right: ")
    if is_right:
        return fault(f"{says} a right.", statement)
    if more and all(one.endswith(";") for one in more):
        rights = "a right" if len(more) == 1 else f"{len(more)} rights"
        runs = f"Somebody who may runs this; `promotion-bot adopt --grants {role}` prints all that it needs."
        return fault(f"The role {role} lacks {rights}.", "\n".join((runs, *more)))
    if not more:
        return fault(first, remedy)
    rest = [f"and {len(blockers) - MANY} more"] if len(blockers) > MANY else []
    return fault(f"{len(blockers)} things keep the bot from starting.", "\n".join((*blockers[:MANY], *rest, remedy)))


# --- The registry ---------------------------------------------------------------------------------------------------

_PASSWORD = re.compile(r"(//[^/@:\s]*:)\S*@")
_IN_A_QUERY = re.compile(r"([?&]\w*(?:password|passwd|secret|token)=)[^&\s]*", re.IGNORECASE)
_LOCKED = re.compile(r"\b40[13]\b")
FIRST: Final = "The first `qualify` shows it: the card says until then that the registry will follow."
LOGIN: Final = "Set MLflow's own MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD, or MLFLOW_TRACKING_TOKEN."
SERVER: Final = "Set MLFLOW_TRACKING_URI to a server that runs and that this machine reaches."


def without_password(says: str) -> str:
    """The same with what stands between a name and its host left out, an @ in it too, and what a query has secret."""
    return _PASSWORD.sub(r"\1***@", _IN_A_QUERY.sub(r"\1***", says))


def registry(seen: Seen) -> Iterator[Finding]:
    """Whether MLflow answers, what it has, and which release it is."""
    there, uri = seen.models, without_password(seen.settings.tracking_uri)
    if there is None:
        yield _own_store(uri, is_chosen=seen.settings.mlflow_tracking_uri is not None)
    elif there == Trouble(UNOPENED):
        yield unknown(f"{uri} was not looked at, since such a store may be changed by opening it.")
    elif isinstance(there, Trouble):
        says = "did not answer in time" if there.why == SLOW else f"cannot be used: {without_password(there.why)}"
        yield fault(f"{uri} {says}.", LOGIN if _LOCKED.search(there.why) else SERVER)
    else:
        models = "1 registered model" if there.models == 1 else f"{there.models:,} registered models"
        yield ok(f"{uri} answers: {models}.")
        yield from _releases(there)
        if uri.startswith("http"):
            yield unknown("Whether the bot may set tags and aliases there cannot be known without setting one.", FIRST)


def _own_store(uri: str, *, is_chosen: bool) -> Finding:
    if is_chosen:
        return ok(
            f"The bot makes a store of its own, {uri}, which is not there yet (MLFLOW_TRACKING_URI is set to it)."
        )
    return warning(
        f"MLFLOW_TRACKING_URI is not set, so the bot makes a store of its own, {uri}, which is not there yet.",
        "Enough for a first try; name the MLflow server in which your models are.",
    )


def _releases(there: Models) -> Iterator[Finding]:
    if there.server is not None and there.server.split(".")[0] != there.client.split(".")[0]:
        yield warning(
            f"The server is MLflow {there.server}, the bot's client {there.client}.",
            "Use the same major release on both sides.",
        )


# --- The data folder ------------------------------------------------------------------------------------------------


def folder(seen: Seen) -> Iterator[Finding]:
    """Whether the data folder can be written to, where anything is kept in it."""
    if not seen.folder.is_used:
        return
    if seen.folder.is_writable:
        yield ok(f"{seen.folder.path} can be written to.")
    else:
        yield fault(f"{seen.folder.path} cannot be written to.", "Name a folder that can in PROMOTION_BOT_DATA.")
