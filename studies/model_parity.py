"""How the exact model compares with the published emulators and with python-fsps; prints Markdown tables.

``python -m studies.model_parity [--reference FOLDER] [--draws 1000] [--library FILE] [--fsps 20]``

FOLDER holds ``provabgs/emulator_*.npz`` (``../shared/reference`` by default). Each table is kept in the output folder
when it is done, under a name that says of how many draws it is. With ``--fsps N`` and a real SPS_HOME,
N prior draws are computed by FSPS itself (tabulated SFH and ZH) as well. `tests/integration/test_parity_published.py`
holds the first table to its limits; docs/studies/parity.md quotes all of them.
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np

from provabgs.core.arrays import FloatArray
from provabgs.core.constants import SOLAR_Z_PROVABGS, Z_RANGE_PROVABGS
from provabgs.core.jax import jnp
from provabgs.emulator.published import PublishedEmulator, nmf_inputs
from provabgs.observe.filters import band_weights
from provabgs.sps.attenuation import CharlotFall
from provabgs.sps.dust_emission import DustEmission
from provabgs.sps.histories import NMFHistories
from provabgs.sps.histories.bases import HistoryBases
from provabgs.sps.library import SSPLibrary
from provabgs.sps.model import SPSModel
from studies.support.command import REFERENCE, run_study, study_parser
from studies.support.pieces import kept_text
from tests.support.parameters import column, named, put, stars_of, values_of

BANDS = (
    (2000, 2300),
    (2300, 3000),
    (3000, 3600),
    (3600, 4500),
    (4500, 5500),
    (5500, 6500),
    (6500, 7400),
    (7400, 8500),
    (8500, 9800),
    (9800, 20000),
    (20000, 30000),
    (30000, 36000),
    (36000, 50000),
    (50000, 60000),
)
"""Rest-frame Angstrom."""
BETAS = tuple(f"beta{i}" for i in range(1, 5))
N_DUST_EMISSION = 600
"""Draws of the table of dust emission, or fewer where fewer are asked for."""
TAU_ISM_BINS = ((0.0, 0.0), (0.0, 0.5), (0.5, 1.0), (1.0, 1.5), (1.5, 3.0))
"""Of the tables of dust emission; the first is a galaxy without any dust."""
WISE = ("wise2010-W1", "wise2010-W2")
WISE_REDSHIFTS = (0.05, 0.15, 0.3)
T_AGE_RANGE = (7.8, 13.6)
"""Gyr; the published network was trained on 7.7-13.8."""
BURST_AGE_RANGE = (0.0101, 13.2)
"""Gyr; the published burst network was trained on 0.01-13.27."""


class BandRow(NamedTuple):
    """ln(ours / theirs) in one band: first averaged over the band's wavelengths, then statistics over draws."""

    low: int
    high: int
    mean: float
    median: float
    scatter: float
    worst_1_percent: float
    """99th percentile of the absolute band average."""
    shape: float
    """Median over draws of the rms about the band average."""


def prior_draws(n: int, rng: np.random.Generator) -> tuple[FloatArray, FloatArray]:
    """Theta ``(n, 13)`` for 1 Msun without a burst, and t_age ``(n,)``, over the published prior."""
    theta = named(n, tburst=1.0, f_fiber=1.0, **dict(zip(BETAS, rng.dirichlet(np.ones(4), n).T, strict=True)))
    for name in ("gamma1", "gamma2"):
        put(theta, **{name: np.exp(rng.uniform(np.log(4.5e-5), np.log(1.5e-2), n))})
    tau_bc, tau_ism = rng.uniform(0, 3, (2, n))
    put(theta, tau_bc=tau_bc, tau_ism=tau_ism, n_dust=rng.uniform(-2, 1, n))
    return theta, rng.uniform(*T_AGE_RANGE, n)


def log_spectra(model: SPSModel, theta: FloatArray, t_age: FloatArray, chunk: int = 128) -> FloatArray:
    """Ln L of the exact model, ``(n, nwave)``."""
    pieces = []
    for i in range(0, len(theta), chunk):
        part = slice(i, i + chunk)
        pieces.append(np.log(np.asarray(model.spectrum(jnp.asarray(stars_of(theta[part])), model.tables(t_age[part])))))
    return np.concatenate(pieces)


def against_nmf(model: SPSModel, emulator: PublishedEmulator, theta: FloatArray, t_age: FloatArray) -> FloatArray:
    """ln(ours / published composite emulator), ``(n, nwave)``."""
    theirs = np.asarray(emulator.ln_luminosity(nmf_inputs(values_of(theta), jnp.asarray(t_age))), dtype=np.float64)
    return log_spectra(model, theta, t_age) - theirs


def constant_metallicity(model: SPSModel) -> SPSModel:
    """The same model with flat metallicity histories, so that gamma1 is the metallicity at every age."""
    histories = nmf_of(model)
    bases = histories.bases
    knots = bases.time[1:-1]
    flat = HistoryBases(knots, bases.sfh[:, 1:-1], np.stack([np.ones(knots.size), np.zeros(knots.size)]))
    made = NMFHistories(flat, histories.binning, histories.normalisation)
    return SPSModel(model.library, made, model.attenuation, t_birth_cloud=model.t_birth_cloud)


def nmf_of(model: SPSModel) -> NMFHistories:
    """Its histories, which have to be the published ones or of their kind."""
    assert isinstance(model.histories, NMFHistories)
    return model.histories


def against_burst(
    model: SPSModel, emulator: PublishedEmulator, n: int, rng: np.random.Generator
) -> tuple[FloatArray, FloatArray]:
    """ln(ours / burst emulator) for SSPs behind ISM dust, ``(n, emulator.wave.size)``, and their ages, Gyr."""
    age, z = (10 ** rng.uniform(np.log10(low), np.log10(high), n) for low, high in (BURST_AGE_RANGE, Z_RANGE_PROVABGS))
    tau_ism, n_dust = rng.uniform(0, 3, n), rng.uniform(-2, 1, n)
    theta = named(n, beta1=1.0, fburst=1.0, tburst=age, gamma1=z, tau_ism=tau_ism, n_dust=n_dust)
    inputs = np.stack([np.log10(age), np.log10(z), tau_ism, n_dust], axis=1)
    theirs = np.asarray(emulator.ln_luminosity(jnp.asarray(inputs)), dtype=np.float64)
    ours = log_spectra(constant_metallicity(model), theta, np.full(n, 13.6))
    return ours[:, np.searchsorted(model.library.wave, emulator.wave)] - theirs, age


def against_fsps(model: SPSModel, n: int, rng: np.random.Generator) -> tuple[FloatArray, FloatArray]:
    """ln(ours / FSPS), ``(n, nwave)``, and the wavelengths: composites from tabulated SFH and ZH, no dust emission.

    FSPS gets the model's own birth-cloud boundary and slope, so what is compared is the arithmetic and the library.
    """
    import fsps

    theta, t_age = prior_draws(n, rng)
    attenuation = model.attenuation
    assert isinstance(attenuation, CharlotFall)
    population = fsps.StellarPopulation(
        zcontinuous=3,
        sfh=3,
        imf_type=1,
        add_dust_emission=False,
        add_neb_emission=False,
        dust_type=4,
        dust1_index=attenuation.birth_cloud_slope,
        dust_tesc=np.log10(model.t_birth_cloud) + 9,
    )
    theirs = []
    for row, age in zip(theta, t_age, strict=True):
        population.set_tabular_sfh(*_forward_table(model, row, float(age)))
        for theirs_name, name in (("dust1", "tau_bc"), ("dust2", "tau_ism"), ("dust_index", "n_dust")):
            population.params[theirs_name] = column(row, name)
        wave, spectrum = population.get_spectrum(tage=float(age), peraa=True)
        theirs.append(np.log(np.interp(model.library.wave, wave, spectrum)))
    return log_spectra(model, theta, t_age) - np.array(theirs), model.library.wave


def _forward_table(model: SPSModel, theta: FloatArray, t_age: float) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Forward time (Gyr), SFR (Msun/yr for 1 Msun formed) and Z in the library's convention, as FSPS wants them."""
    bases = nmf_of(model).bases
    knots = bases.time[bases.time < t_age]
    lookback = np.unique(np.concatenate([knots, np.geomspace(1e-4, t_age, 400)]))
    beta = column(theta, *BETAS) * model.tables(t_age).weight
    sfr = beta / beta.sum() @ bases.sfh_bases(lookback, t_age) * 1e-9
    z = column(theta, "gamma1", "gamma2") @ bases.metallicity_bases(lookback)
    own = np.clip(z, *Z_RANGE_PROVABGS) / SOLAR_Z_PROVABGS * model.library.z_solar
    # FSPS divides by the SFR of a bin's young edge
    return t_age - lookback[::-1], np.maximum(sfr, 1e-20)[::-1], own[::-1]


def band_rows(difference: FloatArray, wave: FloatArray, bands: tuple[tuple[int, int], ...] = BANDS) -> list[BandRow]:
    """Statistics of ln ratios ``(n, nwave)`` per band that holds wavelengths."""
    rows = []
    for low, high in bands:
        x = difference[:, (wave >= low) & (wave < high)]
        if x.shape[1] == 0:
            continue
        band = x.mean(axis=1)
        shape = float(np.median((x - band[:, None]).std(axis=1)))
        worst = float(np.percentile(np.abs(band), 99))
        rows.append(BandRow(low, high, float(band.mean()), float(np.median(band)), float(band.std()), worst, shape))
    return rows


def markdown(title: str, rows: list[BandRow]) -> str:
    """One table, figures are 100 ln(ours / theirs)."""
    lines = [
        f"**{title}**",
        "",
        "| rest Angstrom | mean | median | scatter | 99 % of draws within | shape rms |",
        "|---|---|---|---|---|---|",
    ]
    for r in rows:
        figures = " | ".join(f"{100 * v:+.2f}" if i < 2 else f"{100 * v:.2f}" for i, v in enumerate(r[2:]))
        lines.append(f"| {r.low}-{r.high} | {figures} |")
    return "\n".join([*lines, ""])


def by_tau_ism(n: int, rng: np.random.Generator) -> Iterator[tuple[str, FloatArray, FloatArray]]:
    """Prior draws ``(n, 13)`` and their t_age with tau_ism in each of `TAU_ISM_BINS`, and the bin's name."""
    theta, t_age = prior_draws(n, rng)
    for low, high in TAU_ISM_BINS:
        th = theta.copy()
        put(th, tau_ism=rng.uniform(low, high, len(th)) if high else 0.0)
        if not high:
            put(th, tau_bc=0.0)
        yield f"{low:g}-{high:g}" if high else "0, tau_bc = 0", th, t_age


def band_fluxes(log_luminosity: FloatArray, wave: FloatArray, redshift: float) -> FloatArray:
    """Fluxes in the bands of `WISE`, ``(n, 2)`` in an arbitrary unit, of ln L ``(n, nwave)`` at rest wavelengths."""
    weights = np.stack([band_weights(name, wave * (1 + redshift)) for name in WISE], axis=1)
    return np.asarray(np.exp(log_luminosity) @ weights)


def wise_table(stars: SPSModel, lit: SPSModel, emulator: PublishedEmulator, n: int, rng: np.random.Generator) -> str:
    """W1 and W2 of the model without and with dust emission over the published emulator's, by ISM optical depth."""
    heads = [f"{name.split('-')[1]}, z = {z:g}" for z in WISE_REDSHIFTS for name in WISE]
    lines = [
        "**W1 and W2 over published emulator, per cent, by tau_ism: stars alone -> with dust emission (scatter)**",
        "",
        "| tau_ism | " + " | ".join(heads) + " |",
        "|---|" + "---|" * len(heads),
    ]
    wave = lit.library.wave
    for name, theta, t_age in by_tau_ism(n, rng):
        inputs = nmf_inputs(values_of(theta), jnp.asarray(t_age))
        theirs = np.asarray(emulator.ln_luminosity(inputs), dtype=np.float64)
        ours = [log_spectra(model, theta, t_age) for model in (stars, lit)]
        cells = []
        for z in WISE_REDSHIFTS:
            before, after = (100 * np.log(band_fluxes(x, wave, z) / band_fluxes(theirs, wave, z)) for x in ours)
            cells += [
                f"{b.mean():+.1f} -> {a.mean():+.1f} ({a.std():.1f})" for b, a in zip(before.T, after.T, strict=True)
            ]
        lines.append(f"| {name} | " + " | ".join(cells) + " |")
    return "\n".join([*lines, ""])


def dust_emission_table(
    title: str, model: SPSModel, emulator: PublishedEmulator, n: int, rng: np.random.Generator
) -> str:
    """How much light of the published emulator a model has in the infrared, by ISM optical depth."""
    bands = ((20000, 30000), (30000, 36000), (36000, 50000), (20000, 50000))
    lines = [
        f"**{title} over published emulator, mean in per cent, by tau_ism (n_dust over its prior)**",
        "",
        "| tau_ism | " + " | ".join(f"{a}-{b} A" for a, b in bands) + " |",
        "|---|" + "---|" * len(bands),
    ]
    for name, theta, t_age in by_tau_ism(n, rng):
        rows = band_rows(against_nmf(model, emulator, theta, t_age), model.library.wave, bands)
        lines.append(f"| {name} | " + " | ".join(f"{100 * np.expm1(r.mean):+.1f}" for r in rows) + " |")
    return "\n".join([*lines, ""])


def models(library: SSPLibrary) -> dict[str, SPSModel]:
    """The conventions that are compared, by title; one step at a time from the published code's to the paper's."""
    joint = NMFHistories(normalisation="joint")
    return {
        "published code (42 age bins, joint normalisation, birth clouds to 10 Myr with slope -1)": SPSModel.published(
            library
        ),
        "the same, SFH integrated exactly": SPSModel(
            library, joint, CharlotFall(birth_cloud_slope=-1.0), t_birth_cloud=0.01
        ),
        "the same, birth clouds to 100 Myr with slope -0.7": SPSModel(library, joint),
        "paper (the same, each basis normalised): the default": SPSModel(library),
    }


def work(options: argparse.Namespace) -> None:
    """Print all tables, those that the output folder holds as they are."""
    library = SSPLibrary.load(options.library) if options.library else SSPLibrary.default()
    folder = options.reference / "provabgs"
    if folder.is_dir():
        tables = against_published(library, folder, options.draws, options.seed)
    else:
        print(f"{folder}: no such folder; tables against the published emulators are left out\n")
        tables = {}
    if options.fsps:
        tables |= with_fsps(library, options.fsps, options.seed)
    if not tables:
        tables = {"between conventions": lambda: between_conventions(library, options.draws, options.seed)}
    kind = options.library.stem if options.library else "shipped"
    for name, make in tables.items():
        size = options.fsps if name.startswith("fsps") else options.draws
        print(kept_text(options.output / f"{kind}, {size} draws of seed {options.seed}: {name}.md", make))


def against_published(library: SSPLibrary, folder: Path, n: int, seed: int) -> dict[str, Callable[[], str]]:
    """Tables against the published networks, by name."""
    nmf = PublishedEmulator(folder / "emulator_nmf_v0.1.npz")
    burst = PublishedEmulator(folder / "emulator_burst_seed0_199.npz")
    published = SPSModel.published(library)

    def composites(title: str, model: SPSModel) -> str:
        difference = against_nmf(model, nmf, *prior_draws(n, np.random.default_rng(seed)))
        return markdown(f"Composite: {title}; {n} prior draws", band_rows(difference, library.wave))

    def bursts() -> str:
        difference, age = against_burst(published, burst, n, np.random.default_rng(seed))
        pieces = []
        for low, high in ((0.01, 0.1), (0.1, 1.0), (1.0, 13.3)):
            chosen = (age >= low) & (age < high)
            rows = band_rows(difference[chosen], burst.wave)
            pieces.append(markdown(f"Burst with ISM dust, {low:g}-{high:g} Gyr; {chosen.sum()} draws", rows))
        return "\n".join(pieces)

    tables: dict[str, Callable[[], str]] = {
        f"composite {i}": partial(composites, title, model) for i, (title, model) in enumerate(models(library).items())
    }
    n_dust = min(N_DUST_EMISSION, n)
    lit = SPSModel.published(library, (DustEmission(),))
    for title, model in (("Stellar-only model", published), ("Model with dust emission", lit)):
        tables[title] = partial(dust_emission_table, title, model, nmf, n_dust, np.random.default_rng(seed))
    tables["WISE bands"] = lambda: wise_table(published, lit, nmf, n_dust, np.random.default_rng(seed))
    return tables | {"burst": bursts}


def with_fsps(library: SSPLibrary, n: int, seed: int) -> dict[str, Callable[[], str]]:
    """Tables against python-fsps, by name.

    Raises
    ------
    SystemExit
        Without FSPS's data.
    """
    if not os.environ.get("SPS_HOME"):
        raise SystemExit("--fsps needs the environment variable SPS_HOME to name a folder of FSPS data")

    def one(title: str, model: SPSModel) -> str:
        difference, wave = against_fsps(model, n, np.random.default_rng(seed))
        return markdown(f"python-fsps: {title}; {n} prior draws", band_rows(difference, wave))

    exact = {title: model for title, model in models(library).items() if nmf_of(model).binning == "exact"}
    return {f"fsps {i}": partial(one, title, model) for i, (title, model) in enumerate(exact.items())}


def between_conventions(library: SSPLibrary, n: int, seed: int) -> str:
    """The paper's conventions against the published code's, both of our model: what is left without reference data."""
    theta, t_age = prior_draws(n, np.random.default_rng(seed))
    ours, theirs = (log_spectra(m, theta, t_age) for m in (SPSModel(library), SPSModel.published(library)))
    title = f"Conventions of the paper against those of the published code, no network; {n} prior draws"
    return markdown(title, band_rows(ours - theirs, library.wave))


def main() -> None:
    """Parse the command line and run."""
    parser = study_parser("studies.model_parity", __doc__)
    parser.add_argument("--reference", type=Path, default=REFERENCE)
    parser.add_argument("--draws", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--library", type=Path, help="SSP library file; the shipped one by default")
    parser.add_argument("--fsps", type=int, default=0, metavar="N", help="compare N draws with python-fsps")
    run_study(parser, work, {"draws": 16})


if __name__ == "__main__":
    main()
