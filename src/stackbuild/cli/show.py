"""`stackbuild show`: the layers of the stack as a tree."""

from __future__ import annotations

import sys
from dataclasses import asdict
from typing import TYPE_CHECKING

from stackbuild.api import Project, UsageError
from stackbuild.cli.effective import as_json, effective, overlay_text
from stackbuild.cli.options import add_shared, add_value
from stackbuild.cli.output import grouped, print_answer, table
from stackbuild.errors import quoted
from stackbuild.messages import size_text
from stackbuild.platforms import parse_platform

if TYPE_CHECKING:
    import argparse
    from collections.abc import Iterator, Sequence

    from stackbuild.api.types import FileGroup, LayerDescription, LayerSizes

EXAMPLES = """\
Each layer is shown below the nearest layer that it depends on. For a layer with
several frameworks the whole chain is shown, in the order of module lookup.

Examples:
  stackbuild show
  stackbuild show --spec other/venvstacks.toml --json
  stackbuild show --layer 'app-*'
  stackbuild show --effective atls --platform macosx-aarch64
  stackbuild show --sizes atls
"""


_LARGEST = 15
"""Groups of files that are printed."""
_OF_LOADERS = ("LD_", "DYLD_")
"""How variables begin that change which shared libraries programs load."""


def configure(parser: argparse.ArgumentParser) -> None:
    """Describe the arguments of `show`."""
    parser.description = "Print the layers of the stack as a tree."
    parser.epilog = EXAMPLES
    add_shared(parser, "--spec", "--layer")
    add_value(
        parser,
        "--effective",
        "LAYER",
        "print the settings of one layer, merged with the shared ones,"
        " and where each value comes from",
    )
    add_value(
        parser,
        "--sizes",
        "LAYER",
        "print which distributions, directories and kinds of files of one layer take how many"
        " bytes, to decide on `exclude-files`",
    )
    text = "with --sizes or --effective: the platform (default: this machine's)"
    add_value(parser, "--platform", "PLATFORM", text)
    add_shared(parser, "--json")


def run(arguments: argparse.Namespace) -> int:
    """Print the stack, or the effective settings of a layer."""
    project = Project.load(arguments.spec)
    words = [word for word in ("effective", "sizes", "layer") if getattr(arguments, word)]
    if len(words) > 1:
        first, second = words[:2]
        raise UsageError(
            f"--{first} names its layer", found=f"--{second}", remedy=f"leave out --{second}"
        )
    if arguments.effective:
        layer, platform = arguments.effective, parse_platform(arguments.platform or "host")
        settings = project.settings(layer, platform)
        value = {"layer": layer, "platform": platform, "settings": as_json(settings)}
        lines = effective(layer, platform, settings)
    elif arguments.sizes:
        sizes = project.sizes(arguments.sizes, arguments.platform or "host")
        value, lines = asdict(sizes), _sizes(sizes)
    elif arguments.platform:
        raise UsageError("--platform requires --effective LAYER or --sizes LAYER")
    else:
        layers = project.describe(arguments.layer)
        value = {
            "spec": str(project.spec),
            "platforms": list(project.platforms),
            "layers": [_layer_json(layer) for layer in layers],
        }
        lines = tree(project, layers)
    print_answer(value, map(_in_encoding, lines), as_json=arguments.json)
    return 0


def _sizes(sizes: LayerSizes) -> Iterator[str]:
    yield f"{sizes.layer} on {sizes.platform}: {_size(sizes.total)}"
    if sizes.excluded.files:
        yield f"`exclude-files` leaves out {_size(sizes.excluded)}"
    for pattern in sizes.unused:
        yield f"no file matches a pattern of `exclude-files`: {pattern}"
    for title, groups in (
        ("DISTRIBUTION", sizes.distributions),
        ("DIRECTORY", sizes.directories),
        ("KIND", sizes.kinds),
        ("ARCHIVE", sizes.parts),
    ):
        if not groups:
            continue
        rows = [
            (one.name, str(one.files), size_text(one.installed), size_text(one.compressed))
            for one in groups[:_LARGEST]
        ]
        yield ""
        yield from table([(title, "FILES", "INSTALLED", "COMPRESSED"), *rows])
        if len(groups) > _LARGEST:
            yield f"and {len(groups) - _LARGEST} smaller ones"
    yield ""
    if sizes.archive:
        yield f"the archive is {sizes.archive}; the layers below have archives of their own"
    else:
        command = f"stackbuild publish --layer {quoted(sizes.layer)} --platform {sizes.platform}"
        yield f"bytecode, overlays and interpreters are counted once they are published: {command}"


def _size(group: FileGroup) -> str:
    installed, compressed = size_text(group.installed), size_text(group.compressed)
    return f"{group.files} files, {installed} installed, {compressed} compressed in wheels"


def _layer_json(layer: LayerDescription) -> dict[str, object]:
    return {
        "name": layer.name,
        "kind": layer.kind,
        "python": layer.python_version,
        "chain": layer.chain,
        "platforms": {platform: state for platform, (state, _) in layer.locks.items()},
        "requirements": layer.requirements,
        "platform_requirements": layer.platform_requirements,
        "conflicts": layer.conflicts,
        "overlays": [
            {"platform": platform, **entry.as_entry()} for platform, entry in layer.overlays
        ],
        "environment": {
            platform: {name: asdict(one) for name, one in variables.items()}
            for platform, variables in layer.environment.items()
        },
        "launch_module": layer.launch_module,
        "support_modules": layer.support_modules,
        "versioned": layer.versioned,
        "versions": layer.versions,
        "dynlib_exclude": layer.dynlib_exclude,
        "linux_target": layer.linux_target,
        "macosx_target": layer.macosx_target,
    }


def tree(project: Project, layers: Sequence[LayerDescription]) -> Iterator[str]:
    """The stack as lines of text, each layer below the nearest one it depends on."""
    yield f"{project.spec} for {', '.join(project.platforms) or 'no platform'}"
    above: dict[str | None, list[LayerDescription]] = {}
    for layer in layers:
        above.setdefault(next(iter(layer.chain[1:]), None), []).append(layer)
    # Not recursive, as the depth of a stack is not limited.
    pending = [(layer, "", "") for layer in reversed(above[None])]
    while pending:
        layer, first, rest = pending.pop()
        upper = above.get(layer.name, [])
        version = f", CPython {layer.python_version}" if layer.kind == "runtime" else ""
        yield f"{first}{layer.name} ({layer.kind}{version})"
        bar = "│     " if upper else "      "
        for line in _details(layer):
            yield f"{rest}{bar}{line}"
        branches = [(child, f"{rest}├── ", f"{rest}│   ") for child in upper[:-1]] + [
            (child, f"{rest}└── ", f"{rest}    ") for child in upper[-1:]
        ]
        pending += reversed(branches)


def _details(layer: LayerDescription) -> Iterator[str]:
    """A line for each property that is not empty."""
    if len(layer.chain) > len(("the layer", "a framework", "the runtime")):
        yield f"chain: {', '.join(layer.chain)}"
    by_state: dict[tuple[str, str | None], list[str]] = {}
    for platform, state in layer.locks.items():
        by_state.setdefault(state, []).append(platform)
    for (word, reason), platforms in by_state.items():
        yield f"{word}: {', '.join(platforms)}" + (f" ({reason})" if reason else "")
    yield from _version(layer)
    if layer.platforms and not layer.locks:
        made_for = ", ".join(layer.platforms)
        yield f"not used: made for {made_for}, none of the stack's platforms"
    for text in layer.conflicts:
        yield f"conflict: {text}"
    if not layer.platforms:
        yield "disabled: its list of platforms is empty"
    if layer.requirements:
        yield f"requirements: {', '.join(layer.requirements)}"
    for where, texts in grouped(layer.platform_requirements):
        yield f"requirements on {where}: {texts}"
    yield from _fields(layer)
    for only, entry in layer.overlays:
        where = f" on {only}" if only else ""
        yield f"overlay: {overlay_text(entry, where)}"
    yield from _variables(layer)


def _version(layer: LayerDescription) -> Iterator[str]:
    """The version of a versioned layer, as its directory has it."""
    by_version: dict[int, list[str]] = {}
    for platform, number in layer.versions.items():
        by_version.setdefault(number, []).append(platform)
    if by_version:
        parts = [f"{layer.name}@{one} on {', '.join(on)}" for one, on in by_version.items()]
        alone = f"{layer.name}@{next(iter(by_version))}"
        yield f"version: {alone if len(parts) == 1 else '; '.join(parts)}"


def _fields(layer: LayerDescription) -> Iterator[str]:
    """Fields of venvstacks that are set."""
    if layer.dynlib_exclude:
        yield f"dynlib_exclude: {', '.join(layer.dynlib_exclude)}"
    for key in ("linux_target", "macosx_target"):
        if target := getattr(layer, key):
            yield f"{key}: {target}"


def _variables(layer: LayerDescription) -> Iterator[str]:
    by_text: dict[str, list[str]] = {}
    for platform, variables in layer.environment.items():
        for name, variable in variables.items():
            note = " (changes which libraries are loaded)" if name.startswith(_OF_LOADERS) else ""
            by_text.setdefault(f"{name} {variable}{note}", []).append(platform)
    for text, platforms in by_text.items():
        where = "" if len(platforms) == len(layer.platforms) else f" on {', '.join(platforms)}"
        yield f"environment: {text}{where}"


_ASCII = str.maketrans("│├└─", "|+`-")


def _in_encoding(line: str) -> str:
    """`line`, drawn with ASCII if stdout cannot encode the box characters."""
    encoding = sys.stdout.encoding or "utf-8"
    try:
        line.encode(encoding)
    except UnicodeEncodeError:
        return line.translate(_ASCII).encode(encoding, "backslashreplace").decode(encoding)
    return line
