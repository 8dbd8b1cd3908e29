"""`stackbuild history`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from stackbuild.api import history
from stackbuild.cli.options import ROOT_HELP, add_shared, path_argument, root_here
from stackbuild.cli.output import print_answer, table

if TYPE_CHECKING:
    import argparse

    from stackbuild.api.types import Generation, InstalledLayer

EXAMPLES = """\
Example:
  stackbuild history ~/envs

A layer is printed with the version that it was published as. `stackbuild rollback` returns to a
generation, and `stackbuild clean --root ~/envs --keep 3` removes older ones.
"""


def configure(parser: argparse.ArgumentParser) -> None:
    """Describe the command's arguments, its help and examples."""
    parser.description = "Print the generations of a root, newest first."
    parser.epilog = EXAMPLES
    text = f"the root {ROOT_HELP}"
    parser.add_argument("root", type=path_argument, nargs="?", metavar="ROOT", help=text)
    add_shared(parser, "--json")


def run(arguments: argparse.Namespace) -> int:
    """Print a line, or a JSON object, for each generation."""
    found = history(root_here(arguments.root))
    rows = [("GENERATION", "CREATED", "", "LAYERS"), *map(_row, found)]
    print_answer(list(map(_object, found)), table(rows), as_json=arguments.json)
    return 0


def _object(generation: Generation) -> dict[str, object]:
    return {
        "generation": generation.number,
        "created": generation.created,
        "current": generation.current,
        "processes": generation.processes,
        "layers": None
        if generation.layers is None
        else [
            {
                "layer": item.manifest.layer,
                "directory": item.manifest.directory,
                "version": item.version,
                "digest": item.manifest.digest,
                "asked": item.asked,
            }
            for item in generation.layers
        ],
    }


def _row(generation: Generation) -> tuple[str, ...]:
    ids = generation.processes or ()
    notes = ["current"] if generation.current else []
    notes += [f"process{'es' * (len(ids) > 1)} {' '.join(map(str, ids))}"] if ids else []
    layers = generation.layers
    return (
        *(str(generation.number), generation.created or "unknown", ", ".join(notes)),
        "damaged" if layers is None else ", ".join(map(_layer, reversed(layers))),
    )


def _layer(item: InstalledLayer) -> str:
    return f"{item.manifest.layer} {item.version or item.manifest.digest[:12]}"
