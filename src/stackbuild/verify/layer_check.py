"""Check the files that make a directory a layer: configuration, interpreter, scripts."""

from __future__ import annotations

import os
import re
import subprocess
from configparser import ConfigParser
from configparser import Error as ConfigError
from itertools import islice
from typing import TYPE_CHECKING

from stackbuild.compose.layer_metadata import PTH
from stackbuild.compose.postinstall_template import CONFIGURATION
from stackbuild.files import read_regular
from stackbuild.frames.model import FrameKind
from stackbuild.spec.model import LayerKind
from stackbuild.tomltext import layer_table
from stackbuild.verify.model import Finding

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from stackbuild.verify.deployed import DeployedLayer, Distribution

    _Problem = tuple[str, str, str | None, str | None]
    """The file, the problem, what was expected, and what was found."""

_GONE = "is missing"


def check_layer(layer: DeployedLayer, chain: Sequence[DeployedLayer]) -> Iterator[Finding]:
    """Find what keeps Python from starting in `layer`, or from seeing the layers below it.

    Also finds missing console scripts of distributions other than the interpreter's own.
    """
    if layer.manifest.kind is LayerKind.RUNTIME:
        problems = _runtime_problems(layer)
    else:
        problems = _upper_problems(layer, chain)
    for file, message, expected, found in problems:
        yield Finding(
            check="layer",
            layer=layer.manifest.layer,
            file=file,
            message=message,
            expected=expected,
            found=found,
            remedy=layer.remedy(file),
        )
    for distribution in layer.distributions:
        yield from _missing_scripts(layer, distribution)


def _runtime_problems(layer: DeployedLayer) -> Iterator[_Problem]:
    files = [layer.layout.runtime_interpreter]
    if layer.layout.os == "windows":
        files.append(f"python{layer.layout.python.replace('.', '')}.dll")
    for file in files:
        if not (layer.directory / file).is_file():
            yield file, _GONE, None, None


def _upper_problems(layer: DeployedLayer, chain: Sequence[DeployedLayer]) -> Iterator[_Problem]:
    layout, runtime = layer.layout, chain[-1]
    configuration = _text(layer, CONFIGURATION)
    if configuration is None:
        yield CONFIGURATION, _GONE, "the configuration of a virtual environment", None
    elif _shows_the_host(configuration):
        message = "makes distributions of the host visible in the layer"
        yield CONFIGURATION, message, "include-system-site-packages = false", None
    if layout.os == "windows":
        if not (layer.directory / layout.interpreter).is_file():
            yield layout.interpreter, _GONE, "the launcher of the interpreter", None
    else:
        target = f"{runtime.manifest.directory}/{layout.runtime_interpreter}"
        problems = (_link_problem(layer, path, target) for path in interpreter_links(layer))
        # The others lead to the first.
        yield from islice(filter(None, problems), 1)
    module = f"{layout.site_packages}/sitecustomize.py"
    code = _text(layer, module)
    if code is None:
        yield module, _GONE, "the module that makes the lower layers visible", None
    else:
        lower = [f"{one.manifest.directory}/{layout.site_packages}" for one in chain[1:]]
        for path in (path for path in lower if f"'{path}'" not in code):
            yield module, "does not make a lower layer visible", path, None
    if not (layer.directory / layout.site_packages / PTH).is_file():
        yield f"{layout.site_packages}/{PTH}", _GONE, "the file that runs sitecustomize.py", None


def interpreter_links(layer: DeployedLayer) -> list[str]:
    """The links that start Python in a layer above the runtime, on POSIX."""
    names = ("python", "python3", f"python{layer.layout.python}")
    return [f"{layer.layout.scripts}/{name}" for name in names]


def _link_problem(layer: DeployedLayer, path: str, target: str) -> _Problem | None:
    """The problem of the link at `path` that must lead to `target` in the same root."""
    link = layer.directory / path
    wanted = layer.directory.parent / target
    if not os.path.lexists(link):
        return path, _GONE, f"a link to {target}", None
    if not link.exists():
        return path, "is a broken link", f"a link to {target}", os.fspath(link.readlink())
    if not wanted.exists() or not link.samefile(wanted):
        return path, "does not start the interpreter of the runtime", target, str(link.resolve())
    return None if os.access(link, os.X_OK) else (path, "is not executable", None, None)


def _text(layer: DeployedLayer, path: str) -> str | None:
    try:
        return read_regular(layer.directory / path).decode("utf-8", errors="replace")
    except (OSError, ValueError):  # ValueError: a NUL in the path, which a damaged file may name
        return None


def _shows_the_host(configuration: str) -> bool:
    """Whether a layer with this `pyvenv.cfg` sees distributions of the host.

    As `site` reads it: the last of several lines counts, and none means true.
    """
    value = "true"
    for line in configuration.split("\n"):
        key, separator, text = line.partition("=")
        if separator and key.strip().lower() == "include-system-site-packages":
            value = text.strip().lower()
    return value == "true"


def _missing_scripts(layer: DeployedLayer, distribution: Distribution) -> Iterator[Finding]:
    """A finding for each entry point of `distribution` without its script.

    A distribution that came with the interpreter has the scripts that its RECORD lists: ensurepip
    leaves `pip` out, and names `pip3.12` after its own version.
    """
    if layer.kinds.get(_entry_points_file(distribution)) is FrameKind.INTERPRETER:
        return
    listed = {entry.path for entry in distribution.record or ()}
    ending = ".exe" if layer.layout.os == "windows" else ""
    for name, place in entry_points(layer, distribution):
        script = f"{layer.layout.scripts}/{name}{ending}"
        # The check of RECORD reports a missing file that it lists.
        if script not in listed and not (layer.directory / script).is_file():
            yield Finding(
                check="layer",
                layer=layer.manifest.layer,
                distribution=str(distribution),
                file=script,
                message="the script of an entry point is missing",
                expected=f"{name} = {place}",
                remedy=layer.remedy(script),
            )


def _entry_points_file(distribution: Distribution) -> str:
    return f"{distribution.info}/entry_points.txt"


def entry_points(layer: DeployedLayer, distribution: Distribution) -> Iterator[tuple[str, str]]:
    """The name and the object (``module:function``) of each script that `distribution` declares."""
    parser = ConfigParser(delimiters=("=",), strict=False, interpolation=None)
    parser.optionxform = str  # type: ignore[assignment,method-assign]
    try:
        parser.read_string(_text(layer, _entry_points_file(distribution)) or "")
    except ConfigError:
        return  # the check of RECORD reports a damaged file
    for section in ("console_scripts", "gui_scripts"):
        yield from parser.items(section) if parser.has_section(section) else ()


_RUNS_PIP = re.compile(r"""["']-m["'],\s*["']pip["']""")


def pip_warnings(layer: DeployedLayer, chain: Sequence[DeployedLayer]) -> Iterator[str]:
    """A warning for each console script that runs `python -m pip`, if the layers have no pip.

    Only the modules of entry points are read: others may contain a call that no program reaches.
    """
    if any(one.name == "pip" for each in chain for one in each.distributions):
        return
    for distribution in layer.distributions:
        for name, place in entry_points(layer, distribution):
            module = place.partition(":")[0].strip().replace(".", "/")
            for file in (f"{module}.py", f"{module}/__init__.py"):
                path = f"{layer.layout.site_packages}/{file}"
                text = _text(layer, path) or ""
                if found := _RUNS_PIP.search(text):
                    line = text.count("\n", 0, found.start()) + 1
                    yield (
                        f"{layer.manifest.layer}: {name} of {distribution} runs `python -m pip` "
                        f"(line {line} of {path}), and the layers have no pip; to fix: "
                        f'keep = ["pip"] in {layer_table(chain[-1].manifest.layer)}'
                    )


_START_LIMIT = 30.0
"""Time limit for the start and exit of an interpreter, in seconds."""


def start_problem(layer: DeployedLayer) -> Finding | None:
    """A finding if the layer's interpreter does not start, or None."""
    command = [os.fspath(layer.interpreter), "-I", "-B", "-c", "pass"]
    try:
        done = subprocess.run(
            command,
            env={},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=_START_LIMIT,
            check=False,
        )
        if done.returncode == 0:
            return None
        found, detail = f"exit code {done.returncode}", done.stderr.decode("utf-8", "replace")
    except OSError as error:
        found, detail = error.strerror or str(error), ""
    except subprocess.TimeoutExpired:
        found, detail = f"no exit within {_START_LIMIT:g} s", ""
    return Finding(
        check="import",
        layer=layer.manifest.layer,
        file=layer.interpreter.relative_to(layer.directory).as_posix(),
        message="the layer's interpreter does not start, so nothing was imported",
        found=found,
        detail=detail.strip(),
    )
