"""The fit configuration that the rows of a catalog share."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import Any

from pydantic import ValidationError

from provabgs.core.errors import ConfigError
from provabgs.inference.config import FitConfig

PRIOR_PARTS = ("prior_bounds", "dust_prior", "model", "cosmology", "prior_correction", "prior")
"""Parts of a configuration that decide under which prior draws were made, and what they mean."""
MODEL_PARTS = ("model", "cosmology")
"""Parts that decide the spectrum that belongs to a draw."""


def stored_configs(metadata: Mapping[str, str]) -> tuple[str, ...]:
    """Distinct fit configurations of a catalog as JSON texts; rows without a fit have none.

    Parameters
    ----------
    metadata
        Of a summary (`provabgs.catalog.Catalog.metadata`).
    """
    return tuple(json.loads(metadata.get("provabgs:configs", "[]")))


def shared_config(
    configs: Iterable[str],
    claimed: FitConfig | None = None,
    where: str = "the catalog",
    parts: tuple[str, ...] = PRIOR_PARTS,
) -> FitConfig:
    """The configuration under which stored draws were made, checked against the one that a caller claims.

    Parameters
    ----------
    configs
        JSON texts stored with the draws (`stored_configs`).
    claimed
        What the caller believes; None believes the store.
    where
        File or catalog, for messages.
    parts
        What has to agree: `PRIOR_PARTS`, or `MODEL_PARTS` where only spectra are computed.

    Returns
    -------
    FitConfig
        The claimed one, or the first that is stored.

    Raises
    ------
    ConfigError
        When stored configurations differ in `parts`, when the store has none and nothing is claimed, or when the claim
        differs from what is stored.
    """
    found: list[FitConfig] = []
    for text in configs:
        try:
            found.append(FitConfig.model_validate_json(text))
        except ValidationError:
            if claimed is None:
                raise ConfigError(
                    f"{where}: its fit configuration {text[:60]!r} is not one of ours, so that the inference prior is "
                    "unknown; name the configuration (--fit-config) or leave the prior undivided"
                ) from None
    for other in found[1:]:
        kind = "priors" if parts == PRIOR_PARTS else "SPS models or cosmologies"
        _require_same(found[0], other, parts, f"{where}: fits under different {kind} are mixed", "select one kind")
    if claimed is None:
        if not found:
            raise ConfigError(f"{where}: does not say under which prior it was made; name the fit configuration")
        return found[0]
    if found:
        _require_same(found[0], claimed, parts, f"{where}: was fitted under another prior than claimed", "use its own")
    return claimed


def _parts(config: FitConfig) -> dict[str, Any]:
    return {
        "prior_bounds": {k: list(v) for k, v in sorted(config.prior_bounds.items())},
        "dust_prior": config.dust_prior,
        "model": json.loads(config.model.model_dump_json()),
        "cosmology": config.observing.cosmology,
        "prior_correction": config.prior_correction and config.prior_correction.model_dump(),
        "prior": config.prior and config.prior.sha256,
    }


def _require_same(a: FitConfig, b: FitConfig, parts: tuple[str, ...], what: str, cure: str) -> None:
    first, second = _parts(a), _parts(b)
    for key in parts:
        if first[key] != second[key]:
            raise ConfigError(f"{what} ({key}: {_short(first[key])} against {_short(second[key])}); {cure}")


def _short(value: Any) -> str:
    text = str(value)
    return text if len(text) <= 200 else f"{text[:200]} ..."
