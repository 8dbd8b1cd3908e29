"""Compare layers: what an upgrade adds, removes and changes, and how much of it is fetched."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from stackbuild.compose.manifest import fetched_bytes
from stackbuild.install.report import DistributionChange, LayerChange, LayerVersion, Upgrade

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from stackbuild.compose.manifest import Manifest
    from stackbuild.frames.model import Frame
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
    manifest: Manifest | None = None
    """None if it is only locked."""


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
        manifest,
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
    before: Iterable[Layer],
    after: Iterable[Layer],
    has: Callable[[Frame], bool] | None = None,
    is_source: Callable[[str], bool] | None = None,
) -> Upgrade:
    """What changes from `before` to `after`; layers that are equal are left out.

    `has` tells which frames need not be fetched, and `is_source` which frames (sha256) patches can
    use; by default those of `before`.
    """
    old = {(one.platform, one.directory): one for one in before}
    new = {(one.platform, one.directory): one for one in after}
    gone = [one for key, one in old.items() if key not in new]
    pairs: list[tuple[Layer | None, Layer | None]] = []
    for key, layer in new.items():
        former = old.get(key)
        if former is None:
            # Another version of a versioned layer has another directory.
            name = (layer.platform, layer.name)
            former = next((it for it in gone if (it.platform, it.name) == name), None)
            gone = [it for it in gone if it is not former]
        pairs.append((former, layer))
    pairs += [(one, None) for one in gone]
    had = _frames(old.values())
    wanted = _frames(new.values())
    missing = [
        frame for sha256, frame in wanted.items() if not (has(frame) if has else sha256 in had)
    ]
    names = [frame.sha256 for frame in missing]
    manifests = [one.manifest for one in new.values() if one.manifest]
    return Upgrade(
        layers=tuple(
            _change(one, was, now)
            for was, now in pairs
            if (one := now or was)
            and (was is None or now is None or was.version.digest != now.version.digest)
        ),
        fetched_frames=len(missing),
        fetched_bytes=fetched_bytes(manifests, names, is_source or had.__contains__),
        disk_bytes=sum(frame.content_size for frame in missing),
    )


def _frames(layers: Iterable[Layer]) -> dict[str, Frame]:
    manifests = (layer.manifest for layer in layers if layer.manifest)
    return {one.frame.sha256: one.frame for manifest in manifests for one in manifest.frames}


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
