"""Sibling layers that have different versions of a distribution.

The nearest layer's version is imported. A `Conflict` is a requirement of a layer
below, or of a distribution there, that this version does not meet.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from stackbuild.lock.model import Conflict, imported
from stackbuild.lock.targets import active, extras_of, requested_extras
from stackbuild.platforms import marker_environment
from stackbuild.resolve.problems import ResolveProblem
from stackbuild.spec.policy import policy_on_chain
from stackbuild.tomltext import layer_table

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

    from packaging.requirements import Requirement
    from packaging.utils import NormalizedName

    from stackbuild.lock.model import Imported, LayerLock, LockedDistribution
    from stackbuild.platforms import Platform
    from stackbuild.resolve.request import CoreMetadata
    from stackbuild.spec.model import Layer, Stack

    Describe = Callable[
        [Layer, Sequence[LockedDistribution]], Mapping[NormalizedName, CoreMetadata]
    ]


def hidden(lower: Sequence[LayerLock]) -> Iterator[tuple[NormalizedName, str]]:
    """The distributions that `lower`, nearest layer first, have in different versions.

    Each with a clause for messages.
    """
    nearest = imported(lower)
    for lock in lower:
        for item in lock.distributions:
            owner, seen = nearest[item.name]
            if item.version != seen.version:
                text = f"{item.name} {seen.version} of {owner.layer} hides"
                yield item.name, f"{text} {item.name} {item.version} of {lock.layer}"


def find_conflicts(
    stack: Stack,
    layer: Layer,
    platform: Platform,
    lower: Sequence[LayerLock],
    describe: Describe,
) -> tuple[Conflict, ...]:
    """The requirements that are met in a layer below, but not in `layer`.

    `lower` are the locks of the layers below `layer`, nearest first. `describe`
    gives the metadata of distributions of a layer.
    """
    nearest = imported(lower)
    # Files are compared, as a commit may have the version of a release.
    if all(
        item.wheel == nearest[item.name][1].wheel for lock in lower for item in lock.distributions
    ):
        return ()
    members = {lock.layer: lock for lock in lower}
    requires: dict[str, tuple[str, ...]] = {
        name: one.dependencies
        for lock in lower
        for name, one in describe(
            stack.layers[lock.layer],
            [item for item in lock.distributions if nearest[item.name][0] is lock],
        ).items()
    }
    environment = marker_environment(platform, str(stack.python_version(layer)))
    extras = requested_extras(requires, asked_extras(stack, layer, platform), environment)
    found: list[Conflict] = []
    for lock in lower:
        member = stack.layers[lock.layer]
        policy = policy_on_chain(stack, member, platform)
        dependencies = [
            (lock.layer, requirement) for requirement in stack.requirements_for(member, platform)
        ]
        for item in lock.distributions:
            if nearest[item.name][0] is lock and item.name not in policy.no_deps:
                parent = f"{item.name} {item.version} of {lock.layer}"
                dependencies += [
                    (parent, requirement)
                    for text in requires[item.name]
                    if (requirement := active(text, extras[item.name], environment))
                ]
        own = imported([lock, *(members[name] for name in member.lower)])
        found += _broken(dependencies, own, nearest, policy.overrides)
    return tuple(dict.fromkeys(found))


def asked_extras(stack: Stack, layer: Layer, platform: Platform) -> dict[str, set[str]]:
    """The extras that `layer` and the layers below it require, by distribution."""
    members = stack.chain(layer)
    return extras_of(one for member in members for one in stack.requirements_for(member, platform))


def _broken(
    dependencies: Iterable[tuple[str, Requirement]],
    own: Imported,
    nearest: Imported,
    overrides: Mapping[NormalizedName, str],
) -> Iterator[Conflict]:
    """The `dependencies` of a layer that get another version than in the layer's `own` chain."""
    from packaging.specifiers import SpecifierSet
    from packaging.utils import canonicalize_name

    for parent, requirement in dependencies:
        name = canonicalize_name(requirement.name)
        if name not in own or own[name][1].wheel == nearest[name][1].wheel:
            continue
        (expected_in, expected), (seen_in, seen) = own[name], nearest[name]
        specifier = SpecifierSet(overrides.get(name, str(requirement.specifier)))
        met = specifier.contains(seen.version, prereleases=True)
        if requirement.url is not None:
            met = seen.source is not None and seen.source == expected.source
        if met:
            continue
        text = f"{name}{overrides[name]}" if name in overrides else str(requirement)
        yield Conflict(
            name=name,
            version=seen.version,
            layer=seen_in.layer,
            hidden_version=expected.version,
            hidden_layer=expected_in.layer,
            requirement=text.partition(";")[0].strip(),
            asked_by=parent,
        )


def conflict_problem(layer: Layer, conflicts: Sequence[Conflict]) -> ResolveProblem:
    """The error for a layer that does not accept conflicts."""
    names = ", ".join(dict.fromkeys(one.name for one in conflicts))
    first = conflicts[0]
    return ResolveProblem(
        message=f"the layers below {layer.name} need different versions of {names}",
        distribution=names,
        expected="; ".join(
            dict.fromkeys(f"{one.requirement}, which {one.asked_by} requires" for one in conflicts)
        ),
        found="; ".join(
            dict.fromkeys(
                f"{one.name} {one.version} of {one.layer}, which comes before {one.name}"
                f" {one.hidden_version} of {one.hidden_layer}"
                for one in conflicts
            )
        ),
        remedy=f"make {first.layer} and {first.hidden_layer} require the same version of"
        f" {first.name}; or accept the unmet requirements with"
        f' `sibling-conflicts = "warn"` in {layer_table(layer.name)}',
    )
