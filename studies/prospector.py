"""Our posterior beside Prospector's for the same data: the figure and table of docs/studies/prospector.md.

    python -m studies.prospector --workers 2 --figures docs/figures

The data are two mock spectra of an Illustris galaxy (S/N 100 a pixel, 3800-7100 A at rest, no gas) that Prospector's
authors made with FSPS and fitted with Prospector and dynesty (Johnson et al. 2021, arXiv:2012.01426; repository
bd-j/exspect): fourteen age bins with a Student-t prior on the ratios of neighbouring rates, and a delayed exponential.
Here the same bins, priors and dust are fitted. Prospector let stars be 13.7 Gyr old at redshift 0.1; so the spectrum is
moved to the redshift at which the universe has that age. Three fits of each: data translated into the light of the
library that ships, which tests model and sampler; data as they are, with no error of the library; and with the
preset ``honest``. Masses of the latter two are of Chabrier's IMF, Prospector's of Kroupa's.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
from astropy import units as u
from astropy.cosmology import WMAP9, Planck13, z_at_value

from provabgs import Observation, Spectrum
from provabgs.core.arrays import FloatArray
from provabgs.core.constants import C_AA, SOLAR_Z_PROVABGS, SPECTRUM_UNIT
from provabgs.core.errors import DataFileError
from provabgs.core.jax import jnp
from provabgs.core.weights import weighted_quantiles
from provabgs.inference.backends import load_model
from provabgs.inference.config import FitConfig, MeasureOptions, ModelOptions, SamplerOptions
from provabgs.inference.fit import fit_one
from provabgs.observe.cosmology import Cosmology
from provabgs.observe.options import ObservingOptions
from provabgs.sps.attenuation import ism_optical_depth
from provabgs.sps.histories.bins import BinHistories
from studies.support.command import REFERENCE, run_study, study_parser
from studies.support.illustris import SIGMA_KMS, Z, broadened, composite
from studies.support.pieces import Arrays, in_order, kept_arrays

SEED = 1
Z_SOLAR = SOLAR_Z_PROVABGS
"""The Z of ours that is the solar metallicity of the isochrones (docs/guide/model.md), 0.0190."""
AGE_GYR = 13.7
"""Age of the universe in Prospector's fits (its default ``tuniv``)."""
N_BINS = 14
MAGGY = 3.631e-20
"""erg/s/cm2/Hz."""
LOGZ_RANGE = (-2.0, 0.2)
TAU_RANGE = (0.1, 30.0)
TRUTH = {"logmass": 10.0, "logzsol": -0.3, "dust2": 0.1, "sigma_smooth": 100.0}
FILES = {"bins": "illustris_gal02_nonpar.npz", "delayed-tau": "illustris_gal02_par.npz"}
VARIANTS = ("translated", "fsps", "honest")
"""``translated``: data times the ratio of the truth under our library and under FSPS (their noise, our stars), errors
those of the pixels; ``fsps``: data as they are, errors those of the pixels; ``honest``: data as they are, preset."""


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


def config_of(name: str, variant: str, time_limit: float) -> FitConfig:
    """Prospector's model and priors."""
    options: dict[str, Any] = {"metallicity": "constant"}
    if name == "bins":
        options |= {"n_bins": N_BINS, "prior": "continuity"}
    noise: dict[str, Any] = {} if variant == "honest" else {"noise": ()}
    return FitConfig(
        preset="honest" if variant == "honest" else "published",
        model=ModelOptions(history=name, history_options=options),
        observing=ObservingOptions(vdisp_kms="fit", line_mask="none", **noise),
        prior_bounds={
            "metallicity": (Z_SOLAR * 10 ** LOGZ_RANGE[0], Z_SOLAR * 10 ** LOGZ_RANGE[1]),
            "tau_bc": (0.0, 1e-4),
            "n_dust": (-1e-3, 1e-3),
        },
        sampler=SamplerOptions(time_limit_s=time_limit, aim_eval=0),
        measure=MeasureOptions(groups=()),
    )


def rates(share: FloatArray, edges: FloatArray) -> FloatArray:
    """log10 of the mass formed per year in each bin, per unit of the mass formed in all."""
    return np.log10(np.maximum(share, 1e-300) / (np.diff(edges) * 1e9))


def shares_of_chain(chain: dict[str, FloatArray], edges: FloatArray) -> FloatArray:
    """Fractions of the mass in Prospector's bins, ``(ndraw, nbin)``, youngest first."""
    ratio = np.stack([chain[f"logsfr_ratios_{i}"] for i in range(1, N_BINS)], axis=1)
    log_rate = np.concatenate([np.zeros((len(ratio), 1)), -np.cumsum(ratio, axis=1)], axis=1)
    mass = 10.0**log_rate * np.diff(edges)
    return mass / mass.sum(axis=1, keepdims=True)


def ours(name: str, variant: str, folder: Path, time_limit: float) -> Arrays:
    """Fit, and keep draws of what is compared."""
    data, config = read(name, folder), config_of(name, variant, time_limit)
    observation = moved(translated(data) if variant == "translated" else data)
    start = time.process_time()
    posterior = fit_one(observation, config, seed=SEED)
    cpu = time.process_time() - start
    out: dict[str, Any] = {"status": posterior.status.name, "message": posterior.message, "cpu": cpu}
    out |= {"n_eval": posterior.diagnostics.n_eval, "chi2": posterior.chi2_spec, "pixels": posterior.dof_spec}
    out |= {"logmass": posterior["logmstar"], "dust2": posterior["tau_ism"], "sigma_smooth": posterior["vdisp"]}
    out |= {"logzsol": np.log10(posterior["metallicity"] / Z_SOLAR), "age": posterior["t_age_mw"]}
    if name == "bins":
        histories = load_model(config.model).histories
        assert isinstance(histories, BinHistories)
        t_age = Cosmology("Planck13").age_gyr(observation.redshift)
        values = {p.name: jnp.asarray(posterior[p.name]) for p in histories.bins.parameters}
        share = histories.bins.shares(values, load_model(config.model).tables(t_age))
        out |= {"share": np.asarray(share), "edges": histories.bins.edges.at(t_age)}
    else:
        out |= {"tau": posterior["tau"], "tage": posterior["first_stars"] * AGE_GYR}
    return {k: np.asarray(v) for k, v in out.items()}


def kept(folder: Path, name: str, variant: str, reference: Path, time_limit: float) -> Arrays:
    """`ours`, from its file where it is there."""
    return kept_arrays(folder / name / f"{variant}.npz", lambda: ours(name, variant, reference, time_limit))


QUANTITIES = {
    "logmass": "log mass formed, relative",
    "logzsol": "log Z/Zsun",
    "dust2": "optical depth",
    "sigma_smooth": "dispersion, km/s",
    "age": "mass-weighted age, Gyr",
}


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
    middle = np.geomspace(0.1, 0.85 * AGE_GYR, N_BINS - 2)
    return np.concatenate([[0.0, 0.03], middle, [AGE_GYR]])


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


def line_of(label: str, draws: dict[str, FloatArray], weight: FloatArray | None, against: dict[str, Any]) -> str:
    """Median and error of each quantity, with its distance from Prospector's median in Prospector's errors."""
    cells = []
    for name in QUANTITIES:
        w = np.ones(draws[name].size) if weight is None else weight
        low, median, high = weighted_quantiles(draws[name][None], w[None], (0.16, 0.5, 0.84))[0]
        cells.append(f"{median:.3f} +- {0.5 * (high - low):.3f}")
        if name in against:
            cells[-1] += f" ({(median - against[name][0]) / against[name][1]:+.1f})"
    return f"| {label} | {' | '.join(cells)} |"


def rows_of(name: str, data: Arrays, fits: dict[str, Arrays]) -> list[str]:
    """The table of one mock."""
    other, age = theirs(name, data), true_history(data)[1]
    against = {}
    for q in QUANTITIES:
        low, median, high = weighted_quantiles(other[q][None], other["weight"][None], (0.16, 0.5, 0.84))[0]
        against[q] = (median, 0.5 * (high - low))
    truth = TRUTH | {"age": age}
    lines = [f"| {name} | " + " | ".join(QUANTITIES.values()) + " |", "|---|" + "---|" * len(QUANTITIES)]
    lines.append("| truth | " + " | ".join(f"{truth[q]:.3f}" for q in QUANTITIES) + " |")
    lines.append(line_of("Prospector", other, other["weight"], {}))
    lines += [line_of(variant, fit, None, against) for variant, fit in fits.items()]
    for variant, fit in fits.items():
        n_eval, cpu, theirs_s = int(fit["n_eval"]), float(fit["cpu"]), float(data["sampling_duration_s"])
        lines.append(
            f"{variant}: {fit['status']} {fit['message']}, {n_eval:,} evaluations, {cpu:.0f} s of processor time "
            f"(Prospector {theirs_s:,.0f} s), chi2 {float(fit['chi2']):.0f} of {fit['pixels']} pixels"
        )
    if name == "bins":
        lines += bin_lines(other, fits)
    return lines


def bin_lines(other: dict[str, FloatArray], fits: dict[str, Arrays]) -> list[str]:
    """Largest and median distance of the rates in the bins, in Prospector's errors."""
    edges, q = edges_of(), (0.16, 0.5, 0.84)
    weight = np.broadcast_to(other["weight"], (N_BINS, other["weight"].size))
    low, median, high = weighted_quantiles(rates(other["share"], edges).T, weight, q).T
    out = []
    for variant, fit in fits.items():
        ours = np.quantile(rates(fit["share"], fit["edges"]), q, axis=0)
        shift, width = np.abs(ours[1] - median) / (0.5 * (high - low)), (ours[2] - ours[0]) / (high - low)
        out.append(
            f"{variant}: rates in the bins differ by {np.median(shift):.2f} of Prospector's errors in the median, by "
            f"{shift.max():.2f} at most; errors are {np.median(width):.2f} of Prospector's"
        )
    return out


COLOURS = {"translated": "#0072B2", "fsps": "#D55E00", "honest": "#009E73"}
"""Of Okabe and Ito."""


def figure(data: Arrays, fits: dict[str, Arrays], path: Path) -> None:
    """Rates in the bins, ours beside Prospector's and the truth."""
    edges, other = edges_of(), theirs("bins", data)
    edge = np.maximum(edges, 1e-2)
    fig, axis = plt.subplots(figsize=(7, 4.2), layout="constrained")
    weight = np.broadcast_to(other["weight"], (N_BINS, other["weight"].size))
    low, median, high = weighted_quantiles(rates(other["share"], edges).T, weight, (0.16, 0.5, 0.84)).T
    axis.fill_between(edge, np.append(low, low[-1]), np.append(high, high[-1]), step="post", color="0.8")
    axis.step(edge, np.append(median, median[-1]), where="post", color="0.4", label="Prospector, 68 %")
    axis.step(
        edge, np.append(*2 * [rates(true_history(data)[0], edges)])[: N_BINS + 1], where="post", color="k", ls=":"
    )
    centre = np.sqrt(edge[1:] * edge[:-1])
    for i, (variant, fit) in enumerate(fits.items()):
        low, median, high = np.quantile(rates(fit["share"], fit["edges"]), (0.16, 0.5, 0.84), axis=0)
        x = centre * 10 ** (0.04 * (i - 1))
        axis.errorbar(x, median, [median - low, high - median], fmt="o", ms=4, color=COLOURS[variant], label=variant)
    axis.set(xscale="log", xlabel="lookback time (Gyr)", ylabel=r"log$_{10}$ SFR / mass formed (1/yr)")
    axis.legend(fontsize=8)
    fig.savefig(path / "prospector.png", dpi=150)
    plt.close(fig)


def work(options: argparse.Namespace) -> None:
    """Fit, and print the tables."""
    variants = options.variants.split(",")
    if unknown := [v for v in variants if v not in VARIANTS]:
        raise SystemExit(f"no variant {unknown[0]!r}; choose from {', '.join(VARIANTS)}")
    jobs = [(options.output, name, v, options.data, options.time_limit) for name in FILES for v in variants]
    fits: dict[str, dict[str, Arrays]] = {name: {} for name in FILES}
    for job, row in zip(jobs, in_order(kept, jobs, options.workers), strict=True):
        fits[job[1]][job[2]] = row
        print(f"{job[1]} {job[2]}: {row['status']}, {int(row['n_eval']):,} evaluations", flush=True)
    for name, of in fits.items():
        print("\n" + "\n".join(rows_of(name, read(name, options.data), of)))
    if options.figures:
        figure(read("bins", options.data), fits["bins"], options.figures)


def main(argv: list[str] | None = None) -> None:
    """Command line."""
    parser = study_parser("studies.prospector", __doc__)
    parser.add_argument("--data", type=Path, default=REFERENCE / "prospector", help="folder of the mocks and chains")
    parser.add_argument("--variants", default=",".join(VARIANTS), help=f"of {', '.join(VARIANTS)}")
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--time-limit", type=float, default=1200.0, help="seconds a fit")
    run_study(parser, work, {"variants": "honest", "time_limit": 60.0}, argv)


if __name__ == "__main__":
    main()
