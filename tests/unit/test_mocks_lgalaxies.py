"""L-GALAXIES readers: raw files give back the sample's numbers; whatever does not fit is refused by name."""

from __future__ import annotations

import struct
from pathlib import Path

import h5py
import numpy as np
import pytest

from provabgs.core.errors import DataFileError, InputError
from provabgs.mocks.histories import RowFlag, true_properties
from provabgs.mocks.lgalaxies import HistoryBins, from_records, read_h15, read_h20, read_records, read_sfh_bins
from provabgs.mocks.lgalaxies_layout import H15_DTYPE, SFH_BINS_DTYPE, SFH_NBIN, h20_dtype
from provabgs.mocks.lgalaxies_tables import (
    read_database,
    read_database_bins,
    read_h20_hdf5,
    read_plain_table,
)
from provabgs.mocks.sample import load_galaxies

RAW = "SA_z0.11_0_H15_realtrees.bin"
N_BIN = 6


def make_bins(snapnum: int = 58) -> HistoryBins:
    edges = np.array([12.0, 6.0, 3.0, 1.0, 0.3, 0.04, 0.0])
    return HistoryBins({snapnum: (0.5 * (edges[1:] + edges[:-1]), edges[:-1] - edges[1:])})


def make_records(dtype: np.dtype = H15_DTYPE, n: int = 4, snapnum: int = 58) -> np.ndarray:
    rng = np.random.default_rng(3)
    r = np.zeros(n, dtype=dtype)
    r["SnapNum"], r["sfh_ibin"], r["LookBackTimeToSnap"] = snapnum, N_BIN - 1, 1.5e9
    for who in ("Disk", "Bulge"):
        mass = rng.uniform(0.01, 1.0, (n, N_BIN))
        r[f"sfh_{who}Mass"][:, :N_BIN] = mass
        metals = r[f"sfh_Metals{who}Mass"]
        if metals.ndim == 3:
            metals[:, :N_BIN] = (0.02 * mass / 3)[..., None]
        else:
            metals[:, :N_BIN] = 0.02 * mass
        r[f"{who}Mass"] = mass.sum(axis=1)
    r["StellarMass"] = r["DiskMass"] + r["BulgeMass"]
    r["ColdGas"] = 0.5
    r["GasDiskRadius" if "GasDiskRadius" in dtype.names else "ColdGasRadius"] = 0.004
    r["BulgeSize"] = 0.001
    spin = "StellarSpin" if "StellarSpin" in dtype.names else "DiskSpin"
    r[spin] = [0.6, 0.0, 0.8]
    return r


def write_snapshot(path: Path, records: np.ndarray, n_claimed: int | None = None) -> Path:
    n = len(records) if n_claimed is None else n_claimed
    path.write_bytes(struct.pack("<iii", 1, n, n) + records.tobytes())
    return path


# ---- layouts -------------------------------------------------------------------------------------------------------


def test_h15_layout_is_that_of_the_reference(reference_dir: Path) -> None:
    lines = (reference_dir / "lgalaxies" / "record_layout_h15.csv").read_text().splitlines()
    rows = [line.split(",") for line in lines if not line.startswith("#")][1:]
    assert [r[0] for r in rows] == list(H15_DTYPE.names)
    for name, kind, count, offset in rows:
        dtype, at = H15_DTYPE.fields[name][:2]
        assert at == int(offset)
        assert dtype.base.str == f"<{kind}"
        assert int(np.prod(dtype.shape, dtype=int)) == int(count)


def test_record_sizes() -> None:
    assert H15_DTYPE.itemsize == 800
    # 111 fields in the release's own list (nfields of its HDF5 writer)
    assert len(h20_dtype().names) == 111
    assert h20_dtype(n_element=5).itemsize < h20_dtype(n_element=11).itemsize


# ---- the raw files of a real run -------------------------------------------------------------------------------------


def test_raw_files_give_back_the_sample(reference_dir: Path) -> None:
    folder = reference_dir / "lgalaxies"
    raw = read_h15(folder / RAW, read_sfh_bins(folder / "SFH_Bins_H15.bin"))
    assert len(raw) == 3365
    with h5py.File(folder / "lgal_h15_sample.h5") as f:
        rows = np.flatnonzero((f["source"][:] == 0) & (f["snapnum"][:] == 54))
        sample = {name: f[name][:][rows].astype(float) for name in f}
    assert len(rows) == 81
    net = (raw.disk.mass_formed + raw.bulge.mass_formed).sum(axis=1) * 0.57
    match = np.array([np.argmin(np.abs(net / m - 1)) for m in sample["StellarMass"]])
    np.testing.assert_allclose(net[match], sample["StellarMass"], rtol=2e-5)
    for who in ("disk", "bulge"):
        part = getattr(raw, who)
        np.testing.assert_allclose(part.mass_formed[match], sample[f"sfh_{who}"], rtol=1e-5, atol=1.0)
        heavy = sample[f"sfh_{who}"] > 1e4
        np.testing.assert_allclose(part.metallicity[match][heavy], sample[f"Z_{who}"][heavy], rtol=1e-4)
    np.testing.assert_allclose(raw.lookback[match], sample["t_lookback"], rtol=1e-6)
    np.testing.assert_allclose(raw.width[match], sample["dt"], rtol=1e-6)
    for ours, theirs in (
        ("cold_gas", "ColdGas"),
        ("metals_cold_gas", "MetalsColdGas"),
        ("gas_radius", "GasDiskRadius"),
    ):
        np.testing.assert_allclose(getattr(raw, ours)[match], sample[theirs], rtol=1e-5)
    truth = {k: v[match] for k, v in true_properties(raw).items()}
    np.testing.assert_allclose(truth["logmstar"], sample["logM_formed"], atol=2e-6)
    np.testing.assert_allclose(10 ** truth["log_z_mw"], sample["Z_MW"], rtol=1e-5)
    np.testing.assert_allclose(truth["t_age_mw"], sample["t_age_MW"], atol=1e-5)


def test_raw_redshift_comes_from_the_records(reference_dir: Path) -> None:
    folder = reference_dir / "lgalaxies"
    raw = read_h15(folder / RAW, read_sfh_bins(folder / "SFH_Bins_H15.bin"))
    assert raw.redshift[0] == pytest.approx(0.11, abs=0.01)  # the file's own name says z0.11


def test_shipped_sample_is_the_reference_sample(reference_dir: Path) -> None:
    ours = load_galaxies()
    truth = true_properties(ours)
    with h5py.File(reference_dir / "lgalaxies" / "lgal_h15_sample.h5") as f:
        np.testing.assert_allclose(truth["logmstar"], f["logM_formed"][:], atol=2e-6)
        np.testing.assert_allclose(truth["t_age_mw"], f["t_age_MW"][:], atol=1e-4)
        np.testing.assert_allclose(10 ** truth["log_z_mw"], f["Z_MW"][:], rtol=1e-5)
    assert ours.usable.all()
    assert "not the published galaxies" in ours.provenance["caveats"]


# ---- formed mass -----------------------------------------------------------------------------------------------------


def test_recycled_fraction_is_explicit() -> None:
    records, bins = make_records(), make_bins()
    net = from_records(records, bins, recycled=0.0)
    formed = from_records(records, bins, recycled=0.43)
    np.testing.assert_allclose(formed.disk.mass_formed * 0.57, net.disk.mass_formed)
    np.testing.assert_allclose(formed.disk.metallicity, net.disk.metallicity)  # a ratio of masses
    assert net.disk.mass_formed[0, 0] == pytest.approx(records["sfh_DiskMass"][0, 0] * 1e10 / 0.673, rel=1e-6)
    for bad in (1.0, -0.1, float("nan")):
        with pytest.raises(InputError, match="recycled fraction"):
            from_records(records, bins, recycled=bad)


def test_inclination_from_spin_where_the_column_was_not_computed() -> None:
    records = make_records()
    records["CosInclination"][1] = 0.25
    records["StellarSpin"][2] = 0.0
    cos_i = from_records(records, make_bins(), 0.43).cos_inclination
    assert cos_i[0] == pytest.approx(0.8, rel=1e-6)
    assert cos_i[1] == pytest.approx(0.25)
    assert np.isnan(cos_i[2])


# ---- refusals and flags ----------------------------------------------------------------------------------------------


def test_wrong_record_size_is_refused_with_the_implied_one(tmp_path: Path) -> None:
    path = write_snapshot(tmp_path / "SA.bin", make_records(h20_dtype()))
    with pytest.raises(DataFileError, match=r"SA\.bin.*8540 bytes a record.*expected 800"):
        read_h15(path, make_bins())
    assert len(read_h20(path, make_bins())) == 4


@pytest.mark.parametrize("content", [b"", b"\x01\x00", struct.pack("<ii", -1, 5), struct.pack("<ii", 10**6, 5)])
def test_files_that_are_no_snapshot(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "x.bin").write_bytes(content)
    with pytest.raises(DataFileError, match=r"x\.bin"):
        read_records(tmp_path / "x.bin", H15_DTYPE)


def test_tree_counts_that_contradict_the_header(tmp_path: Path) -> None:
    records = make_records()
    (tmp_path / "x.bin").write_bytes(struct.pack("<iii", 1, 4, 3) + records.tobytes())
    with pytest.raises(DataFileError, match="trees hold 3 galaxies but the header says 4"):
        read_records(tmp_path / "x.bin", H15_DTYPE)


def test_missing_file(tmp_path: Path) -> None:
    with pytest.raises(DataFileError, match="no such file"):
        read_h15(tmp_path / "nothing", make_bins())


def test_bin_table_round_trip_and_refusals(tmp_path: Path) -> None:
    rows = np.zeros(N_BIN, SFH_BINS_DTYPE)
    lookback, width = make_bins().table[58]
    rows["snapnum"], rows["bin"], rows["n_merged"] = 58, np.arange(N_BIN), 1
    rows["lookback_yr"], rows["dt_yr"] = lookback * 1e9, width * 1e9
    path = tmp_path / "SFH_Bins"
    path.write_bytes(struct.pack("<i", N_BIN) + rows.tobytes())
    got = read_sfh_bins(path).table[58]
    np.testing.assert_allclose(got[0], lookback)
    path.write_bytes(struct.pack("<i", N_BIN + 1) + rows.tobytes())
    with pytest.raises(DataFileError, match="7 rows = 200 bytes"):
        read_sfh_bins(path)
    rows["dt_yr"][2] *= 0.5
    path.write_bytes(struct.pack("<i", N_BIN) + rows.tobytes())
    with pytest.raises(DataFileError, match="overlap, leave gaps"):
        read_sfh_bins(path)


def test_bins_of_another_run(tmp_path: Path) -> None:
    with pytest.raises(DataFileError, match="snapshot 58 is not in the SFH bin table"):
        from_records(make_records(), make_bins(snapnum=40), 0.43)
    records = make_records()
    records["sfh_ibin"] = 9
    with pytest.raises(DataFileError, match="sfh_ibin"):
        from_records(records, make_bins(), 0.43)
    records["sfh_ibin"][0] = N_BIN - 1
    flags = from_records(records, make_bins(), 0.43).flags
    assert RowFlag(int(flags[0])) is RowFlag.OK
    assert all(RowFlag(int(f)) & RowFlag.BINS_MISMATCH for f in flags[1:])


def test_gas_without_a_size_is_flagged() -> None:
    records = make_records(n=4)
    records["GasDiskRadius"][1] = 0.0
    records["ColdGas"][2] = -0.1
    records["MetalsColdGas"][3] = np.nan
    flags = [RowFlag(int(f)) for f in from_records(records, make_bins(), 0.43).flags]
    assert flags == [RowFlag.OK, RowFlag.NO_GAS_SIZE, RowFlag.NEGATIVE_MASS, RowFlag.BAD_NUMBER]


def test_bad_galaxies_are_flagged_not_lost() -> None:
    records = make_records(n=6)
    records["sfh_DiskMass"][1] = 0.0
    records["sfh_BulgeMass"][1] = 0.0
    records["sfh_DiskMass"][2, 1] = -0.3
    records["sfh_MetalsDiskMass"][3] = 0.0
    records["sfh_BulgeMass"][4, 0] = np.nan
    records["sfh_MetalsBulgeMass"][5, 2] = np.inf
    got = from_records(records, make_bins(), 0.43)
    flags = [RowFlag(int(f)) for f in got.flags]
    assert flags[0] is RowFlag.OK
    assert flags[1] & RowFlag.NO_STARS
    assert flags[2] & RowFlag.NEGATIVE_MASS
    assert flags[3] == RowFlag.NO_METALLICITY
    assert flags[4] & RowFlag.BAD_NUMBER
    assert flags[5] & RowFlag.BAD_NUMBER
    np.testing.assert_array_equal(got.usable, [True, False, False, True, False, False])
    assert np.all(np.isfinite(got.disk.mass_formed))
    assert np.all(got.disk.mass_formed >= 0)
    assert np.isnan(true_properties(got)["logmstar"][1])


# ---- 2020, database, plain table -------------------------------------------------------------------------------------


def test_h20_sums_metal_channels_and_keeps_formed_mass(tmp_path: Path) -> None:
    records = make_records(h20_dtype())
    got = read_h20(write_snapshot(tmp_path / "SA", records), make_bins())
    assert got.disk.metallicity[0, 0] == pytest.approx(0.02, rel=1e-5)
    assert got.disk.mass_formed[0, 0] == pytest.approx(records["sfh_DiskMass"][0, 0] * 1e10 / 0.673, rel=1e-6)


def write_h20_hdf5(path: Path, records: np.ndarray) -> Path:
    with h5py.File(path, "w") as f:
        f["58"] = records
    return path


def test_h20_hdf5_equals_binary(tmp_path: Path) -> None:
    records = make_records(h20_dtype())
    a = read_h20(write_snapshot(tmp_path / "SA", records), make_bins())
    b = read_h20_hdf5(write_h20_hdf5(tmp_path / "SA.h5", records), 58, make_bins())
    np.testing.assert_array_equal(a.disk.mass_formed, b.disk.mass_formed)
    np.testing.assert_array_equal(a.bulge.metallicity, b.bulge.metallicity)
    with pytest.raises(DataFileError, match="no table '57'"):
        read_h20_hdf5(tmp_path / "SA.h5", 57, make_bins())


@pytest.mark.parametrize("column", ["StellarMass", "SnapNum", "sfh_ibin", "Type", "sfh_DiskMass"])
def test_h20_hdf5_with_shifted_columns_is_refused(tmp_path: Path, column: str) -> None:
    records = make_records(h20_dtype())
    records[column] = np.frombuffer(np.full(1, 77.7, "<f4").tobytes(), records[column].dtype.base)[0]
    path = write_h20_hdf5(tmp_path / "SA.h5", records)
    with pytest.raises(DataFileError, match=r"SA\.h5.*shifted"):
        read_h20_hdf5(path, 58, make_bins())


def write_database(folder: Path, records: np.ndarray) -> tuple[Path, Path]:
    lookback, width = make_bins().table[58]
    times = ["#OK", "snapnum,bin,lookbackTime,dt,nbins"]
    times += [f"58,{i + 1},{t * 1e9},{d * 1e9},1" for i, (t, d) in enumerate(zip(lookback, width, strict=True))]
    (folder / "times.csv").write_text("\n".join(times) + "\n")
    scalars = ["snapnum", "redshift", "coldGas", "metalsColdGas", "gasDiskRadius", "stellarDiskRadius", "bulgeSize"]
    arrays = [f"sfh_{m}{w}Mass" for m in ("", "Metals") for w in ("Disk", "Bulge")]
    header = [*scalars, "cosInclination", *(f"{a}_{i + 1}" for a in arrays for i in range(SFH_NBIN))]
    lines = ["#OK", ",".join(header)]
    for r in records:
        values = [58, 0.1, r["ColdGas"], r["MetalsColdGas"], 0.004, 0.005, r["BulgeSize"], 0.5]
        lines.append(",".join(str(v) for v in (*values, *(float(x) for a in arrays for x in r[a]))))
    (folder / "galaxies.csv").write_text("\n".join([*lines, "#OK"]) + "\n")
    return folder / "galaxies.csv", folder / "times.csv"


def test_database_csv_equals_binary(tmp_path: Path) -> None:
    records = make_records()
    galaxies, times = write_database(tmp_path, records)
    got = read_database(galaxies, read_database_bins(times))
    expected = from_records(records, make_bins(), 0.43)
    np.testing.assert_allclose(got.disk.mass_formed, expected.disk.mass_formed, rtol=1e-6)
    np.testing.assert_allclose(got.bulge.metallicity, expected.bulge.metallicity, rtol=1e-6)
    assert got.redshift[0] == 0.1
    text = galaxies.read_text().replace("sfh_DiskMass_7", "sfh_DiskMass_x")
    galaxies.write_text(text)
    with pytest.raises(DataFileError, match="1 columns are missing"):
        read_database(galaxies, read_database_bins(times))


PLAIN = """galaxy_id,redshift,t_lookback_gyr,dt_gyr,mass_formed_disk,z_disk,cold_gas,gas_radius_kpc
7,0.1,0.5,1.0,1e9,0.01,0,0
7,0.1,6.0,10.0,4e9,0.005,0,0
3,0.2,5.0,10.0,2e9,0.02,1e9,5
"""


def test_plain_table(tmp_path: Path) -> None:
    path = tmp_path / "sim.csv"
    path.write_text(PLAIN)
    got = read_plain_table(path)
    np.testing.assert_array_equal(got.galaxy_id, [3, 7])
    truth = true_properties(got)
    np.testing.assert_allclose(truth["logmstar"], np.log10([2e9, 5e9]))
    np.testing.assert_allclose(truth["t_age_mw"], [5.0, (0.5 + 4 * 6.0) / 5])
    np.testing.assert_allclose(10 ** truth["log_sfr_1gyr"], [0.2, 1.0])
    np.testing.assert_allclose(10 ** truth["log_z_mw"], [0.02, (0.01 + 4 * 0.005) / 5])
    assert np.isnan(got.cos_inclination).all()
    assert got.usable.all()


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("dt_gyr", "dt", "lacks the columns"),
        ("6.0,10.0", "6.0,-1", "row 2: bins need dt_gyr > 0"),
        ("6.0,10.0", "2.0,10.0", "row 2: bins need"),
        ("7,0.1,6.0", "7,0.3,6.0", "row 2: redshift changes within galaxy 7"),
    ],
)
def test_plain_table_refusals(tmp_path: Path, old: str, new: str, message: str) -> None:
    path = tmp_path / "sim.csv"
    path.write_text(PLAIN.replace(old, new))
    with pytest.raises(DataFileError, match=message):
        read_plain_table(path)
