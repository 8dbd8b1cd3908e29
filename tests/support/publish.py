"""Publish small layers of any files, with real frames, manifests and an index."""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import pytest

from stackbuild.compose.export_directory import index_entry
from stackbuild.compose.manifest import (
    Archive,
    ArchiveFormat,
    ChainLink,
    Index,
    IndexEntry,
    Manifest,
    PlacedFrame,
    Shipped,
)
from stackbuild.compose.patches import Older, write_patches
from stackbuild.compose.serialize import (
    body_digest,
    index_to_json,
    manifest_from_json,
    manifest_to_json,
)
from stackbuild.frames.cache import FrameCache
from stackbuild.frames.files import FileContent, Link, files_set
from stackbuild.frames.model import FrameKind
from stackbuild.messages import SILENT
from stackbuild.platforms import Platform, host_platform
from stackbuild.spec.model import Catalogue, FrameSettings, LayerKind

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from stackbuild.variables import Variable

Files = dict[str, "FileContent | Link | bytes | str"]

PYTHON = """#!/bin/sh
# Stands for an interpreter where no Python code has to run.
echo "$0" "$@"
"""


def sha(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


@dataclass
class Publisher:
    """A published directory that tests add layers to."""

    directory: Path
    cache: FrameCache
    platform: Platform = field(default_factory=host_platform)
    entries: dict[str, dict[Platform, list[IndexEntry]]] = field(default_factory=dict)
    level: int = 1
    patches: bool = False
    """Whether layers get patches from the version before."""
    archive_format: ArchiveFormat = "tar.zst"
    tags: str = "py3-none-any"
    """Those of the wheels."""

    def publish(
        self,
        layer: str,
        frames: Mapping[str, Mapping[str, FileContent | Link | bytes | str]],
        *,
        below: Sequence[Manifest] = (),
        lock: str = "1",
        platform: Platform | None = None,
        directory: str | None = None,
        python_version: str = "3.12.1",
        kind: LayerKind | None = None,
        environment: Mapping[str, Variable] | None = None,
        shipped: Mapping[str, str] | None = None,
    ) -> Manifest:
        """Publish `layer` with `frames` (subject to files) on the layers `below`, nearest first.

        `shipped` are the versions of its distributions by name.
        The frame of the subject ``overlay`` is one of files of the project.
        """
        target = platform or self.platform
        if kind is None:
            kind = LayerKind.APPLICATION if below else LayerKind.RUNTIME
        placed: list[PlacedFrame] = []
        data = b""
        for number, (subject, files) in enumerate(frames.items(), 1):
            contents = {path: _content(item) for path, item in files.items()}
            made = files_set(
                FrameKind.OVERLAY if subject == "overlay" else FrameKind.DISTRIBUTION,
                subject,
                contents,
                FrameSettings(level=self.level),
                self.cache,
                end=number == len(frames),
            )
            for frame in made.frames:
                placed.append(PlacedFrame(frame=frame, offset=len(data)))
                data += self.cache.frame_path(frame.sha256).read_bytes()
        manifest = Manifest(
            layer=layer,
            kind=kind,
            platform=target,
            directory=directory or layer,
            python_version=python_version,
            lock=sha(f"{layer} {lock}"),
            digest="0" * 64,
            chain=tuple(
                ChainLink(
                    layer=lower.layer,
                    kind=lower.kind,
                    directory=lower.directory,
                    lock=lower.lock,
                )
                for lower in below
            ),
            frames=tuple(placed),
            archive=Archive(
                name="-",
                size=len(data),
                sha256=hashlib.sha256(data).hexdigest(),
                format=self.archive_format,
            ),
            environment=environment or {},
            distributions=tuple(
                Shipped(
                    name=name,
                    version=version,
                    wheel=f"{name}-{version}-{self.tags}.whl",
                    sha256=sha(f"{name} {version}"),
                )
                for name, version in (shipped or {"demo": "1"}).items()
            ),
        )
        folder = self.directory / str(target)
        folder.mkdir(parents=True, exist_ok=True)
        digest = body_digest(manifest)
        name = f"{layer}-{digest[:12]}"
        archive = replace(manifest.archive, name=f"{name}.{self.archive_format}")
        manifest = replace(manifest, digest=digest, archive=archive)
        older = self.entries.get(layer, {}).get(target, []) if self.patches else []
        versions = [
            Older(manifest_from_json((self.directory / entry.manifest).read_bytes()), folder)
            for entry in older[:1]
        ]
        patch_file = write_patches(manifest, versions, self.cache, folder, SILENT)
        manifest = replace(manifest, patch_file=patch_file)
        (folder / archive.name).write_bytes(data)
        raw = manifest_to_json(manifest)
        (folder / f"{name}.json").write_bytes(raw)
        version = int(lock) if lock.isdecimal() else 1
        entry = replace(
            index_entry(manifest, f"{target}/{name}.json", Catalogue(version=lock), version),
            published="2026-01-31T08:00:00Z",
        )
        self.entries.setdefault(layer, {}).setdefault(target, []).insert(0, entry)
        self.write_index()
        return manifest

    def write_index(self) -> None:
        index = Index(
            entries={
                layer: {platform: tuple(entries) for platform, entries in platforms.items()}
                for layer, platforms in self.entries.items()
            }
        )
        (self.directory / "index.json").write_bytes(index_to_json(index))

    def archive(self, manifest: Manifest) -> Path:
        return self.directory / str(manifest.platform) / manifest.archive.name

    def stack(self, version: str = "1") -> tuple[Manifest, Manifest, Manifest, Manifest]:
        """A runtime, a framework on it, and two applications on that."""
        runtime = self.publish(
            "cpython-3.12",
            {
                "cpython 3.12.1": {
                    "bin/python3.12": FileContent(data=PYTHON.encode(), executable=True),
                    "lib/python3.12/os.py": "OS = 1\n" * 50,
                }
            },
        )
        framework = self.publish(
            "framework",
            {
                "numpy 2.2.6": {
                    "lib/python3.12/site-packages/numpy/__init__.py": f"VERSION = {version!r}\n",
                    "lib/python3.12/site-packages/numpy/data.bin": bytes(range(256)) * 40,
                },
                "framework": head("cpython-3.12"),
            },
            below=[runtime],
            lock=version,
            kind=LayerKind.FRAMEWORK,
        )
        atls = self.application("atls", [framework, runtime], version)
        pgen = self.application("pgen", [framework, runtime], version)
        return runtime, framework, atls, pgen

    def runtime_of(self, python: str) -> Manifest:
        """A runtime whose interpreter starts `python`, so that none has to be packed."""
        start = f"#!/bin/sh\nexec '{python}' \"$@\"\n".encode()
        return self.publish(
            "python", {"python": {"bin/python3.12": FileContent(start, executable=True)}}
        )

    def application(self, name: str, below: Sequence[Manifest], version: str = "1") -> Manifest:
        return self.publish(
            name,
            {
                f"{name} {version}": {
                    f"lib/python3.12/site-packages/{name}/__init__.py": f"V = {version!r}\n",
                    f"bin/{name}-tool": FileContent(
                        data=f'#!/bin/sh\necho {name} {version} "$@"\n'.encode(), executable=True
                    ),
                },
                name: head(below[-1].directory),
            },
            below=below,
            lock=version,
        )


def dateless(index: bytes) -> bytes:
    """The bytes of an index without the dates of publishing."""
    return re.sub(rb'\n *"published": [^\n]*', b"", index)


def head(runtime: str) -> Files:
    return {
        "bin/python": Link(f"../../{runtime}/bin/python3.12"),
        "pyvenv.cfg": "include-system-site-packages = false\n",
    }


def _content(item: FileContent | Link | bytes | str) -> FileContent | Link:
    if isinstance(item, str):
        return FileContent(data=item.encode())
    return FileContent(data=item) if isinstance(item, bytes) else item


def publisher(tmp_path: Path) -> Publisher:
    directory = tmp_path / "exports"
    directory.mkdir(parents=True, exist_ok=True)
    return Publisher(directory, FrameCache(tmp_path / "frames"))


@pytest.fixture
def made(tmp_path: Path) -> Publisher:
    """A directory with a small stack: cpython-3.12, framework, atls and pgen on it."""
    made = publisher(tmp_path)
    made.stack()
    return made


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A root that is not there yet."""
    return tmp_path / "root"
