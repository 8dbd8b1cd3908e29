"""Build one wheel from its source and keep it in the cache."""

from __future__ import annotations

import os
import sys
import time
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING

from stackbuild.builds.environment import build_environment, make_environment, pin_requirements
from stackbuild.builds.kept import Kept
from stackbuild.builds.process import RunError, Runner, tail
from stackbuild.builds.source import (
    ask_backend,
    check_out,
    copy_project,
    read_backend,
    state_requires,
    unpack_sdist,
)
from stackbuild.builds.wheelfile import finish, wheel_facts
from stackbuild.errors import LockError
from stackbuild.files import locked, remove_tree
from stackbuild.lock.model import Build, LockedFile, ProjectSource, VcsSource
from stackbuild.lock.runtime import lock_runtime
from stackbuild.resolve.build_orders import BuiltWheel, build_tag, fetch_sdist
from stackbuild.runtimes.interpreters import unpacked_interpreter
from stackbuild.runtimes.provide import provide_runtime
from stackbuild.spec.settings import PACKAGE_ROOT
from stackbuild.strictjson import digest_of

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

    from stackbuild.builds.kept import KeptWheel
    from stackbuild.lock.model import BuildRequirement
    from stackbuild.messages import Messages
    from stackbuild.resolve.build_orders import BuildOrder
    from stackbuild.runtimes.model import Interpreter
    from stackbuild.spec.model import Stack
    from stackbuild.workspace import Workspace


def build_wheel(
    order: BuildOrder, stack: Stack, workspace: Workspace, messages: Messages
) -> BuiltWheel:
    """Build the wheel of `order` with the interpreter of its layer; returns it from the cache.

    The build requirements are pinned first, by sha256; the build environment contains nothing else.
    The wheel is rewritten canonically, retagged with the oldest manylinux tag its libraries allow,
    and cached by the hash of all its inputs. Raises LockError if it cannot be built or does not run
    on the target platforms of the layer, FetchError and IntegrityError for its source and its
    interpreter.
    """
    runtime = stack.layers[order.layer.runtime]
    locked = order.runtime
    if order.platform not in locked.archives:
        # A project is built here for a layer that is for other platforms only.
        locked = lock_runtime(
            runtime, locked.python_version, [order.platform], None, lambda *_: False
        )
    archive = provide_runtime(stack, runtime, order.platform, locked, workspace, messages)
    interpreter = unpacked_interpreter(archive, workspace)
    with _prepared(order, interpreter, workspace, messages) as build:
        try:
            kept, pins = build.built()
        except RunError as error:
            raise _failed(build, error) from None
    for library, file in kept.foreign.items():
        messages.warn(
            f"{order.subject}: {file} needs {library}, which is neither in the wheel nor on"
            f" every Linux; install it on the hosts of {order.layer.name}"
        )
    path, facts = kept.path, wheel_facts(kept.path)
    return BuiltWheel(
        path=path,
        version=facts.version,
        wheel=LockedFile(name=path.name, size=path.stat().st_size, sha256=kept.sha256),
        build=Build(
            recipe=order.recipe,
            requirements=pins,
            dependencies=facts.dependencies,
            extras=facts.extras,
        ),
    )


@contextmanager
def _prepared(
    order: BuildOrder, interpreter: Interpreter, workspace: Workspace, messages: Messages
) -> Iterator[_Build]:
    """An empty directory for the build, locked against other processes."""
    staging = workspace.builds / "staging"
    directory = staging / order.recipe[:16]
    log = workspace.builds / "logs" / f"{order.name}-{order.recipe[:16]}.log"
    policy = order.layer.policy(order.platform).build
    with locked(staging / f"{directory.name}.lock", messages):
        _sweep(staging)
        remove_tree(directory)
        directory.mkdir()
        log.parent.mkdir(parents=True, exist_ok=True)
        log.write_text("", encoding="utf-8")
        runner = Runner(
            log=log,
            until=time.monotonic() + policy.timeout,
            limit=policy.timeout,
            echo=messages.note if policy.logging else None,
        )
        try:
            yield _Build(
                order=order,
                workspace=workspace,
                messages=messages,
                directory=directory,
                interpreter=interpreter,
                runner=runner,
                settings=_config_settings(order, workspace),
                kept=Kept(workspace.builds),
            )
        finally:
            remove_tree(directory)


def _config_settings(order: BuildOrder, workspace: Workspace) -> dict[str, str | list[str]]:
    root = str(workspace.overlays / order.layer.name)
    given = order.settings.config_settings if order.settings else {}
    return {
        key: value.replace(PACKAGE_ROOT, root)
        if isinstance(value, str)
        else [item.replace(PACKAGE_ROOT, root) for item in value]
        for key, value in given.items()
    }


@dataclass(frozen=True, slots=True, kw_only=True)
class _Build:
    """The build of one wheel."""

    order: BuildOrder
    workspace: Workspace
    messages: Messages
    directory: Path
    """The same for every build of a recipe, because compilers write paths into their output."""
    interpreter: Interpreter
    runner: Runner
    settings: Mapping[str, str | list[str]]
    """The config settings, with the placeholder replaced."""
    kept: Kept

    def built(self) -> tuple[KeptWheel, tuple[BuildRequirement, ...]]:
        """The wheel, from the cache if the same inputs were built before, and its pins."""
        order = self.order
        tree: Path | None = None
        pins = order.requirements
        if pins is None:
            stated = order.settings.build_requires if order.settings else ()
            requires = stated or self.kept.requires(order.recipe)
            if requires is None:
                tree = self._source()
                requires = self._asked_requires(tree)
            pins = pin_requirements(order, requires, self.workspace, self.messages)
        made_of = digest_of([order.recipe, [[pin.name, pin.sha256] for pin in pins]])
        key = digest_of([made_of, self.interpreter.version, str(order.target)])
        kept = self.kept.get(key)
        if kept is None:
            self.messages.note(
                f"building {order.subject} for {order.layer.name} on {order.platform}"
            )
            made = self._made(tree or self._source(), pins)
            tag = build_tag(order.recipe) if isinstance(order.source, ProjectSource) else "0_"
            tag += made_of[:8]
            path, foreign = finish(made, order, self.directory, build=tag)
            kept = self.kept.put(key, path, foreign)
        return kept, pins

    def _asked_requires(self, tree: Path) -> list[str]:
        """The build requirements of the source and those of its backend's hook."""
        backend = read_backend(tree)
        pins = pin_requirements(self.order, backend.requires, self.workspace, self.messages)
        python = self._python(pins)
        more = ask_backend(
            backend,
            self.settings,
            python=python,
            tree=tree,
            environment=self._environment(python),
            runner=self.runner,
        )
        requires = [*backend.requires, *more]
        self.kept.remember_requires(self.order.recipe, requires)
        return requires

    def _source(self) -> Path:
        source, to = self.order.source, self.directory / "source"
        if isinstance(source, VcsSource):
            tree = check_out(source, to, self.runner)
        elif isinstance(source, ProjectSource):
            tree = copy_project(source, self.workspace.project, to)
        else:
            sdist = fetch_sdist(source, self.order, self.workspace, self.messages)
            tree = unpack_sdist(sdist, to)
        state_requires(tree)
        return tree

    def _python(self, pins: Sequence[BuildRequirement]) -> Path:
        """The interpreter of a new environment with `pins`."""
        return make_environment(
            self.directory,
            self.interpreter.executable,
            pins,
            self.order,
            self.runner,
            self.workspace.uv,
        )

    def _environment(self, python: Path) -> dict[str, str]:
        """The variables for the backend, run by `python` of the build environment."""
        home = self.directory / "home"
        home.mkdir(exist_ok=True)
        environment = build_environment(self.order, home)
        prefix = self.interpreter.executable.parents[1]
        maps = {self.directory: "/build", prefix: "/python"}
        # Keep directories of this machine out of debug information. CPPFLAGS and not CFLAGS, which
        # would replace the optimisation flags of some build systems. Names with spaces cannot be
        # passed in either.
        flags = [
            f"-ffile-prefix-map={place}={name}"
            for place, name in maps.items()
            if len(str(place).split()) == 1
        ]
        if sys.platform == "linux":
            environment["CPPFLAGS"] = " ".join([*flags, environment.get("CPPFLAGS", "")]).rstrip()
        environment["VIRTUAL_ENV"] = str(python.parents[1])
        environment["PATH"] = os.pathsep.join([str(python.parent), environment.get("PATH", "")])
        return environment

    def _made(self, tree: Path, pins: Sequence[BuildRequirement]) -> Path:
        """Run the backend in `tree`; returns the wheel. Raises RunError."""
        import uv

        python = self._python(pins)
        out = self.directory / "out"
        words = [uv.find_uv_bin(), "build", "--wheel", "--no-config", "--no-build-isolation"]
        words += ["--force-pep517", "--no-create-gitignore", "--python", str(python)]
        words += ["--cache-dir", str(self.workspace.uv), "--out-dir", str(out)]
        words += ["--offline", "--no-progress", "--color", "never"]
        for name, value in self.settings.items():
            values = [value] if isinstance(value, str) else value
            # As one argument, because names may begin with dashes (setuptools' `--build-option`).
            words += [f"--config-setting={name}={item}" for item in values]
        self.runner.run([*words, str(tree)], tree, self._environment(python))
        wheels = list(out.glob("*.whl"))
        if len(wheels) != 1:
            raise RunError(f"it made {len(wheels)} wheels, not one")
        return wheels[0]


def _sweep(staging: Path) -> None:
    """Remove leftovers of killed builds."""
    import filelock

    for directory in staging.iterdir():
        lock = filelock.FileLock(staging / f"{directory.name}.lock")
        if directory.is_dir():
            with suppress(filelock.Timeout), lock.acquire(timeout=0):
                remove_tree(directory)


def _failed(build: _Build, error: RunError) -> LockError:
    order, log = build.order, build.runner.log
    last = tail(log)
    return LockError(
        f"building {order.subject} failed",
        layer=order.layer.name,
        platform=order.platform,
        distribution=order.name,
        file=log,
        found=f"{error}; the log ends with:\n{last}" if last else str(error),
        remedy="see the whole log; `build-wheel` sets build requirements and config"
        " settings, `build.environment` variables, `build.timeout` its time; or add a wheel"
        " built elsewhere with `stackbuild wheel add FILE`",
    )
