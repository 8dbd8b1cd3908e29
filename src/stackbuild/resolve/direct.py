"""Requirements with an address instead of an index (PEP 508, direct references)."""

from __future__ import annotations

from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from stackbuild.errors import LockError
from stackbuild.files import sha256_file
from stackbuild.lock.indexes import without_secrets
from stackbuild.reading import Item
from stackbuild.resolve.request import Found
from stackbuild.spec.sources import check_file_name
from stackbuild.transport.urls import path_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from packaging.utils import NormalizedName

    from stackbuild.lock.model import LockedFile


def addresses_of(
    requirements: Iterable[str],
    markers: Mapping[str, str],
    sources: Mapping[NormalizedName, str],
) -> dict[NormalizedName, str]:
    """The addresses that `requirements` name, and those in `sources` of the others.

    Requirements whose marker is not true for `markers` are ignored. Raises LockError if one
    distribution has two addresses.
    """
    from packaging.requirements import Requirement
    from packaging.utils import canonicalize_name

    addresses: dict[NormalizedName, str] = {}
    for text in requirements:
        if not sources and "@ " not in text:
            continue
        item = Requirement(text)
        if item.marker is not None and not item.marker.evaluate(dict(markers)):
            continue
        name = canonicalize_name(item.name)
        url = item.url or sources.get(name)
        if url and addresses.setdefault(name, url) != url:
            raise LockError(
                "one distribution has two addresses",
                distribution=name,
                expected=f"one of {without_secrets(addresses[name])}",
                found=without_secrets(url),
            )
    return addresses


def plain_requirement(text: str) -> str:
    """The requirement `text` without its address."""
    if "@ " not in text:
        return text
    from packaging.requirements import Requirement

    requirement = Requirement(text)
    requirement.url = None
    return str(requirement)


def found_at(name: NormalizedName, file: str, url: str, kept: LockedFile | None) -> Found:
    """The wheel or source distribution `file` of `name` that an address names.

    Its sha256 is that in the address, that of a local file, or that of `kept`, the file of the
    same name in the old lock; None if it must be downloaded first.
    """
    plain, _, sha256 = url.partition("#sha256=")
    size = None
    if path := path_of(urlsplit(plain)):
        sha256, size = sha256_file(path), path.stat().st_size
    elif kept and sha256.lower() in ("", kept.sha256):
        sha256, size = kept.sha256, kept.size
    return Found(
        name=name,
        version=check_file_name(Item("", file), name),
        file=file,
        url=plain,
        sha256=sha256.lower() or None,
        size=size,
    )
