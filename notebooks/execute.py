"""Execute notebooks and keep what they show: ``python notebooks/execute.py [NAME ...]``, all when none is named."""

from __future__ import annotations

import os
import sys
import tempfile
import time
from pathlib import Path

import nbformat
from nbclient import NotebookClient
from nbformat import NotebookNode

FOLDER = Path(__file__).parent
LONGEST_TEXT = 3000
"""Characters of a value's plain text that are kept beside its HTML."""


def joined(outputs: list[NotebookNode]) -> list[NotebookNode]:
    """Outputs with neighbouring pieces of one stream as one: where a kernel cuts what is printed is chance."""
    kept: list[NotebookNode] = []
    for output in outputs:
        if kept and output.output_type == "stream" and kept[-1].get("name") == output.name:
            kept[-1].text += output.text
        else:
            kept.append(output)
    return kept


def execute(path: Path) -> float:
    """Run one notebook in an empty folder and write it back; returns seconds."""
    notebook = nbformat.read(path, as_version=4)
    start = time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        where = {"metadata": {"path": folder}}
        NotebookClient(notebook, timeout=1800, kernel_name="python3", resources=where).execute()
    for cell in notebook.cells:
        cell.metadata.pop("execution", None)  # times of execution, different each time
        if "outputs" in cell:
            cell.outputs = joined(cell.outputs)
        for output in cell.get("outputs", []):
            data = output.get("data", {})
            text = data.get("text/plain", "")
            if len(text) > LONGEST_TEXT:
                data["text/plain"] = text[: text.index("(")] + "(...)"
    nbformat.write(notebook, path)
    return time.monotonic() - start


if __name__ == "__main__":
    os.environ.pop("MPLBACKEND", None)  # the Makefile's would keep figures out of the notebooks
    for name in sys.argv[1:] or sorted(p.stem for p in FOLDER.glob("*.ipynb")):
        print(f"{name}: {execute(FOLDER / f'{name}.ipynb'):.0f} s", flush=True)
