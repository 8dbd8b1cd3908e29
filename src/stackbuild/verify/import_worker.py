"""Import native modules, each in its own process, and report the results.

Run by the interpreter of a layer (CPython 3.9 and later), started by `server.py`; needs only the
standard library. Arguments: a directory for the output of the modules, and the name of one module
on systems without fork. Tasks are lines of JSON on stdin, results are lines of JSON on the original
stdout; output of the modules goes to files.

The modules of a task form a tree by the dots in their names. This process forks a child that
imports a package; the child forks a child for each module in it, and so on. So every module is
imported in a process that has imported only its parent packages, as with a plain `import`, but each
package is imported only once.
"""

# Modules imported here are also present in the processes of all tested modules, so pathlib, typing
# and contextlib are not used.
# ruff: noqa: PTH108, PTH118, PTH123, SIM105
from __future__ import annotations

import faulthandler
import importlib
import json
import os
import select
import signal
import sys
import time

TYPE_CHECKING = False
if TYPE_CHECKING:
    from types import FrameType
    from typing import Any, NoReturn

_TEXT_LIMIT = 2000
_MOST_MISSING = 10
_GRACE = 0.3
"""Seconds for a process to write its traceback before it is killed."""

_child = 0
"""The child that this process waits for."""


def main() -> None:
    """Serve tasks, or import the one module in the arguments."""
    logs = sys.argv[1]
    _no_core_files()
    out = os.dup(1)
    silence = os.open(os.devnull, os.O_RDWR)
    if len(sys.argv) > 2:
        _tell_crashes(2)
        os.dup2(silence, 0)
        os.dup2(2, 1)
        _send(out, _attempt(sys.argv[2]))
        os._exit(0)
    tasks = os.dup(0)
    for standard in (0, 1, 2):
        os.dup2(silence, standard)
    signal.signal(signal.SIGTERM, _end)
    for task in _lines(tasks):
        tree: dict[str, Any] = {}
        for name in task["modules"]:
            _plant(tree, name, task["alone"])
        _visit_all(tree, out, logs, task["limit"])
        _send(out, {"task": "done"})


def _no_core_files() -> None:
    try:
        import resource

        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    except (ImportError, OSError, ValueError):
        pass  # failure only leaves files in a temporary directory


def _lines(descriptor: int) -> Any:
    rest = b""
    while data := os.read(descriptor, 65536):
        *whole, rest = (rest + data).split(b"\n")
        for line in whole:
            yield json.loads(line)


def _plant(tree: dict[str, Any], name: str, alone: bool) -> None:
    """Add a module to the tree; `alone` adds it directly below the root."""
    parts = [name] if alone else name.split(".")
    below = tree
    for number, _ in enumerate(parts, 1):
        node = below.setdefault(".".join(parts[:number]), {"wanted": False, "below": {}})
        below = node["below"]
    node["wanted"] = True


def _visit_all(tree: dict[str, Any], out: int, logs: str, limit: float) -> None:
    for name, node in tree.items():
        _visit(name, node, out, logs, limit)


def _visit(name: str, node: dict[str, Any], out: int, logs: str, limit: float) -> None:
    """Import `name` in a child, which then imports the modules below it."""
    global _child  # noqa: PLW0603 - for the signal handler
    begin = time.monotonic()
    reading, writing = os.pipe()
    pid = os.fork()
    if not pid:
        _child = 0
        os.close(reading)
        _be_child(name, node, writing, (out, logs, limit))
    _child = pid
    os.close(writing)
    answer, ended = _wait(reading, pid, begin + limit)
    os.close(reading)
    if answer is None:
        answer = _hang(pid, limit) if ended is None else _death(ended)
        answer["output"] = _output(logs, pid)
    elif ended is None:
        os.waitpid(pid, 0)
    _child = 0
    _kill_group(pid)
    if answer["result"] != "imported":
        names = [name] if node["wanted"] else []
        _tell(out, name, [*names, *_wanted(node["below"])], answer, begin)
    _remove(_log(logs, pid))


def _tell(out: int, name: str, modules: list[str], answer: dict[str, Any], begin: float) -> None:
    """Report the result of importing `name` for each of `modules`."""
    took = round(time.monotonic() - begin, 3)
    _send(out, {**answer, "at": name, "modules": modules, "seconds": took})


def _wanted(tree: dict[str, Any]) -> list[str]:
    names = []
    for name, node in tree.items():
        names += [name] if node["wanted"] else []
        names += _wanted(node["below"])
    return names


def _be_child(
    name: str, node: dict[str, Any], writing: int, rest: tuple[int, str, float]
) -> NoReturn:
    out, logs, limit = rest
    begin = time.monotonic()
    below = node["below"]
    try:
        os.setpgid(0, 0)
        log = os.open(_log(logs, os.getpid()), os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        os.dup2(log, 1)
        os.dup2(log, 2)
        _tell_crashes(log)
        answer = _attempt(name)
        if answer["result"] == "imported":
            # Reported here, before the children report theirs.
            _tell(out, name, [name] if node["wanted"] else [], answer, begin)
            if below and _has_threads():
                # A lock held by a thread would stay locked in a child forever.
                _tell(out, name, _wanted(below), {"result": "not forked"}, begin)
                below = {}
        _send(writing, answer)
        os.close(writing)
        if answer["result"] == "imported":
            signal.signal(signal.SIGTERM, _end)  # the package may have replaced the handler
            _visit_all(below, out, logs, limit)
    finally:
        os._exit(0)


def _attempt(name: str) -> dict[str, Any]:
    try:
        importlib.import_module(name)
    except BaseException as error:  # noqa: BLE001 - a module may raise anything, also SystemExit
        text = f"{type(error).__name__}: {str(error).strip() or 'no message'}"[:_TEXT_LIMIT]
        return {"result": "error", "text": text, "missing": _missing(error)}
    return {"result": "imported"}


def _missing(error: BaseException) -> list[str]:
    """What `error` and its causes could not find: files and modules, by path in site-packages."""
    found: list[str] = []
    seen: BaseException | None = error
    while seen is not None and len(found) < _MOST_MISSING:
        if isinstance(seen, ImportError) and seen.name:
            # `from package import module`, from CPython 3.12 on
            parts = (seen.name, getattr(seen, "name_from", None) or "")
            found.append(".".join(filter(None, parts)).replace(".", "/"))
        elif isinstance(seen, FileNotFoundError) and isinstance(seen.filename, str):
            places = [place for place in sys.path if seen.filename.startswith(f"{place}{os.sep}")]
            found += [seen.filename[len(place) + 1 :].replace(os.sep, "/") for place in places]
        seen = seen.__cause__ or seen.__context__
    return found


def _has_threads() -> bool:
    try:
        return len(os.listdir("/proc/self/task")) > 1  # noqa: PTH208 - as above
    except OSError:
        threading = sys.modules.get("threading")
        return threading is not None and threading.active_count() > 1


def _wait(reading: int, pid: int, deadline: float) -> tuple[dict[str, Any] | None, int | None]:
    """The answer of the child or None, and its wait status if it has ended."""
    data = b""
    ended = None
    while True:
        rest = deadline - time.monotonic()
        if rest <= 0:
            return None, ended
        # A process started by the module may keep the pipe open, so also check whether the child
        # has ended.
        ready = select.select([reading], [], [], 0 if ended is not None else min(rest, 0.1))[0]
        if ready:
            piece = os.read(reading, 65536)
            data += piece
            if data.endswith(b"\n"):
                return json.loads(data), ended
            if not piece:
                return None, os.waitpid(pid, 0)[1] if ended is None else ended
        elif ended is not None:
            return None, ended
        else:
            found, status = os.waitpid(pid, os.WNOHANG)
            ended = status if found else None


def _death(status: int) -> dict[str, Any]:
    if os.WIFSIGNALED(status):
        number = os.WTERMSIG(status)
        try:
            text = f"{signal.Signals(number).name} (signal {number})"
        except ValueError:
            text = f"signal {number}"
        return {"result": "crash", "text": f"killed by {text}"}
    code = os.WEXITSTATUS(status)
    return {"result": "crash", "text": f"ended the process with exit code {code}"}


def _hang(pid: int, limit: float) -> dict[str, Any]:
    processes = _descendants(pid)
    os.kill(pid, signal.SIGABRT)  # faulthandler writes the traceback
    deadline = time.monotonic() + _GRACE
    ended = 0
    while not ended and time.monotonic() < deadline:
        ended = os.waitpid(pid, os.WNOHANG)[0]
        time.sleep(0.01)
    _kill_group(pid)
    for process in processes:
        _kill(process)
    if not ended:
        os.waitpid(pid, 0)
    return {"result": "hang", "text": f"not imported within {limit:g} s"}


def _descendants(pid: int) -> list[int]:
    """The descendants of `pid`, also outside its process group (needs /proc)."""
    children: dict[int, list[int]] = {}
    try:
        names = [name for name in os.listdir("/proc") if name.isdigit()]  # noqa: PTH208 - as above
    except OSError:
        return []
    for name in names:
        try:
            with open(f"/proc/{name}/stat", "rb") as file:
                parent = int(file.read().rpartition(b")")[2].split()[1])
        except (OSError, ValueError, IndexError):
            continue
        children.setdefault(parent, []).append(int(name))
    found: list[int] = []
    pending = [pid]
    while pending:
        below = children.get(pending.pop(), [])
        found += below
        pending += below
    return found


def _kill(pid: int) -> None:
    try:
        os.kill(pid, signal.SIGKILL)
    except OSError:
        pass  # ended by itself


def _kill_group(pid: int) -> None:
    try:
        os.killpg(pid, signal.SIGKILL)
    except OSError:
        pass  # no process is left


def _end(number: int, frame: FrameType | None) -> NoReturn:
    """End the child and its descendants, then this process."""
    if _child:
        processes = _descendants(_child)
        try:
            os.kill(_child, signal.SIGTERM)
            deadline = time.monotonic() + _GRACE
            while time.monotonic() < deadline and not os.waitpid(_child, os.WNOHANG)[0]:
                time.sleep(0.01)
        except OSError:
            pass  # ended by itself
        _kill_group(_child)
        for process in processes:
            _kill(process)
    os._exit(128 + number)


def _tell_crashes(file: int) -> None:
    """Make a crash write its kind and the Python traceback to `file`."""
    # CPython 3.14 adds the C stack, which is longer than the part of the output that is kept.
    more: dict[str, Any] = {"c_stack": False} if sys.version_info >= (3, 14) else {}
    faulthandler.enable(file, **more)


def _log(logs: str, pid: int) -> str:
    return os.path.join(logs, f"{pid}.log")


def _output(logs: str, pid: int) -> str:
    """The end of the module's output."""
    try:
        with open(_log(logs, pid), "rb") as file:
            file.seek(max(0, os.fstat(file.fileno()).st_size - _TEXT_LIMIT))
            return file.read().decode("utf-8", "replace")
    except OSError:
        return ""


def _remove(path: str) -> None:
    try:
        os.unlink(path)
    except OSError:
        pass  # the child did not create it


def _send(descriptor: int, value: dict[str, Any]) -> None:
    # A non-UTF-8 name has surrogates in Python, which JSON cannot represent.
    data = json.dumps(value, ensure_ascii=False).encode("utf-8", "replace") + b"\n"
    while data:
        data = data[os.write(descriptor, data) :]


if __name__ == "__main__":
    main()
