"""The one place that configures JAX, imported by every module that uses it.

Double precision is on because the exact likelihood is the reference for everything else; kernels that are safe in
single precision ask for it by dtype.

Compiled functions are kept on disk between processes, in the user's cache folder: they depend on shapes, not on
galaxies, so that a second run compiles nothing. ``PROVABGS_COMPILATION_CACHE`` names another folder, or switches this
off (``0``, ``off`` or empty). Processes may share the folder: an entry that is read while it is written does not
decompress, and is compiled anew. Each kind of processor has a folder of its own below it, since machine code of one may
crash another.
"""

from __future__ import annotations

import hashlib
import os
import platform
import tempfile
import warnings
from pathlib import Path

import jax
import jax.numpy as jnp

jax.config.update("jax_enable_x64", True)

CACHE_VARIABLE = "PROVABGS_COMPILATION_CACHE"
MIN_COMPILE_SECONDS = 0.3
"""Compilations quicker than this are not worth a file."""


def cache_folder() -> Path | None:
    """Folder of compiled functions, made if need be; None when switched off or not writable."""
    named = os.environ.get(CACHE_VARIABLE)
    if named is not None and named.strip().lower() in ("", "0", "off", "none"):
        return None
    try:
        folder = (_user_folder() if named is None else Path(named).expanduser()) / _processor()
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            return folder
    except (OSError, RuntimeError):  # not writable, or no home to be found
        return None


def _user_folder() -> Path:
    """By the XDG specification, which has relative paths ignored."""
    base = Path(os.environ.get("XDG_CACHE_HOME", ""))
    return (base if base.is_absolute() else Path.home() / ".cache") / "provabgs" / "jax"


def _processor() -> str:
    """Short name of this kind of processor, by the instructions that it knows."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="ascii", errors="replace").splitlines()
        known = next(line for line in lines if line.lower().startswith(("flags", "features")))
    except (OSError, StopIteration):
        known = platform.processor()
    return f"{platform.machine()}-{hashlib.sha256(known.encode()).hexdigest()[:10]}"


if (_folder := cache_folder()) is not None:
    jax.config.update("jax_compilation_cache_dir", str(_folder))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", MIN_COMPILE_SECONDS)
    warnings.filterwarnings("ignore", message="Error (reading|writing) persistent compilation cache entry")

__all__ = ["cache_folder", "jax", "jnp"]
