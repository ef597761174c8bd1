"""What the tags and the alias of a model should say, and what of them somebody else has set."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Literal

from core.rules.lifecycle import Stage

Tags = Mapping[str, str | None]
"""What the tag `stage` says, by version; None where it is not set."""


Part = Literal["tags", "alias"]
PRODUCTION_ALIAS: Final = "production"


@dataclass(frozen=True)
class Written:
    """What tags and alias said when they were last brought in line; `is_known` is False before the first time, when
    the tags are those by which the bot took over what was in production."""

    tags: Mapping[str, str]
    alias: str | None
    is_known: bool = True
    reverts: Part | None = None
    """What somebody puts back: where it still says what was `shown` to them, it is not left alone."""
    shown: Tags | None = None
    """By version, or of the alias by its name; None where the release before asked, which puts back all of the part."""
    maybe: Sequence[Tags] = ()
    """What was decided since and may be written already, by attempts whose end nobody knows."""


def wanted_tags(present: Tags, stages: Mapping[str, Stage]) -> dict[str, str]:
    """The tags of the versions that are there, production first.

    Versions that nothing was decided about keep theirs, unless they claim production as well.
    """
    wanted = {v: stage.value for v, stage in stages.items() if stage != Stage.NONE and v in present}
    if Stage.PRODUCTION in stages.values():
        rivals = [
            v for v, tag in present.items() if tag == Stage.PRODUCTION and stages.get(v, Stage.NONE) == Stage.NONE
        ]
        wanted |= dict.fromkeys(rivals, Stage.ARCHIVED.value)
    # Production is named before its predecessor is archived: for a moment two, never none.
    return dict(sorted(wanted.items(), key=lambda item: item[1] != Stage.PRODUCTION))


def wanted_alias(present: Collection[str], stages: Mapping[str, Stage], holder: str | None) -> str | None:
    """The version that the alias `production` should point to, given which one it does.

    Where nothing is in production it stays on a version that nothing was decided about.
    """
    decided = _in_production(stages)
    if decided is not None:
        return decided if decided in present else holder
    return None if stages.get(holder or "", Stage.NONE) != Stage.NONE else holder


def set_by_others(present: Tags, wanted: Mapping[str, str], written: Written) -> dict[str, str | None]:
    """The tags that are neither what is wanted nor what was written last, by version.

    What was never written by us may be as old as the model; it is another's word only where it claims production.
    """
    differing = {v: present[v] for v, stage in wanted.items() if present[v] != stage}
    others = {v: tag for v, tag in differing.items() if _is_anothers(v, tag, wanted[v], written)}
    return {v: tag for v, tag in others.items() if not _is_put_back("tags", v, tag, written)}


def _is_put_back(part: Part, key: str, says: str | None, written: Written) -> bool:
    shown = written.shown
    return written.reverts == part and (shown is None or (key in shown and shown[key] == says))


def _is_anothers(version: str, tag: str | None, wanted: str, written: Written) -> bool:
    if any(version in tags and tag == tags[version] for tags in written.maybe):
        return False
    if version in written.tags:
        return tag != written.tags[version]
    if tag != Stage.PRODUCTION:
        return False
    if wanted == Stage.ARCHIVED:  # a rival; one that was there before us gives way
        return written.is_known and Stage.PRODUCTION in written.tags.values()
    return True


def alias_set_by_others(holder: str | None, wanted: str | None, written: Written) -> bool:
    """True where the alias points neither where it should nor where it was put last, or may have been since.

    Before the first time it is ours where it points to what was taken over, or nowhere.
    """
    ours = {wanted, written.alias, *(_in_production(tags) for tags in (written.tags, *written.maybe))}
    ours |= set() if written.is_known else {None}
    return holder not in ours and not _is_put_back("alias", PRODUCTION_ALIAS, holder, written)


def _in_production(tags: Tags) -> str | None:
    return next((version for version, tag in tags.items() if tag == Stage.PRODUCTION), None)
