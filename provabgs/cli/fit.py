"""``provabgs fit``: from a coadd to a posterior file. Parses, calls, prints."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from provabgs.cli.join_options import Columns, FastSpecFit, Vi, ViQuality, Weights, Zcatalog, join_options
from provabgs.core.status import Status

if TYPE_CHECKING:
    from collections.abc import Iterator

    from provabgs.desi.targets import ReadOptions
    from provabgs.inference.config import FitConfig
    from provabgs.inference.fit import Fitted
    from provabgs.inference.posterior import Posterior
    from provabgs.observe.target import TargetResult


INTERRUPTED = 130
"""Exit code after Ctrl-C, as shells have it; the rows done by then are written."""


class LineMaskName(StrEnum):
    """Emission-line masks; see `provabgs.observe.masks`."""

    published = "published"
    default = "default"
    extended = "extended"
    auto = "auto"
    none = "none"


class EngineName(StrEnum):
    """Likelihood engines; see `provabgs.inference.config`."""

    compressed = "compressed"
    emulator = "emulator"
    exact = "exact"


class PresetName(StrEnum):
    """What the noise model allows for."""

    honest = "honest"
    delayed = "delayed"
    published = "published"
    released_edr = "released-edr"


class DataName(StrEnum):
    """Which data to fit."""

    both = "both"
    spectrum = "spectrum"
    photometry = "photometry"


def fit(
    coadd: Annotated[Path, typer.Argument(help="DESI coadd or spectra file.", show_default=False)],
    output: Annotated[Path, typer.Option("--output", "-o", help="Posterior file to write, .h5.", show_default=False)],
    redrock: Annotated[
        Path | None, typer.Option(help="Redrock file. (default: the one beside the coadd)", show_default=False)
    ] = None,
    photometry: Annotated[
        Path | None,
        typer.Option(
            help="Tractor, sweep or FastSpecFit file, or a folder of sweeps. (default: the coadd's FIBERMAP)",
            show_default=False,
        ),
    ] = None,
    bands: Annotated[
        str | None, typer.Option(help="Bands to fit, by commas: g,r,i,z,W1,W2. (default: g,r,z)", show_default=False)
    ] = None,
    targetid: Annotated[
        list[int] | None, typer.Option(help="Fit this TARGETID; may be repeated. (default: all)", show_default=False)
    ] = None,
    redshift: Annotated[
        float | None, typer.Option(help="Redshift to use in place of the redrock file's.", show_default=False)
    ] = None,
    zcatalog: Zcatalog = None,
    vi: Vi = None,
    vi_quality: ViQuality = None,
    weights: Weights = None,
    columns: Columns = None,
    fastspecfit: FastSpecFit = None,
    config: Annotated[
        Path | None,
        typer.Option("--config", "-c", help="TOML file; its [fit] table is read.", show_default=False),
    ] = None,
    preset: Annotated[
        PresetName | None,
        typer.Option(help="Noise and masks: as published, or honest about the model's errors.", show_default=False),
    ] = None,
    engine: Annotated[EngineName | None, typer.Option(help="Likelihood backend.", show_default=False)] = None,
    sampler: Annotated[str | None, typer.Option(help="Sampler, 'auto' for the default.", show_default=False)] = None,
    line_mask: Annotated[
        LineMaskName | None,
        typer.Option(help="Emission-line mask; auto: extended where lines are.", show_default=False),
    ] = None,
    use: Annotated[DataName | None, typer.Option(help="Data to fit.", show_default=False)] = None,
    time_limit: Annotated[
        float | None, typer.Option(help="Budget of the sampler, seconds a galaxy.", show_default=False)
    ] = None,
    allow_zwarn: Annotated[bool, typer.Option("--allow-zwarn", help="Fit rows with ZWARN set too.")] = False,
    allow_non_galaxy: Annotated[
        bool, typer.Option("--allow-non-galaxy", help="Fit rows whose SPECTYPE is not GALAXY too.")
    ] = False,
    seed: Annotated[int, typer.Option(min=0, help="Seed of the run; same data, config and seed: same samples.")] = 0,
) -> None:
    """Fit galaxies of a DESI coadd and write their posteriors.

    Prints properties with 68 % intervals, STATUS, R-hat and effective sample size; only STATUS CONVERGED passed the
    convergence criterion. A row that cannot be fitted becomes a row with its STATUS, and the others go on.
    """
    from provabgs.catalog.observed import write_fits
    from provabgs.cli.report import print_fits
    from provabgs.core.errors import InputError
    from provabgs.desi import read_observations
    from provabgs.desi.targets import ReadOptions
    from provabgs.inference.config import load_fit_config
    from provabgs.inference.fit import check_names

    _check_output(output, coadd, redrock, photometry, zcatalog, vi, weights, fastspecfit, config)
    changes = {
        "preset": preset,
        "engine": engine,
        "use": use,
        "sampler": {"name": sampler, "time_limit_s": time_limit},
        "observing": {"line_mask": line_mask},
    }
    fit_config = load_fit_config(config, changes)
    check_names(fit_config)
    joins = join_options(zcatalog, vi, vi_quality, weights, columns, fastspecfit)
    options = ReadOptions(allow_zwarn=allow_zwarn, allow_non_galaxy=allow_non_galaxy, joins=joins)
    if bands is not None:
        options = options.with_changes({"bands": tuple(b.strip() for b in bands.split(",") if b.strip())})
    targets = read_observations(coadd, redrock, photometry, targetid or None, options, redshift)
    if not targets:
        raise InputError(f"{coadd}: holds no rows")
    fitted = _fit_with_progress(targets, fit_config, seed)
    if len(targets) == 1 and fitted[0].posterior.status in CURES:
        posterior = fitted[0].posterior
        raise InputError(f"{coadd}, row {targets[0].row}, TARGETID {posterior.targetid}: {explain(posterior)}")
    place = _place(output, fitted, len(targets))
    write_fits(place, fitted, attrs=_attributes(coadd, options))
    print_fits(fitted, place)
    if len(fitted) < len(targets):
        raise typer.Exit(INTERRUPTED)
    if not any(f.posterior.status.has_samples for f in fitted):
        raise InputError(f"{coadd}: none of {len(fitted)} rows could be fitted; their STATUS and reasons are above")


CURES = {
    Status.UNOBSERVED: "choose a row that was observed",
    Status.NO_VALID_PIXELS: "choose another row, or give photometry with --photometry",
    Status.NO_REDSHIFT: "give the file that holds it as --redrock or --zcatalog, or --redshift",
    Status.REDSHIFT_OUT_OF_RANGE: "give another --redshift, or raise observing.z_max in a --config file",
    Status.REDSHIFT_WARNING: "check the redshift, then --allow-zwarn or --redshift",
    Status.NOT_A_GALAXY: "--allow-non-galaxy, or --redshift",
    Status.NO_PHOTOMETRY: "give photometry with --photometry",
    Status.BAD_DATA: "repair the file, or leave this row out",
    Status.INPUT_ERROR: "repair the file, or leave this row out",
}
"""What to do about a row that cannot be fitted as it is."""


def explain(posterior: Posterior) -> str:
    """Why a row could not be fitted, and what to do about it."""
    cure = CURES.get(posterior.status)
    return f"{posterior.status.name}: {posterior.message}" + (f" ({cure})" if cure else "")


def _place(output: Path, fitted: list[Fitted], n_targets: int) -> Path:
    """Where posteriors go: a fit that failed, or was interrupted, never replaces the results of an earlier one."""
    done = len(fitted) == n_targets and any(f.posterior.status.has_samples for f in fitted)
    return output if done or not output.exists() else output.with_name(f"{output.stem}.failed{output.suffix}")


def _check_output(output: Path, *inputs: Path | None) -> None:
    """Refuse a place that cannot be written to, or is an input, before hours are spent on what goes there."""
    import os

    from provabgs.core.errors import InputError
    from provabgs.desi.paths import infer_redrock

    for path in (*inputs, infer_redrock(inputs[0]) if inputs and inputs[0] else None):
        if path is not None and output.exists() and path.exists() and output.samefile(path):
            raise InputError(f"{output}: is an input of this fit ({path}) and would be lost; give another --output")
        if path is not None and path.is_dir() and output.is_file() and output.resolve().is_relative_to(path.resolve()):
            raise InputError(f"{output}: lies among the inputs of this fit ({path}); give another --output")

    if output.is_dir():
        raise InputError(f"{output}: is a folder; give the name of a file, as {output / 'out.h5'}")
    folder = output.absolute().parent
    while not folder.exists():
        folder = folder.parent
    if not folder.is_dir() or not os.access(folder, os.W_OK):
        raise InputError(f"{output}: {folder} cannot be written to; choose another place")


def _attributes(coadd: Path, options: ReadOptions) -> dict[str, Any]:
    from dataclasses import asdict

    return {"source": str(coadd), "read_options": {k: str(v) for k, v in asdict(options).items()}}


def _fit_with_progress(targets: list[TargetResult], config: FitConfig, seed: int) -> list[Fitted]:
    """Fit, with a bar on stderr that tells rate and time left; Ctrl-C ends with the rows done so far."""
    from provabgs.core.progress import Display
    from provabgs.inference.fit import fit_many

    fitted: list[Fitted] = []
    n_fit = sum(t.observation is not None for t in targets)

    def done() -> int:
        return sum(f.observation is not None for f in fitted)

    def ticking() -> Iterator[TargetResult]:
        for target in targets:
            show(f"fitting: {target.targetid}", done(), n_fit)
            yield target

    with Display("fitting") as show:
        try:
            for result in fit_many(ticking(), config, seed):
                fitted.append(result)
        except KeyboardInterrupt:
            if not fitted:
                raise
            typer.echo(f"interrupted: keeping the {len(fitted)} of {len(targets)} rows done", err=True)
    return fitted
