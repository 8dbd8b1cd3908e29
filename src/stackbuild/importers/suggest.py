"""The frameworks that the search proposes for a stack that is there already, from its locks."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING

from stackbuild.errors import FetchError, UsageError
from stackbuild.importers.convert import shared_layers
from stackbuild.importers.holdings import Held, needs_of
from stackbuild.importers.model import Config, Variant, Wish
from stackbuild.importers.plan import LAYER_BYTES, Environment, choose, plan
from stackbuild.importers.report import comparisons
from stackbuild.lock.current import load_locks
from stackbuild.lock.indexes import index_settings
from stackbuild.lock.targets import target_of
from stackbuild.resolve.request import ResolveRequest
from stackbuild.resolve.uv import UnresolvableError, Uv
from stackbuild.spec.model import LayerKind

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from packaging.utils import NormalizedName

    from stackbuild.importers.report import Comparison, SharedLayer
    from stackbuild.lock.model import LayerLock, LockedDistribution
    from stackbuild.messages import Messages
    from stackbuild.platforms import Platform
    from stackbuild.spec.model import Layer, Stack
    from stackbuild.workspace import Workspace

    Pair = tuple[str, Platform]
    Needs = Mapping[NormalizedName, frozenset[NormalizedName]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Suggestion:
    """What the search found."""

    frameworks: tuple[SharedLayer, ...]
    table: tuple[Comparison, ...]
    exact: bool


def suggest(stack: Stack, workspace: Workspace, messages: Messages) -> Suggestion:
    """The frameworks with which all applications of `stack` are the fewest bytes.

    Versions and sizes are those of the locks; the package index is asked what
    each distribution needs. Raises LockError where a lock is missing or stale,
    FetchError where the index cannot be asked, and UsageError for a stack
    without applications.
    """
    layers = [item for item in stack.layers.values() if item.kind is LayerKind.APPLICATION]
    if not layers:
        raise UsageError("the stack has no application, so there is nothing to share")
    pairs = [(layer, p) for layer in layers for p in layer.platforms if p in stack.platforms]
    locks = load_locks(stack, workspace, pairs)
    uv = Uv(workspace)
    with (
        messages.task("asking for dependencies", len(pairs), unit="environments") as task,
        ThreadPoolExecutor(max(len(pairs), 1)) as pool,
    ):

        def one(pair: tuple[Layer, Platform]) -> Held:
            held = _held(stack, *pair, locks, uv)
            task.advance(1)
            return held

        keys = [(layer.name, platform) for layer, platform in pairs]
        answers = dict(zip(keys, pool.map(one, pairs), strict=True))
    environments = [_environment(stack, layer, answers) for layer in layers]
    choices = choose(environments)
    return Suggestion(
        frameworks=shared_layers(plan(environments, choices)),
        table=comparisons(list(choices.values()), _now(stack, pairs, locks)),
        exact=all(choice.exact for choice in choices.values()),
    )


def _chain(
    stack: Stack, layer: Layer, platform: Platform, locks: Mapping[Pair, LayerLock]
) -> list[LayerLock]:
    """The locks of `layer` and its frameworks; what is in a runtime is shared in any case."""
    return [
        locks[member.name, platform]
        for member in stack.chain(layer)
        if member.kind is not LayerKind.RUNTIME
    ]


def _held(
    stack: Stack, layer: Layer, platform: Platform, locks: Mapping[Pair, LayerLock], uv: Uv
) -> Held:
    chain = _chain(stack, layer, platform, locks)
    found: dict[NormalizedName, LockedDistribution] = {}
    for lock in chain:
        for item in lock.distributions:
            # The nearest one is what is imported.
            found.setdefault(item.name, item)
    excluded: set[NormalizedName] = set()
    for lock in chain:
        excluded.update(item.name for item in (*lock.skipped, *lock.omitted))
    return Held(
        keys={name: f"{name}=={item.version}" + _file(item) for name, item in found.items()},
        versions={name: item.version for name, item in found.items()},
        sizes={name: item.wheel.size for name, item in found.items()},
        needs=_needs(stack, layer, platform, found, uv),
        skipped=frozenset(excluded - found.keys()),
    )


def _file(item: LockedDistribution) -> str:
    """Tells files of one version apart that are not the same everywhere."""
    if item.source is not None:
        return f" built {item.wheel.sha256[:8]}"
    return f" from {item.index}" if item.index else ""


def _needs(
    stack: Stack,
    layer: Layer,
    platform: Platform,
    found: Mapping[NormalizedName, LockedDistribution],
    uv: Uv,
) -> Needs:
    policy = layer.policy(platform)
    python = stack.python_version(layer)
    indexed = [item for item in found.values() if item.source is None]
    request = ResolveRequest(
        layer=layer.name,
        requirements=tuple(f"{item.name}=={item.version}" for item in indexed),
        target=target_of(layer, platform, python),
        indexes=index_settings(stack, layer),
        stand_ins=(*policy.skip, *(item.name for item in found.values() if item.source)),
        overrides={item.name: f"=={item.version}" for item in indexed},
        without_dependencies=policy.no_deps,
    )
    try:
        asked = needs_of(uv, request) if indexed else {}
    except UnresolvableError as error:
        raise FetchError(
            "the package index does not tell what the locked distributions need",
            layer=layer.name,
            platform=platform,
            found=error.flat,
            remedy="run `stackbuild lock --upgrade` if the index no longer has them",
        ) from None
    # What was built here is known to no index: taken to need everything beside it.
    return {
        name: asked.get(name, frozenset()) & found.keys()
        if item.source is None
        else frozenset(found.keys() - {name})
        for name, item in found.items()
    }


def _environment(stack: Stack, layer: Layer, answers: Mapping[Pair, Held]) -> Environment:
    held = {p: answers[layer.name, p] for p in layer.platforms if (layer.name, p) in answers}
    wishes = {
        platform: tuple(
            Wish(requirement=requirement, place=member.name)
            for member in reversed(stack.chain(layer))
            if member.kind is not LayerKind.RUNTIME
            for requirement in member.requirements_on(platform)
        )
        for platform in held
    }
    variant = Variant(
        directory=stack.directory,
        name=layer.name,
        python=stack.python_version(layer),
        own=Config(),
        platforms=tuple(held),
    )
    config = Config(platform_dependencies=wishes)
    return Environment(variant=variant, config=config, registries=(), held=held)


def _now(
    stack: Stack,
    pairs: Sequence[tuple[Layer, Platform]],
    locks: Mapping[Pair, LayerLock],
) -> dict[str, int]:
    """By platform: the bytes of all layers as they are."""
    counted = {
        (lock.layer, platform): lock
        for layer, platform in pairs
        for lock in _chain(stack, layer, platform, locks)
    }
    now: dict[str, int] = {}
    for (_, platform), lock in counted.items():
        size = LAYER_BYTES + sum(item.wheel.size for item in lock.distributions)
        now[platform] = now.get(platform, 0) + size
    return now
