"""Reduction of one galaxy's likelihood to small matrices.

The spectrum is cut into wavelength intervals (`intervals`). Inside one, the smooth attenuation is the cubic through
its values at four Chebyshev nodes, so that the model's pixels are linear in products of attenuation and basis
coefficient: ``m_p = sum_j a(lam_j) l_j(lam) B c``. Both the coefficients (`c`, over the whole spectrum) and the data
directions (rows, per interval) are cut to what matters in this galaxy's noise units, to the tolerance asked for. What
is left of chi^2 is ``const + sum |e - U a c|^2``, a sum of squares of residuals: safe in single precision, no Gram
matrix is ever subtracted.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from provabgs._jax import jax, jnp
from provabgs.errors import InputError
from provabgs.inference.compressed.basis import MergedNodes, Population, SpectralBasis
from provabgs.inference.compressed.intervals import (
    N_INTERVALS,
    N_NODES,
    N_REGULAR,
    Intervals,
    bridge_functions,
    lagrange,
    make_intervals,
)
from provabgs.inference.compressed.photometry import PhotometryReduction, flat_single, reduce_photometry
from provabgs.observe.linespread import BandedOperator
from provabgs.observe.projection import Projection, SpectrumProjection
from provabgs.sps.dust import DustCurves, dust_curves, transmission
from provabgs.sps.histories import HistoryTables
from provabgs.sps.model import SPSModel

FloatArray = NDArray[np.float64]

REFERENCE_LOG_MASS = 10.0
"""Amplitudes are relative to this mass, to keep numbers of order one."""
RANKS_OLD = (24, 40, 64, 96, 128)
RANKS_YOUNG = (12, 20, 32, 40, 40)
ROWS = (16, 32, 48, 64, 96)
"""Sizes that a reduction is rounded up to, so that few functions need compiling."""
SMOOTHING = 51


class SpectrumReduction(NamedTuple):
    """Arrays of the spectrum's part; the leading row axis holds data directions, then calibration templates."""

    young: jax.Array
    """``(rank_young, K * J * rows)`` prediction of rows per unit coefficient and attenuation node."""
    old: jax.Array
    """``(rank_old, K * J * rows)``."""
    data: jax.Array
    """``(K, rows)`` data in those directions."""
    constant: jax.Array
    """chi^2 outside all directions."""
    template_rows: jax.Array
    """``(K, ntemplate)`` the same for the templates' rows, summed over intervals when used."""
    template_young: jax.Array
    """``(rank_young, K * J * ntemplate)``."""
    template_old: jax.Array
    """``(rank_old, K * J * ntemplate)``."""
    template_cov: jax.Array
    """``(ntemplate, ntemplate)``."""
    select_young: jax.Array
    """``(nmet * nnode, rank_young)`` SSP weights to coefficients."""
    select_old: jax.Array
    curves: DustCurves
    """At the ``K * J`` nodes."""


class Reduction(NamedTuple):
    """Everything that ln L of one galaxy needs; a pytree of equal shapes for galaxies of one size class."""

    tables: HistoryTables
    """On the merged nodes, single precision."""
    spectrum: SpectrumReduction | None
    photometry: PhotometryReduction | None


@dataclass(frozen=True)
class Size:
    """Size class of a reduction."""

    rank_young: int
    rank_old: int
    rows: int


def reduce_projection(
    projection: Projection, model: SPSModel, basis: SpectralBasis, tolerance: float = 0.02, size: Size | None = None
) -> Reduction:
    """Reduce one galaxy.

    Parameters
    ----------
    projection
        The galaxy, from `provabgs.observe.projection.project`.
    model, basis
        The SPS model and its basis.
    tolerance
        Root of the summed squared error of a typical model spectrum, in sigmas of the data (0.02: about 0.02 in ln L
        one sigma off the maximum).
    size
        Size class to use in place of what the tolerance asks for.

    Raises
    ------
    InputError
        When pixels need rest wavelengths beyond the basis; the exact engine still works.
    """
    nodes = MergedNodes.of(model)
    scale = projection.flux_factor * 10.0**REFERENCE_LOG_MASS
    spectrum = photometry = None
    if projection.spectrum is not None:
        spectrum = _reduce_spectrum(projection, projection.spectrum, model, basis, scale, tolerance, size)
    if projection.photometry is not None:
        photometry = reduce_photometry(projection, projection.photometry, model, nodes, scale)
    tables = jax.tree.map(lambda x: jnp.asarray(x, jnp.float32), nodes.tables(model.tables(projection.t_age)))
    return Reduction(tables, spectrum, photometry)


# ---- spectrum ----------------------------------------------------------------------------------------------------


def _reduce_spectrum(
    projection: Projection,
    data: SpectrumProjection,
    model: SPSModel,
    basis: SpectralBasis,
    scale: float,
    tolerance: float,
    size: Size | None,
) -> SpectrumReduction:
    order = np.argsort(data.wave, kind="stable")
    wave, root = data.wave[order], np.sqrt(data.ivar[order])
    signal = root * data.flux[order]
    level = _level(data.flux[order], data.ivar[order])
    total_snr = float(np.sqrt(np.sum((root * level) ** 2)))
    populations = [_significant(p, tolerance / max(total_snr, 1.0)) for p in (basis.young, basis.old)]
    pixels, moments = _project_basis(projection, data, basis, order, wave, populations, scale)

    kept = []
    for values, population in zip(pixels, populations, strict=True):
        kept.append(_directions(values * root[:, None], population, root * level, tolerance / 2))
    if size is None:
        size = _round_up([vectors.shape[1] for vectors in kept])
    kept = [_resize(v, n) for v, n in zip(kept, (size.rank_young, size.rank_old), strict=True)]
    parts, select, draws = [], [], []
    for population, values, moment, vectors in zip(populations, pixels, moments, kept, strict=True):
        out = population.scatter[:, None] * vectors
        parts.append(((values * root[:, None]) @ out, (moment * root[:, None]) @ out))
        back = vectors / population.scatter[:, None]
        select.append(population.coefficients @ back)
        draws.append(population.draws @ back)

    intervals = make_intervals(wave, projection.redshift)
    curves = dust_curves(intervals.nodes / (1 + projection.redshift), model.birth_cloud_slope)
    attenuation = _draw_attenuation(curves, basis.draws_dust)
    templates = data.templates[order]
    bridge = _bridge_matrices(projection, data, basis, order, intervals, populations, kept, scale)
    rows, blocks = [], []
    for k in range(N_INTERVALS):
        mine = np.flatnonzero(intervals.of_pixel == k)
        if k < N_REGULAR:
            block = _interval_matrices(wave[mine], intervals.nodes[k], parts, mine)
        else:
            block = [matrix * root[mine, None] for matrix in bridge]
        draw = _draw_rows(block, attenuation, draws, k)
        rows.append(_row_directions(draw, (root * level)[mine], tolerance / (2 * np.sqrt(N_INTERVALS))))
        blocks.append((mine, block))
    n_rows = size.rows or _next(max(r.shape[1] for r in rows), ROWS)
    return _pack(blocks, rows, n_rows, signal, root, templates, select, curves)


def _pack(
    blocks: list[tuple[NDArray[np.int64], list[FloatArray]]],
    rows: list[FloatArray],
    n_rows: int,
    signal: FloatArray,
    root: FloatArray,
    templates: FloatArray,
    select: list[FloatArray],
    curves: DustCurves,
) -> SpectrumReduction:
    """Rotate every interval into its directions and lay the matrices out for one matrix product per population."""
    n_template = templates.shape[1]
    constant = float(signal @ signal)
    data = np.zeros((N_INTERVALS, n_rows))
    template_data = np.zeros((N_INTERVALS, n_template))
    shape = [block.shape[2] for block in blocks[0][1]]
    out = [np.zeros((r, N_INTERVALS, N_NODES, n_rows)) for r in shape]
    out_template = [np.zeros((r, N_INTERVALS, N_NODES, n_template)) for r in shape]
    for k, ((mine, block), direction) in enumerate(zip(blocks, rows, strict=True)):
        u = _resize(direction, n_rows)
        n = templates[mine] * root[mine, None]
        data[k] = u.T @ signal[mine]
        template_data[k] = n.T @ signal[mine]
        constant -= float(data[k] @ data[k])
        for part, matrix in enumerate(block):
            out[part][:, k] = np.einsum("pq,jpr->rjq", u, matrix)
            out_template[part][:, k] = np.einsum("pt,jpr->rjt", n, matrix)
    weighted = templates * root[:, None]
    cov = np.linalg.inv(np.eye(n_template) + weighted.T @ weighted)
    single = [jnp.asarray(a.reshape(len(a), -1), jnp.float32) for a in (*out, *out_template, *select)]
    return SpectrumReduction(
        young=single[0],
        old=single[1],
        data=jnp.asarray(data, jnp.float32),
        constant=jnp.asarray(constant, jnp.float32),
        template_rows=jnp.asarray(template_data, jnp.float32),
        template_young=single[2],
        template_old=single[3],
        template_cov=jnp.asarray(cov, jnp.float32),
        select_young=single[4],
        select_old=single[5],
        curves=flat_single(curves),
    )


def _level(flux: FloatArray, ivar: FloatArray) -> FloatArray:
    """Size of the signal at each pixel: the smoothed flux, or a tenth of the noise where that is larger."""
    weighted = ndimage.uniform_filter1d(flux * ivar, SMOOTHING, mode="nearest")
    weight = ndimage.uniform_filter1d(ivar, SMOOTHING, mode="nearest")
    return np.maximum(np.abs(weighted / weight), 0.1 / np.sqrt(ivar))


def _significant(population: Population, relative: float) -> Population:
    """Cut components whose rms relative to the whole spectrum is far below `relative`."""
    share = population.scatter / population.scatter[0]
    n = max(8, int(np.count_nonzero(share > relative / 4)))
    return Population(
        population.basis[:n], population.coefficients[:, :n], population.scatter[:n], population.draws[:, :n]
    )


def _project_basis(
    projection: Projection,
    data: SpectrumProjection,
    basis: SpectralBasis,
    order: NDArray[np.int64],
    wave: FloatArray,
    populations: list[Population],
    scale: float,
) -> tuple[list[FloatArray], list[FloatArray]]:
    """Basis in pixels, ``P B``, and its first moment about the pixel, ``P (lam - lam_p) B``; ``(npix, rank)`` each."""
    columns = data.operator.indices
    last = basis.first + basis.wave.size
    if columns.min() < basis.first or columns.max() >= last:
        z = 1 + projection.redshift
        raise InputError(
            f"pixels at {wave[0] / z:.0f}-{wave[-1] / z:.0f} A rest frame lie beyond the compressed engine's "
            f"{basis.wave[0]:.0f}-{basis.wave[-1]:.0f} A; cut the spectrum or use engine = 'exact'"
        )
    operator = data.operator[order][:, basis.first : last]
    model_wave = basis.wave * (1 + projection.redshift)
    stacked = np.concatenate([p.basis for p in populations]) * scale
    banded = BandedOperator.from_sparse(operator)
    centre = model_wave.mean()
    both = np.concatenate([stacked, stacked * (model_wave - centre)]).astype(np.float32)
    out = np.asarray(_apply_banded(banded, jnp.asarray(both)))[:, : wave.size].T.astype(np.float64)
    n = len(stacked)
    values, moment = out[:, :n], out[:, n:] - (wave - centre)[:, None] * out[:, :n]
    cut = len(populations[0].basis)
    return [values[:, :cut], values[:, cut:]], [moment[:, :cut], moment[:, cut:]]


@jax.jit
def _apply_banded(operator: BandedOperator, spectra: jax.Array) -> jax.Array:
    return operator.apply(spectra)


def _directions(weighted: FloatArray, population: Population, level: FloatArray, tolerance: float) -> FloatArray:
    """Orthonormal combinations of scaled components (coefficient over scatter) that matter, ``(ncomponent, rank)``.

    Composites vary by ``scatter`` along each component; scaled so that the first component matches the signal, their
    covariance in pixels is diagonalised and cut where the sum of what is left falls below `tolerance` squared.
    """
    reference = np.abs(weighted[:, 0] * population.scatter[0])
    x = weighted * population.scatter * (level / np.maximum(reference, 1e-30))[:, None]
    values, vectors = np.linalg.eigh(x.T @ x)
    values, vectors = np.maximum(values[::-1], 0.0), vectors[:, ::-1]
    left = np.cumsum(values[::-1])[::-1]
    rank = max(1, int(np.count_nonzero(left > tolerance**2)))
    return vectors[:, :rank]


def _round_up(ranks: list[int]) -> Size:
    """Smallest size class that holds both ranks; rows are settled later (0)."""
    return Size(_next(ranks[0], RANKS_YOUNG), _next(ranks[1], RANKS_OLD), 0)


def _next(n: int, sizes: tuple[int, ...]) -> int:
    return next((s for s in sizes if s >= n), sizes[-1])


def _resize(matrix: FloatArray, n: int) -> FloatArray:
    """First `n` columns, or padded with zero columns."""
    return matrix[:, :n] if matrix.shape[1] >= n else np.pad(matrix, ((0, 0), (0, n - matrix.shape[1])))


def _interval_matrices(
    wave: FloatArray, nodes: FloatArray, parts: list[tuple[FloatArray, FloatArray]], mine: NDArray[np.int64]
) -> list[FloatArray]:
    """Weighted pixels per attenuation node and component, ``(J, npix, rank)`` for young and old."""
    value, slope = lagrange(wave, nodes)
    return [value.T[:, :, None] * pixels[mine] + slope.T[:, :, None] * moments[mine] for pixels, moments in parts]


def _bridge_matrices(
    projection: Projection,
    data: SpectrumProjection,
    basis: SpectralBasis,
    order: NDArray[np.int64],
    intervals: Intervals,
    populations: list[Population],
    kept: list[FloatArray],
    scale: float,
) -> list[FloatArray]:
    """Pixels across the attenuation's step per node and component, ``(J, npix, rank)``, without expansion."""
    mine = order[intervals.of_pixel == N_REGULAR]
    operator = data.operator[mine][:, basis.first : basis.first + basis.wave.size]
    used = np.unique(operator.indices)
    functions = bridge_functions(basis.wave * (1 + projection.redshift), intervals)[:, used]
    dense = operator[:, used].toarray()
    out = []
    for population, vectors in zip(populations, kept, strict=True):
        spectra = (population.basis[:, used].T * population.scatter) @ vectors * scale
        out.append(np.einsum("pw,jw,wr->jpr", dense, functions, spectra, optimize=True))
    return out


def _draw_attenuation(curves: DustCurves, dust: FloatArray) -> tuple[FloatArray, FloatArray]:
    old, young = transmission(
        jax.tree.map(lambda c: c.reshape(-1), curves), *(jnp.asarray(dust[:, i]) for i in range(3))
    )
    shape = (-1, N_INTERVALS, N_NODES)
    return np.asarray(young).reshape(shape), np.asarray(old).reshape(shape)


def _draw_rows(
    block: list[FloatArray], attenuation: tuple[FloatArray, FloatArray], draws: list[FloatArray], k: int
) -> FloatArray:
    """Weighted pixels of the stored composites in interval `k`, ``(npix, ndraw)``."""
    total = np.zeros((block[0].shape[1], len(draws[0])))
    for matrix, a, c in zip(block, attenuation, draws, strict=True):
        total += np.einsum("jpd,dj->pd", matrix @ c.T, a[:, k])
    return total


def _row_directions(draws: FloatArray, level: FloatArray, tolerance: float) -> FloatArray:
    """Orthonormal directions in an interval's pixels, ``(npix, q)``, that composites as bright as the data need."""
    if draws.shape[0] == 0:
        return np.zeros((0, 1))
    size = np.sqrt(np.sum(draws**2, axis=0))
    x = draws[:, size > 0] * (np.sqrt(np.sum(level**2)) / size[size > 0])
    values, vectors = np.linalg.eigh(x.T @ x / x.shape[1])
    values, vectors = np.maximum(values[::-1], 0.0), vectors[:, ::-1]
    left = np.cumsum(values[::-1])[::-1]
    q = max(1, min(int(np.count_nonzero(left > tolerance**2)), min(x.shape), ROWS[-1]))
    u, _ = np.linalg.qr(x @ vectors[:, :q])
    return u
