"""Resolves one layer on one platform, under the layer's policy."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, TypeAlias

from stackbuild.errors import LockError, StackbuildError
from stackbuild.lock.indexes import without_secrets
from stackbuild.lock.model import (
    Inherited,
    LeftOut,
    LockedDistribution,
    LockedFile,
    ProjectSource,
    VcsSource,
    imported,
)
from stackbuild.resolve.direct import addresses_of, found_at, plain_requirement
from stackbuild.resolve.explain import Explainer, check_tags
from stackbuild.resolve.metadata import metadata_of
from stackbuild.resolve.problems import MissingWheel, ResolveError, ResolveProblem
from stackbuild.resolve.request import Found, name_of
from stackbuild.resolve.uv import UnresolvableError
from stackbuild.spec.model import LOCAL
from stackbuild.spec.sources import file_in, local_path
from stackbuild.tomltext import inline, layer_table

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from packaging.utils import NormalizedName
    from packaging.version import Version

    from stackbuild.lock.model import LayerLock
    from stackbuild.lock.projects import OwnProjects
    from stackbuild.resolve.git_sources import GitCommits
    from stackbuild.resolve.request import CoreMetadata, ResolveRequest
    from stackbuild.resolve.source_wheels import SourceWheels
    from stackbuild.resolve.uv import ResolveResult, Uv
    from stackbuild.spec.model import Layer, Policy

Direct: TypeAlias = "VcsSource | ProjectSource | Found"
"""What the address of a requirement names: a commit, a project, or a file."""

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
    wheels: SourceWheels
    layer: Layer
    policy: Policy
    lower: Sequence[LayerLock]
    commits: GitCommits
    projects: OwnProjects
    sources: Mapping[NormalizedName, str]
    """`Stack.sources`."""
    for_newer: Mapping[NormalizedName, CoreMetadata]
    """Distributions of `lower` whose wheels are for newer systems than the layer's target."""
    omitted: dict[NormalizedName, ResolveError] = field(default_factory=dict)
    _skipped: dict[NormalizedName, str] = field(default_factory=dict)
    _built: dict[tuple[NormalizedName, Version], LockedDistribution] = field(default_factory=dict)

    def choose(self, request: ResolveRequest) -> Choice:
        """Resolve `request` under the layer's policy. Raises ResolveError, StackbuildError."""
        below = {name: item for name, (_, item) in imported(self.lower).items()}
        skip = self.policy.skip
        own = tuple(text for text in request.requirements if name_of(text) not in skip)
        self._skipped = {
            name_of(text): skip[name_of(text)] for text in {*request.requirements} - {*own}
        }
        request = replace(request, requirements=own)
        built = {name: metadata_of(item) for name, item in below.items() if item.source}
        built |= self.for_newer
        built |= self._built_directly(request, below)
        left = [text for text in own if name_of(text) not in self.omitted]
        request = replace(
            request,
            requirements=tuple(map(plain_requirement, left)),
            # A distribution of a lower layer cannot be excluded.
            excluded=self.policy.exclude.keys() - below.keys(),
            overrides=self.policy.overrides,
            without_dependencies=self.policy.no_deps,
            from_source={*self.policy.from_source} - below.keys() - built.keys(),
            built=built,
        )
        while True:
            try:
                result = self._attempt(request)
            except ResolveError as failure:
                if not self._may_omit(failure):
                    raise
                broken = self._broken(request)
                if not broken:
                    raise
            else:
                self._check_omitted(result)
                return self._choice(result)
            self._omit(broken)
            kept = [text for text in request.requirements if name_of(text) not in broken]
            request = replace(request, requirements=tuple(kept))

    def _built_directly(
        self, request: ResolveRequest, below: Mapping[NormalizedName, LockedDistribution]
    ) -> dict[NormalizedName, CoreMetadata]:
        """The metadata of what requirements name by address, with the projects that those need."""
        built: dict[NormalizedName, CoreMetadata] = {}
        waiting = dict(self._direct(request.requirements, request, below))
        while waiting:
            name, source = waiting.popitem()
            try:
                if isinstance(source, Found) and source.file.endswith(".whl"):
                    wheel, metadata = self.wheels.given_wheel(source)
                else:
                    wheel = self.wheels.wheel_of(name, source)
                    metadata = metadata_of(wheel)
            except ResolveError as failure:
                if not self._may_omit(failure):
                    raise
                self._omit({name: failure})
            else:
                self._built[name, wheel.version] = wheel
                built[name] = metadata
                # A project may need others of the repository.
                needed = _possible(built[name], request.target.markers)
                waiting |= {
                    one: other
                    for one, other in self._direct(needed, request, below)
                    if one not in built and one not in self.omitted
                }
        return built

    def _direct(
        self,
        requirements: Iterable[str],
        request: ResolveRequest,
        below: Mapping[NormalizedName, LockedDistribution],
    ) -> Iterator[tuple[NormalizedName, Direct]]:
        """The sources that `requirements` name by address and the layer installs itself.

        Raises LockError, FetchError, ComposeError.
        """
        kept = self.wheels.kept_commits()
        kept |= {name: i.source for name, i in below.items() if isinstance(i.source, VcsSource)}
        markers = request.target.markers
        for name, url in addresses_of(requirements, markers, self.sources).items():
            other = below.get(name)
            if other is None and name in self.policy.exclude:
                continue
            source: Direct
            if file := file_in(url):
                _, mark, sha256 = url.partition("#")
                address = request.indexes.files[file] + mark + sha256
                source = found_at(name, file, address, self.wheels.kept_file(name, file))
            elif url.startswith(LOCAL):
                source = self.projects.source(local_path(url))
            else:
                try:
                    source = self.commits.of(url, kept.get(name))
                except StackbuildError as error:
                    required = f"{name} @ {without_secrets(url)}"
                    error.details = (("distribution", required), *error.details)
                    raise
            if other is None:
                yield name, source
            elif not _is_same(other, source):
                raise LockError(
                    f"{self.layer.name} needs another version of {name} than a layer below has",
                    layer=self.layer.name,
                    platform=request.target.platform,
                    distribution=name,
                    expected=_described(source),
                    found=f"{name} {other.version}, {other.wheel.name}",
                    remedy="require the same source in both layers",
                )

    def _attempt(self, request: ResolveRequest) -> ResolveResult:
        """Ask uv until the versions and dependencies of all built sources are known."""
        while True:
            try:
                result = self._ask(request)
            except ResolveError as failure:
                if not (failure.name and self._may_build(failure.name, failure.problem)):
                    raise
                request = replace(request, from_source={*request.from_source, failure.name})
                continue
            new = self._build_all(result, request)
            if not any(item.dependencies for _, item in new):
                return result
            request = replace(request, sources=(*request.sources, *new))

    def _may_build(self, name: NormalizedName, problem: object) -> bool:
        """Whether `name` has no wheel and is built instead."""
        return (
            isinstance(problem, MissingWheel)
            and problem.has_source
            and self.policy.may_build(name, problem.needed_by)
        )

    def _may_omit(self, failure: ResolveError) -> bool:
        """Whether an optional requirement may be omitted. What must be built never is."""
        may_omit = failure.is_missing and not self.policy.resolution.strict_missing
        return may_omit and failure.name not in self.policy.from_source

    def _omit(self, broken: Mapping[NormalizedName, ResolveError]) -> None:
        """Omit the requirements `broken`. Raises ResolveError if one of them is not optional."""
        required = sorted(broken.keys() - {*self.policy.resolution.optional_list})
        if required:
            raise _unavailable(self.layer.name, {name: broken[name] for name in required})
        self.omitted |= broken

    def _check_omitted(self, result: ResolveResult) -> None:
        """Raise ResolveError if another version of an omitted requirement is needed."""
        for name, failure in self.omitted.items():
            if name in result.versions:
                problem = ResolveProblem(
                    message=f"the optional requirement on {name} is not available, but another"
                    " distribution needs it",
                    distribution=f"{name} {result.versions[name]}",
                    expected=f"no {name}, as {failure.in_short()}",
                    remedy=f"require a version of {name} that is available",
                )
                raise ResolveError(self.layer.name, failure.platform, problem)

    def _ask(self, request: ResolveRequest) -> ResolveResult:
        try:
            result = self.uv.ask(request)
        except UnresolvableError as error:
            raise self.explainer.explain(request, error, self.layer, self.lower) from None
        below = imported(self.lower)
        check_tags(
            self.layer,
            request.target,
            [
                item
                for item in result.found
                if item.name not in below and item.name not in request.from_source
            ],
        )
        return result

    def _build_all(
        self, result: ResolveResult, request: ResolveRequest
    ) -> list[tuple[NormalizedName, CoreMetadata]]:
        """Build the new sources of `result`; returns their metadata."""
        known = {name: item.version for name, item in request.sources}
        new = []
        for item in result.found:
            if item.name not in request.from_source or known.get(item.name) == item.version:
                continue
            if (item.name, item.version) not in self._built:
                self._built[item.name, item.version] = self.wheels.wheel_of(item.name, item)
            new.append((item.name, metadata_of(self._built[item.name, item.version])))
        return new

    def _broken(self, request: ResolveRequest) -> dict[NormalizedName, ResolveError]:
        """The requirements that cannot be met even separately.

        Raises ResolveError if one of them cannot be omitted.
        """

        def reason(text: str) -> ResolveError | None:
            try:
                self._attempt(replace(request, requirements=(text,)))
            except ResolveError as failure:
                if failure.is_missing and not self._may_omit(failure):
                    raise
                return failure if failure.is_missing else None
            return None

        with ThreadPoolExecutor(_TRIALS) as pool:
            reasons = zip(request.requirements, pool.map(reason, request.requirements), strict=True)
            return {name_of(text): why for text, why in reasons if why is not None}

    def _choice(self, result: ResolveResult) -> Choice:
        below = imported(self.lower)
        versions = result.versions
        built = [
            item
            for (name, version), item in self._built.items()
            if versions.get(name) == version and name not in below
        ]
        taken = {item.name for item in built} | below.keys()
        return Choice(
            own=[item for item in result.found if item.name not in taken],
            built=built,
            inherited=tuple(
                Inherited(name=name, version=versions[name], layer=below[name][0].layer)
                for name in sorted(versions)
                if name in below
            ),
            skipped=_left_out(
                {name: why for name, why in self._skipped.items() if name not in versions}
                | {name: self.policy.exclude[name] for name in result.excluded}
            ),
            omitted=_left_out({name: one.in_short() for name, one in self.omitted.items()}),
        )


def _unavailable(layer: str, required: Mapping[NormalizedName, ResolveError]) -> ResolveError:
    """The error for requirements that are not optional."""
    first, *others = required.values()
    error = first
    if any(one.problem != first.problem for one in others):
        problem = ResolveProblem(
            message=f"{layer} requires distributions that are not available",
            distribution=", ".join(required),
            found="; ".join(dict.fromkeys(one.in_short() for one in required.values())),
            remedy="require versions that are available",
        )
        error = ResolveError(layer, first.platform, problem)
    error.also = (
        f"to leave {', '.join(required)} out where not available, add `optional-list ="
        f" {inline([*required])}` to `resolution` in {layer_table(layer)}"
    )
    return error


def _left_out(reasons: Mapping[NormalizedName, str]) -> tuple[LeftOut, ...]:
    return tuple(LeftOut(name=name, reason=reasons[name]) for name in sorted(reasons))


def _is_same(locked: LockedDistribution, source: Direct) -> bool:
    """Whether `locked` is from the same commit, state of a project, or file."""
    if isinstance(source, Found):
        files = [one for one in (locked.wheel, locked.source) if isinstance(one, LockedFile)]
        return any(one.name == source.file and source.sha256 in (None, one.sha256) for one in files)
    if isinstance(source, VcsSource) and isinstance(locked.source, VcsSource):
        return locked.source.commit == source.commit
    return locked.source == source


def _described(source: Direct) -> str:
    if isinstance(source, Found):
        return source.file
    if isinstance(source, VcsSource):
        return f"commit {source.commit}"
    return f"the project {source.path}"


def _possible(metadata: CoreMetadata, markers: Mapping[str, str]) -> list[str]:
    """The dependencies of a wheel that apply for `markers`, with any of its extras."""
    from packaging.requirements import Requirement

    found = []
    for text in metadata.dependencies:
        item = Requirement(text)
        extras = ("", *metadata.extras)
        marker, item.marker = item.marker, None
        if not marker or any(marker.evaluate({**markers, "extra": extra}) for extra in extras):
            found.append(str(item))
    return found
