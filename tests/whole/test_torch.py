"""torch on a framework with its CUDA libraries: 3 GB from the package index."""

from __future__ import annotations

import json
import os
import shutil
import sys
from typing import TYPE_CHECKING

import pytest

from stackbuild.workspace import CACHE_VARIABLE
from tests.support.handmade import execute
from tests.support.interpreters import packable
from tests.support.roots import succeed

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

CUDA = (
    *("cublas-cu12==12.6.4.1", "cuda-cupti-cu12==12.6.80", "cuda-nvrtc-cu12==12.6.77"),
    *("cuda-runtime-cu12==12.6.77", "cudnn-cu12==9.5.1.17", "cufft-cu12==11.3.0.4"),
    *("cufile-cu12==1.11.1.6", "curand-cu12==10.3.7.77", "cusolver-cu12==11.7.1.2"),
    *("cusparse-cu12==12.5.4.2", "cusparselt-cu12==0.6.3", "nccl-cu12==2.26.2"),
    *("nvjitlink-cu12==12.6.85", "nvtx-cu12==12.6.77"),
)
"""The requirements of torch 2.7.1 on Linux."""

SPEC = """\
[[runtimes]]
name = "cpython"
python_implementation = "cpython@{python}"
requirements = []

[[frameworks]]
name = "cuda"
runtime = "cpython"
requirements = {cuda}

[[frameworks]]
name = "torch"
frameworks = ["cuda"]
requirements = ["torch==2.7.1"]

[[applications]]
name = "vision"
frameworks = ["torch"]
requirements = ["torchvision==0.22.1"]

[tool.stackbuild]
platforms = ["linux-x64"]
frames = {{ level = 1, bytecode = false }}

[tool.stackbuild.layers.cpython]
sources = ["local"]
"""

PROGRAM = """\
import os, torch, torchvision
boxes = torch.tensor([[0., 0., 1., 1.], [0., 0., 1., 1.]])
kept = torchvision.ops.nms(boxes, torch.tensor([.9, .8]), .5).tolist()
mapped = {os.path.realpath(line.split()[-1]) for line in open("/proc/self/maps") if ".so" in line}
print((torch.eye(3) @ torch.eye(3)).sum().item(), kept)
print(*sorted(os.path.basename(path) for path in mapped if "/cuda/lib/" in path))
"""


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A directory with a cache of its own, removed afterwards: pytest would keep the 12 GB."""
    monkeypatch.setenv(CACHE_VARIABLE, str(tmp_path / "cache"))
    yield tmp_path
    shutil.rmtree(tmp_path, ignore_errors=True)


@pytest.mark.slow
@pytest.mark.skipif(
    sys.platform != "linux" or os.uname().machine != "x86_64", reason="for Linux on x86-64"
)
def test_torch_finds_cuda_in_a_lower_layer(project: Path) -> None:
    python = packable("3.12").version
    spec = project / "venvstacks.toml"
    cuda = json.dumps([f"nvidia-{one}" for one in CUDA])
    spec.write_text(SPEC.format(python=python, cuda=cuda))
    succeed("lock", "--spec", spec)
    succeed("publish", "--spec", spec)
    words = ("--from", project / "exports", "--root", project / "root", "--no-sync")
    succeed("install", "vision", *words)
    manifests = {
        manifest["layer"]: manifest
        for path in (project / "exports" / "linux-x64").glob("*.json")
        if (manifest := json.loads(path.read_bytes()))
    }
    edited = {name: list(one["provenance"].get("edited", {})) for name, one in manifests.items()}
    assert {name: len(paths) for name, paths in edited.items() if paths} == {"vision": 2}
    lines = execute(project / "root" / "vision" / "bin" / "python", "-c", PROGRAM).splitlines()
    assert lines[0] == "3.0 [0]"
    assert {"libcublas.so.12", "libcudnn.so.9", "libnccl.so.2"} <= set(lines[1].split())
