"""The gallery in a real browser: from a folder and from a web server, by mouse and by keyboard."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from provabgs.catalog.observed import write_fits
from provabgs.catalog.query import Catalog
from provabgs.gallery.site import build_site
from provabgs.observe.observation import Observation, Photometry, Spectrum
from provabgs.pipelines.dry_run import synthetic_posterior
from tests.support.browser import browser, messages, open_page, requests, wait_for
from tests.support.galleries import FIRST, HOSTILE, small_catalog


@pytest.fixture(scope="module")
def driver() -> Iterator[Any]:
    with browser() as driver:
        yield driver


@pytest.fixture(scope="module")
def catalog(driver: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Made after the browser is known to be there, so that nothing is computed for tests that are skipped."""
    return small_catalog(tmp_path_factory.mktemp("gallery") / "catalog")


@pytest.fixture(scope="module")
def site(catalog: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    with Catalog.open(catalog) as opened:
        return build_site(opened, tmp_path_factory.mktemp("sites") / "a site", title=HOSTILE).page.parent


@pytest.fixture(scope="module")
def one(driver: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Site of one galaxy with its data."""
    folder = tmp_path_factory.mktemp("one")
    wave, rng = np.linspace(3600, 9800, 3000), np.random.default_rng(3)
    spectrum = Spectrum("any", wave, 5 + rng.normal(0, 0.5, 3000), np.full(3000, 4.0), sigma_aa=2.0)
    bands = Photometry(("decam2014-g", "decam2014-r", "decam2014-z"), np.array([40.0, 60.0, 70.0]), np.full(3, 0.5))
    data = Observation(0.1, (spectrum,), bands, fiber_fraction=(0.3, 0.1), targetid=FIRST, ra=150.25, dec=-2.5)
    posterior = replace(synthetic_posterior(FIRST, rng, 60), ra=data.ra, dec=data.dec)
    write_fits(folder / "one.h5", [(posterior, data)])
    with Catalog.open(folder / "one.h5") as opened:
        return build_site(opened, folder / "site").page.parent


@pytest.fixture
def served(site: Path) -> Iterator[str]:
    """Address of the site on a plain web server."""

    class Quiet(SimpleHTTPRequestHandler):
        def log_message(self, format: str, *args: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(site)))
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_address[1]}"
    server.shutdown()
    server.server_close()
    thread.join()


def text(driver: Any, selector: str) -> str:
    return str(driver.find_element("css selector", selector).text)


def table(driver: Any) -> list[dict[str, str]]:
    """Rows of the overview's table by the names of its columns."""
    names = [b.split("\n")[0].rstrip(" ▴▾") for b in texts(driver, "#head th")]
    rows = driver.execute_script(
        "return [...document.querySelectorAll('#rows tr')].map((r) => [...r.cells].map((c) => c.innerText))"
    )
    return [dict(zip(names, row, strict=True)) for row in rows]


def texts(driver: Any, selector: str) -> list[str]:
    return list(
        driver.execute_script("return [...document.querySelectorAll(arguments[0])].map((e) => e.innerText)", selector)
    )


def apply_filter(driver: Any, query: str) -> None:
    box = driver.find_element("id", "filter")
    box.clear()
    box.send_keys(query, "\n")


def test_the_overview_opens_from_a_folder(driver: Any, site: Path, catalog: Path) -> None:
    requests(driver)
    open_page(driver, (site / "index.html").as_uri())
    assert messages(driver) == []
    assert text(driver, "#count") == "13 of 13 galaxies"
    assert text(driver, "#seen") == "12 in view, as points"
    with Catalog.open(catalog) as opened:
        expected = opened.table(["TARGETID", "LOGMSTAR_P50"])
    shown = {row["TARGETID"]: row["LOGMSTAR_P50"] for row in table(driver)}
    assert shown == {
        str(i): f"{m:.3f}".replace("-", "−") if np.isfinite(m) else "–"
        for i, m in zip(expected["TARGETID"], expected["LOGMSTAR_P50"], strict=True)
    }
    assert all(address.startswith(("file:", "data:", "about:", "blob:")) for address in requests(driver))


def test_the_overview_opens_from_a_web_server(driver: Any, served: str) -> None:
    requests(driver)
    open_page(driver, f"{served}/index.html")
    assert messages(driver) == []
    assert text(driver, "#count") == "13 of 13 galaxies"
    open_page(driver, f"{served}/galaxy.html#3")
    assert messages(driver) == []
    assert all(address.startswith((served, "data:", "about:", "blob:")) for address in requests(driver))


def test_names_and_messages_are_text(driver: Any, site: Path) -> None:
    open_page(driver, (site / "index.html").as_uri())
    assert text(driver, "h1") == HOSTILE.replace("\u2028", "\n") or "</script><img" in text(driver, "h1")
    apply_filter(driver, "STATUS == 'NOT_CONVERGED'")
    wait_for(lambda: text(driver, "#count") == "1 of 13 galaxies", driver)
    open_page(driver, driver.find_element("css selector", "#rows a").get_attribute("href"))
    assert "<img src=x" in text(driver, "#words")
    assert driver.execute_script("return window.hacked") is None
    assert driver.execute_script("return document.querySelectorAll('img').length") == 0
    assert messages(driver) == []


@pytest.mark.parametrize(
    "query",
    [
        "LOGMSTAR_P50 > 10 and Z < 0.2",
        "0.1 < Z <= 0.2 or STATUS == 'UNOBSERVED'",
        "not (FLAG & 64 == 0) and Z > 0",
        "STATUS in ('CONVERGED', 'NOT_CONVERGED') and abs(LOGSFR_1GYR_P50) < 0.5",
        "LOGMSTAR_P84 - LOGMSTAR_P16 < 2 ** -2.6",
        f"TARGETID = {FIRST + 4} OR TARGETID == {FIRST + 5}",
        "PROGRAM <> 'bright'",
        "isnull(LOGMSTAR_P50)",
        "log10(T_AGE_MW_P50) > 0.7 and sqrt(Z) > 0.3",
        "-1 * LOGZ_MW_P50 / 2 >= 1",
    ],
)
def test_filters_choose_what_the_catalog_chooses(driver: Any, site: Path, catalog: Path, query: str) -> None:
    with Catalog.open(catalog) as opened:
        expected = {str(i) for i in opened.select(query).table(["TARGETID"])["TARGETID"]}
    assert 0 < len(expected) < 13
    open_page(driver, (site / "index.html").as_uri())
    apply_filter(driver, query)
    wait_for(lambda: text(driver, "#count") == f"{len(expected)} of 13 galaxies", driver)
    assert {row["TARGETID"] for row in table(driver)} == expected
    assert messages(driver) == []


@pytest.mark.parametrize(
    ("query", "said"),
    [
        ("LOGMSTAR > 10", "no column LOGMSTAR in this overview; did you mean LOGMSTAR_P16"),
        ("Z >", "the filter ends too early"),
        ("alert(1)", "no function 'alert'"),
        ("Z > 0.1 ; 1", "cannot read the filter at '; 1'"),
        ("STATUS == 'GOOD'", "no STATUS 'GOOD'; there are CONVERGED"),
        ("constructor > 1", "no column constructor"),
    ],
)
def test_a_wrong_filter_is_explained(driver: Any, site: Path, query: str, said: str) -> None:
    open_page(driver, (site / "index.html").as_uri())
    apply_filter(driver, query)
    wait_for(lambda: said in text(driver, "#wrong"), driver)
    assert text(driver, "#count") == "13 of 13 galaxies"
    assert driver.find_element("id", "filter").get_attribute("aria-invalid") == "true"


def test_the_table_sorts_both_ways(driver: Any, site: Path) -> None:
    open_page(driver, (site / "index.html").as_uri())
    for order in ("ascending", "descending"):
        button = driver.find_element("xpath", "//th[button[starts-with(., 'Z')]]/button")
        driver.execute_script("arguments[0].click()", button)
        wait_for(lambda order=order: driver.find_elements("css selector", f"th[aria-sort='{order}']"), driver)
        z = [float(row["Z"]) for row in table(driver)]
        assert z == sorted(z, reverse=order == "descending")
        assert len(set(z)) == 13


def test_a_lasso_chooses_galaxies(driver: Any, site: Path) -> None:
    from selenium.webdriver import ActionChains

    open_page(driver, (site / "index.html").as_uri())
    driver.find_element("id", "lasso").click()
    canvas = driver.find_element("css selector", "#plot canvas")
    size = canvas.size
    left, top = -size["width"] // 2 + 70, -size["height"] // 2 + 15
    steps = [(size["width"] // 2 - 30, 0), (0, size["height"] - 90), (-size["width"] // 2 + 30, 0)]
    actions = ActionChains(driver, duration=20).move_to_element_with_offset(canvas, left, top).click_and_hold()
    for step in steps:
        actions = actions.move_by_offset(*step)
    actions.release().perform()
    wait_for(lambda: text(driver, "#count") != "13 of 13 galaxies", driver)
    rows = table(driver)
    xs = driver.execute_script("return PG.overview.state.lasso.map((p) => p[0])")
    masses = [float(row["LOGMSTAR_P50"].replace("−", "-")) for row in rows]
    assert 0 < len(rows) < 12
    assert min(xs) - 1e-3 <= min(masses) <= max(masses) <= max(xs) + 1e-3


def test_keys_zoom_and_pan(driver: Any, site: Path) -> None:
    open_page(driver, (site / "index.html").as_uri())
    canvas = driver.find_element("css selector", "#plot canvas")
    for keys, condition in (("+++++++", lambda n: n < 12), ("0", lambda n: n == 12)):
        driver.execute_script("arguments[0].focus()", canvas)
        canvas.send_keys(keys)
        wait_for(lambda condition=condition: condition(int(canvas.get_attribute("data-count"))), driver)
    assert "12 of 13 galaxies" in canvas.get_attribute("aria-label")


def test_a_galaxys_page_shows_the_right_numbers(driver: Any, site: Path, catalog: Path) -> None:
    open_page(driver, (site / "index.html").as_uri())
    link = driver.find_element("link text", str(FIRST + 4))
    driver.execute_script("arguments[0].click()", link)
    wait_for(lambda: str(FIRST + 4) in driver.title, driver)
    wait_for(lambda: driver.find_elements("css selector", "#numbers tbody tr"), driver)
    with Catalog.open(catalog) as opened:
        row = opened.select(f"TARGETID == {FIRST + 4}").table()[0]
    cells = {r.split("\t")[0]: r.split("\t") for r in texts(driver, "#numbers tbody tr")}
    low, median, high = (float(row[f"T_AGE_MW_{s}"]) for s in ("P16", "P50", "P84"))
    assert cells["T_AGE_MW"][1:4] == [f"{v:.3f}" for v in (median, median - low, high - median)]
    assert cells["T_AGE_MW"][7] == "Gyr"
    everything = driver.find_element("id", "everything")
    driver.execute_script("arguments[0].open = true", everything)
    assert f"T_AGE_MW_BF\t{float(row['T_AGE_MW_BF']):.4f}\tGyr\tbest fit" in everything.text.replace(" ", "\t") or (
        f"{float(row['T_AGE_MW_BF']):.4f}" in everything.text
    )
    assert messages(driver) == []


def test_a_page_draws_spectrum_bands_and_corner(driver: Any, one: Path) -> None:
    driver.get((one / "index.html").as_uri())  # one galaxy: its page is the site
    wait_for(lambda: driver.current_url.endswith("galaxy.html#0"), driver)
    wait_for(lambda: driver.execute_script("return document.body.dataset.ready") == "1", driver)
    assert texts(driver, "h2") == ["Fits the data", "Spectrum", "Bands", "Histories", "Properties and parameters"]
    link = driver.find_element("link text", "Legacy Surveys viewer").get_attribute("href")
    assert link.startswith("https://www.legacysurvey.org/viewer?ra=150.25000&dec=-2.50000")
    labels = driver.execute_script(
        "return [...document.querySelectorAll('canvas')].map((c) => c.getAttribute('aria-label'))"
    )
    assert len(labels) == 6
    assert labels[0].startswith("Spectrum of 3000 pixels from 3600 to 9800")
    assert "g 40 ± " in labels[2]
    blank = driver.execute_script(
        "return [...document.querySelectorAll('canvas')].map((c) => new Set(new Uint32Array(c.getContext('2d')"
        ".getImageData(0, 0, c.width, c.height).data.buffer)).size)"
    )
    assert min(blank) > 20  # something is drawn on each
    driver.execute_script("document.getElementById('corner').open = true")
    wait_for(lambda: driver.find_elements("css selector", "#corner canvas"), driver)
    corner = driver.find_element("css selector", "#corner canvas")
    wait_for(lambda: "logmstar_surviving" in corner.get_attribute("aria-label"), driver)
    assert len(driver.find_elements("css selector", "#corner input:checked")) == 5
    driver.find_element("xpath", "//button[starts-with(., 'All')]").click()
    wait_for(lambda: "beta1" in corner.get_attribute("aria-label"), driver)
    assert messages(driver) == []


def test_next_leads_through_the_selection_of_its_own_site(driver: Any, site: Path, one: Path) -> None:
    open_page(driver, (site / "index.html").as_uri())
    apply_filter(driver, f"TARGETID in ({FIRST + 2}, {FIRST + 5}, {FIRST + 9})")
    wait_for(lambda: text(driver, "#count") == "3 of 13 galaxies", driver)
    chosen = [row["TARGETID"] for row in table(driver)]
    driver.find_element("link text", chosen[0]).click()
    for targetid in chosen:
        wait_for(lambda targetid=targetid: targetid in text(driver, "h1"), driver)
        following = driver.find_element("id", "next")
        if following.is_displayed():
            following.click()
    assert targetid == chosen[-1]
    assert not following.is_displayed()
    open_page(driver, f"{one.as_uri()}/galaxy.html#0")
    assert not driver.find_element("id", "next").is_displayed()


def test_dragging_over_the_spectrum_zooms_in(driver: Any, one: Path) -> None:
    from selenium.webdriver import ActionChains

    open_page(driver, f"{one.as_uri()}/galaxy.html#0")
    canvas = driver.find_element("css selector", "canvas")
    before = canvas.screenshot_as_png
    driver.execute_script("arguments[0].scrollIntoView({block: 'center'})", canvas)
    ActionChains(driver, duration=20).move_to_element_with_offset(canvas, -100, 0).click_and_hold().move_by_offset(
        120, 5
    ).release().perform()
    wait_for(lambda: canvas.screenshot_as_png != before, driver)
    assert messages(driver) == []


def test_a_row_that_is_not_there_is_named(driver: Any, site: Path) -> None:
    driver.get("about:blank")
    driver.get(f"{site.as_uri()}/galaxy.html#99")
    wait_for(lambda: "no galaxy #99; this gallery has rows 0 to 12" in text(driver, "#problem"), driver)


@pytest.mark.parametrize("page", ["index.html", "galaxy.html#3"])
@pytest.mark.parametrize("width", [320, 390, 400])
def test_a_narrow_window_needs_no_sideways_scrolling(driver: Any, site: Path, page: str, width: int) -> None:
    metrics = {"width": width, "height": 800, "deviceScaleFactor": 1, "mobile": True}
    driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)
    try:
        open_page(driver, f"{site.as_uri()}/{page}")
        assert driver.execute_script("return document.documentElement.scrollWidth") <= width
    finally:
        driver.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})


def test_numbers_beside_an_axis_leave_room_for_its_label(driver: Any, one: Path) -> None:
    open_page(driver, f"{one.as_uri()}/galaxy.html#0")
    left, widest = driver.execute_script(
        "const host = document.createElement('div'); document.body.append(host);"
        "const y = {label: 'Z', low: 0.000105, high: 0.00023}, x = {label: 'x', low: 0, high: 1};"
        "const chart = new PG.Chart(host, {x, y, draw() {}}); chart.drawNow();"
        "const c = chart.canvas.getContext('2d'), ys = PG.Chart.ticks(y, chart.box.height / 50);"
        "c.font = '12px system-ui, sans-serif';"
        "return [chart.left, Math.max(...ys.map((v) => c.measureText(PG.Chart.tickText(v, ys, y)).width))]"
    )
    assert widest > 36  # 62 pixels are not enough for it
    assert left - 6 - widest > 20


def test_dark_and_light_differ_and_controls_have_names(driver: Any, site: Path) -> None:
    seen = []
    for scheme in ("light", "dark"):
        feature = [{"name": "prefers-color-scheme", "value": scheme}]
        driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": feature})
        open_page(driver, (site / "index.html").as_uri())
        seen.append(driver.execute_script("return getComputedStyle(document.body).backgroundColor"))
    driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": []})
    assert seen[0] == "rgb(255, 255, 255)"
    assert seen[1] != seen[0]
    nameless = driver.execute_script(
        "const named = (e) => e.textContent.trim() || e.getAttribute('aria-label') || (e.labels && e.labels.length);"
        "return [...document.querySelectorAll('button, select, input, canvas, a')].filter((e) => !named(e))"
        ".map((e) => e.outerHTML)"
    )
    assert nameless == []
