"""The shared libraries that hosts have: parts of the operating systems, and device drivers."""

from __future__ import annotations

from typing import TYPE_CHECKING

from stackbuild.runtimes.elf import MANYLINUX

if TYPE_CHECKING:
    from stackbuild.platforms import OsName

DRIVERS = frozenset(
    {
        *("libcuda.so.1", "libnvidia-ml.so.1", "libnvcuvid.so.1", "libnvidia-encode.so.1"),
        *("libnvoptix.so.1", "libcudadebugger.so.1", "libOpenCL.so.1", "libvulkan.so.1"),
        *("libhsa-runtime64.so.1", "libamdhip64.so.6", "libze_loader.so.1"),
        # RDMA adapters (rdma-core), for GPUDirect Storage.
        *("libibverbs.so.1", "librdmacm.so.1", "libmlx5.so.1"),
    }
)
"""Libraries of device drivers. Distributions only load them to use the device and cannot include
them, because driver and kernel must match."""

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


def on_host(name: str, os: OsName) -> bool:
    """Whether every host of the system `os`, or its device driver, has the library `name`.

    `name` is as in the file that needs it, in lower case on Windows.
    """
    if os == "linux":
        return name in MANYLINUX or name in DRIVERS
    return name.startswith(MACOS) if os == "macos" else of_windows(name)
