"""The one schema of a run: read from TOML, checked at once, errors that name the key and what it may be."""

from __future__ import annotations

import difflib
import json
from pathlib import Path
from typing import Any, Literal, get_args

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator
from pydantic.fields import FieldInfo

from provabgs.catalog.encode import Encoding
from provabgs.catalog.layout import DEFAULT_SHARD_ROWS
from provabgs.catalog.records import DEFAULT_SAMPLES
from provabgs.core.errors import ConfigError
from provabgs.core.status import Status
from provabgs.inference.config import FitConfig, read_toml


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class RunOptions(_Section):
    """What to make, and where."""

    output: Path = Field(description="directory of the catalog; a run that was stopped goes on from what it holds")
    seed: int = Field(0, ge=0, lt=2**63, description="seed of the run; a galaxy's own derives from it and its TARGETID")
    fit: str = Field("provabgs.inference.fit_observation:fit_observation", description="the fit, as 'module:function'")
    retry: tuple[str, ...] = Field(("INPUT_ERROR",), description="STATUS of stored rows to fit again, by name")
    allow_mixed: bool = Field(False, description="accept rows made by different versions or fit settings")

    @field_validator("retry")
    @classmethod
    def _known_status(cls, names: tuple[str, ...]) -> tuple[str, ...]:
        for name in names:
            if name not in Status.__members__:
                raise ValueError(f"{name!r} is no STATUS; allowed: {', '.join(Status.__members__)}")
        return names


class InputOptions(_Section):
    """Which galaxies."""

    paths: tuple[str, ...] = Field(description="files, directories (healpix/ or tiles/ trees), or glob patterns")
    file_list: Path | None = Field(None, description="text file of further input files, one per line")
    targets: Path | None = Field(None, description="FITS, Parquet, ECSV or CSV table: fit its TARGETIDs only")
    reader: str = Field("desi", description="'desi' (coadds), 'photometry' (tables of fluxes), or 'module:object'")
    root: Path | None = Field(None, description="inputs are named relative to it in the catalog; else by file name")
    photometry: Path | None = Field(None, description="photometric catalog in place of the FIBERMAP's fluxes")
    duplicates: Literal["error", "first", "keep"] = Field(
        "error", description="TARGETIDs met in several inputs: stop, keep the first, or fit every one of them"
    )
    options: dict[str, Any] = Field(default_factory=dict, description="options of the reader (z_max, bands, ...)")


class StoreOptions(_Section):
    """How posteriors are kept."""

    n_samples: int = Field(DEFAULT_SAMPLES, ge=1, description="draws kept per galaxy, evenly thinned")
    encoding: Encoding = Field("uint16", description="'uint16' (error below 8e-6 of a galaxy's range) or 'float32'")
    shard_rows: int = Field(DEFAULT_SHARD_ROWS, ge=1, description="most galaxies in one shard")


class ExecutionOptions(_Section):
    """How fits are carried out, and what happens when they fail."""

    batch: int = Field(16, ge=1, le=10_000, description="galaxies per task: what is lost when a worker dies")
    time_limit_s: float = Field(900.0, gt=0, description="hard limit: a galaxy's process is killed after this, seconds")
    start_limit_s: float = Field(600.0, gt=0, description="extra time for a fit process's first galaxy (compilation)")
    tries: int = Field(3, ge=1, description="a galaxy that kills its process this often is stored as CRASHED")
    worker_tries: int = Field(10, ge=1, description="a task that loses its worker this often is divided, then given up")
    restart_after: int = Field(2000, ge=0, description="fits after which a fit process is replaced; 0 for never")
    scheduler_limit_s: float = Field(120.0, gt=0, description="stop when the scheduler has been out of reach this long")
    seconds_per_galaxy: float = Field(5.0, gt=0, description="guess used by --dry-run")


class ClusterOptions(_Section):
    """Where the work is done."""

    kind: Literal["local", "slurm", "pbs", "lsf", "address"] = Field("local", description="where workers come from")
    workers: int = Field(0, ge=0, description="fit processes; 0: all cores here (local), else one job's worth")
    max_workers: int | None = Field(None, ge=1, description="adaptive: between `workers` and this many, as work allows")
    address: str | None = Field(None, description="running scheduler, for kind 'address': tcp://host:8786")
    dashboard: str = Field(":0", description="address of the Dask dashboard; ':0' takes any free port")
    cores: int = Field(128, ge=1, description="batch systems: fit processes per job")
    memory: str = Field("230GB", description="batch systems: memory per job")
    walltime: str = Field("04:00:00", description="batch systems: time limit of a job")
    lifetime: str | None = Field(None, description="workers end themselves after this, before the walltime: '230m'")
    lifetime_stagger: str = Field("8m", description="spread of lifetimes, so that not all workers end at once")
    queue: str | None = Field(None, description="batch systems: queue or partition")
    account: str | None = Field(None, description="batch systems: account or project")
    directives: tuple[str, ...] = Field((), description="further lines of the job header: '--constraint=cpu'")
    prologue: tuple[str, ...] = Field((), description="shell lines run in the job before the workers start")


class RunConfig(_Section):
    """A run."""

    run: RunOptions
    inputs: InputOptions
    fit: FitConfig = Field(default_factory=FitConfig)
    store: StoreOptions = Field(default_factory=StoreOptions)
    execution: ExecutionOptions = Field(default_factory=ExecutionOptions)
    cluster: ClusterOptions = Field(default_factory=ClusterOptions)


def load_config(path: str | Path) -> RunConfig:
    """Read a run's TOML file.

    Relative paths in it are taken from the file's own directory.

    Raises
    ------
    ConfigError
        When the file is missing or not TOML, and for every unknown key or value that is not allowed.
    """
    path = Path(path)
    data = read_toml(path, f"; `provabgs config init {path}` writes one")
    return _absolute(parse_config(data, str(path)), path.resolve().parent)


def parse_config(data: dict[str, Any], where: str = "configuration") -> RunConfig:
    """Check a configuration given as a dictionary; errors as in `load_config`."""
    try:
        return RunConfig.model_validate(data)
    except ValidationError as error:
        raise ConfigError(f"{where}: {'; '.join(_explain(e) for e in error.errors()[:5])}") from None


def _explain(error: Any) -> str:
    """One of pydantic's errors as one phrase: key, what was found, what is allowed."""
    location = [str(part) for part in error["loc"]]
    key = f"[{location[0]}] {'.'.join(location[1:])}" if len(location) > 1 else f"[{location[0]}]"
    if error["type"] == "missing":
        return f"{key} is required{_described(location)}"
    if error["type"] == "extra_forbidden":
        known = list(_fields(location[:-1]))
        close = difflib.get_close_matches(location[-1], known, n=1)
        return f"{key} is no key{f'; did you mean {close[0]}?' if close else ''} (allowed: {', '.join(known)})"
    return f"{key} = {error['input']!r}: {error['msg'].removeprefix('Value error, ')}{_described(location)}"


def _fields(location: list[str]) -> dict[str, FieldInfo]:
    """Fields of the section that a location leads to."""
    model: type[BaseModel] = RunConfig
    for part in location:
        annotation = model.model_fields[part].annotation if part in model.model_fields else None
        if not (isinstance(annotation, type) and issubclass(annotation, BaseModel)):
            return {}
        model = annotation
    return dict(model.model_fields)


def _described(location: list[str]) -> str:
    """A field's description in parentheses."""
    field = _fields(location[:-1]).get(location[-1])
    return f" ({field.description})" if field is not None and field.description else ""


def _absolute(config: RunConfig, base: Path) -> RunConfig:
    """Turn relative paths into absolute ones."""

    def at(path: Path | None) -> Path | None:
        return None if path is None else base / path.expanduser()

    options = dict(config.inputs.options)
    if str(options.get("survey", "")).endswith(".toml"):  # a survey's own file, see PhotometryTableReader
        options["survey"] = str(at(Path(options["survey"])))
    inputs = config.inputs.model_copy(
        update={
            "options": options,
            "paths": tuple(str(base / Path(p).expanduser()) for p in config.inputs.paths),
            **{k: at(getattr(config.inputs, k)) for k in ("file_list", "targets", "root", "photometry")},
        }
    )
    run = config.run.model_copy(update={"output": at(config.run.output)})
    return config.model_copy(update={"inputs": inputs, "run": run})


def template() -> str:
    """A commented TOML file with every key, its meaning and its default."""
    lines = ["# A provabgs run. `provabgs run FILE --dry-run` says what it would do; lines with # are defaults.", ""]
    examples = {"output": '"catalog"', "paths": '["coadds/"]'}
    for section, field in RunConfig.model_fields.items():
        model = field.annotation
        assert isinstance(model, type)
        assert issubclass(model, BaseModel)
        lines += _template_section(section, model, examples)
    return "\n".join(lines).rstrip() + "\n"


def _template_section(name: str, model: type[BaseModel], examples: dict[str, str]) -> list[str]:
    """Lines of one table, tables inside it after its own keys."""
    lines = [f"# {(model.__doc__ or '').strip().splitlines()[0]}", f"[{name}]"]
    tables: list[str] = []
    for key, field in model.model_fields.items():
        annotation = field.annotation
        if isinstance(annotation, type) and issubclass(annotation, BaseModel):
            tables += _template_section(f"{name}.{key}", annotation, {})
            continue
        about = f"  # {field.description}" if field.description else ""
        if choices := [c for c in get_args(annotation) if isinstance(c, str)]:
            about += f" ({', '.join(choices)})"
        if field.is_required():
            lines.append(f"{key} = {examples[key]}{about}")
        else:
            lines.append(f"# {key} = {_toml(field.get_default(call_default_factory=True))}{about}")
    return [*lines, "", *tables]


def _toml(value: Any) -> str:
    """A default as TOML; None has no TOML form and is shown empty."""
    if value is None:
        return '""'
    if isinstance(value, dict):
        return "{}"
    return json.dumps(list(value) if isinstance(value, tuple) else value)
