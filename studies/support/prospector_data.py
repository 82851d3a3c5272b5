"""Prospector's mock spectra of an Illustris galaxy and its chains (bd-j/exspect), made ready for a fit of ours."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from astropy import units as u
from astropy.cosmology import WMAP9, Planck13, z_at_value

from provabgs import Observation, Spectrum
from provabgs.core.arrays import FloatArray
from provabgs.core.constants import C_AA, SPECTRUM_UNIT
from provabgs.core.errors import DataFileError
from provabgs.core.jax import jnp
from provabgs.inference.backends import load_model
from provabgs.inference.config import ModelOptions
from provabgs.sps.attenuation import ism_optical_depth
from provabgs.sps.histories.bin_priors import shares_of_ratios
from provabgs.sps.histories.bins import BinEdges
from studies.support.illustris import SIGMA_KMS, Z, broadened, composite
from studies.support.pieces import Arrays

AGE_GYR = 13.7
"""Age of the universe in Prospector's fits (its default ``tuniv``)."""
N_BINS = 14
MAGGY = 3.631e-20
"""erg/s/cm2/Hz."""
TRUTH = {"logmass": 10.0, "logzsol": -0.3, "dust2": 0.1, "sigma_smooth": 100.0}
FILES = {"bins": "illustris_gal02_nonpar.npz", "delayed-tau": "illustris_gal02_par.npz"}


def read(name: str, folder: Path) -> Arrays:
    """A mock and Prospector's chain.

    Raises
    ------
    DataFileError
        Where the file is not there.
    """
    path = folder / FILES[name]
    if not path.is_file():
        raise DataFileError(f"{path}: not here; its arrays are those of bd-j/exspect's fitting/output, as .npz")
    with np.load(path, allow_pickle=False) as f:
        return {k: f[k] for k in f.files}


def chain_of(data: Arrays) -> dict[str, FloatArray]:
    """Prospector's draws by name, and their weights."""
    draws = {str(n): data["chain"][:, i].astype(float) for i, n in enumerate(data["theta_labels"])}
    return draws | {"weight": data["weights"] / data["weights"].sum()}


def seen(wave: FloatArray, rest_flux: FloatArray, redshift: float) -> FloatArray:
    """Maggies of ``L_lambda``, Lsun/A at rest, through the dust of the truth and over Prospector's distance."""
    distance = WMAP9.luminosity_distance(redshift).to(u.cm).value
    tau = np.asarray(ism_optical_depth(wave / (1 + redshift), jnp.asarray(TRUTH["dust2"]), jnp.asarray(0.0)))
    flux = rest_flux * np.exp(-tau) * u.L_sun.to(u.erg / u.s) / (4 * np.pi * distance**2 * (1 + redshift))
    return np.asarray(flux * wave**2 / C_AA / MAGGY)


def translated(data: Arrays) -> Arrays:
    """The mock as our library would have it: truth exchanged, noise kept."""
    library = load_model(ModelOptions()).library
    rest = data["wavelength"] / (1 + Z)
    stars = composite(library, data) * 10 ** TRUTH["logmass"] / float(data["tabular_mtot"])
    ratio = seen(data["wavelength"], broadened(library.wave, stars, SIGMA_KMS, rest), Z) / data["true_spectrum"]
    return data | {"spectrum": data["spectrum"] * ratio, "unc": data["unc"] * ratio}


def moved(data: Arrays) -> Observation:
    """The spectrum as it is seen at the redshift where the universe is `AGE_GYR` old."""
    new = float(z_at_value(Planck13.age, AGE_GYR * u.Gyr).value)
    stretch = (1 + new) / (1 + Z)
    wave = data["wavelength"] * stretch
    distance = float(WMAP9.luminosity_distance(Z) / Planck13.luminosity_distance(new))
    # nu L_nu is the same: f_lambda grows by the distance squared and by the wavelength
    cgs = MAGGY * C_AA / data["wavelength"] ** 2 * distance**2 / stretch / SPECTRUM_UNIT
    ivar = np.where(data["mask"], 1 / (data["unc"] * cgs) ** 2, 0.0)
    return Observation(redshift=new, spectra=(Spectrum("mock", wave, data["spectrum"] * cgs, ivar),), targetid=2)


def made_up(name: str) -> Arrays:
    """Arrays of the same names without the files, for ``--smoke``: a mock of S/N 20 and a chain about the truth."""
    rng, time_gyr = np.random.default_rng(1), np.linspace(0.1, AGE_GYR, 100)
    data = {"wavelength": np.linspace(4200, 7000, 400), "tabular_time": time_gyr, "tabular_sfr": np.exp(-time_gyr / 4)}
    data["tabular_mtot"] = np.asarray(np.trapezoid(data["tabular_sfr"], time_gyr) * 1e9)
    data |= {"mask": np.ones(400, dtype=bool), "true_spectrum": np.ones(400), "unc": np.full(400, 0.05)}
    data["spectrum"] = 1 + 0.05 * rng.standard_normal(400)
    labels = ["logzsol", "dust2", "sigma_smooth", *(["logmass"] if name == "bins" else ["mass", "tage", "tau"])]
    labels += [f"logsfr_ratios_{i}" for i in range(1, N_BINS)] if name == "bins" else []
    centre = [TRUTH.get(label, {"mass": 1e10, "tage": 13.0, "tau": 4.0}.get(label, 0.0)) for label in labels]
    chain = np.array(centre) * (1 + 0.01 * rng.standard_normal((100, len(labels))))
    data |= {"chain": chain, "theta_labels": np.array(labels), "weights": np.ones(100)}
    return translated(data | {"sampling_duration_s": np.asarray(np.nan)})


def rates(share: FloatArray, edges: FloatArray) -> FloatArray:
    """log10 of the mass formed per year in each bin, per unit of the mass formed in all."""
    return np.log10(np.maximum(share, 1e-300) / (np.diff(edges) * 1e9))


def shares_of_chain(chain: dict[str, FloatArray], edges: FloatArray) -> FloatArray:
    """Fractions of the mass in Prospector's bins, ``(ndraw, nbin)``, youngest first."""
    ratio = np.stack([chain[f"logsfr_ratios_{i}"] for i in range(1, N_BINS)], axis=1)
    return np.asarray(shares_of_ratios(jnp.asarray(ratio), jnp.asarray(np.diff(edges))))


def theirs(name: str, data: Arrays) -> dict[str, FloatArray]:
    """Prospector's draws of what is compared, and their weights."""
    chain = chain_of(data)
    if name == "bins":
        edges = edges_of()
        share = shares_of_chain(chain, edges)
        return chain | {"share": share, "age": share @ (0.5 * (edges[1:] + edges[:-1]))}
    return chain | {"logmass": np.log10(chain["mass"]), "age": delayed_age(chain["tage"], chain["tau"])}


def edges_of() -> FloatArray:
    """Prospector's age bins, Gyr: 30 and 100 Myr, equal steps in log age, the last from 85 % of the age."""
    return BinEdges(N_BINS).at(AGE_GYR)


def delayed_age(tage: FloatArray, tau: FloatArray) -> FloatArray:
    """Mean lookback time of ``t exp(-t/tau)`` since a time `tage` ago, Gyr."""
    t = np.linspace(0, 1, 2001)[:, None] * tage
    rate = t * np.exp(-t / tau)
    return tage - np.sum(rate * t, axis=0) / np.sum(rate, axis=0)


def true_history(data: Arrays) -> tuple[FloatArray, float]:
    """Fractions of the mass of the Illustris history in the bins, and its mean age, Gyr."""
    time_gyr, sfr = data["tabular_time"], data["tabular_sfr"]
    fine = np.linspace(time_gyr[0], time_gyr[-1], 100_001)
    mass = np.interp(fine, time_gyr, sfr)
    lookback = time_gyr[-1] - fine
    share = np.histogram(lookback, edges_of(), weights=mass)[0]
    return share / share.sum(), float(lookback @ mass / mass.sum())
