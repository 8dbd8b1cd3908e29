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
    from collections.abc import Iterable, Iterator, Mapping, Sequence
    from pathlib import Path

    from stackbuild.compose.export_directory import ExportDirectory
    from stackbuild.compose.layer_inputs import LayerTarget, Parts
    from stackbuild.compose.manifest import Manifest
    from stackbuild.frames.cache import FrameCache
    from stackbuild.messages import Messages
    from stackbuild.platforms import Platform
    from stackbuild.spec.model import Stack

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
    """Write the metadata of all layers of `stack` that are published for `platforms`.

    Raises IntegrityError for a damaged index, OSError.
    """
    index = exports.index()
    for platform in platforms:
        described: dict[str, Manifest] = {}
        lacking: list[str] = []
        for layer in stack.layers.values():
            published = index.entries.get(layer.name, {}).get(platform)
            if platform not in layer.platforms or not published:
                continue
            manifest = exports.current(index, layer.name, platform)
            if manifest and venvstacks_part(manifest):
                described[layer.name] = manifest
            else:
                lacking.append(layer.name)
        for text in _gaps(stack, described, lacking):
            messages.warn(f"the metadata for {platform} lacks {text}")
        _write(exports.platform(platform), list(described.values()))


def _gaps(stack: Stack, described: Mapping[str, Manifest], lacking: Sequence[str]) -> Iterator[str]:
    """Which layers the metadata lacks, and what to do; `lacking` are published without it."""
    if lacking:
        yield f"{', '.join(lacking)}: publish {'them' if lacking[1:] else 'it'} again"
    needed = {link.layer: one for one in described.values() for link in one.chain}
    for name, upper in needed.items():
        if name in described or name in lacking:
            continue
        if name in stack.layers:
            yield f"{name}, which is not published: publish it"
        else:
            yield f"{name}, which is not in the stack: publish {upper.layer} again"


def _write(directory: Path, manifests: Sequence[Manifest]) -> None:
    """Write the metadata of `manifests`; `archive_build` counts the archives of a layer from 1."""
    metadata = directory / "__venvstacks__"
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
