"""A learnt prior as a fit's configuration names it: the file, and the SHA-256 that says which prior it was."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from provabgs.core.errors import ConfigError, DataFileError
from provabgs.inference.learnt.prior import LearntPrior, load_prior


class PriorFile(BaseModel):
    """Where a learnt prior is, and which it is."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    path: Path
    sha256: str = Field(pattern="^[0-9a-f]{64}$", description="of the prior's numbers")

    def load(self) -> LearntPrior:
        """Read the file.

        Raises
        ------
        ConfigError
            When it is missing or damaged, or holds another prior by now.
        """
        try:
            prior = load_prior(self.path)
        except DataFileError as err:
            raise ConfigError(str(err)) from None
        if prior.sha256 != self.sha256:
            raise ConfigError(f"{self.path}: holds another prior than the one that this configuration was made with")
        return prior


def prior_file_from(value: Any) -> Any:
    """What a configuration holds: a path becomes the file and its SHA-256, an empty one None."""
    if isinstance(value, str | Path):
        if not str(value):
            return None
        try:
            return PriorFile(path=Path(value), sha256=load_prior(value).sha256)
        except DataFileError as err:
            raise ConfigError(str(err)) from None
    return value
