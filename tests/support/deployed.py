"""Deployed layers with the least that a check looks at."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from packaging.utils import canonicalize_name

from stackbuild.compose.manifest import Archive, ChainLink, Manifest
from stackbuild.frames.model import FrameKind
from stackbuild.layout import Layout
from stackbuild.platforms import Platform
from stackbuild.spec.model import LayerKind
from stackbuild.verify.deployed import DeployedLayer, Distribution, RecordEntry

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

SITE = "lib/python3.12/site-packages"


def distribution(
    name: str,
    version: str = "1.0",
    *,
    requires: Sequence[str] = (),
    requires_python: str | None = None,
    files: Iterable[str] = (),
) -> Distribution:
    """A distribution whose RECORD names `files`, relative to site-packages, with no digests."""
    return Distribution(
        name=canonicalize_name(name),
        version=version,
        wheel=f"{name}-{version}-cp312-cp312-linux_x86_64.whl",
        requires=tuple(requires),
        requires_python=requires_python,
        record=tuple(RecordEntry(path=f"{SITE}/{file}", digest="", size="") for file in files),
        info=f"{SITE}/{name}-{version}.dist-info",
    )


def layer(
    name: str,
    *distributions: Distribution,
    below: Sequence[DeployedLayer] = (),
    directory: Path = Path("/nowhere"),
    platform: Platform = Platform.LINUX_X64,
    files: Iterable[str] = (),
    links: Iterable[str] = (),
    provenance: Mapping[str, object] | None = None,
) -> DeployedLayer:
    """A layer on the layers `below`, nearest first; without any it is a runtime."""
    chain = tuple(
        ChainLink(
            layer=one.manifest.layer,
            kind=one.manifest.kind,
            directory=one.manifest.directory,
            lock=one.manifest.lock,
        )
        for one in below
    )
    manifest = Manifest(
        layer=name,
        kind=LayerKind.APPLICATION if below else LayerKind.RUNTIME,
        platform=platform,
        directory=name,
        python_version="3.12.10",
        lock="0" * 64,
        digest="0" * 64,
        chain=chain,
        frames=(),
        archive=Archive(name="-", size=0, sha256="0" * 64),
        distributions=(),
        provenance=provenance or {},
    )
    return DeployedLayer(
        manifest=manifest,
        root=directory,
        directory=directory / name,
        layout=Layout(platform.os, "3.12"),
        kinds=dict.fromkeys(files, FrameKind.OVERLAY),
        links=frozenset(links),
        distributions=distributions,
    )
