"""A small perceptron with a linear short cut from its inputs, in single precision."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from provabgs.core.jax import jax, jnp

GAIN = 1.6
"""Keeps the variance of activations near one through SiLU layers."""


class Network(NamedTuple):
    """Weights; a pytree."""

    hidden: tuple[tuple[jax.Array, jax.Array], ...]
    """``(W (nin, nout), b (nout,))`` of each hidden layer."""
    last: jax.Array
    """``(nhidden + nfeature + 1, noutput)``: linear in the last hidden layer, the features and 1."""


def init_network(key: jax.Array, n_feature: int, hidden: tuple[int, ...], n_output: int) -> Network:
    """Random weights; the outputs start at zero."""
    layers, n_in = [], n_feature
    for k, n_out in zip(jax.random.split(key, len(hidden)), hidden, strict=True):
        w = jax.random.normal(k, (n_in, n_out), jnp.float32) * np.float32(n_in**-0.5)
        layers.append((w, jnp.zeros(n_out, jnp.float32)))
        n_in = n_out
    return Network(tuple(layers), jnp.zeros((n_in + n_feature + 1, n_output), jnp.float32))


def last_inputs(network: Network, features: jax.Array) -> jax.Array:
    """What the last layer sees, ``(batch, nhidden + nfeature + 1)``."""
    x = features
    for w, b in network.hidden:
        x = GAIN * jax.nn.silu(_matmul(x, w) + b)
    return jnp.concatenate([x, features, jnp.ones_like(features[:, :1])], axis=1)


def apply_network(network: Network, features: jax.Array) -> jax.Array:
    """Outputs ``(batch, noutput)`` for features ``(batch, nfeature)``."""
    return _matmul(last_inputs(network, features), network.last)


def _matmul(a: jax.Array, b: jax.Array) -> jax.Array:
    """Product in full single precision, on GPUs too."""
    return jnp.matmul(a, b, precision=jax.lax.Precision.HIGHEST)
