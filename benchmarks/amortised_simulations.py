"""Simulated galaxies for the amortised flow: noise-free data in a compressed form, microseconds each.

At each of a few hundred redshifts the compressed engine gives spectra at its points and bands of some thousand draws of
the prior. Spectra are kept as their products with the pixels of ``1 + N_COMPONENTS`` directions (the mean spectrum and
principal components over the prior, in the units of white noise), made orthonormal in the pixels of that redshift, so
that white noise of the pixels is white noise of the products. Noise, mass and f_fiber are drawn anew whenever a galaxy
is used: no network sees the same data twice.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import NamedTuple

import h5py
import numpy as np
from scipy import linalg

sys.path.insert(0, str(Path(__file__).parent))
from calibration import BANDS, CAMERAS, _camera, _model

from provabgs.core.arrays import FloatArray
from provabgs.core.errors import InputError
from provabgs.core.jax import jax, jnp
from provabgs.inference.compressed.compressed_likelihood import make_prediction
from provabgs.inference.compressed.interpolation_points import PointBasis, point_basis
from provabgs.inference.compressed.merged_nodes import merged_nodes
from provabgs.inference.compressed.photometry import flat_single, reduce_photometry
from provabgs.inference.compressed.quadratic_form import QuadraticForm
from provabgs.inference.compressed.reduction import REFERENCE_LOG_MASS, Reduction, SpectrumReduction
from provabgs.inference.marginalised import OUTER_INDEX
from provabgs.inference.priors import N_LATENT, Prior, theta_from_latent
from provabgs.observe.observation import Observation, Photometry
from provabgs.observe.options import ObservingOptions
from provabgs.observe.projection import Projection, project
from provabgs.sps.attenuation import dust_curves
from provabgs.sps.model import SPSModel
from provabgs.sps.parameters import INDEX

OBSERVING = ObservingOptions(line_mask="none", floor_spectrum=0, floor_optical=0, floor_infrared=0)
REDSHIFTS = (0.02, 0.55)
REST_RANGE = (2300.0, 9700.0)
"""Rest wavelengths that the cameras see at these redshifts, Angstrom."""
N_COMPONENTS = 64
N_PILOT = (24, 400)
"""Redshifts, and galaxies at each, that the directions are learnt from."""
SEED = 20240117


class Frame(NamedTuple):
    """Directions that spectra are described by, the same at every redshift."""

    columns: FloatArray
    """``(npoint, 1 + N_COMPONENTS)`` mean and components as coefficients of the engine's cardinal spectra."""
    colours: FloatArray
    """``(1 + N_COMPONENTS, ncolour)`` mean flux of each in broad stretches of rest wavelength."""


class Epoch(NamedTuple):
    """What depends on the redshift alone."""

    redshift: float
    vectors: FloatArray
    """``(n, n)``, n = 1 + N_COMPONENTS: eigenvectors of the directions' Gram matrix in pixels, as columns."""
    root: FloatArray
    """``(n,)`` roots of its eigenvalues."""
    level: FloatArray
    """``(n,)`` mean flux of the pixels as a linear function of the products."""
    log_scale: float
    """log10 of the flux of one Lsun/A, to put brightness on an absolute scale."""


def blank(redshift: float) -> Observation:
    """An observation of the calibration study's cameras and bands, of unit flux and noise."""
    photometry = Photometry(BANDS, np.ones(len(BANDS)), np.ones(len(BANDS)))
    return Observation(redshift, tuple(_camera(c, None, None) for c in CAMERAS), photometry)


def basis(model: SPSModel) -> PointBasis:
    """The engine's points, one window for all redshifts."""
    return point_basis(model, *REST_RANGE)


def pixel_form(projection: Projection, model: SPSModel) -> QuadraticForm:
    """Cardinal spectra and data in the galaxy's pixels, over the noise."""
    assert projection.spectrum is not None
    return QuadraticForm.of(projection.spectrum, basis(model))


def make_epoch(projection: Projection, gram: FloatArray, total: FloatArray, n_pix: int, frame: Frame) -> Epoch:
    """Products at one redshift; `gram` and `total` ``(npoint,)`` sum cardinal spectra over pixels of unit noise."""
    values, vectors = np.linalg.eigh(frame.columns.T @ gram @ frame.columns)
    root = np.sqrt(np.maximum(values, 1e-12 * values[-1]))
    level = (vectors.T @ frame.columns.T @ total) / root / n_pix
    return Epoch(projection.redshift, vectors, root, level, float(np.log10(projection.flux_factor)))


class Block(NamedTuple):
    """Noise-free galaxies at one redshift, for 10^10 Msun and f_fiber = 1."""

    projection: Projection
    gram: FloatArray
    total: FloatArray
    n_pix: int
    outer: FloatArray
    """``(n, 8)`` outer coordinates; f_fiber's is drawn later."""
    u: FloatArray
    """``(n, npoint)`` coefficients of cardinal spectra."""
    bands: FloatArray
    """``(n, 5)`` nanomaggies."""


_predict = None


def draw_block(redshift: float, n: int, rng: np.random.Generator) -> Block:
    """Galaxies of the prior at one redshift."""
    global _predict  # compiled once: every redshift has the same shapes
    model = _model()
    points = basis(model)
    projection = project(blank(redshift), model.library, OBSERVING)
    assert projection.photometry is not None
    form = pixel_form(projection, model)
    scale = projection.flux_factor * 10.0**REFERENCE_LOG_MASS
    n_point = len(points.r)
    zero = jnp.zeros(())
    spectrum = SpectrumReduction(
        jnp.asarray(points.young),
        jnp.asarray(points.old),
        flat_single(dust_curves(points.wave, model.birth_cloud_slope)),
        jnp.zeros((n_point, 1), jnp.float32),
        jnp.zeros(1, jnp.float32),
        zero,
        zero,
    )
    tables = merged_nodes(model).tables(model.tables(projection.t_age))
    tables = jax.tree.map(lambda x: jnp.asarray(x, jnp.float32), tables)
    reduction = Reduction(tables, spectrum, reduce_photometry(projection, projection.photometry, model, scale))
    if _predict is None:
        _predict = jax.jit(make_prediction(model, at_points=True))
    latent = rng.standard_normal((n, N_LATENT))
    theta = np.array(theta_from_latent(jnp.asarray(latent), Prior.create()))
    theta[:, INDEX["logmstar"]], theta[:, INDEX["f_fiber"]] = REFERENCE_LOG_MASS, 1.0
    pieces = [_predict(jnp.asarray(t), reduction) for t in np.array_split(theta, max(1, n // 100))]
    values, bands = (np.concatenate([np.asarray(p[i], np.float64) for p in pieces]) for i in range(2))
    u = scale * linalg.solve_triangular(points.r, values.T, trans="T").T
    gram, _ = form.gram(n_point)
    total = form.pixels.sum(axis=0, dtype=np.float64)
    return Block(projection, gram, total, len(form.pixels), latent[:, OUTER_INDEX], u, bands)


def learn_frame(rng: np.random.Generator) -> Frame:
    """Mean and principal components of spectra of unit mean flux, where principal is by the noise of the pixels."""
    n_z, n = N_PILOT
    grams, shapes = [], []
    for z in _redshifts(n_z, rng):
        block = draw_block(z, n, rng)
        grams.append(block.gram)
        shapes.append(block.u / (block.u @ block.total / block.n_pix)[:, None])
    shape = np.concatenate(shapes)
    mean = shape.mean(axis=0)
    factor = np.linalg.cholesky(np.cov(shape.T) + 1e-10 * np.eye(len(mean)))
    vectors = np.linalg.eigh(factor.T @ np.mean(grams, axis=0) @ factor)[1]
    columns = np.column_stack([mean, factor @ vectors[:, ::-1][:, :N_COMPONENTS]])
    points = basis(_model())
    wave = _model().library.wave[points.columns]
    edges = np.geomspace(*REST_RANGE, 41)
    group = np.clip(np.searchsorted(edges, wave) - 1, 0, 39)
    average = np.stack([points.cardinal_by_wave[group == g].mean(axis=0) for g in range(40)], axis=1)
    return Frame(columns, columns.T @ average)


def _redshifts(n: int, rng: np.random.Generator) -> FloatArray:
    """One in each of `n` equal intervals, in random order."""
    low, high = REDSHIFTS
    return rng.permutation(low + (high - low) * (np.arange(n) + rng.random(n)) / n)


def read_frame(file: h5py.File) -> Frame:
    """The directions of a file of simulations, which mean nothing on other points.

    Raises
    ------
    InputError
        When the engine's points are not those that the file was made with.
    """
    if not np.array_equal(file["points"][:], basis(_model()).wave):
        raise InputError(f"{file.filename}: made with other points of the compressed engine; simulate and train anew")
    return Frame(file["columns"][:], file["colours"][:])


def simulate_to(path: Path, n_redshift: int, n_each: int) -> None:
    """Fill a file of simulations; goes on where it was."""
    n = 1 + N_COMPONENTS
    with h5py.File(path, "a") as file:
        if "columns" not in file:
            frame = learn_frame(np.random.default_rng([SEED, 0]))
            file["colours"] = frame.colours
            file["redshifts"] = _redshifts(n_redshift, np.random.default_rng([SEED, 1]))
            shapes = {"outer": (n_each, 8), "clean": (n_each, n), "bands": (n_each, 5)}
            shapes |= {"vectors": (n, n), "root": (n,), "level": (n,), "log_scale": ()}
            for name, shape in shapes.items():
                file.create_dataset(name, (n_redshift, *shape), "f4")
            file.attrs["n_done"] = 0
            file["points"] = basis(_model()).wave
            file["columns"] = frame.columns
        frame = read_frame(file)
        for i in range(int(file.attrs["n_done"]), len(file["redshifts"])):
            block = draw_block(float(file["redshifts"][i]), file["outer"].shape[1], np.random.default_rng([SEED, 2, i]))
            epoch = make_epoch(block.projection, block.gram, block.total, block.n_pix, frame)
            along = (epoch.vectors.T @ frame.columns.T @ block.gram) / epoch.root[:, None]
            file["outer"][i], file["bands"][i], file["clean"][i] = block.outer, block.bands, block.u @ along.T
            for name in ("vectors", "root", "level", "log_scale"):
                file[name][i] = getattr(epoch, name)
            file.attrs["n_done"] = i + 1
            file.flush()
            print(f"\r{i + 1}/{len(file['redshifts'])} redshifts ", end="", flush=True)


def products_of(projection: Projection, frame: Frame) -> tuple[Epoch, FloatArray, float]:
    """A galaxy's redshift, the products of its spectrum, and the noise of a pixel (which has to be white)."""
    assert projection.spectrum is not None
    form = pixel_form(projection, _model())
    gram, projected = form.gram(len(frame.columns))
    sigma = float(1 / form.root_ivar[0])
    total = (form.pixels.T @ np.full(len(form.pixels), sigma)).astype(np.float64)
    epoch = make_epoch(projection, gram * sigma**2, total, len(form.pixels), frame)
    return epoch, (epoch.vectors.T @ frame.columns.T @ projected) * sigma**2 / epoch.root, sigma
