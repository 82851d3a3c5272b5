"""Build ``template_error.h5``: components of the difference between SSP libraries at equal physical parameters.

Run, with libraries made by ``provabgs ssp build``::

    python -m provabgs.data.build_template_error --emiles emiles.h5 --bc03 bc03.h5 -o data/template_error.h5

Composites over the prior (history, metallicity history, dust, age of the universe) are made with each library, at equal
log10(Z/Zsun), each with its own solar metallicity. ``d = ln L_other - ln L_ours``, less what the IMFs differ by. Second
moments of d about zero, not about its mean, averaged over the pairs: what the libraries differ by systematically is an
error, too, of unknown sign. A further part stands for what three libraries cannot show: our own library with
ages, metallicities and light per mass of its SSPs perturbed by smooth random functions of age (`Perturbation`). The
components are the leading eigenvectors of the sum, each scaled by the root of its eigenvalue.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from provabgs.core.arrays import FloatArray
from provabgs.core.constants import C_KMS
from provabgs.core.errors import ProvabgsError
from provabgs.core.jax import jnp
from provabgs.inference.priors import Prior, theta_from_unit
from provabgs.observe.linespread import spread_matrix
from provabgs.observe.template_error import TemplateError
from provabgs.sps.composite import Parts, composite
from provabgs.sps.imf import imf_light
from provabgs.sps.interpolation import hat_weights
from provabgs.sps.library import SSPLibrary
from provabgs.sps.model import SPSModel

STEPS_KMS = ((2010.0, 3500.0, 100.0), (3500.0, 9500.0, 75.0), (9500.0, 11500.0, 150.0), (11500.0, 59700.0, 600.0))
"""Spacing of the wavelength grid, km/s, by range in Angstrom."""
SIGMA_KMS = 150.0
"""Velocity dispersion of the compared spectra, km/s; the grid's spacing where that is wider."""
WEIGHTS = (
    (0.0, 3000.0, 0.4),
    (3000.0, 3550.0, 0.7),
    (3550.0, 8900.0, 1.0),
    (8900.0, 11500.0, 0.7),
    (11500.0, 1e5, 0.35),
)
"""Weight of an error in the ranking of components, by range in Angstrom."""
T_AGE_GYR = (7.7, 13.5)
"""Ages of the universe at the galaxies: z = 0.6 to 0.02."""
ENRICHED = (3e-3, 1.5e-2)
"""Narrower prior of the metallicity weights of every other composite: massive galaxies, which the prior has few of."""
TRANSFER_NOISE = 0.05
"""Noise per grid point, fraction, at which components are fitted to a held-out library."""


class Perturbation(NamedTuple):
    """Prior sigmas of what our library's SSPs may be wrong by, smooth in log age."""

    age_dex: float = 0.10
    metallicity_dex: float = 0.15
    ln_light: float = 0.10
    length_dex: float = 0.5
    """Correlation length in log10 age."""

    def times(self, factor: float) -> Perturbation:
        """All sigmas times a factor."""
        return Perturbation(
            factor * self.age_dex, factor * self.metallicity_dex, factor * self.ln_light, self.length_dex
        )


class Draws(NamedTuple):
    """Parameters of the composites."""

    theta: FloatArray
    """``(n, nparameter)`` in the order of `SPSModel.parameters`."""
    t_age: FloatArray
    """``(n,)`` Gyr."""


def wavelength_grid(low: float, high: float) -> tuple[FloatArray, FloatArray]:
    """Rest wavelengths ``(n,)``, Angstrom, and the dispersion at each, Angstrom, within ``(low, high)``."""
    waves, sigmas = [], []
    for start, stop, step in STEPS_KMS:
        n = int(np.ceil(np.log(stop / start) * C_KMS / step))
        piece = start * (stop / start) ** (np.arange(n) / n)
        waves.append(piece)
        sigmas.append(piece * max(SIGMA_KMS, step) / C_KMS)
    wave, sigma = np.concatenate(waves), np.concatenate(sigmas)
    # pixels as wide as the grid must lie inside the library
    inside = (wave > low * (1 + 2 * STEPS_KMS[0][2] / C_KMS)) & (wave < high * (1 - 2 * STEPS_KMS[-1][2] / C_KMS))
    return wave[inside], sigma[inside]


def draw(n: int, seed: int) -> Draws:
    """Composites over the prior; every other one over an enriched part of it."""
    rng = np.random.default_rng(seed)
    parameters = SPSModel().parameters
    enriched = Prior.of(parameters, {"gamma1": ENRICHED, "gamma2": ENRICHED})
    whole = Prior.of(parameters)
    unit = jnp.asarray(rng.uniform(size=(n, whole.n_coordinate)))
    theta = np.where(np.arange(n)[:, None] % 2 == 0, theta_from_unit(unit, whole), theta_from_unit(unit, enriched))
    return Draws(theta, rng.uniform(*T_AGE_GYR, n))


class Composites:
    """Attenuated composites of one library on a common wavelength grid, smoothed.

    Parameters
    ----------
    library
        Stars.
    wave, sigma_aa
        ``(nwave,)`` grid and dispersion, Angstrom. Where the grid reaches beyond the library, the end value is kept.
    """

    def __init__(self, library: SSPLibrary, wave: FloatArray, sigma_aa: FloatArray) -> None:
        self.library, self.model = library, SPSModel(library)
        low, high = library.wave[0] * (1 + 1e-3), library.wave[-1] * (1 - 3e-3)
        inside = np.flatnonzero((wave > low) & (wave < high))
        matrix = spread_matrix(library.wave, wave[inside], sigma_aa[inside])
        flat = library.spectrum.reshape(-1, library.wave.size)
        smooth = np.array([matrix @ row for row in flat], dtype=np.float32).reshape(*library.spectrum.shape[:2], -1)
        self.covered = (int(inside[0]), int(inside[-1]))
        self.spectra = smooth[:, :, np.clip(np.arange(wave.size) - inside[0], 0, inside.size - 1)]
        self.curves = self.model.attenuation.curves(wave)

    def ln_light(
        self,
        draws: Draws,
        logzsol_range: tuple[float, float],
        perturbation: Perturbation | None = None,
        seed: int = 0,
    ) -> FloatArray:
        """Ln of luminosity, erg/s/Angstrom per Msun formed, ``(n, nwave)``.

        Parameters
        ----------
        draws
            Parameters.
        logzsol_range
            log10(Z/Zsun) is clipped to this.
        perturbation
            Perturbs ages, metallicities and light per mass of the SSPs, differently for each composite.
        seed
            Of the perturbation.
        """
        model, lib = self.model, self.library
        values = model.parameters.values(jnp.asarray(draws.theta))
        masses = model.node_masses(values, model.tables(draws.t_age))
        mass, logz = np.array(masses.mass), np.clip(np.array(masses.logzsol), *logzsol_range)
        log_age = np.broadcast_to(lib.log_age, mass.shape)
        if perturbation is not None:
            rng = np.random.default_rng(seed)
            apart = (lib.log_age[:, None] - lib.log_age) / perturbation.length_dex
            root = np.linalg.cholesky(np.exp(-0.5 * apart**2) + 1e-8 * np.eye(lib.log_age.size))
            age, z, light = (rng.standard_normal(mass.shape) @ root.T for _ in range(3))
            log_age = log_age + perturbation.age_dex * age
            logz = np.clip(logz + perturbation.metallicity_dex * z, *logzsol_range)
            mass = mass * np.exp(perturbation.ln_light * light)
        w_age, w_z = np.array(hat_weights(log_age, lib.log_age)), np.array(hat_weights(logz, lib.logzsol))
        parts = []
        for nodes in (model.young_nodes, model.old_nodes):
            weight = np.einsum("bj,bjz,bja->bza", mass[:, nodes], w_z[:, nodes], w_age[:, nodes], optimize=True)
            parts.append(weight.reshape(len(mass), -1) @ self.spectra.reshape(-1, self.spectra.shape[-1]))
        light = composite(Parts(*parts), model.attenuation.transmission(self.curves, values))
        return np.log(np.array(light, dtype=np.float64)) + np.log(lib.lsun_cgs)


class Difference(NamedTuple):
    """One pair of libraries."""

    name: str
    d: FloatArray
    """``(n, nwave)`` ln L_other - ln L_ours at equal IMF."""


def difference(ours: Composites, other: Composites, name: str, draws: Draws) -> Difference:
    """Difference of a pair over the metallicities that both have, IMFs converted."""
    a, b = ours.library.logzsol, other.library.logzsol
    both = (max(a[0], b[0]), min(a[-1], b[-1]))
    imf = imf_light(other.library.imf) - imf_light(ours.library.imf)
    d = other.ln_light(draws, both) - ours.ln_light(draws, both) - imf
    return Difference(name, _held(d, other.covered))


def perturbed(ours: Composites, draws: Draws, perturbation: Perturbation, seed: int) -> Difference:
    """What our library differs by from itself when its SSPs are perturbed."""
    whole = (float(ours.library.logzsol[0]), float(ours.library.logzsol[-1]))
    return Difference("perturbed", ours.ln_light(draws, whole, perturbation, seed) - ours.ln_light(draws, whole))


def _held(d: FloatArray, covered: tuple[int, int]) -> FloatArray:
    """Differences with the values at the ends of the range that both cover kept beyond."""
    return d[:, np.clip(np.arange(d.shape[1]), *covered)]


def ranking_weights(wave: FloatArray) -> FloatArray:
    """``(nwave,)`` weights under which components are ranked: `WEIGHTS`, per unit of ln wavelength."""
    by_range = np.select([(wave >= a) & (wave < b) for a, b, _ in WEIGHTS], [w for _, _, w in WEIGHTS])
    out: FloatArray = by_range * np.sqrt(np.gradient(np.log(wave)) / np.median(np.gradient(np.log(wave))))
    return out


def learn(
    pairs: Sequence[Difference], extra: Difference | None, wave: FloatArray, k: int
) -> tuple[FloatArray, FloatArray]:
    """Components ``(k, nwave)`` of the mean second moment of `pairs` plus that of `extra`; all eigenvalues."""
    weight = ranking_weights(wave)
    rows = [p.d * weight / np.sqrt(len(p.d) * len(pairs)) for p in pairs]
    rows += [extra.d * weight / np.sqrt(len(extra.d))] if extra is not None else []
    stack = np.concatenate(rows)
    eigenvalue, vector = np.linalg.eigh(stack @ stack.T)
    order = np.argsort(eigenvalue)[::-1]
    modes: FloatArray = vector[:, order[:k]].T @ stack / weight
    # an eigenvector's sign is arbitrary: the largest value is made positive, so that the file is always the same
    largest = np.abs(modes).argmax(axis=1)
    modes = modes * np.sign(modes[np.arange(k), largest])[:, None]
    return modes, eigenvalue[order]


def left_over(modes: FloatArray, d: FloatArray, noise: float = TRANSFER_NOISE) -> tuple[FloatArray, FloatArray]:
    """What components leave of differences ``(n, nwave)`` when fitted with their prior; also the coefficients."""
    solve = np.eye(len(modes)) + modes @ modes.T / noise**2
    coefficients: FloatArray = np.linalg.solve(solve, modes @ d.T / noise**2).T.astype(np.float64)
    return d - coefficients @ modes, coefficients


def running_rms(residual: FloatArray, points: int = 41) -> FloatArray:
    """``(nwave,)`` rms over composites and over a window of grid points."""
    kernel = np.ones(points) / points
    square = np.pad((residual**2).mean(axis=0), points // 2, mode="edge")
    return np.sqrt(np.convolve(square, kernel, mode="valid"))


def build(
    ours: SSPLibrary, others: dict[str, SSPLibrary], n_draw: int, k: int, seed: int, perturbation: Perturbation
) -> dict[str, TemplateError]:
    """Components by group: of all libraries, and without each.

    Parameters
    ----------
    ours
        The library whose error is wanted.
    others
        Libraries to compare with, by name.
    n_draw
        Composites per pair; a quarter as many more measure what the components leave.
    k
        Components kept.
    seed
        Of the composites.
    perturbation
        See `Perturbation`.
    """
    wave, sigma = wavelength_grid(ours.wave[0], ours.wave[-1])
    train, test = draw(n_draw, seed), draw(max(n_draw // 4, 20), seed + 1)
    mine = Composites(ours, wave, sigma)
    pairs, checks = {}, {}
    for name, library in others.items():
        other = Composites(library, wave, sigma)
        pairs[name], checks[name] = (difference(mine, other, name, d) for d in (train, test))
        del other
    extra = perturbed(mine, train, perturbation, seed + 2)
    groups = {"all": list(pairs)} | {f"without-{out}": [n for n in pairs if n != out] for out in pairs}
    fitted = {g: learn([pairs[n] for n in names], extra, wave, k)[0] for g, names in groups.items()}
    transfer = {n: running_rms(left_over(fitted[f"without-{n}"], checks[n].d)[0]) for n in pairs}
    out = {}
    for group, names in groups.items():
        held = [n for n in pairs if n not in names] or list(pairs)
        out[group] = TemplateError(
            wave=wave,
            modes=fitted[group],
            residual=running_rms(np.concatenate([left_over(fitted[group], checks[n].d)[0] for n in names])),
            transfer=np.sqrt(np.mean([transfer[n] ** 2 for n in held], axis=0)),
            library_sha256=ours.digest(),
            library_source=ours.provenance.get("source", "unknown"),
            group=group,
            provenance=_provenance(names, others, n_draw, k, seed, perturbation),
        )
    return out


def _provenance(
    names: list[str], others: dict[str, SSPLibrary], n_draw: int, k: int, seed: int, perturbation: Perturbation
) -> dict[str, str]:
    told = "; ".join(
        f"{n} (sha256 {others[n].digest()}): {others[n].provenance.get('source', 'unknown')}" for n in names
    )
    factor = perturbation.age_dex / Perturbation().age_dex
    cited = "; ".join(others[n].provenance.get("citation", "unknown") for n in names)
    return {
        "source": "second moments of ln L_other - ln L_ours at equal parameters, IMFs converted, smoothed to 150 km/s",
        "libraries": told,
        "perturbation": ", ".join(f"{name} {value:g}" for name, value in perturbation._asdict().items()),
        "licence": "numbers derived from the libraries; cite them. E-MILES: non-commercial use",
        "citation": cited,
        "composites": str(n_draw),
        "seed": str(seed),
        "command": "python -m provabgs.data.build_template_error "
        + " ".join(f"--{name} {name}.h5" for name in others)
        + f" --draws {n_draw} --components {k} --seed {seed} --perturb {factor:g}",
    }


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; exit code 2 with one line on a bad input."""
    parser = argparse.ArgumentParser(prog="python -m provabgs.data.build_template_error", description=__doc__)
    parser.add_argument("--library", type=Path, help="library whose error is wanted (default: the one that ships)")
    parser.add_argument("--emiles", type=Path, required=True, help="library of `provabgs ssp build --source emiles`")
    parser.add_argument("--bc03", type=Path, required=True, help="library of `provabgs ssp build --source bc03`")
    parser.add_argument("--draws", type=int, default=800, help="composites per pair (default: %(default)s)")
    parser.add_argument("--components", type=int, default=30, help="components kept (default: %(default)s)")
    parser.add_argument("--perturb", type=float, default=1.0, help="factor on the perturbation (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=17)
    parser.add_argument("-o", "--output", type=Path, required=True, help="file to write, .h5")
    options = parser.parse_args(argv)
    try:
        ours = SSPLibrary.default() if options.library is None else SSPLibrary.load(options.library)
        others = {"emiles": SSPLibrary.load(options.emiles), "bc03": SSPLibrary.load(options.bc03)}
        perturbation = Perturbation().times(options.perturb)
        groups = build(ours, others, options.draws, options.components, options.seed, perturbation)
        options.output.unlink(missing_ok=True)
        for error in groups.values():
            error.save(options.output)
    except (ProvabgsError, OSError) as err:
        print(f"error: {err}", file=sys.stderr)
        return 2
    for name, error in groups.items():
        print(f"{name}: {error.n_component} components, {error.wave.size} wavelengths, sha256 {error.digest()}")
    print(f"{options.output}: {options.output.stat().st_size / 1e6:.2f} MB")
    return 0


if __name__ == "__main__":
    sys.exit(main())
