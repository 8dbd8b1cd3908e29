"""Asking uv which distributions meet a set of requirements.

uv runs as a subprocess that sees none of the host's settings: no UV_* or
PIP_* variable and no configuration file but the one written for the question.
Proxies, certificates and the user's netrc stay in force.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from dataclasses import dataclass, field, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from threading import Semaphore
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote, urlsplit

from stackbuild.lock.indexes import without_credentials, without_secrets

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Mapping

    from packaging.utils import NormalizedName
    from packaging.version import Version

    from stackbuild.lock.indexes import IndexSettings
    from stackbuild.lock.targets import Target
    from stackbuild.workspace import Workspace

_KEPT_VARIABLES = frozenset(
    {
        "ALL_PROXY", "HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY",
        "SSL_CERT_FILE", "SSL_CERT_DIR", "SSL_CLIENT_CERT", "NETRC",
        "HOME", "PATH", "TMPDIR", "TEMP", "TMP",
        "SYSTEMROOT", "SYSTEMDRIVE", "USERPROFILE", "APPDATA", "LOCALAPPDATA", "PROGRAMDATA",
    }
)  # fmt: skip
_RUNS_PER_PROCESSOR = 4
"""uv mostly waits for the index, so that more runs than processors pay."""
_OUTPUT = "pylock.answer.toml"


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """What uv is asked."""

    layer: str
    requirements: tuple[str, ...]
    target: Target
    indexes: IndexSettings
    constraints: Mapping[NormalizedName, Version] = field(default_factory=dict)
    """Versions that no other may take the place of."""
    preferences: Mapping[NormalizedName, Version] = field(default_factory=dict)
    """Versions to take where nothing speaks against them."""
    no_deps: bool = False
    every_file: bool = False
    """Tell the wheels for all platforms instead of the best one for the target."""
    refresh: bool = False
    """Ask the indexes anew, whatever they allow to be remembered."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """A distribution that uv chose, and a wheel of it."""

    name: NormalizedName
    version: Version
    file: str
    url: str
    """Without credentials."""
    sha256: str | None
    size: int | None
    """In bytes, where the index tells."""


class UnresolvableError(Exception):
    """uv found no answer; `text` is what it says, without secrets."""

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self.text = text

    @property
    def flat(self) -> str:
        """The text on one line, for searching."""
        return " ".join(self.text.split())


def project_name(layer: str) -> str:
    """The name that a layer has in uv's messages, which no distribution has."""
    return "layer-" + re.sub(r"[^a-z0-9]+", "-", layer.lower()).strip("-")


class Uv:
    """Runs uv, a few at a time. Safe in any thread."""

    def __init__(self, workspace: Workspace) -> None:
        import uv

        self._executable = uv.find_uv_bin()
        self._cache = workspace.uv
        self._slots = Semaphore(_RUNS_PER_PROCESSOR * workspace.jobs)

    def ask(self, question: Question) -> list[Found]:
        """The wheels of the distributions that answer `question`, sorted by name.

        Raises UnresolvableError when there is no answer.
        """
        while True:
            try:
                found = self._run(question)
                missed = _unbound(question, [item.name for item in found])
                if not missed:
                    return found
            except UnresolvableError as error:
                missed = _unbound(question, re.findall(r"[a-z0-9._-]+", error.text))
                if not missed:
                    raise
            # uv heeds the index of a distribution only where it is required directly.
            question = replace(question, requirements=(*question.requirements, *missed))

    def _run(self, question: Question) -> list[Found]:
        with TemporaryDirectory(prefix="stackbuild-uv-") as name, self._slots:
            directory = Path(name)
            _write_question(question, directory)
            result = subprocess.run(
                self._command(question),
                cwd=directory,
                env=_environment() | question.target.uv_environment,
                stdin=subprocess.DEVNULL,
                capture_output=True,
                encoding="utf-8",
                errors="replace",
                check=False,
            )
            if result.returncode != 0:
                text = without_secrets(result.stderr.strip())
                raise UnresolvableError(text or f"uv ended with status {result.returncode}")
            return _read_answer(directory / _OUTPUT)

    def _command(self, question: Question) -> list[str]:
        words = [self._executable, "pip", "compile", "pyproject.toml"]
        words += ["--config-file", "uv.toml", "--constraints", "constraints.txt"]
        words += ["--output-file", _OUTPUT, "--format", "pylock.toml"]
        words += ["--python-version", str(question.target.python)]
        platform = ["--python-platform", question.target.uv_platform]
        words += ["--universal"] if question.every_file else platform
        # Any interpreter does, since version and platform are given; looking for
        # one of the version takes ten times as long as the resolution itself.
        words += ["--python", sys.executable, "--no-python-downloads"]
        words += ["--only-binary", ":all:", "--system-certs", "--cache-dir", str(self._cache)]
        words += ["--quiet", "--no-progress", "--no-header", "--color", "never"]
        words += ["--no-deps"] if question.no_deps else []
        words += ["--refresh"] if question.refresh else []
        return words


def _unbound(question: Question, seen: Collection[str]) -> list[str]:
    """The distributions bound to an index that were looked for elsewhere."""
    from packaging.requirements import Requirement
    from packaging.utils import canonicalize_name

    if not question.indexes.sources:
        return []
    direct = {canonicalize_name(Requirement(text).name) for text in question.requirements}
    return sorted((question.indexes.sources.keys() & set(seen)) - direct)


def _environment() -> dict[str, str]:
    return {name: value for name, value in os.environ.items() if name.upper() in _KEPT_VARIABLES}


def _write_question(question: Question, directory: Path) -> None:
    import tomlkit

    tables, _sources = question.indexes.tables(), question.indexes.sources
    settings = {**question.indexes.uv_settings, "index": tables}
    (directory / "uv.toml").write_text(tomlkit.dumps(settings), encoding="utf-8")
    # uv reads `sources` from a project only, and finds their indexes only there.
    project = {
        "project": {
            "name": project_name(question.layer),
            "version": "0",
            "dependencies": list(question.requirements),
        },
        "tool": {
            "uv": {
                # A workspace of its own, so that no directory above is searched for one.
                "workspace": {},
                "index": tables,
                "sources": {
                    name: {"index": index} for name, index in question.indexes.sources.items()
                },
            }
        },
    }
    (directory / "pyproject.toml").write_text(tomlkit.dumps(project), encoding="utf-8")
    pins = "".join(f"{name}=={version}\n" for name, version in question.constraints.items())
    (directory / "constraints.txt").write_text(pins, encoding="utf-8")
    if question.preferences:
        # uv prefers the versions that the output file holds already.
        packages = [
            {"name": name, "version": str(version)}
            for name, version in question.preferences.items()
        ]
        answer = {"lock-version": "1.0", "created-by": "stackbuild", "packages": packages}
        (directory / _OUTPUT).write_text(tomlkit.dumps(answer), encoding="utf-8")


def _read_answer(path: Path) -> list[Found]:
    import tomli

    packages = tomli.loads(path.read_text(encoding="utf-8")).get("packages", [])
    found = [item for package in packages for item in _found(package, path.parent)]
    return sorted(found, key=lambda item: item.name)


def _found(package: dict[str, Any], directory: Path) -> Iterator[Found]:
    from packaging.utils import canonicalize_name
    from packaging.version import Version

    for wheel in package["wheels"]:
        url = wheel.get("url") or (directory / wheel["path"]).resolve().as_uri()
        yield Found(
            name=canonicalize_name(package["name"]),
            version=Version(package["version"]),
            file=wheel.get("name") or unquote(urlsplit(url).path).rpartition("/")[2],
            url=without_credentials(url),
            sha256=wheel.get("hashes", {}).get("sha256"),
            size=wheel.get("size"),
        )
