"""What may be chosen about the comparison of model and data; part of every fit's configuration."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator

from provabgs.core.config import BESIDE_FILE

ASSUMED_VDISP_KMS = 150.0
"""Velocity dispersion of galaxies whose own is neither fitted nor known, km/s."""
LineMask = Literal["published", "default", "extended", "auto", "none"]


class ObservingOptions(BaseModel):
    """Options of the observing layer."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    vdisp_kms: Annotated[float, Field(ge=0, le=1000)] | Literal["fit", "auto", "given"] = Field(
        ASSUMED_VDISP_KMS,
        description="stellar velocity dispersion, km/s; 'fit': a parameter of every galaxy with a spectrum; 'auto': of "
        "those whose spectrum has a S/N of vdisp_snr, else 150; 'given': the galaxy's own where the reader knows it "
        "(FastSpecFit's VDISP), else 150",
    )
    vdisp_snr: float = Field(
        5.0,
        ge=0,
        description="median S/N per pixel, at 3600-7400 Angstrom rest frame, from which vdisp_kms = 'auto' fits",
    )
    library_width: Literal["ignored", "subtracted"] = Field(
        "ignored",
        description="'subtracted': the SSP library's own resolution is part of the dispersion; 'ignored': lines are "
        "broadened by all of the dispersion, on top of it",
    )
    gas_vdisp_kms: float | None = Field(
        None, ge=0, le=1000, description="velocity dispersion of emission lines, km/s; the stars' if null"
    )
    resolution: Literal["matrix", "ignored"] = Field(
        "matrix", description="'matrix': pixels are those of the instrument; 'ignored': of a perfect one"
    )
    bands: tuple[str, ...] | None = Field(
        None, description="letters of the bands that are fitted, for example g, r and z; all if null"
    )
    filter_group: str | None = Field(
        None, description="speclite's group whose curves stand for those of all bands, for example decam2014"
    )
    fiber_error: Literal["measured", "released"] = Field(
        "measured",
        description="sigma of the prior of f_fiber: 'measured' from the errors of fluxes; 'released': f_fiber times "
        "the error of the r flux in nanomaggies",
    )
    red_end_aa: float | None = Field(
        None, gt=0, description="longest rest wavelength of pixels, Angstrom (7400 is MILES's end); no limit if null"
    )
    line_scatter: float = Field(
        0.3,
        ge=0,
        le=10,
        description="prior sigma of a line's flux about the model's, fraction; nebular only",
    )
    floor_line: float = Field(
        0.05, ge=0, lt=1, description="noise floor at emission lines, fraction of the line's flux; nebular only"
    )
    cosmology: str = Field("Planck13", description="name of an astropy cosmology")
    z_max: float = Field(0.6, gt=0, le=1.5, description="largest redshift fitted; the published model ends at 0.6")
    line_mask: LineMask = Field("published", description="emission-line mask; see provabgs.observe.masks")
    line_mask_half_width_aa: float = Field(40.0, gt=0, description="half width of a mask, observed Angstrom")
    floor_spectrum: float = Field(0.01, ge=0, lt=1, description="noise floor of spectra, fraction of the flux")
    floor_optical: float | None = Field(
        None, ge=0, lt=1, description="noise floor of bands below 2.5 um, fraction; the survey's own if null"
    )
    floor_infrared: float | None = Field(
        None, ge=0, lt=1, description="noise floor of bands above 2.5 um, fraction; the survey's own if null"
    )
    floor_ultraviolet: float = Field(
        0.3,
        ge=0,
        le=10,
        description="error of the light below the SSP library's first wavelength, 2005 A, fraction of what a band sees "
        "there (docs/studies/ultraviolet.md)",
    )
    calibration_order: int | None = Field(
        None, ge=0, le=8, description="order of the calibration polynomial marginalised over; none if null"
    )
    calibration_sigma: float = Field(0.1, gt=0, description="prior sigma of each calibration coefficient, fraction")
    template_error: float | tuple[float, ...] = Field(
        1.0,
        description="amplitude of the error of the stellar library, prior sigmas; 0 for none; or a list: a fit under "
        "each, averaged by evidence",
    )
    template_error_group: str = Field(
        "all", description="libraries that its components come from: all, without-bc03 or without-emiles"
    )
    template_error_file: Annotated[Path | None, BESIDE_FILE] = Field(
        None, description="file of components for another SSP library; that of the library that ships if null"
    )
    template_error_floor: float = Field(
        2.0,
        ge=0,
        le=10,
        description="white noise for what the components leave, times the rms that they leave: neighbouring pixels, "
        "about eight at 150 km/s, share it, and white noise averages away over them",
    )
    camera_order: int = Field(8, ge=0, le=12, description="order of each camera's calibration polynomial")
    camera_sigma: float = Field(
        0.02, ge=0, le=1, description="prior sigma of each of its coefficients, fraction; 0 for none"
    )
    fiber_colour_sigma: float = Field(
        0.05, ge=0, le=1, description="prior sigma of the tilt of the fiber's spectrum against the bands; 0 for none"
    )
    clip_sigma: float | None = Field(
        None, gt=2, description="isolated pixels this many sigmas off a first model are masked; none if null"
    )
    relative_to: Literal["data", "stars"] = Field(
        "data",
        description="light that relative errors are fractions of: 'data', the smoothed spectrum and the bands, or "
        "'stars', a first fit of a few SSPs behind dust, which holds no noise",
    )
    noise: tuple[str, ...] = Field(
        ("floor", "calibration", "emission-lines"),
        description="terms of the noise model, in order; see provabgs.observe.noise",
    )

    @field_validator("cosmology")
    @classmethod
    def _is_one(cls, name: str) -> str:
        if name != "Planck13":
            from astropy.cosmology import available  # slow to import

            if name not in available:
                raise ValueError(f"astropy has no cosmology of this name; choose one of {', '.join(available)}")
        return name

    @property
    def may_fit_dispersion(self) -> bool:
        """Whether the velocity dispersion is a parameter of fits to some spectra at least."""
        return self.vdisp_kms in ("fit", "auto")

    @field_validator("template_error", mode="after")
    @classmethod
    def _amplitudes(cls, value: float | tuple[float, ...]) -> float | tuple[float, ...]:
        several = value if isinstance(value, tuple) else (value,)
        if not several or not all(0 <= a <= 10 for a in several):
            raise ValueError("amplitudes lie between 0 and 10")
        if len(set(several)) < len(several):
            raise ValueError("amplitudes differ from one another")
        if len(several) > 1 and 0 in several:
            raise ValueError("an amplitude of 0 is another model, without light error; several are above 0")
        return several[0] if len(several) == 1 else value

    @property
    def amplitudes(self) -> tuple[float, ...]:
        """Amplitudes of the template error, one entry per fit."""
        return self.template_error if isinstance(self.template_error, tuple) else (self.template_error,)
