"""Which requirements the package indexes cannot meet.

uv's exit code says that requirements have no solution. Its error text says why,
but changes from version to version. So the reason is looked up: requirements
are followed through the pages of the indexes and the metadata of wheels, with
the newest compatible version of each distribution. Unlike a resolver, this does
not backtrack. The result is a candidate, which `explain` confirms with uv.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

from stackbuild.lock.targets import active, all_active, extras_of, requested_extras

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from packaging.requirements import Requirement
    from packaging.specifiers import SpecifierSet
    from packaging.tags import Tag
    from packaging.utils import NormalizedName
    from packaging.version import Version

    from stackbuild.lock.index_pages import IndexPages, Offer
    from stackbuild.lock.targets import Target
    from stackbuild.resolve.metadata import Metadata
    from stackbuild.resolve.request import ResolveRequest

_REQUESTS = 8
"""Concurrent downloads of metadata."""
_PASSES = 40
"""The longest chain of dependencies that is followed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Dependency:
    """A requirement, and the distribution that declares it."""

    parent: NormalizedName | None
    """None for the layer itself."""
    requirement: Requirement

    def __str__(self) -> str:
        """``base>=2 through middle``, or the layer's own requirement in quotes."""
        if self.parent is None:
            return f"'{self.requirement}' itself"
        return f"{self.requirement.name}{self.requirement.specifier} through {self.parent}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Unavailable:
    """A required distribution that no index has in a usable form."""

    name: NormalizedName
    kind: Literal["project", "version", "wheel", "source"]
    """What is missing: the project, a version, a wheel or a source distribution."""
    dependency: Dependency
    """The requirement that cannot be met; the first of several."""
    is_certain: bool = False
    """Whether the layer itself requires it, so that no other version can help."""
    version: Version | None = None
    """The version that the requirements pin, if any."""
    tags: tuple[str, ...] = ()
    """The tags of its wheels."""
    alternative: Version | None = None
    """Another version, which has a wheel for the target."""
    has_source: bool = False
    """Whether a required version has a source distribution."""


@dataclass(slots=True, kw_only=True)
class Availability:
    """The distributions that `request` leads to, and those that are missing."""

    request: ResolveRequest
    pages: IndexPages
    metadata: Metadata
    dependencies: dict[NormalizedName, list[Dependency]] = field(default_factory=dict)
    """All requirements by distribution, in the order in which they are found."""
    unavailable: dict[NormalizedName, Unavailable] = field(default_factory=dict)
    _chosen: dict[NormalizedName, Version | None] = field(default_factory=dict)
    _offers: dict[NormalizedName, Sequence[Offer] | None] = field(default_factory=dict)
    _requires: dict[tuple[NormalizedName, Version], Sequence[str]] = field(default_factory=dict)

    def follow(self) -> Availability:
        """Follow all requirements, until one is certainly not available.

        Raises FetchError where an index or the metadata of a wheel cannot be read.
        """
        for _ in range(_PASSES):
            self.dependencies = self._required()
            self._read_pages()
            self.unavailable = {}
            chosen = {name: self._choose(name) for name in self.dependencies}
            if chosen == self._chosen or any(one.is_certain for one in self.unavailable.values()):
                break
            self._chosen = chosen
            self._read_metadata()
        return self

    def _required(self) -> dict[NormalizedName, list[Dependency]]:
        """All requirements of the layer, then those of the distributions chosen so far."""
        from packaging.utils import canonicalize_name

        request, left_out = self.request, self.request.left_out
        environment = request.target.markers
        own = [one for text in request.requirements if (one := active(text, (), environment))]
        requires: dict[str, Sequence[str]] = {
            name: self._requires.get((name, version), ())
            for name, version in self._chosen.items()
            if version is not None
        }
        extras = requested_extras(requires, extras_of(own), environment)
        found: dict[NormalizedName, list[Dependency]] = {}
        pending: list[tuple[NormalizedName | None, Iterable[Requirement]]] = [(None, own)]
        for parent, requirements in pending:
            for requirement in requirements:
                name = canonicalize_name(requirement.name)
                if name in left_out:
                    continue
                if name not in found:
                    texts = requires.get(name, ())
                    pending.append((name, all_active(texts, extras.get(name, ()), environment)))
                found.setdefault(name, []).append(
                    Dependency(parent=parent, requirement=requirement)
                )
        return found

    def _read_pages(self) -> None:
        new = [
            name for name in self.dependencies if name not in {*self._offers, *self.request.built}
        ]
        with ThreadPoolExecutor(_REQUESTS) as pool:
            indexes = self.request.indexes
            offers = pool.map(lambda name: self.pages.offers(name, indexes), new)
            self._offers.update(zip(new, offers, strict=True))

    def _read_metadata(self) -> None:
        request = self.request
        if request.no_deps:
            return
        known = {
            (name, item.version): item.dependencies
            for name, item in (*request.sources, *request.built.items())
        }
        chosen = {(name, version) for name, version in self._chosen.items() if version is not None}
        new: list[tuple[NormalizedName, Version]] = []
        for pair in sorted(chosen - self._requires.keys()):
            if pair[0] in request.without_dependencies:
                self._requires[pair] = ()
            elif pair in known or pair[0] in request.from_source:
                self._requires[pair] = known.get(pair, ())
            else:
                new.append(pair)
        with ThreadPoolExecutor(_REQUESTS) as pool:
            self._requires.update(zip(new, pool.map(self._requirements_of, new), strict=True))

    def _requirements_of(self, item: tuple[NormalizedName, Version]) -> Sequence[str]:
        name, version = item
        wheels = [offer for offer in self._usable(name) if offer.version == version]
        best = min(wheels, key=lambda offer: self.request.target.rank(offer.tags or ()) or 0)
        return self.metadata.of_offer(best, self.request.indexes).dependencies

    def _usable(self, name: NormalizedName) -> list[Offer]:
        """The compatible wheels, or the source distributions if it is built from source."""
        target = self.request.target
        offers = self._offers.get(name) or ()
        if name in self.request.from_source:
            return [offer for offer in offers if offer.tags is None]
        return [offer for offer in offers if offer.tags and target.rank(offer.tags) is not None]

    def specifier(
        self, name: NormalizedName, dependencies: Iterable[Dependency] | None = None
    ) -> SpecifierSet:
        """The combined specifier of `dependencies`, or of all of them, for `name`."""
        from packaging.specifiers import SpecifierSet

        if name in self.request.overrides:
            return SpecifierSet(self.request.overrides[name])
        found = SpecifierSet()
        for dependency in self.dependencies[name] if dependencies is None else dependencies:
            found &= dependency.requirement.specifier
        return found

    def _matching(
        self, offers: Iterable[Offer], specifier: SpecifierSet | None = None
    ) -> list[Version]:
        """The versions of `offers` that `specifier` allows, the newest first."""
        from packaging.specifiers import SpecifierSet

        setting = str(self.request.indexes.uv_settings.get("prerelease"))
        matching = (specifier or SpecifierSet()).filter(
            {offer.version for offer in offers},
            prereleases={"allow": True, "disallow": False}.get(setting),
        )
        return sorted(matching, reverse=True)

    def _choose(self, name: NormalizedName) -> Version | None:
        """The version to follow; None if there is none, which is noted in `unavailable`."""
        if name in self.request.built:
            return self.request.built[name].version
        offers = self._offers[name]
        specifier = self.specifier(name)
        if offers is None:
            self.unavailable[name] = _unavailable(name, "project", self.dependencies[name][0])
            return None
        asked = self._matching((one for one in offers if not one.file.yanked), specifier)
        # A yanked version is used only if it is pinned (PEP 592).
        asked = asked or self._matching(offers, specifier)
        if not asked:
            exact = [
                one for one in self.dependencies[name] if _is_exact(self.specifier(name, [one]))
            ]
            if alone := self._unmet(name, exact, offers):
                self.unavailable[name] = _unavailable(name, "version", alone[0])
            return None
        usable = self._usable(name)
        fitting = [one for one in usable if _runs_on(one, self.request.target.python)]
        if both := [version for version in asked if version in {one.version for one in fitting}]:
            preferred = self.request.preferences.get(name)
            return preferred if preferred in both else both[0]
        # If `Requires-Python` excludes all versions, uv's message is better.
        if not any(offer.version in asked for offer in usable):
            self.unavailable[name] = self._unfit(name, asked, fitting)
        return None

    def _unfit(
        self, name: NormalizedName, asked: Sequence[Version], fitting: Sequence[Offer]
    ) -> Unavailable:
        """The missing wheel, or source distribution, of the versions `asked`."""
        offers = [offer for offer in self._offers[name] or () if offer.version in asked]
        alone = self._unmet(name, self.dependencies[name], self._usable(name))
        dependency = (alone or self.dependencies[name])[0]
        return Unavailable(
            name=name,
            kind="source" if name in self.request.from_source else "wheel",
            dependency=dependency,
            is_certain=bool(alone) and dependency.parent is None,
            version=asked[0] if len(asked) == 1 else None,
            tags=_tags_of([one for one in offers if one.version == asked[0]], self.request.target),
            alternative=next(iter(self._matching(fitting)), None),
            has_source=any(offer.tags is None for offer in offers),
        )

    def needed_by(self, name: NormalizedName) -> frozenset[NormalizedName]:
        """The distributions that depend on `name`, also indirectly."""
        found: set[NormalizedName] = set()
        pending = [name]
        while pending:
            parents = {one.parent for one in self.dependencies[pending.pop()] if one.parent}
            pending += parents - found
            found |= parents
        return frozenset(found)

    def pins(self) -> dict[NormalizedName, str]:
        """The versions that requirements of the layer itself pin."""
        found = {}
        for name, dependencies in self.dependencies.items():
            for one in dependencies:
                parts = [*one.requirement.specifier] if one.parent is None else []
                if len(parts) == 1 and parts[0].operator == "==" and "*" not in parts[0].version:
                    found[name] = parts[0].version
        return found

    def unmet_dependency(self) -> Dependency | None:
        """The first requirement of the layer itself that no version of any index meets."""
        for name, dependencies in self.dependencies.items():
            offers = self._offers.get(name)
            own = [dependency for dependency in dependencies if dependency.parent is None]
            if offers is not None and (unmet := self._unmet(name, own, offers)):
                return unmet[0]
        return None

    def has_files(self, name: NormalizedName) -> bool:
        """Whether an index has a wheel or a source distribution of `name`."""
        return bool(self._offers.get(name))

    def _unmet(
        self, name: NormalizedName, dependencies: Iterable[Dependency], offers: Sequence[Offer]
    ) -> list[Dependency]:
        """The `dependencies` that none of `offers` meets."""
        return [
            one for one in dependencies if not self._matching(offers, self.specifier(name, [one]))
        ]


def _unavailable(
    name: NormalizedName, kind: Literal["project", "version"], dependency: Dependency
) -> Unavailable:
    return Unavailable(
        name=name, kind=kind, dependency=dependency, is_certain=dependency.parent is None
    )


def _is_exact(specifier: SpecifierSet) -> bool:
    """Whether it pins one version."""
    return any(one.operator in {"==", "==="} for one in specifier)


def _runs_on(offer: Offer, python: Version) -> bool:
    from packaging.specifiers import InvalidSpecifier, SpecifierSet

    try:
        specifier = SpecifierSet(offer.file.requires_python or "")
    except InvalidSpecifier:
        return True
    return specifier.contains(python, prereleases=True)


def _tags_of(offers: Iterable[Offer], target: Target) -> tuple[str, ...]:
    """Why wheels are incompatible: their platforms, else their ABI, else their Python."""
    tags: set[Tag] = {tag for offer in offers for tag in offer.tags or ()}
    known = target.tags()
    pairs = {(tag.interpreter, tag.abi) for tag in known}
    interpreters = {tag.interpreter for tag in known}
    found = {tag.platform for tag in tags if (tag.interpreter, tag.abi) in pairs}
    found = found or {tag.abi for tag in tags if tag.interpreter in interpreters}
    return tuple(sorted(found or {tag.interpreter for tag in tags}))
