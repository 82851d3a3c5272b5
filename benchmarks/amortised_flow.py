"""The amortised flow: outer coordinates given compressed data, trained on simulations, usable as a proposal.

A small network digests a galaxy's features (`amortised_features`) into the condition of a masked autoregressive flow
with affine and rational-quadratic-spline transformers (flowjax), trained in single precision by maximum likelihood,
with noise drawn anew at every step.
"""

from __future__ import annotations

import json
import time
from functools import partial
from pathlib import Path

import equinox as eqx
import numpy as np
import optax
import paramax
from amortised_features import EACH, GROUPS, Batch, Epochs, Simulations, draw_batch, features, load_frame
from amortised_simulations import products_of
from flowjax.bijections import Affine, Chain, RationalQuadraticSpline
from flowjax.distributions import AbstractDistribution, Normal
from flowjax.flows import masked_autoregressive_flow

from provabgs.core.arrays import FloatArray
from provabgs.core.chunks import in_chunks
from provabgs.core.jax import jax, jnp
from provabgs.inference.marginalised import N_OUTER
from provabgs.inference.samplers.mixture import fit_mixture
from provabgs.observe.projection import Projection

LAYERS, WIDTH, KNOTS, EMBEDDED = 4, 128, 8, 64
INTERVAL = 6.0
PEAK_RATE, WARM_UP = 1.5e-3, 200
REPORT_EVERY = 250
CHUNK = 1024
"""Draws made or evaluated at a time."""
DEFENSIVE = 0.05
"""Share of a Student-t as wide as the flow's draws in the proposal: the flow's own tails are thin."""


class Network(eqx.Module):
    """Features to condition, and the flow under it."""

    shift: jax.Array
    scale: jax.Array
    embed: eqx.nn.MLP
    flow: AbstractDistribution

    def __init__(self, key: jax.Array, shift: jax.Array, scale: jax.Array) -> None:
        one, two = jax.random.split(key)
        self.shift, self.scale = shift, scale
        self.embed = eqx.nn.MLP(len(shift), EMBEDDED, 256, 2, jax.nn.silu, key=one)
        self.flow = masked_autoregressive_flow(
            two,
            base_dist=Normal(jnp.zeros(N_OUTER)),
            transformer=Chain([Affine(), RationalQuadraticSpline(knots=KNOTS, interval=INTERVAL)]),
            cond_dim=EMBEDDED,
            flow_layers=LAYERS,
            nn_width=WIDTH,
            nn_depth=2,
            nn_activation=jax.nn.silu,
        )

    def condition(self, x: jax.Array) -> jax.Array:
        """Of features ``(n, nfeature)``, ``(n, EMBEDDED)``."""
        standard = (x - jax.lax.stop_gradient(self.shift)) / jax.lax.stop_gradient(self.scale)
        return jax.vmap(self.embed)(jnp.clip(standard, -10, 10))


def blank_network(n_feature: int, key: jax.Array) -> Network:
    return Network(key, jnp.zeros(n_feature), jnp.ones(n_feature))


def _split(network: Network) -> tuple[Network, Network]:
    """What is trained, and what is not."""
    return eqx.partition(network, eqx.is_inexact_array, is_leaf=lambda x: isinstance(x, paramax.NonTrainable))


def train(simulations: Path, checkpoint: Path, n_step: int, seed: int = 0) -> None:
    """Train, or go on from the checkpoint, to `n_step` steps in all, where the learning rate ends at zero.

    Redshifts of the last twenty-fifth are held out.
    """
    frame = load_frame(simulations)  # before double precision goes: the engine's points would come out otherwise
    with jax.enable_x64(False):
        data = jax.tree.map(jnp.asarray, Simulations.load(simulations))
        colours = jnp.asarray(frame.colours, jnp.float32)
        n_redshift, key = len(data.outer), jax.random.key(seed)
        split = n_redshift - max(1, n_redshift // 25)

        @partial(jax.jit, static_argnums=2)
        def batch_of(key: jax.Array, data: Simulations, rows: tuple[int, int]) -> tuple[jax.Array, jax.Array]:
            epochs, batch, outer = draw_batch(key, data, rows)
            return features(epochs, batch, colours).reshape(GROUPS * EACH, -1), outer.reshape(-1, N_OUTER)

        first = np.concatenate([batch_of(jax.random.fold_in(key, 2**31 + i), data, (0, split))[0] for i in range(20)])
        network = Network(key, jnp.asarray(first.mean(axis=0)), jnp.asarray(first.std(axis=0) + 1e-3))
        params, static = _split(network)
        rate = optax.warmup_cosine_decay_schedule(0.0, PEAK_RATE, min(WARM_UP, n_step // 10), n_step)
        optimiser = optax.chain(optax.clip_by_global_norm(5.0), optax.adam(rate))
        state, done, log = (params, optimiser.init(params)), 0, []
        if checkpoint.exists():
            state = eqx.tree_deserialise_leaves(checkpoint, state)
            record = json.loads(checkpoint.with_suffix(".json").read_text())
            done, log = record["done"], record["log"]

        @jax.jit
        def loss(params: Network, x: jax.Array, outer: jax.Array) -> jax.Array:
            network = paramax.unwrap(eqx.combine(params, static))
            return -network.flow.log_prob(outer, network.condition(x)).mean()

        @jax.jit
        def step(state, x, outer):  # type: ignore[no-untyped-def]
            params, momenta = state
            value, gradient = jax.value_and_grad(loss)(params, x, outer)
            update, momenta = optimiser.update(gradient, momenta)
            return (optax.apply_updates(params, update), momenta), value

        start, values = time.process_time(), []
        for i in range(done, n_step):
            state, value = step(state, *batch_of(jax.random.fold_in(key, i), data, (0, split)))
            values.append(float(value))
            if (i + 1) % REPORT_EVERY == 0 or i + 1 == n_step:
                held_out = [batch_of(jax.random.key(10_000 + j), data, (split, n_redshift)) for j in range(4)]
                test = float(np.mean([loss(state[0], *b) for b in held_out]))
                log.append([i + 1, float(np.mean(values)), test, time.process_time() - start])
                print("step {}: loss {:.3f}, held out {:.3f}, {:.0f} s".format(*log[-1]), flush=True)
                _save(checkpoint, state, {"done": i + 1, "log": log, "n_feature": first.shape[1]})
                start, values = time.process_time(), []


def _save(checkpoint: Path, state: tuple, record: dict) -> None:
    """Never leave half a file."""
    part = checkpoint.with_suffix(".part")
    eqx.tree_serialise_leaves(part, state)
    checkpoint.with_suffix(".json").write_text(json.dumps(record))
    part.replace(checkpoint)


class Flow:
    """A trained flow.

    Parameters
    ----------
    checkpoint, simulations
        Files of `train`.
    """

    def __init__(self, checkpoint: Path, simulations: Path) -> None:
        record = json.loads(checkpoint.with_suffix(".json").read_text())
        self.frame = load_frame(simulations)
        with jax.enable_x64(False):
            params, static = _split(blank_network(record["n_feature"], jax.random.key(0)))
            params = eqx.tree_deserialise_leaves(checkpoint, (params,))[0]
            network = paramax.unwrap(eqx.combine(params, static))
            self._sample = jax.jit(lambda key, c: network.flow.sample(key, (CHUNK,), c))
            self._log_prob = jax.jit(lambda x, c: network.flow.log_prob(x, c))
            self._condition = jax.jit(lambda x: network.condition(x))

    def condition(self, projection: Projection) -> jax.Array:
        """Condition ``(EMBEDDED,)`` of a galaxy with white noise in its spectrum and five bands."""
        epoch, products, sigma = products_of(projection, self.frame)
        phot = projection.photometry
        assert phot is not None
        assert projection.fiber_fraction is not None
        batch = (products, sigma, phot.flux, 1 / np.sqrt(phot.ivar), projection.fiber_fraction[0])
        with jax.enable_x64(False):
            single = lambda x: jnp.asarray(x, jnp.float32)  # noqa: E731
            epochs = Epochs(*(single(x)[None] for x in epoch))
            x = features(epochs, Batch(*(single(x)[None, None] for x in batch)), single(self.frame.colours))
            return self._condition(x[0])[0]

    def sample(self, condition: jax.Array, n: int, rng: np.random.Generator) -> FloatArray:
        """``(n, 8)``."""
        with jax.enable_x64(False):
            keys = jax.random.split(jax.random.key(int(rng.integers(2**31))), -(-n // CHUNK))
            return np.concatenate([np.asarray(self._sample(k, condition), np.float64) for k in keys])[:n]

    def log_density(self, condition: jax.Array, x: FloatArray) -> FloatArray:
        """``(n,)`` at ``(n, 8)``; n may be 0."""
        if not len(x):
            return np.empty(0)
        with jax.enable_x64(False):
            single = np.asarray(x, np.float32)
            return in_chunks(lambda y: np.asarray(self._log_prob(y, condition), np.float64), single, CHUNK)


class FlowProposal:
    """The flow at one galaxy, with tails: has what the sampler asks of a `Mixture`."""

    def __init__(self, flow: Flow, projection: Projection, rng: np.random.Generator) -> None:
        self.flow = flow
        self.condition = flow.condition(projection)
        self.wide = fit_mixture(flow.sample(self.condition, CHUNK, rng), 1, rng)

    def sample(self, n: int, rng: np.random.Generator) -> FloatArray:
        """``(n, 8)`` draws."""
        draws = self.flow.sample(self.condition, n, rng)
        outside = rng.random(n) < DEFENSIVE
        draws[outside] = self.wide.sample(int(outside.sum()), rng)
        return draws

    def log_density(self, x: FloatArray) -> FloatArray:
        """``(n,)`` log density at ``(n, 8)``."""
        flow = self.flow.log_density(self.condition, x) + np.log1p(-DEFENSIVE)
        return np.logaddexp(np.where(np.isnan(flow), -np.inf, flow), self.wide.log_density(x) + np.log(DEFENSIVE))
