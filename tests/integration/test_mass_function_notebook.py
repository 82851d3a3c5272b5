"""notebooks/mass_function.ipynb runs as it stands, and what it shows is what it was committed with."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

NOTEBOOK = Path(__file__).resolve().parents[2] / "notebooks" / "mass_function.ipynb"


def printed(notebook: Any) -> str:
    """All that the code cells print."""
    outputs = [o for cell in notebook.cells for o in cell.get("outputs", [])]
    return "".join(o.get("text", "") for o in outputs)


# the Jupyter stack warns of its own deprecations
@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::ResourceWarning", "ignore:Proactor")
def test_the_notebook_runs() -> None:
    nbformat, nbclient = pytest.importorskip("nbformat"), pytest.importorskip("nbclient")
    pytest.importorskip("ipykernel")
    committed = nbformat.read(NOTEBOOK, as_version=4)
    fresh = nbformat.read(NOTEBOOK, as_version=4)
    asyncio.run(nbclient.NotebookClient(fresh, timeout=300, kernel_name="python3").async_execute())
    figures = [o for cell in fresh.cells for o in cell.get("outputs", []) if "image/png" in o.get("data", {})]
    assert len(figures) == 3
    for line in ("galaxies used; left out: 11 not converged, 1 with a bad W_ZFAIL", "from ten regions of the sky"):
        assert line in printed(fresh)
        assert line in printed(committed)
    assert max(len(o["data"]["image/png"]) for o in figures) < 300_000
