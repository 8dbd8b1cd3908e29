"""Fixtures of all tests."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest
from hypothesis import settings

from stackbuild.workspace import CACHE_VARIABLE
from tests.support.containers import container_host
from tests.support.publish import made, root
from tests.support.s3 import bucket, new_place, s3_server
from tests.support.stack import moved_root, real_stack
from tests.support.toolbox import bring_tools

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = [
    "bucket",
    "container_host",
    "made",
    "moved_root",
    "new_place",
    "real_stack",
    "root",
    "s3_server",
]

# How long an example takes says nothing on a machine that does other things too.
settings.register_profile("usual", deadline=None, print_blob=True)
settings.register_profile("repeatable", settings.get_profile("usual"), derandomize=True)
settings.register_profile("mutants", settings.get_profile("repeatable"), max_examples=30)
settings.load_profile("repeatable" if os.environ.get("CI") else "usual")


@pytest.fixture(scope="session", autouse=True)
def own_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Keeps tests away from the cache of the account that runs them."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(CACHE_VARIABLE, str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.fixture(scope="session", autouse=True)
def tools_on_path(
    tmp_path_factory: pytest.TempPathFactory, pytestconfig: pytest.Config
) -> Iterator[None]:
    """Brings the programs that tests call and this machine does not have."""
    assert pytestconfig.cache is not None
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PATH", os.environ.get("PATH", os.defpath))
        bring_tools(tmp_path_factory.getbasetemp() / "tools", pytestconfig.cache.mkdir("zig"))
        yield
