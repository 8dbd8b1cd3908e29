"""Resolves requirements with uv.

uv runs as a subprocess without the host's settings: no UV_* or PIP_* variable,
and no configuration file except the one written for the request. Proxies,
certificates and the user's netrc still apply.
"""

from __future__ import annotations

import math
import subprocess
import sys
from contextlib import suppress
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from threading import Semaphore, Thread
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote, urlsplit

from stackbuild.lock.index_pages import IndexPages
from stackbuild.lock.indexes import default_index, without_secrets
from stackbuild.processes import uv_environment
from stackbuild.resolve.request import ANSWER, Found, name_of, write_request
from stackbuild.transport.urls import without_credentials
from stackbuild.workspace import prepare_cache

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence

    from packaging.utils import NormalizedName
    from packaging.version import Version

    from stackbuild.lock.targets import Target
    from stackbuild.resolve.request import ResolveRequest
    from stackbuild.workspace import Workspace

_RUNS_PER_PROCESSOR = 3
"""uv mostly waits for the index, so more runs than processors are useful. With four, a DNS
resolver was seen to drop requests, after which uv waits 5 s."""
_NO_ANSWER = 1
"""uv's exit code if requirements cannot be met; it is 2 for other failures."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ResolveResult:
    """The resolution."""

    found: Sequence[Found]
    """Sorted by name."""
    excluded: Collection[NormalizedName] = ()
    """The request's stubs that are required."""
    met: Mapping[NormalizedName, Version] = field(default_factory=dict)
    """The request's built distributions that are required."""

    @property
    def versions(self) -> dict[NormalizedName, Version]:
        """The version of each distribution."""
        return {item.name: item.version for item in self.found} | dict(self.met)


class UnresolvableError(Exception):
    """uv found no solution; `text` is its error text, without secrets.

    `answered` is True if the requirements cannot be met. If it is False, uv
    failed: no network, no permission, or a file that it cannot read.
    """

    def __init__(self, text: str, *, answered: bool) -> None:
        super().__init__(text)
        self.text = text
        self.answered = answered

    @property
    def flat(self) -> str:
        """The text on one line."""
        return " ".join(self.text.split()).removeprefix("error: ")


class Uv:
    """Runs a few uv processes at a time. Thread-safe."""

    def __init__(self, workspace: Workspace) -> None:
        """Raises StackbuildError if uv's cache is not writable."""
        import uv

        self._executable = uv.find_uv_bin()
        self._cache = workspace.uv
        prepare_cache(self._cache)
        self._slots = Semaphore(_RUNS_PER_PROCESSOR * workspace.jobs)
        self._default_index = partial(default_index, self._cache)
        self.pages = IndexPages(default=self._default_index)
        """The pages of the indexes, read without uv."""

    def start(self) -> None:
        """Ask uv for its default index in the background; the first request waits for it.

        On an empty cache, uv also examines the interpreter then.
        """

        def ask() -> None:
            # A request that needs it asks again, and reports the failure.
            with suppress(OSError):
                self._default_index()

        Thread(target=ask, daemon=True).start()

    def ask(self, request: ResolveRequest) -> ResolveResult:
        """Resolve `request`.

        If the cached pages of the indexes give no solution, the indexes are asked
        again. Raises UnresolvableError if there is no solution.
        """
        try:
            return self._ask(request)
        except UnresolvableError as error:
            if request.refresh or not error.answered:
                raise
        return self._ask(replace(request, refresh=True))

    def solves(self, request: ResolveRequest) -> bool:
        """Whether `request` has a solution, by the pages in uv's cache."""
        try:
            self._ask(request)
        except UnresolvableError:
            return False
        return True

    def _ask(self, request: ResolveRequest) -> ResolveResult:
        fixed = self._fixed(request)
        while True:
            unbound = _unbound(request)
            try:
                answer = self._run(request, fixed)
                needed = [item.name for item in answer.found if item.name in unbound]
                if not needed:
                    return answer
            except UnresolvableError:
                if not unbound or not (needed := self._needed(request, fixed, unbound)):
                    raise
            # uv applies the index of a distribution only if it is required directly.
            request = replace(request, requirements=(*request.requirements, *needed))

    def _needed(
        self,
        request: ResolveRequest,
        fixed: Mapping[NormalizedName, Found],
        names: Collection[NormalizedName],
    ) -> list[NormalizedName]:
        """The `names` that are required, if stubs replace them."""
        without = replace(request, excluded={*request.excluded, *names})
        try:
            return [name for name in self._run(without, fixed).excluded if name in names]
        except UnresolvableError:
            return []

    def _fixed(self, request: ResolveRequest) -> dict[NormalizedName, Found]:
        """The wheels of overridden distributions that are bound to an index.

        uv looks an override up in every index except that one, so it needs the
        address of the wheel.
        """
        bound = request.overrides.keys() & request.indexes.sources.keys()
        requirements = [f"{name}{request.overrides[name]}" for name in sorted(bound)]
        if not requirements:
            return {}
        alone = replace(
            request, requirements=tuple(requirements), overrides={}, excluded=(), no_deps=True
        )
        return {item.name: item for item in self.ask(alone).found}

    def _run(self, request: ResolveRequest, fixed: Mapping[NormalizedName, Found]) -> ResolveResult:
        with TemporaryDirectory(prefix="stackbuild-uv-") as name, self._slots:
            directory = Path(name)
            write_request(request, self.index_tables(request), fixed, directory)
            _execute(self._command(request), directory, request.target)
            return _read_answer(directory / ANSWER, request, fixed)

    def index_tables(self, request: ResolveRequest) -> list[dict[str, object]]:
        """The `[[index]]` tables for uv, including its default index."""
        default = None if request.indexes.has_default else self._default_index()
        return request.indexes.tables(default=default, refresh=request.refresh)

    def _command(self, request: ResolveRequest) -> list[str]:
        words = [self._executable, "pip", "compile", "pyproject.toml"]
        words += ["--config-file", "uv.toml", "--constraints", "constraints.txt"]
        words += ["--overrides", "overrides.txt"]
        words += ["--python-version", str(request.target.python)]
        words += ["--python-platform", request.target.uv_platform]
        # Any interpreter works, as version and platform are given. Searching one of the
        # version takes ten times as long as the resolution.
        words += ["--python", sys.executable, "--no-python-downloads"]
        words += ["--system-certs", "--cache-dir", str(self._cache)]
        words += ["--quiet", "--no-progress", "--no-header", "--color", "never"]
        words += ["--only-binary", ":all:"]
        words += [word for name in sorted(request.from_source) for word in ("--no-binary", name)]
        words += ["--no-deps"] if request.no_deps else []
        words += ["--refresh"] if request.refresh else []
        return [*words, "--output-file", ANSWER, "--format", "pylock.toml"]


def _execute(command: list[str], directory: Path, target: Target) -> None:
    result = subprocess.run(
        command,
        cwd=directory,
        env=uv_environment() | target.uv_environment,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        encoding="utf-8",
        errors="replace",
        check=False,
    )
    if result.returncode != 0:
        text = without_secrets(result.stderr.strip())
        raise UnresolvableError(
            text or f"uv failed with exit code {result.returncode}",
            answered=result.returncode == _NO_ANSWER,
        )


def _unbound(request: ResolveRequest) -> frozenset[NormalizedName]:
    """The distributions bound to an index that uv does not apply yet."""
    direct = set(map(name_of, request.requirements))
    settled = direct | request.overrides.keys() | request.built.keys() | {*request.excluded}
    return frozenset(request.indexes.sources.keys() - settled)


def _read_answer(
    path: Path, request: ResolveRequest, fixed: Mapping[NormalizedName, Found]
) -> ResolveResult:
    import tomli
    from packaging.utils import canonicalize_name

    found: list[Found] = []
    excluded: list[NormalizedName] = []
    met: dict[NormalizedName, Version] = {}
    for package in tomli.loads(path.read_text(encoding="utf-8")).get("packages", []):
        name = canonicalize_name(package["name"])
        if name in request.excluded:
            excluded.append(name)
        elif name in request.built:
            met[name] = request.built[name].version
        elif name in fixed:
            found.append(fixed[name])
        else:
            found.append(_found(package, path.parent, request))
    found.sort(key=lambda item: item.name)
    return ResolveResult(found=found, excluded=sorted(excluded), met=met)


def _found(package: dict[str, Any], directory: Path, request: ResolveRequest) -> Found:
    """The source distribution, or the best wheel. uv may also list one for any platform."""
    from packaging.utils import canonicalize_name
    from packaging.version import Version

    name = canonicalize_name(package["name"])
    files: list[dict[str, Any]] = (
        [package["sdist"]] if name in request.from_source else package["wheels"]
    )
    named = {}
    for file in files:
        url = file.get("url") or (directory / file["path"]).resolve().as_uri()
        file_name = file.get("name") or unquote(urlsplit(url).path).rpartition("/")[2]
        # uv also lists the file of that name in an index, but reads the local one.
        if file_name not in named or "path" in file:
            named[file_name] = (file, url)
    best = min(named, key=lambda file_name: _rank(file_name, request))
    file, url = named[best]
    url = request.added[best].as_uri() if best in request.added else url
    return Found(
        name=name,
        version=Version(package["version"]),
        file=best,
        url=without_credentials(url),
        sha256=file.get("hashes", {}).get("sha256"),
        size=file.get("size"),
    )


def _rank(file_name: str, request: ResolveRequest) -> float:
    from packaging.utils import InvalidWheelFilename, parse_wheel_filename

    try:
        rank = request.target.rank(parse_wheel_filename(file_name)[3])
    except InvalidWheelFilename:
        rank = None
    return math.inf if rank is None else rank
