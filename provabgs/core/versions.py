"""Versions of everything that a result depends on; written with every posterior."""

from __future__ import annotations

import platform
from functools import lru_cache
from importlib import metadata

import provabgs

PACKAGES = ("jax", "numpy", "scipy", "astropy", "emcee")


@lru_cache(maxsize=1)
def _versions() -> tuple[tuple[str, str], ...]:
    found = [(p, metadata.version(p)) for p in PACKAGES]
    return (("provabgs", provabgs.__version__), ("python", platform.python_version()), *found)


def versions() -> dict[str, str]:
    """Versions by package, this one and Python included."""
    return dict(_versions())
