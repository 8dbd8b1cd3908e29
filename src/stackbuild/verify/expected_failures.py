"""Compare import failures with the spec: expected ones, unneeded entries, new entries."""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass
from fnmatch import fnmatchcase
from itertools import chain
from typing import TYPE_CHECKING, cast

from stackbuild.linking.search import is_expected
from stackbuild.spec.policy import on_platform
from stackbuild.tomltext import inline, layer_table
from stackbuild.verify.model import TIME_LIMIT, Finding, KnownError, Rules, StaleEntry

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from stackbuild.platforms import Platform
    from stackbuild.spec.model import Layer, Setting, Stack
    from stackbuild.verify.model import Outcome


_BREAK = re.compile(r"(?:[A-Za-z]:)?[/\\][^\s'\"():]+|[\x00-\x1f\x7f-\x9f\ud800-\udfff]+")
"""Parts of an error that differ between machines, or that a spec cannot contain."""
_CLASS = re.compile(r"[\w.]+(Error|Exception|Warning)")
_CIRCULAR = re.compile(
    r"ImportError: cannot import name .+ from partially initialized module '(.+?)'"
)
_SHORTEST = 3
_LONGEST = 100
_MANY = 4
"""At least this many modules that fail for the same reason share one entry."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Tried:
    """A module that was imported, with or without success."""

    layer: str
    """The name of its layer."""
    distribution: str
    wheel: str
    outcome: Outcome
    chain: tuple[str, ...]
    """The names of the layers in the chain that imported it."""

    @property
    def fails_alone(self) -> bool:
        """Whether a pattern leaves out something that it needs, and its package does not."""
        return self.outcome.excluded is not None and self.outcome.at == self.outcome.module

    @property
    def key(self) -> tuple[str, str, str]:
        """Identifies a failure, independent of the chain."""
        return self.layer, self.outcome.module, self.outcome.text


@dataclass(frozen=True, slots=True)
class Entry:
    """One line of an `allow-import-errors`."""

    layer: str
    wheel: str
    module: str
    text: str
    place: str = ""
    """The place in the spec."""

    def covers(self, tried: Tried) -> bool:
        """Whether it applies to this module, imported in a chain with the layer."""
        wheel, module = tried.wheel.lower(), tried.outcome.module
        return (
            self.layer in tried.chain
            and fnmatchcase(wheel, self.wheel.lower())
            and fnmatchcase(module, self.module)
        )

    def allows(self, tried: Tried) -> bool:
        """Whether the module failed as the entry expects."""
        return self.covers(tried) and self.text.lower() in said(tried.outcome).lower()

    def tells_of(self, library: str, wheel: str, module: str) -> bool:
        """Whether its text allows `module` to fail because `library` is missing.

        Used if modules cannot be imported here.
        """
        return (
            is_expected(self.text, library)
            and fnmatchcase(wheel.lower(), self.wheel.lower())
            and fnmatchcase(module, self.module)
        )


def entries_of(layer: str, rules: Rules) -> Iterator[Entry]:
    """The entries in `allow-import-errors` of a layer."""
    for wheel, modules in rules.allow_import_errors.items():
        for module, text in modules.items():
            yield Entry(layer, wheel, module, text, rules.places.get((wheel, module), ""))


def once(tried: Iterable[Tried]) -> list[Tried]:
    """The first of each failure."""
    found: dict[tuple[str, str, str], Tried] = {}
    for one in tried:
        found.setdefault(one.key, one)
    return list(found.values())


def said(outcome: Outcome) -> str:
    """The text that entries are compared with: ``ImportError: …``, ``crash: killed by …``."""
    return outcome.text if outcome.result == "error" else f"{outcome.result}: {outcome.text}"


def imports_itself(outcome: Outcome) -> bool:
    """Whether the module fails because it needs a name of itself before it has it.

    This is so in every installation of its wheel, so the layer is not the cause. The text is that
    of CPython.
    """
    match = _CIRCULAR.match(outcome.text) if outcome.result == "error" else None
    return match is not None and match[1] == outcome.module == outcome.at and not outcome.excluded


def known_text(outcome: Outcome) -> str:
    """The error of a module that is no finding, with the reason if no entry is needed."""
    why = (
        "it imports itself, which fails in every installation: " if imports_itself(outcome) else ""
    )
    return why + said(outcome)


def stale(entries: Iterable[Entry], tried: Sequence[Tried], *, complete: bool) -> list[StaleEntry]:
    """The entries that no failure needs, with the reason.

    A shared entry is needed if one of its layers needs it. An entry that matches no module counts
    only if the check was `complete`, because its wheel may be in a layer that was not checked.
    """
    found: list[StaleEntry] = []
    shared: dict[tuple[str, str, str, str], list[Entry]] = {}
    for entry in entries:
        key = (entry.place or entry.layer, entry.wheel, entry.module, entry.text)
        shared.setdefault(key, []).append(entry)
    for group in shared.values():
        entry = group[0]
        covered = [one for one in tried if any(each.covers(one) for each in group)]
        failed = [one for one in covered if one.outcome.result != "imported"]
        if any(each.allows(one) for one in failed for each in group):
            continue
        if failed:
            reason = f"the error has changed: {said(failed[0].outcome).splitlines()[0]}"
        elif covered:
            reason = "the module is now imported without an error"
        elif any(fnmatchcase(one.wheel.lower(), entry.wheel.lower()) for one in tried):
            reason = "the wheel has no such native module"
        elif complete:
            reason = "no wheel has this name"
        else:
            continue
        found.append(
            StaleEntry(place=entry.place, wheel=entry.wheel, module=entry.module, reason=reason)
        )
    return found


def new_entries(failed: Sequence[Tried]) -> str:
    """TOML that allows these failures, with a table for each layer."""
    lines: list[str] = []
    for layer in sorted({one.layer for one in failed}):
        lines += ["", layer_table(layer, "allow-import-errors")]
        wheels: dict[str, dict[str, str]] = {}
        for one in failed:
            if one.layer == layer:
                wheel = f"{one.wheel.partition('-')[0]}-*"
                wheels.setdefault(wheel, {})[one.outcome.module] = _part(one.outcome)
        for wheel, modules in sorted(wheels.items()):
            inner = ", ".join(
                f"{inline(module)} = {inline(text)}"
                for module, text in sorted(_together(modules).items())
            )
            lines.append(f"{inline(wheel)} = {{ {inner} }}")
    return "\n".join(lines[1:])


def _together(modules: Mapping[str, str]) -> dict[str, str]:
    """One entry for many modules of a package that fail for the same reason."""
    shared = Counter((module.partition(".")[0], text) for module, text in modules.items())
    result: dict[str, str] = {}
    for module, text in modules.items():
        package = module.partition(".")[0]
        counted = shared[package, text] >= _MANY
        result[f"{package}.*" if counted and "." in module else module] = text
    return result


def _part(outcome: Outcome) -> str:
    """The part of the error that does not depend on the machine.

    This is the longest piece without paths and unprintable characters, and without the name of its
    class.
    """
    first = said(outcome).splitlines()[0]
    pieces = _BREAK.split(first)
    if len(pieces) > 1:
        pieces = [piece.strip(" :'\"()") for piece in pieces]
        told = [piece for piece in pieces if len(piece) >= _SHORTEST]
        pieces = [piece for piece in told if not _CLASS.fullmatch(piece)] or told or pieces
    longest = max(pieces, key=len)
    if len(longest) <= _LONGEST:
        return longest.rstrip()
    # At the end of a word, if there is one.
    return (longest[: _LONGEST + 1].rpartition(" ")[0] or longest[:_LONGEST]).rstrip()


def rules_of(stack: Stack, platform: Platform) -> dict[str, Rules]:
    """The rules of each layer of `stack` on `platform`, by its name."""
    return {layer.name: _rules(stack, layer, platform) for layer in stack.layers.values()}


def _rules(stack: Stack, layer: Layer, platform: Platform) -> Rules:
    from packaging.utils import canonicalize_name

    policy = layer.policy(platform)
    extras: dict[str, tuple[str, ...]] = {}
    for requirement in stack.requirements_for(layer, platform):
        name = canonicalize_name(requirement.name)
        extras[name] = (*extras.get(name, ()), *sorted(requirement.extras))
    settings = on_platform(layer.settings, platform).get("allow-import-errors", {})
    return Rules(
        allow_import_errors=policy.allow_import_errors,
        places={
            (wheel, module): setting.place
            for wheel, modules in cast("Mapping[str, Mapping[str, Setting]]", settings).items()
            for module, setting in modules.items()
        },
        skip_modules=layer.checks.skip_modules,
        environment=layer.checks.environment,
        host_libraries=layer.checks.host_libraries,
        allow_paths=layer.checks.allow_paths,
        time_limit=layer.checks.time_limit,
        no_deps=policy.no_deps,
        overridden=tuple(policy.overrides),
        extras=extras,
        exclude_files=tuple(one for found in policy.exclude_files.values() for one in found),
    )


def merged(rules: Sequence[Rules]) -> Rules:
    """The merged rules of a chain; on a conflict the first one applies."""
    backwards = rules[::-1]
    allowed: dict[str, Mapping[str, str]] = {}
    for one in backwards:
        for wheel, modules in one.allow_import_errors.items():
            allowed[wheel] = {**allowed.get(wheel, {}), **modules}
    extras: dict[str, tuple[str, ...]] = {}
    for one in rules:
        for name, names in one.extras.items():
            extras[name] = (*extras.get(name, ()), *names)
    return Rules(
        allow_import_errors=allowed,
        time_limit=max((one.time_limit for one in rules), default=TIME_LIMIT),
        skip_modules=tuple(chain.from_iterable(one.skip_modules for one in rules)),
        environment={name: text for one in backwards for name, text in one.environment.items()},
        host_libraries=tuple(chain.from_iterable(one.host_libraries for one in rules)),
        allow_paths=tuple(chain.from_iterable(one.allow_paths for one in rules)),
        no_deps=tuple(chain.from_iterable(one.no_deps for one in rules)),
        overridden=tuple(chain.from_iterable(one.overridden for one in rules)),
        extras=extras,
    )


def as_known(one: Tried, text: str) -> KnownError:
    """`one` in a report, which is no finding because of `text`."""
    return KnownError(
        layer=one.layer, distribution=one.distribution, module=one.outcome.module, text=text
    )


def as_finding(one: Tried) -> Finding:
    """The finding for a module that cannot be imported."""
    messages = {
        "error": "cannot be imported",
        "crash": "crashes when it is imported",
        "hang": "hangs when it is imported",
    }
    outcome = one.outcome
    through = f" (importing {outcome.at})" if outcome.at != outcome.module else ""
    return Finding(
        check="import",
        layer=one.layer,
        distribution=one.distribution,
        module=outcome.module,
        message="; ".join(
            filter(None, (messages[outcome.result] + through, excluded_text(outcome)))
        ),
        found=outcome.text,
        detail=outcome.output.strip(),
        remedy=outcome.excluded.remedy if outcome.excluded else None,
    )


def excluded_text(outcome: Outcome) -> str:
    """Which pattern leaves out what the module needs, if one does."""
    return str(outcome.excluded) if outcome.excluded else ""
