"""Piecewise-linear bases of histories, and how much mass they put on each age of an SSP library.

The bases are piecewise linear in t. SSPs are interpolated linearly in log age between the nodes of the library, so
the mass that falls to each node is an integral of a linear function against ``log t``, which is done in closed form:
no age bins, no bin centres. The published 42-bin sum is kept for parity.
"""

from __future__ import annotations

from typing import Literal, get_args

import numpy as np
from astropy.table import Table
from numpy.typing import ArrayLike

from provabgs.core.arrays import FloatArray
from provabgs.core.errors import InputError, UnusableTargetError
from provabgs.core.status import Status
from provabgs.sps.histories.base import HistoryTables
from provabgs.sps.interpolation import hat_weights

Binning = Literal["exact", "published"]
Normalisation = Literal["per-basis", "joint"]

OLDEST_KNOT_GYR = 20.0
"""The bases are held constant beyond their last published time; no galaxy is this old."""


class HistoryBases:
    """Non-negative, piecewise-linear bases of SFH and ZH in lookback time.

    Parameters
    ----------
    time
        ``(nknot,)`` lookback time, Gyr, increasing, >= 0.
    sfh
        ``(nbasis, nknot)`` star-formation bases, >= 0, any normalisation.
    zh
        ``(nzbasis, nknot)`` metallicity bases; absolute Z per unit gamma.
    """

    def __init__(self, time: ArrayLike, sfh: ArrayLike, zh: ArrayLike) -> None:
        time, sfh, zh = (np.asarray(a, dtype=np.float64) for a in (time, sfh, zh))
        if np.any(np.diff(time) <= 0) or time[0] < 0 or sfh.shape[1:] != time.shape or zh.shape[1:] != time.shape:
            raise InputError("history bases need increasing times and one value per time and basis")
        if np.any(sfh < 0) or np.any(zh < 0):
            raise InputError("history bases must be non-negative")
        # linear extrapolation to t = 0 (as published), never below zero, unless it is a knot; constant beyond the last
        self.time = np.concatenate([[0.0] if time[0] > 0 else [], time, [OLDEST_KNOT_GYR]])
        self.sfh = self._extend(time, sfh)
        self.zh = self._extend(time, zh)
        self._cumulative = [self._cumulative_at_knots(kind) for kind in range(3)]

    @classmethod
    def published(cls) -> HistoryBases:
        """The four SFH and two ZH bases of Hahn et al. 2023, in the order of the published catalog."""
        from provabgs.data import data_path

        table = Table.read(data_path("nmf_bases.ecsv"))
        sfh = np.array([table[f"sfh{i}"] for i in range(1, 5)])
        zh = np.array([table[f"zh{i}"] for i in range(1, 3)])
        return cls(np.array(table["t_lookback"]), sfh, zh)

    @classmethod
    def tng(cls) -> HistoryBases:
        """Six SFH bases of IllustrisTNG histories, youngest first, with the published metallicity bases."""
        from provabgs.data import data_path

        table, published = Table.read(data_path("tng6_bases.ecsv")), cls.published()
        time = np.array(table["t_lookback"])
        sfh = np.array([table[f"sfh{i}"] for i in range(1, 7)])
        return cls(time, sfh, published.metallicity_bases(time))

    @staticmethod
    def _extend(time: FloatArray, values: FloatArray) -> FloatArray:
        if time[0] == 0:
            return np.concatenate([values, values[:, -1:]], axis=1)
        slope = (values[:, 1] - values[:, 0]) / (time[1] - time[0])
        first = np.maximum(values[:, 0] - slope * time[0], 0.0)
        return np.concatenate([first[:, None], values, values[:, -1:]], axis=1)

    @property
    def least_t_age_gyr(self) -> float:
        """Age of the universe, Gyr, below which some basis has formed nothing: it cannot be normalised."""
        return float(self.time[np.maximum(np.argmax(self.sfh > 0, axis=1) - 1, 0)].max())

    def metallicity_bases(self, t: ArrayLike) -> FloatArray:
        """ZH bases at lookback times ``(n,)``, Gyr; ``(nzbasis, n)``."""
        return np.array([np.interp(np.asarray(t, dtype=np.float64), self.time, row) for row in self.zh])

    def sfh_bases(self, t: ArrayLike, t_age: float) -> FloatArray:
        """SFH bases at given lookback times, normalised over [0, t_age].

        Parameters
        ----------
        t
            ``(n,)`` lookback times, Gyr.
        t_age
            Age of the universe at the galaxy, Gyr.

        Returns
        -------
        FloatArray
            ``(nbasis, n)`` 1/Gyr; 0 beyond `t_age`.
        """
        t = np.asarray(t, dtype=np.float64)
        rows = np.array([np.interp(t, self.time, row) for row in self.sfh])
        return np.where(t <= t_age, rows / self._integral(0, np.array(t_age))[..., None], 0.0)

    # ---- closed-form integrals of s(t) times 1, ln t and t -------------------------------------------------------

    @staticmethod
    def _antiderivative(kind: int, a: FloatArray, b: FloatArray, t: FloatArray) -> FloatArray:
        """Antiderivative of (a + b t) times 1 (kind 0), ln t (kind 1) or t (kind 2); 0 at t = 0."""
        if kind == 0:
            return a * t + b * t**2 / 2
        if kind == 1:
            log_t = np.log(np.where(t > 0, t, 1.0))
            return a * t * (log_t - 1) + b * t**2 * (log_t / 2 - 0.25)
        return a * t**2 / 2 + b * t**3 / 3

    def _segments(self) -> tuple[FloatArray, FloatArray]:
        slope = np.diff(self.sfh, axis=1) / np.diff(self.time)
        return self.sfh[:, :-1] - slope * self.time[:-1], slope

    def _cumulative_at_knots(self, kind: int) -> FloatArray:
        a, b = self._segments()
        pieces = self._antiderivative(kind, a, b, self.time[1:]) - self._antiderivative(kind, a, b, self.time[:-1])
        return np.concatenate([np.zeros((len(self.sfh), 1)), np.cumsum(pieces, axis=1)], axis=1)

    def _integral(self, kind: int, t: FloatArray) -> FloatArray:
        """Integral from 0 to t of each basis times 1, ln t or t; ``(nbasis,) + t.shape``."""
        seg = np.clip(np.searchsorted(self.time, t, side="right") - 1, 0, self.time.size - 2)
        a, b = self._segments()
        a, b = a[:, seg], b[:, seg]
        start = self._antiderivative(kind, a, b, self.time[seg])
        return self._cumulative[kind][:, seg] + self._antiderivative(kind, a, b, t) - start

    # ---- tables --------------------------------------------------------------------------------------------------

    def tables(
        self,
        t_age: ArrayLike,
        node_age: FloatArray,
        binning: Binning = "exact",
        normalisation: Normalisation = "per-basis",
    ) -> HistoryTables:
        """Mass per age node and basis.

        Parameters
        ----------
        t_age
            ``(...,)`` age of the universe at the galaxy, Gyr.
        node_age
            ``(nage,)`` ages of the SSP library, Gyr, increasing.
        binning
            ``"exact"``: closed-form integral against SSPs linear in log age. ``"published"``: 42 log-spaced bins with
            the SSP taken at bin centres.
        normalisation
            ``"per-basis"``: each basis is normalised over [0, t_age] and beta_i is its fraction of the mass (the
            equation of Hahn et al. 2023). ``"joint"``: the sum of beta_i s_i is normalised as a whole (what the
            published code and its emulator do: a basis that lies mostly before the galaxy's birth then contributes
            little).

        Returns
        -------
        HistoryTables
            Double precision, with the leading axes of `t_age`.

        Raises
        ------
        InputError
            When an age is not positive, or `binning` or `normalisation` is unknown.
        UnusableTargetError
            When a basis has formed nothing at one of the ages.
        """
        t_age = np.asarray(t_age, dtype=np.float64)
        if np.any(~(t_age > 0)):
            raise InputError(f"age of the universe must be positive, got {t_age.min()} Gyr; check the redshift")
        if normalisation not in get_args(Normalisation):
            raise InputError(f"unknown normalisation {normalisation!r}; use 'per-basis' or 'joint'")
        formed = self._over(0, t_age)
        if not np.all(formed > 0):
            raise UnusableTargetError(
                f"a history basis forms no stars before the universe is {self.least_t_age_gyr:.3g} Gyr old, the galaxy "
                f"is seen at {t_age.min():.3g} Gyr; use model.history = 'bins'",
                Status.REDSHIFT_OUT_OF_RANGE,
            )
        if binning == "exact":
            mass = self._exact_masses(t_age, node_age) / formed[..., None]
        elif binning == "published":
            mass = self._published_masses(t_age, node_age)
        else:
            raise InputError(f"unknown age binning {binning!r}; use 'exact' or 'published'")
        # normalised jointly, a basis counts by what it has formed by t_age: its mass fraction is not beta_i
        return HistoryTables(
            t_age=t_age,
            weight=np.ones_like(formed) if normalisation == "per-basis" else formed,
            mass=mass,
            formed_100myr=self._over(0, np.minimum(0.1, t_age)) / formed,
            formed_1gyr=self._over(0, np.minimum(1.0, t_age)) / formed,
            mean_age=self._over(2, t_age) / formed,
        )

    def _over(self, kind: int, t: FloatArray) -> FloatArray:
        """`_integral` with the basis axis last: ``(..., nbasis)``."""
        return np.moveaxis(self._integral(kind, t), 0, -1)

    def _exact_masses(self, upper: FloatArray, node_age: FloatArray) -> FloatArray:
        """Unnormalised mass per node formed at lookback times below `upper`; ``(..., nbasis, nage)``.

        On [t_j, t_j+1] node j takes ``(ln t_j+1 - ln t) / (ln t_j+1 - ln t_j)`` of the mass, node j+1 the rest; what
        is younger than the first node or older than the last falls to that node.
        """
        edges = np.minimum(node_age, upper[..., None])
        mass, moment = (np.moveaxis(self._integral(kind, edges), 0, -2) for kind in (0, 1))
        d_mass, d_moment = np.diff(mass, axis=-1), np.diff(moment, axis=-1)
        log_node = np.log(node_age)
        width = np.diff(log_node)
        to_upper = np.maximum((d_moment - log_node[:-1] * d_mass) / width, 0.0)
        out = np.zeros((*mass.shape[:-1], node_age.size))
        out[..., :-1] += d_mass - to_upper
        out[..., 1:] += to_upper
        out[..., 0] += mass[..., 0]
        out[..., -1] += self._over(0, upper) - mass[..., -1]
        return np.maximum(out, 0.0)

    def _published_masses(self, t_age: FloatArray, node_age: FloatArray) -> FloatArray:
        """Masses by the published sum: bins 0, 10^6.05 yr, +0.1 dex, ..., t_age; SSPs at bin centres."""
        edges = np.concatenate([[0.0], 10.0 ** (6.05 - 9 + 0.1 * np.arange(42)), [OLDEST_KNOT_GYR]])
        edges = np.minimum(edges, t_age[..., None])
        centre = 0.5 * (edges[..., 1:] + edges[..., :-1])
        mass = np.diff(np.moveaxis(self._integral(0, edges), 0, -2), axis=-1)
        hats = np.asarray(hat_weights(np.log(np.maximum(centre, 1e-12)), np.log(node_age)))
        return np.einsum("...in,...nj->...ij", mass / mass.sum(axis=-1, keepdims=True), hats)
