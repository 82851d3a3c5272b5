"""Samplers side by side: gate, time, evaluations, and quantiles against reference posteriors.

``python benchmarks/samplers.py --galaxies 96 -o samplers.h5`` simulates galaxies (fixed by seed: z 0.02-0.55, S/N
1-30 per pixel, every fourth photometry or spectrum alone in turn), makes a reference posterior of each by the default
sampler with ten times the effective draws and another seed, and runs every route once with the budget of
``--time-limit`` seconds. Interrupted, it goes on where it was. Times are processor seconds, one thread, compilation
excluded by a first run of the same shapes.

Routes: ``annealed`` (the default); ``emcee`` in twelve dimensions (differential evolution); ``emcee-collapsed`` and
``nuts-collapsed`` in the eight dimensions that are left when the masses are integrated out, the latter blackjax's NUTS
with window adaptation, eight chains. Collapsed routes draw masses afterwards and are weighted to the exact posterior.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import blackjax
import emcee
import numpy as np
from astropy.table import Table, vstack

sys.path.insert(0, str(Path(__file__).parent))
from calibration import simulate

from provabgs._jax import jax, jnp
from provabgs.inference.collapsed import N_OUTER, CollapsedPosterior, marginal_function
from provabgs.inference.compressed.columns import make_normal_equations
from provabgs.inference.config import FitConfig, SamplerOptions
from provabgs.inference.diagnostics import convergence
from provabgs.inference.fit import load_model, make_likelihood, make_target
from provabgs.inference.likelihood import ExactLikelihood
from provabgs.inference.priors import Prior
from provabgs.inference.samplers import Target, get_sampler
from provabgs.observe.observation import Observation
from provabgs.observe.options import ObservingOptions
from provabgs.observe.projection import project

FIRST_SEED = 5000
N_CHAINS, N_WALKERS = 8, 64
QUANTILES = (0.16, 0.5, 0.84)
OBSERVING = ObservingOptions(line_mask="none", floor_spectrum=0, floor_optical=0, floor_infrared=0)


class Outcome(NamedTuple):
    """What a route gave."""

    quantities: np.ndarray
    """``(nchain, ndraw, nquantity)``."""
    n_eval: int


Route = Callable[["Case", np.random.Generator, float], Outcome]


class Case(NamedTuple):
    """One galaxy's target, and the collapsed posterior as a JAX function."""

    target: Target
    collapsed: CollapsedPosterior
    log_marginal: Callable[[jax.Array], jax.Array]


def make_case(number: int) -> Case:
    """Target of one benchmark galaxy."""
    observation, _ = simulate(FIRST_SEED + number)
    if number % 4 == 3:
        observation = _without(observation, "photometry" if number % 8 == 3 else "spectra")
    model, config = load_model(FitConfig().model), FitConfig(observing=OBSERVING)
    exact = ExactLikelihood(project(observation, model.library, OBSERVING), model)
    prior = Prior.create(observation.fiber_fraction)
    likelihood = make_likelihood(exact, config)
    target = make_target(likelihood, exact, prior)
    assert target.collapsed is not None, "the benchmark compares samplers of the compressed engine"
    return Case(target, target.collapsed, marginal_function(make_normal_equations(model), likelihood.reduction, prior))


def _without(observation: Observation, what: str) -> Observation:
    return replace(observation, **{what: None if what == "photometry" else ()})


def by_name(name: str, **options: float) -> Route:
    """A sampler of the package."""

    def route(case: Case, rng: np.random.Generator, limit: float) -> Outcome:
        settings = SamplerOptions(name=name, time_limit_s=limit, max_eval=100_000_000, **options)
        result = get_sampler(name)(case.target, rng, settings)
        return Outcome(_monitored(case, result.draws), result.n_eval)

    return route


def emcee_collapsed(case: Case, rng: np.random.Generator, limit: float) -> Outcome:
    """Differential evolution in eight dimensions: four ensembles, steps until the gate or the end of the budget."""
    start, n_ensemble, n_step = time.process_time(), 4, 500
    moves = [(emcee.moves.DEMove(), 0.7), (emcee.moves.DEMove(gamma0=1.0), 0.1), (emcee.moves.DESnookerMove(), 0.2)]
    samplers, states = [], []
    for _ in range(n_ensemble):
        first = rng.standard_normal((1024, N_OUTER))
        order = np.argsort(-case.collapsed.log_marginal(first))[: 2 * N_WALKERS]
        sampler = emcee.EnsembleSampler(N_WALKERS, N_OUTER, case.collapsed.log_marginal, moves=moves, vectorize=True)
        sampler.random_state = np.random.RandomState(int(rng.integers(2**32))).get_state()
        samplers.append(sampler)
        states.append(first[rng.permutation(order)[:N_WALKERS]])
    while True:
        states = [s.run_mcmc(p, n_step, skip_initial_state_check=True) for s, p in zip(samplers, states, strict=True)]
        done = samplers[0].iteration
        half = [s.get_chain()[done // 2 :: max(1, done // 1000)] for s in samplers]
        outcome = _with_masses(case, np.concatenate(half, axis=1).swapaxes(0, 1), rng)
        n_eval = n_ensemble * (1024 + N_WALKERS * done)
        if _passes(outcome) or time.process_time() - start > limit:
            return Outcome(outcome, n_eval)
        n_step = done


def nuts_collapsed(case: Case, rng: np.random.Generator, limit: float) -> Outcome:
    """NUTS in eight dimensions, chains from the best of prior draws, window adaptation of 500 steps each."""
    start, key = time.process_time(), jax.random.key(int(rng.integers(2**31)))
    log_density = lambda x: case.log_marginal(x[None])[0]  # noqa: E731
    first = rng.standard_normal((1024, N_OUTER))
    starts = first[np.argsort(-case.collapsed.log_marginal(first))[:N_CHAINS]]
    chains, n_eval = [], 1024

    @jax.jit
    def chain(key: jax.Array, position: jax.Array) -> tuple[jax.Array, jax.Array]:
        warm, run = jax.random.split(key)
        adaptation = blackjax.window_adaptation(blackjax.nuts, log_density, is_mass_matrix_diagonal=False)
        (state, parameters), info = adaptation.run(warm, position, 500)
        step = blackjax.nuts(log_density, **parameters).step

        def one(state, key):  # type: ignore[no-untyped-def]
            state, info = step(key, state)
            return state, (state.position, info.num_integration_steps)

        _, (positions, cost) = jax.lax.scan(one, state, jax.random.split(run, 1000))
        return positions, cost.sum() + info.info.num_integration_steps.sum()

    for k, position in zip(jax.random.split(key, N_CHAINS), starts, strict=True):
        positions, cost = chain(k, jnp.asarray(position))
        chains.append(np.asarray(positions))
        n_eval += int(cost)
        if time.process_time() - start > limit and len(chains) >= 2:
            break
    return Outcome(_with_masses(case, np.stack(chains), rng), n_eval)


def _with_masses(case: Case, outer: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Masses drawn at collapsed chains ``(nchain, ndraw, 8)``, resampled within chains to the exact posterior."""
    n_chain, n_draw = outer.shape[:2]
    flat = outer.reshape(-1, N_OUTER)
    latent, ratio = [], []
    for i in range(0, len(flat), 1024):
        x = np.resize(flat[i : i + 1024], (1024, N_OUTER))
        drawn, log_target = case.collapsed.draw_masses(x, rng.random((1024, 4, 5)))
        latent.append(drawn)
        ratio.append(log_target - case.collapsed.log_marginal(x))
    full = np.concatenate(latent)[: len(flat)].reshape(n_chain, n_draw, -1)
    log_weight = np.concatenate(ratio)[: len(flat)].reshape(n_chain, n_draw)
    keep = np.log(rng.random((n_chain, n_draw))) < log_weight - np.quantile(log_weight, 0.999)
    kept = [chain[np.resize(np.flatnonzero(k), n_draw)] for chain, k in zip(full, keep, strict=True)]
    return _monitored(case, np.stack(kept))


def _monitored(case: Case, draws: np.ndarray) -> np.ndarray:
    thinned = draws[:, :: max(1, draws.shape[1] // 4096)]
    return case.target.monitor(thinned.reshape(-1, thinned.shape[-1])).reshape(*thinned.shape[:2], -1)


def _passes(quantities: np.ndarray) -> bool:
    return convergence(quantities).passes(1.01, 400)


ROUTES: dict[str, Route] = {
    "annealed": by_name("annealed"),
    "emcee": by_name("emcee"),
    "emcee-collapsed": emcee_collapsed,
    "nuts-collapsed": nuts_collapsed,
}
REFERENCE = by_name("annealed", ess=5000, rhat=1.002)


def run_galaxy(number: int, routes: list[str], limit: float) -> list[dict]:
    """All routes on one galaxy."""
    case, rows = make_case(number), []
    reference = REFERENCE(case, np.random.default_rng([number, 999]), 20 * limit).quantities
    wanted, sigma = _quantiles(reference)
    for name in routes:
        if name not in _WARM:  # compile
            ROUTES[name](case, np.random.default_rng(0), 1.0)
            _WARM.add(name)
        start = time.process_time()
        outcome = ROUTES[name](case, np.random.default_rng([number, 1]), limit)
        seconds = time.process_time() - start
        report = convergence(outcome.quantities)
        found, _ = _quantiles(outcome.quantities)
        row = {"galaxy": number, "route": name, "seconds": seconds, "n_eval": outcome.n_eval}
        row |= {"rhat": report.rhat_max, "ess": report.ess_min, "gate": report.passes(1.01, 400)}
        rows.append(row | {"shift": np.max(np.abs(found - wanted)[:, sigma > 0] / sigma[sigma > 0])})
        print(" ".join(f"{k}={v:.4g}" if isinstance(v, float) else f"{k}={v}" for k, v in rows[-1].items()), flush=True)
    return rows


_WARM: set[str] = set()


def _quantiles(quantities: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """``(3, nquantity)`` and half the distance of the outer two."""
    q = np.quantile(quantities.reshape(-1, quantities.shape[-1]), QUANTILES, axis=0)
    return q, (q[2] - q[0]) / 2


def report(table: Table) -> None:
    """Print Markdown."""
    print(
        "| route | galaxies | gate | seconds: median, 95 % | evaluations | ESS/s | worst quantile shift: median, max |"
    )
    print("|---|---|---|---|---|---|---|")
    for name in dict.fromkeys(table["route"]):
        t = table[table["route"] == name]
        speed = np.median(np.nan_to_num(t["ess"]) / t["seconds"])
        print(
            f"| {name} | {len(t)} | {np.mean(t['gate']):.0%} | {np.median(t['seconds']):.1f}, "
            f"{np.percentile(t['seconds'], 95):.1f} | {np.median(t['n_eval']):.3g} | {speed:.3g} | "
            f"{np.median(t['shift']):.2f}, {np.max(t['shift']):.2f} |"
        )


def main() -> None:
    """Parse the command line and run."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--galaxies", type=int, default=96)
    parser.add_argument("--routes", nargs="+", default=list(ROUTES), choices=list(ROUTES))
    parser.add_argument("--time-limit", type=float, default=60.0, help="processor seconds per route and galaxy")
    parser.add_argument("-o", "--output", type=Path, default=Path("samplers.h5"))
    args = parser.parse_args()
    done = Table.read(args.output, path="samplers") if args.output.exists() else Table()
    for number in range(args.galaxies):
        missing = [r for r in args.routes if not len(done) or not np.any(_rows(done, number, r))]
        if missing:
            done = vstack([done, Table(run_galaxy(number, missing, args.time_limit))], metadata_conflicts="silent")
            done.write(args.output, path="samplers", overwrite=True, serialize_meta=False)
    report(Table({c: (done[c].astype(str) if c == "route" else done[c]) for c in done.colnames}))


def _rows(table: Table, number: int, route: str) -> np.ndarray:
    names = np.array([r.decode() if isinstance(r, bytes) else r for r in table["route"]])
    return (table["galaxy"] == number) & (names == route)


if __name__ == "__main__":
    main()
