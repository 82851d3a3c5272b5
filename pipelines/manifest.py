"""What a directory's rows were made with, so that a run is not resumed under other settings by accident."""

from __future__ import annotations

import json
import platform
import subprocess
from pathlib import Path
from typing import Any

import provabgs
from provabgs.core.atomic import atomic_path
from provabgs.core.errors import ConfigError, DataFileError
from provabgs.core.files import read_text
from provabgs.pipelines.config import RunConfig
from provabgs.surveys import load_system

MANIFEST_NAME = "run.json"
FORMAT = "provabgs-run-1"


def check_manifest(config: RunConfig) -> None:
    """Compare the directory's manifest with this run, or write it when the directory is new.

    Raises
    ------
    ConfigError
        When settings that decide about the rows differ and `allow_mixed` is off; names the first key.
    DataFileError
        When the manifest cannot be read.
    """
    path = config.run.output / MANIFEST_NAME
    mine = _settings(config)
    if path.exists():
        try:
            theirs = json.loads(read_text(path))
            if theirs["format"] != FORMAT or not isinstance(theirs["settings"], dict):
                raise ValueError
        except (OSError, ValueError, LookupError, TypeError, RecursionError):
            raise DataFileError(f"{path}: not a manifest that this version can read; choose another output") from None
        difference = _difference(theirs["settings"], mine)
        if difference and not config.run.allow_mixed:
            raise ConfigError(
                f"{config.run.output} was made with other settings: {difference}; restore them, choose another output, "
                "or set [run] allow_mixed = true"
            )
        if not difference:
            return
    manifest = {"format": FORMAT, "settings": mine, "made_by": _origin(), "config": config.model_dump(mode="json")}
    with atomic_path(path) as temporary:
        temporary.write_text(json.dumps(manifest, indent=1))


def _settings(config: RunConfig) -> dict[str, Any]:
    """Settings on which the rows depend."""
    return {
        "provabgs": provabgs.__version__,
        "run.seed": config.run.seed,
        "run.fit": config.run.fit,
        "inputs.reader": config.inputs.reader,
        "inputs.options": config.inputs.model_dump(mode="json")["options"],
        "inputs.survey": _survey(config),
        "inputs.joins": _joins(config),
        "store.n_samples": config.store.n_samples,
        "store.encoding": config.store.encoding,
        "fit": config.fit.model_dump(mode="json"),
    }


def _survey(config: RunConfig) -> str:
    """Hash of the survey file that the photometry reader takes, its filter curves included; empty for the default."""
    if config.inputs.reader != "photometry" or "survey" not in config.inputs.options:
        return ""
    return load_system(config.inputs.options["survey"]).digest()


def _joins(config: RunConfig) -> dict[str, Any]:
    """What is joined, tables by their names: a tree that was moved is the same tree."""
    joins = config.inputs.joins
    return {name: v.name if isinstance(v, Path) else v for name, v in joins.model_dump(exclude_defaults=True).items()}


def _difference(theirs: dict[str, Any], mine: dict[str, Any], prefix: str = "") -> str:
    """The first key in which two settings differ, empty when they agree."""
    for key in sorted({*theirs, *mine}):
        a, b = theirs.get(key), mine.get(key)
        if isinstance(a, dict) and isinstance(b, dict):
            if found := _difference(a, b, f"{prefix}{key}."):
                return found
        elif a != b:
            return f"{prefix}{key} was {a!r}, now {b!r}"
    return ""


def _origin() -> dict[str, str]:
    """Versions and git revision of the code, for people."""
    return {"provabgs": provabgs.__version__, "python": platform.python_version(), "git": git_revision()}


def git_revision() -> str:
    """Commit of the checkout that the package is imported from; empty outside of one."""
    here = Path(provabgs.__file__).resolve().parent
    try:
        done = subprocess.run(
            ["git", "-C", str(here), "rev-parse", "HEAD"], capture_output=True, text=True, timeout=5, check=True
        )
    except (OSError, subprocess.SubprocessError):
        return ""
    return done.stdout.strip()
