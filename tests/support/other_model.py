"""Posteriors of a model that is not the default one: mass fractions in eight age bins, and a property of its own."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from provabgs.inference.posterior import Diagnostics, Posterior
from provabgs.inference.standard import PARAMETERS, PROPERTIES
from provabgs.pipelines.dry_run import synthetic_posterior
from provabgs.sps.derived import DerivedProperty
from provabgs.sps.parameters import Parameter, ParameterSet

N_BIN = 8
BINNED = ParameterSet(
    (
        PARAMETERS["logmstar"],
        *(
            Parameter(f"bin{k}", f"BIN{k}", f"f_{k}", "", f"mass of bin {k}", "flat-dirichlet", (0.0, 1.0), "linear")
            for k in range(1, N_BIN + 1)
        ),
        Parameter("z_star", "Z_STAR", r"Z_\ast", "", "stellar metallicity", "log-uniform", (1e-4, 0.05)),
        PARAMETERS["tau_ism"],
        PARAMETERS["f_fiber"],
    )
)
"""Shares total mass, optical depth and f_fiber with the default fit."""
OLD = DerivedProperty("f_old", "F_OLD", r"f_{>5\,{\rm Gyr}}", "", "fraction of the mass older than 5 Gyr")
BINNED_PROPERTIES = (*(p for p in PROPERTIES if p.name != "t_age_mw"), OLD)


def binned_posterior(targetid: int, rng: np.random.Generator, n_draws: int = 200, redshift: float = 0.1) -> Posterior:
    """A converged-looking posterior of the model with age bins; z_star is within 10 % of 0.01.

    Parameters
    ----------
    targetid, redshift
        Which galaxy.
    rng
        Source of the numbers.
    n_draws
        Draws.
    """
    base = synthetic_posterior(targetid, rng, n_draws, redshift=redshift)
    samples = np.empty((n_draws, BINNED.size))
    for name in ("logmstar", "tau_ism", "f_fiber"):
        samples[:, BINNED.index(name)] = base[name]
    samples[:, BINNED.index("z_star")] = 0.01 * 10 ** rng.uniform(-0.04, 0.04, n_draws)
    samples[:, BINNED.indices([f"bin{k}" for k in range(1, N_BIN + 1)])] = rng.dirichlet(np.ones(N_BIN), n_draws)
    derived = {p.name: base.derived[p.name] for p in BINNED_PROPERTIES if p is not OLD}
    derived["f_old"] = samples[:, BINNED.indices(["bin7", "bin8"])].sum(axis=1)
    quantities = (*BINNED.names, *derived)
    best = int(np.argmax(base.log_prob))
    return replace(
        base,
        parameters=BINNED,
        properties=BINNED_PROPERTIES,
        samples=samples,
        derived=derived,
        best_fit=samples[best],
        best_fit_derived={k: float(v[best]) for k, v in derived.items()},
        diagnostics=Diagnostics(
            rhat=dict.fromkeys(quantities, 1.002),
            ess_bulk=dict.fromkeys(quantities, 500.0),
            ess_tail=dict.fromkeys(quantities, 450.0),
            n_eval=n_draws,
            sampler="dry-run",
            engine_dlnl=0.125,
        ),
        prior_edge=dict.fromkeys(("logmstar", "z_star", "tau_ism", "f_fiber"), 0.0) | {"z_star": 0.2},
    )
