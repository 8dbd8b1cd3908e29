"""Find the archive of a runtime's interpreter in the sources of the spec."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal
from weakref import WeakKeyDictionary

from stackbuild.errors import ComposeError, FetchError
from stackbuild.files import atomic_write
from stackbuild.platforms import host_platform
from stackbuild.runtimes.download import (
    Unreachable,
    addresses,
    fetch_archive,
    is_kept,
    kept_path,
    mirror_base,
)
from stackbuild.runtimes.local import local_archive
from stackbuild.runtimes.model import RuntimeArchive
from stackbuild.runtimes.names import version_in
from stackbuild.spec.model import RuntimeSettings
from stackbuild.transport.retries import PATIENCE, Patience, UnreachableError

if TYPE_CHECKING:
    from pathlib import Path

    from packaging.version import Version

    from stackbuild.lock.model import RuntimeLock
    from stackbuild.messages import Messages
    from stackbuild.platforms import Platform
    from stackbuild.spec.model import Download, Layer, RuntimeSource, Stack
    from stackbuild.workspace import Workspace

Purpose = Literal["layer", "bytecode"]
"""The use of an interpreter: as a runtime layer, or to compile bytecode."""


def provide_runtime(
    stack: Stack,
    layer: Layer,
    platform: Platform,
    runtime_lock: RuntimeLock,
    workspace: Workspace,
    messages: Messages,
    *,
    patience: Patience = PATIENCE,
    purpose: Purpose = "layer",
) -> RuntimeArchive:
    """The archive of the interpreter of the runtime `layer` on `platform`.

    An explicit download in the spec is used without alternative. Otherwise the sources are tried in
    order. If a stand-in is used and this matters for the `purpose`, a message is shown. Raises
    FetchError if there is no archive, and IntegrityError at once if bytes differ from the lock.
    """
    settings = layer.runtime_settings or RuntimeSettings()
    explicit = settings.downloads.get(platform)

    def note(archive: RuntimeArchive, failures: list[str]) -> None:
        if purpose == "layer":
            _note_stand_in(layer, platform, runtime_lock, messages, archive, failures)
        else:
            compiler = (archive.version, _place(archive))
            note_compiler(layer, runtime_lock, messages, compiler, failures)

    if explicit is not None:
        path = fetch_archive(explicit, [explicit.url], workspace, messages, patience)
        archive = _explicit(path, explicit, layer, platform, runtime_lock)
        note(archive, [])
        return archive
    failures: list[str] = []
    for source in settings.sources:
        alone = source == settings.sources[-1]
        try:
            if source == "pbs":
                locked = runtime_lock.archives.get(platform)
                if locked is None:
                    version = runtime_lock.python_version
                    raise FetchError(f"CPython {version} is not locked for {platform}")
                mirror = mirror_base(settings.mirror)
                path = _from_pbs(
                    locked, mirror, workspace, messages, alone=alone, patience=patience
                )
                return RuntimeArchive(
                    path=path,
                    sha256=locked.sha256,
                    version=runtime_lock.python_version,
                    source="pbs",
                    stands_in=False,
                    origin=path.name,
                )
            archive = _local(stack, layer, settings, platform, workspace, messages)
        except FetchError as error:
            failures.append(f"{source}: {_in_one_line(error)}")
        else:
            note(archive, failures)
            return archive
    raise FetchError(
        "the interpreter of a runtime is not available",
        layer=layer.name,
        platform=platform,
        expected=f"CPython {runtime_lock.python_version}",
        found="; ".join(failures) or "no sources",
        remedy=_remedy(settings.sources),
    )


def _from_pbs(
    locked: Download,
    mirror: str | None,
    workspace: Workspace,
    messages: Messages,
    *,
    alone: bool,
    patience: Patience,
) -> Path:
    path = kept_path(locked, workspace)
    if is_kept(path, locked.sha256):
        return path
    urls = addresses(locked.url, mirror)
    unreachable = Unreachable(workspace)
    if not alone:
        # If this is the only source, always try it.
        unreachable.check(urls[0])
    try:
        return fetch_archive(locked, urls, workspace, messages, patience)
    except UnreachableError as error:
        unreachable.remember(urls[0], error)
        raise


def _local(
    stack: Stack,
    layer: Layer,
    settings: RuntimeSettings,
    platform: Platform,
    workspace: Workspace,
    messages: Messages,
) -> RuntimeArchive:
    host = host_platform()
    if platform != host:
        raise FetchError(f"this machine only has interpreters for {host}")
    return local_archive(stack.python_version(layer), settings, platform, workspace, messages)


def _explicit(
    path: Path, download: Download, layer: Layer, platform: Platform, runtime_lock: RuntimeLock
) -> RuntimeArchive:
    """An archive from `downloads` in the spec, with the version of its header or its file name."""
    asked = runtime_lock.python_version
    version = _version_of(path) or version_in(path.name) or asked
    if version.release[:2] != asked.release[:2]:
        raise ComposeError(
            "the archive under `downloads` contains another version of CPython",
            layer=layer.name,
            platform=platform,
            file=path.name,
            expected=f"CPython {asked.major}.{asked.minor}",
            found=f"CPython {version}",
        )
    return RuntimeArchive(
        path=path,
        sha256=download.sha256,
        version=version,
        source="url",
        stands_in=version != asked,
        origin=path.name,
        host_libraries=download.host_libraries,
    )


def _version_of(path: Path) -> Version | None:
    """`version_inside`, remembered beside the downloaded archive, since reading takes a second."""
    from packaging.version import Version

    known = path.with_name("version.txt")
    try:
        text = known.read_text(encoding="ascii")
    except OSError:
        from stackbuild.runtimes.tarball import version_inside

        text = str(version_inside(path) or "")
        atomic_write(known, text)
    return Version(text) if text else None


_noted: WeakKeyDictionary[Messages, set[str]] = WeakKeyDictionary()


def _note_stand_in(
    layer: Layer,
    platform: Platform,
    runtime_lock: RuntimeLock,
    messages: Messages,
    archive: RuntimeArchive,
    failures: list[str],
) -> None:
    """Report that a stand-in is used, why, and how many host libraries it needs.

    The manifest lists the libraries.
    """
    if not archive.stands_in:
        return
    subject = f"{layer.name} on {platform}: CPython {archive.version} from {_place(archive)}"
    version = runtime_lock.python_version
    text = f" is used instead of {version} from python-build-standalone{_reasons(failures)}"
    if count := len(archive.host_libraries):
        text += f"; it needs {count} {'library' if count == 1 else 'libraries'} on its host"
    _note_once(subject, text, messages)


def _place(archive: RuntimeArchive) -> str:
    return "this machine" if archive.source == "local" else archive.origin


def _reasons(failures: list[str]) -> str:
    return f" ({'; '.join(failures)})" if failures else ""


def note_compiler(
    layer: Layer,
    runtime_lock: RuntimeLock,
    messages: Messages,
    interpreter: tuple[Version, str],
    failures: list[str],
) -> None:
    """Report that another version than the locked one compiles bytecode.

    `interpreter` is its version and origin; `failures` are the reasons why the locked one is not
    used.
    """
    version, place = interpreter
    locked = runtime_lock.python_version
    if version != locked:
        _note_once(
            f"{layer.name}: CPython {version} from {place}",
            f" compiles the bytecode instead of the locked {locked}{_reasons(failures)}; "
            f"machines with {locked} make different archives",
            messages,
        )


def _note_once(subject: str, text: str, messages: Messages) -> None:
    """Show the message, unless `messages` already got one about `subject`."""
    noted = _noted.setdefault(messages, set())
    if subject not in noted:
        noted.add(subject)
        messages.note(subject + text)


def _in_one_line(error: FetchError) -> str:
    found = dict(error.details).get("found")
    return f"{error.message} ({found})" if found else error.message


def _remedy(sources: tuple[RuntimeSource, ...]) -> str:
    wider = "" if "local" in sources else "add `local` to `sources`, "
    return (
        f"{wider}set a `mirror`, or an archive under `downloads` "
        "(`stackbuild runtime pack` makes one on a machine of that platform)"
    )
