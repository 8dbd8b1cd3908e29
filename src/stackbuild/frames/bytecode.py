"""Make frames of bytecode, compiled by the interpreter of the layer."""

from __future__ import annotations

import subprocess
import threading
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import IO, TYPE_CHECKING

from stackbuild.errors import ComposeError
from stackbuild.frames.keys import frame_key
from stackbuild.frames.make import Part, plan_parts, run_parts
from stackbuild.frames.model import MAX_FILE_BYTES, Frame, FrameKind, FrameSet
from stackbuild.processes import system_environment

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from stackbuild.frames.cache import FrameCache
    from stackbuild.frames.sources import OpenSources, Sources
    from stackbuild.layout import Layout
    from stackbuild.runtimes.model import Interpreter
    from stackbuild.spec.model import FrameSettings

_PART_BYTES = 6 * 1024 * 1024
"""Bytes of sources in one part: a few seconds of compiling, and less than a frame of bytecode."""
_LARGEST_SOURCE = 64 * 1024 * 1024
_COST = 12
"""Compiling one byte takes as long as compressing this many."""
_WORKER = Path(__file__).with_name("compile_worker.py")


def bytecode_key(
    sources: Sources, interpreter: Interpreter, layout: Layout, settings: FrameSettings
) -> str:
    """The key of the frame set that `bytecode_set` makes.

    The interpreter's full version decides the magic number of its bytecode.
    """
    inputs = (sources.identity, layout.os, layout.python, interpreter.version)
    return frame_key("bytecode", *inputs, settings=settings)


def bytecode_set(
    sources: Sources,
    interpreter: Interpreter,
    layout: Layout,
    settings: FrameSettings,
    cache: FrameCache,
) -> FrameSet:
    """Frames of the `.pyc` files of `sources`, from the cache or newly made.

    The files use unchecked source hashes (PEP 552) and the paths of PEP 3147. Sources that do not
    compile are left out; if none compiles there are no frames. Raises ComposeError if the
    interpreter cannot be run or has another version than `interpreter`, IntegrityError for damaged
    sources.
    """
    key = bytecode_key(sources, interpreter, layout, settings)
    if found := cache.get(key):
        return found
    with sources.opened(cache) as files:
        sizes = [item for item in files.sizes.items() if item[1] <= _LARGEST_SOURCE]
        parts = plan_parts(sizes, lambda item: item, limit=_PART_BYTES)
        make = partial(_make_part, files, sources.subject, interpreter, layout, settings, cache)
        results = run_parts(
            [
                Part(
                    cost=_COST * sum(size for _, size in part),
                    run=partial(make, paths=[path for path, _ in part]),
                )
                for part in parts
            ]
        )
    return cache.put(
        FrameSet(
            key=key,
            frames=tuple(frame for frames, _ in results for frame in frames),
            paths=tuple(sorted(path for _, paths in results for path in paths)),
        )
    )


def pyc_path(path: str, layout: Layout) -> str:
    """The path of the bytecode of the module at `path` (PEP 3147)."""
    directory, _, name = path.rpartition("/")
    tag = f"cpython-{layout.python.replace('.', '')}"
    return f"{directory}/__pycache__/{name.removesuffix('.py')}.{tag}.pyc".removeprefix("/")


def _make_part(
    files: OpenSources,
    subject: str,
    interpreter: Interpreter,
    layout: Layout,
    settings: FrameSettings,
    cache: FrameCache,
    *,
    paths: Sequence[str],
) -> tuple[list[Frame], list[str]]:
    """The frames of one part, nearly always one, and the paths in them."""
    expected = sum(files.sizes[path] for path in paths)
    frames: list[Frame] = []
    made: list[str] = []
    with files.reader() as read, _compiled(interpreter, read, paths) as modules:
        module = next(modules, None)
        while module is not None:
            left = MAX_FILE_BYTES
            with cache.new_frame(
                FrameKind.BYTECODE, subject, settings.level, expected=expected
            ) as frame:
                while module is not None and (len(module[1]) <= left or left == MAX_FILE_BYTES):
                    path, pyc = pyc_path(module[0], layout), module[1]
                    frame.add(path, [pyc], size=len(pyc))
                    made.append(path)
                    left -= len(pyc)
                    module = next(modules, None)
            frames.append(frame.frame)
    return frames, made


@contextmanager
def _compiled(
    interpreter: Interpreter, read: Callable[[str], bytes], paths: Sequence[str]
) -> Iterator[Iterator[tuple[str, bytes]]]:
    """The modules of `paths` that compile, each with its bytecode, in order."""
    import tempfile

    with tempfile.TemporaryFile() as errors, _started(interpreter, errors) as process:
        sender = _Sender(process, read, paths)
        sender.start()
        try:
            yield _answers(interpreter, process, paths, sender, errors)
        finally:
            process.kill()
            sender.join()


@contextmanager
def _started(interpreter: Interpreter, errors: IO[bytes]) -> Iterator[subprocess.Popen[bytes]]:
    # On some versions the hash seed decides the order of strings in sets.
    environment = system_environment() | {"PYTHONHASHSEED": "0"}
    command = [str(interpreter.executable), "-s", "-S", "-B", "-W", "ignore", str(_WORKER)]
    try:
        process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=errors,
            env=environment,
        )
    except OSError as error:
        raise _failed(interpreter, f"cannot be started: {error}") from None
    with process:
        yield process


class _Sender(threading.Thread):
    """Sends the sources while another thread reads the answers."""

    def __init__(
        self, process: subprocess.Popen[bytes], read: Callable[[str], bytes], paths: Sequence[str]
    ) -> None:
        super().__init__(daemon=True)
        self.error: BaseException | None = None
        self._process = process
        self._read = read
        self._paths = paths

    def run(self) -> None:
        """Send all sources. After an error the reader gets too few answers."""
        requests = self._process.stdin
        if requests is None:
            return
        with suppress(OSError), requests:
            for path in self._paths:
                try:
                    source = self._read(path)
                except BaseException as error:  # noqa: BLE001 - raised by the reading thread
                    self.error = error
                    return
                name = path.encode()
                lengths = len(name).to_bytes(4, "little") + len(source).to_bytes(4, "little")
                requests.write(lengths + name)
                requests.write(source)


def _answers(
    interpreter: Interpreter,
    process: subprocess.Popen[bytes],
    paths: Sequence[str],
    sender: _Sender,
    errors: IO[bytes],
) -> Iterator[tuple[str, bytes]]:
    answers = process.stdout
    if answers is None:
        return
    version = answers.readline().decode("ascii", "replace").strip()
    if version and not _is_version(interpreter.version, version):
        raise _failed(interpreter, "has another version", interpreter.version, version)
    for path in paths:
        length = answers.read(4)
        pyc = answers.read(int.from_bytes(length, "little"))
        if len(length) < 4 or len(pyc) < int.from_bytes(length, "little"):
            if sender.error is not None:
                raise sender.error
            errors.seek(0)
            last = errors.read().decode("utf-8", "replace").strip().splitlines()[-1:]
            raise _failed(interpreter, "failed to compile a module", found="".join(last), file=path)
        if pyc:
            yield path, pyc


def _is_version(full: str, release: str) -> bool:
    """Whether `full`, such as ``3.14.0rc1``, is of the release ``3.14.0``."""
    return full == release or (full.startswith(release) and not full[len(release)].isdigit())


def _failed(
    interpreter: Interpreter,
    what: str,
    expected: str | None = None,
    found: str | None = None,
    file: str | None = None,
) -> ComposeError:
    return ComposeError(
        f"the interpreter for bytecode, {interpreter.executable}, {what}",
        file=file,
        expected=expected,
        found=found or None,
        remedy="use another interpreter, or set bytecode = false in [tool.stackbuild.frames]",
    )
