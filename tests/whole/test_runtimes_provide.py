"""Interpreters from a mirror over real HTTP, from an explicit address, and from this machine."""

from __future__ import annotations

import hashlib
import json
import os
import random
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from packaging.utils import canonicalize_name
from packaging.version import Version

from stackbuild.cli.main import main
from stackbuild.errors import ComposeError, FetchError, IntegrityError, StackbuildError, UsageError
from stackbuild.files import sha256_file
from stackbuild.lock.model import RuntimeLock
from stackbuild.messages import Silent
from stackbuild.platforms import Platform, host_platform
from stackbuild.processes import clean_environment
from stackbuild.runtimes.interpreters import bytecode_interpreter, unpacked_interpreter
from stackbuild.runtimes.model import RuntimeArchive
from stackbuild.runtimes.pack import pack
from stackbuild.runtimes.probe import Facts, objection
from stackbuild.runtimes.provide import provide_runtime
from stackbuild.runtimes.tarball import unpack_tarball
from stackbuild.spec.model import Download, RuntimeSettings
from stackbuild.transport.retries import Patience
from tests.support.archives import make_archive
from tests.support.http import CutAfter, Redirect, Send, Server, Status, serving
from tests.support.interpreters import (
    MINORS,
    Listener,
    interpreters,
    packable,
    runtime_stack,
    workspace_in,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

    from stackbuild.messages import Messages
    from stackbuild.workspace import Workspace

DATA = random.Random(1).randbytes(2_000_000)
SHA256 = hashlib.sha256(DATA).hexdigest()
RELEASES = "https://releases.invalid/download"
FILE = "cpython-3.12.10%2B20250529-x86_64-unknown-linux-gnu-install_only_stripped.tar.gz"
LOCKED = Download(url=f"{RELEASES}/20250529/{FILE}", sha256=SHA256)
PATH = "/m/20250529/" + FILE.replace("%2B", "+")
FLAT = "/m/" + FILE.replace("%2B", "+")
PBS_ONLY = RuntimeSettings(sources=("pbs",))
QUICK = Patience(reach=1.0, silence=1.0, attempts=3, backoff=0.01)


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    return workspace_in(tmp_path)


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    """A workspace for tests that may find an interpreter packed already."""
    return workspace_in(tmp_path_factory.mktemp("shared"))


@pytest.fixture(scope="module")
def packed(original: Facts, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return pack(original.prefix, tmp_path_factory.mktemp("mirror"), Silent()).path


@pytest.fixture(autouse=True)
def no_mirror(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("PBS_INSTALLER_BASE_URL", raising=False)
    # On a busy machine an interpreter may take longer to start, and another would be chosen.
    monkeypatch.setattr("stackbuild.runtimes.probe.LIMIT", 300.0)


@pytest.fixture
def server() -> Iterator[Server]:
    with serving({PATH: DATA}) as running:
        yield running


@pytest.fixture(scope="session")
def original() -> Facts:
    return packable()


def provide(
    workspace: Workspace,
    settings: RuntimeSettings,
    *,
    platform: Platform = Platform.LINUX_X64,
    version: str = "3.12.10",
    locked: Download = LOCKED,
    messages: Messages | None = None,
) -> RuntimeArchive:
    stack, layer = runtime_stack(workspace.project, version, settings)
    lock = RuntimeLock(
        layer="cpython", python_version=Version(version), archives={Platform.LINUX_X64: locked}
    )
    return provide_runtime(
        stack, layer, platform, lock, workspace, messages or Silent(), patience=QUICK
    )


def from_mirror(server: Server, workspace: Workspace) -> RuntimeArchive:
    settings = RuntimeSettings(sources=("pbs",), mirror=server.url + "/m")
    return provide(workspace, settings)


def two_interpreters() -> tuple[Facts, Facts]:
    """Two that can be packed, of one minor version; of two patch versions, if there are such."""
    first = packable()
    for minor in MINORS:
        fit = [one for one in interpreters(minor) if objection(one, host_platform()) is None]
        for other in fit[1:]:
            if other.version != fit[0].version:
                return fit[0], other
    return first, first


def leftovers(workspace: Workspace) -> list[Path]:
    kept = workspace.runtimes / "downloads"
    return list(kept.rglob("*")) if kept.exists() else []


class TestMirror:
    def test_takes_the_archive_from_the_mirror_of_the_spec(
        self, server: Server, workspace: Workspace
    ) -> None:
        archive = from_mirror(server, workspace)
        assert archive.path.read_bytes() == DATA
        assert archive.sha256 == SHA256
        assert archive.version == Version("3.12.10")
        assert archive.source == "pbs"
        assert not archive.stands_in
        assert archive.origin == FILE.replace("%2B", "+")
        assert archive.path.name == archive.origin

    def test_takes_it_from_the_mirror_of_the_environment(
        self, server: Server, workspace: Workspace, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("PBS_INSTALLER_BASE_URL", server.url + "/m/")
        assert provide(workspace, PBS_ONLY).path.read_bytes() == DATA

    def test_takes_it_from_a_mirror_without_tags(self, workspace: Workspace) -> None:
        with serving({FLAT: DATA}) as server:
            assert from_mirror(server, workspace).path.read_bytes() == DATA
            assert [request.path for request in server.requests] == [PATH, FLAT]

    def test_takes_it_from_a_directory(self, workspace: Workspace, tmp_path: Path) -> None:
        file = tmp_path / PATH.lstrip("/")
        file.parent.mkdir(parents=True)
        file.write_bytes(DATA)
        settings = RuntimeSettings(sources=("pbs",), mirror=(tmp_path / "m").as_uri())
        assert provide(workspace, settings).path.read_bytes() == DATA

    def test_the_second_time_asks_nobody(self, server: Server, workspace: Workspace) -> None:
        first = from_mirror(server, workspace)
        server.script(PATH, Status(500))
        assert from_mirror(server, workspace) == first
        assert server.count() == 1

    def test_a_kept_archive_that_somebody_changed_is_fetched_again(
        self, server: Server, workspace: Workspace
    ) -> None:
        path = from_mirror(server, workspace).path
        path.write_bytes(DATA[:-1] + b"x")
        assert from_mirror(server, workspace).path.read_bytes() == DATA
        assert server.count() == 2

    def test_a_kept_archive_that_was_only_touched_is_read_again(
        self, server: Server, workspace: Workspace
    ) -> None:
        os.utime(from_mirror(server, workspace).path, (1, 1))
        from_mirror(server, workspace)
        assert server.count() == 1

    def test_redirect_failure_and_break(self, server: Server, workspace: Workspace) -> None:
        server.files["/elsewhere"] = DATA
        server.script(PATH, Status(503), Redirect("/elsewhere"), Redirect("/elsewhere"))
        server.script("/elsewhere", CutAfter(700_000))
        assert from_mirror(server, workspace).path.read_bytes() == DATA
        assert server.requests[-1].headers["range"] == "bytes=700000-"
        assert server.bytes_sent == len(DATA)

    def test_503_with_retry_after(self, server: Server, workspace: Workspace) -> None:
        server.script(PATH, Status(503, {"Retry-After": "1"}))
        started = time.monotonic()
        from_mirror(server, workspace)
        assert time.monotonic() - started >= 1.0

    def test_a_mirror_without_the_file(self, workspace: Workspace) -> None:
        with serving() as server, pytest.raises(FetchError) as caught:
            from_mirror(server, workspace)
        assert caught.value.message == "the interpreter of a runtime is not available"
        details = dict(caught.value.details)
        assert details["layer"] == "cpython"
        assert details["platform"] == "linux-x64"
        assert details["expected"] == "CPython 3.12.10"
        assert details["found"] == "pbs: the archive of the interpreter was not found"
        assert "runtime pack" in details["to fix"]
        assert leftovers(workspace) == []

    def test_other_bytes_are_no_reason_to_look_elsewhere(
        self, server: Server, workspace: Workspace
    ) -> None:
        server.script(PATH, Send(b"other"))
        settings = RuntimeSettings(sources=("pbs", "local"), mirror=server.url + "/m")
        with pytest.raises(IntegrityError, match=SHA256):
            provide(workspace, settings)
        assert leftovers(workspace) == []

    def test_an_interrupted_download_leaves_nothing(
        self, server: Server, workspace: Workspace
    ) -> None:
        server.script(PATH, *[CutAfter(10)] * 9)
        with pytest.raises(FetchError, match="the transfer failed 3 times"):
            from_mirror(server, workspace)
        assert leftovers(workspace) == []

    def test_no_secret_of_the_mirror_is_shown(self, server: Server, workspace: Workspace) -> None:
        listener = Listener()
        mirror = server.url.replace("//", "//ann:secret@") + "/m"
        settings = RuntimeSettings(sources=("pbs",), mirror=mirror)
        provide(workspace, settings, messages=listener)
        assert server.requests[0].headers["authorization"].startswith("Basic ")
        assert "secret" not in str(listener.notes)
        assert listener.notes[0].startswith(
            f"downloading {FILE.replace('%2B', '+')} from http://127"
        )


class TestUnreachable:
    def settings(self, port: int, *, local: Path | None = None) -> RuntimeSettings:
        return RuntimeSettings(mirror=f"http://127.0.0.1:{port}/m", path=local)

    def closed(self) -> int:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            return int(free.getsockname()[1])

    def test_an_interpreter_of_this_machine_stands_in(
        self, shared: Workspace, original: Facts
    ) -> None:
        port, listener = self.closed(), Listener()
        archive = provide(
            shared,
            self.settings(port, local=original.prefix),
            platform=host_platform(),
            version=f"{original.minor}.99",
            messages=listener,
        )
        assert archive.source == "local"
        assert archive.stands_in
        assert archive.version == original.version
        assert archive.sha256 == sha256_file(archive.path)
        note = listener.notes[-1]
        assert note.startswith(
            f"cpython on {host_platform()}: CPython {original.version} from this machine is used "
            f"instead of {original.minor}.99 from python-build-standalone (pbs: 127.0.0.1 "
            "cannot be reached (Connection refused))"
        )
        count = len(archive.host_libraries)
        library = "library" if count == 1 else "libraries"
        assert note.endswith(f"; it needs {count} {library} on its host" if count else "))")
        assert not any(name in note for name in archive.host_libraries)
        assert archive.host_libraries == tuple(sorted(archive.host_libraries))

    def test_it_is_remembered_for_ten_minutes(self, shared: Workspace, original: Facts) -> None:
        with serving() as server:
            memory = shared.runtimes / "unreachable.json"
            memory.unlink(missing_ok=True)
            settings = self.settings(self.closed(), local=original.prefix)
            version = f"{original.minor}.99"
            provide(shared, settings, platform=host_platform(), version=version)
            (host,) = json.loads(memory.read_bytes())
            memory.write_text(memory.read_text().replace(host, server.url.removeprefix("http://")))
            listener = Listener()
            settings = self.settings(server.port, local=original.prefix)
            provide(shared, settings, platform=host_platform(), version=version, messages=listener)
            assert server.count() == 0
            assert (
                "127.0.0.1 could not be reached less than a minute ago (Connection refused), and is"
                in listener.notes[-1]
            )
            since, reason = next(iter(json.loads(memory.read_bytes()).values()))
            remembered = {server.url.removeprefix("http://"): (since - 601, reason)}
            memory.write_text(json.dumps(remembered))
            provide(shared, settings, platform=host_platform(), version=version)
            assert server.count() == 2

    def test_without_another_source_it_is_tried_again(self, workspace: Workspace) -> None:
        with serving({PATH: DATA}) as server:
            memory = workspace.runtimes / "unreachable.json"
            memory.parent.mkdir(parents=True)
            host = server.url.removeprefix("http://")
            memory.write_text(json.dumps({host: (time.time(), "Connection refused")}))
            assert from_mirror(server, workspace).path.read_bytes() == DATA

    @pytest.mark.parametrize("text", ["", "[]", '{"h": 1}', '{"h": ["x", "y"]}', "\x00"])
    def test_a_damaged_memory_is_forgotten(
        self, server: Server, workspace: Workspace, text: str
    ) -> None:
        memory = workspace.runtimes / "unreachable.json"
        memory.parent.mkdir(parents=True)
        memory.write_text(text)
        settings = RuntimeSettings(mirror=server.url + "/m")
        assert provide(workspace, settings).source == "pbs"

    def test_a_host_that_never_answers_is_given_up(self, workspace: Workspace) -> None:
        with socket.socket() as silent:
            silent.bind(("127.0.0.1", 0))
            silent.listen(8)
            port = silent.getsockname()[1]
            settings = RuntimeSettings(sources=("pbs",), mirror=f"http://127.0.0.1:{port}/m")
            started = time.monotonic()
            with pytest.raises(FetchError, match="no answer within 1 seconds"):
                provide(workspace, settings)
            assert time.monotonic() - started < 3.0
        assert leftovers(workspace) == []

    def test_nothing_of_this_machine_stands_in_for_another_platform(
        self, workspace: Workspace
    ) -> None:
        foreign = next(item for item in Platform if item.os != host_platform().os)
        with pytest.raises(FetchError) as caught:
            provide(workspace, RuntimeSettings(), platform=foreign)
        assert dict(caught.value.details)["found"] == (
            f"pbs: CPython 3.12.10 is not locked for {foreign}; "
            f"local: this machine only has interpreters for {host_platform()}"
        )


class TestExplicit:
    def test_it_comes_before_every_other_source(self, workspace: Workspace) -> None:
        with serving({"/own.tar.gz": DATA, PATH: b"not this"}) as server:
            own = Download(url=server.url + "/own.tar.gz", sha256=SHA256)
            settings = RuntimeSettings(
                downloads={Platform.LINUX_X64: own}, mirror=server.url + "/m"
            )
            archive = provide(workspace, settings)
            assert [request.path for request in server.requests] == ["/own.tar.gz"]
        assert archive.source == "url"
        assert not archive.stands_in
        assert archive.path.read_bytes() == DATA

    def test_nothing_stands_in_for_it(self, workspace: Workspace) -> None:
        with serving() as server:
            own = Download(url=server.url + "/own.tar.gz", sha256=SHA256)
            with pytest.raises(FetchError, match="the archive of the interpreter was not found"):
                provide(workspace, RuntimeSettings(downloads={Platform.LINUX_X64: own}))
        assert leftovers(workspace) == []

    def test_one_of_another_patch_version_stands_in(self, workspace: Workspace) -> None:
        name = "cpython-3.12.1+20240107-x86_64-unknown-linux-gnu-install_only.tar.gz"
        listener = Listener()
        with serving({f"/{name}": DATA}) as server:
            own = Download(url=f"{server.url}/{name.replace('+', '%2B')}", sha256=SHA256)
            settings = RuntimeSettings(downloads={Platform.LINUX_X64: own})
            archive = provide(workspace, settings, messages=listener)
        assert archive.version == Version("3.12.1")
        assert archive.stands_in
        assert listener.notes[-1] == (
            f"cpython on linux-x64: CPython 3.12.1 from {name} is used instead of 3.12.10 from "
            "python-build-standalone"
        )

    @pytest.mark.parametrize(
        ("platform", "header"),
        [
            (Platform.WINDOWS_X64, "include/patchlevel.h"),
            (Platform.MACOSX_AARCH64, "include/python3.12/patchlevel.h"),
        ],
    )
    def test_the_archive_itself_says_its_version(
        self, workspace: Workspace, tmp_path: Path, platform: Platform, header: str
    ) -> None:
        text = b'#define PY_MICRO_VERSION 9\n#define PY_VERSION      \t"3.12.9+"\n'
        made = make_archive(tmp_path / "python.tar.gz", {"python.exe": b"", header: text})
        listener = Listener()
        with serving({"/python.tar.gz": made.path.read_bytes()}) as server:
            own = Download(url=f"{server.url}/python.tar.gz", sha256=made.sha256)
            settings = RuntimeSettings(downloads={platform: own})
            archive = provide(workspace, settings, platform=platform, messages=listener)
            again = provide(workspace, settings, platform=platform)
            with pytest.raises(ComposeError, match="contains another version of CPython"):
                provide(workspace, settings, platform=platform, version="3.13.0")
        assert archive.version == again.version == Version("3.12.9")
        assert archive.stands_in
        assert "CPython 3.12.9 from python.tar.gz is used instead of 3.12.10" in listener.notes[-1]

    def test_one_of_another_minor_version_is_refused(self, workspace: Workspace) -> None:
        name = "cpython-3.11.7+20240107-x86_64-unknown-linux-gnu-install_only.tar.gz"
        with serving({f"/{name}": DATA}) as server:
            own = Download(url=f"{server.url}/{name}", sha256=SHA256)
            settings = RuntimeSettings(downloads={Platform.LINUX_X64: own})
            with pytest.raises(ComposeError, match="contains another version of CPython"):
                provide(workspace, settings)


class TestLocal:
    def local(self, workspace: Workspace, original: Facts, **more: object) -> RuntimeArchive:
        values: dict[str, object] = {"sources": ("local",), **more}
        return provide(
            workspace,
            RuntimeSettings(**values),  # type: ignore[arg-type]  # fields by name
            platform=host_platform(),
            version=str(original.version),
        )

    def test_finds_one_by_itself(self, shared: Workspace, original: Facts) -> None:
        archive = self.local(shared, original)
        assert archive.version.release[:2] == original.version.release[:2]
        assert archive.stands_in
        assert str(archive.version) in archive.origin

    def test_the_second_time_starts_nothing(
        self, shared: Workspace, original: Facts, tmp_path: Path
    ) -> None:
        counted = tmp_path / "counted"
        wrapper = tmp_path / "python"
        wrapper.write_text(f'#!/bin/sh\necho >> "{counted}"\nexec "{original.executable}" "$@"\n')
        wrapper.chmod(0o755)
        first = self.local(shared, original, path=wrapper)
        assert counted.read_text() == "\n"
        assert self.local(shared, original, path=wrapper) == first
        assert counted.read_text() == "\n"
        # Once it has changed it is asked again.
        os.utime(wrapper, (1, 1))
        assert self.local(shared, original, path=wrapper) == first
        assert counted.read_text() == "\n\n"

    def test_the_second_time_needs_no_finder(self, shared: Workspace, original: Facts) -> None:
        self.local(shared, original)
        program = (
            "import sys\n"
            "from pathlib import Path\n"
            "from packaging.version import Version\n"
            "from stackbuild.messages import Silent\n"
            "from stackbuild.platforms import host_platform\n"
            "from stackbuild.runtimes.local import local_archive\n"
            "from stackbuild.spec.model import RuntimeSettings\n"
            "from stackbuild.workspace import Workspace\n"
            "cache = Path(sys.argv[1])\n"
            "local_archive(Version(sys.argv[2]), RuntimeSettings(sources=('local',)),\n"
            "    host_platform(), Workspace(project=cache, cache=cache, jobs=1), Silent())\n"
            "print(sorted({'findpython', 'elftools', 'urllib3', 'subprocess'} & {*sys.modules}))\n"
        )
        done = subprocess.run(
            [sys.executable, "-c", program, shared.cache, str(original.version)],
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.stdout == "[]\n", done.stderr

    def test_a_damaged_archive_is_packed_again(self, shared: Workspace, original: Facts) -> None:
        first = self.local(shared, original, path=original.prefix)
        first.path.write_bytes(b"damaged")
        assert self.local(shared, original, path=original.prefix).sha256 == first.sha256
        assert sha256_file(first.path) == first.sha256

    def test_keeps_what_the_spec_asks_for(
        self, shared: Workspace, original: Facts, tmp_path: Path
    ) -> None:
        if not list(original.stdlib.glob("site-packages/pip-*.dist-info/RECORD")):
            pytest.skip("this interpreter has no pip")
        plain = self.local(shared, original, path=original.prefix)
        kept = self.local(shared, original, path=original.prefix, keep=(canonicalize_name("pip"),))
        assert kept.sha256 != plain.sha256
        python = unpacked_interpreter(kept, shared).executable
        done = subprocess.run(
            [python.with_name("pip3"), "--version"],
            capture_output=True,
            text=True,
            check=False,
            env=clean_environment(),
        )
        assert f"{python.parents[1]}/lib" in done.stdout, done.stderr
        site = python.parents[1] / f"lib/python{original.minor}/site-packages"
        assert {path.name.partition("-")[0] for path in site.iterdir()} == {"pip"}

    def test_one_of_another_version_is_refused(self, shared: Workspace, original: Facts) -> None:
        with pytest.raises(ComposeError, match="has another minor version") as caught:
            provide(
                shared,
                RuntimeSettings(sources=("local",), path=original.prefix),
                platform=host_platform(),
                version="3.9.1",
            )
        assert dict(caught.value.details)["expected"] == "CPython 3.9"

    def test_a_path_without_an_interpreter_is_refused(
        self, workspace: Workspace, original: Facts, tmp_path: Path
    ) -> None:
        with pytest.raises(UsageError, match="this is neither a working interpreter"):
            self.local(workspace, original, path=tmp_path)

    def test_a_version_that_nobody_has(self, workspace: Workspace) -> None:
        with pytest.raises(FetchError) as caught:
            provide(
                workspace,
                RuntimeSettings(sources=("local",)),
                platform=host_platform(),
                version="3.77.1",
            )
        assert "local: no CPython 3.77 of this machine can be packed (no CPython 3.77)" in str(
            caught.value
        )


class TestUnpacked:
    def test_it_is_unpacked_once_and_runs(self, shared: Workspace, original: Facts) -> None:
        settings = RuntimeSettings(sources=("local",), path=original.prefix)
        archive = provide(shared, settings, platform=host_platform(), version=str(original.version))
        python = unpacked_interpreter(archive, shared).executable
        assert python.is_relative_to(shared.cache)
        done = subprocess.run(
            [python, "-I", "-c", "import sys; print(sys.prefix)"],
            capture_output=True,
            text=True,
            check=True,
            env=clean_environment(),
        )
        assert done.stdout == f"{python.parents[1]}\n"
        changed = python.stat().st_ctime_ns
        assert unpacked_interpreter(archive, shared).executable == python
        assert python.stat().st_ctime_ns == changed

    def test_an_archive_that_does_not_run_leaves_nothing(
        self, workspace: Workspace, tmp_path: Path
    ) -> None:
        from stackbuild.runtimes.contents import Entry
        from stackbuild.runtimes.tarball import write_tarball

        path = tmp_path / "a.tar.gz"
        write_tarball(path, {"bin/python3.12": Entry(data=b"no program", executable=True)})
        archive = RuntimeArchive(
            path=path,
            sha256=sha256_file(path),
            version=Version("3.12.1"),
            source="url",
            stands_in=False,
            origin=path.name,
        )
        with pytest.raises(ComposeError, match="does not run on this machine"):
            unpacked_interpreter(archive, workspace)
        assert list((workspace.runtimes / "unpacked").iterdir()) == []


class TestBytecodeInterpreter:
    def lock(self, version: str) -> RuntimeLock:
        return RuntimeLock(layer="cpython", python_version=Version(version), archives={})

    def test_one_of_the_locked_version_goes_unsaid(
        self, shared: Workspace, original: Facts
    ) -> None:
        version = str(original.version)
        settings = RuntimeSettings(sources=("local",), path=original.prefix)
        stack, layer = runtime_stack(shared.project, version, settings)
        listener = Listener()
        found = bytecode_interpreter(stack, layer, self.lock(version), shared, listener)
        assert found.executable.is_relative_to(shared.cache)
        assert found.version == version
        # It makes the same bytecode as python-build-standalone's.
        assert [note for note in listener.notes if "CPython" in note] == []
        lock = self.lock(version)
        provide_runtime(stack, layer, host_platform(), lock, shared, listener)
        assert ["is used instead of" in note for note in listener.notes] == [True]

    def test_the_locked_archive_comes_before_an_interpreter_of_this_machine(
        self, workspace: Workspace, tmp_path: Path
    ) -> None:
        """Also where layers for this platform get one of this machine."""
        locked, local = two_interpreters()
        archive = pack(locked.prefix, tmp_path / "mirror", Silent()).path
        sha256 = sha256_file(archive)
        url = f"{RELEASES}/{archive.parent.name}/{archive.name.replace('+', '%2B')}"
        with serving(directory=archive.parents[1]) as server:
            settings = RuntimeSettings(
                sources=("local", "pbs"), path=local.prefix, mirror=server.url
            )
            stack, layer = runtime_stack(workspace.project, str(locked.version), settings)
            lock = RuntimeLock(
                layer="cpython",
                python_version=locked.version,
                archives={host_platform(): Download(url=url, sha256=sha256)},
            )
            listener = Listener()
            found = bytecode_interpreter(stack, layer, lock, workspace, listener)
            assert server.count() == 1
        assert found.version == str(locked.version)
        assert found.executable.is_relative_to(workspace.runtimes / "unpacked" / sha256[:32])
        assert [note for note in listener.notes if "instead of" in note] == []
        shipped = provide_runtime(stack, layer, host_platform(), lock, workspace, listener)
        assert (shipped.source, shipped.version) == ("local", local.version)

    def test_another_patch_version_is_told_once(self, shared: Workspace, original: Facts) -> None:
        version = f"{original.minor}.99"
        with socket.socket() as closed:
            closed.bind(("127.0.0.1", 0))
            mirror = f"http://127.0.0.1:{closed.getsockname()[1]}/m"
            settings = RuntimeSettings(mirror=mirror, path=original.prefix)
            stack, layer = runtime_stack(shared.project, version, settings)
            lock = RuntimeLock(
                layer="cpython",
                python_version=Version(version),
                archives={host_platform(): LOCKED},
            )
            listener = Listener()
            (shared.runtimes / "unreachable.json").unlink(missing_ok=True)
            for _ in range(2):
                found = bytecode_interpreter(stack, layer, lock, shared, listener)
        assert found.version == str(original.version)
        (note,) = [note for note in listener.notes if "bytecode" in note]
        start = (
            f"cpython: CPython {original.version} from this machine compiles the bytecode instead"
        )
        assert note.startswith(f"{start} of the locked {version} (pbs: 127.0.0.1 ")
        assert note.endswith(f"; machines with {version} make different archives")

    def test_or_any_of_this_machine(self, workspace: Workspace) -> None:
        version = f"{sys.version_info[0]}.{sys.version_info[1]}.99"
        stack, layer = runtime_stack(workspace.project, version, PBS_ONLY)
        listener = Listener()
        found = bytecode_interpreter(stack, layer, self.lock(version), workspace, listener)
        words: list[str | Path] = [
            found.executable,
            "-c",
            "import platform; print(platform.python_version())",
        ]
        done = subprocess.run(words, capture_output=True, text=True, check=True)
        assert done.stdout.strip() == found.version
        assert found.version.startswith(version[:4])
        (note,) = listener.notes
        assert f"compiles the bytecode instead of the locked {version} (" in note

    def test_or_an_error_that_names_a_way_out(self, workspace: Workspace) -> None:
        stack, layer = runtime_stack(workspace.project, "3.77.0", PBS_ONLY)
        with pytest.raises(ComposeError, match=r"`bytecode = false` under \[tool.stackbuild"):
            bytecode_interpreter(stack, layer, self.lock("3.77.0"), workspace, Silent())


class TestAirGapped:
    """`stackbuild runtime pack` makes a mirror; what it prints makes a stack use it."""

    def test_pack_serve_and_use(
        self,
        workspace: Workspace,
        original: Facts,
        tmp_path: Path,
        capsys: pytest.CaptureFixture[str],
    ) -> None:
        import tomllib

        mirror = tmp_path / "mirror é"
        assert main(["runtime", "pack", str(original.prefix), "--to", str(mirror)]) == 0
        out, err = capsys.readouterr()
        packed = Path(out.partition("\n")[0])
        assert packed.is_relative_to(mirror)
        table = tomllib.loads(out.partition("\n\n")[2])["tool"]["stackbuild"]["layers"]
        said = table[f"cpython-{original.minor}"]["downloads"][str(host_platform())]
        assert said["sha256"] == sha256_file(packed)
        assert said["url"] == packed.as_uri()
        libraries = tuple(said.get("host-libraries", ()))
        note = f"needs these libraries on the host: {', '.join(libraries)}"
        assert (note in err) == bool(libraries)
        with serving(directory=mirror) as server:
            url = said["url"].replace(mirror.as_uri(), server.url)
            libraries = ("libodd.so.1", *libraries)
            own = Download(url=url, sha256=said["sha256"], host_libraries=libraries)
            settings = RuntimeSettings(downloads={host_platform(): own})
            archive = provide(
                workspace, settings, platform=host_platform(), version=str(original.version)
            )
        assert unpacked_interpreter(archive, workspace).executable.is_file()
        # As for an interpreter that is packed on this machine, `publish` and `verify` accept them.
        assert archive.host_libraries == libraries

    def test_a_mirror_base_serves_it_under_the_locked_address(
        self, workspace: Workspace, original: Facts, packed: Path, tmp_path: Path
    ) -> None:
        name = packed.name.replace("+", "%2B")
        locked = Download(url=f"{RELEASES}/{packed.parent.name}/{name}", sha256=sha256_file(packed))
        with serving(directory=packed.parents[1]) as server:
            settings = RuntimeSettings(sources=("pbs",), mirror=server.url)
            archive = provide(workspace, settings, version=str(original.version), locked=locked)
        (tmp_path / "out").mkdir()
        unpack_tarball(archive.path, tmp_path / "out")
        assert (tmp_path / f"out/python/bin/python{original.minor}").is_file()

    def test_an_archive_of_one_s_own_is_not_the_locked_one(
        self, workspace: Workspace, original: Facts, packed: Path
    ) -> None:
        name = packed.name.replace("+", "%2B")
        locked = Download(url=f"{RELEASES}/{packed.parent.name}/{name}", sha256=SHA256)
        settings = RuntimeSettings(mirror=packed.parents[1].as_uri())
        with pytest.raises(StackbuildError, match="is not the expected one"):
            provide(workspace, settings, version=str(original.version), locked=locked)
