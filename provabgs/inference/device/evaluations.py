"""What a server evaluates: functions of many rows of many galaxies, made from the ones that a fit evaluates for one.

An evaluation has up to two steps. The first depends on the galaxy's compressed data, the second only on what all
galaxies of a model have alike; both are compiled once per size class of galaxies and number of galaxies in a call.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import Any

from provabgs.core.jax import jax
from provabgs.inference.backends import model_of
from provabgs.inference.compressed.compressed_likelihood import make_log_likelihood, shared_equations
from provabgs.inference.device.messages import Common, Request
from provabgs.inference.marginalised import draw_linear_rows, equations_of_rows, log_marginal_rows
from provabgs.inference.priors import theta_from_latent

Evaluation = Callable[[Sequence[Any], Any, Common], tuple[jax.Array, ...]]
"""Rows ``(g, ROWS, ...)`` and arrays of g galaxies, both with a leading galaxy axis, to arrays ``(g, ROWS, ...)``."""


@lru_cache(maxsize=64)
def evaluation(request: Request) -> Evaluation:
    """The function of a request for many galaxies.

    Parameters
    ----------
    request
        What is evaluated.

    Returns
    -------
    Evaluation
        Compiled at its first call of each shape.

    Raises
    ------
    ProvabgsError
        When the model cannot be made here: a file or a plugin is missing.
    """
    model = model_of(request.recipe)
    block, low_snr = model.linear_block, request.low_snr
    if request.kind == "likelihood":
        log_likelihood = make_log_likelihood(model)
        at_latent = _of_galaxies(lambda z, data, common: log_likelihood(theta_from_latent(z, common.prior), data))
        return lambda rows, data, common: (at_latent(rows[0], data, common),)
    equations = equations_of_rows(shared_equations(model))
    first = _of_galaxies(lambda outer, data, common: equations(outer, data, common.prior))
    if request.kind == "pilot":
        return lambda rows, data, common: first(rows[0], data, common)[:2]
    if request.kind == "marginal":
        second = _of_galaxies(
            lambda normal, outer, common: (log_marginal_rows(normal, outer, common.prior, block, low_snr),)
        )
    else:
        second = _of_galaxies(
            lambda normal, outer, uniforms, common: draw_linear_rows(
                normal, outer, uniforms, common.prior, common.share, block, low_snr
            )
        )
    return lambda rows, data, common: second(first(rows[0], data, common), *rows, common)


def _of_galaxies(function: Callable[..., Any]) -> Callable[..., Any]:
    """The same of many galaxies, compiled."""
    return jax.jit(jax.vmap(function))
