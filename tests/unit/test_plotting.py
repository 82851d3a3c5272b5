"""Figures of one posterior, whatever its parameters: own labels, own prior, nothing of the default fit's."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from provabgs.inference.flags import in_words
from provabgs.inference.posterior import Posterior
from provabgs.inference.predictive import PhotometryPrediction, Predictive, SpectrumPrediction
from provabgs.inference.standard import PARAMETERS
from provabgs.pipelines.dry_run import synthetic_posterior
from provabgs.plotting.corner import KEY, all_quantities, draws_of, free_parameters, plot_corner, plot_marginal
from provabgs.plotting.galaxy import corner_figure, spectrum_figure, summary_figure
from provabgs.plotting.style import CLIPPED, PRIOR
from tests.support.other_model import BINNED, BINNED_PROPERTIES, N_BIN, binned_posterior


@pytest.fixture(scope="module")
def binned() -> Posterior:
    return binned_posterior(3, np.random.default_rng(0), 500)


@pytest.fixture(scope="module")
def standard() -> Posterior:
    return synthetic_posterior(4, np.random.default_rng(1), 500)


def labels(figure: Figure) -> set[str]:
    """Every axis label."""
    return {text for ax in figure.axes for text in (ax.get_xlabel(), ax.get_ylabel()) if text}


def prior_curve(ax: Axes) -> tuple[np.ndarray, np.ndarray]:
    """The grey line."""
    (line,) = (one for one in ax.lines if one.get_color() == PRIOR)
    return np.asarray(line.get_xdata()), np.asarray(line.get_ydata())


def test_a_simplex_has_one_free_parameter_fewer(binned: Posterior, standard: Posterior) -> None:
    assert free_parameters(binned) == (
        *("logmstar", *(f"bin{k}" for k in range(1, N_BIN))),
        *("z_star", "tau_ism", "f_fiber"),
    )
    assert set(PARAMETERS.names) - set(free_parameters(standard)) == {"beta4"}


def test_the_corner_has_the_posterior_own_labels(binned: Posterior) -> None:
    figure = corner_figure(binned, everything=True)
    shown = all_quantities(binned)
    assert shown == (*free_parameters(binned), *(p.name for p in BINNED_PROPERTIES))
    assert "t_age_mw" not in shown
    assert len(figure.axes) == len(shown) ** 2
    drawn = labels(figure)
    assert {"$f_1$", "$f_7$", r"$\log_{10}Z_\ast$", BINNED["logmstar"].label} <= drawn
    assert not drawn & {"$f_8$", *(p.label for p in PARAMETERS if p.name not in BINNED)}
    figure.canvas.draw()


def test_the_corner_of_the_default_fit(standard: Posterior) -> None:
    drawn = labels(corner_figure(standard, everything=True))
    assert {standard.quantity(n).label for n in KEY} <= drawn
    assert PARAMETERS["beta1"].label in drawn
    assert PARAMETERS["beta4"].label not in drawn


def test_the_corner_shows_what_matters_by_default(binned: Posterior, standard: Posterior) -> None:
    figure = corner_figure(standard)
    assert len(figure.axes) == len(KEY) ** 2 == 25
    assert labels(figure) == {standard.quantity(n).label for n in KEY} | {"density"}
    assert figure.axes[0].get_ylabel() == "density"  # the first row's axis is no quantity
    assert len(corner_figure(binned).axes) == sum(n in (*binned.derived, *BINNED.names) for n in KEY) ** 2


def test_a_corner_of_chosen_quantities(binned: Posterior) -> None:
    figure = Figure()
    plot_corner(figure, binned, ("f_old", "z_star"))
    assert labels(figure) == {BINNED_PROPERTIES[-1].label, r"$\log_{10}Z_\ast$", "density"}
    with pytest.raises(KeyError, match="no parameter or derived property 'beta1'"):
        plot_corner(Figure(), binned, ("beta1",))


def test_a_fixed_parameter_is_left_out(binned: Posterior) -> None:
    samples = binned.samples.copy()
    samples[:, BINNED.index("f_fiber")] = 1.0
    drawn = labels(corner_figure(replace(binned, samples=samples), everything=True))
    assert BINNED["f_fiber"].label not in drawn
    assert BINNED["tau_ism"].label in drawn


def test_the_prior_of_a_fraction_is_that_of_its_simplex(binned: Posterior, standard: Posterior) -> None:
    for posterior, name, n in ((binned, "bin2", N_BIN), (standard, "beta2", 4)):
        ax = Figure().subplots()
        plot_marginal(ax, posterior, name)
        x, density = prior_curve(ax)
        inside = (x >= 0) & (x <= 1)
        np.testing.assert_allclose(density[inside], (n - 1) * (1 - x[inside]) ** (n - 2))
        assert not density[~inside].any()


def test_the_prior_of_a_log_uniform_parameter_is_flat_in_its_log(binned: Posterior) -> None:
    assert binned.config_dict()["prior_bounds"] == {}
    ax = Figure().subplots()
    plot_marginal(ax, binned, "z_star")
    draws, label = draws_of(binned, "z_star")
    np.testing.assert_allclose(draws, np.log10(binned["z_star"]))
    assert ax.get_xlabel() == label == r"$\log_{10}Z_\ast$"
    assert np.allclose(prior_curve(ax)[1], 1 / np.log10(0.05 / 1e-4))


def test_the_summary_shows_the_properties_of_the_fit(binned: Posterior, standard: Posterior) -> None:
    predictive = made_up_predictive(np.random.default_rng(2))
    for posterior in (binned, standard):
        figure = summary_figure(posterior, predictive)
        drawn = labels(figure)
        assert {p.label for p in posterior.properties} <= drawn
        figure.canvas.draw()
    (label,) = {p.label for p in standard.properties} - {p.label for p in binned.properties}
    assert label not in labels(summary_figure(binned, predictive))


def test_outliers_are_marked_on_spectrum_and_residuals(standard: Posterior) -> None:
    predictive = made_up_predictive(np.random.default_rng(2))
    assert predictive.spectrum is not None
    figure = spectrum_figure(standard, predictive.spectrum)
    for ax in figure.axes:
        (marks,) = (line for line in ax.lines if line.get_color() == CLIPPED)
        np.testing.assert_allclose(marks.get_xdata(), predictive.spectrum.wave[30])
    legend = figure.axes[0].get_legend()
    assert legend is not None
    assert "1 outliers, not fitted" in [text.get_text() for text in legend.get_texts()]
    nothing = predictive.spectrum._replace(clipped=np.zeros(60, bool))
    assert not [x for ax in spectrum_figure(standard, nothing).axes for x in ax.lines if x.get_color() == CLIPPED]


def test_the_summary_says_what_does_not_fit(standard: Posterior) -> None:
    bad = replace(standard, quality=replace(standard.quality, p_phot=1e-7), prior_edge={"tau_ism": 0.4})
    figure = summary_figure(bad, made_up_predictive(np.random.default_rng(2)))
    said = [text.get_text() for ax in figure.axes for text in ax.texts]
    assert set(in_words(bad)) <= set(said)
    assert "FLAG 34, PHOT_MISFIT + PRIOR_EDGE: do not use without a look." in said


def made_up_predictive(rng: np.random.Generator) -> Predictive:
    """Flat data and a model near them, five draws."""
    wave, sed_wave, time = np.linspace(3600, 9800, 60), np.linspace(1500, 60_000, 80), np.linspace(0, 12, 40)
    spectrum = SpectrumPrediction(
        wave,
        np.ones(60),
        np.full(60, 0.1),
        np.array(["b"] * 60),
        np.zeros(60, bool),
        np.arange(60) == 30,
        rng.normal(1, 0.05, (5, 60)),
    )
    bands = PhotometryPrediction(
        ("decam2014-g", "decam2014-r"),
        np.array([4800.0, 6400.0]),
        np.ones(2),
        np.full(2, 0.1),
        rng.normal(1, 0.05, (5, 2)),
    )
    sed = np.ones((5, 80))
    return Predictive(spectrum, bands, sed_wave, sed, time, rng.uniform(1, 2, (5, 40)), np.full((5, 40), 0.02))
