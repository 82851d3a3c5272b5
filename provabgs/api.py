"""The main job in one call: data in, posteriors out."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, overload

import numpy as np

from provabgs.core.errors import InputError
from provabgs.inference.config import FitConfig
from provabgs.inference.fit import Target, fit_many, fit_one
from provabgs.inference.posterior import Posterior
from provabgs.observe.observation import Observation, Photometry, Spectrum

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from provabgs.desi.targets import ReadOptions


@overload
def fit(data: Observation, *, config: FitConfig | None = None, seed: int = 0) -> Posterior: ...
@overload
def fit(data: Iterable[Target], *, config: FitConfig | None = None, seed: int = 0) -> list[Posterior]: ...
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
    data: Observation | Iterable[Target] | str | Path,
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
        One `Observation`, several (or what a reader gave: `TargetResult`), or the path of a DESI coadd or spectra file.
        The remaining arguments but `config` and `seed` belong to a path.
    redrock
        Redshift file; None looks for the one beside the coadd.
    photometry
        Tractor, sweep or FastSpecFit file, or a folder of sweeps; None takes the photometry in the coadd's FIBERMAP.
    targetid
        One TARGETID (gives one `Posterior`), several, or None for every row of the file (gives a list). Integers, or
        their digits as text; floating-point numbers, which cannot hold one, are refused.
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
        Always look at `Posterior.status`: only `Status.CONVERGED` samples passed the convergence gate. A galaxy that
        cannot be fitted is a posterior without samples whose status and message say why.

    Raises
    ------
    DataFileError
        For a file that is missing, truncated, or not what it was said to be, or that holds none of the TARGETIDs.
    ConfigError, MissingDependencyError
        For a sampler, model file or package that does not exist.
    InputError
        For `data` of another type, or arguments of a path given with an observation.
    """
    if config is not None and not isinstance(config, FitConfig):
        raise InputError(f"config takes a FitConfig or None, not {config!r:.80}; give provabgs.FitConfig(...)")
    if isinstance(data, (str, Path)):
        return _fit_file(data, redrock, photometry, targetid, redshift, config, seed, options)
    if any(x is not None for x in (redrock, photometry, targetid, redshift, options)):
        raise InputError("redrock, photometry, targetid, redshift and options belong to a file, not to an Observation")
    if isinstance(data, Observation):
        return fit_one(data, config, seed)
    if isinstance(data, (Spectrum, Photometry)):
        what = "spectra=(spectrum,)" if isinstance(data, Spectrum) else "photometry=photometry"
        raise InputError(f"fit takes an Observation, not its {type(data).__name__}; give Observation(redshift, {what})")
    if not isinstance(data, Iterable):
        raise InputError(f"fit takes an Observation, several of them, or the path of a coadd, not {data!r:.80}")
    return [fit_one(target, config, seed) for target in data]


def _fit_file(
    coadd: str | Path,
    redrock: str | Path | None,
    photometry: str | Path | None,
    targetid: int | Iterable[int] | None,
    redshift: float | None,
    config: FitConfig | None,
    seed: int,
    options: ReadOptions | None,
) -> Posterior | list[Posterior]:
    from provabgs.desi import iter_observations

    one = isinstance(targetid, (int, float, str, np.generic)) or (
        isinstance(targetid, np.ndarray) and targetid.ndim == 0
    )
    wanted: Any = [targetid] if one else targetid
    rows = iter_observations(coadd, redrock, photometry, wanted, options, redshift)
    posteriors = [fitted.posterior for fitted in fit_many(rows, config, seed)]
    return posteriors[0] if one else posteriors


def draw(posterior: Posterior, observation: Observation | None = None, *, n_draws: int = 200) -> Figure:
    """Draw a galaxy: a page of spectrum, bands, histories and properties, or the corner plot where there are no data.

    Parameters
    ----------
    posterior
        With samples.
    observation
        The data that were fitted; ``provabgs.catalog.observed.read_fitted(file, row)`` reads those of a posterior file.
    n_draws
        Draws that bands are computed from.

    Returns
    -------
    Figure
        A matplotlib figure, which notebooks show.

    Raises
    ------
    InputError
        For a posterior without samples.
    """
    from provabgs.inference.predictive import predict
    from provabgs.plotting.galaxy import corner_figure, summary_figure
    from provabgs.plotting.style import style

    if not len(posterior.samples):
        who = f"TARGETID {posterior.targetid}"
        raise InputError(f"{who}: no samples to draw, STATUS {posterior.status.name}: {posterior.message}")
    with style():
        if observation is None:
            return corner_figure(posterior)
        return summary_figure(posterior, predict(posterior, observation, n_draws))


def save(
    posteriors: Posterior | Sequence[Posterior],
    observations: Observation | Sequence[Observation | None] | None,
    path: str | Path,
) -> None:
    """Write posteriors and the data that they come from to a file that `provabgs plot`, `view` and `Catalog` open.

    Parameters
    ----------
    posteriors
        One, or several.
    observations
        The data of each in the same order; None where there are none, or for all. Figures of spectra need them.
    path
        ``.h5`` file; an existing one is replaced in one step.

    Raises
    ------
    InputError
        When the numbers of posteriors and observations differ, or data are not those that were fitted.
    """
    from provabgs.catalog.observed import write_fits

    rows = [posteriors] if isinstance(posteriors, Posterior) else list(posteriors)
    data: list[Observation | None] = [None] * len(rows)
    if observations is not None:
        data = [observations] if isinstance(observations, Observation) else list(observations)
    if len(data) != len(rows):
        raise InputError(f"{len(rows)} posteriors but {len(data)} observations; give one of each, in the same order")
    for k, (posterior, observation) in enumerate(zip(rows, data, strict=True)):
        if observation is not None and not _fits(posterior, observation):
            raise InputError(f"observation {k} is not what posterior {k} was fitted to; give them in the same order")
    write_fits(path, list(zip(rows, data, strict=True)))


def _fits(posterior: Posterior, observation: Observation) -> bool:
    """Whether a posterior is of these data, or of the spectrum or the bands among them."""
    if posterior.data_hash in ("", observation.digest()):
        return True
    part = observation.part(str(posterior.config_dict().get("use", "both")))
    return posterior.data_hash == part.digest()
