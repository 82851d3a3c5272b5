"""Which model and which likelihood backend a configuration asks for."""

from __future__ import annotations

import logging
from dataclasses import replace
from functools import lru_cache
from typing import Literal, cast

from provabgs.core.errors import ConfigError, DataFileError, InputError
from provabgs.emulator.errors import EmulatorFileError
from provabgs.emulator.models import PublishedNetworkModel
from provabgs.emulator.weights import default_emulator
from provabgs.inference.compressed import CompressedLikelihood
from provabgs.inference.compressed.reduction import LARGEST
from provabgs.inference.config import Engine, FitConfig, ModelOptions
from provabgs.inference.device.client import has_server
from provabgs.inference.likelihood import ExactLikelihood, Likelihood
from provabgs.inference.likelihood.emulated import EmulatedLikelihood
from provabgs.observe.observation import Observation
from provabgs.observe.projection import needs_ultraviolet
from provabgs.sps.attenuation import CharlotFall
from provabgs.sps.derived import DERIVED
from provabgs.sps.emission import Emission
from provabgs.sps.histories import Histories, NMFHistories
from provabgs.sps.imf import in_masses_of
from provabgs.sps.library import SHIPPED, SSPLibrary
from provabgs.sps.model import SPSModel
from provabgs.sps.nebular import NebularEmission, NebularGrid, with_nebular
from provabgs.sps.registries import ATTENUATIONS, EMISSIONS, HISTORIES, PROPERTIES
from provabgs.sps.released import RELEASED
from provabgs.sps.ultraviolet import UltravioletShapes

logger = logging.getLogger(__name__)
Reach = Literal["own", "extended", "ultraviolet"]

PUBLISHED_CODE = {"binning": "published", "normalisation": "joint"}
"""Options of the published histories under the conventions of the published code."""


def load_model(options: ModelOptions) -> SPSModel:
    """The SPS model of a configuration, loaded once per process.

    Parameters
    ----------
    options
        The ``[fit.model]`` table.

    Returns
    -------
    SPSModel
        The same object for equal options. Where they name several libraries, that of the first: parameters, priors and
        surviving fractions are the same for all (`provabgs.inference.averaging`).

    Raises
    ------
    InputError
        When the library, the nebular grid or the published networks cannot be read.
    ConfigError
        When gas parameters lie outside the nebular grid, a name is not registered, masses cannot be expressed in
        those of `mass_library`, or the options name several families of histories.
    """
    return _load_model(_of_one_library(options), "own")


def model_for(options: ModelOptions, observation: Observation, engine: Engine = "compressed") -> SPSModel:
    """The model of a configuration that one galaxy needs: with the ultraviolet where only that reaches a band.

    Parameters
    ----------
    options
        The ``[fit.model]`` table.
    observation
        The galaxy, with the bands that are fitted or predicted.
    engine
        The likelihood backend: the emulator knows the library's own wavelengths alone, and leaves such bands out.

    Returns
    -------
    SPSModel
        `load_model`, as a rule.

    Raises
    ------
    ProvabgsError
        As `load_model`.
    """
    model = load_model(options)
    if not options.ultraviolet or engine == "emulator" or not needs_ultraviolet(observation, model.library.wave):
        return model
    return _load_model(_of_one_library(options), "extended")


def ultraviolet_model(options: ModelOptions) -> SPSModel | None:
    """The model below the library's first wavelength alone; its spectra go before those of `load_model`.

    Parameters
    ----------
    options
        The ``[fit.model]`` table.

    Returns
    -------
    SPSModel or None
        With the parameters of histories and dust law. None where the configuration wants no ultraviolet, where the
        library lacks none or cannot be continued, and where published networks stand for its stars.

    Raises
    ------
    ProvabgsError
        As `load_model`.
    """
    if not options.ultraviolet or options.published_networks is not None:
        return None
    model = _load_model(_of_one_library(options), "ultraviolet")
    return model if model.library.borrowed else None


def _of_one_library(options: ModelOptions) -> str:
    if len(options.histories) > 1:
        raise ConfigError(
            f"model.history names {', '.join(options.histories)}: families have parameters and priors of their own; "
            "name one of them here"
        )
    path = options.libraries[0]
    own = str(options.mass_library) == str(path or SHIPPED)  # masses in those of itself are its own
    changes = {"library": path, "library_weights": "equal"} | ({"mass_library": None} if own else {})
    return options.model_copy(update=changes).model_dump_json()


def stars_of(options: ModelOptions) -> SSPLibrary:
    """The first SSP library of a configuration, its masses in those of `mass_library`; no gas.

    Parameters
    ----------
    options
        The ``[fit.model]`` table.

    Returns
    -------
    SSPLibrary
        Read from its file.

    Raises
    ------
    DataFileError
        When a library cannot be read.
    ConfigError
        When masses cannot be expressed in those of `mass_library`.
    """
    path, reference = options.libraries[0], options.mass_library
    library = SSPLibrary.named(path)
    if reference is None or str(reference) == str(path or SHIPPED):
        return library
    try:
        return in_masses_of(library, SSPLibrary.named(reference))
    except ConfigError as err:
        raise ConfigError(f"model.library {path or SHIPPED}: {err}") from None


def model_of(recipe: tuple[str, str]) -> SPSModel:
    """The model that another process has, from its `SPSModel.recipe`.

    Parameters
    ----------
    recipe
        The ``[fit.model]`` table as JSON, and how far the model reaches.

    Returns
    -------
    SPSModel
        The same object for the same recipe.

    Raises
    ------
    ProvabgsError
        As `load_model`.
    """
    return _load_model(recipe[0], cast(Reach, recipe[1]))


@lru_cache(maxsize=8)
def _load_model(text: str, reach: Reach) -> SPSModel:
    model = _make_model(text, reach)
    if not isinstance(model, PublishedNetworkModel):
        model.recipe = (text, reach)
    return model


def _make_model(text: str, reach: Reach) -> SPSModel:
    """The model on the library's own wavelengths, on these and the ultraviolet, or on the ultraviolet alone."""
    options = ModelOptions.model_validate_json(text)
    library = stars_of(options)
    if options.published_networks is not None:
        return PublishedNetworkModel(*options.published_networks, library)
    below = None if reach == "own" else UltravioletShapes.default().below(library)
    emissions = _emissions(options) if reach != "ultraviolet" else []
    if options.nebular and reach != "ultraviolet":
        grid = NebularGrid.default() if options.nebular_grid is None else NebularGrid.load(options.nebular_grid)
        if options.gas_free:
            emissions.insert(0, NebularEmission(grid))
        else:
            try:
                library = with_nebular(library, grid, options.log_u, options.gas_logz)
            except InputError as err:
                raise ConfigError(f"model.nebular: {err}") from err
    published = options.conventions == "published-code"
    attenuation = ATTENUATIONS[options.attenuation]()
    if published and isinstance(attenuation, CharlotFall):
        attenuation = CharlotFall(birth_cloud_slope=-1.0)
    histories = _histories(options)
    own = RELEASED if published and isinstance(histories, NMFHistories) and histories.is_published else DERIVED
    properties = (*own, *(PROPERTIES[name] for name in options.properties))
    if reach == "ultraviolet" and below is not None:  # the library's first node, to which the light below is joined
        library = replace(library, wave=library.wave[:2], spectrum=library.spectrum[..., :2])
    return SPSModel(
        library,
        histories,
        attenuation,
        tuple(emissions),
        t_birth_cloud=0.01 if published else 0.1,
        properties=properties,
        ultraviolet=below,
    )


def _emissions(options: ModelOptions) -> list[Emission]:
    """The emissions that a configuration names, their options checked by their own factories."""
    if unused := [name for name in options.emission_options if name not in options.emissions]:
        raise ConfigError(f"model.emission_options.{unused[0]}: model.emissions does not name it")
    made: list[Emission] = []
    for name in options.emissions:
        try:
            made.append(EMISSIONS[name](**options.emission_options.get(name, {})))
        except DataFileError:
            raise
        except (TypeError, InputError) as err:
            raise ConfigError(f"model.emission_options.{name}: {err}") from None
    return made


def _histories(options: ModelOptions) -> Histories:
    """The histories that a configuration names, their options checked by their own factory."""
    (name,) = options.histories
    defaults = PUBLISHED_CODE if options.conventions == "published-code" and name == "nmf" else {}
    try:
        made = HISTORIES[name](**{**defaults, **options.history_options})
    except TypeError as err:
        raise ConfigError(f"model.history_options of history {name!r}: {err}") from None
    if not isinstance(made, Histories):
        missing = [n for n in _HISTORY_NEEDS if not hasattr(made, n)]
        raise ConfigError(f"history {name!r} breaks the protocol: it lacks {', '.join(missing)} (docs/extend.md)")
    return made


_HISTORY_NEEDS = (
    "parameters", "linear_block", "resolved_gyr", "least_t_age_gyr", "tables", "nodes", "component_masses",
    "node_masses", "metallicity", "moments", "curves",
)  # fmt: skip


def make_likelihood(exact: ExactLikelihood, config: FitConfig) -> Likelihood:
    """The backend of a configuration; the exact one where the compressed one or the emulator does not reach.

    Parameters
    ----------
    exact
        The galaxy's exact likelihood.
    config
        Its `engine` is read.

    Returns
    -------
    Likelihood
        ``exact`` itself where another backend is refused, with a warning in the log.

    Raises
    ------
    ConfigError
        When the emulator that ships was not trained on the configuration's model.
    """
    if config.engine == "exact":
        return exact
    try:
        size = LARGEST if has_server() and exact.projection.spectrum is not None else None  # one shape for the card
        compressed = CompressedLikelihood(exact.projection, exact.model, size=size)
        if config.engine == "compressed":
            return compressed
        return EmulatedLikelihood(compressed, default_emulator(config.model.conventions))
    except EmulatorFileError as err:
        raise ConfigError(f"engine = 'emulator': {err}") from err
    except InputError as err:
        logger.warning("%s likelihood not usable, the exact one in its place: %s", config.engine, err)
        return exact
