"""The command line that all studies have in common."""

from __future__ import annotations

import argparse
import inspect
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TypeVar

from provabgs.core.progress import Display
from provabgs.inference.config import SamplerOptions

T = TypeVar("T")
ROOT = Path(__file__).resolve().parents[2]
"""The checkout."""
RESULTS = ROOT / "studies" / "results"
"""Where studies keep what they computed, unless another folder is named; no part of the repository."""
REFERENCE = ROOT.parent / "shared" / "reference"
"""Reference data beside the checkout: published networks, a real galaxy. No study needs them for ``--smoke``."""


QUICK = SamplerOptions(rhat=1.2, ess=50, aim_eval=0)
"""A sampler for ``--smoke``: it stops as soon as chains look alike."""


def plain_parser(module: str, doc: str | None) -> argparse.ArgumentParser:
    """Parser with ``--output`` and ``--smoke``.

    Parameters
    ----------
    module
        ``studies.NAME`` or ``bench.NAME``: results go to ``NAME`` under `RESULTS`.
    doc
        The module's docstring, as the help.
    """
    parser = argparse.ArgumentParser(
        prog=f"python -m {module}",
        description=inspect.cleandoc(doc or ""),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    folder = RESULTS / module.rpartition(".")[2]
    parser.add_argument("-o", "--output", type=Path, default=folder, help="folder that keeps finished pieces")
    parser.add_argument("--smoke", action="store_true", help="small and in a temporary folder: does it run?")
    return parser


def study_parser(module: str, doc: str | None) -> argparse.ArgumentParser:
    """The same with ``--figures``.

    Parameters
    ----------
    module, doc
        As for `plain_parser`.
    """
    parser = plain_parser(module, doc)
    parser.add_argument("--figures", type=Path, help="folder to draw figures in (docs/figures); none are if left out")
    return parser


def tracked(items: Iterable[T], total: int, what: str = "galaxies") -> Iterator[T]:
    """Pass items on, and show how many there were, their rate and the time left.

    Parameters
    ----------
    items
        Results as they come.
    total
        Their number.
    what
        They are called.

    Yields
    ------
    item
        Unchanged.
    """
    with Display(what) as show:
        for done, item in enumerate(items, start=1):
            show(what, done, total, last=done == total)
            yield item


def run_study(
    parser: argparse.ArgumentParser,
    work: Callable[[argparse.Namespace], None],
    smoke: Mapping[str, object],
    argv: Sequence[str] | None = None,
    *,
    needs: Sequence[str] = (),
) -> None:
    """Parse the command line and do the work.

    With ``--smoke``, options that were left at their defaults take the values of `smoke`, and results and figures go
    into a temporary folder.

    Parameters
    ----------
    parser
        From `study_parser` or `plain_parser`.
    work
        The study, given its options.
    smoke
        Small sizes, by option.
    argv
        Arguments, in place of the command line's.
    needs
        Options that only ``--smoke`` may leave out.
    """
    options = parser.parse_args(argv)
    missing = [name for name in needs if getattr(options, name) is None]
    if missing and not options.smoke:
        parser.error(f"{missing[0]} is missing; only --smoke goes without")
    if not options.smoke:
        work(options)
        return
    with TemporaryDirectory(prefix="provabgs-smoke-") as folder:
        for name, value in ({"output": Path(folder), "figures": Path(folder)} | dict(smoke)).items():
            if name in options and getattr(options, name) == parser.get_default(name):
                setattr(options, name, value)
        work(options)
