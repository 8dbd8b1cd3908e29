from __future__ import annotations

import sysconfig

import pytest
from packaging.version import Version

from stackbuild.layout import Layout, layout_for
from stackbuild.platforms import Platform


@pytest.mark.parametrize(
    ("platform", "scheme"),
    [(Platform.LINUX_X64, "posix_prefix"), (Platform.WINDOWS_X64, "nt")],
)
def test_paths_are_those_of_sysconfig(platform: Platform, scheme: str) -> None:
    layout = layout_for(platform, Version("3.12.10"))
    variables = dict.fromkeys(("base", "platbase", "installed_base", "installed_platbase"), "X")
    variables |= {"py_version_short": "3.12", "platlibdir": "lib", "abiflags": "", "abi_thread": ""}
    paths = sysconfig.get_paths(scheme, variables)
    assert f"X/{layout.site_packages}" == paths["purelib"].replace("\\", "/")
    assert f"X/{layout.site_packages}" == paths["platlib"].replace("\\", "/")
    assert f"X/{layout.stdlib}" == paths["stdlib"].replace("\\", "/")
    assert f"X/{layout.scripts}" == paths["scripts"].replace("\\", "/")
    assert f"X/{layout.headers}" == paths["include"].replace("\\", "/")


def test_interpreters() -> None:
    posix, windows = Layout("macos", "3.12"), Layout("windows", "3.12")
    assert (posix.interpreter, posix.runtime_interpreter) == ("bin/python", "bin/python3.12")
    assert (windows.interpreter, windows.runtime_interpreter) == (
        "Scripts/python.exe",
        "python.exe",
    )


def test_the_patch_level_does_not_matter() -> None:
    assert layout_for(Platform.LINUX_X64, Version("3.12.10")) == Layout("linux", "3.12")
