"""Rest-frame spectra of some draws of a posterior, of one fit or of several that were averaged."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from provabgs.core.arrays import FloatArray, IntArray, thin
from provabgs.core.chunks import in_chunks
from provabgs.core.constants import SPECTRUM_UNIT
from provabgs.core.jax import jax, jnp
from provabgs.inference.averaged_posterior import parts_of
from provabgs.inference.backends import load_model, ultraviolet_model
from provabgs.inference.config import FitConfig
from provabgs.inference.light_error import as_fitted
from provabgs.inference.likelihood.base import fit_parameters
from provabgs.inference.likelihood.exact import CHUNK, rest_frame
from provabgs.inference.posterior import Posterior
from provabgs.observe.cosmology import Cosmology
from provabgs.sps.histories import HistoryTables
from provabgs.sps.model import SPSModel


class Spectra(NamedTuple):
    """Draws of one fit and their spectra.

    `theta` ``(n, nparameter)`` is of the model, with the mass that makes the light; `fitted` ``(n, size)`` holds the
    other parameters of the fit too, in the order of likelihoods; `rows` ``(n,)`` are the draws'
    places in the posterior; `luminosity` is ``(n, nwave)`` Lsun/Angstrom at rest-frame `wave`, Angstrom; `flux_factor`
    turns it into 1e-17 erg/s/cm2/Angstrom at ``wave (1 + redshift)``. `below` is the model of light below `wave`
    (`ultraviolet_model`) and `below_luminosity` ``(n, nbelow)`` what it gives; None and nothing where there is none.
    """

    config: FitConfig
    model: SPSModel
    rows: IntArray
    theta: FloatArray
    fitted: FloatArray
    luminosity: FloatArray
    redshift: float
    t_age: float
    distance_cm: float
    flux_factor: float
    below: SPSModel | None
    below_luminosity: FloatArray

    @property
    def all_wave(self) -> FloatArray:
        """Wavelengths of `all_luminosity`, Angstrom: `wave`, after those below."""
        return self.wave if self.below is None else np.concatenate([_below_wave(self.below), self.wave])

    @property
    def all_luminosity(self) -> FloatArray:
        """``(n, nbelow + nwave)`` Lsun/Angstrom."""
        return np.concatenate([self.below_luminosity, self.luminosity], axis=1)

    @property
    def wave(self) -> FloatArray:
        """``(nwave,)`` rest-frame vacuum wavelengths of the library, Angstrom."""
        return self.model.library.wave


def spectra_of(posterior: Posterior, n_draws: int) -> Iterator[Spectra]:
    """Spectra of evenly spaced draws; one entry for each fit that an average is made of.

    Parameters
    ----------
    posterior
        With samples and the configuration of its fit.
    n_draws
        Number of draws in all.

    Yields
    ------
    Spectra
        Of the draws that one fit has among them.
    """
    config = FitConfig.model_validate_json(posterior.config)
    keep = thin(len(posterior.samples), n_draws)
    for alternative, rows in parts_of(posterior, config):
        mine = rows[np.isin(rows, keep)]
        if mine.size:
            yield _spectra(posterior, mine, alternative.config)


def _spectra(posterior: Posterior, rows: IntArray, config: FitConfig) -> Spectra:
    model, cosmology = load_model(config.model), Cosmology(config.observing.cosmology)
    t_age = cosmology.age_gyr(posterior.redshift)
    distance = cosmology.luminosity_distance_cm(posterior.redshift)
    names = fit_parameters(model, "vdisp" in posterior.parameters)
    fitted = as_fitted(posterior.samples[rows], posterior.parameters, model.linear_block.total, names)
    theta = names.select(fitted, model.parameters)
    tables = jax.tree.map(jnp.asarray, model.tables(t_age))
    made = in_chunks(lambda t: rest_frame(model)(t, tables, model.flat_spectra), theta, CHUNK)
    below = ultraviolet_model(config.model)
    light = _below(below, names.select(fitted, below.parameters), tables) if below else made[:, :0]
    z = posterior.redshift
    factor = model.library.lsun_cgs / (4 * np.pi * distance**2) / (1 + z) / SPECTRUM_UNIT
    return Spectra(
        config, model, rows, theta, fitted, made.astype(np.float64), z, t_age, distance, factor,
        below, light.astype(np.float64),
    )  # fmt: skip


def _below_wave(below: SPSModel) -> FloatArray:
    return below.library.wave[: below.library.borrowed]


def _below(below: SPSModel, theta: FloatArray, tables: HistoryTables) -> FloatArray:
    """Luminosity below the library's own wavelengths, ``(n, nbelow)``."""
    made = in_chunks(lambda t: rest_frame(below)(t, tables, below.flat_spectra), theta, CHUNK)
    return made[:, : below.library.borrowed]
