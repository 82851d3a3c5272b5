"""Build `nmf_bases.ecsv` and `tng6_bases.ecsv`, the star-formation and metallicity history bases that ship.

Run as ``python -m provabgs.data.build_histories FOLDER -o data/nmf_bases.ecsv`` where FOLDER holds the published text
files ``NMF_2basis_SFH_components_nowgt_lin_Nc4.txt``, ``NMF_2basis_Z_components_nowgt_lin_Nc2.txt``, ``sfh_t_int.txt``.
With ``--tng -o data/tng6_bases.ecsv``: ``NMF_basis.sfh.tng6comp.txt`` and ``t_sfh.tng6comp.txt``.
"""

from __future__ import annotations

import argparse
import hashlib
from pathlib import Path

import numpy as np
from astropy import units as u
from astropy.table import Table

SFH_FILE = "NMF_2basis_SFH_components_nowgt_lin_Nc4.txt"
ZH_FILE = "NMF_2basis_Z_components_nowgt_lin_Nc2.txt"
TIME_FILE = "sfh_t_int.txt"
TNG_FILE, TNG_TIME_FILE = "NMF_basis.sfh.tng6comp.txt", "t_sfh.tng6comp.txt"
PUBLISHED_ORDER = (2, 0, 1, 3)
"""Rows of the SFH file in the order of beta1..beta4 in the published code and catalog."""


def build(folder: Path) -> Table:
    """Read the published files and return the table, lookback time ascending."""
    time = np.loadtxt(folder / TIME_FILE)
    sfh = np.loadtxt(folder / SFH_FILE)[list(PUBLISHED_ORDER)]
    zh = np.loadtxt(folder / ZH_FILE)
    order = np.argsort(time)
    table = Table()
    table["t_lookback"] = time[order] * u.Gyr
    for i, row in enumerate(sfh, start=1):
        table[f"sfh{i}"] = row[order]
    for i, row in enumerate(zh, start=1):
        table[f"zh{i}"] = row[order]
    table.meta["title"] = "Published NMF bases of star-formation and metallicity histories (from Illustris)"
    table.meta["citation"] = "Hahn et al. 2023, arXiv:2202.01809"
    table.meta["licence"] = "MIT (provabgs, Copyright ChangHoon Hahn)"
    table.meta["sfh_order"] = f"rows {list(PUBLISHED_ORDER)} of {SFH_FILE}: beta1..beta4 of the published catalog"
    table.meta["command"] = "python -m provabgs.data.build_histories FOLDER -o data/nmf_bases.ecsv"
    for name in (SFH_FILE, ZH_FILE, TIME_FILE):
        table.meta[f"sha256 {name}"] = hashlib.sha256((folder / name).read_bytes()).hexdigest()
    return table


def build_tng(folder: Path) -> Table:
    """Six components of IllustrisTNG histories, lookback time ascending, the component of the youngest stars first."""
    time, sfh = np.loadtxt(folder / TNG_TIME_FILE), np.loadtxt(folder / TNG_FILE).T
    mean_age = np.trapezoid(sfh * time, time, axis=1) / np.trapezoid(sfh, time, axis=1)
    rows = [int(i) for i in np.argsort(mean_age)]
    table = Table()
    table["t_lookback"] = time * u.Gyr
    for i, row in enumerate(rows, start=1):
        table[f"sfh{i}"] = sfh[row]
    table.meta["title"] = "NMF bases of star-formation histories, six components (from IllustrisTNG)"
    table.meta["citation"] = "files of the public code of Hahn et al. 2023, arXiv:2202.01809"
    table.meta["licence"] = "MIT (provabgs, Copyright ChangHoon Hahn)"
    table.meta["sfh_order"] = f"columns {rows} of {TNG_FILE}: by mean age"
    table.meta["command"] = "python -m provabgs.data.build_histories FOLDER --tng -o data/tng6_bases.ecsv"
    for name in (TNG_FILE, TNG_TIME_FILE):
        table.meta[f"sha256 {name}"] = hashlib.sha256((folder / name).read_bytes()).hexdigest()
    return table


def main() -> None:
    """Parse the command line and write the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("-o", "--output", type=Path, required=True)
    parser.add_argument("--tng", action="store_true", help="the six components of IllustrisTNG")
    args = parser.parse_args()
    (build_tng if args.tng else build)(args.folder).write(args.output, overwrite=True)


if __name__ == "__main__":
    main()
