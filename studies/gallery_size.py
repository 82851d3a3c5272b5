"""Galleries of 10, 10,000 and 1e6 galaxies: size, time to build, and time until a browser shows them.

``python -m studies.gallery_size --galaxies 10 10000 1000000`` makes catalogs of made-up galaxies on a mass-SFR plane
(draws are few, since the size of the catalog itself is not what is measured), builds their galleries and opens them in
chromium from the folder. Prints the table of docs/studies/gallery.md. Catalogs that are there are used again. With
``--figures`` it takes the pictures of docs/guide/gallery.md of the largest catalog and of ``--file``, a posterior file.
"""

from __future__ import annotations

import argparse
import io
import shutil
import time
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from PIL import Image

from provabgs.catalog import Catalog
from provabgs.catalog.block import Block
from provabgs.catalog.layout import SUMMARY_NAME, shard_name
from provabgs.catalog.records import healpix64, to_block
from provabgs.catalog.shard import write_block
from provabgs.catalog.summary import build_summary
from provabgs.core.status import Status
from provabgs.gallery.site import build_site
from provabgs.inference.flags import Flag
from provabgs.pipelines.dry_run import synthetic_posterior
from studies.support.command import run_study, study_parser
from tests.support.browser import chromium, open_page, requests

SHARD = 1000
"""Most galaxies of a shard."""
N_SMOKE = 8
COLOURS = 112
"""Of a picture, which then stays below 200 kB."""
PAGES = 100
"""Galaxies whose pages hold draws."""


class Loaded(NamedTuple):
    """How a page came up.

    Attributes
    ----------
    seconds
        From the start of its loading until it was complete.
    megabytes
        Of everything that it loaded.
    """

    seconds: float
    megabytes: float


def made_up_shard(base: Block, first: int, rng: np.random.Generator) -> Block:
    """Galaxies of one shard: star-forming and quiescent ones, a tenth of them doubtful."""
    n = len(base)
    summary = base.summary.copy()
    summary["TARGETID"] = 39627783185368040 + first + np.arange(n)
    summary["Z"] = 0.02 + 0.5 * rng.beta(2, 4, n)
    mass = rng.normal(10.2, 0.6, n)
    quiet = rng.uniform(size=n) < 1 / (1 + np.exp(-(mass - 10.6) / 0.25))
    sfr = np.where(quiet, rng.normal(-1.3, 0.5, n), rng.normal(0.7 * (mass - 10) + 0.1, 0.3))
    for column, value in (("LOGMSTAR", mass), ("LOGSFR_100MYR", sfr), ("LOGSFR_1GYR", sfr + 0.1)):
        shift = (value - summary[f"{column}_P50"]).astype(np.float32)
        for suffix in ("P16", "P50", "P84"):
            summary[f"{column}_{suffix}"] += shift
    for column in ("T_AGE_MW", "LOGZ_MW", "TAU_ISM"):
        shift = rng.normal(0, 0.1, n).astype(np.float32)
        for suffix in ("P16", "P50", "P84"):
            summary[f"{column}_{suffix}"] += shift
    doubtful = rng.uniform(size=n) < 0.1
    summary["FLAG"] = np.where(doubtful, int(Flag.NOT_CONVERGED), 0)
    summary["STATUS"] = np.where(doubtful, int(Status.NOT_CONVERGED), 0)
    for column in ("TENSION", "RESIDUAL", "RHAT_MAX", "ESS_MIN"):
        summary[column] = summary[column] * rng.uniform(0.9, 1.1, n).astype(np.float32)
    summary["RA"], summary["DEC"] = rng.uniform(0, 360, n), np.degrees(np.arcsin(rng.uniform(-0.2, 0.9, n)))
    summary["HPIX_64"] = healpix64(summary["RA"], summary["DEC"])
    return replace(base, summary=summary)


def make_catalog(root: Path, n: int, n_samples: int) -> Path:
    """A catalog of n made-up galaxies, unless it is there."""
    if (root / SUMMARY_NAME).exists():
        return root
    rng = np.random.default_rng(4)
    base = to_block([synthetic_posterior(i, rng, 200) for i in range(min(n, SHARD))], n_samples=n_samples)
    for k in range(0, n, SHARD):
        write_block(root / shard_name(k // SHARD, 0), made_up_shard(base, k, rng))
    build_summary(root)
    return root


def load(driver: Any, address: str) -> Loaded:
    """Open a page and wait until it is complete."""
    requests(driver)  # forget those of earlier pages
    start = time.perf_counter()
    open_page(driver, address)
    seconds = time.perf_counter() - start
    files = {Path(a.removeprefix("file://").split("#")[0]) for a in requests(driver) if a.startswith("file://")}
    return Loaded(seconds, sum(f.stat().st_size for f in files) / 1e6)


def timed_filter(driver: Any) -> float:
    """Seconds that a filter on two columns takes, over all galaxies."""
    return float(
        driver.execute_async_script(
            "const done = arguments[0], start = performance.now();"
            "PG.load('site').then((site) => PG.expression.evaluate('LOGMSTAR_P50 > 11 and Z < 0.1', site))"
            ".then(() => done((performance.now() - start) / 1000))"
        )
    )


def measure(driver: Any, folder: Path, n: int, n_samples: int) -> str:
    """A row of the table."""
    root = make_catalog(folder / f"catalog-{n}", n, n_samples)
    site = folder / f"site-{n}"
    with Catalog.open(root) as catalog:
        start = time.perf_counter()
        built = build_site(catalog, site, title=f"{n:,} galaxies", pages=PAGES)
        build_s = time.perf_counter() - start
    overview = load(driver, f"{site.as_uri()}/index.html")
    filter_s = timed_filter(driver)
    page = load(driver, f"{site.as_uri()}/galaxy.html#{n // 2}")
    files = sum(1 for f in site.rglob("*") if f.is_file())
    return (
        f"| {n:,} | {build_s:.0f} | {built.n_bytes / 1e6:.1f} | {files:,} | {overview.seconds:.1f} | "
        f"{overview.megabytes:.1f} | {filter_s:.2f} | {page.seconds:.1f} | {page.megabytes:.2f} |"
    )


def pictures(driver: Any, overview: Path, posteriors: Path | None, figures: Path) -> None:
    """The pictures of the guide: the overview and a galaxy."""
    figures.mkdir(parents=True, exist_ok=True)
    shoot(driver, f"{overview.as_uri()}/index.html", figures / "gallery_overview.png", 1400, 1000)
    if posteriors is not None:
        site = overview.with_name("site-file")
        with Catalog.open(posteriors) as catalog:
            build_site(catalog, site, title=posteriors.stem)
        shoot(driver, f"{site.as_uri()}/galaxy.html#0", figures / "gallery_galaxy.png", 1400, 1180)
        narrow(driver, [f"{overview.as_uri()}/index.html", f"{site.as_uri()}/galaxy.html#0"], figures)
        shutil.rmtree(site)


def narrow(driver: Any, addresses: list[str], figures: Path) -> None:
    """Save what pages show in windows as narrow as a telephone's, side by side."""
    windows = [seen(driver, address, 390, 844) for address in addresses]
    joined = Image.new("RGB", (sum(w.width + 20 for w in windows) - 20, 844), "#d0d7de")
    for k, window in enumerate(windows):
        joined.paste(window, (410 * k, 0))
    joined.quantize(256).save(figures / "gallery_narrow.png", optimize=True)


def shoot(driver: Any, address: str, path: Path, width: int, height: int) -> None:
    """Save what a window of some size shows."""
    seen(driver, address, width, height).quantize(COLOURS).save(path, optimize=True)


def seen(driver: Any, address: str, width: int, height: int) -> Image.Image:
    """What a window of some size shows."""
    size = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 600}
    driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
    open_page(driver, address)
    time.sleep(0.5)
    return Image.open(io.BytesIO(driver.get_screenshot_as_png())).convert("RGB")


def work(options: argparse.Namespace) -> None:
    """Measure, and take the pictures."""
    with chromium() as (driver, why):
        if driver is None:
            print(f"| no browser: {why} |\n|---|")
            return
        print("| galaxies | build, s | site, MB | files | overview, s | loads, MB | filter, s | page, s | loads, MB |")
        print("|---|---|---|---|---|---|---|---|---|")
        for n in options.galaxies:
            print(measure(driver, options.output, n, options.samples), flush=True)
        if options.figures is not None:
            largest = options.output / f"site-{max(options.galaxies)}"
            pictures(driver, largest, options.file, options.figures)


def main() -> None:
    """Parse and work."""
    parser = study_parser("studies.gallery_size", __doc__)
    parser.add_argument("--galaxies", type=int, nargs="+", default=[10, 10_000, 1_000_000])
    parser.add_argument("--samples", type=int, default=16, help="draws kept per galaxy")
    parser.add_argument("--file", type=Path, help="posterior file for the picture of a galaxy's page")
    run_study(parser, work, {"galaxies": [N_SMOKE]})


if __name__ == "__main__":
    main()
