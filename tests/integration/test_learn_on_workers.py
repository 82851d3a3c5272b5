"""A population prior learnt on Dask workers: the same to the last bit with any number, workers that die, refusals."""

from __future__ import annotations

import os
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from provabgs.cli.population import population_app
from provabgs.core.errors import ConfigError, InputError, ProvabgsError
from provabgs.inference.learnt import half_of, load_prior
from provabgs.inference.learnt.mixture import Mixture
from provabgs.pipelines.cluster_options import ClusterOptions
from provabgs.pipelines.labour import EachOnWorkers, cluster_options, labour_of
from provabgs.population.learnt import draws, learn
from provabgs.population.learnt.draws import DrawTable
from provabgs.population.learnt.learn import LearnOptions, learn_half
from provabgs.population.learnt.pieces import Each, Labour, Rows, Scratch
from tests.support.made_up_catalog import made_up_posteriors, write_made_up_catalog

N, S = 900, 16
"""Galaxies; a piece has 80, so that the last is shorter than the others."""


@pytest.fixture(scope="module")
def labours(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[int, Labour]]:
    """Two workers, and one."""
    root = tmp_path_factory.mktemp("workers")
    with (
        labour_of(ClusterOptions(workers=2), root, root) as two,
        labour_of(ClusterOptions(workers=1), root, root) as one,
    ):
        yield {0: Labour(folder=root), 1: one, 2: two}


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Pieces of 80 galaxies, and the sums of 200 galaxies already on workers."""
    monkeypatch.setattr(draws, "ROWS", 80 * S)
    monkeypatch.setattr(draws, "BLOCKS", 1)
    monkeypatch.setattr(learn, "FEW", 200)


def table_of(scratch: Scratch) -> DrawTable:
    """Standard normal prior, normal data, two properties."""
    rng = np.random.default_rng(3)
    z = rng.standard_normal(N)
    data = 0.4 + 0.5 * rng.standard_normal((N, 2)) + 0.5 * rng.standard_normal((N, 2))
    y, log_weight = scratch.array((N, S, 3)), scratch.array((N, S))
    y[..., :2] = 0.8 * data[:, None] + np.sqrt(0.2) * rng.standard_normal((N, S, 2))
    y[..., 2] = z[:, None]
    log_weight[:] = 0.5 * (y[..., :2] ** 2).sum(axis=-1) + np.log(2 * np.pi) - np.log(S)
    ids = np.sort(rng.choice(10**12, N, replace=False))
    return DrawTable(y, log_weight, np.ones(N), ids[np.lexsort((ids, half_of(ids)))])


def learnt(labour: Labour) -> list[Mixture]:
    with Scratch(0, labour.folder) as scratch:
        table = table_of(scratch)
        options = LearnOptions(n_component=2, n_member=3)
        return [m for k in (0, 1) for m in learn_half(table.half(k), k, options, each=labour.each)]


def numbers(mixtures: list[Mixture]) -> np.ndarray:
    return np.concatenate([a.ravel() for m in mixtures for a in (m.log_weight, m.mean, m.covariance)])


def test_the_number_of_workers_changes_no_bit(labours: dict[int, Labour], small: None) -> None:
    found = {n: numbers(learnt(labour)) for n, labour in labours.items()}
    np.testing.assert_array_equal(found[2], found[1])
    np.testing.assert_allclose(found[0], found[1], rtol=1e-4, atol=1e-5)  # threads of a product may differ


def test_pieces_are_the_table(tmp_path: Path, small: None) -> None:
    """Of a half, in order, from memory or from files, and of the weights that are asked for."""
    with Scratch(0, tmp_path) as scratch:
        filed, held = table_of(scratch), table_of(Scratch())
        for table in (filed.half(1), held.half(1)):
            weighted = table.weighted(np.arange(3.0)[:, None] * np.ones(len(table)))
            blocks = [block for piece in weighted.pieces([2, 0]) for block in piece]
            np.testing.assert_array_equal(np.concatenate([b.y for b in blocks]), held.half(1).y)
            np.testing.assert_array_equal(np.concatenate([b.log_weight for b in blocks]), held.half(1).log_weight)
            np.testing.assert_array_equal(blocks[0].weight[:, 0], [2, 0])
        assert isinstance(next(filed.pieces()).y, Rows)
    assert not list(tmp_path.iterdir())  # scratch files are gone


def dies(folder: Path, times: int, item: int) -> int:
    """Ends its worker without a word, `times` times over item 3."""
    for k in range(times if item == 3 else 0):
        mark = folder / f"died-{k}"
        if not mark.exists():
            mark.touch()
            os._exit(1)
    return item**2


def test_the_piece_of_a_dead_worker_is_computed_again(labours: dict[int, Labour], tmp_path: Path) -> None:
    each: Each = labours[2].each
    assert list(each(partial(dies, tmp_path, 2), range(8))) == [k**2 for k in range(8)]
    assert len(list(tmp_path.iterdir())) == 2
    with pytest.raises(ProvabgsError, match=r"workers died 4 times over one piece.*fewer --workers"):
        list(each(partial(dies, tmp_path, 99), range(8)))


def test_scratch_files_that_workers_do_not_see(labours: dict[int, Labour], tmp_path: Path) -> None:
    gone = Rows(tmp_path / "1.npy", 0, 5)
    with pytest.raises(InputError, match=r"1\.npy: a worker cannot read this scratch file .*--scratch must name"):
        list(labours[1].each(Rows.array, [gone]))
    full = r"draws need .* GB, and .* GB are free; name another folder with --scratch"
    with Scratch(0, tmp_path) as scratch, pytest.raises(InputError, match=full):
        scratch.array((1 << 40, 256))


def test_where_the_work_is_done(tmp_path: Path) -> None:
    """From a table like that of a run, from options, or nowhere else; each mistake by its name."""
    assert cluster_options() is None
    assert cluster_options(workers=2) == ClusterOptions(workers=2)
    file = tmp_path / "run.toml"
    file.write_text('[run]\noutput = "x"\n[cluster]\nkind = "slurm"\nlog_directory = "logs"\n')
    found = cluster_options(file, 5)
    assert found is not None
    assert (found.kind, found.workers, found.log_directory) == ("slurm", 5, tmp_path / "logs")
    running = cluster_options(file, scheduler_file=tmp_path / "s.json", keys=tmp_path)
    assert running is not None
    assert (running.kind, running.scheduler_file, running.keys) == ("address", tmp_path / "s.json", tmp_path)
    file.write_text('[cluster]\nkindd = "slurm"\n')
    with pytest.raises(ConfigError, match=r"run\.toml: \[cluster\] kindd is no key"):
        cluster_options(file)
    file.write_text("[run]\n")
    with pytest.raises(ConfigError, match=r"run\.toml: has no \[cluster\] table"):
        cluster_options(file)
    with pytest.raises(ConfigError, match="--scheduler-file"):
        cluster_options(keys=tmp_path)
    with pytest.raises(ConfigError, match=r"--scratch .*: no such folder"), labour_of(None, tmp_path, tmp_path / "no"):
        pass


def test_the_command_reads_a_catalog_with_workers(tmp_path: Path, labours: dict[int, Labour]) -> None:
    """The file that a catalog gives by workers is that of one process; the scratch folder is left empty."""
    rng = np.random.default_rng(0)
    names = ("LOGSSFR_1GYR", "T_AGE_MW")
    posteriors = made_up_posteriors(rng.normal((-11.6, 8.0), (0.25, 0.5), (60, 2)), names, (0.35, 0.8), rng)
    write_made_up_catalog(tmp_path / "catalog", posteriors)
    (tmp_path / "scratch").mkdir()
    told = ["learn", str(tmp_path / "catalog"), "-p", names[0], "-p", names[1], "--members", "1", "--draws", "64"]
    for out, more in (("a.h5", ["--workers", "2", "--scratch", str(tmp_path / "scratch")]), ("b.h5", [])):
        done = CliRunner().invoke(population_app, [*told, "-o", str(tmp_path / out), *more])
        assert done.exit_code == 0, done.output
    assert not list((tmp_path / "scratch").iterdir())
    a, b = load_prior(tmp_path / "a.h5"), load_prior(tmp_path / "b.h5")
    np.testing.assert_allclose(numbers(list(a.halves[0])), numbers(list(b.halves[0])), rtol=1e-4, atol=1e-5)


def test_each_is_map(labours: dict[int, Labour]) -> None:
    each = labours[2].each
    assert isinstance(each, EachOnWorkers)
    assert list(each(abs, iter([-3, 2, -1]))) == [3, 2, 1]
    assert list(each(abs, [])) == []
