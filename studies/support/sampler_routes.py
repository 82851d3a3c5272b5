"""Routes to samples of one galaxy's posterior, behind one signature, for `studies.sampler_comparison`.

``annealed`` and ``emcee`` (twelve dimensions, differential evolution) are the package's. The others work in the eight
dimensions that are left when the masses are integrated out, and draw masses afterwards with weights that make the
posterior exact: emcee, blackjax's NUTS with window adaptation, and nautilus (importance nested sampling, Lange 2023).
Every route compiles before its clock starts.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import NamedTuple

import blackjax
import emcee
import numpy as np
from scipy.special import ndtri

from provabgs.core.chunks import in_chunks
from provabgs.core.jax import jax, jnp
from provabgs.inference.config import SamplerOptions
from provabgs.inference.diagnostics import Convergence, convergence
from provabgs.inference.samplers import SAMPLERS, MarginalPosterior, Target
from provabgs.inference.samplers.pool import walk

N_CHAINS, N_WALKERS, N_ENSEMBLES = 8, 128, 4
N_LIVE, N_EFFECTIVE = 600, 10_000
NUTS_WARM, NUTS_STEPS = 300, 400
BATCH = 1024
GATE = (1.01, 400)


class Outcome(NamedTuple):
    """What a route gave."""

    draws: np.ndarray
    """``(n, nquantity)``."""
    convergence: Convergence
    """Of the chains."""
    n_eval: int
    seconds: float
    """Of processor time."""


class Case(NamedTuple):
    """One galaxy's target, and the marginal posterior as a JAX function."""

    target: Target
    marginal: MarginalPosterior
    log_marginal: Callable[[jax.Array], jax.Array]


Route = Callable[[Case, np.random.Generator, float], Outcome]


def warm(case: Case) -> None:
    """Compile what all routes call."""
    rng = np.random.default_rng(0)
    for n in (BATCH, N_WALKERS // 2):
        case.marginal.log_marginal(rng.standard_normal((n, case.marginal.n_outer)))
        case.target.log_likelihood(rng.standard_normal((n, case.target.n_dim)))
    case.marginal.draw_linear(
        rng.standard_normal((BATCH, case.marginal.n_outer)), rng.random((BATCH, 6, case.marginal.n_uniform))
    )
    case.target.monitor(rng.standard_normal((BATCH, case.target.n_dim)))


def by_name(name: str, **options: float) -> Route:
    """A sampler of the package."""

    def route(case: Case, rng: np.random.Generator, limit: float) -> Outcome:
        start = time.process_time()
        budget = {"time_limit_s": limit, "max_eval": 100_000_000} | options
        settings = SamplerOptions(name=name, **budget)
        result = SAMPLERS[name](case.target, rng, settings)
        seconds = time.process_time() - start
        return Outcome(_flat(_monitored(case, result.draws)), result.convergence, result.n_eval, seconds)

    return route


def nautilus_collapsed(case: Case, rng: np.random.Generator, _limit: float) -> Outcome:
    """Importance nested sampling, to its end: no limit, as a reference may have none. Its weighted points are walked
    over as the default sampler walks over its pool.
    """
    from nautilus import Sampler  # of the extra `studies`: no other route needs it

    start, n_eval = time.process_time(), 0

    def log_likelihood(cube: np.ndarray) -> np.ndarray:
        nonlocal n_eval
        n_eval += len(cube)
        x = ndtri(np.clip(cube, 1e-12, 1 - 1e-12))
        value = in_chunks(case.marginal.log_marginal, x, BATCH) + 0.5 * np.sum(x * x, axis=1)
        return np.where(np.isfinite(value), value, -1e9)

    seed = int(rng.integers(2**31))
    sampler = Sampler(
        lambda u: u, log_likelihood, case.marginal.n_outer, n_live=N_LIVE, n_networks=1, n_batch=BATCH,
        vectorized=True, pass_dict=False, seed=seed,
    )  # fmt: skip
    sampler.run(n_eff=N_EFFECTIVE, verbose=False)
    cube, log_weight, _ = sampler.posterior()
    keep = log_weight > log_weight.max() - 16
    latent, ratio = _draw_masses(case, ndtri(np.clip(cube[keep], 1e-12, 1 - 1e-12)), rng)
    log_weight = log_weight[keep] + ratio
    steps = walk(log_weight, N_CHAINS, rng)
    weight = np.exp(log_weight - log_weight.max())
    drawn = latent[rng.choice(len(latent), 20_000, p=weight / weight.sum())]
    seconds = time.process_time() - start
    judged = convergence(_monitored(case, latent[steps]))
    return Outcome(_flat(_monitored(case, drawn[None])), judged, n_eval, seconds)


def emcee_collapsed(case: Case, rng: np.random.Generator, limit: float) -> Outcome:
    """Differential evolution in eight dimensions: ensembles go on until the gate or the end of the budget."""
    start, n_step, judging = time.process_time(), 250, 0.0
    moves = [(emcee.moves.DEMove(), 0.7), (emcee.moves.DEMove(gamma0=1.0), 0.1), (emcee.moves.DESnookerMove(), 0.2)]
    samplers, states = [], []
    for _ in range(N_ENSEMBLES):
        first = rng.standard_normal((BATCH, case.marginal.n_outer))
        order = np.argsort(-case.marginal.log_marginal(first))[: 2 * N_WALKERS]
        sampler = emcee.EnsembleSampler(
            N_WALKERS, case.marginal.n_outer, case.marginal.log_marginal, moves=moves, vectorize=True
        )
        sampler.random_state = np.random.RandomState(int(rng.integers(2**32))).get_state()
        samplers.append(sampler)
        states.append(first[rng.permutation(order)[:N_WALKERS]])
    while True:
        states = [s.run_mcmc(p, n_step, skip_initial_state_check=True) for s, p in zip(samplers, states, strict=True)]
        done = samplers[0].iteration
        half = [s.get_chain()[done // 2 :: max(1, done // 400)] for s in samplers]
        before = time.process_time()
        quantities = _with_masses(case, np.concatenate(half, axis=1).swapaxes(0, 1), rng)
        judged = convergence(quantities)
        judging += time.process_time() - before
        seconds = time.process_time() - start - judging
        if judged.passes(*GATE) or seconds > limit:
            return Outcome(_flat(quantities), judged, N_ENSEMBLES * (BATCH + N_WALKERS * done), seconds)
        n_step = done


def nuts_collapsed(case: Case, rng: np.random.Generator, limit: float) -> Outcome:
    """NUTS in eight dimensions, chains from the best of prior draws, window adaptation of each."""
    first = rng.standard_normal((BATCH, case.marginal.n_outer))
    starts = jnp.asarray(first[np.argsort(-case.marginal.log_marginal(first))[:N_CHAINS]])
    keys = jax.random.split(jax.random.key(int(rng.integers(2**31))), N_CHAINS)

    def chain(key: jax.Array, position: jax.Array) -> tuple[jax.Array, jax.Array]:
        log_density = lambda x: case.log_marginal(x[None])[0]  # noqa: E731
        warming, running = jax.random.split(key)
        adaptation = blackjax.window_adaptation(blackjax.nuts, log_density, is_mass_matrix_diagonal=False)
        (state, parameters), info = adaptation.run(warming, position, NUTS_WARM)
        step = blackjax.nuts(log_density, **parameters).step

        def one(state, key):  # type: ignore[no-untyped-def]
            state, info = step(key, state)
            return state, (state.position, info.num_integration_steps)

        _, (positions, cost) = jax.lax.scan(one, state, jax.random.split(running, NUTS_STEPS))
        return positions, cost.sum() + info.info.num_integration_steps.sum()

    compiled = jax.jit(chain).lower(keys[0], starts[0]).compile()
    start, chains, n_eval = time.process_time(), [], BATCH
    for key, position in zip(keys, starts, strict=True):
        positions, cost = compiled(key, position)
        chains.append(np.asarray(positions))
        n_eval += int(cost)
        if time.process_time() - start > limit and len(chains) >= 2:
            break
    quantities = _with_masses(case, np.stack(chains), rng)
    return Outcome(_flat(quantities), convergence(quantities), n_eval, time.process_time() - start)


def _draw_masses(case: Case, outer: np.ndarray, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Latent coordinates with masses ``(n, 12)``, and log of exact over approximate marginal ``(n,)``."""
    n = len(outer)
    padded = np.concatenate([outer, np.repeat(outer[-1:], -n % BATCH, axis=0)])
    latent, ratio = [], []
    for i in range(0, len(padded), BATCH):
        x = padded[i : i + BATCH]
        drawn, log_target = case.marginal.draw_linear(x, rng.random((BATCH, 6, case.marginal.n_uniform)))
        latent.append(drawn)
        ratio.append(log_target - case.marginal.log_marginal(x))
    return np.concatenate(latent)[:n], np.concatenate(ratio)[:n]


def _with_masses(case: Case, outer: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Masses drawn at collapsed chains ``(nchain, ndraw, 8)``, rejected within chains to the exact posterior."""
    n_chain, n_draw = outer.shape[:2]
    latent, ratio = _draw_masses(case, outer.reshape(-1, case.marginal.n_outer), rng)
    full, log_weight = latent.reshape(n_chain, n_draw, -1), ratio.reshape(n_chain, n_draw)
    keep = np.log(rng.random((n_chain, n_draw))) < log_weight - np.quantile(log_weight, 0.999)
    # chains keep their length: those that lose draws repeat some
    kept = [chain[np.resize(np.flatnonzero(k), n_draw)] for chain, k in zip(full, keep, strict=True)]
    return _monitored(case, np.stack(kept))


def _monitored(case: Case, draws: np.ndarray) -> np.ndarray:
    thinned = draws[:, :: -(-draws.shape[1] // 4096)] if draws.shape[0] > 1 else draws
    quantities = in_chunks(case.target.monitor, thinned.reshape(-1, thinned.shape[-1]), BATCH)
    return quantities.reshape(*thinned.shape[:2], -1)


def _flat(quantities: np.ndarray) -> np.ndarray:
    return quantities.reshape(-1, quantities.shape[-1])


ROUTES: dict[str, Route] = {
    "annealed": by_name("annealed", max_eval=5_000_000, time_limit_s=300.0),
    "nautilus-collapsed": nautilus_collapsed,
    "nuts-collapsed": nuts_collapsed,
    "emcee-collapsed": emcee_collapsed,
    "emcee": by_name("emcee"),
}
