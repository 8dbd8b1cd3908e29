"""Filling the wheelhouse with the files that locks name, by sha256 from any index."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import TYPE_CHECKING

from stackbuild.errors import FetchError, IntegrityError, LockError, StackbuildError
from stackbuild.lock.errors import raise_all
from stackbuild.lock.indexes import index_settings
from stackbuild.lock.url_cache import Address, Addresses
from stackbuild.transport.retries import NotFoundError
from stackbuild.transport.urls import without_credentials

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from pathlib import Path

    from stackbuild.lock.indexes import IndexSettings
    from stackbuild.lock.model import LayerLock, LockedDistribution, LockedFile
    from stackbuild.messages import Messages
    from stackbuild.resolve.build_orders import Builder
    from stackbuild.resolve.uv import Uv
    from stackbuild.spec.model import Stack
    from stackbuild.workspace import Workspace

_DOWNLOADS = 8
"""At a time; one connection rarely fills a line."""


def fetch(
    stack: Stack,
    workspace: Workspace,
    locks: Iterable[LayerLock],
    messages: Messages,
    *,
    index: str | None = None,
    builder: Builder | None = None,
) -> dict[str, Path]:
    """The wheel of each file in `locks`, by sha256, downloaded where it is missing.

    A file of the right name and size counts as there. Others are looked up
    where they were found last, then in the indexes of the spec; with `index`
    only there, in place of the default index. Raises FetchError and
    IntegrityError.

    A wheel that was built from source is in no index. `builder` builds it
    again; what comes out must be the same.
    """
    wanted = _wanted(locks)
    paths = {sha256: workspace.wheelhouse / item.wheel.name for sha256, (item, _) in wanted.items()}
    missing = {
        sha256: pair
        for sha256, pair in wanted.items()
        if not is_in_wheelhouse(workspace, pair[0].wheel)
    }
    files = {key: (item.wheel, lock) for key, (item, lock) in missing.items() if not item.source}
    if files:
        _Fetching(stack, workspace, messages, index).run(files)
    built = [pair for pair in missing.values() if pair[0].source]
    if built:
        from stackbuild.resolve.source_wheels import rebuild

        rebuild(stack, workspace, builder, built, index=index)
    return paths


def _wanted(locks: Iterable[LayerLock]) -> dict[str, tuple[LockedDistribution, LayerLock]]:
    """The distribution of each file once, with one of the locks that name it."""
    wanted: dict[str, tuple[LockedDistribution, LayerLock]] = {}
    names: dict[str, tuple[LockedFile, LayerLock]] = {}
    for lock in locks:
        for item in lock.distributions:
            other, other_lock = names.setdefault(item.wheel.name, (item.wheel, lock))
            if other.sha256 != item.wheel.sha256:
                raise LockError(
                    "two locks name different files of one name",
                    layer=f"{other_lock.layer}, {lock.layer}",
                    platform=f"{other_lock.platform}, {lock.platform}",
                    file=other.name,
                    remedy="lock both layers with the same package indexes, with --upgrade",
                )
            wanted.setdefault(item.wheel.sha256, (item, lock))
    return wanted


def is_in_wheelhouse(workspace: Workspace, file: LockedFile) -> bool:
    """Whether a file of the name and size of `file` is there."""
    try:
        return (workspace.wheelhouse / file.name).stat().st_size == file.size
    except FileNotFoundError:
        return False


class _Fetching:
    """One filling of the wheelhouse."""

    def __init__(
        self, stack: Stack, workspace: Workspace, messages: Messages, index: str | None
    ) -> None:
        self._stack = stack
        self._workspace = workspace
        self._messages = messages
        self._index = index
        self._addresses = Addresses(workspace.addresses)

    def run(self, missing: Mapping[str, tuple[LockedFile, LayerLock]]) -> None:
        """Download all of `missing`; what fails is told together."""
        from stackbuild.files import locked

        with locked(self._workspace.wheelhouse / ".lock", self._messages):
            unknown = self._download_remembered(missing)
            if unknown:
                self._download_found({sha256: missing[sha256] for sha256 in unknown})

    def _download_remembered(
        self, missing: Mapping[str, tuple[LockedFile, LayerLock]]
    ) -> list[str]:
        """Download what was found before; returns the sha256 of what could not be had so."""
        if self._index is not None:
            return list(missing)
        known = {
            sha256: address.url
            for sha256 in missing
            if (address := self._addresses.get(sha256)) is not None
        }
        failed = self._download_all(known, missing)
        return [sha256 for sha256 in missing if sha256 not in known or sha256 in failed]

    def _download_found(self, missing: Mapping[str, tuple[LockedFile, LayerLock]]) -> None:
        """Ask the indexes where the files are, then download them."""
        failed = self._download_located(missing, refresh=False)
        # The pages that uv remembers may name files that have moved or left the index.
        gone = {key: missing[key] for key in failed if isinstance(failed[key], NotFoundError)}
        if gone:
            again = self._download_located(gone, refresh=True)
            failed = {key: error for key, error in failed.items() if key not in gone} | again
        raise_all(list(failed.values()))

    def _download_located(
        self, missing: Mapping[str, tuple[LockedFile, LayerLock]], *, refresh: bool
    ) -> dict[str, StackbuildError]:
        """Download what the indexes have of `missing`; returns what failed, by sha256."""
        from stackbuild.resolve.uv import Uv

        uv = Uv(self._workspace)
        by_lock: dict[tuple[str, str], list[str]] = {}
        for sha256, (_, lock) in missing.items():
            by_lock.setdefault((lock.layer, lock.platform), []).append(sha256)

        def look_up(group: Sequence[str]) -> dict[str, str]:
            return self._look_up(uv, missing[group[0]][1], group, refresh=refresh)

        with ThreadPoolExecutor(len(by_lock)) as pool:
            answers = pool.map(look_up, by_lock.values())
            urls = {sha256: url for answer in answers for sha256, url in answer.items()}
        failed = self._download_all(urls, missing)
        gone = [key for key in missing if key not in urls]
        gone += [key for key, error in failed.items() if isinstance(error, NotFoundError)]
        return failed | {key: self._not_found(*missing[key]) for key in gone}

    def _look_up(
        self, uv: Uv, lock: LayerLock, files: Sequence[str], *, refresh: bool
    ) -> dict[str, str]:
        """Where the indexes of the lock's layer have `files`, as far as they have them."""
        from stackbuild.lock.targets import target_of
        from stackbuild.resolve.request import ResolveRequest
        from stackbuild.resolve.uv import UnresolvableError

        layer = self._stack.layers[lock.layer]
        chosen = [item for item in lock.distributions if item.wheel.sha256 in files]
        request = ResolveRequest(
            layer=lock.layer,
            requirements=(),
            target=target_of(layer, lock.platform, lock.python_version),
            indexes=index_settings(self._stack, layer, default=self._index),
            no_deps=True,
            # The index may have gained a wheel that suits the target better than the locked one.
            every_file=True,
            refresh=refresh,
        )
        pins = [f"{item.name}=={item.version}" for item in chosen]
        try:
            found = list(uv.ask(replace(request, requirements=tuple(pins))).found)
        except UnresolvableError:
            # One that is missing must not keep the others from being found.
            found = []
            for pin in pins:
                try:
                    found += uv.ask(replace(request, requirements=(pin,))).found
                except UnresolvableError as error:
                    self._messages.warn(f"{pin}: {error.flat}")
        by_name = {item.wheel.name: item.wheel.sha256 for item in chosen}
        # An index that tells no sha256 is believed the name; the download is verified anyway.
        located = {item.sha256 or by_name.get(item.file): item.url for item in found}
        return {sha256: located[sha256] for sha256 in files if sha256 in located}

    def _download_all(
        self, urls: Mapping[str, str], missing: Mapping[str, tuple[LockedFile, LayerLock]]
    ) -> dict[str, StackbuildError]:
        """Download the files at `urls`; returns what failed, by sha256."""
        from stackbuild.transport.transfer import download

        def run(sha256: str) -> StackbuildError | None:
            item, lock = missing[sha256]
            settings = self._settings(lock)
            path = self._workspace.wheelhouse / item.name
            url = settings.with_credentials(urls[sha256])
            try:
                download(url, path, sha256=sha256, messages=self._messages, size=item.size)
            except (FetchError, IntegrityError) as error:
                return error
            address = Address(url=without_credentials(urls[sha256]), size=item.size)
            self._addresses.remember(sha256, address)
            return None

        with ThreadPoolExecutor(self._downloads(missing)) as pool:
            results = dict(zip(urls, pool.map(run, urls), strict=True))
        return {sha256: error for sha256, error in results.items() if error is not None}

    def _downloads(self, missing: Mapping[str, tuple[LockedFile, LayerLock]]) -> int:
        """How many downloads may run at a time: one where a layer says so."""
        policies = (
            self._stack.layers[lock.layer].policy(lock.platform) for _, lock in missing.values()
        )
        return _DOWNLOADS if all(policy.build.parallel_downloads for policy in policies) else 1

    def _settings(self, lock: LayerLock) -> IndexSettings:
        layer = self._stack.layers[lock.layer]
        return index_settings(self._stack, layer, default=self._index)

    def _not_found(self, item: LockedFile, lock: LayerLock) -> NotFoundError:
        return NotFoundError(
            "no package index has the file that the lock names",
            layer=lock.layer,
            platform=lock.platform,
            file=item.name,
            expected=f"sha256 {item.sha256}",
            remedy=f"copy it to {self._workspace.wheelhouse}, name an index that has it with"
            " `stackbuild fetch --index URL`, or lock again with --upgrade",
        )
