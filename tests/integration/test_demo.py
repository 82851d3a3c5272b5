"""``provabgs demo``: mocks, fits, comparison with the truth and a gallery, from nothing but the package."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import pytest
from typer.testing import CliRunner

from provabgs.cli.demo import demo_challenge
from provabgs.cli.main import app
from provabgs.core.errors import InputError
from provabgs.pipelines import challenge


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Fits that cost nothing in place of the sampler's; everything else as it is."""
    real = challenge.run_challenge
    monkeypatch.setattr(challenge, "run_challenge", partial(real, fit="provabgs.pipelines.dry_run:fit_observation"))


@pytest.mark.usefixtures("quick")
def test_from_nothing_to_a_gallery(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    first = CliRunner().invoke(app, ["demo", "--galaxies", "2"], catch_exceptions=False)
    assert first.exit_code == 0
    assert "posterior median minus truth" in first.output
    assert "4 galaxies," in first.output  # two mocks in two modes
    assert "open demo/gallery/index.html in a browser" in first.output
    assert (tmp_path / "demo" / "gallery" / "index.html").is_file()
    (fitted, *_) = sorted((tmp_path / "demo" / "challenge" / "fits").glob("*/*.h5"))
    before = fitted.stat().st_mtime_ns
    options = ["demo", "--galaxies", "2", "--also", str(fitted)]
    second = CliRunner().invoke(app, options, catch_exceptions=False)
    assert second.exit_code == 0
    assert fitted.stat().st_mtime_ns == before


def test_what_stands_in_the_way_is_said_at_once(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"--also .*none\.h5: no such file"):
        CliRunner().invoke(app, ["demo", "--also", str(tmp_path / "none.h5")], catch_exceptions=False)
    (tmp_path / "gallery").mkdir()
    (tmp_path / "gallery" / "mine.txt").touch()
    with pytest.raises(InputError, match="gallery"):
        CliRunner().invoke(app, ["demo", "-o", str(tmp_path)], catch_exceptions=False)
    assert [p.name for p in tmp_path.iterdir()] == ["gallery"]


def test_it_is_the_default_fit_of_real_mocks(tmp_path: Path) -> None:
    config = demo_challenge(tmp_path, 3)
    assert config.mock.n == 3
    assert config.modes == ("both", "photometry")
    assert config.fit.engine == "compressed"
