"""Download archives of interpreters and keep them once they are verified."""

from __future__ import annotations

import json
import os
import time
from contextlib import suppress
from pathlib import PurePosixPath
from typing import TYPE_CHECKING
from urllib.parse import unquote, urlsplit

from stackbuild import strictjson
from stackbuild.errors import FetchError
from stackbuild.files import atomic_write, sha256_file
from stackbuild.runtimes.names import release_path
from stackbuild.transport.retries import PATIENCE, NotFoundError, Patience, UnreachableError
from stackbuild.transport.urls import redact

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from stackbuild.messages import Messages
    from stackbuild.spec.model import Download
    from stackbuild.workspace import Workspace

MIRROR_VARIABLE = "PBS_INSTALLER_BASE_URL"
"""pbs-installer's own name for a mirror."""
REMEMBERED = 600.0
"""Seconds before an unreachable host is tried again."""


def mirror_base(mirror: str | None) -> str | None:
    """The mirror from the spec or the environment."""
    return (mirror or os.environ.get(MIRROR_VARIABLE) or "").rstrip("/") or None


def addresses(url: str, mirror: str | None) -> list[str]:
    """Addresses of the archive that is locked with `url`, the most likely first.

    A mirror has the layout of the releases page (``<tag>/<name>``) or, as pbs-installer expects, no
    tags.
    """
    if mirror is None:
        return [url]
    parts = release_path(url)
    if parts is None:
        return [f"{mirror}/{url.rpartition('/')[2]}"]
    tag, name = parts
    return [f"{mirror}/{tag}/{name}", f"{mirror}/{name}"]


def file_name(url: str) -> str:
    """The file name at the end of an address, safe to create in a directory."""
    return PurePosixPath(unquote(urlsplit(url).path)).name or "archive"


def kept_path(archive: Download, workspace: Workspace) -> Path:
    """The path of the downloaded archive in the cache."""
    return workspace.runtimes / "downloads" / archive.sha256 / file_name(archive.url)


def is_kept(path: Path, sha256: str) -> bool:
    """Whether `path` is still as it was verified; a touched file is read again."""
    seal = path.with_name("verified.json")
    try:
        if strictjson.read(seal) == _stamp(path):
            return True
    except (OSError, strictjson.JsonError):
        pass
    if not path.is_file() or sha256_file(path) != sha256:
        return False
    atomic_write(seal, json.dumps(_stamp(path)))
    return True


def fetch_archive(
    archive: Download,
    urls: Iterable[str],
    workspace: Workspace,
    messages: Messages,
    patience: Patience = PATIENCE,
) -> Path:
    """Download and verify the archive from the first of `urls` that has it.

    Raises FetchError and IntegrityError; a failed download leaves no files.
    """
    path = kept_path(archive, workspace)
    if is_kept(path, archive.sha256):
        return path
    from stackbuild.transport.transfer import download

    urls = list(urls)
    for url in urls:
        try:
            messages.note(f"downloading {path.name} from {redact(url)}")
            download(url, path, sha256=archive.sha256, messages=messages, patience=patience)
        except NotFoundError:
            continue
        finally:
            # Fails while another process uses the directory.
            with suppress(OSError):
                path.parent.rmdir()
        atomic_write(path.with_name("verified.json"), json.dumps(_stamp(path)))
        return path
    raise NotFoundError(
        "the archive of the interpreter was not found",
        file=", ".join(redact(url) for url in urls),
    )


def _stamp(path: Path) -> list[int]:
    status = path.stat()
    return [status.st_size, status.st_mtime_ns]


class Unreachable:
    """Hosts that were unreachable a short time ago, recorded in the cache."""

    def __init__(self, workspace: Workspace) -> None:
        self._path = workspace.runtimes / "unreachable.json"

    def check(self, url: str) -> None:
        """Raises FetchError if the host of `url` was unreachable a short time ago."""
        entry = self._read().get(urlsplit(url).netloc.rpartition("@")[2])
        if entry is None:
            return
        since, reason = entry
        minutes = int((time.time() - since) / 60)
        ago = f"{minutes} min ago" if minutes else "less than a minute ago"
        raise FetchError(
            f"{urlsplit(url).hostname} could not be reached {ago} ({reason}), "
            f"and is not tried again before {round(REMEMBERED / 60)} min have passed",
            file=redact(url),
        )

    def remember(self, url: str, error: UnreachableError) -> None:
        """Record that the host of `url` could not be reached."""
        entries = self._read() | {
            urlsplit(url).netloc.rpartition("@")[2]: (time.time(), error.reason)
        }
        atomic_write(self._path, json.dumps(entries))

    def _read(self) -> dict[str, tuple[float, str]]:
        try:
            found = strictjson.read(self._path)
            return {
                str(host): (float(since), str(reason))
                for host, (since, reason) in found.items()
                if 0 <= time.time() - since < REMEMBERED
            }
        except (OSError, strictjson.JsonError, ValueError, TypeError, AttributeError):
            return {}
