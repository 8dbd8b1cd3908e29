"""Names of repositories, manifests and blobs in container registries."""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass

DOCKER_HUB = "docker.io"

_PART = r"[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*"
_REPOSITORY = re.compile(rf"{_PART}(?:/{_PART})*")
_TAG = re.compile("[A-Za-z0-9_][A-Za-z0-9._-]{0,127}")
_DIGEST = re.compile("sha256:[0-9a-f]{64}")
_HOST = re.compile(
    r"(?:[A-Za-z0-9](?:[A-Za-z0-9.-]*[A-Za-z0-9])?|\[[0-9a-fA-F:]+\])(?::[0-9]{1,5})?"
)
_LONGEST_REPOSITORY = 255
"""In characters, with the host: the limit of many clients, as the specification says."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Reference:
    """A manifest in a repository of a registry."""

    host: str
    """With the port, if it is not the usual one."""
    repository: str
    name: str
    """A tag, or a digest such as ``sha256:…``."""

    def __str__(self) -> str:
        """The reference as docker and podman write it."""
        mark = "@" if is_digest(self.name) else ":"
        return f"{self.host}/{self.repository}{mark}{self.name}"


def parse_reference(text: str) -> Reference:
    """The reference `text`, such as ``debian:12-slim`` or ``ghcr.io/example/base@sha256:…``.

    As for docker, the host is docker.io if the first part of the text is not a host; images there
    without a slash are in `library`; and the tag is `latest` if there is none. A digest replaces a
    tag. Raises ValueError with the fault as a sentence without subject.

    Example: `str(parse_reference("debian:12-slim"))` is ``docker.io/library/debian:12-slim``.
    """
    host, slash, rest = text.partition("/")
    if not slash:
        host, rest = DOCKER_HUB, f"library/{text}"
    elif host != "localhost" and "." not in host and ":" not in host:
        host, rest = DOCKER_HUB, text
    rest, at, digest = rest.partition("@")
    repository, colon, tag = rest.partition(":")
    if fault := repository_fault(host, repository):
        raise ValueError(fault)
    if at and not is_digest(digest):
        raise ValueError("has an invalid digest: it must be sha256: and 64 digits, 0-9 and a-f")
    if colon and not _TAG.fullmatch(tag):
        raise ValueError("has an invalid tag: only letters, digits, '.', '_' and '-', at most 128")
    return Reference(host=host, repository=repository, name=digest or tag or "latest")


def repository_fault(host: str, repository: str) -> str | None:
    """The fault of a registry's host or a repository's name, as a sentence without subject."""
    if not _HOST.fullmatch(host):
        return "has an invalid host or port"
    if not _REPOSITORY.fullmatch(repository):
        return (
            "has an invalid name of a repository: only lower-case letters and digits, and single "
            "'.', '_', '/' or any number of '-' between them"
        )
    if len(host) + 1 + len(repository) > _LONGEST_REPOSITORY:
        return f"is longer than {_LONGEST_REPOSITORY} characters"
    return None


def is_digest(text: str) -> bool:
    """Whether `text` is a digest with sha256."""
    return bool(_DIGEST.fullmatch(text))


def digest_of(data: bytes) -> str:
    """The digest of a blob or manifest: ``sha256:`` and 64 digits."""
    return f"sha256:{hashlib.sha256(data).hexdigest()}"
