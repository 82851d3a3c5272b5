"""Catalogs of made-up galaxies whose posteriors obey the model's own induced prior, so that its division can be tested.

A galaxy's "data" is a Gaussian measurement of one property; its posterior under the real prior is found by importance
sampling of prior draws. True values follow a population that the prior knows nothing of.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np

from provabgs.catalog.columns import STANDARD
from provabgs.catalog.store import write_catalog
from provabgs.core.status import Status
from provabgs.inference.config import FitConfig
from provabgs.inference.posterior import Posterior
from provabgs.pipelines.dry_run import synthetic_posterior
from provabgs.population.prior.draws import draw_properties


def made_up_posteriors(
    truth: np.ndarray,
    columns: str | tuple[str, ...],
    noise: float | tuple[float, ...],
    rng: np.random.Generator,
    redshift: float = 0.2,
    n_draw: int = 200,
    n_pool: int = 400_000,
) -> list[Posterior]:
    """Posteriors of galaxies, all at one redshift.

    Parameters
    ----------
    truth
        ``(n,)`` or ``(n, k)`` true values of `columns`.
    columns
        Sample columns that are measured.
    noise
        Sigma of each measurement.
    rng
        Source of the numbers.
    redshift
        Of all galaxies.
    n_draw
        Draws of a posterior.
    n_pool
        Prior draws that posteriors are drawn from.
    """
    names = (columns,) if isinstance(columns, str) else columns
    sigma = np.broadcast_to(noise, len(names))
    pool = draw_properties(FitConfig(), redshift, n_pool, rng)
    values = np.stack([pool[name] for name in names], axis=1)
    order = np.argsort(values[:, 0])
    config = FitConfig().model_dump_json()
    out = []
    for i, t in enumerate(np.reshape(truth, (len(truth), len(names)))):
        observed = t + sigma * rng.standard_normal(len(names))
        reach = np.searchsorted(values[order, 0], observed[0] + 5 * sigma[0] * np.array([-1, 1]))
        near = order[slice(*reach)]
        weight = np.exp(-0.5 * np.sum(((values[near] - observed) / sigma) ** 2, axis=1))
        chosen = rng.choice(near, n_draw, p=weight / weight.sum())
        base = synthetic_posterior(i + 1, rng, n_draw, redshift=redshift)
        out.append(
            replace(
                base,
                samples=np.stack([pool[p.column][chosen] for p in STANDARD.parameters], axis=1),
                derived={p.name: pool[p.column][chosen] for p in STANDARD.properties},
                config=config,
                ra=10.0,
                dec=10.0,
                meta={"W_ZFAIL": 1.0},
            )
        )
    return out


def write_made_up_catalog(root: Path, posteriors: list[Posterior], *, n_samples: int = 200) -> None:
    """A catalog of them, with one galaxy that did not converge and one without samples."""
    extra = [
        replace(posteriors[0], targetid=10_001, status=Status.NOT_CONVERGED),
        Posterior(10_002, 0.2, Status.UNOBSERVED, "no exposure", config=posteriors[0].config),
    ]
    write_catalog(root, [*posteriors, *extra], n_samples=n_samples, allow_mixed=True)
