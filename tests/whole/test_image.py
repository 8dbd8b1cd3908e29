"""Images of this repository's own stack, read by skopeo and run by podman and runc.

crun is not tested: it refuses machines with hybrid cgroups.
"""

from __future__ import annotations

import gzip
import io
import json
import os
import shutil
import subprocess
import tarfile
from tempfile import mkdtemp
from typing import TYPE_CHECKING, Any

import pytest

from stackbuild.platforms import host_platform
from tests.support.bases import base_of_this_machine
from tests.support.containers import container_registry
from tests.support.stack import APPLICATION

if TYPE_CHECKING:
    from pathlib import Path

    from tests.support.stack import RealStack

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(host_platform() != "linux-x64", reason="the base is for linux-x64"),
]
PROGRAM = (
    "import os, numpy, sys; "
    "print(os.getuid(), numpy.__file__, sys.prefix, os.environ['VIRTUAL_ENV'])"
)


def program(name: str, package: str) -> str:
    """The path of a program; skips the test where it is not installed."""
    found = shutil.which(name, path=f"{os.environ['PATH']}:/usr/sbin")
    if found is None:
        pytest.skip(f"{name} is not installed (Debian: the package {package})")
    return found


def output(*words: str | Path, directory: Path | None = None) -> str:
    done = subprocess.run(words, cwd=directory, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{words}: {done.stderr}"
    return done.stdout


@pytest.fixture(scope="module")
def layout(real_stack: RealStack, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An OCI layout with an image of the application, on a base of this machine's libraries."""
    directory = tmp_path_factory.mktemp("images")
    base_of_this_machine(directory / "base", real_stack.host_libraries())
    place = ["--from", str(real_stack.exports), "--base", f"oci-layout:{directory / 'base'}"]
    done = real_stack.run("image", APPLICATION, *place, "--to", f"oci-layout:{directory / 'out'}")
    assert "lacks" not in done.stderr
    file = f"docker-archive:{directory / 'image.tar'}:localhost/{APPLICATION}:1"
    real_stack.run("image", APPLICATION, *place, "--to", file)
    return directory / "out"


def check(layout: Path) -> None:
    """That the tool skopeo reads it, and sees the layers that the manifest names."""
    skopeo = program("skopeo", "skopeo")
    seen = json.loads(output(skopeo, "inspect", f"oci:{layout}:{APPLICATION}"))
    assert seen["Labels"]["org.opencontainers.image.title"] == APPLICATION
    assert len(seen["Layers"]) == 4


def test_skopeo_copies_it(layout: Path, tmp_path: Path) -> None:
    skopeo = program("skopeo", "skopeo")
    check(layout)
    source = f"oci:{layout}:{APPLICATION}"
    output(skopeo, "--insecure-policy", "copy", source, f"docker-archive:{tmp_path / 'a.tar'}")
    # The archive for docker has the same files, though skopeo does not compress them.
    ours = f"docker-archive:{layout.parent / 'image.tar'}"
    configs = [
        json.loads(output(skopeo, "inspect", "--config", place))
        for place in (source, ours, f"docker-archive:{tmp_path / 'a.tar'}")
    ]
    assert configs[0]["rootfs"] == configs[1]["rootfs"] == configs[2]["rootfs"]
    with container_registry(tmp_path) as registry:
        there = f"docker://{registry.host}/tools/{APPLICATION}:1"
        output(skopeo, "--insecure-policy", "copy", "--dest-tls-verify=false", source, there)
        back = f"oci:{tmp_path / 'back'}:{APPLICATION}"
        output(skopeo, "--insecure-policy", "copy", "--src-tls-verify=false", there, back)
        check(tmp_path / "back")


def bundle(layout: Path, directory: Path, arguments: list[str]) -> None:
    """A bundle of the OCI runtime specification, with the settings of the image."""

    def blob(digest: str) -> bytes:
        return (layout / "blobs/sha256" / digest.removeprefix("sha256:")).read_bytes()

    (entry,) = json.loads((layout / "index.json").read_bytes())["manifests"]
    manifest = json.loads(blob(entry["digest"]))
    settings = json.loads(blob(manifest["config"]["digest"]))["config"]
    for layer in manifest["layers"]:
        data = blob(layer["digest"])
        content = gzip.decompress(data) if data[:2] == b"\x1f\x8b" else data
        with tarfile.open(fileobj=io.BytesIO(content)) as tar:
            tar.extractall(directory / "rootfs")
    (directory / "rootfs" / "proc").mkdir()
    user, group = map(int, settings["User"].split(":"))
    about: dict[str, Any] = {
        "ociVersion": "1.0.2",
        "process": {
            "user": {"uid": user, "gid": group},
            "args": arguments or settings["Entrypoint"],
            "env": settings["Env"],
            "cwd": settings["WorkingDir"],
            "noNewPrivileges": True,
        },
        "root": {"path": "rootfs", "readonly": True},
        "mounts": [{"destination": "/proc", "type": "proc", "source": "proc"}],
        "linux": {"namespaces": [{"type": kind} for kind in ("pid", "mount", "ipc", "uts")]},
    }
    (directory / "config.json").write_text(json.dumps(about))


@pytest.mark.skipif(os.geteuid() != 0, reason="containers are started as root here")
def test_runc_runs_it_as_a_bundle(layout: Path, tmp_path: Path) -> None:
    runc = program("runc", "runc")
    for number, arguments in enumerate(([], ["python", "-c", PROGRAM])):
        directory = tmp_path / str(number)
        bundle(layout, directory, arguments)
        state, name = tmp_path / "state", f"stackbuild-{os.getpid()}"
        printed = output(runc, "--root", state, "run", "--bundle", directory, name)
        if arguments:
            home = "/opt/stackbuild"
            site = f"{home}/framework/lib/"
            assert printed.startswith(f"65532 {site}")
            assert printed.split()[2:] == [f"{home}/{APPLICATION}"] * 2
        else:
            assert "trastuzumab_VH" in printed


@pytest.mark.skipif(os.geteuid() != 0, reason="containers are started as root here")
def test_podman_loads_and_runs_it(layout: Path, tmp_path: Path) -> None:
    podman = [program("podman", "podman"), "--storage-driver", "vfs"]
    podman += ["--runtime", program("runc", "runc")]  # crun refuses hosts with hybrid cgroups
    # podman refuses a longer path than 50 characters there.
    podman += ["--root", str(tmp_path / "storage"), "--runroot", (state := mkdtemp(prefix="sb-"))]
    try:
        output(*podman, "load", "-i", layout.parent / "image.tar")
        # The defaults may be more than this process may grant.
        limits = ["--ulimit", "nofile=1000:1000", "--ulimit", "nproc=1000:1000"]
        start = [*podman, "run", "--rm", "--network", "none", *limits]
        assert "trastuzumab_VH" in output(*start, f"localhost/{APPLICATION}:1")
        script = [*start, "--entrypoint", "f2py", f"localhost/{APPLICATION}:1", "-v"]
        assert output(*script).startswith("2.")  # the version of numpy
    finally:
        subprocess.run([*podman, "system", "reset", "--force"], capture_output=True, check=False)
        shutil.rmtree(state, ignore_errors=True)
