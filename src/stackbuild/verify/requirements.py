"""Whether what distributions require is there, in their chain."""

from __future__ import annotations

from typing import TYPE_CHECKING

from stackbuild.verify.model import Finding

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from packaging.requirements import Requirement

    from stackbuild.platforms import Platform
    from stackbuild.verify.deployed import DeployedLayer, Distribution
    from stackbuild.verify.model import Rules

_SYSTEMS = {
    "linux": ("posix", "linux", "Linux"),
    "macos": ("posix", "darwin", "Darwin"),
    "windows": ("nt", "win32", "Windows"),
}
_MACHINES = {
    ("macos", "aarch64"): "arm64",
    ("windows", "x86_64"): "AMD64",
    ("windows", "aarch64"): "ARM64",
}


def marker_environment(platform: Platform, python: str) -> dict[str, str]:
    """What environment markers see on `platform` (dependency specifiers, PEP 508).

    The release and version of the system are unknown, and empty.
    """
    os_name, sys_platform, system = _SYSTEMS[platform.os]
    return {
        "implementation_name": "cpython",
        "implementation_version": python,
        "os_name": os_name,
        "platform_machine": _MACHINES.get((platform.os, platform.machine), platform.machine),
        "platform_python_implementation": "CPython",
        "platform_release": "",
        "platform_system": system,
        "platform_version": "",
        "python_full_version": python,
        "python_version": ".".join(python.split(".")[:2]),
        "sys_platform": sys_platform,
    }


def effective(chain: Sequence[DeployedLayer]) -> dict[str, tuple[DeployedLayer, Distribution]]:
    """By name, the distributions that the topmost layer of `chain` sees: the nearest of each."""
    found: dict[str, tuple[DeployedLayer, Distribution]] = {}
    for layer in chain:
        for distribution in layer.distributions:
            found.setdefault(distribution.name, (layer, distribution))
    return found


def check_requirements(chain: Sequence[DeployedLayer], rules: Rules) -> list[Finding]:
    """A finding for each requirement of the first layer of `chain` that is not satisfied.

    An extra counts when the spec or another distribution of the chain asks for it.
    """
    layer = chain[0]
    python = chain[-1].manifest.python_version
    environment = marker_environment(layer.manifest.platform, python)
    there = {name: distribution for name, (_, distribution) in effective(chain).items()}
    extras = _extras(there, environment, rules)
    findings: list[Finding] = []
    for distribution in layer.distributions:
        problems = list(_problems(distribution, there, extras, environment, rules))
        findings += [
            Finding(
                check="requirement",
                layer=layer.manifest.layer,
                distribution=str(distribution),
                message=message,
                expected=expected,
                found=found,
            )
            for message, expected, found in problems
        ]
    return findings


def _problems(
    distribution: Distribution,
    there: Mapping[str, Distribution],
    extras: Mapping[str, set[str]],
    environment: Mapping[str, str],
    rules: Rules,
) -> Iterator[tuple[str, str | None, str | None]]:
    from packaging.requirements import InvalidRequirement
    from packaging.specifiers import InvalidSpecifier, SpecifierSet
    from packaging.utils import canonicalize_name
    from packaging.version import InvalidVersion

    python = environment["python_full_version"]
    try:
        if distribution.requires_python and not SpecifierSet(distribution.requires_python).contains(
            python, prereleases=True
        ):
            yield "is not made for this Python", distribution.requires_python, python
    except InvalidSpecifier:
        yield "has a Requires-Python that cannot be read", None, distribution.requires_python
    if distribution.name in rules.no_deps:
        return
    for text in distribution.requires:
        try:
            requirement = _active(text, extras.get(distribution.name, set()), environment)
            if requirement is None:
                continue
            name = canonicalize_name(requirement.name)
            found = there.get(name)
            if found is None and name not in rules.skipped:
                yield "requires a distribution that is not in the chain", str(requirement), None
            elif (
                found is not None
                and name not in rules.overridden
                and not requirement.specifier.contains(found.version, prereleases=True)
            ):
                yield "requires another version", str(requirement), str(found)
        except (InvalidRequirement, InvalidVersion):
            yield "has a requirement that cannot be read", None, text


def _extras(
    there: Mapping[str, Distribution], environment: Mapping[str, str], rules: Rules
) -> dict[str, set[str]]:
    """The extras that somebody asks for; asking may depend on other extras."""
    from packaging.requirements import InvalidRequirement
    from packaging.utils import canonicalize_name

    extras = {name: set(rules.extras.get(name, ())) for name in there}
    changed = True
    while changed:
        changed = False
        for distribution in there.values():
            for text in distribution.requires:
                try:
                    requirement = _active(text, extras[distribution.name], environment)
                except InvalidRequirement:
                    continue
                name = canonicalize_name(requirement.name) if requirement else None
                if requirement and name in extras and not extras[name] >= requirement.extras:
                    extras[name] |= requirement.extras
                    changed = True
    return extras


def _active(text: str, extras: set[str], environment: Mapping[str, str]) -> Requirement | None:
    """The requirement `text`, if its marker holds with any of `extras` or with none."""
    from packaging.requirements import Requirement

    requirement = Requirement(text)
    marker = requirement.marker
    if marker is None or any(
        marker.evaluate({**environment, "extra": extra}) for extra in ("", *sorted(extras))
    ):
        return requirement
    return None
