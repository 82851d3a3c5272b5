"""What both comparisons with Prospector share: their command line, and fits of every mock in every variant."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from pathlib import Path

from provabgs.inference.config import SamplerOptions
from studies.support.command import QUICK, REFERENCE, study_parser
from studies.support.pieces import Arrays, in_order


def comparison_parser(module: str, doc: str | None, variants: Sequence[str], limit_s: float) -> argparse.ArgumentParser:
    """The command line.

    Parameters
    ----------
    module, doc
        As for `studies.support.command.study_parser`.
    variants
        Ways to fit a mock, all of which are the default.
    limit_s
        Seconds a fit, unless others are given.
    """
    parser = study_parser(module, doc)
    parser.add_argument("--data", type=Path, default=REFERENCE / "prospector", help="folder of the mocks and chains")
    parser.add_argument("--variants", default=",".join(variants), help=f"of {', '.join(variants)}")
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--time-limit", type=float, default=limit_s, help="seconds a fit")
    return parser


def fit_all(
    kept: Callable[..., Arrays], options: argparse.Namespace, names: Sequence[str], known: Sequence[str]
) -> dict[str, dict[str, Arrays]]:
    """Fit every mock in every variant of the command line, and say how each went.

    Parameters
    ----------
    kept
        ``(output, name, variant, folder, sampler)`` to what is kept of a fit; of a module.
    options
        Of `comparison_parser`.
    names
        Of the mocks.
    known
        Variants that there are.

    Returns
    -------
    dict
        By name and variant.
    """
    variants = options.variants.split(",")
    if unknown := [v for v in variants if v not in known]:
        raise SystemExit(f"no variant {unknown[0]!r}; choose from {', '.join(known)}")
    folder = None if options.smoke else options.data
    sampler = QUICK if options.smoke else SamplerOptions(time_limit_s=options.time_limit, aim_eval=0)
    jobs = [(options.output, name, v, folder, sampler) for name in names for v in variants]
    fits: dict[str, dict[str, Arrays]] = {name: {} for name in names}
    for (_, name, variant, *_), row in zip(jobs, in_order(kept, jobs, options.workers), strict=True):
        fits[name][variant] = row
        said = f"{row['status']} {row.get('message', '')}".strip()
        print(f"{name} {variant}: {said}, {int(row['n_eval']):,} evaluations", flush=True)
    return fits
