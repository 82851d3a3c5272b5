"""``provabgs fit`` and ``provabgs plot`` as a person meets them: exit codes, one-line errors, files, figures."""

from __future__ import annotations

from pathlib import Path

import h5py
import numpy as np
import pytest
from astropy.io import fits

from provabgs.api import fit as fit_api
from provabgs.catalog.observed import read_fitted
from provabgs.catalog.shard import read_shard
from provabgs.cli.main import main
from provabgs.core.errors import InputError
from provabgs.core.status import Status
from provabgs.inference.samplers import ensemble
from provabgs.observe.observation import Observation, Photometry
from tests.support.desi_files import Target, coadd_hdus, redrock_hdus, source_id, write, write_pair

GOOD = Target(source_id(1), level=2.0)
SMALL = '[fit]\nn_samples = 60\n[fit.sampler]\nname = "emcee"\nmax_eval = 100\n'


def run(monkeypatch: pytest.MonkeyPatch, *arguments: object) -> int:
    """Exit code of the command line."""
    monkeypatch.setattr("sys.argv", ["provabgs", *map(str, arguments)])
    monkeypatch.setenv("COLUMNS", "80")
    with pytest.raises(SystemExit) as stop:
        main()
    return int(stop.value.code or 0)


@pytest.fixture
def small(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A configuration with the least budget: 20 steps of emcee's ensembles, far from converged."""
    monkeypatch.setattr(ensemble, "CHUNK", 20)
    path = tmp_path / "small.toml"
    path.write_text(SMALL)
    return path


def spoil(folder: Path, camera: str, kind: str, value: float) -> Path:
    """A coadd one of whose arrays is all `value`."""
    hdus = coadd_hdus([GOOD])
    for c in camera:
        hdus[f"{c}_{kind}"].data[:] = value
    write(redrock_hdus([GOOD]), folder / "redrock-main-bright-1.fits")
    return write(hdus, folder / "coadd-main-bright-1.fits")


def missing(folder: Path) -> list[object]:
    return [folder / "absent.fits"]


def not_desi(folder: Path) -> list[object]:
    path = folder / "table.fits"
    fits.HDUList([fits.PrimaryHDU(np.zeros((3, 3)))]).writeto(path)
    return [path]


def not_fits(folder: Path) -> list[object]:
    path = folder / "coadd.fits"
    path.write_text("hello")
    return [path]


def truncated(folder: Path) -> list[object]:
    coadd = write_pair(folder, [GOOD])
    coadd.write_bytes(coadd.read_bytes()[: coadd.stat().st_size // 3])
    return [coadd]


def no_target(folder: Path) -> list[object]:
    return [write_pair(folder, [GOOD]), "--targetid", 12345]


def no_redrock(folder: Path) -> list[object]:
    return [write(coadd_hdus([GOOD]), folder / "coadd-main-bright-1.fits")]


def not_in_redrock(folder: Path) -> list[object]:
    write(redrock_hdus([Target(source_id(2))]), folder / "redrock-main-bright-1.fits")
    return [write(coadd_hdus([GOOD]), folder / "coadd-main-bright-1.fits")]


def redshift(value: float) -> object:
    def make(folder: Path) -> list[object]:
        return [write_pair(folder, [GOOD]), "--redshift", value]

    return make


def zwarn(folder: Path) -> list[object]:
    return [write_pair(folder, [Target(source_id(1), zwarn=4)])]


def wrong_units(folder: Path) -> list[object]:
    hdus = coadd_hdus([GOOD])
    hdus["R_FLUX"].header["BUNIT"] = "Jy"
    write(redrock_hdus([GOOD]), folder / "redrock-main-bright-1.fits")
    return [write(hdus, folder / "coadd-main-bright-1.fits")]


def dark(folder: Path) -> list[object]:
    target = Target(source_id(1), ivar=0.0, fibermap={f"FLUX_IVAR_{b}": 0.0 for b in ("G", "R", "Z", "W1", "W2")})
    return [write_pair(folder, [target])]


def bad_config(text: str) -> object:
    def make(folder: Path) -> list[object]:
        (folder / "bad.toml").write_text(text)
        return [write_pair(folder, [GOOD]), "--config", folder / "bad.toml"]

    return make


BAD = [
    (missing, "absent.fits", "no such file"),
    (not_desi, "table.fits", "FIBERMAP"),
    (not_fits, "coadd.fits", "FITS"),
    (truncated, "coadd-main-bright-1.fits", "truncated"),
    (no_target, "12345", "coadd-main-bright-1.fits"),
    (no_redrock, "coadd-main-bright-1.fits", "redshift"),
    (not_in_redrock, "row 0", "--redshift"),
    (redshift(-0.1), "row 0", "redshift -0.1"),
    (redshift(0.0), "row 0", "redshift 0.0"),
    (redshift(0.9), "row 0", "z_max"),
    (redshift(float("nan")), "row 0", "NO_REDSHIFT"),
    (zwarn, "row 0", "--allow-zwarn"),
    (wrong_units, "coadd-main-bright-1.fits", "Jy"),
    (dark, "row 0", "ivar 0"),
    (bad_config("[fit"), "bad.toml", "TOML"),
    (bad_config("[sampler]\nname = 'x'"), "bad.toml", "make it [fit.sampler]"),
    (bad_config("[run]\noutput = 'x'"), "bad.toml", "[fit]"),
    (bad_config("[fit]\nengin = 'exact'"), "bad.toml", "engin is no key; did you mean engine?"),
    (bad_config("[fit.sampler]\nrhat = 0.5"), "bad.toml", "sampler.rhat"),
    (bad_config("[fit.sampler]\nname = 'magic'"), "magic", "known: auto, annealed, emcee"),
]


@pytest.mark.parametrize(("make", "where", "what"), BAD)
def test_bad_input_is_one_line_and_an_exit_code(
    make, where: str, what: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    output = tmp_path / "out.h5"
    assert run(monkeypatch, "fit", *make(tmp_path), "-o", output) == 2
    error = capsys.readouterr().err.strip()
    assert error.startswith("provabgs: error: ")
    assert "\n" not in error
    assert where in error
    assert what in error
    assert not output.exists()


def test_output_that_cannot_be_written_is_refused_before_the_fit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(monkeypatch, "fit", write_pair(tmp_path, [GOOD]), "-o", tmp_path) == 2
    assert "is a folder" in capsys.readouterr().err


def test_control_characters_of_a_files_name_do_not_reach_the_terminal(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    odd = tmp_path / "coadd-\x1b[2J\n\u202e.fits"
    assert run(monkeypatch, "fit", odd, "-o", tmp_path / "out.h5") == 2
    printed = capsys.readouterr()
    assert r"coadd-\x1b[2J\n\u202e.fits" in printed.err
    assert (printed.out + printed.err).strip("\n").isprintable()


def test_an_input_is_never_the_output(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    coadd = write_pair(tmp_path, [GOOD])
    redrock, link = tmp_path / "redrock-main-bright-1.fits", tmp_path / "other.h5"
    link.symlink_to(coadd)
    before = coadd.read_bytes(), redrock.read_bytes()
    for output in (coadd, redrock, link):
        assert run(monkeypatch, "fit", coadd, "-o", output) == 2
        assert "is an input of this fit" in capsys.readouterr().err
    assert (coadd.read_bytes(), redrock.read_bytes()) == before


def test_a_fit_that_fails_replaces_no_results(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = [GOOD, Target(source_id(2), zwarn=4)]
    coadd, output = write_pair(tmp_path, [GOOD, rows[1]]), tmp_path / "out.h5"
    output.write_bytes(b"results of an earlier fit")
    write(redrock_hdus([Target(t.targetid, zwarn=4) for t in rows]), tmp_path / "doubted.fits")
    assert run(monkeypatch, "fit", coadd, "--redrock", tmp_path / "doubted.fits", "-o", output) == 2
    assert output.read_bytes() == b"results of an earlier fit"
    assert "out.failed.h5" in capsys.readouterr().out.replace("\n", "")
    assert [r.status for r in read_shard(tmp_path / "out.failed.h5")] == [Status.REDSHIFT_WARNING] * 2


def test_a_real_fit_from_coadd_to_figures(
    tmp_path: Path, small: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Three rows: one good, one unobserved, one with NaN flux. The good one is fitted, drawn, and reproducible."""
    broken = Target(
        source_id(3), level=float("nan"), fibermap={f"FLUX_IVAR_{b}": 0.0 for b in ("G", "R", "Z", "W1", "W2")}
    )
    sky = Target(source_id(2), fibermap={"OBJTYPE": "SKY"})
    coadd, output, figures = write_pair(tmp_path, [GOOD, sky, broken]), tmp_path / "out.h5", tmp_path / "figures"
    assert run(monkeypatch, "fit", coadd, "-c", small, "-o", output, "--seed", 7) == 0
    printed = capsys.readouterr().out
    assert str(GOOD.targetid) in printed
    assert "UNOBSERVED" in printed

    good, unobserved, spoiled = read_shard(output)
    assert good.status.has_samples
    assert good.samples.shape == (60, 14)  # light_error, too
    assert np.all(np.isfinite(good.samples))
    assert unobserved.status == Status.UNOBSERVED
    assert spoiled.status == Status.NO_VALID_PIXELS
    assert (good.seed, good.config_dict()["n_samples"]) == (7, 60)
    assert read_fitted(output, 0).digest() == good.data_hash
    with pytest.raises(InputError, match="holds no data"):
        read_fitted(output, 1)
    with h5py.File(output) as f:  # plain h5py is enough
        assert f["summary"]["TARGETID"][0] == GOOD.targetid

    assert run(monkeypatch, "plot", output, "-o", figures, "--n-draws", 20) == 0
    names = {p.name.removeprefix(f"{GOOD.targetid}-") for p in figures.iterdir()}
    assert names == {"summary.png", "spectrum.png", "photometry.png", "histories.png", "corner.png"}
    assert all(p.stat().st_size > 10_000 for p in figures.iterdir())
    capsys.readouterr()
    assert run(monkeypatch, "plot", output, "--targetid", 5) == 2
    assert "no TARGETID 5" in capsys.readouterr().err


def test_interrupt_keeps_the_rows_done_and_a_crash_costs_one_row(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    faults = iter([ZeroDivisionError("division by zero"), KeyboardInterrupt()])

    def faulty(*_: object) -> None:
        raise next(faults)

    monkeypatch.setattr("provabgs.inference.fit_observation.fit_observation", faulty)
    coadd = write_pair(tmp_path, [GOOD, Target(source_id(2)), Target(source_id(3))])
    assert run(monkeypatch, "fit", coadd, "-o", tmp_path / "out.h5") == 130
    assert "interrupted" in capsys.readouterr().err
    (row,) = read_shard(tmp_path / "out.h5")
    assert (row.status, row.message) == (Status.CRASHED, "ZeroDivisionError: division by zero")


def test_a_band_without_a_filter_is_named() -> None:
    posterior = fit_api(Observation(redshift=0.1, photometry=Photometry(("nowhere-q",), [1.0], [1.0])), seed=1)
    assert not posterior.status.has_samples
    assert "nowhere-q" in posterior.message


def test_fit_refuses_what_it_cannot_mean() -> None:
    with pytest.raises(InputError, match="takes an Observation"):
        fit_api([1, 2])  # type: ignore[list-item]


def test_damaged_data_are_noticed(tmp_path: Path) -> None:
    """The checksum of the data kept with a posterior is verified on reading."""
    from provabgs.catalog.observed import write_fits
    from provabgs.core.errors import DataFileError
    from provabgs.desi import read_observation
    from provabgs.inference.posterior import Posterior

    observation = read_observation(write_pair(tmp_path, [GOOD]), GOOD.targetid)
    posterior = Posterior(targetid=GOOD.targetid, redshift=0.2, status=Status.CRASHED, message="boom")
    path = tmp_path / "one.h5"
    write_fits(path, [(posterior, observation)])
    again = read_fitted(path, 0)
    assert again.digest() == observation.digest()
    assert again.fiber_fraction == observation.fiber_fraction
    with h5py.File(path, "a") as f:
        f["observations/0/spectra/1/flux"][3] += 1.0
    with pytest.raises(DataFileError, match="checksum"):
        read_fitted(path, 0)
