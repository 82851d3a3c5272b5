"""Noise and resolution of DESI spectra by specsim and the DESIMODEL data, in place of the small model that ships.

specsim (Kirkby et al. 2016, doi:10.5281/zenodo.154130) knows sky, throughput, detectors and fiber losses of DESI. Its
simulator is run once per set of conditions, for one fiber with a point source; sky, dark current, read noise and
calibration per pixel are kept, from which the noise of any source follows. Spectra themselves are made by the operators
of the fit, as with the model that ships. Needs the extra ``specsim`` and the DESIMODEL data (desimodel's
``install_desimodel_data``), neither of which is needed for anything else.
"""

from __future__ import annotations

import importlib
import importlib.util
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from provabgs.core.arrays import FloatArray
from provabgs.core.errors import DataFileError, InputError, MissingDependencyError
from provabgs.core.messages import first_line
from provabgs.mocks.noise import N_DIAG, NoiseModel

_SECONDS = 1000.0
"""Exposure that is simulated; electrons other than those of read noise are proportional to it."""
_UNIT = 1e-17
"""Flux unit of DESI coadds in erg/s/cm2/A."""


class SpecsimCamera(NamedTuple):
    """One camera: electrons per pixel, all arrays ``(nwave,)``."""

    name: str
    wave: FloatArray
    """Pixel centres, Angstrom."""
    sensitivity: FloatArray
    """Electrons per second and 1e-17 erg/s/cm2/A of a source's flux above the atmosphere."""
    sky: FloatArray
    """Electrons per second of the configured sky."""
    dark: FloatArray
    """Electrons per second of dark current."""
    read_variance: FloatArray
    """Electrons squared per readout."""
    resolution: FloatArray
    """``(11, nwave)`` in DESI's band format."""
    airmass: float

    def sigma(
        self,
        flux: FloatArray,
        seconds: float,
        sky_factor: float = 1.0,
        airmass: float = 1.0,
        read_noise: float = 0.0,  # noqa: ARG002 - specsim knows the detectors' own
        n_exposure: int = 1,
    ) -> FloatArray:
        """Standard deviation of flux per pixel, 1e-17 erg/s/cm2/A; parameters as of `CameraNoise.sigma`.

        `read_noise` is not used: specsim's own numbers are. `airmass` must be that for which specsim was run.

        Raises
        ------
        InputError
            For times, sky factors or exposure counts that cannot be, or another airmass.
        """
        if not (seconds > 0 and sky_factor >= 0 and n_exposure >= 1):
            raise InputError(
                f"noise needs seconds > 0, sky >= 0, exposures >= 1; got {seconds}, {sky_factor}, {n_exposure}"
            )
        if airmass != self.airmass:
            raise InputError(f"specsim was run for airmass {self.airmass:g}, not {airmass:g}; load it again")
        source = self.sensitivity * seconds
        electrons = source * np.clip(flux, 0.0, None) + (self.sky * sky_factor + self.dark) * seconds
        return np.sqrt(electrons + n_exposure * self.read_variance) / source

    def resolution_matrix(self) -> FloatArray:
        """Resolution matrix in DESI's band format, ``(11, nwave)``."""
        return self.resolution


class SpecsimNoise(NamedTuple):
    """The cameras of a specsim configuration."""

    cameras: Mapping[str, SpecsimCamera]
    provenance: dict[str, str]


def load_specsim(
    airmass: float = 1.0, configuration: str = "desi", grids: Mapping[str, FloatArray] | None = None
) -> SpecsimNoise:
    """Run specsim and keep what noise is made of.

    Parameters
    ----------
    airmass
        Of the observation.
    configuration
        Name of a specsim configuration or a YAML file; all but its own ``"test"`` need the DESIMODEL data. The sky is
        the configuration's (``"desi"``: dark, no moon); `Conditions.sky_factor` makes it brighter.
    grids
        ``(nwave,)`` pixel centres per camera, of the configuration's pixel size; by default DESI's for ``"desi"`` and
        else the configuration's own.

    Raises
    ------
    MissingDependencyError
        Without specsim, desimodel, or the environment variable DESIMODEL.
    DataFileError
        When the DESIMODEL data are incomplete, or do not cover the grids.
    """
    _need_data(configuration)
    simulator = _simulate(airmass, configuration)
    if grids is None and configuration == "desi":
        grids = {name: camera.wave for name, camera in NoiseModel.load().cameras.items()}
    cameras = {
        camera.name: _camera(camera, output, airmass, None if grids is None else grids.get(camera.name))
        for camera, output in zip(simulator.instrument.cameras, simulator.camera_output, strict=True)
    }
    origin = {"specsim": str(importlib.import_module("specsim").__version__), "configuration": configuration}
    return SpecsimNoise(cameras, origin | {"DESIMODEL": Path(os.environ.get("DESIMODEL", "")).name})


def _need_data(configuration: str) -> None:
    """Raise MissingDependencyError when packages or data are not there, with the way to get them."""
    for module in ("specsim", "desimodel"):
        if importlib.util.find_spec(module) is None:
            raise MissingDependencyError(f"noise = 'specsim' needs {module}: pip install 'provabgs[specsim]'")
    if configuration != "test" and not os.environ.get("DESIMODEL"):
        raise MissingDependencyError(
            "noise = 'specsim' needs the DESIMODEL data: `install_desimodel_data -d FOLDER`, then set the environment "
            "variable DESIMODEL=FOLDER; or leave noise = 'shipped'"
        )


def _simulate(airmass: float, configuration: str) -> Any:
    """A specsim simulator after one exposure of `_SECONDS`."""
    from astropy import units as u

    config_module = importlib.import_module("specsim.config")
    simulator_module = importlib.import_module("specsim.simulator")
    try:
        config = config_module.load_config(configuration)
        config.atmosphere.airmass = airmass
        simulator = simulator_module.Simulator(config, num_fibers=1)
        simulator.observation.exposure_time = _SECONDS * u.s
        simulator.simulate()
    except (OSError, RuntimeError, ValueError, KeyError) as error:
        reason = first_line(error)
        raise DataFileError(
            f"{os.environ.get('DESIMODEL', configuration)}: specsim cannot use it ({reason}); install it anew "
            "with `install_desimodel_data`"
        ) from None
    return simulator


def _camera(camera: Any, output: Any, airmass: float, grid: FloatArray | None) -> SpecsimCamera:
    """One camera's electrons, on its own pixels or interpolated to `grid` (pixels of the same size)."""
    own = np.asarray(output["wavelength"], dtype=np.float64)
    wave = own if grid is None else grid
    if wave[0] < own[0] or wave[-1] > own[-1]:
        raise DataFileError(
            f"specsim's {camera.name} camera covers {own[0]:.0f}-{own[-1]:.0f} A, not {wave[0]:.0f}-{wave[-1]:.0f} A; "
            "are the DESIMODEL data complete?"
        )

    def column(name: str) -> FloatArray:
        return np.asarray(output[name], dtype=np.float64)[:, 0]

    per_second = {
        "sensitivity": _UNIT / column("flux_calibration") / _SECONDS,
        "sky": column("num_sky_electrons") / _SECONDS,
        "dark": column("num_dark_electrons") / _SECONDS,
        "read_variance": column("read_noise_electrons") ** 2,
    }
    nearest = np.abs(own[None, :] - wave[:, None]).argmin(axis=1) if grid is not None else np.arange(own.size)
    return SpecsimCamera(
        camera.name,
        wave,
        **{name: np.interp(wave, own, values) for name, values in per_second.items()},
        resolution=_bands(camera.get_output_resolution_matrix())[:, nearest],
        airmass=airmass,
    )


def _bands(matrix: Any) -> FloatArray:
    """Central eleven diagonals of a sparse matrix, offsets +5 to -5, each column normalised to 1 as DESI's are."""
    matrix = matrix.todia()
    bands = np.zeros((N_DIAG, matrix.shape[1]))
    for row, offset in zip(matrix.data, matrix.offsets, strict=True):
        if abs(offset) <= N_DIAG // 2:
            bands[N_DIAG // 2 - offset, : row.size] = row
    return bands / bands.sum(axis=0)
