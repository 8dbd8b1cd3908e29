"""Sources of a distribution that are no index: projects of the repository, and files."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path, PurePath
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote

import tomli

from stackbuild.files import is_inside, read_regular, why, work_tree
from stackbuild.reading import Item, ReadError
from stackbuild.spec.model import LOCAL, Setting

if TYPE_CHECKING:
    from collections.abc import Iterator

    from packaging.requirements import Requirement
    from packaging.utils import NormalizedName
    from packaging.version import Version

    from stackbuild.spec.model import Layer, Stack
    from stackbuild.spec.table import Problems

PROJECT = "pyproject.toml"
_SETUP = ("setup.py", "setup.cfg")
_FORM = "a directory with a pyproject.toml, relative to this file"
_FILE_FORM = "a wheel or source distribution, relative to this file"
_FILES = (".whl", ".tar.gz", ".zip")


def check_local_requirements(layer: Layer, directory: Path, problems: Problems) -> None:
    """Report the requirements of `layer` whose project or file is not in the repository."""
    from packaging.requirements import Requirement

    for setting in _settings_in(layer.settings):
        requirement = setting.value
        if not isinstance(requirement, Requirement) or requirement.url is None:
            continue
        if requirement.url.startswith(LOCAL):
            item = Item(setting.place, local_path(requirement.url))
            try:
                as_local(item, canonical_name(requirement), directory)
            except ReadError as error:
                problems.note(error)


def direct_files(stack: Stack, layer: Layer) -> dict[str, str]:
    """The files that requirements of `layer` name on any platform: file name to full address."""
    policies = layer.policies.values()
    requirements = [*layer.requirements, *(one for it in policies for one in it.dependencies)]
    urls = [*(one.url for one in requirements if one.url), *stack.sources.values()]
    return {
        file: (stack.directory / local_path(url)).resolve().as_uri()
        if url.startswith(LOCAL)
        else url.partition("#")[0]
        for url in urls
        if (file := file_in(url))
    }


def local_path(address: str) -> str:
    """The path that ``file:services/orders`` names, normalised, with slashes."""
    return PurePath(os.path.normpath(unquote(address.removeprefix(LOCAL)))).as_posix()


def canonical_name(requirement: Requirement) -> NormalizedName:
    """The normalised name of the distribution that `requirement` is on."""
    from packaging.utils import canonicalize_name

    return canonicalize_name(requirement.name)


def file_in(address: str) -> str | None:
    """The name of the wheel or source distribution that an address names, if it is of one."""
    name = unquote(address.partition("#")[0].rpartition("/")[2].removeprefix(LOCAL))
    return name if name.endswith(_FILES) and not address.startswith("git+") else None


def check_file_name(item: Item[str], name: NormalizedName) -> Version:
    """The version in the name of a wheel or source distribution of `name`. Raises ReadError."""
    from packaging.utils import (
        InvalidSdistFilename,
        InvalidWheelFilename,
        parse_sdist_filename,
        parse_wheel_filename,
    )

    file = item.value
    try:
        if file.endswith(".whl"):
            actual, version = parse_wheel_filename(file)[:2]
        else:
            actual, version = parse_sdist_filename(file)
    except (InvalidSdistFilename, InvalidWheelFilename):
        raise item.error("not the file name of a wheel or source distribution") from None
    if actual != name:
        raise item.error(f"a file of another distribution, {actual}", f"one of {name}")
    return version


def as_local(item: Item[str], name: NormalizedName, directory: Path) -> str:
    """The path of the project `name`, or of a file of it, normalised. Raises ReadError."""
    file = file_in(item.value)
    form = _FILE_FORM if file else _FORM
    if PurePath(item.value).is_absolute():
        raise item.error("an absolute path, which other machines do not have", form)
    path = directory / item.value
    if not (path.is_file() if file else path.is_dir()):
        wrong = "not a file" if file else "not a directory"
        raise item.error(wrong if path.exists() else "does not exist", form)
    if not is_of_project(item.value, directory):
        raise item.error(
            "leads out of the project",
            "a path in the directory of this file, or one with .. in its git work tree",
        )
    if file:
        check_file_name(Item(item.place, file), name)
    elif not any((path / one).is_file() for one in (PROJECT, *_SETUP)):
        raise item.error(f"not a project: it has no {PROJECT}", form)
    elif (actual := name_of(item, path)) not in (name, None):
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


def name_of(item: Item[str], path: Path) -> NormalizedName | None:
    """The name in the project's table (PEP 621); None if the build backend knows it only."""
    from packaging.utils import canonicalize_name

    name = table_in(toml_of(item, path), "project").get("name")
    return canonicalize_name(name) if isinstance(name, str) else None


def table_in(value: object, *keys: str) -> Mapping[str, Any]:
    """The table at `keys` in `value`, empty if it is missing or no table."""
    for key in keys:
        value = value.get(key) if isinstance(value, Mapping) else None
    return value if isinstance(value, Mapping) else {}


def toml_of(item: Item[str], directory: Path) -> dict[str, Any]:
    """The `pyproject.toml` in `directory`; empty if it is missing. Raises ReadError."""
    path = directory / PROJECT
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
