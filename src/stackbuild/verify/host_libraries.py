"""Shared libraries that a host has, so that a layer need not bring them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from stackbuild.runtimes.elf import C_LIBRARY

if TYPE_CHECKING:
    from stackbuild.compose.manifest import Manifest

MANYLINUX = C_LIBRARY | {
    *("libresolv.so.2", "libnsl.so.1", "libanl.so.1", "libmvec.so.1", "libBrokenLocale.so.1"),
    *("libgcc_s.so.1", "libstdc++.so.6", "libatomic.so.1"),
    *("libz.so.1", "libexpat.so.1"),
    *("libglib-2.0.so.0", "libgobject-2.0.so.0", "libgthread-2.0.so.0"),
    *("libX11.so.6", "libXext.so.6", "libXrender.so.1", "libICE.so.6", "libSM.so.6"),
    "libGL.so.1",
}
"""What wheels of the manylinux family may expect of a host (PEP 513, PEP 599, PEP 600, and
the policies of auditwheel, which has added to them since)."""

DRIVERS = frozenset(
    {
        *("libcuda.so.1", "libnvidia-ml.so.1", "libnvcuvid.so.1", "libnvidia-encode.so.1"),
        *("libnvoptix.so.1", "libcudadebugger.so.1", "libOpenCL.so.1", "libvulkan.so.1"),
        *("libhsa-runtime64.so.1", "libamdhip64.so.6", "libze_loader.so.1"),
    }
)
"""What comes with the driver of a device. Distributions load what needs it when they are told
to use the device, and cannot bring it: driver and kernel must agree."""


def declared(runtime: Manifest) -> frozenset[str]:
    """What the interpreter of `runtime` needs of a host where it stands in for another one."""
    about = runtime.provenance.get("runtime")
    names = about.get("host_libraries") if isinstance(about, dict) else None
    return frozenset(str(name) for name in names) if isinstance(names, list) else frozenset()
