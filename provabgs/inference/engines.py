"""Which model and which likelihood engine a configuration asks for."""

from __future__ import annotations

import logging
from collections.abc import Callable
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

from provabgs.core.errors import ConfigError, InputError
from provabgs.core.jax import jax
from provabgs.emulator.errors import EmulatorFileError
from provabgs.emulator.models import PublishedNetworkModel
from provabgs.emulator.weights import default_emulator
from provabgs.inference.compressed import CompressedLikelihood
from provabgs.inference.config import FitConfig, ModelOptions
from provabgs.inference.emulated import EmulatedLikelihood
from provabgs.inference.likelihood import ExactLikelihood
from provabgs.sps.library import SSPLibrary
from provabgs.sps.model import SPSModel
from provabgs.sps.nebular import NebularGrid
from provabgs.sps.nebular_ssp import NebularModel, with_nebular

Likelihood = Callable[[jax.Array], jax.Array]
logger = logging.getLogger(__name__)


def load_model(options: ModelOptions) -> SPSModel:
    """The SPS model of a configuration, loaded once per process.

    Raises
    ------
    InputError
        When the library, the nebular grid or the published networks cannot be read.
    ConfigError
        When gas parameters lie outside the nebular grid.
    """
    library = None if options.library is None else str(options.library)
    nmf, burst = options.published_networks or (None, None)
    gas = None
    if options.nebular:
        grid = None if options.nebular_grid is None else str(options.nebular_grid)
        gas = _Gas(grid, options.log_u, options.gas_logz, options.gas_free)
    return _load_model(library, options.conventions, nmf and str(nmf), burst and str(burst), gas)


class _Gas(NamedTuple):
    grid: str | None
    log_u: float
    gas_logz: float | None
    free: bool


@lru_cache(maxsize=4)
def _load_model(
    library: str | None, conventions: str, nmf: str | None, burst: str | None, gas: _Gas | None
) -> SPSModel:
    ssp = SSPLibrary.default() if library is None else SSPLibrary.load(Path(library))
    if gas is not None:
        grid = NebularGrid.default() if gas.grid is None else NebularGrid.load(gas.grid)
        try:
            if gas.free:
                return NebularModel(_stars(ssp, conventions), grid)
            ssp = with_nebular(ssp, grid, gas.log_u, gas.gas_logz)
        except InputError as err:
            raise ConfigError(f"model.nebular: {err}") from err
    if nmf and burst:
        return PublishedNetworkModel(nmf, burst, ssp)
    return _stars(ssp, conventions)


def _stars(library: SSPLibrary, conventions: str) -> SPSModel:
    return SPSModel(library) if conventions == "paper" else SPSModel.published(library)


def make_likelihood(exact: ExactLikelihood, config: FitConfig) -> Likelihood:
    """The engine of a configuration; the exact one where the compressed one or the emulator does not reach.

    Raises
    ------
    ConfigError
        When the emulator that ships was not trained on the configuration's model.
    """
    if config.engine == "exact":
        return exact
    try:
        compressed = CompressedLikelihood(exact.projection, exact.model)
        if config.engine == "compressed":
            return compressed
        return EmulatedLikelihood(compressed, default_emulator(config.model.conventions))
    except EmulatorFileError as err:
        raise ConfigError(f"engine = 'emulator': {err}") from err
    except InputError as err:
        logger.warning("%s engine not usable, exact engine in its place: %s", config.engine, err)
        return exact
