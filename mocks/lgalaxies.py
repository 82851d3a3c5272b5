"""Readers of L-GALAXIES binary output: the 2015 and the 2020 public releases.

Units of the files: masses 1e10 Msun/h, lengths Mpc/h, times yr. What comes out is Msun, kpc and Gyr.

The formed-mass convention. In runs with the instantaneous recycling approximation (2015) the ``sfh_*`` arrays hold
what is *left* after a fraction R = 0.43 of the stars formed returned to the gas at once, so the mass formed is
``sfh / (1 - R)``. In runs with delayed mass return (2020) all the mass formed goes into the arrays: R = 0 there
(``update_from_star_formation`` of either release). R is an argument because nothing in a file says which.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from astropy import units as u
from astropy.cosmology import FlatLambdaCDM, z_at_value
from numpy.typing import NDArray

from provabgs.core.errors import DataFileError, InputError
from provabgs.mocks.histories import FloatArray, RowFlag, SimulatedGalaxies, check_histories, flag_empty, flag_gas
from provabgs.mocks.lgalaxies_layout import H15_DTYPE, SFH_BINS_DTYPE, SFH_NBIN, h20_dtype

HUBBLE_PLANCK = 0.673
OMEGA_M_PLANCK = 0.315
RECYCLED_H15 = 0.43
"""Instantaneously returned fraction of Henriques et al. (2015), their section 1.7 (Chabrier IMF)."""
MAX_BYTES = 8 << 30


@dataclass(frozen=True, eq=False)
class HistoryBins:
    """Time bins per snapshot: ``table[snapnum] = (lookback, width)``, each ``(nbin,)`` Gyr, oldest first."""

    table: dict[int, tuple[FloatArray, FloatArray]]

    def of(self, snapnum: int, where: str) -> tuple[FloatArray, FloatArray]:
        """Bins of one snapshot; `where` names the file in the error."""
        if snapnum not in self.table:
            known = sorted(self.table)
            raise DataFileError(
                f"{where}: snapshot {snapnum} is not in the SFH bin table (it has {known[0]}..{known[-1]}); "
                "use the SFH_Bins file of the same run"
            )
        return self.table[snapnum]


def _bins_from_rows(snap: NDArray[Any], number: NDArray[Any], lookback: FloatArray, dt: FloatArray) -> HistoryBins:
    """Group rows by snapshot; `number` counts from 0, times in Gyr."""
    table: dict[int, tuple[FloatArray, FloatArray]] = {}
    for s in np.unique(snap):
        rows = np.flatnonzero(snap == s)
        rows = rows[np.argsort(number[rows])]
        if not np.array_equal(number[rows], np.arange(rows.size)):
            raise DataFileError(f"SFH bin table: bins of snapshot {s} are not numbered 0..{rows.size - 1}")
        older, younger = (lookback - dt / 2)[rows[:-1]], (lookback + dt / 2)[rows[1:]]
        if np.any(dt[rows] <= 0) or np.any(np.abs(older - younger) > 1e-3 * dt[rows[:-1]] + 1e-6):
            raise DataFileError(f"SFH bin table: bins of snapshot {s} overlap, leave gaps or have no width")
        table[int(s)] = (lookback[rows].astype(np.float64), dt[rows].astype(np.float64))
    return HistoryBins(table)


def read_sfh_bins(path: str | Path) -> HistoryBins:
    """Read a binary ``SFH_Bins`` file.

    Raises
    ------
    DataFileError
        When it is missing, its size does not fit its row count, or its bins do not tile time.
    """
    raw = _read_bytes(Path(path))
    n = int(np.frombuffer(raw, "<i4", 1)[0])
    expected = 4 + n * SFH_BINS_DTYPE.itemsize
    if n <= 0 or len(raw) != expected:
        raise DataFileError(
            f"{path}: {len(raw)} bytes, but its header says {n} rows = {expected} bytes; not an SFH_Bins file, "
            "or one of another layout"
        )
    rows = np.frombuffer(raw, SFH_BINS_DTYPE, n, offset=4)
    return _bins_from_rows(rows["snapnum"], rows["bin"], rows["lookback_yr"] / 1e9, rows["dt_yr"] / 1e9)


def _read_bytes(path: Path) -> bytes:
    if not path.is_file():
        raise DataFileError(f"{path}: no such file")
    size = path.stat().st_size
    if size < 8 or size > MAX_BYTES:
        raise DataFileError(f"{path}: {size} bytes; an L-GALAXIES file has a header and is below {MAX_BYTES} bytes")
    return path.read_bytes()


def read_records(path: str | Path, dtype: np.dtype[Any]) -> NDArray[Any]:
    """Galaxy records of one snapshot file, as they are in the file.

    Layout: int32 number of trees, int32 number of galaxies, int32 galaxies per tree, then packed records.

    Raises
    ------
    DataFileError
        When sizes or tree counts contradict `dtype`; the message gives the record size that the file implies.
    """
    path = Path(path)
    raw = _read_bytes(path)
    n_tree, n_gal = (int(v) for v in np.frombuffer(raw, "<i4", 2))
    start = 8 + 4 * n_tree
    if n_tree < 0 or n_gal < 0 or start > len(raw):
        raise DataFileError(f"{path}: header says {n_tree} trees and {n_gal} galaxies; not an L-GALAXIES snapshot file")
    body = len(raw) - start
    if body != n_gal * dtype.itemsize:
        implied = f"{body / n_gal:g} bytes a record" if n_gal else "no records"
        raise DataFileError(
            f"{path}: {body} bytes for {n_gal} galaxies ({implied}), expected {dtype.itemsize} bytes a record; "
            "the run had other compile-time options, give the matching layout"
        )
    per_tree = np.frombuffer(raw, "<i4", n_tree, offset=8)
    if int(per_tree.sum()) != n_gal:
        raise DataFileError(f"{path}: trees hold {int(per_tree.sum())} galaxies but the header says {n_gal}")
    return np.frombuffer(raw, dtype, n_gal, offset=start)


def _column(records: NDArray[Any], *names: str) -> NDArray[Any]:
    """First of `names` that the records have, metal channels (trailing axis of 3) left as they are."""
    for name in names:
        if name in (records.dtype.names or ()):
            return np.asarray(records[name])
    raise InputError(f"records have none of the columns {', '.join(names)}")


def _metals(records: NDArray[Any], name: str, ndim: int) -> FloatArray:
    """Metal mass, summed over production channels where the layout tracks them."""
    values = _column(records, name).astype(np.float64)
    return values.sum(axis=-1) if values.ndim > ndim else values


def snapshot_redshift(lookback_yr: float, hubble: float = HUBBLE_PLANCK, omega_m: float = OMEGA_M_PLANCK) -> float:
    """Redshift of a snapshot from the lookback time in its records (flat LCDM, the run's cosmology)."""
    if lookback_yr <= 0:
        return 0.0
    cosmology = FlatLambdaCDM(H0=100.0 * hubble, Om0=omega_m)
    return float(z_at_value(cosmology.lookback_time, lookback_yr * u.yr, zmax=20.0).value)


def _inclination(records: NDArray[Any]) -> FloatArray:
    """Cosine of inclination: the column, or the stellar spin against the z axis where the column was not computed."""
    column = np.abs(_column(records, "CosInclination").astype(np.float64))
    spin = _column(records, "StellarSpin", "DiskSpin").astype(np.float64)
    norm = np.sqrt((spin**2).sum(axis=1))
    from_spin = np.divide(np.abs(spin[:, 2]), norm, out=np.full(len(spin), np.nan), where=norm > 0)
    return np.where(column > 0, np.minimum(column, 1.0), from_spin)


def from_records(
    records: NDArray[Any],
    bins: HistoryBins,
    recycled: float,
    hubble: float = HUBBLE_PLANCK,
    redshift: float | NDArray[np.float64] | None = None,
    where: str = "records",
) -> SimulatedGalaxies:
    """Turn galaxy records (2015 or 2020 layout, in file units) into `SimulatedGalaxies`.

    Parameters
    ----------
    records
        Structured array.
    bins
        History bins of the same run.
    recycled
        R of the (1 - R) convention: 0.43 for 2015 output, 0 for runs with delayed mass return.
    hubble
        h of the run.
    redshift
        At which to observe them; None takes the snapshot's own.
    where
        File name for messages.

    Raises
    ------
    InputError, DataFileError
        For R outside [0, 1), and for snapshots or bin numbers that the bin table does not have at all.
    """
    if not 0.0 <= recycled < 1.0:
        raise InputError(f"recycled fraction is {recycled}; it must be in [0, 1) (0.43 for L-GALAXIES 2015)")
    n = len(records)
    to_msun = 1e10 / hubble
    ibin = _column(records, "sfh_ibin").astype(int)
    lookback, width = np.zeros((n, SFH_NBIN)), np.zeros((n, SFH_NBIN))
    flags = np.zeros(n, dtype=np.int32)
    for snap in np.unique(records["SnapNum"]):
        t, dt = bins.of(int(snap), where)
        rows = records["SnapNum"] == snap
        lookback[rows, : t.size], width[rows, : t.size] = t, dt
        flags[rows & (ibin + 1 != t.size)] |= int(RowFlag.BINS_MISMATCH)
    if n and np.all(flags & int(RowFlag.BINS_MISMATCH)):
        raise DataFileError(
            f"{where}: no galaxy's sfh_ibin (first: {ibin[0]}) fits the bin table; use the SFH_Bins file of this run"
        )
    used = np.arange(SFH_NBIN) <= ibin[:, None]
    parts = {}
    for who in ("Disk", "Bulge"):
        mass = np.where(used, _column(records, f"sfh_{who}Mass"), 0.0) * to_msun / (1.0 - recycled)
        metals = np.where(used, _metals(records, f"sfh_Metals{who}Mass", 2), 0.0) * to_msun / (1.0 - recycled)
        parts[who], bad = check_histories(mass, metals)
        flags |= bad
    flags |= flag_empty(parts["Disk"], parts["Bulge"])
    if redshift is None:
        redshift = snapshot_redshift(float(records["LookBackTimeToSnap"][0]), hubble) if n else 0.0
    kpc = 1e3 / hubble
    gas = {
        "cold_gas": _column(records, "ColdGas").astype(np.float64) * to_msun,
        "metals_cold_gas": _metals(records, "MetalsColdGas", 1) * to_msun,
        "gas_radius": _column(records, "GasDiskRadius", "ColdGasRadius").astype(np.float64) * kpc,
    }
    flags |= flag_gas(*gas.values())
    return SimulatedGalaxies(
        galaxy_id=np.arange(n, dtype=np.int64),
        redshift=np.broadcast_to(np.asarray(redshift, dtype=np.float64), (n,)).copy(),
        lookback=lookback,
        width=width,
        disk=parts["Disk"],
        bulge=parts["Bulge"],
        disk_radius=_column(records, "StellarDiskRadius", "DiskRadius").astype(np.float64) * kpc,
        bulge_radius=_column(records, "BulgeSize").astype(np.float64) * kpc,
        cos_inclination=_inclination(records),
        flags=flags,
        hubble=hubble,
        **gas,
        provenance={"source": Path(where).name, "recycled": str(recycled)},
    )


def read_h15(
    path: str | Path,
    bins: HistoryBins,
    recycled: float = RECYCLED_H15,
    redshift: float | None = None,
    hubble: float = HUBBLE_PLANCK,
) -> SimulatedGalaxies:
    """Read an L-GALAXIES 2015 snapshot file (800-byte records); see `from_records`."""
    return from_records(read_records(path, H15_DTYPE), bins, recycled, hubble, redshift, str(path))


def read_h20(
    path: str | Path,
    bins: HistoryBins,
    recycled: float = 0.0,
    redshift: float | None = None,
    hubble: float = HUBBLE_PLANCK,
    dtype: np.dtype[Any] | None = None,
) -> SimulatedGalaxies:
    """Read an L-GALAXIES 2020 snapshot file; `dtype` where rings, channels or elements differ from the default."""
    layout = h20_dtype() if dtype is None else dtype
    return from_records(read_records(path, layout), bins, recycled, hubble, redshift, str(path))
