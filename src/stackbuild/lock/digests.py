"""The inputs and the contents of a lock, each as one sha256 (hex)."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from stackbuild.spec.model import Policy
from stackbuild.spec.policy import policy_on_chain
from stackbuild.spec.policy_fields import POLICY_FIELDS
from stackbuild.spec.settings import PACKAGE_ROOT
from stackbuild.strictjson import digest_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from stackbuild.layout import Layout
    from stackbuild.lock.model import LayerLock, LockedDistribution
    from stackbuild.platforms import Platform
    from stackbuild.project.files import ProjectFiles
    from stackbuild.spec.model import BuildWheel, Layer, Stack


RESOLUTION = 1
"""Raised when the way of resolving changes, so that all locks become stale."""


def content_digest(
    distributions: Iterable[LockedDistribution], interpreter: str | None, own: str | None = None
) -> str:
    """The digest of what is installed (`LayerLock.digest`)."""
    files = [
        [item.name, str(item.version), item.wheel.name, item.wheel.size, item.wheel.sha256]
        + ([asdict(item.source)] if item.source else [])
        for item in distributions
    ]
    return digest_of([files, interpreter, *([own] if own else [])])


def own_digest(
    layer: Layer,
    platform: Platform,
    layout: Layout,
    overlays: Path,
    files: ProjectFiles,
    below: Sequence[str],
) -> str:
    """The digest of a versioned layer's own files (`LayerLock.own`).

    These are its launch module, support modules and overlays, and the directories
    of the layers `below`, whose names contain their versions. Raises ComposeError
    for files that cannot be published.
    """
    from stackbuild.project.modules import module_sources
    from stackbuild.project.overlays import overlay_files
    from stackbuild.transport.transfer import sha256_file

    modules = module_sources(layer, platform, files)
    copied = overlay_files(layer, platform, layout, overlays, files)
    return digest_of(
        {
            "modules": [[name, sha256_file(path)] for name, path in sorted(modules.items())],
            "overlays": [[file.path, file.kind, file.digest()] for file in copied],
            "below": below,
        }
    )


def inputs_digest(
    stack: Stack,
    layer: Layer,
    platform: Platform,
    lower: Sequence[LayerLock],
    interpreter: str | None,
) -> str:
    """The digest of all inputs of the lock of `layer` (`LayerLock.inputs`).

    `lower` are the locks of the layers below, nearest first; `interpreter` is
    the sha256 of a runtime's archive. Credentials of indexes are not included.
    """
    from stackbuild.lock.indexes import index_settings

    target = {"linux": layer.linux_target, "macos": layer.macosx_target}.get(platform.os)
    policy = policy_on_chain(stack, layer, platform)
    described = _described(policy)
    # Builds may read these files; few layers have such a build.
    if any(map(uses_package_root, policy.build_wheel.values())):
        described["package-root"] = contents(stack.directory / "overlays" / layer.name)
    return digest_of(
        {
            **({"policy": described} if described else {}),
            "resolution": RESOLUTION,
            "requirements": sorted(map(str, layer.requirements_on(platform))),
            "platform": platform,
            "target": target,
            "python": str(stack.python_version(layer)),
            "indexes": index_settings(stack, layer).described(),
            "lower": [[lock.layer, content_digest(lock.distributions, None)] for lock in lower],
            "interpreter": interpreter,
            **({"siblings": siblings} if (siblings := _siblings(layer, lower)) else {}),
        }
    )


def _siblings(layer: Layer, lower: Sequence[LayerLock]) -> list[object]:
    """If the layers below disagree: their requirements, and whether these may be unmet."""
    versions: dict[str, object] = {}
    if all(
        versions.setdefault(item.name, item.version) == item.version
        for lock in lower
        for item in lock.distributions
    ):
        return []
    asked = [[lock.layer, sorted(lock.requirements)] for lock in lower]
    return [layer.sibling_conflicts, asked]


def _described(policy: Policy) -> dict[str, object]:
    """The part of `policy` that a lock depends on."""
    default = Policy()
    return {
        field.key: _plain(getattr(policy, field.attribute))
        for field in POLICY_FIELDS
        if field.changes == "policy"
        and getattr(policy, field.attribute) != getattr(default, field.attribute)
    }


def _plain(value: Any) -> Any:
    """The value of a policy field as JSON, independent of order."""
    if isinstance(value, Mapping):
        return {name: _plain(one) for name, one in value.items()}
    if isinstance(value, tuple):
        return sorted(value)
    return value if isinstance(value, str) else asdict(value)


def uses_package_root(settings: BuildWheel | None) -> bool:
    """Whether a build may read files of the layer's directory."""
    values = settings.config_settings.values() if settings else ()
    return any(
        PACKAGE_ROOT in item
        for value in values
        for item in ((value,) if isinstance(value, str) else value)
    )


def contents(directory: Path) -> list[tuple[str, str]]:
    """Each file below `directory`, with its sha256 (hex).

    Raises OSError.
    """

    def refuse(error: OSError) -> None:
        if not isinstance(error, FileNotFoundError):
            raise error

    paths = [
        Path(place) / name
        for place, _, names in os.walk(directory, onerror=refuse)
        for name in names
    ]
    return [
        (path.relative_to(directory).as_posix(), hashlib.sha256(path.read_bytes()).hexdigest())
        for path in sorted(paths)
        if path.is_file()
    ]
