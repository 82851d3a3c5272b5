"""Reduction of one galaxy's likelihood to two small matrices.

The model's attenuated spectrum follows from its values f at a few points (`points`), so its weighted pixels are
``E u(f)``: chi^2 is a quadratic form in as many numbers as there are points, whatever the number of pixels. The form
is diagonalised, cut to the directions that this galaxy's noise can see, and kept as a sum of squares of residuals,
``const + sum (data - rows f)^2``: safe in single precision, since no Gram matrix is ever subtracted at run time.
Calibration templates are marginalised here, at no later cost.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy import linalg, sparse

from provabgs._jax import jax, jnp
from provabgs.errors import InputError
from provabgs.inference.compressed.nodes import merged_nodes
from provabgs.inference.compressed.photometry import PhotometryReduction, flat_single, reduce_photometry
from provabgs.inference.compressed.points import N_HEAD, PointBasis, point_basis
from provabgs.observe.projection import Projection, SpectrumProjection
from provabgs.sps.dust import DustCurves, dust_curves
from provabgs.sps.histories import HistoryTables
from provabgs.sps.model import SPSModel

FloatArray = NDArray[np.float64]
SingleArray = NDArray[np.float32]

REFERENCE_LOG_MASS = 10.0
"""Amplitudes are relative to this mass, to keep numbers of order one."""
POINTS = (64, 96, 128, 160, 192, 224, 256)
"""Numbers of points: size classes, few enough that functions are compiled once."""
ROWS = (32, 64, 96, 128, 192, 256)
"""Numbers of rows, likewise."""
N_NEAREST = 16
"""Held-out composites, those most like the data, on which the error is measured."""
BLOCK = 64
TOLERANCE = 0.03
"""Default of `reduce_projection`: sigmas."""
REFUSE = 0.3
"""Error, in sigmas, beyond which a reduction is refused (about 0.5 in ln L at 30 nats from the maximum)."""


class SpectrumReduction(NamedTuple):
    """Arrays of the spectrum's part."""

    young: jax.Array
    """``(nmet * nyoung, npoint)`` SSPs at the points, Lsun/Angstrom."""
    old: jax.Array
    """``(nmet * nold, npoint)``."""
    curves: DustCurves
    """At the points."""
    rows: jax.Array
    """``(npoint, nrow)`` from the model at the points to whitened rows, in sigmas."""
    data: jax.Array
    """``(nrow,)`` data in the same rows."""
    constant: jax.Array
    """chi^2 outside the rows; float64."""
    error: jax.Array
    """Measured error, sigmas: root of the summed squared error over pixels of composites most like the data."""


class Reduction(NamedTuple):
    """Everything that ln L of one galaxy needs; a pytree of equal shapes for galaxies of one size class."""

    tables: HistoryTables
    """On the merged nodes, single precision."""
    spectrum: SpectrumReduction | None
    photometry: PhotometryReduction | None


class Size(NamedTuple):
    """Size class of a spectrum's reduction."""

    points: int
    rows: int


def size_of(reduction: Reduction) -> Size | None:
    """Size class of a reduction; None without a spectrum."""
    return None if reduction.spectrum is None else Size(*reduction.spectrum.rows.shape)


def reduce_projection(
    projection: Projection,
    model: SPSModel,
    tolerance: float = TOLERANCE,
    size: Size | None = None,
    refuse: float = REFUSE,
) -> Reduction:
    """Reduce one galaxy.

    Parameters
    ----------
    projection
        The galaxy, from `provabgs.observe.projection.project`.
    model
        The SPS model.
    tolerance
        Error in sigmas (see `SpectrumReduction.error`) that the number of points is chosen by: the smallest size class
        that meets it, or the largest there is.
    size
        Size class to use in place of what the tolerance asks for, to stack galaxies.
    refuse
        Error in sigmas beyond which the reduction is refused.

    Raises
    ------
    InputError
        When pixels need rest wavelengths beyond those learnt, or the measured error exceeds `refuse`; the exact engine
        still works.
    """
    nodes = merged_nodes(model)
    scale = projection.flux_factor * 10.0**REFERENCE_LOG_MASS
    spectrum = photometry = None
    if projection.spectrum is not None:
        spectrum = _reduce_spectrum(projection.spectrum, model, scale, tolerance, size)
        if spectrum.error > refuse:
            raise InputError(
                f"measured error of the compressed engine is {float(spectrum.error):.2g} sigma, more than {refuse:g} "
                f"(z = {projection.redshift:g}, {spectrum.rows.shape[0]} points); use engine = 'exact' for this galaxy"
            )
    if projection.photometry is not None:
        photometry = reduce_photometry(projection, projection.photometry, model, scale)
    tables = jax.tree.map(lambda x: jnp.asarray(x, jnp.float32), nodes.tables(model.tables(projection.t_age)))
    return Reduction(tables, spectrum, photometry)


def _reduce_spectrum(
    data: SpectrumProjection, model: SPSModel, scale: float, tolerance: float, size: Size | None
) -> SpectrumReduction:
    basis = basis_of(data, model)
    root = np.sqrt(data.ivar)
    weighted = sparse.diags_array(root) @ data.operator[:, basis.columns]
    signal = root * data.flux
    pixels = apply_blocks(weighted, basis.cardinal)
    gram, projected, norm2 = _quadratic_form(pixels, signal, data.templates * root[:, None])
    nearest, amplitude, level = _most_like(basis.held_out_u, gram, projected)
    held_out = apply_blocks(weighted, basis.held_out[nearest])
    errors = _measure(basis.held_out_u[nearest], pixels, held_out, amplitude)
    n_point = min(_choose(errors, tolerance) if size is None else size.points, len(basis.r))
    matrix, rows_data = _whiten(gram, projected, basis, n_point, tolerance * 0.3 / level)
    if size is None:
        size = Size(n_point, next(n for n in ROWS if n >= len(rows_data)))
    matrix, rows_data = matrix[:, : size.rows], rows_data[: size.rows]
    chosen = np.minimum(np.arange(size.points), n_point - 1)  # a size larger than the window holds repeats a point
    padded = np.zeros(size)
    padded[:n_point, : len(rows_data)] = matrix * scale
    return SpectrumReduction(
        young=jnp.asarray(basis.young[:, chosen]),
        old=jnp.asarray(basis.old[:, chosen]),
        curves=flat_single(dust_curves(basis.wave[chosen], model.birth_cloud_slope)),
        rows=jnp.asarray(padded, jnp.float32),
        data=jnp.asarray(np.pad(rows_data, (0, size.rows - len(rows_data))), jnp.float32),
        constant=jnp.asarray(norm2 - rows_data @ rows_data),
        error=jnp.asarray(errors[n_point - 1], jnp.float32),
    )


def basis_of(data: SpectrumProjection, model: SPSModel) -> PointBasis:
    """The point basis of the window of wavelengths that a spectrum's pixels need."""
    columns = data.operator.indices
    return point_basis(model, *model.library.wave[[columns.min(), columns.max()]])


def apply_blocks(operator: sparse.csr_matrix, spectra: SingleArray) -> SingleArray:
    """``operator @ spectra.T``, ``(npix, n)``, single precision: dense blocks along the band are faster than sparse."""
    operator = operator.tocsr()
    n_pix = operator.shape[0]
    out = np.empty((n_pix, len(spectra)), np.float32)
    transposed = np.ascontiguousarray(spectra.T)
    pointer, index, value = operator.indptr, operator.indices, operator.data.astype(np.float32)
    for i in range(0, n_pix, BLOCK):
        stop = min(i + BLOCK, n_pix)
        part = slice(pointer[i], pointer[stop])
        column = index[part]
        if column.size == 0:
            out[i:stop] = 0.0
            continue
        low, high = int(column.min()), int(column.max()) + 1
        dense = np.zeros((stop - i, high - low), np.float32)
        row = np.repeat(np.arange(stop - i), np.diff(pointer[i : stop + 1]))
        dense[row, column - low] = value[part]
        np.matmul(dense, transposed[low:high], out=out[i:stop])
    return out


def _quadratic_form(
    pixels: SingleArray, signal: FloatArray, templates: FloatArray
) -> tuple[FloatArray, FloatArray, float]:
    """Gram matrix of the weighted pixels, their product with the data, and the data's square, less the templates.

    Marginalising additive templates N of unit prior variance replaces the weight I by ``I - N (I + N^T N)^-1 N^T``.
    Products among the leading directions, which carry the light, are double; rounding of the rest is far below a sigma.
    """
    head = pixels[:, :N_HEAD].astype(np.float64)
    upper = linalg.blas.ssyrk(1.0, pixels.T).astype(np.float64)
    gram = np.triu(upper) + np.triu(upper, 1).T
    cross = head.T @ pixels.astype(np.float64)
    gram[:N_HEAD], gram[:, :N_HEAD] = cross, cross.T
    projected = np.concatenate([signal @ head, signal @ pixels[:, N_HEAD:].astype(np.float64)])
    norm2 = float(signal @ signal)
    if templates.shape[1]:
        factor = np.linalg.cholesky(np.eye(templates.shape[1]) + templates.T @ templates)
        scaled = linalg.solve_triangular(factor, templates.T, lower=True)
        overlap, target = scaled @ pixels.astype(np.float64), scaled @ signal
        gram -= overlap.T @ overlap
        projected -= overlap.T @ target
        norm2 -= float(target @ target)
    return gram, projected, norm2


def _most_like(u: FloatArray, gram: FloatArray, projected: FloatArray) -> tuple[NDArray[np.int64], FloatArray, float]:
    """Composites `u` ``(n, npoint)`` most like the data: indices, best-fitting scales, norm in sigmas."""
    overlap, square = u @ projected, np.einsum("ij,ij->i", u @ gram, u)
    gain = np.where(overlap > 0, overlap**2 / square, 0.0)
    nearest = np.argsort(-gain, kind="stable")[:N_NEAREST]
    amplitude = np.maximum(overlap[nearest], 0.0) / square[nearest]
    return nearest, amplitude, float(np.sqrt(max(gain[nearest[0]], 1.0)))


def _measure(u: FloatArray, pixels: SingleArray, held_out: SingleArray, amplitude: FloatArray) -> FloatArray:
    """Median error in sigmas over held-out composites, by number of points, ``(npoint,)``; inf but at `POINTS`."""
    errors = np.full(max(POINTS[-1], u.shape[1]), np.inf)
    left = held_out.astype(np.float64)
    start = 0
    for n in POINTS:
        stop = min(n, u.shape[1])
        left -= pixels[:, start:stop] @ u[:, start:stop].T
        errors[stop - 1] = np.median(amplitude * np.linalg.norm(left, axis=0))
        start = stop
    return errors


def _choose(errors: FloatArray, tolerance: float) -> int:
    """Smallest size class that meets the tolerance, or else the largest."""
    return next((n for n in POINTS if errors[n - 1] <= tolerance), POINTS[-1])


def _whiten(
    gram: FloatArray, projected: FloatArray, basis: PointBasis, n_point: int, relative: float
) -> tuple[FloatArray, FloatArray]:
    """Matrix from point values to whitened rows, ``(npoint, nrow)``, and the data in them, ``(nrow,)``.

    Directions whose summed variance over composites, of the total, is below `relative` squared are left out; a typical
    u has unit variance in every component.
    """
    values, vectors = np.linalg.eigh(gram[:n_point, :n_point])
    values, vectors = np.maximum(values[::-1], 0.0), vectors[:, ::-1]
    tail = np.cumsum(values[::-1])[::-1] / values.sum()
    keep = max(1, int(np.count_nonzero(tail > relative**2)))
    root = np.sqrt(values[:keep])
    out = linalg.solve_triangular(basis.r[:n_point, :n_point], vectors[:, :keep] * root)
    return out, (vectors[:, :keep].T @ projected[:n_point]) / root


def stack_reductions(reductions: list[Reduction]) -> Reduction:
    """Galaxies of one size class along a new leading axis, for `jax.vmap`.

    Raises
    ------
    InputError
        When sizes differ; reduce with one `size`.
    """
    shapes = [jax.tree.map(lambda x: jnp.shape(x), r) for r in reductions]
    if any(s != shapes[0] for s in shapes):
        sizes = sorted({str(size_of(r)) for r in reductions})
        raise InputError(f"galaxies of different sizes cannot be stacked ({', '.join(sizes)}); reduce with one `size`")
    return jax.tree.map(lambda *x: jnp.stack(x), *reductions)
