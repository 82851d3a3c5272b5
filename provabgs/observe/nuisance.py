"""Parameters that belong to the observation, not to the stars."""

from __future__ import annotations

from provabgs.sps.parameters import Parameter

FIBER_FRACTION = Parameter(
    name="f_fiber",
    column="F_FIBER",
    symbol=r"f_{\rm fiber}",
    unit="",
    description="spectrum flux over total flux",
    prior="normal",
    bounds=(0.0, float("inf")),
    role="nuisance",
)
"""Multiplies the model's total flux where it is compared with a spectrum; its mean and width belong to the galaxy."""

DISPERSION = Parameter(
    name="vdisp",
    column="VDISP",
    symbol=r"\sigma_\star",
    unit="km/s",
    description="stellar velocity dispersion",
    prior="log-uniform",
    bounds=(30.0, 450.0),
    role="nuisance",
    hard_bounds=True,
    natural_edges="low",
)
"""Of a spectrum whose dispersion is fitted; its edges are those of the table of broadened spectra. A posterior at the
lower one is of a galaxy whose dispersion is not resolved."""
