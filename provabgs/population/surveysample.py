"""From a catalog of posteriors to the galaxies of a survey: who counts, how far each could be, what each stands for."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from provabgs.catalog.columns import SAMPLED
from provabgs.core.arrays import FloatArray
from provabgs.core.errors import InputError
from provabgs.core.status import Status
from provabgs.inference.backends import load_model
from provabgs.inference.config import FitConfig
from provabgs.inference.posterior import Posterior
from provabgs.observe.filters import bands_for, short_name
from provabgs.population.induced import InducedPrior
from provabgs.population.priordraws import config_of
from provabgs.population.selection import OnBad, Selection, combine_weights
from provabgs.population.volume import MagnitudeTracks, SurveyVolume, VisibleVolumes, galaxy_volumes
from provabgs.sps.model import SPSModel
from provabgs.sps.parameters import PARAMETERS

if TYPE_CHECKING:
    from astropy.table import Table

    from provabgs.catalog.query import Catalog


TRACK_DRAWS = 32
"""Draws per galaxy whose Vmax is computed: K-corrections hardly differ between draws of one galaxy."""
PRIOR_DRAWS = 60_000
"""Prior draws per redshift node behind the induced prior of a mass, which is smooth."""
_CHUNK = 256
_TOLERANCE_MAG = 0.005
"""Rounding of stored magnitudes and the interpolation of tracks."""
_THETA = [p.column for p in PARAMETERS]


@dataclass(frozen=True, eq=False)
class SurveySample:
    """The galaxies of a survey that count, and why the others do not.

    Attributes
    ----------
    targetid, redshift, ra, dec
        ``(n,)``.
    draws
        ``(n, ndraw)`` by property name (`provabgs.sps.parameters`); NaN past a galaxy's draws.
    inverse_volume
        ``(n,)`` mean of 1/Vmax, Mpc^-3.
    weight
        ``(n,)`` survey weights.
    z_min, z_max
        ``(n,)`` medians over draws, within the survey.
    margin_near
        ``(n,)`` median margin at the near end of the survey, mag; NaN where z_max was taken from the catalog.
    n_input
        Rows that were looked at.
    excluded
        Rows left out, by reason; each counted once, under the first that applies.
    notes
        What was assumed, for people.
    """

    targetid: NDArray[np.int64]
    redshift: FloatArray
    ra: FloatArray
    dec: FloatArray
    draws: dict[str, FloatArray]
    inverse_volume: FloatArray
    weight: FloatArray
    z_min: FloatArray
    z_max: FloatArray
    margin_near: FloatArray
    n_input: int
    excluded: dict[str, int]
    notes: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.targetid)

    @property
    def report(self) -> str:
        """What was kept and left out, one line."""
        out = ", ".join(f"{n} {why}" for why, n in self.excluded.items()) or "none"
        return f"{len(self)} of {self.n_input} galaxies used; left out: {out}{''.join(f'; {n}' for n in self.notes)}"


class _Rows:
    """Rows still in, and the count of those put out."""

    def __init__(self, n: int) -> None:
        self.keep, self.excluded = np.ones(n, dtype=bool), dict[str, int]()

    def drop(self, bad: NDArray[np.bool_], why: str) -> None:
        count = int((bad & self.keep).sum())
        if count:
            self.excluded[why] = self.excluded.get(why, 0) + count
        self.keep &= ~bad


def survey_sample(
    catalog: Catalog,
    selection: Selection,
    survey: SurveyVolume,
    names: Sequence[str] = ("logmstar_surviving",),
    model: SPSModel | None = None,
    weights: Sequence[str] | None = None,
    anchor: bool = True,
    stored_z_max: bool = False,
    include_not_converged: bool = False,
    on_bad_weight: OnBad = "flag",
    extra: Table | None = None,
) -> SurveySample:
    """Gather the galaxies of a survey from a catalog.

    Parameters
    ----------
    catalog
        Any selection of a `provabgs.catalog.Catalog`.
    selection, survey
        Limits, and area with redshift range. Galaxies outside are left out and counted.
    names
        Properties whose draws are wanted.
    model
        SPS model; the one that the catalog's fits used if None.
    weights
        Columns to multiply; if None, those of W_ZFAIL and W_FIBASSIGN that the catalog knows for any galaxy.
    anchor
        Shift model magnitudes to the measured ones (MAG_G, MAG_R, MAG_Z, MAG_W1) where there are any.
    stored_z_max
        Take z_max from the catalog's Z_MAX column (as the published catalog has it) instead of computing it.
    include_not_converged
        Keep rows of STATUS NOT_CONVERGED; by default they are left out and counted.
    on_bad_weight
        See `provabgs.population.selection.combine_weights`.
    extra
        Table of TARGETID and columns (weights, magnitudes) that replace the catalog's.

    Raises
    ------
    InputError
        For bands whose photometric system is not the galaxies', unknown names, bad weights where asked to raise, or
        when no galaxy is left.
    """
    wanted = ["TARGETID", "Z", "RA", "DEC", "STATUS", "N_SAMPLES", "MAG_G", "MAG_R", "MAG_Z", "MAG_W1", "FIBMAG_R",
              "PHOTSYS", "Z_MAX", "W_ZFAIL", "W_FIBASSIGN"]  # fmt: skip
    table = catalog.table([c for c in wanted if c in catalog.columns])
    columns = {c: _plain(table, c) for c in table.colnames}
    if extra is not None:
        _overlay(columns, extra)
    notes: list[str] = []
    rows = _basic_cuts(columns, survey, include_not_converged)
    weight = _weights(columns, weights, on_bad_weight, rows, notes)
    observed, offset = _photometry(columns, selection, anchor, rows, notes)
    if not rows.keep.any():
        raise InputError(f"no galaxy of {len(table)} is left: {_told(rows.excluded)}")
    index = np.flatnonzero(rows.keep)
    ids = columns["TARGETID"][index].astype(np.int64)
    properties = [SAMPLED.get(n, n) for n in names]
    samples = _samples(catalog, ids, properties)
    if stored_z_max:
        volumes = _stored(columns, index, survey)
    else:
        model = model or catalog_model(catalog)
        tracks = MagnitudeTracks(model, selection.bands, survey.redshift_grid(), survey.cosmology)
        volumes = _computed(catalog, columns, index, selection, survey, tracks, observed, offset)
    rows.drop(_scatter(index, ~(np.isfinite(volumes[0]) & (volumes[0] > 0)), len(table)), "outside the selection")
    inside = rows.keep[index]
    if not inside.any():
        raise InputError(f"no galaxy of {len(table)} is left: {_told(rows.excluded)}")
    picked = index[inside]
    return SurveySample(
        targetid=ids[inside],
        redshift=columns["Z"][picked],
        ra=columns["RA"][picked],
        dec=columns["DEC"][picked],
        draws={n: samples[c][inside] for n, c in zip(names, properties, strict=True)},
        inverse_volume=volumes[0][inside],
        weight=weight[picked],
        z_min=volumes[1][inside],
        z_max=volumes[2][inside],
        margin_near=volumes[3][inside],
        n_input=len(table),
        excluded=rows.excluded,
        notes=tuple(notes),
    )


def catalog_config(catalog: Catalog) -> FitConfig:
    """The configuration that a catalog's fits share.

    Raises
    ------
    InputError
        When rows were fitted under several SPS models or cosmologies; give the model, or select rows.
    """
    texts = [t for t in json.loads(catalog.metadata.get("provabgs:configs", "[]")) if t != "{}"]
    configs = [FitConfig.model_validate_json(t) for t in texts] or [FitConfig()]
    if any(c.model != configs[0].model or c.observing.cosmology != configs[0].observing.cosmology for c in configs):
        raise InputError("the catalog's rows were fitted with different SPS models or cosmologies; give the model")
    return configs[0]


def induced_log_prior(catalog: Catalog, sample: SurveySample, name: str, n: int = PRIOR_DRAWS) -> FloatArray | None:
    """Ln of the prior that the fits induced on a property, at its draws ``(n, ndraw)``: `mass_function`'s `log_prior`.

    None for the formed mass, whose prior is flat between its bounds unless a corrected prior was fitted under.

    Parameters
    ----------
    catalog
        What `sample` was gathered from.
    sample
        With draws of `name`.
    name
        Property (`provabgs.sps.parameters`), such as ``logmstar_surviving``.
    n
        Prior draws per redshift node.

    Raises
    ------
    ConfigError
        When fits under several priors are mixed.
    """
    config = config_of(json.loads(catalog.metadata.get("provabgs:configs", "[]")) or ["{}"], where="the catalog")
    if name == "logmstar" and config.prior_correction is None:
        return None
    z = sample.redshift
    prior = InducedPrior.build((SAMPLED.get(name, name),), config, z_range=(float(z.min()), float(z.max())), n=n)
    return prior.log_density(sample.draws[name][..., None], z)


def catalog_model(catalog: Catalog) -> SPSModel:
    """The SPS model of a catalog's fits."""
    return load_model(catalog_config(catalog).model)


def _plain(table: Table, name: str) -> NDArray[Any]:
    """A column as a plain array: numbers with NaN for nulls, text as it is."""
    column = table[name]
    values = (
        np.ma.filled(np.ma.asarray(column, dtype=np.float64), np.nan) if name not in ("PHOTSYS", "TARGETID") else column
    )
    return np.asarray(values)


def _overlay(columns: dict[str, NDArray[Any]], extra: Table) -> None:
    """Replace columns by those of a table, matched by TARGETID; rows it does not know become NaN."""
    if "TARGETID" not in extra.colnames:
        raise InputError(f"the table of extra columns has no TARGETID (it has {', '.join(extra.colnames[:8])})")
    ids = np.asarray(extra["TARGETID"], dtype=np.int64)
    order = np.argsort(ids, kind="stable")
    mine = columns["TARGETID"].astype(np.int64)
    place = np.clip(np.searchsorted(ids[order], mine), 0, max(ids.size - 1, 0))
    found = ids[order][place] == mine if ids.size else np.zeros(mine.size, dtype=bool)
    for name in extra.colnames:
        if name != "TARGETID":
            values = np.ma.filled(np.ma.asarray(extra[name], dtype=np.float64), np.nan)
            columns[name] = np.where(found, values[order][place], np.nan)


def _basic_cuts(columns: Mapping[str, NDArray[Any]], survey: SurveyVolume, not_converged: bool) -> _Rows:
    """Status, samples and redshift."""
    status, z = columns["STATUS"].astype(np.int64), columns["Z"].astype(np.float64)
    rows = _Rows(status.size)
    rows.drop(~np.isin(status, [Status.CONVERGED, Status.NOT_CONVERGED]), "without samples")
    rows.drop(columns["N_SAMPLES"].astype(np.float64) <= 0, "without samples")
    if not not_converged:
        rows.drop(status == Status.NOT_CONVERGED, "not converged")
    rows.drop(~survey.contains(z), f"outside z = {survey.z_low:g}-{survey.z_high:g}")
    return rows


def _weights(
    columns: Mapping[str, NDArray[Any]],
    names: Sequence[str] | None,
    on_bad: OnBad,
    rows: _Rows,
    notes: list[str],
) -> FloatArray:
    """Product of the weights; rows with bad ones are dropped."""
    n = rows.keep.size
    if names is None:
        names = [c for c in ("W_ZFAIL", "W_FIBASSIGN") if c in columns and np.isfinite(columns[c].astype(float)).any()]
        if not names:
            notes.append("no survey weights known, all 1")
    if missing := [c for c in names if c not in columns]:
        raise InputError(f"weights {', '.join(missing)} are not in the catalog; give them in `extra`")
    kept = rows.keep.copy()
    # rows already out need no weight
    named = {c: np.where(kept, columns[c].astype(np.float64), 1.0) for c in names}
    combined = combine_weights(named, n, on_bad)
    for name in names:
        w = named[name]
        rows.drop(~(np.isfinite(w) & (w > 0)), f"with a bad {name}")
    return combined.weight


def _photometry(
    columns: Mapping[str, NDArray[Any]], selection: Selection, anchor: bool, rows: _Rows, notes: list[str]
) -> tuple[dict[str, FloatArray], FloatArray | None]:
    """Measured magnitudes by filter, and fiber offsets; rows without what the selection needs are dropped."""
    systems = {str(s) for s in np.unique(columns["PHOTSYS"][rows.keep].astype(str))} if "PHOTSYS" in columns else set()
    for system in systems & {"N", "S"}:
        other = [
            b for b in selection.bands if b not in bands_for(system) and b in bands_for("S" if system == "N" else "N")
        ]
        if other and systems & {"N", "S"} == {system}:
            raise InputError(
                f"the galaxies have PHOTSYS {system}, {selection.name} is for {', '.join(other)}; choose its filters"
            )
    if len(systems & {"N", "S"}) == 2:
        notes.append("galaxies of PHOTSYS N and S share one selection")
    observed: dict[str, FloatArray] = {}
    for band in selection.bands:
        name = f"MAG_{short_name(band).upper()}"
        if anchor and name in columns and np.isfinite(columns[name].astype(np.float64)[rows.keep]).any():
            observed[band] = columns[name].astype(np.float64)
        else:
            notes.append(f"no measured {band}: magnitudes are the model's")
    offset = None
    if selection.needs_fiber:
        offset = columns["FIBMAG_R"].astype(np.float64) - columns["MAG_R"].astype(np.float64)
        rows.drop(~np.isfinite(offset), "without a fiber magnitude")
    return observed, offset


def _samples(catalog: Catalog, ids: NDArray[np.int64], columns: Sequence[str]) -> dict[str, FloatArray]:
    table = catalog.samples(ids, list(columns))
    return {c: np.asarray(table[c], dtype=np.float64) for c in columns}


def _stored(columns: Mapping[str, NDArray[Any]], index: NDArray[np.intp], survey: SurveyVolume) -> list[FloatArray]:
    z_max = columns["Z_MAX"].astype(np.float64)[index]
    volume = np.where(np.isfinite(z_max), survey.within(np.nan_to_num(z_max, nan=survey.z_low)), np.nan)
    inverse = np.divide(1.0, volume, out=np.full(volume.shape, np.nan), where=volume > 0)
    near = np.full(index.size, survey.z_low)
    return [inverse, near, np.minimum(z_max, survey.z_high), np.full(index.size, np.nan)]


def _computed(
    catalog: Catalog,
    columns: Mapping[str, NDArray[Any]],
    index: NDArray[np.intp],
    selection: Selection,
    survey: SurveyVolume,
    tracks: MagnitudeTracks,
    observed: Mapping[str, FloatArray],
    offset: FloatArray | None,
) -> list[FloatArray]:
    """1/Vmax, z_min, z_max and near margin of the galaxies at `index`, some hundred at a time."""
    out = [np.full(index.size, np.nan) for _ in range(4)]
    for start in range(0, index.size, _CHUNK):
        part = index[start : start + _CHUNK]
        table = catalog.samples(columns["TARGETID"][part].astype(np.int64), _THETA)
        theta = thin(np.stack([np.asarray(table[c], dtype=np.float64) for c in _THETA], axis=-1), TRACK_DRAWS)
        volumes = galaxy_volumes(
            theta,
            columns["Z"].astype(np.float64)[part],
            selection,
            survey,
            tracks,
            {b: m[part] for b, m in observed.items()},
            None if offset is None else offset[part],
        )
        place = slice(start, start + part.size)
        out[0][place] = np.where(_taken(volumes, bool(observed)), volumes.inverse, np.nan)
        for k, values in ((1, volumes.z_min), (2, volumes.z_max), (3, volumes.margin_near)):
            seen = np.isfinite(values).any(axis=1)
            out[k][start : start + part.size][seen] = np.nanmedian(values[seen], axis=1)
    return out


def _taken(volumes: VisibleVolumes, measured: bool) -> NDArray[np.bool_]:
    """Whether the survey's limits admit each galaxy where it is; judged by measured magnitudes only."""
    here = volumes.margin_here
    if not measured or here is None:
        return np.ones(len(volumes.vmax), dtype=bool)
    return np.nanmedian(np.where(np.isfinite(here), here, -np.inf), axis=1) > -_TOLERANCE_MAG


def thin(theta: FloatArray, n: int) -> FloatArray:
    """At most `n` of each galaxy's finite draws, evenly spaced, ``(n_galaxy, n, 13)``; short rows repeat theirs."""
    out = np.full((len(theta), n, theta.shape[2]), np.nan)
    for row, draws in enumerate(theta):
        known = np.flatnonzero(np.isfinite(draws).all(axis=1))
        if known.size:
            out[row] = draws[known[np.linspace(0, known.size - 1, n).round().astype(int)]]
    return out


def _scatter(index: NDArray[np.intp], values: NDArray[np.bool_], n: int) -> NDArray[np.bool_]:
    full = np.zeros(n, dtype=bool)
    full[index] = values
    return full


def _told(excluded: Mapping[str, int]) -> str:
    return ", ".join(f"{n} {why}" for why, n in excluded.items()) or "the catalog is empty"


def with_survey_columns(posteriors: Sequence[Posterior], columns: Mapping[str, Sequence[float]]) -> list[Posterior]:
    """Posteriors with survey columns (MAG_R, W_ZFAIL, ...) in their meta data, as a catalog stores them.

    Mock challenges keep magnitudes in their truth tables; this brings both together for `write_catalog`.
    """
    for name, values in columns.items():
        if len(values) != len(posteriors):
            raise InputError(f"{name} has {len(values)} values for {len(posteriors)} posteriors")
    return [
        replace(p, meta={**p.meta, **{name: float(values[i]) for name, values in columns.items()}})
        for i, p in enumerate(posteriors)
    ]
