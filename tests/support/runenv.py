"""Repositories of the kind of runenv-python-3, and the package indexes they need, on loopback."""

from __future__ import annotations

import json
import random
import subprocess
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from stackbuild.platforms import DEFAULT_PLATFORMS
from tests.support.index import IndexServer, _Handler
from tests.support.wheels import make_wheel

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

ALL = tuple(str(platform) for platform in DEFAULT_PLATFORMS)
TAGS = {
    "linux-x64": "py3-none-manylinux_2_17_x86_64.manylinux2014_x86_64",
    "linux-aarch64": "py3-none-manylinux_2_17_aarch64.manylinux2014_aarch64",
    "macosx-x64": "py3-none-macosx_10_9_x86_64",
    "macosx-aarch64": "py3-none-macosx_11_0_arm64",
    "windows-x64": "py3-none-win_amd64",
}
BUILT = {"reason": "No wheel there", "buildRequires": ["setuptools", "wheel"]}


class PrefixedIndex(IndexServer):
    """An index below a path of its own, by which it is known."""

    def __init__(self, directory: Path, prefix: str) -> None:
        super().__init__(directory)
        self.prefix = prefix

        class Handler(_Handler):
            index = self

            def _answer(self, *, body: bool) -> None:
                self.path = self.path.removeprefix(prefix)
                super()._answer(body=body)

        self._server.RequestHandlerClass = Handler

    @property
    def url(self) -> str:
        return super().url.replace("/simple/", f"{self.prefix}/simple/").rstrip("/")


@dataclass
class Indexes:
    """The default index, and one as there is for torch and for CUDA."""

    default: IndexServer
    torch: PrefixedIndex
    nvidia: PrefixedIndex


@contextmanager
def open_indexes(directory: Path) -> Iterator[Indexes]:
    """The indexes, full of small wheels."""
    places = [directory / name for name in ("default", "torch", "nvidia")]
    _fill(*places)
    with (
        IndexServer(places[0]) as default,
        PrefixedIndex(places[1], "/pytorch/whl/cpu") as torch,
        PrefixedIndex(places[2], "/nvidia") as nvidia,
    ):
        yield Indexes(default, torch, nvidia)


def wheel(
    directory: Path,
    name: str,
    version: str,
    size: int,
    *platforms: str,
    requires: tuple[str, ...] = (),
) -> None:
    """Wheels of about `size` bytes: pure, or for each of `platforms`."""
    for platform in platforms or ("any",):
        data = random.Random(f"{name} {version} {platform}").randbytes(size)
        files = {f"{name.replace('-', '_')}/data.bin": data}
        tag = TAGS.get(platform, "py3-none-any")
        make_wheel(directory, name, version, files, requires=requires, tag=tag)


def _fill(default: Path, torch: Path, nvidia: Path) -> None:
    for version in ("2.2.6", "2.0.2"):
        wheel(default, "numpy", version, 20_000, *ALL)
    data = ("numpy>=1.26", "python-dateutil", "pytz")
    wheel(default, "pandas", "2.2.3", 12_000, *ALL, requires=data)
    wheel(default, "python-dateutil", "2.9.0", 2_000, requires=("six>=1.5",))
    wheel(default, "six", "1.17.0", 1_000)
    wheel(default, "pytz", "2025.1", 5_000)
    wheel(default, "scipy", "1.15.3", 35_000, *ALL, requires=("numpy<2.5",))
    learn = ("numpy", "scipy", "joblib")
    wheel(default, "scikit-learn", "1.6.1", 10_000, *ALL, requires=learn)
    wheel(default, "joblib", "1.5.0", 3_000)
    wheel(default, "polars-lts-cpu", "1.33.1", 35_000, *ALL)
    wheel(default, "anndata", "0.12.4", 4_000, requires=("pandas", "numpy"))
    wheel(default, "sccoda", "0.1.9", 4_000, requires=("numpy", "pandas"))
    wheel(default, "olga", "1.3.0", 9_000, requires=("numpy",))
    wheel(default, "biopython", "1.85", 8_000, *ALL, requires=("numpy",))
    wheel(default, "openmm", "8.3.1", 30_000, "linux-x64", "macosx-aarch64", requires=("numpy",))
    wheel(default, "click", "8.1.8", 2_000)
    wheel(default, "torch", "2.7.0", 90_000, *ALL, requires=("sympy",))
    wheel(default, "sympy", "1.14.0", 15_000)
    wheel(default, "hilary", "1.2.4", 2_000, requires=("numpy", "nowhere-to-be-had"))
    wheel(default, "kalign-python", "3.6.0", 5_000, "linux-x64", "macosx-x64", "macosx-aarch64")
    wheel(torch, "torch", "2.7.0+cpu", 50_000, *ALL, requires=("sympy",))
    cuda = ("libcudf-cu12==25.6.0", "numpy")
    wheel(nvidia, "cudf-cu12", "25.6.0", 40_000, "linux-x64", requires=cuda)
    wheel(nvidia, "libcudf-cu12", "25.6.0", 60_000, "linux-x64")


def package_json(
    version: str, variant: str, *, platforms: tuple[str, ...] = ALL, **artifact: object
) -> dict[str, Any]:
    """A variant's `package.json`."""
    return {
        "name": f"@example/runenv-python-{version}{variant}",
        "version": "1.7.1",
        "description": f"Python {version} run environment{variant.replace('-', ' ')}",
        "scripts": {"build": f"node ../scripts/build.js {version}{variant}"},
        "block-software": {
            "entrypoints": {
                "main": {
                    "environment": {
                        "artifact": {
                            "type": "environment",
                            "runtime": "python",
                            "registry": "example",
                            "python-version": version,
                            "roots": {name: f"./pydist/{name}" for name in platforms},
                            "binDir": "bin",
                            **artifact,
                        }
                    }
                }
            }
        },
    }


def write_json(path: Path, value: object) -> None:
    """Write `value`, making directories on the way."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(value, indent=2), encoding="utf-8")


def write_variant(
    directory: Path,
    name: str,
    config: Mapping[str, Any] | None,
    *,
    version: str = "3.12.10",
    platforms: tuple[str, ...] = ALL,
    **artifact: object,
) -> Path:
    """The directory of a variant, `name` being empty or starting with a dash."""
    folder = directory / f"python-{version}{name}"
    package = package_json(version, name, platforms=platforms, **artifact)
    write_json(folder / "package.json", package)
    if config is not None:
        write_json(folder / "config.json", config)
    return folder


def write_file(path: Path, text: str = "content\n", *, executable: bool = False) -> None:
    """Write a file of an overlay."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
    path.chmod(0o755 if executable else 0o644)


def make_git_package(directory: Path, name: str = "parapred-pytorch") -> str:
    """A git repository with a Python package; the result is its commit."""
    write_file(
        directory / "pyproject.toml",
        f'[build-system]\nrequires = ["setuptools"]\nbuild-backend = "setuptools.build_meta"\n'
        f'[project]\nname = "{name}"\nversion = "1.0"\ndependencies = ["torch"]\n',
    )
    write_file(directory / "parapred.py")
    git = ["git", "-c", "user.name=test", "-c", "user.email=test@example.com"]
    for words in (["init", "-q"], ["add", "."], ["commit", "-qm", "First"]):
        subprocess.run([*git, *words], cwd=directory, check=True, capture_output=True)
    found = subprocess.run(
        [*git, "rev-parse", "HEAD"], cwd=directory, check=True, capture_output=True, text=True
    )
    return found.stdout.strip()


def skipped(*platforms: str, reason: str = "Not supported there") -> dict[str, str]:
    """An entry of `skip`."""
    return dict.fromkeys(platforms, reason)


def make_repository(directory: Path, indexes: Indexes) -> Path:
    """Twelve variants of which each shows something else; dependencies only in the variants."""
    commit = make_git_package(directory / "git" / "parapred-pytorch")
    root = directory / "runenv-python-3"
    no_cuda = skipped(*(name for name in ALL if name != "linux-x64"), reason="No CUDA there")
    write_json(
        root / "shared-config.json",
        {
            "registries": {"additional": [indexes.nvidia.url]},
            "packages": {
                "skip": {"cudf-cu12": no_cuda},
                "forceSource": {"parasail": {"linux-aarch64": "No wheel for ARM"}},
                "resolution": {"strictMissing": False, "onlyBinaryList": ["numpy", "scipy"]},
            },
            "build": {"enableLogging": True, "parallelDownloads": False, "timeout": 300},
        },
    )
    _science(root)
    _special(root, directory, commit, indexes)
    _copying(root)
    entries: dict[str, object] = {
        folder.name.removeprefix("python-"): {} for folder in root.glob("python-*")
    }
    del entries["3.12.10-pgen"]
    entries["3.12.10-gone"] = {}
    write_json(root / "catalogue" / "package.json", {"block-software": {"entrypoints": entries}})
    return root


def _science(root: Path) -> None:
    basic = ["pandas==2.2.3", "numpy==2.2.6", "scipy==1.15.3"]
    main = write_variant(
        root,
        "",
        {
            "packages": {
                "dependencies": [
                    *basic,
                    "scikit-learn==1.6.1",
                    "polars-lts-cpu==1.33.1",
                    "cudf-cu12==25.6.0",
                    "freesasa==2.2.1",
                ],
                "buildWheel": {
                    "freesasa": {
                        platform: BUILT
                        | {
                            "configSettings": [
                                "cmake.define.TOOLS={packageRoot}/cmake/tools.cmake",
                                "build.verbose=true",
                            ]
                        }
                        for platform in ALL
                    }
                },
            }
        },
    )
    write_file(main / "cmake" / "tools.cmake")
    write_variant(root, "-empty", {"packages": {"dependencies": []}})
    write_variant(root, "-slim", None)
    write_variant(
        root,
        "-h5ad",
        {"packages": {"dependencies": ["pandas==2.2.3", "numpy==2.0.2", "anndata==0.12.4"]}},
    )
    write_variant(
        root,
        "-sccoda",
        {
            "packages": {
                "dependencies": ["pandas==2.2.3", "numpy==2.2.6", "sccoda==0.1.9"],
                "overrides": {"numpy": "2.0.2", "olga": "1.2.0"},
            }
        },
    )
    write_variant(
        root,
        "-pgen",
        {"packages": {"dependencies": ["olga==1.3.0", "polars-lts-cpu==1.33.1", "numpy==2.2.6"]}},
    )
    write_variant(root, "", {"packages": {"dependencies": basic}}, version="3.11.9")
    write_json(
        root / "checker" / "whitelists" / "python-3.12.10" / "linux-amd64.json",
        {
            "_comment": "Known failures",
            "scipy-1.*.whl": {"scipy.linalg._matfuncs": "circular import"},
            "cudf_cu12-*.whl": {"cudf._lib.strings": "CUDA driver version is insufficient"},
        },
    )


def _special(root: Path, directory: Path, commit: str, indexes: Indexes) -> None:
    git = f"git+file://{directory / 'git' / 'parapred-pytorch'}@{commit[:7]}"
    write_variant(
        root,
        "-parapred",
        {
            "registries": {"additional": [indexes.torch.url]},
            "packages": {
                "dependencies": [
                    "pandas==2.2.3",
                    "numpy==2.2.6",
                    "torch==2.7.0",
                    "click==8.1.8",
                    git,
                ],
                "noDeps": ["parapred-pytorch"],
                "resolution": {"allowSourceList": ["parapred-pytorch"]},
            },
        },
    )
    write_variant(
        root,
        "-clustering",
        {
            "packages": {
                "dependencies": ["pandas==2.2.3", "polars-lts-cpu==1.33.1", "kalign-python==3.6.0"],
                "buildWheel": {
                    "kalign-python": {"linux-aarch64": BUILT, "windows-x64": BUILT},
                },
            }
        },
    )
    write_variant(
        root,
        "-hilary",
        {
            "registries": {"additional": ["https://packages.example.org/simple"]},
            "packages": {
                "dependencies": ["hilary==1.2.4", "pandas==2.2.3", "numpy==2.2.6"],
                "noDeps": ["hilary"],
                "forceSources": {"hilary": {}},
            },
            "extra": {"key": 1},
        },
        envVars=["LD_LIBRARY_PATH=/usr/local/lib", "PATH=/opt/bin:$PATH", "PYTHONHOME=/opt"],
        theme="dark",
    )


def _copying(root: Path) -> None:
    two = ("linux-x64", "macosx-aarch64")
    files = [
        {"from": "{p}/bin/", "to": "bin/"},
        {"from": "{p}/lib/", "to": "lib/"},
        {"from": "{p}/site-packages/", "to": "{site-packages}/"},
    ]
    atls = write_variant(
        root,
        "-atls",
        {
            "packages": {
                "skip": {
                    "biopython": skipped("linux-aarch64", "macosx-x64", "windows-x64"),
                    "openmm": skipped("windows-x64"),
                },
                "copyFiles": [{"from": "any/notes.txt", "to": "share/notes.txt"}],
                "platformSpecific": {
                    platform: {
                        "dependencies": ["biopython==1.85", "openmm==8.3.1", "numpy==2.2.6"],
                        "copyFiles": [
                            {**entry, "from": entry["from"].replace("{p}", platform)}
                            for entry in files
                        ],
                    }
                    for platform in two
                },
            }
        },
        platforms=two,
    )
    write_file(atls / "any" / "notes.txt")
    for platform in two:
        write_file(atls / platform / "bin" / "tool", "#!/bin/sh\necho tool\n", executable=True)
        write_file(atls / platform / "lib" / "libtool.txt")
        write_file(atls / platform / "site-packages" / "atls_extra" / "__init__.py", "x = 1\n")
    write_variant(
        root,
        "-rapids",
        {
            "packages": {
                "dependencies": ["numpy==2.2.6", "scipy==1.15.3", "cudf-cu12==25.6.0"],
                "copyFiles": [{"from": "missing/", "to": "bin/"}],
            }
        },
    )


def make_older_repository(directory: Path) -> Path:
    """The first form: dependencies in the shared file, which variants replace or override."""
    root = directory / "older"
    write_json(
        root / "shared-config.json",
        {
            "packages": {
                "dependencies": ["pandas==2.2.3", "numpy==2.2.6", "polars-lts-cpu==1.33.1"],
                "platformSpecific": {
                    "polars-lts-cpu": {
                        "linux-aarch64": {"action": "skip", "reason": "Experimental there"}
                    }
                },
            }
        },
    )
    write_json(root / "python-3.12.10" / "config.json", {"packages": {}})
    write_json(
        root / "python-3.12.10-old" / "config.json", {"packages": {"overrides": {"numpy": "2.0.2"}}}
    )
    write_json(
        root / "python-3.12.10-own" / "config.json",
        {"packages": {"dependencies": ["polars-lts-cpu==1.33.1"]}},
    )
    return root
