"""Galaxies that the fitted model cannot make exactly, with their truth: for studies of coverage under a wrong model.

Three kinds: stars of BC03, stars of E-MILES, and stars of the library that ships. Histories (delayed tau, quenched,
bursty), metallicities that rise while stars form, dust of Calzetti's shape with another slope, and velocity dispersions
are drawn here and integrated here: none of the package's code of histories, dust or composites is used. Optional
imperfections of the data: calibration ripples by camera, a colour tilt of the fiber, bad pixels without a flag.

    galaxy = of_kind("bc03", "bc03.h5").make(0, seed=1)
    posterior = provabgs.fit(galaxy.observation)

All masses in the truth are for a Chabrier (2003) IMF: those of another library are divided by the ratio of light per
mass formed of the two IMFs, and the surviving mass is what the library that ships says survives.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from provabgs import Observation, Photometry, Spectrum
from provabgs.core.arrays import FloatArray
from provabgs.core.constants import SOLAR_Z_PROVABGS, SPECTRUM_UNIT
from provabgs.core.errors import InputError
from provabgs.mocks.noise import NoiseModel
from provabgs.mocks.photometry import BANDS, photometric_sigma
from provabgs.observe.cosmology import Cosmology
from provabgs.observe.filters import band_weights
from provabgs.observe.projection import camera_operator
from provabgs.sps.imf import imf_light
from provabgs.sps.library import SSPLibrary

HISTORIES = ("delayed", "quenched", "bursty")
LOGZSOL_FINAL = (-0.6, 0.2)
"""log10(Z/Zsun) of the last stars; the first stars have 0.5 dex (a factor 3) less."""
ENRICHMENT_DEX = 0.5
BIRTH_CLOUD_GYR = 0.01
N_TIME = 3000
"""Time steps of a history: equal in log age, 0.1 Myr to the age of the universe."""
CAMERA_SPAN_AA = (3600.0, 9824.0)


class Imperfections(NamedTuple):
    """What is wrong with the data; zeros for none."""

    ripple: float = 0.02
    """rms of the smooth multiplicative error of each camera."""
    tilt: float = 0.05
    """rms, at both ends of the spectrum, of the fiber's colour against the whole galaxy's."""
    bad_pixels: float = 0.002
    """Fraction of pixels that are 5-20 sigma off, four fifths of them up."""


NONE = Imperfections(0.0, 0.0, 0.0)
KINDS = {"bc03": NONE, "emiles": NONE, "own": Imperfections()}
"""Stars, and what else is wrong by default. Components to fit with: without-bc03, without-emiles, all."""


class Galaxy(NamedTuple):
    """One galaxy as observed, and what it is."""

    observation: Observation
    truth: dict[str, float]
    """Names of `provabgs` where it has them: logmstar, logmstar_surviving, log_sfr_100myr, log_sfr_1gyr, log_z_mw,
    t_age_mw; and redshift, vdisp_kms, sn, f_fiber, and what describes the dust."""
    history: str
    """One of the maker's `kinds`."""


class History(NamedTuple):
    """Masses formed, as fractions of their sum, and metallicities, by age."""

    age: FloatArray
    """``(n,)`` Gyr, increasing."""
    mass: FloatArray
    """``(n,)`` sums to 1."""
    logzsol: FloatArray
    """``(n,)``."""


def draw_history(kind: str, t_age: float, rng: np.random.Generator) -> History:
    """A history of one of `HISTORIES` for a universe `t_age` Gyr old.

    Delayed: SFR ~ t exp(-t / tau), t from the first stars, which are 0.4 to 1 of `t_age` old; tau 1-10 Gyr.
    Quenched: from 0.3-5 Gyr ago on, the SFR falls, with an e-folding time of 0.05-0.5 Gyr, to 0.1-3 % of what it were.
    Bursty: one to three Gaussian bursts, 20 Myr-3 Gyr ago, 0.3-30 % of the mass each, add to a delayed history.
    """
    edge = np.geomspace(1e-4, t_age, N_TIME + 1)
    edge[0] = 0.0
    age, width = 0.5 * (edge[1:] + edge[:-1]), np.diff(edge)
    first, tau = t_age * rng.uniform(0.4, 1.0), 10 ** rng.uniform(0.0, 1.0)
    since = np.maximum(first - age, 0.0)
    rate = since * np.exp(-since / tau)
    if kind == "quenched":
        quenched, fall = min(rng.uniform(0.3, 5.0), 0.7 * first), 10 ** rng.uniform(-1.3, -0.3)
        rate *= np.maximum(np.exp(-np.maximum(quenched - age, 0.0) / fall), 10 ** rng.uniform(-3.0, -1.5))
    mass = rate * width / np.sum(rate * width)
    if kind == "bursty":
        for _ in range(int(rng.integers(1, 4))):
            centre, spread = 10 ** rng.uniform(-1.7, 0.5), 10 ** rng.uniform(-1.5, -0.5)
            burst = np.exp(-0.5 * ((age - min(centre, 0.9 * first)) / min(spread, centre)) ** 2) * width
            mass = mass + 10 ** rng.uniform(-2.5, -0.5) * burst / burst.sum()
    return with_metals(age, mass / mass.sum(), rng)


def with_metals(age: FloatArray, mass: FloatArray, rng: np.random.Generator) -> History:
    """A history whose metallicity rises with the mass formed, up to a random final value.

    Parameters
    ----------
    age
        ``(n,)`` Gyr, increasing.
    mass
        ``(n,)`` formed; sums to 1.
    rng
        Random generator.
    """
    formed = np.cumsum(mass[::-1])[::-1]  # fraction of the mass formed by the time that stars of this age form
    logzsol = rng.uniform(*LOGZSOL_FINAL) + np.log10(10**-ENRICHMENT_DEX + (1 - 10**-ENRICHMENT_DEX) * formed)
    return History(age, mass, logzsol)


def calzetti(wave: FloatArray) -> FloatArray:
    """Calzetti et al. (2000, equation 4) k(lambda) over that at 5500 A, ``(n,)``; 0 where it would be negative."""
    x = wave / 1e4
    blue = 2.659 * (-2.156 + 1.509 / x - 0.198 / x**2 + 0.011 / x**3) + 4.05
    red = 2.659 * (-1.857 + 1.040 / x) + 4.05
    return np.maximum(np.where(x < 0.63, blue, red), 0.0) / 4.05


def to_six_micron(library: SSPLibrary) -> SSPLibrary:
    """The library with its red end continued as lambda^-4 where it stops short of 60000 A, for W2 of near galaxies."""
    end = library.wave[-1]
    if end >= 59_000.0:
        return library
    more = np.linspace(end, 60_000.0, 200)[1:]
    last = library.spectrum[:, :, library.wave > end - 500.0].mean(axis=-1)
    tail = last[:, :, None] * ((end - 250.0) / more) ** 4
    return replace(
        library,
        wave=np.concatenate([library.wave, more]),
        spectrum=np.concatenate([library.spectrum, tail.astype(np.float32)], axis=-1),
    )


class HonestGalaxies:
    """Makes galaxies of the stars of one library.

    Parameters
    ----------
    library
        Stars.
    imperfections
        Of the data.
    cosmology
        Name of an astropy cosmology.
    """

    kinds: tuple[str, ...] = HISTORIES

    @property
    def prior_bounds(self) -> dict[str, tuple[float, float]]:
        """Edges of the fit's prior: galaxies of r = 16.5 at redshift 0.35 are more massive than the default allows."""
        return {"logmstar": (7.0, 14.0)}

    def __init__(self, library: SSPLibrary, imperfections: Imperfections = NONE, cosmology: str = "Planck13") -> None:
        library = to_six_micron(library)
        self.library, self.imperfections, self.cosmology = library, imperfections, Cosmology(cosmology)
        self.noise = NoiseModel.load()
        self.survivors = SSPLibrary.default()
        self.mass_ratio = float(np.exp(imf_light(library.imf) - imf_light("Chabrier")))
        self._calzetti = calzetti(library.wave)

    def make(self, index: int, seed: int = 0, history: str | None = None) -> Galaxy:
        """Galaxy number `index` of a seed; the same whatever others were made before.

        Parameters
        ----------
        index
            Number, >= 0.
        seed
            Of the sample.
        history
            One of `kinds`; in turn by `index` when None.
        """
        rng = np.random.default_rng([seed, index])
        kind = self.kinds[index % len(self.kinds)] if history is None else history
        z = float(rng.uniform(0.03, 0.35))
        luminosity, of_mass = self.draw(kind, self.cosmology.age_gyr(z), rng)
        r_mag, vdisp, f_fiber = (
            rng.uniform(16.5, 19.5),
            10 ** rng.uniform(np.log10(50), np.log10(250)),
            rng.uniform(0.15, 0.6),
        )
        wave, flux = self._observed(luminosity, z)
        mass = 10 ** (-0.4 * (r_mag - 22.5)) / float(band_weights(BANDS[1], wave) @ flux)
        spectra, sn = self._spectra(wave, mass * flux * f_fiber, float(vdisp), rng)
        photometry = self._photometry(wave, mass * flux, rng)
        guess = f_fiber * np.exp(rng.normal(0.0, 0.05))
        truth = of_mass(float(np.log10(mass)))
        truth |= {"redshift": z, "vdisp_kms": float(vdisp), "sn": sn, "f_fiber": float(f_fiber)}
        observation = Observation(
            redshift=z,
            spectra=spectra,
            photometry=photometry,
            fiber_fraction=(float(guess), float(0.05 * guess)),
            targetid=1_000_000 * seed + index,
            meta={"HISTORY": kind, "SEED": seed, "PHOTSYS": "S"},
        )
        return Galaxy(observation, truth, kind)

    def draw(
        self, kind: str, t_age: float, rng: np.random.Generator
    ) -> tuple[FloatArray, Callable[[float], dict[str, float]]]:
        """Stars and dust of one galaxy.

        Parameters
        ----------
        kind
            One of `HISTORIES`.
        t_age
            Age of the universe at the galaxy, Gyr.
        rng
            Random generator.

        Returns
        -------
        luminosity
            ``(nwave,)`` erg/s/Angstrom per Msun formed.
        truth
            From log10 of the mass formed to the properties.
        """
        stars = self.history(kind, t_age, rng)
        tau = abs(rng.normal(0.0, 0.15 if kind == "quenched" else 0.5))
        dust = (float(tau), float(rng.uniform(-0.6, 0.3)), float(rng.uniform(0.0, 1.0)))
        screen = {"tau_v": dust[0], "dust_slope": dust[1]}
        return self.spectrum(stars, *dust), lambda log_mass: self.truth(stars, log_mass) | screen

    def history(self, kind: str, t_age: float, rng: np.random.Generator) -> History:
        """Stars of one galaxy; see `draw_history`."""
        return draw_history(kind, t_age, rng)

    def spectrum(self, stars: History, tau_v: float, slope: float, birth_cloud: float) -> FloatArray:
        """Attenuated luminosity density per Msun formed, ``(nwave,)`` erg/s/Angstrom.

        Parameters
        ----------
        stars
            History.
        tau_v
            Optical depth at 5500 A of the screen before all stars.
        slope
            Of the power law by which Calzetti's curve is multiplied.
        birth_cloud
            Further optical depth before stars younger than 10 Myr, over `tau_v`; falls as 1 / lambda.
        """
        lib = self.library
        young = stars.age <= BIRTH_CLOUD_GYR
        x = lib.wave / 5500.0
        screen = np.exp(-tau_v * self._calzetti * x**slope)
        flat = lib.spectrum.reshape(-1, lib.wave.size)
        light = self._weights(stars, ~young, lib) @ flat
        light += np.exp(-birth_cloud * tau_v / x) * (self._weights(stars, young, lib) @ flat)
        return np.asarray(screen * light * lib.lsun_cgs)

    @staticmethod
    def _weights(stars: History, which: NDArray[np.bool_], lib: SSPLibrary) -> FloatArray:
        """Mass on each (metallicity, age) of a library, flat; bilinear in log Z and log age."""
        mass = stars.mass[which]
        position = []
        for value, nodes in ((stars.logzsol, lib.logzsol), (np.log10(stars.age) + 9, lib.log_age)):
            value = np.clip(value[which], nodes[0], nodes[-1])
            i = np.clip(np.searchsorted(nodes, value, side="right") - 1, 0, nodes.size - 2)
            position.append((i, (value - nodes[i]) / (nodes[i + 1] - nodes[i])))
        (i, a), (j, b) = position
        out = np.zeros((lib.logzsol.size, lib.log_age.size))
        for di, wi in ((0, 1 - a), (1, a)):
            for dj, wj in ((0, 1 - b), (1, b)):
                np.add.at(out, (i + di, j + dj), mass * wi * wj)
        return out.ravel()

    def truth(self, stars: History, log_mass: float) -> dict[str, float]:
        """Properties as `provabgs` defines them, for ``10**log_mass`` Msun formed under the library's own IMF."""
        log_mass = float(log_mass + np.log10(self.mass_ratio))
        surviving = (
            self._weights(stars, np.ones(stars.age.size, bool), self.survivors) @ self.survivors.surviving_mass.ravel()
        )
        out = {"logmstar": log_mass, "logmstar_surviving": log_mass + float(np.log10(surviving))}
        for name, span in (("log_sfr_100myr", 0.1), ("log_sfr_1gyr", 1.0)):
            recent = float(stars.mass[stars.age <= span].sum())
            out[name] = log_mass + float(np.log10(max(recent, 1e-30))) - np.log10(span * 1e9)
        out["log_z_mw"] = float(np.log10(SOLAR_Z_PROVABGS * np.sum(stars.mass * 10**stars.logzsol)))
        out["t_age_mw"] = float(np.sum(stars.mass * stars.age))
        return out

    def _observed(self, luminosity: FloatArray, z: float) -> tuple[FloatArray, FloatArray]:
        """Observed wavelength, Angstrom, and flux density, 1e-17 erg/s/cm2/A."""
        area = 4 * np.pi * self.cosmology.luminosity_distance_cm(z) ** 2
        return self.library.wave * (1 + z), luminosity / area / (1 + z) / SPECTRUM_UNIT

    def _spectra(
        self, wave: FloatArray, flux: FloatArray, vdisp: float, rng: np.random.Generator
    ) -> tuple[tuple[Spectrum, ...], float]:
        """Three cameras, and the median S/N per pixel of r, which is drawn (log-uniform, 3-30)."""
        clean = {}
        for name, camera in self.noise.cameras.items():
            resolution = camera.resolution_matrix()
            n = camera.wave.size
            frame = Spectrum(name, camera.wave, np.zeros(n), np.ones(n), resolution)
            true = camera_operator(frame, wave, vdisp) @ flux
            clean[name] = (camera.wave, true, camera.sigma(true, 1000.0), resolution)
        sn = 10 ** rng.uniform(np.log10(3.0), np.log10(30.0))
        scale = float(np.median(clean["r"][1] / clean["r"][2])) / sn
        wrong, out = self.imperfections, []
        tilt = rng.normal(0.0, 1.0) * wrong.tilt
        for name, (pixel, true, sigma, resolution) in clean.items():
            error = sigma * scale
            x = (pixel - pixel[0]) / np.ptp(pixel)
            waves = np.array([np.cos(np.pi * k * x + rng.uniform(0, 2 * np.pi)) for k in range(1, 6)])
            factor = 1 + wrong.ripple * np.sqrt(2 / 5) * rng.normal(0, 1, 5) @ waves
            ends = np.log(np.array(CAMERA_SPAN_AA))
            factor = factor * (1 + tilt * (2 * (np.log(pixel) - ends[0]) / np.ptp(ends) - 1))
            flux_pixel = true * factor + error * rng.standard_normal(pixel.size)
            bad = rng.random(pixel.size) < wrong.bad_pixels
            sign = np.where(rng.random(pixel.size) < 0.8, 1.0, -1.0)
            flux_pixel = flux_pixel + bad * sign * rng.uniform(5.0, 20.0, pixel.size) * error
            out.append(Spectrum(name, pixel, flux_pixel, 1 / error**2, resolution))
        return tuple(out), float(sn)

    @staticmethod
    def _photometry(wave: FloatArray, flux: FloatArray, rng: np.random.Generator) -> Photometry:
        """Legacy Surveys grz and W1, W2 of a galaxy of 0.5-3 arcsec half-light radius."""
        true = np.array([band_weights(band, wave) @ flux for band in BANDS])
        sigma = photometric_sigma(10 ** rng.uniform(-0.3, 0.5))
        return Photometry(BANDS, true + sigma * rng.standard_normal(true.size), 1 / sigma**2)


def of_kind(
    kind: str,
    library: str | Path | None = None,
    imperfections: Imperfections | None = None,
    maker: type[HonestGalaxies] = HonestGalaxies,
) -> HonestGalaxies:
    """Maker of galaxies of one of `KINDS`.

    Parameters
    ----------
    kind
        Key of `KINDS`.
    library
        Library file made by ``provabgs ssp build --source bc03`` or ``emiles``; not needed for "own".
    imperfections
        In place of the kind's own.
    maker
        Draws the histories and the dust.

    Raises
    ------
    InputError
        For an unknown kind, or one of another library without its file.
    """
    if kind not in KINDS:
        raise InputError(f"no kind of galaxy named {kind!r}; choose one of {', '.join(KINDS)}")
    if kind != "own" and library is None:
        raise InputError(
            f"galaxies of kind {kind!r} need the library: `provabgs ssp build --source {kind} -o {kind}.h5`"
        )
    stars = SSPLibrary.default() if library is None else SSPLibrary.load(library)
    return maker(stars, KINDS[kind] if imperfections is None else imperfections)
