"""Spectra of SDSS and BOSS."""

from provabgs.sdss.spec import SpecOptions, read_spec

__all__ = ["SpecOptions", "read_spec"]
