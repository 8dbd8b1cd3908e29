"""The build backend of a source tree, and what it needs (PEP 517, PEP 518)."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from stackbuild import strictjson
from stackbuild.errors import LockError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from stackbuild.builds.process import Runner

_WORKER = Path(__file__).with_name("hook_worker.py")


@dataclass(frozen=True, slots=True, kw_only=True)
class Backend:
    """The table `build-system` of a `pyproject.toml`."""

    requires: tuple[str, ...]
    name: str
    """Such as ``setuptools.build_meta:__legacy__``."""
    path: tuple[str, ...] = ()


# What PEP 517 and PEP 518 say of a source that names none.
_LEGACY = Backend(requires=("setuptools>=40.8.0",), name="setuptools.build_meta:__legacy__")


def read_backend(tree: Path) -> Backend:
    """The build backend of the source in `tree`. Raises LockError for a wrong `pyproject.toml`."""
    system = _build_system(tree)
    if system is None:
        return _LEGACY
    requires = _texts(system, "requires")
    return Backend(
        # PEP 518 asks for the key; without it tools assume what they do without the table.
        requires=_LEGACY.requires if requires is None else requires,
        name=str(system.get("build-backend", _LEGACY.name)),
        path=_texts(system, "backend-path") or (),
    )


def state_requires(tree: Path) -> None:
    """Write into the source in `tree` what a `build-system` without `requires` stands for.

    uv builds no source whose table lacks the key. Raises LockError as `read_backend`.
    """
    system = _build_system(tree)
    if not isinstance(system, dict) or "requires" in system:
        return
    import tomlkit

    path = tree / "pyproject.toml"
    document = tomlkit.parse(path.read_text(encoding="utf-8")).unwrap()
    document["build-system"]["requires"] = list(_LEGACY.requires)
    path.write_text(tomlkit.dumps(document), encoding="utf-8")


def _build_system(tree: Path) -> Any:
    """What `pyproject.toml` has as `build-system`; None where there is no such table."""
    import tomli

    path = tree / "pyproject.toml"
    try:
        return tomli.loads(path.read_text(encoding="utf-8")).get("build-system")
    except FileNotFoundError:
        return None
    except (UnicodeDecodeError, tomli.TOMLDecodeError) as error:
        raise LockError("the source is damaged", file=path.name, found=str(error)) from None


def _texts(table: Any, key: str) -> tuple[str, ...] | None:
    """The array of strings below `key`; None where there is no such key."""
    if isinstance(table, dict) and key not in table:
        return None
    values = table[key] if isinstance(table, dict) else None
    if not isinstance(values, list) or not all(isinstance(item, str) for item in values):
        raise LockError(
            "the source is damaged",
            file="pyproject.toml",
            expected=f"build-system.{key}: an array of strings",
        )
    return tuple(values)


def ask_backend(
    backend: Backend,
    config_settings: Mapping[str, str | list[str]],
    *,
    python: Path,
    tree: Path,
    environment: Mapping[str, str],
    runner: Runner,
) -> list[str]:
    """What else the backend needs to build a wheel, asked with `python`. Raises RunError."""
    answer = tree.parent / "requires.json"
    question = {
        "build-backend": backend.name,
        "backend-path": backend.path,
        "config-settings": config_settings,
    }
    runner.run([python, "-B", _WORKER, json.dumps(question), answer], tree, environment)
    return [str(item) for item in strictjson.read(answer)]
