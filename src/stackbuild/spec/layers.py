"""Reads `[[runtimes]]`, `[[frameworks]]` and `[[applications]]`."""

from __future__ import annotations

import stat
from pathlib import Path, PurePath
from typing import TYPE_CHECKING, NamedTuple, cast

from stackbuild.files import mode_of, why
from stackbuild.names import is_directory_of
from stackbuild.platforms import Platform
from stackbuild.reading import Item, did_you_mean, shown
from stackbuild.spec.model import Layer, LayerKind, RuntimeSettings, Setting
from stackbuild.spec.references import Known, Lower, read_lower, read_package_indexes
from stackbuild.spec.settings import as_written
from stackbuild.spec.sources import is_of_project
from stackbuild.spec.values import (
    as_index,
    as_layer_requirement,
    as_linux_target,
    as_macosx_target,
    as_platform,
    as_python,
    check_layer_name,
    in_order,
)

if TYPE_CHECKING:
    from packaging.requirements import Requirement
    from packaging.version import Version

    from stackbuild.spec.model import Settings
    from stackbuild.spec.references import Indexes
    from stackbuild.spec.table import Problems, Table
    from stackbuild.spec.uv_table import UvTable

KEYS = {
    "runtimes": LayerKind.RUNTIME,
    "frameworks": LayerKind.FRAMEWORK,
    "applications": LayerKind.APPLICATION,
}
"""The arrays of tables of a spec."""

_TAKEN = "sitecustomize"
"""The module through which a layer finds the layers below it."""

_PLURALS = {kind: key for key, kind in KEYS.items()}
_FIELDS_OF = {
    "python_implementation": (LayerKind.RUNTIME,),
    "fully_versioned_name": (LayerKind.RUNTIME,),
    "runtime": (LayerKind.FRAMEWORK, LayerKind.APPLICATION),
    "frameworks": (LayerKind.FRAMEWORK, LayerKind.APPLICATION),
    "launch_module": (LayerKind.APPLICATION,),
    "support_modules": (LayerKind.APPLICATION,),
}
"""The fields that only some kinds of layers have."""


_SHOWN = (
    *("python_implementation", "versioned", "linux_target", "macosx_target", "priority_indexes"),
    *("dynlib_exclude", "launch_module", "support_modules", "platforms"),
)
"""The other settings that `show --effective` prints."""


class LayerReader:
    """Reads the layers of one file, from the bottom up.

    A layer can only refer to those before it, so one pass is enough.
    """

    def __init__(self, directory: Path, uv: UvTable, problems: Problems) -> None:
        self.layers: dict[str, Layer] = {}
        """The layers with a valid and unique name."""
        self.kinds: dict[str, LayerKind] = {}
        """The kind of each name in the file."""
        self.python_versions: dict[str, Version] = {}
        self._directory = directory
        self._uv = uv
        self._problems = problems
        self._places: dict[str, str] = {}
        self._sound: dict[str, Layer] = {}
        self.named_platforms: set[Platform] = set()
        """The platforms that a layer names; others are only those of a layer that names none."""
        self._indexes_of: dict[str, Indexes] = {}

    def read(self, spec: Table) -> None:
        """Read all layers of the file whose top is `spec`."""
        tables = [(kind, table) for key, kind in KEYS.items() for table in spec.tables(key)]
        for kind, table in tables:
            name = table.values.get("name")
            if isinstance(name, str):
                self.kinds.setdefault(name, kind)
        for kind, table in tables:
            self._read_layer(kind, table)
        self._check_directories()

    def _check_directories(self) -> None:
        """Report names that equal the directory of a versioned layer."""
        for layer in self.layers.values():
            if not layer.versioned:
                continue
            for name in self.layers:
                if name != layer.name and is_directory_of(name.lower(), layer.name.lower()):
                    self._problems.add(
                        self._places[name.lower()],
                        f"is a directory of the versioned layer {layer.name}",
                        expected="another name",
                        found=name,
                    )

    def _read_layer(self, kind: LayerKind, table: Table) -> None:
        name = self._read_name(kind, table)
        lower = self._read_lower(kind, name, table)
        indexes = read_package_indexes(table, lower, self._indexes_of, self._uv.index_names)
        all_indexes = {**self._uv.sources, **indexes}
        launch, support = (
            _read_modules(table, self._directory) if kind is LayerKind.APPLICATION else (None, ())
        )
        _refuse_fields(kind, table)
        requirements = _read_requirements(table)
        priority = table.words("priority_indexes", as_index(self._uv.index_names))
        layer = Layer(
            name=name or "",
            kind=kind,
            requirements=tuple(cast("Requirement", item.value) for item in requirements),
            settings={
                **({"requirements": requirements} if requirements else {}),
                **as_written(table, _SHOWN),
                **({"package_indexes": cast("Settings", all_indexes)} if all_indexes else {}),
            },
            platforms=self._read_platforms(table, lower),
            runtime=lower.runtime if lower else "",
            frameworks=lower.frameworks if lower else (),
            versioned=table.flag("versioned", default=False),
            linux_target=table.word("linux_target", as_linux_target),
            macosx_target=table.word("macosx_target", as_macosx_target),
            package_indexes={name: str(index.value) for name, index in all_indexes.items()},
            priority_indexes=tuple(item.value for item in priority),
            dynlib_exclude=tuple(item.value for item in table.texts("dynlib_exclude") or ()),
            launch_module=launch,
            support_modules=support,
            runtime_settings=RuntimeSettings() if kind is LayerKind.RUNTIME else None,
        )
        table.done()
        if name is None:
            return
        self.layers[name] = layer
        if lower is not None:
            self._sound[name] = layer
            self._indexes_of[name] = indexes

    def _read_name(self, kind: LayerKind, table: Table) -> str | None:
        """The name; None if it is missing or another layer has it."""
        name = table.text("name", required=True)
        if name is None:
            return None
        item = Item(table.place_of("name"), name)
        check_layer_name(item, self._problems, runtime=kind is LayerKind.RUNTIME)
        # Layers are sibling directories, also on file systems that ignore case.
        holder = self._places.setdefault(name.lower(), item.place)
        if holder != item.place:
            self._problems.add(
                item.place,
                f"{holder} has the same name",
                expected="names that differ in more than case, also of layers of two kinds",
                found=name,
                hint="rename one of them",
            )
            return None
        return name

    def _read_lower(self, kind: LayerKind, name: str | None, table: Table) -> Lower | None:
        if kind is LayerKind.RUNTIME:
            self._read_python(name, table)
            return Lower(runtime=name or "", frameworks=())
        known = Known(kinds=self.kinds, passed=self.layers, sound=self._sound)
        return read_lower(table, name, known)

    def _read_python(self, name: str | None, table: Table) -> None:
        key, former = "python_implementation", "fully_versioned_name"
        if table.has(key):
            table.refuse(former, f"the name of {key} before venvstacks 0.2, which is set, too")
        elif table.has(former):
            key = former
        version = table.word(key, as_python, required=True)
        if version and name:
            self.python_versions[name] = version

    def _read_platforms(self, table: Table, lower: Lower | None) -> tuple[Platform, ...]:
        """The platforms of a layer, all of which each layer below it must have."""
        items = table.distinct("platforms", as_platform)
        self.named_platforms.update(item.value for item in items or ())
        if lower is None:
            # The layers below are unknown: accept all platforms, so that no other error follows.
            return tuple(Platform)
        names = (*lower.frameworks, lower.runtime)
        below = [self.layers[name] for name in names if name in self.layers]
        if items is None:
            possible = [
                platform
                for platform in (below[0].platforms if below else Platform)
                if all(platform in layer.platforms for layer in below)
            ]
            if not possible and all(layer.platforms for layer in below):
                self._problems.add(
                    table.place,
                    "the layers below have no platform in common: "
                    + "; ".join(f"{layer.name}: {', '.join(layer.platforms)}" for layer in below),
                )
            return in_order(possible)
        for item in items:
            without = [layer.name for layer in below if item.value not in layer.platforms]
            if without:
                self._problems.add(
                    item.place,
                    f"{item.value} is not a platform of {', '.join(without)}, below this layer",
                )
        return in_order(item.value for item in items)


def _read_requirements(table: Table) -> tuple[Setting, ...]:
    """The requirements, each a `Requirement`."""
    items = table.words("requirements", as_layer_requirement, required=True)
    return tuple(Setting(item.value, item.place) for item in items)


def _refuse_fields(kind: LayerKind, table: Table) -> None:
    """Report fields of other kinds of layers, and fields without an effect."""
    for key, kinds in _FIELDS_OF.items():
        if kind not in kinds:
            table.refuse(key, f"not a field of {_PLURALS[kind]}")
    if table.take("build_requirements", Item.items) is not None:
        place = table.place_of("build_requirements")
        table.problems.warnings.append(f"{place} has no effect since venvstacks 0.1; remove it")


def _read_modules(table: Table, directory: Path) -> tuple[Path | None, tuple[Path, ...]]:
    """The launch module and the support modules, which must exist below `directory`.

    They must be in `directory` with links followed, too. A module is a Python
    file, or a directory that is an import package. Names must differ in more
    than case, as some file systems ignore case.
    """
    name = str(table.values.get("name"))
    launch_text = table.text("launch_module")
    launch = launch_text and _module(
        Item(table.place_of("launch_module"), launch_text), name, directory, table.problems
    )
    if launch and launch.suffix != ".py" and not mode_of(launch / "__main__.py"):
        table.problems.add(
            table.place_of("launch_module"),
            f"the package of {name} has no __main__.py, which `python -m` runs",
            expected=f"the file {PurePath(str(launch_text)).as_posix()}/__main__.py",
            hint="create it, or name a .py file",
        )
    names = {launch.stem.lower(): table.place_of("launch_module")} if launch else {}
    support = []
    for item in table.texts("support_modules") or ():
        module = _module(item, name, directory, table.problems)
        if module is None:
            continue
        holder = names.setdefault(module.stem.lower(), item.place)
        if holder != item.place:
            table.problems.add(
                item.place,
                f"{holder} of {name} has the same module name",
                expected="names that differ in more than case",
                found=item.value,
                hint="rename one of the two",
            )
        support.append(module)
    # Their order in the file has no meaning, so it must not change a layer.
    return launch or None, tuple(sorted(support))


def _module(item: Item[str], layer: str, directory: Path, problems: Problems) -> Path | None:
    """The module that `item` names for `layer`; None if it is none, which is noted."""
    path = directory / item.value
    if fault := _module_fault(item.value, path, directory):
        message = f"the module {shown(item.value)} of {layer} {fault.message}"
        problems.add(item.place, message, expected=fault.expected, hint=fault.hint)
        return None
    return path


class _Fault(NamedTuple):
    message: str
    """The end of a sentence."""
    hint: str
    expected: str | None = None


def _module_fault(text: str, path: Path, directory: Path) -> _Fault | None:
    """What is wrong with the module `path`, written as `text`."""
    kinds = "a .py file or a directory"
    if PurePath(text).is_absolute():
        hint = "write it relative to the directory of this file"
        return _Fault("has an absolute path", hint, "a relative path")
    try:
        mode = path.stat().st_mode
    except OSError as error:
        hint = "create it, or correct the path, which starts at the directory of this file"
        return _Fault(why(error), did_you_mean(text, _modules_beside(path, text)) or hint, kinds)
    is_directory = stat.S_ISDIR(mode)
    if not is_directory and not (stat.S_ISREG(mode) and path.suffix == ".py"):
        return _Fault("is not a module", "name another file, or copy it with `copy-files`", kinds)
    if not is_of_project(text, directory):
        expected = (
            "a path in the directory of this file, or one with .. in its git work tree"
            " (without git: one with .. and without links)"
        )
        return _Fault("leads out of the project", "copy the module into the project", expected)
    if ".git" in path.resolve().parts and ".git" not in directory.resolve().parts:
        return _Fault("is in the directory of git, which is never published", "move it elsewhere")
    return _name_fault(_import_name(text, is_directory))


def _name_fault(name: str) -> _Fault | None:
    """What is wrong with the name of a module."""
    if not name.isidentifier():
        expected = "a name of letters, digits and _, with no digit first"
        return _Fault("has a name that cannot be imported", "rename it", expected)
    if name.lower() == _TAKEN:
        return _Fault(f"has the name {_TAKEN}, which is reserved by stackbuild", "rename it")
    return None


def _modules_beside(path: Path, text: str) -> list[str]:
    """The Python files and directories beside the missing `path`, written like `text`."""
    try:
        entries = list(path.parent.iterdir())
    except OSError:
        return []
    names = [one.name for one in entries if one.suffix == ".py" or one.is_dir()]
    return [PurePath(text).with_name(name).as_posix() for name in names]


def _import_name(text: str, is_directory: bool) -> str:
    """The module's name, from the text of its path, so that ``.`` has none."""
    path = PurePath(text)
    return path.name if is_directory else path.stem
