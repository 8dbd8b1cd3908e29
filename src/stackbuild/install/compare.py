"""Compare layers: what an upgrade adds, removes and changes, and how much of it is fetched."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from stackbuild.install.report import DistributionChange, LayerChange, LayerVersion, Upgrade

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from stackbuild.compose.manifest import Manifest, PlacedFrame
    from stackbuild.install.state import State
    from stackbuild.lock.model import LayerLock
    from stackbuild.platforms import Platform


class Layer(NamedTuple):
    """What is compared of a layer, which is published, installed or locked."""

    name: str
    directory: str
    """Its directory in a root, which has the version of a versioned layer."""
    platform: Platform
    version: LayerVersion
    distributions: Mapping[str, tuple[str, str]]
    """The version and the sha256 of the wheel, by name."""
    frames: Sequence[PlacedFrame] = ()


def published_layer(manifest: Manifest, version: str | None) -> Layer:
    """The layer that `manifest` describes, published as `version`."""
    return Layer(
        manifest.layer,
        manifest.directory,
        manifest.platform,
        LayerVersion(
            version=version, digest=manifest.digest, python_version=manifest.python_version
        ),
        {item.name: (item.version, item.sha256) for item in manifest.distributions},
        manifest.frames,
    )


def installed(state: State) -> list[Layer]:
    """The layers of a root."""
    return [
        published_layer(manifest, state.versions.get(directory))
        for directory, manifest in state.layers.items()
    ]


def locked_layer(lock: LayerLock) -> Layer:
    """The layer that `lock` is for."""
    return Layer(
        lock.layer,
        lock.layer,
        lock.platform,
        LayerVersion(
            version=str(lock.version), digest=lock.digest, python_version=str(lock.python_version)
        ),
        {item.name: (str(item.version), item.wheel.sha256) for item in lock.distributions},
    )


def compare(
    before: Iterable[Layer], after: Iterable[Layer], missing: Iterable[PlacedFrame] | None = None
) -> Upgrade:
    """What changes from `before` to `after`; layers that are equal are left out.

    `missing` are the frames to fetch; by default those of `after` that `before` does not have.
    """
    old = {(one.platform, one.directory): one for one in before}
    new = {(one.platform, one.directory): one for one in after}
    # Another version of a versioned layer has another directory.
    gone = {(one.platform, one.name): one for key, one in old.items() if key not in new}
    pairs: list[tuple[Layer | None, Layer | None]] = [
        (old.get(key) or gone.pop((one.platform, one.name), None), one) for key, one in new.items()
    ]
    pairs += [(one, None) for one in gone.values()]
    if missing is None:
        had = {placed.frame.sha256 for one in old.values() for placed in one.frames}
        missing = (
            placed
            for one in new.values()
            for placed in one.frames
            if placed.frame.sha256 not in had
        )
    frames = {placed.frame.sha256: placed.frame for placed in missing}.values()
    return Upgrade(
        layers=tuple(
            _change(one, was, now)
            for was, now in pairs
            if (one := now or was)
            and (was is None or now is None or was.version.digest != now.version.digest)
        ),
        fetched_frames=len(frames),
        fetched_bytes=sum(frame.size for frame in frames),
        disk_bytes=sum(frame.content_size for frame in frames),
    )


def _change(one: Layer, before: Layer | None, after: Layer | None) -> LayerChange:
    old = before.distributions if before else {}
    new = after.distributions if after else {}
    return LayerChange(
        layer=one.name,
        directory=one.directory,
        platform=one.platform,
        before=before.version if before else None,
        after=after.version if after else None,
        distributions=tuple(
            DistributionChange(
                name=name,
                before=old[name][0] if name in old else None,
                after=new[name][0] if name in new else None,
            )
            for name in sorted({*old, *new})
            if old.get(name) != new.get(name)
        ),
    )
