"""Targets by name: bits of DESI's targeting masks, each survey's own.

Bits are those of desitarget's ``data/targetmask.yaml`` (main), ``sv1/data/sv1_targetmask.yaml``, ``sv2`` and ``sv3``
(https://github.com/desihub/desitarget, read in November 2026): masks bgs_mask and the classes of desi_mask. A name may
be another bit, or none, in another survey.
"""

from __future__ import annotations

import difflib
from collections.abc import Collection, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from provabgs.core.errors import ConfigError, DataFileError

_BGS = {"BGS_FAINT": 0, "BGS_BRIGHT": 1, "BGS_WISE": 2, "BGS_FAINT_HIP": 3}
_HALVES = {f"BGS_{kind}_{half}": bit + k for half, bit in (("NORTH", 8), ("SOUTH", 16))
           for k, kind in enumerate(("FAINT", "BRIGHT", "WISE"))}  # fmt: skip
_SV1_KINDS = ("FAINT", "BRIGHT", "FAINT_EXT", "LOWQ", "FIBMAG")
_SV1 = {f"BGS_{kind}": k for k, kind in enumerate(_SV1_KINDS)} | {
    f"BGS_{kind}_{half}": bit + k for half, bit in (("NORTH", 8), ("SOUTH", 16)) for k, kind in enumerate(_SV1_KINDS)
}
_KNOWN = {"BGS_KNOWN_ANY": 40, "BGS_KNOWN_COLLIDED": 41, "BGS_KNOWN_SDSS": 42, "BGS_KNOWN_BOSS": 43}
BGS_BITS: Mapping[str, Mapping[str, int]] = {
    "": _BGS | _HALVES,
    "SV1_": _SV1 | _KNOWN,
    "SV2_": _BGS | _HALVES,
    "SV3_": _BGS | _HALVES,
}
"""Bits of BGS_TARGET, SV1_BGS_TARGET ... by the prefix of the column."""
DESI_BITS: Mapping[str, int] = {"LRG": 0, "ELG": 1, "QSO": 2, "BGS_ANY": 60, "MWS_ANY": 61, "SCND_ANY": 62}
"""Bits of DESI_TARGET, SV1_DESI_TARGET ..., the same in all surveys."""
NAMES = tuple(dict.fromkeys([*DESI_BITS, *(name for bits in BGS_BITS.values() for name in bits)]))


def check_targets(names: Collection[str]) -> None:
    """Raise `ConfigError` for a name that is no target in any survey."""
    for name in names:
        if name.upper() not in NAMES:
            close = difflib.get_close_matches(name.upper(), NAMES, n=1)
            raise ConfigError(
                f"targets: {name!r} is no target{f'; did you mean {close[0]}?' if close else ''} ({', '.join(NAMES)})"
            )


def column_and_bit(name: str, survey: str) -> tuple[str, int]:
    """Column of FIBERMAP and number of the bit that say whether a row is a target.

    Parameters
    ----------
    name
        Such as ``"BGS_BRIGHT"``.
    survey
        ``"main"``, ``"special"``, ``"sv1"``, ``"sv2"`` or ``"sv3"``.

    Raises
    ------
    ConfigError
        For a survey whose bits are not known, and for a name that the survey does not have.
    """
    prefix = f"{survey.upper()}_" if survey.startswith("sv") else ""
    if prefix not in BGS_BITS or (not prefix and survey not in ("main", "special")):
        raise ConfigError(
            f"targets: bits of survey {survey or 'unknown'!r} are not known; choose by a table of TARGETIDs"
        )
    if name.upper() in DESI_BITS:
        return f"{prefix}DESI_TARGET", DESI_BITS[name.upper()]
    bits = BGS_BITS[prefix]
    if name.upper() not in bits:
        raise ConfigError(f"targets: {name} is no bit of {prefix}BGS_TARGET ({', '.join(bits)}); leave out {survey}")
    return f"{prefix}BGS_TARGET", bits[name.upper()]


def is_target(
    names: Collection[str], survey: str, columns: Mapping[str, NDArray[Any]], where: object
) -> NDArray[np.bool_]:
    """Which rows are a target of any of the names.

    Parameters
    ----------
    names
        Names of targets.
    survey
        That the rows are of.
    columns
        ``(nrow,)`` columns of FIBERMAP, by upper-case name.
    where
        The file, for messages.

    Raises
    ------
    DataFileError
        When a column that is needed is not there, and for a survey or name as of `column_and_bit`.
    """
    chosen = np.zeros(len(next(iter(columns.values()), ())), dtype=bool)
    for name in names:
        try:
            column, bit = column_and_bit(name, survey)
        except ConfigError as error:
            raise DataFileError(f"{where}: {error}") from None
        if column not in columns:
            raise DataFileError(f"{where}: FIBERMAP has no column {column}, which says whether a row is {name}")
        chosen |= (columns[column].astype(np.int64) >> bit & 1).astype(bool)
    return chosen
