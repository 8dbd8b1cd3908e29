"""The environment variables of a process that imports modules of a layer."""

from __future__ import annotations

from typing import TYPE_CHECKING

from stackbuild.processes import system_environment

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

_NO_DEVICES = {
    "CUDA_VISIBLE_DEVICES": "",
    "HIP_VISIBLE_DEVICES": "",
    "ROCR_VISIBLE_DEVICES": "",
    "JAX_PLATFORMS": "cpu",
}
"""No graphics processor is started, which takes seconds and memory of others."""

_ONE_THREAD = dict.fromkeys(
    (
        *("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "BLIS_NUM_THREADS"),
        *("VECLIB_MAXIMUM_THREADS", "NUMEXPR_NUM_THREADS", "NUMBA_NUM_THREADS"),
        *("POLARS_MAX_THREADS", "RAYON_NUM_THREADS"),
    ),
    "1",
)
"""Many processes run at once, and those without threads can be forked."""

_NO_WINDOWS = {
    "MPLBACKEND": "Agg",
    "QT_QPA_PLATFORM": "offscreen",
    "SDL_VIDEODRIVER": "dummy",
    "SDL_AUDIODRIVER": "dummy",
    "PYGAME_HIDE_SUPPORT_PROMPT": "1",
}

_NO_NETWORK = {
    "HF_HUB_OFFLINE": "1",
    "WANDB_MODE": "offline",
    "TOKENIZERS_PARALLELISM": "false",
    "TF_CPP_MIN_LOG_LEVEL": "3",
}

_FORKING_IS_MEANT = {"OBJC_DISABLE_INITIALIZE_FORK_SAFETY": "YES"}
"""On macOS: whatever fails in a forked process is tried once more in a fresh one."""

_DIRECTORIES = (
    *("HOME", "USERPROFILE", "APPDATA", "LOCALAPPDATA", "TMPDIR", "TEMP", "TMP"),
    *("XDG_CACHE_HOME", "XDG_CONFIG_HOME", "XDG_DATA_HOME"),
    *("MPLCONFIGDIR", "NUMBA_CACHE_DIR", "CUPY_CACHE_DIR"),
)
"""Where modules write, or look for the settings of a user."""


def import_environment(scratch: Path, more: Mapping[str, str]) -> dict[str, str]:
    """The variables, `more` among them; `scratch` is a directory for what modules write."""
    return {
        # Others could make a layer seem whole that is not (`LD_LIBRARY_PATH`, `PYTHONPATH`),
        # or broken that is whole.
        **system_environment("PATH", "LANG", "TZ"),
        **_NO_DEVICES,
        **_ONE_THREAD,
        **_NO_WINDOWS,
        **_NO_NETWORK,
        **_FORKING_IS_MEANT,
        **dict.fromkeys(_DIRECTORIES, str(scratch)),
        **more,
    }
