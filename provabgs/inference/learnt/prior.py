"""A learnt population prior, relative to the prior of the fits that it was learnt from, and its file.

The catalog's galaxies were split into two halves by a hash of their TARGETID, and a density was learnt from each. A
galaxy's prior is the density of the *other* half, so that no galaxy is part of its own prior. Each density is the mean
of several, learnt from bootstraps of the half's galaxies: their scatter is the uncertainty of the prior.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property, lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike

from provabgs.core.arrays import BoolArray, FloatArray, IntArray
from provabgs.core.atomic import atomic_path
from provabgs.core.errors import ConfigError, DataFileError, InputError
from provabgs.core.hdf5 import create, reading
from provabgs.inference.learnt.coordinates import Coordinates
from provabgs.inference.learnt.mixture import Mixture

if TYPE_CHECKING:
    from provabgs.inference.config import FitConfig

FORMAT = "provabgs-learnt-prior-1"
BACKGROUND = 0.01
"""Share of the inference prior in every learnt density: no galaxy is excluded for being unlike the others."""
LEAST_EFFECTIVE = 50.0
"""Effective draws below which a galaxy must be fitted again under the prior."""
MARGIN = 0.05
"""Redshifts this far outside those learnt from get the density at the nearest one; farther out it is refused."""


def half_of(targetid: ArrayLike) -> IntArray:
    """Which half, 0 or 1, a galaxy belongs to: a hash of its TARGETID (SplitMix64), so that neighbours separate."""
    with np.errstate(over="ignore"):
        x = np.asarray(targetid, dtype=np.int64).view(np.uint64) + np.uint64(0x9E3779B97F4A7C15)
        x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return ((x ^ (x >> np.uint64(31))) & np.uint64(1)).astype(np.int64)


def meaning_of(config: FitConfig) -> dict[str, Any]:
    """Parts of a configuration that a learnt prior must share with the fits that it is used for."""
    return {
        "model.history": [config.model.history, dict(config.model.history_options)],
        "model": json.loads(config.model.model_dump_json(exclude={"history", "history_options", "properties"})),
        "cosmology": config.observing.cosmology,
        "prior_bounds": {k: list(v) for k, v in sorted(config.prior_bounds.items())},
        **({"dust_prior": config.dust_prior} if config.dust_prior != "uniform" else {}),
        "prior_correction": config.prior_correction and config.prior_correction.model_dump(mode="json"),
    }


@dataclass(frozen=True, eq=False)
class LearntPrior:
    """Density of some properties given redshift, and that of the inference prior.

    Attributes
    ----------
    coordinates
        Map from properties to coordinates.
    base
        Density of the inference prior in coordinates.
    halves
        Members learnt from half 0, and from half 1.
    centre, scale
        The scaled redshift is ``(z - centre) / scale``.
    z_range
        Redshifts of the galaxies learnt from.
    meaning
        Of the fits' configuration, see `meaning_of`.
    provenance
        What it was learnt from: texts and numbers.
    """

    coordinates: Coordinates
    base: Mixture
    halves: tuple[tuple[Mixture, ...], tuple[Mixture, ...]]
    centre: float
    scale: float
    z_range: tuple[float, float]
    meaning: Mapping[str, Any]
    provenance: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        d = len(self.coordinates.names) + 1
        if not all(self.halves) or any(m.mean.shape[1] != d for m in (self.base, *self.halves[0], *self.halves[1])):
            raise InputError(f"a learnt prior needs members of {d} dimensions in both halves")
        if not (self.scale > 0 and 0 < self.z_range[0] <= self.z_range[1]):
            raise InputError(f"redshifts {self.z_range} of scale {self.scale:g} are none of a learnt prior")

    @property
    def names(self) -> tuple[str, ...]:
        """Sample columns that it is a density of."""
        return self.coordinates.names

    def scaled(self, redshift: ArrayLike) -> FloatArray:
        """Redshifts as the mixtures know them, those outside of `z_range` moved to its edge."""
        return (np.clip(np.asarray(redshift, dtype=np.float64), *self.z_range) - self.centre) / self.scale

    def covers(self, redshift: ArrayLike) -> Any:
        """Whether redshifts are those learnt from, give or take `MARGIN`."""
        z = np.asarray(redshift, dtype=np.float64)
        return (z > self.z_range[0] - MARGIN) & (z < self.z_range[1] + MARGIN)

    def points(self, values: ArrayLike, redshift: ArrayLike) -> FloatArray:
        """Coordinates and scaled redshift of draws.

        Parameters
        ----------
        values
            ``(n, S, d)`` properties in the order of `names`.
        redshift
            ``(n,)``.

        Returns
        -------
        numpy.ndarray
            ``(n, S, d + 1)``.
        """
        u = self.coordinates(values, redshift)
        z = np.broadcast_to(self.scaled(redshift)[:, None, None], (*u.shape[:2], 1))
        return np.concatenate([u, z], axis=-1)

    def log_ratio(self, values: ArrayLike, redshift: ArrayLike, targetid: ArrayLike) -> FloatArray:
        """Ln of learnt over inference prior, by each member of the half that a galaxy is not in.

        Parameters
        ----------
        values
            ``(n, S, d)`` draws in the order of `names`; NaN gives NaN.
        redshift, targetid
            ``(n,)`` of the galaxies.

        Returns
        -------
        numpy.ndarray
            ``(members, n, S)``; the prior is the mean over members, not of these logarithms (`mean_ratio`).
        """
        y, half = self.points(values, redshift), half_of(targetid)
        out = np.empty((len(self.halves[0]), *y.shape[:2]))
        for own in (0, 1):
            rows = np.flatnonzero(half == own)
            flat = y[rows].reshape(len(rows) * y.shape[1], y.shape[2])
            missing: BoolArray = np.any(np.isnan(flat), axis=1)
            flat = np.where(missing[:, None], 0.0, flat)
            base = self.base.log_density(flat)
            for b, member in enumerate(self.halves[1 - own]):
                ratio = np.where(missing, np.nan, with_background(member.log_density(flat) - base))
                out[b, rows] = ratio.reshape(len(rows), y.shape[1])
        return out

    def check(self, config: FitConfig) -> None:
        """Refuse a configuration of fits that the prior is not made for.

        Raises
        ------
        ConfigError
            Names what differs: the history, the model, the cosmology, the prior that it is relative to.
        """
        if config.prior is not None and config.prior.sha256 != self.sha256:
            raise ConfigError("these fits have another learnt prior already; use those under the inference prior")
        found = json.loads(json.dumps(meaning_of(config)))
        for key, own in json.loads(json.dumps(self.meaning)).items():
            if found.get(key) != own:
                raise ConfigError(
                    f"the learnt prior is of another {key} ({_short(own)}) than the fits ({_short(found.get(key))}); "
                    "learn one from fits of the same configuration"
                )

    @cached_property
    def sha256(self) -> str:
        """Of all numbers and of their meaning."""
        h = hashlib.sha256(json.dumps([self._texts(), self.centre, self.scale, *self.z_range]).encode())
        for name, array in self._arrays().items():
            h.update(f"{name}{array.shape}".encode() + np.ascontiguousarray(array, dtype="<f8").tobytes())
        return h.hexdigest()

    def _texts(self) -> dict[str, str]:
        texts = {"names": self.names, "meaning": self.meaning, "provenance": self.provenance}
        return {k: json.dumps(v, sort_keys=True) for k, v in texts.items()} | {"cosmology": self.coordinates.cosmology}

    def _arrays(self) -> dict[str, FloatArray]:
        out = {"coordinates/redshifts": self.coordinates.redshifts, "coordinates/tables": self.coordinates.tables}
        groups = {"base": (self.base,), "half0": self.halves[0], "half1": self.halves[1]}
        for name, members in groups.items():
            for key in ("log_weight", "mean", "covariance"):
                out[f"{name}/{key}"] = np.stack([getattr(m, key) for m in members])
        return out

    def save(self, path: str | Path) -> None:
        """Write it as HDF5."""
        with atomic_path(path) as temporary, create(temporary) as f:
            f.attrs["format"] = FORMAT
            f.attrs["sha256"] = self.sha256
            f.attrs["centre"], f.attrs["scale"] = self.centre, self.scale
            f.attrs["z_low"], f.attrs["z_high"] = self.z_range
            for name, text in self._texts().items():
                f.attrs[name] = text
            for name, array in self._arrays().items():
                f.create_dataset(name, data=array, fletcher32=True)


def with_background(log_ratio: FloatArray) -> FloatArray:
    """Ln ratio of a density with a share `BACKGROUND` of the inference prior in it."""
    return np.logaddexp(np.log1p(-BACKGROUND) + log_ratio, np.log(BACKGROUND))


def load_prior(path: str | Path) -> LearntPrior:
    """Read what `LearntPrior.save` wrote.

    Raises
    ------
    DataFileError
        When the file is missing, damaged, or not a learnt prior.
    """
    path = Path(path)
    stat = path.stat() if path.is_file() else None
    return _load(path, (stat.st_mtime_ns, stat.st_size, stat.st_ino) if stat else ())


@lru_cache(maxsize=4)
def _load(path: Path, _state: tuple[int, ...]) -> LearntPrior:
    cure = "`provabgs population learn` makes one"
    with reading(path, FORMAT, "a learnt prior", cure) as c:
        names = tuple(str(n) for n in json.loads(c.text("names")))
        groups = [
            tuple(Mixture(*(np.array(c.numbers(f"{g}/{k}")[b], dtype=np.float64) for k in _PARTS))
                  for b in range(len(c.numbers(f"{g}/log_weight"))))
            for g in ("base", "half0", "half1")
        ]  # fmt: skip
        tables = (np.array(c.numbers(f"coordinates/{k}"), dtype=np.float64) for k in ("redshifts", "tables"))
        prior = LearntPrior(
            Coordinates(names, c.text("cosmology"), *tables),
            groups[0][0],
            (groups[1], groups[2]),
            c.number("centre"),
            c.number("scale"),
            (c.number("z_low"), c.number("z_high")),
            json.loads(c.text("meaning")),
            json.loads(c.text("provenance")),
        )
        if prior.sha256 != c.text("sha256"):
            raise DataFileError(f"{path}: content does not match its recorded SHA-256; damaged, copy it again")
    return prior


_PARTS = ("log_weight", "mean", "covariance")


def _short(value: Any) -> str:
    text = json.dumps(value)
    return text if len(text) <= 120 else f"{text[:120]} ..."
