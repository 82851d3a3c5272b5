"""Small text files: plain ones, of a size that a text of ours may have."""

from __future__ import annotations

from pathlib import Path

MAX_TEXT = 64 << 20
"""Bytes; configurations, manifests and priors have some thousands."""


def read_text(path: str | Path) -> str:
    """The text of a file; devices and pipes, which may have no end, are not opened.

    Raises
    ------
    OSError
        When the file is missing, no plain file, or larger than `MAX_TEXT`.
    UnicodeDecodeError
        When it is no UTF-8.
    """
    path = Path(path)
    size = path.stat().st_size
    if not path.is_file():
        raise OSError("no plain file")
    if size > MAX_TEXT:
        raise OSError(f"{size / 1e6:.0f} MB are no text of ours")
    return path.read_text(encoding="utf-8")
