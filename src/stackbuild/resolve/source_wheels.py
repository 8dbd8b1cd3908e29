"""The wheel of a source that a layer needs: locked, added, or built now."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from stackbuild.errors import FetchError, IntegrityError
from stackbuild.files import atomic_copy
from stackbuild.lock.added import compatible_added, find_added
from stackbuild.lock.index_pages import IndexPages, index_failure
from stackbuild.lock.indexes import without_secrets
from stackbuild.lock.model import Build, LockedDistribution, LockedFile, ProjectSource, VcsSource
from stackbuild.lock.targets import target_of
from stackbuild.platforms import host_platform
from stackbuild.resolve.build_orders import BuildOrder, build_tag, is_direct, is_for_any, recipe
from stackbuild.resolve.git_sources import reason_to_build
from stackbuild.resolve.problems import ResolveError, ResolveProblem, unread_index
from stackbuild.transport.retries import NotFoundError

if TYPE_CHECKING:
    from collections.abc import Collection
    from pathlib import Path

    from packaging.utils import NormalizedName
    from packaging.version import Version

    from stackbuild.lock.model import (
        LayerLock,
        RuntimeLock,
        Source,
    )
    from stackbuild.lock.targets import Target
    from stackbuild.resolve.build_orders import Builder
    from stackbuild.resolve.metadata import Metadata
    from stackbuild.resolve.request import CoreMetadata, Found, ResolveRequest
    from stackbuild.spec.model import Layer, Policy
    from stackbuild.workspace import Workspace


@dataclass(frozen=True, slots=True, kw_only=True)
class Upgrade:
    """The versions of the old locks that are not kept."""

    everything: bool = False
    names: Collection[str] = ()
    layers: Collection[str] | None = None
    """The layers to upgrade; None means all of them."""

    def of(self, layer: str) -> Upgrade:
        """The part that concerns the lock of `layer`."""
        return self if self.layers is None or layer in self.layers else Upgrade()

    def __bool__(self) -> bool:
        return self.everything or bool(self.names)

    def kept(self, lock: LayerLock | None) -> dict[NormalizedName, LockedDistribution]:
        """The distributions of `lock` that are not upgraded."""
        items = lock.distributions if lock else ()
        return {item.name: item for item in items if not self.concerns(item.name)}

    def concerns(self, name: NormalizedName) -> bool:
        """Whether the distribution `name` is resolved or built again."""
        return self.everything or name in self.names


@dataclass(frozen=True, slots=True, kw_only=True)
class SourceWheels:
    """Gets the wheels of sources for one layer on one platform."""

    workspace: Workspace
    metadata: Metadata
    builder: Builder | None
    layer: Layer
    request: ResolveRequest
    """Its constraints are the versions of the layers below, which builds prefer."""
    runtime: RuntimeLock
    old: LayerLock | None
    upgrade: Upgrade

    def kept_file(self, name: NormalizedName, file: str) -> LockedFile | None:
        """The file of the old lock with this file name, unless it is upgraded."""
        item = self.upgrade.kept(self.old).get(name)
        files = (item.wheel, item.source) if item else ()
        return next(
            (one for one in files if isinstance(one, LockedFile) and one.name == file), None
        )

    def kept_commits(self) -> dict[NormalizedName, VcsSource]:
        """The commits of the old lock, which are kept for the same revision."""
        kept = self.upgrade.kept(self.old).items()
        return {name: item.source for name, item in kept if isinstance(item.source, VcsSource)}

    def given_wheel(self, found: Found) -> tuple[LockedDistribution, CoreMetadata]:
        """The wheel that a requirement names by its address, and its metadata.

        Raises ResolveError if it does not fit the platform, FetchError and IntegrityError.
        """
        from packaging.utils import parse_wheel_filename

        target, indexes = self.request.target, self.request.indexes
        tags = parse_wheel_filename(found.file)[3]
        if target.rank(tags) is None:
            problem = ResolveProblem(
                message="the required wheel does not fit the platform",
                distribution=f"{found.name} {found.version}",
                expected=f"a wheel for {target} and CPython {target.python}",
                found=found.file,
                remedy="require another wheel there, and limit this requirement with a marker such"
                " as ; sys_platform == 'linux' and platform_machine == 'x86_64'",
            )
            raise ResolveError(self.layer.name, target.platform, problem)
        file = self._given(found)
        item = LockedDistribution(name=found.name, version=found.version, wheel=file)
        return item, self.metadata.of(self.layer.name, [item], indexes)[found.name]

    def _given(self, found: Found) -> LockedFile:
        """The file that a requirement names by its address. Raises FetchError, IntegrityError."""
        place = f"{found.name} @ {without_secrets(found.url)}"
        try:
            return self.metadata.given(found, self.request.indexes)
        except IntegrityError as error:
            if found.size is not None:
                raise  # It is of the repository or locked, and was not downloaded.
            raise IntegrityError(
                "the file at the address of a requirement is not the one of its #sha256",
                distribution=place,
                expected=f"sha256 {found.sha256}",
                found=dict(error.details)["found"],
                remedy="correct #sha256= in the requirement, or the address",
            ) from error
        except FetchError as error:
            reason, remedy = index_failure(error)
            if isinstance(error, NotFoundError):
                remedy = (
                    "correct the address in the requirement; or get the file elsewhere, put it into"
                    f" the repository, and write '{found.name} @ file:PATH'"
                )
            raise FetchError(
                "the file that a requirement names is not available",
                distribution=place,
                found=reason,
                remedy=remedy,
            ) from error

    def wheel_of(
        self, name: NormalizedName, found: Found | VcsSource | ProjectSource
    ) -> LockedDistribution:
        """The wheel of the source `found`, in the wheelhouse if it is a new one.

        A locked wheel is kept while source and recipe are the same, so that other changes of
        the spec need no build. Raises ResolveError where the build needs another machine,
        LockError if it fails, FetchError and IntegrityError.
        """
        source: Source
        target, indexes = self.request.target, self.request.indexes
        version, url, is_given = None, None, False
        if isinstance(found, VcsSource | ProjectSource):
            source = found
        else:
            is_given = found.file in indexes.files
            source = self._given(found) if is_given else self.metadata.files([found], indexes)[0]
            version, url = found.version, found.url
        index = indexes.name_of(name, url) if url and not is_given else None
        where = self._build_target(name, source)
        made = self._recipe(name, source, where or target)
        locked = {item.name: item for item in self.old.distributions} if self.old else {}
        kept = locked.get(name)
        if kept and not self._is_current(kept, source, made):
            kept = None
        if kept and not self.upgrade.concerns(name):
            return replace(kept, source=source, index=index)
        added = find_added(self.workspace.wheelhouse, name, version, target)
        if added and isinstance(source, ProjectSource) and build_tag(made) not in added.wheel.name:
            added = None  # It was built from another state of the project.
        if kept and where != target and not is_for_any(kept.wheel):
            where = None  # A build here would not be for that platform, either.
        if added:
            # A machine of the platform finds its own recipe in the lock.
            made = self._recipe(name, source, target)
            build = Build(recipe=made, dependencies=added.dependencies, extras=added.extras)
            version, wheel = added.version, added.wheel
        elif where and self.builder:
            built = self.builder(
                BuildOrder(
                    layer=self.layer,
                    target=where,
                    name=name,
                    version=version,
                    source=source,
                    url=url,
                    runtime=self.runtime,
                    indexes=indexes,
                    recipe=made,
                    preferences=self.request.constraints,
                )
            )
            version, wheel, build = built.version, built.wheel, built.build
            if where != target and not is_for_any(wheel):
                raise self._other_platform(name, source, version)
            atomic_copy(built.path, self.workspace.wheelhouse / wheel.name)
        elif kept:
            return replace(kept, source=source, index=index)
        else:
            raise self._other_platform(name, source, version)
        return LockedDistribution(
            name=name, version=version, wheel=wheel, index=index, source=source, build=build
        )

    def _recipe(self, name: NormalizedName, source: Source, target: Target) -> str:
        return recipe(self.layer, target, name, source, self.workspace.overlays)

    def _is_current(self, kept: LockedDistribution, source: Source, made: str) -> bool:
        """Whether `kept` was built with the recipe `made`, or on a machine of its platform.

        A wheel for any platform may have been built on a machine of each.
        """
        if kept.build is None or kept.build.recipe == made:
            return kept.build is not None
        target, platforms = self.request.target, self.layer.platforms
        if not is_for_any(kept.wheel) or self._build_target(kept.name, source) is None:
            platforms = (target.platform,)
        targets = (target_of(self.layer, one, target.python) for one in platforms)
        return kept.build.recipe in {self._recipe(kept.name, source, one) for one in targets}

    def _build_target(self, name: NormalizedName, source: Source) -> Target | None:
        """The target that the wheel of `source` is built for on this machine, if it can be.

        What a requirement names by its address is built for this machine also if the layer is for
        another platform, as the wheel may be for any.
        """
        target, host = self.request.target, host_platform()
        if target.platform == host:
            return target
        settings = self.layer.policy(target.platform).build_wheel.get(name)
        is_alike = settings == self.layer.policy(host).build_wheel.get(name)
        if is_direct(source, self.request.indexes) and is_alike:
            return target_of(self.layer, host, target.python)
        return None

    def _other_platform(
        self, name: NormalizedName, source: Source, version: Version | None
    ) -> ResolveError:
        """The error for a source build for another platform than this machine's."""
        layer, platform = self.layer, self.request.target.platform
        subject = f"{name} {version or ''}".strip()
        direct, here = None, " (on this one, if the wheel is for any platform)"
        if isinstance(source, ProjectSource):
            direct = source.path
        elif isinstance(source, VcsSource):
            direct = f"commit {source.commit[:12]} of its repository"
        elif is_direct(source, self.request.indexes):
            direct = f"the source distribution {source.name}"
        if direct:
            direct, here = f"{direct}, and its wheel is not for any platform", ""
        reason = reason_to_build(name, layer, platform, direct)
        problem = ResolveProblem(
            message=f"{subject} must be built from source on a machine of each platform",
            distribution=name,
            found=f"this machine is {host_platform()}; {reason}",
            remedy=f"run `stackbuild lock --layer {layer.name} --platform host` on such a machine"
            f"{here}, copy the wheel from its wheelhouse, and add it here with `stackbuild wheel"
            f" add FILE`; or leave the platform out of the `platforms` of {layer.name}",
            absent=True,
        )
        return ResolveError(layer.name, platform, problem)


def added_candidates(
    wheelhouse: Path, request: ResolveRequest, policy: Policy, pages: IndexPages
) -> dict[str, Path]:
    """The added wheels that no index of `request` has, by file name.

    Those of a distribution that is built from source are used instead of the build (`wheel_of`).
    Raises ResolveError for an index that cannot be read, LockError as `IndexPages.offers` does.
    """
    from packaging.utils import parse_wheel_filename

    found: dict[str, Path] = {}
    for _, item in compatible_added(wheelhouse, request.target):
        name, version, _, _ = parse_wheel_filename(item.wheel.name)
        try:
            offers = pages.offers(name, request.indexes) or ()
        except FetchError as error:
            problem = unread_index(error, request.indexes)
            raise ResolveError(request.layer, request.target.platform, problem) from error
        if offers and policy.may_build(name):
            continue
        if not any(
            offer.version == version and offer.tags and request.target.rank(offer.tags) is not None
            for offer in offers
        ):
            found[item.wheel.name] = wheelhouse / item.wheel.name
    return found
