"""One public row of the released PROVABGS catalog: what its theta says of mass, SFR, metallicity and age."""

from __future__ import annotations

import numpy as np
import pytest

from provabgs.core.jax import jnp
from provabgs.observe.cosmology import Cosmology
from provabgs.sps.derived import derived_properties
from provabgs.sps.model import SPSModel

REDSHIFT = 0.162813
"""TARGETID 39633448888962529."""
THETA_BF = (
    10.353157997, 0.078352258, 0.020508969, 0.023012919, 0.878125846, 0.201113224, 11.260528564, 0.00038783747,
    0.00086799334, 0.033934955, 0.428330541, 0.224333391,
)  # fmt: skip
"""Its best fit, without f_fiber: the first number is the mass formed."""


def properties(model: SPSModel) -> dict[str, float]:
    age = float(Cosmology("Planck13").age_gyr(REDSHIFT))
    derived = derived_properties(model, jnp.asarray([THETA_BF]), model.tables(age))
    return {name: float(value[0]) for name, value in derived.items()}


def test_the_released_mass_is_the_surviving_one() -> None:
    """PROVABGS_LOGMSTAR_BF of the row is 10.103, 0.250 dex below the mass formed."""
    assert properties(SPSModel.published())["logmstar_surviving"] == pytest.approx(10.103481, abs=0.005)


@pytest.mark.parametrize(
    ("name", "released", "fraction"),
    [("log_sfr_1gyr", np.log10(0.426873), 0.001), ("log_z_mw", np.log10(0.001594), 0.02)],
)
def test_rates_and_metallicity_are_those_released(name: str, released: float, fraction: float) -> None:
    assert properties(SPSModel.published())[name] == pytest.approx(released, abs=np.log10(1 + fraction))


def test_the_age_is_that_released() -> None:
    assert properties(SPSModel.published())["t_age_mw"] == pytest.approx(9.682904, rel=0.01)


def test_the_equations_of_the_paper_give_another_rate() -> None:
    """The SFR of the published code is normalised jointly with the burst; that of the paper's equations is not."""
    assert properties(SPSModel())["log_sfr_1gyr"] < np.log10(0.426873) - 0.05
