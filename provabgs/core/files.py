"""Files that can be read from: regular ones, and texts of a size that a text of ours may have."""

from __future__ import annotations

import os
import stat
from pathlib import Path

from provabgs.core.errors import DataFileError
from provabgs.core.messages import first_line

MAX_TEXT = 64 << 20
"""Bytes; configurations, manifests and priors have some thousands."""


def regular_file(path: str | Path, what: str = "a FITS file") -> Path:
    """A file that can be read from: not a folder, pipe or device, on which reading would wait or never end.

    Parameters
    ----------
    path
        The file, or a link to it.
    what
        What it should be, for the message.

    Raises
    ------
    DataFileError
        Names the path and what it is instead.
    """
    file = Path(path)
    try:
        mode = file.stat().st_mode
    except FileNotFoundError:
        where = "is a link to a file that is not there" if file.is_symlink() else "no such file"
        raise DataFileError(f"{file}: {where}; check the path") from None
    except (OSError, ValueError) as error:
        raise DataFileError(f"{file!s:.200}: cannot be read ({first_line(error)}); check the path") from None
    if stat.S_ISDIR(mode):
        raise DataFileError(f"{file}: is a folder; give {what}")
    if not stat.S_ISREG(mode):
        raise DataFileError(f"{file}: is a pipe or a device, not a file; give {what}")
    if not os.access(file, os.R_OK):
        raise DataFileError(f"{file}: permission denied; ask its owner to let you read it")
    return file


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
