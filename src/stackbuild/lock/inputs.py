"""What a lock depends on: the policy, package indexes, layers below and the target."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from stackbuild.lock.model import content_digest, imported
from stackbuild.spec.model import Policy
from stackbuild.spec.policy import policy_on_chain
from stackbuild.spec.policy_fields import POLICY_FIELDS
from stackbuild.spec.settings import PACKAGE_ROOT
from stackbuild.strictjson import digest_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from stackbuild.lock.model import LayerLock
    from stackbuild.platforms import Platform
    from stackbuild.spec.model import BuildWheel, Layer, Stack

RESOLUTION = 1
"""Raised when the way of resolving changes, so that all locks become stale."""


_NAMES = {
    "skip-of": "`skip`",
    "build-environment": "`build.environment`",
    "package-root": "the files of `{packageRoot}`",
}
"""What parts of the policy are called that are no field of it."""


class Inputs(NamedTuple):
    """What a lock depends on."""

    digest: str
    """sha256 (hex) of everything (`LayerLock.inputs`)."""
    parts: tuple[str, ...]
    """What of it may change without a change of the requirements: names, each with the first
    digits of a digest (`LayerLock.parts`)."""

    def changed_since(self, parts: Iterable[str]) -> str:
        """Names of the parts that differ from `parts`, those of a lock, for a message."""
        names = {part.rpartition(" ")[0] for part in {*parts} ^ {*self.parts}}
        return ", ".join(sorted(names))


def inputs_of(
    stack: Stack,
    layer: Layer,
    platform: Platform,
    lower: Sequence[LayerLock],
    interpreter: str | None,
) -> Inputs:
    """The inputs of the lock of `layer`.

    `lower` are the locks of the layers below, nearest first; `interpreter` is
    the sha256 of a runtime's archive. Credentials of indexes are not included.
    """
    from stackbuild.lock.indexes import index_settings

    target = {"linux": layer.linux_target, "macos": layer.macosx_target}.get(platform.os)
    policy = policy_on_chain(stack, layer, platform)
    described = _described(policy)
    if policy.skip:
        # Earlier versions also left out what others required.
        described["skip-of"] = "requirements"
    if policy.build.environment:
        described["build-environment"] = _plain(policy.build.environment)
    # Builds may read these files; few layers have such a build.
    if any(map(uses_package_root, policy.build_wheel.values())):
        described["package-root"] = contents(stack.directory / "overlays" / layer.name)
    siblings = _siblings(layer, lower)
    indexes, assigned, settings, *local = index_settings(stack, layer, platform).described()
    digest = digest_of(
        {
            **({"policy": described} if described else {}),
            "resolution": RESOLUTION,
            "requirements": sorted(map(str, layer.requirements_on(platform))),
            "platform": platform,
            "target": target,
            "python": str(stack.python_version(layer)),
            "indexes": [indexes, assigned, settings, *local],
            "lower": [[lock.layer, content_digest(lock.distributions, None)] for lock in lower],
            "interpreter": interpreter,
            **({"sources": stack.sources} if stack.sources and layer.lower else {}),
            **({"siblings": siblings} if siblings else {}),
        }
    )
    parts = {
        **{_NAMES.get(key, f"`{key}`"): value for key, value in described.items()},
        **{f"the lock of {lock.layer}": content_digest(lock.distributions, None) for lock in lower},
        "the package indexes": indexes,
        "the indexes of distributions": assigned,
        "the settings of uv": settings,
        "`local-wheels`": local,
        "the version of Python": str(stack.python_version(layer)),
        "the target": target,
        "the interpreter": interpreter,
        "`[tool.uv.sources]`": stack.sources,
        "the requirements of layers below": siblings,
    }
    named = (f"{name} {digest_of(value)[:8]}" for name, value in parts.items() if value)
    return Inputs(digest, tuple(sorted(named)))


def _siblings(layer: Layer, lower: Sequence[LayerLock]) -> list[object]:
    """If the layers below disagree: their requirements, and whether these may be unmet."""
    nearest = imported(lower)
    if all(
        nearest[item.name][1].version == item.version
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
        field.key: _plain(value)
        for field in POLICY_FIELDS
        if field.changes == "policy"
        and (value := getattr(policy, field.attribute)) != getattr(default, field.attribute)
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
