"""What the prior on parameters says of properties that are not parameters: draws of it, and which prior it was.

Flat priors on shares of histories are not flat in SFR, metallicity or age (Hahn et al. 2023, arXiv:2202.01809, section
5). Nothing is assumed about those induced priors here: parameters are drawn and their properties computed, by the
functions that the fit itself used.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from functools import lru_cache
from typing import Any

import numpy as np
from pydantic import ValidationError

from provabgs.catalog import expression
from provabgs.catalog.columns import SAMPLED
from provabgs.catalog.names import SAMPLE_FORMULAS
from provabgs.core.arrays import FloatArray
from provabgs.core.errors import ConfigError
from provabgs.core.jax import jax, jnp
from provabgs.inference.backends import load_model
from provabgs.inference.config import FitConfig
from provabgs.inference.prior_correction import log_ratio_of_properties
from provabgs.inference.priors import N_LATENT, Prior, theta_from_unit
from provabgs.observe.cosmology import Cosmology
from provabgs.sps.derived import derived_properties
from provabgs.sps.histories import HistoryTables
from provabgs.sps.model import SPSModel
from provabgs.sps.parameters import NAMES

CHUNK = 20_000
"""Prior draws per call of the model."""
CORRECTED_EXCESS = 10
"""Draws of the prior on parameters per draw of a corrected one; a twentieth of them may be effective."""
FIBER = (0.3, 0.03)
"""f_fiber of prior draws; no property depends on it, but a prior must say something."""


def prior_identity(config: FitConfig) -> dict[str, Any]:
    """The part of a fit's configuration that decides what prior its draws were made under, and what they mean."""
    return {
        "prior_bounds": {k: list(v) for k, v in sorted(config.prior_bounds.items())},
        "model": json.loads(config.model.model_dump_json()),
        "cosmology": config.observing.cosmology,
        "prior_correction": config.prior_correction and config.prior_correction.model_dump(),
    }


def config_of(configs: Iterable[str], claimed: FitConfig | None = None, where: str = "the catalog") -> FitConfig:
    """The configuration under which stored draws were made, held against the one that somebody claims.

    Parameters
    ----------
    configs
        JSON texts stored with the draws (`Catalog.metadata`, `read_summary`).
    claimed
        What the caller believes; None believes the store.
    where
        Named in errors.

    Raises
    ------
    ConfigError
        When fits under several priors are mixed, the store does not say (and nobody claims anything), or the claim
        differs from what is stored.
    """
    found: list[FitConfig] = []
    for text in configs:
        try:
            found.append(FitConfig.model_validate_json(text))
        except ValidationError:
            if claimed is None:
                raise ConfigError(
                    f"{where}: its fit configuration {text[:60]!r} is not one of ours, so that the inference prior is "
                    "unknown; name the configuration (--fit-config) or leave the prior undivided"
                ) from None
    for other in found[1:]:
        _same(found[0], other, f"{where}: fits under different priors are mixed", "select one kind")
    if claimed is None:
        if not found:
            raise ConfigError(f"{where}: does not say under which prior it was made; name the fit configuration")
        return found[0]
    if found:
        _same(found[0], claimed, f"{where}: was fitted under another prior than claimed", "use its own")
    return claimed


def _same(a: FitConfig, b: FitConfig, what: str, mend: str) -> None:
    first, second = prior_identity(a), prior_identity(b)
    for key, value in first.items():
        if value != second[key]:
            raise ConfigError(f"{what} ({key}: {_short(value)} against {_short(second[key])}); {mend}")


def _short(value: Any) -> str:
    text = str(value)
    return text if len(text) <= 200 else f"{text[:200]} ..."


def draw_properties(config: FitConfig, redshift: float, n: int, rng: np.random.Generator) -> dict[str, FloatArray]:
    """Draws of every parameter and property from the prior, for galaxies at one redshift.

    Under a corrected prior, `CORRECTED_EXCESS` times as many draws of the one on parameters are resampled by its
    ratio: some come more than once.

    Parameters
    ----------
    config
        Configuration of the fits; its prior, model and cosmology are used.
    redshift
        Of the galaxies.
    n
        Draws; 4 s a million.
    rng
        Source of randomness.

    Returns
    -------
    dict
        ``(n,)`` per sample column (LOGMSTAR, LOGSFR_1GYR, ...) and the specific SFRs.
    """
    model = load_model(config.model)
    tables = model.tables(age_of_universe(config, redshift))
    prior = Prior.create(FIBER, config.prior_bounds)
    drawn = n if config.prior_correction is None else CORRECTED_EXCESS * n
    pieces = [
        _evaluate(model)(jnp.asarray(rng.uniform(size=(min(CHUNK, drawn), N_LATENT))), prior, tables)
        for _ in range(-(-drawn // CHUNK))
    ]
    by_name = {name: np.concatenate([np.asarray(p[name]) for p in pieces])[:drawn] for name in SAMPLED}
    if config.prior_correction is not None:
        log_ratio = np.asarray(log_ratio_of_properties(config.prior_correction, by_name, tables))
        weight = np.exp(log_ratio - log_ratio.max())
        chosen = rng.choice(drawn, n, p=weight / weight.sum())
        by_name = {name: values[chosen] for name, values in by_name.items()}
    out = {SAMPLED[name]: values for name, values in by_name.items()}
    for name, formula in SAMPLE_FORMULAS.items():
        if name.startswith("LOGSSFR"):
            out[name] = expression.evaluate(expression.parse(formula), out)
    return out


def age_of_universe(config: FitConfig, redshift: float) -> float:
    """Gyr, in the cosmology of the fits."""
    return float(Cosmology(config.observing.cosmology).age_gyr(redshift))


@lru_cache(maxsize=4)
def _evaluate(model: SPSModel) -> Any:
    """Unit cube to all parameters and properties, compiled once per model."""

    @jax.jit
    def call(unit: jax.Array, prior: Prior, tables: HistoryTables) -> dict[str, jax.Array]:
        theta = theta_from_unit(unit, prior)
        parameters = {name: theta[:, i] for i, name in enumerate(NAMES)}
        return {**parameters, **derived_properties(model, theta, tables)}

    return call
