"""The one schema of a run: read from TOML, checked at once, errors that name the key and what it may be."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any, Literal, get_args

from pydantic import BaseModel, Field, field_validator, model_validator

from provabgs.catalog.encode import Encoding
from provabgs.catalog.layout import DEFAULT_SHARD_ROWS
from provabgs.catalog.records import DEFAULT_SAMPLES
from provabgs.core.config import BESIDE_FILE, check_config, load_config_file
from provabgs.core.status import Status
from provabgs.desi.joins import JoinOptions
from provabgs.desi.selection import DesiSelection
from provabgs.inference.config import FitConfig
from provabgs.pipelines.cluster_options import ClusterOptions, Section, memory_text

DEFAULT_FIT = "provabgs.inference.fit_observation:fit_observation"


class RunOptions(Section):
    """What to make, and where."""

    output: Annotated[Path, BESIDE_FILE] = Field(
        description="directory of the catalog; a run that was stopped goes on from what it holds"
    )
    seed: int = Field(0, ge=0, lt=2**63, description="seed of the run; a galaxy's own derives from it and its TARGETID")
    fit: str = Field(DEFAULT_FIT, description="what samples one observation, as 'module:function'")
    retry: tuple[str, ...] = Field(("INPUT_ERROR",), description="STATUS of stored rows to fit again, by name")
    allow_mixed: bool = Field(False, description="accept rows made by different versions or fit settings")
    umask: str | None = Field(
        None, pattern="^0?[0-7]{3}$", description="of all files, on all nodes: '0002' lets the group write"
    )
    group: str | None = Field(None, description="group that the directory, and what is made in it, belongs to")

    @field_validator("retry")
    @classmethod
    def _known_status(cls, names: tuple[str, ...]) -> tuple[str, ...]:
        for name in names:
            if name not in Status.__members__:
                raise ValueError(f"{name!r} is no STATUS; allowed: {', '.join(Status.__members__)}")
        return names


class InputOptions(Section):
    """Which galaxies."""

    paths: Annotated[tuple[str, ...], BESIDE_FILE] = Field(
        (), description="files, directories (healpix/ or tiles/ trees), or glob patterns"
    )
    file_list: Annotated[Path | None, BESIDE_FILE] = Field(
        None, description="text file of further input files, one per line"
    )
    targets: Annotated[Path | None, BESIDE_FILE] = Field(
        None, description="FITS, Parquet, ECSV or CSV table: fit its TARGETIDs only"
    )
    reader: str = Field(
        "desi",
        description="'desi' (coadds), 'sdss' (spec files), 'photometry' (tables of fluxes), or 'module:object'",
    )
    root: Annotated[Path | None, BESIDE_FILE] = Field(
        None, description="inputs are named relative to it in the catalog; else by file name"
    )
    photometry: Annotated[Path | None, BESIDE_FILE] = Field(
        None, description="photometric catalog, or folder of sweeps, in place of the FIBERMAP's fluxes"
    )
    duplicates: Literal["apart", "error", "first", "keep"] = Field(
        "apart",
        description="TARGETIDs met in several inputs: one row for each survey and program, but stop at two in one; "
        "stop; keep the first; or fit every one of them",
    )
    options: dict[str, Any] = Field(
        default_factory=dict, description="options of the reader (bands, cameras, allow_zwarn, ...)"
    )
    desi: DesiSelection = Field(default_factory=DesiSelection, description="coadds of a DESI production")
    joins: JoinOptions = Field(default_factory=JoinOptions, description="tables joined to coadds")

    @model_validator(mode="after")
    def _something_to_read(self) -> InputOptions:
        if not (self.paths or self.file_list or self.desi.is_asked_for):
            raise ValueError("paths is required: files or folders (or file_list, or a table [inputs.desi])")
        if self.joins != JoinOptions() and self.reader in ("sdss", "photometry"):
            raise ValueError(f"joins are for DESI's coadds, which reader = {self.reader!r} does not read; leave it out")
        if self.desi.is_asked_for and self.reader in ("sdss", "photometry"):
            raise ValueError(
                f"desi chooses coadds, which reader = {self.reader!r} does not read; leave one of them out"
            )
        return self


class StoreOptions(Section):
    """How posteriors are kept."""

    n_samples: int = Field(DEFAULT_SAMPLES, ge=1, description="draws kept per galaxy, evenly thinned")
    encoding: Encoding = Field("uint16", description="'uint16' (error below 8e-6 of a galaxy's range) or 'float32'")
    shard_rows: int = Field(DEFAULT_SHARD_ROWS, ge=1, description="most galaxies in one shard")


class ExecutionOptions(Section):
    """How fits are carried out, and what happens when they fail."""

    batch: int = Field(16, ge=1, le=10_000, description="galaxies per task: what is lost when a worker dies")
    time_limit_s: float = Field(900.0, gt=0, description="hard limit: a galaxy's process is killed after this, seconds")
    start_limit_s: float = Field(600.0, gt=0, description="extra time for a fit process's first galaxy (compilation)")
    tries: int = Field(3, ge=1, description="a galaxy that kills its process this often is stored as CRASHED")
    worker_tries: int = Field(10, ge=1, description="a task that loses its worker this often is divided, then given up")
    restart_after: int = Field(2000, ge=0, description="fits after which a fit process is replaced; 0 for never")
    memory: str | None = Field(
        "4GB", description="a fit process that holds more after a batch is replaced before the next; null for never"
    )
    scheduler_limit_s: float = Field(120.0, gt=0, description="stop when the scheduler has been out of reach this long")
    seconds_per_galaxy: float = Field(5.0, gt=0, description="guess used by --dry-run")

    @field_validator("memory")
    @classmethod
    def _is_memory(cls, text: str | None) -> str | None:
        return None if text is None else memory_text(text)


class RunConfig(Section):
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
    config = load_config_file(RunConfig, path, missing=f"; `provabgs config init {path}` writes one")
    return _with_survey_file(config, Path(path).resolve().parent)


def _with_survey_file(config: RunConfig, folder: Path) -> RunConfig:
    """The survey file among the reader's options, from the configuration's directory too."""
    survey = config.inputs.options.get("survey")
    if not (isinstance(survey, str) and survey.endswith(".toml")):
        return config
    options = {**config.inputs.options, "survey": str(folder / Path(survey).expanduser())}
    return config.model_copy(update={"inputs": config.inputs.model_copy(update={"options": options})})


def parse_config(data: dict[str, Any], where: str = "configuration") -> RunConfig:
    """Check a configuration given as a dictionary; errors as in `load_config`."""
    return check_config(RunConfig, data, where)


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
        if key in examples:
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
