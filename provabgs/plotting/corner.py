"""Corner plot of the free parameters and key derived properties, and marginals against the prior."""

from __future__ import annotations

import warnings

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from provabgs.core.arrays import FloatArray
from provabgs.inference.posterior import Posterior
from provabgs.plotting.style import BAND_68, MODEL, PRIOR
from provabgs.sps.parameters import Parameter, Quantity

KEY: tuple[str, ...] = ("logmstar_surviving", "log_sfr_100myr", "log_z_mw", "t_age_mw", "tau_ism")
"""What a corner plot shows unless asked for more: mass, star formation, metallicity, age and dust."""
LOG_SFR_FLOOR = -4.0
"""Draws without any star formation in the window are drawn here, lest the axis end at -30."""


def free_parameters(posterior: Posterior) -> tuple[str, ...]:
    """Parameters that all draws have, less the last fraction of each simplex, which the others fix."""
    parameters = posterior.parameters
    left_out = {group[-1] for group in parameters.groups if len(group) > 1}
    left_out |= set(np.flatnonzero(np.isnan(posterior.samples).any(axis=0)).tolist())  # those of one family alone
    return tuple(name for i, name in enumerate(parameters.names) if i not in left_out)


def key_quantities(posterior: Posterior) -> tuple[str, ...]:
    """Those of `KEY` that the fit has; its free parameters where it has fewer than two of them."""
    found = tuple(n for n in KEY if n in posterior.derived or n in posterior.parameters)
    return found if len(found) > 1 else free_parameters(posterior)


def all_quantities(posterior: Posterior) -> tuple[str, ...]:
    """Free parameters, then derived properties."""
    return (*free_parameters(posterior), *(q.name for q in posterior.properties))


def drawn_in_log(quantity: Quantity) -> bool:
    """Whether figures show log10 of a quantity: where its prior is log-uniform."""
    return isinstance(quantity, Parameter) and quantity.prior == "log-uniform"


def draws_of(posterior: Posterior, name: str) -> tuple[FloatArray, str]:
    """Draws of one quantity as it is drawn (log10 where its prior is log-uniform), and its axis label."""
    quantity = posterior.quantity(name)
    if drawn_in_log(quantity):
        return np.log10(posterior[name]), r"$\log_{10}" + quantity.label.removeprefix("$")
    if name.startswith("log_sfr"):
        return np.maximum(posterior[name], LOG_SFR_FLOOR), quantity.label
    return posterior[name], quantity.label


def plot_corner(figure: Figure, posterior: Posterior, names: tuple[str, ...] | None = None) -> None:
    """Corner plot with 68 and 95 % contours; dotted on the diagonal: the 16, 50 and 84 % quantiles, grey: the prior.

    Parameters
    ----------
    figure
        To draw into.
    posterior
        With samples.
    names
        Parameters and derived properties; the five of `KEY` when None, `all_quantities` for every one. Quantities that
        do not vary (an f_fiber that was fixed) are left out.
    """
    import corner

    names = key_quantities(posterior) if names is None else names
    columns = {name: draws_of(posterior, name) for name in names}
    columns = {k: (x, text) for k, (x, text) in columns.items() if np.all(np.isfinite(x)) and np.ptp(x) > 0}
    samples = np.stack([x for x, _ in columns.values()], axis=1)
    with warnings.catch_warnings():  # few or strongly clumped draws: fewer contours, no harm
        warnings.filterwarnings("ignore", message="Too few points to create valid contours")
        corner.corner(
            samples,
            fig=figure,
            labels=[text for _, text in columns.values()],
            range=[_range(x) for x, _ in columns.values()],
            bins=30,
            smooth=1.0,
            levels=(0.68, 0.95),
            plot_datapoints=False,
            fill_contours=True,
            color=MODEL,
            quantiles=(0.16, 0.5, 0.84),
            hist_kwargs={"density": True, "color": MODEL, "lw": 0.9},
            contour_kwargs={"linewidths": 0.7},
            max_n_ticks=3,
            label_kwargs={"fontsize": 10},
        )
    grid = np.array(figure.axes).reshape(len(columns), len(columns))
    for i, name in enumerate(columns):
        _prior(grid[i, i], posterior, name)
    grid[0, 0].set_ylabel("density", fontsize=10)
    for ax in figure.axes:
        ax.tick_params(labelsize=7)
        ax.minorticks_off()


def plot_marginal(ax: Axes, posterior: Posterior, name: str) -> None:
    """Histogram of one quantity with its 16, 50 and 84 % quantiles and, where it has a simple one, the prior."""
    x, text = draws_of(posterior, name)
    low, median, high = np.quantile(x, [0.16, 0.5, 0.84])
    if np.ptp(x) > 0:
        ax.hist(x, bins=40, range=_range(x), density=True, color=BAND_68, lw=0)
        ax.set_xlim(*_range(x))
        _prior(ax, posterior, name)
    for value, dashes in ((low, ":"), (median, "-"), (high, ":")):
        ax.axvline(value, ls=dashes, lw=0.8, color=MODEL)
    ax.set_title(rf"${median:.2f}_{{-{median - low:.2f}}}^{{+{high - median:.2f}}}$")
    ax.set_xlabel(text)
    ax.set_yticks([])
    ax.minorticks_off()


def _range(x: FloatArray) -> tuple[float, float]:
    """All but the outermost 0.1 % of draws on each side, with a margin."""
    low, high = np.quantile(x, [0.001, 0.999])
    margin = 0.06 * (high - low) + 1e-9
    return float(low - margin), float(high + margin)


def _prior(ax: Axes, posterior: Posterior, name: str) -> None:
    """Prior density of a parameter whose one-dimensional prior is known in closed form."""
    if name not in posterior.parameters or posterior.parameters[name].prior in ("normal", "student-t"):
        return
    entry = posterior.parameters[name]
    limits = ax.get_xlim()
    x = np.linspace(*limits, 200)
    if entry.prior == "flat-dirichlet":
        index = posterior.parameters.index(name)
        n = next(len(group) for group in posterior.parameters.groups if index in group)
        inside = (x >= 0) & (x <= 1)  # marginal of a flat Dirichlet of n: a beta distribution of (1, n - 1)
        density = np.where(inside, (n - 1) * np.where(inside, 1 - x, 0.0) ** (n - 2), 0.0)
    else:
        low, high = dict(posterior.config_dict().get("prior_bounds", {})).get(name, entry.bounds)
        if entry.prior == "log-uniform":
            low, high = np.log10(low), np.log10(high)
        density = np.where((x >= low) & (x <= high), 1 / (high - low), 0.0)
    ax.plot(x, density, lw=0.8, ls="--", color=PRIOR)
