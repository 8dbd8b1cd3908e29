"""Run a layer from the sources of its project: a directory of links to them, for PYTHONPATH."""

from __future__ import annotations

import zipfile
from configparser import ConfigParser
from email.parser import BytesHeaderParser
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

import tomli

from stackbuild.errors import InstallError
from stackbuild.files import remove_tree
from stackbuild.lock.current import Locks
from stackbuild.lock.model import ProjectSource
from stackbuild.platforms import host_platform
from stackbuild.spec.select import check_single, find_layers

if TYPE_CHECKING:
    from collections.abc import Iterable

    from stackbuild.lock.model import LockedDistribution
    from stackbuild.messages import Messages
    from stackbuild.spec.model import Stack
    from stackbuild.workspace import Workspace


def link_sources(stack: Stack, workspace: Workspace, word: str, messages: Messages) -> Path:
    """A directory with links to the sources of a layer and those below it; see `api.Project`."""
    found = find_layers(stack, word)
    check_single(word, [layer.name for layer in found], stack.path)
    locks = Locks(stack, workspace)
    links: dict[str, Path] = {}
    for layer in reversed(stack.chain(found[0])):
        links |= {module.name: module for module in layer.modules}
        lock = locks.get(layer.name, host_platform())
        for item in lock.distributions if lock else ():
            if isinstance(item.source, ProjectSource):
                links |= _of_project(item, item.source, stack, workspace, messages)
    directory = workspace.build / ".dev" / found[0].name
    _write_links(directory, links)
    return directory


def _of_project(
    item: LockedDistribution,
    source: ProjectSource,
    stack: Stack,
    workspace: Workspace,
    messages: Messages,
) -> dict[str, Path]:
    """The modules and packages of a project, by name, where its sources are.

    Empty with a warning if its wheel has files that the sources do not have.
    """
    wheel = workspace.wheelhouse / item.wheel.name
    if not wheel.is_file():
        raise InstallError(
            "the wheel of a project is missing, which tells where its modules are",
            distribution=f"{item.name} {item.version}",
            file=wheel,
            remedy="run `stackbuild fetch --platform host`",
        )
    with zipfile.ZipFile(wheel) as archive:
        names = [PurePosixPath(name) for name in archive.namelist() if not name.endswith("/")]
        if _is_outdated(archive, stack.directory / source.path):
            messages.warn(
                f"{source.path}/pyproject.toml has other dependencies or entry points than the"
                f" wheel of {item.name}: run `stackbuild lock && stackbuild build`"
            )
    modules = [name for name in names if not name.parts[0].endswith((".dist-info", ".data"))]
    project = stack.directory / source.path
    top = next(
        (one for one in _tops(project) if all((one / name).is_file() for name in modules)), None
    )
    if top is None:
        tops = [one for one in _tops(project) if any((one / name).is_file() for name in modules)]
        absent = [name for name in modules if not any((one / name).is_file() for one in tops)]
        messages.warn(
            f"{item.name} runs from its wheel and not from {source.path}, which does not have"
            f" {', '.join(map(str, absent[:3])) or 'its files in one directory'}"
        )
        return {}
    return {name.parts[0]: top / name.parts[0] for name in modules}


def _is_outdated(archive: zipfile.ZipFile, project: Path) -> bool:
    """Whether pyproject.toml (PEP 621) has other dependencies or entry points than its wheel."""
    from packaging.requirements import Requirement

    try:
        table = tomli.loads((project / "pyproject.toml").read_text(encoding="utf-8"))["project"]
        groups = {
            "console_scripts": table.get("scripts", {}),
            "gui_scripts": table.get("gui-scripts", {}),
            **table.get("entry-points", {}),
        }
        given = {(group, key, one) for group in groups for key, one in groups[group].items()}
        needed = {Requirement(text) for text in table.get("dependencies", [])}
        dynamic = {*table.get("dynamic", [])}
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return False  # Its build backend knows them only, or `stackbuild lock` reports it.
    files = {name.partition(".dist-info/")[2]: name for name in archive.namelist()}
    headers = BytesHeaderParser().parsebytes(archive.read(files["METADATA"]))
    required = map(Requirement, headers.get_all("Requires-Dist", []))
    points = ConfigParser(delimiters=("=",), interpolation=None)
    points.optionxform = str  # type: ignore[assignment,method-assign]  # case matters
    if file := files.get("entry_points.txt"):
        points.read_string(archive.read(file).decode())
    made = {(group, key, one) for group in points.sections() for key, one in points[group].items()}
    is_free = dynamic.isdisjoint({"scripts", "gui-scripts", "entry-points"})
    return (is_free and given != made) or (
        "dependencies" not in dynamic
        and needed != {one for one in required if "extra ==" not in str(one.marker)}
    )


def _tops(project: Path) -> Iterable[Path]:
    """The directories that the modules of a project may be in."""
    inner = sorted(path for path in project.iterdir() if path.is_dir()) if project.is_dir() else []
    return [project / "src", project, *inner]


def _write_links(directory: Path, links: dict[str, Path]) -> None:
    """Make `directory` contain these links and nothing else. Links that are right stay."""
    directory.mkdir(parents=True, exist_ok=True)
    for path in directory.iterdir():
        if path.name not in links and path.is_symlink():
            path.unlink()
        elif path.name not in links:
            remove_tree(path)
    for name, target in links.items():
        link = directory / name
        if link.is_symlink() and link.readlink() == target:
            continue
        link.unlink(missing_ok=True)
        try:
            link.symlink_to(target, target_is_directory=target.is_dir())
        except OSError as error:
            raise InstallError(
                f"a link to the sources cannot be made ({error.strerror})",
                file=link,
                remedy="allow this account to make links (on Windows, turn on the developer mode)",
            ) from error
