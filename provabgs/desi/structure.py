"""What a FITS file is made of: its HDUs, where their data lie, and the cards that say so, checked before use.

A general FITS reader follows a damaged header into allocations without end and some thirty kinds of exceptions. This
walk reads headers alone, believes no size that the file itself does not have room for, and refuses what it cannot
understand with the file, HDU and card at fault.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from provabgs.core.errors import DataFileError

BLOCK, CARD = 2880, 80
MAX_HEADER = 1 << 20
"""Bytes of one header: 13,000 cards; DESI's longest have a few hundred."""
MAX_HDUS = 1000
MAX_AXES = 8
MAX_FIELDS = 999
"""Columns of a table, by the FITS standard."""
MAX_PADDING = 10 * BLOCK
"""Blank bytes that may follow the last HDU."""
_ONCE = re.compile(r"SIMPLE|XTENSION|BITPIX|NAXIS\d*|PCOUNT|GCOUNT|TFIELDS|T(?:TYPE|FORM|DIM|SCAL|ZERO)\d+|EXTNAME")
"""Cards that decide what the data mean; twice in one header they contradict each other."""
_QUOTED = re.compile(r"'((?:[^']|'')*)'")


@dataclass(frozen=True)
class Hdu:
    """One header-data unit.

    Attributes
    ----------
    path, index
        Where it is, for messages.
    cards
        Value of each card as written, without its comment; text keeps its quotes.
    start, data, stop
        Bytes at which header and data begin, and at which the padded data end.
    """

    path: Path
    index: int
    cards: Mapping[str, str]
    start: int
    data: int
    stop: int

    @property
    def name(self) -> str:
        """EXTNAME in upper case; empty without one."""
        return self.text("EXTNAME").upper()

    @property
    def label(self) -> str:
        """The HDU in messages."""
        return f"HDU {self.index}" + (f" ({self.name})" if self.name else "")

    @property
    def is_table(self) -> bool:
        """A binary table, not a compressed image in one."""
        return self.text("XTENSION") == "BINTABLE" and not self.is_compressed

    @property
    def is_compressed(self) -> bool:
        """An image that fpack compressed."""
        return self.cards.get("ZIMAGE") == "T"

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of the image, slowest axis first; of the image in it where it is compressed."""
        key = "ZNAXIS" if self.is_compressed else "NAXIS"
        n = self.integer(key, 0, MAX_AXES)
        return tuple(self.integer(f"{key}{k}", 0, 2**40) for k in range(n, 0, -1))

    def damaged(self, why: str) -> DataFileError:
        """The error that this HDU ends in."""
        return DataFileError(f"{self.path}: {self.label}: {why}; the file is damaged: fetch it again")

    def text(self, key: str, default: str = "") -> str:
        """A card's text without quotes and trailing blanks; `default` without the card, or for what is no text."""
        found = _QUOTED.fullmatch(self.cards.get(key, ""))
        return found[1].replace("''", "'").strip() if found else default

    def integer(self, key: str, low: int, high: int, default: int | None = None) -> int:
        """A card's integer within bounds; `DataFileError` names the card."""
        written = self.cards.get(key)
        if written is None and default is not None:
            return default
        if written is None:
            raise self.damaged(f"card {key} is missing")
        if not re.fullmatch(r"[+-]?\d{1,20}", written) or not low <= int(written) <= high:
            raise self.damaged(f"card {key} = {written:.40} is no integer from {low} to {high}")
        return int(written)

    def number(self, key: str, default: float) -> float:
        """A card's finite number; `DataFileError` names the card."""
        written = self.cards.get(key)
        if written is None:
            return default
        try:
            value = float(written.replace("D", "E").replace("d", "e"))
        except ValueError:
            value = math.nan
        if not math.isfinite(value):
            raise self.damaged(f"card {key} = {written:.40} is no finite number")
        return value


def walk(stream: BinaryIO, path: Path) -> tuple[Hdu, ...]:
    """All HDUs of an open file.

    Parameters
    ----------
    stream
        Can be read at any place; a place beyond its end gives fewer bytes.
    path
        For messages.

    Returns
    -------
    tuple of Hdu
        In file order.

    Raises
    ------
    DataFileError
        When it is no FITS file, ends too early, or a header cannot be understood.
    """
    hdus: list[Hdu] = []
    at = 0
    while True:
        stream.seek(at)
        head = stream.read(BLOCK)
        if hdus and not head.startswith(b"XTENSION"):
            _check_padding(stream, head, at, hdus[-1])
            return tuple(hdus)
        if not hdus and not head.startswith(b"SIMPLE  ="):
            what = "is empty" if not head else "does not begin as FITS files do"
            raise DataFileError(f"{path}: is not a readable FITS file ({what}); fetch it again")
        if len(hdus) == MAX_HDUS:
            raise DataFileError(f"{path}: has more than {MAX_HDUS} HDUs; give a DESI file")
        hdu = _read_hdu(stream, path, len(hdus), at)
        if hdu.stop > hdu.data and not _byte_at(stream, hdu.stop - 1):
            raise DataFileError(
                f"{path}: is truncated: {hdu.label} should end at byte {hdu.stop}, where the file has ended; fetch it "
                "again"
            )
        hdus.append(hdu)
        at = hdu.stop


def _byte_at(stream: BinaryIO, place: int) -> bool:
    stream.seek(place)
    return len(stream.read(1)) == 1


def _check_padding(stream: BinaryIO, head: bytes, at: int, last: Hdu) -> None:
    """Refuse what follows the last HDU and is neither an HDU nor a little padding."""
    stream.seek(at)
    rest = stream.read(MAX_PADDING + 1) if head else b""
    if len(rest) > MAX_PADDING or rest.strip(b"\0 "):
        raise DataFileError(
            f"{last.path}: {last.label} is followed by bytes that are no HDU, from byte {at}: the file is truncated or "
            "damaged; fetch it again"
        )


def _read_hdu(stream: BinaryIO, path: Path, index: int, start: int) -> Hdu:
    """One HDU from its header."""
    stream.seek(start)
    raw = b""
    cards: dict[str, str] = {}
    while True:
        block = stream.read(BLOCK)
        if len(block) < BLOCK or len(raw) >= MAX_HEADER:
            raise DataFileError(
                f"{path}: is truncated or damaged: the header of HDU {index} has no END; fetch it again"
            )
        raw += block
        if _parse(block, cards, path, index):
            break
    header = Hdu(path, index, cards, start, start + len(raw), 0)
    size = -(-_data_size(header) // BLOCK) * BLOCK
    hdu = Hdu(path, index, cards, start, header.data, header.data + size)
    if hdu.text("XTENSION") == "BINTABLE":
        hdu.integer("TFIELDS", 0, MAX_FIELDS)
    return hdu


def _parse(block: bytes, cards: dict[str, str], path: Path, index: int) -> bool:
    """Add a block's cards; whether it holds the END."""
    for place in range(0, BLOCK, CARD):
        raw = block[place : place + CARD]
        key = raw[:8].rstrip()
        if key == b"END":
            return True
        if not raw.isascii() or not raw.decode("ascii", "replace").isprintable():
            raise DataFileError(
                f"{path}: HDU {index}: card {key.decode('ascii', 'replace')!a} holds bytes that are no text; the file "
                "is damaged: fetch it again"
            )
        if raw[8:10] != b"= ":
            continue
        name, value = key.decode(), raw[10:].decode().strip()
        quoted = _QUOTED.match(value)
        value = quoted[0] if quoted else value.partition("/")[0].strip()
        if name in cards and _ONCE.fullmatch(name) and cards[name] != value:
            raise DataFileError(
                f"{path}: HDU {index}: card {name} is there twice, {cards[name]:.30} and {value:.30}; the file is "
                "damaged: fetch it again"
            )
        cards.setdefault(name, value)
    return False


def _data_size(hdu: Hdu) -> int:
    """Bytes of data, without padding."""
    bitpix = hdu.integer("BITPIX", -64, 64)
    if bitpix not in (8, 16, 32, 64, -32, -64):
        raise hdu.damaged(f"card BITPIX = {bitpix} is none of 8, 16, 32, 64, -32, -64")
    axes = [hdu.integer(f"NAXIS{k + 1}", 0, 2**40) for k in range(hdu.integer("NAXIS", 0, MAX_AXES))]
    groups = hdu.integer("GCOUNT", 1, 1, default=1)
    return abs(bitpix) // 8 * groups * (hdu.integer("PCOUNT", 0, 2**40, default=0) + (math.prod(axes) if axes else 0))
