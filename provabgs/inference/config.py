"""The one schema of a fit's configuration; read from TOML by pipelines, stored as JSON with every posterior."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, field_validator, model_validator

from provabgs.core.config import BESIDE_FILE, Names, check_config, overlay, read_toml, with_absolute_paths
from provabgs.core.errors import ConfigError
from provabgs.inference.learnt.prior_file import PriorFile, prior_file_from
from provabgs.inference.prior_correction import PriorCorrection, correction_from
from provabgs.observe.options import ASSUMED_VDISP_KMS, ObservingOptions
from provabgs.sps.library import SHIPPED
from provabgs.sps.nebular import GAS_LOGZ_RANGE, LOG_U_RANGE

Engine = Literal["compressed", "emulator", "exact"]
Conventions = Literal["paper", "published-code"]
Preset = Literal["honest", "delayed", "published", "released-edr"]


FIT_TABLE = "fit"
BESIDE_FIT = frozenset(
    ("run", "inputs", "store", "execution", "cluster", "output", "mock", "modes", "seed", "chunk", "workers")
)
"""What else a file with a ``[fit]`` table may hold: the tables and keys of runs and of mock challenges."""


def load_fit_config(path: str | Path | None, changes: Mapping[str, Any] | None = None) -> FitConfig:
    """The ``[fit]`` table of a TOML file with other options laid over it.

    Parameters
    ----------
    path
        A file of a fit's own, of a run or of a mock challenge; None for the defaults. Relative paths in its ``[fit]``
        table start from the file's own directory.
    changes
        Options of the command line, by key and by table; None stands for "not given".

    Returns
    -------
    FitConfig
        With absolute paths.

    Raises
    ------
    ConfigError
        When the file is missing, is not TOML, has no ``[fit]`` table, or holds a key or value that is not allowed.
    """
    data: Any = {}
    if path is not None:
        path = Path(path)
        document = read_toml(path)
        _check_beside(document, path)
        data = with_absolute_paths(FitConfig, document[FIT_TABLE], path.resolve().parent)
    return check_config(FitConfig, overlay(data, changes or {}), str(path or "command line"), FIT_TABLE)


def _check_beside(document: dict[str, Any], path: Path) -> None:
    """Refuse a file in which options of the fit stand outside of ``[fit]``, or nobody knows a table."""
    for name in sorted(document.keys() - {FIT_TABLE} - BESIDE_FIT):
        is_table = isinstance(document[name], dict)
        key = f"[{name}]" if is_table else name
        if name in FitConfig.model_fields:
            place = f"[{FIT_TABLE}.{name}]" if is_table else f"a line under [{FIT_TABLE}]"
            raise ConfigError(f"{path}: {key} is an option of the fit; make it {place}")
        close = difflib.get_close_matches(name, [FIT_TABLE, *BESIDE_FIT], n=1)
        hint = f"; did you mean {close[0]}?" if close else ""
        raise ConfigError(f"{path}: {key} belongs to no fit, run or mock challenge{hint}")
    if FIT_TABLE not in document:
        raise ConfigError(f"{path}: has no [{FIT_TABLE}] table; put the options of the fit under one")


_FIXED_GAS = ("log_u", "gas_logz")
_LIBRARIES = Names(frozenset({SHIPPED}))


class ModelOptions(BaseModel):
    """The SPS model."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    library: Annotated[Path | tuple[Path, ...] | None, BESIDE_FILE, _LIBRARIES] = Field(
        default=None,
        description="SSP library file; the one that ships, 'mist', if null; or a list: a fit under each, averaged",
    )
    library_weights: Literal["equal", "evidence"] = Field(
        default="equal", description="weights of several libraries: all equal, or in proportion to the evidence"
    )
    mass_library: Annotated[Path | None, BESIDE_FILE, _LIBRARIES] = Field(
        default=None,
        description="library, or 'mist', whose IMF and surviving fractions masses refer to; of several the first if "
        "null, of one its own",
    )
    conventions: Conventions = Field(
        default="paper", description="'paper': equations of Hahn et al. 2023; 'published-code': what its code computes"
    )
    published_networks: Annotated[tuple[Path, Path] | None, BESIDE_FILE] = Field(
        default=None,
        description="arrays (.npz) of the published NMF and burst networks, in place of SSPs, to reproduce published "
        "posteriors; needs engine = 'exact' and conventions = 'published-code'",
    )
    nebular: bool = Field(
        default=False, description="emission lines and nebular continuum of young stars' gas (docs/guide/nebular.md)"
    )
    gas_free: bool = Field(
        default=False,
        description="log_u and gas_logz of the gas are fitted too, uniform within the grid or within prior_bounds",
    )
    log_u: float = Field(
        default=-2.5, ge=LOG_U_RANGE[0], le=LOG_U_RANGE[1], description="ionisation parameter of the gas, fixed"
    )
    gas_logz: float | None = Field(
        default=None,
        ge=GAS_LOGZ_RANGE[0],
        le=GAS_LOGZ_RANGE[1],
        description="metallicity of the gas, log10(Z/Zsun), fixed; as the young stars' if null",
    )
    nebular_grid: Annotated[Path | None, BESIDE_FILE] = Field(
        default=None, description="nebular grid file; the one that ships if null"
    )
    history: str | tuple[str, ...] = Field(
        default="nmf",
        description="family of star-formation and metallicity histories, by name; or a list: a fit under each, "
        "averaged",
    )
    history_options: dict[str, Any] = Field(
        default_factory=dict, description="options of that family; of several, a table for each name"
    )
    history_weights: Literal["equal", "evidence"] = Field(
        default="equal", description="weights of several families: all equal, or in proportion to the evidence"
    )
    attenuation: str = Field(default="charlot-fall", description="dust law, by name")
    emissions: tuple[str, ...] = Field(
        default=(), description="emissions beyond the nebular one: 'dust', or of plugins"
    )
    emission_options: dict[str, dict[str, Any]] = Field(
        default_factory=dict, description="options of those emissions, a table for each name"
    )
    ultraviolet: bool = Field(
        default=True,
        description="bands and magnitudes below the SSP library's first wavelength, 2005 A, by BC03's shapes "
        "(docs/studies/ultraviolet.md)",
    )
    properties: tuple[str, ...] = Field(default=(), description="derived properties beyond the published five, by name")

    @field_validator("library", mode="before")
    @classmethod
    def _one_or_several(cls, value: Any) -> Any:
        if isinstance(value, (list, tuple)):
            if not value:
                raise ValueError("name at least one library")
            value = value[0] if len(value) == 1 else value
        return None if str(value) == SHIPPED else value

    @field_validator("history", mode="before")
    @classmethod
    def _one_or_several_families(cls, value: Any) -> Any:
        if not isinstance(value, (list, tuple)):
            return value
        if not value or len(set(value)) < len(value):
            raise ValueError("name at least one family, and each once")
        return value[0] if len(value) == 1 else tuple(value)

    @property
    def histories(self) -> tuple[str, ...]:
        """One family per fit."""
        return self.history if isinstance(self.history, tuple) else (self.history,)

    def options_of(self, history: str) -> dict[str, Any]:
        """Options of one of `histories`."""
        return dict(self.history_options.get(history, {})) if isinstance(self.history, tuple) else self.history_options

    @property
    def libraries(self) -> tuple[Path | None, ...]:
        """One entry per fit: a file, or None for the library that ships."""
        several = self.library if isinstance(self.library, tuple) else (self.library,)
        return tuple(None if str(path) == SHIPPED else path for path in several)

    @model_validator(mode="after")
    def _options_of_families(self) -> ModelOptions:
        if isinstance(self.history, tuple):
            for name, options in self.history_options.items():
                if name not in self.history or not isinstance(options, dict):
                    raise ValueError(
                        f"history_options.{name}: of several families, history_options has a table for each name in "
                        f"history ({', '.join(self.history)}), as history_options.{self.history[0]} = {{...}}"
                    )
        return self

    @model_validator(mode="after")
    def _gas_of_stars(self) -> ModelOptions:
        if self.nebular and self.published_networks is not None:
            raise ValueError("nebular = true adds gas to SSPs, which published_networks replace; use one of the two")
        if self.emissions and self.published_networks is not None:
            raise ValueError("published_networks include their own dust emission; leave emissions empty")
        if self.gas_free and not self.nebular:
            raise ValueError("gas_free = true needs nebular = true")
        if self.gas_free and (
            fixed := [k for k in _FIXED_GAS if getattr(self, k) != type(self).model_fields[k].default]
        ):
            raise ValueError(f"gas_free = true fits {fixed[0]}; leave it out, or hold it with prior_bounds.{fixed[0]}")
        return self


class SamplerOptions(BaseModel):
    """The sampler, its convergence criterion and its budget."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str = Field(default="auto", description="sampler; `provabgs fit --help` lists them")
    rhat: float = Field(default=1.01, gt=1, description="convergence criterion: largest rank-normalised split R-hat")
    ess: float = Field(
        default=400, gt=0, description="convergence criterion: smallest bulk and tail effective sample size"
    )
    aim_eval: int = Field(
        default=250_000,
        ge=0,
        description="annealed: a converged posterior goes on to R-hat 1.005 and an effective sample size of 1500, or "
        "to this many evaluations: narrow parts show late; 0 stops at convergence, in two thirds of the time",
    )
    misfit_eval: int = Field(
        default=200_000,
        ge=0,
        description="annealed: a posterior that has not converged after this many evaluations, and whose best draw the "
        "spectrum refuses (chi^2 per pixel above 1.3), is NOT_CONVERGED and gets no more: a wrong redshift, mostly",
    )
    max_eval: int = Field(
        default=5_000_000, gt=0, description="budget: likelihood evaluations (a gradient counts as one)"
    )
    time_limit_s: float = Field(default=300.0, gt=0, description="budget: seconds a galaxy")


class MeasureOptions(BaseModel):
    """What is measured after a fit, on draws of the posterior (docs/datamodel.md)."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    groups: tuple[Literal["light", "indices", "history", "lines"], ...] = Field(
        default=("light", "indices", "history", "lines"),
        description="'light': magnitudes, colours, k-corrections, luminosities; 'indices': Dn4000, HdA, Mg b; "
        "'history': formation times and rates by age; 'lines': emission lines and the SFR of H alpha; none if empty",
    )
    band_shift: float = Field(
        default=0.1, ge=0, le=1, description="redshift of band-shifted magnitudes and of k-corrections"
    )
    n_draws: int = Field(default=128, gt=1, description="draws of the posterior that quantiles are taken of")


_HONEST = {
    "noise": ("floor", "template-error", "camera-calibration", "fiber-colour", "emission-lines"),
    "line_mask": "auto",
    "vdisp_kms": "auto",
    "clip_sigma": 5.0,
    "floor_spectrum": 0.003,
    "relative_to": "stars",
}
_DELAYED = {"history": "delayed-tau", "history_options": {"burst": True, "residual": True, "metallicity": "enriching"}}
PRESETS: dict[str, dict[str, Any]] = {
    "published": {},
    "honest": {"observing": _HONEST},
    "delayed": {"observing": _HONEST, "model": _DELAYED},
    "released-edr": {
        "model": {"conventions": "published-code"},
        "observing": {
            "noise": (),
            "line_mask": "none",
            "vdisp_kms": 0.0,
            "resolution": "ignored",
            "bands": ("g", "r", "z"),
            "filter_group": "decam2014",
            "fiber_error": "released",
        },
    },
}
"""Options that a preset sets where the configuration does not; ``"published"`` sets none: it is the bare model."""
DEFAULT_PRESET: Preset = "honest"


def _with_preset(data: Any) -> Any:
    """A configuration with what its preset sets laid under it."""
    if not isinstance(data, dict) or data.get("preset", DEFAULT_PRESET) not in PRESETS:
        return data
    out = dict(data)
    for table, options in PRESETS[data.get("preset", DEFAULT_PRESET)].items():
        given = out.get(table, {})
        given = given.model_dump(exclude_unset=True) if isinstance(given, BaseModel) else given
        if isinstance(given, dict) and "history" in given:  # options of the preset's family are of no other
            options = {k: v for k, v in options.items() if k != "history_options"}
        out[table] = options | given if isinstance(given, dict) else given
    return _of_one_dispersion(out)


def _of_one_dispersion(data: dict[str, Any]) -> dict[str, Any]:
    """A configuration with a number for ``vdisp_kms = "auto"`` where networks, of one dispersion, make the spectra."""
    model, observing = (_as_given(data.get(table, {})) for table in ("model", "observing"))
    networks = data.get("engine") == "emulator" or model.get("published_networks") is not None
    if not networks or observing.get("vdisp_kms") != "auto":
        return data
    return data | {"observing": observing | {"vdisp_kms": ASSUMED_VDISP_KMS}}


def _as_given(table: Any) -> dict[str, Any]:
    """What was given of a table; nothing of what is no table, which the schema will refuse."""
    if isinstance(table, BaseModel):
        return table.model_dump(exclude_unset=True)
    return table if isinstance(table, dict) else {}


class FitConfig(BaseModel):
    """The configuration of a fit."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    preset: Preset = Field(
        default=DEFAULT_PRESET,
        description="'honest': errors of the stellar library, of the calibration and of the fiber's colour are part of "
        "the noise, outliers are masked (docs/guide/trust.md); 'delayed': the same noise, and histories that may begin "
        "late and fall steeply, whose ages are covered where those of 'honest' are not (docs/studies/histories.md); "
        "'published': noise and masks of Hahn et al. 2023; 'released-edr': what the production of the released catalog "
        "did",
    )

    engine: Engine = Field(
        default="compressed",
        description="'compressed', 'emulator' (its starlight from the network that ships), or 'exact' (slow)",
    )
    model: ModelOptions = Field(default_factory=ModelOptions)
    observing: ObservingOptions = Field(default_factory=ObservingOptions)
    sampler: SamplerOptions = Field(default_factory=SamplerOptions)
    prior_bounds: dict[str, tuple[float, float]] = Field(
        default_factory=dict, description="edges of box priors other than the published ones, by parameter name"
    )
    dust_prior: Literal["uniform", "relation"] = Field(
        default="uniform",
        description="prior of tau_ism and n_dust: 'uniform', or 'relation': little dust is likelier, and thin dust is "
        "steep (docs/guide/model.md)",
    )
    prior_correction: Annotated[PriorCorrection | None, BeforeValidator(correction_from), BESIDE_FILE] = Field(
        default=None,
        description="file of a corrected prior, as `provabgs population prior --save` writes it; its content is kept "
        "with every posterior",
    )
    prior: Annotated[PriorFile | None, BeforeValidator(prior_file_from), BESIDE_FILE] = Field(
        default=None,
        description="file of a population prior that `provabgs population learn` made from fits of this configuration; "
        "each galaxy gets the density of the half that it is not in (docs/guide/learnt.md)",
    )
    measure: MeasureOptions = Field(default_factory=MeasureOptions)
    n_samples: int = Field(default=1000, gt=0, description="posterior draws kept per galaxy")
    use: Literal["both", "spectrum", "photometry"] = Field(default="both", description="which data to fit")
    plugins: tuple[str, ...] = Field(
        default=(), description="modules to import before a fit, which register histories, emissions, samplers, ..."
    )

    @model_validator(mode="before")
    @classmethod
    def _preset_first(cls, data: Any) -> Any:
        return _with_preset(data)

    @model_validator(mode="after")
    def _networks_are_exact(self) -> FitConfig:
        if self.model.published_networks is not None and (
            self.engine != "exact" or self.model.conventions != "published-code"
        ):
            raise ValueError("published_networks need engine = 'exact' and model.conventions = 'published-code'")
        if self.model.nebular and self.engine == "emulator":
            raise ValueError("engine = 'emulator' was trained on stars alone; nebular = true needs another engine")
        if self.observing.vdisp_kms == "fit" and self.engine == "emulator":
            raise ValueError("engine = 'emulator' has one velocity dispersion; vdisp_kms = 'fit' needs another engine")
        return self

    @model_validator(mode="after")
    def _prior_of_these_fits(self) -> FitConfig:
        # a stored configuration may outlive the file; a fit without the file is refused when it begins
        if self.prior is not None and self.prior.path.is_file():
            self.prior.load().check(self)
        return self

    @model_validator(mode="after")
    def _several_fits(self) -> FitConfig:
        for what, named in (("library", self.model.libraries), ("history", self.model.histories)):
            if len(named) > 1 and (self.engine == "emulator" or self.model.published_networks is not None):
                networks = "engine = 'emulator'" if self.engine == "emulator" else "published_networks"
                raise ValueError(f"{networks} knows one {what}; several in model.{what} need engine = 'compressed'")
        if isinstance(self.observing.template_error, tuple) and "template-error" not in self.observing.noise:
            raise ValueError(
                "several amplitudes of template_error need the term: put 'template-error' into observing.noise, or "
                "take preset = 'honest'"
            )
        return self
