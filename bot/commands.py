"""/rollout: one function per verb. A verb's docstring is its help: what, how it is typed, an example."""

from __future__ import annotations

import functools
import re
from collections.abc import Callable, Mapping
from typing import Literal

from bot import (
    alert_screens,
    asking,
    blocks,
    charts,
    explain_screens,
    glass,
    history_screens,
    modals,
    policy_versions,
    safety,
    screens,
    verdicts,
)
from bot.blocks import Answer
from bot.desk import Desk
from bot.verbs import Verb, Verbs, known, manual, summary, usage
from bot.words import Missing, Words, length, share
from core import (
    alert_cards,
    candidates,
    cards,
    chart_cards,
    choices,
    db,
    experiments,
    explanations,
    freezes,
    rollout_cards,
    rollouts,
)
from core.db import Session
from core.errors import Refused
from core.plans import Ask
from core.promotions import Scope
from core.rules.approval import Actor
from core.variants import find_policy_version

_POLICY_VERSION = re.compile(r"^(?P<policy>.+?)[ :@/]?v?(?P<version>\d+)$")


_MORE = "An example of each: `{} help VERB`. Names with spaces stand in quotes; reasons go after the word `because`."

# --- Verbs that only read -------------------------------------------------------------------------------------------


def help_(desk: Desk, words: Words, actor: Actor, verbs: Verbs | None = None) -> Answer:
    """What I can do.
    help [verb]
    help freeze"""
    verb, verbs = words.maybe(0), verbs or VERBS
    if verb:
        return blocks.plain(manual(known(verb, verbs), desk.command, verbs))
    groups = {**GROUPS, "Here alone": {name: verbs[name] for name in verbs.keys() - VERBS.keys()}}
    shown = [
        "\n".join((f"*{title}*", *(f"`{desk.command} {usage(n, verbs)}`  {summary(n, verbs)}" for n in group)))
        for title, group in groups.items()
        if group
    ]
    intro = "I take models from trained to production, step by step, with people approving."
    return Answer(
        intro, [blocks.section(intro), *map(blocks.section, shown), blocks.context(_MORE.format(desk.command))]
    )


def list_(desk: Desk, words: Words, actor: Actor) -> Answer:
    """All experiments with their shares.
    list"""
    words.at_most(0)
    with desk.transaction() as session:
        return screens.experiments(*rollout_cards.experiments(session, terms=desk.settings.terms))


def status(desk: Desk, words: Words, actor: Actor) -> Answer:
    """How an experiment stands: shares, verdict, numbers.
    status [EXPERIMENT]
    status planner_policy_exp"""
    with desk.reading() as session:
        name = words.at_most(1).maybe(0) or _only_experiment(session)
        return screens.experiment(rollout_cards.experiment_card(session, name, terms=desk.settings.terms))


def _only_experiment(session: Session) -> str:
    names = choices.experiment_names(session, statuses=("active",))
    if len(names) == 1:
        return names[0]
    if not names:
        raise Refused("No experiment is active. Name one of those that `list` shows.")
    more = f" and {len(names) - 10:,} more" if len(names) > 10 else ""
    raise Refused(f"Which experiment? There is: {', '.join(names[:10])}{more}.")


def recommend(desk: Desk, words: Words, actor: Actor) -> Answer:
    """What to do today with a candidate: increase, promote, wait, roll back or hold.
    recommend [EXPERIMENT]
    recommend planner_policy_exp"""
    with desk.reading() as session:
        name = words.at_most(1).maybe(0) or _only_experiment(session)
        found = rollout_cards.recommended(session, name, terms=desk.settings.terms)
        return verdicts.recommended(found, desk.command)


def why(desk: Desk, words: Words, actor: Actor) -> Answer:
    """Everything behind a verdict: each metric's numbers, limits and evidence, the steps, the data.
    why EXPERIMENT [VARIANT]
    why planner_policy_exp candidate_v3"""
    name = words.at_most(2).at(0, "experiment")
    with desk.reading() as session:
        return verdicts.why(rollout_cards.why_card(session, name, words.maybe(1), terms=desk.settings.terms))


def chart(desk: Desk, words: Words, actor: Actor) -> Answer:
    """Charts: the shares over time, and how far each metric is from its limit.
    chart EXPERIMENT [VARIANT]
    chart planner_policy_exp"""
    name = words.at_most(2).at(0, "experiment")
    with desk.reading() as session:
        card = chart_cards.chart_card(session, name, words.maybe(1), terms=desk.settings.terms)
    return charts.answer(card, desk.command)


def alerts_(desk: Desk, words: Words, actor: Actor) -> Answer:
    """The open alerts.
    alerts [EXPERIMENT]
    alerts planner_policy_exp"""
    with desk.transaction() as session:
        name = words.at_most(1).maybe(0)
        found, quiet = alert_cards.open_alerts(session, name), alert_cards.quiet_alerts(session, name)
    return alert_screens.listed(found, quiet, desk.channels.mention(desk.settings.slack.rollouts_channel))


def scorecard(desk: Desk, words: Words, actor: Actor) -> Answer:
    """How good the alerts have been: precision, time to detect, time to decide; how often the glass was broken.
    scorecard [EXPERIMENT]
    scorecard planner_policy_exp"""
    name = words.at_most(1).maybe(0)
    with desk.transaction() as session:
        return alert_screens.scorecard(alert_cards.scorecard(session, name), alert_cards.glass(session, name))


def candidates_(desk: Desk, words: Words, actor: Actor) -> Answer:
    """The model versions in the registry and their stages.
    candidates [MODEL]
    candidates planner_model"""
    with desk.reading() as session:
        return screens.models(choices.model_lines(session, words.at_most(1).maybe(0), desk.registry), desk.command)


def checklist(desk: Desk, words: Words, actor: Actor) -> Answer:
    """The ten rows that must pass before production.
    checklist EXPERIMENT [VARIANT]
    checklist planner_policy_exp candidate_v3"""
    name = words.at_most(2).at(0, "experiment")
    with desk.reading() as session:
        return screens.checklist(
            *rollout_cards.checklist_card(session, name, words.maybe(1), terms=desk.settings.terms)
        )


def history(desk: Desk, words: Words, actor: Actor) -> Answer:
    """Who did what to an experiment, when and why, and which version was in production when.
    history EXPERIMENT
    history planner_policy_exp"""
    name = words.at_most(1).at(0, "experiment")
    with desk.transaction() as session:
        return history_screens.history(cards.history(session, name), cards.tenures(session, name), name)


_EXPLAINED: Mapping[str, Callable[[Session, int], explanations.Branch]] = {
    "request": explanations.request,
    "alert": explanations.alert,
}


def explain(desk: Desk, words: Words, actor: Actor) -> Answer:
    """A request or an alert as a tree of reasons: who decided what, when, on which evidence.
    explain ID | alert ID
    explain alert 3"""
    kind, rest = (
        (words.names[0].lower(), words.names[1:]) if len(words.at_most(2).names) == 2 else ("request", words.names)
    )
    number = rest[0].removeprefix("#") if rest else words.at(0, "request or alert")
    if kind not in _EXPLAINED or not number.isascii() or not number.isdecimal() or len(number) > 15:
        raise Refused(f"Write the number of a request like `{desk.command} explain 12`, of an alert like `alert 3`.")
    with desk.transaction() as session:
        return explain_screens.explained(_EXPLAINED[kind](session, int(number)))


# --- Verbs that change something at once ----------------------------------------------------------------------------


def qualify(desk: Desk, words: Words, actor: Actor) -> Answer:
    """Judge a model version by its newest offline evaluation; on a pass it becomes a candidate.
    qualify MODEL VERSION
    qualify planner_model 3"""
    model, version = words.at_most(2).at(0, "model"), words.at(1, "version of the model")
    desk.check_may_act(None, desk.people.checked(actor))
    with desk.reading() as session:
        found = candidates.qualify(
            session,
            mlflow_model_name=model,
            mlflow_model_version=version.lower().removeprefix("v"),
            actor=actor.id,
            registry=desk.registry,
        )
        linked = choices.labels_of_model(session, found.mlflow_model_name, found.mlflow_model_version)
    return screens.evaluated(found, linked, desk.command)


def policy(desk: Desk, words: Words, actor: Actor) -> Answer:
    """Create the next version of a policy from a candidate model version.
    policy [POLICY MODEL VERSION [KEY=VALUE …]] [because REASON TO OVERRIDE]
    policy planner_policy planner_model 3 temperature=0.7"""
    if not words.names:
        return Answer("", view=policy_versions.loading(), fill=policy_versions.form)
    create, fields = words.without("new")
    name, model, version = (fields.at(i, what) for i, what in enumerate(("policy", "model", "model version")))
    made = policy_versions.PolicyWish(
        policy=name,
        model=model,
        version=version.lower().removeprefix("v"),
        config=policy_versions.config_from_pairs(fields.names[3:]),
        is_new=create,
        override=words.reason,
    )
    return policy_versions.create(desk, made, actor)


def _set_status(desk: Desk, words: Words, actor: Actor, status: Literal["active", "paused"]) -> Answer:
    name = words.at_most(1).at(0, "experiment")
    desk.check_may_act(name, desk.people.checked(actor))
    with desk.transaction() as session:
        place = experiments.set_status(session, experiment=name, status=status, actor=actor.id, reason=words.reason)
        return blocks.plain(f"{screens.STATUS_MARKS[status]} {blocks.name(place.name)} is {status} now.")


def pause(desk: Desk, words: Words, actor: Actor) -> Answer:
    """Pause an experiment; its shares stay as they are.
    pause EXPERIMENT [because REASON]
    pause planner_policy_exp because the app is being moved"""
    return _set_status(desk, words, actor, "paused")


def resume(desk: Desk, words: Words, actor: Actor) -> Answer:
    """Resume a paused experiment.
    resume EXPERIMENT [because REASON]
    resume planner_policy_exp because the move is over"""
    return _set_status(desk, words, actor, "active")


def hold(desk: Desk, words: Words, actor: Actor) -> Answer:
    """Keep a candidate at its share for a while: 4h, 2d, or 0 to lift it.
    hold EXPERIMENT [VARIANT] LENGTH because REASON
    hold planner_policy_exp 2d because of the fair"""
    name, rest = words.at_most(3).at(0, "experiment"), words.names[1:]
    if not rest:
        raise Missing("For how long?")
    desk.check_may_act(name, desk.people.checked(actor))
    with desk.transaction() as session:
        held = rollouts.hold(
            session,
            experiment=name,
            variant=rest[0] if len(rest) == 2 else None,
            until=db.now_of(session) + length(rest[-1]),
            reason=words.reason or "",
            by=actor.id,
        )
        return screens.held(held.variant, held.hold_until)


def freeze(desk: Desk, words: Words, actor: Actor) -> Answer:
    """Stop everything that gives candidates more traffic, in one experiment or in all; rollbacks go on.
    freeze EXPERIMENT|all because REASON
    freeze all because of the launch"""
    name, sure = words.at_most(1).at(0, "experiment, or all"), desk.people.checked(actor)
    with desk.transaction() as session:
        what = freezes.freeze(session, experiment=name, reason=words.reason, actor=sure, roles=desk.people.roles)
    return screens.frozen(what, desk.command)


def unfreeze(desk: Desk, words: Words, actor: Actor) -> Answer:
    """End a freeze.
    unfreeze EXPERIMENT|all [because REASON]
    unfreeze all because the launch went well"""
    name, sure = words.at_most(1).at(0, "experiment, or all"), desk.people.checked(actor)
    with desk.transaction() as session:
        what = freezes.unfreeze(session, experiment=name, reason=words.reason, actor=sure, roles=desk.people.roles)
    return screens.unfrozen(what)


def break_glass(desk: Desk, words: Words, actor: Actor) -> Answer:
    """For owners: carry a request out without its approvals; opens a form.
    break-glass ID [because REASON]
    break-glass 12 because users see errors"""
    number = words.at_most(1).at(0, "request").removeprefix("#")
    if not number.isascii() or not number.isdecimal() or len(number) > 9:
        raise Refused(f"Write the number of a request like `{desk.command} break-glass 12`.")
    return glass.form(desk, int(number), actor, reason=words.reason)


def safety_(desk: Desk, words: Words, actor: Actor) -> Answer:
    """For owners: sign that a candidate returns by itself where nobody answers a critical alert.
    safety EXPERIMENT [VARIANT] [sign MINUTES|withdraw] [because REASON]
    safety planner_policy_exp sign 30 because nobody is awake tonight"""
    return safety.verb(desk, words, actor)


# --- Verbs that ask for a change ------------------------------------------------------------------------------------


def _ask(desk: Desk, wish: Ask, actor: Actor) -> Answer:
    return asking.ask(desk, wish, actor, is_slow=VERBS[wish.action].is_slow)


def start(desk: Desk, words: Words, actor: Actor) -> Answer:
    """Let a candidate join an experiment with at most 10 %.
    start [EXPERIMENT POLICY VERSION [SHARE]] [because REASON]
    start planner_policy_exp planner_policy 3 5%"""
    if not words.names:
        with desk.transaction() as session:
            return Answer("", view=modals.start(session, desk.command))
    instead, words = words.without("instead")
    name, chosen = words.at_most(4).at(0, "experiment"), words.names[1:]
    policy_name, number, rest = _policy_version(desk, name, chosen)
    initial = share(rest[0]) if rest else None
    with desk.transaction() as session:
        version = find_policy_version(session, policy_name, number)
        wish = Ask("start", name, reason=words.reason, policy_version_id=version.id, share=initial, replaces=instead)
    return _ask(desk, wish, actor)


def _policy_version(desk: Desk, experiment: str, names: tuple[str, ...]) -> tuple[str, int, tuple[str, ...]]:
    """Reads `planner_policy 3`, `planner_policy v3`, `planner_policy:3`, or just `3` where one policy is in use."""
    if not names:
        raise Refused("The policy version is missing, for example `planner_policy 3`.")
    number = names[0].lower().removeprefix("v")
    if number.isdecimal():
        return _policy_in_use(desk, experiment), int(number), names[1:]
    if len(names) > 1 and (second := names[1].lower().removeprefix("v")).isdecimal():
        return names[0], int(second), names[2:]
    found = _POLICY_VERSION.match(names[0])
    if found is None:
        raise Refused(f"Which version of {names[0]}? Write it like `{names[0]} 3`.")
    return found["policy"], int(found["version"]), names[1:]


def _policy_in_use(desk: Desk, experiment: str) -> str:
    with desk.transaction() as session:
        card = rollout_cards.experiment_card(session, experiment, terms=desk.settings.terms, measured=False)
    policies = {line.version.rsplit(" v", 1)[0] for line in card.variants if line.version}
    if len(policies) != 1:
        raise Refused("Say which policy: write it like `planner_policy 3`.")
    return policies.pop()


def increase(desk: Desk, words: Words, actor: Actor) -> Answer:
    """Move a candidate to the next step: 10 → 25 → 50 %.
    increase EXPERIMENT [VARIANT] [because REASON TO OVERRIDE]
    increase planner_policy_exp"""
    instead, rest = words.without("instead")
    name = rest.at_most(2).at(0, "experiment")
    wish = Ask("increase", name, override=rest.reason, variant=rest.maybe(1), replaces=instead)
    return _ask(desk, wish, actor)


def promote(desk: Desk, words: Words, actor: Actor) -> Answer:
    """Make a candidate production: all traffic, tags, the previous version archived.
    promote EXPERIMENT [VARIANT] [because REASON TO OVERRIDE]
    promote planner_policy_exp candidate_v3"""
    instead, rest = words.without("instead")
    name = rest.at_most(2).at(0, "experiment")
    wish = Ask("promote", name, override=rest.reason, variant=rest.maybe(1), replaces=instead)
    return _ask(desk, wish, actor)


def rollback(desk: Desk, words: Words, actor: Actor) -> Answer:
    """Give the traffic back to the baseline; one confirmation is enough.
    rollback [EXPERIMENT [VARIANT] [share]] because REASON
    rollback planner_policy_exp because plans come slowly"""
    if not words.names:
        with desk.transaction() as session:
            return Answer("", view=modals.rollback(session))
    instead, words = words.without("instead")
    only_share, rest = words.without("share")
    name = rest.at_most(2).at(0, "experiment")
    scope: Scope = "share" if only_share else "all"
    wish = Ask("rollback", name, reason=words.reason, variant=rest.maybe(1), scope=scope, replaces=instead)
    return _ask(desk, wish, actor)


def retire(desk: Desk, words: Words, actor: Actor) -> Answer:
    """Archive (or delete) the variants at 0 %.
    retire EXPERIMENT [delete] [because REASON]
    retire planner_policy_exp"""
    instead, words = words.without("instead")
    delete, rest = words.without("delete")
    name = rest.at_most(1).at(0, "experiment")
    mode: Literal["archive", "delete"] = "delete" if delete else "archive"
    return _ask(desk, Ask("retire", name, reason=words.reason, mode=mode, replaces=instead), actor)


# --- The table ------------------------------------------------------------------------------------------------------

GROUPS: Mapping[str, Verbs] = {
    "Look": {
        "help": Verb(help_),
        "list": Verb(list_, is_slow=True),
        "status": Verb(status, is_slow=True),
        "recommend": Verb(recommend, is_slow=True),
        "why": Verb(why, is_slow=True),
        "chart": Verb(chart, is_slow=True),
        "checklist": Verb(checklist, is_slow=True),
        "alerts": Verb(alerts_),
    },
    "Models and policies": {
        "candidates": Verb(candidates_, is_slow=True),
        "qualify": Verb(qualify, is_slow=True),
        "policy": Verb(policy, is_slow=True, has_form=True),
    },
    "Ask for a change": {
        "start": Verb(start, has_form=True),
        "increase": Verb(increase, is_slow=True),
        "promote": Verb(promote, is_slow=True),
        "retire": Verb(retire, is_slow=True),
        "break-glass": Verb(break_glass),
    },
    "Stop and return": {
        "rollback": Verb(rollback, has_form=True),
        "hold": Verb(hold),
        "freeze": Verb(freeze),
        "unfreeze": Verb(unfreeze),
        "pause": Verb(pause),
        "resume": Verb(resume),
        "safety": Verb(safety_),
    },
    "On record": {
        "history": Verb(history),
        "explain": Verb(explain),
        "scorecard": Verb(scorecard),
    },
}
"""By what people want, as `help` shows them."""
VERBS: Verbs = {name: verb for verbs in GROUPS.values() for name, verb in verbs.items()}


def extended(more: Verbs) -> Verbs:
    """All verbs and more of them; `help` tells of both."""
    verbs: dict[str, Verb] = {**VERBS, **more}

    @functools.wraps(help_)
    def help_to_all(desk: Desk, words: Words, actor: Actor) -> Answer:
        return help_(desk, words, actor, verbs)

    verbs["help"] = Verb(help_to_all)
    return verbs
