"""Small catalogs for galleries, with names and messages that mean harm."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np

from provabgs.catalog.store import write_catalog
from provabgs.core.status import Status
from provabgs.inference.posterior import Posterior
from provabgs.pipelines.dry_run import synthetic_posterior

FIRST = 39627783185368040
HOSTILE = '</script><img src=x onerror="window.hacked=1"><script>window.hacked=1</script>\u2028\'"&amp;'
"""A message that would run code on a page that took it for HTML or JavaScript."""


def small_posteriors(n: int = 12) -> list[Posterior]:
    """Posteriors over two degrees of sky: the second NOT_CONVERGED with a hostile message, and one without samples."""
    rng = np.random.default_rng(5)
    made = [
        replace(
            synthetic_posterior(FIRST + i, rng, 60, redshift=0.05 + 0.02 * i),
            ra=150.0 + float(rng.uniform(-1, 1)),
            dec=2.0 + float(rng.uniform(-1, 1)),
            meta={"PROGRAM": "bright" if i % 2 else "dark", "SURVEY": HOSTILE[:30]},
        )
        for i in range(n)
    ]
    made[1] = replace(made[1], status=Status.NOT_CONVERGED, message=HOSTILE)
    return [*made, Posterior(7, 0.3, Status.UNOBSERVED, "no exposure", config=made[0].config)]


def small_catalog(root: Path, n: int = 12) -> Path:
    """A catalog of `small_posteriors`."""
    write_catalog(root, small_posteriors(n), allow_mixed=True)
    return root
