"""Arrays as JavaScript files.

A page that is opened from a folder may not fetch data, but it may load scripts. So each chunk of data is a script that
hands one JSON object over::

    PG.put("columns/3", {"n": 2, "columns": [["Z", "f4"]], "text": {}, "data": "H4sIA..."})

``data`` holds the columns one after the other, little-endian, the bytes of each column sorted by their significance
(which compresses better), through gzip and base64. ``text`` holds columns of text as lists.
"""

from __future__ import annotations

import base64
import gzip
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

TYPES: dict[str, str] = {"f4": "<f4", "f8": "<f8", "i1": "<i1", "u1": "<u1", "i2": "<i2", "u2": "<u2", "i4": "<i4",
                         "i8": "<i8"}  # fmt: skip
"""Types of columns that the pages understand."""
_LEVEL = 3


def pack(columns: Mapping[str, NDArray[Any]], text: Mapping[str, list[str]] | None = None) -> dict[str, Any]:
    """Columns of one length as a chunk.

    Parameters
    ----------
    columns
        ``(n,)`` each, of a type in `TYPES`; bool becomes u1.
    text
        Columns of text, ``n`` long.

    Returns
    -------
    dict
        For `write_chunk`.

    Raises
    ------
    ValueError
        For columns of different lengths, or of a type that the pages do not know.
    """
    texts = dict(text or {})
    lengths = {len(a) for a in columns.values()} | {len(t) for t in texts.values()}
    if len(lengths) > 1:
        raise ValueError(f"columns of one chunk have lengths {sorted(lengths)}")
    header, body = [], []
    for name, array in columns.items():
        kind = "u1" if array.dtype == bool else f"{array.dtype.kind}{array.dtype.itemsize}"
        if kind not in TYPES:
            raise ValueError(f"column {name}: type {array.dtype} is not one of {', '.join(TYPES)}")
        header.append([name, kind])
        plain = np.ascontiguousarray(array, dtype=TYPES[kind])
        body.append(plain.view(np.uint8).reshape(plain.size, plain.itemsize).T.tobytes())
    data = gzip.compress(b"".join(body), _LEVEL, mtime=0)
    return {
        "n": next(iter(lengths), 0),
        "columns": header,
        "text": texts,
        "data": base64.b64encode(data).decode("ascii"),
    }


def unpack(chunk: Mapping[str, Any]) -> dict[str, NDArray[Any]]:
    """Columns of a chunk, as the pages read them; the inverse of `pack`, text apart."""
    body = np.frombuffer(gzip.decompress(base64.b64decode(chunk["data"])), dtype=np.uint8)
    columns, start, n = {}, 0, int(chunk["n"])
    for name, kind in chunk["columns"]:
        size = np.dtype(TYPES[kind]).itemsize
        block = body[start : start + n * size].reshape(size, n)
        columns[str(name)] = np.ascontiguousarray(block.T).view(TYPES[kind]).reshape(n)
        start += n * size
    return columns


def write_chunk(path: Path, name: str, value: Mapping[str, Any]) -> int:
    """Write one chunk as a script.

    Parameters
    ----------
    path
        File to write; its folder is made.
    name
        By which pages ask for it.
    value
        JSON; NaN and infinity become null.

    Returns
    -------
    int
        Bytes written.
    """
    # ASCII alone: no line separator, encoding or closing tag of a hostile name reaches a parser of HTML or JavaScript
    text = json.dumps(finite(value), allow_nan=False, separators=(",", ":"), ensure_ascii=True)
    text = text.replace("<", "\\u003c")
    path.parent.mkdir(parents=True, exist_ok=True)
    return path.write_text(f"PG.put({json.dumps(name)},{text})\n", encoding="ascii")


def read_chunk(path: Path) -> tuple[str, Any]:
    """Name and value of a chunk that `write_chunk` wrote."""
    text = path.read_text(encoding="ascii").strip().removeprefix("PG.put(").removesuffix(")")
    name, value = json.loads(f"[{text}]")
    return str(name), value


def finite(value: Any) -> Any:
    """A JSON value without NaN and infinity, and with plain numbers for numpy's.

    Parameters
    ----------
    value
        Dictionaries, lists, text, numbers, numpy scalars and arrays.
    """
    if isinstance(value, Mapping):
        return {str(k): finite(v) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [finite(v) for v in value]
    if isinstance(value, np.ndarray):
        return finite(value.tolist())
    if isinstance(value, np.generic):
        return finite(value.item())
    if isinstance(value, float) and not np.isfinite(value):
        return None
    return value
