"""What each variant would hold on each platform by itself: versions, sizes, and who needs what.

Only the metadata of the indexes is asked for, and no wheel. What has to be
built from source is left out, for its size is unknown before.
"""

from __future__ import annotations

import re
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from itertools import chain
from typing import TYPE_CHECKING

from stackbuild.errors import FetchError, StackbuildError
from stackbuild.importers.contents import Environment
from stackbuild.importers.registries import owner
from stackbuild.lock.indexes import IndexSettings
from stackbuild.lock.targets import DEFAULT_LEVELS, Target
from stackbuild.resolve.explain import Explainer
from stackbuild.resolve.file_sizes import Sizes
from stackbuild.resolve.metadata import Metadata
from stackbuild.resolve.problems import MissingWheel
from stackbuild.resolve.request import ResolveRequest
from stackbuild.resolve.uv import UnresolvableError, Uv
from stackbuild.spec.model import Layer, LayerKind

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from packaging.requirements import Requirement
    from packaging.utils import NormalizedName
    from packaging.version import Version

    from stackbuild.importers.registries import Registry
    from stackbuild.messages import Messages
    from stackbuild.platforms import Platform
    from stackbuild.resolve.request import Found
    from stackbuild.spec.model import PackageIndex
    from stackbuild.workspace import Workspace

_NAME = r"[a-z0-9](?:[a-z0-9._-]*[a-z0-9])?"
_MISSING = 40
"""Distributions without a wheel after which a variant counts as not resolvable."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """What a layer asks for on a platform."""

    name: str
    platform: Platform
    python: Version
    requirements: tuple[Requirement, ...]
    excluded: frozenset[NormalizedName] = frozenset()
    """What is left out wherever it would come in."""
    skipped: frozenset[NormalizedName] = frozenset()
    """Those of them that are left out for good, and not only because they are built."""
    overrides: Mapping[NormalizedName, str] = field(default_factory=dict)
    """To the specifier that replaces any other."""
    no_deps: frozenset[NormalizedName] = frozenset()
    registries: tuple[Registry, ...] = ()
    """The shared ones first."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Held:
    """What it gets."""

    keys: Mapping[NormalizedName, str]
    """As an `Environment` knows them."""
    versions: Mapping[NormalizedName, Version] = field(default_factory=dict)
    sizes: Mapping[NormalizedName, int] = field(default_factory=dict)
    needs: Mapping[NormalizedName, frozenset[NormalizedName]] = field(default_factory=dict)
    lacks: Mapping[NormalizedName, frozenset[NormalizedName]] = field(default_factory=dict)
    """What each would need of what is excluded."""
    bare: frozenset[NormalizedName] = frozenset()
    """Those held without what they need."""
    indexes: Mapping[NormalizedName, str] = field(default_factory=dict)
    """The name of the additional index of those that come from one."""
    missing: tuple[str, ...] = ()
    """What has no wheel for the platform, and was left out."""
    excluded: frozenset[NormalizedName] = frozenset()
    skipped: frozenset[NormalizedName] = frozenset()
    """As in `Wanted`."""
    problem: str | None = None
    """Why there is no answer."""
    is_unasked: bool = False
    """Whether that is an index which cannot be asked."""


class Resolver:
    """Asks for what is wanted, a lot at a time. Raises FetchError where no index answers."""

    def __init__(
        self, workspace: Workspace, messages: Messages, default: PackageIndex | None
    ) -> None:
        self._uv = Uv(workspace)
        metadata = Metadata(workspace, messages, self._uv.pages)
        self._explainer = Explainer(uv=self._uv, metadata=metadata)
        self._sizes = Sizes(workspace, messages)
        self._messages = messages
        self._default = (default,) if default else ()

    def hold(self, wanted: Sequence[Sequence[Wanted]]) -> list[list[Held]]:
        """An answer for each of `wanted`.

        Those of one sequence are the platforms of one variant: the versions of
        the first are preferred on the others, as in its locks. Where an index
        cannot be asked, that is the problem of those that need it; FetchError is
        raised where nothing is known of any.
        """
        total = sum(map(len, wanted))
        unasked: list[FetchError] = []
        with (
            self._messages.task("resolving", total, unit="environments") as task,
            ThreadPoolExecutor(max(total, 1)) as pool,
        ):

            def one(item: Wanted, first: Future[Held] | None = None) -> Held:
                try:
                    if first is None:
                        return self._hold(item, {})
                    # An index that cannot be asked is not asked for each platform.
                    found = first.result()
                    return found if found.is_unasked else self._hold(item, found.versions)
                except FetchError as error:
                    unasked.append(error)
                    reason = dict(error.details).get("found")
                    told = ": ".join(filter(None, [error.message, reason]))
                    return Held(keys={}, problem=told, is_unasked=True)
                finally:
                    task.advance(1)

            firsts = [pool.submit(one, items[0]) for items in wanted]
            rest = [
                [pool.submit(one, item, first) for item in items[1:]]
                for items, first in zip(wanted, firsts, strict=True)
            ]
            answers = [
                [first.result(), *(future.result() for future in others)]
                for first, others in zip(firsts, rest, strict=True)
            ]
        if unasked and not any(held.keys for held in chain.from_iterable(answers)):
            raise unasked[0]
        return answers

    def versions(
        self,
        wanted: Wanted,
        pins: Mapping[NormalizedName, Version],
        preferences: Mapping[NormalizedName, Version],
    ) -> dict[NormalizedName, Version] | None:
        """What a layer would get on top of layers that settle `pins`; None without an answer.

        It is asked after `hold`, so that uv has mostly seen all it needs to answer.
        """
        request = replace(self._request(wanted, preferences), constraints=pins)
        for asked in (_offline(request), request):
            try:
                return {item.name: item.version for item in self._ask(asked, wanted)[0]}
            except UnresolvableError:
                continue
        return None

    def _hold(self, wanted: Wanted, preferences: Mapping[NormalizedName, Version]) -> Held:
        missing: list[str] = []
        while True:
            request = self._request(wanted, preferences)
            try:
                found, request = self._ask(request, wanted)
                return self._held(wanted, request, found, tuple(missing))
            except UnresolvableError as error:
                problem = self._without_wheel(wanted, request, error)
            if not isinstance(problem, MissingWheel):
                return Held(keys={}, missing=tuple(missing), problem=problem)
            if len(missing) == _MISSING:
                return Held(keys={}, problem=f"more than {_MISSING} have no wheel")
            missing.append(problem.distribution)
            wanted = replace(wanted, excluded=wanted.excluded | {problem.name})

    def _request(
        self, wanted: Wanted, preferences: Mapping[NormalizedName, Version]
    ) -> ResolveRequest:
        from packaging.utils import canonicalize_name

        pinned: dict[NormalizedName, Version] = {}
        requirements = []
        for requirement in wanted.requirements:
            name = canonicalize_name(requirement.name)
            if name not in wanted.excluded and requirement.url is None:
                requirements.append(str(requirement))
                if version := pinned_version(requirement):
                    pinned[name] = version
        sources = {
            name: found.name
            for name in (canonicalize_name(item.name) for item in wanted.requirements)
            if (found := owner(name, pinned.get(name), wanted.registries))
        }
        return ResolveRequest(
            layer=wanted.name,
            requirements=tuple(requirements),
            target=Target(
                platform=wanted.platform,
                python=wanted.python,
                level=DEFAULT_LEVELS[wanted.platform.os],
            ),
            indexes=IndexSettings(
                indexes=(*(item.as_index() for item in wanted.registries), *self._default),
                sources=sources,
            ),
            preferences=preferences,
            stand_ins=wanted.excluded,
            overrides=wanted.overrides,
            without_dependencies=wanted.no_deps,
        )

    def _ask(
        self, request: ResolveRequest, wanted: Wanted
    ) -> tuple[Sequence[Found], ResolveRequest]:
        """The answer, with whatever an additional index exists for taken from there."""
        try:
            found = self._uv.ask(request).found
        except UnresolvableError as error:
            wider = _given(request, wanted, dict.fromkeys(re.findall(_NAME, error.text)))
            if wider == request:
                raise
            return self._uv.ask(wider).found, wider
        wider = _given(request, wanted, {item.name: item.version for item in found})
        if wider != request:
            try:
                return self._uv.ask(wider).found, wider
            except UnresolvableError:
                # The additional index has not all of them, as the default one does.
                return found, request
        return found, request

    def _without_wheel(
        self, wanted: Wanted, request: ResolveRequest, error: UnresolvableError
    ) -> MissingWheel | str:
        layer = Layer(
            name=wanted.name,
            kind=LayerKind.APPLICATION,
            requirements=wanted.requirements,
            platforms=(wanted.platform,),
            runtime="",
            frameworks=(),
        )
        problem = self._explainer.explain(request, error, layer, ()).problem
        if isinstance(problem, MissingWheel):
            return problem
        if isinstance(problem, StackbuildError):
            raise problem
        if problem.kind is FetchError:
            raise FetchError(problem.message, found=problem.found, remedy=problem.remedy)
        return f"{problem.message}: {problem.found}" if problem.found else problem.message

    def _held(
        self,
        wanted: Wanted,
        request: ResolveRequest,
        found: Sequence[Found],
        missing: tuple[str, ...],
    ) -> Held:
        versions = {item.name: item.version for item in found}
        sources = request.indexes.sources
        # What comes from an additional index is found there only where it is required directly.
        bound = tuple(sorted(sources.keys() & versions.keys()))
        asked = replace(request, requirements=(*request.requirements, *bound), preferences=versions)
        needs = needs_of(self._uv, asked) if found else {}
        # What is built in the end is needed as well, but held by nothing that can be shared.
        known = versions.keys() | (wanted.excluded - wanted.skipped)
        files = self._sizes.complete(found, request.indexes)
        return Held(
            keys={
                item.name: f"{item.name}=={item.version}"
                + (f" from {sources[item.name]}" if item.name in sources else "")
                for item in found
            },
            versions=versions,
            sizes={item.name: file.size for item, file in zip(found, files, strict=True)},
            needs={name: needs.get(name, frozenset()) & known for name in versions},
            lacks={name: needs.get(name, frozenset()) & wanted.excluded for name in versions},
            bare=wanted.no_deps & versions.keys(),
            indexes={name: sources[name] for name in versions if name in sources},
            missing=missing,
            excluded=wanted.excluded,
            skipped=wanted.skipped,
        )


def needs_of(uv: Uv, request: ResolveRequest) -> Mapping[NormalizedName, frozenset[NormalizedName]]:
    """`Uv.needs`, without asking the index again for what uv has just seen.

    Raises UnresolvableError when there is no answer.
    """
    try:
        return uv.needs(_offline(request))
    except UnresolvableError:
        return uv.needs(request)


def _offline(request: ResolveRequest) -> ResolveRequest:
    settings = {**request.indexes.uv_settings, "offline": True}
    return replace(request, indexes=replace(request.indexes, uv_settings=settings))


def environment_of(held: Mapping[Platform, Held]) -> Environment:
    """A variant as the search for frameworks sees it."""
    return Environment(
        sizes={
            platform: {item.keys[name]: item.sizes[name] for name in item.keys}
            for platform, item in held.items()
        },
        needs={
            platform: {item.keys[name]: frozenset(item.needs[name]) for name in item.keys}
            for platform, item in held.items()
        },
        excluded={platform: frozenset(item.skipped) for platform, item in held.items()},
        bare={
            platform: frozenset(item.keys[name] for name in item.bare)
            for platform, item in held.items()
        },
    )


def pinned_version(requirement: Requirement) -> Version | None:
    """The version that a requirement settles, if it settles one."""
    from packaging.version import InvalidVersion, Version

    texts = [item.version for item in requirement.specifier if item.operator == "=="]
    try:
        return Version(texts[0]) if texts else None
    except InvalidVersion:
        # Such as 1.*, which settles none.
        return None


def _given(
    request: ResolveRequest, wanted: Wanted, names: Mapping[NormalizedName, Version | None]
) -> ResolveRequest:
    """`request`, those of `names` bound to the index that exists for them."""
    sources = dict(request.indexes.sources)
    for name, version in names.items():
        if name not in sources and (found := owner(name, version, wanted.registries)):
            sources[name] = found.name
    if len(sources) == len(request.indexes.sources):
        return request
    return replace(request, indexes=replace(request.indexes, sources=sources))
