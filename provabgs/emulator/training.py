"""Training of the network: Adam with warm-up and cosine decay, early stopping, and a closed-form last layer."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
import optax

from provabgs.core.arrays import FloatArray, SingleArray
from provabgs.core.errors import InputError
from provabgs.core.jax import jax, jnp
from provabgs.emulator.encoding import Encoding, encode
from provabgs.emulator.network import Network, apply_network, init_network, last_inputs


@dataclass(frozen=True)
class TrainingOptions:
    """How to train.

    Attributes
    ----------
    hidden
        Units of each hidden layer.
    steps, batch
        Most gradient steps, and spectra in each.
    learning_rate
        Peak of the schedule: 2 % of the steps to warm up, cosine decay to 1e-3 of the peak.
    check_every
        Steps between looks at the held-out set.
    patience
        Looks without a new best after which training stops.
    """

    hidden: tuple[int, ...] = (128, 128, 128)
    steps: int = 20_000
    batch: int = 1024
    learning_rate: float = 3e-3
    check_every: int = 500
    patience: int = 12


class Look(NamedTuple):
    """One look at the held-out set."""

    step: int
    train: float
    """Root mean square error of the spectra, relative, over the steps since the last look."""
    held_out: float


@dataclass
class TrainingState:
    """Everything that training needs to go on from a look; `history` grows by one `Look` each."""

    network: Network
    optimiser: optax.OptState
    best: Network
    step: int = 0
    since_best: int = 0
    history: list[Look] = field(default_factory=list)


class Trained(NamedTuple):
    """A trained network."""

    network: Network
    history: list[Look]
    refit: float
    """Held-out error after the last layer's refit (kept where it is smaller)."""


def standardisation(outputs: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Shift and scale of outputs ``(n, noutput)``: every unit of every output counts the same error of the spectrum,
    so that one scale serves all.
    """
    return outputs.mean(axis=0), np.full(outputs.shape[1], outputs.std(axis=0).max())


def new_state(encoding: Encoding, n_output: int, options: TrainingOptions, seed: int) -> TrainingState:
    """The beginning."""
    network = init_network(jax.random.PRNGKey(seed), encoding.n_feature, options.hidden, n_output)
    return TrainingState(network, _optimiser(options).init(network), network)


def train(
    state: TrainingState,
    encoding: Encoding,
    data: tuple[FloatArray, SingleArray],
    held_out: tuple[FloatArray, SingleArray],
    scale: float,
    n_part: int,
    options: TrainingOptions,
    seed: int,
    on_look: Callable[[TrainingState], None] = lambda _: None,
) -> Trained:
    """Train from `state` to the end.

    Parameters
    ----------
    data, held_out
        Inputs ``(n, 3)`` and standardised outputs ``(n, noutput)``.
    scale
        Of the standardisation, to report errors in relative units.
    n_part
        Spectra described by one output vector.
    seed
        Of the batches; a batch depends on its step alone, so that a resumed training is the same training.
    on_look
        Called after every look, to show progress and to save the state.

    Raises
    ------
    InputError
        When the loss is no longer finite.
    """
    encoded = jax.jit(encode)
    x, y = (encoded(jnp.asarray(data[0]), encoding), jnp.asarray(data[1], jnp.float32))
    x_out, y_out = (encoded(jnp.asarray(held_out[0]), encoding), jnp.asarray(held_out[1], jnp.float32))
    advance, error = _advance(options), jax.jit(_loss)
    to_rms = lambda loss: float(scale * np.sqrt(float(loss) / n_part))  # noqa: E731
    best = min((h.held_out for h in state.history), default=np.inf)
    while state.step < options.steps and state.since_best < options.patience:
        key = jax.random.fold_in(jax.random.PRNGKey(seed), state.step)
        state.network, state.optimiser, loss = advance(state.network, state.optimiser, key, x, y)
        state.step += options.check_every
        look = Look(state.step, to_rms(loss), to_rms(error(state.network, x_out, y_out)))
        if not np.isfinite(look.train):
            raise InputError(f"training diverged at step {state.step}; lower [training] learning_rate")
        state.history.append(look)
        state.since_best += 1
        if look.held_out < best:
            best, state.best, state.since_best = look.held_out, state.network, 0
        on_look(state)
    refit = refit_last_layer(state.best, x, y)
    after = to_rms(error(refit, x_out, y_out))
    return Trained(refit if after < best else state.best, state.history, after)


def refit_last_layer(network: Network, x: jax.Array, y: jax.Array) -> Network:
    """The same hidden layers with the last one solved for by least squares over all spectra."""
    inputs = np.concatenate([np.asarray(_last_inputs(network, x[i : i + 8192])) for i in range(0, len(x), 8192)])
    inputs = inputs.astype(np.float64)
    gram = inputs.T @ inputs
    ridge = 1e-10 * np.trace(gram) / len(gram)
    last = np.linalg.solve(gram + ridge * np.eye(len(gram)), inputs.T @ np.asarray(y, np.float64))
    return network._replace(last=jnp.asarray(last, jnp.float32))


_last_inputs = jax.jit(last_inputs)


def _optimiser(options: TrainingOptions) -> optax.GradientTransformation:
    warm_up = max(1, options.steps // 50)
    peak = options.learning_rate
    return optax.adam(optax.warmup_cosine_decay_schedule(0.0, peak, warm_up, options.steps, 1e-3 * peak))


def _loss(network: Network, x: jax.Array, y: jax.Array) -> jax.Array:
    return jnp.mean(jnp.sum((apply_network(network, x) - y) ** 2, axis=1))


def _advance(options: TrainingOptions) -> Callable[..., tuple[Network, optax.OptState, jax.Array]]:
    """Compiled: `check_every` steps."""
    optimiser = _optimiser(options)

    def step(carry: tuple[Network, Any], key: jax.Array, x: jax.Array, y: jax.Array) -> tuple[Any, Any]:
        network, state = carry
        pick = jax.random.randint(key, (options.batch,), 0, len(x))
        loss, gradient = jax.value_and_grad(_loss)(network, x[pick], y[pick])
        update, state = optimiser.update(gradient, state)
        return (optax.apply_updates(network, update), state), loss

    @jax.jit
    def advance(network: Network, state: optax.OptState, key: jax.Array, x: jax.Array, y: jax.Array) -> tuple:
        keys = jax.random.split(key, options.check_every)
        (network, state), loss = jax.lax.scan(lambda c, k: step(c, k, x, y), (network, state), keys)
        return network, state, jnp.mean(loss)

    return advance
