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
