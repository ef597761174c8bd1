"""Tokens, scopes, the way that Slack's messages come in, and channels: what was seen -> findings; pure."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Final

from pydantic import SecretStr

from bot.client import INVITE
from bot.manifest import SCOPES
from bot.setup.facts import Channel, Identity
from bot.setup.findings import Finding, fault, ok, unknown, warning
from bot.setup.seen import Seen, has_app_token, named_channels
from bot.setup.together import SLOW
from core.condition import Trouble
from core.settings import Settings

AT_YOUR_APP: Final = "On api.slack.com/apps, at your app: "
BOT_TOKEN: Final = f"{AT_YOUR_APP}OAuth & Permissions → Bot User OAuth Token (xoxb-…); set SLACK_BOT_TOKEN to it."
CREATE: Final = (
    "Create the app at api.slack.com/apps from what `promotion-bot manifest` prints and install it; then "
    "OAuth & Permissions → Bot User OAuth Token (xoxb-…)."
)
APP_TOKEN: Final = (
    f"{AT_YOUR_APP}Basic Information → App-Level Tokens → Generate Token (xapp-…) with the scope connections:write; "
    "set SLACK_APP_TOKEN to it."
)
SECRET: Final = f"{AT_YOUR_APP}Basic Information → Signing Secret; set SLACK_SIGNING_SECRET to it."
MANIFEST: Final = (
    f"{AT_YOUR_APP}App Manifest: paste what `promotion-bot manifest` prints and save; then Install App → Reinstall."
)
KINDS: Final[Mapping[str, str]] = {
    "xoxb-": "a bot token",
    "xapp-": "an app-level token",
    "xoxp-": "a person's token",
    "xoxe": "a token that expires (switch token rotation off at your app)",
}
REASONS: Final[Mapping[str, str]] = {
    "invalid_auth": "Slack does not know it",
    "token_revoked": "it was revoked, so the app has to be installed again",
    "account_inactive": "the app was uninstalled, so it has to be installed again",
    "token_expired": "it has expired (switch token rotation off at your app)",
    "not_allowed_token_type": "it is of another kind",
    "missing_scope": "it lacks a scope",
    "not_authed": "it is empty",
    "ratelimited": "Slack asks to be asked less often; try again in a minute",
    SLOW: "Slack did not answer in time; try again",
}
"""What Slack answers, in words."""
APART_S: Final = 60
SET_CLOCK: Final = "Have the clock set by the network (NTP)."
SIGNED_S: Final = 300
"""How old a signed request may be: Slack's own advice, which Bolt follows."""


NETWORK: Final = (
    "Look whether this machine may go there (HTTPS_PROXY names a proxy) and whether SLACK_API_URL is right."
)


def refusal(about: str, trouble: Trouble, remedy: str) -> Finding:
    """What Slack would not do, or that it does not answer at all."""
    if " " in trouble.why:
        return fault(f"{trouble.why}.", NETWORK)
    return fault(f"{about}: {reason(trouble)}.", remedy)


def reason(trouble: Trouble) -> str:
    """Why Slack does not tell something, as a part of a sentence."""
    return REASONS.get(trouble.why, trouble.why)


def _identity(seen: Seen) -> Identity | None:
    if seen.slack is None or isinstance(seen.slack.identity, Trouble):
        return None
    return seen.slack.identity


# --- Tokens and scopes ----------------------------------------------------------------------------------------------


def _kind(token: SecretStr) -> str:
    held = token.get_secret_value()
    return next((kind for prefix, kind in KINDS.items() if held.startswith(prefix)), "no token of Slack's")


def _are_swapped(settings: Settings) -> bool:
    tokens = (settings.slack_bot_token, settings.slack_app_token)
    return [token.get_secret_value()[:5] for token in tokens if token] == ["xapp-", "xoxb-"]


def bot_token(seen: Seen) -> Iterator[Finding]:
    """Whether Slack takes the bot token, and whose it is."""
    token = seen.settings.slack_bot_token
    if token is None:
        yield fault("SLACK_BOT_TOKEN is not set.", CREATE)
    elif _are_swapped(seen.settings):
        yield fault("SLACK_BOT_TOKEN and SLACK_APP_TOKEN are mixed up.", "Exchange them: the bot's begins with xoxb-.")
    elif seen.slack is None:
        yield fault(f"SLACK_BOT_TOKEN is {_kind(token)}, not the bot's (xoxb-…).", BOT_TOKEN)
    elif isinstance(seen.slack.identity, Trouble):
        yield refusal("The bot token is not accepted", seen.slack.identity, BOT_TOKEN)
    else:
        yield ok(f"The bot token is that of {seen.slack.identity.handle} in the workspace {seen.slack.identity.team}.")


def scopes(seen: Seen) -> Iterator[Finding]:
    """Whether the app was given what the manifest asks for."""
    identity = _identity(seen)
    if identity is None:
        return
    if identity.scopes is None:
        yield unknown("Slack does not say which scopes the app has.")
        return
    for scope, lacks in SCOPES.items():
        if scope not in identity.scopes:
            yield fault(f"The scope {scope} is missing: {lacks}.", MANIFEST)
    if extra := sorted(identity.scopes - SCOPES.keys()):
        yield warning(f"The app may do more than the bot needs: {', '.join(extra)}.", MANIFEST)
    if identity.scopes >= SCOPES.keys():
        yield ok(f"All {len(SCOPES)} scopes of the manifest are granted.")


def command(seen: Seen) -> Iterator[Finding]:
    """That nobody can ask Slack for an app's commands."""
    if _identity(seen) is not None:
        yield unknown(
            f"Whether the app has the command {seen.settings.slack.command}, Slack does not tell.",
            f"{AT_YOUR_APP}Slash Commands: the same has to stand there.",
        )


# --- How messages come in -------------------------------------------------------------------------------------------

_APP = re.compile(r"xapp-\d+-(A[A-Z0-9]+)-")
_SECRET = re.compile(r"[0-9a-f]{32}")


def listening(seen: Seen) -> Iterator[Finding]:
    """Whether commands and clicks will reach the bot: over Socket Mode, which goes first, or by HTTP."""
    app_token, secret = seen.settings.slack_app_token, seen.settings.slack_signing_secret
    if _are_swapped(seen.settings):
        return
    if app_token is not None:
        yield from _socket_mode(seen, app_token)
        if secret is not None:
            yield ok("SLACK_SIGNING_SECRET is set as well, and not used: Socket Mode goes first.")
    elif secret is not None:
        yield from _http(secret)
    else:
        yield fault("Neither SLACK_APP_TOKEN (Socket Mode) nor SLACK_SIGNING_SECRET (HTTP) is set.", APP_TOKEN)


def _socket_mode(seen: Seen, token: SecretStr) -> Iterator[Finding]:
    if not has_app_token(seen.settings):
        yield fault(f"SLACK_APP_TOKEN is {_kind(token)}, not the app-level one (xapp-…).", APP_TOKEN)
    elif seen.slack is None or isinstance(seen.slack.identity, Trouble):
        yield unknown("Socket Mode was not tried, since Slack was not asked.")
    elif isinstance(seen.slack.socket, Trouble):
        yield refusal("Slack opens no Socket Mode connection with the app-level token", seen.slack.socket, APP_TOKEN)
    elif _are_apart(token, seen.slack.app_id):
        yield fault("The app-level token and the bot token belong to two different apps.", f"{APP_TOKEN} {BOT_TOKEN}")
    else:
        yield ok("Socket Mode: Slack opens connections with the app-level token.")


def _are_apart(token: SecretStr, app_id: str | Trouble) -> bool:
    named = _APP.match(token.get_secret_value())
    return named is not None and isinstance(app_id, str) and named[1] != app_id


def _http(secret: SecretStr) -> Iterator[Finding]:
    if _SECRET.fullmatch(secret.get_secret_value()):
        yield ok("HTTP: a signing secret is set.")
    else:
        yield fault("SLACK_SIGNING_SECRET is not 32 digits and letters from a to f, as Slack's are.", SECRET)
    yield unknown(
        "Whether Slack reaches POST /slack/events of this bot cannot be seen from here.",
        "Once it runs, type the command's `help` in Slack. The address stands in the manifest (`--http URL`).",
    )


def clock(seen: Seen) -> Iterator[Finding]:
    """Whether this machine's clock is right by Slack's, which signs its requests with the time."""
    identity = _identity(seen)
    apart = abs(identity.ahead_s) if identity is not None and identity.ahead_s is not None else 0.0
    if apart > SIGNED_S and seen.settings.slack_app_token is None:
        yield fault(f"This machine's clock is {apart:,.0f} s from Slack's, so signed requests are refused.", SET_CLOCK)
    elif apart > APART_S:
        yield warning(f"This machine's clock is {apart:,.0f} s from Slack's.", SET_CLOCK)


# --- Channels -------------------------------------------------------------------------------------------------------


def channels(seen: Seen) -> Iterator[Finding]:
    """Whether each channel is there, open, and the bot in it."""
    there = seen.slack.channels if seen.slack is not None else Trouble("")
    for name, where in named_channels(seen.settings).items():
        if not isinstance(there, Trouble):
            yield _channel(name, where, there)
        elif _identity(seen) is None:
            yield unknown(f"#{name} was not looked at, since Slack was not asked.")
        else:
            yield unknown(f"#{name} was not looked at: {reason(there)}.")


def _channel(wanted: str, where: str, there: Sequence[Channel]) -> Finding:
    found = next((one for one in there if wanted in (one.id, one.name)), None)
    if found is None:
        near = difflib.get_close_matches(wanted, [one.name for one in there], n=1, cutoff=0.6)
        perhaps = f" (or correct the name: there is #{near[0]})" if near else ""
        return fault(
            f"#{wanted} ({where}) is no channel that the bot can see.",
            f"Create it{perhaps}, and type in it: {INVITE}. A private channel is seen only from within.",
        )
    if found.is_archived:
        return fault(f"#{found.name} ({where}) is archived.", "Unarchive it, or name another channel.")
    if not found.is_member:
        return fault(f"#{found.name} ({where}): the bot is not in it, so it cannot post.", f"Type in it: {INVITE}")
    return ok(f"#{found.name}: the bot is in it.")
