"""Resolves one layer on one platform, under the layer's policy."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from stackbuild.errors import LockError
from stackbuild.lock.model import Inherited, LeftOut, LockedDistribution, VcsSource
from stackbuild.resolve.explain import Explainer, check_tags
from stackbuild.resolve.git_sources import Sources, plain_requirement
from stackbuild.resolve.problems import MissingWheel, ResolveFailure
from stackbuild.resolve.request import StandIn
from stackbuild.resolve.uv import UnresolvableError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from packaging.utils import NormalizedName
    from packaging.version import Version

    from stackbuild.lock.model import LayerLock
    from stackbuild.resolve.request import Found, ResolveRequest
    from stackbuild.resolve.uv import ResolveResult, Uv
    from stackbuild.spec.model import Layer, Policy

_TRIALS = 8
"""How many requirements are tried separately at a time."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Choice:
    """The distributions of a layer, and those that it omits."""

    own: Sequence[Found] = ()
    """Wheels from an index."""
    built: Sequence[LockedDistribution] = ()
    """Wheels that were built from source."""
    inherited: tuple[Inherited, ...] = ()
    skipped: tuple[LeftOut, ...] = ()
    omitted: tuple[LeftOut, ...] = ()


@dataclass(slots=True, kw_only=True)
class LayerResolver:
    """Resolves one layer on one platform."""

    uv: Uv
    explainer: Explainer
    obtain: Callable[[NormalizedName, Found | VcsSource], LockedDistribution | ResolveFailure]
    """Builds the wheel of a source, or finds it."""
    layer: Layer
    policy: Policy
    lower: Sequence[LayerLock]
    sources: Sources
    commits: Mapping[NormalizedName, VcsSource]
    """The commits of the layer's old lock, which are kept for the same revision."""
    omitted: dict[NormalizedName, str] = field(default_factory=dict)
    _built: dict[tuple[NormalizedName, Version], LockedDistribution] = field(default_factory=dict)

    def choose(self, request: ResolveRequest) -> Choice | ResolveFailure:
        """Resolve `request` under the layer's policy."""
        below = _below(self.lower)
        # A distribution of a lower layer cannot be skipped.
        skip = self.policy.skip.keys() - below.keys()
        built = {name: _stand_in(item) for name, item in below.items() if item.source}
        for name, commit in self._commits(request, below).items():
            wheel = self.obtain(name, commit)
            if isinstance(wheel, LockedDistribution):
                self._built[name, wheel.version] = wheel
                built[name] = _stand_in(wheel)
            elif self.policy.resolution.strict_missing or not wheel.is_missing:
                return wheel
            else:
                self.omitted[name] = wheel.in_short()
        left = [text for text in request.requirements if _name(text) not in self.omitted]
        request = replace(
            request,
            requirements=tuple(map(plain_requirement, left)),
            stand_ins=skip,
            overrides=self.policy.overrides,
            without_dependencies=self.policy.no_deps,
            from_source={*self.policy.from_source} - below.keys() - built.keys(),
            built=built,
        )
        while True:
            outcome = self._attempt(request)
            if not isinstance(outcome, ResolveFailure):
                return self._choice(outcome)
            if self.policy.resolution.strict_missing or not outcome.is_missing:
                return outcome
            broken = self._broken(request)
            if not broken:
                return outcome
            self.omitted |= broken
            left = [text for text in request.requirements if _name(text) not in broken]
            request = replace(request, requirements=tuple(left))

    def _commits(
        self, request: ResolveRequest, below: Mapping[NormalizedName, LockedDistribution]
    ) -> dict[NormalizedName, VcsSource]:
        """The commits that the layer installs itself. Raises LockError, FetchError."""
        found = {}
        markers = request.target.markers
        kept = dict(self.commits)
        kept |= {name: i.source for name, i in below.items() if isinstance(i.source, VcsSource)}
        for name, commit in self.sources.of(request.requirements, markers, kept).items():
            other = below.get(name)
            if name in self.policy.skip and other is None:
                continue
            if other is None:
                found[name] = commit
            elif not isinstance(other.source, VcsSource) or other.source.commit != commit.commit:
                raise LockError(
                    f"{self.layer.name} needs another version of {name} than a layer below has",
                    layer=self.layer.name,
                    platform=request.target.platform,
                    distribution=name,
                    expected=f"commit {commit.commit}",
                    found=f"{name} {other.version}, {other.wheel.name}",
                    remedy="require the same commit in both layers",
                )
        return found

    def _attempt(self, request: ResolveRequest) -> ResolveResult | ResolveFailure:
        """Ask uv until the versions and dependencies of all built sources are known."""
        while True:
            outcome = self._asked(request)
            if isinstance(outcome, ResolveFailure):
                missing = outcome.problem
                if isinstance(missing, MissingWheel) and self._may_build(missing):
                    request = replace(request, from_source={*request.from_source, missing.name})
                    continue
                return outcome
            told = self._build_all(outcome, request)
            if isinstance(told, ResolveFailure):
                return told
            if not any(item.dependencies for _, item in told):
                return outcome
            request = replace(request, sources=(*request.sources, *told))

    def _may_build(self, missing: MissingWheel) -> bool:
        return missing.has_source and self.policy.may_build(missing.name)

    def _asked(self, request: ResolveRequest) -> ResolveResult | ResolveFailure:
        try:
            answer = self.uv.ask(request)
        except UnresolvableError as error:
            return self.explainer.explain(request, error, self.layer, self.lower)
        own = split(answer.versions, self.lower)[0]
        wheels = [
            item
            for item in answer.found
            if item.name in own and item.name not in request.from_source
        ]
        return check_tags(self.layer, request.target, wheels) or answer

    def _build_all(
        self, answer: ResolveResult, request: ResolveRequest
    ) -> list[tuple[NormalizedName, StandIn]] | ResolveFailure:
        """Build the new sources of `answer`; returns their dependencies."""
        known = {name: item.version for name, item in request.sources}
        told = []
        for item in answer.found:
            if item.name not in request.from_source or known.get(item.name) == item.version:
                continue
            if (item.name, item.version) not in self._built:
                outcome = self.obtain(item.name, item)
                if isinstance(outcome, ResolveFailure):
                    return outcome
                self._built[item.name, item.version] = outcome
            told.append((item.name, _stand_in(self._built[item.name, item.version])))
        return told

    def _broken(self, request: ResolveRequest) -> dict[NormalizedName, str]:
        """The requirements that cannot be met even separately, each with the reason."""

        def reason(text: str) -> str | None:
            outcome = self._attempt(replace(request, requirements=(text,)))
            missing = isinstance(outcome, ResolveFailure) and outcome.is_missing
            return outcome.in_short() if isinstance(outcome, ResolveFailure) and missing else None

        with ThreadPoolExecutor(_TRIALS) as pool:
            reasons = list(pool.map(reason, request.requirements))
        return {
            _name(text): why
            for text, why in zip(request.requirements, reasons, strict=True)
            if why is not None
        }

    def _choice(self, answer: ResolveResult) -> Choice:
        own, inherited = split(answer.versions, self.lower)
        built = [self._built[item] for item in own.items() if item in self._built]
        names = {item.name for item in built}
        skipped = {name: self.policy.skip[name] for name in answer.missed}
        return Choice(
            own=[item for item in answer.found if item.name in own and item.name not in names],
            built=built,
            inherited=inherited,
            skipped=_left_out(skipped),
            omitted=_left_out(self.omitted),
        )


def split(
    found: Mapping[NormalizedName, Version], lower: Sequence[LayerLock]
) -> tuple[dict[NormalizedName, Version], tuple[Inherited, ...]]:
    """Split into the layer's own distributions and those of the layers below."""
    owners: dict[NormalizedName, str] = {}
    for lock in lower:
        for item in lock.distributions:
            owners.setdefault(item.name, lock.layer)
    own = {name: version for name, version in found.items() if name not in owners}
    inherited = tuple(
        Inherited(name=name, version=found[name], layer=owners[name])
        for name in sorted(found)
        if name in owners
    )
    return own, inherited


def _below(lower: Sequence[LayerLock]) -> dict[NormalizedName, LockedDistribution]:
    """The distributions of the layers below; the nearest layer has priority."""
    found: dict[NormalizedName, LockedDistribution] = {}
    for lock in lower:
        for item in lock.distributions:
            found.setdefault(item.name, item)
    return found


def _stand_in(item: LockedDistribution) -> StandIn:
    if item.build is None:
        return StandIn(version=item.version)
    build = item.build
    return StandIn(version=item.version, dependencies=build.dependencies, extras=build.extras)


def _left_out(reasons: Mapping[NormalizedName, str]) -> tuple[LeftOut, ...]:
    return tuple(LeftOut(name=name, reason=reasons[name]) for name in sorted(reasons))


def _name(requirement: str) -> NormalizedName:
    from packaging.requirements import Requirement
    from packaging.utils import canonicalize_name

    return canonicalize_name(Requirement(requirement).name)
