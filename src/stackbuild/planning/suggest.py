"""Frameworks for a locked stack that minimise the total download."""

from __future__ import annotations

from collections import Counter
from itertools import count
from typing import TYPE_CHECKING

from stackbuild.errors import UsageError
from stackbuild.lock.current import load_locks
from stackbuild.planning.common import common_fields, common_settings
from stackbuild.planning.contents import name_of
from stackbuild.planning.held import chain_locks, environment_of, held_by
from stackbuild.planning.model import Comparison, SuggestedFramework, Suggestion
from stackbuild.planning.search import LONGEST_CHAIN, choose_frameworks
from stackbuild.resolve.metadata import Metadata
from stackbuild.resolve.uv import Uv
from stackbuild.spec.model import LayerKind
from stackbuild.spec.references import linearize
from stackbuild.spec.select import select

if TYPE_CHECKING:
    from collections.abc import Sequence

    from packaging.utils import NormalizedName

    from stackbuild.messages import Messages
    from stackbuild.planning.common import Applications, Contents
    from stackbuild.planning.held import Held, Locks
    from stackbuild.planning.search import Choice, Framework
    from stackbuild.platforms import Platform
    from stackbuild.spec.model import Layer, Stack
    from stackbuild.workspace import Workspace


LAYER_BYTES = 4_000
"""The measured size of a layer's own metadata in an archive. A framework has to save more."""


_LEAVE_OUT = "or name the applications that can be locked: `stackbuild suggest --layer NAME …`"


def suggest(
    stack: Stack, workspace: Workspace, messages: Messages, names: Sequence[str] = ()
) -> Suggestion:
    """The new frameworks that minimise the total download of the applications of `stack`.

    `names` are those of applications, or patterns; without any, all are meant.
    The frameworks of the stack stay. Applications that depend on the same ones can share a new
    framework, which depends on these and holds distributions of the applications' own layers.
    Versions and sizes are those of the locks. What each distribution requires is read from the
    metadata of its wheel. Raises UsageError without applications, LockError if a lock
    is missing or stale, and FetchError if the metadata of a wheel is not available.
    """
    chosen = select(stack, names, (), with_chain=False)
    pairs = [(layer, p) for layer, p in chosen if layer.kind is LayerKind.APPLICATION]
    layers = list({layer.name: layer for layer, _ in pairs}.values())
    if not layers:
        who = "the layers named have" if names else "the stack has"
        raise UsageError(f"{who} no application, so there is nothing to share")
    locks = load_locks(stack, workspace, pairs, otherwise=_LEAVE_OUT)
    metadata = Metadata(workspace, messages, Uv(workspace).pages)
    held: dict[str, dict[Platform, Held]] = {layer.name: {} for layer in layers}
    with messages.task("reading metadata", len(pairs), unit="environments") as task:
        for layer, platform in pairs:
            held[layer.name][platform] = held_by(stack, layer, platform, locks, metadata)
            task.advance(1)
    frameworks: list[SuggestedFramework] = []
    choices = []
    taken = {name.lower() for name in stack.layers}
    for lower in dict.fromkeys(layer.lower for layer in layers):
        group = {layer.name: held[layer.name] for layer in layers if layer.lower == lower}
        environments = {name: environment_of(name, item) for name, item in group.items()}
        # The last of `lower` is the runtime.
        free = max(0, LONGEST_CHAIN - len(lower) + 1)
        choice = choose_frameworks(environments, longest_chain=free, layer_bytes=LAYER_BYTES)
        choices.append(choice)
        frameworks += _frameworks(stack, choice, group, taken)
    return Suggestion(
        frameworks=tuple(frameworks),
        table=_table(choices, held, stack, locks),
        exact=all(choice.exact for choice in choices),
    )


def _frameworks(
    stack: Stack, choice: Choice, held: Applications, taken: set[str]
) -> list[SuggestedFramework]:
    """The frameworks of `choice` for `held`, applications that depend on the same layers."""
    first = stack.layers[next(iter(held))]
    runtime = stack.layers[first.runtime]
    beside = {
        layer.name
        for layer in stack.layers.values()
        if layer.kind is LayerKind.APPLICATION and layer.runtime == runtime.name
    }
    found: list[SuggestedFramework] = []
    for framework in choice.frameworks:
        members = {name: held[name] for name in held if name in framework.environments}
        contents = _contents(framework, members)
        made = {platform for name in members for platform in stack.layers[name].platforms}
        layers = [stack.layers[name] for name in members]
        fields = common_fields(stack, layers, contents)
        platforms = tuple(p for p in runtime.platforms if p in made)
        if platforms != runtime.platforms:
            fields["platforms"] = [platform.venvstacks_name for platform in platforms]
        new = [found[position] for position in framework.below]
        implied = {name for item in new for name in item.below}
        direct = tuple(item.name for item in new if item.name not in implied)
        found.append(
            SuggestedFramework(
                name=_free_name(layers, contents, taken, everyone=members.keys() == beside),
                runtime=runtime.name,
                applications=tuple(members),
                depends_on=direct or _named(stack, first.frameworks),
                below=(*(item.name for item in new), *first.frameworks),
                platforms=tuple(p for p in platforms if p in stack.platforms),
                held=contents,
                fields=fields,
                settings=common_settings(layers, fields, contents, members),
            )
        )
    return found


def _named(stack: Stack, frameworks: tuple[str, ...]) -> tuple[str, ...]:
    """What a layer has to name so that it depends on exactly `frameworks`, in their order."""
    implied = {name for layer in frameworks for name in stack.layers[layer].frameworks}
    upper = [name for name in frameworks if name not in implied]
    chains = {name: (name, *stack.layers[name].frameworks) for name in frameworks}
    return tuple(upper) if linearize(upper, chains) == frameworks else frameworks


def _contents(framework: Framework, members: Applications) -> Contents:
    from packaging.utils import canonicalize_name

    contents = {}
    for platform in dict.fromkeys(p for held in members.values() for p in held):
        names = sorted(canonicalize_name(name_of(k)) for k in framework.contents.get(platform, ()))
        if names:
            holder = next(held[platform] for held in members.values() if platform in held)
            contents[platform] = {name: holder.distributions[name] for name in names}
    return contents


def _free_name(
    layers: Sequence[Layer], contents: Contents, taken: set[str], *, everyone: bool
) -> str:
    """`common` if all applications share it, else after the largest required distribution."""
    from packaging.utils import canonicalize_name

    asked = {
        canonicalize_name(requirement.name)
        for layer in layers
        for platform in layer.platforms
        for requirement in layer.requirements_on(platform)
    }
    sizes: Counter[NormalizedName] = Counter()
    for items in contents.values():
        sizes.update({name: item.wheel.size for name, item in items.items()})
    largest = min(sizes, key=lambda name: (name not in asked, -sizes[name], name))
    base = "common" if everyone else f"with-{largest}"
    names = (base if number == 1 else f"{base}-{number}" for number in count(1))
    free = next(name for name in names if name.lower() not in taken)
    taken.add(free.lower())
    return free


def _table(
    choices: Sequence[Choice], held: Applications, stack: Stack, locks: Locks
) -> tuple[Comparison, ...]:
    separate: Counter[Platform] = Counter()
    now: Counter[Platform] = Counter()
    counted = {}
    for name, by_platform in held.items():
        for platform, one in by_platform.items():
            sizes = (item.wheel.size for item in one.distributions.values())
            separate[platform] += sum(sizes) + LAYER_BYTES
            for lock in chain_locks(stack, stack.layers[name], platform, locks):
                counted[lock.layer, platform] = lock
    for (_, platform), lock in counted.items():
        size = sum(item.wheel.size for item in lock.distributions)
        # Empty frameworks are not counted.
        is_counted = size or stack.layers[lock.layer].kind is LayerKind.APPLICATION
        now[platform] += size + (LAYER_BYTES if is_counted else 0)
    saved = Counter[str]()
    for choice in choices:
        for key, size in choice.separate.items():
            saved[key] += size - choice.layered[key]
    return tuple(
        Comparison(
            platform=platform, separate=separate[platform], layers=size - saved[platform], now=size
        )
        for platform, size in sorted(now.items())
    )
