"""Why a layer cannot be resolved.

Only uv's exit code, its results and the pages of the indexes decide; uv's error
text is shown, but not parsed. A possible reason (a layer below, a built wheel or
a missing distribution) is confirmed by another request to uv without it.
"""

from __future__ import annotations

import re
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from stackbuild.errors import FetchError
from stackbuild.lock.index_pages import INDEX_FAILURE, index_failure
from stackbuild.resolve.availability import Availability
from stackbuild.resolve.git_sources import reason_to_build
from stackbuild.resolve.problems import MissingWheel, ResolveFailure, ResolveProblem
from stackbuild.resolve.request import project_name
from stackbuild.resolve.uv import UnresolvableError

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Sequence

    from packaging.utils import NormalizedName

    from stackbuild.lock.model import LayerLock
    from stackbuild.lock.targets import Target
    from stackbuild.resolve.availability import Lack, Wish
    from stackbuild.resolve.metadata import Metadata
    from stackbuild.resolve.request import Found, ResolveRequest
    from stackbuild.resolve.uv import ResolveResult, Uv
    from stackbuild.spec.model import Layer


_OTHER_VERSION = "require an existing version, or add the index that has it"


@dataclass(frozen=True, slots=True, kw_only=True)
class Explainer:
    """Finds out why uv has no solution."""

    uv: Uv
    metadata: Metadata

    def explain(
        self,
        request: ResolveRequest,
        error: UnresolvableError,
        layer: Layer,
        lower: Sequence[LayerLock],
    ) -> ResolveFailure:
        """Why `layer` cannot be resolved; `error` is uv's response to `request`."""
        try:
            found = self._cause(request, error, layer, lower)
        except FetchError as unread:
            reason, remedy = index_failure(unread)
            found = ResolveProblem(
                kind=FetchError, message=INDEX_FAILURE, found=reason, remedy=remedy
            )
        if isinstance(found, ResolveFailure):
            return found
        return ResolveFailure(layer=layer.name, platform=request.target.platform, problem=found)

    def _cause(
        self,
        request: ResolveRequest,
        error: UnresolvableError,
        layer: Layer,
        lower: Sequence[LayerLock],
    ) -> ResolveProblem | ResolveFailure:
        """Raises FetchError where an index or the metadata of a wheel cannot be read."""
        free = replace(request, constraints={}, preferences=request.constraints)
        if request.constraints and error.answered:
            try:
                answer = self.uv.ask(free)
            except UnresolvableError as other:
                # The layers below are not the reason; uv's text without them is clearer.
                error = other
            else:
                if clash := self._clash(request, answer, layer, lower):
                    return clash
        followed = self._follow(free)
        text = _cleaned(error, layer)
        if not error.answered:
            return ResolveProblem(
                message=f"uv could not resolve the requirements of {layer.name}", found=text
            )
        if built := self._built_clash(free, followed):
            return built
        if lack := self._culprit(free, list(followed.lacks.values())):
            return _lack(lack, layer, request, text)
        self._check_refusals(free, followed)
        if wish := followed.unmet_wish():
            return _unmet(wish, followed, text)
        return ResolveProblem(
            message=f"the requirements of {layer.name} contradict each other", found=text
        )

    def _check_refusals(self, request: ResolveRequest, followed: Availability) -> None:
        """Raise the refusal of an index that prevents uv from continuing."""
        for name, refusal in self.uv.pages.refusals.items():
            alone = replace(request, requirements=(name,), built={}, no_deps=True)
            if name in followed.wishes and not self.uv.solves(alone):
                raise refusal

    def _follow(self, request: ResolveRequest) -> Availability:
        return Availability(request=request, pages=self.uv.pages, metadata=self.metadata).follow()

    def _solves(self, request: ResolveRequest, without: Collection[NormalizedName]) -> bool:
        """Whether the request can be met if all requirements on `without` are ignored."""
        return self.uv.solves(
            replace(
                request,
                stand_ins={*request.stand_ins, *without},
                built={name: it for name, it in request.built.items() if name not in without},
                from_source={*request.from_source} - {*without},
            )
        )

    def _culprit(self, request: ResolveRequest, lacks: Sequence[Lack]) -> Lack | None:
        """The first of `lacks` that keeps `request` from being met."""
        if certain := [lack for lack in lacks if lack.is_certain]:
            return certain[0]
        left = list(lacks)
        if not left or not self._solves(request, [lack.name for lack in left]):
            return None
        for lack in lacks:
            others = [other for other in left if other is not lack]
            if not others or not self._solves(request, [other.name for other in others]):
                return lack
            left = others
        return None

    def _built_clash(
        self, request: ResolveRequest, followed: Availability
    ) -> ResolveProblem | None:
        """The problem of a distribution that was built, but is required in another version."""
        for name, known in request.built.items():
            wishes = _excluding(followed, name, str(known.version))
            if wishes and self._solves(request, [name]):
                return ResolveProblem(
                    message="a version is required that differs from the one built from source",
                    distribution=f"{name} {known.version}",
                    found="; ".join(wishes),
                    remedy="change the requirement, or the revision of its repository",
                )
        return None

    def _clash(
        self,
        request: ResolveRequest,
        answer: ResolveResult,
        layer: Layer,
        lower: Sequence[LayerLock],
    ) -> ResolveProblem | None:
        """The pin of a lower layer that conflicts with `layer`; `answer` ignores all pins."""
        for item in answer.found:
            pin = request.constraints.get(item.name)
            if pin is None or pin == item.version:
                continue
            owner = next(
                lock for lock in lower if any(own.name == item.name for own in lock.distributions)
            )
            wishes: list[str] = []
            with suppress(FetchError):
                free = replace(request, constraints={}, preferences=answer.versions)
                wishes = _excluding(self._follow(free), item.name, str(pin))
            wishes = wishes or [f"{item.version}, which other distributions need"]
            reason = [text for text in owner.requirements if _name_of(text) == item.name]
            because = f", which requires {reason[0]!r}" if reason else ", for other distributions"
            return ResolveProblem(
                message=f"{layer.name} needs another version of {item.name} than {owner.layer} has",
                distribution=item.name,
                expected=f"{item.name} {pin}, as locked in {owner.layer}{because}",
                found=f"{layer.name} requires {'; '.join(wishes)}",
                remedy=f"change the requirement of {layer.name}, or make {owner.layer} require"
                f" '{item.name}=={item.version}', which {layer.name} can use",
            )
        return None


def check_tags(layer: Layer, target: Target, found: Sequence[Found]) -> ResolveFailure | None:
    """The first of the wheels in `found` that cannot be installed on the target, if any."""
    from packaging.utils import InvalidWheelFilename, parse_wheel_filename

    for item in found:
        distribution = f"{item.name} {item.version}"
        try:
            tags = parse_wheel_filename(item.file)[3]
        except InvalidWheelFilename as error:
            problem = ResolveProblem(
                message="the index offers a wheel with an invalid file name",
                distribution=distribution,
                found=str(error),
            )
            return ResolveFailure(layer=layer.name, platform=target.platform, problem=problem)
        if target.rank(tags) is None:
            return ResolveFailure(
                layer=layer.name,
                platform=target.platform,
                problem=MissingWheel(distribution=distribution, asked=f"needed by {layer.name}"),
                target=target,
                tags=tuple(sorted({tag.platform for tag in tags})),
            )
    return None


def _excluding(followed: Availability, name: NormalizedName, version: str) -> list[str]:
    """The requirements on `name` that exclude `version`."""

    def excludes(wish: Wish) -> bool:
        return not followed.specifier(name, [wish]).contains(version, prereleases=True)

    wishes: Iterable[Wish] = followed.wishes.get(name, ())
    return list(dict.fromkeys(str(wish) for wish in wishes if excludes(wish)))


def _name_of(requirement: str) -> NormalizedName:
    from packaging.requirements import Requirement
    from packaging.utils import canonicalize_name

    return canonicalize_name(Requirement(requirement).name)


def _lack(
    lack: Lack, layer: Layer, request: ResolveRequest, text: str
) -> ResolveProblem | ResolveFailure:
    """The problem of a distribution that is not available."""
    subject = f"{lack.name} {lack.version or ''}".strip()
    if lack.kind == "project":
        return ResolveProblem(
            message=f"no package index has {lack.name}",
            distribution=lack.name,
            found=text,
            remedy="correct the name, or add the index that has it as [[tool.uv.index]]",
            absent=True,
        )
    if lack.kind == "version":
        wanted = _wanted(lack.name, lack.wish, request)
        return ResolveProblem(
            message=f"no package index has {wanted}",
            distribution=wanted,
            found=text,
            remedy=_OTHER_VERSION,
            absent=True,
        )
    if lack.kind == "source":
        return ResolveProblem(
            message=f"{subject} has no source distribution to build it from",
            distribution=lack.name,
            found=reason_to_build(lack.name, layer, request.target.platform),
            remedy="require a version that has one, or its repository (`git+https://…@revision`)",
            absent=True,
        )
    wish = lack.wish
    direct = f"which {layer.name} requires as '{wish.requirement}'"
    return ResolveFailure(
        layer=layer.name,
        platform=request.target.platform,
        problem=MissingWheel(
            distribution=subject,
            asked=direct if wish.asker is None else f"which {wish.asker} needs",
            has_source=lack.has_source,
        ),
        target=request.target,
        tags=lack.tags,
        alternative=str(lack.alternative) if lack.alternative else None,
    )


def _unmet(wish: Wish, followed: Availability, text: str) -> ResolveProblem:
    """The problem of a requirement of the layer that no version meets."""
    from packaging.utils import canonicalize_name

    name = canonicalize_name(wish.requirement.name)
    if not followed.has_files(name):
        return ResolveProblem(
            message=f"the page of {name} in the package index names no file that can be used",
            distribution=name,
            found=text,
            remedy="check the address of the index, and `exclude-newer` where it is set",
        )
    wanted = _wanted(name, wish, followed.request)
    return ResolveProblem(
        message=f"no package index has {wanted}",
        distribution=wanted,
        found=text,
        remedy=_OTHER_VERSION,
    )


def _wanted(name: NormalizedName, wish: Wish, request: ResolveRequest) -> str:
    """`name` with the versions that are required, or those of its override."""
    return f"{name}{request.overrides.get(name) or wish.requirement.specifier}"


def _cleaned(error: UnresolvableError, layer: Layer) -> str:
    """The error text of uv on one line, with the layer's name."""
    text = error.flat.removeprefix("No solution found when resolving dependencies cause: ")
    text = re.sub(r"( @)? file://\S+", "", text)
    return text.replace(project_name(layer.name), layer.name)
