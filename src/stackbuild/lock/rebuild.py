"""Wheels that locks name, were built from source, and are not in the wheelhouse."""

from __future__ import annotations

from typing import TYPE_CHECKING

from stackbuild.errors import FetchError, IntegrityError, StackbuildError
from stackbuild.files import atomic_copy
from stackbuild.lock.addresses import Addresses
from stackbuild.lock.building import BuildOrder, recipe
from stackbuild.lock.errors import raise_all
from stackbuild.lock.files import read_runtime_lock
from stackbuild.lock.indexes import index_settings
from stackbuild.lock.model import LockedFile
from stackbuild.lock.obtain import fetch_sdist
from stackbuild.lock.targets import target_of
from stackbuild.platforms import host_platform

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from stackbuild.lock.building import Builder
    from stackbuild.lock.indexes import IndexSettings
    from stackbuild.lock.model import LayerLock, LockedDistribution
    from stackbuild.lock.targets import Target
    from stackbuild.messages import Messages
    from stackbuild.spec.model import Stack
    from stackbuild.workspace import Workspace


def rebuild(
    stack: Stack,
    workspace: Workspace,
    messages: Messages,
    builder: Builder | None,
    missing: Sequence[tuple[LockedDistribution, LayerLock]],
    *,
    index: str | None = None,
) -> None:
    """Build those of `missing` that can be built here, of exactly what they were built of.

    `index` takes the place of the default index. Raises FetchError for one of
    another platform, or built elsewhere; IntegrityError for one that comes out
    differently; LockError when building fails.
    """
    errors: list[StackbuildError] = []
    for item, lock in missing:
        try:
            if builder is None or lock.platform != host_platform():
                raise _not_here(item, lock, f"this machine is {host_platform()}")
            if item.build is None or item.build.requirements is None:
                raise _not_here(item, lock, "it was built elsewhere")
            order = _order(stack, workspace, messages, item, lock, index)
            _rebuild(builder, order, item, lock, workspace)
        except StackbuildError as error:
            errors.append(error)
    raise_all(errors)


def _order(
    stack: Stack,
    workspace: Workspace,
    messages: Messages,
    item: LockedDistribution,
    lock: LayerLock,
    index: str | None,
) -> BuildOrder:
    layer = stack.layers[lock.layer]
    target = target_of(layer, lock.platform, lock.python_version)
    indexes = index_settings(stack, layer, default=index)
    if item.source is None or item.build is None:
        raise TypeError(item)
    return BuildOrder(
        layer=layer,
        target=target,
        name=item.name,
        version=item.version,
        source=item.source,
        sdist=_sdist(item, target, indexes, workspace, messages),
        runtime=read_runtime_lock(workspace, layer.runtime),
        indexes=indexes,
        recipe=recipe(layer, target, item.name, item.source, workspace.overlays),
        requirements=item.build.requirements,
    )


def _rebuild(
    builder: Builder,
    order: BuildOrder,
    item: LockedDistribution,
    lock: LayerLock,
    workspace: Workspace,
) -> None:
    built = builder.build(order)
    if built.wheel.sha256 != item.wheel.sha256:
        raise IntegrityError(
            f"{item.name} {item.version} was built again, and came out differently",
            layer=lock.layer,
            platform=lock.platform,
            distribution=item.name,
            file=item.wheel.name,
            expected=f"sha256 {item.wheel.sha256}",
            found=f"sha256 {built.wheel.sha256} ({built.wheel.name})",
            remedy="bring the wheel that was locked here with `stackbuild wheel add FILE`, or lock"
            f" this one with `stackbuild lock --upgrade-package {item.name}`",
        )
    atomic_copy(built.path, workspace.wheelhouse / built.wheel.name)


def _sdist(
    item: LockedDistribution,
    target: Target,
    indexes: IndexSettings,
    workspace: Workspace,
    messages: Messages,
) -> Callable[[], Path]:
    def path() -> Path:
        source = item.source
        if not isinstance(source, LockedFile):
            raise TypeError(source)
        there = workspace.wheelhouse / source.name
        known = Addresses(workspace.addresses).get(source.sha256)
        url = there.as_uri() if there.is_file() else known.url if known else None
        url = url or _look_up(item, source, target, indexes, workspace)
        return fetch_sdist(source, indexes.with_credentials(url), workspace, messages)

    return path


def _look_up(
    item: LockedDistribution,
    source: LockedFile,
    target: Target,
    indexes: IndexSettings,
    workspace: Workspace,
) -> str:
    """Where the indexes have the source distribution. Raises FetchError."""
    from stackbuild.lock.question import Question
    from stackbuild.lock.uv import UnresolvableError, Uv

    question = Question(
        layer=f"source-{item.name}",
        requirements=(f"{item.name}=={item.version}",),
        target=target,
        indexes=indexes,
        from_source={item.name},
        no_deps=True,
    )
    found = None
    try:
        for one in Uv(workspace).ask(question).found:
            if one.sha256 in (None, source.sha256) and one.file == source.name:
                return one.url
    except UnresolvableError as error:
        found = error.flat.removeprefix("error: ")
    raise FetchError(
        "no package index has the source distribution that the lock names",
        distribution=f"{item.name} {item.version}",
        file=source.name,
        expected=f"sha256 {source.sha256}",
        found=found,
        remedy=f"copy it to {workspace.wheelhouse}",
    )


def _not_here(item: LockedDistribution, lock: LayerLock, found: str) -> FetchError:
    return FetchError(
        "the lock names a wheel that was built from source, and it is not here",
        layer=lock.layer,
        platform=lock.platform,
        distribution=f"{item.name} {item.version}",
        file=item.wheel.name,
        expected=f"sha256 {item.wheel.sha256}",
        found=found,
        remedy=f"bring it here with `stackbuild wheel add FILE`, from a {lock.platform} machine"
        " that has it in its wheelhouse",
    )
