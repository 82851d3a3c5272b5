"""Rounding of stored spectra: fewer mantissa bits compress better and cost less than any SSP's own error."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import ArrayLike, NDArray

from provabgs.core.errors import InputError
from provabgs.sps.library import SSPLibrary

FLOAT32_MANTISSA_BITS = 23


def round_mantissa(values: ArrayLike, bits: int) -> NDArray[np.float32]:
    """Round float32 numbers to `bits` explicit mantissa bits, to nearest.

    Parameters
    ----------
    values
        Finite numbers, any shape. Zero stays zero and the sign is kept.
    bits
        Mantissa bits kept, 1 to 23. The relative error of a normal number is at most ``2**-(bits + 1)``.

    Returns
    -------
    NDArray[np.float32]
        Same shape as `values`.

    Raises
    ------
    InputError
        When `bits` is outside 1 to 23.
    """
    if not 1 <= bits <= FLOAT32_MANTISSA_BITS:
        raise InputError(f"mantissa bits must lie in 1..{FLOAT32_MANTISSA_BITS}, got {bits}")
    single = np.array(values, dtype=np.float32)
    drop = FLOAT32_MANTISSA_BITS - bits
    if drop == 0:
        return single
    # On the bit pattern, adding half a unit and truncating rounds to nearest; a carry runs into the exponent, which
    # is exactly the next power of two.
    pattern = single.view(np.uint32)
    rounded = (pattern + np.uint32(1 << (drop - 1))) & np.uint32(0xFFFFFFFF ^ ((1 << drop) - 1))
    return rounded.view(np.float32)


def round_library(library: SSPLibrary, bits: int) -> SSPLibrary:
    """Copy of a library with rounded spectra, and the precision written into its provenance.

    Parameters
    ----------
    library
        SSP library.
    bits
        Mantissa bits kept, 1 to 23.

    Returns
    -------
    SSPLibrary
        All else as in `library`.

    Raises
    ------
    InputError
        When `bits` is outside 1 to 23.
    """
    note = f"float32 rounded to {bits} mantissa bits: relative error of a luminosity at most {2.0 ** -(bits + 1):.1e}"
    return replace(
        library,
        spectrum=round_mantissa(library.spectrum, bits),
        provenance={**library.provenance, "precision": note},
    )
