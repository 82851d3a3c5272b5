"""What posteriors and catalogs show of themselves in a notebook, and the figures that are one call away."""

from __future__ import annotations

from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from matplotlib.figure import Figure

import provabgs
from provabgs.catalog.query import Catalog
from provabgs.core.errors import InputError
from provabgs.core.html import folded, paragraph, table
from provabgs.core.status import Status
from provabgs.inference.posterior import Posterior
from provabgs.pipelines.dry_run import synthetic_posterior
from tests.support.galleries import FIRST, HOSTILE, small_catalog

PLAIN = {"div", "p", "strong", "small", "table", "thead", "tbody", "tr", "th", "td", "details", "summary"}


class Reader(HTMLParser):
    """Tags and words of some HTML."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: set[str] = set()
        self.words: list[str] = []
        self.open: list[str] = []
        self.feed(html)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        assert not attrs
        self.tags.add(tag)
        self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.words.append(data)


def read(html: str) -> Reader:
    """Parse, and see that every element is closed."""
    reader = Reader(html)
    assert not reader.open
    assert reader.tags <= PLAIN
    return reader


@pytest.fixture(scope="module")
def posterior() -> Posterior:
    return synthetic_posterior(FIRST, np.random.default_rng(0), 60)


def test_a_posterior_shows_itself(posterior: Posterior) -> None:
    words = read(posterior._repr_html_()).words
    low, median, high = posterior.quantiles("t_age_mw")
    at = words.index("t_age_mw")
    assert words[at + 1 : at + 5] == [f"{median:.4g}", f"{median - low:.2g}", f"{high - median:.2g}", "Gyr"]
    assert f"TARGETID {FIRST}, z = 0.1000" in words
    assert "FLAG 0: fits the data." in words
    assert len(posterior._repr_html_()) < 8000


def test_a_posterior_without_samples_says_why() -> None:
    nothing = Posterior(7, float("nan"), Status.UNOBSERVED, HOSTILE)
    html = nothing._repr_html_()
    assert HOSTILE in read(html).words
    assert "nan" not in html


def test_messages_are_escaped(posterior: Posterior) -> None:
    assert HOSTILE in read(replace(posterior, message=HOSTILE)._repr_html_()).words
    for html in (table([HOSTILE], [[HOSTILE]]), paragraph(HOSTILE, small=True), folded(HOSTILE, "")):
        assert set(read(html).words) == {HOSTILE}


def test_a_catalog_shows_itself(tmp_path: Path) -> None:
    with Catalog.open(small_catalog(tmp_path / HOSTILE.replace("/", "")[:40], 6)) as catalog:
        words = read(catalog._repr_html_()).words
        assert any("7 galaxies (5 CONVERGED, 1 NOT_CONVERGED, 1 UNOBSERVED)" in word for word in words)
        assert "LOGMSTAR_P50 [dex(Msun)]" in words
        some = read(catalog.select("STATUS == 'UNOBSERVED'")._repr_html_()).words
        assert any("1 galaxy (1 UNOBSERVED)" in word for word in some)
        assert "–" in some
        assert any("0 galaxies (none)" in w for w in read(catalog.select("Z > 9")._repr_html_()).words)


def test_figures_are_one_call_away(posterior: Posterior) -> None:
    figure = provabgs.draw(posterior)
    assert isinstance(figure, Figure)
    assert len(figure.axes) == 25
    with pytest.raises(InputError, match="TARGETID 7: no samples to draw, STATUS UNOBSERVED: no exposure"):
        provabgs.draw(Posterior(7, 0.3, Status.UNOBSERVED, "no exposure"))
