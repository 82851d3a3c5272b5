"""Posteriors as tables on the terminal."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from provabgs.core.status import Status
from provabgs.inference.flags import Flag, flags_of, in_words
from provabgs.inference.posterior import Posterior

if TYPE_CHECKING:
    from astropy.table import Table as AstropyTable
    from rich.table import Table

    from provabgs.inference.fit import Fitted

KEY = {"logmstar_surviving": "log M*", "log_sfr_100myr": "log SFR"}
"""Properties shown when there are several galaxies (surviving mass, SFR over 100 Myr); 80 columns hold no more."""


def print_fits(fitted: Sequence[Fitted], path: Path) -> None:
    """Print what came out: one galaxy with everything, or several with a row each; then where the file is."""
    from rich.console import Console

    console = Console()
    posteriors = [f.posterior for f in fitted]
    if len(posteriors) == 1:
        console.print(galaxy_table(posteriors[0]))
        lines = [verdict(posteriors[0])]
    else:
        console.print(summary_table(posteriors))
        lines = [f"{p.targetid}: {p.status.name}: {p.message}" for p in posteriors if not p.status.has_samples]
        counts = {s: sum(p.status == s for p in posteriors) for s in Status}
        lines.append(", ".join(f"{n} {s.name}" for s, n in counts.items() if n))
        doubts = {flag.name: sum(flag in flags_of(p) for p in posteriors) for flag in Flag}
        lines.append("FLAG: " + (", ".join(f"{n} {name}" for name, n in doubts.items() if n) or "none set"))
    for line in (*lines, f"posteriors and data: {path}"):
        console.print(line, highlight=False, soft_wrap=True, markup=False)


def galaxy_table(posterior: Posterior) -> Table:
    """Every parameter and derived property of one galaxy with its 68 % interval, R-hat and ESS."""
    from rich.box import SIMPLE_HEAD
    from rich.table import Table

    p, d = posterior, posterior.diagnostics
    title = f"TARGETID {p.targetid}, z = {p.redshift:.4f}" if p.targetid >= 0 else f"z = {p.redshift:.4f}"
    table = Table(title=title, title_justify="left", title_style="bold", box=SIMPLE_HEAD, padding=(0, 1, 0, 0))
    table.add_column("property", style="cyan", no_wrap=True)
    for name in ("median", "-", "+", "best fit", "R-hat", "ESS"):
        table.add_column(name, justify="right", no_wrap=True)
    table.add_column("unit", no_wrap=True)
    best_fit = p.best
    for entry in (*p.properties, *p.parameters):
        low, median, high = p.quantiles(entry.name)
        ess = np.fmin(d.ess_bulk.get(entry.name, np.nan), d.ess_tail.get(entry.name, np.nan))
        rhat = d.rhat.get(entry.name, np.nan)
        numbers = (median, median - low, high - median, best_fit.get(entry.name, np.nan))
        table.add_row(
            entry.name,
            *map(number, numbers),
            f"{rhat:.3f}",
            f"{ess:.0f}",
            "" if entry.unit.startswith("dex") else entry.unit,
        )
        if entry is p.properties[-1]:
            table.add_section()
    return table


def summary_table(posteriors: Sequence[Posterior]) -> Table:
    """One row per galaxy: key properties as median and half the 68 % interval, STATUS and convergence."""
    from rich.box import SIMPLE_HEAD
    from rich.table import Table

    table = Table(box=SIMPLE_HEAD, padding=(0, 1, 0, 0))
    table.add_column("TARGETID", justify="right", no_wrap=True)
    table.add_column("z", justify="right", no_wrap=True)
    table.add_column("STATUS", no_wrap=True)
    for header in (*KEY.values(), "R-hat", "ESS"):
        table.add_column(header, justify="right", no_wrap=True)
    for p in posteriors:
        cells = []
        for name in KEY:
            low, median, high = p.quantiles(name) if name in p.derived else (np.nan,) * 3
            cells.append(f"{median:.2f}±{(high - low) / 2:.2f}" if np.isfinite(median) else "")
        d = p.diagnostics
        convergence = (f"{worst_rhat(p):.2f}", f"{d.ess_min:.0f}") if p.status.has_samples else ("", "")
        z = f"{p.redshift:.3f}" if np.isfinite(p.redshift) else ""
        table.add_row(str(p.targetid), z, p.status.name, *cells, *convergence)
    return table


CHALLENGE = {
    "mode": "data",
    "property": "property",
    "n": "n",
    "median_delta": "bias",
    "half_width_68": "scatter",
    "coverage_68": "in 68%",
    "converged": "conv.",
    "runtime_s": "s/fit",
}
"""Columns of a challenge's summary and how a terminal of 80 columns shows them."""


def challenge_table(summary: AstropyTable) -> Table:
    """How well a mock challenge recovered the truth: median and half width of median minus truth, coverage."""
    from rich.box import SIMPLE_HEAD
    from rich.table import Table

    table = Table(box=SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False)
    for name in CHALLENGE:
        text = name in ("mode", "property")
        table.add_column(CHALLENGE[name], justify="left" if text else "right", no_wrap=True)
    for row in summary:
        share = {name: f"{100 * row[name]:.0f}%" for name in ("coverage_68", "converged")}
        signed = {"median_delta": f"{row['median_delta']:+.3f}", "half_width_68": f"{row['half_width_68']:.3f}"}
        cells = share | signed | {"runtime_s": f"{row['runtime_s']:.1f}"}
        table.add_row(*(cells.get(name, str(row[name])) for name in CHALLENGE))
    return table


def near(path: Path) -> str:
    """A path as people type it: from the present folder where it lies inside, whole otherwise."""
    whole = path.resolve()
    here = Path.cwd()
    return str(whole.relative_to(here)) if whole.is_relative_to(here) else str(path)


def verdict(posterior: Posterior) -> str:
    """STATUS, goodness of fit and convergence in a few lines of plain words."""
    p, d = posterior, posterior.diagnostics
    if not p.status.has_samples:
        return f"STATUS {p.status.name}: {p.message}"
    meaning = (
        "every property meets the convergence criterion"
        if p.status == Status.CONVERGED
        else "do not use without a look"
    )
    lines = [f"STATUS {p.status.name} ({': '.join(m for m in (meaning, p.message) if m)})"]
    lines.append(
        f"R-hat at most {worst_rhat(p):.3f}, ESS at least {d.ess_min:.0f}; {len(p.samples)} draws kept; "
        f"{d.n_eval:,} likelihood evaluations by {d.sampler} in {d.runtime_s:.1f} s"
    )
    return "\n".join([*lines, *in_words(p)])


def worst_rhat(posterior: Posterior) -> float:
    """Largest R-hat, infinite where a chain never moved."""
    return max((v for v in posterior.diagnostics.rhat.values() if not np.isnan(v)), default=float("nan"))


def number(value: float) -> str:
    """Three decimals, or three digits for what would show as 0."""
    if not np.isfinite(value):
        return "nan"
    return f"{value:.3f}" if abs(value) >= 0.01 or value == 0 else f"{value:.1e}"
