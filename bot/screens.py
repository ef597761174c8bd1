"""Cards -> what people are shown: one function per screen, pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime, timedelta

from bot import verdicts
from bot.blocks import (
    Answer,
    Block,
    context,
    cut,
    escaped,
    fitted,
    listing,
    moment,
    name,
    one_line,
    person,
    plain,
    section,
    unbroken,
)
from core.candidates import Evaluated
from core.choices import VersionLine
from core.freezes import Frozen
from core.rollout_cards import ExperimentCard, VariantLine
from core.rules.decision import CheckRow, percent
from core.signatures import Signature

MARKS: Mapping[bool | None, str] = {True: ":white_check_mark:", False: ":x:", None: ":grey_question:"}
WAITS = ":hourglass_flowing_sand:"
DIVIDER: Block = {"type": "divider"}
STATUS_MARKS = {
    "active": ":large_green_circle:",
    "paused": ":double_vertical_bar:",
    "draft": ":white_circle:",
    "completed": ":checkered_flag:",
}
UNKNOWN_MARK = ":grey_question:"
# --- Checklists and freezes ---------------------------------------------------------------------------------------


def check_mark(row: CheckRow) -> str:
    """Passed, failed, without evidence; or waiting for plans and days, which is no failure."""
    return WAITS if row.waits else MARKS[row.passed]


def check_lines(rows: Iterable[CheckRow]) -> str:
    """The checklist, a line a row."""
    return "\n".join(f"{check_mark(row)} *{row.title}*  {unbroken(cut(row.detail, 250))}" for row in rows)


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
        section(f"{STATUS_MARKS.get(card.status, UNKNOWN_MARK)} {name(card.name, 100)} · {escaped(card.status)}"),
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


def experiments(cards: Sequence[ExperimentCard], total: int) -> Answer:
    """Experiments, a paragraph each, and how many more there are."""
    if not cards:
        return plain(
            "There are no experiments yet. How to make one stands in `.github/PLATFORM.md` of the bot's repository; "
            "`promotion-bot demo` has some to look at."
        )
    blocks = [
        section(
            f"{STATUS_MARKS.get(card.status, UNKNOWN_MARK)} {name(card.name)}"
            + (f" · :inbox_tray: #{card.open_request}" if card.open_request else "")
            + "\n"
            + (" · ".join(f"{name(v.name, 40)} {percent(v.share)}" for v in card.variants if v.share) or "no traffic")
        )
        for card in cards
    ]
    more = f"{total - len(cards):,} more; `status EXPERIMENT` shows any of them."
    return Answer(
        "1 experiment" if total == 1 else f"{total:,} experiments",
        fitted(blocks, [context(more)] if total > len(cards) else []),
    )


def checklist(variant: str, rows: Sequence[CheckRow]) -> Answer:
    """The ten rows before production."""
    passed = sum(row.passed is True for row in rows)
    blocks = [section(f"*Checklist* for {name(variant)} · {passed} of {len(rows)} passed"), section(check_lines(rows))]
    return Answer(f"Checklist: {passed} of {len(rows)} passed", blocks)


# --- Models ---------------------------------------------------------------------------------------------


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


def _after_qualifying(found: Evaluated, linked: Sequence[str], command: str) -> str:
    if not linked:
        model = f"{escaped(found.mlflow_model_name)} {escaped(found.mlflow_model_version)}"
        return f"Next, make it a version of a policy: `{command} policy POLICY {model}`"
    ways = " or ".join(f"`{command} start EXPERIMENT {escaped(label)}`" for label in linked)
    return f"Next, let it join an experiment: {ways}"


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
        *([context(_after_qualifying(found, linked, command))] if found.passed else []),
    ]
    verdict = "passed" if found.passed else "not passed"
    return Answer(escaped(f"{found.mlflow_model_name} {found.mlflow_model_version}: {verdict}"), blocks)


def held(variant: str, until: datetime | None) -> Answer:
    """What the person is told who put a rollout on hold, or lifted it."""
    if until is None:
        return plain(f":arrow_forward: {name(variant)} is not on hold any more.")
    return plain(f":double_vertical_bar: {name(variant)} is on hold until {moment(until)}.")


def frozen(what: str, command: str) -> Answer:
    """What the person is told who froze something."""
    return plain(f":snowflake: {name(what)}: frozen until somebody types `{command} unfreeze`. Rollbacks go on.")


def signature_line(signed: Signature) -> str:
    """What is signed for a candidate, in a line."""
    return (
        f":shield: Returns to its previous share by itself where a critical alert is unanswered for {signed.minutes} "
        f"minutes: signed by {person(signed.signed_by)}, “{escaped(cut(one_line(signed.reason), 200))}”"
    )


def signed(variant: str, length: timedelta) -> Answer:
    """What an owner is told who has signed."""
    minutes = length // timedelta(minutes=1)
    return plain(
        f":shield: Signed: {name(variant)} returns to its previous share by itself where a critical alert is "
        f"unanswered for {minutes} minutes. The alert shows a countdown that can be stopped."
    )


def safety(experiment: str, found: Sequence[tuple[str, Signature | None]], command: str) -> Answer:
    """What is signed for the candidates of an experiment."""
    if not found:
        return plain(f"No candidate has traffic in {name(experiment)}, so there is nothing to sign for.")
    nothing = "nothing is signed, so nothing acts by itself."
    lines = [f"{name(variant)}: {signature_line(one) if one else nothing}" for variant, one in found]
    how = f"An owner types `{command} safety {experiment} sign 30 because …`, or `withdraw` in place of `sign 30`."
    return Answer(f"Signed for {escaped(experiment)}", [section("\n".join(lines)), context(how)])


def unfrozen(what: str) -> Answer:
    """What the person is told who ended a freeze."""
    return plain(f":arrow_forward: {name(what)}: not frozen by that any more.")
