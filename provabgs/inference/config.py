"""The one schema of all that a fit may be told; read from TOML by pipelines, stored as JSON with every posterior."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    SerializerFunctionWrapHandler,
    model_serializer,
    model_validator,
)

from provabgs.errors import ConfigError
from provabgs.inference.correction import PriorCorrection, correction_from
from provabgs.observe.options import ObservingOptions

Engine = Literal["compressed", "emulator", "exact"]
Conventions = Literal["paper", "published-code"]


def read_toml(path: Path, missing: str = "") -> dict[str, Any]:
    """Content of a TOML file.

    Raises
    ------
    ConfigError
        When the file is missing (`missing` is added to the message) or not TOML.
    """
    try:
        return tomllib.loads(path.read_text())
    except FileNotFoundError:
        raise ConfigError(f"{path}: no such file{missing}") from None
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise ConfigError(f"{path}: not a TOML file: {error}") from None


class ModelOptions(BaseModel):
    """The SPS model."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    library: Path | None = Field(default=None, description="SSP library file; the one that ships if null")
    conventions: Conventions = Field(
        default="paper", description="'paper': equations of Hahn et al. 2023; 'published-code': what its code computes"
    )
    published_networks: tuple[Path, Path] | None = Field(
        default=None,
        description="arrays (.npz) of the published NMF and burst networks, in place of SSPs, to reproduce published "
        "posteriors; needs engine = 'exact' and conventions = 'published-code'",
    )


class SamplerOptions(BaseModel):
    """The sampler, its gate and its budget."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str = Field(default="auto", description="sampler; `provabgs fit --help` lists them")
    rhat: float = Field(default=1.01, gt=1, description="gate: largest rank-normalised split R-hat")
    ess: float = Field(default=400, gt=0, description="gate: smallest bulk and tail effective sample size")
    max_eval: int = Field(
        default=5_000_000, gt=0, description="budget: likelihood evaluations (a gradient counts as one)"
    )
    time_limit_s: float = Field(default=300.0, gt=0, description="budget: seconds a galaxy")


class FitConfig(BaseModel):
    """Everything a fit may be told."""

    model_config = ConfigDict(extra="forbid", frozen=True)

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
    prior_correction: Annotated[PriorCorrection | None, BeforeValidator(correction_from)] = Field(
        default=None,
        description="file of a corrected prior, as `provabgs population prior --save` writes it; its content is kept "
        "with every posterior",
    )
    n_samples: int = Field(default=1000, gt=0, description="posterior draws kept per galaxy")
    use: Literal["both", "spectrum", "photometry"] = Field(default="both", description="which data to fit")

    @model_serializer(mode="wrap")
    def _as_before(self, dump: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Left out where there is none: runs begun before priors could be corrected have not changed."""
        return {k: v for k, v in dump(self).items() if k != "prior_correction" or v is not None}

    @model_validator(mode="after")
    def _networks_are_exact(self) -> FitConfig:
        if self.model.published_networks is not None and (
            self.engine != "exact" or self.model.conventions != "published-code"
        ):
            raise ValueError("published_networks need engine = 'exact' and model.conventions = 'published-code'")
        return self
