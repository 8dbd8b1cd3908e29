"""Projects of the repository that requirements name: `[tool.uv.sources]` and ``name @ file:…``."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path, PurePath
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote

import tomli

from stackbuild.files import is_inside, read_regular, why, work_tree
from stackbuild.reading import Item, ReadError, did_you_mean
from stackbuild.spec.model import LOCAL, Setting

if TYPE_CHECKING:
    from collections.abc import Iterator

    from packaging.utils import NormalizedName

    from stackbuild.spec.model import Layer
    from stackbuild.spec.table import Problems, Table

_PROJECT = "pyproject.toml"
_SETUP = ("setup.py", "setup.cfg")
_FORM = "a directory with a pyproject.toml, relative to this file"


def read_project_source(
    entry: Table, name: NormalizedName, directory: Path, names_index: bool
) -> Setting | None:
    """The project that an entry of `[tool.uv.sources]` names, as an address.

    None for an entry that names an index, and after a problem, which is noted.
    """
    path = entry.text("path")
    member = entry.flag("workspace", default=False)
    if entry.flag("editable", default=False):
        entry.problems.add(
            entry.place_of("editable"),
            "not supported: a layer has a copy of the project",
            hint="remove it",
        )
    if names_index + (path is not None) + member > 1:
        entry.problems.add(entry.place, "has several sources", expected="one of them")
        return None
    if member:
        item = Item(entry.place_of("workspace"), str(name))
        found = entry.checked(item, lambda item: _member(item, directory))
        return Setting(f"{LOCAL}{found}", item.place) if found else None
    if path is None:
        return None
    item = Item(entry.place_of("path"), path)
    checked = entry.checked(item, lambda item: as_project(item, name, directory))
    return Setting(f"{LOCAL}{checked}", item.place) if checked else None


def check_local_requirements(layer: Layer, directory: Path, problems: Problems) -> None:
    """Report the requirements of `layer` that name a directory which is no project."""
    from packaging.requirements import Requirement
    from packaging.utils import canonicalize_name

    for setting in _settings_in(layer.settings):
        requirement = setting.value
        if not isinstance(requirement, Requirement) or requirement.url is None:
            continue
        if requirement.url.startswith(LOCAL):
            item = Item(setting.place, local_path(requirement.url))
            try:
                as_project(item, canonicalize_name(requirement.name), directory)
            except ReadError as error:
                problems.note(error)


def local_path(address: str) -> str:
    """The path that ``file:services/orders`` names, normalised, with slashes."""
    return PurePath(os.path.normpath(unquote(address.removeprefix(LOCAL)))).as_posix()


def as_project(item: Item[str], name: NormalizedName, directory: Path) -> str:
    """The path of the project `name`, normalised. Raises ReadError if it is not one."""
    if PurePath(item.value).is_absolute():
        raise item.error("an absolute path, which other machines do not have", _FORM)
    path = directory / item.value
    if not path.is_dir():
        raise item.error("not a directory" if path.exists() else "does not exist", _FORM)
    if not is_of_project(item.value, directory):
        raise item.error(
            "leads out of the project",
            "a path in the directory of this file, or one with .. in its git work tree",
        )
    if not any((path / file).is_file() for file in (_PROJECT, *_SETUP)):
        raise item.error(f"not a project: it has no {_PROJECT}", _FORM)
    actual = _name_of(item, path)
    if actual not in (name, None):
        raise item.error(f"contains another distribution, {actual}", f"a project named {name}")
    return PurePath(os.path.normpath(item.value)).as_posix()


def is_of_project(text: str, directory: Path) -> bool:
    """Whether the path `text`, relative to the project's `directory`, may be published.

    It is in the project with links followed. If it leads out by ``..`` of its own, and not by a
    link, it is in the work tree of the project; without git, it is that path itself.
    """
    path = directory / text
    if is_inside(path, directory):
        return True
    if ".." not in PurePath(text).parts:
        return False
    real = directory.resolve()
    top = work_tree(real)
    return is_inside(path, top) if top else Path(os.path.normpath(real / text)) == path.resolve()


def _member(item: Item[str], directory: Path) -> str:
    """The path of the member `item.value` of the uv workspace around `directory`."""
    top = work_tree(directory) or directory
    above = [one for one in (directory, *directory.parents) if one.is_relative_to(top)]
    for root in above:
        table = _toml(item, root).get("tool", {}).get("uv", {}).get("workspace")
        if isinstance(table, Mapping):
            break
    else:
        raise item.error(
            "there is no workspace",
            f"[tool.uv.workspace] in {_PROJECT} here or above, in this git work tree",
        )
    members = {path for glob in table.get("members", ()) for path in root.glob(str(glob))}
    members -= {path for glob in table.get("exclude", ()) for path in root.glob(str(glob))}
    named = {
        _name_of(item, path): path
        for path in sorted({root, *members})
        if (path / _PROJECT).is_file()
    }
    found = named.get(item.value)  # type: ignore[call-overload]
    if found is None:
        names = [str(name) for name in named if name]
        raise item.error(
            f"no member of the workspace in {root / _PROJECT} has this name",
            f"one of {', '.join(names)}" if names else None,
            did_you_mean(item.value, names),
        )
    return PurePath(os.path.relpath(found, directory)).as_posix()


def _name_of(item: Item[str], path: Path) -> NormalizedName | None:
    """The name in the project's table (PEP 621); None if the build backend knows it only."""
    from packaging.utils import canonicalize_name

    name = _toml(item, path).get("project", {}).get("name")
    return canonicalize_name(name) if isinstance(name, str) else None


def _toml(item: Item[str], directory: Path) -> dict[str, Any]:
    path = directory / _PROJECT
    try:
        return tomli.loads(read_regular(path).decode())
    except FileNotFoundError:
        return {}
    except OSError as error:
        raise item.error(f"{path} {why(error)}") from None
    except (UnicodeDecodeError, tomli.TOMLDecodeError) as error:
        raise item.error(f"{path} is not TOML: {error}") from None


def _settings_in(node: object) -> Iterator[Setting]:
    if isinstance(node, Setting):
        yield node
    elif isinstance(node, Mapping):
        for value in node.values():
            yield from _settings_in(value)
    elif isinstance(node, tuple):
        for value in node:
            yield from _settings_in(value)
