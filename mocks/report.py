"""Everything that a mock challenge has to say, written as tables and figures."""

from __future__ import annotations

from pathlib import Path

from astropy.table import Table

from provabgs.mocks import figures
from provabgs.mocks.challenge import ChallengeConfig, Mode, load_truth
from provabgs.mocks.score import Scored, accuracy_of, accuracy_table, collect, induced_priors, summary_table


def write_report(
    config: ChallengeConfig, divide_by_prior: bool = False, min_count: int = 10
) -> tuple[Table, list[Path]]:
    """Write ``OUTPUT/results``: summary and accuracy tables (ECSV) and figures (PNG), of what is fitted so far.

    Parameters
    ----------
    divide_by_prior
        Divide by the induced prior on each property, at the median redshift of the mocks; the published estimator as
        quoted does not.
    min_count
        Bins of this many galaxies or fewer are left out.

    Returns
    -------
    summary
        See `provabgs.mocks.score.summary_table`.
    written
        Paths of all files.
    """
    folder = config.output / "results"
    folder.mkdir(parents=True, exist_ok=True)
    truth = load_truth(config.output)
    scored: dict[Mode, Scored] = {}
    for mode in config.modes:
        s = collect(config.output, mode)
        if len(s):
            scored[mode] = s
    priors = induced_priors(config.fit, float(sorted(truth["Z"])[len(truth) // 2])) if divide_by_prior else None
    by_mode = {mode: accuracy_of(s, priors, min_count) for mode, s in scored.items()}
    summary = summary_table(scored)
    suffix = "_prior_divided" if divide_by_prior else ""
    tables = {"summary": summary, f"accuracy{suffix}": accuracy_table(by_mode)}
    written = []
    for name, table in tables.items():
        path = folder / f"{name}.ecsv"
        table.write(path, format="ascii.ecsv", overwrite=True)
        written.append(path)
    written.append(figures.save(figures.sample_figure(truth), folder / "sample.png"))
    if scored:
        written.append(figures.save(figures.truth_figure(scored), folder / "truth.png"))
        written.append(figures.save(figures.delta_figure(scored, by_mode), folder / f"delta{suffix}.png"))
        written.append(figures.save(figures.accuracy_figure(by_mode), folder / f"accuracy{suffix}.png"))
        best = next(iter(scored.values()))
        if len(best) > 3 * min_count:
            written.append(
                figures.save(
                    figures.dependence_figure({best.mode: best}, min_count=min_count), folder / "dependence.png"
                )
            )
            written.append(figures.save(figures.plane_figure(best, min_count), folder / "plane.png"))
    return summary, written
