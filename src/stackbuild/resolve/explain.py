"""Why a layer cannot be resolved.

uv's own words tell which distribution it stumbled over; whether a layer below
is the reason is found out by asking again without it.
"""

from __future__ import annotations

import re
from dataclasses import replace
from typing import TYPE_CHECKING

from stackbuild.errors import FetchError
from stackbuild.resolve.git_sources import reason_to_build
from stackbuild.resolve.problems import MissingWheel, ResolveFailure, ResolveProblem
from stackbuild.resolve.request import project_name
from stackbuild.resolve.uv import UnresolvableError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from packaging.requirements import Requirement
    from packaging.utils import NormalizedName

    from stackbuild.lock.model import LayerLock
    from stackbuild.lock.targets import Target
    from stackbuild.resolve.request import Found, ResolveRequest
    from stackbuild.resolve.uv import Uv
    from stackbuild.spec.model import Layer

_NAME = r"[a-zA-Z0-9](?:[a-zA-Z0-9._-]*[a-zA-Z0-9])?"
_SPECIFIER = r"[=<>!~][^\s]*[^\s,]"
_NO_WHEEL = re.compile(
    rf"(?P<name>{_NAME})(?:=(?P<version>{_SPECIFIER})|{_SPECIFIER})? ha(?:s|ve) no "
    r"(?:wheels with a matching [A-Za-z ]+ tag|usable wheels)"
)
_TAG_HINT = re.compile(
    rf"`({_NAME})` \(v?[^)]+\) (?:on|with) the following [^:]*: (`[^`]+`(?:, `[^`]+`)*)"
)
_NO_SOURCE = re.compile(
    rf"(?P<name>{_NAME})(?:=(?P<version>{_SPECIFIER})|{_SPECIFIER})? ha(?:s|ve) no "
    r"(?:usable )?source distributions?"
)
_NO_VERSION = re.compile(rf"there is no version of ({_NAME}==[^\s,]+)")
_UNKNOWN = re.compile(rf"({_NAME}) was not found in the (?:package registry|provided package)")
_NO_SOLUTION = "No solution found when resolving dependencies"
_NETWORK = re.compile(
    r"Failed to fetch|Could not connect|error sending request|client error|dns error"
    r"|HTTP status|Request failed|could not be queried due to",
    re.IGNORECASE,
)


def diagnose(
    uv: Uv,
    request: ResolveRequest,
    error: UnresolvableError,
    layer: Layer,
    lower: Sequence[LayerLock],
) -> ResolveFailure:
    """What keeps `layer` from being resolved, `error` being uv's answer to `request`."""
    platform = request.target.platform
    if not error.answered:
        return ResolveFailure(layer=layer.name, platform=platform, problem=_other(error, layer))
    if built := _built_clash(request, error):
        return ResolveFailure(layer=layer.name, platform=platform, problem=built)
    if request.constraints:
        try:
            free = replace(request, constraints={}, preferences=request.constraints)
            clash = _clash(request, uv.ask(free).found, error, layer, lower)
        except UnresolvableError as other:
            # Not the layers below are to blame, and without them uv says it more plainly.
            error, clash = other, None
        if clash:
            return ResolveFailure(layer=layer.name, platform=platform, problem=clash)
    if match := _NO_WHEEL.search(error.flat):
        return _missing_wheel(uv, request, error, match, layer)
    problem = _missing_source(request, error, layer) or _other(error, layer)
    return ResolveFailure(layer=layer.name, platform=platform, problem=problem)


def check_tags(layer: Layer, target: Target, found: Sequence[Found]) -> ResolveFailure | None:
    """The first of the wheels in `found` that cannot be installed on the target, if any."""
    from packaging.utils import InvalidWheelFilename, parse_wheel_filename

    for item in found:
        distribution = f"{item.name} {item.version}"
        try:
            tags = parse_wheel_filename(item.file)[3]
        except InvalidWheelFilename as error:
            problem = ResolveProblem(
                message="the index offers a wheel with an impossible name",
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


def _built_clash(request: ResolveRequest, error: UnresolvableError) -> ResolveProblem | None:
    """What was built from source, and somebody asks for in another version."""
    from packaging.specifiers import InvalidSpecifier, SpecifierSet
    from packaging.utils import canonicalize_name

    for match in re.finditer(rf"({_NAME})({_SPECIFIER})", error.flat):
        known = request.built.get(canonicalize_name(match[1]))
        if known is None:
            continue
        try:
            if SpecifierSet(match[2]).contains(known.version, prereleases=True):
                continue
        except InvalidSpecifier:
            continue  # a word of uv's that only looks like one
        return ResolveProblem(
            message="another version is asked for than the one that is built from source",
            distribution=f"{match[1]} {known.version}",
            # The addresses are those of files that stood in for the built ones.
            found=re.sub(r"( @)? file://\S+", "", error.flat.removeprefix("error: ")),
            remedy="change the requirement, or the revision that it is built from",
        )
    return None


def _clash(
    request: ResolveRequest,
    found: Sequence[Found],
    error: UnresolvableError,
    layer: Layer,
    lower: Sequence[LayerLock],
) -> ResolveProblem | None:
    """The pin of a layer below that `layer` cannot live with; `found` does without it."""
    for item in found:
        pin = request.constraints.get(item.name)
        if pin is None or pin == item.version:
            continue
        owner = next(
            lock for lock in lower if any(own.name == item.name for own in lock.distributions)
        )
        wishes = _excluding(request, item.name, str(pin)) or _askers(error, item.name)
        wishes = wishes or [f"{item.version}, which others need"]
        reason = [text for text in owner.requirements if _is_for(text, item.name)]
        because = f", which requires {reason[0]!r}" if reason else ", where others need it"
        return ResolveProblem(
            message=f"{layer.name} needs another {item.name} than {owner.layer} has",
            distribution=item.name,
            expected=f"{item.name} {pin}, as locked in {owner.layer}{because}",
            found=f"{layer.name} asks for {'; '.join(wishes)}",
            remedy=f"change the requirement of {layer.name}, or make {owner.layer} require"
            f" '{item.name}=={item.version}', with which {layer.name} can be resolved",
        )
    return None


def _excluding(request: ResolveRequest, name: NormalizedName, version: str) -> list[str]:
    from packaging.requirements import Requirement

    return [
        f"'{requirement}' itself"
        for requirement in map(Requirement, request.requirements)
        if _is_for(requirement, name)
        and not requirement.specifier.contains(version, prereleases=True)
    ]


def _is_for(requirement: Requirement | str, name: NormalizedName) -> bool:
    from packaging.requirements import Requirement
    from packaging.utils import canonicalize_name

    parsed = Requirement(requirement) if isinstance(requirement, str) else requirement
    return canonicalize_name(parsed.name) == name


def _askers(error: UnresolvableError, name: NormalizedName) -> list[str]:
    """Who wants which version of `name`, in uv's words."""
    pattern = (
        rf"(?P<asker>{_NAME})(?:{_SPECIFIER})? depends? on (?P<wish>{re.escape(name)}{_SPECIFIER})"
    )
    return list(
        dict.fromkeys(
            f"{match['wish']} through {match['asker']}"
            for match in re.finditer(pattern, error.flat)
            if not match["asker"].startswith("layer-")
        )
    )


def _missing_wheel(
    uv: Uv, request: ResolveRequest, error: UnresolvableError, match: re.Match[str], layer: Layer
) -> ResolveFailure:
    from packaging.utils import canonicalize_name

    name = canonicalize_name(match["name"])
    version = (match["version"] or "").lstrip("=")
    direct = [item for item in request.requirements if _is_for(item, name)]
    needed = re.search(rf"({_NAME})(?:{_SPECIFIER})? depends? on {re.escape(name)}\b", error.flat)
    if direct:
        asked = f"which {layer.name} requires as {direct[0]!r}"
    elif needed and needed[1] != project_name(layer.name):
        asked = f"which {needed[1]} needs"
    else:
        asked = f"which {layer.name} needs"
    tags = [
        tag.strip("`")
        for hint in _TAG_HINT.finditer(error.flat)
        if canonicalize_name(hint[1]) == name
        for tag in hint[2].split(", ")
    ]
    loose = replace(
        request, requirements=(name,), constraints={}, preferences={}, no_deps=True, refresh=False
    )
    try:
        alternative = next((str(item.version) for item in uv.ask(loose).found), None)
    except UnresolvableError:
        alternative = None
    return ResolveFailure(
        layer=layer.name,
        platform=request.target.platform,
        problem=MissingWheel(distribution=f"{name} {version}".strip(), asked=asked),
        target=request.target,
        tags=tuple(tags),
        alternative=alternative,
    )


def _missing_source(
    request: ResolveRequest, error: UnresolvableError, layer: Layer
) -> ResolveProblem | None:
    from packaging.utils import canonicalize_name

    match = _NO_SOURCE.search(error.flat)
    if match is None or canonicalize_name(match["name"]) not in request.from_source:
        return None
    name = canonicalize_name(match["name"])
    version = (match["version"] or "").lstrip("=")
    return ResolveProblem(
        message=f"{name} {version}".strip() + " has no source distribution to build it from",
        distribution=name,
        found=reason_to_build(name, layer, request.target.platform),
        remedy="require a version that has one, or its repository (`git+https://…@revision`)",
        absent=True,
    )


def _other(error: UnresolvableError, layer: Layer) -> ResolveProblem:
    text = error.flat.removeprefix("error: ")
    contradiction = error.answered and text.startswith(_NO_SOLUTION)
    text = text.removeprefix(f"{_NO_SOLUTION} cause: ")
    text = text.replace(project_name(layer.name), layer.name)
    if _NETWORK.search(text):
        return ResolveProblem(
            kind=FetchError,
            message="the package index cannot be asked",
            found=text,
            remedy="check the address and the credentials of the index, and the network",
        )
    if not contradiction:
        return ResolveProblem(
            message=f"uv could not resolve the requirements of {layer.name}", found=text
        )
    if unknown := _UNKNOWN.search(text):
        return ResolveProblem(
            message=f"no package index has {unknown[1]}",
            distribution=unknown[1],
            found=text,
            remedy="correct the name, or add the index that has it as [[tool.uv.index]]",
            absent=True,
        )
    if gone := _NO_VERSION.search(text):
        return ResolveProblem(
            message=f"no package index has {gone[1]}",
            distribution=gone[1],
            found=text,
            remedy="require a version that there is, or add the index that has it",
            absent=True,
        )
    return ResolveProblem(
        message=f"the requirements of {layer.name} contradict each other", found=text
    )
