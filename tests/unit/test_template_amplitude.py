"""The study of the template error's amplitude: what it makes of evidences, without a fit."""

from __future__ import annotations

import numpy as np
import pytest

from studies.honest_posteriors import PROPERTIES
from studies.template_amplitude import N_QUANTILE, marginal_of, peak, summary_of, table_of_amplitudes

AMPLITUDES = (0.5, 0.7, 1.0, 1.4, 2.0)


def evidences(n: int, best: float, sigma: float, scatter: float, seed: int = 0) -> np.ndarray:
    """Parabolas in ln amplitude, one per galaxy, about peaks that scatter."""
    rng = np.random.default_rng(seed)
    peaks = np.log(best) + scatter * rng.standard_normal((n, 1))
    return -0.5 * ((np.log(AMPLITUDES) - peaks) / sigma) ** 2 + 1000.0 * rng.standard_normal((n, 1))


def test_parabola() -> None:
    x = np.log(AMPLITUDES)
    mean, sigma = peak(x, -0.5 * ((x - 0.2) / 0.3) ** 2 + 7.0)
    assert (mean, sigma) == pytest.approx((0.2, 0.3))
    mean, sigma = peak(x, x)
    assert mean == x[-1]
    assert np.isnan(sigma)


def test_the_ensemble_says_what_one_galaxy_does_not() -> None:
    """Forty galaxies, each with a sigma of 1 in ln amplitude: 0.16 together, as the bootstrap says too."""
    told = table_of_amplitudes(evidences(40, 1.2, 1.0, 1.0), AMPLITUDES)
    sentence = told.splitlines()[-1]
    amplitude = float(sentence.split()[1].rstrip(","))
    low, high = (float(v) for v in sentence.split("68 % ")[1].split(" by")[0].split("-"))
    assert abs(np.log(amplitude / 1.2)) < 3 * 0.16
    assert low < amplitude < high
    assert 0.2 < np.log(high / low) < 0.5
    assert sentence.endswith("parabola +-0.16.")
    rows = [line.split("|")[1:5] for line in told.splitlines()[2:7]]
    assert sum(float(r[2]) for r in rows) == pytest.approx(1.0, abs=0.003)
    assert max(float(r[1]) for r in rows) == 0.0


def piece(mean: float, log_evidence: float, truth: float = 0.0) -> dict[str, np.ndarray]:
    """A fit whose properties are all uniform within 1 of their mean."""
    draws = {name: np.append(truth, np.linspace(mean - 1, mean + 1, N_QUANTILE)) for name in PROPERTIES}
    return draws | {"log_evidence": np.array(log_evidence)}


def test_marginal_is_the_average_by_evidence() -> None:
    near, far = piece(0.0, 0.0), piece(10.0, np.log(3.0))
    for name in PROPERTIES:
        truth, rank, median, _ = marginal_of([near, far])[name]
        assert (truth, rank) == pytest.approx((0.0, 0.5 * 0.25), abs=0.01)
        assert 9.0 < median < 10.0
        alone = summary_of(near)[name]
        assert alone == pytest.approx([0.0, 0.5, 0.0, 0.68], abs=0.01)
        np.testing.assert_allclose(marginal_of([near, piece(10.0, -1000.0)])[name], alone, atol=0.01)
