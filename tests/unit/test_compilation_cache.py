"""Where compiled functions are kept between processes."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from provabgs.core.jax import CACHE_VARIABLE, cache_folder


@pytest.fixture(autouse=True)
def clean(monkeypatch) -> None:
    monkeypatch.delenv(CACHE_VARIABLE, raising=False)


def test_default_is_in_the_users_cache_folder(monkeypatch, tmp_path) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    folder = cache_folder()
    assert folder is not None
    assert folder.is_dir()
    assert folder.parent == tmp_path / "provabgs" / "jax"


def test_without_xdg_it_is_below_home(monkeypatch, tmp_path) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", "relative/paths/are/ignored")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert cache_folder().parent == tmp_path / ".cache" / "provabgs" / "jax"


def test_a_named_folder_is_taken(monkeypatch, tmp_path) -> None:
    monkeypatch.setenv(CACHE_VARIABLE, str(tmp_path / "here"))
    assert cache_folder().parent == tmp_path / "here"


@pytest.mark.parametrize("value", ["", "0", "off", "None"])
def test_it_can_be_switched_off(monkeypatch, value) -> None:
    monkeypatch.setenv(CACHE_VARIABLE, value)
    assert cache_folder() is None


def test_a_folder_that_cannot_be_made_is_done_without(monkeypatch, tmp_path) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv(CACHE_VARIABLE, str(tmp_path / "file" / "below"))
    assert cache_folder() is None


def test_processes_share_it_and_survive_a_damaged_entry(tmp_path) -> None:
    """The second process writes nothing new; the third meets entries cut short, and computes the same."""
    code = (
        "import warnings; warnings.simplefilter('error')\n"
        "from provabgs.core.jax import jax, jnp\n"
        "jax.config.update('jax_persistent_cache_min_compile_time_secs', 0.0)\n"
        "print(float(jax.jit(lambda x: jnp.sum(jnp.sin(x) ** 2))(jnp.arange(9.0))))"
    )
    environment = {**os.environ, CACHE_VARIABLE: str(tmp_path)}
    command = [sys.executable, "-c", code]
    first = subprocess.run(command, env=environment, capture_output=True, text=True, check=True).stdout
    entries = sorted(p for p in tmp_path.rglob("*-cache") if p.is_file())
    assert entries
    second = subprocess.run(command, env=environment, capture_output=True, text=True, check=True).stdout
    assert sorted(p for p in tmp_path.rglob("*-cache") if p.is_file()) == entries
    _cut_short(entries)
    third = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert third.returncode == 0, third.stderr
    assert first == second == third.stdout


def _cut_short(entries: list[Path]) -> None:
    for path in entries:
        path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
