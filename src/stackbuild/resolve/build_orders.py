"""Builds of wheels from source: what is ordered, by which recipe, and what is built again.

A build needs the layer's interpreter, so it is done by the package `builds`;
locking and fetching get a `Builder`.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from functools import partial
from typing import TYPE_CHECKING, TypeAlias

from stackbuild.errors import FetchError, IntegrityError, StackbuildError, raise_all
from stackbuild.files import atomic_copy, sha256_file
from stackbuild.lock.files import read_runtime_lock
from stackbuild.lock.index_pages import Addresses, IndexPages
from stackbuild.lock.indexes import default_index, index_settings
from stackbuild.lock.inputs import contents, uses_package_root
from stackbuild.lock.model import LockedFile, ProjectSource, VcsSource
from stackbuild.lock.targets import target_of
from stackbuild.lock.wheelhouse import built_elsewhere
from stackbuild.platforms import host_platform
from stackbuild.strictjson import digest_of

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

    from packaging.utils import NormalizedName
    from packaging.version import Version

    from stackbuild.lock.indexes import IndexSettings
    from stackbuild.lock.model import (
        Build,
        BuildRequirement,
        LayerLock,
        LockedDistribution,
        RuntimeLock,
        Source,
    )
    from stackbuild.lock.targets import Target
    from stackbuild.messages import Messages
    from stackbuild.platforms import Platform
    from stackbuild.spec.model import BuildWheel, Layer, Stack
    from stackbuild.workspace import Workspace


RECIPE = 1
"""Raised when the way of building changes, so that all wheels are built again."""


@dataclass(frozen=True, slots=True, kw_only=True)
class BuildOrder:
    """A wheel to be built: its source, layer and platform."""

    layer: Layer
    target: Target
    name: NormalizedName
    version: Version | None
    """None for a commit or a project, whose version is known after the build."""
    source: Source
    runtime: RuntimeLock
    indexes: IndexSettings
    """The package indexes for the requirements of the build."""
    recipe: str
    url: str | None = None
    """The address of the source distribution, without credentials; None if unknown."""
    requirements: tuple[BuildRequirement, ...] | None = None
    """The exact build requirements; None if they are to be resolved."""
    preferences: Mapping[NormalizedName, Version] = field(default_factory=dict)
    """Preferred versions: those that the layer runs with."""

    @property
    def platform(self) -> Platform:
        """The platform that the wheel is for."""
        return self.target.platform

    @property
    def settings(self) -> BuildWheel | None:
        """The `build-wheel` settings of the spec."""
        return self.layer.policy(self.platform).build_wheel.get(self.name)

    @property
    def subject(self) -> str:
        """The distribution, for messages."""
        if isinstance(self.source, VcsSource):
            return f"{self.name} (commit {self.source.commit[:12]})"
        if isinstance(self.source, ProjectSource):
            return f"{self.name} ({self.source.path})"
        return f"{self.name} {self.version}"


@dataclass(frozen=True, slots=True, kw_only=True)
class BuiltWheel:
    """A wheel that was built from source."""

    path: Path
    """In the cache."""
    version: Version
    wheel: LockedFile
    build: Build


Builder: TypeAlias = "Callable[[BuildOrder], BuiltWheel]"
"""Builds the wheel of an order for this machine's platform, or takes it from the cache.

Thread-safe. Raises LockError if the build fails.
"""


def recipe(
    layer: Layer,
    target: Target,
    name: NormalizedName,
    source: Source,
    overlays: Path,
) -> str:
    """The sha256 (hex) of all inputs of a build from the spec and the source.

    `overlays` is the project's directory of overlays. The recipe is the same
    on every machine; two builds of one recipe may differ in the versions of
    what they were built with.
    """
    policy = layer.policy(target.platform)
    settings = policy.build_wheel.get(name)
    variables = {key: asdict(one) for key, one in policy.build.environment.items()}
    # The wheel of a project may be for any platform, and is then the same for all.
    is_portable = isinstance(source, ProjectSource)
    described = {
        "recipe": RECIPE,
        "name": name,
        "source": [source.commit, source.subdirectory]
        if isinstance(source, VcsSource)
        else source.sha256,
        "platform": None if is_portable else target.platform,
        "level": None if is_portable else target.level,
        "python": str(target.python),
        "build-requires": settings.build_requires if settings else (),
        "config-settings": asdict(settings)["config_settings"] if settings else {},
        "package-root": contents(overlays / layer.name) if uses_package_root(settings) else None,
        **({"environment": variables} if variables else {}),
    }
    return digest_of(described)


def is_direct(source: Source, indexes: IndexSettings) -> bool:
    """Whether a requirement names `source` by its address: a project, a commit or a file."""
    return not isinstance(source, LockedFile) or source.name in indexes.files


def is_for_any(wheel: LockedFile) -> bool:
    """Whether a wheel is for any platform."""
    return wheel.name.endswith("-any.whl")


def build_tag(recipe: str) -> str:
    """The beginning of the build tag of a project's wheel, which tells the state of the project."""
    return f"0_{recipe[:8]}_"


def fetch_sdist(
    source: LockedFile, order: BuildOrder, workspace: Workspace, messages: Messages
) -> Path:
    """The source distribution of `order` in the wheelhouse, downloaded if missing.

    Raises FetchError and IntegrityError.
    """
    from stackbuild.transport.transfer import download

    path = workspace.wheelhouse / source.name
    if not path.is_file() or sha256_file(path) != source.sha256:
        known = Addresses(workspace.addresses).get(source.sha256)
        url = order.url or (known.url if known else _look_up(source, order, workspace))
        path.parent.mkdir(parents=True, exist_ok=True)
        address = order.indexes.with_credentials(url)
        download(address, path, sha256=source.sha256, messages=messages, size=source.size)
    return path


def rebuild(
    stack: Stack,
    workspace: Workspace,
    builder: Builder,
    missing: Sequence[tuple[LockedDistribution, LayerLock]],
    *,
    index: str | None = None,
) -> None:
    """Build the wheels of `missing` again, with the locked build requirements.

    `index` replaces the default index. Raises FetchError for a wheel of another
    platform, or built elsewhere; IntegrityError for a wheel that differs from
    the locked one; LockError if a build fails.
    """
    errors: list[StackbuildError] = []
    for item, lock in missing:
        try:
            built = builder(_order(stack, workspace, item, lock, index))
            if built.wheel.sha256 != item.wheel.sha256:
                raise IntegrityError(
                    f"{item.name} {item.version} was built again, and differs from the locked"
                    " wheel",
                    layer=lock.layer,
                    platform=lock.platform,
                    distribution=item.name,
                    file=item.wheel.name,
                    expected=f"sha256 {item.wheel.sha256}",
                    found=f"sha256 {built.wheel.sha256} ({built.wheel.name})",
                    remedy="add the locked wheel with `stackbuild wheel add FILE`, or lock"
                    f" this one with `stackbuild lock --upgrade-package {item.name}`",
                )
            atomic_copy(built.path, workspace.wheelhouse / built.wheel.name)
        except StackbuildError as error:
            errors.append(error)
    raise_all(errors)


def _order(
    stack: Stack,
    workspace: Workspace,
    item: LockedDistribution,
    lock: LayerLock,
    index: str | None,
) -> BuildOrder:
    """The order to build a locked wheel again. Raises FetchError if it cannot be built here."""
    platform, layer = host_platform(), stack.layers[lock.layer]
    indexes = index_settings(stack, layer, lock.platform, default=index)
    is_portable = item.source and is_direct(item.source, indexes) and is_for_any(item.wheel)
    if lock.platform != platform and not is_portable:
        raise built_elsewhere(item, lock, f"this machine is {platform}")
    if item.source is None or item.build is None or item.build.requirements is None:
        raise built_elsewhere(item, lock, "it was built elsewhere")
    target = target_of(layer, platform, lock.python_version)
    return BuildOrder(
        layer=layer,
        target=target,
        name=item.name,
        version=item.version,
        source=item.source,
        runtime=read_runtime_lock(workspace, layer.runtime),
        indexes=indexes,
        recipe=recipe(layer, target, item.name, item.source, workspace.overlays),
        requirements=item.build.requirements,
    )


def _look_up(source: LockedFile, order: BuildOrder, workspace: Workspace) -> str:
    """The address of the source distribution. Raises FetchError."""
    if given := order.indexes.files.get(source.name):
        return given
    pages = IndexPages(default=partial(default_index, workspace.uv))
    for offer in pages.offers(order.name, order.indexes) or ():
        if offer.file.sha256 in (None, source.sha256) and offer.file.name == source.name:
            return offer.file.url
    raise FetchError(
        "no package index has the source distribution that the lock names",
        distribution=f"{order.name} {order.version}",
        file=source.name,
        expected=f"sha256 {source.sha256}",
        remedy=f"copy it to {workspace.wheelhouse}",
    )
