"""Manifests and the index as JSON, strictly in both directions.

The JSON is canonical: sorted keys, two spaces of indentation, non-ASCII
letters as they are, one newline at the end. So equal manifests are equal
files, and the digest of a manifest can be computed from its values alone.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, fields
from typing import TYPE_CHECKING, cast, get_args

from stackbuild.compose.manifest import (
    COVERED_PROVENANCE,
    INDEX_FORMAT,
    MANIFEST_FORMAT,
    Archive,
    ArchiveFormat,
    ChainLink,
    Index,
    IndexEntry,
    Manifest,
    PlacedFrame,
    Shipped,
)
from stackbuild.compose.values import Value, read_json
from stackbuild.errors import IntegrityError
from stackbuild.frames.model import Frame, FrameKind
from stackbuild.lock.model import LeftOut
from stackbuild.platforms import Platform
from stackbuild.spec.model import LayerKind

if TYPE_CHECKING:
    from collections.abc import Mapping

    from packaging.utils import NormalizedName

_MANIFEST_KEYS = (
    "format",
    "layer",
    "kind",
    "platform",
    "directory",
    "python_version",
    "lock",
    "digest",
    "chain",
    "frames",
    "archive",
    "distributions",
    "skipped",
    "omitted",
    "provenance",
)

MAX_CHAIN = 1000
"""Layers below a layer. Each is looked for in the index and in the root."""

_ENTRY_KEYS = tuple(entry.name for entry in fields(IndexEntry))


def canonical_json(value: object) -> bytes:
    """`value` as canonical JSON in UTF-8."""
    text = json.dumps(value, sort_keys=True, indent=2, ensure_ascii=False, allow_nan=False)
    return f"{text}\n".encode()


def _body(manifest: Manifest) -> dict[str, object]:
    """The manifest without `archive` and `digest`."""
    return {
        "format": manifest.format,
        "layer": manifest.layer,
        "kind": str(manifest.kind),
        "platform": str(manifest.platform),
        "directory": manifest.directory,
        "python_version": manifest.python_version,
        "lock": manifest.lock,
        "chain": [asdict(link) for link in manifest.chain],
        "frames": [{**asdict(placed.frame), "offset": placed.offset} for placed in manifest.frames],
        "distributions": [asdict(shipped) for shipped in manifest.distributions],
        "skipped": [asdict(left) for left in manifest.skipped],
        "omitted": [asdict(left) for left in manifest.omitted],
        "provenance": dict(manifest.provenance),
    }


def body_digest(manifest: Manifest) -> str:
    """What `digest` of `manifest` must be: sha256 (hex) of what it says of the contents.

    The frames are part of it and name their contents by sha256, so the digest
    is known before any archive is written, and covers the archive too. How a
    layer was made is left out, so that two machines give equal archives one name.
    """
    covered = _body(manifest)
    if manifest.format != COVERED_PROVENANCE:
        del covered["provenance"]
    return hashlib.sha256(canonical_json(covered)).hexdigest()


def manifest_to_json(manifest: Manifest) -> bytes:
    """The canonical bytes of `manifest`."""
    return canonical_json(
        {**_body(manifest), "digest": manifest.digest, "archive": asdict(manifest.archive)}
    )


def manifest_from_json(data: bytes, source: str = "the manifest") -> Manifest:
    """The manifest that `data` holds; `source` is what messages call it.

    Raises IntegrityError with the path of the value, such as
    ``frames[3].offset``, for anything that `manifest_to_json` would not have
    written: other types, unknown keys, unsafe names, frames that do not follow
    each other, and a digest that is not the body's.
    """
    value = read_json(data, source)
    value.fields(_MANIFEST_KEYS, formats=(COVERED_PROVENANCE, MANIFEST_FORMAT))
    manifest = Manifest(
        layer=value["layer"].layer_name(),
        kind=value["kind"].choice(LayerKind),
        platform=value["platform"].choice(Platform),
        directory=value["directory"].directory_of(value["layer"].layer_name()),
        python_version=value["python_version"].python_version(),
        lock=value["lock"].sha256(),
        digest=value["digest"].sha256(),
        chain=_chain(value["chain"]),
        frames=_frames(value["frames"]),
        archive=_archive(value["archive"]),
        distributions=tuple(_shipped(item) for item in value["distributions"].items()),
        skipped=tuple(_left_out(item) for item in value["skipped"].items()),
        omitted=tuple(_left_out(item) for item in value["omitted"].items()),
        provenance=value["provenance"].table(),
        format=value["format"].count(),
    )
    _check_chain(manifest, value["chain"])
    _check_size(manifest, value["archive"]["size"])
    expected = body_digest(manifest)
    if manifest.digest != expected:
        raise value["digest"].error("is not the digest of this manifest", expected)
    return manifest


def _left_out(value: Value) -> LeftOut:
    value.fields(("name", "reason"))
    name = cast("NormalizedName", value["name"].text())
    return LeftOut(name=name, reason=value["reason"].text())


def _chain(value: Value) -> tuple[ChainLink, ...]:
    items = list(value.items())
    if len(items) > MAX_CHAIN:
        raise value.error(f"has {len(items)} layers", f"at most {MAX_CHAIN} layers")
    return tuple(map(_link, items))


def _link(value: Value) -> ChainLink:
    value.fields(("layer", "kind", "directory", "lock"))
    return ChainLink(
        layer=value["layer"].layer_name(),
        kind=value["kind"].choice(LayerKind),
        directory=value["directory"].directory_of(value["layer"].layer_name()),
        lock=value["lock"].sha256(),
    )


def _superseded_by(value: Value) -> str | None:
    return None if value.found is None else value.layer_name()


def _check_chain(manifest: Manifest, chain: Value) -> None:
    """Raise IntegrityError unless the layers below are frameworks and, last, one runtime."""
    kinds = [link.kind for link in manifest.chain]
    if manifest.kind is LayerKind.RUNTIME:
        if kinds:
            raise chain.error("names layers below a runtime", "an empty array")
        return
    if kinds[-1:] != [LayerKind.RUNTIME]:
        raise chain.error("does not end with a runtime", "the layers below, the runtime last")
    if any(kind is not LayerKind.FRAMEWORK for kind in kinds[:-1]):
        raise chain.error("has another kind of layer before its end", "frameworks, then a runtime")
    seen = {manifest.layer}
    for item, link in zip(chain.items(), manifest.chain, strict=True):
        if link.layer in seen:
            raise item["layer"].error("is in the chain twice", "each layer once")
        seen.add(link.layer)


def _frames(value: Value) -> tuple[PlacedFrame, ...]:
    placed: list[PlacedFrame] = []
    offset = 0
    for item in value.items():
        item.fields(("kind", "subject", "sha256", "size", "content_size", "files", "offset"))
        frame = Frame(
            kind=item["kind"].choice(FrameKind),
            subject=item["subject"].text(),
            sha256=item["sha256"].sha256(),
            size=item["size"].count(),
            content_size=item["content_size"].count(),
            files=item["files"].count(),
        )
        if item["offset"].count() != offset:
            raise item["offset"].error("does not follow the frame before it", str(offset))
        placed.append(PlacedFrame(frame=frame, offset=offset))
        offset += frame.size
    return tuple(placed)


def _archive(value: Value) -> Archive:
    value.fields(("name", "size", "sha256", "format"))
    return Archive(
        name=value["name"].name(),
        size=value["size"].count(),
        sha256=value["sha256"].sha256(),
        format=value["format"].one_of(get_args(ArchiveFormat)),
    )


def _check_size(manifest: Manifest, size: Value) -> None:
    total = sum(placed.frame.size for placed in manifest.frames)
    if manifest.archive.format == "tar.zst" and manifest.archive.size != total:
        raise size.error("is not the sum of the frames' sizes", str(total))


def _shipped(value: Value) -> Shipped:
    value.fields(("name", "version", "wheel", "sha256"))
    return Shipped(
        name=value["name"].name(),
        version=value["version"].text(),
        wheel=value["wheel"].name(),
        sha256=value["sha256"].sha256(),
    )


def index_to_json(index: Index) -> bytes:
    """The canonical bytes of `index`."""
    layers: dict[str, Mapping[str, object]] = {
        layer: {
            str(platform): [asdict(entry) for entry in entries]
            for platform, entries in platforms.items()
        }
        for layer, platforms in index.entries.items()
    }
    return canonical_json({"format": INDEX_FORMAT, "layers": layers})


def index_from_json(data: bytes, source: str = "the index") -> Index:
    """The index that `data` holds; `source` is what messages call it.

    Raises IntegrityError with the path of the value, such as
    ``layers.atls.linux-x64[0].sha256``, for anything that `index_to_json`
    would not have written.
    """
    try:
        return _index(read_json(data, source))
    except IntegrityError as error:
        raise error.with_remedy(
            f"put a copy of {source} back; or move it away and publish all layers again, in the "
            "project of the stack: the new index names only what that publishes"
        ) from None


def _index(value: Value) -> Index:
    value.fields(("format", "layers"), formats=(INDEX_FORMAT,))
    return Index(
        entries={
            layer.layer_name(): {
                platform.choice(Platform): tuple(_entry(item) for item in entries.items())
                for platform, entries in platforms.pairs()
            }
            for layer, platforms in value["layers"].pairs()
        }
    )


def _entry(value: Value) -> IndexEntry:
    value.fields(_ENTRY_KEYS)
    return IndexEntry(
        manifest=value["manifest"].relative_path(),
        sha256=value["sha256"].sha256(),
        digest=value["digest"].sha256(),
        lock=value["lock"].sha256(),
        kind=value["kind"].choice(LayerKind),
        version=value["version"].text(),
        python_version=value["python_version"].python_version(),
        chain=tuple(item.layer_name() for item in value["chain"].items()),
        size=value["size"].count(),
        content_size=value["content_size"].count(),
        files=value["files"].count(),
        deprecated=value["deprecated"].optional_text(),
        superseded_by=_superseded_by(value["superseded_by"]),
    )
