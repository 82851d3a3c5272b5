"""Selection of a survey: magnitude limits and the BGS cuts.

A selection is given as a *margin*, in magnitudes: positive where a galaxy is selected, zero at the limit. Cuts that
must all hold combine by the minimum of their margins, alternatives by the maximum. `provabgs.population.survey.volume`
finds z_min and z_max from the sign changes of the margin, in the same way for every selection.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from provabgs.core.arrays import FloatArray
from provabgs.core.errors import InputError
from provabgs.observe.filters import load_filter
from provabgs.surveys import load_system

LEGACY = load_system("legacy")
BASS_R_OFFSET = 0.04
"""mag; r of BASS against DECam, by which BGS shifts its northern limits (Hahn et al. 2023, AJ 165, 253)."""


class Selection(Protocol):
    """What `provabgs.population.survey.volume` asks of a selection."""

    @property
    def name(self) -> str:
        """For tables and messages."""

    @property
    def bands(self) -> tuple[str, ...]:
        """Filters whose magnitudes `margin` wants."""

    @property
    def needs_fiber(self) -> bool:
        """Whether `margin` wants the fiber offset."""

    def margin(self, magnitude: Mapping[str, FloatArray], fiber_offset: FloatArray | float = 0.0) -> FloatArray:
        """Distance from the limits in magnitudes, > 0 where the galaxy is selected.

        Parameters
        ----------
        magnitude
            AB magnitudes by filter name, all of one shape.
        fiber_offset
            Fiber magnitude minus total magnitude in r; broadcasts.

        Returns
        -------
        FloatArray
            Of the shape of the magnitudes.
        """


@dataclass(frozen=True)
class MagnitudeLimit:
    """``bright <= m < faint`` in one filter.

    Attributes
    ----------
    band
        Filter, by its speclite name (``"decam2014-r"``).
    faint
        AB magnitude.
    bright
        AB magnitude, or None for no bright limit.

    Raises
    ------
    InputError
        For an unknown filter, or limits that are not finite and in order.
    """

    band: str
    faint: float
    bright: float | None = None

    def __post_init__(self) -> None:
        load_filter(self.band)
        if not np.isfinite(self.faint) or (
            self.bright is not None and not (np.isfinite(self.bright) and self.bright < self.faint)
        ):
            raise InputError(
                f"magnitude limits {self.bright} to {self.faint} in {self.band}: give finite limits, the bright one "
                "smaller"
            )

    @property
    def name(self) -> str:
        """For tables and messages."""
        return f"{'' if self.bright is None else f'{self.bright:g} <= '}{self.band} < {self.faint:g}"

    @property
    def bands(self) -> tuple[str, ...]:
        """The one filter."""
        return (self.band,)

    @property
    def needs_fiber(self) -> bool:
        """No."""
        return False

    def margin(self, magnitude: Mapping[str, FloatArray], fiber_offset: FloatArray | float = 0.0) -> FloatArray:  # noqa: ARG002
        """See `Selection.margin`.

        Parameters
        ----------
        magnitude
            AB magnitudes by filter name, all of one shape.
        fiber_offset
            Not used.

        Returns
        -------
        FloatArray
            Magnitudes, of the shape of the magnitudes.
        """
        m = np.asarray(magnitude[self.band], dtype=np.float64)
        return self.faint - m if self.bright is None else np.minimum(self.faint - m, m - self.bright)


@dataclass(frozen=True)
class BGSFaint:
    """BGS Faint: 19.5 <= r < 20.175 and ``r_fiber < 20.75``, or ``r_fiber < 21.5`` where (z-W1) - 1.2 (g-r) + 1.2 > 0.

    Magnitudes are corrected for Galactic dust. At PHOTSYS N the limits are 19.54, 20.22, 20.79 and 21.54 and the colour
    takes r - 0.04 (Hahn et al. 2023, AJ 165, 253, section 3; desitarget's main-survey cuts).
    """

    photsys: str = "S"

    def __post_init__(self) -> None:
        LEGACY.variant(self.photsys)

    @property
    def _offset(self) -> float:
        return BASS_R_OFFSET if self.photsys.upper() == "N" else 0.0

    @property
    def name(self) -> str:
        """For tables and messages."""
        return f"BGS Faint ({self.photsys.upper()})"

    @property
    def bands(self) -> tuple[str, ...]:
        """The filters g, r, z and W1 of the photometric system."""
        return LEGACY.filters(self.photsys, ("g", "r", "z", "W1"))

    @property
    def needs_fiber(self) -> bool:
        """Yes."""
        return True

    def margin(self, magnitude: Mapping[str, FloatArray], fiber_offset: FloatArray | float = 0.0) -> FloatArray:
        """See `Selection.margin`; the fraction of the flux in the fiber is assumed not to change with redshift.

        Parameters
        ----------
        magnitude
            AB magnitudes by filter name, all of one shape.
        fiber_offset
            Fiber magnitude minus total magnitude in r; broadcasts.

        Returns
        -------
        FloatArray
            Magnitudes, of the shape of the magnitudes.
        """
        g, r, z, w1 = (np.asarray(magnitude[b], dtype=np.float64) for b in self.bands)
        d = self._offset
        fiber = r + fiber_offset
        colour = (z - w1) - 1.2 * (g - (r - d)) + 1.2
        fiber_or_colour = np.maximum(20.75 + d - fiber, np.minimum(21.5 + d - fiber, colour))
        total = np.minimum((20.22 if d else 20.175) - r, r - (19.5 + d))
        return np.minimum(total, fiber_or_colour)


def bgs_bright(photsys: str = "S") -> MagnitudeLimit:
    """BGS Bright: 12 <= r < 19.5 (19.54 at PHOTSYS N).

    The cuts that remove stars and artefacts (Gaia, fiber magnitude against magnitude, quality) act on few galaxies and
    are left out, as in the published Vmax (Hahn et al. 2023, AJ 165, 253; arXiv:2306.06318).
    """
    offset = BASS_R_OFFSET if photsys.strip().upper() == "N" else 0.0
    return MagnitudeLimit(LEGACY.filters(photsys, "r")[0], 19.5 + offset, 12.0)


def parse_selection(text: str, photsys: str = "S") -> Selection:
    """A selection from its name or from a magnitude limit.

    Parameters
    ----------
    text
        ``"bgs-bright"``, ``"bgs-faint"``, or a limit ``"FILTER<MAG"`` or ``"MAG<FILTER<MAG"`` (``decam2014-r<19.5``).
    photsys
        ``"N"`` or ``"S"``: photometric system whose filters a BGS selection uses.

    Returns
    -------
    Selection
        Limits in AB magnitudes.

    Raises
    ------
    InputError
        For anything else.
    """
    if text.lower() == "bgs-bright":
        return bgs_bright(photsys)
    if text.lower() == "bgs-faint":
        return BGSFaint(photsys)
    parts = [p.strip() for p in text.replace("=", "").split("<")]
    try:
        if len(parts) == 2:
            return MagnitudeLimit(parts[0], float(parts[1]))
        if len(parts) == 3:
            return MagnitudeLimit(parts[1], float(parts[2]), float(parts[0]))
    except InputError:
        raise
    except ValueError:
        pass
    raise InputError(f"selection {text!r}: give bgs-bright, bgs-faint, or FILTER<MAG such as decam2014-r<19.5")
