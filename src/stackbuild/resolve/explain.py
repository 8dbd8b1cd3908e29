"""Why a layer cannot be resolved.

Only uv's exit code, its results and the pages of the indexes decide; uv's error
text is shown, but not parsed. A possible reason (a layer below, a built wheel or
a missing distribution) is confirmed by another request to uv without it.
"""

from __future__ import annotations

import re
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, cast

from stackbuild.errors import FetchError
from stackbuild.lock.model import imported
from stackbuild.resolve.availability import Availability
from stackbuild.resolve.git_sources import reason_to_build
from stackbuild.resolve.problems import MissingWheel, ResolveError, ResolveProblem, unread_index
from stackbuild.resolve.request import name_of, project_name
from stackbuild.resolve.uv import UnresolvableError
from stackbuild.tomltext import inline, layer_table

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping, Sequence

    from packaging.utils import NormalizedName
    from packaging.version import Version

    from stackbuild.lock.model import LayerLock
    from stackbuild.lock.targets import Target
    from stackbuild.resolve.availability import Dependency, Unavailable
    from stackbuild.resolve.metadata import Metadata
    from stackbuild.resolve.request import Found, ResolveRequest
    from stackbuild.resolve.uv import ResolveResult, Uv
    from stackbuild.spec.model import Layer, Setting


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
    ) -> ResolveError:
        """Why `layer` cannot be resolved; `error` is uv's response to `request`."""
        try:
            cause = self._cause(request, error, layer, lower)
        except FetchError as unread:
            cause = unread_index(unread, request.indexes)
        if isinstance(cause, ResolveError):
            return cause
        return ResolveError(layer.name, request.target.platform, cause)

    def _cause(
        self,
        request: ResolveRequest,
        error: UnresolvableError,
        layer: Layer,
        lower: Sequence[LayerLock],
    ) -> ResolveProblem | ResolveError:
        """Raises FetchError where an index or the metadata of a wheel cannot be read."""
        free = replace(request, constraints={}, preferences=request.constraints)
        if request.constraints and error.answered:
            try:
                result = self.uv.ask(free)
            except UnresolvableError as other:
                # The layers below are not the reason; uv's text without them is clearer.
                error = other
            else:
                if problem := self._clash(request, result, layer, lower):
                    return problem
        followed = self._follow(free)
        text = _cleaned(error, layer)
        if not error.answered:
            message = f"uv could not resolve the requirements of {layer.name}"
            return ResolveProblem(message=message, found=text, remedy=_authenticate(request))
        if problem := self._built_clash(free, followed, layer, lower):
            return problem
        if missing := self._culprit(free, list(followed.unavailable.values())):
            return _unavailable(missing, layer, request, followed, text)
        self._check_refusals(free, followed)
        if dependency := followed.unmet_dependency():
            return _unmet(dependency, followed, text)
        message = f"the requirements of {layer.name} contradict each other"
        pins = self._excluded_pins(request)
        return ResolveProblem(
            message=message,
            found="; ".join(pins.values()) or text,
            remedy=_overriding(layer, [*pins]) if pins else None,
        )

    def _excluded_pins(self, request: ResolveRequest) -> dict[tuple[NormalizedName, str], str]:
        """The pins of the layer that would solve `request` as overrides.

        Each name and version with what excludes it; empty if overrides are not enough.
        """
        found: dict[tuple[NormalizedName, str], str] = {}
        while True:
            overrides = {name: f"=={version}" for name, version in found}
            request = replace(request, overrides={**request.overrides, **overrides})
            followed = self._follow(replace(request, constraints={}))
            new = {
                (name, pin): f"{request.layer} requires {name}=={pin}, but {', '.join(others)}"
                for name, pin in followed.pins().items()
                if name not in request.overrides and (others := _excluding(followed, name, pin))
            }
            if not new:
                return found if found and self.uv.solves(request) else {}
            found |= new

    def _check_refusals(self, request: ResolveRequest, followed: Availability) -> None:
        """Raise the refusal of an index that prevents uv from continuing."""
        for name, refusal in self.uv.pages.refusals.items():
            alone = replace(request, requirements=(name,), built={}, no_deps=True)
            if name in followed.dependencies and not self.uv.solves(alone):
                raise refusal

    def _follow(self, request: ResolveRequest) -> Availability:
        return Availability(request=request, pages=self.uv.pages, metadata=self.metadata).follow()

    def _solves(self, request: ResolveRequest, without: Collection[NormalizedName]) -> bool:
        """Whether the request can be met if all requirements on `without` are ignored."""
        return self.uv.solves(
            replace(
                request,
                excluded={*request.excluded, *without},
                built={name: it for name, it in request.built.items() if name not in without},
                from_source={*request.from_source} - {*without},
            )
        )

    def _culprit(
        self, request: ResolveRequest, unavailable: Sequence[Unavailable]
    ) -> Unavailable | None:
        """The first of `unavailable` that keeps `request` from being met."""
        if certain := [missing for missing in unavailable if missing.is_certain]:
            return certain[0]
        left = list(unavailable)
        if not left or not self._solves(request, [missing.name for missing in left]):
            return None
        for missing in unavailable:
            others = [other for other in left if other is not missing]
            if not others or not self._solves(request, [other.name for other in others]):
                return missing
            left = others
        return None

    def _built_clash(
        self,
        request: ResolveRequest,
        followed: Availability,
        layer: Layer,
        lower: Sequence[LayerLock],
    ) -> ResolveProblem | None:
        """The problem of a distribution that is not looked up, as it is given or inherited."""
        below = imported(lower)
        for name, known in request.built.items():
            dependencies = _excluding(followed, name, str(known.version))
            if dependencies and self._solves(request, [name]):
                if name in below:
                    owner, item = below[name]
                    return _pin_clash(layer, owner, name, item.version, dependencies)
                return ResolveProblem(
                    message="a version is required that differs from the one at the path or address"
                    " that the spec names",
                    distribution=f"{name} {known.version}",
                    found="; ".join(dependencies),
                    remedy="change the requirement, or the path or address",
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
        below = imported(lower)
        for item in answer.found:
            pin = request.constraints.get(item.name)
            if pin is None or pin == item.version:
                continue
            owner = below[item.name][0]
            dependencies: list[str] = []
            with suppress(FetchError):
                free = replace(request, constraints={}, preferences=answer.versions)
                dependencies = _excluding(self._follow(free), item.name, str(pin))
            dependencies = dependencies or [f"{item.version}, which other distributions need"]
            return _pin_clash(layer, owner, item.name, pin, dependencies, item.version)
        return None


def _pin_clash(
    layer: Layer,
    owner: LayerLock,
    name: NormalizedName,
    pin: Version,
    dependencies: Sequence[str],
    usable: Version | None = None,
) -> ResolveProblem:
    """`layer` requires other versions of `name` than `pin`, which `owner` has below it."""
    reason = [text for text in owner.requirements if name_of(text) == name]
    because = f", which requires {reason[0]!r}" if reason else ", for other distributions"
    other = f"require '{name}=={usable}', which" if usable else f"require a version of {name} that"
    return ResolveProblem(
        message=f"{layer.name} needs another version of {name} than {owner.layer} has",
        distribution=name,
        expected=f"{name} {pin}, as locked in {owner.layer}{because}",
        found=f"{layer.name} requires {'; '.join(dependencies)}",
        remedy=f"change the requirement of {layer.name}, or make {owner.layer} {other}"
        f" {layer.name} can use",
    )


def check_tags(layer: Layer, target: Target, found: Sequence[Found]) -> None:
    """Raise ResolveError for the first wheel in `found` that does not fit the target."""
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
            raise ResolveError(layer.name, target.platform, problem) from None
        if target.rank(tags) is None:
            raise ResolveError(
                layer.name,
                target.platform,
                MissingWheel(distribution=distribution, asked=f"needed by {layer.name}"),
                target=target,
                tags=tuple(sorted({tag.platform for tag in tags})),
            )


def _excluding(followed: Availability, name: NormalizedName, version: str) -> list[str]:
    """The requirements on `name` that exclude `version`."""

    def excludes(dependency: Dependency) -> bool:
        return not followed.specifier(name, [dependency]).contains(version, prereleases=True)

    dependencies: Iterable[Dependency] = followed.dependencies.get(name, ())
    return list(
        dict.fromkeys(str(dependency) for dependency in dependencies if excludes(dependency))
    )


def _unavailable(
    missing: Unavailable,
    layer: Layer,
    request: ResolveRequest,
    followed: Availability,
    text: str,
) -> ResolveProblem | ResolveError:
    """The problem of a distribution that is not available."""
    name, dependency = missing.name, missing.dependency
    subject = f"{name} {missing.version or ''}".strip()
    if missing.kind == "wheel":
        direct = f"which {layer.name} requires as '{dependency.requirement}'"
        return ResolveError(
            layer.name,
            request.target.platform,
            MissingWheel(
                distribution=subject,
                asked=direct if dependency.parent is None else f"which {dependency.parent} needs",
                has_source=missing.has_source,
                needed_by=followed.needed_by(name),
            ),
            target=request.target,
            tags=missing.tags,
            alternative=str(missing.alternative) if missing.alternative else None,
        )
    if missing.kind == "source":
        return ResolveProblem(
            message=f"{subject} has no source distribution to build it from",
            distribution=name,
            found=reason_to_build(name, layer, request.target.platform),
            remedy="require a version that has one, or its repository (`git+https://…@revision`)",
            absent=True,
        )
    if missing.kind == "version":
        return replace(_no_version(name, dependency, request, text), absent=True)
    if request.indexes.local_wheels:
        text += f"; no wheel of it in `local-wheels` ({', '.join(request.indexes.local_wheels)})"
    return ResolveProblem(
        message=f"no package index has {name}",
        distribution=name,
        found=text,
        remedy="correct the name; or add the index that has it as [[tool.uv.index]], or a wheel"
        " with `stackbuild wheel add FILE` or in a directory of `local-wheels`",
        absent=True,
    )


def _overriding(layer: Layer, pins: Sequence[tuple[NormalizedName, str]]) -> str:
    """How to install the versions `pins` all the same."""
    given = cast("Mapping[str, Setting]", layer.settings.get("overrides", {}))
    own = {
        name: str(setting.value).removeprefix("==")
        for name, setting in given.items()
        if not setting.place.startswith("tool.stackbuild.shared.")
    }
    line = f"overrides = {inline(own | dict(pins))}"
    return (
        f"change a requirement, or install {', '.join(map(' '.join, pins))} all the same, with this"
        f" line in {layer_table(layer.name)}: {line}"
    )


def _authenticate(request: ResolveRequest) -> str | None:
    """What to do where an index needs credentials before it is asked."""
    places = [
        str(table.get("name") or table["url"])
        for table in request.indexes.tables()
        if table.get("authenticate") == "always"
    ]
    if not places:
        return None
    return (
        f"check the network, and set the credentials of {', '.join(places)} (authenticate = "
        "'always'): in its address as ${VARIABLE}, as UV_INDEX_<NAME>_USERNAME and "
        "UV_INDEX_<NAME>_PASSWORD, or in a netrc file"
    )


def _unmet(dependency: Dependency, followed: Availability, text: str) -> ResolveProblem:
    """The problem of a requirement of the layer that no version meets."""
    from packaging.utils import canonicalize_name

    name = canonicalize_name(dependency.requirement.name)
    if not followed.has_files(name):
        return ResolveProblem(
            message=f"the page of {name} in the package index names no file that can be used",
            distribution=name,
            found=text,
            remedy="check the address of the index, and `exclude-newer` where it is set",
        )
    return _no_version(name, dependency, followed.request, text)


def _no_version(
    name: NormalizedName, dependency: Dependency, request: ResolveRequest, text: str
) -> ResolveProblem:
    wanted = f"{name}{request.overrides.get(name) or dependency.requirement.specifier}"
    return ResolveProblem(
        message=f"no package index has {wanted}",
        distribution=wanted,
        found=text,
        remedy="require an existing version, or add the index that has it",
    )


def _cleaned(error: UnresolvableError, layer: Layer) -> str:
    """The error text of uv on one line, with the layer's name."""
    text = error.flat.removeprefix("No solution found when resolving dependencies cause: ")
    text = re.sub(r"( @)? file://\S+", "", text)
    return text.replace(project_name(layer.name), layer.name)
