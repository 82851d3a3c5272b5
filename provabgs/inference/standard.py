"""The parameters and derived properties of the default fit: what an empty table of a catalog has columns for."""

from __future__ import annotations

from provabgs.core.errors import ConfigError
from provabgs.core.messages import suggestion
from provabgs.observe.nuisance import FIBER_FRACTION
from provabgs.sps.attenuation import CharlotFall
from provabgs.sps.derived import DERIVED
from provabgs.sps.histories.nmf import PUBLISHED
from provabgs.sps.parameters import ParameterSet

PARAMETERS = ParameterSet((*PUBLISHED, *CharlotFall.parameters, FIBER_FRACTION))
"""The thirteen of the published catalog, in its order."""
PROPERTIES = DERIVED


def label(name: str) -> str:
    """Axis label of a quantity of the default fit.

    Parameters
    ----------
    name
        Python name of a parameter or derived property.

    Returns
    -------
    str
        LaTeX with unit.

    Raises
    ------
    ConfigError
        For an unknown name.
    """
    quantities = {q.name: q for q in (*PARAMETERS, *PROPERTIES)}
    if name not in quantities:
        raise ConfigError(f"no parameter or derived property {name!r}{suggestion(name, quantities)}")
    return quantities[name].label
