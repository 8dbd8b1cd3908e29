"""`copy-files`: the files of the project that are copied into a layer."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

from stackbuild.files import is_inside, why
from stackbuild.names import layer_name_fault
from stackbuild.reading import Item, did_you_mean
from stackbuild.spec.model import COPY_FLAGS, COPY_TEXTS, CopyFiles, Setting

if TYPE_CHECKING:
    from collections.abc import Iterable

    from stackbuild.spec.table import Problems, Table

SITE_PACKAGES = "{site-packages}"
"""The placeholder for the directory of distributions, at the beginning of a `to`."""

_DRIVE = re.compile(r"[A-Za-z]:")
_PLACEHOLDER = re.compile(r"\{[^{}]*\}")


def read_copy_files(table: Table, key: str, directory: Path | None) -> tuple[Setting, ...]:
    """The entries of the array at `key`, each a `CopyFiles`.

    Their sources must exist below `directory`; with None that is left to
    `check_copy_files`.
    """
    entries = table.tables(key)
    found = ((entry.place, _entry(entry, directory)) for entry in entries)
    return tuple(Setting(value, place) for place, value in found if value)


def check_directories(names: Iterable[str], overlays: Path, problems: Problems) -> None:
    """Report each directory of `overlays`, for the layers `names`, that is not in the project.

    Builds read it too, as `{packageRoot}`, even if no files are copied from it.
    """
    for name in names:
        # An invalid name is reported elsewhere, and could be an absolute path.
        if not layer_name_fault(name) and not is_inside(overlays / name, overlays.parent):
            problems.add(f"overlays/{name}/", "leads out of the project through a link")


def check_copy_files(entries: Iterable[Setting], directory: Path, problems: Problems) -> None:
    """Report each of `entries` whose source does not exist below `directory`."""
    for entry in entries:
        if isinstance(entry.value, CopyFiles):
            _check_source(f"{entry.place}.from", entry.value, directory, problems)


def _entry(table: Table, directory: Path | None) -> CopyFiles | None:
    texts = {name: table.text(key, required=True) for key, name in COPY_TEXTS.items()}
    flags: dict[str, Any] = {
        name: table.flag(key, default=False) for key, name in COPY_FLAGS.items()
    }
    table.done()
    found: dict[str, Any] = {name: text for name, text in texts.items() if text is not None}
    if "target" in found:
        _check_target(Item(table.place_of("to"), found["target"]), table.problems)
    copy = CopyFiles(**{"source": "", "target": "", **found}, **flags)
    if "source" in found and directory is not None:
        _check_source(table.place_of("from"), copy, directory, table.problems)
    return copy if len(found) == len(texts) else None


def _check_relative(item: Item[str], base: str, problems: Problems) -> bool:
    """Whether `item` is a path below `base`, judged by its text alone."""
    path = item.value
    if "\\" in path:
        problems.add(item.place, "a backslash", expected="/ between directories", found=path)
    elif path.startswith("/") or _DRIVE.match(path):
        problems.add(item.place, "an absolute path", expected=f"one relative to {base}", found=path)
    elif ".." in path.split("/"):
        problems.add(item.place, f"leaves {base}", expected="a path without ..", found=path)
    else:
        return True
    return False


def _check_source(place: str, copy: CopyFiles, directory: Path, problems: Problems) -> None:
    base = f"overlays/{directory.name}/"
    if not _check_relative(Item(place, copy.source), base, problems):
        return
    try:
        real = Path(os.path.realpath(directory / copy.base, strict=True))
    except OSError as error:
        problems.add(place, f"{why(error)} in {base}", found=copy.source)
        return
    if not is_inside(real, directory):
        problems.add(place, f"leads out of {base} through a link", found=copy.source)
    elif (copy.pattern or copy.source.endswith("/")) and not real.is_dir():
        problems.add(place, f"not a directory in {base}", found=copy.source)


def _check_target(item: Item[str], problems: Problems) -> None:
    path = item.value.removeprefix(SITE_PACKAGES)
    placeholder = _PLACEHOLDER.search(path)
    if placeholder:
        problems.add(
            item.place,
            "unknown placeholder, or one that is not at the beginning",
            expected=f"{SITE_PACKAGES} at the beginning, or none",
            found=item.value,
            hint=did_you_mean(placeholder[0], [SITE_PACKAGES]),
        )
    elif path == item.value:
        _check_relative(item, "the layer", problems)
    elif path and not path.startswith("/"):
        problems.add(item.place, f"no / after {SITE_PACKAGES}", found=item.value)
    else:
        _check_relative(Item(item.place, path.lstrip("/")), "the layer", problems)
