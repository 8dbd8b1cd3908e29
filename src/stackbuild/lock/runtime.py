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
    from collections.abc import Callable, Collection, Iterator, Mapping

    from packaging.version import Version

    from stackbuild.platforms import Platform
    from stackbuild.spec.model import Layer

    Table = Mapping[Version, Mapping[tuple[str, str], tuple[str, str | None]]]

_NEAREST = 4
"""How many other versions an error names."""


def lock_runtime(
    layer: Layer,
    python: Version,
    platforms: Collection[Platform],
    old: RuntimeLock | None,
    trusted: Callable[[Platform, Download], bool],
    used: Mapping[Platform, Collection[str]],
) -> RuntimeLock:
    """The archives of the runtime `layer` for `platforms`, those of `old` kept for the others.

    An archive that the spec names comes first; then that of `old`, if it is for
    the same version and `trusted`; then python-build-standalone's newest build of
    that version. `used` are the platforms of the stack, each with the runtimes that are made for
    it. Raises LockError if some platforms have none.
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
        raise _unknown(layer, python, missing, used)
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
    layer: Layer,
    python: Version,
    missing: Collection[Platform],
    used: Mapping[Platform, Collection[str]],
) -> LockError:
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
    if ways := list(_narrower(layer, missing, used)):
        remedy += f", or leave {', '.join(missing)} out: {', or '.join(ways)}"
    return LockError(
        f"python-build-standalone has no CPython {python} for {', '.join(missing)}",
        layer=layer.name,
        platform=", ".join(missing),
        expected=f"a version that it provides, such as {', '.join(map(str, nearest))}"
        if nearest
        else None,
        remedy=remedy,
    )


def _narrower(
    layer: Layer, missing: Collection[Platform], used: Mapping[Platform, Collection[str]]
) -> Iterator[str]:
    """The settings with which `layer` is not made for the platforms `missing`."""
    rest = [str(platform) for platform in used if platform not in missing]
    own = [str(one) for one in layer.platforms if one in used and one not in missing]
    if rest and all(set(used.get(one, ())) <= {layer.name} for one in missing):
        yield f"[tool.stackbuild] platforms = {inline(rest)}"
    if own:
        yield f"platforms = {inline(own)} of the runtime {layer.name}"
