"""How far light below 2005 A can be trusted: GALEX colours of the continued library against libraries that reach there.

Composites of the shipped library, continued by BC03's shapes, against the same composites of BC03 itself, and SSPs of
FSPS (Padova isochrones, Z = 0.002, with gas) against their own light at 2005-2105 A times BC03's shape.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from provabgs.core.arrays import FloatArray
from provabgs.observe.absolute import absolute_weights
from provabgs.sps.interpolation import hat_weights
from provabgs.sps.library import SSPLibrary
from provabgs.sps.ultraviolet import REFERENCE_BAND, UltravioletShapes, extended

BANDS = ("galex-fuv", "galex-nuv", "sdss2010-r")
METALLICITY = 0.019
TIME = np.linspace(4.0, 10.12, 6000)
"""log10 of ages, years, over which composites are summed."""
STRETCHES = ((1250.0, 1350.0), (1400.0, 1600.0), (1700.0, 1800.0))
"""Angstrom, of FSPS's SSPs."""
OVERLAP = (2005, 2305)
"""Angstrom, where both libraries have light of their own."""
AGES_GYR = (0.003, 0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0)


def histories() -> dict[str, FloatArray]:
    """Weights on `TIME` of each composite: mass formed at each age."""
    age = 10.0 ** (TIME - 9)
    step = np.gradient(age)
    made = {f"constant over the last {end:g} Gyr": np.where(age < end, step, 0.0) for end in (0.1, 1.0, 12.0)}
    for tau in (5.0, 2.0, 1.0):
        made[f"exponential, 12 Gyr, tau {tau:g} Gyr"] = np.where(age < 12, np.exp((age - 12) / tau), 0.0) * step
    for at in AGES_GYR:
        made[f"one age, {at:g} Gyr"] = np.exp(-0.5 * ((TIME - np.log10(at) - 9) / 0.02) ** 2)
    return made


def colours(library: SSPLibrary, weights: FloatArray) -> tuple[float, float]:
    """FUV - NUV and NUV - r of a composite, without dust."""
    at = np.asarray(hat_weights(np.log10(METALLICITY), np.log10(library.metallicity)))
    flux = []
    for band in BANDS:
        project = absolute_weights(band, library.wave, library.lsun_cgs)
        assert project is not None
        ssp = np.einsum("k,kaw,w->a", at, library.spectrum, project)
        flux.append(float(weights @ np.interp(TIME, library.log_age, ssp)))
    fuv, nuv, r = -2.5 * np.log10(flux)
    return fuv - nuv, nuv - r


def continued() -> SSPLibrary:
    """The shipped library with the light that models take from BC03."""
    library = SSPLibrary.default()
    below = UltravioletShapes.default().below(library)
    assert below is not None
    return extended(library, below)


def against(ours: SSPLibrary, other: SSPLibrary) -> list[str]:
    """One line per composite."""
    lines = ["| history | FUV-NUV | NUV-r | FUV-NUV of the other | NUV-r of the other |", "|---|---|---|---|---|"]
    for name, weights in histories().items():
        a, b = colours(ours, weights), colours(other, weights)
        lines.append(f"| {name} | {a[0]:.2f} | {a[1]:.2f} | {b[0]:.2f} | {b[1]:.2f} |")
    return lines


def own_light(ours: SSPLibrary, other: SSPLibrary) -> list[str]:
    """Ln of our light over the other's in `OVERLAP`, per mass formed, by age at one metallicity."""
    logs = []
    for library in (ours, other):
        at = np.asarray(hat_weights(np.log10(METALLICITY), np.log10(library.metallicity)))
        inside = (library.wave > OVERLAP[0]) & (library.wave < OVERLAP[1])
        light = np.trapezoid(library.spectrum[..., inside], library.wave[inside], axis=-1) / np.ptp(
            library.wave[inside]
        )
        logs.append(np.interp(np.log10(AGES_GYR) + 9, library.log_age, at @ np.log(light)))
    head = " | ".join(f"{t:g} Gyr" for t in AGES_GYR)
    numbers = " | ".join(f"{x:+.2f}" for x in logs[0] - logs[1])
    return [f"| stretch, A | {head} |", "|---|" + "---|" * len(AGES_GYR), f"| {OVERLAP[0]}-{OVERLAP[1]} | {numbers} |"]


def against_fsps(path: Path) -> list[str]:
    """BC03's shape over FSPS's own, ln of the ratio, by age."""
    with np.load(path, allow_pickle=False) as file:
        wave, log_age, spectrum = file["wave"], file["logage"], file["lnu"] / file["wave"] ** 2
    shapes = UltravioletShapes.default()
    at = np.asarray(hat_weights(np.log10(0.002), shapes.log_z))
    logs = np.einsum("z,zaw->aw", at, np.log(np.maximum(shapes.ratio.astype(np.float64), 1e-12)))

    def mean(low: float, high: float) -> FloatArray:
        grid = np.linspace(low, high, 400)
        return np.array([np.interp(grid, wave, row).mean() for row in spectrum])

    reference = mean(*REFERENCE_BAND) * (REFERENCE_BAND[1] - REFERENCE_BAND[0])
    head = " | ".join(f"{t:g} Gyr" for t in AGES_GYR)
    lines = [f"| stretch, A | {head} |", "|---|" + "---|" * len(AGES_GYR)]
    for low, high in STRETCHES:
        inside = (shapes.wave > low) & (shapes.wave < high)
        bc03 = np.log(np.exp(logs[:, inside]).mean(axis=1))
        error = np.interp(log_age, shapes.log_age, bc03) - np.log(mean(low, high) / reference)
        numbers = np.interp(np.log10(AGES_GYR) + 9, log_age, error)
        lines.append(f"| {low:.0f}-{high:.0f} | " + " | ".join(f"{x:+.2f}" for x in numbers) + " |")
    return lines


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; exit code 2 with one line where a file is missing."""
    parser = argparse.ArgumentParser(prog="python -m studies.ultraviolet", description=__doc__)
    parser.add_argument("--bc03", type=Path, help="SSP library of `provabgs ssp build --source bc03` from 900 A on")
    parser.add_argument("--fsps", type=Path, help="fsps_ref_padova_basel_Z0.0020.npz")
    parser.add_argument("--smoke", action="store_true", help="the continued library against itself, without files")
    options = parser.parse_args(argv)
    ours = continued()
    if options.smoke:
        print("\n".join(against(ours, ours)))
        return 0
    for path in (options.bc03, options.fsps):
        if path is None or not path.exists():
            print(f"error: {path or '--bc03 or --fsps'} is missing; see --help", file=sys.stderr)
            return 2
    bc03 = SSPLibrary.load(options.bc03)
    print("\n".join([*against(ours, bc03), "", *against_fsps(options.fsps), "", *own_light(ours, bc03)]))
    return 0


if __name__ == "__main__":
    sys.exit(main())
