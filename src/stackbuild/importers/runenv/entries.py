"""Entries that name distributions or wheels: which variants they concern, and what they share.

The older build applied `skip`, `forceSource` and `buildWheel` to the dependencies of a variant, and
not to what these require.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from stackbuild.importers.runenv.model import OLDER, Config, Note

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from typing import Any

    from stackbuild.importers.runenv.model import Keys, Variant


def without_unused(
    shared: Config, file: str, variants: Iterable[Variant], notes: list[Note]
) -> tuple[Config, tuple[Variant, ...]]:
    """Leave out entries for what no variant can have; `file` is that of `shared`."""
    variants = tuple(variants)
    kept = _used(shared.replaced, variants)
    notes += _unused_notes(file, shared.replaced, kept)
    changed = []
    for variant in variants:
        entries = {
            keys: entry
            for keys, entry in variant.own.replaced.items()
            if entry != shared.replaced.get(keys)
        }
        used = _used(entries, [variant])
        # An empty entry takes back the shared one; others are noted with the platforms.
        own = {
            keys: entry
            for keys, entry in entries.items()
            if keys in used or not entry or _is_elsewhere(keys, variant)
        }
        notes += _unused_notes(variant.file, entries, own)
        merged = _used({**kept, **own}, [variant])
        config = replace(variant.config, replaced=merged)
        changed.append(replace(variant, own=replace(variant.own, replaced=own), config=config))
    return replace(shared, replaced=kept), tuple(changed)


def _used(entries: Mapping[Keys, Any], variants: Iterable[Variant]) -> dict[Keys, Any]:
    return {
        keys: entry
        for keys, entry in entries.items()
        if any(
            keys[1] in variant.names() if keys[0] in OLDER else _may_have(variant, *keys[1::2])
            for variant in variants
        )
    }


def _is_elsewhere(keys: Keys, variant: Variant) -> bool:
    return keys[0] not in OLDER and keys[1] not in variant.platforms


def _may_have(variant: Variant, platform: str, wheel: str) -> bool:
    """Whether `variant` may have a wheel with the name `wheel`, a pattern, on `platform`.

    What its dependencies require is not known. So it has no such wheel only if it has no
    dependencies, or pins another version, or if the wheel is for another Python.
    """
    from packaging.utils import (
        InvalidWheelFilename,
        canonicalize_name,
        parse_wheel_filename,
    )

    found = variant.dependencies()
    on = next((one for one in variant.platforms if one == platform), None)
    items = [*found[None].values(), *found[on].values()] if on else []
    try:
        name, version, _, tags = parse_wheel_filename(wheel)
    except InvalidWheelFilename:
        return bool(items)
    minor = f"{variant.python.major}{variant.python.minor}"
    if not any(
        tag.abi == "abi3" or tag.interpreter in (f"cp{minor}", f"py{minor}", "py3") for tag in tags
    ):
        return False
    if platform in variant.config.replaced.get(("skip", canonicalize_name(name)), {}):
        return bool(items)
    return bool(items) and all(
        item.requirement.specifier.contains(version, prereleases=True)
        for item in items
        if item.name == name and item.requirement.marker is None
    )


def _unused_notes(
    file: str, entries: Mapping[Keys, Any], kept: Mapping[Keys, Any]
) -> Iterable[Note]:
    found: dict[str, list[str]] = {}
    for keys in entries.keys() - kept.keys():
        field = (
            f"packages.{OLDER[keys[0]]}" if keys[0] in OLDER else f"checker/whitelists/{keys[1]}"
        )
        found.setdefault(field, []).append(keys[-1])
    whose = "the variant" if file.endswith("/config.json") else "any variant"
    for field, names in sorted(found.items()):
        what = "are no dependencies of" if field.startswith("packages") else "are no wheels of"
        text = f"{len(names)} left out, as they {what} {whose}: {', '.join(sorted(names))}"
        yield Note("needless", f"{file}: {field}", text)


def with_common_errors(
    shared: Config, variants: tuple[Variant, ...]
) -> tuple[Config, tuple[Variant, ...]]:
    """Move the `allow-import-errors` that several variants have alike to `shared`.

    They concern wheels. So they have no effect in layers without the wheel.
    """
    texts: dict[tuple[Keys, str], list[str]] = {}
    for variant in variants:
        for keys, errors in variant.own.replaced.items():
            if keys[0] == "platform-specific" and keys not in shared.replaced:
                for module, text in errors.items():
                    texts.setdefault((keys, module), []).append(text)
    common: dict[Keys, dict[str, str]] = {}
    for (keys, module), found in texts.items():
        if len(found) > 1 and len(set(found)) == 1:
            common.setdefault(keys, {})[module] = found[0]
    shared = replace(shared, joined={**shared.joined, **common})
    changed = []
    for variant in variants:
        rest: dict[Keys, Any] = {}
        for keys, entry in variant.own.replaced.items():
            left = {key: value for key, value in entry.items() if key not in common.get(keys, ())}
            if left or keys not in common:
                rest[keys] = left
        merged = {
            keys: rest.get(keys, entry)
            for keys, entry in variant.config.replaced.items()
            if keys in rest or keys not in variant.own.replaced
        }
        own, config = replace(variant.own, replaced=rest), replace(variant.config, replaced=merged)
        changed.append(replace(variant, own=own, config=config))
    return shared, tuple(changed)
