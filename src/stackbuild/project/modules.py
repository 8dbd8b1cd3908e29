"""Find the files of launch and support modules, and their paths in site-packages."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from stackbuild.errors import ComposeError
from stackbuild.names import path_fault

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from stackbuild.platforms import Platform
    from stackbuild.project.files import ProjectFiles
    from stackbuild.spec.model import Layer


def module_sources(layer: Layer, platform: Platform, files: ProjectFiles) -> dict[str, Path]:
    """The files of `layer`'s modules, by their path in site-packages.

    A link is replaced with its target, which must be in the project. Raises ComposeError for a
    module that is missing, ignored by git, or a link out of the project.
    """
    try:
        return {
            _name(path, module, platform): path
            for module in layer.modules
            for path in _paths(layer, module, files)
        }
    except ComposeError as error:
        raise error.in_layer(layer.name, platform) from error


def _name(path: Path, module: Path, platform: Platform) -> str:
    name = path.relative_to(module.parent).as_posix()
    if fault := path_fault(name, platform.os):
        raise _error(path, fault)
    return name


def _paths(layer: Layer, module: Path, files: ProjectFiles) -> Iterator[Path]:
    is_package = module.is_dir()
    # Only read if it is in the project.
    paths = files.below(module) if is_package and files.may_publish(module, module) else (module,)
    for path in paths:
        if not files.may_publish(path, module):
            raise _error(path, f"is a link out of the project, to {os.path.realpath(path)}")
        if (path.is_symlink() or not is_package) and files.is_ignored(path):
            raise _error(path, "is ignored by git, so it is not published", _ADD)
        if path.is_symlink() and path.is_dir():
            raise _error(path, "is a link to a directory", "copy the directory")
        if not path.is_file():
            raise _error(path, "is missing or is not a file")
        yield path
    main = module / "__main__.py"
    if is_package and module == layer.launch_module and main not in paths:
        raise _error(main, "is ignored by git, so it is not published", _ADD)
    if not paths:
        raise _error(module, "is a directory without published files")


_ADD = "remove it from .gitignore, or add it with `git add --force`"


def _error(file: Path, message: str, remedy: str | None = None) -> ComposeError:
    return ComposeError(f"a module of the layer {message}", file=file, remedy=remedy)
