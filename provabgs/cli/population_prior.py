"""``provabgs population prior`` and ``correct``: induced priors and their correction."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

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
    print_table,
)
from provabgs.core.errors import InputError

if TYPE_CHECKING:
    from astropy.table import Table

    from provabgs.core.arrays import FloatArray
    from provabgs.population.prior.max_entropy import MaxEntropyPrior


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
    """The prior induced on SFR, metallicity and age, and a correction that makes the prior flat in them.

    Writes prior.ecsv (quantiles) and prior.png. For example

        provabgs population prior -z 0.15
        provabgs population prior -p LOGSSFR_1GYR -p T_AGE_MW
        provabgs population prior -p LOGSSFR_1GYR --save ssfr.json

    and then fits with the corrected prior, by prior_correction = "ssfr.json" in the [fit] table.
    """
    import numpy as np
    from astropy.table import Table

    from provabgs.core.progress import Display
    from provabgs.inference.config import FitConfig
    from provabgs.plotting.induced import prior_figure
    from provabgs.plotting.style import save, style
    from provabgs.population.prior.draws import age_of_universe, draw_properties
    from provabgs.population.prior.max_entropy import DEFAULT, LIMITS, MaxEntropyPrior

    config = claimed_config(fit_config) or FitConfig()
    names = tuple(properties or DEFAULT)
    with Display(f"{n:,} draws of the prior"):
        drawn = draw_properties(config, redshift, n, np.random.default_rng(seed))
    for name in names:
        if name not in drawn:
            raise InputError(f"{name!r} is not a property; known: {', '.join(drawn)}")
    flat = tuple(k for k in names if k in LIMITS) if correct else ()
    if save_to is not None and not flat:
        raise InputError(f"--save {save_to}: nothing is corrected; choose among {', '.join(LIMITS)}")
    weight, limits = None, {}
    if flat:
        with Display("maximum-entropy correction"):
            found = MaxEntropyPrior.build(flat, config, redshift, n=max(n, 200_000), seed=seed + 1)
        weight = _weights(found, drawn)
        scale = {"T_AGE_MW": age_of_universe(config, redshift)}
        limits = {k: [v * scale.get(k, 1.0) for v in LIMITS[k]] for k in flat}
        if save_to is not None:
            found.correction.save(save_to)
            typer.echo(f"wrote {save_to}")
    q = [0.001, 0.025, 0.16, 0.5, 0.84, 0.975, 0.999]
    rows = [(name, *np.nanquantile(drawn[name], q)) for name in names]
    table = Table(rows=rows, names=["property", *(f"P{100 * v:g}" for v in q)])
    print_table(table, f"induced prior at z = {redshift:g}")
    table.write(made(output) / "prior.ecsv", format="ascii.ecsv", overwrite=True)
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

    from provabgs.core.progress import Display
    from provabgs.population.prior.corrected import correct_catalog
    from provabgs.population.prior.max_entropy import DEFAULT

    with Display("reading the catalog", unit="galaxies", reports=True):
        found = correct_catalog(
            catalog,
            tuple(properties or DEFAULT),
            where=where,
            mode=mode,
            claimed=claimed_config(fit_config),
            include_not_converged=include_not_converged,
        )
    typer.echo(found.rows.sentence())
    collapsed = np.asarray(found.table["COLLAPSED"])
    typer.echo(f"median {np.median(found.table['N_EFFECTIVE']):.0f} effective draws; weights collapsed for "
               f"{int(collapsed.sum())} of {collapsed.size} galaxies")  # fmt: skip
    found.table.write(made(output) / "corrected.fits", overwrite=True)
    typer.echo(f"wrote {output / 'corrected.fits'}")
    if is_challenge(catalog):
        _report_bias(catalog, found.table, output)


def _weights(prior: MaxEntropyPrior, drawn: dict[str, FloatArray]) -> FloatArray:
    """Weights of prior draws under the corrected prior; says how many stay effective."""
    import numpy as np

    from provabgs.core.weights import effective_sample_size

    values = np.stack([drawn[k] for k in prior.names], axis=-1)[None]
    log_weight = prior.log_ratio(values, np.array([prior.redshift]))[0]
    typer.echo(
        f"flat in {', '.join(prior.names)} (largest deviation {100 * max(prior.flatness.values()):.1f} %); "
        f"{effective_sample_size(log_weight):.0f} of {log_weight.size} prior draws effective"
    )
    return np.exp(log_weight)


def _report_bias(challenge: Path, corrected: Table, output: Path) -> None:
    """Print and write the biases of a mock challenge before and after the correction."""
    import numpy as np

    from provabgs.mocks.challenge import load_truth
    from provabgs.mocks.score import TRUTH_COLUMNS
    from provabgs.population.prior.corrected import bias_table

    truth = load_truth(challenge)
    low = np.asarray(truth["FIBMAG_R"]) > np.median(truth["FIBMAG_R"]) if "FIBMAG_R" in truth.colnames else None
    known = {column: np.asarray(truth[column]) for column in TRUTH_COLUMNS.values()}
    table = bias_table(corrected, known, truth["TARGETID"], low)
    shown = table["regime", "n", "bias", "bias_corr", "n_kept", "bias_kept_corr"]
    print_table(shown, "posterior median minus truth; kept: weights not collapsed")
    table.write(output / "bias.ecsv", format="ascii.ecsv", overwrite=True)
