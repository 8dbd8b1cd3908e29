"""Make a container image of a layer and those below it."""

from __future__ import annotations

import os
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from stackbuild.errors import UsageError
from stackbuild.files import EARLIEST
from stackbuild.frames.cache import FrameCache
from stackbuild.images.base import LAYOUT, open_base
from stackbuild.images.blobs import BlobCache
from stackbuild.images.config import make
from stackbuild.images.destination import destination
from stackbuild.images.layers import blob_of, made_layer
from stackbuild.images.libraries import check_libraries
from stackbuild.install.archive import chains
from stackbuild.registry.find import Published
from stackbuild.spec.select import check_single
from stackbuild.workspace import open_workspace

if TYPE_CHECKING:
    from stackbuild.compose.report import LayerFailure
    from stackbuild.messages import Messages
    from stackbuild.platforms import Platform
    from stackbuild.registry.base import Registry

_EPOCH = "SOURCE_DATE_EPOCH"
_LAST_SECOND = 253_402_300_799
"""Of the year 9999, since the epoch."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ImageLayer:
    """A layer of the stack in an image."""

    layer: str
    digest: str
    """Of the image layer: ``sha256:`` and 64 digits."""
    size: int
    """Its compressed size, in bytes."""
    new: bool
    """Whether it was made now, and not before."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ImageReport:
    """The result of making an image."""

    to: str
    """Where the image is."""
    platform: Platform
    digest: str | None = None
    """Of the image's manifest; None if layers could not be composed."""
    layers: tuple[ImageLayer, ...] = ()
    """Lower layers first, without those of the base."""
    size: int = 0
    """Of the image with its base, compressed, in bytes."""
    written: int = 0
    """Bytes that the place did not have yet."""
    failures: tuple[LayerFailure, ...] = ()
    """The layers that could not be composed; then nothing was written."""


def make_image(
    layer: str,
    registry: Registry,
    base: str,
    to: str | None,
    platform: Platform,
    messages: Messages,
) -> ImageReport:
    """Make an image of `layer` on `base`, and write it to `to`; see `api.image`."""
    check_platform(platform)
    created = _created()
    published = Published(registry, platform)
    wanted = published.find([layer])
    check_single(layer, [one.directory for one in wanted], published.location)
    place = to or f"{LAYOUT}{wanted[0].layer}-{platform}"
    target = destination(place, wanted[0].layer)
    manifests = chains(wanted, published, messages)
    workspace = open_workspace(Path.cwd())
    cache = BlobCache(workspace.images)
    cache.prepare()
    below = open_base(base, platform, cache, messages)
    found = [
        made_layer(one, published, cache, FrameCache(workspace.frames), messages)
        for one in manifests
    ]
    made = [layer for layer, _ in found]
    check_libraries(below, manifests, made, cache, messages)
    blobs = [blob_of(layer, cache) for layer in made]
    image = make(below, manifests, made, blobs, published.entry(manifests[-1]), created)
    written = target.write(image, messages)
    return ImageReport(
        to=place,
        platform=platform,
        digest=image.manifest.digest,
        layers=tuple(
            ImageLayer(layer=one.directory, digest=layer.digest, size=layer.size, new=new)
            for one, (layer, new) in zip(manifests, found, strict=True)
        ),
        size=sum(blob.size for blob in image.blobs),
        written=written,
    )


def check_platform(platform: Platform) -> None:
    """Check that images can be made for `platform`. Raises UsageError."""
    if platform.os != "linux":
        raise UsageError(
            f"container images of layers are for Linux, not for {platform}",
            platform=platform,
            remedy="name one with --platform: linux-x64 or linux-aarch64",
        )


def _created() -> str:
    """The time of the image: that in SOURCE_DATE_EPOCH, or the one of all files in layers."""
    text = os.environ.get(_EPOCH) or str(EARLIEST)
    valid = text.isascii() and text.isdecimal() and len(text) <= len(str(_LAST_SECOND))
    if not valid or int(text) > _LAST_SECOND:
        raise UsageError(
            f"{_EPOCH} is not a time",
            expected="seconds since 1970-01-01 in UTC, before the year 10000",
            found=text[:40],
        )
    return f"{datetime.fromtimestamp(int(text), UTC):%Y-%m-%dT%H:%M:%SZ}"
