"""Open a registry, and find the manifests of layers in its index."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import TYPE_CHECKING

from stackbuild.errors import FetchError, InstallError, IntegrityError, UsageError, quoted
from stackbuild.messages import SILENT
from stackbuild.spec.select import find_names, split_version
from stackbuild.transport.urls import redact, split_address
from stackbuild.workspace import expanded

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from stackbuild.compose.manifest import ChainLink, Index, IndexEntry, Manifest
    from stackbuild.messages import Messages
    from stackbuild.platforms import Platform
    from stackbuild.registry.base import Registry
    from stackbuild.registry.places import Place
    from stackbuild.spec.model import LayerKind

DIGEST = "sha256:"
"""What a version begins with that is the start of a manifest's digest."""
_SHORTEST = 12
"""Digits of such a start, as in the names of files."""
_SHOWN = 10
"""Versions in an error."""


# At least two letters, because C:/exports is a directory.
_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]+)://")


def is_address(location: str) -> bool:
    """Whether `location` is an address, and otherwise a directory."""
    return _SCHEME.match(location) is not None


def open_registry(location: str, messages: Messages = SILENT) -> Registry:
    """The registry at `location`: a directory or an address; `docs/places.md` lists the kinds.

    Nothing is read yet. Raises UsageError for other locations, and for invalid ones.
    """
    if not location:
        raise UsageError("the location of the registry is empty", expected="a directory or address")
    scheme = _SCHEME.match(location)
    if scheme is None:
        from stackbuild.registry.directory import DirectoryRegistry

        return DirectoryRegistry(_directory(expanded(Path(location)).absolute()), messages)
    if scheme[1].lower() in {"http", "https"}:
        from stackbuild.registry.http import HttpRegistry

        try:
            split_address(location)
        except FetchError as error:
            raise UsageError(
                "the address of the registry is not valid",
                expected="one such as https://layers.example.org/stack",
                found=redact(location),
            ) from error
        return HttpRegistry(location, messages)
    if scheme[1].lower() in {"s3", "gs", "az"}:
        from stackbuild.registry.objects import ObjectRegistry

        return ObjectRegistry(location, messages)
    if scheme[1].lower() == "oci":
        from stackbuild.registry.oci_place import open_oci

        return open_oci(location, messages)
    raise UsageError(
        f"{scheme[1]}:// addresses are not supported as registries",
        expected="a directory, or an address with http://, https://, s3://, gs://, az:// or oci://",
    )


def open_place(location: str, messages: Messages = SILENT) -> Place:
    """The place at `location` that layers can be sent to. Raises UsageError for others."""
    from stackbuild.registry.places import Place

    registry = open_registry(location, messages)
    if isinstance(registry, Place):
        return registry
    raise UsageError(
        "layers cannot be sent to a web server",
        expected="a directory, or an address with s3://, gs://, az:// or oci://",
        found=registry.location,
        remedy="publish to a directory that the server shows, or copy it there",
    )


def of_version(entries: Sequence[IndexEntry], version: str) -> list[IndexEntry]:
    """Those of `entries` that `version` means: a digest, a version, or that of a lock.

    Raises UsageError for ``sha256:`` without enough digits.
    """
    digest = version.removeprefix(DIGEST)
    if digest != version and not re.fullmatch(rf"[0-9a-f]{{{_SHORTEST},64}}", digest):
        raise UsageError(
            f"{version!r} does not name a version",
            expected=f"{DIGEST} and the first {_SHORTEST} or more digits of the digest",
        )
    return (
        [entry for entry in entries if digest != version and entry.digest.startswith(digest)]
        or [entry for entry in entries if entry.version == version]
        or [entry for entry in entries if str(entry.lock_version) == version]
    )


def kinds_of(index: Index) -> dict[str, LayerKind]:
    """The layers of `index` with their kinds, by name."""
    return {
        layer: entries[0].kind
        for layer, platforms in sorted(index.entries.items())
        for entries in platforms.values()
        if entries
    }


def _directory(path: Path) -> Path:
    """`path` without `..`, if that is the same directory.

    Roots identify registries by their location. Links are kept, because their target may change.
    """
    plain = Path(os.path.abspath(path))  # noqa: PTH100 - `resolve` follows links
    try:
        return plain if plain.samefile(path) else path
    except OSError:
        return path


class Published:
    """The layers in a registry for one platform; each manifest is read once."""

    def __init__(self, registry: Registry, platform: Platform) -> None:
        self.registry = registry
        self.platform = platform
        self._index = registry.index()
        self._manifests: dict[str, Manifest] = {}
        self._entries: dict[str, IndexEntry] = {}

    @property
    def location(self) -> str:
        """The directory or address, without credentials."""
        return self.registry.location

    def entry(self, manifest: Manifest) -> IndexEntry:
        """The index entry that `manifest` was read from. Raises KeyError if there is none."""
        return self._entries[manifest.digest]

    def has(self, manifest: Manifest) -> bool:
        """Whether `manifest` was read from here."""
        return manifest.digest in self._entries

    def find(self, words: Iterable[str]) -> list[Manifest]:
        """The manifests that `words` mean, each once: those of the current versions, or of others.

        A word is as in `find_names`, and may have a version (`split_version`). Where a word means
        several layers, those that are not published for the platform are left out. Raises
        UsageError if none is left, and for unknown versions.
        """
        found: dict[str, Manifest] = {}
        for word in words:
            for manifest in self._find(word):
                found[manifest.digest] = manifest
        return list(found.values())

    def word(self, manifest: Manifest) -> str:
        """The word that means `manifest`, which was read from here."""
        layer = manifest.layer
        current = self._entries_of(layer)[0].digest == manifest.digest
        return layer if current else f"{layer}@{DIGEST}{manifest.digest[:_SHORTEST]}"

    def _find(self, word: str) -> list[Manifest]:
        kinds = kinds_of(self._index)
        name, version = split_version(word, kinds)
        names = find_names(name, kinds, place=self.location, add="publish it there")
        made = [name for name in names if self._index.entries[name].get(self.platform)]
        if not made and len(names) > 1:
            raise UsageError(
                f"no layer that {word!r} matches is published for {self.platform}",
                file=self.location,
                found=", ".join(names),
                remedy=f"publish one: stackbuild publish --layer {quoted(word)} "
                f"--platform {self.platform}",
            )
        return [
            self.current(layer) if version is None else self._version(layer, version)
            for layer in made or names
        ]

    def _version(self, layer: str, version: str) -> Manifest:
        """The newest manifest of `layer` in `version`. Raises UsageError."""
        entries = self._entries_of(layer)
        matches = of_version(entries, version)
        if not matches:
            raise self._no_version(layer, version, entries)
        return self._read(matches[0], layer)

    def _no_version(self, layer: str, version: str, entries: Sequence[IndexEntry]) -> UsageError:
        texts = [f"{one.version} ({DIGEST}{one.digest[:_SHORTEST]})" for one in entries]
        more = len(texts) - _SHOWN
        return UsageError(
            f"there is no version {version!r} of {layer}",
            layer=layer,
            platform=self.platform,
            file=self.location,
            expected=f"one of {', '.join(texts[:_SHOWN])}"
            + (f" and {more} others" if more > 0 else ""),
            remedy=f"stackbuild list --from {quoted(self.location)} --all prints the versions",
        )

    def current(self, layer: str) -> Manifest:
        """The current manifest of the layer with the name `layer`.

        Raises UsageError for a layer that is not published, or not for the platform.
        """
        return self._read(self._entries_of(layer)[0], layer)

    def find_current(self, layer: str) -> Manifest | None:
        """The current manifest of `layer` for the platform, or None."""
        entries = self._index.entries.get(layer, {}).get(self.platform)
        return self._read(entries[0], layer) if entries else None

    def find_version(self, layer: str, fits: Callable[[Manifest], bool]) -> Manifest | None:
        """The newest manifest of `layer` for which `fits`, or None."""
        entries = self._index.entries.get(layer, {}).get(self.platform, ())
        return next((one for entry in entries if fits(one := self._read(entry, layer))), None)

    def fitting(self, link: ChainLink) -> Manifest | None:
        """The newest manifest of the version of a lower layer in `link`, or None."""
        for entry in self._index.entries.get(link.layer, {}).get(self.platform, ()):
            if entry.lock == link.lock:
                return self._read(entry, link.layer)
        return None

    def pinned(self, layer: str, sha256: str) -> Manifest | None:
        """The manifest of `layer` with these bytes, or None."""
        entries = self._index.entries.get(layer, {}).get(self.platform, ())
        return next((self._read(one, layer) for one in entries if one.sha256 == sha256), None)

    def find_same(self, manifest: Manifest) -> Manifest | None:
        """`manifest` itself if it is published in this registry, or None."""
        for entry in self._index.entries.get(manifest.layer, {}).get(self.platform, ()):
            if entry.digest == manifest.digest:
                return self._read(entry, manifest.layer)
        return None

    def not_published(self, upper: Manifest, link: ChainLink) -> InstallError:
        """The error for a lower layer that `fitting` does not find."""
        others = self._index.entries.get(link.layer, {}).get(self.platform, ())
        return InstallError(
            f"{upper.layer} needs {link.layer}, which is not published in the required version",
            layer=upper.layer,
            platform=self.platform,
            file=self.location,
            expected=f"{link.layer} with lock {link.lock[:12]}",
            found=", ".join(f"lock {entry.lock[:12]}" for entry in others) or "none",
            remedy=f"publish {link.layer} there: "
            f"stackbuild publish --layer {link.layer} --platform {self.platform}",
        )

    def _entries_of(self, layer: str) -> tuple[IndexEntry, ...]:
        platforms = self._index.entries.get(layer, {})
        entries = platforms.get(self.platform)
        if not entries:
            raise UsageError(
                f"{layer} is not published for {self.platform} in {self.location}",
                layer=layer,
                expected=", ".join(sorted(platforms)),
                remedy=f"publish it: stackbuild publish --layer {layer} "
                f"--platform {self.platform}; or choose one of those platforms",
            )
        return entries

    def _read(self, entry: IndexEntry, layer: str) -> Manifest:
        manifest = self._manifests.get(entry.digest)
        if manifest is None:
            manifest = self.registry.manifest(entry)
            if (manifest.layer, manifest.platform) != (layer, self.platform):
                raise IntegrityError(
                    "the index names the manifest of another layer or platform",
                    layer=layer,
                    platform=self.platform,
                    file=f"{self.location}/{entry.manifest}",
                    expected=f"{layer} for {self.platform}",
                    found=f"{manifest.layer} for {manifest.platform}",
                    remedy=f"publish {layer} again",
                )
            self._manifests[entry.digest] = manifest
            self._entries[entry.digest] = entry
        return manifest
