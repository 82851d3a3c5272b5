"""What Dask workers do for a mock challenge: hold galaxies against the magnitude limit, make chunks, fit pieces."""

from __future__ import annotations

from functools import lru_cache

from astropy.io import fits

from provabgs.catalog import write_posteriors
from provabgs.core.messages import reason
from provabgs.inference.posterior import Posterior
from provabgs.mocks.challenge import STORED_DRAWS, ChallengeConfig, Job, make_chunk
from provabgs.mocks.make import MockMaker
from provabgs.pipelines.dask_worker import BatchReport, StorageError, fit_process
from provabgs.pipelines.supervisor import Batch


@lru_cache(maxsize=1)
def _maker(settings: str) -> tuple[ChallengeConfig, MockMaker]:
    """Galaxies and models are loaded once per worker."""
    config = ChallengeConfig.model_validate_json(settings)
    return config, MockMaker(config.mock)


def passing(settings: str, rows: list[int]) -> list[int]:
    """Those of the given galaxies that are within the magnitude limit."""
    _, maker = _maker(settings)
    return [i for i in rows if maker.passes(i)]


def make_piece(settings: str, rows: list[int], number: int) -> int:
    """Make one chunk of mock observations; returns its number.

    Raises
    ------
    StorageError
        When its files cannot be written.
    """
    config, maker = _maker(settings)
    try:
        make_chunk(config, maker, rows, number)
    except OSError as error:
        raise StorageError(f"{config.output}: cannot write mocks ({reason(error)}); free space and run again") from None
    return number


def fit_piece(settings: str, job: Job) -> BatchReport:
    """Fit the galaxies of one chunk in one mode and store their posteriors.

    Parameters
    ----------
    settings
        JSON of the `RunConfig` that fit processes are given.
    job
        The piece.

    Raises
    ------
    StorageError
        When the file cannot be written.
    FitterError
        When no galaxy can be fitted at all.
    """
    config, process = fit_process(settings)
    posteriors = process.fit(batch_of(job), config.fit.model_copy(update={"use": job.mode}))
    store_piece(job, posteriors)
    return BatchReport.of(posteriors)


def store_piece(job: Job, posteriors: list[Posterior]) -> None:
    """Write a piece's file; raises StorageError when the disk does not take it."""
    try:
        job.shard.parent.mkdir(parents=True, exist_ok=True)
        write_posteriors(job.shard, posteriors, n_samples=STORED_DRAWS, attrs={"mode": job.mode})
    except OSError as error:
        raise StorageError(f"{job.shard}: cannot write ({reason(error)}); free space and run again") from None


def batch_of(job: Job) -> Batch:
    """Every row of a chunk's coadd."""
    table = fits.getdata(job.coadd, "FIBERMAP")
    return Batch(
        path=str(job.coadd),
        name=job.coadd.name,
        targetids=tuple(table["TARGETID"].tolist()),
        rows=tuple(range(len(table))),
        ra=tuple(table["TARGET_RA"].tolist()),
        dec=tuple(table["TARGET_DEC"].tolist()),
    )
