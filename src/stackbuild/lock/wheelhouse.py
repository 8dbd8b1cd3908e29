"""The wheelhouse: files that locks name, downloaded by sha256."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, TypeAlias

from stackbuild.errors import FetchError, IntegrityError, LockError, StackbuildError, raise_all
from stackbuild.lock.index_pages import INDEX_FAILURE, Address, Addresses, IndexPages, index_failure
from stackbuild.lock.indexes import default_index, index_settings
from stackbuild.platforms import host_platform
from stackbuild.transport.retries import NotFoundError
from stackbuild.transport.urls import without_credentials

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence
    from pathlib import Path

    from stackbuild.lock.indexes import IndexSettings
    from stackbuild.lock.model import LayerLock, LockedDistribution, LockedFile
    from stackbuild.messages import Messages
    from stackbuild.spec.model import Stack
    from stackbuild.workspace import Workspace

    _Wanted: TypeAlias = tuple[LockedDistribution, LayerLock]


_DOWNLOADS = 8
"""Concurrent downloads."""


def fetch(
    stack: Stack,
    workspace: Workspace,
    locks: Iterable[LayerLock],
    messages: Messages,
    *,
    index: str | None = None,
    rebuild: Callable[[Sequence[_Wanted]], None] | None = None,
) -> dict[str, Path]:
    """The wheel of each file in `locks`, by sha256, downloaded where it is missing.

    A file of the right name and size is not downloaded again. Others are looked
    up at their last known address, then in the indexes of the spec. `index`
    replaces the default index. Raises FetchError and IntegrityError.

    A wheel that was built from source is in no index. `rebuild` puts those that
    are missing into the wheelhouse, each with the lock that names it. All available wheels are
    there also if an error is raised.
    """
    wanted = _wanted(locks)
    paths = {sha256: wheel_path(workspace, item.wheel) for sha256, (item, _) in wanted.items()}
    missing = {
        sha256: pair
        for sha256, pair in wanted.items()
        if not is_in_wheelhouse(workspace, pair[0].wheel)
    }
    files = {key: pair for key, pair in missing.items() if not pair[0].source}
    built = [pair for pair in missing.values() if pair[0].source]
    errors: list[StackbuildError] = []
    if files:
        addresses = Addresses(workspace.addresses)
        try:
            _Fetching(stack, workspace, messages, index, addresses).run(files)
        except StackbuildError as error:
            errors += getattr(error, "errors", [error])
    if built and rebuild:
        try:
            rebuild(built)
        except StackbuildError as error:
            errors += getattr(error, "errors", [error])
    elif built:
        here = f"this machine is {host_platform()}"
        errors += [built_elsewhere(*pair, here) for pair in built]
    raise_all(errors)
    return paths


def not_built_yet(missing: Sequence[_Wanted]) -> None:
    """The function `rebuild` of a dry run. Raises FetchError."""
    found = "a dry run builds nothing"
    remedy = "build it: stackbuild fetch --layer {} --platform {}"
    raise_all(
        [
            built_elsewhere(item, lock, found, remedy.format(lock.layer, lock.platform))
            for item, lock in missing
        ]
    )


def built_elsewhere(
    item: LockedDistribution, lock: LayerLock, found: str, remedy: str | None = None
) -> FetchError:
    """The error for a wheel that was built from source, and cannot be built here."""
    return FetchError(
        "a locked wheel that was built from source is missing",
        layer=lock.layer,
        platform=lock.platform,
        distribution=f"{item.name} {item.version}",
        file=item.wheel.name,
        expected=f"sha256 {item.wheel.sha256}",
        found=found,
        remedy=remedy
        or f"copy it from the wheelhouse of a {lock.platform} machine, and add it with"
        " `stackbuild wheel add FILE`",
    )


def _wanted(locks: Iterable[LayerLock]) -> dict[str, _Wanted]:
    """The distribution of each file once, with one of the locks that name it."""
    wanted: dict[str, _Wanted] = {}
    names: dict[str, tuple[LockedFile, LayerLock]] = {}
    for lock in locks:
        for item in lock.distributions:
            other, other_lock = names.setdefault(item.wheel.name, (item.wheel, lock))
            if other.sha256 != item.wheel.sha256:
                raise LockError(
                    "two locks name different files with the same name",
                    layer=f"{other_lock.layer}, {lock.layer}",
                    platform=f"{other_lock.platform}, {lock.platform}",
                    file=other.name,
                    remedy="lock both layers with the same package indexes, with --upgrade",
                )
            wanted.setdefault(item.wheel.sha256, (item, lock))
    return wanted


def is_in_wheelhouse(workspace: Workspace, file: LockedFile) -> bool:
    """Whether the wheelhouse has a file with the name and size of `file`."""
    try:
        return wheel_path(workspace, file).stat().st_size == file.size
    except FileNotFoundError:
        return False


def wheel_path(workspace: Workspace, file: LockedFile) -> Path:
    """Where `file` is, or is downloaded to; a temporary workspace uses the original's files."""
    if workspace.original and is_in_wheelhouse(workspace.original, file):
        return wheel_path(workspace.original, file)
    return workspace.wheelhouse / file.name


@dataclass(frozen=True, slots=True)
class _Fetching:
    """One call of `fetch`."""

    stack: Stack
    workspace: Workspace
    messages: Messages
    index: str | None
    addresses: Addresses

    def run(self, missing: Mapping[str, _Wanted]) -> None:
        """Download all of `missing`; raises one error for all failures.

        The cached addresses come first, then the indexes.
        """
        from stackbuild.files import locked

        with locked(self.workspace.wheelhouse / ".lock", self.messages):
            known = {} if self.index is not None else self._remembered(missing)
            failed = self._download_all(known, missing)
            rest = {key: it for key, it in missing.items() if key not in known or key in failed}
            if rest:
                self._download_found(rest)

    def _remembered(self, missing: Mapping[str, _Wanted]) -> dict[str, str]:
        found = {sha256: self.addresses.get(sha256) for sha256 in missing}
        return {sha256: address.url for sha256, address in found.items() if address}

    def _download_found(self, missing: Mapping[str, _Wanted]) -> None:
        """Look up `missing` in the indexes, then download it."""
        default = partial(default_index, self.workspace.uv)
        pages = IndexPages(default=default, messages=self.messages)

        def look_up(sha256: str) -> str | StackbuildError:
            try:
                return self._look_up(pages, *missing[sha256])
            except (FetchError, LockError) as error:
                return error

        with ThreadPoolExecutor(_DOWNLOADS) as pool:
            found = dict(zip(missing, pool.map(look_up, missing), strict=True))
        urls = {sha256: url for sha256, url in found.items() if isinstance(url, str)}
        failed = {key: error for key, error in found.items() if isinstance(error, StackbuildError)}
        for sha256, error in self._download_all(urls, missing).items():
            gone = isinstance(error, NotFoundError)
            failed[sha256] = self._not_found(*missing[sha256]) if gone else error
        raise_all([failed[sha256] for sha256 in missing if sha256 in failed])

    def _look_up(self, pages: IndexPages, item: LockedDistribution, lock: LayerLock) -> str:
        """The address of the wheel of `item` in the indexes of its layer. Raises FetchError."""
        if given := self._settings(lock).files.get(item.wheel.name):
            return given
        try:
            offers = pages.offers(item.name, self._settings(lock))
        except FetchError as error:
            found, remedy = index_failure(error)
            raise FetchError(
                INDEX_FAILURE,
                layer=lock.layer,
                platform=lock.platform,
                distribution=f"{item.name} {item.version}",
                found=found,
                remedy=remedy,
            ) from error
        files = [offer.file for offer in offers or ()]
        same = [file for file in files if file.sha256 == item.wheel.sha256]
        # Without a sha256 in the index the name is enough; the download is verified anyway.
        same += [file for file in files if not file.sha256 and file.name == item.wheel.name]
        if not same:
            raise self._not_found(item, lock, is_added=offers is None)
        return same[0].url

    def _download_all(
        self, urls: Mapping[str, str], missing: Mapping[str, _Wanted]
    ) -> dict[str, StackbuildError]:
        """Download the files at `urls`; returns the errors by sha256."""
        from stackbuild.transport.transfer import download

        def run(sha256: str) -> StackbuildError | None:
            item, lock = missing[sha256]
            path = self.workspace.wheelhouse / item.wheel.name
            size = item.wheel.size
            url = self._settings(lock).with_credentials(urls[sha256])
            try:
                download(url, path, sha256=sha256, messages=self.messages, size=size)
            except IntegrityError as error:
                is_given = item.wheel.name in self._settings(lock).files
                return _replaced(item, lock, error) if is_given else error
            except FetchError as error:
                return error
            address = Address(url=without_credentials(urls[sha256]), size=size)
            self.addresses.remember(sha256, address)
            return None

        # One at a time if a layer's `parallel-downloads` is false.
        parallel = all(
            self.stack.layers[lock.layer].policy(lock.platform).build.parallel_downloads
            for _, lock in missing.values()
        )
        with ThreadPoolExecutor(_DOWNLOADS if parallel else 1) as pool:
            results = zip(urls, pool.map(run, urls), strict=True)
            return {sha256: error for sha256, error in results if error is not None}

    def _settings(self, lock: LayerLock) -> IndexSettings:
        layer = self.stack.layers[lock.layer]
        return index_settings(self.stack, layer, lock.platform, default=self.index)

    def _not_found(
        self, item: LockedDistribution, lock: LayerLock, *, is_added: bool = False
    ) -> NotFoundError:
        """`is_added`: no index has the distribution, so its wheel was added or is a local one."""
        lasting = self.workspace.original or self.workspace
        remedy = f"copy it to {lasting.wheelhouse}"
        if is_added:
            remedy = (
                "get this file from where it was locked, and add it with `stackbuild wheel add"
                " FILE` or put it into a directory of `local-wheels`"
            )
        return NotFoundError(
            "no package index has the file that the lock names",
            layer=lock.layer,
            platform=lock.platform,
            file=item.wheel.name,
            expected=f"sha256 {item.wheel.sha256}",
            remedy=f"{remedy}; or name an index that has it with `stackbuild fetch --index URL`"
            + ("" if is_added else "; or lock again with --upgrade"),
        )


def _replaced(item: LockedDistribution, lock: LayerLock, error: IntegrityError) -> IntegrityError:
    """The error for another file at the address of a requirement than at the time of locking."""
    return IntegrityError(
        "the address of a requirement has another file than the lock names",
        layer=lock.layer,
        platform=lock.platform,
        distribution=f"{item.name} {item.version}",
        file=item.wheel.name,
        expected=f"sha256 {item.wheel.sha256}",
        found=error.without_remedy(),
        remedy="restore the file at the address; or, if the other one is wanted, correct #sha256="
        " in the requirement if it has one, and run `stackbuild lock --upgrade-package"
        f" {item.name}`",
    )
