"""What every SSP source is given and gives back."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from provabgs.core.errors import InputError
from provabgs.sps.library import SSPLibrary

Progress = Callable[[int, int, str], None]
"""Called with (steps done, steps in all, what is done)."""
PROGRESS_MARK, REFUSAL_MARK = "provabgs-progress", "provabgs-refusal"
"""First words of the lines by which a worker process reports a step, or turns a request down."""


def silent(done: int, total: int, what: str) -> None:
    """Progress that nobody watches.

    Parameters
    ----------
    done
        Steps done.
    total
        Steps in all.
    what
        What is done, in words.
    """


@dataclass(frozen=True)
class BuildOptions:
    """What a user may ask of a source; a source refuses, by name, what it cannot honour.

    Attributes
    ----------
    input
        File or folder to read (``recovered``, ``bc03``, ``emiles``); not used by ``fsps``, which reads ``$SPS_HOME``.
    wave_range
        Rest-frame vacuum wavelengths kept, Angstrom, both ends included. None keeps the source's own range.
    logzsol
        Metallicities wanted, log10(Z/Zsun of the isochrones), increasing. None: the source's own grid.
    nebular
        Add nebular continuum and lines (``fsps`` only).
    timeout
        Longest wait for FSPS, s (``fsps`` only).
    young
        Library (.h5) that fills ages below 63 Myr (``emiles`` only); the shipped one when None.
    """

    input: Path | None = None
    wave_range: tuple[float, float] | None = None
    logzsol: tuple[float, ...] | None = None
    nebular: bool = False
    timeout: float = 3600.0
    young: Path | None = None

    def refuse(self, source: str, names: Iterable[str]) -> None:
        """Refuse options that a source has no use for.

        Parameters
        ----------
        source
            Name of the source.
        names
            Names of the options that must be unset.

        Raises
        ------
        InputError
            When one of the options was set.
        """
        for name in names:
            if getattr(self, name) != getattr(BuildOptions, name):
                raise InputError(f"source {source!r} cannot use option {name!r}; leave it out")

    def select_wave(self, wave: NDArray[np.float64]) -> slice:
        """Slice of the increasing axis `wave` that lies within `wave_range`.

        Raises
        ------
        InputError
            When fewer than two wavelengths remain.
        """
        if self.wave_range is None:
            return slice(None)
        low, high = self.wave_range
        start, stop = np.searchsorted(wave, low, side="left"), np.searchsorted(wave, high, side="right")
        if stop - start < 2:
            raise InputError(
                f"wavelength range {low:g}-{high:g} A holds fewer than two wavelengths of the source "
                f"({wave[0]:g}-{wave[-1]:g} A); widen --wave-min/--wave-max"
            )
        return slice(int(start), int(stop))


class Source(Protocol):
    """A way to come by an SSP library."""

    def __call__(self, options: BuildOptions, progress: Progress = silent) -> SSPLibrary:
        """Build the library.

        Parameters
        ----------
        options
            What to build.
        progress
            Called as steps complete.

        Returns
        -------
        SSPLibrary
            Before any rounding of its spectra.

        Raises
        ------
        MissingDependencyError, DataFileError, InputError
            When the program that computes SSPs is absent, its data are, or an option is of no use to this source.
        """
        ...
