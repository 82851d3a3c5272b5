"""Build `nmf_bases.ecsv`, the star-formation and metallicity history bases that ship.

Run as ``python -m provabgs.data.build_histories FOLDER -o data/nmf_bases.ecsv`` where FOLDER holds the published text
files ``NMF_2basis_SFH_components_nowgt_lin_Nc4.txt``, ``NMF_2basis_Z_components_nowgt_lin_Nc2.txt``, ``sfh_t_int.txt``.
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


def main() -> None:
    """Parse the command line and write the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("-o", "--output", type=Path, required=True)
    args = parser.parse_args()
    build(args.folder).write(args.output, overwrite=True)


if __name__ == "__main__":
    main()
