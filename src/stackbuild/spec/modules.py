"""Launch and support modules of an application: source files of the project itself."""

from __future__ import annotations

import stat
from pathlib import PurePath
from typing import TYPE_CHECKING

from stackbuild.files import is_inside, mode_of, why
from stackbuild.reading import Item

if TYPE_CHECKING:
    from pathlib import Path

    from stackbuild.spec.table import Problems, Table

_TAKEN = "sitecustomize"
"""The module through which a layer finds the layers below it."""


def read_modules(table: Table, directory: Path) -> tuple[Path | None, tuple[Path, ...]]:
    """The launch module and the support modules, which must exist below `directory`.

    They must be in `directory` with links followed, too. A module is a Python
    file, or a directory that is an import package. Names must differ in more
    than case, as some file systems ignore case.
    """
    launch_text = table.text("launch_module")
    launch = launch_text and _module(
        Item(table.place_of("launch_module"), launch_text), directory, table.problems
    )
    if launch and launch.suffix != ".py" and not mode_of(launch / "__main__.py"):
        table.problems.add(
            table.place_of("launch_module"),
            "a package without a __main__.py, which `python -m` needs",
            found=launch_text,
        )
    names = {launch.stem.lower(): table.place_of("launch_module")} if launch else {}
    support = []
    for item in table.texts("support_modules") or ():
        module = _module(item, directory, table.problems)
        if module is None:
            continue
        holder = names.setdefault(module.stem.lower(), item.place)
        if holder != item.place:
            table.problems.add(item.place, f"{holder} has the same module name", found=item.value)
        support.append(module)
    # Their order in the file has no meaning, so it must not change a layer.
    return launch or None, tuple(sorted(support))


def _module(item: Item[str], directory: Path, problems: Problems) -> Path | None:
    if PurePath(item.value).is_absolute():
        problems.add(
            item.place, "an absolute path", expected="one relative to this file", found=item.value
        )
        return None
    path = directory / item.value
    try:
        mode = path.stat().st_mode
    except OSError as error:
        problems.add(item.place, why(error), found=item.value)
        return None
    is_directory = stat.S_ISDIR(mode)
    if not is_directory and not (stat.S_ISREG(mode) and path.suffix == ".py"):
        problems.add(
            item.place, "not a module", expected="a .py file or a directory", found=item.value
        )
    elif not is_inside(path, directory):
        problems.add(item.place, "leads out of the project", found=item.value)
    elif not _import_name(item.value, is_directory).isidentifier():
        problems.add(item.place, "not a name that can be imported", found=item.value)
    elif path.stem.lower() == _TAKEN:
        problems.add(item.place, f"the name {_TAKEN} is reserved by stackbuild", found=item.value)
    else:
        return path
    return None


def _import_name(text: str, is_directory: bool) -> str:
    """The module's name, from the text of its path, so that ``.`` has none."""
    path = PurePath(text)
    return path.name if is_directory else path.stem
