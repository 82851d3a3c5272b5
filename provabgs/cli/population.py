"""``provabgs population``: densities of populations. Parses and prints; the work is in `provabgs.population`."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from provabgs.cli.mass_function import add_mass_function
from provabgs.cli.population_learnt import apply, learn
from provabgs.cli.population_options import (
    FitFile,
    Input,
    Mode,
    NotConverged,
    Output,
    Seed,
    Where,
    claimed_config,
    is_challenge,
    made,
    numbers,
)
from provabgs.cli.population_prior import correct, prior

if TYPE_CHECKING:
    import numpy as np
    from astropy.table import Table
    from numpy.typing import NDArray

    from provabgs.population.density.posterior import PopulationPosterior
    from provabgs.population.density.reading import PopulationData

population_app = typer.Typer(
    help="Populations of galaxies from a catalog's posteriors: densities, priors, priors learnt.",
    no_args_is_help=True,
)


def density(
    catalog: Input,
    properties: Annotated[
        list[str],
        typer.Option("--property", "-p", help="Sample column, such as LOGSFR_1GYR; twice for a joint density."),
    ],
    kind: Annotated[str, typer.Option("--density", "-d", help="gaussian, mixture or histogram.")] = "histogram",
    components: Annotated[int, typer.Option(help="Of a mixture.")] = 2,
    bins: Annotated[int | None, typer.Option(help="Of a histogram, per property.")] = None,
    limits: Annotated[
        list[str] | None, typer.Option("--range", "-r", help="LOW,HIGH of each property; draws outside do not count.")
    ] = None,
    where: Where = None,
    weight: Annotated[list[str] | None, typer.Option(help="Column to weigh by, such as W_ZFAIL; may repeat.")] = None,
    mode: Mode = "both",
    keep_prior: Annotated[
        bool, typer.Option("--keep-prior", help="Do not divide by the prior: to see what that does, not for science.")
    ] = False,
    include_not_converged: NotConverged = False,
    fit_config: FitFile = None,
    draws: Annotated[int, typer.Option(help="Posterior draws per chain (four chains).")] = 750,
    seed: Seed = 0,
    output: Output = Path("population"),
) -> None:
    """Density of one or two properties over the population, with error bars.

    Each galaxy's draws are divided by the prior that the priors on parameters induce on the property, so that the
    result does not depend on that prior. Writes NAME.h5 (draws of the parameters),
    NAME.ecsv (density and its quantiles) and NAME.png.

        provabgs population density catalog -p LOGSFR_1GYR -w "Z < 0.2"
        provabgs population density catalog -p LOGMSTAR -p LOGSFR_1GYR -d mixture --components 3
        provabgs population density challenge -p T_AGE_MW --mode spectrum
    """
    import numpy as np

    from provabgs.core.progress import Display
    from provabgs.population.density.infer import infer_population
    from provabgs.population.density.nuts import SamplingOptions
    from provabgs.population.density.reading import FlatPrior, open_population

    with Display("reading the catalog", unit="galaxies", reports=True):
        data = open_population(
            catalog,
            properties,
            where=where,
            mode=mode,
            weights=weight or [],
            prior=FlatPrior() if keep_prior else None,
            claimed=claimed_config(fit_config),
            include_not_converged=include_not_converged,
        )
        typer.echo(data.rows.sentence())
        found = _collect_warnings(
            lambda: infer_population(
                data,
                kind,  # type: ignore[arg-type]
                limits=[(low, high) for low, high in (numbers(v, 2, "--range") for v in limits or [])] or None,
                n_component=components,
                n_bin=bins,
                rng=np.random.default_rng(seed),
                options=SamplingOptions(n_draw=draws),
            )
        )
    name = "-".join([*(p.lower() for p in properties), kind, *(["prior-kept"] if keep_prior else [])])
    _write_density(found, data, _truth_of(catalog, data), made(output) / name)
    _say(found)


COMMANDS: dict[str, Callable[..., None]] = {
    "density": density,
    "prior": prior,
    "correct": correct,
    "learn": learn,
    "apply": apply,
}
"""Subcommands by name; those of files of their own are added below them."""
_SHORT = {
    "density": "Density of one or two properties over the population.",
    "prior": "The prior induced on SFR, metallicity and age.",
    "correct": "Every galaxy under a prior flat in log sSFR and age.",
    "learn": "A population prior, learnt from a catalog.",
    "apply": "Every galaxy under a learnt population prior.",
}
for _name, _command in COMMANDS.items():
    population_app.command(_name, short_help=_SHORT[_name])(_command)
add_mass_function(population_app)


def _truth_of(path: Path, data: PopulationData) -> NDArray[np.float64] | None:
    """True values of the galaxies of a challenge, ``(n, d)``; None elsewhere or where the mock does not tell."""
    import numpy as np

    if not is_challenge(path):
        return None
    from provabgs.mocks.challenge import load_truth

    truth = load_truth(path)
    if any(name not in truth.colnames for name in data.names):
        return None
    rows = np.isin(np.asarray(truth["TARGETID"]), data.source.columns["TARGETID"])
    return np.stack([np.asarray(truth[name], dtype=np.float64)[rows] for name in data.names], axis=1)


def _collect_warnings(call: Callable[[], PopulationPosterior]) -> PopulationPosterior:
    """Run without Python's warnings of ours: the result holds them, and they are printed as sentences."""
    import warnings

    from provabgs.population.density.posterior import PopulationWarning

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", PopulationWarning)
        return call()


def _write_density(
    found: PopulationPosterior, data: PopulationData, truth: NDArray[np.float64] | None, stem: Path
) -> None:
    """Draws of the parameters, a table of the density and a figure."""
    from provabgs.plotting.population import density_figure
    from provabgs.plotting.style import save, style

    found.save(f"{stem}.h5")
    _density_table(found).write(f"{stem}.ecsv", format="ascii.ecsv", overwrite=True)
    with style():
        save(density_figure(found, data.region(), truth), Path(f"{stem}.png"))
    typer.echo(f"wrote {stem}.h5, .ecsv and .png")


def _density_table(found: PopulationPosterior) -> Table:
    """The density on a grid, with quantiles."""
    import numpy as np
    from astropy.table import Table

    axes = [np.linspace(a, b, 202 if len(found.meta["limits"]) == 1 else 42)[1:-1] for a, b in found.meta["limits"]]
    mesh = np.stack([c.ravel() for c in np.meshgrid(*axes, indexing="ij")], axis=1)
    q = found.quantiles(mesh, [0.025, 0.16, 0.5, 0.84, 0.975])
    columns = {name: mesh[:, k] for k, name in enumerate(found.meta["names"])}
    columns |= {f"P{100 * v:g}": row for v, row in zip((0.025, 0.16, 0.5, 0.84, 0.975), q, strict=True)}
    return Table(columns)


def _say(found: PopulationPosterior) -> None:
    """Parameters with 68 % intervals, diagnostics and warnings."""
    import numpy as np

    for name, values in found.parameters().items():
        if name in ("density", "correlation"):
            continue
        flat = values.reshape(len(values), -1)
        for k, (low, mid, high) in enumerate(np.quantile(flat, [0.16, 0.5, 0.84], axis=0).T):
            label = f"{name}[{k}]" if flat.shape[1] > 1 else name
            typer.echo(f"  {label:<12} {mid:8.3f}  +{high - mid:.3f} -{mid - low:.3f}")
    how = (
        f"R-hat {found.convergence.rhat_max:.3f}, ESS {found.convergence.ess_min:.0f}"
        if found.method == "nuts"
        else f"importance sampling, efficiency {100 * found.efficiency:.0f} %"
    )
    typer.echo(f"{found.n_galaxy} galaxies; {how}; median effective draws {np.nanmedian(found.n_effective):.0f}")
    for sentence in found.warnings:
        typer.echo(f"warning: {sentence}", err=True)
