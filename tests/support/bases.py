"""OCI layouts with an image that others can begin with."""

from __future__ import annotations

import gzip
import io
import json
import os
import subprocess
import tarfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from stackbuild.runtimes.elf import C_LIBRARY
from stackbuild.transport.oci import IMAGE_INDEX, MANIFEST
from stackbuild.transport.references import digest_of
from tests.support.zstd import compressed

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

LAYER = "application/vnd.oci.image.layer.v1.tar"
GLIBC = b"...GNU C Library (Debian GLIBC 2.36-9+deb12u10) stable release version 2.36.\n..."
"""The part of a libc.so.6 that tells its version."""


def put(layout: Path, data: bytes, media_type: str, **more: object) -> dict[str, Any]:
    """Write a blob; the result is its descriptor."""
    digest = digest_of(data)
    path = layout / "blobs" / "sha256" / digest.removeprefix("sha256:")
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
    return {"mediaType": media_type, "digest": digest, "size": len(data), **more}


def tar_of(files: Mapping[str, bytes | Path]) -> bytes:
    """A tar archive with `files`, those of a path with its mode."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        for name, content in files.items():
            data = content.read_bytes() if isinstance(content, Path) else content
            entry = tarfile.TarInfo(name)
            entry.size, entry.mode = len(data), 0o755
            tar.addfile(entry, io.BytesIO(data))
    return buffer.getvalue()


def add_image(
    layout: Path,
    files: Mapping[str, bytes | Path],
    *,
    config: Mapping[str, object] | None = None,
    architecture: str = "amd64",
    layer_type: str = f"{LAYER}+gzip",
    manifest_type: str = MANIFEST,
    **more: object,
) -> dict[str, Any]:
    """Write an image of one layer; the result is the descriptor of its manifest, with `more`."""
    content = tar_of(files)
    packed = content
    if layer_type.endswith("gzip"):
        packed = gzip.compress(content, mtime=0)
    if layer_type.endswith("zstd"):
        packed = compressed(content)
    about = {
        "os": "linux",
        "architecture": architecture,
        "config": dict(config or {}),
        "rootfs": {"type": "layers", "diff_ids": [digest_of(content)]},
    }
    manifest = {
        "schemaVersion": 2,
        "mediaType": manifest_type,
        "config": put(
            layout, json.dumps(about).encode(), "application/vnd.oci.image.config.v1+json"
        ),
        "layers": [put(layout, packed, layer_type)],
    }
    return put(layout, json.dumps(manifest).encode(), manifest_type, **more)


def add_index(layout: Path, manifests: Iterable[Mapping[str, object]]) -> None:
    """Make `layout` one with these images."""
    index = {"schemaVersion": 2, "mediaType": IMAGE_INDEX, "manifests": list(manifests)}
    (layout / "index.json").write_text(json.dumps(index))
    (layout / "oci-layout").write_text('{"imageLayoutVersion": "1.0.0"}')


def tagged(tag: str) -> dict[str, str]:
    """The annotations of an image with a tag in a layout."""
    return {"org.opencontainers.image.ref.name": tag}


def base_of_this_machine(layout: Path, libraries: Iterable[str]) -> None:
    """A layout with a shell, the C library and `libraries` of this machine, on linux-x64."""
    listed = subprocess.run(["/sbin/ldconfig", "-p"], capture_output=True, text=True, check=True)
    places = {}
    for line in reversed(listed.stdout.splitlines()):
        name, _, rest = line.strip().partition(" ")
        if "x86-64" in rest:
            places[name] = rest.rpartition("=> ")[2]
    wanted = [*C_LIBRARY, "libgcc_s.so.1", "libstdc++.so.6", "libz.so.1", *libraries]
    files = {
        f"usr/lib/x86_64-linux-gnu/{name}": Path(os.path.realpath(places[name]))
        for name in sorted(set(wanted) & places.keys())
    }
    loader = "lib64/ld-linux-x86-64.so.2"
    files |= {loader: Path(os.path.realpath(f"/{loader}")), "bin/sh": Path("/bin/sh")}
    layout.mkdir(parents=True, exist_ok=True)
    add_index(layout, [add_image(layout, files, layer_type=LAYER)])
