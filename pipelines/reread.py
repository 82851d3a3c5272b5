"""The data behind a catalog's rows, read again from the inputs of the run: shards keep draws, not data."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from provabgs.core.errors import InputError
from provabgs.inference.posterior import Posterior
from provabgs.observe.observation import Observation
from provabgs.pipelines.config import RunConfig
from provabgs.pipelines.inputs import Reader, make_reader
from provabgs.pipelines.plan import find_inputs, name_inputs


def data_of(config: RunConfig) -> Callable[[Posterior], Observation]:
    """A reader of the data that rows of a run were fitted to.

    Parameters
    ----------
    config
        Configuration of the run.

    Returns
    -------
    callable
        Posterior to its observation. It raises InputError for a row of another run's input, and for data that are not
        those of the fit.

    Raises
    ------
    ConfigError
        When an input does not exist.
    """
    reader = make_reader(config.inputs)
    files = find_inputs(config.inputs, reader)
    places = dict(zip(name_inputs(files, config.inputs.root), files, strict=True))

    def read(posterior: Posterior) -> Observation:
        return _read(reader, places, posterior)

    return read


def _read(reader: Reader, places: dict[str, Path], posterior: Posterior) -> Observation:
    name, row = str(posterior.meta.get("INPUT", "")), int(posterior.meta.get("ROW", -1))
    who = f"TARGETID {posterior.targetid}"
    if name not in places:
        raise InputError(f"{who}: was read from {name!r}, which is none of the run's inputs; give that run's file")
    found = [t for t in reader.read(places[name], [posterior.targetid], [row]) if t.row == row]
    if not found or found[0].observation is None:
        why = found[0].message if found else "the row is not there"
        raise InputError(f"{places[name]}, row {row}, {who}: {why}")
    observation = found[0].observation
    if posterior.data_hash and observation.digest() != posterior.data_hash:
        raise InputError(f"{places[name]}, row {row}, {who}: other data than were fitted; restore the file")
    return observation
