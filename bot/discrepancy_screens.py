"""Discrepancies -> the card with what was decided, what is there and what each button does. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal

from bot.blocks import (
    Answer,
    Block,
    button,
    confirmation,
    context,
    cut,
    escaped,
    fitted,
    moment,
    name,
    one_line,
    person,
    section,
)
from core.rules.decision import percent
from core.settling import DiscrepancyCard

TITLES: Mapping[str, str] = {
    "shares": "The shares of {subject} are other than decided",
    "variants": "A variant of {subject} was deleted",
    "status": "{subject} is {found}, which was not decided here",
    "versions": "A policy version that {subject} serves was put out of use",
    "tags": "Tags of {subject} were set by hand",
    "alias": "The alias production of {subject} was set by hand",
}
ADOPTS: Mapping[str, str] = {
    "shares": "these shares are what was decided from now on, as a step of their own; no traffic changes. "
    "Where they give a candidate more, that takes an approver",
    "variants": "the variant is gone for good",
    "status": "the experiment counts as {found} from now on",
    "versions": "it stays as it is; shares and stages do not change",
    "tags": "the versions get the stages that the tags claim",
}
REVERTS: Mapping[str, str] = {
    "shares": "the decided shares are written back",
    "status": "the experiment becomes {decided} again",
    "versions": "the policy version becomes {decided} again",
    "tags": "the tags are written as they were decided",
    "alias": "the alias is put back where it was decided",
}
NO_ADOPTING: Mapping[str, str] = {
    "shares": "They cannot be adopted: they do not add up to 100 %.",
    "variants": "It cannot be adopted: the other shares do not add up to 100 %, and no baseline could take the rest. "
    "Correct the allocations by hand.",
    "tags": "They cannot be adopted: only candidate and archived can, since the other stages come with traffic, "
    "which takes a request.",
    "alias": "It cannot be adopted: production changes by a promotion alone. Revert it, then ask for that.",
}
NO_REVERTING: Mapping[str, str] = {
    "variants": "It cannot be reverted: what was deleted does not come back.",
    "status": "It cannot be reverted: a completed experiment does not go on.",
}
STATES: Mapping[str, str] = {
    "adopted": ":white_check_mark: *Adopted*",
    "reverted": ":leftwards_arrow_with_hook: *Reverted*",
    "gone": ":heavy_minus_sign: *Settled otherwise*",
}
MOST = 8


def card(shown: DiscrepancyCard) -> Answer:
    """A discrepancy: what was decided, what is there, what can be done; once it is settled, how."""
    title, there = escaped(_title(shown)), "There now" if shown.state == "open" else "Found"
    body = section(
        f":warning: *{title}*\n{_values('Decided', shown.decided, shown)}{_request(shown)}\n"
        f"{_values(there, shown.found, shown)}"
    )
    waits = "nothing is changed until somebody decides · " if shown.state == "open" else ""
    found = context(
        f"{name(_subject(shown))} · found {moment(shown.found_at)} · {waits}who did it cannot be known from here"
    )
    if shown.state != "open":
        return Answer(f"{title}: {shown.state}", fitted([body, found, section(_ending(shown))]))
    does = "\n".join(_lines(shown))
    buttons = _buttons(shown)
    actions: list[Block] = [{"type": "actions", "elements": buttons}] if buttons else []
    return Answer(f"{title}: {_question(shown)}", fitted([body, section(does), *actions], [found]))


def _question(shown: DiscrepancyCard) -> str:
    ways = [way for way, is_possible in (("adopt", shown.can_adopt), ("revert", shown.can_revert)) if is_possible]
    return f"{' or '.join(ways)}?" if ways else "to be mended by hand"


def _subject(shown: DiscrepancyCard) -> str:
    return cut(one_line(shown.experiment or shown.model or "?"), 60)


def _title(shown: DiscrepancyCard) -> str:
    return TITLES[shown.kind].format(subject=_subject(shown), found=shown.found.get("status"))


def _request(shown: DiscrepancyCard) -> str:
    return f" (request #{shown.request_id})" if shown.request_id is not None else ""


def _is_about_shares(shown: DiscrepancyCard) -> bool:
    return shown.kind in ("shares", "variants")


def _values(what: str, values: Mapping[str, str | None], shown: DiscrepancyCard) -> str:
    """What was decided or is there, for all that differs, in one line."""
    differing = [key for key in values if shown.decided.get(key) != shown.found.get(key)]
    said = [_value(key, values[key], shown) for key in differing[:MOST]]
    more = [f"and {len(differing) - MOST} more"] if len(differing) > MOST else []
    return f"{what}: {', '.join([*said, *more])}"


def _value(key: str, value: str | None, shown: DiscrepancyCard) -> str:
    if _is_about_shares(shown):
        return f"{name(key, 40)} {'gone' if value is None else percent(Decimal(value))}"
    if shown.kind == "alias":
        return "on no version" if value is None else f"on version {name(value, 40)}"
    prefix = {"status": "", "tags": f"version {name(key, 40)} "}.get(shown.kind, f"{name(key, 40)} ")
    return f"{prefix}{name(value, 40) if value else 'no tag'}"


def _filled(sentence: str, shown: DiscrepancyCard) -> str:
    values = {"decided": shown.decided, "found": shown.found}
    return sentence.format(**{key: next(iter(value.values()), None) for key, value in values.items()})


def _adopts(shown: DiscrepancyCard) -> str:
    """What adopting does, with the shares that it leaves where it changes any."""
    moved = [
        f"{cut(key, 40)} {percent(Decimal(shown.found.get(key) or 0))} → {percent(share)}"
        for key, share in (shown.adopted_shares or {}).items()
        if share != Decimal(shown.found.get(key) or 0)
    ]
    return "; ".join([_filled(ADOPTS[shown.kind], shown), *([", ".join(moved)] if moved else [])])


def _reverts(shown: DiscrepancyCard) -> str:
    """What reverting does, with what it changes."""
    moved = [
        _move(key, shown.found.get(key), value, shown)
        for key, value in shown.decided.items()
        if value != shown.found.get(key) and shown.kind not in ("status", "versions")
    ][:MOST]
    return "; ".join([_filled(REVERTS[shown.kind], shown), *([", ".join(moved)] if moved else [])])


def _move(key: str, before: str | None, after: str | None, shown: DiscrepancyCard) -> str:
    if _is_about_shares(shown):
        return f"{cut(key, 40)} {percent(Decimal(before or 0))} → {percent(Decimal(after or 0))}"
    if shown.kind == "alias":
        return f"version {cut(before or 'none', 40)} → {cut(after or 'none', 40)}"
    return f"version {cut(key, 40)} {cut(before or 'no tag', 40)} → {cut(after or 'no tag', 40)}"


def _lines(shown: DiscrepancyCard) -> list[str]:
    adopt = f"*Adopt*: {escaped(_adopts(shown))}." if shown.can_adopt else NO_ADOPTING[shown.kind]
    revert = f"*Revert*: {escaped(_reverts(shown))}." if shown.can_revert else NO_REVERTING[shown.kind]
    return [adopt, revert]


def _buttons(shown: DiscrepancyCard) -> list[Block]:
    value = f"{shown.id}:{shown.mark}"
    made = []
    if shown.can_adopt:
        made.append(button("Adopt", "adopt", value, confirm=confirmation("Adopt", f"{_adopts(shown)}.", "Adopt")))
    if shown.can_revert:
        sure = confirmation("Revert", f"{_reverts(shown)}.", "Revert")
        made.append(button("Revert", "revert", value, style="primary", confirm=sure))
    return made


def _ending(shown: DiscrepancyCard) -> str:
    by = f" by {person(shown.ended_by)}" if shown.ended_by and shown.state != "gone" else ""
    at = f" · {moment(shown.ended_at)}" if shown.ended_at else ""
    why = f"\n{escaped(shown.end_reason)}" if shown.end_reason else ""
    return f"{STATES[shown.state]}{by}{at}{why}"
