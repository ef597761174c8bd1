"""What each command of the command line can be told."""

from __future__ import annotations

import argparse
from pathlib import Path

from core.settings import CONFIG_FILE


def _config(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--config", type=Path, help="configuration file (default: promotion-bot.toml if it exists)")


def init(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("file", nargs="?", type=Path, default=Path(CONFIG_FILE), help="default: %(default)s")
    parser.add_argument("--force", action="store_true", help="overwrite what is there")


def check(parser: argparse.ArgumentParser) -> None:
    _config(parser)
    parser.epilog = "Ends with 0 where nothing is wrong, 1 where something is, 2 where it cannot begin."
    parser.add_argument("--json", action="store_true", help="everything as JSON")


def run(parser: argparse.ArgumentParser) -> None:
    _config(parser)
    parser.add_argument("--host", default="127.0.0.1", help="where HTTP mode listens (default %(default)s)")
    parser.add_argument("--port", type=int, default=3000, help="where HTTP mode listens (default %(default)s)")


def demo(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--data-dir", type=Path, default=Path(".promotion-bot/demo"), help="where everything is kept")
    parser.add_argument("--port", type=int, default=8765, help="of the workspace page; MLflow takes the next one")
    parser.add_argument("--no-browser", action="store_true", help="do not open the page")
    parser.add_argument("--reset", action="store_true", help="forget what an earlier demo left and start afresh")
    parser.add_argument("--seed", type=int, default=7, help="of everything that is simulated (default %(default)s)")


def adopt(parser: argparse.ArgumentParser) -> None:
    _config(parser)
    parser.add_argument("--apply", action="store_true", help="add the schema promotion and record stages, then say so")
    parser.add_argument("--grants", metavar="ROLE", help="print the SQL that gives a role what the bot needs, no more")
    parser.add_argument("--all", action="store_true", help="every line of what does not fit, not 20 of a kind")
    parser.add_argument("--json", action="store_true", help="everything as JSON")


def measure(parser: argparse.ArgumentParser) -> None:
    _config(parser)
    parser.add_argument("what", choices=["rebuild"], help="rebuild: make samples anew from raw events")
    parser.add_argument("experiment", nargs="?", help="its name (default: all)")


def audit(parser: argparse.ArgumentParser) -> None:
    _config(parser)
    parser.add_argument("what", choices=["verify"], help="verify: look at every row and every hash")
    parser.add_argument("--head", metavar="HASH", help="from an old digest: has to be found in the chain")


def replay(parser: argparse.ArgumentParser) -> None:
    _config(parser)
    parser.add_argument("id", nargs="+", metavar="ID", help="12 for request #12, or: look 345")


def policy(parser: argparse.ArgumentParser) -> None:
    _config(parser)
    parser.epilog = "Ends with 0 where nothing differs, 1 where a setting or a verdict does, 2 on a fault."
    parser.add_argument("what", choices=["diff"], help="diff: what another configuration would change")
    parser.add_argument("new", type=Path, metavar="FILE", help="the other configuration")
    parser.add_argument("--replay", metavar="LENGTH", help="also judge past days by it: 90d, 12w; nothing is written")


def migrate(parser: argparse.ArgumentParser) -> None:
    _config(parser)
    parser.add_argument("--after", action="store_true", help="no process of the release before runs any more")


def health(parser: argparse.ArgumentParser) -> None:
    parser.epilog = "Where it asks is PROMOTION_BOT_HEALTH, as for the bot itself."
    parser.add_argument("--ready", action="store_true", help="whether it can do its work, and each part by its name")


def manifest(parser: argparse.ArgumentParser) -> None:
    _config(parser)
    parser.add_argument("--http", metavar="URL", help="for signed HTTP requests to this address, not Socket Mode")
