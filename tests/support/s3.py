"""An S3 server on loopback, moto's, and places to publish to."""

from __future__ import annotations

import itertools
import logging
from typing import TYPE_CHECKING
from uuid import uuid4

import pytest
import urllib3

from stackbuild.registry.find import open_place
from tests.support.containers import PROGRAM

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from stackbuild.registry.places import Place

    MakePlace = Callable[[], Place]

_NUMBERS = itertools.count()


@pytest.fixture(scope="session")
def s3_server() -> Iterator[str]:
    """The address of a server."""
    from moto.server import ThreadedMotoServer

    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    server = ThreadedMotoServer("127.0.0.1", 0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    yield f"http://{host}:{port}"
    server.stop()


@pytest.fixture
def bucket(
    s3_server: str, monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory
) -> str:
    """The name of an empty bucket; the environment has what is needed to reach it."""
    name = f"bucket-{next(_NUMBERS)}"
    assert urllib3.request("PUT", f"{s3_server}/{name}").status == 200
    nowhere = str(tmp_path_factory.getbasetemp() / "no-aws-settings")
    for variable, value in {
        "AWS_ENDPOINT_URL": s3_server,
        "AWS_ACCESS_KEY_ID": "testing",
        "AWS_SECRET_ACCESS_KEY": "very-secret",
        "AWS_REGION": "us-east-1",
        "AWS_CONFIG_FILE": nowhere,
        "AWS_SHARED_CREDENTIALS_FILE": nowhere,
    }.items():
        monkeypatch.setenv(variable, value)
    for variable in ("AWS_PROFILE", "AWS_SESSION_TOKEN", "AWS_ENDPOINT_URL_S3"):
        monkeypatch.delenv(variable, raising=False)
    return name


# A place whose server is not installed is left out; tests/unit/test_registry_oci.py names it.
@pytest.fixture(params=["directory", "s3", *(["oci"] if PROGRAM else [])])
def new_place(
    request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> MakePlace:
    """Makes another object for the same place."""
    if request.param == "directory":
        return lambda: open_place(str(tmp_path / "place"))
    if request.param == "oci":
        monkeypatch.setattr("stackbuild.registry.oci_place._SETTLED", 0.05)
        registry = request.getfixturevalue("container_host")
        location = f"oci://{registry.host}/team/{uuid4().hex}"
        return lambda: open_place(location)
    address = f"s3://{request.getfixturevalue('bucket')}/a/prefix"
    return lambda: open_place(address)
