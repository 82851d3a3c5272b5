"""The L-GALAXIES sample that ships, and the file format that holds any `SimulatedGalaxies`."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from provabgs.core.hdf5 import create, reading
from provabgs.data import data_path
from provabgs.mocks.histories import ComponentHistory, SimulatedGalaxies

FORMAT = "provabgs-simulated-galaxies-1"
SAMPLE_FILE = "lgalaxies_h15_sample.h5"
_UNITS = {
    "galaxy_id": "",
    "redshift": "",
    "lookback": "Gyr, bin centre before the galaxy's epoch",
    "width": "Gyr; 0 marks an unused bin",
    "cold_gas": "Msun",
    "metals_cold_gas": "Msun",
    "gas_radius": "kpc, three scale lengths",
    "disk_radius": "kpc, three scale lengths",
    "bulge_radius": "kpc, half-mass radius",
    "cos_inclination": "",
    "flags": "provabgs.mocks.histories.RowFlag",
}


def save_galaxies(galaxies: SimulatedGalaxies, path: str | Path) -> None:
    """Write galaxies as HDF5 (gzip + shuffle, single precision: 1e-7 of each value)."""
    with create(path) as f:
        f.attrs["format"] = FORMAT
        f.attrs["hubble"] = galaxies.hubble
        for key, value in galaxies.provenance.items():
            f.attrs[f"provenance_{key}"] = value
        arrays = {name: getattr(galaxies, name) for name in _UNITS}
        for who in ("disk", "bulge"):
            component: ComponentHistory = getattr(galaxies, who)
            arrays[f"{who}_mass_formed"] = component.mass_formed
            arrays[f"{who}_metallicity"] = component.metallicity
        for name, array in arrays.items():
            data = array.astype(np.float32) if array.dtype.kind == "f" else array
            dataset = f.create_dataset(name, data=data, compression="gzip", compression_opts=9, shuffle=True)
            default = "Msun formed" if name.endswith("mass_formed") else "absolute metal mass fraction"
            dataset.attrs["unit"] = _UNITS.get(name, default)


def load_galaxies(path: str | Path | None = None) -> SimulatedGalaxies:
    """Read galaxies written by `save_galaxies`; None reads the sample that ships.

    The shipped sample (2,125 galaxies) comes from our own runs of L-GALAXIES (Henriques et al. 2015), matched to the
    published mock-challenge sample in redshift, formed mass, bulge-to-total ratio and young fraction. It is *not* the
    published sample; see docs/guide/mocks.md.

    Raises
    ------
    DataFileError
        When the file is missing or is not of this format.
    """
    path = data_path(SAMPLE_FILE) if path is None else Path(path)
    with reading(path, FORMAT, "simulated galaxies", "copy or build it again") as c:
        arrays = {name: c.numbers(name) for name in _UNITS}
        arrays = {name: a.astype(np.float64) if a.dtype.kind == "f" else a for name, a in arrays.items()}
        parts = {
            who: ComponentHistory(
                c.numbers(f"{who}_mass_formed").astype(np.float64), c.numbers(f"{who}_metallicity").astype(np.float64)
            )
            for who in ("disk", "bulge")
        }
        prefix = "provenance_"
        provenance = {k.removeprefix(prefix): v for k, v in c.words("").items() if k.startswith(prefix)}
        return SimulatedGalaxies(**arrays, **parts, hubble=c.number("hubble"), provenance=provenance)
