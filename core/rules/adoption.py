"""What of a platform that was there before the bot does not fit it, and the stages its versions have reached; pure."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from functools import cached_property
from typing import Literal, TypeVar

from core.rules.lifecycle import Stage

K = TypeVar("K")
V = TypeVar("V")

RUNNING = ("active", "paused")
EXPERIMENT_STATUSES = ("draft", *RUNNING, "completed")
VERSION_STATUSES = ("active", "deprecated", "archived")
GRAIN = Decimal("0.0001")

Link = Literal["sound", "missing", "unreadable", "unknown"]
"""How a variant's config names its policy version; `unknown`: an id that no policy version has."""


@dataclass(frozen=True)
class Experiment:
    """One experiment of the platform."""

    key: str
    name: str
    status: str
    is_mute: bool = False
    """It began over a week ago, and nothing was measured of it since."""


@dataclass(frozen=True)
class Variant:
    """One arm with its share, a fraction of 1, and the policy version its config names."""

    key: str
    experiment: str
    name: str
    share: Decimal
    version: str | None
    link: Link
    is_named_baseline: bool


@dataclass(frozen=True)
class Version:
    """One policy version and the model version that it links to; none for prompts and plain rules."""

    key: str
    policy: str
    number: int
    status: str
    model: str | None
    model_version: str | None

    @property
    def label(self) -> str:
        """How people call it."""
        return f"{self.policy} v{self.number}"


Tags = Mapping[str, Mapping[str, str | None]]
"""MLflow's tag `stage` of each version, by model."""
Aliases = Mapping[str, str | None]
"""The version that has MLflow's alias `production`, by model."""


@dataclass(frozen=True)
class Platform:
    """All that is looked at; `tags` is None where MLflow was not asked."""

    experiments: Sequence[Experiment]
    variants: Sequence[Variant]
    policies: Sequence[str]
    versions: Sequence[Version]
    tags: Tags | None
    aliases: Aliases

    @cached_property
    def arms(self) -> Mapping[str, list[Variant]]:
        """The variants of each experiment."""
        return _grouped((variant.experiment, variant) for variant in self.variants)

    @cached_property
    def running(self) -> list[Experiment]:
        """The experiments whose shares matter now."""
        return [experiment for experiment in self.experiments if experiment.status in RUNNING]

    @cached_property
    def names(self) -> Mapping[str, str]:
        """The name of each experiment."""
        return {experiment.key: experiment.name for experiment in self.experiments}

    @cached_property
    def served(self) -> frozenset[str]:
        """The policy versions that have traffic."""
        running = {experiment.key for experiment in self.running}
        return frozenset(v.version for v in self.variants if v.version and v.share and v.experiment in running)

    @cached_property
    def in_production(self) -> frozenset[str]:
        """The policy versions that serve the one version of their model that MLflow has in production."""
        return frozenset(found[0].key for _, _, found in _tagged(self) if len(found) == 1)

    def baseline(self, experiment: Experiment) -> Variant | None:
        """What candidates are compared with; None where that is not clear."""
        there = self.arms.get(experiment.key, [])
        producing = [arm for arm in there if arm.version in self.in_production]
        if producing:
            return max(producing, key=lambda arm: arm.share)
        named = [arm for arm in there if arm.is_named_baseline]
        return named[0] if len(named) == 1 else None


def _grouped(pairs: Iterable[tuple[K, V]]) -> dict[K, list[V]]:
    found: dict[K, list[V]] = defaultdict(list)
    for key, value in pairs:
        found[key].append(value)
    return dict(found)


def _producing(tags: Mapping[str, str | None]) -> list[str]:
    return sorted((version for version, stage in tags.items() if stage == Stage.PRODUCTION), key=lambda v: (len(v), v))


def _tagged(platform: Platform) -> Iterator[tuple[str, str, list[Version]]]:
    """Model, its only version tagged production, and the policy versions that serve it.

    Where there are several of those, the ones with traffic.
    """
    serving = _grouped(((v.model, v.model_version), v) for v in platform.versions)
    for model, tags in (platform.tags or {}).items():
        producing = _producing(tags)
        if len(producing) == 1:
            there = serving.get((model, producing[0]), [])
            yield model, producing[0], [v for v in there if len(there) == 1 or v.key in platform.served]


# --- Stages that were reached before the bot ------------------------------------------------------------------------


def reached(platform: Platform) -> dict[str, Stage]:
    """The stage to record for policy versions: in production by MLflow's tag, in experiment by their traffic.

    Without a clear baseline nobody can say which arm is the candidate, so nothing is recorded there; nor of a version
    that is tagged production beside another, or has the alias alone, before somebody says which of them is.
    """
    tags = platform.tags or {}
    claiming = {(model, version) for model in tags for version in _producing(tags[model])}
    claiming |= {(model, holder) for model, holder in platform.aliases.items() if holder}
    sound = {
        v.key for v in platform.versions if v.model and v.model_version and (v.model, v.model_version) not in claiming
    }
    found = dict.fromkeys(platform.in_production, Stage.PRODUCTION)
    bases = [(experiment, platform.baseline(experiment)) for experiment in platform.running]
    candidates = sound - {base.version for _, base in bases if base}
    for experiment, base in bases:
        for arm in platform.arms.get(experiment.key, []) if base else []:
            if arm.share and arm.version in candidates:
                found.setdefault(arm.version, Stage.EXPERIMENT)
    return found


# --- What does not fit ----------------------------------------------------------------------------------------------


@dataclass(frozen=True, order=True)
class Misfit:
    """One thing that does not fit: where (an experiment, a model, …) and what, in words."""

    where: str
    what: str


def _shares(platform: Platform) -> Iterator[Misfit]:
    for experiment in platform.running:
        there = platform.arms.get(experiment.key, [])
        total = sum((arm.share for arm in there), Decimal(0))
        if there and total != 1:
            yield Misfit(experiment.name, f"the shares add up to {total:f}")


def _fine_shares(platform: Platform) -> Iterator[Misfit]:
    for arm in platform.variants:
        if not arm.share.is_finite() or arm.share % GRAIN or not 0 <= arm.share <= 1:
            yield Misfit(platform.names.get(arm.experiment, arm.experiment), f"{arm.name} has {arm.share:f}")


def _empty(platform: Platform) -> Iterator[Misfit]:
    for experiment in platform.running:
        if not platform.arms.get(experiment.key):
            yield Misfit(experiment.name, "no variant at all")


def _baselines(platform: Platform) -> Iterator[Misfit]:
    for experiment in platform.running:
        there = platform.arms.get(experiment.key, [])
        if there and platform.baseline(experiment) is None:
            named = [arm.name for arm in there if arm.is_named_baseline]
            others = f"neither in production nor named control: {_some(sorted(arm.name for arm in there))}"
            yield Misfit(experiment.name, f"{' and '.join(sorted(named))} both exist" if named else others)


def _mute(platform: Platform) -> Iterator[Misfit]:
    for experiment in platform.experiments:
        if experiment.status == "active" and experiment.is_mute and platform.arms.get(experiment.key):
            yield Misfit(experiment.name, "no plan in the last seven days")


def _some(names: Iterable[str], most: int = 3) -> str:
    """A few names, and how many more."""
    known = list(names)
    return ", ".join([*known[:most], *([f"{len(known) - most} more"] if len(known) > most else [])])


def _links(wanted: Link, words: str) -> Callable[[Platform], Iterator[Misfit]]:
    def found(platform: Platform) -> Iterator[Misfit]:
        over = {experiment.key for experiment in platform.experiments if experiment.status == "completed"}
        for arm in platform.variants:
            if arm.link == wanted and arm.experiment not in over:
                yield Misfit(platform.names.get(arm.experiment, arm.experiment), f"{arm.name}{words}")

    return found


def _statuses(platform: Platform) -> Iterator[Misfit]:
    for experiment in platform.experiments:
        if experiment.status not in EXPERIMENT_STATUSES:
            yield Misfit(experiment.name, f"status {experiment.status!r}")
    for version in platform.versions:
        if version.status not in VERSION_STATUSES:
            yield Misfit(version.label, f"status {version.status!r}")


def _duplicates(platform: Platform) -> Iterator[Misfit]:
    arms = Counter((arm.experiment, arm.name) for arm in platform.variants)
    yield from _repeated(Counter(experiment.name for experiment in platform.experiments), "experiments")
    yield from _repeated(Counter(platform.policies), "policies")
    yield from _repeated(Counter(version.label for version in platform.versions), "policy versions")
    for (experiment, name), many in arms.items():
        if many > 1:
            yield Misfit(platform.names.get(experiment, experiment), f"{many} variants are called {name}")


def _repeated(names: Counter[str], kind: str) -> Iterator[Misfit]:
    return (Misfit(name, f"{many} {kind} are called that") for name, many in names.items() if many > 1)


def _half_models(platform: Platform) -> Iterator[Misfit]:
    for version in platform.versions:
        if bool(version.model) != bool(version.model_version):
            which = "a model, but no version of it" if version.model else "a version, but no model"
            yield Misfit(version.label, f"names {which}")


def _odd_tags(platform: Platform) -> Iterator[Misfit]:
    for model, tags in (platform.tags or {}).items():
        for version, stage in tags.items():
            if stage and stage not in set(Stage):
                yield Misfit(model, f"version {version} is tagged {stage!r}")


def _missing_models(platform: Platform) -> Iterator[Misfit]:
    for version in platform.versions if platform.tags is not None else ():
        tags = (platform.tags or {}).get(version.model or "", {})
        if version.model and version.model_version and version.model_version not in tags:
            yield Misfit(version.label, f"MLflow has no {version.model} {version.model_version}")


def _rivals(platform: Platform) -> Iterator[Misfit]:
    for model, tags in (platform.tags or {}).items():
        producing = _producing(tags)
        if len(producing) > 1:
            yield Misfit(model, f"MLflow has versions {' and '.join(producing)} in production")


def _apart(platform: Platform) -> Iterator[Misfit]:
    for model, holder in platform.aliases.items():
        producing = _producing((platform.tags or {}).get(model, {}))
        if holder is not None and holder not in producing:
            tagged = f"version {' and '.join(producing)}" if producing else "none"
            yield Misfit(model, f"the alias production is on version {holder}, the tag stage=production on {tagged}")


def _unserved(platform: Platform) -> Iterator[Misfit]:
    for model, version, found in _tagged(platform):
        if len(found) != 1:
            shown = (
                f"{_some(v.label for v in found)} all serve"
                if found
                else "no policy version, or several without traffic, serve"
            )
            yield Misfit(model, f"{shown} its version {version} in production")


@dataclass(frozen=True)
class Kind:
    """One way not to fit: what it is called, what the bot does about it and how to mend it."""

    name: str
    remedy: str
    find: Callable[[Platform], Iterator[Misfit]]


KINDS: tuple[Kind, ...] = (
    Kind(
        "Shares that do not add up to 1",
        "The bot changes no share there and keeps no steps until they do. Correct `allocation`.",
        _shares,
    ),
    Kind(
        "Shares that are no fraction with four decimals",
        "The bot changes no share there. Round `allocation`.",
        _fine_shares,
    ),
    Kind("Experiments without variants", "The bot leaves them alone. Add variants, or complete them.", _empty),
    Kind(
        "Active experiments of which nothing is heard",
        "The bot tells nothing of them until plans or aggregates come. Complete those that are over.",
        _mute,
    ),
    Kind(
        "No clear baseline",
        "Nothing can be compared there. Rename the variant to compare with to `control`, "
        "or tag its model version in MLflow stage=production.",
        _baselines,
    ),
    Kind(
        "Variants without a policy version",
        "They can be compared with and rolled back, not promoted. Set policy_version_id in `config` to promote them.",
        _links("missing", ""),
    ),
    Kind(
        "Variants whose policy version does not exist",
        "They can be compared and rolled back, not promoted. Correct policy_version_id in `config`.",
        _links("unknown", " names an id that no policy version has"),
    ),
    Kind(
        "Variants whose config cannot be read",
        "They count as variants without a policy version. Write `config` in one of the two shapes.",
        _links("unreadable", ""),
    ),
    Kind("Unknown statuses", "The bot leaves these alone, whatever the word means. Correct `status`.", _statuses),
    Kind(
        "Names that are not unique",
        "People name things in chat, and the bot would take any of them. Rename all but one.",
        _duplicates,
    ),
    Kind("Half a model version", "Such a policy version cannot be promoted. Fill in the other half.", _half_models),
    Kind(
        "Unknown stages in MLflow",
        "The bot takes them for none, and with its first change of such a version writes the decided stage over them. "
        "Where they mean one, write candidate, experiment, production or archived.",
        _odd_tags,
    ),
    Kind(
        "Model versions that MLflow does not have",
        "The decision would stand and MLflow could not follow. Correct the policy version.",
        _missing_models,
    ),
    Kind(
        "More than one version in production",
        "None of them is taken as in production. Leave the tag stage=production at one.",
        _rivals,
    ),
    Kind(
        "Alias and tag of production on different versions",
        "The tag counts, and nobody's stage is taken from an alias alone. Set both on the version that serves.",
        _apart,
    ),
    Kind(
        "Production that is not clear",
        "Nothing is recorded as in production; `control` is the baseline. Leave one policy version for it.",
        _unserved,
    ),
)


def misfits(platform: Platform) -> dict[str, tuple[str, tuple[Misfit, ...]]]:
    """What does not fit, by the name of its kind, with the remedy; kinds of which there is nothing are left out."""
    found = {kind.name: (kind.remedy, tuple(sorted(kind.find(platform)))) for kind in KINDS}
    return {name: one for name, one in found.items() if one[1]}
