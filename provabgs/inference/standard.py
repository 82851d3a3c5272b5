"""The parameters and derived properties of the default fit: what an empty table of a catalog has columns for."""

from __future__ import annotations

from provabgs.observe.nuisance import FIBER_FRACTION
from provabgs.sps.attenuation import CharlotFall
from provabgs.sps.derived import DERIVED
from provabgs.sps.histories.nmf import PUBLISHED
from provabgs.sps.parameters import ParameterSet

PARAMETERS = ParameterSet((*PUBLISHED, *CharlotFall.parameters, FIBER_FRACTION))
"""The thirteen of the published catalog, in its order."""
PROPERTIES = DERIVED
