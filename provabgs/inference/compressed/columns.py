"""The compressed model as columns: what one unit of mass in each SFH basis adds to the galaxy's whitened data.

For fixed dust, metallicity, burst and f_fiber the model is linear in the four masses ``M beta_i``; these are its
columns.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from provabgs._jax import jax, jnp
from provabgs.inference.compressed.engine import make_prediction
from provabgs.inference.compressed.reduction import REFERENCE_LOG_MASS, Reduction
from provabgs.sps.model import SPSModel
from provabgs.sps.parameters import INDEX

N_BASES = 4
_BETA = slice(INDEX["beta1"], INDEX["beta4"] + 1)


class NormalEquations(NamedTuple):
    """chi^2 as a quadratic form in the masses: ``constant - 2 b.a + a.Q.a``, masses in units of 1e10 Msun."""

    q: jax.Array
    """``(batch, 4, 4)``."""
    b: jax.Array
    """``(batch, 4)``."""
    constant: jax.Array
    """``()``."""


def make_normal_equations(model: SPSModel) -> Callable[[jax.Array, Reduction], NormalEquations]:
    """The function ``(theta (batch, 13), reduction) -> NormalEquations``; logmstar and betas of theta are ignored.

    Columns are single precision, their products double: directions that the data leave free are 1e4 times shorter than
    those that they fix, and must not drown in rounding.
    """
    predict = make_prediction(model)

    def normal_equations(theta: jax.Array, reduction: Reduction) -> NormalEquations:
        n = len(theta)
        pure = jnp.repeat(theta[:, None], N_BASES, axis=1)
        pure = pure.at[:, :, _BETA].set(jnp.eye(N_BASES)).at[:, :, INDEX["logmstar"]].set(REFERENCE_LOG_MASS)
        columns = predict(pure.reshape(n * N_BASES, -1), reduction)
        q, b, constant = jnp.zeros((n, N_BASES, N_BASES)), jnp.zeros((n, N_BASES)), jnp.zeros(())
        if reduction.spectrum is not None and columns.spectrum is not None:
            q, b = _accumulate(q, b, columns.spectrum.reshape(n, N_BASES, -1), reduction.spectrum.data)
            constant += reduction.spectrum.constant + jnp.sum(reduction.spectrum.data.astype(jnp.float64) ** 2)
        if reduction.photometry is not None and columns.photometry is not None:
            q, b = _accumulate(q, b, columns.photometry.reshape(n, N_BASES, -1), reduction.photometry.flux)
            constant += jnp.sum(reduction.photometry.flux.astype(jnp.float64) ** 2)
        return NormalEquations(q, b, constant)

    return normal_equations


def _accumulate(q: jax.Array, b: jax.Array, columns: jax.Array, data: jax.Array) -> tuple[jax.Array, jax.Array]:
    columns, data = columns.astype(jnp.float64), data.astype(jnp.float64)
    return q + jnp.einsum("bir,bjr->bij", columns, columns), b + columns @ data
