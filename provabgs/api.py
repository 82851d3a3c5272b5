"""The main job in one call: data in, posteriors out."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple, overload

from provabgs.core.errors import InputError, ProvabgsError
from provabgs.core.messages import first_line
from provabgs.core.status import Status
from provabgs.inference.config import FitConfig
from provabgs.inference.posterior import Posterior
from provabgs.observe.observation import Observation

if TYPE_CHECKING:
    from provabgs.desi.targets import ReadOptions, TargetResult


class Fitted(NamedTuple):
    """One target after its fit.

    Attributes
    ----------
    posterior
        With samples, or with the STATUS that says why there are none.
    observation
        What was fitted; None when the row could not be read.
    """

    posterior: Posterior
    observation: Observation | None


@overload
def fit(data: Observation, *, config: FitConfig | None = None, seed: int = 0) -> Posterior: ...
@overload
def fit(data: Iterable[Observation], *, config: FitConfig | None = None, seed: int = 0) -> list[Posterior]: ...
@overload
def fit(
    data: str | Path,
    redrock: str | Path | None = None,
    photometry: str | Path | None = None,
    *,
    targetid: int,
    redshift: float | None = None,
    config: FitConfig | None = None,
    seed: int = 0,
    options: ReadOptions | None = None,
) -> Posterior: ...
@overload
def fit(
    data: str | Path,
    redrock: str | Path | None = None,
    photometry: str | Path | None = None,
    *,
    targetid: Iterable[int] | None = None,
    redshift: float | None = None,
    config: FitConfig | None = None,
    seed: int = 0,
    options: ReadOptions | None = None,
) -> list[Posterior]: ...
def fit(
    data: Observation | Iterable[Observation] | str | Path,
    redrock: str | Path | None = None,
    photometry: str | Path | None = None,
    *,
    targetid: int | Iterable[int] | None = None,
    redshift: float | None = None,
    config: FitConfig | None = None,
    seed: int = 0,
    options: ReadOptions | None = None,
) -> Posterior | list[Posterior]:
    """Fit a galaxy, or many.

    Parameters
    ----------
    data
        One `Observation`, several, or the path of a DESI coadd or spectra file. The remaining arguments but `config`
        and `seed` belong to a path.
    redrock
        Redshift file; None looks for the one beside the coadd.
    photometry
        Tractor, sweep or FastSpecFit file; None takes the photometry in the coadd's FIBERMAP.
    targetid
        One TARGETID (gives one `Posterior`), several, or None for every row of the file (gives a list).
    redshift
        Taken in place of the redrock file's.
    config
        What the fit is told; defaults when None.
    seed
        Seed of the run. A galaxy's random numbers derive from it and the TARGETID.
    options
        What the reader is told, see `provabgs.desi.targets.ReadOptions`.

    Returns
    -------
    Posterior or list of Posterior
        Always look at `Posterior.status`: only `Status.CONVERGED` samples passed the convergence gate. A galaxy of a
        list that cannot be fitted is a posterior without samples whose status and message say why.

    Raises
    ------
    DataFileError
        For a file that is missing, truncated, or not what it was said to be.
    UnusableTargetError
        When the one TARGETID asked for cannot be fitted.
    InputError
        For `data` of another type, or arguments of a path given with an observation.
    """
    if isinstance(data, (str, Path)):
        return _fit_file(data, redrock, photometry, targetid, redshift, config or FitConfig(), seed, options)
    if any(x is not None for x in (redrock, photometry, targetid, redshift, options)):
        raise InputError("redrock, photometry, targetid, redshift and options belong to a file, not to an Observation")
    if isinstance(data, Observation):
        return _fit_observation(data, config or FitConfig(), seed)
    return [_fit_observation(_checked(o), config or FitConfig(), seed) for o in data]


def fit_targets(results: Iterable[TargetResult], source: str | Path, config: FitConfig, seed: int) -> Iterator[Fitted]:
    """Fit rows as they are read; whatever befalls one row becomes its STATUS and the others go on.

    Parameters
    ----------
    results
        From `provabgs.desi.iter_observations`.
    source
        File they come from, for the rows that could not be read.

    Raises
    ------
    ProvabgsError
        What would fail for every row alike: a sampler or a library that does not exist.
    """
    for result in results:
        if result.observation is None:
            yield Fitted(unread(result, source, config, seed), None)
            continue
        try:
            posterior = _fit_observation(result.observation, config, seed)
        except ProvabgsError:
            raise
        except Exception as error:  # one galaxy's crash must not cost the others their results
            posterior = _crashed(result.observation, error, config, seed)
        yield Fitted(posterior, result.observation)


def unread(result: TargetResult, source: str | Path, config: FitConfig, seed: int) -> Posterior:
    """The posterior, without samples, of a row that could not be read."""
    return Posterior(
        targetid=result.targetid,
        redshift=float("nan"),
        status=result.status if result.status is not None else Status.INPUT_ERROR,
        message=result.message,
        meta={"COADD": str(source), "ROW": result.row},
        seed=seed,
        config=config.model_dump_json(),
    )


def _fit_file(
    coadd: str | Path,
    redrock: str | Path | None,
    photometry: str | Path | None,
    targetid: int | Iterable[int] | None,
    redshift: float | None,
    config: FitConfig,
    seed: int,
    options: ReadOptions | None,
) -> Posterior | list[Posterior]:
    from provabgs.desi import iter_observations, read_observation

    if isinstance(targetid, int):
        return _fit_observation(read_observation(coadd, targetid, redrock, photometry, options, redshift), config, seed)
    results = iter_observations(coadd, redrock, photometry, targetid, options, redshift)
    return [fitted.posterior for fitted in fit_targets(results, coadd, config, seed)]


def _fit_observation(observation: Observation, config: FitConfig, seed: int) -> Posterior:
    from provabgs.inference.fit_observation import fit_observation  # brings in JAX: only when there is something to fit

    return fit_observation(observation, config, seed)


def _checked(observation: Observation) -> Observation:
    if not isinstance(observation, Observation):
        raise InputError(f"fit takes an Observation, several of them, or the path of a coadd, not {observation!r:.80}")
    return observation


def _crashed(observation: Observation, error: Exception, config: FitConfig, seed: int) -> Posterior:
    return Posterior(
        targetid=observation.targetid,
        redshift=observation.redshift,
        status=Status.CRASHED,
        message=f"{type(error).__name__}: {first_line(error)}",
        ra=observation.ra,
        dec=observation.dec,
        zerr=observation.zerr,
        meta=observation.meta,
        seed=seed,
        config=config.model_dump_json(),
        data_hash=observation.digest(),
    )
