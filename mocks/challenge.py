"""The mock challenge as a directory: mock observations of known truth, and their fits in resumable pieces.

Everything lies in one directory: ``mocks/`` (DESI files and truth, in chunks), ``fits/MODE/`` (one file of posteriors
per chunk), ``challenge.json`` (what was asked for). A chunk that is there is not made again; each file appears at once
under its final name. A galaxy's result depends on configuration and seed alone, never on workers or order. The fits are
made by `provabgs.pipelines.challenge`.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Annotated, Literal, NamedTuple

from astropy.table import Table, vstack
from pydantic import BaseModel, ConfigDict, Field

from provabgs.catalog import read_posteriors
from provabgs.core.config import BESIDE_FILE
from provabgs.core.errors import ConfigError, DataFileError
from provabgs.core.hdf5 import attribute, open_file
from provabgs.inference.config import FitConfig
from provabgs.inference.posterior import Posterior
from provabgs.mocks.files import coadd_name, read_truth, truth_table, write_desi_files, write_truth
from provabgs.mocks.make import MockConfig, MockMaker

Mode = Literal["both", "spectrum", "photometry"]
MODES: tuple[Mode, ...] = ("both", "spectrum", "photometry")
STORED_DRAWS = 400
"""Posterior draws kept per galaxy and mode."""
Progress = Callable[[int, int, str], None]
"""Called with chunks done, chunks in all, and what was done last."""


class ChallengeConfig(BaseModel):
    """A mock challenge."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    output: Annotated[Path, BESIDE_FILE] = Field(
        description="directory of the challenge; one that was stopped goes on from what it holds"
    )
    mock: MockConfig = Field(default_factory=MockConfig, description="the mock observations")
    fit: FitConfig = Field(default_factory=FitConfig, description="the fits; `use` is set by the modes")
    modes: tuple[Mode, ...] = Field(MODES, min_length=1, description="data to fit: both, spectrum, photometry")
    seed: int = Field(0, ge=0, description="seed of the fits")
    chunk: int = Field(10, ge=1, description="galaxies per piece: what is lost when a run is stopped")

    def identity(self) -> str:
        """JSON of everything on which results depend: not where they lie nor where or how they are made."""
        return self.model_dump_json(include=set(ChallengeConfig.model_fields) - {"output", "modes"})


class Job(NamedTuple):
    """One chunk fitted in one mode."""

    mode: Mode
    chunk: int
    coadd: Path
    shard: Path


def claim(config: ChallengeConfig) -> None:
    """Make the output directory this challenge's own.

    Raises
    ------
    ConfigError
        When it holds another challenge.
    """
    config.output.mkdir(parents=True, exist_ok=True)
    note = config.output / "challenge.json"
    if note.exists():
        if json.loads(note.read_text()) != json.loads(config.identity()):
            raise ConfigError(f"{config.output}: holds a challenge of another configuration; choose another output")
        return
    _write_text(note, config.identity())


def _write_text(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.tmp")
    temporary.write_text(text)
    temporary.replace(path)


def make_mocks(config: ChallengeConfig, progress: Progress | None = None) -> Table:
    """Make all mock observations that are not there yet; returns the truth table, in the order of selection.

    Raises
    ------
    ConfigError
        When the output directory holds another challenge, or no galaxy passes the selection.
    """
    claim(config)
    maker = MockMaker(config.mock)
    rows = load_selection(config)
    if rows is None:
        rows = store_selection(config, list(maker.selected()))
    n = n_chunks(config, rows)
    for number in range(n):
        make_chunk(config, maker, rows, number)
        if progress:
            progress(number + 1, n, f"mock galaxies {min((number + 1) * config.chunk, len(rows))} of {len(rows)}")
    return load_truth(config.output)


def load_selection(config: ChallengeConfig) -> list[int] | None:
    """Rows that pass the magnitude limit, as remembered (looking for them costs a spectrum each), or None."""
    note = config.output / "mocks" / "selection.json"
    return [int(i) for i in json.loads(note.read_text())] if note.exists() else None


def store_selection(config: ChallengeConfig, rows: list[int]) -> list[int]:
    """Remember the selected rows, and return them.

    Raises
    ------
    ConfigError
        When there are none.
    """
    if not rows:
        raise ConfigError(f"no simulated galaxy is brighter than r = {config.mock.r_max}; raise r_max")
    _write_text(config.output / "mocks" / "selection.json", json.dumps(rows))
    return rows


def n_chunks(config: ChallengeConfig, rows: list[int]) -> int:
    """Number of chunks into which the selected rows are divided."""
    return -(-len(rows) // config.chunk)


def make_chunk(config: ChallengeConfig, maker: MockMaker, rows: list[int], number: int) -> None:
    """Make one chunk of mock observations, unless it is there."""
    if has_chunk(config, number):
        return
    folder = config.output / "mocks"
    mocks = [maker.make(i) for i in rows[number * config.chunk : (number + 1) * config.chunk]]
    write_desi_files(mocks, folder, number)
    write_truth(truth_table(mocks, maker.galaxies), _truth_path(folder, number), maker.galaxies.provenance)


def has_chunk(config: ChallengeConfig, number: int) -> bool:
    """Whether a chunk of mock observations is there: its truth is written last and so says that it is whole."""
    return _truth_path(config.output / "mocks", number).exists()


def _truth_path(folder: Path, chunk: int) -> Path:
    return folder / f"truth-{chunk}.fits"


def load_truth(output: str | Path) -> Table:
    """Truth of all chunks of a challenge.

    Raises
    ------
    DataFileError
        When there is none.
    """
    folder = Path(output) / "mocks"
    found = sorted(folder.glob("truth-*.fits"), key=lambda p: int(p.stem.removeprefix("truth-")))
    if not found:
        raise DataFileError(f"{folder}: no truth tables; make mocks with `provabgs mock make`")
    return vstack([read_truth(p) for p in found], metadata_conflicts="silent")


def pending(config: ChallengeConfig) -> Iterator[Job]:
    """Fits that are still to be made, all modes of a chunk together so that every prefix of a run is a challenge."""
    folder = config.output / "mocks"
    chunks = sorted(int(p.stem.removeprefix("truth-")) for p in folder.glob("truth-*.fits"))
    for chunk in chunks:
        for mode in config.modes:
            job = job_of(config, mode, chunk)
            if not job.shard.exists():
                yield job


def job_of(config: ChallengeConfig, mode: Mode, chunk: int) -> Job:
    """One chunk to be fitted in one mode."""
    shard = config.output / "fits" / mode / f"chunk-{chunk}.h5"
    return Job(mode, chunk, config.output / "mocks" / coadd_name(chunk), shard)


def load_posteriors(output: str | Path, mode: Mode) -> dict[int, Posterior]:
    """Posteriors of one mode by TARGETID; empty when none are fitted.

    Raises
    ------
    DataFileError
        When a file is damaged.
    """
    out: dict[int, Posterior] = {}
    for path in sorted((Path(output) / "fits" / mode).glob("chunk-*.h5")):
        with open_file(path) as f:
            found = attribute(f, "mode") if "mode" in f.attrs else mode
            if found != mode:
                raise DataFileError(f"{path}: holds fits of mode {found!r}, not {mode!r}; do not move files")
        out |= {p.targetid: p for p in read_posteriors(path)}
    return out
