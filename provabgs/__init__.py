"""PROVABGS: converged, calibrated posteriors of galaxy properties from DESI spectra and Legacy Surveys photometry."""

from __future__ import annotations

__version__ = "0.1.0"
