"""Make a frame of a part of a wheel with `installer`, without a copy on disk.

`installer.install` decides which file is installed where. `PartSource` gives it some of the wheel's
files and checks them against RECORD while they are read. `FrameDestination` writes the installed
files into a frame. The last part of a wheel also contains the generated files: RECORD, INSTALLER
and the scripts.
"""

from __future__ import annotations

import configparser
import copy
import hashlib
import posixpath
import re
from contextlib import suppress
from dataclasses import dataclass
from keyword import iskeyword
from typing import IO, TYPE_CHECKING, BinaryIO, cast

from installer import install
from installer.destinations import WheelDestination
from installer.exceptions import InstallerError
from installer.records import Hash, RecordEntry
from installer.sources import WheelSource
from installer.utils import Scheme, construct_record_file, parse_entrypoints

from stackbuild.frames.binaries import BinaryReader
from stackbuild.frames.model import EntryPoint, Frame, FrameKind, pth_lines
from stackbuild.frames.scripts import LAUNCHER, launched_script, script_files
from stackbuild.frames.wheelplan import DAMAGES, open_wheel
from stackbuild.names import path_fault
from stackbuild.record import encoded

if TYPE_CHECKING:
    import os
    from collections.abc import Iterable, Iterator, Mapping, Sequence
    from zipfile import ZipFile

    from installer.scripts import ScriptSection
    from installer.sources import WheelContentElement

    from stackbuild.errors import IntegrityError
    from stackbuild.frames.cache import FrameCache, FrameWriter
    from stackbuild.frames.model import Binary
    from stackbuild.frames.wheelplan import Wheel, WheelMember
    from stackbuild.layout import Layout
    from stackbuild.spec.model import FrameSettings

_SCRIPT_NAME = re.compile(r"\w[\w.+-]*")
"""Recommended for script names by the entry points specification ("Data model"), plus ``+`` for
`c++`."""
_CHUNK = 256 * 1024
_METADATA = {"INSTALLER": b"stackbuild\n"}


@dataclass(frozen=True, slots=True, kw_only=True)
class WheelPart:
    """The frame of one part of a wheel."""

    frame: Frame
    paths: tuple[str, ...]
    entry_points: tuple[EntryPoint, ...]
    binaries: tuple[Binary, ...]
    pth: Mapping[str, tuple[str, ...]]
    """The lines of each `.pth` file at the top of site-packages, without comments."""


def stream_part(
    wheel: Wheel,
    layout: Layout,
    machine: str,
    settings: FrameSettings,
    cache: FrameCache,
    *,
    members: Sequence[WheelMember],
    others: Sequence[WheelMember] | None,
) -> WheelPart:
    """Make one frame of `members`; for the last part, `others` is the rest of the wheel.

    Raises IntegrityError for a file that does not match RECORD.
    """
    size = sum(member.info.file_size for member in members)
    with (
        open_wheel(wheel.path) as archive,
        cache.new_frame(
            FrameKind.DISTRIBUTION, wheel.subject, settings.level, expected=size
        ) as frame,
    ):
        source = PartSource(wheel, archive, members, is_last=others is not None)
        reader = BinaryReader(layout.os, cache)
        destination = FrameDestination(wheel, layout, machine, frame, reader, others)
        try:
            install(source, destination, _METADATA if others is not None else {})
        except (AssertionError, AttributeError, configparser.Error) as error:
            # installer's parser of entry points fails like this.
            fault = _entry_points_fault(wheel.texts["entry_points.txt"], error)
            raise wheel.error(f"entry points cannot be read: {fault}", "entry_points.txt") from None
        except InstallerError as error:
            # The text before the reason is the repr of the source.
            reason = error.args[-1]
            raise wheel.error(f"a wheel cannot be installed: {reason}", "WHEEL") from None
    return WheelPart(
        frame=frame.frame,
        paths=tuple(destination.paths),
        entry_points=tuple(destination.entry_points),
        binaries=reader.found({}),
        pth=destination.pth,
    )


def _entry_points_fault(text: str, error: Exception) -> str:
    """Why `installer` cannot read the entry points `text`; `error` is its exception.

    Its assertions have no text. The first entry that it does not yield is the cause.
    """
    if isinstance(error, configparser.Error):
        return str(error)
    read: list[object] = []
    with suppress(AssertionError, AttributeError):
        read.extend(parse_entrypoints(text))
    parser = configparser.ConfigParser(delimiters="=")
    parser.optionxform = str  # type: ignore[assignment, method-assign]
    parser.read_string(text)
    sections = [one for one in parser.sections() if one in ("console_scripts", "gui_scripts")]
    entries = [f"{name} = {value}" for one in sections for name, value in parser.items(one)]
    return f"{entries[len(read)]!r} is not `name = module:function`"


class MemberStream:
    """The bytes of a wheel's file; checked against RECORD at the end."""

    def __init__(self, wheel: Wheel, member: WheelMember, archive: ZipFile) -> None:
        self.member = member
        self._wheel = wheel
        # Read one byte more than the size, to detect a longer file.
        info = copy.copy(member.info)
        info.file_size += 1
        self._stream: IO[bytes] = archive.open(info)

    def chunks(self) -> Iterator[bytes]:
        """All bytes, in pieces."""
        record, size = self.member.record, self.member.info.file_size
        digest = hashlib.new(record.hash_name)
        found = 0
        try:
            with self._stream as stream:
                while chunk := stream.read(_CHUNK):
                    digest.update(chunk)
                    found += len(chunk)
                    yield chunk
        except DAMAGES as error:
            raise self._wheel.error(
                "a file of a wheel is damaged, or larger than its declared size",
                self.member.name,
                found=str(error),
            ) from None
        if found != size:
            raise self._differs(f"{size} bytes", f"{found} bytes")
        if (value := encoded(digest.digest())) != record.hash_value:
            raise self._differs(record.hash_value, value)

    def _differs(self, expected: str, found: str) -> IntegrityError:
        return self._wheel.error(
            "a file of a wheel does not match RECORD",
            self.member.name,
            expected=expected,
            found=found,
        )


class PartSource(WheelSource):
    """Some of a wheel's files, as a `WheelSource` of `installer`."""

    def __init__(
        self, wheel: Wheel, archive: ZipFile, members: Sequence[WheelMember], *, is_last: bool
    ) -> None:
        distribution, _, version = wheel.stem.rpartition("-")
        super().__init__(distribution, version)
        self._wheel = wheel
        self._archive = archive
        self._members = members
        self._is_last = is_last

    @property
    def data_dir(self) -> str:
        """The name of the `.data` directory in the wheel."""
        return self._wheel.data_directory

    @property
    def dist_info_filenames(self) -> list[str]:
        """The files that `installer` looks for; only the last part has entry points."""
        return list(self._wheel.texts) if self._is_last else []

    def read_dist_info(self, filename: str) -> str:
        """A file of `.dist-info`, already read."""
        return self._wheel.texts[filename]

    def get_contents(self) -> Iterator[WheelContentElement]:
        """The part's files, in its order."""
        for member in self._members:
            stream = MemberStream(self._wheel, member, self._archive)
            # FrameDestination handles these types.
            content = cast("BinaryIO", stream)
            yield (member.name, str(_hash(member)), ""), content, member.executable


class FrameDestination(WheelDestination):
    """Writes the files that `installer` installs into a frame, with their paths in a layer."""

    def __init__(
        self,
        wheel: Wheel,
        layout: Layout,
        machine: str,
        frame: FrameWriter,
        reader: BinaryReader,
        others: Sequence[WheelMember] | None,
    ) -> None:
        self.paths: list[str] = []
        self.entry_points: list[EntryPoint] = []
        self.pth: dict[str, tuple[str, ...]] = {}
        self._wheel = wheel
        self._layout = layout
        self._machine = machine
        self._frame = frame
        self._reader = reader
        self._others = others
        self._launched: list[RecordEntry] = []
        """RECORD entries of the scripts that have launchers; paths are layer-relative."""

    def write_script(
        self, name: str, module: str, attr: str, section: ScriptSection
    ) -> RecordEntry:
        """Write the script of an entry point; returns its entry in RECORD."""
        if not _SCRIPT_NAME.fullmatch(name) or path_fault(name):
            raise self._wheel.error(
                f"invalid name of an entry point: {name!r}",
                "entry_points.txt",
                expected="letters, digits, '.', '_', '-' and '+', a letter, digit or '_' first",
            )
        names = (*module.split("."), *attr.split("."))
        if not all(text.isidentifier() and not iskeyword(text) for text in names):
            raise self._wheel.error(
                f"the entry point {name} does not name a module and an object of Python",
                "entry_points.txt",
                found=ascii(f"{module}:{attr}"),
            )
        point = EntryPoint(name=name, module=module, attribute=attr, gui=section == "gui")
        self.entry_points.append(point)
        ((path, data),) = script_files(point, self._layout, self._machine).items()
        self._write(path, data, executable=True)
        return _recorded(path.removeprefix(f"{self._layout.scripts}/"), data)

    def write_file(
        self,
        scheme: Scheme,
        path: str | os.PathLike[str],
        stream: BinaryIO,
        is_executable: bool,
    ) -> RecordEntry:
        """Write a file; returns its entry in RECORD."""
        target = str(path)
        place = posixpath.join(self._directory(scheme), target)
        if not isinstance(stream, MemberStream):
            data = stream.read()
            self._write(place, data, executable=is_executable)
            return _recorded(target, data)
        member = stream.member
        if member.names_python and self._layout.os != "windows":
            script = launched_script(place)
            self._write(script, b"".join(stream.chunks()), executable=False)
            self._launched.append(RecordEntry(script, _hash(member), member.info.file_size))
            self._write(place, LAUNCHER, executable=True)
            return _recorded(target, LAUNCHER)
        chunks: Iterable[bytes] = stream.chunks()
        if "/" not in target and target.endswith(".pth") and self._is_site(scheme):
            data = b"".join(chunks)
            self.pth[target] = self._pth_lines(data, member.name)
            chunks = [data]
        self.paths.append(place)
        chunks = self._reader.watch(place, chunks)
        self._frame.add(place, chunks, size=member.info.file_size, executable=is_executable)
        return _entry(member)

    def finalize_installation(
        self,
        scheme: Scheme,
        record_file_path: str,
        records: Iterable[tuple[Scheme, RecordEntry]],
    ) -> None:
        """Write RECORD, of all parts, if this is the last part."""
        if self._others is None:
            return
        rows = [*records, *((Scheme(member.scheme), _entry(member)) for member in self._others)]
        rows += [(Scheme("data"), entry) for entry in self._launched]
        with construct_record_file(rows, self._prefix) as stream:
            place = posixpath.join(self._directory(scheme), record_file_path)
            self._write(place, stream.read(), executable=False)

    def _write(self, path: str, data: bytes, *, executable: bool) -> None:
        self.paths.append(path)
        self._frame.add(path, [data], size=len(data), executable=executable)

    def _is_site(self, scheme: str) -> bool:
        return self._directory(scheme) == self._layout.site_packages

    def _directory(self, scheme: str) -> str:
        """The directory of an installation scheme in a layer (`sysconfig` module)."""
        if scheme == "scripts":
            return self._layout.scripts
        if scheme == "headers":
            return f"{self._layout.headers}/{self._wheel.stem.rpartition('-')[0]}"
        return "" if scheme == "data" else self._layout.site_packages

    def _prefix(self, scheme: str) -> str | None:
        """The prefix for paths of `scheme` in RECORD, which is relative to site-packages."""
        if self._is_site(scheme):
            return None
        directory = self._directory(scheme) or "."
        return posixpath.relpath(directory, self._layout.site_packages) + "/"

    def _pth_lines(self, data: bytes, name: str) -> tuple[str, ...]:
        try:
            return pth_lines(data)
        except UnicodeDecodeError:
            raise self._wheel.error("a .pth file is not UTF-8", name) from None


def _entry(member: WheelMember) -> RecordEntry:
    """The entry in RECORD of an unchanged file."""
    return RecordEntry(member.target, _hash(member), member.info.file_size)


def _hash(member: WheelMember) -> Hash:
    return Hash(member.record.hash_name, member.record.hash_value)


def _recorded(path: str, data: bytes) -> RecordEntry:
    return RecordEntry(path, Hash("sha256", encoded(hashlib.sha256(data).digest())), len(data))
