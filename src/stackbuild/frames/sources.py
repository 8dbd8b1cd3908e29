"""Read the Python sources of wheels, interpreters and single files, for compiling."""

from __future__ import annotations

import hashlib
from contextlib import contextmanager, nullcontext
from typing import TYPE_CHECKING, NamedTuple, Protocol

from stackbuild.globs import expanded
from stackbuild.strictjson import digest_of

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
    from contextlib import AbstractContextManager
    from pathlib import Path

    from stackbuild.frames.cache import FrameCache
    from stackbuild.layout import Layout
    from stackbuild.runtimes.model import RuntimeArchive


class OpenSources(NamedTuple):
    """Python modules that can be read."""

    sizes: Mapping[str, int]
    """Layer-relative path to size in bytes."""
    reader: Callable[[], AbstractContextManager[Callable[[str], bytes]]]
    """Opens a reader of modules by path; each thread opens its own."""


def in_memory(modules: Mapping[str, bytes]) -> OpenSources:
    """`modules`, by layer-relative path, whose bytes are at hand."""
    return OpenSources(
        sizes={path: len(data) for path, data in modules.items()},
        reader=lambda: nullcontext(modules.__getitem__),
    )


class Sources(Protocol):
    """The Python modules of one input; created without reading the input."""

    @property
    def subject(self) -> str:
        """Their source: ``cpython 3.12.10``, a wheel's file name, an overlay's name."""

    @property
    def identity(self) -> str:
        """sha256 (hex) of all inputs that decide their paths and contents."""

    def opened(self, cache: FrameCache) -> AbstractContextManager[OpenSources]:
        """Make them readable; work files are made in `cache`. Raises IntegrityError."""


class WheelSources(NamedTuple):
    """The modules of a wheel that are installed into site-packages."""

    wheel: Path
    sha256: str
    layout: Layout
    patterns: Sequence[str] = ()
    """Those of `exclude-files`: bytecode is left out with its module."""

    @property
    def subject(self) -> str:
        """Name and version."""
        name, version = self.wheel.name.split("-")[:2]
        return f"{name.lower().replace('_', '-')} {version}"

    @property
    def identity(self) -> str:
        """Depends on the wheel, the layout, and the patterns that can match modules."""
        of_modules = [
            one for one in expanded(self.patterns) if one.endswith((".py", "*", "?", "]"))
        ]
        return digest_of(["wheel", self.sha256, self.layout.site_packages, *of_modules])

    @contextmanager
    def opened(self, _cache: FrameCache) -> Iterator[OpenSources]:
        """Check the wheel's sha256 and list its modules."""
        from stackbuild.frames.wheelplan import open_wheel, read_wheel, verify_wheel

        verify_wheel(self.wheel, self.sha256)
        members = {
            f"{self.layout.site_packages}/{member.target}": member.info
            for member in read_wheel(self.wheel, self.patterns).members
            if member.scheme in ("root", "purelib", "platlib") and member.target.endswith(".py")
        }

        @contextmanager
        def reader() -> Iterator[Callable[[str], bytes]]:
            with open_wheel(self.wheel) as archive:
                yield lambda path: archive.read(members[path])

        yield OpenSources(
            sizes={path: info.file_size for path, info in members.items()}, reader=reader
        )


class ArchiveSources(NamedTuple):
    """The modules of an interpreter: the standard library and the kept site-packages."""

    archive: RuntimeArchive
    layout: Layout
    keep: Collection[str]

    @property
    def subject(self) -> str:
        """The interpreter and its version."""
        return f"cpython {self.archive.version}"

    @property
    def identity(self) -> str:
        """Depends on the archive and the kept distributions."""
        return digest_of(["archive", self.archive.sha256, self.layout.stdlib, *sorted(self.keep)])

    @contextmanager
    def opened(self, cache: FrameCache) -> Iterator[OpenSources]:
        """Decompress the archive and list its modules."""
        from stackbuild.frames.interpreter import opened

        with opened(self.archive, self.layout, self.keep, cache) as contents:
            files = {
                file.path: file
                for file in contents.files
                if file.path.startswith(f"{self.layout.stdlib}/")
                and file.path.endswith(".py")
                and file.link is None
            }

            yield OpenSources(
                sizes={path: file.size for path, file in files.items()},
                reader=lambda: nullcontext(lambda path: contents.read(files[path])),
            )


class MemorySources(NamedTuple):
    """Modules in memory, of a layer's own files or an overlay. Other files are ignored."""

    subject: str
    files: Mapping[str, bytes]
    """By layer-relative path."""

    @property
    def identity(self) -> str:
        """Depends on all modules and the subject, so layers do not share the frames."""
        digests = [
            text
            for path, data in sorted(self._modules().items())
            for text in (path, hashlib.sha256(data).hexdigest())
        ]
        return digest_of(["files", self.subject, *digests])

    @contextmanager
    def opened(self, _cache: FrameCache) -> Iterator[OpenSources]:
        """The modules as they are."""
        yield in_memory(self._modules())

    def _modules(self) -> dict[str, bytes]:
        return {path: data for path, data in self.files.items() if path.endswith(".py")}
