"""Finding things by the names people use, and reading an experiment as it stands."""

from __future__ import annotations

import difflib
import uuid
from collections.abc import Collection, Mapping, Sequence
from decimal import Decimal
from typing import Any

from sqlalchemy import select
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session

from core import erasure, stages
from core.errors import Refused
from core.tables import AllocationStep, Experiment, Policy, PolicyVersion, RetiredName, Variant

NAME_LIMIT = 255
BASELINE_NAMES = ("control", "baseline")


def _unknown(kind: str, name: str, known: list[str]) -> Refused:
    if not known:
        return Refused(f"There is no {kind} {name}, nor any other yet.")
    near = difflib.get_close_matches(name, known, n=1, cutoff=0.5)
    hint = f"Did you mean {near[0]}?" if near else f"There is: {', '.join(sorted(known)[:10])}."
    return Refused(f"There is no {kind} {name}. {hint}")


def unknown_model(name: str, known: list[str]) -> Refused:
    """What is said of a model that MLflow does not have."""
    near = difflib.get_close_matches(name, known, n=1, cutoff=0.5)
    hint = f" Did you mean {near[0]}?" if near else ""
    return Refused(f"MLflow has no model {name}. Registered models: {', '.join(sorted(known)[:10]) or 'none'}.{hint}")


def find_policy(session: Session, name: str, *, create: bool = False) -> Policy:
    """The policy of that name, locked; made only where `create` asks for it.

    Raises:
        Refused: where there is none, with the nearest name, or where a new one cannot have that name.
    """
    if create and not (name.strip() and len(name) <= NAME_LIMIT):
        raise Refused(f"The name of a policy has at least one and at most {NAME_LIMIT} letters.")
    if create:  # two people may make it at once; the second takes what the first made
        session.execute(insert(Policy).values(name=name).on_conflict_do_nothing(index_elements=["name"]))
    found = session.scalar(select(Policy).where(Policy.name == name).with_for_update())
    if found is None:
        raise _unknown("policy", name, list(session.scalars(select(Policy.name))))
    return found


def find_policy_version(session: Session, policy: str, version: int) -> PolicyVersion:
    """One version of a policy.

    Raises:
        Refused: where the policy has no such version, with those it has.
    """
    query = select(PolicyVersion).join(Policy).where(Policy.name == policy)
    known = {found.version: found for found in session.scalars(query)}
    if not known:
        raise _unknown("policy with versions", policy, list(session.scalars(select(Policy.name))))
    if version not in known:
        raise Refused(f"{policy} has no version {version}. It has: {', '.join(f'v{v}' for v in sorted(known))}.")
    return known[version]


def find_experiment(session: Session, experiment: str | uuid.UUID | Experiment, *, lock: bool = True) -> Experiment:
    """The experiment, its row locked so that changes of one experiment follow one another.

    Raises:
        Refused: where there is none, with the nearest name.
    """
    if isinstance(experiment, Experiment):
        wanted = Experiment.id == experiment.id
    else:
        wanted = Experiment.id == experiment if isinstance(experiment, uuid.UUID) else Experiment.name == experiment
    query = select(Experiment).where(wanted).execution_options(populate_existing=True)
    found = session.scalar(query.with_for_update() if lock else query)
    if found is None:
        raise _unknown("experiment", str(experiment), list(session.scalars(select(Experiment.name))))
    return found


def variants_of(session: Session, experiments: Collection[uuid.UUID]) -> dict[uuid.UUID, list[Variant]]:
    """The variants of some experiments, each in the order they joined; without those that are being deleted."""
    query = select(Variant).where(Variant.experiment_id.in_(experiments), erasure.is_there())
    query = query.order_by(Variant.created_at, Variant.id)
    found: dict[uuid.UUID, list[Variant]] = {experiment: [] for experiment in experiments}
    for variant in session.scalars(query.execution_options(populate_existing=True)):
        found[variant.experiment_id].append(variant)
    return found


def variants(session: Session, experiment: Experiment) -> list[Variant]:
    """The variants of an experiment in the order they joined."""
    return variants_of(session, [experiment.id])[experiment.id]


def shares(session: Session, experiment: Experiment) -> dict[uuid.UUID, Decimal]:
    """The present share of each variant, as fractions of 1."""
    return {variant.id: variant.allocation for variant in variants(session, experiment)}


def find_variant(session: Session, experiment: Experiment, name: str | uuid.UUID | Variant) -> Variant:
    """One variant of the experiment by name or id.

    Raises:
        Refused: where there is none, with the nearest name.
    """
    wanted = name.id if isinstance(name, Variant) else name
    there = variants(session, experiment)
    for variant in there:
        if wanted in (variant.id, variant.name):
            return variant
    raise _unknown("variant", str(wanted), [v.name for v in there])


def is_new_shape(config: Any) -> bool:
    """True for a config that names its execution strategy; one without is of the old shape."""
    return isinstance(config, Mapping) and "execution_strategy" in config


def written_link(config: Any) -> Any:
    """What a variant's config of either shape has as the id of its policy version; None where there is nothing.

    Platforms hold configs written by hand, so anything that JSON can say may come.
    """
    holder = config.get("mlflow_model") if is_new_shape(config) else config
    return holder.get("policy_version_id") if isinstance(holder, Mapping) else None


def linked_version_id(config: Any) -> uuid.UUID | None:
    """The policy version a variant's config links to, in either of the platform's shapes; None where to none."""
    try:
        return uuid.UUID(str(written_link(config)))
    except ValueError:
        return None


def linked_version(session: Session, variant: Variant) -> PolicyVersion | None:
    """The policy version that a variant serves, or None where it links to none that exists."""
    found = linked_version_id(variant.config)
    return session.get(PolicyVersion, found) if found else None


def required_version(session: Session, variant: Variant) -> PolicyVersion:
    """The policy version that a variant serves.

    Raises:
        Refused: where it links to none, so that it cannot be promoted.
    """
    found = linked_version(session, variant)
    if found is None:
        raise Refused(f"The variant {variant.name} links to no policy version, so it cannot be promoted.")
    return found


def variant_serving(there: list[Variant], policy_version: PolicyVersion) -> Variant | None:
    """The variant that serves a policy version; one with traffic before one without."""
    serving_it = [v for v in there if linked_version_id(v.config) == policy_version.id]
    return max(serving_it, key=lambda v: v.allocation, default=None)


def running_of(session: Session, experiment: Experiment) -> tuple[Variant | None, list[Variant]]:
    """The baseline, and the candidates with traffic beside it; none without a baseline."""
    base, _ = baseline_or_note(session, experiment)
    if base is None:
        return None, []
    return base, beside(base, variants(session, experiment))


def baselines(session: Session, there: Mapping[uuid.UUID, Sequence[Variant]]) -> dict[uuid.UUID, Variant]:
    """What candidates are compared with in each of some experiments: the variant in production, else the one named
    control or baseline. Those are missing that have neither."""
    linked = {v.id: linked_version_id(v.config) for variants in there.values() for v in variants}
    serving = stages.those_in_production(session, {version for version in linked.values() if version})
    found = {
        key: _baseline(variants, [v for v in variants if linked[v.id] in serving]) for key, variants in there.items()
    }
    return {key: base for key, base in found.items() if base}


def _baseline(there: Sequence[Variant], in_production: Sequence[Variant]) -> Variant | None:
    if in_production:  # an earlier try of the same version may have been left behind at 0 %
        return max(in_production, key=lambda v: v.allocation)
    named = [v for v in there if is_baseline_name(v.name)]
    return named[0] if len(named) == 1 else None


def is_baseline_name(name: str) -> bool:
    """True for the names that make a variant the baseline where none is in production."""
    return name.lower() in BASELINE_NAMES


def baseline(session: Session, experiment: Experiment) -> Variant:
    """What candidates are compared with: the variant in production, else the one named control or baseline.

    Raises:
        Refused: where there is neither, with how to name one.
    """
    there = variants(session, experiment)
    found = baselines(session, {experiment.id: there}).get(experiment.id)
    if found is not None:
        return found
    is_named = any(is_baseline_name(v.name) for v in there)
    raise Refused(
        f"{experiment.name} has no clear baseline: no variant is in production and "
        f"{'both control and baseline exist' if is_named else 'none is named control or baseline'}. "
        "Rename the variant to compare with to `control`."
    )


def former_baseline(session: Session, experiment: Experiment, failed: Variant) -> Variant | None:
    """The variant that is, or was before it was archived, named control or baseline; None where that is not one.

    What a rollback returns to where the version that was replaced is not on record, as plain rules have none.
    """
    others = [v for v in variants(session, experiment) if v.id != failed.id]
    retired = session.scalars(select(RetiredName).where(RetiredName.variant_id.in_([v.id for v in others])))
    former = {found.variant_id: found.name for found in retired}
    named = [v for v in others if is_baseline_name(former.get(v.id, v.name))]
    sound = [v for v in named if not stages.has_failed(session, linked_version_id(v.config))]
    return sound[0] if len(sound) == 1 else None


def baseline_or_note(session: Session, place: Experiment) -> tuple[Variant | None, str | None]:
    """The baseline; where there is none, the sentence that says why."""
    try:
        return baseline(session, place), None
    except Refused as refused:
        return None, str(refused)


def beside(base: Variant, there: Sequence[Variant]) -> list[Variant]:
    """The candidates with traffic beside a baseline."""
    return [v for v in there if v.id != base.id and v.allocation > 0]


def candidate(session: Session, experiment: Experiment, name: str | uuid.UUID | None = None) -> Variant:
    """The variant under test: the named one, else the only one besides the baseline that has traffic.

    Raises:
        Refused: where there is none, or several and no name says which.
    """
    base = baseline(session, experiment)
    if name is not None:
        found = find_variant(session, experiment, name)
        if found.id == base.id:
            raise Refused(f"{found.name} is the baseline of {experiment.name}, not a candidate.")
        return found
    running = beside(base, variants(session, experiment))
    if len(running) == 1:
        return running[0]
    if not running:
        raise Refused(f"No candidate is running in {experiment.name}. Start one first.")
    raise Refused(f"Several candidates are running: {', '.join(v.name for v in running)}. Say which one.")


def what_fails(session: Session, experiment: Experiment) -> Variant:
    """What a rollback without a name is about: the only candidate with traffic, else what is in production.

    Raises:
        Refused: where several candidates have traffic and no name says which.
    """
    base = baseline(session, experiment)
    return candidate(session, experiment) if beside(base, variants(session, experiment)) else base


def set_shares(
    session: Session, experiment: Experiment, wanted: Mapping[uuid.UUID, Decimal], *, request_id: int | None = None
) -> None:
    """Writes the shares (they must sum to 1) and opens a new allocation step."""
    for variant in variants(session, experiment):
        variant.allocation = wanted[variant.id]
    session.add(
        AllocationStep(
            experiment_id=experiment.id,
            shares={str(key): str(share) for key, share in wanted.items() if share},
            request_id=request_id,
        )
    )
    session.flush()


def named_shares(session: Session, experiment: Experiment) -> dict[str, str]:
    """Variant names with their shares, as the ledger keeps them."""
    return {v.name: str(v.allocation) for v in variants(session, experiment)}


def restore_name(session: Session, variant: Variant) -> None:
    """Gives an archived variant its former name back, where that is free."""
    retired = session.get(RetiredName, variant.id)
    if retired is None:
        return
    taken = session.scalar(
        select(Variant.id).where(Variant.experiment_id == variant.experiment_id, Variant.name == retired.name)
    )
    if taken is None:
        variant.name = retired.name
        session.delete(retired)
        session.flush()


def forget_name(session: Session, variant: Variant) -> None:
    """Drops the former name of a variant that will not come back under it."""
    retired = session.get(RetiredName, variant.id)
    if retired is not None:
        session.delete(retired)
    session.flush()
