"""One fit process of `studies.gpu`: makes galaxies, waits for the word, samples them, and says how it went.

``python -m studies.support.served_fits KIND FIRST_SEED N`` prints "ready" once its galaxies are made and one of them is
sampled, waits for a line on standard input, samples all ("sampled" and a line of JSON each), waits again, and fits them
from data to posterior ("fitted").
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable
from typing import Any

import numpy as np

from provabgs.inference.backends import make_likelihood, model_for
from provabgs.inference.config import FitConfig
from provabgs.inference.fit import fit_one
from provabgs.inference.fit_observation import galaxy_rng, prior_of
from provabgs.inference.likelihood import ExactLikelihood
from provabgs.inference.samplers.annealed import sample_annealed
from provabgs.inference.samplers.base import Target
from provabgs.inference.target import make_target
from provabgs.observe.as_configured import as_configured
from provabgs.observe.observation import Observation
from provabgs.observe.projection import project
from provabgs.observe.spectrum_fraction import with_spectrum_fraction
from studies.support.prior_galaxies import simulate

MOST = 150_000
"""Evaluations of a galaxy: what does not converge must not hold up the study."""


def target_of(observation: Observation, config: FitConfig) -> Callable[[], Target]:
    """The posterior of one galaxy, reduced; made anew at each call, so that a device server gets and drops it."""
    fitted, _ = with_spectrum_fraction(as_configured(observation.part(config.use), config.observing))
    model = model_for(config.model, fitted, config.engine)
    exact = ExactLikelihood(project(fitted, model.library, config.observing), model)
    likelihood, prior = make_likelihood(exact, config), prior_of(exact, fitted, config)
    return lambda: make_target(likelihood, model, exact.tables, prior)


def sampled(make: Callable[[], Target], config: FitConfig, seed: int) -> dict[str, Any]:
    """One galaxy's numbers: what sampling took, how well it converged, and its posterior's medians and widths."""
    start, host = time.perf_counter(), time.process_time()
    target = make()
    result = sample_annealed(target, galaxy_rng(0, seed), config.sampler)
    seconds, host_s = time.perf_counter() - start, time.process_time() - host
    values = target.monitor(result.draws.reshape(-1, result.draws.shape[-1])[:2048])
    report = result.convergence
    return {
        "seed": seed,
        "seconds": seconds,
        "host_s": host_s,
        "converged": bool(report.passes(config.sampler.rhat, config.sampler.ess) and not result.reason),
        "n_eval": result.n_eval,
        "rhat": report.rhat_max,
        "ess": report.ess_min,
        "log_evidence": result.log_evidence,
        "median": np.median(values, axis=0).tolist(),
        "width": (0.5 * np.subtract(*np.percentile(values, [84, 16], axis=0))).tolist(),
    }


def _say(text: str) -> None:
    print(text, flush=True)


def main() -> None:
    """See the module's text."""
    kind, first, n = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
    config = FitConfig.model_validate({"use": kind, "sampler": {"max_eval": MOST}})
    seeds = range(first, first + n)
    observations = [simulate(seed, "honest")[0] for seed in seeds]
    targets = [target_of(o, config) for o in observations]
    sampled(targets[0], config, first + 1)
    for word in ("sampled", "fitted"):
        _say("ready")
        if not sys.stdin.readline():
            return
        for seed, make, observation in zip(seeds, targets, observations, strict=True):
            if word == "sampled":
                _say(f"{word} {json.dumps(sampled(make, config, seed))}")
            else:
                posterior = fit_one(observation, config, 0)
                _say(f"{word} {json.dumps({'seed': seed, 'status': posterior.status.name})}")


if __name__ == "__main__":
    main()
