"""Star-formation histories of draws in a few numbers: formation times, rates by age, mass formed lately."""

from __future__ import annotations

import numpy as np

from provabgs.core.arrays import FloatArray
from provabgs.inference.measured.quantity import Drawn, Measured
from provabgs.sps.history_bins import EDGES_GYR, edge, formed_in_bins, formed_within, time_by_which
from provabgs.sps.model import SPSModel

BINS_GYR: tuple[tuple[float, float], ...] = (
    (0.0, 0.01), (0.01, 0.1), (0.1, 0.3), (0.3, 1.0), (1.0, 3.0), (3.0, 6.0), (6.0, 14.0),
)  # fmt: skip
"""Ages between which mean star-formation rates are given, Gyr of lookback time."""
NO_STARS = 1e-30
"""Mass formed, over all of it, that stands for none in a logarithm: log SFR is then below -15."""


def histories(model: SPSModel, theta: FloatArray, t_age: float) -> list[Drawn]:
    """Formation times and star-formation rates.

    Parameters
    ----------
    model
        The SPS model.
    theta
        ``(n, nparameter)`` of the model.
    t_age
        Age of the universe at the galaxy, Gyr.

    Returns
    -------
    list of Drawn
        One value per draw.
    """
    bins = formed_in_bins(model, theta, t_age)
    out = [Drawn(_formed(share), time_by_which(bins, share / 100, t_age)) for share in (50, 90)]
    total = model.parameters.values(theta)[model.linear_block.total]
    mass = np.maximum(formed_within(bins, 0.01), NO_STARS * 10.0**total)
    out.append(Drawn(LOGSFR_10MYR, np.log10(mass) - 7.0))
    for number, (low, high) in enumerate(BINS_GYR, 1):
        formed = bins[:, edge(low) + 1 if low else 0 : edge(high) + 1].sum(axis=1)
        end = min(high, t_age)
        rate = formed / ((end - low) * 1e9) if end > low else np.full(len(bins), np.nan)
        out.append(Drawn(_rate(number, low, high), rate))
    return out


LOGSFR_10MYR = Measured(
    "log_sfr_10myr", "LOGSFR_10MYR", r"\log_{10} {\rm SFR}_{10\,{\rm Myr}}", "dex(Msun / yr)",
    "log10 of the SFR averaged over the last 10 Myr; below -15: no star formed",
    ucd="phys.SFR",
)  # fmt: skip


def _formed(share: int) -> Measured:
    return Measured(
        f"t{share}", f"T{share}", f"t_{{{share}}}", "Gyr",
        f"lookback time from the galaxy by which {share} % of the mass had formed", ucd="time.age",
    )  # fmt: skip


def _rate(number: int, low: float, high: float) -> Measured:
    end = f"{high:g} Gyr" if high < EDGES_GYR[-1] else "the age of the universe"
    return Measured(
        f"sfr_bin{number}", f"SFR_BIN{number}", f"{{\\rm SFR}}_{number}", "Msun / yr",
        f"mean SFR at lookback times from {low:g} Gyr to {end}; 0: no star formed",
        null="there are no draws, or the universe is younger than the bin", ucd="phys.SFR",
    )  # fmt: skip
