"""The archive of a runtime's interpreter on each platform.

The table of python-build-standalone's releases is part of pbs-installer, so
locking needs no download.
"""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING

from stackbuild.errors import LockError
from stackbuild.lock.model import RuntimeLock
from stackbuild.spec.model import Download, RuntimeSettings
from stackbuild.tomltext import inline, layer_table

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator, Mapping, Sequence

    from packaging.version import Version

    from stackbuild.platforms import Platform
    from stackbuild.spec.model import Layer, Stack

    Table = Mapping[Version, Mapping[tuple[str, str], tuple[str, str | None]]]

_NEAREST = 4
"""How many other versions an error names."""


class NoArchiveError(LockError):
    """python-build-standalone has no archive of a runtime for `platforms`."""

    platforms: tuple[Platform, ...] = ()


def lock_runtime(
    layer: Layer,
    python: Version,
    platforms: Collection[Platform],
    old: RuntimeLock | None,
    trusted: Callable[[Platform, Download], bool],
    stack: Stack | None = None,
) -> RuntimeLock:
    """The archives of the runtime `layer` for `platforms`, those of `old` kept for the others.

    An archive that the spec names comes first; then that of `old`, if it is for
    the same version and `trusted`; then python-build-standalone's newest build of
    that version. Raises NoArchiveError if some platforms have none; with `stack` it says how to
    leave them out.
    """
    settings = layer.runtime_settings or RuntimeSettings()
    kept = old.archives if old and old.python_version == python else {}
    archives: dict[Platform, Download] = {
        platform: archive
        for platform, archive in kept.items()
        if platform in layer.platforms and (old is None or platform not in old.from_spec)
    }
    missing = []
    for platform in platforms:
        if explicit := settings.downloads.get(platform):
            archives[platform] = explicit
        elif "pbs" not in settings.sources:
            archives.pop(platform, None)
        elif platform not in archives or not trusted(platform, archives[platform]):
            archives.pop(platform, None)
            if archive := _archive(_table(), python, platform):
                archives[platform] = archive
            else:
                missing.append(platform)
    if missing:
        raise _unknown(layer, python, missing, stack)
    from_spec = frozenset(archives) & frozenset(settings.downloads)
    return RuntimeLock(
        layer=layer.name, python_version=python, archives=archives, from_spec=from_spec
    )


def is_current(layer: Layer, python: Version, platform: Platform, lock: RuntimeLock | None) -> bool:
    """Whether `lock` is the result of `lock_runtime`, without reading the table."""
    settings = layer.runtime_settings or RuntimeSettings()
    if lock is None or lock.python_version != python:
        return False
    archive = lock.archives.get(platform)
    if explicit := settings.downloads.get(platform):
        return archive == explicit
    return platform not in lock.from_spec and (archive is not None) == ("pbs" in settings.sources)


def _table() -> Table:
    from packaging.version import Version

    with warnings.catch_warnings():
        # Reading and importing the table uses a deprecated function.
        warnings.simplefilter("ignore", DeprecationWarning)
        # The function, as `PYTHON_VERSIONS` depends on an environment variable.
        from pbs_installer._versions import get_python_versions

        versions = get_python_versions(None)
    return {
        Version(f"{version.major}.{version.minor}.{version.micro}"): {
            (system, machine): file
            for (system, machine, install_only), file in files.items()
            if install_only
        }
        for version, files in versions.items()
        if version.implementation == "cpython" and not version.freethreaded
    }


def _archive(table: Table, python: Version, platform: Platform) -> Download | None:
    url, sha256 = table.get(python, {}).get((platform.os, platform.machine), ("", None))
    return Download(url=url, sha256=sha256) if sha256 else None


def _unknown(
    layer: Layer, python: Version, missing: Sequence[Platform], stack: Stack | None
) -> NoArchiveError:
    """The error for platforms without an archive."""
    table = _table()
    usable = [version for version in table if all(_archive(table, version, one) for one in missing)]
    usable.sort(
        key=lambda version: [
            abs(a - b) for a, b in zip(version.release, python.release, strict=True)
        ]
    )
    nearest = sorted(usable[:_NEAREST])
    table_name = layer_table(layer.name, "downloads")
    remedy = f"require one of these, or name an archive in {table_name}"
    if stack and (ways := list(_narrower(stack, layer, missing, table))):
        remedy += f", or leave {', '.join(missing)} out: {', or '.join(ways)}"
    error = NoArchiveError(
        f"python-build-standalone has no CPython {python} for {', '.join(missing)}",
        layer=layer.name,
        platform=", ".join(missing),
        expected=f"a version that it provides, such as {', '.join(map(str, nearest))}"
        if nearest
        else None,
        remedy=remedy,
    )
    error.platforms = tuple(missing)
    return error


def _narrower(
    stack: Stack, layer: Layer, missing: Collection[Platform], table: Table
) -> Iterator[str]:
    """The settings with which `layer` is not made for the platforms `missing`."""
    rest = [str(platform) for platform in stack.platforms if platform not in missing]
    if rest and not any(
        _provides(stack, one, platform, table)
        for one in stack.layers.values()
        for platform in missing
    ):
        yield f"[tool.stackbuild] platforms = {inline(rest)} (for one command: --platform)"
    own = [str(one) for one in layer.platforms if one in stack.platforms and one not in missing]
    above = [
        one.name
        for one in stack.layers.values()
        if layer.name in one.lower and "platforms" in one.settings and {*one.platforms} & {*missing}
    ]
    if own:
        also = f" (remove {', '.join(missing)} from `platforms` of {', '.join(above)}, too)"
        way = f"platforms = {inline(own)} of the runtime {layer.name}"
        yield way + also if above else way


def _provides(stack: Stack, layer: Layer, platform: Platform, table: Table) -> bool:
    """Whether `layer` is a runtime that has an interpreter for `platform`."""
    settings = layer.runtime_settings
    return (
        settings is not None
        and platform in layer.platforms
        and (
            platform in settings.downloads
            or "pbs" not in settings.sources
            or _archive(table, stack.python_version(layer), platform) is not None
        )
    )
