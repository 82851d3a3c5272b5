from __future__ import annotations

import numpy as np
import pytest

from provabgs.core.errors import InputError
from provabgs.observe.cosmology import Cosmology


def test_default_is_planck13_against_closed_integrals() -> None:
    # Flat LCDM by hand, H0 = 67.77, Om0 = 0.30712 (Planck 2013 XVI table 5); neutrinos and photons move it < 0.1 %.
    z = np.linspace(0.0, 0.3, 20001)
    inverse_e = 1.0 / np.sqrt(0.30712 * (1 + z) ** 3 + 1 - 0.30712)
    distance_mpc = 1.3 * 299792.458 / 67.77 * np.trapezoid(inverse_e, z)
    assert Cosmology().luminosity_distance_cm(0.3) == pytest.approx(distance_mpc * 3.0856775814913673e24, rel=1e-3)
    # Closed form of the age of a flat universe without radiation.
    om, hubble_time = 0.30712, 977.792 / 67.77
    age = hubble_time * 2 / (3 * np.sqrt(1 - om)) * np.arcsinh(np.sqrt((1 - om) / om) * 1.3**-1.5)
    assert Cosmology().age_gyr(0.3) == pytest.approx(age, rel=3e-3)  # radiation and neutrinos: -0.2 %


def test_scalars_stay_scalars_and_arrays_agree() -> None:
    c = Cosmology("Planck18")
    z = np.array([0.05, 0.2, 0.6])
    distances, ages = c.luminosity_distance_cm(z), c.age_gyr(z)
    assert isinstance(c.age_gyr(0.2), float)
    assert isinstance(c.luminosity_distance_cm(0.2), float)
    assert distances[1] == c.luminosity_distance_cm(0.2)
    assert np.all(np.diff(distances) > 0)
    assert np.all(np.diff(ages) < 0)


def test_name_decides_equality_and_result() -> None:
    assert Cosmology() == Cosmology("Planck13")
    assert hash(Cosmology()) == hash(Cosmology("Planck13"))
    assert Cosmology("WMAP5").age_gyr(0.1) != Cosmology().age_gyr(0.1)


@pytest.mark.parametrize("z", [0.0, -0.1, np.nan, np.inf])
def test_unusable_redshift_is_named(z: float) -> None:
    with pytest.raises(InputError, match="finite redshifts > 0"):
        Cosmology().age_gyr(z)
    with pytest.raises(InputError, match=r"\(1 of 2\)"):
        Cosmology().luminosity_distance_cm(np.array([0.1, z]))


def test_unknown_cosmology_lists_the_known() -> None:
    with pytest.raises(InputError, match="Planck13"):
        Cosmology("Einstein-de-Sitter")
