"""The FLAG column: what is doubtful about a fit, as bits, and the same in words."""

from __future__ import annotations

from enum import IntFlag
from typing import TYPE_CHECKING

import numpy as np

from provabgs.core.status import Status
from provabgs.inference.binned_spectrum import BIN_PIXELS
from provabgs.inference.prior_edge import EDGE_FRACTION
from provabgs.observe.nuisance import DISPERSION

if TYPE_CHECKING:
    from provabgs.inference.posterior import Posterior

SIGNIFICANCE = 1e-3
"""Tail probability below which chi^2 and coefficients of the noise model count as a misfit. Over the 900 bins of a DESI
spectrum it is reached where errors are 7 % too small."""
RESIDUAL_SIGMA = 6.0
"""Largest mean residual over a window. White noise reaches 3.5 somewhere in a spectrum; errors of neighbouring pixels
of DESI are correlated, which makes a mean over a window up to 1.5 times as uncertain."""
TENSION_SIGMA = 4.0
"""Distance of bands and spectrum: 3.3 is as improbable as `SIGNIFICANCE`, the rest allows for its approximation."""
CLIPPED_FRACTION = 0.02
"""Share of pixels masked as outliers: cosmic rays and sky residuals that pipelines miss take 0.2-0.5 %."""


class Flag(IntFlag):
    """What is doubtful about a fit, one bit each; bits never change their meaning. 0 is the recommended cut."""

    SPEC_MISFIT = 1
    PHOT_MISFIT = 2
    TENSION = 4
    TEMPLATE_LARGE = 8
    CALIBRATION_LARGE = 16
    PRIOR_EDGE = 32
    NOT_CONVERGED = 64
    RESIDUAL = 128
    OUTLIERS = 256
    NO_POSTERIOR = 512


DESCRIPTIONS: dict[Flag, str] = {
    Flag.SPEC_MISFIT: "the spectrum, in bins of 8 pixels, is not fitted: P_SPEC_BINNED < 0.001",
    Flag.PHOT_MISFIT: "the bands are not fitted: P_PHOT < 0.001",
    Flag.TENSION: "bands and spectrum disagree: TENSION > 4",
    Flag.TEMPLATE_LARGE: "more template error than stellar libraries differ by: TEMPLATE_P < 0.001",
    Flag.CALIBRATION_LARGE: "more calibration error or fiber colour than expected: CALIBRATION_P or FIBER_COLOUR_P "
    "< 0.001",
    Flag.PRIOR_EDGE: "more than 5 % of the draws pile up at an edge of a prior: PRIOR_EDGE says of which parameter",
    Flag.NOT_CONVERGED: "STATUS is not CONVERGED",
    Flag.RESIDUAL: "the mean residual over 50 or 100 A (rest frame) exceeds 6 sigma: RESIDUAL, RESIDUAL_WAVE",
    Flag.OUTLIERS: "more than 2 % of the pixels were masked as outliers: N_CLIPPED",
    Flag.NO_POSTERIOR: "there are no draws: STATUS and MESSAGE say why",
}
"""Meaning of each bit, with the columns and thresholds that set it."""


def flags_of(posterior: Posterior) -> Flag:
    """All that is doubtful about a fit."""
    p, q = posterior, posterior.quality
    if not p.status.has_samples:
        return Flag.NO_POSTERIOR | Flag.NOT_CONVERGED
    # comparisons with NaN, of data that are absent, are false
    doubts = {
        Flag.SPEC_MISFIT: q.p_spec_binned < SIGNIFICANCE,
        Flag.PHOT_MISFIT: q.p_phot < SIGNIFICANCE,
        Flag.TENSION: q.tension > TENSION_SIGMA,
        Flag.TEMPLATE_LARGE: q.template_p < SIGNIFICANCE,
        Flag.CALIBRATION_LARGE: q.calibration_p < SIGNIFICANCE or q.fiber_colour_p < SIGNIFICANCE,
        Flag.PRIOR_EDGE: bool(edges_of(p)),
        Flag.NOT_CONVERGED: p.status != Status.CONVERGED,
        Flag.RESIDUAL: abs(q.residual) > RESIDUAL_SIGMA,
        Flag.OUTLIERS: q.clipped.size > CLIPPED_FRACTION * (p.dof_spec + q.clipped.size),
    }
    flags = Flag(0)
    for flag, is_set in doubts.items():
        flags |= flag if is_set else Flag(0)
    return flags


def edges_of(posterior: Posterior) -> dict[str, float]:
    """Share of draws piled up at an edge of the prior, of the coordinates for which it is an alarm."""
    return {name: share for name, share in posterior.prior_edge.items() if share > EDGE_FRACTION}


def names_of(flags: Flag) -> str:
    """Names of the bits, ``SPEC_MISFIT + TENSION``; ``none`` for 0."""
    return " + ".join(str(flag.name) for flag in flags) or "none"


def in_words(posterior: Posterior) -> list[str]:
    """What the data say of a fit, a sentence a line: first the flags, then chi^2, residual, tension, noise, edges."""
    if not posterior.status.has_samples:
        return []
    p, q, flags = posterior, posterior.quality, flags_of(posterior)
    verdict = f"FLAG {int(flags)}, {names_of(flags)}: do not use without a look" if flags else "FLAG 0: fits the data"
    lines = [f"{verdict}."]
    if p.dof_spec:
        spectrum = f"chi2 {p.chi2_spec:.0f} over {p.dof_spec} pixels{probability(q.p_spec)}"
        if np.isfinite(q.p_spec_binned):
            spectrum += f" (in bins of {BIN_PIXELS}{probability(q.p_spec_binned)})"
        if np.isfinite(q.residual_wave):
            where = f"{q.residual_wave:.0f} A (rest), {q.residual:+.1f} sigma over {q.residual_width:.0f} A"
            spectrum += f"; largest residual at {where}"
        spectrum += f"; {q.clipped.size} outlying pixels masked" if q.clipped.size else ""
        lines.append(f"Spectrum: {spectrum}{_dispersion(p)}.")
    if p.dof_phot:
        bands = f"chi2 {p.chi2_phot:.1f} over {p.dof_phot}{probability(q.p_phot)}"
        if np.isfinite(q.tension):
            bands += f"; {q.tension:.1f} sigma from what the spectrum predicts"
        lines.append(f"Bands: {bands}.")
    terms = (
        ("template error", q.template_rms, q.template_p),
        ("calibration", q.calibration_rms, q.calibration_p),
        ("fiber colour", q.fiber_colour_rms, q.fiber_colour_p),
        ("other noise", q.noise_rms, q.noise_p),
    )
    used = [f"{name} {rms:.1f}{probability(p_value)}" for name, rms, p_value in terms if np.isfinite(rms)]
    if used:
        lines.append(f"Noise terms used, rms in prior sigmas: {'; '.join(used)}.")
    if edges := edges_of(p):
        shares = ", ".join(f"{name} {share:.0%}" for name, share in edges.items())
        lines.append(f"Draws pile up at an edge of the prior: {shares}.")
    return lines


def _dispersion(posterior: Posterior) -> str:
    """The velocity dispersion, and whether it was fitted; empty where nobody says."""
    if DISPERSION.name in posterior.parameters:
        low, median, high = posterior.quantiles(DISPERSION.name)
        return f"; velocity dispersion {median:.0f} (+{high - median:.0f} -{median - low:.0f}) km/s"
    held = posterior.diagnostics.vdisp_fixed
    return f"; velocity dispersion held at {held:.0f} km/s" if np.isfinite(held) else ""


def probability(p: float) -> str:
    """A p-value as it stands in a sentence; nothing where it is unknown."""
    if not np.isfinite(p):
        return ""
    if p < 1e-99:
        return ", p < 1e-99"
    return f", p = {p:.2f}" if p >= 0.01 else f", p = {p:.0e}".replace("e-0", "e-")
