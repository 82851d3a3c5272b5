"""Low-rank basis of an SSP library, learnt from composite spectra over the prior, for spectra in the optical.

SSPs of one population (young or old) span a space whose important directions are those that composite populations
populate. `build_basis` draws composites (prior star-formation and metallicity histories, pure bursts among them),
scales each to its own mean and each wavelength to the typical spectrum, so that errors are relative, and takes
principal components. Per galaxy the basis is cut further, in that galaxy's noise units (`reduction`).
"""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

import h5py
import numpy as np
from numpy.typing import NDArray

from provabgs._jax import jax, jnp
from provabgs.errors import DataFileError
from provabgs.inference.priors import N_LATENT, Prior, theta_from_unit
from provabgs.sps.histories import HistoryTables
from provabgs.sps.model import NodeGrid, SPSModel
from provabgs.sps.parameters import INDEX

FloatArray = NDArray[np.float64]

FORMAT = "provabgs-basis-1"
WAVE_RANGE = (2005.0, 11000.0)
"""Rest wavelengths that the spectral basis covers, Angstrom."""
RANK_OLD, RANK_YOUNG = 128, 40
N_TRAIN = 6000
N_DRAWS = 256
"""Composite draws kept with the basis, from which galaxies choose their directions."""
BURST_MIN_GYR = 0.01
"""Youngest burst; SSP nodes below it carry smooth star formation only and are merged into one."""
SEED = 20230202


class Population(NamedTuple):
    """Basis of one population (young or old)."""

    basis: FloatArray
    """``(rank, nwave)`` spectra; Lsun/Angstrom per unit coefficient."""
    coefficients: FloatArray
    """``(nmet * nnode, rank)`` of each SSP; a composite's coefficients are its weights times this matrix."""
    scatter: FloatArray
    """``(rank,)`` rms coefficient of composites of unit mean relative flux."""
    draws: FloatArray
    """``(N_DRAWS, rank)`` coefficients of a few composites, per Msun formed."""


class SpectralBasis(NamedTuple):
    """Low-rank form of a library for one model convention."""

    wave: FloatArray
    """``(nwave,)`` rest Angstrom, a contiguous part of the library's axis."""
    first: int
    """Index of ``wave[0]`` on the library's axis."""
    young: Population
    old: Population
    draws_dust: FloatArray
    """``(N_DRAWS, 3)`` tau_bc, tau_ism, n_dust of the composites whose coefficients the populations keep."""


class MergedNodes(NamedTuple):
    """The library's age nodes with the youngest merged into one: those that no burst can reach.

    Over these ages (below 10 Myr) the published SFH bases are constant to 1e-4 and Z(t) to 3e-4, so that one profile
    and one metallicity serve all.
    """

    n_merged: int
    """Number of nodes merged."""
    profile: FloatArray
    """``(n_merged,)`` share of each merged node in the mass that smooth star formation puts on them; sums to 1."""
    grid: NodeGrid
    n_young: int
    """Young nodes left; the others are old."""

    @classmethod
    def of(cls, model: SPSModel) -> MergedNodes:
        """Merge the nodes of a model."""
        n = int(np.searchsorted(model.library.age_gyr, BURST_MIN_GYR * (1 + 1e-6), side="right")) - 1
        mass = model.tables(13.0).mass[:, :n].sum(axis=0)
        profile = mass / mass.sum()
        typical = int(np.argmax(profile))
        zh = np.concatenate([model.grid.zh[:, typical, None], model.grid.zh[:, n:]], axis=1)
        return cls(n, profile, NodeGrid(model.grid.log_age[n - 1 :], zh), model.young_nodes.stop - n + 1)

    def tables(self, tables: HistoryTables) -> HistoryTables:
        """History tables on the merged nodes."""
        first = tables.mass[..., : self.n_merged].sum(axis=-1, keepdims=True)
        return tables._replace(mass=np.concatenate([first, tables.mass[..., self.n_merged :]], axis=-1))

    def spectra(self, spectra: NDArray[np.float32]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Young and old SSPs, each ``(nmet * nnode, nwave)``, of a library's ``(nmet, nage, nwave)``."""
        first = np.einsum("j,kjw->kw", self.profile, spectra[:, : self.n_merged])[:, None]
        merged = np.concatenate([first.astype(spectra.dtype), spectra[:, self.n_merged :]], axis=1)
        young, old = merged[:, : self.n_young], merged[:, self.n_young :]
        return young.reshape(-1, spectra.shape[-1]), old.reshape(-1, spectra.shape[-1])

    def weights(self, model: SPSModel, theta: jax.Array, tables: HistoryTables) -> tuple[jax.Array, jax.Array]:
        """Weights on `spectra`, each ``(batch, nmet * nnode)``; `tables` as merged by `tables`."""
        weights = model.weight_tensor(model.node_masses(theta, tables, self.grid))
        young, old = weights[:, :, : self.n_young], weights[:, :, self.n_young :]
        return young.reshape(len(theta), -1), old.reshape(len(theta), -1)


def draw_composites(n: int, seed: int) -> tuple[FloatArray, FloatArray]:
    """Parameters and ages of composites over the prior: a third without burst, a sixth pure bursts."""
    rng = np.random.default_rng(seed)
    theta = np.array(theta_from_unit(jnp.asarray(rng.random((n, N_LATENT))), Prior.create()))
    theta[: n // 3, INDEX["fburst"]] = 0.0
    theta[n // 3 : n // 2, INDEX["fburst"]] = 1.0
    t_age = rng.uniform(7.0, 13.75, n)
    theta[:, INDEX["tburst"]] = np.minimum(theta[:, INDEX["tburst"]], t_age)
    order = rng.permutation(n)
    return theta[order], t_age[order]


def build_basis(model: SPSModel, n_train: int = N_TRAIN) -> SpectralBasis:
    """Learn the basis of a model's library (a minute on one core for the default library)."""
    wave = model.library.wave
    inside = np.flatnonzero((wave >= WAVE_RANGE[0]) & (wave <= WAVE_RANGE[1]))
    window = slice(int(inside[0]), int(inside[-1]) + 1)
    nodes = MergedNodes.of(model)
    spectra = nodes.spectra(model.library.spectrum[:, :, window])
    theta, t_age = draw_composites(n_train, SEED)
    pieces = []
    for i in range(0, n_train, 500):
        tables = nodes.tables(model.tables(t_age[i : i + 500]))
        pieces.append([np.asarray(w) for w in nodes.weights(model, jnp.asarray(theta[i : i + 500]), tables)])
    weights = [np.concatenate(w) for w in zip(*pieces, strict=True)]
    young, old = (
        _principal_components(w, s, rank) for w, s, rank in zip(weights, spectra, (RANK_YOUNG, RANK_OLD), strict=True)
    )
    dust = theta[:N_DRAWS, [INDEX["tau_bc"], INDEX["tau_ism"], INDEX["n_dust"]]]
    return SpectralBasis(wave[window], window.start, young, old, dust)


def _principal_components(weights: FloatArray, ssps: NDArray[np.float32], rank: int) -> Population:
    composites = weights @ ssps.astype(np.float64)
    level = np.median(composites, axis=1)
    composites = composites[level > 0] / level[level > 0][:, None]
    scale = np.median(composites, axis=0)
    relative = composites / scale
    relative /= np.sqrt(np.mean(relative**2, axis=1))[:, None]
    # eigenvectors of the Gram matrix over wavelength: cheaper than an SVD, and 1e-8 is far below what is kept
    values, vectors = np.linalg.eigh(relative.T @ relative)
    v = vectors[:, ::-1][:, :rank].T
    rms = np.sqrt(np.maximum(values[::-1][:rank], 0.0) / len(relative))
    coefficients = (ssps / scale) @ v.T
    return Population(v * scale, coefficients, rms, weights[:N_DRAWS] @ coefficients)


def save_basis(basis: SpectralBasis, path: Path, model: SPSModel) -> None:
    """Write a basis as HDF5, tied to its library by digest."""
    with h5py.File(path, "w") as f:
        f.attrs["format"] = FORMAT
        f.attrs["library_sha256"] = model.library.digest()
        f.attrs["t_birth_cloud_gyr"] = model.t_birth_cloud
        f.attrs["description"] = "principal components of composite spectra over the prior, young and old populations"
        f.attrs["command"] = "python -m provabgs.data.build_basis -o data/basis_mist_miles_chabrier.h5"
        f.attrs["first"] = basis.first
        for name in ("wave", "draws_dust"):
            f.create_dataset(name, data=getattr(basis, name))
        for name in ("young", "old"):
            for field, value in getattr(basis, name)._asdict().items():
                data = np.asarray(value, dtype=np.float32)
                f.create_dataset(f"{name}/{field}", data=data, compression="gzip", shuffle=True)


def load_basis(path: Path, model: SPSModel) -> SpectralBasis | None:
    """Read a basis; None when it belongs to another library or birth-cloud age.

    Raises
    ------
    DataFileError
        When the file is not a basis.
    """
    try:
        with h5py.File(path, "r") as f:
            if f.attrs.get("format") != FORMAT:
                raise DataFileError(f"{path}: not a spectral basis of format {FORMAT!r}; rebuild it")
            if f.attrs["library_sha256"] != model.library.digest():
                return None
            if f.attrs["t_birth_cloud_gyr"] != model.t_birth_cloud:
                return None
            young, old = (
                Population(*(f[f"{name}/{field}"][:].astype(np.float64) for field in Population._fields))
                for name in ("young", "old")
            )
            return SpectralBasis(f["wave"][:], int(f.attrs["first"]), young, old, f["draws_dust"][:])
    except (OSError, KeyError) as err:
        raise DataFileError(f"{path}: cannot be read as a spectral basis ({err}); reinstall or rebuild it") from err


@lru_cache(maxsize=4)
def default_basis(model: SPSModel) -> SpectralBasis:
    """Basis of a model: the shipped one where it fits, else built now (once per process)."""
    from provabgs.data import data_path

    shipped = load_basis(data_path("basis_mist_miles_chabrier.h5"), model)
    return build_basis(model) if shipped is None else shipped
