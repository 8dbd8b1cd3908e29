"""Turning a source that a layer needs into a wheel: kept, added, or built now."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Protocol

from stackbuild.files import atomic_copy
from stackbuild.lock.added import find_added
from stackbuild.lock.building import BuildOrder, recipe
from stackbuild.lock.model import Build, LockedDistribution, LockedFile, VcsSource
from stackbuild.lock.problems import Failure, Problem
from stackbuild.lock.sources import reason_to_build
from stackbuild.platforms import host_platform

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from packaging.utils import NormalizedName
    from packaging.version import Version

    from stackbuild.lock.building import Builder
    from stackbuild.lock.indexes import IndexSettings
    from stackbuild.lock.model import RuntimeLock
    from stackbuild.lock.question import Found
    from stackbuild.lock.sizes import Sizes
    from stackbuild.lock.targets import Target
    from stackbuild.messages import Messages
    from stackbuild.platforms import Platform
    from stackbuild.spec.model import Layer
    from stackbuild.workspace import Workspace


class _Renewed(Protocol):
    def concerns(self, name: NormalizedName) -> bool:
        """Whether a distribution is built anew, though the old lock has a wheel of it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Obtainer:
    """Obtains the wheels of one layer on one platform."""

    workspace: Workspace
    messages: Messages
    sizes: Sizes
    builder: Builder | None
    layer: Layer
    target: Target
    indexes: IndexSettings
    runtime: RuntimeLock
    old: Mapping[NormalizedName, LockedDistribution]
    """What the layer's lock has so far."""
    renewed: _Renewed
    preferences: Mapping[NormalizedName, Version] = field(default_factory=dict)
    """The versions of the layers below, which a build had better see."""

    def obtain(
        self, name: NormalizedName, found: Found | VcsSource
    ) -> LockedDistribution | Failure:
        """The wheel of the source `found`, in the wheelhouse if it is a new one.

        A wheel that the lock has stays while source and recipe are the same,
        so that other changes of the spec need neither compiler nor machine.
        Raises LockError when building fails, FetchError and IntegrityError.
        """
        source: LockedFile | VcsSource
        version, url = None, None
        if isinstance(found, VcsSource):
            source = found
        else:
            source = self.sizes.complete([found], self.indexes)[0]
            version, url = found.version, found.url
        index = self.indexes.name_of(name, url) if url else None
        made = recipe(self.layer, self.target, name, source, self.workspace.overlays)
        old = self.old.get(name)
        kept = old if old and old.build and old.build.recipe == made else None
        if kept and not self.renewed.concerns(name):
            return replace(kept, source=source, index=index)
        if added := find_added(self.workspace.wheelhouse, name, version, self.target):
            return LockedDistribution(
                name=name,
                version=added.version,
                wheel=added.wheel,
                index=index,
                source=source,
                build=Build(recipe=made, dependencies=added.dependencies, extras=added.extras),
            )
        if self.target.platform == host_platform() and self.builder:
            order = BuildOrder(
                layer=self.layer,
                target=self.target,
                name=name,
                version=version,
                source=source,
                sdist=self._sdist(source, url),
                runtime=self.runtime,
                indexes=self.indexes,
                recipe=made,
                preferences=self.preferences,
            )
            return replace(self._built(self.builder, order), index=index)
        if kept:
            return replace(kept, source=source, index=index)
        subject = f"{name} {version or ''}".strip()
        return Failure(
            layer=self.layer.name,
            platform=self.target.platform,
            problem=foreign(name, subject, self.layer, self.target.platform),
        )

    def _built(self, builder: Builder, order: BuildOrder) -> LockedDistribution:
        built = builder.build(order)
        atomic_copy(built.path, self.workspace.wheelhouse / built.wheel.name)
        return LockedDistribution(
            name=order.name,
            version=built.version,
            wheel=built.wheel,
            source=order.source,
            build=built.build,
        )

    def _sdist(self, source: LockedFile | VcsSource, url: str | None) -> Callable[[], Path]:
        def path() -> Path:
            if not isinstance(source, LockedFile) or url is None:
                raise TypeError(source)
            return fetch_sdist(
                source, self.indexes.with_credentials(url), self.workspace, self.messages
            )

        return path


def fetch_sdist(source: LockedFile, url: str, workspace: Workspace, messages: Messages) -> Path:
    """The source distribution in the wheelhouse, downloaded from `url` if it is not there.

    Raises FetchError and IntegrityError.
    """
    from stackbuild.transfer import download, sha256_file

    path = workspace.wheelhouse / source.name
    if not path.is_file() or sha256_file(path) != source.sha256:
        path.parent.mkdir(parents=True, exist_ok=True)
        download(url, path, sha256=source.sha256, messages=messages, size=source.size)
    return path


def foreign(name: NormalizedName, subject: str, layer: Layer, platform: Platform) -> Problem:
    """The refusal to build for another platform than this machine's."""
    return Problem(
        message=f"{subject} has to be built from source, each platform's wheel on a machine of it",
        distribution=name,
        found=f"this machine is {host_platform()}; {reason_to_build(name, layer, platform)}",
        remedy=f"run `stackbuild lock --layer {layer.name} --platform host` on such a machine (on"
        " this one, if the wheel is for any platform), and bring the wheel from its wheelhouse"
        " here with `stackbuild wheel add FILE`; or leave the"
        f" platform out of the `platforms` of {layer.name}",
        absent=True,
    )
