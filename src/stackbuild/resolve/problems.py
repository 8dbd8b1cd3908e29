"""The problems of resolving a layer, and their errors.

The same problem on several platforms is one error.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from stackbuild.errors import FetchError, LockError, StackbuildError
from stackbuild.lock.index_pages import INDEX_FAILURE, index_failure
from stackbuild.transport.urls import without_credentials

if TYPE_CHECKING:
    from collections.abc import Sequence

    from packaging.utils import NormalizedName

    from stackbuild.lock.indexes import IndexSettings
    from stackbuild.lock.targets import Level, Target
    from stackbuild.platforms import Platform


@dataclass(frozen=True, slots=True, kw_only=True)
class ResolveProblem:
    """Why a layer cannot be resolved; equal on all platforms with the same problem."""

    kind: type[StackbuildError] = LockError
    message: str
    distribution: str | None = None
    expected: str | None = None
    found: str | None = None
    remedy: str | None = None
    absent: bool = False
    """Whether no index has the distribution at all."""

    def error(self, layer: str, failures: Sequence[ResolveError]) -> StackbuildError:
        """The error for `layer` on the platforms of `failures`."""
        return self.kind(
            self.message,
            layer=layer,
            platform=", ".join(str(failure.platform) for failure in failures),
            distribution=self.distribution,
            expected=self.expected,
            found=self.found,
            remedy="; or ".join(filter(None, [self.remedy, failures[0].also])) or None,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class MissingWheel:
    """A distribution without a wheel for the target."""

    distribution: str
    """Its name, with its version if the requirements pin one."""
    asked: str
    """The requirement on it, for messages."""
    has_source: bool = False
    """Whether it could be built from a source distribution."""
    needed_by: frozenset[NormalizedName] = field(default=frozenset(), compare=False)
    """The distributions that depend on it, also indirectly."""

    def error(self, layer: str, failures: Sequence[ResolveError]) -> StackbuildError:
        """The error for `layer`, with the remedies for each platform."""
        available = sorted({tag for failure in failures for tag in failure.tags})
        platforms = ", ".join(str(failure.platform) for failure in failures)
        remedies = [*_other_versions(failures), *_higher_levels(failures)]
        remedies.append(f"leave {platforms} out of the `platforms` of {layer}")
        remedies += filter(None, [failures[0].also])
        return LockError(
            f"{self.distribution} has no wheel for {platforms}",
            layer=layer,
            platform=", ".join(str(failure.target or failure.platform) for failure in failures),
            distribution=f"{self.distribution}, {self.asked}",
            found=f"wheels for {', '.join(available)}" if available else "no wheels",
            remedy="; or ".join(remedies),
        )


class ResolveError(Exception):
    """A layer that cannot be resolved on a platform."""

    def __init__(
        self,
        layer: str,
        platform: Platform,
        problem: ResolveProblem | MissingWheel | StackbuildError,
        *,
        target: Target | None = None,
        tags: tuple[str, ...] = (),
        alternative: str | None = None,
    ) -> None:
        """`tags` are the platform tags of the wheels that exist, if one is missing.

        `alternative` is another version, which has a wheel for this platform.
        """
        super().__init__(problem)
        self.layer = layer
        self.platform = platform
        self.problem = problem
        self.target = target
        self.tags = tags
        self.alternative = alternative
        self.also: str | None = None
        """One more remedy."""

    @property
    def is_missing(self) -> bool:
        """Whether a distribution is not available, which `strict-missing = false` allows."""
        problem = self.problem
        return isinstance(problem, MissingWheel) or getattr(problem, "absent", False)

    @property
    def name(self) -> NormalizedName | None:
        """The distribution that is missing; None if the problem is another one."""
        from packaging.utils import canonicalize_name

        subject = getattr(self.problem, "distribution", None) if self.is_missing else None
        # With a version after it: ``numpy 2.2.6``, ``numpy==9``.
        match = re.match(r"[\w.-]+", subject or "")
        return canonicalize_name(match[0]) if match else None

    def in_short(self) -> str:
        """What is wrong, without the layer and the remedies."""
        if isinstance(self.problem, MissingWheel):
            return f"{self.problem.distribution} has no wheel for {self.platform}"
        return self.problem.message

    def error(self, failures: Sequence[ResolveError] = ()) -> StackbuildError:
        """The error to show for `failures`, all with this problem; without any, for this one."""
        failures = failures or [self]
        if isinstance(self.problem, StackbuildError):
            layers = dict.fromkeys(failure.layer for failure in failures)
            platforms = dict.fromkeys(str(failure.platform) for failure in failures)
            return self.problem.in_layer(", ".join(layers), ", ".join(platforms))
        return self.problem.error(self.layer, failures)


def unread_index(error: FetchError, indexes: IndexSettings) -> ResolveProblem:
    """The problem of an index that cannot be read; `error` has its address."""
    found, remedy = index_failure(error)
    url = dict(error.details).get("file", "")
    for index in indexes.indexes:
        if index.name and url.startswith(without_credentials(index.url).rstrip("/") + "/"):
            found = f"{index.name}: {found}"
    return ResolveProblem(kind=FetchError, message=INDEX_FAILURE, found=found, remedy=remedy)


def errors_of(failures: Sequence[ResolveError]) -> list[StackbuildError]:
    """The errors to show: one for each layer and problem, in the order they came up."""
    groups: dict[tuple[str, object], list[ResolveError]] = {}
    for failure in failures:
        shown = isinstance(failure.problem, StackbuildError)
        key = ("", str(failure.problem)) if shown else (failure.layer, failure.problem)
        groups.setdefault(key, []).append(failure)
    return [group[0].error(group) for group in groups.values()]


def _other_versions(failures: Sequence[ResolveError]) -> list[str]:
    platforms: dict[str, list[str]] = {}
    for failure in failures:
        if failure.alternative:
            platforms.setdefault(failure.alternative, []).append(str(failure.platform))
    return [
        f"require another version ({version} has wheels for {', '.join(names)})"
        for version, names in platforms.items()
    ]


def _higher_levels(failures: Sequence[ResolveError]) -> list[str]:
    settings = {"linux": "linux_target = 'glibc@{}.{}'", "macos": "macosx_target = '{}.{}'"}
    found = (
        f"set `{settings[one.platform.os].format(*level)}`"
        for one in failures
        if one.target and (level := _next_level(one.target, one.tags))
    )
    return list(dict.fromkeys(found))


def _next_level(target: Target, tags: Sequence[str]) -> Level | None:
    """The lowest level above the target's at which one of `tags` could be installed."""
    pattern = {
        "linux": rf"manylinux_(\d+)_(\d+)_{target.platform.machine}",
        "macos": r"macosx_(\d+)_(\d+)_(?:universal2|"
        + ("arm64" if target.platform.machine == "aarch64" else "x86_64|intel")
        + ")",
    }.get(target.platform.os)
    if pattern is None:
        return None
    matches = [match for tag in tags if (match := re.fullmatch(pattern, tag))]
    levels = [(int(match[1]), int(match[2])) for match in matches]
    return min((level for level in levels if level > target.level), default=None)
