"""Model spectra from rows of a catalog, without the data: in Python, and as a FITS file of FastSpecFit's HDUs."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from astropy.cosmology import Planck13
from astropy.io import fits
from astropy.io.votable import parse_single_table
from typer.testing import CliRunner

from provabgs.catalog import Catalog, write_catalog
from provabgs.catalog.export import export, published_columns, published_table
from provabgs.catalog.models import CAMERAS, camera_models
from provabgs.cli.main import app
from provabgs.core.errors import InputError
from provabgs.core.jax import jnp
from provabgs.core.status import Status
from provabgs.core.versions import versions
from provabgs.inference.backends import load_model
from provabgs.inference.config import FitConfig, MeasureOptions
from provabgs.inference.likelihood import ExactLikelihood
from provabgs.inference.measured.measure import with_measurements
from provabgs.inference.posterior import Posterior
from provabgs.inference.target import derived_columns
from provabgs.observe.observation import Observation, Photometry, Spectrum
from provabgs.observe.options import ObservingOptions
from provabgs.observe.projection import project
from tests.support.parameters import put
from tests.support.small_library import draws

Z = 0.2
CONFIG = FitConfig(measure=MeasureOptions(n_draws=4))


def fitted(targetid: int, ra: float) -> Posterior:
    samples = draws(30, np.random.default_rng(targetid))
    put(samples, logmstar=10.3, tau_ism=0.3, f_fiber=0.4)
    model = load_model(CONFIG.model)
    derived = derived_columns(model, samples[:, :12], model.tables(float(Planck13.age(Z).value)))
    plain = Posterior(
        targetid, Z, Status.CONVERGED, samples=samples, log_prob=np.zeros(30), derived=derived, best_fit=samples[0],
        config=CONFIG.model_dump_json(), ra=ra, dec=0.3, versions=versions(),
    )  # fmt: skip
    bands = Photometry(("decam2014-g", "decam2014-r"), [10.0, 20.0], [1.0, 1.0])
    return with_measurements(plain, Observation(Z, (), bands, targetid=targetid))


@pytest.fixture(scope="module")
def posteriors() -> list[Posterior]:
    lost = Posterior.without_samples(Status.CRASHED, "bad", CONFIG, 0, targetid=99, redshift=0.3, ra=20.0, dec=0.0)
    return [fitted(7, 10.0), fitted(3, 200.0), fitted(5, 10.0), lost]


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory, posteriors: list[Posterior]) -> Path:
    folder = tmp_path_factory.mktemp("catalog")
    write_catalog(folder, posteriors)
    return folder


def test_a_spectrum_is_that_of_the_stored_draws(root: Path, posteriors: list[Posterior]) -> None:
    with Catalog.open(root) as catalog:
        rest = catalog.spectrum(3, draws=5)
        seen = catalog.spectrum(3, "observed", 5)
    p, model = posteriors[1], load_model(CONFIG.model)
    rows = np.linspace(0, 29, 5).round().astype(int)
    tables = model.tables(float(Planck13.age(Z).value))
    exact = np.asarray(model.spectrum(jnp.asarray(p.samples[rows, :12]), tables))
    assert rest.flux.shape == exact.shape
    good = exact > 1e-3 * exact.max(axis=1, keepdims=True)
    np.testing.assert_allclose(rest.flux[good], exact[good], rtol=2e-3)  # draws are stored to 16 bits
    np.testing.assert_allclose(seen.wave, model.library.wave * (1 + Z))
    distance = Planck13.luminosity_distance(Z).to_value("cm")
    factor = model.library.lsun_cgs / (4 * np.pi * distance**2) / (1 + Z) / 1e-17
    np.testing.assert_allclose(seen.flux, rest.flux * factor, rtol=1e-6)
    assert (rest.unit, seen.unit) == ("Lsun / Angstrom", "1e-17 erg / (s cm2 Angstrom)")


def test_what_cannot_be_made_is_refused(root: Path) -> None:
    with Catalog.open(root) as catalog:
        with pytest.raises(InputError, match="TARGETID 99 has no draws, STATUS CRASHED"):
            catalog.spectrum(99)
        with pytest.raises(InputError, match="TARGETID 1 is not in this catalog"):
            catalog.spectrum(1)
        with pytest.raises(InputError, match="choose 'rest' or 'observed'"):
            catalog.spectrum(3, "both")  # type: ignore[arg-type]
        with pytest.raises(InputError, match="at least 1"):
            catalog.spectrum(3, draws=0)


def test_posteriors_come_in_the_order_asked_for(root: Path, posteriors: list[Posterior]) -> None:
    with Catalog.open(root) as catalog:
        found = [p.targetid for p in catalog.posteriors([5, 3, 99, 7, 3])]
        (one,) = catalog.posteriors([7])
    assert found == [5, 3, 99, 7, 3]
    np.testing.assert_allclose(one.samples, posteriors[0].samples, atol=1e-3)
    assert one.measured.keys() == posteriors[0].measured.keys()


def test_camera_models_are_the_pixels_of_the_likelihood(posteriors: list[Posterior]) -> None:
    """The exact likelihood's prediction for cameras of DESI's wavelengths, all of one draw."""
    p = replace(posteriors[0], samples=posteriors[0].samples[:1], derived={})
    cameras = tuple(Spectrum(g.camera, g.wave, np.ones(g.n), np.ones(g.n)) for g in CAMERAS)
    projection = project(
        Observation(Z, cameras), load_model(CONFIG.model).library, ObservingOptions(line_mask="none", noise=())
    )
    pixels, _ = ExactLikelihood(projection, load_model(CONFIG.model)).predict(p.samples)
    assert pixels is not None
    made = camera_models(p, 10)
    np.testing.assert_allclose(np.concatenate([made[g.camera][1] for g in CAMERAS]), pixels[0], rtol=1e-5)
    none = camera_models(posteriors[3], 10)
    assert np.isnan(none["B"]).all()
    assert none["Z"].shape == (3, 2881)


def test_the_file_of_models(root: Path, tmp_path: Path, posteriors: list[Posterior]) -> None:
    path = tmp_path / "models.fits"
    done = CliRunner().invoke(app, ["export", str(root), str(path), "--models"])
    assert done.exit_code == 0, done.output
    with fits.open(path) as hdus:
        assert [h.name for h in hdus[1:]] == ["METADATA", "SPECPHOT", "FASTSPEC", "MODELS_B", "MODELS_R", "MODELS_Z"]
        ids = hdus["METADATA"].data["TARGETID"]
        for name in ("SPECPHOT", "FASTSPEC"):
            np.testing.assert_array_equal(hdus[name].data["TARGETID"], ids)
        assert {"RA", "MAG_R", "SHARD"} <= set(hdus["METADATA"].columns.names)
        assert {"LOGMSTAR_P50", "ABSMAG01_SDSS_R_P50", "DN4000_MODEL_P50"} <= set(hdus["SPECPHOT"].columns.names)
        assert {"HALPHA_FLUX", "LOGSFR_HALPHA_P50", "CHI2_SPEC", "FLAG"} <= set(hdus["FASTSPEC"].columns.names)
        header, models = hdus["MODELS_R"].header, hdus["MODELS_R"].data
        wave = header["CRVAL1"] + header["CDELT1"] * (np.arange(header["NAXIS1"]) + 1 - header["CRPIX1"])
        np.testing.assert_allclose(wave, CAMERAS[1].wave)
        assert header["BUNIT"] == "1e-17 erg / (s cm2 Angstrom)"
        row = int(np.flatnonzero(ids == 5)[0])
        np.testing.assert_allclose(models[row], camera_models(posteriors[2], 64)["R"], rtol=1e-3)
        assert np.isnan(models[int(np.flatnonzero(ids == 99)[0])]).all()
        every = [c for n in ("METADATA", "SPECPHOT", "FASTSPEC") for c in hdus[n].columns.names]
    with Catalog.open(root) as catalog:
        assert set(every) == set(catalog.columns)


def test_headers_say_what_columns_are(root: Path, tmp_path: Path) -> None:
    with Catalog.open(root) as catalog:
        export(catalog, tmp_path / "a.fits")
        export(catalog, tmp_path / "a.vot")
        export(catalog, tmp_path / "p.fits", "provabgs")
        known = {c.name: c for c in catalog.schema.table_columns}
        export(catalog, tmp_path / "a.parquet")
        table = published_table(catalog)
        published = {c.name: c for c in published_columns(catalog.schema)}
    for file, about in (("a.fits", known), ("p.fits", published)):
        header = fits.getheader(tmp_path / file, 1)
        for k in range(1, header["TFIELDS"] + 1):
            column = about[header[f"TTYPE{k}"]]
            assert header[f"TCOMM{k}"].startswith(column.description[:400])
            assert header.get(f"TUCD{k}", "") == column.ucd
            assert bool(header.get(f"TUNIT{k}")) == bool(column.unit and not column.unit.startswith("dex"))
    assert set(table.colnames) == set(published)
    for field in parse_single_table(tmp_path / "a.vot").fields:
        assert " ".join(field.description.split()).startswith(known[field.ID].description)
        assert (field.ucd or "") == known[field.ID].ucd
    for field in [*pq.read_schema(tmp_path / "a.parquet"), *pq.read_schema(root / "summary.parquet")]:
        about = {k.decode(): v.decode() for k, v in field.metadata.items()}
        assert (about["unit"], about["description"]) == (known[field.name].unit, known[field.name].description)
        assert about["null"] == known[field.name].null
