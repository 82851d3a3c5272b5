"""PROVABGS: converged, calibrated posteriors of galaxy properties from DESI spectra and Legacy Surveys photometry.

The names below load on first use, so that ``import provabgs`` costs nothing.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

if TYPE_CHECKING:
    from provabgs.api import draw, fit, save
    from provabgs.catalog.query import Catalog
    from provabgs.core.status import Status
    from provabgs.inference.config import FitConfig
    from provabgs.inference.posterior import Posterior
    from provabgs.observe.observation import Observation, Photometry, Spectrum
    from provabgs.sps.library import SSPLibrary
    from provabgs.sps.model import SPSModel

_WHERE: dict[str, str] = {
    "Catalog": "provabgs.catalog.query",
    "FitConfig": "provabgs.inference.config",
    "Observation": "provabgs.observe.observation",
    "Photometry": "provabgs.observe.observation",
    "Posterior": "provabgs.inference.posterior",
    "SPSModel": "provabgs.sps.model",
    "SSPLibrary": "provabgs.sps.library",
    "Spectrum": "provabgs.observe.observation",
    "Status": "provabgs.core.status",
    "draw": "provabgs.api",
    "fit": "provabgs.api",
    "save": "provabgs.api",
}
"""Public name -> module that defines it (PEP 562)."""

__all__ = [
    "Catalog",
    "FitConfig",
    "Observation",
    "Photometry",
    "Posterior",
    "SPSModel",
    "SSPLibrary",
    "Spectrum",
    "Status",
    "__version__",
    "draw",
    "fit",
    "save",
]


def __getattr__(name: str) -> Any:
    if name not in _WHERE:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(_WHERE[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *_WHERE})
