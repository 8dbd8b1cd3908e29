"""Finds settings of a spec that have no effect, from the spec and its locks."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, NamedTuple, cast

from stackbuild.lock.indexes import index_settings
from stackbuild.reading import did_you_mean
from stackbuild.spec.model import Setting
from stackbuild.spec.policy import SPECIFIC, on_platform
from stackbuild.spec.select import select
from stackbuild.spec.uv_table import CONFIG_FILE
from stackbuild.tomltext import line_of

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator, Sequence

    from packaging.utils import NormalizedName

    from stackbuild.lock.current import Locks
    from stackbuild.lock.model import LayerLock
    from stackbuild.platforms import Platform
    from stackbuild.spec.model import Layer, Settings, Stack
    from stackbuild.spec.settings import Node

_OWN = ("runtimes[", "frameworks[", "applications[", "tool.stackbuild.layers.")
"""How the places of settings of one layer begin; others concern all layers."""
_INHERITED = ("package_indexes", "overrides", "no-deps")
"""Fields that the layers above use, too."""
_CLOSE = 0.8
"""How similar a misspelt name is. Of the many names of distributions, some are a bit alike."""
_TARGETS = {"linux_target": ("linux", "Linux"), "macosx_target": ("macos", "macOS")}


class Unused(NamedTuple):
    """A setting without effect."""

    place: str
    """Such as ``tool.stackbuild.shared.overrides.numpy``."""
    why: str
    """Why it has no effect, and what to do."""


@dataclass(slots=True)
class _Use:
    """Where one setting is looked for."""

    layer: str
    """The first layer that it holds for."""
    name: str
    inherited: bool
    used: bool = False
    platforms: set[Platform] = field(default_factory=set)


def unused_settings(
    stack: Stack, locks: Locks, current: Sequence[LayerLock], *, stale: bool
) -> tuple[str, ...]:
    """A sentence for the settings without effect, with file and line, in their order.

    What one line has several times for the same reason is one sentence.
    `current` are the locks of this run, `stale` is whether some are not current. Names of
    distributions are checked only if these are all locks of the stack and none is stale, since
    another layer or platform may have the distribution.
    """
    found = [*_unmet_skips(stack, locks, current), *_without_use(stack)]
    found += [
        Unused(f"tool.stackbuild.local-wheels[{index}]", f"there are no wheels in {text!r}")
        for index, text in enumerate(stack.local_wheels)
        if not any((stack.directory / text).glob("*.whl"))
    ]
    if not stale and len(current) >= len(select(stack, (), ())):
        found += _unknown_names(stack, current)
    grouped: dict[tuple[str, int, str], list[str]] = {}
    for name, line, place, why in sorted((*located(stack, it.place), it.why) for it in found):
        grouped.setdefault((name, line, why), []).append(place)
    return tuple(
        f"{name}, line {line}: {' and '.join((places[0], *_more(places)))}: {why}"
        for (name, line, why), places in grouped.items()
    )


def _more(places: Sequence[str]) -> tuple[str, ...]:
    return (f"{len(places) - 1} more",) if len(places) > 1 else ()


def located(stack: Stack, place: str) -> tuple[str, int, str]:
    """The file that sets `place`, the line, and the place in that file."""
    if line := line_of(stack.path.read_text(encoding="utf-8"), place):
        return stack.path.name, line, place
    inner = place.removeprefix("tool.uv.")
    beside = (stack.directory / CONFIG_FILE).read_text(encoding="utf-8")
    return CONFIG_FILE, line_of(beside, inner) or 1, inner


def _unmet_skips(stack: Stack, locks: Locks, current: Iterable[LayerLock]) -> Iterator[Unused]:
    """The entries of `skip` and `exclude` that no lock needs.

    A shared entry may also be used by layers that are not in `current`; their locks are taken
    from `locks`. An entry is not reported while one of its layers is not locked.
    """
    from packaging.utils import canonicalize_name

    by_pair = {(lock.layer, lock.platform): lock for lock in current}
    met: dict[tuple[str, str, str], bool] = {}
    needed: set[tuple[str, str]] = set()
    for key in ("skip", "exclude"):
        for layer, name, platform, setting in _left_out(stack, key):
            used = False
            if platform in layer.platforms:
                lock = by_pair.get((layer.name, platform)) or locks.get(layer.name, platform)
                own = stack.requirements_for(layer, platform) if key == "skip" else ()
                used = lock is None or any(canonicalize_name(one.name) == name for one in own)
                if lock:
                    used = used or any(item.name == name for item in lock.skipped)
                    if any(item.name == name for item in lock.distributions):
                        needed.add((setting.place, name))
            entry = (key, setting.place, name)
            met[entry] = used or met.get(entry, False)
    for (key, place, name), used in met.items():
        if used:
            continue
        if (place, name) in needed and key == "skip":
            yield Unused(
                place, f"other distributions need {name} there; move this entry to `exclude`"
            )
        else:
            yield Unused(place, f"no distribution needs {name} there; remove this entry")


def _left_out(stack: Stack, key: str) -> Iterator[tuple[Layer, str, Platform, Setting]]:
    """The entries of the field `key`, which is `skip` or `exclude`."""
    for layer in stack.layers.values():
        for name, reasons in cast("Settings", layer.settings.get(key, {})).items():
            for platform, setting in cast("Settings", reasons).items():
                yield layer, name, cast("Platform", platform), cast("Setting", setting)


def _without_use(stack: Stack) -> Iterator[Unused]:
    """The settings that have no effect whatever the locks contain."""
    for layer in stack.layers.values():
        systems = {platform.os for platform in layer.platforms}
        for key, (system, word) in _TARGETS.items():
            if key in layer.settings and system not in systems:
                why = f"{layer.name} is not made for {word}; remove it"
                yield Unused(_place(layer.settings[key]), why)
        plain = index_settings(stack, replace(layer, priority_indexes=()))
        if layer.priority_indexes and index_settings(stack, layer).indexes == plain.indexes:
            place = _place(layer.settings["priority_indexes"]).rpartition("[")[0]
            yield Unused(place, f"{layer.name} uses the indexes in this order anyway; remove it")
    assigned = {
        name
        for layer in stack.layers.values()
        for name in (*layer.package_indexes.values(), *layer.priority_indexes)
    }
    for number, index in enumerate(stack.indexes):
        if index.explicit and index.name not in assigned:
            why = (
                f"no layer uses the explicit index {index.name}; name its distributions in"
                " `package_indexes` of a layer, or remove it"
            )
            yield Unused(f"tool.uv.index[{number}]", why)
    yield from _other_platforms(stack)
    yield from _optional_lists(stack)


def _other_platforms(stack: Stack) -> Iterator[Unused]:
    """The shared settings for platforms that no layer is made for."""
    made = {str(platform) for layer in stack.layers.values() for platform in layer.platforms}
    # Each layer has the shared settings.
    settings = next(iter(stack.layers.values())).settings
    tables = [cast("Settings", settings.get(SPECIFIC, {}))]
    for key in ("force-source", "build-wheel"):
        tables += cast("Mapping[str, Settings]", settings.get(key, {})).values()
    for table in tables:
        for platform, node in table.items():
            if platform not in made:
                yield Unused(_place(node), f"no layer is made for {platform}; remove it")


def _optional_lists(stack: Stack) -> Iterator[Unused]:
    """The lists of optional distributions without `strict-missing = false`."""
    used: dict[str, bool] = {}
    for layer in stack.layers.values():
        for platform in layer.platforms:
            resolution = _resolution(layer, platform)
            strict = layer.policy(platform).resolution.strict_missing
            for item in cast("tuple[Setting, ...]", resolution.get("optional-list", ())):
                used[item.place] = not strict or used.get(item.place, False)
    for place, has_effect in used.items():
        if not has_effect:
            yield Unused(place, "set `strict-missing = false` beside it, or remove it")


def _unknown_names(stack: Stack, current: Sequence[LayerLock]) -> Iterator[Unused]:
    """The settings for distributions that the locks of their layers do not name."""
    known = {(lock.layer, lock.platform): _names_of(stack, lock) for lock in current}
    everything = set().union(*known.values())
    uses: dict[str, _Use] = {}
    for layer, platform in stack.pairs():
        if (layer.name, platform) not in known:
            continue
        above = [one.name for one in stack.layers.values() if layer.name in one.lower]
        for name, place, inherited in _named(layer, platform):
            use = uses.setdefault(place, _Use(layer.name, name, inherited))
            use.platforms.add(platform)
            holders = (layer.name, *(above if inherited else ()))
            use.used |= any(name in known.get((holder, platform), ()) for holder in holders)
    for place, use in uses.items():
        # `package_indexes` says where a distribution would come from, also before it is required.
        may_precede = ".package_indexes." in place and not _meant(use.name, everything)
        if not use.used and not may_precede:
            yield Unused(place, _unknown(stack, place, use, everything))
    for place, name in _named_for_uv(stack):
        if name not in everything:
            yield Unused(place, f"no layer has {name}; {_correct(name, everything)}")


def _names_of(stack: Stack, lock: LayerLock) -> set[NormalizedName]:
    from packaging.utils import canonicalize_name

    requirements = stack.layers[lock.layer].requirements_on(lock.platform)
    return {
        *(item.name for item in lock.distributions),
        *(item.name for item in lock.inherited),
        *(item.name for item in (*lock.skipped, *lock.omitted)),
        *(canonicalize_name(requirement.name) for requirement in requirements),
    }


def _unknown(stack: Stack, place: str, use: _Use, known: Collection[str]) -> str:
    """Why the name of `use` has no effect."""
    layer = stack.layers[use.layer]
    some = not use.platforms.issuperset({*layer.platforms} & {*stack.platforms})
    where = f" on {', '.join(sorted(use.platforms))}" if some else ""
    if not place.startswith(_OWN):
        who = f"no layer has {use.name}"
    elif use.inherited and any(layer.name in one.lower for one in stack.layers.values()):
        who = f"neither {layer.name} nor a layer above it has {use.name}"
    else:
        who = f"{layer.name} does not have {use.name}"
    return f"{who}{where}; {_correct(use.name, known)}"


def _correct(name: str, known: Collection[str]) -> str:
    return _meant(name, known) or "remove it, or correct the name"


def _meant(name: str, known: Collection[str]) -> str | None:
    """A hint with the name in `known` that differs from `name` in about one letter, or None."""
    return None if name in known else did_you_mean(name, known, _CLOSE)


def _named(layer: Layer, platform: Platform) -> Iterator[tuple[NormalizedName, str, bool]]:
    """Name, place and whether it is inherited, of each distribution that settings name."""
    settings = on_platform(layer.settings, platform)
    for key in ("package_indexes", "overrides", "force-source", "build-wheel", "exclude-files"):
        for name, node in cast("Settings", settings.get(key, {})).items():
            if name != "*":
                yield cast("NormalizedName", name), _place(node), key in _INHERITED
    lists = {"no-deps": settings.get("no-deps", ()), **_resolution(layer, platform)}
    for key, node in lists.items():
        for item in node if isinstance(node, tuple) else ():
            yield cast("NormalizedName", item.value), item.place, key in _INHERITED


def _resolution(layer: Layer, platform: Platform) -> Settings:
    return cast("Settings", on_platform(layer.settings, platform).get("resolution", {}))


def _place(node: Node) -> str:
    """The place of a setting, or of the first one in it."""
    while not isinstance(node, Setting):
        node = next(iter(node.values())) if isinstance(node, Mapping) else node[0]
    return node.place


def _named_for_uv(stack: Stack) -> Iterator[tuple[str, NormalizedName]]:
    """The place and the name of each distribution that a setting of uv is for."""
    from packaging.requirements import Requirement
    from packaging.utils import canonicalize_name

    settings = cast("Mapping[str, Sequence[object]]", stack.uv_settings)
    for name in settings.get("exclude-newer-package", ()):
        yield "tool.uv.exclude-newer-package", cast("NormalizedName", name)
    metadata = cast("Sequence[Mapping[str, str]]", settings.get("dependency-metadata", ()))
    for number, entry in enumerate(metadata):
        place = f"tool.uv.dependency-metadata[{number}]"
        yield place, cast("NormalizedName", entry["name"])
    for key in ("constraint-dependencies", "override-dependencies"):
        for text in settings.get(key, ()):
            yield f"tool.uv.{key}", canonicalize_name(Requirement(str(text)).name)


def excluded_requirements(stack: Stack, locks: Iterable[LayerLock]) -> tuple[str, ...]:
    """A sentence for each requirement of a locked layer that `exclude-dependencies` leaves out."""
    from packaging.utils import canonicalize_name

    excluded = cast("Collection[str]", stack.uv_settings.get("exclude-dependencies", ()))
    left_out = {
        (lock.layer, name): None
        for lock in locks
        for requirement in stack.requirements_for(stack.layers[lock.layer], lock.platform)
        if (name := canonicalize_name(requirement.name)) in excluded
    }
    return tuple(
        f"{layer} requires {name}, but exclude-dependencies in [tool.uv] leaves it out; "
        "remove one of the two"
        for layer, name in left_out
    )
