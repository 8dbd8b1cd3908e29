"""Which layers, on which platforms, a command works on."""

from __future__ import annotations

import re
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING

from stackbuild.errors import UsageError
from stackbuild.platforms import nearest, parse_platform
from stackbuild.spec.model import venvstacks_name

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from stackbuild.platforms import Platform
    from stackbuild.spec.model import Layer, LayerKind, Stack


_WITH_VERSION = re.compile(r"(.+?)(?:==|@)([^@=*?\[\]]+)")


def select(
    stack: Stack, layers: Sequence[str], platforms: Sequence[str], *, with_chain: bool = True
) -> list[tuple[Layer, Platform]]:
    """The layers named, with those below them, on the platforms named; lower layers first.

    No layers means all of them, no platforms those of the stack; `with_chain`
    False leaves out the layers below. Where a pattern matches several layers, those that are not
    made for the platforms are left out. Raises UsageError for an unknown name, if a layer named
    is not made for a platform named, or if nothing is left.
    """
    wanted = [parse_platform(name) for name in platforms]
    asked = [layer for word in layers for layer in _named(stack, word, wanted)]
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


def find_layers(stack: Stack, word: str) -> list[Layer]:
    """The layers of `stack` that `word` means, lower layers first; see `find_names`."""
    kinds = {layer.name: layer.kind for layer in stack.layers.values()}
    names = find_names(word, kinds, place=stack.path, add="add it to this file")
    return [stack.layers[name] for name in names]


def find_names(word: str, kinds: Mapping[str, LayerKind], *, place: object, add: str) -> list[str]:
    """The names among those of `kinds` that `word` means, in their order; at least one.

    It is the name of a layer, its name in venvstacks (`app-NAME`, `framework-NAME`), or a pattern
    with `*`, `?` or `[…]` for either. A name comes before a name in venvstacks, and both before a
    pattern. All commands use this function, for layers of a spec, of a registry and of a root:
    `place` is where the layers are, and `add` says in the error how a layer gets there. Raises
    UsageError.
    """
    prefixed = {name: venvstacks_name(name, kind) for name, kind in kinds.items()}
    found = (
        [name for name in prefixed if name == word]
        or [name for name, other in prefixed.items() if other == word]
        or [
            name
            for name, other in prefixed.items()
            if fnmatchcase(name, word) or fnmatchcase(other, word)
        ]
    )
    if found:
        return found
    guess = nearest(word, dict.fromkeys((*prefixed, *prefixed.values())))
    is_pattern = any(char in word for char in "*?[")
    raise UsageError(
        f"no layer matches {word!r}" if is_pattern else f"there is no layer {word!r}",
        file=place,
        expected=f"one of {', '.join(kinds)}" if kinds else None,
        found=None if kinds else "no layers",
        remedy=f"did you mean {guess!r}?"
        if guess
        else f"{'name one of these layers, or ' if kinds else ''}{add}",
    )


def split_version(word: str, kinds: Mapping[str, LayerKind]) -> tuple[str, str | None]:
    """The layer and the version in `LAYER==VERSION`, `LAYER@VERSION` or `LAYER@sha256:DIGEST`.

    The version is None for the name of a layer, which may contain `@`, and for any other word.
    """
    names = {*kinds, *(venvstacks_name(name, kind) for name, kind in kinds.items())}
    found = None if word in names else _WITH_VERSION.fullmatch(word)
    return (found[1], found[2]) if found else (word, None)


def check_single(word: str, found: Sequence[str], place: object) -> None:
    """Raise UsageError if `word` means several layers, where a command works on one."""
    if len(found) > 1:
        raise UsageError(
            f"{word!r} matches several layers",
            file=place,
            expected="the name of one layer",
            found=", ".join(found),
        )


def left_alone(stack: Stack) -> list[Layer]:
    """The layers without a platform of the stack: commands use them only if `--platform` names one.

    A layer with an empty list of platforms is disabled on purpose, and not included.
    """
    return [
        layer
        for layer in stack.layers.values()
        if layer.platforms and not set(layer.platforms) & set(stack.platforms)
    ]


def _named(stack: Stack, word: str, wanted: Sequence[Platform]) -> list[Layer]:
    """The layers that `word` names, at least one of which is made for the platforms `wanted`."""
    found = find_layers(stack, word)
    platforms = wanted or stack.platforms
    if len(found) == 1:
        _check_platforms(found[0], platforms, all_of=bool(wanted))
    elif not any(platform in layer.platforms for layer in found for platform in platforms):
        raise UsageError(
            f"no layer that {word!r} matches is made for {', '.join(platforms)}",
            file=stack.path,
            found=", ".join(layer.name for layer in found),
        )
    return found


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
