"""`[tool.uv.sources]`: the index, project, commit or file that a distribution comes from."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import PurePath
from typing import TYPE_CHECKING
from urllib.parse import quote

from stackbuild.files import work_tree
from stackbuild.reading import Item, did_you_mean
from stackbuild.spec.model import LOCAL, Setting
from stackbuild.spec.sources import PROJECT, as_local, name_of, table_in, toml_of
from stackbuild.spec.values import as_distribution, as_index, as_layer_requirement

if TYPE_CHECKING:
    from collections.abc import Collection
    from pathlib import Path
    from typing import Any

    from packaging.utils import NormalizedName

    from stackbuild.spec.table import Table

_BY_PLATFORM = (
    "write the platforms of an index into `index-platforms` of [tool.stackbuild], and a requirement"
    " with an address into `platform-specific.<platform>.dependencies` of the layer"
)
_SUBDIRECTORY = "name the repository of the archive with `git`"
_SOURCES = ("index", "path", "workspace", "git", "url")
_REVISIONS = ("rev", "tag", "branch")
_OF_GIT = (*_REVISIONS, "subdirectory")


def read_sources(
    table: Table, names: Collection[str], directory: Path
) -> tuple[dict[NormalizedName, Setting], dict[NormalizedName, str]]:
    """The indexes and the projects that `sources` names."""
    sources: dict[NormalizedName, Setting] = {}
    projects: dict[NormalizedName, str] = {}
    entries = table.part("sources")
    for key, name in entries.names(as_distribution):
        if isinstance(entries.values.get(key), list):
            entries.refuse(key, "several sources are not supported", hint=_BY_PLATFORM)
            continue
        entry = entries.table(key)
        if entry is None:
            continue
        index = entry.word("index", as_index(names))
        remote = sum(map(entry.has, ("index", "git", "url")))
        project = _project_source(entry, name, directory, remote) or _remote(entry, name)
        known = {*_SOURCES, "editable", "marker", *(_OF_GIT if entry.has("git") else ())}
        entry.refuse("marker", "not supported", hint=_BY_PLATFORM)
        if entry.has("url"):
            entry.refuse("subdirectory", "not supported with url", hint=_SUBDIRECTORY)
            known.add("subdirectory")
        for other in entry.values.keys() - known:
            entry.refuse(other, f"not supported yet; a source can have {', '.join(_SOURCES)}")
        if not entry.values:
            entry.missing("index", f"one of {', '.join(_SOURCES)}")
        if index is not None:
            sources[name] = Setting(index, entry.place_of("index"))
        if project is not None:
            projects[name] = str(project.value)
    return sources, projects


def _remote(entry: Table, name: NormalizedName) -> Setting | None:
    """What `git` or `url` of an entry names, as the address of a requirement."""
    git, address = entry.text("git"), entry.text("url")
    if git is not None:
        revisions = [text for key in _REVISIONS if (text := entry.text(key))]
        if len(revisions) > 1:
            entry.problems.add(entry.place, "has several revisions", expected="one of them")
        path = entry.text("subdirectory")
        address = "@".join([f"git+{git.removeprefix('git+')}", *revisions[:1]])
        address += f"#subdirectory={quote(path)}" if path else ""
    if address is None:
        return None
    item = Item(entry.place_of("url" if git is None else "git"), f"{name} @ {address}")
    checked = entry.checked(item, as_layer_requirement)
    return Setting(checked.url, item.place) if checked else None


def _project_source(
    entry: Table, name: NormalizedName, directory: Path, others: int
) -> Setting | None:
    """The project or file that an entry of `[tool.uv.sources]` names, as an address.

    None for an entry with one of the `others`, and after a problem, which is noted.
    """
    path = entry.text("path")
    member = entry.flag("workspace", default=False)
    if entry.flag("editable", default=False):
        entry.problems.add(
            entry.place_of("editable"),
            "not supported: a layer has a copy of the project",
            hint="remove it",
        )
    if others + (path is not None) + member > 1:
        entry.problems.add(entry.place, "has several sources", expected="one of them")
        return None
    if member:
        item = Item(entry.place_of("workspace"), str(name))
        found = entry.checked(item, lambda item: _member(item, directory))
        return Setting(f"{LOCAL}{quote(found)}", item.place) if found else None
    if path is None:
        return None
    item = Item(entry.place_of("path"), path)
    checked = entry.checked(item, lambda item: as_local(item, name, directory))
    return Setting(f"{LOCAL}{quote(checked)}", item.place) if checked else None


def _member(item: Item[str], directory: Path) -> str:
    """The path of the member `item.value` of the uv workspace around `directory`."""
    top = work_tree(directory) or directory
    above = [one for one in (directory, *directory.parents) if one.is_relative_to(top)]
    for root in above:
        table = table_in(toml_of(item, root), "tool", "uv").get("workspace")
        if isinstance(table, Mapping):
            break
    else:
        raise item.error(
            "there is no workspace",
            f"[tool.uv.workspace] in {PROJECT} here or above, in this git work tree",
        )
    members = _matching(item, root, table, "members") - _matching(item, root, table, "exclude")
    named = {
        name_of(item, path): path for path in sorted({root, *members}) if (path / PROJECT).is_file()
    }
    found = named.get(item.value)  # type: ignore[call-overload]
    if found is None:
        names = [str(name) for name in named if name]
        raise item.error(
            f"no member of the workspace in {root / PROJECT} has this name",
            f"one of {', '.join(names)}" if names else None,
            did_you_mean(item.value, names),
        )
    return PurePath(os.path.relpath(found, directory)).as_posix()


def _matching(item: Item[str], root: Path, table: Mapping[str, Any], key: str) -> set[Path]:
    """What the patterns in the array `key` of the workspace in `root` match."""
    patterns = table.get(key, [])
    try:
        if isinstance(patterns, list):
            return {path for pattern in patterns for path in root.glob(pattern)}
    except (TypeError, ValueError, NotImplementedError):
        pass
    place = f"`{key}` of [tool.uv.workspace] in {root / PROJECT}"
    raise item.error(f"{place} is not an array of relative patterns such as 'libs/*'")
