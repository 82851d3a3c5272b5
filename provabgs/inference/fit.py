"""The one road from a target to its posterior: Python, `provabgs fit`, `provabgs run` and the mock challenge take it.

A target is an `Observation`, or what a reader says of one row (`TargetResult`). Whatever befalls one galaxy becomes its
STATUS; only what would befall every galaxy alike is raised.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from typing import NamedTuple

from provabgs.core.errors import (
    ConfigError,
    DataFileError,
    InputError,
    MissingDependencyError,
    UnusableTargetError,
)
from provabgs.core.messages import first_line
from provabgs.core.registry import load_plugins
from provabgs.core.status import Status
from provabgs.core.threads import one_thread
from provabgs.core.versions import versions
from provabgs.inference.alternatives import alternatives
from provabgs.inference.averaging import fit_average
from provabgs.inference.config import FitConfig
from provabgs.inference.posterior import Posterior, identity_of
from provabgs.observe.data_error import template_error_of
from provabgs.observe.observation import Observation
from provabgs.observe.target import TargetResult

Target = Observation | TargetResult
FitFunction = Callable[[Observation, FitConfig, int], Posterior]
"""What samples one observation: ``(observation, config, seed)``, as `fit_observation` does."""

COMMON_ERRORS = (ConfigError, DataFileError, MissingDependencyError)
"""Errors of the configuration, of the model's files and of the installation: no galaxy is to blame."""

_LOG = logging.getLogger(__name__)


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


def fit_one(
    target: Target, config: FitConfig | None = None, seed: int = 0, *, fit: FitFunction | None = None
) -> Posterior:
    """Fit one galaxy. A galaxy that cannot be fitted becomes a posterior without samples.

    Parameters
    ----------
    target
        An observation, or a row as a reader gave it.
    config
        Configuration; defaults when None.
    seed
        Seed of the run; the galaxy's random numbers derive from it and the TARGETID.
    fit
        What samples the observation in place of `provabgs.inference.fit_observation.fit_observation`. Its posteriors
        carry `config`, `seed` and this package's versions; what else made them belongs in their ``meta``. Nothing is
        measured after it (`FitConfig.measure`).

    Returns
    -------
    Posterior
        With samples, or with the STATUS and message that say why there are none. ``meta`` holds what the reader said of
        the galaxy, INPUT and ROW included where known; ``message`` ends with the reader's notes. Under several
        libraries or amplitudes of their error, the average of one fit each (`provabgs.inference.averaging`).

    Raises
    ------
    ConfigError, DataFileError, MissingDependencyError
        What would fail for every galaxy alike: a sampler, a library or a package that does not exist.
    InputError
        When `target` is neither an observation nor a reader's row.
    """
    config = config or FitConfig()
    row = _as_row(target)
    observation = row.observation
    if observation is None:
        return _unread(row, config, seed)
    sample = fit or _default_fit()
    with one_thread():
        return _fitted(row, observation, config, seed, sample, fit is None or _is_default(fit))


def _fitted(
    row: TargetResult, observation: Observation, config: FitConfig, seed: int, fit: FitFunction, own: bool
) -> Posterior:
    """The posterior of an observation that was read; see `fit_one`."""
    try:
        posterior = fit_average(observation, config, seed, fit)
    except UnusableTargetError as error:
        posterior = _failed(observation, Status(error.status), str(error), config, seed)
    except COMMON_ERRORS:
        raise
    except Exception as error:  # one galaxy's crash must not cost the others their results
        _LOG.debug("TARGETID %d: the fit raised", observation.targetid, exc_info=True)
        message = f"{type(error).__name__}: {first_line(error)}"
        posterior = _failed(observation, Status.CRASHED, message, config, seed)
    if not isinstance(posterior, Posterior):
        raise ConfigError(f"the fit returned a {type(posterior).__name__}; it must return a Posterior")
    message = "; ".join(m for m in (posterior.message, row.message) if m)
    fitted = replace(
        posterior,
        meta={**observation.meta, **posterior.meta},
        message=message,
        config=config.model_dump_json(),
        seed=seed,
        versions=versions(),
    )
    if not own:
        return fitted
    from provabgs.inference.measured.measure import with_measurements  # brings in JAX, as the fit has

    return with_measurements(fitted, observation)


def fit_many(
    targets: Iterable[Target], config: FitConfig | None = None, seed: int = 0, *, fit: FitFunction | None = None
) -> Iterator[Fitted]:
    """Fit galaxies one after another, as they are asked for; each posterior is that of `fit_one`, in any order.

    Parameters
    ----------
    targets
        Observations or readers' rows.
    config, seed, fit
        As for `fit_one`.

    Yields
    ------
    Fitted
        One per target, in their order.

    Raises
    ------
    ConfigError, DataFileError, MissingDependencyError, InputError
        As `fit_one`.
    """
    config = config or FitConfig()
    for target in targets:
        row = _as_row(target)
        yield Fitted(fit_one(row, config, seed, fit=fit), row.observation)


def check_names(config: FitConfig) -> None:
    """Raise at once what every fit would raise: a plugin that cannot be imported, a name that nothing answers to.

    Commands call it before they wait for workers. Names that every installation knows cost no import. SSP libraries are
    read where they are not the one that ships: masses are in one IMF, and components of a template error are theirs.

    Parameters
    ----------
    config
        Configuration of fits to come; its plugins are imported.

    Raises
    ------
    ConfigError, DataFileError
        Names the key or the file, and what it may be.
    """
    load_plugins(config.plugins)
    if config.sampler.name != "auto":
        from provabgs.inference.samplers import SAMPLERS

        SAMPLERS[config.sampler.name]
    if config.model != FitConfig().model:
        from provabgs.sps.registries import ATTENUATIONS, EMISSIONS, HISTORIES, PROPERTIES

        for history in config.model.histories:
            HISTORIES[history]
        ATTENUATIONS[config.model.attenuation]
        for emission in config.model.emissions:
            EMISSIONS[emission]
        for name in config.model.properties:
            PROPERTIES[name]
    _check_files(config)


def _check_files(config: FitConfig) -> None:
    """SSP libraries that are not the one that ships, and components of their error that are not its own."""
    observing = config.observing
    with_error = observing.template_error != 0 and "template-error" in observing.noise
    if config.model.library is not None or (with_error and observing.template_error_file is not None):
        from provabgs.inference.backends import stars_of

        for alternative in alternatives(config):
            library = stars_of(alternative.config.model)
            if with_error:
                template_error_of(observing, library)
    elif with_error:
        template_error_of(observing)


def _as_row(target: Target) -> TargetResult:
    if isinstance(target, TargetResult):
        return target
    if isinstance(target, Observation):
        return TargetResult(target.targetid, -1, target, None, "")
    raise InputError(f"fit takes an Observation, several of them, or the path of a coadd, not {target!r:.80}")


def _default_fit() -> FitFunction:
    from provabgs.inference.fit_observation import fit_observation  # brings in JAX: only when there is something to fit

    return fit_observation


def _is_default(fit: FitFunction) -> bool:
    """Whether a fit that was given by name is the package's own, found without importing it."""
    return (
        getattr(fit, "__module__", ""),
        getattr(fit, "__qualname__", ""),
    ) == ("provabgs.inference.fit_observation", "fit_observation")


def _unread(row: TargetResult, config: FitConfig, seed: int) -> Posterior:
    """The posterior of a row without an observation."""
    status = row.status if row.status is not None else Status.INPUT_ERROR
    return Posterior.without_samples(
        status, row.message, config, seed, targetid=row.targetid, ra=row.ra, dec=row.dec, meta=row.place
    )


def _failed(observation: Observation, status: Status, message: str, config: FitConfig, seed: int) -> Posterior:
    """The posterior of an observation that could not be fitted."""
    return Posterior.without_samples(status, message, config, seed, **identity_of(observation))
