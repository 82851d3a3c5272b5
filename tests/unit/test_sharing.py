"""Files of a run belong to whom the configuration says."""

from __future__ import annotations

import grp
import os
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest

from provabgs.core.errors import ConfigError
from provabgs.pipelines.config import RunOptions, parse_config
from provabgs.pipelines.sharing import make_output


@pytest.fixture(autouse=True)
def umask() -> Iterator[None]:
    before = os.umask(0o022)
    yield
    os.umask(before)


def test_umask_and_group_of_the_output(tmp_path: Path) -> None:
    groups = [g for g in grp.getgrall() if os.getuid() == 0 or g.gr_gid in os.getgroups()]
    group = groups[-1]
    make_output(RunOptions(output=tmp_path / "out", umask="0002", group=group.gr_name))
    (tmp_path / "out" / "folder").mkdir()
    (tmp_path / "out" / "folder" / "file").touch()
    found = (tmp_path / "out" / "folder" / "file").stat()
    assert stat.S_IMODE(found.st_mode) == 0o664
    assert found.st_gid == group.gr_gid


def test_nothing_is_changed_unasked(tmp_path: Path) -> None:
    make_output(RunOptions(output=tmp_path / "out"))
    assert stat.S_IMODE((tmp_path / "out").stat().st_mode) == 0o755


def test_errors_name_the_key(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"\[run\] group = 'no such group!': no such group"):
        make_output(RunOptions(output=tmp_path / "out", group="no such group!"))
    with pytest.raises(ConfigError, match=r"\[run\] umask = '9'"):
        parse_config({"run": {"output": "out", "umask": "9"}, "inputs": {"paths": []}})
    (tmp_path / "file").touch()
    with pytest.raises(ConfigError, match=r"\[run\] output = .*cannot be made"):
        make_output(RunOptions(output=tmp_path / "file" / "out"))
