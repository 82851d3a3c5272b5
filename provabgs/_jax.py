"""The one place that configures JAX, imported by every module that uses it.

Double precision is on because the exact likelihood is the reference for everything else; kernels that are safe in
single precision ask for it by dtype.
"""

from __future__ import annotations

import os

import jax
import jax.numpy as jnp

jax.config.update("jax_enable_x64", True)

if cache := os.environ.get("PROVABGS_COMPILATION_CACHE"):
    jax.config.update("jax_compilation_cache_dir", cache)
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.5)

__all__ = ["jax", "jnp"]
