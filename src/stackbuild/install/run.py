"""Commands in an installed layer."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import TYPE_CHECKING

from packaging.version import Version

from stackbuild import strictjson
from stackbuild.errors import InstallError
from stackbuild.files import read_regular
from stackbuild.install.plan import find_installed
from stackbuild.install.report import Invocation, LayerVariables
from stackbuild.install.root import Root
from stackbuild.layout import METADATA
from stackbuild.platforms import host_platform, nearest
from stackbuild.spec.model import LayerKind
from stackbuild.spec.select import check_single
from stackbuild.variables import MARKER, to_set

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from stackbuild.compose.manifest import Manifest

LEAKS = ("PYTHONHOME", "__PYVENV_LAUNCHER__")
"""Variables that make an interpreter use files of another installation."""

_WITHOUT_P = (
    "import runpy, sys; del sys.path[0]; "
    "runpy.run_module({module!r}, run_name='__main__', alter_sys=True)"
)
"""For CPython 3.10, which has no option `-P`: `sys.path[0]` is the working directory."""


def invocation(
    layer: str, command: Sequence[str], root: Path, environment: Mapping[str, str]
) -> Invocation:
    """How to start `command` in the installed `layer`; see `api.invocation`."""
    manifest, directory = _installed(layer, root)
    layout = manifest.layout
    bin_directory = directory / layout.scripts
    outer = {
        **environment,
        **to_set(manifest.environment, environment, os.path.realpath(directory)),
    }
    inner = _environment(outer, directory, bin_directory)
    python = directory / (
        layout.runtime_interpreter if manifest.kind is LayerKind.RUNTIME else layout.interpreter
    )
    given = list(command)
    # Options are for the launch module, or for Python.
    words = [*_default_command(manifest, directory), *given] if _is_options(given) else given
    if words[0] == "python":
        executable = python
    else:
        executable = _find(words[0], manifest, bin_directory, inner["PATH"])
    return Invocation(executable=executable, arguments=tuple(words[1:]), environment=inner)


def variables(layer: str, root: Path, environment: Mapping[str, str]) -> LayerVariables:
    """The variables that the installed `layer` sets; see `api.variables`."""
    manifest, directory = _installed(layer, root)
    place = os.path.realpath(directory)
    new = {**environment, **to_set(manifest.environment, environment, place)}
    names = (*manifest.environment, MARKER) if manifest.environment else ()
    return LayerVariables(
        layer=manifest.layer, environment={name: new[name] for name in names if name in new}
    )


def _installed(layer: str, root: Path) -> tuple[Manifest, Path]:
    """The manifest of `layer`, which must run here, and its directory.

    That is the one in the generation and not the link, so that a process and its children keep
    their files while another version is installed.
    """
    where = Root(root)
    trees, state = where.installed_layers()
    found = find_installed([layer], state, where.path)
    check_single(layer, [one.directory for one in found], where.path)
    manifest = found[0]
    if state.platform != host_platform():
        raise InstallError(
            f"{where.path} contains layers for {state.platform}, which do not run here",
            layer=manifest.layer,
            platform=state.platform,
            expected=f"layers for {host_platform()}",
        )
    return manifest, trees / manifest.directory


def _environment(outer: Mapping[str, str], directory: Path, programs: Path) -> dict[str, str]:
    inner = {name: value for name, value in outer.items() if name not in LEAKS}
    inner["VIRTUAL_ENV"] = str(directory)
    rest = outer.get("PATH", os.defpath)
    inner["PATH"] = f"{programs}{os.pathsep}{rest}" if rest else str(programs)
    return inner


def _is_options(words: Sequence[str]) -> bool:
    return not words or words[0].startswith("-")


def _default_command(manifest: Manifest, directory: Path) -> list[str]:
    try:
        data = read_regular(directory / LAYER_METADATA, strictjson.MAX_SIZE + 1)
    except FileNotFoundError:
        data = b""
    return default_command(manifest, data)


LAYER_METADATA = f"{METADATA}/venvstacks_layer.json"
"""What venvstacks says of a layer, in the layer."""


def default_command(manifest: Manifest, metadata: bytes) -> list[str]:
    """Python, with the launch module that the file `LAYER_METADATA` of the layer names, if any.

    The module is that of the layer, also if the working directory has one of the same name.
    """
    try:
        found = strictjson.parse(metadata, LAYER_METADATA)
    except strictjson.JsonError:
        found = None
    module = found.get("launch_module") if isinstance(found, dict) else None
    if not isinstance(module, str) or not module:
        return ["python"]
    return module_command(manifest, module)


def module_command(manifest: Manifest, module: str) -> list[str]:
    """Python with `module` of the layer, without the working directory in `sys.path`."""
    if Version(manifest.python_version) >= Version("3.11"):
        return ["python", "-P", "-m", module]
    return ["python", "-c", _WITHOUT_P.format(module=module)]


def _find(name: str, manifest: Manifest, programs: Path, path: str) -> Path:
    if found := shutil.which(name, path=path):
        return Path(found)
    here = [entry.name for entry in programs.iterdir()] if programs.is_dir() else []
    if name in here:
        raise InstallError(
            f"{name!r} in {manifest.layer} is not executable",
            layer=manifest.layer,
            file=programs / name,
            remedy="make its source executable (chmod +x) and publish the layer again",
        )
    guess = nearest(name, here)
    raise InstallError(
        f"there is no program {name!r} in {manifest.layer}, nor on the PATH",
        layer=manifest.layer,
        file=programs,
        remedy=f"did you mean {guess!r}?" if guess else None,
    )
