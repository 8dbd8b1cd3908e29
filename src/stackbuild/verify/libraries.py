"""Check shared libraries: those in the chain, and those that every host has."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from typing import TYPE_CHECKING

from stackbuild.runtimes.elf import MANYLINUX, Elf, find_needed
from stackbuild.verify.deployed import module_name
from stackbuild.verify.model import Finding

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from stackbuild.compose.manifest import Manifest
    from stackbuild.platforms import Platform
    from stackbuild.verify.binaries import Binary
    from stackbuild.verify.deployed import DeployedLayer, Distribution
    from stackbuild.verify.expected_failures import Entry
    from stackbuild.verify.record_check import ReadLayer


DRIVERS = frozenset(
    {
        *("libcuda.so.1", "libnvidia-ml.so.1", "libnvcuvid.so.1", "libnvidia-encode.so.1"),
        *("libnvoptix.so.1", "libcudadebugger.so.1", "libOpenCL.so.1", "libvulkan.so.1"),
        *("libhsa-runtime64.so.1", "libamdhip64.so.6", "libze_loader.so.1"),
    }
)
"""Libraries of device drivers. Distributions only load them to use the device and cannot include
them, because driver and kernel must match."""


def declared(runtime: Manifest) -> frozenset[str]:
    """The host libraries that the interpreter of `runtime` needs if it is a stand-in."""
    about = runtime.provenance.get("runtime")
    names = about.get("host_libraries") if isinstance(about, dict) else None
    return frozenset(str(name) for name in names) if isinstance(names, list) else frozenset()


MACOS = ("/usr/lib/", "/System/Library/")
"""Directories of macOS's own libraries, which others cannot write. Most libraries are not files:
dyld loads them from its shared cache."""

_API_SETS = ("api-ms-", "ext-ms-")
"""Prefixes of names that Windows resolves to its own DLLs (Windows API sets)."""

WINDOWS = frozenset(
    f"{name}.dll"
    for line in (
        # Kernel, C library, registry, services, and what they are made of.
        "kernel32 kernelbase ntdll ucrtbase msvcrt advapi32 sechost user32 win32u gdi32 gdi32full",
        "gdiplus rpcrt4 combase ole32 oleaut32 oleacc oledlg propsys clbcatq psapi",
        "version userenv profapi powrprof cfgmgr32 setupapi newdev devobj hid winusb pdh wevtapi",
        "tdh dbghelp dbgcore dbgeng imagehlp apphelp cabinet msi mscoree ktmw32 clfsw32 fltlib",
        "virtdisk vssapi wofutil wer faultrep avrt rstrtmgr mpr wtsapi32 winsta taskschd srvcli",
        "wkscli samcli netutils samlib dsrole logoncli ntmarta authz wldp amsi esent icu",
        # Shell and windows.
        "shell32 shlwapi shcore comctl32 comdlg32 uxtheme dwmapi imm32 msctf msimg32 usp10 lpk",
        "credui cryptui winspool urlmon wininet ieframe mshtml hlink themeui",
        "windowscodecs wintypes coremessaging uiautomationcore magnification inkobjcore sti",
        # Network and security.
        "ws2_32 wsock32 mswsock winhttp httpapi webservices websocket dnsapi iphlpapi dhcpcsvc",
        "dhcpcsvc6 netapi32 wlanapi rasapi32 rtutils snmpapi fwpuclnt nsi rtm secur32 sspicli",
        "security crypt32 cryptbase cryptsp cryptnet cryptdll bcrypt bcryptprimitives ncrypt",
        "wintrust msasn1 dpapi wldap32 activeds adsldpc ntdsapi winscard schannel bluetoothapis",
        "traffic p2p pnrpnsp qwave icuin icuuc",
        # Graphics, sound, video; programs include the rest of Direct3D themselves.
        "opengl32 glu32 ddraw d2d1 d3d9 d3d10 d3d10_1 d3d10core d3d11 d3d12 d3dcompiler_47 dxgi",
        "dxcore dxva2 dcomp dwrite directml dinput dinput8 dsound xinput9_1_0 xinput1_4 winmm",
        "wmvcore mmdevapi audioses ksuser msacm32 msvfw32 avicap32 avifil32 quartz evr mf mfplat",
        "mfreadwrite mfcore mfsensorgroup strmiids vfw32 mscms icm32 t2embed fontsub",
        # Databases, old interfaces, scripts.
        "odbc32 odbccp32 oledb32 msdart loadperf lz32 ntvdm64 wow64 mprapi tapi32 mapi32 atl",
        "wbemcomn fastprox framedynos wmi wmiclnt scrobj jscript vbscript advpack mgmtapi mtxdm",
        # Administration, devices, rarely used.
        "aclui sfc sfc_os query mstask gpedit dsprop dsuiext dhcpsapi clusapi resutils srclient",
        "slc slcext slwga tbs winbio webauthn scarddlg wscapi wsdapi wlanui wcmapi ndfapi davclnt",
        "cscapi cldapi drt eappcfg eappprxy elscore msdrm mqrt xolehlp normaliz ntlanman rasdlg",
        "portabledeviceapi sensorsapi locationapi winhvplatform computecore computenetwork",
        "prntvpt xpsprint compstui xmllite msxml6 xaudio2_8 xaudio2_9 cryptxml certcli",
        "tokenbinding rpcns4 rpchttp wsnmp32 inseng chakra deviceaccess vmcompute sas",
        "sensapi mlang shdocvw shfolder riched20 msftedit msls31 msdmo rtworkq mi offreg netbios",
        "schedcli sxs msdelta mspatcha mspatchc peerdist mssip32 mfc42 mfc42u msvcirt msvcp60",
    )
    for name in line.split()
) | {"winspool.drv", "hhctrl.ocx", "bthprops.cpl", "irprops.cpl"}
"""DLLs that are part of Windows 10 and 11, from Microsoft's documentation of the Windows API. DLLs
of Visual C++ are not: CPython includes vcruntime140.dll and vcruntime140_1.dll beside python.exe
(PC/layout of CPython; the same in python-build-standalone), where they are found like any other
file of the chain; wheels must include msvcp140.dll, vcomp140.dll and concrt140.dll."""

WINDOWS_DRIVERS = frozenset(
    {
        *("nvcuda.dll", "nvml.dll", "nvcuvid.dll", "nvencodeapi64.dll", "nvapi64.dll"),
        *("opencl.dll", "vulkan-1.dll", "amdhip64.dll", "amdhip64_6.dll", "ze_loader.dll"),
    }
)
"""`DRIVERS` for Windows."""


def of_windows(name: str) -> bool:
    """Whether the DLL `name`, in lower case, is part of Windows or a device driver."""
    return name.startswith(_API_SETS) or name in WINDOWS or name in WINDOWS_DRIVERS


@dataclass(frozen=True, slots=True, kw_only=True)
class Neighbours:
    """The libraries available to the files of a layer."""

    layer: DeployedLayer
    chain: Sequence[DeployedLayer]
    names: frozenset[str]
    """The file names in all layers of the chain; in lower case on Windows."""
    granted: frozenset[str]
    """Host libraries of a stand-in interpreter; only for the runtime."""

    def missing(self, binary: Binary, path: str) -> set[str]:
        """The libraries of `binary`, the file `path`, that neither chain nor host has."""
        search = {"linux": _missing_elf, "macos": _missing_macho, "windows": _missing_pe}
        system = self.layer.manifest.platform.os
        return search[system](binary, self.layer.directory / path, self) - self.granted

    def has(self, path: Path) -> bool:
        """Whether `path` is a file of the chain."""
        plain = Path(os.path.normpath(path))
        return any(plain.is_relative_to(one.directory) for one in self.chain) and plain.is_file()


def neighbours(layer: DeployedLayer, chain: Sequence[DeployedLayer]) -> Neighbours:
    """The libraries available to the files of `layer` in its `chain`."""
    names = {path.rpartition("/")[2] for one in chain for path in (*one.kinds, *one.links)}
    granted = declared(layer.manifest) if chain[-1] is layer else frozenset[str]()
    if layer.manifest.platform.os == "windows":
        names, granted = {name.lower() for name in names}, frozenset(map(str.lower, granted))
    return Neighbours(layer=layer, chain=chain, names=frozenset(names), granted=granted)


def _missing_elf(binary: Binary, file: Path, around: Neighbours) -> set[str]:
    """Search by RUNPATH, RPATH and ``$ORIGIN`` (ld.so(8)), or by name in the whole chain.

    By name, because distributions may load libraries by their paths beforehand. A needed library
    that is named with a path, such as ``$ORIGIN/../lib/libpython3.9.so.1.0``, is only there.
    """
    unknown = {
        name
        for name in binary.needed
        if name not in around.names and name not in MANYLINUX and name not in DRIVERS
    }
    if not unknown:
        return unknown
    found = find_needed(Elf(binary.needed, binary.search), file.parent)
    return {name for name in unknown if name not in found or not around.has(found[name])}


def _missing_macho(binary: Binary, file: Path, around: Neighbours) -> set[str]:
    """Search by the path in the file, with dyld's variables (dyld(1)).

    A name with ``@rpath`` or without a directory may also be a library anywhere in the chain: dyld
    uses a loaded library with the same install name, and searches the rpaths of all files in the
    chain of loading.
    """
    # A program is itself the executable; other files are loaded into the interpreter.
    beside = file.parent if binary.program else around.chain[-1].directory / "bin"
    return {
        name
        for name in binary.needed
        if not (
            any(_is_there(path, around) for path in _places(name, binary.search, file, beside))
            or (
                (name.startswith("@rpath/") or "/" not in name)
                and name.rpartition("/")[2] in around.names
            )
        )
    }


def _places(name: str, search: Sequence[str], file: Path, beside: Path) -> Iterator[str]:
    """The paths that dyld tries for `name`."""
    variables = {"@loader_path": file.parent, "@executable_path": beside}
    rest = name.removeprefix("@rpath/")
    for item in (f"{one}/{rest}" for one in search) if rest != name else (name,):
        first, _, steps = item.partition("/")
        yield f"{variables[first]}/{steps}" if first in variables else item


def _is_there(path: str, around: Neighbours) -> bool:
    return os.path.normpath(path).startswith(MACOS) or around.has(Path(path))


def _missing_pe(binary: Binary, file: Path, around: Neighbours) -> set[str]:
    """Search by name in the whole chain, because Windows files contain no search path.

    Windows searches beside the file, beside the interpreter, and in directories that packages add
    on import (`os.add_dll_directory`, such as delvewheel's ``<name>.libs``). These are not known
    before. A loaded DLL is also found by name.
    """
    return {name for name in binary.needed if name not in around.names and not of_windows(name)}


_MISSING = "needs a shared library that neither the chain nor every host has"
_OTHER = "is not made for this processor"

_EMULATED = {"x86_64": {"i386"}, "aarch64": {"i386", "x86_64"}}
"""By processor, other processors whose programs Windows can run."""
_NAMES = {
    "i386": r"x86(?!_64)|i[3-6]86|win32",
    "x86_64": r"x86_64|amd64|x64",
    "aarch64": r"aarch64|arm64",
    "arm64e": r"arm64e",
    "arm": r"arm|armhf|armv7l?",
}
"""Processors in the names of files and directories."""


def check_libraries(
    layer: DeployedLayer,
    read: ReadLayer,
    chain: Sequence[DeployedLayer],
    host_libraries: Iterable[str],
    entries: Iterable[Entry] = (),
) -> list[Finding]:
    """Find missing libraries of `layer`, and its files for another processor.

    `host_libraries` are globs on libraries of the host, on the whole name or its last part.
    `entries` are expected import errors; an entry for a module that cannot be imported here also
    allows its library to be missing.
    """
    around = neighbours(layer, chain)
    platform, known = layer.manifest.platform, tuple(entries)
    lower = platform.os == "windows"
    patterns = [glob.lower() if lower else glob for glob in host_libraries]
    missing: dict[tuple[str, str], list[str]] = {}
    others: dict[tuple[str, str], list[str]] = {}
    for path, binary in sorted(read.binaries.items()):
        owner = read.owners.get(path)
        if _is_foreign(binary, platform):
            if not _is_on_purpose(binary, path, owner):
                others.setdefault((str(owner or ""), ", ".join(binary.machines)), []).append(path)
            continue
        for name in sorted(around.missing(binary, path)):
            if not (_matches(name, patterns) or _is_known(name, path, layer, owner, known)):
                missing.setdefault((str(owner or ""), name), []).append(path)
    machine = platform.machine
    return [
        *_findings(layer, _OTHER, others, lambda found, files: (machine, found + _also(files))),
        *_findings(layer, _MISSING, missing, lambda name, files: (name, _users(files))),
    ]


def _is_foreign(binary: Binary, platform: Platform) -> bool:
    if not binary.machines or platform.machine in binary.machines:
        return False
    emulated = _EMULATED[platform.machine] if platform.os == "windows" else set()
    return not (binary.program and emulated.intersection(binary.machines))


def _is_on_purpose(binary: Binary, path: str, owner: Distribution | None) -> bool:
    """Whether a file for another processor is intended: `attach_x86.dll` in a layer for x64.

    Its name says so, or its wheel is for any platform and selects a file at run time.
    """
    if owner is not None and owner.wheel.endswith("-any.whl"):
        return True
    names = "|".join(_NAMES[machine] for machine in binary.machines if machine in _NAMES)
    return bool(names and re.search(f"(?<![a-z0-9])(?:{names})(?![a-z0-9])", path.lower()))


def _matches(name: str, patterns: Iterable[str]) -> bool:
    # Mach-O files name libraries by path; globs for other systems contain only names.
    last = name.rpartition("/")[2]
    return any(fnmatchcase(name, glob) or fnmatchcase(last, glob) for glob in patterns)


def _is_known(
    library: str,
    path: str,
    layer: DeployedLayer,
    owner: Distribution | None,
    entries: Sequence[Entry],
) -> bool:
    if owner is None or not entries:
        return False
    module = module_name(layer, path)
    return module is not None and any(
        entry.tells_of(library, owner.wheel, module) for entry in entries
    )


def _findings(
    layer: DeployedLayer,
    message: str,
    groups: dict[tuple[str, str], list[str]],
    texts: Callable[[str, Sequence[str]], tuple[str, str | None]],
) -> list[Finding]:
    """A finding for each group of files with the same owner and reason, at the first file."""
    findings = []
    for (owner, what), files in groups.items():
        expected, found = texts(what, files)
        findings.append(
            Finding(
                check="library",
                layer=layer.manifest.layer,
                distribution=owner or None,
                file=files[0],
                message=message,
                expected=expected,
                found=found,
            )
        )
    return findings


def _users(files: Sequence[str]) -> str | None:
    return f"{len(files)} files that need it" if len(files) > 1 else None


def _also(files: Sequence[str]) -> str:
    return f", in {len(files)} files" if len(files) > 1 else ""
