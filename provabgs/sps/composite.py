"""The one place that adds attenuated parts of a galaxy's spectrum.

Stars come in two parts: young ones, which sit in birth clouds, and old ones. Every spectrum, at every set of
wavelengths and for every likelihood backend, is ``young * T_young + old * T_old`` by `composite`.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from provabgs.core.jax import jnp


class Parts(NamedTuple):
    """Something of young stars and of old ones, always in this order."""

    young: Any
    old: Any


def composite(spectra: Parts, transmission: Parts) -> Any:
    """Attenuated sum of both parts.

    Parameters
    ----------
    spectra
        Unattenuated luminosity density, each ``(batch, nwave)``, or ``(batch, ncomponent, nwave)`` for each linear
        component apart.
    transmission
        Each ``(batch, nwave)``; see `provabgs.sps.attenuation.Attenuation.transmission`.

    Returns
    -------
    jax.Array
        Of the shape and unit of the spectra.
    """
    young, old = _along(transmission, spectra.young.ndim)
    return spectra.young * young + spectra.old * old


def absorbed(spectra: Parts, transmission: Parts, width: Any) -> Any:
    """Luminosity that dust takes out of both parts.

    Parameters
    ----------
    spectra, transmission
        As for `composite`.
    width
        ``(nwave,)`` quadrature weights, Angstrom; ones where spectra are integrals over wavelength cells already.

    Returns
    -------
    jax.Array
        ``(batch,)`` or ``(batch, ncomponent)``, the unit of the spectra times Angstrom (Lsun).
    """
    young, old = _along(transmission, spectra.young.ndim)
    return jnp.sum((spectra.young * (1 - young) + spectra.old * (1 - old)) * width, axis=-1)


def _along(transmission: Parts, ndim: int) -> Parts:
    """Transmission with an axis for components where spectra have one."""
    if ndim == 3:
        return Parts(transmission.young[:, None], transmission.old[:, None])
    return transmission
