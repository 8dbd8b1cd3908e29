"""The interpreter that makes a runtime's bytecode."""

from __future__ import annotations

from typing import TYPE_CHECKING

from stackbuild.errors import ComposeError, FetchError, UsageError
from stackbuild.platforms import host_platform
from stackbuild.runtimes.model import Interpreter
from stackbuild.runtimes.provide import provide_runtime
from stackbuild.runtimes.unpacked import unpacked_interpreter

if TYPE_CHECKING:
    from stackbuild.lock.model import RuntimeLock
    from stackbuild.messages import Messages
    from stackbuild.spec.model import Layer, Stack
    from stackbuild.workspace import Workspace


def bytecode_interpreter(
    stack: Stack,
    runtime: Layer,
    runtime_lock: RuntimeLock,
    workspace: Workspace,
    messages: Messages,
) -> Interpreter:
    """An interpreter of the runtime's minor version that runs here.

    Bytecode is the same on every platform, so the runtime's archive for the
    host serves for all of them; where it cannot be had, any interpreter of
    this machine does. Raises ComposeError when there is none.
    """
    try:
        platform = host_platform()
        archive = provide_runtime(
            stack, runtime, platform, runtime_lock, workspace, messages, tell=False
        )
    except (FetchError, UsageError):
        return _found(stack, runtime)
    executable = unpacked_interpreter(archive, workspace)
    return Interpreter(executable=executable, version=str(archive.version))


def _found(stack: Stack, runtime: Layer) -> Interpreter:
    from stackbuild.runtimes.find import candidates, find_interpreters, nearest_first

    version = stack.python_version(runtime)
    minor = f"{version.major}.{version.minor}"
    for facts in nearest_first(find_interpreters(minor, candidates()), version):
        # Another implementation or a free-threaded build writes other bytecode.
        if facts.implementation == "cpython" and not facts.abi and facts.executable.exists():
            return Interpreter(executable=facts.executable, version=str(facts.version))
    raise ComposeError(
        f"there is no CPython {minor} on this machine to make bytecode with",
        layer=runtime.name,
        remedy=f"install one (`uv python install {version}`), or set "
        "`bytecode = false` under [tool.stackbuild.frames]",
    )
