"""The galaxies of a survey, from a catalog of posteriors: which count, 1/Vmax and weight of each, and their draws."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from provabgs.catalog import expression
from provabgs.catalog.configuration import MODEL_PARTS, shared_config, stored_configs
from provabgs.catalog.names import sample_names
from provabgs.core.arrays import FloatArray
from provabgs.inference.backends import load_model
from provabgs.inference.config import FitConfig
from provabgs.population.prior.induced import InducedPrior
from provabgs.population.rows import RowSelection, fitted_rows
from provabgs.population.survey.catalog_volumes import GalaxyVolumes, computed_volumes, stored_volumes
from provabgs.population.survey.columns import Columns, measured_photometry, read_columns, survey_weights
from provabgs.population.survey.selection import Selection
from provabgs.population.survey.volume import SurveyVolume
from provabgs.population.weights import OnBad
from provabgs.sps.model import SPSModel

if TYPE_CHECKING:
    from astropy.table import Table

    from provabgs.catalog.query import Catalog

PRIOR_DRAWS = 60_000
"""Prior draws per redshift node for the induced prior of a mass, which is smooth."""


@dataclass(frozen=True, eq=False)
class SurveySample:
    """The galaxies of a survey that count, and why the others do not.

    Attributes
    ----------
    targetid, redshift, ra, dec
        ``(n,)``; RA and Dec in degrees.
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
        Rows of the catalog.
    excluded
        Rows left out, by reason; each counts once, under the first reason that applies.
    notes
        Assumptions, for people.
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
        Columns to multiply; if None, those of W_ZFAIL and W_FIBASSIGN that the catalog has for any galaxy.
    anchor
        Shift model magnitudes to the measured ones (MAG_G, MAG_R, MAG_Z, MAG_W1) where there are any.
    stored_z_max
        Take z_max from the catalog's Z_MAX column (as the published catalog has it) instead of computing it.
    include_not_converged
        Keep rows of STATUS NOT_CONVERGED; by default they are left out and counted.
    on_bad_weight
        See `provabgs.population.weights.combine_weights`.
    extra
        Table of TARGETID and columns (weights, magnitudes) that replace the catalog's.

    Returns
    -------
    SurveySample
        Galaxies that count, in the order of the catalog.

    Raises
    ------
    InputError
        For bands whose photometric system is not the galaxies', unknown names, bad weights where asked to raise, or
        when no galaxy is left.
    ConfigError
        When the catalog's fits used several SPS models and none is given.
    """
    stored = [catalog.schema.column_of.get(n, n) for n in names]
    expression.check_names(stored, sample_names(catalog.schema), "among the samples")
    columns = read_columns(catalog, extra)
    notes: list[str] = []
    rows = fitted_rows(columns["STATUS"], columns["N_SAMPLES"], include_not_converged)
    rows.drop(~survey.contains(columns["Z"]), f"outside z = {survey.z_low:g}-{survey.z_high:g}")
    weight = survey_weights(columns, weights, on_bad_weight, rows, notes)
    observed, offset = measured_photometry(columns, selection, anchor, rows, notes)
    rows.require_some("the catalog")
    index = np.flatnonzero(rows.keep)
    if stored_z_max:
        volumes = stored_volumes(columns, index, survey)
    else:
        model = model or load_model(spectral_config(catalog).model)
        volumes = computed_volumes(catalog, columns, index, selection, survey, model, observed, offset)
    seen = np.isfinite(volumes.inverse) & (volumes.inverse > 0)
    rows.drop(~np.isin(np.arange(rows.n_rows), index[seen]), "outside the selection")
    rows.require_some("the catalog")
    kept = GalaxyVolumes(*(v[seen] for v in volumes))
    return _assembled(catalog, columns, index[seen], names, kept, weight, rows, notes)


def _assembled(
    catalog: Catalog,
    columns: Columns,
    index: NDArray[np.intp],
    names: Sequence[str],
    volumes: GalaxyVolumes,
    weight: FloatArray,
    rows: RowSelection,
    notes: list[str],
) -> SurveySample:
    """The sample of the galaxies at `index`, with their draws."""
    ids = columns["TARGETID"][index].astype(np.int64)
    stored = [catalog.schema.column_of.get(n, n) for n in names]
    samples = catalog.samples(ids, stored)
    return SurveySample(
        targetid=ids,
        redshift=columns["Z"][index],
        ra=columns["RA"][index],
        dec=columns["DEC"][index],
        draws={n: np.asarray(samples[c], dtype=np.float64) for n, c in zip(names, stored, strict=True)},
        inverse_volume=volumes.inverse,
        weight=weight[index],
        z_min=volumes.z_min,
        z_max=volumes.z_max,
        margin_near=volumes.margin_near,
        n_input=rows.n_rows,
        excluded=rows.excluded,
        notes=tuple(notes),
    )


def spectral_config(catalog: Catalog) -> FitConfig:
    """The configuration of a catalog's fits, for their SPS model and cosmology.

    Raises
    ------
    ConfigError
        When rows were fitted under several SPS models or cosmologies, or the catalog does not say.
    """
    return shared_config(stored_configs(catalog.metadata), parts=MODEL_PARTS)


def induced_log_prior(catalog: Catalog, sample: SurveySample, name: str, n: int = PRIOR_DRAWS) -> FloatArray | None:
    """Ln of the prior that the fits induced on a property, at its draws: the `log_prior` of `mass_function`.

    Parameters
    ----------
    catalog
        The catalog that `sample` was gathered from.
    sample
        With draws of `name`.
    name
        Property (`provabgs.sps.parameters`), such as ``logmstar_surviving``.
    n
        Prior draws per redshift node.

    Returns
    -------
    numpy.ndarray or None
        ``(n, ndraw)``; None for the formed mass, whose prior is flat, unless the prior of the fits was a corrected one.

    Raises
    ------
    ConfigError
        When fits under several priors are mixed, or the catalog does not say.
    """
    config = shared_config(stored_configs(catalog.metadata))
    if name == "logmstar" and config.prior_correction is None and config.prior is None:
        return None
    z = sample.redshift
    prior = InducedPrior.build(
        (catalog.schema.column_of.get(name, name),), config, z_range=(float(z.min()), float(z.max())), n=n
    )
    return prior.log_density(sample.draws[name][..., None], z)
