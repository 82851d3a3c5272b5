"""The compressed likelihood with starlight from the neural emulator in place of the SSP library.

Points, rows and bands are those of the galaxy's reduction (`provabgs.inference.compressed`), attenuation is evaluated
at them in closed form; what the emulator replaces is the sum over SSPs. It gives the light of all four SFH bases at
once, so the normal equations of the collapsed posterior cost one evaluation of the network, not four.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from provabgs.core.arrays import FloatArray
from provabgs.core.errors import InputError
from provabgs.core.jax import jax, jnp
from provabgs.emulator.component import ComponentEmulator, Functions
from provabgs.emulator.mixture import Columns, EmulatorArrays, GalaxyMasses, columns, mix
from provabgs.inference.compressed.engine import CompressedLikelihood, dust_of, in_cache, make_prediction, matmul
from provabgs.inference.compressed.normal_equations import N_BASES, NormalEquations, accumulate
from provabgs.inference.compressed.photometry import N_BAND_NODES, band_functionals
from provabgs.inference.compressed.reduction import REFERENCE_LOG_MASS
from provabgs.inference.compressed.training import SMOOTHING_KMS, training_set
from provabgs.observe.linespread import spread_matrix, velocity_sigma
from provabgs.observe.projection import Projection
from provabgs.sps.dust import LAMBDA_V, DustCurves, transmission
from provabgs.sps.model import SPSModel
from provabgs.sps.parameters import INDEX


class Light(NamedTuple):
    """Where the model is evaluated: at the points of a spectrum, or at the attenuation nodes of bands."""

    functions: Functions
    """The emulator's basis functions there, ``(n, nwhere)``."""
    curves: DustCurves


class EmulatedSpectrum(NamedTuple):
    """Arrays of the spectrum's part; see `provabgs.inference.compressed.reduction.SpectrumReduction`."""

    light: Light
    rows: jax.Array
    data: jax.Array
    constant: jax.Array


class EmulatedPhotometry(NamedTuple):
    """Arrays of the photometry's part; see `provabgs.inference.compressed.photometry.PhotometryReduction`."""

    light: Light
    flux: jax.Array
    root_ivar: jax.Array


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
        The galaxy's compressed likelihood: its points, rows and data are used (with their reference, where it has one).
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
        """For a galaxy that has no compressed likelihood yet; raises as that one and `EmulatedLikelihood` do."""
        return cls(CompressedLikelihood(projection, model), emulator)

    def __call__(self, theta: ArrayLike) -> jax.Array:
        """Ln L, ``(batch,)``, for theta ``(batch, 13)``."""
        return compiled(self.emulator)(jnp.asarray(theta, jnp.float64), self.reduction)

    @property
    def equations(self) -> Callable[[jax.Array, EmulatedReduction], NormalEquations]:
        """For `provabgs.inference.marginalised.collapse`, with `reduction` as its data."""
        return normal_equations(self.emulator)

    def with_reference(self, theta: ArrayLike) -> EmulatedLikelihood:
        """The same engine, corrected near the best fit, once good fits are known.

        The compression is corrected as `CompressedLikelihood.with_reference` does; of the emulator, the mean ratio of
        exact to emulated light at the points and in the bands is taken out (its errors vary slowly with parameters).

        Parameters
        ----------
        theta
            One good fit ``(13,)``, or draws of a first fit ``(n, 13)``.
        """
        good = jnp.atleast_2d(jnp.asarray(theta, jnp.float64))
        out = EmulatedLikelihood(self.compressed.with_reference(good), self.emulator)
        spectrum, photometry = out.reduction.spectrum, out.reduction.photometry
        exact_values, exact_bands = _exact_values(self.model)(good, out.compressed.reduction)
        values, bands = _emulated_values(self.emulator)(good, out.reduction)
        if spectrum is not None and exact_values is not None:
            ratio = jnp.mean(exact_values, axis=0) / jnp.mean(values, axis=0)
            spectrum = spectrum._replace(rows=spectrum.rows * ratio[:, None])
        if photometry is not None and exact_bands is not None:
            mine = jnp.mean(photometry.root_ivar * bands, axis=0)
            ratio = jnp.where(mine > 0, jnp.mean(exact_bands, axis=0) / jnp.where(mine > 0, mine, 1.0), 1.0)
            photometry = photometry._replace(root_ivar=photometry.root_ivar * ratio)
        out.reduction = out.reduction._replace(spectrum=spectrum, photometry=photometry)
        return out


def _reduce(compressed: CompressedLikelihood, emulator: ComponentEmulator) -> EmulatedReduction:
    """Basis functions at the reduction's points and nodes, in place of its SSPs."""
    projection, reduction = compressed.projection, compressed.reduction
    spectrum = photometry = None
    if reduction.spectrum is not None:
        s = reduction.spectrum
        at = LAMBDA_V * np.exp(np.asarray(s.curves.log_ratio, np.float64))
        spectrum = EmulatedSpectrum(
            Light(_at_points(emulator, compressed.model, at), s.curves), s.rows, s.data, s.constant
        )
    if reduction.photometry is not None and projection.photometry is not None:
        p = reduction.photometry
        scale = projection.flux_factor * 10.0**REFERENCE_LOG_MASS
        matrix, _ = band_functionals(projection, projection.photometry, len(p.flux))
        flat = scale * matrix.reshape(-1, projection.wave_model.size).T
        functions = Functions(*(jnp.asarray(f @ flat, jnp.float32) for f in emulator.functions))
        photometry = EmulatedPhotometry(Light(functions, p.curves), p.flux, p.root_ivar)
    masses = GalaxyMasses.of(compressed.model, projection.t_age)
    return EmulatedReduction(emulator.arrays, masses, spectrum, photometry)


def _at_points(emulator: ComponentEmulator, model: SPSModel, points: FloatArray) -> Functions:
    """Basis functions at points (rest Angstrom), which lie on the candidates of the compressed engine."""
    candidates, functions = _at_candidates(emulator, model)
    nearest = np.argmin(np.abs(candidates[:, None] - points), axis=0)
    return Functions(*(jnp.asarray(f[:, nearest]) for f in functions))


@lru_cache(maxsize=4)
def _at_candidates(emulator: ComponentEmulator, model: SPSModel) -> tuple[FloatArray, Functions]:
    """Candidate points and basis functions at them, smoothed as the compressed engine smooths its SSPs."""
    training = training_set(model)
    window = slice(training.first, training.first + training.wave.size)
    sigma = velocity_sigma(training.candidates, SMOOTHING_KMS)
    smooth = spread_matrix(training.wave, training.candidates, sigma)
    return training.candidates, Functions(*((smooth @ f[:, window].T).T.astype(np.float32) for f in emulator.functions))


@lru_cache(maxsize=4)
def compiled(emulator: ComponentEmulator) -> Callable[[jax.Array, EmulatedReduction], jax.Array]:
    """`make_log_likelihood`, compiled, one per emulator: galaxies of one size class share its compilations."""
    return jax.jit(make_log_likelihood(emulator))


def make_log_likelihood(emulator: ComponentEmulator) -> Callable[[jax.Array, EmulatedReduction], jax.Array]:
    """The function ``(theta (batch, 13), reduction) -> ln L (batch,)``; not compiled."""

    def log_likelihood(theta: jax.Array, reduction: EmulatedReduction) -> jax.Array:
        values, bands = _values(theta, reduction, emulator)
        chi2 = jnp.zeros(theta.shape[0], theta.dtype)
        if reduction.spectrum is not None:
            s = reduction.spectrum
            chi2 += s.constant + jnp.sum((s.data - matmul(values, s.rows)) ** 2, axis=1)
        if reduction.photometry is not None:
            p = reduction.photometry
            chi2 += jnp.sum((p.flux - p.root_ivar * bands) ** 2, axis=1)
        return jnp.where(emulator.inside(theta, reduction.masses.t_age), -0.5 * chi2, -jnp.inf)

    return in_cache(log_likelihood)


@lru_cache(maxsize=4)
def normal_equations(emulator: ComponentEmulator) -> Callable[[jax.Array, EmulatedReduction], NormalEquations]:
    """chi^2 as a quadratic form in the four masses; see `provabgs.inference.compressed.normal_equations`."""

    def equations(theta: jax.Array, reduction: EmulatedReduction) -> NormalEquations:
        n = len(theta)
        per_basis = _with_burst(theta, columns(theta, reduction.masses, reduction.arrays, emulator.layout))
        q, b, constant = jnp.zeros((n, N_BASES, N_BASES)), jnp.zeros((n, N_BASES)), jnp.zeros(())
        if reduction.spectrum is not None:
            s = reduction.spectrum
            f_fiber = theta[:, INDEX["f_fiber"]].astype(jnp.float32)[:, None, None]
            rows = matmul(f_fiber * _attenuated(theta, s.light, *per_basis), s.rows)
            q, b = accumulate(q, b, rows, s.data)
            constant += s.constant + jnp.sum(s.data.astype(jnp.float64) ** 2)
        if reduction.photometry is not None:
            p = reduction.photometry
            bands = p.root_ivar * _sum_nodes(_attenuated(theta, p.light, *per_basis))
            q, b = accumulate(q, b, bands, p.flux)
            constant += jnp.sum(p.flux.astype(jnp.float64) ** 2)
        inside = emulator.inside(theta, reduction.masses.t_age)
        return NormalEquations(q, jnp.where(inside[:, None], b, jnp.nan), constant)

    return equations


def _values(theta: jax.Array, reduction: EmulatedReduction, emulator: ComponentEmulator) -> tuple[Any, Any]:
    """Model at the points ``(batch, npoint)`` and in bands ``(batch, nband)``, not yet whitened; None where no data."""
    mixed = mix(theta, reduction.masses, columns(theta, reduction.masses, reduction.arrays, emulator.layout))
    mass = 10.0 ** (theta[:, INDEX["logmstar"]] - REFERENCE_LOG_MASS)
    values = bands = None
    if reduction.spectrum is not None:
        amplitude = (mass * theta[:, INDEX["f_fiber"]]).astype(jnp.float32)[:, None]
        values = amplitude * _attenuated(theta, reduction.spectrum.light, *mixed)
    if reduction.photometry is not None:
        light = _attenuated(theta, reduction.photometry.light, *mixed)
        bands = mass.astype(jnp.float32)[:, None] * _sum_nodes(light)
    return values, bands


@lru_cache(maxsize=4)
def _emulated_values(emulator: ComponentEmulator) -> Callable[..., tuple[Any, Any]]:
    return jax.jit(lambda theta, reduction: _values(theta, reduction, emulator))


@lru_cache(maxsize=4)
def _exact_values(model: SPSModel) -> Callable[..., tuple[Any, Any]]:
    """As `_values`, of the compressed engine; its bands are whitened."""
    return jax.jit(make_prediction(model, at_points=True))


def _with_burst(theta: jax.Array, c: Columns) -> tuple[jax.Array, ...]:
    """Factors of what a unit of mass in each basis brings with it, its share of the burst included."""
    fburst = theta[:, INDEX["fburst"], None]
    keep, burst = (1 - fburst).astype(jnp.float32), fburst.astype(jnp.float32)
    smooth = (keep[..., None] * c.young, keep[..., None] * c.old)
    return *smooth, (burst * c.burst_young)[:, None], (burst * c.burst_old)[:, None]


def _attenuated(
    theta: jax.Array,
    light: Light,
    young: jax.Array,
    old: jax.Array,
    burst_young: jax.Array,
    burst_old: jax.Array,
) -> jax.Array:
    """Attenuated light ``(batch, ..., nwhere)`` from factors on the basis functions ``(batch, ..., nfunction)``."""
    a_old, a_young = transmission(light.curves, *dust_of(theta))
    if young.ndim == 3:
        a_old, a_young = a_old[:, None], a_young[:, None]
    f = light.functions
    return a_young * (matmul(young, f.young) + matmul(burst_young, f.burst)) + a_old * (
        matmul(old, f.old) + matmul(burst_old, f.burst)
    )


def _sum_nodes(values: jax.Array) -> jax.Array:
    """Sum over the nodes of each band, ``(..., nband)``."""
    return values.reshape(*values.shape[:-1], -1, N_BAND_NODES).sum(axis=-1)
