"""Get the source tree of a wheel and its build backend (PEP 517, PEP 518)."""

from __future__ import annotations

import json
import posixpath
import shutil
import tarfile
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from stackbuild import strictjson
from stackbuild.builds.process import RunError
from stackbuild.errors import IntegrityError, LockError
from stackbuild.lock.projects import digest_of_files, files_of
from stackbuild.project.files import ProjectFiles
from stackbuild.project.git import git_environment

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from stackbuild.builds.process import Runner
    from stackbuild.lock.model import ProjectSource, VcsSource

_WORKER = Path(__file__).with_name("hook_worker.py")


# The contents must not depend on the user's settings, and no program of the user may run.
_GIT_SETTINGS = (
    *("-c", "core.autocrlf=false"),
    *("-c", "core.eol=lf"),
    *("-c", "core.hooksPath=/dev/null"),
    *("-c", "core.fsmonitor=false"),
    *("-c", "advice.detachedHead=false"),
)


def unpack_sdist(archive: Path, to: Path) -> Path:
    """Unpack a source distribution (PEP 517, PEP 721) into `to`; returns its top directory.

    Raises IntegrityError for a damaged archive, and for paths or links out of it or devices.
    """
    to.mkdir(parents=True)
    try:
        if archive.name.endswith(".zip"):
            # zipfile drops the parts of a name that would leave the directory.
            with zipfile.ZipFile(archive) as file:
                for entry in file.infolist():
                    file.extract(entry, to)
        else:
            with tarfile.open(archive) as tar:
                # CPython before 3.11.4 has no filters; there only `_checked` applies.
                tar.extraction_filter = getattr(tarfile, "data_filter", None)
                for member in _checked(tar):
                    tar.extract(member, to)
    except (tarfile.TarError, zipfile.BadZipFile, EOFError, ValueError) as error:
        raise IntegrityError(
            "the source distribution cannot be unpacked", file=archive, found=str(error)
        ) from error
    trees = [path for path in to.iterdir() if path.is_dir()]
    if len(trees) != 1:
        raise IntegrityError(
            "this is not a source distribution",
            file=archive,
            expected="one top directory",
            found=f"{len(trees)} directories",
        )
    return trees[0]


def _checked(tar: tarfile.TarFile) -> Iterator[tarfile.TarInfo]:
    """The members of `tar`. Raises ValueError for one that would be outside the directory."""
    links: set[str] = set()
    for member in tar:
        name = posixpath.normpath(member.name)
        parents = {name[:at] for at, letter in enumerate(name) if letter == "/"}
        target = posixpath.normpath(
            posixpath.join("" if member.islnk() else posixpath.dirname(name), member.linkname)
        )
        if _leaves(name) or parents & links:
            raise ValueError(f"{member.name!r} is outside")
        if (member.issym() or member.islnk()) and _leaves(target):
            raise ValueError(f"{member.name!r} links to {member.linkname!r}")
        if member.isdev():
            raise ValueError(f"{member.name!r} is a device")
        if member.issym():
            links.add(name)
        yield member


def _leaves(path: str) -> bool:
    return path.startswith("/") or path.partition("/")[0] == ".."


def check_out(source: VcsSource, to: Path, runner: Runner) -> Path:
    """Clone a repository with its submodules at the commit; returns the directory to build in.

    Raises RunError if git fails, and LockError if the subdirectory is missing.
    """

    def git(*words: str | Path, directory: Path = to) -> None:
        runner.run(["git", *_GIT_SETTINGS, *words], directory, git_environment())

    # With history, because versions are often derived from tags.
    git("clone", "--no-checkout", "--template=", "--", source.url, to, directory=to.parent)
    try:
        git("cat-file", "-e", f"{source.commit}^{{commit}}")
    except RunError:
        # No branch or tag contains the commit, but the server may still have it.
        git("fetch", "origin", source.commit)
    git("checkout", "--detach", source.commit)
    if (to / ".gitmodules").exists():
        git("submodule", "update", "--init", "--recursive")
    tree = to / source.subdirectory if source.subdirectory else to
    if not tree.is_dir() or not tree.resolve().is_relative_to(to.resolve()):
        raise LockError(
            "the commit does not have the subdirectory",
            file=source.url,
            expected=source.subdirectory,
            found=f"commit {source.commit} without it",
        )
    return tree


def copy_project(source: ProjectSource, project: Path, to: Path) -> Path:
    """Copy the files of `source`, a project in the directory `project`, to `to`; returns `to`.

    Raises LockError if they changed since their digest was computed, and ComposeError if they
    cannot be listed.
    """
    directory = project / source.path
    copies = []
    for path in files_of(source.path, ProjectFiles(project)):
        copy = to / path.relative_to(directory)
        copy.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(path, copy, follow_symlinks=False)
        copies.append(copy)
    if digest_of_files(to, copies) != source.sha256:
        raise LockError(
            "the files of a project changed while it was locked",
            file=directory,
            expected=f"files with the digest {source.sha256}",
            remedy="run `stackbuild lock`",
        )
    return to


@dataclass(frozen=True, slots=True, kw_only=True)
class Backend:
    """The table `build-system` of a `pyproject.toml`."""

    requires: tuple[str, ...]
    name: str
    """Such as ``setuptools.build_meta:__legacy__``."""
    path: tuple[str, ...] = ()


# The defaults of PEP 517 and PEP 518 for a source without backend.
_LEGACY = Backend(requires=("setuptools>=40.8.0",), name="setuptools.build_meta:__legacy__")


def read_backend(tree: Path) -> Backend:
    """The build backend of the source in `tree`. Raises LockError for a wrong `pyproject.toml`."""
    system = _build_system(tree)
    if system is None:
        return _LEGACY
    requires = _texts(system, "requires")
    return Backend(
        # PEP 518 requires the key; without it tools use the defaults for a missing table.
        requires=_LEGACY.requires if requires is None else requires,
        name=str(system.get("build-backend", _LEGACY.name)),
        path=_texts(system, "backend-path") or (),
    )


def state_requires(tree: Path) -> None:
    """Add the default `requires` to a `build-system` table without it in `tree`.

    uv rejects a table without the key. Raises LockError like `read_backend`.
    """
    system = _build_system(tree)
    if not isinstance(system, dict) or "requires" in system:
        return
    import tomlkit

    path = tree / "pyproject.toml"
    document = tomlkit.parse(path.read_text(encoding="utf-8")).unwrap()
    document["build-system"]["requires"] = list(_LEGACY.requires)
    path.write_text(tomlkit.dumps(document), encoding="utf-8")


def _build_system(tree: Path) -> Any:
    """The table `build-system` in `pyproject.toml`, or None."""
    import tomli

    path = tree / "pyproject.toml"
    try:
        return tomli.loads(path.read_text(encoding="utf-8")).get("build-system")
    except FileNotFoundError:
        return None
    except (UnicodeDecodeError, tomli.TOMLDecodeError) as error:
        raise LockError("the source is damaged", file=path.name, found=str(error)) from None


def _texts(table: Any, key: str) -> tuple[str, ...] | None:
    """The array of strings at `key`, or None."""
    if isinstance(table, dict) and key not in table:
        return None
    values = table[key] if isinstance(table, dict) else None
    if not isinstance(values, list) or not all(isinstance(item, str) for item in values):
        raise LockError(
            "the source is damaged",
            file="pyproject.toml",
            expected=f"build-system.{key}: an array of strings",
        )
    return tuple(values)


def ask_backend(
    backend: Backend,
    config_settings: Mapping[str, str | list[str]],
    *,
    python: Path,
    tree: Path,
    environment: Mapping[str, str],
    runner: Runner,
) -> list[str]:
    """The requirements that the backend's hook returns, run with `python`. Raises RunError."""
    answer = tree.parent / "requires.json"
    question = {
        "build-backend": backend.name,
        "backend-path": backend.path,
        "config-settings": config_settings,
    }
    runner.run([python, "-B", _WORKER, json.dumps(question), answer], tree, environment)
    return [str(item) for item in strictjson.read(answer)]
