"""One page that says what was fitted, how well, and how far to trust it."""

from __future__ import annotations

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from provabgs.core.status import Status
from provabgs.inference.flags import in_words
from provabgs.inference.posterior import Posterior
from provabgs.inference.predictive import Predictive
from provabgs.plotting.corner import plot_marginal
from provabgs.plotting.histories import plot_sfh, plot_zh
from provabgs.plotting.photometry import plot_band_residuals, plot_photometry
from provabgs.plotting.spectrum import plot_residuals, plot_spectrum


def plot_summary(figure: Figure, posterior: Posterior, predictive: Predictive) -> None:
    """Spectrum with residuals, photometry with residuals, histories, derived properties, and the verdict in words."""
    figure.suptitle(title_of(posterior), fontsize=12, fontweight="bold")
    rows = figure.add_gridspec(4, 1, height_ratios=(2.7, 2.3, 1.7, 0.9))
    if predictive.spectrum is not None:
        inner = rows[0].subgridspec(2, 1, height_ratios=(3, 1), hspace=0)
        top = figure.add_subplot(inner[0])
        plot_spectrum(top, predictive.spectrum)
        plot_residuals(figure.add_subplot(inner[1], sharex=top), predictive.spectrum)
        top.tick_params(labelbottom=False)
    middle = rows[1].subgridspec(1, 3, width_ratios=(1.35, 1, 1))
    if predictive.photometry is not None:
        inner = middle[0].subgridspec(2, 1, height_ratios=(3, 1))
        plot_photometry(figure.add_subplot(inner[0]), predictive.photometry, predictive.sed_wave, predictive.sed)
        plot_band_residuals(figure.add_subplot(inner[1]), predictive.photometry)
    plot_sfh(figure.add_subplot(middle[1]), predictive.time, predictive.sfr)
    plot_zh(figure.add_subplot(middle[2]), predictive.time, predictive.zh)
    shown = [p.name for p in posterior.properties]
    cells = rows[2].subgridspec(1, len(shown))
    for k, name in enumerate(shown):
        plot_marginal(figure.add_subplot(cells[k]), posterior, name)
    _words(figure.add_subplot(rows[3]), posterior)


def title_of(posterior: Posterior) -> str:
    """Which galaxy, and its STATUS."""
    who = f"TARGETID {posterior.targetid}" if posterior.targetid >= 0 else "galaxy"
    return f"{who}    z = {posterior.redshift:.4f}    {posterior.status.name}"


def verdict_lines(posterior: Posterior) -> list[str]:
    """Convergence, what does not fit, versions."""
    p, d = posterior, posterior.diagnostics
    gate = "passed" if p.status == Status.CONVERGED else "NOT passed: do not use without a look"
    lines = [
        f"Convergence criterion {gate}. R-hat at most {d.rhat_max:.3f}, effective sample size at least "
        f"{d.ess_min:.0f}; {len(p.samples)} draws by {d.sampler}, {d.n_eval:,} evaluations, {d.runtime_s:.1f} s.",
    ]
    lines += in_words(p)
    version = p.versions.get("provabgs", "?")
    lines.append(f"provabgs {version}, seed {p.seed}, data {p.data_hash[:12]}. M_formed counts all stars ever formed, "
                 "M_* the surviving ones.")  # fmt: skip
    return lines


def _words(ax: Axes, posterior: Posterior) -> None:
    ax.set_axis_off()
    lines = verdict_lines(posterior)
    step = 1.0 / max(4, len(lines))
    for k, line in enumerate(lines):
        ax.text(0, 1.0 - step * k, line, transform=ax.transAxes, va="top", fontsize=8.5, parse_math=False)
