"""Posterior files: what goes in comes out, and damaged files are refused by name."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import h5py
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from provabgs.catalog.block import concatenate
from provabgs.catalog.columns import LOG_PROB, STANDARD
from provabgs.catalog.digest import digest
from provabgs.catalog.encode import dequantise, quantise
from provabgs.catalog.records import healpix64, to_block, to_posteriors
from provabgs.catalog.shard import read_block, read_shard, write_shard
from provabgs.catalog.shard_file import FORMAT
from provabgs.core.arrays import thin
from provabgs.core.errors import DataFileError, InputError
from provabgs.core.status import Status
from provabgs.inference.config import FitConfig
from provabgs.inference.posterior import Posterior
from provabgs.inference.standard import PARAMETERS, PROPERTIES
from provabgs.pipelines.dry_run import synthetic_posterior


def make(n: int, n_draws: int = 300) -> list[Posterior]:
    good = [
        replace(
            synthetic_posterior(1000 + i, np.random.default_rng(i), n_draws),
            ra=150.0 + 0.01 * i,
            dec=2.0,
            meta={"MAG_R": 18.5, "SPECTYPE": "GALAXY", "note": {"a": [1, 2]}, "ROW": i},
            seed=7 + i,
            data_hash=f"{i:064x}",
        )
        for i in range(n - 1)
    ]
    return [
        *good,
        Posterior.without_samples(
            Status.NO_VALID_PIXELS, "every pixel is masked", FitConfig(), 0, targetid=5, redshift=0.2
        ),
    ]


def test_threads_write_at_once(tmp_path: Path) -> None:
    before = make(4)
    with ThreadPoolExecutor(8) as pool:
        written = [pool.submit(write_shard, tmp_path / f"{k}.h5", before, n_samples=None) for k in range(40)]
    assert [w.exception() for w in written] == [None] * 40
    assert len({(tmp_path / f"{k}.h5").read_bytes() for k in range(40)}) == 1


@pytest.mark.parametrize("encoding", ["uint16", "float32"])
def test_round_trip(tmp_path: Path, encoding: str) -> None:
    before = make(4)
    write_shard(tmp_path / "a.h5", before, encoding=encoding, n_samples=None, attrs={"run_seed": 3})  # type: ignore[arg-type]
    after = read_shard(tmp_path / "a.h5")
    for p, q in zip(before, after, strict=True):
        for field in ("targetid", "redshift", "status", "message", "seed", "config", "versions", "data_hash", "meta"):
            assert getattr(p, field) == getattr(q, field), field
        assert q.samples.shape == p.samples.shape
        span = np.ptp(p.samples, axis=0) if p.samples.size else 0.0
        assert np.all(np.abs(q.samples - p.samples) <= span / 131_064 * 1.01 + 1e-6 * np.abs(p.samples))
        assert (q.parameters, q.properties) == (p.parameters, p.properties)
        assert q.derived.keys() == p.derived.keys() == {d.name for d in PROPERTIES}
        for name in p.derived:
            np.testing.assert_allclose(q.derived[name], p.derived[name], rtol=2e-5, atol=2e-5)
        np.testing.assert_array_equal(q.best_fit, p.best_fit)
        assert q.best_fit_derived == p.best_fit_derived
        assert q.diagnostics.rhat == pytest.approx(p.diagnostics.rhat)
        assert q.diagnostics.n_eval == p.diagnostics.n_eval
        assert q.diagnostics.engine_dlnl == pytest.approx(p.diagnostics.engine_dlnl, nan_ok=True)
        assert (q.chi2_spec, q.dof_spec) == pytest.approx((p.chi2_spec, p.dof_spec), nan_ok=True)
    with h5py.File(tmp_path / "a.h5") as f:
        assert f.attrs["run_seed"] == 3
        assert f["summary"]["TARGETID"][0] == 1000
        assert f["summary"]["HPIX_64"][0] == healpix64(np.array([150.0]), np.array([2.0]))[0]
        assert f["summary"]["HPIX_64"][3] == -1


def test_thinning_takes_every_chain_alike() -> None:
    chains = np.repeat(np.arange(4), 1000)
    kept = chains[thin(4000, 256)]
    assert np.bincount(kept).tolist() == [64, 64, 64, 64]
    assert thin(100, 256).tolist() == list(range(100))
    assert np.unique(thin(300, 256)).size == 256


def test_fewer_draws_than_asked_are_padded_not_repeated(tmp_path: Path) -> None:
    posteriors = [
        synthetic_posterior(1, np.random.default_rng(1), 40),
        synthetic_posterior(2, np.random.default_rng(2)),
    ]
    write_shard(tmp_path / "a.h5", posteriors, n_samples=64)
    short, long = read_shard(tmp_path / "a.h5")
    assert short.samples.shape == (40, 13)
    assert long.samples.shape == (64, 13)
    block = read_block(tmp_path / "a.h5")
    assert np.isnan(block.values("LOGMSTAR")[0, 40:]).all()


@settings(deadline=None, max_examples=150)
@given(
    centre=st.floats(-1e6, 1e6), width=st.sampled_from([0.0, 1e-12, 1e-6, 1e-3, 1.0, 50.0]), seed=st.integers(0, 2**32)
)
def test_quantisation_error_is_within_the_stated_bound(centre: float, width: float, seed: int) -> None:
    values = centre + width * np.random.default_rng(seed).standard_normal((3, 64))
    codes, scale = quantise(values)
    error = np.abs(dequantise(codes, scale) - values).max(axis=1)
    # half a step; the offset is single precision, so a far-off narrow row is limited by float32's own resolution
    bound = np.ptp(values, axis=1) / 131_064 + np.abs(values).max(axis=1) * 2.0**-23 / 65532 + 1e-40
    assert np.all(error <= 1.02 * bound + np.abs(values).max(axis=1) * 1e-15)


def test_quantisation_keeps_nan_and_infinities() -> None:
    values = np.array([[1.0, np.nan, -np.inf, np.inf, 2.0], [np.nan] * 5, [-np.inf] * 5])
    back = dequantise(*quantise(values))
    np.testing.assert_allclose(back, values, rtol=1e-5)


def test_blocks_join_without_coding_anew_and_renumber_their_configs() -> None:
    posteriors = make(5)
    posteriors = [*posteriors[:2], replace(posteriors[2], config='{"other": 1}', message="long " * 20), *posteriors[3:]]
    whole = to_block(posteriors, n_samples=64)
    joined = concatenate([to_block(posteriors[:2], n_samples=64), to_block(posteriors[2:], n_samples=64)])
    assert digest(joined) == digest(whole)
    with pytest.raises(InputError, match="stored differently"):
        concatenate([whole, to_block(posteriors, n_samples=32)])
    again = to_posteriors(joined.take(np.array([2])))[0]
    assert again.config == '{"other": 1}'


def test_interrupted_write_leaves_the_old_file_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "a.h5"
    write_shard(path, make(3))
    before = path.read_bytes()

    def full_disk(*args: object, **kwargs: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("provabgs.catalog.shard._dataset", full_disk)
    with pytest.raises(OSError, match="No space left"):
        write_shard(path, make(4))
    assert path.read_bytes() == before
    assert [p.name for p in tmp_path.iterdir()] == ["a.h5"]


def test_damaged_and_foreign_files_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.h5"
    write_shard(path, make(40), n_samples=64)
    whole = path.read_bytes()
    bad = tmp_path / "bad.h5"
    with pytest.raises(DataFileError, match=r"none\.h5: no such file"):
        read_shard(tmp_path / "none.h5")
    for cut in (0, 7, 1000, len(whole) // 2, len(whole) - 1):
        bad.write_bytes(whole[:cut])
        with pytest.raises(DataFileError, match=r"bad\.h5"):
            read_shard(bad)
    for odd in ("something", 3, np.zeros(3), h5py.Empty("f"), b"\xff"):
        with h5py.File(bad, "w") as f:
            f.attrs["format"] = odd
        with pytest.raises(DataFileError, match="not a provabgs posterior file"):
            read_shard(bad)
    bad.write_bytes(whole)
    with h5py.File(bad, "r+") as f:
        f.attrs["format"] = "provabgs-posteriors-99"
    with pytest.raises(DataFileError, match=f"provabgs-posteriors-99.*{FORMAT}"):
        read_shard(bad)


def test_a_flipped_byte_never_passes_silently(tmp_path: Path) -> None:
    path, bad = tmp_path / "a.h5", tmp_path / "bad.h5"
    write_shard(path, make(40), n_samples=64)
    whole = bytearray(path.read_bytes())
    good = digest(read_block(path))
    rng = np.random.default_rng(0)
    refused = 0
    for position in rng.integers(0, len(whole), 300):
        damaged = bytearray(whole)
        damaged[position] ^= 0xFF
        bad.write_bytes(damaged)
        try:
            assert digest(read_block(bad)) == good  # the byte was slack space of the file format
        except DataFileError:
            refused += 1
    assert refused > 200


def test_inconsistent_posteriors_are_refused_by_targetid(tmp_path: Path) -> None:
    p = synthetic_posterior(77, np.random.default_rng(0))
    for bad, what in (
        (replace(p, log_prob=p.log_prob[:-1]), "LOG_PROB"),
        (replace(p, samples=p.samples[:, :5]), "sample array has shape"),
        (replace(p, seed=-1), "seed"),
    ):
        with pytest.raises(InputError, match=f"TARGETID 77: {what}"):
            write_shard(tmp_path / "a.h5", [bad])
    with pytest.raises(InputError, match="no posteriors"):
        write_shard(tmp_path / "a.h5", [])


def test_summary_has_quantiles_of_all_draws_and_no_magic_numbers(tmp_path: Path) -> None:
    p = synthetic_posterior(1, np.random.default_rng(0), 2000)
    empty = Posterior.without_samples(Status.TIMED_OUT, "too slow", FitConfig(), 0, targetid=2, redshift=0.1)
    block = to_block([p, empty], n_samples=16)
    for name in PARAMETERS.names:
        column = STANDARD.column_of[name]
        assert block.summary[f"{column}_P50"][0] == pytest.approx(np.median(p[name]), rel=1e-6)
        assert np.isnan(block.summary[f"{column}_P50"][1])
    assert block.values(LOG_PROB).shape == (2, 16)
    for field in block.summary.dtype.names or ():
        if block.summary.dtype[field].kind == "f":
            assert not np.isinf(block.summary[field]).any()
            assert not (block.summary[field] == -999).any()
