"""The building of one wheel, from its source to the cache."""

from __future__ import annotations

import os
import time
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING

from stackbuild.builds.backend import ask_backend, read_backend, state_requires
from stackbuild.builds.environment import make_environment, pin_requirements
from stackbuild.builds.finish import finish
from stackbuild.builds.kept import Kept
from stackbuild.builds.process import RunError, Runner, build_environment, tail
from stackbuild.builds.source import check_out, unpack_sdist
from stackbuild.builds.wheelfile import check_wheel
from stackbuild.errors import LockError
from stackbuild.files import locked, remove_tree
from stackbuild.lock.digests import digest_of
from stackbuild.lock.model import Build, LockedFile, VcsSource
from stackbuild.resolve.build_orders import BuiltWheel
from stackbuild.runtimes.provide import provide_runtime
from stackbuild.runtimes.unpacked import unpacked_interpreter
from stackbuild.spec.settings import PACKAGE_ROOT

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from stackbuild.builds.finish import Finished
    from stackbuild.builds.kept import KeptWheel
    from stackbuild.lock.model import BuildRequirement
    from stackbuild.messages import Messages
    from stackbuild.resolve.build_orders import BuildOrder
    from stackbuild.spec.model import Stack
    from stackbuild.workspace import Workspace


@dataclass(frozen=True, slots=True, kw_only=True)
class _Interpreter:
    executable: Path
    version: str


@dataclass(frozen=True, slots=True, kw_only=True)
class _Bench:
    """Where one wheel is built, and with what."""

    order: BuildOrder
    directory: Path
    """The same each time for one recipe, as paths find their way into what compilers write."""
    interpreter: _Interpreter
    runner: Runner
    settings: dict[str, str | list[str]]
    """The config settings, the placeholder replaced."""

    def environment(self, python: Path) -> dict[str, str]:
        """For the backend, run by `python` of the build environment."""
        home = self.directory / "home"
        home.mkdir(exist_ok=True)
        environment = build_environment(self.order.target.uv_environment, home)
        prefix = self.interpreter.executable.parents[1]
        maps = {self.directory: "/build", prefix: "/python"}
        # Directories of this machine would stand in debug information otherwise. It is CPPFLAGS,
        # for CFLAGS would take the place of what some build systems optimise with. A name with
        # a space in it cannot be told in either.
        flags = [
            f"-ffile-prefix-map={place}={name}"
            for place, name in maps.items()
            if len(str(place).split()) == 1
        ]
        if environment.get("CC") == "gcc":
            environment["CPPFLAGS"] = " ".join(flags)
        environment["VIRTUAL_ENV"] = str(python.parents[1])
        environment["PATH"] = os.pathsep.join([str(python.parent), environment.get("PATH", "")])
        return environment


class WheelMaker:
    """Builds wheels with the interpreters of the stack's layers.

    What a build requires is pinned first, by sha256, and is all there is in the
    environment it runs in. A wheel is made canonical, gets the platform tag
    that its libraries deserve, and is kept by the hash of all its inputs.
    """

    def __init__(self, stack: Stack, workspace: Workspace, messages: Messages) -> None:
        self._stack = stack
        self._workspace = workspace
        self._messages = messages
        self._kept = Kept(workspace.builds)

    def build(self, order: BuildOrder) -> BuiltWheel:
        """The wheel of `order`, in the cache.

        Raises LockError when it cannot be built or does not run where the
        layer does, FetchError and IntegrityError for its source and its interpreter.
        """
        interpreter = self._interpreter(order)
        with self._bench(order, interpreter) as bench:
            try:
                kept, pins = self._built(bench)
            except RunError as error:
                raise _failed(bench, error) from None
        for library, file in kept.foreign.items():
            self._messages.warn(
                f"{order.subject}: {file} needs {library}, which is neither in the wheel nor on"
                f" every Linux; where {order.layer.name} runs it has to be installed"
            )
        facts = check_wheel(kept.path)
        path = kept.path
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

    def _interpreter(self, order: BuildOrder) -> _Interpreter:
        runtime = self._stack.layers[order.layer.runtime]
        archive = provide_runtime(
            self._stack, runtime, order.platform, order.runtime, self._workspace, self._messages
        )
        executable = unpacked_interpreter(archive, self._workspace)
        return _Interpreter(executable=executable, version=str(archive.version))

    @contextmanager
    def _bench(self, order: BuildOrder, interpreter: _Interpreter) -> Iterator[_Bench]:
        """An empty directory for the build, which nobody else uses meanwhile."""
        staging = self._workspace.builds / "staging"
        directory = staging / order.recipe[:16]
        log = self._workspace.builds / "logs" / f"{order.name}-{order.recipe[:16]}.log"
        policy = order.layer.policy(order.platform).build
        with locked(staging / f"{directory.name}.lock", self._messages):
            _sweep(staging)
            remove_tree(directory)
            directory.mkdir()
            log.parent.mkdir(parents=True, exist_ok=True)
            log.write_text("", encoding="utf-8")
            runner = Runner(
                log=log,
                until=time.monotonic() + policy.timeout,
                limit=policy.timeout,
                echo=self._messages.note if policy.logging else None,
            )
            try:
                yield _Bench(
                    order=order,
                    directory=directory,
                    interpreter=interpreter,
                    runner=runner,
                    settings=self._config_settings(order),
                )
            finally:
                remove_tree(directory)

    def _config_settings(self, order: BuildOrder) -> dict[str, str | list[str]]:
        root = str(self._workspace.overlays / order.layer.name)
        given = order.settings.config_settings if order.settings else {}
        return {
            key: value.replace(PACKAGE_ROOT, root)
            if isinstance(value, str)
            else [item.replace(PACKAGE_ROOT, root) for item in value]
            for key, value in given.items()
        }

    def _built(self, bench: _Bench) -> tuple[KeptWheel, tuple[BuildRequirement, ...]]:
        """The wheel, from the cache where it was built of the same before; and its pins."""
        order = bench.order
        tree: Path | None = None
        pins = order.requirements
        if pins is None:
            requires = self._known_requires(order)
            if requires is None:
                tree = self._source(bench)
                requires = self._asked_requires(bench, tree)
            pins = pin_requirements(order, requires, self._workspace, self._messages)
        made_of = digest_of([order.recipe, [[pin.name, pin.sha256] for pin in pins]])
        key = digest_of([made_of, bench.interpreter.version])
        kept = self._kept.get(key)
        if kept is None:
            self._messages.note(
                f"building {order.subject} for {order.layer.name} on {order.platform}"
            )
            tree = tree or self._source(bench)
            made = self._made(bench, tree, pins, build=f"0_{made_of[:8]}")
            kept = self._kept.put(key, made.path, made.foreign)
        return kept, pins

    def _known_requires(self, order: BuildOrder) -> list[str] | None:
        if order.settings and order.settings.build_requires:
            return list(order.settings.build_requires)
        return self._kept.requires(order.recipe)

    def _asked_requires(self, bench: _Bench, tree: Path) -> list[str]:
        """What the source says that it needs, and what its backend says when asked."""
        backend = read_backend(tree)
        pins = pin_requirements(bench.order, backend.requires, self._workspace, self._messages)
        python = self._environment(bench, pins)
        more = ask_backend(
            backend,
            bench.settings,
            python=python,
            tree=tree,
            environment=bench.environment(python),
            runner=bench.runner,
        )
        requires = [*backend.requires, *more]
        self._kept.remember_requires(bench.order.recipe, requires)
        return requires

    def _source(self, bench: _Bench) -> Path:
        source, to = bench.order.source, bench.directory / "source"
        if isinstance(source, VcsSource):
            tree = check_out(source, to, bench.runner)
        else:
            tree = unpack_sdist(bench.order.sdist(), to)
        state_requires(tree)
        return tree

    def _environment(self, bench: _Bench, pins: Sequence[BuildRequirement]) -> Path:
        return make_environment(
            bench.directory,
            bench.interpreter.executable,
            pins,
            bench.order,
            bench.runner,
            self._workspace.uv,
        )

    def _made(
        self, bench: _Bench, tree: Path, pins: Sequence[BuildRequirement], *, build: str
    ) -> Finished:
        """Build, and make what comes out canonical, with the build tag `build`."""
        import uv

        python = self._environment(bench, pins)
        out = bench.directory / "out"
        words = [uv.find_uv_bin(), "build", "--wheel", "--no-config", "--no-build-isolation"]
        words += ["--force-pep517", "--no-create-gitignore", "--python", str(python)]
        words += ["--cache-dir", str(self._workspace.uv), "--out-dir", str(out)]
        words += ["--offline", "--no-progress", "--color", "never"]
        for name, value in bench.settings.items():
            values = [value] if isinstance(value, str) else value
            # In one word, for names may begin with dashes (setuptools' `--build-option`).
            words += [f"--config-setting={name}={item}" for item in values]
        bench.runner.run([*words, str(tree)], tree, bench.environment(python))
        wheels = list(out.glob("*.whl"))
        if len(wheels) != 1:
            raise RunError(f"it made {len(wheels)} wheels, not one")
        return finish(wheels[0], bench.order, bench.directory, build=build)


def _sweep(staging: Path) -> None:
    """Remove what builds have left that were killed."""
    import filelock

    for directory in staging.iterdir():
        lock = filelock.FileLock(staging / f"{directory.name}.lock")
        if directory.is_dir():
            with suppress(filelock.Timeout), lock.acquire(timeout=0):
                remove_tree(directory)


def _failed(bench: _Bench, error: RunError) -> LockError:
    order, log = bench.order, bench.runner.log
    last = tail(log)
    return LockError(
        f"building {order.subject} failed",
        layer=order.layer.name,
        platform=order.platform,
        distribution=order.name,
        file=log,
        found=f"{error}; the log ends with:\n{last}" if last else str(error),
        remedy="see the whole log; `build-wheel` sets what the build requires and its config"
        " settings, `build.timeout` its time; or add a wheel built elsewhere with"
        " `stackbuild wheel add FILE`",
    )
