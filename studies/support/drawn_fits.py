"""Fits of a study's galaxies with their draws kept: one file per galaxy, made where it is not there."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from provabgs.catalog.columns import STANDARD
from provabgs.catalog.samples import SampleChunk
from provabgs.core.arrays import FloatArray
from provabgs.inference.config import DEFAULT_PRESET, SamplerOptions
from provabgs.inference.fit import fit_one
from provabgs.inference.flags import flags_of
from provabgs.inference.learnt import load_prior, prior_file_from
from provabgs.population.sources import Source
from studies.honest_posteriors import SEED, Sample, config_of, galaxies_of
from studies.support.pieces import Arrays, kept_arrays

DRAWN = {
    "LOGMSTAR_FORMED": "logmstar",
    "LOGMSTAR": "logmstar_surviving",
    "LOGSFR_100MYR": "log_sfr_100myr",
    "LOGSFR_1GYR": "log_sfr_1gyr",
    "LOGZ_MW": "log_z_mw",
    "T_AGE_MW": "t_age_mw",
    "TAU_ISM": "tau_ism",
}
"""Sample columns that are kept, and their names in a posterior."""
N_DRAWS = 8192
"""Draws that are kept of a fit: so many that most galaxies keep enough of them under another prior."""
TRUTH = "truth_"


def sample_of(histories: str, sampler: SamplerOptions) -> Sample:
    """Galaxies of the package's own stars with histories of one kind."""
    return Sample("own", None, histories, sampler)


def fit_galaxy(sample: Sample, number: int, preset: str, prior: Path | None = None) -> Arrays:
    """Fit one galaxy and keep its draws and truth.

    Parameters
    ----------
    sample
        Which galaxies.
    number
        Of the galaxy, from 0.
    preset
        To fit under.
    prior
        File of a learnt prior to fit under.
    """
    galaxy, start = galaxies_of(*sample[:3]).make(number, seed=SEED), time.process_time()
    config = config_of(sample, preset).model_copy(update={"n_samples": N_DRAWS, "prior": prior_file_from(prior)})
    # the TARGETID decides the half: it must be the one that the prior was learnt with
    posterior = fit_one(replace(galaxy.observation, targetid=number + 1), config, seed=SEED)
    out: dict[str, object] = {
        "targetid": number + 1,
        "redshift": posterior.redshift,
        "status": int(posterior.status),
        "flag": int(flags_of(posterior)),
        "history": galaxy.history,
        "sn": galaxy.truth["sn"],
        "n_eval": posterior.diagnostics.n_eval,
        "cpu_s": time.process_time() - start,
        "config": posterior.config,
    }
    for column, name in DRAWN.items():
        out[column] = np.asarray(posterior[name], dtype=np.float64)
        out[TRUTH + column] = galaxy.truth.get(name, float("nan"))
    return {k: np.asarray(v) for k, v in out.items()}


def kept_fit(folder: Path, sample: Sample, number: int, preset: str) -> Arrays:
    """`fit_galaxy`, from its file where it is there."""
    path = folder_of(folder, sample.histories, preset) / f"{number}.npz"
    return kept_arrays(path, lambda: fit_galaxy(sample, number, preset))


def folder_of(folder: Path, histories: str, preset: str) -> Path:
    """Where fits of one kind of galaxies under one preset are kept."""
    return folder / (histories if preset == DEFAULT_PRESET else f"{histories}-{preset}")


def kept_refit(folder: Path, sample: Sample, number: int, preset: str, prior: Path) -> Arrays:
    """`fit_galaxy` under a learnt prior, from its file where it is there.

    Parameters
    ----------
    folder
        That keeps the fits; those under one prior are together, under the prior's SHA-256.
    sample, number, preset, prior
        See `fit_galaxy`.
    """
    path = folder / f"{sample.histories}-{load_prior(prior).sha256[:12]}" / f"{number}.npz"
    return kept_arrays(path, lambda: fit_galaxy(sample, number, preset, prior))


@dataclass(frozen=True, eq=False)
class KeptFits(Source):
    """Kept fits as a source of a population: what `provabgs.population.sources.open_source` gives of a catalog.

    Attributes
    ----------
    draws
        ``(n, S)`` per sample column.
    truth
        ``(n,)`` per sample column.
    """

    draws: Mapping[str, FloatArray]
    truth: Mapping[str, FloatArray]

    @classmethod
    def of(cls, fits: Sequence[Arrays], label: str) -> KeptFits:
        """Kept fits together; those of other numbers of draws are filled up with NaN."""
        draws, truth = {}, {}
        for name in DRAWN:
            draws[name] = np.full((len(fits), N_DRAWS), np.nan)
            truth[name] = np.array([float(f[TRUTH + name]) for f in fits])
            for i, fit in enumerate(fits):
                draws[name][i, : fit[name].size] = fit[name]
        draws["LOGSSFR_1GYR"] = draws["LOGSFR_1GYR"] - draws["LOGMSTAR"]
        truth["LOGSSFR_1GYR"] = truth["LOGSFR_1GYR"] - truth["LOGMSTAR"]
        columns = {
            "TARGETID": np.array([int(f["targetid"]) for f in fits], dtype=np.int64),
            "Z": np.array([float(f["redshift"]) for f in fits]),
            "STATUS": np.array([int(f["status"]) for f in fits]),
            "FLAG": np.array([int(f["flag"]) for f in fits]),
            "N_SAMPLES": np.array([f["T_AGE_MW"].size for f in fits]),
            "HISTORY": np.array([str(f["history"]) for f in fits]),
            "SHARD": np.full(len(fits), "fits"),
        }
        configs = tuple(dict.fromkeys(str(f["config"]) for f in fits))
        return cls(Path(), columns, configs, STANDARD, label, {}, draws, truth)

    def take(self, rows: NDArray[Any]) -> KeptFits:
        """The rows of the given indices or mask."""
        parts = ({k: v[rows] for k, v in part.items()} for part in (self.columns, self.draws, self.truth))
        columns, draws, truth = parts
        return replace(self, columns=columns, draws=draws, truth=truth)

    def chunks(self, names: list[str]) -> Iterator[SampleChunk]:
        """All of them."""
        yield SampleChunk(np.arange(len(self)), {n: self.draws[n] for n in names})
