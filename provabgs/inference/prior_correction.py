"""A corrected prior as a fit is given it: the prior on parameters times factors, each of one derived property.

Found by `provabgs.population.prior.max_entropy` (maximum entropy: flat in chosen properties), stored as JSON, and
carried inside the configuration of every fit that used it, so that nobody has to find the file again to know the prior.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from provabgs.core.arrays import FloatArray
from provabgs.core.chunks import in_chunks
from provabgs.core.errors import ConfigError
from provabgs.core.files import read_text
from provabgs.core.jax import jax, jnp
from provabgs.inference.priors import Prior, theta_from_latent
from provabgs.sps.derived import derived_properties
from provabgs.sps.histories import HistoryTables
from provabgs.sps.model import SPSModel

Properties = Mapping[str, Any]

COORDINATES: dict[str, Callable[[Properties, HistoryTables], jax.Array]] = {
    "LOGSSFR_1GYR": lambda p, _: p["log_sfr_1gyr"] - p["logmstar_surviving"],
    "LOGSSFR_100MYR": lambda p, _: p["log_sfr_100myr"] - p["logmstar_surviving"],
    "LOGZ_MW": lambda p, _: p["log_z_mw"],
    "T_AGE_MW": lambda p, tables: p["t_age_mw"] / tables.t_age,
}
"""Properties that factors may depend on, and the coordinate of each table (ages: fractions of the universe's)."""
_CHUNK = 1024


class Factor(BaseModel):
    """ln g of one property, linear between nodes and constant beyond them."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str
    nodes: tuple[float, ...] = Field(min_length=2)
    log_g: tuple[float, ...] = Field(min_length=2)

    @model_validator(mode="after")
    def _is_a_table(self) -> Factor:
        if self.name not in COORDINATES:
            raise ValueError(f"{self.name!r}: known properties are {', '.join(COORDINATES)}")
        if len(self.nodes) != len(self.log_g):
            raise ValueError(f"{self.name}: {len(self.nodes)} nodes for {len(self.log_g)} values of ln g")
        if not (np.all(np.diff(self.nodes) > 0) and np.all(np.isfinite([*self.nodes, *self.log_g]))):
            raise ValueError(f"{self.name}: nodes must be finite and increasing, ln g finite")
        return self


class PriorCorrection(BaseModel):
    """Corrected over uncorrected prior: a product of factors."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    redshift: float = Field(
        ge=0, allow_inf_nan=False, description="where the factors were found; they serve its neighbourhood"
    )
    factors: tuple[Factor, ...] = Field(min_length=1)

    def save(self, path: str | Path) -> None:
        """Write it as JSON."""
        Path(path).write_text(self.model_dump_json(indent=1))


def load_correction(path: str | Path) -> PriorCorrection:
    """Read what `PriorCorrection.save` wrote.

    Raises
    ------
    ConfigError
        When the file is missing or not a corrected prior.
    """
    try:
        return PriorCorrection.model_validate_json(read_text(path))
    except (OSError, ValueError) as err:
        if isinstance(err, ValidationError):
            raise ConfigError(f"{path}: not a corrected prior: {err.errors()[0]['msg']}") from None
        raise ConfigError(
            f"{path}: no readable corrected prior ({err}); `provabgs population prior` makes one"
        ) from None


def correction_from(value: Any) -> Any:
    """What a configuration holds, files read: a path becomes its content, an empty one None."""
    if isinstance(value, str | Path):
        return load_correction(value) if str(value) else None
    return value


def log_ratio_of_properties(correction: PriorCorrection, derived: Properties, tables: HistoryTables) -> jax.Array:
    """Ln of corrected over uncorrected prior; traceable by JAX.

    Parameters
    ----------
    correction
        Factors of the corrected prior.
    derived
        Derived properties by name, each ``(batch,)``.
    tables
        History tables of the galaxy.

    Returns
    -------
    jax.Array
        ``(batch,)``.
    """
    return sum(
        (
            jnp.interp(COORDINATES[f.name](derived, tables), jnp.asarray(f.nodes), jnp.asarray(f.log_g))
            for f in correction.factors
        ),
        start=jnp.zeros(()),
    )


def log_ratio_function(
    correction: PriorCorrection, model: SPSModel, prior: Prior, tables: HistoryTables
) -> Callable[[FloatArray], FloatArray]:
    """Ln of corrected over uncorrected prior of one galaxy.

    Parameters
    ----------
    correction
        Factors of the corrected prior.
    model
        The SPS model.
    prior
        The galaxy's prior.
    tables
        History tables of the galaxy.

    Returns
    -------
    Callable
        Latent coordinates ``(n, n_latent)`` to ``(n,)``.
    """
    compiled = _compiled(correction, model)
    return lambda latent: in_chunks(lambda z: compiled(jnp.asarray(z), prior, tables), latent, _CHUNK)


@lru_cache(maxsize=4)
def _compiled(correction: PriorCorrection, model: SPSModel) -> Callable[[jax.Array, Prior, HistoryTables], jax.Array]:
    def call(latent: jax.Array, prior: Prior, tables: HistoryTables) -> jax.Array:
        stars = prior.parameters.select(theta_from_latent(latent, prior), model.parameters)
        return log_ratio_of_properties(correction, derived_properties(model, stars, tables), tables)

    return jax.jit(call)
