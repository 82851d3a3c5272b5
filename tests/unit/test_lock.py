"""One run per directory: what stands where the lock should be, clocks that differ, a heartbeat that fails."""

from __future__ import annotations

import errno
import json
import os
import time
from pathlib import Path

import pytest

from provabgs.core.errors import InputError
from provabgs.pipelines import lock as lock_module
from provabgs.pipelines.lock import LOCK_NAME, DirectoryLock


def refused(directory: Path, message: str) -> None:
    with pytest.raises(InputError, match=message) as caught, DirectoryLock(directory):
        pass
    assert len(str(caught.value).splitlines()) == 1


@pytest.fixture
def precious(tmp_path: Path) -> Path:
    path = tmp_path / "thesis.tex"
    path.write_text("years of work")
    return path


def test_a_link_is_not_followed_and_its_target_stays(tmp_path: Path, precious: Path) -> None:
    output = tmp_path / "run"
    output.mkdir()
    (output / LOCK_NAME).symlink_to(precious)
    refused(output, "run.lock: is a link.*remove the link")
    (output / LOCK_NAME).unlink()
    (output / LOCK_NAME).symlink_to(tmp_path / "nowhere")
    refused(output, "is a link")
    (output / LOCK_NAME).unlink()
    os.link(precious, output / LOCK_NAME)
    refused(output, "no plain file of this name alone")
    assert precious.read_text() == "years of work"
    assert not (tmp_path / "nowhere").exists()


@pytest.mark.parametrize("make", [os.mkfifo, os.mkdir], ids=["fifo", "directory"])
def test_what_is_no_file_is_refused_at_once(tmp_path: Path, make: object) -> None:
    make(tmp_path / LOCK_NAME)  # type: ignore[operator]
    start = time.monotonic()
    refused(tmp_path, "no plain file|takes no files")
    assert time.monotonic() - start < 5


@pytest.mark.parametrize("code", [errno.EROFS, errno.EACCES, errno.ENOSPC])
def test_an_output_that_takes_no_files_is_a_message(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: int) -> None:
    def fails(*_: object, **__: object) -> int:
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(lock_module.os, "open", fails)
    refused(tmp_path, f"takes no files .{os.strerror(code)}.*make it writable, or choose another output")


def test_a_file_where_the_output_should_be(tmp_path: Path, precious: Path) -> None:
    refused(precious, "takes no files")
    assert precious.read_text() == "years of work"


def test_a_clock_ahead_is_told_with_its_cure(tmp_path: Path) -> None:
    path = tmp_path / LOCK_NAME
    path.write_text(json.dumps({"host": "another-node", "pid": 17}))
    year = time.time() + 365 * 86400
    os.utime(path, (year, year))
    refused(tmp_path, r"87\d\d\.\d hours ahead.*another-node \(process 17\).*set the clocks right, or.*remove the file")
    # two clocks may differ by seconds
    os.utime(path, (time.time() + 20, time.time() + 20))
    refused(tmp_path, "another run is at work")
    path.unlink()
    with DirectoryLock(tmp_path):
        pass


@pytest.mark.parametrize("text", ["[1]", "5", "null", '"host"', "[" * 900, "{", "\0", "é" * 3000])
def test_a_lock_of_nonsense_is_no_run(tmp_path: Path, text: str) -> None:
    (tmp_path / LOCK_NAME).write_text(text, encoding="utf-8")
    with DirectoryLock(tmp_path):
        assert json.loads((tmp_path / LOCK_NAME).read_text())["pid"] == os.getpid()
    assert (tmp_path / LOCK_NAME).read_text() == ""


def test_bytes_that_are_no_text_are_no_run(tmp_path: Path) -> None:
    (tmp_path / LOCK_NAME).write_bytes(b"\xff\xfe\x00")
    with DirectoryLock(tmp_path):
        pass


def test_a_failing_heartbeat_is_told_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    beats = []

    def fails(*_: object) -> None:
        beats.append(1)
        raise OSError(errno.ESTALE, "Stale file handle")

    monkeypatch.setattr(lock_module, "HEARTBEAT_S", 0.01)
    with DirectoryLock(tmp_path):
        monkeypatch.setattr(lock_module.os, "utime", fails)
        deadline = time.monotonic() + 10
        while len(beats) < 3 and time.monotonic() < deadline:
            time.sleep(0.01)
        monkeypatch.undo()
    told = capfd.readouterr().err
    assert len(beats) >= 3
    assert told.count("heartbeat fails (Stale file handle); another host may take this run for dead after 180 s") == 1


def test_the_heartbeat_keeps_the_lock_young(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lock_module, "HEARTBEAT_S", 0.01)
    with DirectoryLock(tmp_path):
        os.utime(tmp_path / LOCK_NAME, (1, 1))
        deadline = time.monotonic() + 10
        while (tmp_path / LOCK_NAME).stat().st_mtime < 1e9 and time.monotonic() < deadline:
            time.sleep(0.01)
        assert time.time() - (tmp_path / LOCK_NAME).stat().st_mtime < 10
