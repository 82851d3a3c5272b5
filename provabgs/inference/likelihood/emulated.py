"""The compressed likelihood with spectra from the neural emulator in place of the SSP library.

Interpolation points, whitened data modes and bands are those of the galaxy's reduction
(`provabgs.inference.compressed`), attenuation is evaluated at them in closed form; what the emulator replaces is the
sum over SSPs. It gives the spectra of all SFH bases at once, so the normal equations of the masses cost one evaluation
of the network, not one per basis.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from provabgs.core.arrays import FloatArray
from provabgs.core.compilations import compiled_by_shape
from provabgs.core.errors import InputError
from provabgs.core.jax import jax, jnp
from provabgs.emulator.component import ComponentEmulator, Functions
from provabgs.emulator.mixture import Columns, EmulatorArrays, GalaxyMasses, columns, mix
from provabgs.inference.compressed import CompressedLikelihood
from provabgs.inference.compressed.compressed_likelihood import in_cache, make_prediction
from provabgs.inference.compressed.normal_equations import accumulate
from provabgs.inference.compressed.photometry import N_BAND_NODES, PhotometryReduction, band_functionals
from provabgs.inference.compressed.places import matmul, single
from provabgs.inference.compressed.training import SMOOTHING_KMS, training_set
from provabgs.inference.likelihood.base import REFERENCE_LOG_MASS, LinearSystem, NormalEquations, fit_parameters
from provabgs.observe.linespread import spread_matrix, velocity_sigma
from provabgs.observe.projection import Projection
from provabgs.sps.composite import Parts, composite
from provabgs.sps.model import SPSModel
from provabgs.sps.parameters import Values


class EmulatedPlaces(NamedTuple):
    """Where the model is evaluated: at the points of a spectrum, or at the attenuation nodes of bands."""

    functions: Functions
    """The emulator's basis functions there, ``(nfunction, n)``."""
    curves: Any
    """Factors of the dust law there."""
    ratio: jax.Array
    """``(n,)`` exact over emulated spectrum near the best fit; ones before there is a reference."""


class EmulatedSpectrum(NamedTuple):
    """Arrays of the spectrum's part; see `provabgs.inference.compressed.reduction.SpectrumReduction`."""

    places: EmulatedPlaces
    rows: jax.Array
    data: jax.Array
    constant: jax.Array


class EmulatedPhotometry(NamedTuple):
    """Arrays of the photometry's part."""

    places: EmulatedPlaces
    reduction: PhotometryReduction
    """The compressed one, for the data and how bands are whitened."""


class EmulatedReduction(NamedTuple):
    """Everything that ln L of one galaxy needs; a pytree."""

    arrays: EmulatorArrays
    masses: GalaxyMasses
    spectrum: EmulatedSpectrum | None
    photometry: EmulatedPhotometry | None


class EmulatedLikelihood:
    """ln L of one galaxy by the emulator; same call as `CompressedLikelihood`.

    ln L is -inf outside the emulator's training range: nothing is extrapolated.

    Parameters
    ----------
    compressed
        The galaxy's compressed likelihood: its points, modes and data are used (with their reference, if any).
    emulator
        Weights, trained on the same model.

    Raises
    ------
    EmulatorFileError
        When weights and model do not belong together.
    InputError
        When the age of the universe at the galaxy lies outside the training range.
    """

    def __init__(self, compressed: CompressedLikelihood, emulator: ComponentEmulator) -> None:
        emulator.require_model(compressed.model)
        self.projection, self.model = compressed.projection, compressed.model
        self.parameters = compressed.parameters
        self.compressed, self.emulator = compressed, emulator
        low, high = emulator.low[2], emulator.high[2]
        if not low <= self.projection.t_age <= high:
            raise InputError(
                f"z = {self.projection.redshift:g}: the universe was {self.projection.t_age:.3g} Gyr old, the emulator "
                f"was trained on {low:g}-{high:g} Gyr; use engine = 'compressed' or 'exact' for this galaxy"
            )
        self.reduction = _reduce(compressed, emulator)

    @classmethod
    def of(cls, projection: Projection, model: SPSModel, emulator: ComponentEmulator) -> EmulatedLikelihood:
        """Likelihood of a galaxy that has no compressed likelihood yet.

        Parameters
        ----------
        projection
            The galaxy.
        model
            The SPS model.
        emulator
            Weights, trained on the same model.

        Returns
        -------
        EmulatedLikelihood
            Before any correction.

        Raises
        ------
        EmulatorFileError
            When weights and model do not belong together.
        InputError
            As `EmulatedLikelihood` and `CompressedLikelihood` raise it.
        """
        return cls(CompressedLikelihood(projection, model), emulator)

    def __call__(self, theta: ArrayLike) -> jax.Array:
        """Ln L, ``(batch,)``, for theta ``(batch, size)``."""
        self.parameters.check(theta)
        return compiled(self.emulator, self.model)(jnp.asarray(theta, jnp.float64), self.reduction)

    @property
    def linear_system(self) -> LinearSystem:
        """Normal equations of the masses."""
        return LinearSystem(normal_equations(self.emulator, self.model), self.reduction)

    def with_reference(self, theta: ArrayLike) -> EmulatedLikelihood:
        """The same backend, corrected near the best fit, once good fits are known.

        The compression is corrected as `CompressedLikelihood.with_reference` does; of the emulator, the mean ratio of
        exact to emulated spectra at the points and in the bands is taken out (its errors vary slowly with parameters).

        Parameters
        ----------
        theta
            One good fit ``(size,)``, or draws of a first fit ``(n, size)``.

        Returns
        -------
        EmulatedLikelihood
            A new one.
        """
        good = jnp.atleast_2d(jnp.asarray(theta, jnp.float64))
        out = EmulatedLikelihood(self.compressed.with_reference(good), self.emulator)
        spectrum, photometry = out.reduction.spectrum, out.reduction.photometry
        exact_points, exact_bands = _exact_values(self.model)(good, _unwhitened(out.compressed.reduction))
        points, nodes = _emulated_values(self.emulator, self.model)(good, out.reduction)
        if spectrum is not None and exact_points is not None:
            ratio = jnp.mean(exact_points, axis=0) / jnp.mean(points, axis=0)
            places = spectrum.places._replace(ratio=ratio.astype(jnp.float32))
            spectrum = spectrum._replace(places=places)
        if photometry is not None and exact_bands is not None:
            mine = jnp.mean(nodes.reshape(len(good), -1, N_BAND_NODES).sum(axis=-1), axis=0)
            ratio = jnp.where(mine > 0, jnp.mean(exact_bands, axis=0) / jnp.where(mine > 0, mine, 1.0), 1.0)
            places = photometry.places._replace(ratio=jnp.repeat(ratio.astype(jnp.float32), N_BAND_NODES))
            photometry = photometry._replace(places=places)
        out.reduction = out.reduction._replace(spectrum=spectrum, photometry=photometry)
        return out


def _reduce(compressed: CompressedLikelihood, emulator: ComponentEmulator) -> EmulatedReduction:
    """Basis functions at the reduction's points and nodes, in place of its SSPs."""
    projection, reduction = compressed.projection, compressed.reduction
    spectrum = photometry = None
    if reduction.spectrum is not None:
        s = reduction.spectrum
        functions = _at_points(emulator, compressed.model, np.asarray(s.wave))
        places = EmulatedPlaces(functions, s.places.curves, jnp.ones(len(s.wave), jnp.float32))
        spectrum = EmulatedSpectrum(places, s.rows, s.data, s.constant)
    if reduction.photometry is not None and projection.photometry is not None:
        p = reduction.photometry
        scale = projection.flux_factor * 10.0**REFERENCE_LOG_MASS
        matrix, _ = band_functionals(projection, projection.photometry, len(p.flux))
        flat = scale * matrix.reshape(-1, projection.wave_model.size).T
        functions = Functions(*(jnp.asarray(f @ flat, jnp.float32) for f in emulator.functions))
        ones = jnp.ones(flat.shape[1], jnp.float32)
        photometry = EmulatedPhotometry(EmulatedPlaces(functions, p.places.curves, ones), p)
    masses = GalaxyMasses.of(compressed.model, projection.t_age)
    return EmulatedReduction(emulator.arrays, masses, spectrum, photometry)


def _at_points(emulator: ComponentEmulator, model: SPSModel, points: FloatArray) -> Functions:
    """Basis functions at points (rest Angstrom), which lie on the candidates of the compressed likelihood."""
    candidates, functions = _at_candidates(emulator, model)
    nearest = np.argmin(np.abs(candidates[:, None] - points), axis=0)
    return Functions(*(jnp.asarray(f[:, nearest]) for f in functions))


@lru_cache(maxsize=4)
def _at_candidates(emulator: ComponentEmulator, model: SPSModel) -> tuple[FloatArray, Functions]:
    """Candidate points and basis functions at them, smoothed as the compressed likelihood smooths its SSPs."""
    training = training_set(model)
    window = slice(training.first, training.first + training.wave.size)
    sigma = velocity_sigma(training.candidates, SMOOTHING_KMS)
    smooth = spread_matrix(training.wave, training.candidates, sigma)
    return training.candidates, Functions(*((smooth @ f[:, window].T).T.astype(np.float32) for f in emulator.functions))


@lru_cache(maxsize=4)
def compiled(emulator: ComponentEmulator, model: SPSModel) -> Callable[[jax.Array, EmulatedReduction], jax.Array]:
    """`make_log_likelihood`, compiled, one per emulator: galaxies of one size class share its compilations.

    Parameters
    ----------
    emulator
        Weights.
    model
        The SPS model that they were trained on.

    Returns
    -------
    Callable
        ``(theta (batch, size), reduction) -> ln L (batch,)``.
    """
    return compiled_by_shape(make_log_likelihood(emulator, model))


def make_log_likelihood(
    emulator: ComponentEmulator, model: SPSModel
) -> Callable[[jax.Array, EmulatedReduction], jax.Array]:
    """Ln L of a galaxy by the emulator, as a function of theta and the galaxy's arrays.

    Parameters
    ----------
    emulator
        Weights.
    model
        The SPS model that they were trained on.

    Returns
    -------
    Callable
        ``(theta (batch, size), reduction) -> ln L (batch,)``; not compiled.
    """
    parameters = fit_parameters(model)

    def log_likelihood(theta: jax.Array, reduction: EmulatedReduction) -> jax.Array:
        points, nodes = _values(theta, reduction, emulator, model)
        chi2 = jnp.zeros(theta.shape[0], theta.dtype)
        if reduction.spectrum is not None:
            s = reduction.spectrum
            chi2 += s.constant + jnp.sum((s.data - matmul(points, s.rows)) ** 2, axis=1)
        if reduction.photometry is not None:
            p = reduction.photometry.reduction
            chi2 += jnp.sum((p.flux - p.whitened(nodes, points)) ** 2, axis=1)
        inside = emulator.inside(parameters.values(theta), reduction.masses.t_age)
        # a network extrapolates to anything, and a sampler would find it
        return jnp.where(inside, -0.5 * chi2, -jnp.inf)

    return in_cache(log_likelihood)


@lru_cache(maxsize=4)
def normal_equations(
    emulator: ComponentEmulator, model: SPSModel
) -> Callable[[jax.Array, EmulatedReduction], NormalEquations]:
    """chi^2 as a quadratic form in the masses; see `provabgs.inference.compressed.normal_equations`.

    Parameters
    ----------
    emulator
        Weights.
    model
        The SPS model that they were trained on.

    Returns
    -------
    Callable
        ``(theta (batch, size), reduction) -> NormalEquations``; b is NaN outside the training range.
    """
    parameters, n_mass = fit_parameters(model), model.linear_block.n

    def equations(theta: jax.Array, reduction: EmulatedReduction) -> NormalEquations:
        n, values = len(theta), parameters.values(theta)
        per_basis = _with_burst(values, columns(values, reduction.masses, reduction.arrays, emulator.layout))
        q, b, constant = jnp.zeros((n, n_mass, n_mass)), jnp.zeros((n, n_mass)), jnp.zeros(())
        points = None
        if reduction.spectrum is not None:
            s = reduction.spectrum
            f_fiber = values["f_fiber"].astype(jnp.float32)[:, None, None]
            points = f_fiber * _attenuated(model, values, s.places, per_basis)
            q, b = accumulate(q, b, matmul(points, s.rows), s.data)
            constant += s.constant + jnp.sum(s.data.astype(jnp.float64) ** 2)
        if reduction.photometry is not None:
            p = reduction.photometry.reduction
            nodes = _attenuated(model, values, reduction.photometry.places, per_basis)
            q, b = accumulate(q, b, p.whitened(nodes, points), p.flux)
            constant += jnp.sum(p.flux.astype(jnp.float64) ** 2)
        inside = emulator.inside(values, reduction.masses.t_age)
        return NormalEquations(q, jnp.where(inside[:, None], b, jnp.nan), constant)

    return equations


def _values(theta: jax.Array, reduction: EmulatedReduction, emulator: ComponentEmulator, model: SPSModel) -> Any:
    """Model at the points ``(batch, npoint)`` and at bands' nodes, not yet whitened; None where no data."""
    values = fit_parameters(model).values(theta)
    mixed = mix(values, reduction.masses, columns(values, reduction.masses, reduction.arrays, emulator.layout))
    mass = 10.0 ** (values[model.linear_block.total] - REFERENCE_LOG_MASS)
    points = nodes = None
    if reduction.spectrum is not None:
        amplitude = (mass * values["f_fiber"]).astype(jnp.float32)[:, None]
        points = amplitude * _attenuated(model, values, reduction.spectrum.places, mixed)
    if reduction.photometry is not None:
        fluxes = _attenuated(model, values, reduction.photometry.places, mixed)
        nodes = mass.astype(jnp.float32)[:, None] * fluxes
    return points, nodes


@lru_cache(maxsize=4)
def _emulated_values(emulator: ComponentEmulator, model: SPSModel) -> Callable[..., Any]:
    return compiled_by_shape(lambda theta, reduction: _values(theta, reduction, emulator, model))


@lru_cache(maxsize=4)
def _exact_values(model: SPSModel) -> Callable[..., Any]:
    """The compressed likelihood's spectrum at the points, and its bands in nanomaggies."""
    return compiled_by_shape(make_prediction(model, at_points=True))


def _unwhitened(reduction: Any) -> Any:
    """The reduction with bands left in nanomaggies."""
    if reduction.photometry is None:
        return reduction
    plain = reduction.photometry._replace(root_ivar=jnp.ones_like(reduction.photometry.root_ivar), coupling=None)
    return reduction._replace(photometry=plain)


def _with_burst(values: Values, c: Columns) -> tuple[jax.Array, ...]:
    """Factors of what a unit of mass in each basis brings with it, its part of the burst included."""
    fburst = values["fburst"][:, None]
    keep, burst = (1 - fburst).astype(jnp.float32), fburst.astype(jnp.float32)
    smooth = (keep[..., None] * c.young, keep[..., None] * c.old)
    return *smooth, (burst * c.burst_young)[:, None], (burst * c.burst_old)[:, None]


def _attenuated(model: SPSModel, values: Values, places: EmulatedPlaces, factors: tuple[jax.Array, ...]) -> jax.Array:
    """Attenuated spectra ``(batch, ..., n)`` from factors on the basis functions ``(batch, ..., nfunction)``."""
    young, old, burst_young, burst_old = factors
    f = places.functions
    parts = Parts(
        matmul(young, f.young) + matmul(burst_young, f.burst), matmul(old, f.old) + matmul(burst_old, f.burst)
    )
    transmission = model.attenuation.transmission(places.curves, single(values))
    return composite(parts, transmission) * places.ratio
