"""What a spec says about checking its layers."""

from __future__ import annotations

from itertools import chain
from typing import TYPE_CHECKING, cast

from stackbuild.spec.policy import on_platform
from stackbuild.verify.model import TIME_LIMIT, Rules

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from stackbuild.platforms import Platform
    from stackbuild.spec.model import Layer, Setting, Stack


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
        time_limit=layer.checks.time_limit,
        no_deps=policy.no_deps,
        overridden=tuple(policy.overrides),
        extras=extras,
    )


def merged(rules: Sequence[Rules]) -> Rules:
    """The rules of a chain together; of two that differ, the first counts."""
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
        no_deps=tuple(chain.from_iterable(one.no_deps for one in rules)),
        overridden=tuple(chain.from_iterable(one.overridden for one in rules)),
        extras=extras,
    )
