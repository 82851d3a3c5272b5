"""L-GALAXIES as tables: HDF5 of the 2020 release, CSV from the Millennium database, and plain tables of any simulation.

The 2020 code writes HDF5 through hand-kept lists of field sizes; a list that lags behind the C structure shifts every
later column without any error. Columns are therefore believed only after checks that shifted columns fail
(`trusted_records`).
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from astropy.table import Table
from numpy.typing import NDArray

from provabgs.core.errors import DataFileError
from provabgs.core.hdf5 import open_file
from provabgs.mocks.histories import FloatArray, SimulatedGalaxies, check_histories, flag_empty, flag_gas
from provabgs.mocks.lgalaxies import (
    HUBBLE_PLANCK,
    RECYCLED_H15,
    HistoryBins,
    _bins_from_rows,
    from_records,
)
from provabgs.mocks.lgalaxies_layout import SFH_NBIN

GALAXY_COLUMNS = {
    "cold_gas": "cold_gas",
    "metals_cold_gas": "metals_cold_gas",
    "gas_radius_kpc": "gas_radius",
    "disk_radius_kpc": "disk_radius",
    "bulge_radius_kpc": "bulge_radius",
    "cos_inclination": "cos_inclination",
}
"""Optional per-galaxy columns of a plain table and the attributes they fill."""


def trusted_records(records: NDArray[Any], snapnum: int, where: str) -> NDArray[Any]:
    """Return `records` if their columns are what their names say.

    Raises
    ------
    DataFileError
        When galaxy types, snapshot numbers, bin numbers, disk + bulge against total mass, or the histories against
        the stellar mass contradict one another: the mark of shifted columns.
    """
    if len(records) == 0:
        raise DataFileError(f"{where}: the table of snapshot {snapnum} has no galaxies")
    total, parts = records["StellarMass"], records["DiskMass"] + records["BulgeMass"]
    formed = records["sfh_DiskMass"].sum(axis=1) + records["sfh_BulgeMass"].sum(axis=1)
    checks = {
        "Type outside 0..2": np.any((records["Type"] < 0) | (records["Type"] > 2)),
        f"SnapNum is not {snapnum}": np.any(records["SnapNum"] != snapnum),
        "sfh_ibin outside 0..19": np.any((records["sfh_ibin"] < 0) | (records["sfh_ibin"] >= SFH_NBIN)),
        "StellarMass is not DiskMass + BulgeMass": np.any(np.abs(total - parts) > 0.01 * np.abs(total) + 1e-7),
        "histories do not add up to the stellar mass": np.any((formed < 0.5 * total) | (formed > 3.0 * total + 1e-7)),
    }
    for what, failed in checks.items():
        if failed:
            raise DataFileError(
                f"{where}: {what}; its HDF5 columns are shifted or not L-GALAXIES 2020, read the binary output instead"
            )
    return records


def read_h20_hdf5(
    path: str | Path,
    snapnum: int,
    bins: HistoryBins,
    recycled: float = 0.0,
    redshift: float | None = None,
    hubble: float = HUBBLE_PLANCK,
) -> SimulatedGalaxies:
    """Read the table of one snapshot from a 2020-release HDF5 file (``SA_z*_N.h5``, dataset named by snapshot)."""
    path = Path(path)
    if not path.is_file():
        raise DataFileError(f"{path}: no such file")
    try:
        with open_file(path) as f:
            if str(snapnum) not in f:
                raise DataFileError(f"{path}: no table {str(snapnum)!r}; it has {sorted(f)}")
            records = f[str(snapnum)][:]
    except OSError as err:
        raise DataFileError(f"{path}: not an HDF5 file ({err})") from err
    needed = {"Type", "SnapNum", "StellarMass", "sfh_ibin", "sfh_DiskMass", "sfh_MetalsDiskMass"}
    missing = needed - set(records.dtype.names or ())
    if missing:
        raise DataFileError(f"{path}: table {snapnum} lacks {sorted(missing)}; run with star-formation histories on")
    trusted = trusted_records(records, snapnum, str(path))
    return from_records(trusted, bins, recycled, hubble, redshift, str(path))


def _read_table(path: Path) -> Table:
    if not path.is_file():
        raise DataFileError(f"{path}: no such file")
    try:
        if path.suffix == ".csv":
            return Table.read(path, format="ascii.csv", comment="#")
        return Table.read(path)
    except Exception as err:  # astropy's readers raise a dozen unrelated types for a file they do not know
        raise DataFileError(f"{path}: cannot be read as a table ({err})") from err


def read_database_bins(path: str | Path) -> HistoryBins:
    """Read ``SFH_Times_MR`` as the Millennium database delivers it: snapnum, bin (from 1), lookbackTime, dt (yr)."""
    path = Path(path)
    t = _read_table(path)
    names = {n.lower(): n for n in t.colnames}
    missing = {"snapnum", "bin", "lookbacktime", "dt"} - set(names)
    if missing:
        raise DataFileError(f"{path}: lacks the columns {sorted(missing)} of SFH_Times_MR")
    number = np.asarray(t[names["bin"]], dtype=int)
    time = [np.asarray(t[names[c]], dtype=np.float64) / 1e9 for c in ("lookbacktime", "dt")]
    return _bins_from_rows(np.asarray(t[names["snapnum"]], dtype=int), number - number.min(), *time)


def read_database(
    path: str | Path,
    bins: HistoryBins,
    recycled: float = RECYCLED_H15,
    redshift: float | None = None,
    hubble: float = HUBBLE_PLANCK,
) -> SimulatedGalaxies:
    """Read galaxies of ``Henriques2015a..MRscPlanck1`` exported from the Millennium database as CSV.

    Histories are the columns ``sfh_DiskMass_1 .. _20`` and so on (1 the oldest); names are matched without regard
    to case, and the ``sfh_MetaksDiskMass`` spelling of the database's help page is taken too. Lines of the
    download that start with ``#`` are comments.

    Raises
    ------
    DataFileError
        Naming the columns that are missing.
    """
    path = Path(path)
    t = _read_table(path)
    names = {n.lower().replace("metaks", "metals"): n for n in t.colnames}
    scalars = {
        "snapnum": "SnapNum",
        "coldgas": "ColdGas",
        "metalscoldgas": "MetalsColdGas",
        "gasdiskradius": "GasDiskRadius",
        "stellardiskradius": "StellarDiskRadius",
        "bulgesize": "BulgeSize",
        "cosinclination": "CosInclination",
    }
    arrays = [f"sfh_{m}{who}Mass" for m in ("", "Metals") for who in ("Disk", "Bulge")]
    wanted = [*scalars, *(f"{a.lower()}_{i}" for a in arrays for i in range(1, SFH_NBIN + 1))]
    missing = [c for c in wanted if c not in names]
    if missing:
        first = ", ".join(missing[:4])
        raise DataFileError(f"{path}: {len(missing)} columns are missing ({first} ...); add them to the query")
    dtype = [(v, "f8") for v in scalars.values()] + [(a, "f8", (SFH_NBIN,)) for a in arrays]
    records = np.zeros(len(t), dtype=[*dtype, ("sfh_ibin", "i4"), ("StellarSpin", "f8", (3,))])
    for lower, name in scalars.items():
        records[name] = np.ma.filled(np.ma.asarray(t[names[lower]]).astype(float), np.nan)
    for a in arrays:
        for i in range(SFH_NBIN):
            records[a][:, i] = np.ma.filled(np.ma.asarray(t[names[f"{a.lower()}_{i + 1}"]]).astype(float), 0.0)
    for snap in np.unique(records["SnapNum"]):
        used = bins.of(int(snap), str(path))[0].size
        rows = records["SnapNum"] == snap
        records["sfh_ibin"][rows] = used - 1
        beyond = sum(records[a][rows][:, used:].any(axis=1) for a in arrays[:2]) if rows.any() else np.zeros(0)
        # a mass in a bin that the table does not have: wrong table, not a galaxy to be used
        records["sfh_ibin"][np.flatnonzero(rows)[np.asarray(beyond) > 0]] = SFH_NBIN - 1
    if redshift is None:
        if "redshift" not in names:
            raise DataFileError(f"{path}: no redshift column; add it to the query or give redshift=")
        z: float | FloatArray = np.asarray(t[names["redshift"]], dtype=np.float64)
    else:
        z = redshift
    return from_records(records, bins, recycled, hubble, z, str(path))


def read_plain_table(path: str | Path) -> SimulatedGalaxies:
    """Read histories of any simulation: one row per (galaxy, time bin), in any format that astropy reads.

    Columns: ``galaxy_id``, ``redshift``, ``t_lookback_gyr`` (bin centre, from the galaxy's epoch), ``dt_gyr``,
    ``mass_formed_disk``, ``z_disk`` and, where there is a bulge, ``mass_formed_bulge``, ``z_bulge`` (Msun formed,
    absolute metal fraction). Optional, constant per galaxy: ``cold_gas``, ``metals_cold_gas`` (Msun; 0 means no
    dust), ``gas_radius_kpc``, ``disk_radius_kpc`` (three scale lengths), ``bulge_radius_kpc``, ``cos_inclination``.

    Raises
    ------
    DataFileError
        Naming the file and what is missing or, with its row, contradictory.
    """
    path = Path(path)
    t = _read_table(path)
    needed = ("galaxy_id", "redshift", "t_lookback_gyr", "dt_gyr", "mass_formed_disk", "z_disk")
    missing = [c for c in needed if c not in t.colnames]
    if missing:
        raise DataFileError(f"{path}: lacks the columns {missing}")
    columns = {c: np.ma.filled(np.ma.asarray(t[c]).astype(float), np.nan) for c in t.colnames if c != "galaxy_id"}
    bad = np.flatnonzero(~(columns["dt_gyr"] > 0) | ~(columns["t_lookback_gyr"] >= 0.5 * columns["dt_gyr"] * 0.999))
    if bad.size:
        raise DataFileError(f"{path}: row {bad[0] + 1}: bins need dt_gyr > 0 and t_lookback_gyr >= dt_gyr / 2")
    ids, first, row_of = np.unique(np.asarray(t["galaxy_id"], np.int64), return_index=True, return_inverse=True)
    for c in ("redshift", *(c for c in GALAXY_COLUMNS if c in columns)):
        varies = np.flatnonzero(~np.isclose(columns[c], columns[c][first][row_of], equal_nan=True))
        if varies.size:
            raise DataFileError(f"{path}: row {varies[0] + 1}: {c} changes within galaxy {ids[row_of[varies[0]]]}")
    return _assemble(path, ids, first, row_of, columns)


def _assemble(
    path: Path, ids: NDArray[np.int64], first: NDArray[Any], row_of: NDArray[Any], columns: dict[str, FloatArray]
) -> SimulatedGalaxies:
    """Spread long-format columns over ``(galaxy, bin)`` arrays."""
    order = np.lexsort((-columns["t_lookback_gyr"], row_of))
    start = np.searchsorted(row_of[order], np.arange(ids.size))
    slot = np.empty(row_of.size, dtype=int)
    slot[order] = np.arange(row_of.size) - start[row_of[order]]
    shape = (ids.size, int(slot.max(initial=0)) + 1)

    def spread(name: str) -> FloatArray:
        out = np.zeros(shape)
        if name in columns:
            out[row_of, slot] = columns[name]
        return out

    parts, flags = {}, np.zeros(ids.size, dtype=np.int32)
    for who in ("disk", "bulge"):
        mass = spread(f"mass_formed_{who}")
        parts[who], bad = check_histories(mass, mass * spread(f"z_{who}"))
        flags |= bad
    defaults = {"cos_inclination": np.nan}
    scalars = {
        attribute: columns[c][first] if c in columns else np.full(ids.size, defaults.get(attribute, 0.0))
        for c, attribute in GALAXY_COLUMNS.items()
    }
    flags |= flag_gas(scalars["cold_gas"], scalars["metals_cold_gas"], scalars["gas_radius"])
    return SimulatedGalaxies(
        galaxy_id=ids,
        redshift=columns["redshift"][first],
        lookback=spread("t_lookback_gyr"),
        width=spread("dt_gyr"),
        disk=parts["disk"],
        bulge=parts["bulge"],
        flags=flags | flag_empty(parts["disk"], parts["bulge"]),
        provenance={"source": path.name},
        **scalars,
    )
