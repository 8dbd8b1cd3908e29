"""`stackbuild show`: the layers of the stack as a tree."""

from __future__ import annotations

import sys
from contextlib import suppress
from typing import TYPE_CHECKING

from stackbuild.cli.effective import as_json, effective, overlay_json, overlay_text
from stackbuild.cli.main import add_json_argument, add_spec_argument
from stackbuild.cli.output import print_json, print_lines
from stackbuild.errors import LockError, UsageError
from stackbuild.lock.current import Locks
from stackbuild.resolve.report import describe_conflicts
from stackbuild.spec.model import LayerKind
from stackbuild.spec.policy import on_platform
from stackbuild.spec.reader import load_stack
from stackbuild.spec.select import left_alone, select
from stackbuild.workspace import open_workspace

if TYPE_CHECKING:
    import argparse
    from collections.abc import Iterator

    from stackbuild.lock.model import LayerLock
    from stackbuild.platforms import Platform
    from stackbuild.spec.model import CopyFiles, Layer, Stack

EXAMPLES = """\
Each layer stands below the nearest layer that it stands on. A layer on several
frameworks shows its whole chain, in the order in which it looks for modules.

Examples:
  stackbuild show
  stackbuild show --spec other/venvstacks.toml --json
  stackbuild show --effective atls --platform macosx-aarch64
"""


def configure(parser: argparse.ArgumentParser) -> None:
    """Describe the arguments of `show`."""
    parser.description = "Print the layers of the stack as a tree."
    parser.epilog = EXAMPLES
    add_spec_argument(parser)
    parser.add_argument(
        "--effective",
        metavar="LAYER",
        help="print what the spec says about one layer, shared settings merged in,"
        " and where each value comes from",
    )
    parser.add_argument(
        "--platform",
        metavar="PLATFORM",
        help="with --effective: for this platform; the host's unless given",
    )
    add_json_argument(parser)


def run(arguments: argparse.Namespace) -> int:
    """Print the stack, or the effective settings of a layer."""
    stack = load_stack(arguments.spec)
    if arguments.effective:
        ((layer, platform),) = select(
            stack, [arguments.effective], [arguments.platform or "host"], with_chain=False
        )
        settings = on_platform(layer.settings, platform)
        if arguments.json:
            values = {"layer": layer.name, "platform": platform, "settings": as_json(settings)}
            print_json(values)
        else:
            print_lines(map(_in_encoding, effective(layer, platform, settings)))
        return 0
    if arguments.platform:
        raise UsageError("--platform goes with --effective LAYER")
    locks = Locks(stack, open_workspace(stack.directory, read_only=True))
    if arguments.json:
        print_json(describe(stack, locks))
    else:
        print_lines(map(_in_encoding, tree(stack, locks)))
    return 0


def describe(stack: Stack, locks: Locks) -> dict[str, object]:
    """The stack for a script: plain values that JSON can hold."""
    return {
        "spec": str(stack.path),
        "platforms": list(stack.platforms),
        "layers": [_describe_layer(stack, layer, locks) for layer in stack.layers.values()],
    }


def _describe_layer(stack: Stack, layer: Layer, locks: Locks) -> dict[str, object]:
    return {
        "name": layer.name,
        "kind": layer.kind,
        "python": str(stack.python_version(layer)),
        "chain": [member.name for member in stack.chain(layer)],
        "platforms": {
            platform: _lock_state(layer, platform, locks)[0]
            for platform in layer.platforms
            if platform in stack.platforms
        },
        "requirements": [str(requirement) for requirement in layer.requirements],
        "conflicts": describe_conflicts(_locks_of(stack, layer, locks)),
        "overlays": [
            {"platform": platform, **overlay_json(entry)} for platform, entry in _overlays(layer)
        ],
        "launch_module": str(layer.launch_module) if layer.launch_module else None,
        "support_modules": [str(module) for module in layer.support_modules],
        "versioned": layer.versioned,
    }


def _overlays(layer: Layer) -> Iterator[tuple[Platform | None, CopyFiles]]:
    """Each overlay with its platform; None for all platforms."""
    for entry in layer.copy_files:
        yield None, entry
    for platform, entries in layer.platform_copy_files.items():
        for entry in entries:
            yield platform, entry


def _lock_state(layer: Layer, platform: Platform, locks: Locks) -> tuple[str, str | None]:
    """``locked``, ``not locked``, ``stale`` or ``damaged``, and why for the last two."""
    try:
        if locks.get(layer.name, platform) is None:
            return "not locked", None
        reason = locks.staleness(layer, platform)
    except LockError as error:
        return "damaged", error.message
    return ("locked", None) if reason is None else ("stale", reason)


def _locks_of(stack: Stack, layer: Layer, locks: Locks) -> Iterator[LayerLock]:
    """The locks of `layer` that can be read."""
    for platform in layer.platforms:
        with suppress(LockError):
            if platform in stack.platforms and (lock := locks.get(layer.name, platform)):
                yield lock


def tree(stack: Stack, locks: Locks) -> Iterator[str]:
    """The stack as lines of text, each layer below the nearest one it stands on."""
    yield f"{stack.path} for {', '.join(stack.platforms) or 'no platform'}"
    above: dict[str | None, list[Layer]] = {}
    for layer in stack.layers.values():
        above.setdefault(next(iter(layer.lower), None), []).append(layer)
    # Not recursive, for the depth of a stack is not limited.
    pending = [(layer, "", "") for layer in reversed(above[None])]
    while pending:
        layer, first, rest = pending.pop()
        upper = above.get(layer.name, [])
        yield f"{first}{layer.name} ({_kind(stack, layer)})"
        bar = "│     " if upper else "      "
        for line in _details(stack, layer, locks):
            yield f"{rest}{bar}{line}"
        branches = [(child, f"{rest}├── ", f"{rest}│   ") for child in upper[:-1]] + [
            (child, f"{rest}└── ", f"{rest}    ") for child in upper[-1:]
        ]
        pending += reversed(branches)


def _kind(stack: Stack, layer: Layer) -> str:
    if layer.kind is LayerKind.RUNTIME:
        return f"{layer.kind}, CPython {stack.python_version(layer)}"
    return str(layer.kind)


def _details(stack: Stack, layer: Layer, locks: Locks) -> Iterator[str]:
    """What is worth a line of its own; what is empty is left out."""
    if len(layer.frameworks) > 1:
        yield f"chain: {', '.join(member.name for member in stack.chain(layer))}"
    by_state: dict[tuple[str, str | None], list[str]] = {}
    for platform in layer.platforms:
        if platform not in stack.platforms:
            continue  # commands leave it alone unless it is named
        by_state.setdefault(_lock_state(layer, platform, locks), []).append(platform)
    for (state, reason), platforms in by_state.items():
        yield f"{state}: {', '.join(platforms)}" + (f" ({reason})" if reason else "")
    if layer in left_alone(stack):
        yield f"left alone: made for {', '.join(layer.platforms)}, none of the stack's platforms"
    for text in describe_conflicts(_locks_of(stack, layer, locks)):
        yield f"conflict: {text}"
    if not layer.platforms:
        yield "switched off: its list of platforms is empty"
    if layer.requirements:
        yield f"requirements: {', '.join(map(str, layer.requirements))}"
    for only, entry in _overlays(layer):
        where = f" on {only}" if only else ""
        yield f"overlay: {overlay_text(entry, where)}"


_ASCII = str.maketrans("│├└─", "|+`-")


def _in_encoding(line: str) -> str:
    """`line`, drawn with ASCII where the encoding of stdout lacks what it is drawn with."""
    encoding = sys.stdout.encoding or "utf-8"
    try:
        line.encode(encoding)
    except UnicodeEncodeError:
        return line.translate(_ASCII).encode(encoding, "backslashreplace").decode(encoding)
    return line
