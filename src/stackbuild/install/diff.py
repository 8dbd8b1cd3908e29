"""Compare layers that are published, installed or locked, whatever a word stands for."""

from __future__ import annotations

import re
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

from stackbuild.errors import UsageError
from stackbuild.install.compare import compare, installed, locked_layer, published_layer
from stackbuild.install.plan import plan_install, remembered_place
from stackbuild.install.root import Root
from stackbuild.install.state import STATE_DIRECTORY, State, read_state
from stackbuild.mark import is_root
from stackbuild.platforms import host_platform
from stackbuild.registry.base import INDEX_NAME
from stackbuild.registry.find import DIGEST, Published, open_registry

if TYPE_CHECKING:
    from stackbuild.install.compare import Layer
    from stackbuild.install.report import Upgrade
    from stackbuild.messages import Messages
    from stackbuild.platforms import Platform

_LOCK = re.compile(r"[^/]+/pylock\.[^/]+\.toml")


def diff(
    before: str, after: str, place: str | None, platform: Platform | None, messages: Messages
) -> Upgrade:
    """What changes from `before` to `after`; see `api.diff`."""
    words = (before, after)
    locks = [_locks(word, platform) for word in words]
    if locks[0] is not None and locks[1] is not None:
        return compare(locks[0], locks[1])
    if locks != [None, None]:
        raise UsageError(
            "locks can be compared only with locks",
            found=f"{before} and {after}",
            remedy="publish the locks, and compare with the place that they are published to",
        )
    states = [_state(word) for word in words]
    known = states[0] or states[1]
    target = platform or (known.platform if known else host_platform())
    published = {
        word: _published(word, place, known, target, messages)
        for word, state in zip(words, states, strict=True)
        if state is None
    }
    names = {one.name for layers in published.values() for one in layers}
    sides = [
        published[word] if state is None else _related(state, names)
        for word, state in zip(words, states, strict=True)
    ]
    return compare(sides[0], sides[1])


def _locks(word: str, platform: Platform | None) -> list[Layer] | None:
    """The locks that `word` stands for; None if it is another kind of word."""
    path = Path(word)
    if path.suffix == ".toml" and path.is_file():
        files = [path]
    elif path.is_dir() and not _is_place(word) and _state(word) is None:
        files = sorted(path.glob("*/pylock.*.toml"))
    elif _is_revision(word):
        return _locks_of_revision(word, platform)
    else:
        files = []
    if not files:
        return None
    from stackbuild.lock.files import read_lock

    found = [locked_layer(read_lock(file)) for file in files]
    return [one for one in found if platform in {None, one.platform}]


def _locks_of_revision(word: str, platform: Platform | None) -> list[Layer] | None:
    from stackbuild.project.git import read_tree

    files = {name: data for name, data in read_tree(Path(), word).items() if _LOCK.fullmatch(name)}
    if not files:
        raise UsageError(
            f"{word} has no locks", expected="files such as atls/pylock.linux-x64.toml"
        )
    with TemporaryDirectory(prefix="stackbuild-diff-") as directory:
        for name, data in files.items():
            path = Path(directory, name)
            path.parent.mkdir(exist_ok=True)
            path.write_bytes(data)
        return _locks(directory, platform)


def _is_revision(word: str) -> bool:
    revision, colon, path = word.partition(":")
    return bool(revision and colon and path) and not (_is_place(word) or f"@{DIGEST}" in word)


def _is_place(word: str) -> bool:
    return "://" in word or (Path(word) / INDEX_NAME).is_file()


def _state(word: str) -> State | None:
    """The state of the root, or of the generation of a root, at the path `word`."""
    path = Path(word)
    if is_root(path):
        return Root(path).installed_state()
    return (
        read_state(path.absolute()) if (path / STATE_DIRECTORY / "state.json").is_file() else None
    )


def _published(
    word: str, place: str | None, known: State | None, platform: Platform, messages: Messages
) -> list[Layer]:
    """The layers of the place `word`, or the version of a layer that `word` names, with its chain.

    Of a place that is compared with a root, the layers that were asked for there.
    """
    if _is_place(word):
        published = Published(open_registry(word, messages), platform)
        asked = [known.layers[directory].layer for directory in known.asked] if known else ["*"]
        found = published.find([name for name in asked if published.find_current(name)] or asked)
    else:
        if place is None and known is None:
            raise UsageError(
                f"{word!r} is not a root, a place or a directory of locks",
                remedy="to compare published versions of a layer, name the place with --from PLACE",
            )
        place = place or remembered_place([word], known, Path(word))
        published = Published(open_registry(place, messages), platform)
        found = published.find([word])
    if known is not None or not _is_place(word):
        empty = State(platform=platform, asked=())
        return installed(plan_install(found, empty, published, Path(word)).state)
    return [published_layer(one, published.entry(one).version) for one in found]


def _related(state: State, names: set[str]) -> list[Layer]:
    """The layers of a root that are in `names`, and those below them; all without names."""
    wanted = {
        directory
        for name, manifest in state.layers.items()
        if not names or manifest.layer in names
        for directory in (name, *(link.directory for link in manifest.chain))
    }
    return [one for one in installed(state) if one.directory in wanted]
