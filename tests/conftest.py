"""Fixtures shared by all tests."""

from __future__ import annotations

import gc
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from provabgs.core.memory import give_back, resident_bytes
from provabgs.sps.library import SSPLibrary

REFERENCE = Path(__file__).resolve().parents[2] / "shared" / "reference"
MOST_MEMORY = 3 << 30
"""Resident memory of a test process, bytes, beyond which compiled functions are forgotten after a module.

Every model adds some 30 compiled functions and up to half a GiB; a process that tests many models reached 8.5 GiB.
"""


@pytest.fixture(scope="module", autouse=True)
def _bounded_memory() -> Iterator[None]:
    yield
    if "jax" in sys.modules and resident_bytes() > MOST_MEMORY:
        sys.modules["jax"].clear_caches()
        gc.collect()
        give_back()


@pytest.fixture(scope="session")
def reference_dir() -> Path:
    """Folder of reference data beside the checkout; tests that need it skip where it is absent."""
    if not REFERENCE.is_dir():
        pytest.skip("reference data (../shared/reference) are not here")
    return REFERENCE


@pytest.fixture(scope="session")
def library() -> SSPLibrary:
    """The SSP library that ships."""
    return SSPLibrary.default()
