"""Cards -> what people are shown: one function per screen, pure."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime

from bot import verdicts
from bot.blocks import (
    Answer,
    Block,
    button,
    confirmation,
    context,
    cut,
    escaped,
    fitted,
    header,
    listing,
    moment,
    name,
    one_line,
    person,
    plain,
    quoted,
    section,
)
from core.candidates import Evaluated
from core.cards import Change, HistoryLine, News, Progress, RequestCard
from core.choices import VersionLine
from core.freezes import Frozen
from core.rollout_cards import ExperimentCard, VariantLine
from core.rules.decision import CheckRow, percent

MARKS: Mapping[bool | None, str] = {True: ":white_check_mark:", False: ":x:", None: ":grey_question:"}
WAITS = ":hourglass_flowing_sand:"
DIVIDER: Block = {"type": "divider"}
STATUS_MARKS = {
    "active": ":large_green_circle:",
    "paused": ":double_vertical_bar:",
    "draft": ":white_circle:",
    "completed": ":checkered_flag:",
}
STATE_MARKS = {
    "applied": ":white_check_mark: Approved",
    "rejected": ":x: Rejected",
    "withdrawn": ":leftwards_arrow_with_hook: Withdrawn",
    "superseded": ":no_entry_sign: Closed",
    "expired": ":hourglass: Expired",
}
TITLES = {
    "start": "Start {subject} in {experiment}",
    "increase": "Increase {subject} in {experiment}",
    "promote": "Promote {subject} to production",
    "rollback": "Roll back {subject} in {experiment}",
    "retire": "Retire variants of {experiment}",
}

# --- Requests -------------------------------------------------------------------------------------------------------


def change_line(change: Change) -> str:
    """One variant's share: `control` 90 % → 75 %."""
    if change.before == change.after:
        return f"{name(change.variant)} {percent(change.before)}, unchanged"
    return f"{name(change.variant)} *{percent(change.before)} → {percent(change.after)}*"


def check_mark(row: CheckRow) -> str:
    """Passed, failed, without evidence; or waiting for plans and days, which is no failure."""
    return WAITS if row.waits else MARKS[row.passed]


def check_lines(rows: Iterable[CheckRow]) -> str:
    """The checklist, a line a row."""
    return "\n".join(f"{check_mark(row)} *{row.title}*  {escaped(cut(row.detail, 250))}" for row in rows)


def title(card: RequestCard) -> str:
    """What a request is for, in plain words."""
    subject, experiment = (cut(one_line(text), 60) for text in (card.subject, card.experiment))
    return TITLES[card.action].format(subject=subject, experiment=experiment)


def _consequence(card: RequestCard) -> str | None:
    """What happens besides the shares."""
    if card.action == "promote":
        return "Then: its MLflow version becomes production, the previous one is archived, variants at 0 % are retired."
    if card.action == "rollback":
        return f"Then: {name(card.subject)} is archived in MLflow. Units assigned earlier may keep it for a while."
    if card.action == "retire" and card.params["mode"] == "delete":
        lost = ", ".join(
            f"{name(variant)}: {counts['assignments']:,} assignments, {counts['aggregates']:,} aggregates deleted, "
            f"{counts['events']:,} events orphaned"
            for variant, counts in card.params["lost"].items()
        )
        return f":warning: Deleting loses history. {lost}"
    return None


def _what(card: RequestCard) -> list[Block]:
    """What would change: every variant's share, or the names that are retired."""
    if card.action != "retire":
        return listing(change_line(change) for change in card.changes)
    verb = {"archive": "Archive", "delete": "Delete"}[card.params["mode"]]
    return listing([f"{verb}:", *(name(n) for n in card.params["names"])])


def _request_body(card: RequestCard) -> list[Block]:
    consequence = _consequence(card)
    override = f":warning: *Override*, because\n{quoted(card.override or '')}"
    return [
        *_what(card),
        *([context(consequence)] if consequence else []),
        *([section(f"*Why*\n{quoted(card.reason)}")] if card.reason else []),
        *([section(override)] if card.override else []),
        *([section(_verdict(card))] if "verdict" in card.params else []),
        *([section(check_lines(card.checklist))] if card.checklist else []),
    ]


def _verdict(card: RequestCard) -> str:
    """What the engine said of what is asked for, on the measurements that the card shows."""
    action = card.params["verdict"]
    return f"{verdicts.MARKS[action]} Verdict: *{verdicts.WORDS[action]}*\n{escaped(cut(card.params['why'], 400))}"


def _decide_buttons(card: RequestCard) -> Block:
    changes = ", ".join(
        f"{cut(c.variant, 40)} {percent(c.before)} → {percent(c.after)}" for c in card.changes if c.before != c.after
    )
    value = f"{card.id}:{card.mark}"
    no = button("Reject", "reject", str(card.id), style=None if card.action == "rollback" else "danger")
    back = button("Withdraw", "withdraw", str(card.id))
    if card.action == "rollback":
        sure = confirmation("Confirm rollback", changes or "The previous version is restored.", "Roll back")
        yes = button("Confirm rollback", "approve", value, style="danger", confirm=sure)
    else:
        yes = button("Approve", "approve", value, style="primary")
    return {"type": "actions", "elements": [yes, no, back]}


def progress_line(progress: Progress) -> str:
    """Done, or on its way with what holds it up."""
    if progress.is_done:
        return f":white_check_mark: {progress.what}"
    held = " – no answer yet, it is tried again" if progress.error else ""
    return f":hourglass_flowing_sand: {progress.what}: recorded, on its way{held}"


def _state(card: RequestCard) -> str:
    words = STATE_MARKS[card.state]
    return words.replace("Approved", "Confirmed") if card.action == "rollback" else words


MOST_NAMED = 5


def _people(ids: Sequence[str]) -> str:
    more = f" and {len(ids) - MOST_NAMED} more" if len(ids) > MOST_NAMED else ""
    return ", ".join(person(each) for each in ids[:MOST_NAMED]) + more


def missing(card: RequestCard, eligible: Sequence[str]) -> str:
    """How many approvals there are, by whom, and who may give those that are missing."""
    if card.action == "rollback":
        return "One confirmation is enough, and it may be the requester's own."
    left = [each for each in eligible if each not in card.approvals]
    lack = card.needed - len(card.approvals)
    given = f": {_people(card.approvals)}" if card.approvals else ""
    who = f": {_people(left)}" if left else ""
    few = " :warning: There are not enough of them." if len(left) < lack else ""
    return (
        f"*{len(card.approvals)} of {card.needed} approvals*{given}. "
        f"{lack} more needed, from approvers other than the requester{who}.{few}"
    )


def frozen_line(frozen: Frozen) -> str:
    """Why nothing moves on at the moment, by whom and until when."""
    if frozen.window is not None:
        until = f", until {moment(frozen.until)}" if frozen.until else ""
        return f":snowflake: Frozen: {escaped(cut(one_line(frozen.window), 100))}{until}."
    what = "all experiments, " if frozen.is_of_all else ""
    by, why = person(frozen.by or "?"), escaped(cut(one_line(frozen.reason or ""), 300))
    return f":snowflake: Frozen: {what}by {by} until somebody unfreezes: {why}"


def is_frozen(frozen: Frozen) -> Answer:
    """What a person is told who asks for or approves what a freeze stops."""
    after = "Nothing was changed; rollbacks are possible all the same."
    return Answer(escaped(cut(frozen.sentence, 300)), [section(frozen_line(frozen)), context(after)])


def _decision(card: RequestCard, eligible: Sequence[str], frozen: Frozen | None) -> list[Block]:
    if card.state == "open":
        until = f"Expires {moment(card.expires_at)}."
        held = [context(frozen_line(frozen))] if frozen else []
        return [*held, _decide_buttons(card), context(f"{missing(card, eligible)} {until}")]
    deciders = card.approvals if card.state == "applied" else (card.decided_by,) if card.decided_by else ()
    by = f" by {_people(deciders)}" if deciders else ""
    at = f" · {moment(card.decided_at)}" if card.decided_at else ""
    return [
        section(f"*{_state(card)}*{by}{at}"),
        *([section(quoted(card.decision_reason))] if card.decision_reason else []),
        *([context("   ".join(progress_line(p) for p in card.progress))] if card.progress else []),
    ]


def request(card: RequestCard, eligible: Sequence[str] = (), frozen: Frozen | None = None) -> Answer:
    """The card of a request in the approvals channel, redrawn in place as things go on; `eligible` may approve it."""
    asked = f"{name(card.experiment)} · #{card.id} · asked by {person(card.requester)} · {moment(card.created_at)}"
    blocks = [header(title(card)), context(asked), *_request_body(card)]
    state = "waits for a decision" if card.state == "open" else card.state
    return Answer(f"#{card.id} {escaped(title(card))}: {state}", fitted(blocks, last=_decision(card, eligible, frozen)))


def reminder(card: RequestCard, eligible: Sequence[str]) -> Answer:
    """What is said in the thread of a card before its request expires."""
    text = f":hourglass: #{card.id}, asked by {person(card.requester)}, expires {moment(card.expires_at)}."
    return Answer(f"#{card.id} expires soon", [section(f"{text}\n{missing(card, eligible)}")])


def request_short(card: RequestCard) -> list[Block]:
    """A request on the Home tab: what would change, who asks, and the buttons."""
    asked = f"*#{card.id} {escaped(title(card))}*, asked by {person(card.requester)} {moment(card.created_at)}"
    lines = [change_line(change) for change in card.changes if change.before != change.after]
    return [section("\n".join([asked, *lines])), _decide_buttons(card)]


def asked(card: RequestCard, where: str) -> Answer:
    """What the requester is told: what was asked, where it is decided, and for a rollback the button right here."""
    waits = (
        f"Request #{card.id} waits in {where}." if card.action != "rollback" else "Nothing rolls back until confirmed."
    )
    last = [context(waits), *([_decide_buttons(card)] if card.action == "rollback" else [])]
    return Answer(f"{escaped(title(card))}. {waits}", fitted([header(title(card)), *_what(card)], last))


# --- Experiments ----------------------------------------------------------------------------------------------------


def _variant_line(line: VariantLine) -> str:
    served = f"  _served {percent(round(line.served, 3))}_" if line.served is not None else ""
    what = " · ".join(
        [
            *([line.role] if line.role else []),
            f"{name(line.version)}, {line.stage}" if line.version else "no policy version",
        ]
    )
    return f"*{percent(line.share)}*  {name(line.name)}{served}\n      {what}"


def _lingering(card: ExperimentCard) -> list[Block]:
    idle = [line for line in card.variants if line.share == 0 and line.served]
    if not idle:
        return []
    listed = ", ".join(f"{name(line.name)} ({percent(round(line.served or 0, 3))})" for line in idle)
    return [context(f":warning: At 0 % but still serving units that were assigned earlier: {listed}")]


def _alone(values: Mapping[str, str]) -> list[Block]:
    return [section("\n".join(f"{title}  *{value}*" for title, value in values.items()))] if values else []


def experiment(card: ExperimentCard) -> Answer:
    """One experiment on one screen."""
    opened = [context(f":inbox_tray: Request #{card.open_request} waits for a decision.")] if card.open_request else []
    note = [context(f":warning: {escaped(card.note)}")] if card.note else []
    frozen = [context(frozen_line(card.frozen))] if card.frozen else []
    blocks = [
        section(f"{STATUS_MARKS[card.status]} {name(card.name, 100)} · {card.status}"),
        *listing([_variant_line(line) for line in card.variants] or ["No variants yet."]),
        *_lingering(card),
        *note,
        *frozen,
        *opened,
        *_alone(card.baseline_metrics),
        *(block for candidate in card.candidates for block in [DIVIDER, *verdicts.candidate(candidate)]),
        context(f"Served shares since {moment(card.since)}; verdicts over the whole rollout."),
    ]
    shares = ", ".join(f"{cut(one_line(line.name), 40)} {percent(line.share)}" for line in card.variants)
    return Answer(escaped(cut(f"{one_line(card.name)} is {card.status}: {shares}", 300)), fitted(blocks))


def experiments(cards: Sequence[ExperimentCard]) -> Answer:
    """Every experiment, a paragraph each."""
    if not cards:
        return plain("There are no experiments yet.")
    blocks = [
        section(
            f"{STATUS_MARKS[card.status]} {name(card.name)}"
            + (f" · :inbox_tray: #{card.open_request}" if card.open_request else "")
            + "\n"
            + (" · ".join(f"{name(v.name, 40)} {percent(v.share)}" for v in card.variants if v.share) or "no traffic")
        )
        for card in cards
    ]
    return Answer(f"{len(cards)} experiments", fitted(blocks))


def checklist(variant: str, rows: Sequence[CheckRow]) -> Answer:
    """The ten rows before production."""
    passed = sum(row.passed is True for row in rows)
    blocks = [section(f"*Checklist* for {name(variant)} · {passed} of {len(rows)} passed"), section(check_lines(rows))]
    return Answer(f"Checklist: {passed} of {len(rows)} passed", blocks)


# --- Models and history ---------------------------------------------------------------------------------------------


def _version_line(line: VersionLine) -> str:
    tag = line.tag or "no tag"
    differs = "" if line.stage in (tag, "none") else f" :warning: decided: {line.stage}"
    policies = f" · {escaped(', '.join(line.policies))}" if line.policies else ""
    return f"{name(line.model)} *{escaped(line.version)}*  {name(tag)}{differs}{policies}"


def models(lines: Sequence[VersionLine], command: str) -> Answer:
    """The model versions in the registry with their stages."""
    if not lines:
        return plain("The registry has no model versions.")
    hint = context(f"Qualify one with `{command} qualify MODEL VERSION`.")
    return Answer(f"{len(lines)} model versions", fitted(listing(_version_line(line) for line in lines), [hint]))


def _after_qualifying(linked: Sequence[str], command: str) -> str:
    if not linked:
        return f"Next: `{command} policy` makes it a version of a policy."
    return f"Next: `{command} start` lets {' or '.join(name(label) for label in linked)} join an experiment."


def evaluated(found: Evaluated, linked: Sequence[str], command: str) -> Answer:
    """How a model version was judged, criterion by criterion."""
    model = f"{name(found.mlflow_model_name)} *{escaped(found.mlflow_model_version)}*"
    outcome = (
        f"{MARKS[True]} {model} is a candidate." if found.passed else f"{MARKS[False]} {model} is not a candidate."
    )
    source = {"replay": "Offline replay", "run": "MLflow evaluation run", "tag": "Registry tag"}[found.source]
    on = f" on {name(found.dataset_version)}" if found.dataset_version else ""
    against = f" against {escaped(found.baseline)}" if found.baseline else ""
    at = f" · {moment(found.evaluated_at)}" if found.evaluated_at else ""
    blocks = [
        section(outcome),
        *([section(check_lines(found.acceptance.rows))] if found.acceptance else []),
        *([section(f":warning: {escaped(found.note)}")] if found.note else []),
        context(f"{source}{on}{against}{at}"),
        *([context(_after_qualifying(linked, command))] if found.passed else []),
    ]
    verdict = "passed" if found.passed else "not passed"
    return Answer(escaped(f"{found.mlflow_model_name} {found.mlflow_model_version}: {verdict}"), blocks)


def _share_changes(line: HistoryLine) -> str:
    before, after = line.before.get("shares") or {}, line.after.get("shares") or {}
    moved = [key for key in {**before, **after} if before.get(key, "0") != after.get(key, "0")]
    shown = [
        f"{name(key, 40)} {percent(float(before.get(key, 0)))} → {percent(float(after.get(key, 0)))}"
        for key in moved[:MOVES]
    ]
    return ", ".join([*shown, *([f"and {len(moved) - MOVES} more"] if len(moved) > MOVES else [])])


MOVES = 12
"""Shares that a line of the history spells out."""
DEEDS = {
    "request": "asked for",
    "approve": "approved",
    "reject": "rejected",
    "redraw": "redrew",
    "expire": "let expire",
    "supersede": "closed",
    "start": "started",
    "increase": "increased",
    "promote": "promoted",
    "rollback": "rolled back",
    "retire": "retired",
    "pause": "paused",
    "resume": "resumed",
    "qualify": "qualified",
    "override": "overrode the evaluation of",
    "create_policy_version": "created",
    "hold": "put on hold",
    "unhold": "lifted the hold of",
    "freeze": "froze",
    "unfreeze": "unfroze",
    "alert": "raised",
    "alert dismissed": "dismissed",
    "alert recovered": "saw the end of",
    "alert superseded": "closed",
    "snooze": "snoozed",
    "mirror": "brought the registry in line for",
    "policy": "began to work by another version of",
}


def deed(line: HistoryLine, *, with_changes: bool = True) -> str:
    """One row of the record as a sentence."""
    changes = _share_changes(line) if with_changes else ""
    place = f" in {name(line.experiment)}" if line.experiment and line.experiment != line.subject else ""
    reason = f"\n{quoted(line.reason, 200)}" if line.reason else ""
    if line.answered is not None:
        alerts = ", ".join(f"alert {number}" for number in line.answered.alerts)
        rolled_back = f"{name(line.answered.variant)}{place} rolled back by {person(line.actor)} ({alerts})"
        return rolled_back + (f": {changes}" if changes else "")
    return (
        f"{person(line.actor)} {DEEDS[line.action]} {name(line.subject)}{place}"
        + (f": {changes}" if changes else "")
        + reason
    )


def history(lines: Sequence[HistoryLine], experiment_name: str) -> Answer:
    """What happened, newest first."""
    if not lines:
        return plain(f"Nothing is on record for {name(experiment_name)} yet.")
    return Answer(
        f"History of {escaped(experiment_name)}",
        fitted([section(f"{moment(line.at)}  {deed(line, with_changes=_has_changes(line))}") for line in lines]),
    )


def _has_changes(line: HistoryLine) -> bool:
    """An approval's shares stand in the line of its request, unless one click made both."""
    return line.action != "approve" or line.answered is not None


def _decided(line: HistoryLine, card: RequestCard) -> str:
    """A decision with what it was about and who asked, so that nobody has to look it up."""
    verb = "confirmed" if (card.action, line.action) == ("rollback", "approve") else DEEDS[line.action]
    asked_by = "" if card.requester == line.actor else f", asked by {person(card.requester)}"
    why = card.override or card.reason
    return "\n".join(
        [
            f"{person(line.actor)} {verb} #{card.id} *{escaped(title(card))}*{asked_by}",
            *([change_line(change) for change in card.changes if change.before != change.after]),
            *([f"{':warning: Override, because' if card.override else 'Why'}\n{quoted(why, 200)}"] if why else []),
            *([f"Rejected, because\n{quoted(line.reason, 200)}"] if line.reason else []),
        ]
    )


def notice(news: News, command: str) -> Answer:
    """What everybody who follows rollouts is told."""
    line = news.line
    text = deed(line) if news.request is None else _decided(line, news.request)
    is_plain = line.experiment is not None and re.fullmatch(r"[\w.-]{1,60}", line.experiment)
    blocks = [section(text), *([context(f"See `{command} status {line.experiment}`")] if is_plain else [])]
    return Answer(cut(text, 300), blocks)


def held(variant: str, until: datetime | None) -> Answer:
    """What the person is told who put a rollout on hold, or lifted it."""
    if until is None:
        return plain(f":arrow_forward: {name(variant)} is not on hold any more.")
    return plain(f":double_vertical_bar: {name(variant)} is on hold until {moment(until)}.")


def frozen(what: str, command: str) -> Answer:
    """What the person is told who froze something."""
    return plain(f":snowflake: {name(what)}: frozen until somebody types `{command} unfreeze`. Rollbacks go on.")


def unfrozen(what: str) -> Answer:
    """What the person is told who ended a freeze."""
    return plain(f":arrow_forward: {name(what)}: not frozen by that any more.")


def applied(card: RequestCard) -> Answer:
    """What the person is told whose click carried a request out."""
    text = f"{MARKS[True]} *{escaped(title(card))}*: done."
    return Answer(
        f"{escaped(title(card))}: done.",
        fitted([section(text), *_what(card)], [context("The card shows when MLflow has followed.")]),
        settles=True,
    )
