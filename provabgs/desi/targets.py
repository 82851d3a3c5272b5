"""What the DESI reader may be told."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, get_args

from provabgs.core.errors import ConfigError
from provabgs.desi.fiber_fraction import PsfMode
from provabgs.desi.joins import JoinOptions
from provabgs.desi.photometry import DEFAULT_BANDS, LEGACY
from provabgs.desi.target_bits import check_targets


@dataclass(frozen=True)
class ReadOptions:
    """Choices of the reader; the defaults are those of the published catalog where it had them.

    Attributes
    ----------
    z_min, z_max
        Redshifts in ``(z_min, z_max]`` are read: a choice of rows. How far the model reaches is for the fit to say
        (`provabgs.observe.options.ObservingOptions.z_max`).
    allow_zwarn, allow_non_galaxy
        Fit rows with ZWARN set, or with a SPECTYPE other than GALAXY.
    require_photometry
        Refuse rows without any measured band.
    bands
        Bands to take, for example ``("g", "r", "z")`` in any letter case; empty for the spectrum alone.
    cameras
        Cameras to take, None for all; empty for the photometry alone.
    psf_to_fiber
        See `provabgs.desi.fiber_fraction.PsfMode`.
    fiber_sigma_floor
        Fractional width added in quadrature to the prior on the fiber fraction.
    match_radius_arcsec
        Greatest separation at which a photometric catalog's source is taken for the target.
    ebv
        SFD E(B-V) to use in place of the files', None to read it.
    verify
        Verify the checksums (DATASUM, CHECKSUM) of what is read, where the files have them.
    targets
        Read rows that are any of these targets alone (BGS_BRIGHT, LRG ...; `provabgs.desi.target_bits`), all if empty.
    joins
        Tables joined by TARGETID: redshifts, weights, visual inspection, FastSpecFit.
    """

    z_min: float = 0.0
    z_max: float = math.inf
    allow_zwarn: bool = False
    allow_non_galaxy: bool = False
    require_photometry: bool = False
    bands: tuple[str, ...] = DEFAULT_BANDS
    cameras: tuple[str, ...] | None = None
    psf_to_fiber: PsfMode = "spectrum"
    fiber_sigma_floor: float = 0.1
    match_radius_arcsec: float = 1.0
    ebv: float | None = None
    verify: bool = True
    targets: tuple[str, ...] = ()
    joins: JoinOptions = field(default_factory=JoinOptions)

    def __post_init__(self) -> None:
        if not 0 <= self.z_min < self.z_max:
            raise ConfigError(f"z_min {self.z_min} and z_max {self.z_max} must satisfy 0 <= z_min < z_max")
        if self.psf_to_fiber not in get_args(PsfMode):
            raise ConfigError(f"psf_to_fiber {self.psf_to_fiber!r} must be one of {', '.join(get_args(PsfMode))}")
        if not (math.isfinite(self.fiber_sigma_floor) and self.fiber_sigma_floor >= 0):
            raise ConfigError(f"fiber_sigma_floor {self.fiber_sigma_floor} must be finite and >= 0")
        check_targets(self.targets)
        unknown = [b for b in self.bands if b.upper() not in {name.upper() for name in LEGACY.bands}]
        if unknown:
            raise ConfigError(f"bands {', '.join(unknown)} have no filter; choose from {', '.join(LEGACY.bands)}")

    def with_changes(self, changes: Mapping[str, Any]) -> ReadOptions:
        """A copy with some fields replaced; `ConfigError` for a name that is no field."""
        try:
            return replace(self, **changes)
        except TypeError as error:
            raise ConfigError(f"unknown read option among {', '.join(changes)}") from error
