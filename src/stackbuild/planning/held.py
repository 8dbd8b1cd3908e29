"""The distributions of the applications of a locked stack, and their requirements."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from stackbuild.lock.indexes import index_settings
from stackbuild.lock.model import imported
from stackbuild.lock.targets import all_active, requested_extras
from stackbuild.planning.contents import Environment
from stackbuild.platforms import marker_environment
from stackbuild.resolve.siblings import asked_extras
from stackbuild.spec.model import LayerKind
from stackbuild.spec.policy import policy_on_chain

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from packaging.utils import NormalizedName

    from stackbuild.lock.model import LayerLock, LockedDistribution
    from stackbuild.platforms import Platform
    from stackbuild.resolve.metadata import Metadata
    from stackbuild.spec.model import Layer, Stack

    Locks = Mapping[tuple[str, Platform], LayerLock]
    Names = frozenset[NormalizedName]


@dataclass(frozen=True, slots=True, kw_only=True)
class Held:
    """What an application imports on one platform, without the distributions of its runtime."""

    own: Names
    """The distributions in its own layer; the others are in its frameworks."""
    distributions: Mapping[NormalizedName, LockedDistribution]
    needs: Mapping[NormalizedName, Names]
    """The present distributions that each requires."""
    lacks: Mapping[NormalizedName, Names]
    """The left out distributions that each requires."""
    left_out: Mapping[NormalizedName, str]
    """Distributions that `skip`, `exclude` and `optional-list` left out, with the reason."""
    bare: Names
    """Those whose requirements `no-deps` ignores."""
    given: Names = frozenset()
    """Those whose wheel a requirement names by its address."""

    def key(self, name: NormalizedName, application: str) -> str:
        """The same for two applications only if they can share the distribution.

        The result of a source build depends on the settings of its layer, and the address of a
        wheel is in its requirements, so these are not shared.
        """
        item = self.distributions[name]
        parts = [f"{name}=={item.version}", item.wheel.sha256]
        parts += ["without dependencies"] if name in self.bare else []
        is_alone = item.source is not None or name in self.given
        parts += [f"of {application}"] if is_alone else []
        return " ".join(parts)


def chain_locks(stack: Stack, layer: Layer, platform: Platform, locks: Locks) -> list[LayerLock]:
    """The locks of `layer` and its frameworks, nearest first."""
    return [
        locks[member.name, platform]
        for member in stack.chain(layer)
        if member.kind is not LayerKind.RUNTIME
    ]


def held_by(
    stack: Stack, layer: Layer, platform: Platform, locks: Locks, metadata: Metadata
) -> Held:
    """The contents of `layer`. Raises FetchError if the metadata of a wheel is not available."""
    from packaging.utils import canonicalize_name

    chain = chain_locks(stack, layer, platform, locks)
    owned = imported(chain)
    found = {name: item for name, (_, item) in owned.items()}
    requires: dict[str, Sequence[str]] = {}
    given: set[NormalizedName] = set()
    for lock in chain:
        items = [item for owner, item in owned.values() if owner is lock]
        indexes = index_settings(stack, stack.layers[lock.layer], platform)
        given |= {item.name for item in items if item.wheel.name in indexes.files}
        for name, one in metadata.of(lock.layer, items, indexes).items():
            requires[name] = one.dependencies
    left_out = {
        item.name: item.reason
        for lock in chain
        for item in (*lock.skipped, *lock.omitted)
        if item.name not in found
    }
    bare = frozenset(policy_on_chain(stack, layer, platform).no_deps) & found.keys()
    requires |= dict.fromkeys(bare, ())
    environment = marker_environment(platform, str(stack.python_version(layer)))
    extras = requested_extras(requires, asked_extras(stack, layer, platform), environment)
    wanted = {
        name: frozenset(
            canonicalize_name(requirement.name)
            for requirement in all_active(requires[name], extras[name], environment)
        )
        for name in found
    }
    return Held(
        own=frozenset(item.name for item in chain[0].distributions),
        distributions=found,
        needs={name: names & found.keys() for name, names in wanted.items()},
        lacks={name: names & left_out.keys() for name, names in wanted.items()},
        left_out=left_out,
        bare=bare,
        given=frozenset(given),
    )


def environment_of(application: str, held: Mapping[Platform, Held]) -> Environment:
    """The part of an application that a new framework may hold: its own layer."""
    return Environment(
        sizes={
            platform: {
                item.key(name, application): item.distributions[name].wheel.size
                for name in item.own
            }
            for platform, item in held.items()
        },
        # What the frameworks have is below a new one, too.
        needs={
            platform: {
                item.key(name, application): frozenset(item.needs[name] & item.own)
                for name in item.own
            }
            for platform, item in held.items()
        },
        excluded={platform: frozenset(item.left_out) for platform, item in held.items()},
    )
