"""Reduction of one galaxy's likelihood to two small matrices.

The model's attenuated spectrum follows from its values f at a few points (`points`), so its weighted pixels are
``E u(f)``: chi^2 is a quadratic form in as many numbers as there are points, whatever the number of pixels. The form
is diagonalised, cut to the directions that this galaxy's noise can see, and kept as a sum of squares of residuals,
``const + sum (data - rows f)^2``: safe in single precision, since no Gram matrix is ever subtracted at run time.
Templates of the noise model are marginalised here, at no later cost.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from scipy import linalg

from provabgs.core.arrays import FloatArray
from provabgs.core.errors import InputError
from provabgs.core.jax import jax, jnp
from provabgs.inference.compressed.dispersion import (
    N_EXTRA,
    RANKS,
    DispersionReduction,
    Features,
    broadened_basis,
    find_features,
)
from provabgs.inference.compressed.error_correction import Correction, LocalSpectra, learn, learn_from_rows
from provabgs.inference.compressed.interpolation_points import PointBasis, held_out, point_basis
from provabgs.inference.compressed.merged_nodes import merged_nodes
from provabgs.inference.compressed.photometry import Coupling, PhotometryReduction, reduce_photometry
from provabgs.inference.compressed.places import Places, energy_places, matmul, places_of
from provabgs.inference.compressed.quadratic_form import QuadraticForm, RowSpace, apply_blocks, times
from provabgs.inference.likelihood.base import REFERENCE_LOG_MASS, fit_parameters
from provabgs.inference.likelihood.marginal import BandCoupling, band_coupling
from provabgs.observe.dispersion import polynomials
from provabgs.observe.projection import Projection, SpectrumProjection
from provabgs.sps.composite import Parts
from provabgs.sps.histories import HistoryTables
from provabgs.sps.model import SPSModel
from provabgs.sps.parameters import ParameterSet, Values

POINTS = (64, 96, 128, 160, 192, 224, 256)
"""Numbers of points: size classes, few enough that functions are compiled once."""
ROWS = (32, 64, 96, 128, 192, 256)
"""Numbers of rows, likewise."""
N_NEAREST = 16
"""Held-out composites, those most like the data, on which the error is measured."""
SAMPLE = 8
"""Every so many pixels takes part in the choice of the composites most like the data."""
TOLERANCE = 0.015
"""Default of `reduce_projection`: sigmas."""
REFUSE = 0.3
"""Error, in sigmas, beyond which a reduction is refused (about 0.5 in ln L at 30 nats from the maximum)."""


class SpectrumReduction(NamedTuple):
    """Arrays of the spectrum's part."""

    places: Places
    """The points; rows in Lsun/Angstrom."""
    wave: jax.Array
    """``(npoint,)`` rest Angstrom of the points; float64."""
    rows: jax.Array
    """``(npoint, nrow)`` from the model at the points to whitened data modes, in sigmas."""
    data: jax.Array
    """``(nrow,)`` amplitude of the data in each mode, sigmas."""
    constant: jax.Array
    """chi^2 outside the modes; float64."""
    error: jax.Array
    """Measured error, sigmas: root of the summed squared error over pixels of composites most like the data."""
    dispersion: DispersionReduction | None = None
    """Where the velocity dispersion is fitted; `rows` are then those of the middle of its range."""

    def whitened(self, points: jax.Array, features: jax.Array | None) -> jax.Array:
        """Whitened data modes.

        Parameters
        ----------
        points
            ``(..., npoint)`` spectrum at the interpolation points.
        features
            ``(..., nfeature)`` what the velocity dispersion adds (`DispersionReduction.at`); None where it is fixed.

        Returns
        -------
        jax.Array
            ``(..., nrow)``.
        """
        rows = matmul(points.reshape(-1, points.shape[-1]), self.rows)
        if self.dispersion is not None and features is not None:
            rows += matmul(features.reshape(-1, features.shape[-1]), self.dispersion.rows)
        return rows.reshape(*points.shape[:-1], -1)

    def features(self, points: jax.Array, values: Values) -> jax.Array | None:
        """What the velocity dispersion adds at parameter values ``(batch,)``, to be used by `whitened`.

        Parameters
        ----------
        points
            As for `whitened`.
        values
            Parameters of the fit, by name.

        Returns
        -------
        jax.Array or None
            None where the dispersion is fixed.
        """
        return None if self.dispersion is None else self.dispersion.at(points, values["vdisp"])


class Reduction(NamedTuple):
    """Everything that ln L of one galaxy needs; a pytree of equal shapes for galaxies of one size class."""

    tables: HistoryTables
    """On the merged nodes, single precision."""
    spectrum: SpectrumReduction | None
    photometry: PhotometryReduction | None
    energy: Places | None = None
    """For the luminosity that dust absorbs; None where no dust emits."""


class Size(NamedTuple):
    """Size class of a spectrum's reduction."""

    points: int
    rows: int


LARGEST = Size(POINTS[-1], ROWS[-1])
"""The class that holds every galaxy: what a device server compiles for."""


def size_of(reduction: Reduction) -> Size | None:
    """Size class of a reduction; None without a spectrum."""
    if reduction.spectrum is None:
        return None
    n_point, n_row = reduction.spectrum.rows.shape
    return Size(n_point, n_row if reduction.spectrum.dispersion is None else n_row - N_EXTRA)


def parameters_of(model: SPSModel, reduction: Reduction) -> ParameterSet:
    """Parameters that a reduction takes.

    Parameters
    ----------
    model
        The SPS model.
    reduction
        With or without a free velocity dispersion.

    Returns
    -------
    ParameterSet
        Of the fit.
    """
    spectrum = reduction.spectrum
    return fit_parameters(model, spectrum is not None and spectrum.dispersion is not None)


class LocalPoints(NamedTuple):
    """Spectra near the best fit."""

    values: FloatArray
    """``(n, npoint)`` by the compressed likelihood at the points."""
    pixels: FloatArray
    """``(n, npix)`` by the exact model."""
    vdisp_kms: FloatArray | None = None
    """``(n,)`` velocity dispersions, where they are fitted."""


def reduce_projection(
    projection: Projection,
    model: SPSModel,
    tolerance: float = TOLERANCE,
    size: Size | None = None,
    refuse: float = REFUSE,
    local: LocalPoints | None = None,
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
    local
        Spectra near the best fit, at which the approximation is corrected.

    Returns
    -------
    Reduction
        Single precision, apart from constants.

    Raises
    ------
    InputError
        When pixels need rest wavelengths beyond those learnt, or the measured error exceeds `refuse`; the exact
        likelihood still works.
    """
    nodes, coupling = merged_nodes(model), band_coupling(projection)
    scale = projection.flux_factor * 10.0**REFERENCE_LOG_MASS
    spectrum = photometry = to_bands = None
    if projection.spectrum is not None:
        spectrum, to_bands = _reduce_spectrum(projection.spectrum, model, scale, tolerance, size, local, coupling)
        if spectrum.error > refuse:
            raise InputError(
                f"measured error of the compressed engine is {float(spectrum.error):.2g} sigma, more than {refuse:g} "
                f"(z = {projection.redshift:g}, {spectrum.rows.shape[0]} points); use engine = 'exact' for this galaxy"
            )
    if projection.photometry is not None:
        photometry = reduce_photometry(projection, projection.photometry, model, scale)
        if coupling is not None:
            photometry = _coupled(photometry, coupling, to_bands, projection)
    tables = jax.tree.map(
        lambda x: jnp.asarray(np.asarray(x, np.float32)), nodes.tables(model.tables(projection.t_age))
    )
    return Reduction(tables, spectrum, photometry, energy_places(model))


def _coupled(
    photometry: PhotometryReduction, coupling: BandCoupling, to_bands: FloatArray | None, projection: Projection
) -> PhotometryReduction:
    """Bands whitened by their covariance given the spectrum, less what the spectrum's residuals say of them."""
    assert projection.photometry is not None
    n, n_band = len(photometry.flux), len(projection.photometry.flux)
    flux, from_points, from_features = projection.photometry.flux, None, None
    if coupling.from_pixels is not None and projection.spectrum is not None and to_bands is not None:
        flux = flux - coupling.from_pixels @ projection.spectrum.flux
        whole = jnp.asarray(np.pad(to_bands @ coupling.whiten.T, ((0, 0), (0, n - n_band))), jnp.float32)
        free = projection.spectrum.dispersion is not None
        from_points, from_features = (whole[: -sum(RANKS)], whole[-sum(RANKS) :]) if free else (whole, None)
    pad = (0, n - n_band)
    return photometry._replace(
        flux=jnp.asarray(np.pad(coupling.whiten @ flux, pad), jnp.float32),
        coupling=Coupling(jnp.asarray(np.pad(coupling.whiten, (pad, pad)), jnp.float32), from_points, from_features),
    )


def _reduce_spectrum(
    data: SpectrumProjection,
    model: SPSModel,
    scale: float,
    tolerance: float,
    size: Size | None,
    local: LocalPoints | None,
    coupling: BandCoupling | None,
) -> tuple[SpectrumReduction, FloatArray | None]:
    """The spectrum's part, and the map ``(npoint, nband)`` from points to bands where templates couple them."""
    basis = basis_of(data, model)
    form = form_of(data, basis)
    n_point, error = _points_for(form, basis, data, model, tolerance, None if size is None else size.points)
    space = form.row_space(n_point, tolerance * 0.3)
    if size is None:
        size = Size(n_point, next((n for n in ROWS if n > space.n_row), ROWS[-1]))
    n_row = min(space.n_row, size.rows - 1)  # one row is left for the correction
    inverse = linalg.solve_triangular(basis.r[:n_point, :n_point], np.eye(n_point))
    rows, target = np.zeros(size), np.zeros(size.rows)
    rows[:n_point, :n_row] = scale * inverse @ (space.vectors[:, :n_row] * space.root[:n_row])
    target[:n_row] = space.data[:n_row]
    features, moved = None, None
    if data.dispersion is not None:
        features = find_features(form, basis, data.dispersion, space, n_row)
        extra = features.along_extra(form.signal[:, None], space.data[None, :n_row])[0]
        rows, target = np.pad(rows, ((0, 0), (0, N_EXTRA))), np.append(target, extra)
        moved = features.rows(size.rows)
    constant = form.norm2 - float(target @ target)
    if local is not None:
        u = scale * local.values[:, :n_point] @ inverse
        target, constant = _correct(form, space, n_row, features, local, u, rows, moved, target, constant)
    chosen = np.minimum(np.arange(size.points), n_point - 1)  # a size larger than the window holds repeats a point
    to_bands = None
    if coupling is not None and coupling.from_pixels is not None:
        to_bands = np.zeros((size.points, len(coupling.from_pixels)))
        from_weighted = coupling.from_pixels / form.root_ivar
        to_bands[:n_point] = scale * inverse @ times(from_weighted, form.pixels[:, :n_point]).T
        if features is not None:
            to_bands = np.concatenate([to_bands, features.seen(from_weighted).T])
    ssps = Parts(*(s[:, chosen] for s in basis.ssps))
    reemitted = None if basis.reemitted is None else basis.reemitted[:, chosen]
    dispersion = None
    if features is not None and moved is not None:
        at_points = np.zeros((size.points, sum(RANKS)))
        at_points[:n_point] = scale * inverse @ features.coefficients
        single = (jnp.asarray(np.asarray(a, np.float32)) for a in (at_points, moved))
        dispersion = DispersionReduction(jnp.asarray(features.scale), *single)
    reduction = SpectrumReduction(
        places=places_of(model, ssps, basis.wave[chosen], reemitted),
        wave=jnp.asarray(basis.wave[chosen]),
        rows=jnp.asarray(np.asarray(rows, np.float32)),
        data=jnp.asarray(np.asarray(target, np.float32)),
        constant=jnp.asarray(constant),
        error=jnp.asarray(np.asarray(error, np.float32)),
        dispersion=dispersion,
    )
    return reduction, to_bands


def _correct(
    form: QuadraticForm,
    space: RowSpace,
    n_row: int,
    features: Features | None,
    local: LocalPoints,
    u: FloatArray,
    rows: FloatArray,
    moved: FloatArray | None,
    target: FloatArray,
    constant: float,
) -> tuple[FloatArray, float]:
    """Correct rows, in place, and data near the best fit; the data and the constant are returned."""
    if features is None or moved is None:
        correction = learn(form, space, n_row, LocalSpectra(u, local.pixels))
        target[n_row], constant = np.sqrt(constant), 0.0
        target[: n_row + 1] -= correction.shift
        rows[:, : n_row + 1] += rows[:, :n_row] @ correction.response
        return target, constant
    modes = np.append(np.arange(n_row), np.arange(target.size - N_EXTRA, target.size))
    correction = _learn_moved(form, space, features, local, u, target[modes], moved[:, modes])
    target[n_row] = np.sqrt(constant)
    taken = np.append(modes, n_row)
    target[taken] -= correction.shift
    for matrix in (rows, moved):
        matrix[:, taken] += matrix[:, modes] @ correction.response
    return target, 0.0


def _learn_moved(
    form: QuadraticForm,
    space: RowSpace,
    features: Features,
    local: LocalPoints,
    u: FloatArray,
    data: FloatArray,
    moved: FloatArray,
) -> Correction:
    """The correction of a reduction whose dispersion is free: exact spectra in its rows against its own rows."""
    assert local.vdisp_kms is not None
    n_row = moved.shape[1] - N_EXTRA
    exact = (form.root_ivar * local.pixels).T
    along = ((space.vectors.T @ form.project(exact, len(space.root))) / space.root[:, None])[:n_row].T
    along = np.concatenate([along, features.along_extra(exact, along)], axis=1)
    own = np.concatenate([space.rows(u)[:, :n_row], np.zeros((len(u), N_EXTRA))], axis=1)
    s = np.asarray(polynomials(jnp.asarray(local.vdisp_kms), jnp.asarray(features.scale)))
    own += features.extra(u, s) @ moved
    with_data = form.inner(exact, np.repeat(form.signal[:, None], len(u), axis=1))
    length = np.sqrt(form.norm2 - data @ data)
    return learn_from_rows(own, along, (with_data - along @ data) / length)


def form_of(data: SpectrumProjection, basis: PointBasis) -> QuadraticForm:
    """The quadratic form of a galaxy, in the middle of the range of dispersions where they are free.

    Parameters
    ----------
    data
        The spectrum.
    basis
        From `basis_of`.

    Returns
    -------
    QuadraticForm
        Of weighted pixels.
    """
    return QuadraticForm.of(data, basis, None if data.dispersion is None else broadened_basis(basis, data.dispersion))


def basis_of(data: SpectrumProjection, model: SPSModel) -> PointBasis:
    """The point basis of the window of wavelengths that a spectrum's pixels need.

    Parameters
    ----------
    data
        The spectrum's operator.
    model
        The SPS model.

    Returns
    -------
    PointBasis
        See `point_basis`.

    Raises
    ------
    InputError
        When the pixels need rest wavelengths beyond those learnt.
    """
    columns = data.operator.indices
    low, high = model.library.wave[[columns.min(), columns.max()]]
    if data.dispersion is not None:  # what is broadened beforehand comes from farther away
        low, high = low * (1 - data.dispersion.reach), high * (1 + data.dispersion.reach)
    return point_basis(model, low, high)


def _points_for(
    form: QuadraticForm,
    basis: PointBasis,
    data: SpectrumProjection,
    model: SPSModel,
    tolerance: float,
    wanted: int | None,
) -> tuple[int, float]:
    """Number of points that meet the tolerance, or that are wanted, and their error.

    The error is the median over the held-out composites most like the data, sigmas. These composites are found on a
    sample of the pixels.
    """
    u, sample = basis.held_out_u, slice(None, None, SAMPLE)
    spectra, signal = u.astype(np.float32) @ form.pixels[sample].T, form.signal[sample]
    overlap = (spectra @ signal.astype(np.float32)).astype(np.float64)
    square = np.einsum("ij,ij->i", spectra, spectra, dtype=np.float64)
    gain = np.where(overlap > 0, overlap**2 / square, 0.0)
    nearest = np.argsort(-gain, kind="stable")[:N_NEAREST]
    amplitude = np.maximum(overlap[nearest], 0.0) / square[nearest]

    # the points are nested: residuals of one size are those of the size before, less what its new points explain
    u = u[nearest].astype(np.float32)
    composites = np.ascontiguousarray(held_out(model, basis, nearest).T)
    if data.dispersion is not None:
        composites = data.dispersion.middle[basis.columns, basis.columns] @ composites
    left = apply_blocks(form.operator, composites)
    start, error, most = 0, np.inf, len(basis.r)
    for n in POINTS:
        stop = min(n, most)
        left -= form.pixels[:, start:stop] @ u[:, start:stop].T
        error = float(np.median(amplitude * np.sqrt(np.einsum("ij,ij->j", left, left))))
        if n == wanted or (wanted is None and error <= tolerance):
            break
        start = stop
    return stop, error
