"""Conda recipe, Dockerfile and Apptainer definition: they follow pyproject.toml, and name what is there.

None of the three is built here: that takes a network and conda, Docker (or buildah) or Apptainer.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import tomllib
from pathlib import Path
from typing import Any

import jinja2
import pytest
import yaml

import provabgs
from provabgs.pipelines.config import load_config

ROOT = Path(__file__).resolve().parents[2]
DEPLOY = ROOT / "deploy"
PROJECT: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
SOURCES = {"pyproject.toml", "README.md", "LICENSE", "provabgs", "mocks", "pipelines", "data"}
"""What the wheel is built from, as in tests/integration/test_wheel.py."""


def recipe() -> dict[str, Any]:
    """The recipe, as conda-build renders it."""
    folder = DEPLOY / "conda"

    def data(path: str, from_recipe_dir: bool) -> Any:
        assert from_recipe_dir
        return tomllib.loads((folder / path).read_text())

    def regex(path: str, pattern: str, from_recipe_dir: bool) -> Any:
        assert from_recipe_dir
        return re.search(pattern, (folder / path).read_text())

    environment = jinja2.Environment(undefined=jinja2.StrictUndefined, autoescape=False)
    template = environment.from_string((folder / "meta.yaml").read_text())
    return yaml.safe_load(template.render(load_file_data=data, load_file_regex=regex, PYTHON="python"))


def test_the_recipe_asks_for_what_pyproject_asks_for() -> None:
    made = recipe()
    assert made["package"] == {"name": "provabgs", "version": provabgs.__version__}
    python, *run = made["requirements"]["run"]
    assert python == f"python {PROJECT['requires-python']}"
    assert [entry.replace(" ", "") for entry in run] == PROJECT["dependencies"]
    assert all(re.fullmatch(r"[a-z0-9-]+ >=[\d.]+", entry) for entry in run)
    (entry_point,) = made["build"]["entry_points"]
    name, _, target = entry_point.partition(" = ")
    assert PROJECT["scripts"] == {name: target}
    assert (DEPLOY / "conda" / made["source"]["path"] / made["about"]["license_file"]).is_file()


def instructions(text: str) -> list[tuple[str, str]]:
    """Instructions of a Dockerfile and what they are given."""
    joined = re.sub(r"\\\n\s*", " ", "\n".join(line for line in text.splitlines() if not line.startswith("#")))
    return [(line.partition(" ")[0], line.partition(" ")[2]) for line in joined.splitlines() if line.strip()]


def test_the_dockerfile_copies_what_a_build_needs() -> None:
    found = instructions((DEPLOY / "Dockerfile").read_text())
    assert {name for name, _ in found} <= {"FROM", "WORKDIR", "COPY", "RUN", "ENV", "USER", "ENTRYPOINT", "CMD"}
    copied = [words.split() for name, words in found if name == "COPY" and not words.startswith("--from")]
    assert {source for words in copied for source in words[:-1]} == SOURCES
    assert [words for name, words in found if name == "USER"] == ["astronomer"]
    assert json.loads(dict(found)["ENTRYPOINT"]) == list(PROJECT["scripts"])
    ignored = (DEPLOY / "Dockerfile.dockerignore").read_text().split()
    assert not SOURCES & set(ignored)


def test_the_apptainer_definition_copies_the_same() -> None:
    text = (DEPLOY / "provabgs.def").read_text()
    sections = dict(re.findall(r"^%(\w+)\n((?:    .*\n|\n)*)", text, flags=re.MULTILINE))
    assert set(sections) == {"files", "post", "environment", "runscript", "test", "labels"}
    pairs = [line.split() for line in sections["files"].splitlines() if line.strip()]
    assert {source for source, _ in pairs} == SOURCES
    assert all(target == f"/src/{source}" for source, target in pairs)


@pytest.mark.parametrize("name", ["Dockerfile", "provabgs.def"])
def test_containers_install_extras_that_exist_on_a_python_that_is_tried(name: str) -> None:
    text = (DEPLOY / name).read_text()
    (extras,) = re.findall(r"'\.\[([\w,]+)\]'", text)
    assert set(extras.split(",")) <= set(PROJECT["optional-dependencies"])
    versions = set(re.findall(r"python:(3\.\d+)-slim", text))
    tried = {c.rpartition(" ")[2] for c in PROJECT["classifiers"] if "Python :: 3." in c}
    assert versions
    assert versions <= tried


LMOD = Path("/usr/share/lmod/lmod/init/bash")


def test_the_configuration_for_nersc(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("DESI_ROOT", str(tmp_path))
    config = load_config(DEPLOY / "nersc" / "run.toml")
    assert config.cluster.kind == "slurm"
    assert config.cluster.queue is None, "Perlmutter refuses --partition; its queues are --qos"
    assert "--qos=regular" in config.cluster.directives
    assert config.inputs.desi is not None
    assert config.inputs.desi.survey == ("main",)
    module = (DEPLOY / "nersc" / "provabgs.lua").read_text()
    for line in config.cluster.prologue:
        for name in re.findall(r"\$(\w+)", line):
            assert f'setenv("{name}"' in module, line


@pytest.mark.skipif(not LMOD.is_file(), reason="needs Lmod (apt-get install lmod)")
def test_the_environment_module(tmp_path: Path) -> None:
    (tmp_path / "provabgs.lua").write_text((DEPLOY / "nersc" / "provabgs.lua").read_text())
    (tmp_path / "env" / "bin").mkdir(parents=True)
    (tmp_path / "env" / "bin" / "provabgs").write_text("#!/bin/sh\n")
    (tmp_path / "env" / "bin" / "provabgs").chmod(0o755)
    words = f"source {LMOD}; module use {tmp_path} && module load provabgs && command -v provabgs"
    words += ' && echo "$PROVABGS_MODULES" "$PROVABGS_COMPILATION_CACHE" && module unload provabgs'
    words += ' && echo "[${PROVABGS_COMPILATION_CACHE:-}]"'
    environment = {"PATH": os.environ["PATH"], "SCRATCH": "/scratch", "PROVABGS_ENVIRONMENT": str(tmp_path / "env")}
    done = subprocess.run(["bash", "-c", words], env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == [
        f"{tmp_path}/env/bin/provabgs",
        str(tmp_path),
        "/scratch/provabgs-jax",
        "[]",
    ]
