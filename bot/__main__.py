"""The command line: the one place where all parts meet."""

from __future__ import annotations

import argparse
import json
import logging
import os
import re
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from datetime import UTC, date, datetime
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING

import psutil

from bot import logs, options, stopping
from core import db, installation, settings
from core.addresses import health_address
from core.errors import Refused
from core.settings import Settings

if TYPE_CHECKING:
    from bot.pulse import Pulse
    from core.hindsight import Hindsight

log = logging.getLogger("promotion-bot")

FOREVER_MS = 0
"""No limit for a statement: making months of samples anew takes as long as it takes."""

TOKENS = (
    "Set SLACK_BOT_TOKEN (xoxb-…), and SLACK_APP_TOKEN (xapp-…) for Socket Mode or SLACK_SIGNING_SECRET for HTTP. "
    "`promotion-bot manifest` prints the app to create at api.slack.com/apps."
)
CHECK = "`promotion-bot check` looks at all that the bot needs."

HEALTH_S = 3
"""How long a bot may take to say how it is; it answers within one, whatever the database does."""


@contextmanager
def _pointing_to_check() -> Iterator[None]:
    try:
        yield
    except Refused as refused:
        raise Refused(f"{refused}\n{CHECK}") from refused


@_pointing_to_check()
def run(arguments: argparse.Namespace) -> None:
    """Runs the bot against Slack until it is told to stop."""
    found = settings.load(arguments.config)
    _check_environment(found)
    from bot import http
    from bot.pulse import Pulse

    logs.set_up(found.log_format, tells=True)
    pulse = Pulse()
    with stopping.until_told(stopping.STOP_S) as told:
        with suppress(KeyboardInterrupt), ExitStack() as stack:
            stack.enter_context(http.watched(pulse, health_address()))
            url = installation.database(stack, found)
            try:
                with told.interrupting():
                    _start(stack, url, found, arguments, told.event, pulse)
                told.event.wait()
            finally:
                pulse.phase = "stopping"
        stopping.leave()


def _check_environment(found: Settings) -> None:
    """Whatever the environment has wrong is told at once.

    Raises:
        Refused: where it has anything wrong.
    """
    wrong = []
    if found.slack_bot_token is None or (found.slack_app_token is None and found.slack_signing_secret is None):
        wrong.append(TOKENS)
    looks: list[Callable[[], object]] = [health_address]
    if found.database_url is not None:
        looks.append(partial(installation.engine, found.database_url.get_secret_value()))
    for look in looks:
        try:
            look()
        except Refused as refused:
            wrong.append(str(refused))
    if wrong:
        raise Refused("\n".join(wrong))


def _start(
    stack: ExitStack,
    url: str,
    found: Settings,
    arguments: argparse.Namespace,
    told: threading.Event,
    pulse: Pulse,
) -> None:
    """Everything begins, one after the other, and ends with the stack in reverse."""
    from bot import http, running

    engine = installation.connected(url)
    stack.callback(engine.dispose)
    made = stack.enter_context(running.running(engine, found, stopping=told, pulse=pulse))
    if found.slack_app_token is not None:
        stack.enter_context(running.listening(made, found.slack_app_token.get_secret_value(), pulse))
    else:
        asked = http.slack(made, pulse)
        served = http.serving(asked, arguments.host, arguments.port, drains_s=http.DRAIN_S)
        pulse.needs(stack.enter_context(served))
    pulse.phase = "running"
    print("ready", flush=True)
    log.info("ready", extra={"ms": round((time.time() - psutil.Process().create_time()) * 1000)})
    running.load_rest(found)


def demo(arguments: argparse.Namespace) -> None:
    """Starts everything on this machine, with a workspace in the browser, until it is told to stop."""
    from bot.demo import show

    with stopping.until_told() as told:
        show.run(
            arguments.data_dir,
            port=arguments.port,
            opens_browser=not arguments.no_browser,
            is_reset=arguments.reset,
            seed=arguments.seed,
            told=told.event,
        )


def adopt(arguments: argparse.Namespace) -> int:
    """Says what a database with the platform's schema has, what the bot adds and what does not fit; writes nothing."""
    from bot import adopting
    from core import adoption, registry, rights

    found = settings.load(arguments.config)
    if found.database_url is None:
        raise Refused("Set DATABASE_URL to the database of your platform, like postgresql://name@host/base.")
    if arguments.apply and found.mlflow_tracking_uri is None:
        raise Refused("Set MLFLOW_TRACKING_URI: what is in production is read from MLflow's tags.")
    mlflow = registry.at(found.tracking_uri, found.mlflow_timeout_s) if found.mlflow_tracking_uri else None
    with installation.closing(installation.engine(found.database_url.get_secret_value())) as engine:
        if arguments.grants is not None:
            print(rights.script(arguments.grants, str(engine.url.database)))
            return 0
        looked = adoption.survey(engine, mlflow)
        print(adopting.as_json(looked) if arguments.json else adopting.report(looked, everything=arguments.all))
        if looked.blockers:
            return 2
        if arguments.apply and mlflow is not None:
            recorded = adoption.adopt(engine, mlflow)
            if not arguments.json:
                print(f"\nAdopted: the schema promotion is up to date, {recorded:,} stages were recorded.")
            return 0
    return 0 if looked.fits else 1


def measure(arguments: argparse.Namespace) -> None:
    """Makes the samples of one experiment, or of all, anew from the raw events; until it is done the old ones stand."""
    from core import rollup, variants

    with (
        installation.base(arguments.config) as (engine, found),
        db.transaction(engine, patience_ms=FOREVER_MS) as session,
    ):
        name = arguments.experiment
        chosen = variants.find_experiment(session, name, lock=False).id if name else None
        print(f"{rollup.rebuild(session, chosen, collected=found.collected):,} events read anew")


def audit(arguments: argparse.Namespace) -> int:
    """Looks whether any row of the record was edited, removed, slipped in or moved, and says which."""
    from core import audit

    with installation.base(arguments.config) as (engine, _):
        with db.transaction(engine, patience_ms=FOREVER_MS) as session:
            audit.seal(session)
        with db.transaction(engine, patience_ms=FOREVER_MS) as session:
            report = audit.verify(session, told=arguments.head)
    for fault in report.faults:
        print(fault.sentence)
    waiting = f", {report.unsealed:,} not sealed yet" if report.unsealed else ""
    end = f"head {report.head.hash}" if report.head else "nothing sealed yet"
    print(f"{report.entries:,} entries{waiting}, {len(report.faults):,} faults, {end}")
    return 1 if report.faults else 0


def replay(arguments: argparse.Namespace) -> int:
    """Computes a verdict again from the stored evidence and compares it byte for byte with what was said then."""
    from core import replays

    *kind, number = arguments.id
    if kind not in ([], ["look"]) or not number.removeprefix("#").isdecimal():
        raise Refused("Give the number of a request, like 12, or of a look, like: look 345.")
    again = replays.of_look if kind else replays.of_request
    with installation.base(arguments.config) as (engine, _), db.transaction(engine, patience_ms=FOREVER_MS) as session:
        found = again(session, int(number.removeprefix("#")))
    if found.difference is None:
        whole, part = f"{len(found.said.encode()):,} bytes", "action and sentence; no more was kept then"
        print(f"{found.of}: identical ({whole if found.is_whole else part})")
        return 0
    at, said, now = found.difference
    print(f"{found.of}: differs at character {at:,}\n  stored:   …{said}…\n  computed: …{now}…")
    return 1


def policy(arguments: argparse.Namespace) -> int:
    """Shows what differs between the configuration in force and another file, and with --replay in past verdicts."""
    from bot import differences
    from core import policies

    days = differences.days(arguments.replay) if arguments.replay else None
    before, after = settings.load(arguments.config), _compared(arguments.new)
    found = policies.differences(before, after)
    print("\n".join(differences.lines(found, _in_force(arguments), str(arguments.new))), flush=True)
    if days is None:
        return 1 if found else 0
    since, seen = _seen_again(before, after, days)
    print("\n".join(("", *differences.table(seen, found, since))))
    return 1 if found or seen.changes else 0


def _in_force(arguments: argparse.Namespace) -> str:
    file = arguments.config or Path(settings.CONFIG_FILE)
    return str(file) if file.is_file() else f"the defaults (there is no {file} here)"


def _compared(file: Path) -> Settings:
    """What the bot would read from another file.

    Raises:
        Refused: where there is none or it has faults.
    """
    if not file.is_file():
        raise Refused(f"There is no file {file}. Name the configuration to compare with.")
    return settings.load(file)


def _seen_again(before: Settings, after: Settings, days: int) -> tuple[date, Hindsight]:
    """The verdicts of so many days on other terms, and their first day; nothing is written, no schema changed."""
    from core import hindsight

    with installation.as_it_is(before) as engine:
        # A transaction for each run: a new version of the bot, which changes tables, must not wait for all of them.
        reading = partial(db.transaction, engine, patience_ms=FOREVER_MS, only_reads=True)
        with reading() as session:
            since, redefined = hindsight.first_day(session, days), hindsight.redefined(session, after)
            question = hindsight.Question(before, after, since, redefined)
            runs = hindsight.runs(session, question.since)
        parts = []
        for one in runs:
            with reading() as session:
                parts.append(hindsight.judge_anew(session, one, question))
    return question.since, hindsight.Hindsight.total(parts)


def migrate(arguments: argparse.Namespace) -> None:
    """Brings the schema up to date, as every start does; with --after also what waits for old processes to end."""
    with ExitStack() as stack:
        url = installation.database(stack, settings.load(arguments.config))
        engine = stack.enter_context(installation.closing(installation.engine(url)))
        with installation.reaching(engine):
            print(migrated(db.migrate(engine, after=arguments.after), db.standing(engine)))


def migrated(applied: int, standing: db.Standing) -> str:
    """How many migrations were applied, and whether more of them wait."""
    done = "1 migration was applied" if applied == 1 else f"{applied} migrations were applied"
    done = done if applied else "All is up to date"
    if standing == "newer":
        return f"{done}: the tables are those of a newer release."
    if standing != "waiting":
        return f"{done}. Nothing waits for --after."
    return (
        f"{done}. What only the release before needs waits for `promotion-bot migrate --after`: run it once no process "
        "of that release is left."
    )


def init(arguments: argparse.Namespace) -> None:
    """Writes a configuration file in which every setting stands, with its default and what it means."""
    from bot.setup.commented import commented

    try:
        with arguments.file.open("w" if arguments.force else "x", encoding="utf-8") as file:
            file.write(commented())
    except FileExistsError:
        raise Refused(f"{arguments.file} is there already. Name another file, or overwrite it with --force.") from None
    except OSError as error:
        raise Refused(f"{arguments.file} cannot be written: {error.strerror}. Name a file that can be.") from None
    print(f"Wrote {arguments.file}. Name your approvers in it, then look whether all is right: promotion-bot check")


def check(arguments: argparse.Namespace) -> int:
    """Tells whether all is right for the bot to run, each line that is not with its remedy; writes nothing."""
    from bot.setup import checks, findings, look

    for library in ("slack_sdk", "urllib3"):  # they would say what the findings say
        logging.getLogger(library).setLevel(logging.CRITICAL)
    try:
        found = settings.load(arguments.config)
    except Refused as refused:
        if arguments.json:
            print(findings.as_json(checks.unread(refused)))
        raise
    file = arguments.config or Path(settings.CONFIG_FILE)
    seen = look.look(found, file if file.is_file() else None, lambda: datetime.now(UTC))
    lines = checks.lines(seen)
    print(findings.as_json(lines) if arguments.json else findings.report(lines))
    return 1 if findings.has_faults(lines) else 0


def health(arguments: argparse.Namespace) -> int:
    """Asks the bot that runs on this machine how it is: 0 where it lives, or with --ready where it can do its work."""
    url = f"{health_address().url}/{'readyz' if arguments.ready else 'healthz'}"
    direct = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with direct.open(url, timeout=HEALTH_S) as answered:
            print(answered.read().decode())
    except urllib.error.HTTPError as said:
        print(said.read().decode())
        return 1
    except OSError as error:
        why = getattr(error, "reason", error)
        print(f"Nobody answers at {url} ({why}). Does a bot run here, with this PROMOTION_BOT_HEALTH?", file=sys.stderr)
        return 1
    return 0


def manifest(arguments: argparse.Namespace) -> None:
    """Prints the Slack app manifest."""
    from bot.manifest import manifest as made

    if arguments.http is not None and not re.fullmatch(r"https://[^/\s]+/\S+", arguments.http):
        raise Refused(
            "Slack sends its requests to an https address with a path: give --http one like "
            "https://bot.example/slack/events."
        )
    command = settings.load(arguments.config).slack.command
    print(json.dumps(made(command, request_url=arguments.http), indent=2))


Command = tuple[Callable[[argparse.Namespace], int | None], Callable[[argparse.ArgumentParser], None]]

COMMANDS: Mapping[str, Command] = {
    "demo": (demo, options.demo),
    "init": (init, options.init),
    "check": (check, options.check),
    "run": (run, options.run),
    "adopt": (adopt, options.adopt),
    "measure": (measure, options.measure),
    "audit": (audit, options.audit),
    "replay": (replay, options.replay),
    "policy": (policy, options.policy),
    "migrate": (migrate, options.migrate),
    "health": (health, options.health),
    "manifest": (manifest, options.manifest),
}


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="promotion-bot", description="The promotion desk for models, in Slack.")
    parser.add_argument("--version", action="version", version=f"%(prog)s {version('promotion-bot')}")
    commands = parser.add_subparsers(dest="command", required=True)
    for name, (function, add_options) in COMMANDS.items():
        line = (function.__doc__ or "").splitlines()[0]
        made = commands.add_parser(name, help=line, description=line)
        add_options(made)
    return parser


def main(words: Sequence[str] | None = None) -> int:
    """Runs one command: 0 if all is well, 1 if a fault or a difference is found, 2 if something has to be put right."""
    arguments = _parser().parse_args(words)
    logs.set_up("text", tells=False)
    try:
        ended = COMMANDS[arguments.command][0](arguments) or 0
        sys.stdout.flush()
    except Refused as refused:
        print(refused, file=sys.stderr)
        return 2
    except BrokenPipeError:
        if not _is_unread():
            raise
        return CLOSED
    return ended


CLOSED = 141
"""As shells say of a program that nobody listens to any more, like the one before `| head`."""


def _is_unread() -> bool:
    """True where nobody reads what is printed any more; what is left of it is given up."""
    try:
        print(flush=True)  # what could not be written before is not tried again
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return True
    return False


if __name__ == "__main__":
    sys.exit(main())
