"""An interpreter's archive, unpacked once to be run on this machine."""

from __future__ import annotations

from typing import TYPE_CHECKING

from stackbuild.errors import ComposeError
from stackbuild.layout import layout_for
from stackbuild.platforms import host_platform
from stackbuild.runtimes.tarball import ROOT

if TYPE_CHECKING:
    from pathlib import Path

    from stackbuild.runtimes.model import RuntimeArchive
    from stackbuild.workspace import Workspace


def unpacked_interpreter(archive: RuntimeArchive, workspace: Workspace) -> Path:
    """The interpreter in the cache, out of an archive for the host's platform.

    Raises IntegrityError for a damaged archive, ComposeError when it does not
    run here or is of another minor version than the archive says.
    """
    name = layout_for(host_platform(), archive.version).runtime_interpreter
    directory = workspace.runtimes / "unpacked" / archive.sha256[:32]
    interpreter = directory / ROOT / name
    if not interpreter.is_file():
        _unpack(archive, directory, f"{ROOT}/{name}")
    return interpreter


def _unpack(archive: RuntimeArchive, directory: Path, interpreter: str) -> None:
    from stackbuild.files import atomic_directory, remove_tree
    from stackbuild.runtimes.probe import probe
    from stackbuild.runtimes.tarball import unpack_tarball

    # There without its interpreter: somebody has been at the cache.
    remove_tree(directory)
    with atomic_directory(directory) as work:
        unpack_tarball(archive.path, work)
        facts = probe(work / interpreter)
        if facts is None:
            raise ComposeError(
                "the interpreter of the archive does not run on this machine", file=archive.path
            )
        if facts.version.release[:2] != archive.version.release[:2]:
            raise ComposeError(
                "the archive holds an interpreter of another version",
                file=archive.path,
                expected=f"CPython {archive.version}",
                found=f"CPython {facts.version}",
            )
