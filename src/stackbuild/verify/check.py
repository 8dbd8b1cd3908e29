"""Check deployed layers: their files, and whether their native modules can be imported."""

from __future__ import annotations

import os
import time
from dataclasses import dataclass, field, replace
from fnmatch import fnmatchcase
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

from stackbuild.errors import UsageError
from stackbuild.install.plan import find_installed
from stackbuild.install.root import Root
from stackbuild.linking.search import DLL_MISSING
from stackbuild.lock.current import Locks
from stackbuild.platforms import host_platform
from stackbuild.processes import system_environment
from stackbuild.resolve.lock_stack import describe_conflicts
from stackbuild.variables import to_set
from stackbuild.verify import expected_failures
from stackbuild.verify.build_paths import of_this_machine
from stackbuild.verify.deployed import LEFT_OUT, is_left_out, native_modules, open_deployment
from stackbuild.verify.excluded import as_findings, find_excluded, find_importers, needed
from stackbuild.verify.expected_failures import merged, rules_of
from stackbuild.verify.importing import import_modules
from stackbuild.verify.layer_check import (
    check_layer,
    interpreter_links,
    pip_warnings,
    start_problem,
)
from stackbuild.verify.libraries import check_libraries, search_path_warnings
from stackbuild.verify.model import Counts, Rules, VerifyReport
from stackbuild.verify.modules import check_bytecode, check_modules, check_tags
from stackbuild.verify.record_check import read_layer
from stackbuild.verify.requirements import check_requirements, effective
from stackbuild.workspace import open_workspace

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from stackbuild.install.state import State
    from stackbuild.messages import Messages
    from stackbuild.platforms import Platform
    from stackbuild.spec.model import Stack
    from stackbuild.verify.deployed import DeployedLayer, Deployment
    from stackbuild.verify.excluded import Importer
    from stackbuild.verify.expected_failures import Tried
    from stackbuild.verify.model import Finding, Outcome
    from stackbuild.workspace import Workspace


def verify_root(
    root: Path,
    layers: Sequence[str],
    stack: Stack | None,
    platform: Platform | None,
    messages: Messages,
) -> VerifyReport:
    """Check `layers` in `root` by the rules of `stack`, if given; see `check_deployed`.

    Warns of conflicts that the locks accept.
    """
    workspace = open_workspace(stack.directory if stack else Path.cwd(), read_only=True)
    rules, places = {}, [workspace.cache]
    if stack is not None:
        where = Root(root)
        state = where.installed_state()
        named = [manifest.layer for manifest in find_installed(layers, state, where.path)]
        rules = rules_of(stack, state.platform)
        places.append(workspace.project)
        for text in accepted_conflicts(stack, workspace, state, named):
            messages.warn(text)
    return check_deployed(
        layers,
        root,
        messages,
        rules=rules,
        platform=platform,
        places=places,
        jobs=workspace.jobs,
    )


def check_deployed(
    layers: Sequence[str],
    root: Path,
    messages: Messages,
    *,
    rules: Mapping[str, Rules] | None = None,
    platform: Platform | None = None,
    places: Iterable[Path] = (),
    jobs: int | None = None,
) -> VerifyReport:
    """Check `layers`, each through its chain, in `root`; no layers means all of them.

    `rules` are by layer name; the rules of lower layers also apply. `places` are further build
    directories of this machine. Modules are imported if the layers run on this machine, `jobs` at a
    time (by default one for each processor). Raises UsageError for layers that are not installed,
    and if the root is for another platform than `platform`.
    """
    begin = time.monotonic()
    where = Root(root)
    check_platform(where, platform)
    deployment = open_deployment(root)
    state = deployment.state
    run = _Checking(deployment, rules or {}, messages, jobs or os.cpu_count() or 1)
    # By default the upper layers, which include all lower ones.
    upper = [name for name in state.layers if not state.needed_by(name)]
    names = [manifest.directory for manifest in find_installed(layers, state, where.path)] or upper
    tops = [deployment.layers[name] for name in names]
    wanted = {one.manifest.directory for top in tops for one in deployment.chain(top)}
    checked = [layer for name, layer in deployment.layers.items() if name in wanted]
    not_imported = ""
    if state.platform != host_platform():
        not_imported = f"the layers are for {state.platform}, and this machine is {host_platform()}"
    run.read(checked, (*places, deployment.root), imported=not not_imported)
    if not not_imported:
        for top in tops:
            run.import_all(top)
    return run.report(
        [layer.manifest.directory for layer in checked],
        complete=not layers,
        not_imported=not_imported,
        seconds=round(time.monotonic() - begin, 2),
    )


def check_platform(root: Root, platform: Platform | None) -> None:
    """Check that the root is for `platform`, if given. Raises UsageError."""
    found = root.installed_state().platform
    if platform not in {None, found}:
        raise UsageError(
            f"{root.path} contains layers for {found}",
            platform=platform,
            remedy="choose a root for that platform",
        )


def accepted_conflicts(
    stack: Stack, workspace: Workspace, state: State, layers: Sequence[str]
) -> list[str]:
    """The conflicts between frameworks that the locks of the deployed layers accept."""
    locks = Locks(stack, workspace)
    deployed = [
        lock
        for manifest in state.layers.values()
        if not layers or manifest.layer in layers
        if (lock := locks.get(manifest.layer, state.platform)) and lock.digest == manifest.lock
    ]
    return describe_conflicts(deployed)


@dataclass
class _Checking:
    deployment: Deployment
    rules: Mapping[str, Rules]
    messages: Messages
    jobs: int
    findings: list[Finding] = field(default_factory=list)
    files: int = 0
    binaries: int = 0
    distributions: int = 0
    tried: list[Tried] = field(default_factory=list)
    left_out: set[str] = field(default_factory=set)
    importers: list[Importer] = field(default_factory=list)

    def rules_of(self, layer: DeployedLayer) -> Rules:
        """The rules for `layer`: its own and those of its lower layers."""
        chain = self.deployment.chain(layer)
        return merged([self.rules.get(one.manifest.layer, Rules()) for one in chain])

    def read(
        self, layers: Sequence[DeployedLayer], places: Iterable[Path], *, imported: bool
    ) -> None:
        """Run the static checks; `imported` says whether modules will be imported later."""
        paths = of_this_machine(places)
        size = sum(p.frame.content_size for layer in layers for p in layer.manifest.frames)
        with self.messages.task("reading", size) as task:
            for layer in layers:
                read = read_layer(layer, paths, self.jobs, task)
                chain, rules = self.deployment.chain(layer), self.rules_of(layer)
                made = [*check_layer(layer, chain)]
                known = {*(one.file for one in made), *interpreter_links(layer)}
                self.findings += (
                    one
                    for one in read.findings
                    if not (one.check == "layer" and one.file in known)
                    and not _is_allowed(one, rules)
                )
                self.findings += made
                self.findings += check_tags(layer, chain[-1].manifest.python_version)
                self.findings += check_modules(layer, read, rules.skip_modules)
                self.findings += check_bytecode(layer, read, rules.skip_modules)
                self.importers += find_importers(layer, chain, self.rules, rules.skip_modules)
                self.findings += check_requirements(chain, rules)
                # If modules are imported, the results decide which entries are needed.
                entries = (
                    () if imported else expected_failures.entries_of(layer.manifest.layer, rules)
                )
                self.findings += check_libraries(layer, read, chain, rules.host_libraries, entries)
                for text in (
                    *read.warnings,
                    *search_path_warnings(layer, read, chain, rules.allow_paths),
                    *pip_warnings(layer, chain),
                ):
                    self.messages.warn(text)
                self.files += read.files
                self.binaries += len(read.binaries)
                self.distributions += len(layer.distributions)

    def import_all(self, top: DeployedLayer) -> None:
        """Import the native modules of the chain of `top` with its interpreter."""
        rules = self.rules_of(top)
        modules: dict[str, tuple[str, str, str]] = {}
        for layer, distribution in effective(self.deployment.chain(top)).values():
            for name, _ in native_modules(layer, distribution):
                if is_left_out(name, (*LEFT_OUT, *rules.skip_modules)):
                    self.left_out.add(name)
                else:
                    owner = (layer.manifest.layer, str(distribution), distribution.wheel)
                    modules.setdefault(name, owner)
        problem = start_problem(top)
        if problem is not None:
            self.findings.append(problem)
            return
        outcomes = import_modules(
            modules,
            top.interpreter,
            self.messages,
            jobs=self.jobs,
            limit=rules.time_limit,
            environment={
                **to_set(
                    top.manifest.environment,
                    system_environment("PATH"),
                    os.path.realpath(top.directory),
                ),
                **rules.environment,
            },
        )
        chain = tuple(one.manifest.layer for one in self.deployment.chain(top))
        self.tried += [
            expected_failures.Tried(
                layer=layer,
                distribution=distribution,
                wheel=wheel,
                outcome=self._explained(outcomes[name], chain),
                chain=chain,
            )
            for name, (layer, distribution, wheel) in modules.items()
        ]

    def _explained(self, outcome: Outcome, chain: Sequence[str]) -> Outcome:
        """`outcome`, with the pattern of `exclude-files` that leaves out what was not found."""
        excluded = (find_excluded(path, chain, self.rules) for path in outcome.missing)
        return replace(outcome, excluded=next(filter(None, excluded), None))

    def _name(self, directory: str) -> str:
        return self.deployment.layers[directory].manifest.layer

    def _needed(self, layers: Sequence[str]) -> set[str]:
        """The modules that `exclude-files` breaks, and that other modules need."""
        checked = [self.deployment.layers[name] for name in layers]
        return needed(
            {
                *(one.file.module for one in self.importers),
                *(one.outcome.module for one in self.tried if one.fails_alone),
            },
            checked,
            [glob for one in checked for glob in self.rules_of(one).skip_modules],
        )

    def report(
        self, layers: Sequence[str], *, complete: bool, not_imported: str, seconds: float
    ) -> VerifyReport:
        """The report of all results."""
        entries = [
            entry
            for name in dict.fromkeys(map(self._name, layers))
            for entry in expected_failures.entries_of(name, self.rules.get(name, Rules()))
        ]
        used = self._needed(layers)
        unused = [one.unused for one in self.importers if one.file.module not in used]
        failed = []
        for one in self.tried:
            if (
                one.fails_alone
                and not any(entry.allows(one) for entry in entries)
                and one.outcome.module not in used
            ):
                unused.append(expected_failures.as_known(one, str(one.outcome.excluded)))
            elif one.outcome.result != "imported":
                failed.append(one)
        new = expected_failures.once(
            one
            for one in failed
            if not any(entry.allows(one) for entry in entries)
            and not expected_failures.imports_itself(one.outcome)
        )
        expected = expected_failures.once(
            one for one in failed if one.key not in {each.key for each in new}
        )
        # A module that is left out is reported once, or expected.
        excluded = tuple(
            text for one in failed if (text := expected_failures.excluded_text(one.outcome))
        )
        findings = [
            found
            for found in (
                *self.findings,
                *as_findings(one for one in self.importers if one.file.module in used),
            )
            if not _is_explained(found, expected) and not found.message.endswith(excluded)
        ]
        return VerifyReport(
            layers=tuple(layers),
            platform=self.deployment.state.platform,
            counts=Counts(
                distributions=self.distributions,
                files=self.files,
                binaries=self.binaries,
                modules=len(self.tried),
            ),
            findings=(*findings, *map(expected_failures.as_finding, new)),
            known=tuple(
                expected_failures.as_known(one, expected_failures.known_text(one.outcome))
                for one in expected
            ),
            unused=tuple(dict.fromkeys(unused)),
            stale=tuple(
                expected_failures.stale(entries, self.tried, complete=complete)
                if not not_imported
                else ()
            ),
            left_out=tuple(sorted(self.left_out)),
            omitted={
                self._name(layer): omitted
                for layer in layers
                if (omitted := self.deployment.layers[layer].manifest.omitted)
            },
            entries=expected_failures.new_entries(new),
            not_imported=not_imported,
            seconds=seconds,
        )


def _is_allowed(finding: Finding, rules: Rules) -> bool:
    """Whether `finding` is about a path that a glob of `allow-paths` matches."""
    path = finding.found if finding.check == "path" else None
    return path is not None and any(fnmatchcase(path, glob) for glob in rules.allow_paths)


def _is_explained(finding: Finding, expected: Sequence[Tried]) -> bool:
    """Whether a missing library explains the import failure of a module."""
    return finding.check == "library" and any(
        finding.distribution == one.distribution and _is_told(finding, one.outcome)
        for one in expected
    )


def _is_told(finding: Finding, outcome: Outcome) -> bool:
    if finding.expected is not None and finding.expected in outcome.text:
        return True
    # Windows does not report which DLL is missing.
    module = PurePosixPath(finding.file or "").name.partition(".")[0]
    told = DLL_MISSING in outcome.text.lower()
    return told and module == outcome.module.rpartition(".")[2]
