"""The result of one fit: samples of the exact posterior with everything needed to judge them."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from provabgs.core.arrays import FloatArray
from provabgs.core.messages import suggestion
from provabgs.core.status import Status
from provabgs.core.versions import versions
from provabgs.inference.measured.quantity import Measured
from provabgs.inference.quality import Quality
from provabgs.inference.standard import PARAMETERS, PROPERTIES
from provabgs.sps.derived import DerivedProperty
from provabgs.sps.parameters import ParameterSet, Quantity

if TYPE_CHECKING:
    from provabgs.inference.config import FitConfig
    from provabgs.observe.observation import Observation


@dataclass(frozen=True, eq=False)
class Diagnostics:
    """How far a set of samples may be trusted.

    Attributes
    ----------
    rhat, ess_bulk, ess_tail
        Rank-normalised split R-hat and effective sample sizes (Vehtari et al. 2021) per parameter and derived
        property; NaN for quantities that do not vary (a fixed f_fiber).
    n_eval
        Likelihood evaluations spent, gradients counted as one each.
    n_divergent
        Divergent transitions, for gradient samplers.
    runtime_s
        Wall time, seconds, compilation excluded where the sampler can tell.
    sampler
        Which sampler produced the samples.
    log_evidence
        log Z where the method gives it, else NaN: a density of the data, normalised over the noise model, so that fits
        of the same data under different models can be compared.
    evidence_spread
        ln Z of the best independent start over that of the second best; a posterior that only one start found is not
        converged.
    engine_dlnl
        Standard deviation over draws of the approximate minus the exact ln L, nats; 0 for the exact likelihood, NaN
        where nothing was compared. Above a limit it decides about the STATUS.
    vdisp_fixed
        Velocity dispersion at which the fit held it, km/s; NaN where it was a parameter, or there was no spectrum.
    """

    rhat: dict[str, float] = field(default_factory=dict)
    ess_bulk: dict[str, float] = field(default_factory=dict)
    ess_tail: dict[str, float] = field(default_factory=dict)
    n_eval: int = 0
    n_divergent: int = 0
    runtime_s: float = float("nan")
    sampler: str = ""
    log_evidence: float = float("nan")
    engine_dlnl: float = float("nan")
    evidence_spread: float = float("nan")
    vdisp_fixed: float = float("nan")

    @property
    def rhat_max(self) -> float:
        """Largest R-hat, infinite where a chain is stuck; NaN when none could be computed."""
        values = [v for v in self.rhat.values() if not np.isnan(v)]
        return max(values) if values else float("nan")

    @property
    def ess_min(self) -> float:
        """Smallest bulk or tail effective sample size; NaN when none could be computed."""
        values = [v for v in (*self.ess_bulk.values(), *self.ess_tail.values()) if np.isfinite(v)]
        return min(values) if values else float("nan")


@dataclass(frozen=True, eq=False)
class Posterior:
    """Posterior of one galaxy.

    Attributes
    ----------
    targetid, redshift
        Which galaxy.
    status, message
        Outcome; `message` says why when there are no samples.
    parameters
        What the last axis of `samples` and `best_fit` holds: the model's parameters, then the observation's.
    properties
        Descriptions of the derived properties.
    samples
        ``(nsample, size)`` equally weighted, thinned draws; NaN for a parameter that the draw's family of histories
        lacks, where several were averaged.
    log_prob
        ``(nsample,)`` log posterior density of each draw: likelihood, a density of the data, times prior in theta up to
        the prior's constant.
    derived
        ``(nsample,)`` per derived property.
    best_fit
        ``(size,)`` draw of highest posterior density found.
    best_fit_derived
        Derived properties there.
    chi2_spec, chi2_phot, dof_spec, dof_phot
        chi^2 of the best fit and the number of pixels and bands in it.
    prior_edge
        Per coordinate of the prior's unit cube: fraction of draws that pile up within 1 % of the prior's probability
        of an edge (`provabgs.inference.prior_edge`).
    quality
        How well the data are described (`provabgs.inference.quality`).
    measured_quantities, measured
        Descriptions of what was measured after the fit (`provabgs.inference.measured`), and its numbers by name, one
        for each suffix of the quantity's columns. No draws are kept of these.
    seed, config, versions, data_hash
        What a rerun needs to give the same samples.
    """

    targetid: int
    redshift: float
    status: Status
    message: str = ""
    parameters: ParameterSet = PARAMETERS
    properties: tuple[DerivedProperty, ...] = PROPERTIES
    samples: FloatArray = field(default_factory=lambda: np.empty((0, PARAMETERS.size)))
    log_prob: FloatArray = field(default_factory=lambda: np.empty(0))
    derived: dict[str, FloatArray] = field(default_factory=lambda: {p.name: np.empty(0) for p in PROPERTIES})
    best_fit: FloatArray = field(default_factory=lambda: np.full(PARAMETERS.size, np.nan))
    best_fit_derived: dict[str, float] = field(default_factory=dict)
    diagnostics: Diagnostics = field(default_factory=Diagnostics)
    chi2_spec: float = float("nan")
    chi2_phot: float = float("nan")
    dof_spec: int = 0
    dof_phot: int = 0
    prior_edge: dict[str, float] = field(default_factory=dict)
    quality: Quality = field(default_factory=Quality)
    measured_quantities: tuple[Measured, ...] = ()
    measured: dict[str, FloatArray] = field(default_factory=dict)
    ra: float = float("nan")
    dec: float = float("nan")
    zerr: float = float("nan")
    meta: dict[str, Any] = field(default_factory=dict)
    seed: int = 0
    config: str = "{}"
    versions: dict[str, str] = field(default_factory=dict)
    data_hash: str = ""

    @classmethod
    def without_samples(
        cls,
        status: Status,
        message: str,
        config: FitConfig,
        seed: int,
        *,
        targetid: int,
        redshift: float = float("nan"),
        ra: float = float("nan"),
        dec: float = float("nan"),
        zerr: float = float("nan"),
        meta: dict[str, Any] | None = None,
        data_hash: str = "",
    ) -> Posterior:
        """The posterior of a galaxy that could not be fitted; it says by what configuration it was not.

        Parameters
        ----------
        status, message
            Why there are no samples.
        config, seed
            Of the fit that was asked for.
        targetid, redshift, ra, dec, zerr, meta, data_hash
            What is known of the galaxy (degrees for `ra` and `dec`); `identity_of` gives all of it for one whose data
            were read.

        Returns
        -------
        Posterior
            With no draws and a STATUS that says why.
        """
        return cls(
            targetid=targetid,
            redshift=redshift,
            status=status,
            message=message,
            ra=ra,
            dec=dec,
            zerr=zerr,
            meta=meta or {},
            seed=seed,
            config=config.model_dump_json(),
            versions=versions(),
            data_hash=data_hash,
        )

    def __getitem__(self, name: str) -> FloatArray:
        """Draws of one parameter or derived property by name."""
        if name in self.derived:
            return self.derived[name]
        if name in self.parameters:
            return self.samples[:, self.parameters.index(name)]
        known = (*self.parameters.names, *self.derived)
        raise KeyError(f"no parameter or derived property {name!r}{suggestion(name, known)}")

    def quantity(self, name: str) -> Quantity:
        """Column, label, unit and description of one parameter or derived property."""
        for quantity in self.quantities:
            if quantity.name == name:
                return quantity
        known = tuple(q.name for q in self.quantities)
        raise KeyError(f"no parameter or derived property {name!r}{suggestion(name, known)}")

    @property
    def quantities(self) -> tuple[Quantity, ...]:
        """Parameters, then derived properties."""
        return (*self.parameters, *self.properties)

    @property
    def best(self) -> dict[str, float]:
        """Parameters and derived properties at the best fit, by name."""
        return dict(zip(self.parameters.names, self.best_fit.tolist(), strict=True)) | self.best_fit_derived

    def quantiles(self, name: str, q: tuple[float, ...] = (0.16, 0.5, 0.84)) -> FloatArray:
        """Quantiles of one parameter or derived property.

        Parameters
        ----------
        name
            Parameter or property.
        q
            Probabilities.

        Returns
        -------
        FloatArray
            ``(len(q),)`` in the quantity's unit, over the draws that have it: a family of histories may lack a
            parameter. NaN when there are none.
        """
        draws = self[name]
        draws = draws[~np.isnan(draws)]
        return np.quantile(draws, q) if draws.size else np.full(len(q), np.nan)

    def _repr_html_(self) -> str:
        """What a notebook shows."""
        from provabgs.inference.notebook import posterior_html

        return posterior_html(self)

    def config_dict(self) -> dict[str, Any]:
        """The fit configuration as a dictionary."""
        return dict(json.loads(self.config))


def identity_of(observation: Observation) -> dict[str, Any]:
    """Fields of a `Posterior` that say which galaxy it is of, and of which data."""
    given = {} if np.isnan(observation.vdisp_kms) else {"VDISP_GIVEN": observation.vdisp_kms}
    return {
        "targetid": observation.targetid,
        "redshift": observation.redshift,
        "ra": observation.ra,
        "dec": observation.dec,
        "zerr": observation.zerr,
        "meta": {**observation.meta, **given},
        "data_hash": observation.digest(),
    }
