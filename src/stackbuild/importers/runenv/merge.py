"""A variant's configuration, merged with the shared one by the rules of the older project.

Lists are joined. Entries of `skip` and similar fields are merged package by package, and the
variant's entry replaces the shared one as a whole. A variant with dependencies of its own does not
get the shared ones. `overrides` then replace the versions of pinned dependencies.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, TypeVar

from stackbuild.importers.runenv.model import Config, Dependency

if TYPE_CHECKING:
    from collections.abc import Mapping

    from packaging.utils import NormalizedName

    from stackbuild.platforms import Platform

T = TypeVar("T")


def merged(shared: Config, own: Config) -> Config:
    """What both files together say about a variant. `joined` stays that of the variant."""
    overrides = {**shared.overrides, **own.overrides}
    general = own.dependencies.get(None) or shared.dependencies.get(None, ())
    return Config(
        dependencies={
            **_joined(shared.dependencies, own.dependencies),
            None: tuple(_overridden(item, overrides) for item in general),
        },
        copies=_joined(shared.copies, own.copies),
        overrides=overrides,
        registries=tuple(dict.fromkeys((*shared.registries, *own.registries))),
        replaced={**shared.replaced, **own.replaced},
        joined=own.joined,
    )


def is_overridden(item: Dependency, overrides: Mapping[NormalizedName, str]) -> bool:
    """Whether an override replaces the version of a dependency: only if it is pinned or bare."""
    text = str(item.requirement.specifier)
    pinned = not text or text.startswith("==")
    return item.name in overrides and item.requirement.url is None and pinned


def specifier(override: str) -> str:
    """An override as a version specifier."""
    return override if override[:1] in "<>=!~" else f"=={override}"


def _overridden(item: Dependency, overrides: Mapping[NormalizedName, str]) -> Dependency:
    from packaging.requirements import Requirement
    from packaging.specifiers import SpecifierSet

    if not is_overridden(item, overrides):
        return item
    requirement = Requirement(str(item.requirement))
    requirement.specifier = SpecifierSet(specifier(overrides[item.name]))
    return replace(item, requirement=requirement)


def _joined(
    first: Mapping[Platform | None, tuple[T, ...]], second: Mapping[Platform | None, tuple[T, ...]]
) -> dict[Platform | None, tuple[T, ...]]:
    return {
        platform: (*first.get(platform, ()), *second.get(platform, ()))
        for platform in {**first, **second}
    }
