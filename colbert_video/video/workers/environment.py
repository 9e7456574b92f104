"""The environment of other programs that are started: what they need to run, and none of this process's secrets."""

import os

KEPT = frozenset(
    {
        "PATH", "HOME", "LANG", "LANGUAGE", "TZ", "TMPDIR", "TEMP", "TMP", "LD_LIBRARY_PATH", "LD_PRELOAD", "DYLD_LIBRARY_PATH",
        "DYLD_FALLBACK_LIBRARY_PATH", "SYSTEMROOT", "SYSTEMDRIVE", "WINDIR", "COMSPEC", "PATHEXT", "USERPROFILE", "APPDATA",
        "LOCALAPPDATA", "VIRTUAL_ENV", "CONDA_PREFIX",
    }
)  # fmt: skip
KEPT_FAMILIES = ("LC_", "PYTHON", "OMP_", "MALLOC_")


def plain_environment() -> dict[str, str]:
    """Return the variables of this process that say where programs, libraries and temporary files are, and the language.

    All others stay here, such as tokens and passwords: a decoder that a damaged file has taken over cannot send them on.
    """
    return {
        name: value
        for name, value in os.environ.items()
        if name.upper() in KEPT or name.upper().startswith(KEPT_FAMILIES)
    }
