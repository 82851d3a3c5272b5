"""Fixtures shared by all tests."""

from __future__ import annotations

from pathlib import Path

import pytest

from provabgs.sps.library import SSPLibrary

REFERENCE = Path(__file__).resolve().parents[2] / "shared" / "reference"


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
