"""For whom a run's files are: the umask and the group that the configuration names."""

from __future__ import annotations

import grp
import os
import stat

from provabgs.core.errors import ConfigError
from provabgs.pipelines.config import RunOptions


def set_umask(options: RunOptions) -> None:
    """Have this process make its files by the configured umask, where there is one."""
    if options.umask is not None:
        os.umask(int(options.umask, 8))


def make_output(options: RunOptions) -> None:
    """Make the run's directory; what is made in it later belongs to the configured group, on every node.

    Raises
    ------
    ConfigError
        When the directory cannot be made or given to the group.
    """
    set_umask(options)
    output = options.output
    try:
        output.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigError(f"[run] output = {output}: cannot be made ({error.strerror})") from None
    if options.group is None:
        return
    try:
        number = grp.getgrnam(options.group).gr_gid
    except KeyError:
        raise ConfigError(f"[run] group = {options.group!r}: no such group on this machine") from None
    try:
        found = output.stat()
        if found.st_gid != number or not found.st_mode & stat.S_ISGID:
            os.chown(output, -1, number)
            output.chmod(stat.S_IMODE(found.st_mode) | stat.S_ISGID)  # inherited by all that is made below
    except OSError as error:
        raise ConfigError(
            f"[run] group = {options.group!r}: {output} cannot be given to it ({error.strerror})"
        ) from None
