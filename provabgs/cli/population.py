"""``provabgs population``: what galaxies say together. Parses and prints; the work is in `provabgs.population`."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from provabgs.cli.massfunction import add_mass_function

if TYPE_CHECKING:
    import numpy as np
    from astropy.table import Table
    from numpy.typing import NDArray

    from provabgs.inference.config import FitConfig
    from provabgs.population.posterior import PopulationPosterior
    from provabgs.population.reading import PopulationData

population_app = typer.Typer(
    help="Populations of galaxies from a catalog's posteriors: densities, priors and their correction.",
    no_args_is_help=True,
)

Input = Annotated[
    Path,
    typer.Argument(help="Catalog directory, posterior file (.h5), or folder of a mock challenge.", metavar="INPUT"),
]
Where = Annotated[str | None, typer.Option("--where", "-w", help="Query on the summary: 'Z < 0.2 and MAG_R < 19.5'.")]
Mode = Annotated[str, typer.Option(help="Of a mock challenge: both, spectrum or photometry.")]
Output = Annotated[Path, typer.Option("--output", "-o", help="Folder for tables and figures.")]
NotConverged = Annotated[
    bool, typer.Option("--include-not-converged", help="Take galaxies whose fit did not converge, too.")
]
FitFile = Annotated[
    Path | None,
    typer.Option(help="TOML with a [fit] table: the configuration that the draws are believed to be made under."),
]
Seed = Annotated[int, typer.Option(help="Of all random numbers.")]


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

    Each galaxy's draws are divided by the prior that the fit's parameters induce on the property (found by drawing from
    that prior), so that the answer is the galaxies' and not the prior's. Writes NAME.h5 (draws of the parameters),
    NAME.ecsv (density and its quantiles) and NAME.png.

        provabgs population density catalog -p LOGSFR_1GYR -w "Z < 0.2"
        provabgs population density catalog -p LOGMSTAR -p LOGSFR_1GYR -d mixture --components 3
        provabgs population density challenge -p T_AGE_MW --mode spectrum
    """
    import numpy as np

    from provabgs.plotting.population import density_figure
    from provabgs.plotting.style import save, style
    from provabgs.population.infer import infer_population
    from provabgs.population.reading import FlatPrior, open_population
    from provabgs.population.sampling import SamplingOptions

    data = open_population(
        catalog,
        properties,
        where=where,
        mode=mode,
        weights=weight or [],
        prior=FlatPrior() if keep_prior else None,
        claimed=_claimed(fit_config),
        include_not_converged=include_not_converged,
    )
    typer.echo(data.chosen.sentence())
    found = _collect_warnings(
        lambda: infer_population(
            data,
            kind,  # type: ignore[arg-type]
            limits=_limits(limits),
            n_component=components,
            n_bin=bins,
            rng=np.random.default_rng(seed),
            options=SamplingOptions(n_draw=draws),
        )
    )
    name = "-".join([*(p.lower() for p in properties), kind, *(["prior-kept"] if keep_prior else [])])
    found.save(_made(output) / f"{name}.h5")
    _density_table(found).write(output / f"{name}.ecsv", format="ascii.ecsv", overwrite=True)
    with style():
        save(density_figure(found, data.region(), _truth_of(catalog, data)), output / f"{name}.png")
    _say(found)
    typer.echo(f"wrote {output / name}.h5, .ecsv and .png")


def prior(
    properties: Annotated[
        list[str] | None, typer.Option("--property", "-p", help="Sample column; the corrected ones if left out.")
    ] = None,
    redshift: Annotated[float, typer.Option("--redshift", "-z", help="Of the galaxies.")] = 0.2,
    n: Annotated[int, typer.Option(help="Prior draws.")] = 200_000,
    correct: Annotated[bool, typer.Option(help="Show the maximum-entropy correction beside it.")] = True,
    save_to: Annotated[
        Path | None,
        typer.Option("--save", help="Write the corrected prior (.json): prior_correction of a fit configuration."),
    ] = None,
    fit_config: FitFile = None,
    seed: Seed = 0,
    output: Output = Path("population"),
) -> None:
    """What the priors on parameters say of SFR, metallicity and age, and a prior corrected to be flat in them.

    Writes prior.ecsv (quantiles) and prior.png. For example

        provabgs population prior -z 0.15
        provabgs population prior -p LOGSSFR_1GYR -p T_AGE_MW
        provabgs population prior -p LOGSSFR_1GYR --save ssfr.json

    and then fits under the corrected prior, with prior_correction = "ssfr.json" in the [fit] table.
    """
    import numpy as np
    from astropy.table import Table

    from provabgs.core.errors import InputError
    from provabgs.inference.config import FitConfig
    from provabgs.plotting.induced import prior_figure
    from provabgs.plotting.style import save, style
    from provabgs.population.priorcorrection import DEFAULT, LIMITS, MaxEntropyPrior
    from provabgs.population.priordraws import age_of_universe, draw_properties

    config = _claimed(fit_config) or FitConfig()
    names = tuple(properties or DEFAULT)
    drawn = draw_properties(config, redshift, n, np.random.default_rng(seed))
    for name in names:
        if name not in drawn:
            raise InputError(f"{name!r} is not a property; known: {', '.join(drawn)}")
    weight, limits = None, {}
    flat = tuple(k for k in names if k in LIMITS)
    if save_to is not None and not (correct and flat):
        raise InputError(f"--save {save_to}: nothing is corrected; choose among {', '.join(LIMITS)}")
    if correct and flat:
        made = MaxEntropyPrior.build(flat, config, redshift, n=max(n, 200_000), seed=seed + 1)
        values = np.stack([drawn[k] for k in flat], axis=-1)[None]
        weight = np.exp(made.log_ratio(values, np.array([redshift]))[0])
        scale = {"T_AGE_MW": age_of_universe(config, redshift)}
        limits = {k: [v * scale.get(k, 1.0) for v in LIMITS[k]] for k in flat}
        n_effective = weight.sum() ** 2 / np.sum(weight**2)
        typer.echo(f"flat in {', '.join(flat)} (largest deviation {100 * max(made.flatness.values()):.1f} %); "
                   f"{n_effective:.0f} of {n} prior draws effective")  # fmt: skip
        if save_to is not None:
            made.correction.save(save_to)
            typer.echo(f"wrote {save_to}")
    q = [0.001, 0.025, 0.16, 0.5, 0.84, 0.975, 0.999]
    rows = [(name, *np.nanquantile(drawn[name], q)) for name in names]
    table = Table(rows=rows, names=["property", *(f"P{100 * v:g}" for v in q)])
    _print(table, f"induced prior at z = {redshift:g}")
    table.write(_made(output) / "prior.ecsv", format="ascii.ecsv", overwrite=True)
    with style():
        save(prior_figure(drawn, names, weight, limits), output / "prior.png")
    typer.echo(f"wrote {output / 'prior'}.ecsv and .png")


def correct(
    catalog: Input,
    properties: Annotated[
        list[str] | None, typer.Option("--property", "-p", help="Property to make the prior flat in; may repeat.")
    ] = None,
    where: Where = None,
    mode: Mode = "both",
    include_not_converged: NotConverged = False,
    fit_config: FitFile = None,
    output: Output = Path("population"),
) -> None:
    """Every galaxy under a prior that is flat in log sSFR, log Z and age, by reweighting its stored draws.

    Writes corrected.fits: quantiles before and after (NAME_P50, NAME_P50_CORR), N_EFFECTIVE, and COLLAPSED where too
    few draws carry the weight: those galaxies must be sampled again. For a mock challenge, biases before and after are
    printed and written to bias.ecsv.

        provabgs population correct catalog -p LOGSSFR_1GYR
        provabgs population correct challenge --mode spectrum
    """
    import numpy as np

    from provabgs.population.corrected import bias_table, correct_catalog
    from provabgs.population.priorcorrection import DEFAULT

    found = correct_catalog(
        catalog,
        tuple(properties or DEFAULT),
        where=where,
        mode=mode,
        claimed=_claimed(fit_config),
        include_not_converged=include_not_converged,
    )
    typer.echo(found.chosen.sentence())
    collapsed = np.asarray(found.table["COLLAPSED"])
    typer.echo(f"median {np.median(found.table['N_EFFECTIVE']):.0f} effective draws; weights collapsed for "
               f"{int(collapsed.sum())} of {collapsed.size} galaxies")  # fmt: skip
    found.table.write(_made(output) / "corrected.fits", overwrite=True)
    typer.echo(f"wrote {output / 'corrected.fits'}")
    if _is_challenge(catalog):
        from provabgs.mocks.challenge import load_truth
        from provabgs.mocks.score import TRUTH_COLUMNS

        truth = load_truth(catalog)
        low = np.asarray(truth["FIBMAG_R"]) > np.median(truth["FIBMAG_R"]) if "FIBMAG_R" in truth.colnames else None
        known = {column: np.asarray(truth[column]) for column in TRUTH_COLUMNS.values()}
        table = bias_table(found.table, known, truth["TARGETID"], low)
        shown = table["regime", "n", "bias", "bias_corr", "n_kept", "bias_kept_corr"]
        _print(shown, "posterior median minus truth; kept: weights not collapsed")
        table.write(output / "bias.ecsv", format="ascii.ecsv", overwrite=True)


COMMANDS: dict[str, Callable[..., None]] = {"density": density, "prior": prior, "correct": correct}
"""Subcommands by name; those of files of their own are added below them."""
for _name, _command in COMMANDS.items():
    population_app.command(_name)(_command)
add_mass_function(population_app)


# ---- helpers ---------------------------------------------------------------------------------------------------------


def _claimed(path: Path | None) -> FitConfig | None:
    """The fit configuration of a TOML file."""
    if path is None:
        return None
    from provabgs.inference.config import load_fit_config

    return load_fit_config(path)


def _limits(given: list[str] | None) -> list[tuple[float, float]] | None:
    """``LOW,HIGH`` texts as numbers."""
    if not given:
        return None
    from provabgs.core.errors import InputError

    out = []
    for text in given:
        try:
            low, high = (float(v) for v in text.split(","))
        except ValueError:
            raise InputError(f"--range {text!r}: give LOW,HIGH, and one --range per property") from None
        out.append((low, high))
    return out


def _made(folder: Path) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def _is_challenge(path: Path) -> bool:
    return path.is_dir() and (path / "mocks").is_dir() and (path / "fits").is_dir()


def _truth_of(path: Path, data: PopulationData) -> NDArray[np.float64] | None:
    """True values of the galaxies of a challenge, ``(n, d)``; None elsewhere or where the mock does not tell."""
    import numpy as np

    if not _is_challenge(path):
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

    from provabgs.population.posterior import PopulationWarning

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", PopulationWarning)
        return call()


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


def _print(table: Table, title: str) -> None:
    from rich.console import Console
    from rich.table import Table as RichTable

    shown = RichTable(title=title)
    for name in table.colnames:
        shown.add_column(name)
    for row in table:
        shown.add_row(*(f"{v:.3g}" if isinstance(v, float) else str(v) for v in row))
    Console().print(shown)
