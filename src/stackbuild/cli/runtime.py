"""`stackbuild runtime`: archives of interpreters for a mirror."""

from __future__ import annotations

from typing import TYPE_CHECKING

from stackbuild.api import pack_interpreter
from stackbuild.cli.console import Console
from stackbuild.cli.options import add_value
from stackbuild.cli.output import print_lines

if TYPE_CHECKING:
    import argparse

DESCRIPTION = """\
Pack the CPython in PATH (an interpreter, or the prefix it is installed in) into
a relocatable archive, with the layout and the name of python-build-standalone's
`install_only` archives, and a .sha256 file beside it. Test suites, static
libraries, pip and setuptools are left out.

The operating system's Python on Linux (/usr/bin/python3) can be packed, too. The
packed interpreter looks for distributions in its own site-packages, not in /usr.
`python -m venv` installs pip if the system has the wheel of pip (Debian, Ubuntu:
the package python3-venv).

Copy the printed lines into venvstacks.toml, with the name of your runtime in place
of cpython-X.Y; `stackbuild lock` then locks the archive. Archives of
python-build-standalone need no such entry: put them into the same directory, below
the release's tag, and set its address as `mirror` of the runtime or in
PBS_INSTALLER_BASE_URL.
"""
EXAMPLE = """\
Examples:
  stackbuild runtime pack ~/.pyenv/versions/3.12.1 --to /srv/interpreters
  stackbuild runtime pack /usr/bin/python3 --to /srv/interpreters
"""


def configure(parser: argparse.ArgumentParser) -> None:
    """Describe the arguments of `runtime`."""
    actions = parser.add_subparsers(dest="action", metavar="ACTION", required=True)
    pack = actions.add_parser(
        "pack",
        help="pack an interpreter of this machine into an archive",
        description=DESCRIPTION,
        epilog=EXAMPLE,
        formatter_class=parser.formatter_class,
        allow_abbrev=False,
    )
    add_value(pack, "path", "PATH", "an interpreter or its prefix")
    add_value(pack, "--to", "MIRROR", "the directory of the mirror", required=True)


def run(arguments: argparse.Namespace) -> int:
    """Pack, and print the lines for the spec."""
    packed = pack_interpreter(arguments.path, arguments.to, messages=Console(quiet=arguments.quiet))
    print_lines(
        (
            str(packed.path),
            "",
            "# For venvstacks.toml. Use the name that your runtime has there. If the mirror is",
            "# served over HTTP, use its address instead of file://…",
            *packed.setting.splitlines(),
        )
    )
    return 0
