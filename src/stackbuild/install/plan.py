"""Choose the layers and their versions for the next generation; changes no files."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from stackbuild.errors import InstallError, IntegrityError, UsageError, quoted
from stackbuild.spec.select import find_names, split_version

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from pathlib import Path

    from stackbuild.compose.manifest import ChainLink, Manifest
    from stackbuild.install.state import State
    from stackbuild.registry.find import Published


@dataclass(slots=True)
class _Choice:
    """The layers chosen so far, and which layer needs each."""

    state: State
    published: Published
    root: Path
    """For messages."""
    named: Sequence[Manifest]
    """Those that the user named."""
    exact: Sequence[Manifest]
    """Those to use as lower layers, if they fit."""
    chosen: dict[str, Manifest] = field(default_factory=dict)
    wanted_by: dict[str, str] = field(default_factory=dict)
    brought: dict[str, Manifest] = field(default_factory=dict)
    """By the directory of the replaced version."""

    def add(self, manifest: Manifest) -> None:
        """Choose `manifest` and the layers it depends on."""
        lower = [self._lower(manifest, link) for link in manifest.chain]
        _check_order(manifest, lower)
        for one in (manifest, *lower):
            self._put(one, manifest.layer)

    def _put(self, manifest: Manifest, wanted_by: str) -> None:
        for holder in (self.chosen, self.state.layers):
            self._check_owner(manifest, holder.get(manifest.directory))
        other = self.chosen.get(manifest.directory)
        if other is not None and other.lock != manifest.lock:
            first = self.wanted_by[manifest.directory]
            raise InstallError(
                f"{first} and {wanted_by} need different versions of {manifest.layer}, "
                "but a root can contain only one",
                layer=wanted_by,
                platform=manifest.platform,
                expected=f"{manifest.layer} with lock {other.lock[:12]} ({first})",
                found=f"lock {manifest.lock[:12]} ({wanted_by})",
                remedy=f"name versions of {first} and {wanted_by} for the same {manifest.layer} "
                f"(stackbuild list --from {quoted(self.published.location)} --all), publish them "
                "from the same version of the stack, or install them into two roots",
            )
        self._check_origin(manifest, wanted_by)
        self.chosen.setdefault(manifest.directory, manifest)
        self.wanted_by.setdefault(manifest.directory, wanted_by)

    def _check_owner(self, manifest: Manifest, other: Manifest | None) -> None:
        """Refuse two layers with the same directory, such as `app@1` and version 1 of `app`."""
        if other is not None and other.layer != manifest.layer:
            raise InstallError(
                f"{manifest.layer} and {other.layer} have the same directory",
                layer=manifest.layer,
                platform=manifest.platform,
                file=f"{manifest.directory}/",
                remedy=f"install {manifest.layer} into another root",
            )

    def _check_origin(self, manifest: Manifest, wanted_by: str) -> None:
        """Refuse to replace an installed layer from another registry, unless the user named it.

        An upgrade may change the version of a lower layer. It may not change the contents of the
        same version, or a layer that the user asked for.
        """
        installed = self.state.layers.get(manifest.directory)
        if installed is None or not self.is_foreign(installed, manifest):
            return
        if installed.lock == manifest.lock or manifest.directory in self.state.asked:
            raise self._other_registry(installed, manifest, wanted_by)

    def is_foreign(self, installed: Manifest, manifest: Manifest) -> bool:
        """Whether `manifest` would replace `installed` from another registry.

        False for a layer that the user named, or with the same contents.
        """
        return (
            manifest.digest != installed.digest
            and not self._is_named(manifest)
            and self.state.origins.get(installed.directory) != self.published.location
        )

    def _is_named(self, manifest: Manifest) -> bool:
        return any(manifest.layer == one.layer for one in self.named)

    def _other_registry(
        self, installed: Manifest, manifest: Manifest, wanted_by: str
    ) -> InstallError:
        layer = installed.layer
        origin = self.state.origins.get(installed.directory)
        return InstallError(
            f"{layer} was installed from another registry, and {wanted_by} would replace it",
            layer=layer,
            platform=installed.platform,
            expected=f"{layer} {installed.digest[:12]} from {origin}",
            found=f"{layer} {manifest.digest[:12]} from {self.published.location}",
            remedy=f"install {wanted_by} into another root; or replace {layer} too: "
            + self._command(layer),
        )

    def _command(self, *more: str) -> str:
        """The current command, with the layers `more` added."""
        named = {manifest.layer: self.published.word(manifest) for manifest in self.named}
        layers = " ".join((named | {layer: layer for layer in more if layer not in named}).values())
        place = quoted(self.published.location)
        return f"stackbuild install {layers} --from {place} --root {quoted(self.root)}"

    def origins(self) -> dict[str, str]:
        """The registry of each chosen or kept layer, by directory."""
        origins = dict(self.state.origins)
        for directory, manifest in self.chosen.items():
            installed = self.state.layers.get(directory)
            same = installed is not None and installed.digest == manifest.digest
            if self.published.has(manifest) and (not same or self._is_named(manifest)):
                origins[directory] = self.published.location
        return origins

    def versions(self) -> dict[str, str]:
        """The version of each chosen or kept layer, by directory."""
        return {**self.state.versions} | {
            directory: self.published.entry(manifest).version
            for directory, manifest in self.chosen.items()
            if self.published.has(manifest)
        }

    def _lower(self, upper: Manifest, link: ChainLink) -> Manifest:
        known = (*self.named, *self.exact)
        fitting = (one for one in known if (one.layer, one.lock) == (link.layer, link.lock))
        found = next(fitting, None) or self.published.fitting(link)
        if found is None:
            found = self.state.layers.get(link.directory)
        if found is None or found.lock != link.lock:
            raise self.published.not_published(upper, link)
        if (found.directory, found.kind) != (link.directory, link.kind):
            raise IntegrityError(
                f"{upper.layer} was published for a different {link.layer}",
                layer=upper.layer,
                platform=upper.platform,
                expected=f"{link.kind} in {link.directory}/",
                found=f"{found.kind} in {found.directory}/",
                remedy=f"publish {upper.layer} again",
            )
        return found

    def fits(self, manifest: Manifest) -> bool:
        """Whether an installed layer can stay unchanged."""
        return not self.misfits(manifest)

    def misfits(self, manifest: Manifest) -> list[ChainLink]:
        """The lower layers whose version differs from the one `manifest` was composed for."""
        below = {**self.state.layers, **self.chosen}
        return [link for link in manifest.chain if below[link.directory].lock != link.lock]

    def bring_along(self, installed: Manifest) -> None:
        """Choose the current version of an installed layer that cannot stay unchanged."""
        current = self.published.find_current(installed.layer)
        clash = self.misfits(installed)[0]
        if current is None or not self._agrees(current):
            raise self._refusal(installed, clash)
        if self.is_foreign(installed, current):
            raise self._other_registry(installed, current, self.wanted_by[clash.directory])
        self.add(current)
        self.brought[installed.directory] = current

    def _agrees(self, manifest: Manifest) -> bool:
        """Whether no layer below `manifest` is chosen in another version."""
        return all(
            self.chosen[link.directory].lock == link.lock
            for link in manifest.chain
            if link.directory in self.chosen
        )

    def _refusal(self, installed: Manifest, clash: ChainLink) -> InstallError:
        asking = self.wanted_by[clash.directory]
        fitting = self.published.find_version(installed.layer, self._agrees)
        together = self._command(
            asking, self.published.word(fitting) if fitting else installed.layer
        )
        if fitting is None:
            together = f"publish {installed.layer} for the new {clash.layer}, then: {together}"
        return InstallError(
            f"{asking} needs another {clash.layer} than {installed.layer}, "
            "which is installed in the same root",
            layer=installed.layer,
            platform=installed.platform,
            expected=f"{clash.layer} with lock {clash.lock[:12]} ({installed.layer})",
            found=f"lock {self.chosen[clash.directory].lock[:12]} ({asking})",
            remedy=f"{together}; or uninstall {installed.layer}; "
            f"or install {asking} into another root",
        )


def _check_order(manifest: Manifest, lower: Sequence[Manifest]) -> None:
    """Refuse a chain in which a layer comes after a layer that depends on it, as in a cycle.

    `lower` are the layers of the chain of `manifest`. Raises IntegrityError.
    """
    behind = [link.directory for link in manifest.chain]
    for one in lower:
        behind.remove(one.directory)
        for link in one.chain:
            if link.directory not in behind:
                raise IntegrityError(
                    f"the chain of {manifest.layer} does not have {link.layer} below "
                    f"{one.layer}, which depends on it",
                    layer=manifest.layer,
                    platform=manifest.platform,
                    expected=f"{one.directory} before {link.directory}",
                    found=", ".join(item.directory for item in manifest.chain),
                    remedy=f"publish {one.layer} and {manifest.layer} again",
                )


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """The next generation."""

    state: State
    brought: tuple[str, ...] = ()
    """Layers that are upgraded because a layer below them changes."""
    moved: tuple[str, ...] = ()
    """Installed layers that are replaced with layers from another registry."""


def plan_install(
    named: Sequence[Manifest],
    state: State,
    published: Published,
    root: Path,
    exact: Sequence[Manifest] = (),
) -> Plan:
    """Plan a generation with the layers `named` and the layers already installed.

    Of lower layers, those in `exact` are used if they fit, otherwise the newest that fit.
    Raises UsageError for two versions of one layer, InstallError for conflicting layers.
    """
    choice = _Choice(state, published, root, named, exact)
    _check_versions(named, root)
    for manifest in named:
        choice.add(manifest)
    kept = [
        directory
        for directory in state.asked
        if state.layers[directory].layer not in {manifest.layer for manifest in named}
    ]
    # Upgrading a layer may change a layer that another one depends on, so repeat.
    while misfit := next(
        (
            state.layers[directory]
            for directory in kept
            if directory not in choice.brought and not choice.fits(state.layers[directory])
        ),
        None,
    ):
        choice.bring_along(misfit)
    kept = [
        choice.brought[directory].directory if directory in choice.brought else directory
        for directory in kept
    ]
    asked = {*kept, *(manifest.directory for manifest in named)}
    origins = choice.origins()
    layers_after = {**state.layers, **choice.chosen}
    before = replace(state, origins=origins, versions=choice.versions())
    after = _state(before, tuple(sorted(asked)), layers_after)
    return Plan(
        state=after,
        brought=tuple(manifest.layer for manifest in choice.brought.values()),
        moved=tuple(
            manifest.layer
            for directory, manifest in after.layers.items()
            if directory in state.layers
            and state.layers[directory].digest != manifest.digest
            and state.origins.get(directory) != origins.get(directory)
        ),
    )


def _check_versions(named: Sequence[Manifest], root: Path) -> None:
    """Refuse two versions of a layer that would have the same directory."""
    first = {(one.layer, one.directory): one.digest for one in reversed(named)}
    for manifest in named:
        if first[manifest.layer, manifest.directory] != manifest.digest:
            raise UsageError(
                f"two versions of {manifest.layer} were named, but a root can contain only one",
                layer=manifest.layer,
                platform=manifest.platform,
                file=root,
                remedy="install them into two roots",
            )


def plan_uninstall(leaving: Sequence[str], state: State) -> Plan:
    """Plan a generation without the directories `leaving` and the lower layers that only they need.

    Raises InstallError for layers that others need.
    """
    asked = tuple(directory for directory in state.asked if directory not in leaving)
    after = _state(state, asked, state.layers)
    for directory in leaving:
        if directory in after.layers:
            name = state.layers[directory].layer
            needing = sorted(set(after.needed_by(directory)))
            raise InstallError(
                f"{name} is needed by {' and '.join(needing)}",
                layer=name,
                remedy=f"uninstall {', '.join(needing)} and {name} with one command",
            )
    return Plan(state=after)


def find_installed(words: Iterable[str], state: State, root: Path) -> list[Manifest]:
    """The installed layers that `words` mean (see `find_names`), each once.

    The directory of a layer is a name of it, too: `app@2`. If several versions of a layer are
    installed, its name means the one that the user asked for. Raises UsageError.
    """
    layers = state.layers
    kinds = {name: one.kind for one in layers.values() for name in (one.layer, one.directory)}
    found: dict[str, Manifest] = {}
    for word in words:
        for name in find_names(word, kinds, place=root, add="install it there"):
            manifest = layers.get(name) or _preferred(name, state)
            found[manifest.directory] = manifest
    return list(found.values())


def remembered_place(words: Iterable[str], state: State | None, root: Path) -> str:
    """The registry that the layers of a root came from: those that `words` name, or else all.

    Raises UsageError if there are none, or if they came from several.
    """
    layers = state.layers if state else {}
    names = {
        split_version(word, {one.layer: one.kind for one in layers.values()})[0] for word in words
    }
    named = {name for name, one in layers.items() if one.layer in names}
    origins = dict(state.origins) if state else {}
    places = sorted({place for name, place in origins.items() if name in (named or origins)})
    if len(places) == 1:
        return places[0]
    raise UsageError(
        "the place to install from is not known",
        file=root,
        expected="--from PLACE",
        found=f"layers from {' and '.join(places)}" if places else "a root without layers",
    )


def _preferred(layer: str, state: State) -> Manifest:
    versions = [manifest for manifest in state.layers.values() if manifest.layer == layer]
    return next((one for one in versions if one.directory in state.asked), versions[-1])


def _state(before: State, asked: tuple[str, ...], layers: Mapping[str, Manifest]) -> State:
    """The layers `asked` and those they depend on, lower layers first."""
    ordered: dict[str, Manifest] = {}
    for directory in asked:
        manifest = layers[directory]
        for link in reversed(manifest.chain):
            ordered.setdefault(link.directory, layers[link.directory])
        ordered.setdefault(directory, manifest)
    origins = {name: before.origins[name] for name in ordered if name in before.origins}
    versions = {name: before.versions[name] for name in ordered if name in before.versions}
    return replace(before, asked=asked, layers=ordered, origins=origins, versions=versions)
