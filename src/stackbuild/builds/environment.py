"""Create build environments: the layer's interpreter with pinned requirements."""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING

from stackbuild.errors import FetchError, LockError
from stackbuild.files import EARLIEST
from stackbuild.lock.model import BuildRequirement
from stackbuild.processes import network_environment, uv_environment
from stackbuild.resolve.explain import Explainer
from stackbuild.resolve.metadata import Metadata
from stackbuild.resolve.request import ResolveRequest
from stackbuild.resolve.uv import UnresolvableError, Uv
from stackbuild.tomltext import fields
from stackbuild.variables import applied
from stackbuild.workspace import home_directory

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from stackbuild.builds.process import Runner
    from stackbuild.messages import Messages
    from stackbuild.resolve.build_orders import BuildOrder
    from stackbuild.workspace import Workspace


def pin_requirements(
    order: BuildOrder, requires: Sequence[str], workspace: Workspace, messages: Messages
) -> tuple[BuildRequirement, ...]:
    """Resolve `requires` to wheels, sorted by name.

    Raises LockError if wheels cannot satisfy them, and FetchError if an index cannot be read.
    """
    if not requires:
        return ()
    request = ResolveRequest(
        layer=f"build-{order.name}",
        requirements=tuple(requires),
        target=order.target,
        indexes=order.indexes,
        preferences=order.preferences,
    )
    uv = Uv(workspace)
    metadata = Metadata(workspace, messages, uv.pages)
    try:
        found = uv.ask(request).found
    except UnresolvableError as error:
        failure = Explainer(uv=uv, metadata=metadata).explain(request, error, order.layer, ())
        if isinstance(reason := failure.error(), FetchError):
            raise reason from None
        raise LockError(
            f"the build requirements of {order.subject} are not available",
            layer=order.layer.name,
            platform=order.platform,
            distribution=order.name,
            expected=", ".join(requires),
            found=error.flat,
            remedy=f"name other requirements in `build-wheel.{order.name}` as `build-requires`",
        ) from None
    files = metadata.files(found, order.indexes)
    return tuple(
        BuildRequirement(name=item.name, version=item.version, sha256=file.sha256)
        for item, file in zip(found, files, strict=True)
    )


def make_environment(
    directory: Path,
    interpreter: Path,
    requirements: Sequence[BuildRequirement],
    order: BuildOrder,
    runner: Runner,
    cache: Path,
) -> Path:
    """Create a virtual environment with only `requirements`; returns its interpreter.

    The sha256 of every wheel is checked. Raises RunError.
    """
    import uv

    environment = directory / "env"
    program = uv.find_uv_bin()
    common = ["--cache-dir", str(cache), "--system-certs", "--no-progress", "--color", "never"]
    words: list[str | Path] = [program, "venv", "--quiet", "--clear", "--no-config"]
    words += ["--python", interpreter]
    runner.run([*words, *common, environment], directory, uv_environment())
    python = environment / ("Scripts/python.exe" if os.name == "nt" else "bin/python")
    if requirements:
        settings = {**order.indexes.uv_settings, "index": order.indexes.tables()}
        config, pins = directory / "uv.toml", directory / "requirements.txt"
        # The file may contain credentials.
        config.touch(mode=0o600)
        config.write_text(fields(settings), encoding="utf-8")
        lines = [f"{pin.name}=={pin.version} --hash=sha256:{pin.sha256}\n" for pin in requirements]
        pins.write_text("".join(lines), encoding="utf-8")
        words = [program, "pip", "install", "--quiet", "--python", python, "--config-file", config]
        words += ["--no-deps", "--require-hashes", "--only-binary", ":all:", "-r", pins]
        try:
            runner.run([*words, *common], directory, uv_environment())
        finally:
            config.unlink()
    return python


def build_environment(order: BuildOrder, home: Path) -> dict[str, str]:
    """Environment variables for a build backend and its compilers; `home` is their HOME.

    Time (SOURCE_DATE_EPOCH), language and time zone are fixed. `build.environment` of the spec is
    applied last.
    """
    environment = network_environment() | {
        "HOME": str(home),
        "LC_ALL": "C.UTF-8",
        "TZ": "UTC",
        "SOURCE_DATE_EPOCH": str(EARLIEST),
        "PYTHONHASHSEED": "0",
        "PYTHONNOUSERSITE": "1",
    }
    if sys.platform == "linux":
        # sysconfig names the compiler of the machine that built the interpreter.
        environment |= {"CC": "gcc", "CXX": "g++"}
    user = home_directory()
    for name, folder in (("CARGO_HOME", ".cargo"), ("RUSTUP_HOME", ".rustup")):
        if user is not None and (toolchain := user / folder).is_dir():
            environment[name] = str(toolchain)
    environment |= order.target.uv_environment
    variables = order.layer.policy(order.platform).build.environment
    return environment | applied(variables, environment)
