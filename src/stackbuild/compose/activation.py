"""What makes a layer see the layers below it: pyvenv.cfg, links, and code that runs at start.

The code is `sitecustomize_template.py`. Python runs only one `sitecustomize`,
and a directory in `PYTHONPATH` comes before site-packages: there, one of the
user's (as tracing tools bring it) would cut the layer off from all layers
below. So a `.pth` line lets the layer's own be found first, and that one runs
the user's.
"""

from __future__ import annotations

import posixpath
import re
from pathlib import Path
from typing import TYPE_CHECKING

from stackbuild.frames.files import FileContent, Link

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from packaging.version import Version

    from stackbuild.layout import Layout

_TEMPLATE = Path(__file__).with_name("sitecustomize_template.py")
_SETTINGS = re.compile(r"(?<=# stackbuild fills in from here\n).*(?=# to here\n)", re.DOTALL)

_PTH = "zzz_stackbuild.pth"
"""The last of a directory's `.pth` files by name, so that nothing comes before its line."""
_PRECEDENCE = "import sys; sys.path.insert(0, sitedir)\n"
"""`sitedir` is a name in the function of the `site` module that runs the line; the
`.pth` files of namespace packages lean on it too."""


def pyvenv_cfg(name: str, python: Version) -> str:
    """The pyvenv.cfg of the layer `name` (PEP 405).

    It has no `home`: CPython finds the runtime through the link `bin/python`.
    Where that is not enough, `install.home` adds one.
    """
    return f"include-system-site-packages = false\nversion = {python}\nprompt = {name}\n"


def interpreter_links(layout: Layout, runtime_directory: str) -> dict[str, Link]:
    """The links that start the runtime's interpreter in this layer."""
    first = f"{layout.scripts}/python"
    others = (f"{layout.scripts}/python3", f"{layout.scripts}/python{layout.python}")
    target = f"../../{runtime_directory}/{layout.runtime_interpreter}"
    return {first: Link(target), **{path: Link("python") for path in others}}


def site_files(
    layout: Layout,
    runtime_directory: str,
    lower: Sequence[tuple[str, Iterable[str]]],
) -> dict[str, FileContent]:
    """The `sitecustomize.py` of a layer, and the `.pth` that lets it be found first.

    `lower` are the directories of the layers below, nearest first, each with the
    lines of its `.pth` files.
    """
    paths, imports = _lower_paths(layout, lower)
    settings = {
        "SITE_PACKAGES": repr(layout.site_packages),
        "RUNTIME": repr(runtime_directory),
        "INTERPRETER": repr(layout.runtime_interpreter),
        "PATHS: tuple[str, ...]": repr(paths),
        "IMPORTS: tuple[tuple[str, str], ...]": repr(imports),
        "PRECEDENCE": repr(_PTH),
    }
    text = "".join(f"{name} = {value}\n" for name, value in settings.items())
    code = _SETTINGS.sub(lambda _: text, _TEMPLATE.read_text(encoding="utf-8"))
    files = {"sitecustomize.py": code, _PTH: _PRECEDENCE}
    return {
        f"{layout.site_packages}/{name}": FileContent(data=content.encode())
        for name, content in files.items()
    }


def _lower_paths(
    layout: Layout, lower: Sequence[tuple[str, Iterable[str]]]
) -> tuple[tuple[str, ...], tuple[tuple[str, str], ...]]:
    """Paths relative to the root, and lines to execute with the directory they stand in.

    A path that leaves the root has no meaning on another machine and is left out.
    """
    paths: dict[str, None] = {}
    imports: list[tuple[str, str]] = []
    for directory, lines in lower:
        site = f"{directory}/{layout.site_packages}"
        paths[site] = None
        for line in lines:
            text = line.strip()
            if line.startswith(("import ", "import\t")):
                imports.append((site, text))
            elif text and not text.startswith("#"):
                path = posixpath.normpath(posixpath.join(site, text.replace("\\", "/")))
                if not path.startswith(("/", "../")) and ":" not in path:
                    paths[path] = None
    return tuple(paths), tuple(imports)
