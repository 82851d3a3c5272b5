"""The amortised flow as a proposal of the collapsed posterior: simulate, train, evaluate.

``python benchmarks/amortised.py simulate -o simulations.h5`` draws 800,000 noise-free galaxies of the prior at 500
redshifts (a minute); ``train simulations.h5 -o flow.eqx --steps 12000`` trains the conditional flow on them (a quarter
of an hour on one core), noise drawn anew at every step; ``evaluate simulations.h5 flow.eqx -o amortised.h5 --galaxies
24`` takes galaxies of the calibration study (exact model, seeds from 6000) and measures, with the exact weights of the
collapsed posterior,

- the efficiency of the flow's draws: of their own weights, and as the posterior sees it (1 / mean of the weights over
  posterior draws, which a region that the flow misses enters);
- the default sampler, and the same with populations that start from the flow: annealed from q(x) to the posterior in
  place of from the prior, usually in one step. Evaluations, processor seconds and the gate of both.

All three go on where they were interrupted. Times are processor seconds of one thread; what is compiled is compiled
beforehand.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path
from typing import NamedTuple

import numpy as np
from amortised_flow import Flow, FlowProposal, train
from amortised_simulations import OBSERVING, simulate_to
from amortised_start import N_START, run
from astropy.table import Row, Table, vstack
from calibration import simulate
from scipy.special import logsumexp

from provabgs.core.arrays import thin
from provabgs.core.chunks import in_chunks
from provabgs.core.jax import jnp
from provabgs.core.status import Status
from provabgs.core.weights import effective_sample_size
from provabgs.inference.backends import load_model, make_likelihood
from provabgs.inference.config import FitConfig
from provabgs.inference.likelihood import ExactLikelihood
from provabgs.inference.marginalised import OUTER_INDEX
from provabgs.inference.priors import N_LATENT, Prior, latent_from_unit, unit_from_theta
from provabgs.inference.samplers.base import Target
from provabgs.inference.samplers.pool import BATCH, N_MASSES
from provabgs.inference.target import make_target
from provabgs.observe.projection import Projection, project
from provabgs.sps.parameters import NAMES

FIRST_SEED = 6000
N_FLOW = 4096
"""Draws that efficiencies are measured on."""


class Case(NamedTuple):
    """One galaxy."""

    projection: Projection
    target: Target
    prior: Prior
    snr: float
    truth: np.ndarray
    """``(1, 8)`` outer coordinates that it was made with."""


def make_case(seed: int) -> Case:
    """A galaxy of the calibration study."""
    observation, theta = simulate(seed)
    model = load_model(FitConfig().model)
    projection = project(observation, model.library, OBSERVING)
    exact = ExactLikelihood(projection, model)
    likelihood = make_likelihood(exact, FitConfig(observing=OBSERVING))
    prior = Prior.create(observation.fiber_fraction)
    truth = np.asarray(latent_from_unit(unit_from_theta(jnp.asarray(theta), prior)))[:, OUTER_INDEX]
    return Case(projection, make_target(likelihood, exact, prior), prior, observation.meta["SNR"], truth)


def own_efficiency(flow: FlowProposal, target: Target, rng: np.random.Generator) -> dict[str, float]:
    """Effective share of the flow's draws by the fast marginal and by exact weights, and log evidence by the latter."""
    assert target.collapsed is not None
    x = flow.sample(N_FLOW, rng)
    log_density = flow.log_density(x)
    fast = in_chunks(target.collapsed.log_marginal, x, BATCH) - log_density
    uniforms = rng.random((N_FLOW, N_MASSES, 5))
    chunks = range(0, N_FLOW, BATCH)
    exact = np.concatenate([target.collapsed.draw_masses(x[i : i + BATCH], uniforms[i : i + BATCH])[1] for i in chunks])
    exact = np.where(np.isfinite(exact), exact, -np.inf) - log_density
    log_evidence = float(logsumexp(exact) - np.log(N_FLOW))
    return {
        "fast": effective_sample_size(fast) / N_FLOW,
        "exact": effective_sample_size(exact) / N_FLOW,
        "flow_evidence": log_evidence,
    }


def seen_efficiency(flow: FlowProposal, target: Target, outer: np.ndarray, log_evidence: float) -> float:
    """Efficiency by the weights w of posterior draws ``(n, 8)``: E_q[w]^2 / E_q[w^2] = Z / E_posterior[w]."""
    assert target.collapsed is not None
    log_weight = in_chunks(target.collapsed.log_marginal, outer, BATCH) - flow.log_density(outer)
    return float(np.exp(log_evidence - (logsumexp(log_weight) - np.log(len(outer)))))


def one(seed: int, flow: Flow, study: Table | None) -> dict:
    """All measurements of one galaxy; the default sampler's from the calibration study where one is given."""
    case = make_case(seed)
    _warm_up(case.target)
    rng = np.random.default_rng([seed, 4])
    log_truth = FlowProposal(flow, case.projection, rng).log_density(case.truth)[0]
    begin = time.process_time()
    proposal = FlowProposal(flow, case.projection, rng)
    condition_s = time.process_time() - begin
    begin = time.process_time()
    proposal.log_density(proposal.sample(N_START, rng))
    row = {"seed": seed, "z": case.projection.redshift, "snr": case.snr, "log_truth": log_truth}
    row |= {"condition_s": condition_s, "draw_us": 1e6 * (time.process_time() - begin) / N_START}
    row |= own_efficiency(proposal, case.target, rng)
    result, started = run(case.target, proposal, seed)
    if study is None:
        result, usual = run(case.target, None, seed)
        draws = result.draws.reshape(-1, N_LATENT)
        outer = draws[thin(len(draws), N_FLOW)][:, OUTER_INDEX]
    else:
        usual, outer = _from_study(study[study["seed"] == seed][0], case)
    row["seen"] = seen_efficiency(proposal, case.target, outer, started["log_evidence"])
    row |= {f"usual_{k}": v for k, v in usual.items()} | {f"flow_{k}": v for k, v in started.items()}
    print(" ".join(f"{k}={v:.4g}" for k, v in row.items()), flush=True)
    return row


def _from_study(row: Row, case: Case) -> tuple[dict, np.ndarray]:
    """The default sampler's numbers, and outer coordinates of its draws."""
    usual = {"seconds": row["runtime_s"], "n_eval": row["n_eval"], "n_stage": np.nan}
    usual |= {"gate": row["status"] == int(Status.CONVERGED), "rhat": row["rhat_max"], "ess": row["ess_min"]}
    theta = jnp.asarray(row["draws"][:, : len(NAMES)], jnp.float64)
    outer = np.asarray(latent_from_unit(unit_from_theta(theta, case.prior)))[:, OUTER_INDEX]
    return usual | {"log_evidence": np.nan, "apart": np.nan}, outer


def _warm_up(target: Target) -> None:
    """Compile what a galaxy of this size needs."""
    assert target.collapsed is not None
    x = np.zeros((BATCH, 8))
    target.collapsed.log_marginal(x)
    latent, _ = target.collapsed.draw_masses(x, np.full((BATCH, N_MASSES, 5), 0.5))
    target.monitor(latent)
    target.log_likelihood(latent)


def report(table: Table) -> None:
    """Print Markdown."""
    print(f"\n{len(table)} galaxies\n\n| efficiency of the flow's draws | median | 16-84 % | smallest |")
    print("|---|---|---|---|")
    names = {"fast": "fast marginal", "exact": "exact weights", "seen": "as posterior draws see it"}
    for name, label in names.items():
        low, middle, high = 100 * np.percentile(table[name], [16, 50, 84])
        print(f"| {label} | {middle:.2g} % | {low:.2g}-{high:.2g} % | {100 * np.min(table[name]):.2g} % |")
    print("\n| start | gate | populations apart by > 1 in ln Z | annealing evaluations | all: median, 95 % |", end="")
    print(" seconds: median, 95 % |\n|---|---|---|---|---|---|")
    for name, label in {"usual": "prior (default)", "flow": "flow"}.items():
        n, s, n_stage = (table[f"{name}_{column}"] for column in ("n_eval", "seconds", "n_stage"))
        print(
            f"| {label} | {np.sum(table[f'{name}_gate'])} of {len(table)} | "
            f"{np.sum(table[f'{name}_apart'] > 1)} | {np.median(n_stage):.0f} | "
            f"{np.median(n):.0f}, {np.percentile(n, 95):.0f} | {np.median(s):.1f}, {np.percentile(s, 95):.1f} |"
        )
    print("\nflow over default, median and range:", end=" ")
    for name in ("n_eval", "seconds"):
        ratio = table[f"flow_{name}"] / table[f"usual_{name}"]
        print(f"{name} {np.median(ratio):.2f} ({ratio.min():.2f}-{ratio.max():.2f})", end="; ")
    draw = np.median(table["draw_us"])
    print(f"condition {np.median(table['condition_s']):.2f} s, draws with density {draw:.0f} us each")
    print(f"mean log density of the flow at the truth: {np.mean(table['log_truth']):.2f}")
    shift = np.abs(table["flow_log_evidence"] - table["usual_log_evidence"])
    print(f"log evidence, flow less default: median {np.median(shift):.3f}, largest {np.max(shift):.3f}")


def evaluate(simulations: Path, checkpoint: Path, output: Path, seeds: range, study: Path | None) -> None:
    """Measure galaxy after galaxy; goes on where it was."""
    flow = Flow(checkpoint, simulations)
    table = None if study is None else Table.read(study, path="calibration")
    done = Table.read(output, path="amortised") if output.exists() else Table()
    for seed in seeds:
        if len(done) and seed in done["seed"]:
            continue
        row = Table([one(seed, flow, table)])
        done = vstack([done, row]) if len(done) else row
        part = output.with_suffix(".part.h5")
        done.write(part, path="amortised", overwrite=True)
        part.replace(output)
    report(done)


def main() -> None:
    """Parse the command line and run."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    command = commands.add_parser("simulate")
    command.add_argument("-o", "--output", type=Path, default=Path("simulations.h5"))
    command.add_argument("--redshifts", type=int, default=500)
    command.add_argument("--galaxies", type=int, default=1600, help="at each redshift")
    command = commands.add_parser("train")
    command.add_argument("simulations", type=Path)
    command.add_argument("-o", "--output", type=Path, default=Path("flow.eqx"))
    command.add_argument("--steps", type=int, default=12000)
    command = commands.add_parser("evaluate")
    command.add_argument("simulations", type=Path)
    command.add_argument("flow", type=Path)
    command.add_argument("-o", "--output", type=Path, default=Path("amortised.h5"))
    command.add_argument("--galaxies", type=int, default=24)
    command.add_argument("--first", type=int, default=FIRST_SEED, help="seed of the first")
    command.add_argument("--study", type=Path, help="calibration.h5: its default fits are not redone")
    args = parser.parse_args()
    if args.command == "simulate":
        simulate_to(args.output, args.redshifts, args.galaxies)
    elif args.command == "train":
        train(args.simulations, args.output, args.steps)
    else:
        evaluate(args.simulations, args.flow, args.output, range(args.first, args.first + args.galaxies), args.study)


if __name__ == "__main__":
    main()
