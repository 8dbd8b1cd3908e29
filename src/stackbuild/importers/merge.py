"""The configuration of a variant as the older project merged it with the shared one.

Lists are joined; `skip` and its like are merged package by package, the
variant's entry replacing the shared one whole. Dependencies are the variant's,
where it names any; `overrides` then replace the versions of those pinned.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, TypeVar

from stackbuild.importers.model import BuildOptions, Config, Resolution, Wish

if TYPE_CHECKING:
    from collections.abc import Hashable, Iterable, Mapping

    from packaging.utils import NormalizedName

    from stackbuild.platforms import Platform

T = TypeVar("T")
K = TypeVar("K", bound="Hashable")


def effective(shared: Config, own: Config) -> Config:
    """What both files together say about a variant."""
    overrides = {**shared.overrides, **own.overrides}
    return Config(
        dependencies=tuple(
            _overridden(wish, overrides) for wish in own.dependencies or shared.dependencies
        ),
        skip={**shared.skip, **own.skip},
        force_source={**shared.force_source, **own.force_source},
        build_wheel={**shared.build_wheel, **own.build_wheel},
        no_deps=_joined(shared.no_deps, own.no_deps),
        overrides=overrides,
        copy_files=(*shared.copy_files, *own.copy_files),
        resolution=_resolution(shared.resolution, own.resolution),
        registries=_joined(shared.registries, own.registries),
        platform_dependencies=_lists(shared.platform_dependencies, own.platform_dependencies),
        platform_copy_files=_lists(shared.platform_copy_files, own.platform_copy_files),
        platform_resolution={
            platform: _resolution(
                shared.platform_resolution.get(platform, Resolution()),
                own.platform_resolution.get(platform, Resolution()),
            )
            for platform in {**shared.platform_resolution, **own.platform_resolution}
        },
        build=_build(shared.build, own.build),
        allow_import_errors={
            platform: {
                **shared.allow_import_errors.get(platform, {}),
                **own.allow_import_errors.get(platform, {}),
            }
            for platform in {**shared.allow_import_errors, **own.allow_import_errors}
        },
    )


def is_overridden(wish: Wish, overrides: Mapping[NormalizedName, str]) -> bool:
    """Whether an override replaces the version of a dependency: of a pinned or a bare one."""
    text = str(wish.requirement.specifier)
    pinned = not text or text.startswith("==")
    return wish.name in overrides and wish.requirement.url is None and pinned


def _overridden(wish: Wish, overrides: Mapping[NormalizedName, str]) -> Wish:
    from packaging.requirements import Requirement
    from packaging.specifiers import SpecifierSet

    if not is_overridden(wish, overrides):
        return wish
    version = overrides[wish.name]
    requirement = Requirement(str(wish.requirement))
    requirement.specifier = SpecifierSet(version if version[:1] in "<>=!~" else f"=={version}")
    return replace(wish, requirement=requirement)


def _joined(first: Iterable[K], second: Iterable[K]) -> tuple[K, ...]:
    return tuple(dict.fromkeys((*first, *second)))


def _lists(
    first: Mapping[Platform, tuple[T, ...]], second: Mapping[Platform, tuple[T, ...]]
) -> dict[Platform, tuple[T, ...]]:
    return {
        platform: (*first.get(platform, ()), *second.get(platform, ()))
        for platform in {**first, **second}
    }


def _resolution(first: Resolution, second: Resolution) -> Resolution:
    return Resolution(
        allow_source_all=_last(first.allow_source_all, second.allow_source_all),
        strict_missing=_last(first.strict_missing, second.strict_missing),
        allow_source_list=_joined(first.allow_source_list, second.allow_source_list),
        force_no_binary_list=_joined(first.force_no_binary_list, second.force_no_binary_list),
        only_binary_list=_joined(first.only_binary_list, second.only_binary_list),
    )


def _build(first: BuildOptions, second: BuildOptions) -> BuildOptions:
    return BuildOptions(
        logging=_last(first.logging, second.logging),
        parallel_downloads=_last(first.parallel_downloads, second.parallel_downloads),
        timeout=_last(first.timeout, second.timeout),
    )


def _last(first: T | None, second: T | None) -> T | None:
    return first if second is None else second
