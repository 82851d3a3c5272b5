"""``provabgs population learn`` and ``apply``: a population prior learnt from a catalog, and the catalog under it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from provabgs.cli.population_options import (
    FitFile,
    Input,
    Mode,
    NotConverged,
    Seed,
    Where,
    claimed_config,
    made,
)
from provabgs.core.errors import InputError

if TYPE_CHECKING:
    from provabgs.inference.learnt import LearntPrior


def learn(
    catalog: Input,
    output: Annotated[Path, typer.Option("--output", "-o", help="File of the prior (.h5).")] = Path("prior.h5"),
    properties: Annotated[
        list[str] | None,
        typer.Option("--property", "-p", help="Sample column to learn, in place of the five; may repeat."),
    ] = None,
    where: Where = None,
    mode: Mode = "both",
    weight: Annotated[
        list[str] | None, typer.Option(help="Column to weigh galaxies by, such as W_ZFAIL; may repeat.")
    ] = None,
    components: Annotated[
        int | None,
        typer.Option(min=1, max=64, help="Gaussians of each density; by the number of galaxies if left out."),
    ] = None,
    members: Annotated[
        int, typer.Option(min=1, max=100, help="Bootstraps of each half: the prior's own uncertainty.")
    ] = 5,
    draws: Annotated[int, typer.Option(min=8, help="Most posterior draws of a galaxy that are used.")] = 128,
    fit_config: FitFile = None,
    seed: Seed = 0,
    cluster: Annotated[
        Path | None, typer.Option(help="TOML with a [cluster] table, such as that of a run: where the work is done.")
    ] = None,
    workers: Annotated[
        int | None, typer.Option(min=1, help="Dask workers; of this machine unless --cluster says otherwise.")
    ] = None,
    scheduler_file: Annotated[Path | None, typer.Option(help="Use the running scheduler that wrote this file.")] = None,
    keys: Annotated[Path | None, typer.Option(help="Folder of the running scheduler's key pair.")] = None,
    scratch: Annotated[
        Path | None,
        typer.Option(help="Folder of scratch files, 28 bytes a draw; all workers must see it. Default: see the guide."),
    ] = None,
) -> None:
    """Learn the joint density of mass, sSFR, metallicity, age and dust over a catalog's galaxies, as a prior for them.

    The prior of the fits is divided out of each galaxy's draws, so that a galaxy says what its data say. Galaxies that
    are not CONVERGED, or whose FLAG is not 0, are left out and counted. The file holds two densities, learnt from
    either half of the galaxies (by a hash of TARGETID): each galaxy later gets the one that it is no part of. Learn
    from the galaxies that you want the prior for: it is their distribution, as selected.

        provabgs population learn catalog -o prior.h5
        provabgs population learn catalog -o prior.h5 -w "Z < 0.3 and MAG_R < 19.5" --weight W_ZFAIL

    Of many galaxies workers read the shards and take the sums. The prior does not depend on their number:

        provabgs population learn catalog -o prior.h5 --workers 8
        provabgs population learn catalog -o prior.h5 --cluster run.toml

    Then reweight the draws that are stored, and fit again the galaxies of which too few are left (`provabgs population
    apply --help`). Printed at the end: ln evidence gained per galaxy over the prior of the fits, by the density of the
    other half; at 0 or below nothing was learnt.
    """
    from provabgs.cli.stopped import stopped
    from provabgs.core.progress import Display
    from provabgs.inference.learnt.coordinates import PROPERTIES
    from provabgs.pipelines.labour import cluster_options, labour_of
    from provabgs.pipelines.stopping import orderly_stop
    from provabgs.population.learnt.learn import LearnOptions, learn_prior

    if output.suffix != ".h5":
        raise InputError(f"--output {output}: the prior is an HDF5 file; give a name that ends in .h5")
    options = LearnOptions(tuple(properties or PROPERTIES), components, members, draws, seed=seed)
    where_to = cluster_options(cluster, workers, scheduler_file, keys)
    try:
        with (
            orderly_stop(),
            labour_of(where_to, made(output.absolute().parent), scratch) as labour,
            Display("reading the catalog", reports=True),
        ):
            found = learn_prior(
                catalog,
                options,
                where=where,
                mode=mode,
                weights=weight or [],
                claimed=claimed_config(fit_config),
                labour=labour,
                say=typer.echo,
            )
    except KeyboardInterrupt as stop:
        raise stopped(stop, f"stopped; {output} is not written") from None
    found.prior.save(output)
    _say(found.prior)
    typer.echo(f"wrote {output}")


def apply(
    catalog: Input,
    prior: Annotated[Path, typer.Option(help="File that `provabgs population learn` wrote.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="Folder for the tables.")] = Path("under-prior"),
    where: Where = None,
    mode: Mode = "both",
    least_effective: Annotated[
        float, typer.Option(min=1, help="Effective draws below which a galaxy must be fitted again.")
    ] = 50.0,
    refits: Annotated[
        Path | None, typer.Option(help="Catalog of fits under this prior, which count in place of reweighted draws.")
    ] = None,
    include_not_converged: NotConverged = False,
    fit_config: FitFile = None,
) -> None:
    """Every galaxy under a learnt population prior, by reweighting its stored draws.

    Writes population.fits: for each property the quantiles under the prior of the fits (NAME_P16, NAME_P50, NAME_P84,
    as in the catalog) and under the population prior (POP_NAME_P16, ...), POP_NAME_ERR for what the prior's own
    uncertainty does to the median, POP_N_EFFECTIVE, POP_COLLAPSED, POP_LOG_EVIDENCE, POP_HALF and POP_REFITTED.
    Galaxies of fewer than 50 effective draws have NaN there and are listed in collapsed.ecsv. Fit these under the
    prior, with the file of the first run, and apply again:

        provabgs population apply catalog --prior prior.h5 -o under-prior
        provabgs run run.toml --targets under-prior/collapsed.ecsv --prior prior.h5 --output refits
        provabgs population apply catalog --prior prior.h5 --refits refits -o under-prior
    """
    import numpy as np

    from provabgs.core.progress import Display
    from provabgs.inference.learnt import load_prior
    from provabgs.population.learnt.apply import apply_prior

    with Display("reading the catalog", unit="galaxies", reports=True):
        found = apply_prior(
            catalog,
            load_prior(prior),
            where=where,
            mode=mode,
            claimed=claimed_config(fit_config),
            include_not_converged=include_not_converged,
            least_effective=least_effective,
            refits=refits,
        )
    typer.echo(found.rows.sentence())
    made(output)
    found.table.write(output / "population.fits", overwrite=True)
    collapsed = found.collapsed
    collapsed.write(output / "collapsed.ecsv", format="ascii.ecsv", overwrite=True)
    typer.echo(
        f"median {np.median(found.table['POP_N_EFFECTIVE']):.0f} effective draws; {len(collapsed)} of "
        f"{len(found.table)} galaxies have fewer than {least_effective:g} and must be fitted again"
        + (f"; {np.sum(found.table['POP_REFITTED'])} are of refits" if refits else "")
    )
    typer.echo(f"wrote {output / 'population.fits'} and {output / 'collapsed.ecsv'}")


def _say(prior: LearntPrior) -> None:
    """What a prior knows of itself."""
    p = prior.provenance
    gain, effective = p["gain_of_other_half"], p["effective_draws"]
    typer.echo(
        f"learnt from {sum(p['galaxies'])} galaxies at redshifts {prior.z_range[0]:.3g} to {prior.z_range[1]:.3g}; "
        f"ln evidence per galaxy, by the other half: {gain[0]:+.2f} and {gain[1]:+.2f}"
    )
    typer.echo(
        f"effective draws {effective[1]:g} in the median, {effective[0]:g} at 5 %; {100 * p['collapsed']:.0f} % of the "
        f"galaxies have too few; normalisation {p['normalisation'][0]:g} and {p['normalisation'][1]:g}"
    )
    if min(gain) <= 0:
        typer.echo("warning: nothing was learnt that holds for the other half; do not use this prior", err=True)
    if max(abs(n - 1) for n in p["normalisation"]) > 0.3:
        typer.echo("warning: the density is not normalised over the prior's draws; the prior is badly known", err=True)
