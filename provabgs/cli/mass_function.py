"""``provabgs population mass-function``: the stellar mass function of a catalog. Parses, calls, prints."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, NamedTuple

import typer

from provabgs.cli.population_options import numbers
from provabgs.core.errors import InputError

if TYPE_CHECKING:
    from provabgs.core.arrays import FloatArray
    from provabgs.population.survey.mass_function import MassFunction
    from provabgs.population.survey.sample import SurveySample

_FIGURES = (".png", ".pdf", ".svg")
_TABLES = {".ecsv": "ascii.ecsv", ".fits": "fits", ".csv": "ascii.csv"}


def mass_function_command(
    catalog: Annotated[Path, typer.Argument(help="Catalog directory, summary.parquet, or a posterior file (.h5).")],
    area: Annotated[float, typer.Option(help="Area of the survey, square degrees.")],
    z: Annotated[str, typer.Option("--z", help="Redshift range, LOW,HIGH.")] = "0.01,0.3",
    selection: Annotated[
        str, typer.Option(help="bgs-bright, bgs-faint, or a limit such as 'decam2014-r<19.5'.")
    ] = "bgs-bright",
    photsys: Annotated[str, typer.Option(help="N or S: whose filters bgs-bright and bgs-faint mean.")] = "S",
    mass: Annotated[str, typer.Option(help="surviving or formed.")] = "surviving",
    edges: Annotated[str, typer.Option(help="Bins in log10 M: FIRST,LAST,WIDTH.")] = "8.0,12.0,0.2",
    where: Annotated[
        str | None, typer.Option("--where", "-w", help="Query on the summary: 'IS_BGS_BRIGHT == 1'.")
    ] = None,
    weights: Annotated[
        str | None,
        typer.Option(help="Weight columns, by commas; those of W_ZFAIL, W_FIBASSIGN that are known if left out."),
    ] = None,
    jackknife: Annotated[int, typer.Option(help="Sky regions for jackknife errors; 0 for Poisson errors.")] = 0,
    stored_z_max: Annotated[bool, typer.Option("--stored-z-max", help="Use the catalog's Z_MAX.")] = False,
    keep_prior: Annotated[
        bool, typer.Option("--keep-prior", help="Do not divide by the prior that the fits induced on the mass.")
    ] = False,
    include_not_converged: Annotated[
        bool, typer.Option("--include-not-converged", help="Take galaxies whose fit did not converge, too.")
    ] = False,
    seed: Annotated[int, typer.Option(help="Of the sky regions.")] = 0,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="Table (.ecsv, .fits, .csv) or figure (.png, .pdf, .svg).")
    ] = None,
) -> None:
    """The stellar mass function of a catalog: deconvolved, 1/Vmax-weighted, with errors; next to the stacked one."""
    from provabgs.catalog import Catalog
    from provabgs.core.progress import Display
    from provabgs.observe.cosmology import Cosmology
    from provabgs.population.survey.sample import induced_log_prior, spectral_config, survey_sample
    from provabgs.population.survey.selection import parse_selection
    from provabgs.population.survey.volume import SurveyVolume

    if output is not None and output.suffix not in (*_FIGURES, *_TABLES):
        raise InputError(f"{output}: unknown kind of file; use {', '.join((*_TABLES, *_FIGURES))}")
    name = {"surviving": "logmstar_surviving", "formed": "logmstar"}.get(mass)
    if name is None:
        raise InputError(f"--mass {mass!r}: say surviving or formed")
    low, high = numbers(z, 2, "--z")
    bins = _bins(edges)
    with Display("reading the catalog", unit="galaxies", reports=True), Catalog.open(catalog) as opened:
        chosen = opened.select(where) if where else opened
        sample = survey_sample(
            chosen,
            parse_selection(selection, photsys),
            SurveyVolume(area, low, high, Cosmology(spectral_config(chosen).observing.cosmology)),
            [name],
            weights=None if weights is None else [c.strip() for c in weights.split(",") if c.strip()],
            stored_z_max=stored_z_max,
            include_not_converged=include_not_converged,
        )
        log_prior = None if keep_prior else induced_log_prior(chosen, sample, name)
    typer.echo(sample.report)
    with Display("the mass function"):
        found = _infer(sample, name, bins, log_prior, jackknife, seed)
    _print(found)
    if output is not None:
        prior = "kept" if keep_prior else "flat" if log_prior is None else "divided out"
        _save(output, found, sample, mass, prior)
        typer.echo(f"wrote {output}")


class _Result(NamedTuple):
    deconvolved: MassFunction
    stacked: MassFunction
    limit: float | None
    """log10 M of completeness; None where z_max was stored."""


def _infer(
    sample: SurveySample, name: str, bins: FloatArray, log_prior: FloatArray | None, jackknife: int, seed: int
) -> _Result:
    """Both estimators, and the completeness limit."""
    import numpy as np

    from provabgs.population.survey.mass_function import completeness_limit, mass_function, stacked_mass_function
    from provabgs.population.survey.sky_regions import sky_regions

    sky = sky_regions(sample.ra, sample.dec, jackknife, np.random.default_rng(seed)) if jackknife else (None, None)
    draws = sample.draws[name]
    common = (draws, sample.inverse_volume, bins, sample.weight, log_prior)
    limit = None
    if np.isfinite(sample.margin_near).any():
        limit = completeness_limit(draws, sample.margin_near[:, None], sample.inverse_volume)
    deconvolved = mass_function(*common, regions=sky[0], area_fraction=sky[1])
    return _Result(deconvolved, stacked_mass_function(*common), limit)


def _bins(edges: str) -> FloatArray:
    import numpy as np

    first, last, width = numbers(edges, 3, "--edges")
    if not (first < last and 0 < width <= last - first):
        raise InputError(f"--edges {edges!r}: need FIRST < LAST and a WIDTH that fits between")
    return np.asarray(first + width * np.arange(round((last - first) / width) + 1), dtype=np.float64)


def add_mass_function(app: typer.Typer) -> None:
    """Register the command as ``mass-function`` of a group."""
    app.command("mass-function", short_help="The stellar mass function of a catalog.")(mass_function_command)


def _print(found: _Result) -> None:
    result, stacked, limit = found
    low, high = result.interval()
    typer.echo(f"{'log M':>13}  {'Phi':>9}  {'68 %':>21}  {'stacked':>9}  {'galaxies':>8}")
    for i in range(result.phi.size):
        flag = "  few" if result.few[i] else ""
        flag += "  incomplete" if limit is not None and result.edges[i] < limit else ""
        typer.echo(
            f"{result.edges[i]:6.2f}-{result.edges[i + 1]:6.2f}  {result.phi[i]:9.3e}  {low[i]:9.3e} - {high[i]:9.3e}  "
            f"{stacked.phi[i]:9.3e}  {result.n_galaxies[i]:8.1f}{flag}"
        )
    typer.echo("Phi in Mpc^-3 dex^-1 (no h); the stacked one is broadened by the posteriors' width")
    if limit is not None:
        typer.echo(f"below log M = {limit:.2f} some spectral types are invisible at the near end of the survey")


def _save(output: Path, found: _Result, sample: SurveySample, mass: str, prior: str) -> None:
    result, stacked, limit = found
    if output.suffix in _FIGURES:
        from provabgs.plotting.massfunction import STACKED, plot_mass_function
        from provabgs.plotting.style import new_figure, save, style

        with style():
            figure = new_figure(5.5, 4.0)
            ax = figure.subplots()
            plot_mass_function(ax, result, "deconvolved", complete_above=limit)
            plot_mass_function(ax, stacked, "stacked", STACKED, band=False)
            ax.set_xlabel(rf"$\log_{{10}} M_\ast/M_\odot$ ({mass})")
            ax.legend(loc="lower left")
            save(figure, output)
        return
    from astropy.table import Table

    low, high = result.interval()
    table = Table(
        {
            "LOGMSTAR_LOW": result.edges[:-1],
            "LOGMSTAR_HIGH": result.edges[1:],
            "PHI": result.phi,
            "PHI_LOW": low,
            "PHI_HIGH": high,
            "LOG_SIGMA": result.log_sigma,
            "PHI_STACKED": stacked.phi,
            "N_GALAXIES": result.n_galaxies,
            "FEW": result.few,
        },
        units={"PHI": "Mpc-3", "PHI_LOW": "Mpc-3", "PHI_HIGH": "Mpc-3", "PHI_STACKED": "Mpc-3"},
        meta={"MASS": mass, "SAMPLE": sample.report, "PER": "dex", "PRIOR": prior},
    )
    table.write(output, format=_TABLES[output.suffix], overwrite=True)
