"""Every screen holds whatever people call things: within Slack's limits, and inert."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from decimal import Decimal
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sqlalchemy import Engine

from bot import (
    alert_screens,
    blocks,
    discrepancy_screens,
    explain_screens,
    fields,
    history_screens,
    request_screens,
    rollout_screens,
    screens,
    verdicts,
)
from bot.blocks import Answer
from bot.sandbox.checks import check_blocks, check_view
from core import cards, choices, db
from core.alert_cards import AlertCard, Glass
from core.candidates import Evaluated
from core.digests import Digest, DigestLine
from core.explanations import Branch
from core.ledger import Tenure
from core.rollout_cards import CandidateCard, ExperimentCard, RolloutCard, StepLine, VariantLine, WhyCard
from core.rules.checks import Traffic
from core.rules.decision import CheckRow, Terms
from core.rules.estimates import Step
from core.rules.evaluation import accept
from core.rules.metrics import METRICS, Metric, Ratio, VariantMetrics
from core.rules.samples import Sample
from core.rules.sequential import Memory
from core.rules.verdict import Aggregates, Decision, decide
from core.settling import DiscrepancyCard
from core.tables import Experiment, Policy
from tests.bot.acts import aloud, answer, approve, told
from tests.bot.conftest import APPROVALS, ROLLOUTS, Bot
from tests.core.conftest import add_variant, add_version, set_stage
from tests.core.steps import Stage
from tests.rules.worlds import look, traffic, verdict
from tests.workspace import Person, text_of

AT = datetime(2026, 11, 23, 12, tzinfo=UTC)
HOSTILE = (
    "<!channel>",
    "<@U0100000004> & <https://evil.example|click>",
    "`code` ```block```",
    "*bold* _it_ ~no~ > quote",
    "x" * 255,
    "&" * 255,
    "🚀👩‍👩‍👧‍👦" * 30,
    "מודל חדש",
    "a\u202eb\u0000c\u0007d\u200be",
    "two\nlines\r\nand\u2028more",
    "\u202e",
    ":boom: @channel #general",
)
names = st.one_of(st.sampled_from(HOSTILE), st.text(max_size=255))
reasons = st.one_of(st.none(), names, st.text(min_size=500, max_size=3000))
shares = st.decimals(0, 1, places=4)
changes = st.builds(cards.Change, names, shares, shares)
rows = st.lists(st.builds(CheckRow, st.just("Latency"), st.sampled_from([True, False, None]), names), max_size=10)
# all that mrkdwn may do in what the bot says: mentions of people, times, links to channels
ALLOWED = re.compile(r"<(@[UW][A-Z0-9]+|!date\^\d+\^[^<>|]*\|[^<>]*|#[CG][A-Z0-9]+)>")
DANGEROUS = re.compile(r"[\u0000-\u0008\u000b-\u001f\u200b\u202a-\u202e]")


def texts(shown: Any, kind: str) -> list[str]:
    """Every text of this kind in blocks."""
    if isinstance(shown, dict):
        own = [shown["text"]] if shown.get("type") == kind else []
        return own + [text for item in shown.values() for text in texts(item, kind)]
    return [text for item in shown for text in texts(item, kind)] if isinstance(shown, list | tuple) else []


def check(shown: Answer) -> None:
    """Slack takes it, and nothing in it does anything."""
    check_blocks(list(shown.blocks))
    assert shown.text.strip()
    assert len(shown.text) < 4_000
    check_inert([*texts(list(shown.blocks), "mrkdwn"), shown.text])
    assert not [t for t in texts(list(shown.blocks), "plain_text") if DANGEROUS.search(t)]


def check_inert(found: Sequence[str]) -> None:
    for text in found:
        assert "<" not in ALLOWED.sub("", text), text
        assert not DANGEROUS.search(text)


requests = st.builds(
    cards.RequestCard,
    id=st.integers(1, 10**9),
    experiment=names,
    action=st.sampled_from(["start", "increase", "promote", "rollback"]),
    subject=names,
    state=st.sampled_from(["open", "applied", "rejected", "withdrawn", "superseded", "expired"]),
    requester=st.sampled_from(["U0100000004", "promotion-bot", "<!here>"]),
    reason=reasons,
    override=reasons,
    changes=st.lists(changes, min_size=1, max_size=60).map(tuple),
    checklist=rows.map(tuple),
    params=st.just({}),
    needed=st.integers(1, 4),
    approvals=st.lists(st.just("U0100000005"), max_size=3).map(tuple),
    mark=st.just("0123456789ab"),
    created_at=st.just(AT),
    expires_at=st.just(AT),
    decided_at=st.sampled_from([None, AT]),
    decided_by=st.sampled_from([None, "U0100000005"]),
    decision_reason=reasons,
    is_glass_broken=st.booleans(),
    progress=st.just((cards.Progress("MLflow tags and alias", False, "<!channel>"),)),
)
retirements = st.lists(names, min_size=1, max_size=60).map(
    lambda found: {
        "mode": "delete",
        "names": found,
        "lost": {n: {"assignments": 1, "aggregates": 2, "events": 3} for n in found},
    }
)
variant_lines = st.builds(
    VariantLine, names, st.sampled_from(["", "baseline"]), shares, st.floats(0, 1), names, names, st.just("none")
)


@cache
def decisions() -> tuple[Decision, ...]:
    """Real verdicts, one of each kind, that of a team with aggregates only, and one with nothing measured."""
    fine = Step(traffic(18_000, 2), traffic(2_000, 3))
    harmed = Step(traffic(18_000, 2), traffic(2_000, 3, acceptance=0.5, slow=9.0))
    empty = Step(Sample.empty(), Sample.empty())
    odd = Metric("x", HOSTILE[0], "count", Ratio("x"), tolerance=0.1)
    point = VariantMetrics(5000, 0.7, 1.5, 0.05, 500.0, 900.0, None)
    found = (
        verdict(fine),
        verdict(fine, days=1.0, in_step=1.0),
        verdict(harmed),
        verdict(fine, share="0.50", days=31, in_step=21),
        verdict(fine, traffic=Traffic(120.0, 0)),
        verdict(empty),
        decide(look(fine), Memory(), Terms(metrics=(*METRICS, odd)))[0],
        verdict(empty, aggregated=Aggregates(point, point, 0.5, 1.0)),
    )
    assert {d.action for d in found} == {"increase", "promote", "wait", "rollback", "hold"}
    return found


candidate_cards = st.builds(
    CandidateCard,
    experiment=names,
    variant=names,
    decision=st.deferred(lambda: st.sampled_from(decisions())),
    share=shares,
    next_step=st.sampled_from([None, Decimal("0.25")]),
    days=st.floats(0, 100),
    minimum_days=st.just(3),
    looked_at=st.sampled_from([None, AT]),
)
experiments = st.builds(
    ExperimentCard,
    name=names,
    status=st.sampled_from(["active", "paused", "draft", "completed"]),
    variants=st.lists(variant_lines, max_size=60).map(tuple),
    candidates=st.lists(candidate_cards, max_size=20).map(tuple),
    baseline_metrics=st.just({"Cost per plan": "0.01"}),
    open_request=st.sampled_from([None, 7]),
    note=reasons,
    since=st.just(AT),
)
step_lines = st.builds(
    StepLine,
    started_at=st.sampled_from([None, AT]),
    share=shares,
    candidate_plans=st.integers(0, 10**9),
    baseline_plans=st.integers(0, 10**9),
    source=st.sampled_from(sorted(verdicts.SOURCES)),
)
why_cards = st.builds(
    WhyCard,
    candidate=candidate_cards,
    daily=st.deferred(lambda: st.sampled_from([None, *decisions()])),
    steps=st.lists(step_lines, max_size=60).map(tuple),
    flaws=st.dictionaries(st.sampled_from(sorted(verdicts.FLAWS)), st.integers(1, 10**9)),
)
histories = st.builds(
    cards.HistoryLine,
    id=st.just(1),
    at=st.just(AT),
    actor=st.sampled_from(["U0100000004", "promotion-bot"]),
    action=st.sampled_from(sorted(history_screens.DEEDS)),
    subject=names,
    experiment=st.one_of(st.none(), names),
    request_id=st.none(),
    reason=reasons,
    before=st.dictionaries(names, shares.map(str), max_size=60).map(lambda found: {"shares": found}),
    after=st.just({}),
    answered=st.one_of(st.none(), st.builds(cards.Answered, names, st.just((1, 2)))),
)
versions = st.builds(
    choices.VersionLine, names, st.just("3"), st.just("none"), st.one_of(st.none(), names), st.tuples(names)
)
rollout_cards = st.builds(
    RolloutCard,
    id=st.integers(1, 10**9),
    experiment=names,
    variant=names,
    candidate=st.one_of(st.none(), candidate_cards),
    checklist=rows.map(tuple),
    share=shares,
    hold_until=st.sampled_from([None, AT]),
    held_by=st.just("U0100000004"),
    hold_reason=reasons,
    open_request=st.sampled_from([None, 7]),
    open_alerts=st.sampled_from([(), (1, 2)]),
    is_late=st.booleans(),
    ended_at=st.sampled_from([None, AT]),
    ending=st.sampled_from([None, "promote", "rollback"]),
    message_key=st.just("rollout:1:2026-11-23"),
    channel=st.just("ml-rollouts"),
)
digest_lines = st.builds(
    DigestLine,
    rollout=st.integers(1, 10**9),
    experiment=names,
    variant=names,
    action=st.sampled_from(sorted(verdicts.WORDS)),
    why=st.one_of(names, st.text(min_size=500, max_size=900)),
    share=shares,
    next_step=st.sampled_from([None, Decimal("0.25")]),
    days=st.floats(0, 100),
    minimum_days=st.just(3),
    days_left=st.sampled_from([None, 0.0, 12.5]),
    held_until=st.sampled_from([None, AT]),
    open_request=st.sampled_from([None, 7]),
    open_alerts=st.integers(0, 3),
    has_ended=st.booleans(),
)
proposals = st.dictionaries(names, st.tuples(shares, shares), max_size=60)
_values = st.dictionaries(names, st.one_of(st.none(), shares.map(str)), min_size=1, max_size=60)
discrepancy_cards = st.builds(
    DiscrepancyCard,
    id=st.integers(1, 10**9),
    kind=st.sampled_from(sorted(discrepancy_screens.TITLES)),
    experiment=names,
    model=st.none(),
    decided=_values,
    found=_values,
    request_id=st.sampled_from([None, 7]),
    can_adopt=st.booleans(),
    can_revert=st.booleans(),
    adopted_shares=st.one_of(st.none(), st.dictionaries(names, shares, max_size=60)),
    mark=st.just("0123456789ab"),
    state=st.sampled_from(["open", *discrepancy_screens.STATES]),
    found_at=st.just(AT),
    ended_at=st.just(AT),
    ended_by=st.sampled_from(["U0100000004", "promotion-bot"]),
    end_reason=reasons,
)
alert_cards = st.builds(
    AlertCard,
    id=st.integers(1, 10**9),
    experiment=names,
    variant=st.one_of(st.none(), names),
    whose=st.sampled_from(sorted(alert_screens.TITLES)),
    why=st.one_of(names, st.text(min_size=500, max_size=900)).map(lambda text: f"Worse: {text}"),
    numbers=st.lists(st.tuples(st.sampled_from(sorted(verdicts.STATE_MARKS)), names, names), max_size=20).map(tuple),
    proposals=st.fixed_dictionaries({}, optional={"all": proposals, "share": proposals}),
    marks=st.just({"all": "0123456789ab", "share": "ba9876543210"}),
    state=st.sampled_from(["open", *alert_screens.STATES]),
    began_at=st.just(AT),
    opened_at=st.just(AT),
    seen_at=st.just(AT),
    looks=st.integers(1, 10**6),
    snoozed_until=st.sampled_from([None, AT]),
    snoozed_by=st.just("U0100000005"),
    request_id=st.sampled_from([None, 7]),
    ended_at=st.sampled_from([None, AT]),
    ended_by=st.sampled_from([None, "U0100000005", "promotion-bot"]),
    end_reason=reasons,
    channel=st.just("ml-rollouts"),
)
quick = settings(max_examples=25, deadline=None)


@quick
@given(requests)
def test_request_cards(card: cards.RequestCard) -> None:
    shown = request_screens.request(card, ["U0100000005", "U0100000006"] * 20, has_owners=True)
    check(shown)
    check(request_screens.reminder(card, ["U0100000005"]))
    check(request_screens.glass_broken(card, ["<@U0100000005>"] * 20, "/rollout"))
    check(Answer("form", request_screens.breaking_glass(card, "<#C0100000008>")))
    check(request_screens.asked(card, "<#C0100000008>", 7))
    check(request_screens.applied(card))
    assert any(block["type"] == "actions" for block in shown.blocks) == (card.state == "open")


@pytest.mark.parametrize("name", HOSTILE)
def test_a_card_of_sixty_variants_names_them_and_keeps_its_buttons(name: str) -> None:
    moved = tuple(cards.Change(f"{n} {name}"[:255], Decimal("0.0150"), Decimal("0.0135")) for n in range(60))
    facts = {"id": 1, "experiment": name, "action": "start", "subject": name, "state": "open", "requester": "U01"}
    told = {"reason": name * 9, "override": name * 9, "params": {}, "created_at": AT, "progress": ()}
    facts |= {"needed": 2, "approvals": ("U02",), "mark": "0123456789ab", "expires_at": AT}
    undecided = {"decided_at": None, "decided_by": None, "decision_reason": None}
    checklist = tuple(CheckRow("Latency", None, name) for _ in range(10))
    card = cards.RequestCard(**facts, **told, **undecided, changes=moved, checklist=checklist)  # type: ignore[arg-type]
    shown = request_screens.request(card)
    check(shown)
    check(request_screens.applied(card))
    assert [block["type"] for block in shown.blocks][-2:] == ["actions", "context"]
    listed = sum(f"`{n} " in text or f"`{n}`" in text for n in range(60) for text in [str(shown.blocks)])
    assert listed == 60 or "more are not shown here" in str(shown.blocks)


leaves = st.builds(
    Branch,
    what=st.one_of(names, st.text(min_size=400, max_size=900)),
    by=st.sampled_from([None, "U0100000005", "promotion-bot"]),
    at=st.sampled_from([None, AT]),
    why=reasons,
)
trees = st.recursive(
    leaves, lambda below: st.builds(Branch, what=names, below=st.lists(below, max_size=12).map(tuple)), max_leaves=60
)
tenures = st.builds(Tenure, version=names, since=st.sampled_from([None, AT]), until=st.sampled_from([None, AT]))


@quick
@given(trees, st.lists(tenures, max_size=20))
def test_explanations(tree: Branch, found: list[Tenure]) -> None:
    check(explain_screens.explained(tree))
    check(history_screens.history([], found, "planner_policy_exp"))


@quick
@given(requests, retirements)
def test_retirement_cards(card: cards.RequestCard, params: dict[str, Any]) -> None:
    check(request_screens.request(cards.RequestCard(**{**vars(card), "action": "retire", "params": params})))


@quick
@given(st.lists(experiments, max_size=4))
def test_experiments(found: list[ExperimentCard]) -> None:
    check(screens.experiments(found * 75, 75))
    for card in found:
        check(screens.experiment(card))


@quick
@given(st.lists(candidate_cards, min_size=1, max_size=4), why_cards)
def test_verdicts(found: list[CandidateCard], why: WhyCard) -> None:
    check(verdicts.recommended(found, "/rollout"))
    check(verdicts.why(why))


def test_a_verdict_fits_a_phone() -> None:
    """The verdict and why, six lines of metrics, and little besides."""
    for decision in decisions():
        card = CandidateCard("e", "v3", decision, Decimal("0.1"), Decimal("0.25"), 4.0, 3, AT)
        first, metrics, *rest = (block for block in verdicts.candidate(card))
        assert len(texts(first, "mrkdwn")[0].splitlines()) == 2
        assert len(texts(metrics, "mrkdwn")[0].splitlines()) == len(decision.findings)
        assert len(rest) <= 5


@quick
@given(rollout_cards)
def test_living_cards(card: RolloutCard) -> None:
    check(rollout_screens.card(card))
    check(rollout_screens.moved(card))
    check(rollout_screens.turned(card, "wait"))


@quick
@given(st.lists(digest_lines, max_size=10), st.sampled_from([1, 50]))
def test_digests_of_up_to_five_hundred(found: list[DigestLine], times: int) -> None:
    shown = rollout_screens.digest(Digest("ml-rollouts", AT.date(), tuple(found * times), late=2), "/rollout")
    check(shown)
    urgent = sum(line.needs_somebody for line in found * times)
    assert "none needs anybody" in shown.text if not urgent else f"{urgent} need" in shown.text


def test_a_digest_tells_candidates_of_one_experiment_apart() -> None:
    def line(experiment: str, variant: str, days: float) -> DigestLine:
        return DigestLine(
            1, experiment, variant, "wait", "why", Decimal("0.05"), None, days, 4, None, None, None, 0, False
        )

    lines = (line("planner", "v3", 0.2), line("planner", "v4", 20.0), line("breakfast", "v1", 4.0))
    (resting,) = rollout_screens.digest(Digest("ml-rollouts", AT.date(), lines, late=0), "/rollout").blocks[2:]
    assert texts(resting, "mrkdwn") == [
        "`planner` `v3` 5 %, day 0 of 4 · `planner` `v4` 5 %, day 20 of at least 4 · `breakfast` 5 %, day 4 of 4"
    ]


def test_glass_that_was_never_broken() -> None:
    for applied, says in (
        (0, "no change was carried out yet (rollbacks aside)"),
        (1, "never, in 1 change (rollbacks aside)"),
        (12, "never, in 12 changes (rollbacks aside)"),
    ):
        shown = alert_screens.scorecard([], Glass(applied, {}, 0))
        assert texts(shown.blocks[1], "mrkdwn") == [f"*Broken glass*  {says}"]


@quick
@given(st.lists(alert_cards, min_size=1, max_size=3))
def test_alert_cards(found: list[AlertCard]) -> None:
    for card in found:
        shown = alert_screens.card(card)
        check(shown)
        assert any(block["type"] == "actions" for block in shown.blocks) == (card.state == "open")
        check(alert_screens.escalation(card, 1, 20, ["<@U0100000005>"]))
        check_view({"type": "home", "blocks": alert_screens.short(card)}, "home")
    check(alert_screens.listed(found * 100, found * 20, "<#C0100000008>"))


def _possible(kind: str, wanted: bool, when_so: Mapping[str, str], when_not: Mapping[str, str]) -> bool:
    """What is wanted, where the kind allows both."""
    return kind in when_so and (wanted or kind not in when_not)


@quick
@given(discrepancy_cards)
def test_discrepancy_cards(card: DiscrepancyCard) -> None:
    same = dict.fromkeys([*card.decided, *card.found])
    whole = replace(
        card,
        decided={**same, **card.decided},
        found={**same, **card.found},
        can_adopt=_possible(card.kind, card.can_adopt, discrepancy_screens.ADOPTS, discrepancy_screens.NO_ADOPTING),
        can_revert=_possible(card.kind, card.can_revert, discrepancy_screens.REVERTS, discrepancy_screens.NO_REVERTING),
    )
    shown = discrepancy_screens.card(whole)
    check(shown)
    offers = card.state == "open" and (whole.can_adopt or whole.can_revert)
    assert any(block["type"] == "actions" for block in shown.blocks) == offers


@quick
@given(st.lists(histories, max_size=15), names, st.one_of(st.none(), requests))
def test_histories(found: list[cards.HistoryLine], name: str, decided: cards.RequestCard | None) -> None:
    check(history_screens.history(found, [], name))
    for line in found[:3]:
        check(history_screens.notice(cards.News(line, decided), "/rollout"))


@quick
@given(st.lists(versions, max_size=300), names, rows)
def test_models_and_checklists(found: list[choices.VersionLine], name: str, checked: list[CheckRow]) -> None:
    check(screens.models(found, "/rollout"))
    check(screens.checklist(name, checked)) if checked else None
    judged = Evaluated(name, "3", "run", True, accept({}, {}), name, name, AT, name)
    check(screens.evaluated(judged, [name], "/rollout"))


@quick
@given(names)
def test_refusals_are_shown_letter_by_letter(name: str) -> None:
    check(blocks.literal(f"There is no variant {name}."))


@quick
@given(st.lists(names, min_size=1, max_size=30))
def test_forms(found: list[str]) -> None:
    options = [fields.option(fields.both(name, "in", name), str(n)) for n, name in enumerate(found * 10)]
    form = fields.modal("Roll back", "rollback", [fields.select("variant", "What", options)], submit="Ask")
    check_view(form, "modal")


@pytest.mark.parametrize("name", HOSTILE)
def test_a_name_is_one_piece_of_code(name: str) -> None:
    shown = blocks.name(name).strip("\u2068\u2069")
    assert shown[0] == shown[-1] == "`"
    assert not set(shown[1:-1]) & set("`<>\n\u202e\0")
    assert 1 <= len(shown[1:-1]) <= 5 * blocks.NAME_LIMIT


def test_short_texts_are_left_alone() -> None:
    assert blocks.cut("abc", 3) == "abc"
    assert blocks.cut("abcd", 3) == "ab…"
    assert blocks.quoted("r" * 500) == "> " + "r" * 500
    assert blocks.name("planner_policy") == "`planner_policy`"


def test_hostile_names_go_the_whole_way(bot: Bot, alice: Person, bob: Person, desk: Engine) -> None:
    storable = [name.replace("\0", "") for name in HOSTILE]
    with db.transaction(desk) as session:
        policy = Policy(name="<!here> *p*")
        place = Experiment(name="<!channel> “*e*” `x`", status="active")
        session.add_all([policy, place])
        session.flush()
        version = add_version(session, policy, 3)
        set_stage(session, version, Stage.CANDIDATE)
        for n, name in enumerate(["control", *storable, *(f"{name[:200]} {n}" for n in range(4) for name in storable)]):
            add_variant(session, place, name, "0.6000" if n == 0 else "0.0400" if n < 11 else "0.0000")
        for n in range(300):
            session.add(Experiment(name=f"{storable[n % 12][:240]} {n}", status="draft"))
    asked = answer(alice, "start '<!channel> “*e*” `x`' '<!here> *p*' 3 because <!channel> & ```all``` " + "r" * 500)
    assert "Start candidate_v3 in <!channel> “*e*” `x`" not in asked  # the typographic quotes were straightened
    assert "Did you mean" in asked
    name = '<!channel> "*e*" `x`'
    with db.transaction(desk) as session:
        session.query(Experiment).filter_by(name="<!channel> “*e*” `x`").one().name = name
    asked = answer(alice, f"start '{name}' '<!here> *p*' 3 because <!channel> & ```all``` " + "r" * 500)
    assert asked.startswith(f"Start candidate_v3 in {name}")
    card = approve(bob, bob.waits_for("#1 ·", APPROVALS))
    assert "`control` *60 % → 54 %*" in text_of(card)
    for typed in ("list", f"status '{name}'", f"history '{name}'", f"checklist '{name}'", f"increase '{name}' nope"):
        assert "went wrong" not in answer(alice, typed)
    assert "more are not shown here" in answer(alice, "list")
    assert "Waiting for you" in text_of(alice.home())
    alice.types("/rollout start", channel=ROLLOUTS)
    assert "ticket" not in text_of(alice.modal(text="Start a candidate"))
    alice.closes(alice.modal())
    alice.types("/rollout rollback", channel=ROLLOUTS)
    assert alice.modal(text="What failed")
    said = [*aloud(bob, APPROVALS), *aloud(bob, ROLLOUTS), *told(alice), *told(bob, APPROVALS)]
    check_inert([text for message in said for text in [*texts(message.get("blocks", []), "mrkdwn"), message["text"]]])


def test_every_picture_that_is_named_is_one_the_page_has() -> None:
    there = Path("bot/sandbox/page/emoji.js").read_text()
    named = {name for path in Path("bot").glob("*.py") for name in re.findall(r":([a-z_]+):", path.read_text())}
    assert named
    assert {name for name in named if f"{name} " not in there} == set()


def test_fine_is_said_only_where_the_whole_interval_keeps_the_limit() -> None:
    lines = {f.metric.name: verdicts.metric_line(f, is_full=True) for f in decisions()[0].findings}
    assert lines["acceptance_rate"].endswith(" · limit\u00a0−5\u00a0% · _no harm seen_")
    assert lines["avg_edits"].endswith(" · limit\u00a0+10\u00a0% · _fine_")


@pytest.mark.parametrize(
    ("bound", "text"),
    [
        ({"tolerance": 0.025}, " · limit\u00a0−2.5\u00a0% · "),
        ({"tolerance": None, "limit": 0.6}, " · at least 60.0\u00a0% · "),
    ],
)
def test_a_limit_is_said_to_the_tenth_and_where_more_is_better_as_the_least(bound: dict[str, Any], text: str) -> None:
    own = (replace(METRICS[0], **bound), *METRICS[1:])
    found, _ = decide(look(Step(traffic(9_000, 2), traffic(1_000, 3))), Memory(), Terms(metrics=own))
    assert text in verdicts.metric_line(found.findings[0], is_full=True)


@pytest.mark.parametrize(("days", "is_said"), [(0.5, True), (2.0, False)])
def test_an_estimate_from_hours_says_so(days: float, is_said: bool) -> None:
    small = verdict(Step(traffic(4_500, 2), traffic(500, 3)), days=days, in_step=days)
    card = CandidateCard("e", "v", small, Decimal("0.1"), Decimal("0.25"), days, 3, None)
    assert ("by the first hours' traffic" in str(verdicts.remarks(card))) is is_said
