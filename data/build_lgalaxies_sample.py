"""Build ``lgalaxies_h15_sample.h5``, the simulated galaxies that ship, from the reference sample.

Run from the repository root::

    python data/build_lgalaxies_sample.py ../shared/reference/lgalaxies/lgal_h15_sample.h5

What it changes: names, units in attributes, single precision, `RowFlag` per galaxy. What it does not change: any
mass, metallicity or time.
"""

from __future__ import annotations

import argparse
import hashlib
from pathlib import Path

import h5py
import numpy as np

from provabgs.mocks.histories import SimulatedGalaxies, check_histories, flag_empty
from provabgs.mocks.sample import SAMPLE_FILE, save_galaxies

PROVENANCE = {
    "source": (
        "our own runs of L-GALAXIES (Henriques et al. 2015, public release, Planck-scaled) on Millennium trees (30 %) "
        "and on Monte-Carlo (Parkinson, Cole & Helly) trees (70 %)"
    ),
    "selection": (
        "matched one to one to the 2,125 galaxies of the published mock challenge (Hahn et al. 2023, "
        "arXiv:2202.01809) in redshift, formed mass, bulge-to-total ratio and young fraction"
    ),
    "caveats": (
        "not the published galaxies: metallicities and detailed histories were not matched; galaxies are observed at "
        "the published redshift, which differs from that of their snapshot, so the oldest bin may begin up to 1.1 Gyr "
        "before the Big Bang of the observed redshift (median share of formed mass 0, 95 % 0.4 %, largest 6 %)"
    ),
    "formed_mass": "mass formed = sfh / (1 - 0.43), the instantaneous recycling of Henriques et al. (2015)",
    "licence": "MIT, as the rest of this package",
    "command": "python data/build_lgalaxies_sample.py lgal_h15_sample.h5",
}


def build(reference: Path) -> SimulatedGalaxies:
    """Read the reference sample into `SimulatedGalaxies`."""
    with h5py.File(reference, "r") as f:
        d = {name: f[name][:].astype(np.float64) for name in f if f[name].dtype.kind in "fi"}
    disk, bad_disk = check_histories(d["sfh_disk"], d["sfh_disk"] * d["Z_disk"])
    bulge, bad_bulge = check_histories(d["sfh_bulge"], d["sfh_bulge"] * d["Z_bulge"])
    return SimulatedGalaxies(
        galaxy_id=np.arange(len(d["redshift"]), dtype=np.int64),
        redshift=d["redshift"],
        lookback=d["t_lookback"],
        width=d["dt"],
        disk=disk,
        bulge=bulge,
        cold_gas=d["ColdGas"],
        metals_cold_gas=d["MetalsColdGas"],
        gas_radius=d["GasDiskRadius"],
        disk_radius=d["StellarDiskRadius"],
        bulge_radius=d["BulgeSize"],
        cos_inclination=d["CosInclination"],
        flags=bad_disk | bad_bulge | flag_empty(disk, bulge),
        provenance={**PROVENANCE, "source_sha256": hashlib.sha256(reference.read_bytes()).hexdigest()},
    )


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("reference", type=Path)
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / SAMPLE_FILE)
    options = parser.parse_args()
    galaxies = build(options.reference)
    save_galaxies(galaxies, options.out)
    print(f"{options.out}: {len(galaxies)} galaxies, {int(galaxies.usable.sum())} usable")


if __name__ == "__main__":
    main()
