"""`stackbuild fetch`: fill the wheelhouse with the files that the locks name."""

from __future__ import annotations

from typing import TYPE_CHECKING

from stackbuild.api import Project
from stackbuild.cli.console import Console
from stackbuild.cli.options import add_shared, add_value

if TYPE_CHECKING:
    import argparse

EXAMPLES = """\
Files are found by their sha256, in any index that has them. Afterwards
`uv pip install -r layers/LAYER/pylock.PLATFORM.toml` installs the distributions
of that layer, without the layers below it.

Examples:
  stackbuild fetch
  stackbuild fetch --layer atls --platform linux-x64
  stackbuild fetch --index https://mirror.example/simple
"""


def configure(parser: argparse.ArgumentParser) -> None:
    """Describe the arguments of `fetch`."""
    parser.description = "Fill the wheelhouse with the files that the locks name."
    parser.epilog = EXAMPLES
    add_shared(parser, "--spec", "--layer", "--platform")
    text = "look files up in this package index instead of the default one"
    add_value(parser, "--index", "URL", text)


def run(arguments: argparse.Namespace) -> int:
    """Fetch, and print the number of files."""
    console = Console(quiet=arguments.quiet)
    project = Project.load(arguments.spec, messages=console)
    files = project.fetch(arguments.layer, arguments.platform, index=arguments.index)
    console.note(f"{len(files)} files are in {project.wheelhouse}")
    return 0
