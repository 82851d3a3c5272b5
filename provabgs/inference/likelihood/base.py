"""What a likelihood backend offers: ln L, and where it can, the masses' normal equations and a local correction."""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from typing import Any, NamedTuple, Protocol

from numpy.typing import ArrayLike

from provabgs.core.jax import jax
from provabgs.observe.nuisance import DISPERSION, FIBER_FRACTION
from provabgs.sps.model import SPSModel
from provabgs.sps.parameters import ParameterSet

REFERENCE_LOG_MASS = 10.0
"""Masses of the linear block are in units of 10^this Msun, to keep numbers of order one."""


class NormalEquations(NamedTuple):
    """chi^2 as a quadratic form in the n masses of the linear block: ``constant - 2 b.a + a.Q.a``."""

    q: jax.Array
    """``(batch, n, n)``."""
    b: jax.Array
    """``(batch, n)``."""
    constant: jax.Array
    """``()``."""


class LinearSystem(NamedTuple):
    """Normal equations of one galaxy: a function that all galaxies of a model share, and the galaxy's arrays."""

    equations: Callable[[jax.Array, Any], NormalEquations]
    """``(theta (batch, size), data)``; total mass and fractions of theta are ignored."""
    data: Any
    recipe: tuple[str, str] | None = None
    """`SPSModel.recipe`, from which another process makes the same function; None where it cannot."""


class Likelihood(Protocol):
    """ln L of one galaxy.

    Attributes
    ----------
    parameters
        What theta's last axis holds: the model's parameters, then the observation's.
    """

    parameters: ParameterSet

    def __call__(self, theta: jax.Array) -> jax.Array:
        """Ln L ``(batch,)`` up to a constant, for theta ``(batch, size)``."""
        ...

    @property
    def linear_system(self) -> LinearSystem | None:
        """Normal equations of the masses; None where the backend has none."""
        ...

    def with_reference(self, theta: ArrayLike) -> Likelihood:
        """The backend corrected at good fits ``(n, size)``; itself where there is nothing to correct."""
        ...


def fit_parameters(model: SPSModel, dispersion: bool = False) -> ParameterSet:
    """Parameters of a fit of a model to a galaxy: the model's, then those of the observation.

    Parameters
    ----------
    model
        The SPS model.
    dispersion
        Whether there is a spectrum whose velocity dispersion is fitted.

    Returns
    -------
    ParameterSet
        The same object for the same model.
    """
    return _fit_parameters(model, dispersion)


@lru_cache(maxsize=64)
def _fit_parameters(model: SPSModel, dispersion: bool) -> ParameterSet:
    return model.parameters.extended(*((FIBER_FRACTION, DISPERSION) if dispersion else (FIBER_FRACTION,)))
