"""Which layers on which platforms a command works on."""

from __future__ import annotations

from typing import TYPE_CHECKING

from stackbuild.errors import UsageError
from stackbuild.platforms import nearest, parse_platform

if TYPE_CHECKING:
    from collections.abc import Sequence

    from stackbuild.platforms import Platform
    from stackbuild.spec.model import Layer, Stack


def select(
    stack: Stack, layers: Sequence[str], platforms: Sequence[str], *, with_chain: bool = True
) -> list[tuple[Layer, Platform]]:
    """The layers named, with those below them, on the platforms named; lower layers first.

    No layers means all of them, no platforms those of the stack; `with_chain`
    False leaves out the layers below. Raises UsageError for an unknown name, if
    a layer named is not made for a platform named, or if nothing is left.
    """
    asked = [_layer(stack, name) for name in layers]
    wanted = [parse_platform(name) for name in platforms]
    for layer in asked:
        _check_platforms(layer, wanted or stack.platforms, all_of=bool(wanted))
    chosen: dict[str, set[Platform]] = {}
    for layer in asked or stack.layers.values():
        made = {platform for platform in wanted or stack.platforms if platform in layer.platforms}
        for member in stack.chain(layer) if with_chain else (layer,):
            chosen.setdefault(member.name, set()).update(made)
    pairs = [pair for pair in stack.pairs() if pair[1] in chosen.get(pair[0].name, ())]
    if not pairs:
        raise UsageError(
            f"no layer is made for {', '.join(wanted or stack.platforms) or 'any platform'}",
            file=stack.path,
        )
    return pairs


def left_alone(stack: Stack) -> list[Layer]:
    """The layers without a platform of the stack: commands use them only if `--platform` names one.

    A layer with an empty list of platforms is disabled on purpose, and not included.
    """
    return [
        layer
        for layer in stack.layers.values()
        if layer.platforms and not set(layer.platforms) & set(stack.platforms)
    ]


def _layer(stack: Stack, name: str) -> Layer:
    if name in stack.layers:
        return stack.layers[name]
    guess = nearest(name, stack.layers)
    raise UsageError(
        f"there is no layer {name!r}",
        file=stack.path,
        expected=f"one of {', '.join(stack.layers)}",
        remedy=f"did you mean {guess!r}?" if guess else None,
    )


def _check_platforms(layer: Layer, platforms: Sequence[Platform], *, all_of: bool) -> None:
    missing = [platform for platform in platforms if platform not in layer.platforms]
    if missing and (all_of or len(missing) == len(platforms)):
        raise UsageError(
            f"layer {layer.name} is not made for {', '.join(missing)}",
            layer=layer.name,
            expected=f"one of {', '.join(layer.platforms)}" if layer.platforms else None,
            remedy=None
            if layer.platforms
            else "its `platforms` in the spec are an empty list, which disables it",
        )
