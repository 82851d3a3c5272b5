"""All figures of one galaxy, written to a folder."""

from __future__ import annotations

from pathlib import Path

from matplotlib.figure import Figure

from provabgs.core.identity import name_of
from provabgs.inference.posterior import Posterior
from provabgs.inference.predictive import PhotometryPrediction, Predictive, SpectrumPrediction, predict
from provabgs.observe.observation import Observation
from provabgs.plotting.corner import all_quantities, key_quantities, plot_corner
from provabgs.plotting.histories import plot_sfh, plot_zh
from provabgs.plotting.photometry import plot_band_residuals, plot_photometry
from provabgs.plotting.spectrum import plot_residuals, plot_spectrum
from provabgs.plotting.style import new_figure, save, style
from provabgs.plotting.summary import plot_summary, title_of


def draw_galaxy(
    posterior: Posterior,
    observation: Observation,
    folder: Path,
    *,
    stem: str | None = None,
    file_format: str = "png",
    n_draws: int = 200,
    everything: bool = False,
) -> list[Path]:
    """Draw everything that can be drawn of a galaxy.

    Parameters
    ----------
    posterior, observation
        The fit and its data.
    folder
        Where the files go, ``STEM-spectrum.png`` and so on.
    stem
        First part of the file names; the TARGETID when None.
    n_draws
        Draws that bands are computed from.
    everything
        Draw a second corner plot, of every parameter and derived property.

    Returns
    -------
    list of Path
        What was written, the summary first.
    """
    name = stem if stem is not None else name_of(posterior.targetid, posterior.data_hash)
    predictive = predict(posterior, observation, n_draws)
    with style():
        figures = {
            "summary": summary_figure(posterior, predictive),
            "histories": histories_figure(posterior, predictive),
            "corner": corner_figure(posterior),
        }
        if everything:
            figures["corner-all"] = corner_figure(posterior, everything=True)
        if predictive.spectrum is not None:
            figures["spectrum"] = spectrum_figure(posterior, predictive.spectrum)
        if predictive.photometry is not None:
            figures["photometry"] = photometry_figure(posterior, predictive.photometry, predictive)
        return [save(figure, folder / f"{name}-{kind}.{file_format}") for kind, figure in figures.items()]


def summary_figure(posterior: Posterior, predictive: Predictive) -> Figure:
    """The one-page summary."""
    figure = new_figure(11.5, 12.5)
    plot_summary(figure, posterior, predictive)
    return figure


def spectrum_figure(posterior: Posterior, data: SpectrumPrediction) -> Figure:
    """Spectrum above, residuals below."""
    figure = new_figure(12, 5.5)
    top, bottom = figure.subplots(2, 1, sharex=True, height_ratios=(3, 1))
    plot_spectrum(top, data)
    plot_residuals(bottom, data)
    figure.suptitle(title_of(posterior))
    return figure


def photometry_figure(posterior: Posterior, data: PhotometryPrediction, predictive: Predictive) -> Figure:
    """Photometry above, residuals below."""
    figure = new_figure(7, 5.5)
    top, bottom = figure.subplots(2, 1, height_ratios=(3, 1))
    plot_photometry(top, data, predictive.sed_wave, predictive.sed)
    plot_band_residuals(bottom, data)
    figure.suptitle(title_of(posterior))
    return figure


def histories_figure(posterior: Posterior, predictive: Predictive) -> Figure:
    """Star-formation and metallicity history side by side."""
    figure = new_figure(10, 4)
    left, right = figure.subplots(1, 2)
    plot_sfh(left, predictive.time, predictive.sfr)
    plot_zh(right, predictive.time, predictive.zh)
    left.legend(loc="upper right", ncols=3)
    figure.suptitle(title_of(posterior))
    return figure


def corner_figure(posterior: Posterior, *, everything: bool = False) -> Figure:
    """Corner plot of the five quantities that matter most, or of every free parameter and derived property.

    Parameters
    ----------
    posterior
        With samples.
    everything
        All of them: up to eighteen.
    """
    names = all_quantities(posterior) if everything else key_quantities(posterior)
    size = max(6.0, 1.4 * len(names))
    figure = Figure(figsize=(size, size))
    plot_corner(figure, posterior, names)
    figure.suptitle(title_of(posterior), fontsize=max(10, size), x=0.62, y=0.97)
    return figure
