"""The package indexes of a layer, as settings of uv.

An index's name, order and `explicit` decide which distributions it serves. Only
the first index that has a distribution is used, unless the spec sets
`index-strategy`.
"""

from __future__ import annotations

import functools
import os
import re
from dataclasses import dataclass, field, replace
from pathlib import Path
from threading import Lock
from typing import TYPE_CHECKING
from urllib.parse import quote, unquote, urlsplit, urlunsplit

from stackbuild.errors import FetchError, LockError
from stackbuild.processes import uv_environment
from stackbuild.spec.sources import direct_files
from stackbuild.transport.urls import host_of, path_of, without_credentials

if TYPE_CHECKING:
    from collections.abc import Mapping

    from packaging.utils import NormalizedName

    from stackbuild.platforms import Platform
    from stackbuild.spec.model import Layer, PackageIndex, Stack


_PAGES = "max-age=600"
"""How long uv uses the cached page of a distribution (RFC 9111)."""
_FILES = "max-age=365000000"
"""How long uv uses the metadata of a file: more than eleven years. Not ``immutable`` (RFC 8246),
which even uv's option `--refresh` obeys, as some indexes replace files."""


@dataclass(frozen=True, slots=True, kw_only=True)
class IndexSettings:
    """The package indexes of one layer."""

    indexes: tuple[PackageIndex, ...]
    """In order of priority, with their addresses as in the spec. If none is the
    default, uv's default comes last."""
    sources: Mapping[NormalizedName, str]
    """Distribution to the name of the only index that it may come from."""
    uv_settings: Mapping[str, object] = field(default_factory=dict)
    directory: Path = field(default_factory=Path)
    """The directory that relative addresses start from."""
    local_wheels: tuple[str, ...] = ()
    """Directories whose wheels are candidates beside those of the indexes."""
    files: Mapping[str, str] = field(default_factory=dict)
    """The wheels and source distributions that requirements name: file name to address."""

    @property
    def has_default(self) -> bool:
        """Whether one of them replaces uv's default."""
        return any(index.default for index in self.indexes)

    def tables(
        self, *, default: str | None = None, refresh: bool = False
    ) -> list[dict[str, object]]:
        """The `[[index]]` tables of uv, with credentials.

        `default` is the address of uv's default index, needed if `has_default` is False.
        Without `refresh` uv may use pages that are not older than ten minutes, and metadata
        of any age, regardless of the index's headers. (Then uv ignores its option
        `--refresh`.) Raises LockError as `userinfo` does, and FetchError for a directory
        that does not exist.
        """
        tables = [_table(index, self._address(index)) for index in self.indexes]
        if default is not None:
            tables.append({"url": default, "default": True})
        if refresh:
            return tables
        return [table | {"cache-control": {"api": _PAGES, "files": _FILES}} for table in tables]

    def described(self) -> list[object]:
        """The part that a lock depends on, without credentials and the project's location."""
        indexes = [_table(index, without_credentials(index.url)) for index in self.indexes]
        local = [self.local_wheels] if self.local_wheels else []
        return [indexes, dict(sorted(self.sources.items())), dict(self.uv_settings), *local]

    @property
    def local_directories(self) -> list[Path]:
        """The directories of `local_wheels`, which may not exist."""
        return [(self.directory / text).resolve() for text in self.local_wheels]

    def find_links(self) -> list[str]:
        """Those directories for uv. Raises FetchError if one does not exist."""
        for path in self.local_directories:
            if not path.is_dir():
                raise FetchError(
                    "the directory of local wheels does not exist",
                    file=path,
                    remedy="put wheels into it, or correct `local-wheels` in [tool.stackbuild]",
                )
        return list(map(str, self.local_directories))

    def with_credentials(self, url: str) -> str:
        """`url` with the user and password of the index on the same host, if any."""
        parts = urlsplit(url)
        for index in self.indexes:
            known = urlsplit(index.url)
            if (known.scheme, host_of(known.netloc)) != (parts.scheme, host_of(parts.netloc)):
                continue
            if secret := userinfo(index):
                return urlunsplit(parts._replace(netloc=f"{secret}@{host_of(parts.netloc)}"))
        return url

    def name_of(self, distribution: NormalizedName, url: str) -> str | None:
        """The name of the index that the file of `distribution` at `url` comes from, if known."""
        if distribution in self.sources:
            return self.sources[distribution]
        near = [index.name for index in self.indexes if self._is_near(index, url)]
        return near[0] if len(near) == 1 else None

    def _is_near(self, index: PackageIndex, url: str) -> bool:
        if index.explicit:
            return False
        address = urlsplit(_absolute(index.url, self.directory))
        parts = urlsplit(url)
        if address.scheme == "file":
            return parts.scheme == "file" and parts.path.startswith(address.path.rstrip("/") + "/")
        return host_of(address.netloc) == host_of(parts.netloc)

    def _address(self, index: PackageIndex) -> str:
        if "://" not in index.url or index.url.startswith("file:"):
            address = _absolute(index.url, self.directory)
            path = path_of(urlsplit(address))
            if path is not None and not path.exists():
                # uv would use the next index without a message.
                raise FetchError(
                    "the directory of a package index does not exist",
                    file=path,
                    remedy=f"correct `url` of {index.name or index.url} in [[tool.uv.index]]",
                )
            return address
        parts = urlsplit(index.url)
        secret = userinfo(index)
        host = parts.netloc.rpartition("@")[2]
        return urlunsplit(parts._replace(netloc=f"{secret}@{host}" if secret else host))


def index_settings(
    stack: Stack, layer: Layer, platform: Platform | None = None, *, default: str | None = None
) -> IndexSettings:
    """The indexes of `layer`; `default` is the address of another default index.

    With `platform`, those of `index-platforms` that do not serve it are left out, and distributions
    that are assigned to them come from the others.

    First those of `priority_indexes`, then explicit ones that a distribution
    of the layer is bound to, then the others in the order of the spec. The
    layer's additional registries are always explicit for it.
    """
    registries = layer.registries
    indexes = [
        replace(index, explicit=True) if index.name in registries else index
        for index in stack.indexes
        if platform is None or platform in stack.index_platforms.get(index.name or "", (platform,))
    ]
    named = {index.name: index for index in indexes if index.name}
    sources = {item: name for item, name in layer.package_indexes.items() if name in named}
    bound = set(sources.values())
    first = [
        replace(named[name], explicit=False) for name in layer.priority_indexes if name in named
    ]
    others = [index for index in indexes if index.name not in layer.priority_indexes]
    chosen = [
        *first,
        *(index for index in others if index.explicit and index.name in bound),
        *(index for index in others if not index.explicit),
    ]
    if default is not None:
        from stackbuild.spec.model import PackageIndex

        chosen = [index for index in chosen if not index.default or index.name in bound]
        chosen = [replace(index, default=False) for index in chosen]
        chosen.append(PackageIndex(name=None, url=default, default=True))
    return IndexSettings(
        indexes=tuple(chosen),
        sources=sources,
        uv_settings=stack.uv_settings,
        directory=stack.directory,
        local_wheels=stack.local_wheels,
        files=direct_files(stack, layer),
    )


def default_index(cache: Path) -> str | None:
    """The address of uv's default index; None if uv does not print it.

    `cache` is uv's cache. Thread-safe; uv runs once.
    """
    with _ONE_ASKS:
        return _default_index(cache)


@functools.cache
def _default_index(cache: Path) -> str | None:
    import subprocess
    import sys
    from tempfile import TemporaryDirectory

    import uv

    with TemporaryDirectory(prefix="stackbuild-uv-") as name:
        (Path(name) / "nothing.txt").touch()
        output = Path(name) / "answer.txt"
        words = [uv.find_uv_bin(), "pip", "compile", "nothing.txt", "--output-file", output.name]
        words += ["--emit-index-url", "--no-header", "--quiet", "--no-config"]
        words += ["--cache-dir", str(cache), "--python", sys.executable, "--no-python-downloads"]
        environment, nothing = uv_environment(), subprocess.DEVNULL
        subprocess.run(words, cwd=name, env=environment, stdin=nothing, stderr=nothing, check=False)
        text = output.read_text(encoding="utf-8") if output.is_file() else ""
    match = re.search(r"^--index-url (\S+)$", text, re.MULTILINE)
    return match[1] if match else None


def without_secrets(text: str) -> str:
    """`text` without the user and password of each address in it."""
    return re.sub(r"(?<=://)[^/\s`]*@", "", text)


def _absolute(url: str, directory: Path) -> str:
    return url if "://" in url else (directory / url).resolve().as_uri()


def _table(index: PackageIndex, url: str) -> dict[str, object]:
    table = {
        "name": index.name,
        "url": url,
        "default": index.default,
        "explicit": index.explicit,
        "format": index.format if index.format != "simple" else None,
        "authenticate": index.authenticate if index.authenticate != "auto" else None,
    }
    return {key: value for key, value in table.items() if value not in (None, False)}


_ONE_ASKS = Lock()
"""Locked while uv runs, so that it runs once for all threads."""
_VARIABLE = re.compile(r"\$\{([A-Za-z_][A-Za-z0-9_]*)\}")
_KEYRING_SECONDS = 30


def userinfo(index: PackageIndex) -> str | None:
    """``user:password`` for the address of `index`, quoted; None without any.

    Raises LockError for an environment variable that is not set.
    """
    if index.authenticate == "never":
        return None
    netloc = urlsplit(index.url).netloc
    given = netloc.rpartition("@")[0]
    user, _, password = (_expanded(part, index) for part in given.partition(":"))
    if index.name and not password:
        prefix = "UV_INDEX_" + re.sub(r"[^A-Z0-9]", "_", index.name.upper())
        user = user or quote(os.environ.get(f"{prefix}_USERNAME", ""), safe="")
        password = quote(os.environ.get(f"{prefix}_PASSWORD", ""), safe="")
    if user and not password:
        bare = urlunsplit(urlsplit(index.url)._replace(netloc=netloc.rpartition("@")[2]))
        password = quote(_from_keyring(bare, unquote(user)), safe="")
    if not user and not password:
        return None
    return f"{user}:{password}" if password else user


def _expanded(text: str, index: PackageIndex) -> str:
    def value(match: re.Match[str]) -> str:
        if match[1] not in os.environ:
            raise LockError(
                f"the environment variable {match[1]} is not set",
                expected=f"a part of the address of package index {index.name or ''}".rstrip(),
                remedy=f"set {match[1]}, or remove it from the address in [[tool.uv.index]]",
            )
        return quote(os.environ[match[1]], safe="")

    return _VARIABLE.sub(value, text)


@functools.cache
def _from_keyring(address: str, user: str) -> str:
    """The password from the command `keyring`; empty if there is none."""
    import shutil
    import subprocess

    command = shutil.which("keyring")
    if command is None:
        return ""
    try:
        result = subprocess.run(
            [command, "get", address, user],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=_KEYRING_SECONDS,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return result.stdout.rstrip("\r\n") if result.returncode == 0 else ""
