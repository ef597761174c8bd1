"""Who is named in the configuration: what was seen -> findings; pure."""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Mapping, Sequence
from typing import Final

from bot.people import BARRED, CLOSED
from bot.setup.facts import Group, Slack, User
from bot.setup.findings import Finding, fault, ok, unknown, warning
from bot.setup.seen import Seen, named_people
from bot.setup.slack import reason
from core.condition import Trouble
from core.rules.approval import Quorums

WHY_BARRED: Final[Mapping[str, str]] = {
    BARRED["deleted"]: "is deactivated",
    BARRED["is_bot"]: "is a bot",
    BARRED["is_restricted"]: "is a guest",
    BARRED["is_stranger"]: "is of another workspace",
}
"""By what Slack says of a user that keeps them from deciding."""
CLOSED_WORDS: Final[Mapping[str, str]] = {
    "plan_upgrade_required": "This workspace's plan has no user groups",
    "missing_scope": "The app has no scope to read user groups",
}
NOT_ASKED: Final = "Slack was not asked"
NAME_THEM: Final = 'Name them in [slack] of the configuration, like approvers = ["@bob", "@ml-approvers"].'
LIST_THEM: Final = "List the people by handle or id."
LARGE: Final = "Try again; in a workspace of many thousands write ids (U…) instead of handles."
FEWER: Final = "Name more approvers in [slack], or ask for fewer in [approvals]."
ON_CALL: Final = 'Name somebody in [alerts], like on_call = ["@ml-oncall"].'

Directory = Mapping[str, User | Group]
"""Users and groups by id, and by handle with its @."""


def directory(slack: Slack | None) -> Directory:
    """Whoever Slack told of."""
    known: list[User | Group] = []
    for listed in (slack.groups, slack.users) if slack is not None else ():
        known += [] if isinstance(listed, Trouble) else listed
    return {key: one for one in known for key in (one.id, f"@{one.handle}")}


def deciding(entries: Sequence[str], known: Directory) -> frozenset[str]:
    """The ids of those behind these entries who may decide; the same as a running bot finds."""
    found = {member for entry in entries if entry in known for member in _members(known[entry])}
    return frozenset(member for member in found if not _is_barred(known.get(member)))


def _members(one: User | Group) -> frozenset[str]:
    return one.members if isinstance(one, Group) else frozenset({one.id})


def _is_barred(one: User | Group | None) -> bool:
    return isinstance(one, User) and one.barred is not None


def _untold(entry: str, slack: Slack | None) -> Trouble | None:
    """Why it cannot be said that an entry is nobody: it may be among those whom Slack did not list."""
    if slack is None:
        return Trouble(NOT_ASKED)
    listed = {"S": (slack.groups,), "@": (slack.groups, slack.users)}.get(entry[0], (slack.users,))
    return next((one for one in listed if isinstance(one, Trouble)), None)


def named(seen: Seen) -> Iterator[Finding]:
    """Whether each person and group that is named is there, and may decide."""
    known = directory(seen.slack)
    for entry, roles in named_people(seen.settings).items():
        about = f"{entry} ({', '.join(roles)})"
        one = known.get(entry)
        if one is None and _untold(entry, seen.slack) is None:
            yield fault(f"{about} is nobody in the workspace.", _remedy(entry, known))
        elif isinstance(one, Group) and not one.members:
            yield warning(f"{about} is a user group without members.", "Add somebody to it in Slack, or name another.")
        elif isinstance(one, User) and one.barred is not None:
            yield warning(f"{about} {WHY_BARRED[one.barred]}, so never decides anything.", "Name somebody else.")


def _remedy(entry: str, known: Directory) -> str:
    """Whom an entry may mean: Slack shows people by names that are not their handles."""
    wanted = entry.removeprefix("@").casefold()
    users = (one for one in known.values() if isinstance(one, User))
    shown = next((one for one in users if any(wanted in name.casefold() for name in one.names)), None)
    if shown is not None:
        return f'{shown.names[0]} has the handle "@{shown.handle}" and the id "{shown.id}": write one of these.'
    near = difflib.get_close_matches(entry, [key for key in known if key.startswith("@")], n=1, cutoff=0.6)
    perhaps = f"Perhaps {near[0]} is meant. " if near else ""
    return f"{perhaps}The id is always right: in Slack, the person's profile → ⋮ → Copy member ID."


def lists(seen: Seen) -> Iterator[Finding]:
    """Whether Slack tells of those who are named at all."""
    known = directory(seen.slack)
    missing = {entry: _untold(entry, seen.slack) for entry in named_people(seen.settings) if entry not in known}
    untold = {entry: trouble for entry, trouble in missing.items() if trouble is not None}
    if not untold:
        return
    trouble, entries = next(iter(untold.values())), ", ".join(untold)
    if seen.slack is None or isinstance(seen.slack.identity, Trouble):
        yield unknown("Nobody was looked up, since Slack was not asked.")
    elif trouble == seen.slack.groups and trouble.why in CLOSED:
        says = CLOSED_WORDS.get(trouble.why, "Slack does not tell of user groups")
        yield warning(f"{says}, so only people who are listed themselves count: not {entries}.", LIST_THEM)
    else:
        yield unknown(f"Not looked up: {entries} ({reason(trouble)}).", LARGE)


# --- Whether they are enough ----------------------------------------------------------------------------------------


def quorum(seen: Seen) -> Iterator[Finding]:
    """Whether those who approve can be as many as it takes, beside whoever asks; also where it takes others."""
    everywhere, terms = (*seen.settings.slack.approvers, *seen.settings.slack.owners), seen.settings.terms
    yield from _enough(seen, everywhere, terms.usual.quorums, "")
    for name, one in seen.settings.experiments.items():
        own = terms.of(name).quorums
        if own != terms.usual.quorums:
            yield from _enough(seen, (*everywhere, *one.owners), own, f"{name}: ")


def _enough(seen: Seen, entries: Sequence[str], asked: Quorums, where: str) -> Iterator[Finding]:
    known = directory(seen.slack)
    if not entries:
        yield fault(f"{where}Nobody is an approver, so nothing can be approved.", NAME_THEM)
    elif not any(_is_open(entry, known, seen.slack) for entry in entries):
        yield _judged(len(deciding(entries, known)), asked, where)


def _is_open(entry: str, known: Directory, slack: Slack | None) -> bool:
    untold = None if entry in known else _untold(entry, slack)
    return untold is not None and untold.why not in CLOSED


def _judged(many: int, asked: Quorums, where: str) -> Finding:
    usual = max(asked.step, asked.production)
    most = usual + asked.against
    who = f"{where}{many} {'person' if many == 1 else 'people'} can approve"
    if many < usual:
        return fault(f"{who}, and a promotion takes {usual} beside whoever asks.", FEWER)
    if many == usual:
        return warning(f"{who}: a promotion takes {usual} beside whoever asks, so none of them can ask for one.", FEWER)
    if many < most:
        return warning(f"{who}; against the recommendation or the checklist it takes {most}.", FEWER)
    return ok(f"{who}: a promotion takes {usual}, against the recommendation {most}.")


def roles(seen: Seen) -> Iterator[Finding]:
    """What goes unnoticed where nobody is named for it."""
    if not seen.settings.alerts.on_call:
        yield warning("Nobody is on call, so alerts that nobody answers are repeated in their thread alone.", ON_CALL)
    if not any((seen.settings.slack.owners, *(one.owners for one in seen.settings.experiments.values()))):
        yield ok("Nobody is an owner, so nobody can break the glass.")
