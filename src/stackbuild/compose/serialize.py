"""Manifests and the index as JSON, strictly in both directions.

The JSON is canonical: sorted keys, two spaces of indentation, non-ASCII
letters as they are, one newline at the end. So equal manifests are equal
files, and the digest of a manifest depends only on its values.
"""

from __future__ import annotations

import hashlib
import json
import re
from dataclasses import asdict
from functools import partial
from typing import TYPE_CHECKING, Any, TypeAlias, get_args

from stackbuild.compose.manifest import (
    COVERED_PROVENANCE,
    INDEX_FORMAT,
    MANIFEST_FORMAT,
    WITHOUT_DATES,
    WITHOUT_PATCHES,
    WITHOUT_TITLES,
    WITHOUT_VARIABLES,
    Archive,
    ArchiveFormat,
    ChainLink,
    Index,
    IndexEntry,
    Manifest,
    Patch,
    PatchFile,
    PlacedFrame,
    Shipped,
)
from stackbuild.errors import IntegrityError
from stackbuild.frames.model import FRAME, Frame
from stackbuild.lock.model import LeftOut
from stackbuild.names import LAYER_NAME, is_directory_of, layer_name_fault
from stackbuild.platforms import Platform
from stackbuild.reading import Item, read_json, records
from stackbuild.spec.model import LayerKind
from stackbuild.variables import read_variables

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from stackbuild.reading import Readers

MAX_CHAIN = 1000
"""Layers below a layer. Each is looked up in the index and in the root."""

_PYTHON_VERSION = re.compile(
    r"[0-9]\.[0-9]{1,3}\.[0-9]{1,3}(?:(?:a|b|rc)[0-9]{1,3})?(?:\+[a-z0-9.]{0,100})?"
)
_COMPONENT = re.compile(
    r"[^\x00-\x1f\x7f-\x9f\u200e\u200f\u2028-\u202e\u2066-\u2069\ufeff/\\:]{1,255}"
)
"""One component of a path on every system, except `.` and `..`. Without control characters and
characters that change the direction of text (Unicode's Bidi_Control)."""

_Entries: TypeAlias = "Mapping[Platform, tuple[IndexEntry, ...]]"


def canonical_json(value: object) -> bytes:
    """`value` as canonical JSON in UTF-8."""
    text = json.dumps(value, sort_keys=True, indent=2, ensure_ascii=False, allow_nan=False)
    return f"{text}\n".encode()


def _body(manifest: Manifest) -> dict[str, object]:
    """The manifest without `archive` and `digest`."""
    variables = {name: asdict(variable) for name, variable in manifest.environment.items()}
    return {
        **({} if manifest.format in WITHOUT_VARIABLES else {"environment": variables}),
        "format": manifest.format,
        "layer": manifest.layer,
        "kind": str(manifest.kind),
        "platform": str(manifest.platform),
        "directory": manifest.directory,
        "python_version": manifest.python_version,
        "lock": manifest.lock,
        "chain": [asdict(link) for link in manifest.chain],
        "frames": [_frame_value(placed, manifest.format) for placed in manifest.frames],
        "distributions": [asdict(shipped) for shipped in manifest.distributions],
        "skipped": [asdict(left) for left in manifest.skipped],
        "omitted": [asdict(left) for left in manifest.omitted],
        "provenance": dict(manifest.provenance),
    }


def _frame_value(placed: PlacedFrame, format_: int) -> dict[str, object]:
    value = {**asdict(placed.frame), "offset": placed.offset}
    if format_ in WITHOUT_PATCHES:
        del value["content_sha256"]
    return value


def body_digest(manifest: Manifest) -> str:
    """The correct `digest` of `manifest`: sha256 (hex) of its body.

    The body contains the sha256 of the frames, so the digest is known before the
    archive is written, and covers the archive too. The provenance is left out, so
    that equal archives of two machines have the same name.
    """
    covered = _body(manifest)
    if manifest.format != COVERED_PROVENANCE:
        del covered["provenance"]
    return hashlib.sha256(canonical_json(covered)).hexdigest()


def manifest_to_json(manifest: Manifest) -> bytes:
    """The canonical bytes of `manifest`."""
    patch_file = asdict(manifest.patch_file) if manifest.patch_file else None
    return canonical_json(
        {
            **_body(manifest),
            **({} if manifest.format in WITHOUT_PATCHES else {"patch_file": patch_file}),
            "digest": manifest.digest,
            "archive": asdict(manifest.archive),
        }
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


def manifest_from_json(data: bytes, source: str = "the manifest") -> Manifest:
    """Parse the manifest `data`; `source` is its name in messages.

    Raises IntegrityError with the path of the value, such as
    ``frames[3].offset``, for anything that `manifest_to_json` would not have
    written: other types, unknown keys, unsafe names, frames that do not follow
    each other, and a wrong digest.
    """
    return read_json(data, source, _manifest)


def index_from_json(data: bytes, source: str = "the index") -> Index:
    """Parse the index `data`; `source` is its name in messages.

    Raises IntegrityError with the path of the value, such as
    ``layers.atls.linux-x64[0].sha256``, for anything that `index_to_json`
    would not have written.
    """
    try:
        return read_json(data, source, _index)
    except IntegrityError as error:
        raise error.with_remedy(
            f"put a copy of {source} back; or move it away and publish all layers again, in the "
            "project of the stack: the new index names only what that publishes"
        ) from None


def _manifest(value: Item[object]) -> Manifest:
    format_ = value.table().get("format")
    frame: dict[str, Callable[[Item[object]], object]] = {**FRAME, "offset": Item.count}
    if format_ in WITHOUT_PATCHES:
        del frame["content_sha256"]
    manifest = value.record(
        lambda **given: Manifest(format=value["format"].count(), **given),
        {
            **_LAYER,
            "platform": lambda item: item.choice(Platform),
            "directory": lambda item: _directory(item, value),
            "python_version": _python_version,
            "digest": Item.sha256,
            "chain": _chain,
            "frames": partial(_frames, readers=frame),
            "archive": lambda item: item.record(Archive, _ARCHIVE),
            "distributions": records(Shipped, _SHIPPED),
            "skipped": records(LeftOut, _LEFT_OUT),
            "omitted": records(LeftOut, _LEFT_OUT),
            "provenance": Item.table,
            **({} if format_ in WITHOUT_VARIABLES else {"environment": read_variables}),
            **({} if format_ in WITHOUT_PATCHES else {"patch_file": _patch_file}),
        },
        formats=(*WITHOUT_PATCHES, MANIFEST_FORMAT),
    )
    if manifest.patch_file:
        _check_patches(manifest, value["patch_file"])
    _check_chain(manifest, value["chain"])
    _check_size(manifest, value["archive"]["size"])
    expected = body_digest(manifest)
    if manifest.digest != expected:
        raise value["digest"].error("is not the digest of this manifest", expected)
    return manifest


def _chain(value: Item[object]) -> tuple[ChainLink, ...]:
    items = value.items()
    if len(items) > MAX_CHAIN:
        raise value.error(f"has {len(items)} layers", f"at most {MAX_CHAIN} layers")
    return tuple(map(_link, items))


def _link(value: Item[object]) -> ChainLink:
    return value.record(ChainLink, {**_LAYER, "directory": lambda item: _directory(item, value)})


def _check_chain(manifest: Manifest, chain: Item[object]) -> None:
    """Check that the layers below are frameworks and, last, one runtime."""
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


def _frames(value: Item[object], readers: Readers) -> tuple[PlacedFrame, ...]:
    placed: list[PlacedFrame] = []
    offset = 0
    for item in value.items():
        frame, at = item.record(_frame_at, readers)
        if at != offset:
            raise item["offset"].error("does not follow the frame before it", str(offset))
        placed.append(PlacedFrame(frame=frame, offset=offset))
        offset += frame.size
    return tuple(placed)


def _frame_at(*, offset: int, **frame: Any) -> tuple[Frame, int]:
    return Frame(**frame), offset


def _patch_file(value: Item[object]) -> PatchFile | None:
    return value.optional(lambda item: item.record(PatchFile, _PATCH_FILE))


def _check_patches(manifest: Manifest, file: Item[object]) -> None:
    """Check that patches follow each other and are smaller than the frames that they give."""
    sizes = {placed.frame.sha256: placed.frame.size for placed in manifest.frames}
    offset = 0
    for item, patch in zip(file["patches"].items(), manifest.patches, strict=True):
        if patch.offset != offset:
            raise item["offset"].error("does not follow the patch before it", str(offset))
        offset += patch.size
        if not sizes.keys() >= set(patch.frames):
            raise item["frames"].error("names a frame of another manifest", "frames of this one")
        limit = sum(sizes[sha256] for sha256 in patch.frames)
        if not 0 < patch.size < limit:
            raise item["size"].error("is not that of a patch", f"1 to {limit - 1} bytes")
    if not 0 < offset == file["size"].count():
        raise file["size"].error("is not the sum of the patches' sizes", str(offset))


def _check_size(manifest: Manifest, size: Item[object]) -> None:
    total = sum(placed.frame.size for placed in manifest.frames)
    if manifest.archive.format == "tar.zst" and manifest.archive.size != total:
        raise size.error("is not the sum of the frames' sizes", str(total))


def _index(value: Item[object]) -> Index:
    format_ = value.table().get("format")
    texts = {} if format_ == WITHOUT_TITLES else _TEXTS
    dates = {} if format_ in WITHOUT_DATES else _DATES
    read_entries = records(IndexEntry, {**_ENTRY, **texts, **dates})
    return value.record(
        lambda layers: Index(entries=layers),
        {"layers": partial(_layers, read_entries=read_entries)},
        formats=(*WITHOUT_DATES, INDEX_FORMAT),
    )


def _layers(
    value: Item[object], read_entries: Callable[[Item[object]], tuple[IndexEntry, ...]]
) -> dict[str, _Entries]:
    return {
        _layer_name(layer): {
            platform.choice(Platform): read_entries(entries)
            for platform, entries in platforms.pairs()
        }
        for layer, platforms in value.pairs()
    }


def _python_version(item: Item[object]) -> str:
    """The full version of an interpreter, such as 3.12.10 or 3.14.0rc1."""
    if not isinstance(item.value, str) or not _PYTHON_VERSION.fullmatch(item.value):
        raise item.wrong_type("a version of Python")
    return item.value


def _name(item: Item[object]) -> str:
    """A string that is one component of a path."""
    text = item.text()
    if not _is_component(text):
        raise item.wrong_type("the name of a file")
    return text


def _relative_path(item: Item[object]) -> str:
    """A path with forward slashes that cannot leave the directory it is relative to."""
    text = item.text()
    if not all(map(_is_component, text.split("/"))):
        raise item.wrong_type("a relative path")
    return text


def _is_component(text: str) -> bool:
    return bool(_COMPONENT.fullmatch(text)) and text not in {".", ".."}


def _layer_name(item: Item[Any]) -> str:
    text = item.text()
    if fault := layer_name_fault(text):
        raise item.error(fault, f"a layer name: {LAYER_NAME}")
    return text


def _directory(item: Item[object], layer: Item[object]) -> str:
    """The directory of `layer` in a root: its name, with ``@`` and a number if versioned."""
    text, name = item.text(), _layer_name(layer["layer"])
    if not is_directory_of(text, name):
        raise item.error(f"is not the directory of {name}", f"{name}, or {name}@ and a number")
    return text


_LAYER: Readers = {
    "layer": _layer_name,
    "kind": lambda item: item.choice(LayerKind),
    "lock": Item.sha256,
}
_LEFT_OUT: Readers = {"name": Item.text, "reason": Item.text}
_SHIPPED: Readers = {"name": _name, "version": Item.text, "wheel": _name, "sha256": Item.sha256}
_PATCH: Readers = {
    "sources": lambda item: item.tuple_of(Item.sha256),
    "frames": lambda item: item.tuple_of(Item.sha256),
    "offset": Item.count,
    "size": Item.count,
    "sha256": Item.sha256,
}
_FILE: Readers = {"name": _name, "size": Item.count, "sha256": Item.sha256}
_PATCH_FILE: Readers = {**_FILE, "patches": records(Patch, _PATCH)}
_ARCHIVE: Readers = {
    **_FILE,
    "format": lambda item: item.one_of(get_args(ArchiveFormat)),
}
_ENTRY: Readers = {
    "manifest": _relative_path,
    "sha256": Item.sha256,
    "digest": Item.sha256,
    "lock": Item.sha256,
    "kind": lambda item: item.choice(LayerKind),
    "version": Item.text,
    "python_version": _python_version,
    "chain": lambda item: item.tuple_of(_layer_name),
    "size": Item.count,
    "content_size": Item.count,
    "files": Item.count,
    "deprecated": lambda item: item.optional(Item.text),
    "superseded_by": lambda item: item.optional(_layer_name),
}
_TEXTS: Readers = {
    "title": lambda item: item.optional(Item.text),
    "description": lambda item: item.optional(Item.text),
}
_DATES: Readers = {
    "lock_version": lambda item: item.optional(Item.count),
    "published": lambda item: item.optional(Item.moment),
}
