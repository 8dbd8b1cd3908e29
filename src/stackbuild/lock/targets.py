"""The target of a resolution, and the requirements that apply there.

A target is a Python version on a platform, at a level of its system. The level
is the oldest glibc or macOS that the layer must run on; wheels for newer ones
are not compatible (PEP 600, PEP 425).
"""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import TYPE_CHECKING

from stackbuild.errors import LockError
from stackbuild.platforms import marker_environment

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence

    from packaging.requirements import Requirement
    from packaging.tags import Tag
    from packaging.version import Version

    from stackbuild.platforms import Platform
    from stackbuild.spec.model import Layer


Level = tuple[int, int]

DEFAULT_LEVELS: dict[str, Level] = {"linux": (2, 28), "macos": (13, 0), "windows": (0, 0)}
"""uv's defaults, fixed here so that other versions of uv make the same lock."""

_UV_GLIBC_MINORS = (17, 28, *range(31, 41))
"""The levels that uv's `--python-platform` supports."""
_OLDEST_GLIBC = {"x86_64": 5, "aarch64": 17}
_LEGACY_MANYLINUX = {5: "manylinux1", 12: "manylinux2010", 17: "manylinux2014"}
_WINDOWS_TAGS = {"x86_64": "win_amd64", "aarch64": "win_arm64"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """A Python version on a platform, and the level of the system."""

    platform: Platform
    python: Version
    level: Level
    """(0, 0) on Windows, whose tags have no levels."""

    @property
    def uv_platform(self) -> str:
        """Name for uv: the nearest one that requires no newer system."""
        machine = self.platform.machine
        if self.platform.os == "linux":
            minor = max(minor for minor in _UV_GLIBC_MINORS if minor <= self.level[1])
            return f"{machine}-manylinux_2_{minor}"
        return f"{machine}-{'apple-darwin' if self.platform.os == 'macos' else 'pc-windows-msvc'}"

    @property
    def uv_environment(self) -> dict[str, str]:
        """Variables for uv, for what its platform names do not cover."""
        if self.platform.os == "macos":
            return {"MACOSX_DEPLOYMENT_TARGET": f"{self.level[0]}.{self.level[1]}"}
        return {}

    @property
    def markers(self) -> dict[str, str]:
        """The environment for markers."""
        return marker_environment(self.platform, str(self.python))

    def tags(self) -> Mapping[Tag, int]:
        """The tags of all compatible wheels to their rank; 0 is the best."""
        return _tags(self.platform, (self.python.major, self.python.minor), self.level)

    def rank(self, tags: Iterable[Tag]) -> int | None:
        """The rank of a wheel with `tags`, lower is better; None if it is not compatible."""
        known = self.tags()
        return min((known[tag] for tag in tags if tag in known), default=None)

    def __str__(self) -> str:
        """For messages: the platform with its level."""
        system = {"linux": "glibc", "macos": "macOS"}.get(self.platform.os)
        if system is None:
            return str(self.platform)
        return f"{self.platform} ({system} {self.level[0]}.{self.level[1]})"


def marker(platform: Platform) -> str:
    """The environment marker of a lock for `platform` (PEP 751, `environments`)."""
    seen = marker_environment(platform, "")
    system, machine = seen["sys_platform"], seen["platform_machine"]
    return f"sys_platform == '{system}' and platform_machine == '{machine}'"


def target_of(layer: Layer, platform: Platform, python: Version) -> Target:
    """The target of `layer` on `platform`. Raises LockError for an unsupported level."""
    return Target(platform=platform, python=python, level=_level(layer, platform))


def _level(layer: Layer, platform: Platform) -> Level:
    if platform.os == "linux" and layer.linux_target:
        level = _parse(layer, layer.linux_target.removeprefix("glibc@"), "glibc@2.28")
        if level < (2, _UV_GLIBC_MINORS[0]) or level[0] != 2:
            raise LockError(
                "this `linux_target` is not supported",
                layer=layer.name,
                expected=f"glibc@2.{_UV_GLIBC_MINORS[0]} or higher",
                found=layer.linux_target,
            )
        return level
    if platform.os == "macos" and layer.macosx_target:
        return _parse(layer, layer.macosx_target, "13.0")
    return DEFAULT_LEVELS[platform.os]


def _parse(layer: Layer, text: str, example: str) -> Level:
    major, _, minor = text.partition(".")
    if not major.isdecimal() or not (minor or "0").isdecimal():
        raise LockError(
            "not a version of an operating system",
            layer=layer.name,
            expected=f"one such as {example}",
            found=text,
        )
    return int(major), int(minor or 0)


@functools.cache
def _tags(platform: Platform, python: Level, level: Level) -> Mapping[Tag, int]:
    from packaging.tags import compatible_tags, cpython_tags

    interpreter = f"cp{python[0]}{python[1]}"
    platforms = list(_platform_tags(platform, level))
    # The ABI is given; otherwise packaging uses that of the running Python.
    ranked = [
        *cpython_tags(python, [interpreter], platforms),
        *compatible_tags(python, interpreter, platforms),
    ]
    return {tag: rank for rank, tag in reversed(list(enumerate(ranked)))}


def _platform_tags(platform: Platform, level: Level) -> Iterator[str]:
    if platform.os == "windows":
        yield _WINDOWS_TAGS[platform.machine]
    elif platform.os == "macos":
        from packaging.tags import mac_platforms

        yield from mac_platforms(level, marker_environment(platform, "")["platform_machine"])
    else:
        for minor in range(level[1], _OLDEST_GLIBC[platform.machine] - 1, -1):
            yield f"manylinux_2_{minor}_{platform.machine}"
            if legacy := _LEGACY_MANYLINUX.get(minor):
                yield f"{legacy}_{platform.machine}"
        yield f"linux_{platform.machine}"


def active(text: str, extras: Iterable[str], environment: Mapping[str, str]) -> Requirement | None:
    """The requirement `text`, if its marker is true with any of `extras` or with none.

    Raises InvalidRequirement.
    """
    from packaging.requirements import Requirement

    requirement = Requirement(text)
    marker = requirement.marker
    if marker is None or any(
        marker.evaluate({**environment, "extra": extra}) for extra in ("", *sorted(extras))
    ):
        return requirement
    return None


def all_active(
    texts: Iterable[str], extras: Iterable[str], environment: Mapping[str, str]
) -> Iterator[Requirement]:
    """Each requirement of a distribution that is `active`; invalid ones are ignored, as by uv."""
    from packaging.requirements import InvalidRequirement

    for text in texts:
        try:
            requirement = active(text, extras, environment)
        except InvalidRequirement:
            continue
        if requirement:
            yield requirement


def extras_of(requirements: Iterable[Requirement]) -> dict[str, set[str]]:
    """The extras that `requirements` ask for, by distribution."""
    from packaging.utils import canonicalize_name

    found: dict[str, set[str]] = {}
    for requirement in requirements:
        found.setdefault(canonicalize_name(requirement.name), set()).update(requirement.extras)
    return found


def requested_extras(
    requires: Mapping[str, Sequence[str]],
    asked: Mapping[str, Collection[str]],
    environment: Mapping[str, str],
) -> dict[str, set[str]]:
    """The extras of each distribution that are required, directly or through other extras.

    `requires` are the requirements of the present distributions, by name; `asked`
    are the extras required from outside. Invalid requirements are ignored.
    """
    from packaging.utils import canonicalize_name

    extras = {name: set(asked.get(name, ())) for name in requires}
    changed = True
    while changed:
        changed = False
        for name, texts in requires.items():
            for requirement in all_active(texts, frozenset(extras[name]), environment):
                other = canonicalize_name(requirement.name)
                if other in extras and not extras[other] >= requirement.extras:
                    extras[other] |= requirement.extras
                    changed = True
    return extras


def unknown_extras(requirement: Requirement, known: Iterable[str]) -> list[str]:
    """The extras of `requirement` that are not among those `known` of its distribution, sorted."""
    from packaging.utils import canonicalize_name

    names = {canonicalize_name(extra) for extra in known}
    return sorted(extra for extra in requirement.extras if canonicalize_name(extra) not in names)
