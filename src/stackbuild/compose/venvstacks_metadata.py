"""The metadata that venvstacks 0.8 publishes, for host programs that read it.

A manifest has a layer's part of it as `provenance["layer"]` (the class `LayerSpecMetadata` of
venvstacks). `publish --venvstacks-metadata` writes it as venvstacks does, beside the archives:

    <platform>/__venvstacks__/venvstacks.json               all current layers
    <platform>/__venvstacks__/env_metadata/<layer>.json     one layer (`ArchiveMetadata`)
"""

from __future__ import annotations

import hashlib
from pathlib import PurePosixPath
from typing import TYPE_CHECKING

from stackbuild import strictjson
from stackbuild.compose.export_directory import venvstacks_part
from stackbuild.compose.serialize import canonical_json
from stackbuild.files import atomic_write
from stackbuild.frames.contents import read_files
from stackbuild.spec.model import LayerKind

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
    from pathlib import Path

    from stackbuild.compose.export_directory import ExportDirectory
    from stackbuild.compose.layer_inputs import LayerTarget, Parts
    from stackbuild.compose.manifest import Manifest
    from stackbuild.frames.cache import FrameCache
    from stackbuild.messages import Messages
    from stackbuild.platforms import Platform
    from stackbuild.spec.model import Stack

_METADATA = "__venvstacks__"
_CATEGORIES = {
    LayerKind.RUNTIME: "runtimes",
    LayerKind.FRAMEWORK: "frameworks",
    LayerKind.APPLICATION: "applications",
}


def layer_metadata(parts: Parts, cache: FrameCache) -> dict[str, object]:
    """What venvstacks says of a layer, except for its archive.

    `install_target`, `runtime_layer` and `required_layers` are directories as stackbuild names
    them, without the prefixes of venvstacks. `python_implementation` is the version that the spec
    requires, like `py_version` in `venvstacks_layer.json`; a stand-in may have another one.
    """
    target = parts.target
    below = [lower.target for lower in parts.lower]
    runtime = below[-1] if below else target
    metadata: dict[str, object] = {
        "layer_name": target.layer.venvstacks_name,
        "install_target": target.directory,
        "requirements_hash": f"sha256:{target.lock.digest}",
        "lock_version": target.lock.version if target.layer.versioned else 1,
        "locked_at": target.lock.locked_at,
        "runtime_layer": runtime.directory,
        "python_implementation": f"cpython@{runtime.lock.python_version}",
        # A layer has no copies of runtime files; on Windows `install` copies the launcher.
        "bound_to_implementation": target.layer.kind is LayerKind.RUNTIME,
    }
    if below:
        metadata["required_layers"] = [lower.directory for lower in below[:-1]]
    return metadata | _modules(target, parts, cache)


def _modules(target: LayerTarget, parts: Parts, cache: FrameCache) -> dict[str, object]:
    """The names and hashes of the launch module and of the support modules."""
    launch, support = target.layer.launch_module, target.layer.support_modules
    if parts.modules is None or not (launch or support):
        return {}
    site = f"{target.layout.site_packages}/"
    found = read_files(parts.modules.frames, parts.modules.paths, cache)
    contents = {path.removeprefix(site): data for path, data in found.items()}
    metadata: dict[str, object] = {}
    if launch:
        metadata["app_launch_module"] = launch.stem
        metadata["app_launch_module_hash"] = module_hash(launch.name, contents)
    if support:
        metadata["app_support_modules"] = [
            {"name": path.stem, "hash": module_hash(path.name, contents)} for path in support
        ]
    return metadata


def module_hash(name: str, contents: Mapping[str, bytes]) -> str:
    """The hash of the module or package `name` among `contents`, by their paths.

    As venvstacks makes it: of a file over its name and the text of its sha256; of a package over
    the name of each directory, followed by its files and then its directories, both sorted.
    Empty if `contents` has neither, such as where an overlay replaced the module.
    """
    if name in contents:
        return f"sha256:{hashlib.sha256(_entry(name, contents[name])).hexdigest()}"
    if not any(path.startswith(f"{name}/") for path in contents):
        return ""
    return f"sha256/{hashlib.sha256(_tree(name, contents)).hexdigest()}"


def _entry(name: str, data: bytes) -> bytes:
    return f"{name}sha256:{hashlib.sha256(data).hexdigest()}".encode()


def _tree(directory: str, contents: Mapping[str, bytes]) -> bytes:
    below = {
        path.removeprefix(f"{directory}/"): data
        for path, data in contents.items()
        if path.startswith(f"{directory}/")
    }
    files = b"".join(_entry(path, below[path]) for path in sorted(below) if "/" not in path)
    inner = sorted({path.partition("/")[0] for path in below if "/" in path})
    trees = (_tree(f"{directory}/{name}", contents) for name in inner)
    return PurePosixPath(directory).name.encode() + files + b"".join(trees)


def write_metadata(
    exports: ExportDirectory, stack: Stack, platforms: Iterable[Platform], messages: Messages
) -> None:
    """Write the metadata of the layers of `stack` that are published for `platforms`.

    Each layer is described once, so that all chains are complete: if the current manifest of an
    application names an older version of a layer below it, the older one is described.
    Raises IntegrityError for a damaged index, OSError.
    """
    index = exports.index()
    for platform in platforms:
        published = {
            layer.name: {entry.lock for entry in entries}
            for layer in stack.layers.values()
            if platform in layer.platforms
            and (entries := index.entries.get(layer.name, {}).get(platform, ()))
        }
        found = (exports.current(index, name, platform) for name in published)
        current = [manifest for manifest in found if manifest]
        locks = _fitting(current)
        described = {
            name: manifest
            for name in published
            if name in locks
            and (manifest := exports.current(index, name, platform, locks[name]))
            and venvstacks_part(manifest)
        }
        lacking = {name: published.get(name) for name in locks if name not in described}
        lacking |= {name: published[name] for name in published if name not in locks}
        for text in _gaps(stack, current, locks, lacking):
            messages.warn(f"the metadata for {platform} {text}")
        _write(exports.platform(platform), list(described.values()))


def has_metadata(exports: ExportDirectory, platform: Platform) -> bool:
    """Whether there is metadata for `platform` from an earlier run."""
    return (exports.platform(platform) / _METADATA).is_dir()


def _fitting(current: Sequence[Manifest]) -> dict[str, str]:
    """The lock of each layer to describe; `current` are the current manifests.

    Layers that no other needs decide, those first whose lower layers are current. A layer that
    needs other versions than these is left out.
    """
    newest = {one.layer: one.lock for one in current}
    lower = {link.layer for one in current for link in one.chain}
    locks: dict[str, str] = {}

    def rank(one: Manifest) -> tuple[bool, bool]:
        is_older = any(newest.get(link.layer, link.lock) != link.lock for link in one.chain)
        return one.layer in lower, is_older

    for one in sorted(current, key=rank):
        wanted = {one.layer: one.lock, **{link.layer: link.lock for link in one.chain}}
        if all(locks.get(name, lock) == lock for name, lock in wanted.items()):
            locks |= wanted
    return locks


def _gaps(
    stack: Stack,
    current: Sequence[Manifest],
    locks: Mapping[str, str],
    lacking: Mapping[str, Collection[str] | None],
) -> Iterator[str]:
    """How the metadata differs from what is published, and what to do.

    `lacking` are the layers that it lacks, with the locks that are published of each.
    """
    fitting = [one for one in current if locks.get(one.layer) == one.lock]
    upper = {link.layer: one.layer for one in fitting for link in one.chain}
    readable = {one.layer for one in current}
    for name, published in lacking.items():
        if published is None:
            if name in stack.layers:
                yield f"lacks {name}, which is not published: publish it"
            else:
                yield f"lacks {name}, which is not in the stack: publish {upper[name]} again"
        elif name in readable and name not in locks:
            yield f"lacks {name}, which needs older layers below it: publish it again"
        elif name in locks and locks[name] not in published:
            yield f"lacks {name} in the version that {upper[name]} needs: publish {upper[name]}"
        else:
            yield f"lacks {name}: publish it again"
    for one in current:
        if one.layer not in lacking and locks[one.layer] != one.lock:
            names = [it.layer for it in fitting if one.layer in {link.layer for link in it.chain}]
            need = f"{', '.join(names)} need{'s' * (len(names) == 1)}"
            again = f"publish {', '.join(names)} again, after `stackbuild lock` if locks are stale"
            yield f"has an older {one.layer}, which {need}: {again}"


def _write(directory: Path, manifests: Sequence[Manifest]) -> None:
    """Write the metadata of `manifests`; `archive_build` counts the archives of a layer from 1."""
    metadata = directory / _METADATA
    layers: dict[str, list[dict[str, object]]] = {name: [] for name in _CATEGORIES.values()}
    for manifest in manifests:
        described = venvstacks_part(manifest)
        archive = manifest.archive
        entry: dict[str, object] = {
            **described,
            "archive_name": archive.name,
            "archive_size": archive.size,
            "archive_hashes": {"sha256": archive.sha256},
            "target_platform": manifest.platform.venvstacks_name,
        }
        path = metadata / "env_metadata" / f"{described['layer_name']}.json"
        entry["archive_build"] = _build_number(path, entry)
        atomic_write(path, canonical_json(entry))
        layers[_CATEGORIES[manifest.kind]].append(entry)
    atomic_write(metadata / "venvstacks.json", canonical_json({"layers": layers}))


def _build_number(path: Path, entry: Mapping[str, object]) -> int:
    """One more than that of the metadata in the file `path`, unless the archive is the same."""
    try:
        before = strictjson.read(path)
    except (OSError, strictjson.JsonError):
        return 1
    number = before.get("archive_build") if isinstance(before, dict) else None
    if type(number) is not int or not 0 < number < strictjson.MAX_INTEGER:
        return 1
    return number if before.get("archive_hashes") == entry["archive_hashes"] else number + 1
