"""A mock challenge in miniature for ``--smoke``: real mock observations, "fits" that scatter about the truth."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np

from provabgs.catalog import write_posteriors
from provabgs.mocks.challenge import ChallengeConfig, Mode, make_mocks, pending
from provabgs.mocks.make import MockConfig
from tests.support.made_up_catalog import made_up_posteriors

SIGMA = 0.2
"""Error of a fit's log M*, dex."""
MODES: tuple[Mode, ...] = ("both", "photometry")


def toy_challenge(folder: Path, n: int = 6, n_draw: int = 100) -> Path:
    """Make a challenge of two sets of data in `folder`, and return that.

    Parameters
    ----------
    folder
        Becomes the challenge's directory.
    n
        Galaxies.
    n_draw
        Draws of a posterior: of the prior, weighted by a measurement of the mass formed.
    """
    config = ChallengeConfig(output=folder, mock=MockConfig(n=n), modes=MODES, chunk=n)
    truth = make_mocks(config)
    rng = np.random.default_rng(0)
    mass = np.asarray(truth["LOGMSTAR_FORMED"], dtype=np.float64)
    z = float(np.max(truth["Z"]))  # so that no galaxy is older than its universe
    for job in pending(config):
        found = made_up_posteriors(mass, "LOGMSTAR_FORMED", SIGMA, rng, z, n_draw, n_pool=20_000)
        fit = config.fit.model_copy(update={"use": job.mode}).model_dump_json()
        rows = zip(found, truth["TARGETID"], truth["Z"], strict=True)
        posteriors = [replace(p, targetid=int(t), redshift=float(z), config=fit) for p, t, z in rows]
        write_posteriors(job.shard, posteriors)
    return folder
