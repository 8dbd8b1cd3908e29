"""The environment that a wheel is built in: the layer's interpreter, and pinned requirements."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from stackbuild.builds.process import tool_environment
from stackbuild.errors import LockError
from stackbuild.lock.model import BuildRequirement
from stackbuild.resolve.file_sizes import Sizes
from stackbuild.resolve.request import ResolveRequest
from stackbuild.resolve.uv import UnresolvableError, Uv

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
    """A wheel for each distribution that `requires` comes to, sorted by name.

    Raises LockError when they cannot be met by wheels.
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
    try:
        found = Uv(workspace).ask(request).found
    except UnresolvableError as error:
        raise LockError(
            f"what building {order.subject} requires cannot be had",
            layer=order.layer.name,
            platform=order.platform,
            distribution=order.name,
            expected=", ".join(requires),
            found=error.flat.removeprefix("error: "),
            remedy=f"name other requirements in `build-wheel.{order.name}` as `build-requires`",
        ) from None
    files = Sizes(workspace, messages).complete(found, order.indexes)
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
    """Make a virtual environment that holds `requirements` and nothing else; its interpreter.

    Every wheel is checked against its sha256. Raises RunError.
    """
    import tomlkit
    import uv

    environment = directory / "env"
    program = uv.find_uv_bin()
    common = ["--cache-dir", str(cache), "--system-certs", "--no-progress", "--color", "never"]
    plain = tool_environment()
    words: list[str | Path] = [
        program,
        "venv",
        "--quiet",
        "--clear",
        "--no-config",
        "--python",
        interpreter,
    ]
    runner.run([*words, *common, environment], directory, plain)
    python = environment / ("Scripts/python.exe" if os.name == "nt" else "bin/python")
    if requirements:
        settings = {**order.indexes.uv_settings, "index": order.indexes.tables()}
        config, pins = directory / "uv.toml", directory / "requirements.txt"
        # There may be credentials in it.
        config.touch(mode=0o600)
        config.write_text(tomlkit.dumps(settings), encoding="utf-8")
        lines = [f"{pin.name}=={pin.version} --hash=sha256:{pin.sha256}\n" for pin in requirements]
        pins.write_text("".join(lines), encoding="utf-8")
        words = [program, "pip", "install", "--quiet", "--python", python, "--config-file", config]
        words += ["--no-deps", "--require-hashes", "--only-binary", ":all:", "-r", pins]
        try:
            runner.run([*words, *common], directory, plain)
        finally:
            config.unlink()
    return python
