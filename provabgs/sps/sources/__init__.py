"""Sources of SSP libraries behind one interface: the recovered FSPS grid, python-fsps, BC03-MILES, E-MILES."""

from __future__ import annotations

from provabgs.core.errors import InputError
from provabgs.sps.library import SSPLibrary
from provabgs.sps.sources.base import BuildOptions, Progress, Source, silent
from provabgs.sps.sources.bc03 import build_bc03
from provabgs.sps.sources.emiles import build_emiles
from provabgs.sps.sources.fsps_source import build_fsps
from provabgs.sps.sources.precision import round_library
from provabgs.sps.sources.recovered import build_recovered

SOURCES: dict[str, Source] = {
    "recovered": build_recovered,
    "fsps": build_fsps,
    "bc03": build_bc03,
    "emiles": build_emiles,
}
"""Sources by the name that ``provabgs ssp build --source`` takes."""

__all__ = ["SOURCES", "BuildOptions", "Progress", "Source", "build_library", "silent"]


def build_library(
    source: str, options: BuildOptions | None = None, progress: Progress = silent, bits: int | None = 13
) -> SSPLibrary:
    """Build an SSP library.

    Parameters
    ----------
    source
        A key of `SOURCES`.
    options
        What to build; the source's own grid when None.
    progress
        Called as steps complete.
    bits
        Mantissa bits kept of the spectra (13: 6e-5 relative, a third of the size on disk); None keeps float32 as it is.

    Returns
    -------
    SSPLibrary
        With the precision of its spectra in `provenance` where they are rounded.

    Raises
    ------
    InputError, DataFileError, MissingDependencyError
        See `Source`.
    """
    if source not in SOURCES:
        raise InputError(f"no SSP source named {source!r}; choose one of {', '.join(SOURCES)}")
    library = SOURCES[source](options or BuildOptions(), progress)
    return library if bits is None else round_library(library, bits)
