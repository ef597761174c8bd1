"""Verdicts -> what people are shown: one screen that a phone can show, and everything behind it. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from bot.blocks import Answer, Block, context, cut, escaped, fitted, header, listing, moment, name, section
from core.rollout_cards import CandidateCard, StepLine, WhyCard
from core.rules import wording
from core.rules.decision import format_value, percent
from core.rules.estimates import Comparison
from core.rules.findings import Finding
from core.rules.pricing import Price
from core.rules.verdict import Decision

NBSP = "\u00a0"
MARKS = {
    "increase": ":arrow_up:",
    "promote": ":rocket:",
    "wait": ":hourglass_flowing_sand:",
    "rollback": ":rewind:",
    "hold": ":raised_hand:",
}
WORDS = {"increase": "Increase", "promote": "Promote", "wait": "Wait", "rollback": "Roll back", "hold": "Hold"}
STATE_MARKS = {
    "worse": ":x:",
    "tolerable": ":large_yellow_circle:",
    "fine": ":white_check_mark:",
    "inconclusive": ":grey_question:",
    "not measurable": ":heavy_minus_sign:",
    "no interval": ":abacus:",
    "informative": ":information_source:",
}
NO_HARM_SEEN = "no harm seen"
"""What "fine" is called while the interval, which holds at all looks together, still reaches beyond the limit."""
STATES = {
    NO_HARM_SEEN: "no harm seen: within tolerance at 95 % in this look, not yet at all looks together",
    "worse": "worse, beyond chance and tolerance",
    "tolerable": "worse, within tolerance",
    "fine": "within tolerance, at 95 % in this look",
    "inconclusive": "inconclusive: neither harm nor its absence is shown",
    "not measurable": "not measurable",
    "no interval": "a point estimate, no interval",
    "informative": "for information, never decides",
}
SOURCES = {
    "bot": "",
    "noticed": " · noticed, changed by others",
    "adopted": " · changed by others, adopted",
    "reconstructed": " · reconstructed from who was assigned when",
}
FLAWS = {
    "late": "late",
    "too_late": "more than 7 days late",
    "early": "from the future",
    "repeated": "repeated",
    "waiting": "whose plan has not come yet",
    "no_plan": "naming no plan, left out",
    "no_experiment": "naming no experiment, left out",
    "malformed_experiments": "with unreadable experiments, left out",
    "orphaned": "naming a variant that does not exist, left out",
    "malformed_metric": "with an unreadable metric",
    "malformed_time": "without a time, left out",
    "expired": "about plans too old to be counted, left out",
}
NEXT = {
    "increase": "Ask for it: `{command} increase {experiment}`. ",
    "promote": "Ask for it: `{command} promote {experiment}`. ",
    "rollback": "Ask for it: `{command} rollback {experiment} because …`. ",
}
RULES = {"calibrated": "calibrated rule", "document": "the fixed thresholds on point estimates (rule `document`)"}


def metric_line(found: Finding, *, is_full: bool = False) -> str:
    """One metric on one line of a phone, or two; in full with its limit and its state in words."""
    shown, mark, title = found.telling, STATE_MARKS[found.state], escaped(f"{found.metric.title}{found.where}")
    if found.state == "not measurable":
        return f"{mark} {title}  _{escaped(shown.problem or 'not measurable')}_"
    mine, base = (format_value(found.metric, value).replace(" ", NBSP) for value in (shown.candidate, shown.baseline))
    values = f"*{mine}* vs {base}"
    change = f" · {_unbroken(wording.change(shown))}" if shown.is_measurable else " · no interval"
    more = f"{_limit(found)} · _{_state(found)}_" if is_full else ""
    return f"{mark} {title}  {values}{change}{more}"


def _state(found: Finding) -> str:
    return NO_HARM_SEEN if found.state == "fine" and not _keeps_limit(found.overall) else found.state


def _keeps_limit(found: Comparison) -> bool:
    """True where the whole interval is within the limit."""
    worst = found.low if found.metric.higher_is_better else found.high
    if worst is None or found.baseline is None:
        return False
    return not found.metric.is_beyond(worst * found.baseline, found.baseline)


def _limit(found: Finding) -> str:
    """How much worse than the baseline is accepted, or the absolute bound."""
    metric = found.metric
    if metric.limit is not None:
        side = "at least" if metric.higher_is_better else "limit"
        return f" · {side} {_unbroken(format_value(metric, metric.limit))}"
    if metric.tolerance is None:
        return ""
    sign = "−" if metric.higher_is_better else "+"
    return f" · {_unbroken(f'limit {sign}{percent(metric.tolerance)}')}"


def _unbroken(change: str) -> str:
    """A change that a narrow screen breaks before its interval or not at all."""
    return change.replace(" ", NBSP).replace(f"{NBSP}(", " (")


def _days(days: float) -> str:
    """A number of days; less than one in hours."""
    return f"{days:.1f} days" if days >= 1 else f"{max(24 * days, 1):.0f} h"


def _price(price: Price) -> str:
    """What waiting costs, in plans and days."""
    if price.plans is None:
        return f"At this size of effect more traffic would hardly decide {escaped(price.metric or '')}."
    if price.plans == 0:
        return f"The numbers are clear; the days that this share asks for take {_days(price.minimum_days)} more."
    parts = [f"about {price.plans:,} more plans"]
    if price.days is not None:
        parts.append(f"{_days(price.days)} at this share")
    if price.days_at_next_share is not None:
        parts.append(f"{_days(price.days_at_next_share)} at the next")
    early = ", by the first hours' traffic" if price.is_early and price.days is not None else ""
    until = f" until {escaped(price.metric)} is decided" if price.metric else ""
    least = f" The plans and days that this share asks for take {_days(price.minimum_days)} more anyway."
    return f"Waiting costs {', '.join(parts)}{early}{until}.{least if price.minimum_days > 0 else ''}"


def headline(card: CandidateCard) -> str:
    """The verdict and whose it is."""
    action = card.decision.action
    to = f" to {percent(card.next_step)}" if action == "increase" and card.next_step is not None else ""
    return f"{MARKS[action]} *{WORDS[action]}{to}*  {name(card.variant)}"


def of_days(days: float, minimum: int) -> str:
    """Of how many days somebody is at one of them; those that it takes may be over."""
    return f"of at least {minimum}" if days > minimum else f"of {minimum}"


def small_print(card: CandidateCard) -> str:
    """How long it has been at its share, how new the data are, by which rule."""
    parts = [
        f"Day {card.days:.1f} {of_days(card.days, card.minimum_days)} at {percent(card.share)}",
        f"data up to {moment(card.decision.seen_until)}",
        RULES[card.decision.rule],
    ]
    return " · ".join(parts)


def _lines(lines: Iterable[str]) -> list[Block]:
    return [context(line) for line in lines]


def _doubts(found: Decision) -> list[str]:
    """Why the data are not to be trusted, where the verdict does not say so already."""
    return [f":raised_hand: {escaped(concern.why)}" for concern in found.concerns if concern.why != found.why]


def remarks(card: CandidateCard) -> list[Block]:
    """What else there is to know: doubts about the data, absolute limits, the price of waiting, the other rule."""
    found = card.decision
    return [
        *_lines(_doubts(found)),
        *_lines(f":rotating_light: {escaped(alert)}" for alert in found.alerts),
        *([context(_price(found.price))] if found.price else []),
        *([context(escaped(found.difference))] if found.difference else []),
    ]


def candidate(card: CandidateCard) -> list[Block]:
    """The verdict, why in one sentence, a line a metric, and the small print."""
    return [
        section(f"{headline(card)}\n{escaped(card.decision.why)}"),
        section("\n".join(metric_line(finding) for finding in card.decision.findings)),
        *remarks(card),
        context(small_print(card)),
    ]


def recommended(cards: Sequence[CandidateCard], command: str) -> Answer:
    """What to do with each candidate of an experiment today."""
    first = cards[0]
    where = context(f"What to do in {name(first.experiment)} today")
    blocks = [where, *(block for card in cards for block in candidate(card))]
    text = (
        f"{WORDS[first.decision.action]} {cut(first.variant, 60)} in {cut(first.experiment, 60)}: {first.decision.why}"
    )
    place = escaped(first.experiment)
    next_ = NEXT.get(first.decision.action, "").format(command=command, experiment=place)
    hint = context(f"{next_}Everything behind it: `{command} why {place}`")
    return Answer(escaped(cut(text, 300)), fitted(blocks, [hint]))


# --- Why ------------------------------------------------------------------------------------------------------------


def _numbers(found: Finding) -> str:
    """Everything about one metric: values, change, limits, evidence, in the present step and over all of them."""
    shown = found.overall
    lines = [f"{STATE_MARKS[found.state]} *{escaped(found.metric.title)}* · {STATES[_state(found)]}"]
    lines.append(escaped(wording.compared(shown)))
    if found.present is not shown and found.present.is_measurable:
        lines.append(f"Present step: {escaped(wording.compared(found.present))}, z {_z(found.present)}")
    if found.sudden:
        lines.append(f"Last day alone: {escaped(wording.compared(found.telling))}, z {_z(found.telling)}")
    if shown.is_measurable:
        lines.append(
            f"_z {_z(shown)} · evidence {_minus(f'{found.evidence:+.1f}')}, alarm from {found.evidence_limit:.1f}"
            f" · tolerance {shown.tolerance_z:.1f} se_"
        )
    return "\n".join(lines)


def _minus(number: str) -> str:
    return number.replace("-", "−")


def _z(found: Comparison) -> str:
    return _minus(f"{found.z:+.2f}")


LEGEND = (
    "z: the harm as a normal deviate, positive is worse. Boundary: what z must exceed at a daily look. Evidence: log of"
    " the likelihood ratio for harm; from the limit on it alarms at any time. Tolerance in standard errors: below 1 it"
    " cannot be told from nothing. Intervals hold at 95 % at all looks together."
)


def _step_line(step: StepLine) -> str:
    since = moment(step.started_at) if step.started_at else "before the first step on record"
    plans = f"{step.candidate_plans:,} plans against {step.baseline_plans:,}"
    return f"{percent(step.share)} since {since}: {plans}{SOURCES[step.source]}"


def _rules(found: Decision) -> list[str]:
    alone = found.document
    return [
        *([f"*Calibrated rule*: {WORDS[found.calibrated]}"] if found.calibrated else []),
        f"*Fixed thresholds* (rule `document`): {WORDS[alone.verdict]}. {escaped(alone.why)}",
        *([escaped(found.difference)] if found.difference else []),
    ]


def _flaws(flaws: Mapping[str, int]) -> list[Block]:
    if not flaws:
        return [context("No event of this experiment was late, repeated, malformed or orphaned.")]
    listed = ", ".join(f"{count:,} {FLAWS[kind]}" for kind, count in sorted(flaws.items()))
    return [context(f"Events: {listed}.")]


def why(card: WhyCard) -> Answer:
    """Everything behind a verdict."""
    shown, found = card.candidate, card.candidate.decision
    blocks = [
        header(f"Why: {WORDS[found.action]} {cut(shown.variant, 60)}"),
        section(escaped(found.why)),
        *_lines(_doubts(found)),
        *listing(_rules(found)),
        *(section(_numbers(finding)) for finding in found.findings),
        *listing(["*Steps*", *(_step_line(step) for step in card.steps)]),
        *_lines(f":rotating_light: {escaped(alert)}" for alert in found.alerts),
        *([context(_price(found.price))] if found.price else []),
        *_flaws(card.flaws),
        context(LEGEND),
    ]
    return Answer(f"Why: {WORDS[found.action]}", fitted(blocks, [context(f"{small_print(shown)} · {_daily(card)}")]))


def _daily(card: WhyCard) -> str:
    """What the newest daily look said, and the boundary that it held the metrics against."""
    if card.daily is None or card.candidate.looked_at is None:
        return "no daily look was made yet"
    boundary = next((f.boundary for f in card.daily.findings if f.boundary is not None), None)
    against = "" if boundary is None else f", boundary {boundary:.2f}"
    return f"daily look {moment(card.candidate.looked_at)}: {WORDS[card.daily.action]}{against}"
