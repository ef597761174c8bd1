"""What was found of a platform -> words for the terminal; pure."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import asdict

from core.adoption import Added, Found, Survey
from core.rules.lifecycle import Stage

LINES = 20
"""Of each kind, where not all are asked for."""
FEW = 3
"""Names in one line, where not all are asked for."""


def as_json(survey: Survey) -> str:
    """Everything, for a program to read."""
    return json.dumps(asdict(survey), indent=2, default=str, ensure_ascii=False)


def report(survey: Survey, *, everything: bool = False) -> str:
    """What is there, what is added and what does not fit, in that order."""
    if survey.found is None or survey.added is None:
        return "\n".join(["Cannot be adopted yet:", *(f"  {blocker}" for blocker in survey.blockers)])
    return "\n".join(
        [
            "Found",
            *_found(survey.found),
            "",
            "Will be added",
            *_added(survey.added, everything),
            "",
            *_misfits(survey, everything),
        ]
    )


def _counted(counts: Mapping[str, int]) -> str:
    ordered = sorted(counts.items(), key=lambda one: (not one[0], one[0]))
    return ", ".join(f"{many:,} {_plain(what) or 'without'}" for what, many in ordered) or "none"


def _plain(name: str) -> str:
    """A name on one line, whatever characters somebody gave it."""
    return "".join(each if each.isprintable() else "�" for each in name)


def _some(names: Iterable[str], *, everything: bool) -> str:
    known = [_plain(name) for name in names]
    shown = known if everything else known[:FEW]
    return ", ".join([*shown, *([f"{len(known) - len(shown):,} more"] if len(known) > len(shown) else [])])


def _of(many: int, what: str) -> str:
    return f"{many:,} {what}{'' if many == 1 else 's'}"


def _found(found: Found) -> Iterable[str]:
    total = sum(found.experiments.values())
    yield f"  {_of(total, 'experiment')}: {_counted(found.experiments)}"
    yield f"  {_of(found.variants, 'variant')}, {found.new_shapes:,} with a config of the new shape"
    without = f", {found.without_model:,} without a model" if found.without_model else ""
    yield f"  {found.policies:,} policies with {_of(found.versions, 'version')}{without}"
    if found.stages is None:
        yield "  MLflow was not asked, since MLFLOW_TRACKING_URI is not set: what is in production is not known"
    else:
        yield f"  their models in MLflow by the tag stage: {_counted(found.stages)}"
    span = f", from {found.since:%Y-%m-%d} to {found.until:%Y-%m-%d}" if found.since and found.until else ""
    yield f"  {'' if found.are_events_counted else 'about '}{_of(found.events, 'event')}{span}"


def _added(added: Added, everything: bool) -> Iterable[str]:
    if not added.migrations:
        yield "  nothing to the schemas: promotion is up to date"
    else:
        yield f"  {'to ' if added.has_schema else ''}the schema promotion, the bot's own:"
        yield from (f"    {sentence}" for sentence in added.migrations if not sentence.startswith("The platform's"))
        yield "  nothing in exp: no table, column, index, trigger or row is made or changed. Foreign keys of promotion"
        yield "    point to experiments and policy_versions; where one of those is deleted, the bot's rows about it go."
    yield from _stages(added.stages, everything)
    yield "  first steps: recorded by the bot within a minute of its start, from who was assigned when"


def _stages(added: Mapping[str, Stage], everything: bool) -> Iterable[str]:
    if not added:
        yield "  no stages: what can be known of MLflow's tags and of traffic is on record"
        return
    yield "  stages, by MLflow's tags and by who has traffic (MLflow is not changed):"
    for stage, many in sorted(Counter(added.values()).items()):
        names = sorted(name for name, its in added.items() if its == stage)
        yield f"    {many:,} {stage}: {_some(names, everything=everything)}"


def _misfits(survey: Survey, everything: bool) -> Iterable[str]:
    if not survey.misfits:
        yield "Everything fits."
        return
    yield "Does not fit (completed experiments are left out; drafts, too, but for their variants' policy versions)"
    for name, (remedy, found) in survey.misfits.items():
        yield f"  {name} ({len(found):,}). {remedy}"
        shown = found if everything else found[:LINES]
        yield from (f"    {_plain(misfit.where)}: {_plain(misfit.what)}" for misfit in shown)
        if len(found) > len(shown):
            yield f"    and {len(found) - len(shown):,} more (--all)"
