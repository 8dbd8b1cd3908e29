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


MACOS = ("/usr/lib/", "/System/Library/")
"""Where macOS has its own libraries; it lets nobody else put any there. Most of them are no
files: dyld takes them out of its shared cache."""

_API_SETS = ("api-ms-", "ext-ms-")
"""Names that Windows resolves to whichever of its own DLLs implements them (Windows API sets)."""

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
        # Graphics, sound, video; the rest of Direct3D comes with its users.
        "opengl32 glu32 ddraw d2d1 d3d9 d3d10 d3d10_1 d3d10core d3d11 d3d12 d3dcompiler_47 dxgi",
        "dxcore dxva2 dcomp dwrite directml dinput dinput8 dsound xinput9_1_0 xinput1_4 winmm",
        "wmvcore mmdevapi audioses ksuser msacm32 msvfw32 avicap32 avifil32 quartz evr mf mfplat",
        "mfreadwrite mfcore mfsensorgroup strmiids vfw32 mscms icm32 t2embed fontsub",
        # Databases, old interfaces, scripts.
        "odbc32 odbccp32 oledb32 msdart loadperf lz32 ntvdm64 wow64 mprapi tapi32 mapi32 atl",
        "wbemcomn fastprox framedynos wmi wmiclnt scrobj jscript vbscript advpack mgmtapi mtxdm",
        # Administration, devices, and what few use.
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
"""DLLs of Windows 10 and 11 themselves that programs are linked with: Microsoft's documentation
names one for each function of the Windows API. Not among them are those of Visual C++: a
runtime of CPython brings vcruntime140.dll and vcruntime140_1.dll beside python.exe (PC/layout
of CPython; python-build-standalone does the same), where they are found like any other file of
the chain; msvcp140.dll, vcomp140.dll and concrt140.dll nobody brings but their users."""

WINDOWS_DRIVERS = frozenset(
    {
        *("nvcuda.dll", "nvml.dll", "nvcuvid.dll", "nvencodeapi64.dll", "nvapi64.dll"),
        *("opencl.dll", "vulkan-1.dll", "amdhip64.dll", "amdhip64_6.dll", "ze_loader.dll"),
    }
)
"""`DRIVERS` for Windows."""


def of_windows(name: str) -> bool:
    """Whether Windows, or the driver of a device, has the DLL `name`, in lower case."""
    return name.startswith(_API_SETS) or name in WINDOWS or name in WINDOWS_DRIVERS
