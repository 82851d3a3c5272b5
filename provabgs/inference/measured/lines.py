"""Fluxes and equivalent widths of strong emission lines above the posterior's continuum.

In a window around each group of lines, data minus a draw of the continuum are a sum of Gaussian profiles, through the
instrument, and a straight line that takes up what the continuum has wrong over 100 A. Fluxes follow by least squares.
All lines share one dispersion and one velocity, those of the smallest chi^2 where lines are seen. A flux's variance is
that of the pixels, times reduced chi^2 where this exceeds 1, plus the scatter over draws of the continuum.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from provabgs.core.arrays import FloatArray
from provabgs.inference.measured.continuum import Continuum
from provabgs.inference.measured.line_quantities import LINES
from provabgs.observe.line_profiles import Window

GROUPS: tuple[tuple[str, ...], ...] = (
    ("OII_3727",), ("HBETA",), ("OIII_4959", "OIII_5007"), ("NII_6548", "HALPHA", "NII_6584"), ("SII_6716", "SII_6731"),
)  # fmt: skip
"""Lines that are fitted together."""
SIDE_AA = 50.0
"""Continuum beside the outermost lines of a group, rest frame, Angstrom."""
BESIDE_AA = (10.0, 50.0)
"""Distances from a line between which the continuum of its equivalent width is averaged, rest frame, Angstrom."""
DEFAULT_KMS = 100.0
"""Dispersion of lines that are not seen, km/s."""
SIGMAS_KMS = (30.0, 50.0, 75.0, 110.0, 160.0, 230.0, 330.0, 480.0)
SHIFTS_KMS = (-240.0, -160.0, -80.0, -40.0, 0.0, 40.0, 80.0, 160.0, 240.0)
SEEN = 25.0
"""Drop of chi^2 from which the lines' own dispersion and velocity are taken."""
COVERED = 0.8
"""Least share of a line on usable pixels."""


class Kinematics(NamedTuple):
    """What all lines share, km/s; NaN where no line is seen."""

    sigma: float
    shift: float


class Line(NamedTuple):
    """One line.

    `flux` 1e-17 erg/s/cm2, `ew` rest-frame Angstrom, positive in emission, each with its standard deviation. `draws`
    ``(ndraw,)`` are fluxes above each draw of the continuum; `pixel_error` is the flux's error from pixels alone.
    """

    flux: float
    flux_err: float
    ew: float
    ew_err: float
    draws: FloatArray
    pixel_error: float


class _Solved(NamedTuple):
    """Least squares in one window: columns are a constant, a slope, and `lines`."""

    excess: float
    """Reduced chi^2, at least 1."""
    amplitudes: FloatArray
    """``(ndraw, ncolumn)``."""
    covariance: FloatArray
    lines: tuple[str, ...]
    names: tuple[str, ...]
    """Lines that usable pixels cover."""


def ranges() -> list[tuple[float, float]]:
    """Rest-frame wavelengths of the groups' windows, Angstrom."""
    waves = [[w for name in group for w in LINES[name]] for group in GROUPS]
    return [(min(w) - SIDE_AA, max(w) + SIDE_AA) for w in waves]


def measure_lines(continua: list[Continuum | None]) -> tuple[dict[str, Line], Kinematics]:
    """All lines of a galaxy.

    Parameters
    ----------
    continua
        One per group, in the order of `GROUPS`.

    Returns
    -------
    lines, kinematics
        Lines that usable pixels cover, by name.
    """
    groups = [_Group(names, c) for names, c in zip(GROUPS, continua, strict=True) if c is not None]
    groups = [g for g in groups if g.names and g.good.sum() >= len(g.lines) + 8]
    kinematics = _kinematics(groups)
    sigma, shift = (DEFAULT_KMS, 0.0) if np.isnan(kinematics.sigma) else kinematics
    found: dict[str, Line] = {}
    for group in groups:
        found |= _lines(group.continuum, group.solve(sigma, shift))
    return found, kinematics


def _kinematics(groups: list[_Group]) -> Kinematics:
    """Dispersion and velocity of the smallest chi^2 over all groups: a coarse grid, then a finer one, by turns."""

    def total(sigma: float, shift: float) -> float:
        return sum(group.chi2(sigma, shift) for group in groups)

    sigma = min(SIGMAS_KMS, key=lambda s: total(s, 0.0))
    shift = min(SHIFTS_KMS, key=lambda v: total(sigma, v))
    sigma = min(sigma * np.array([0.75, 0.87, 1.0, 1.15, 1.33]), key=lambda s: total(s, shift))
    shift = min(shift + np.array([-20.0, -10.0, 0.0, 10.0, 20.0]), key=lambda v: total(sigma, v))
    seen = sum(group.chi2(np.nan, 0.0) for group in groups) - total(sigma, shift) > SEEN
    return Kinematics(float(sigma), float(shift)) if seen else Kinematics(np.nan, np.nan)


class _Group:
    """One window, and the least squares in it."""

    def __init__(self, group: tuple[str, ...], continuum: Continuum) -> None:
        self.continuum, w = continuum, continuum.window
        self.good = w.ivar > 0
        self.lines = tuple((name, wave) for name in group for wave in LINES[name])
        covered = {name: min(w.covered(wave, DEFAULT_KMS) for wave in LINES[name]) for name in group}
        self.names = tuple(name for name, share in covered.items() if share >= COVERED)
        self.straight = np.stack([np.ones(w.wave.size), slope(w)], axis=1)
        self.ivar = w.ivar[self.good]
        self.residual = (w.flux - continuum.draws)[:, self.good]
        self.mean = self.residual.mean(axis=0)

    def _normal(self, sigma: float, shift: float) -> tuple[FloatArray, FloatArray, FloatArray]:
        """Design, weighted design and normal matrix; of the straight line alone where `sigma` is NaN."""
        profiles = [] if np.isnan(sigma) else [self.continuum.window.profile(w, sigma, shift) for _, w in self.lines]
        design = np.column_stack([self.straight, *profiles])[self.good]
        weighted = design * self.ivar[:, None]
        return design, weighted, design.T @ weighted

    def chi2(self, sigma: float, shift: float) -> float:
        """Of the mean draw."""
        _, weighted, normal = self._normal(sigma, shift)
        right = self.mean @ weighted
        ridge = 1e-10 * np.diag(normal) + 1e-30  # a line without pixels
        return float(self.ivar @ self.mean**2 - right @ np.linalg.solve(normal + np.diag(ridge), right))

    def solve(self, sigma: float, shift: float) -> _Solved:
        """Amplitudes above each draw."""
        design, weighted, normal = self._normal(sigma, shift)
        covariance = np.asarray(np.linalg.pinv(normal, hermitian=True), dtype=np.float64)
        amplitudes = self.residual @ weighted @ covariance
        left = self.mean - design @ amplitudes.mean(axis=0)
        excess = max(1.0, float(self.ivar @ left**2) / (left.size - design.shape[1]))
        return _Solved(excess, amplitudes, covariance, tuple(name for name, _ in self.lines), self.names)


def slope(w: Window) -> FloatArray:
    """A straight line of mean 0 over the window, ``(npix,)``."""
    return np.asarray((w.wave - np.mean(w.wave)) / np.ptp(w.wave))


def _lines(c: Continuum, solved: _Solved) -> dict[str, Line]:
    """Fluxes and equivalent widths of a group."""
    w = c.window
    excess = solved.excess
    under = c.draws + solved.amplitudes[:, :1] + solved.amplitudes[:, 1:2] * slope(w)
    out = {}
    for name in solved.names:
        own = np.array([0, 0] + [float(n == name) for n in solved.lines])
        draws = solved.amplitudes @ own
        pixels = float(np.sqrt(excess * own @ solved.covariance @ own))
        flux, error = float(draws.mean()), float(np.hypot(pixels, draws.std()))
        stretch, away = 1 + w.redshift, np.abs(w.wave / (1 + w.redshift) - np.mean(LINES[name]))
        near = (away > BESIDE_AA[0]) & (away < BESIDE_AA[1]) & (w.ivar > 0)
        level = under[:, near].mean(axis=1)
        # the continuum's error: of its draws, and of the straight line that the pixels set
        line = np.array([1.0, float(np.mean(slope(w)[near]))])
        sigma = np.hypot(level.std(), np.sqrt(excess * line @ solved.covariance[:2, :2] @ line))
        mean = float(level.mean())
        ew = ew_err = float("nan")
        if mean > 3 * sigma:  # a continuum that is not seen has no equivalent width
            ew, ew_err = flux / mean / stretch, float(np.hypot(error / mean, flux * sigma / mean**2)) / stretch
        out[name] = Line(flux, error, ew, ew_err, draws, pixels)
    return out
