"""Build the site: assets, the summary's chunks, and the pages of galaxies."""

from __future__ import annotations

import json
import shutil
import tempfile
from collections.abc import Callable, Iterator
from html import escape
from importlib import resources
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

import provabgs
from provabgs.catalog.generations import open_generation
from provabgs.catalog.observed import read_fitted
from provabgs.catalog.query import Catalog
from provabgs.catalog.records import to_posteriors
from provabgs.catalog.shard import read_block
from provabgs.core.arrays import IntArray, thin
from provabgs.core.atomic import TEMPORARY_PREFIX
from provabgs.core.errors import InputError, ProvabgsError
from provabgs.core.status import Status
from provabgs.gallery.density import density
from provabgs.gallery.pack import write_chunk
from provabgs.gallery.page import page_of
from provabgs.gallery.table import ROWS, Progress, Summary, first_choice, write_summary
from provabgs.inference.flags import DESCRIPTIONS
from provabgs.inference.posterior import Posterior
from provabgs.observe.observation import Observation

FORMAT = "provabgs-gallery-1"
MARKER = "provabgs-gallery.json"
"""File by which a folder is known to be a site of ours, which may be built anew."""
ENTRIES = frozenset({MARKER, "index.html", "galaxy.html", "assets", "data"})
FOLDER = 1000
"""Pages of galaxies per folder."""
DEFAULT_PAGES = 500
ObservationOf = Callable[[Posterior], Observation | None]


class Site(NamedTuple):
    """What was built.

    Attributes
    ----------
    page
        File to open in a browser.
    n_galaxies
        In the overview.
    n_pages
        Of them with data or draws on their page.
    n_bytes
        Size of the site.
    """

    page: Path
    n_galaxies: int
    n_pages: int
    n_bytes: int


def build_site(
    catalog: Catalog,
    output: str | Path,
    *,
    title: str = "",
    pages: int = DEFAULT_PAGES,
    observation_of: ObservationOf | None = None,
    progress: Progress = lambda _what, _done, _total: None,
) -> Site:
    """Build a site of a catalog, or of the part of one that a selection left.

    Parameters
    ----------
    catalog
        The galaxies, in the order of the site.
    output
        Folder of the site. It may exist if it is empty or a site that this function built, which is then replaced in
        one step at the end.
    title
        Heading; the catalog's name when empty.
    pages
        Most galaxies whose pages show data and draws, spread evenly over the catalog; the pages of all others show the
        numbers of the summary.
    observation_of
        The data behind a posterior. By default those in the posterior file, where it keeps them (``provabgs fit``).
    progress
        Told what is done, how many and of how many.

    Returns
    -------
    Site
        Where it is and how large.

    Raises
    ------
    InputError
        When the catalog has no galaxies or no samples, or the folder holds anything but a site of ours.
    DataFileError
        For a damaged catalog.
    """
    output = Path(output).resolve()
    check_folder(output)
    catalog.require_shards()
    if len(catalog) == 0:
        raise InputError(f"{catalog.root}: no galaxies to show; check the selection")
    output.parent.mkdir(parents=True, exist_ok=True)
    unfinished = Path(tempfile.mkdtemp(prefix=f"{TEMPORARY_PREFIX}gallery-", dir=output.parent))
    try:
        unfinished.chmod(0o755)  # mkdtemp makes it private; a web server must read it
        summary = write_summary(catalog, unfinished / "data", progress)
        if not np.any(summary.places["N_SAMPLES"] > 0):
            raise InputError(f"{catalog.root}: none of its {summary.n} galaxies has samples; there is nothing to show")
        rows = _rows_with_pages(summary, pages)
        _write_pages(catalog, summary, rows, unfinished, observation_of, progress)
        _write_frame(catalog, summary, rows, unfinished, title or catalog.root.resolve().name)
        size = sum(f.stat().st_size for f in unfinished.rglob("*") if f.is_file())
        _put_in_place(unfinished, output)
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)
    return Site(output / "index.html", summary.n, len(rows), size)


def check_folder(output: Path) -> None:
    """Refuse a folder that is neither absent, empty, nor a site of ours and nothing else.

    Raises
    ------
    InputError
        That names the folder and what is in it.
    """
    if not output.exists():
        return
    if not output.is_dir():
        raise InputError(f"{output}: is a file; give the name of a folder for the site")
    found = {p.name for p in output.iterdir()}
    if not found:
        return
    if MARKER not in found:
        raise InputError(f"{output}: is no gallery (no {MARKER}) and not empty; choose another folder")
    try:
        written = json.loads((output / MARKER).read_text()).get("format")
    except (OSError, ValueError, AttributeError):
        written = None
    if written != FORMAT:
        raise InputError(
            f"{output}: a gallery of format {written!r}, not {FORMAT!r}; remove it, or choose another folder"
        )
    if others := sorted(found - ENTRIES):
        raise InputError(
            f"{output}: holds {others[0]!r}, which is not of the gallery; move it, or choose another folder"
        )


def _rows_with_pages(summary: Summary, pages: int) -> IntArray:
    """Galaxies whose pages show data and draws, evenly over those that have samples."""
    drawn = np.flatnonzero(summary.places["N_SAMPLES"] > 0)
    return drawn[thin(drawn.size, pages)] if pages > 0 else drawn[:0]


def _write_pages(
    catalog: Catalog,
    summary: Summary,
    rows: IntArray,
    site: Path,
    observation_of: ObservationOf | None,
    progress: Progress,
) -> None:
    for done, (row, posterior, stored) in enumerate(_posteriors(catalog, summary, rows), start=1):
        name = page_name(row)
        write_chunk(site / "data" / f"{name}.js", name, _page(posterior, observation_of or stored))
        progress("pages", done, len(rows))


def page_name(row: int) -> str:
    """Chunk of a galaxy's page."""
    return f"pages/{row // FOLDER}/{row}"


def _page(posterior: Posterior, observation_of: ObservationOf) -> dict[str, Any]:
    """A galaxy's page; what could not be predicted is said there, and the others go on."""
    try:
        observation, why = observation_of(posterior), ""
    except ProvabgsError as error:
        observation, why = None, str(error)
    try:
        page = page_of(posterior, observation)
    except ProvabgsError as error:
        page, why = {"targetid": str(posterior.targetid), "words": [], "message": posterior.message}, str(error)
    return page | {"missing": why}


def _posteriors(catalog: Catalog, summary: Summary, rows: IntArray) -> Iterator[tuple[int, Posterior, ObservationOf]]:
    """Posteriors of rows of the site, shard by shard, each with the way to data stored beside it."""
    shards = summary.places["SHARD"][rows].astype(str)
    for shard in dict.fromkeys(shards.tolist()):
        mine = rows[shards == shard]
        places = summary.places["SHARD_ROW"][mine].astype(np.int64)
        with open_generation(catalog.root, shard, catalog.shards[shard]) as f:
            path = Path(f.filename)
        posteriors = to_posteriors(read_block(path).take(places))
        for row, place, posterior in zip(mine.tolist(), places.tolist(), posteriors, strict=True):
            yield row, posterior, _stored(path, place)


def _stored(path: Path, place: int) -> ObservationOf:
    def read(_posterior: Posterior) -> Observation | None:
        return read_fitted(path, place)

    return read


def _write_frame(catalog: Catalog, summary: Summary, rows: IntArray, site: Path, title: str) -> None:
    """Everything that does not depend on the number of galaxies: pages, assets, the description of the columns."""
    names = [c.name for c in summary.columns]
    x, y = first_choice(
        [c.name for c in summary.columns if c.categories is None and c.name != "TARGETID"], catalog.schema
    )
    description = {
        "title": title,
        "version": provabgs.__version__,
        "n": summary.n,
        "rows": ROWS,
        "folder": FOLDER,
        "columns": [c.as_dict() for c in summary.columns],
        "units": {name: list(about) for name, about in summary.units.items()},
        "quantities": [q.column for q in (*catalog.schema.properties, *catalog.schema.parameters)],
        "status": {str(int(s)): s.name for s in Status},
        "with_samples": [int(s) for s in Status if s.has_samples],
        "flags": [[int(flag), str(flag.name), text] for flag, text in DESCRIPTIONS.items()],
        "x": x,
        "y": y,
        "listed": [n for n in _listed(summary) if n in names],
        "pages": "all" if len(rows) == summary.n else rows.tolist(),
        "density": density(summary, x, y),
    }
    write_chunk(site / "data" / "site.js", "site", description)
    assets = resources.files("provabgs.gallery") / "assets"
    (site / "assets").mkdir()
    for asset in assets.iterdir():
        if asset.name.endswith(".html"):
            (site / asset.name).write_text(asset.read_text("utf-8").replace("{{title}}", escape(title)), "utf-8")
        elif asset.name.endswith((".js", ".css")):
            (site / "assets" / asset.name).write_bytes(asset.read_bytes())
    (site / MARKER).write_text(json.dumps({"format": FORMAT, "provabgs": provabgs.__version__}) + "\n")


_LISTED = ("TARGETID", "Z", "STATUS", "FLAG", "LOGMSTAR_P50", "LOGSFR_100MYR_P50", "LOGZ_MW_P50", "T_AGE_MW_P50",
           "RHAT_MAX", "ESS_MIN", "TENSION", "RESIDUAL")  # fmt: skip
"""Columns of the overview's table."""


def _listed(summary: Summary) -> tuple[str, ...]:
    """The table's columns; where a galaxy was fitted several times, DOF_SPEC tells a fit of bands alone (0)."""
    if len(np.unique(summary.values["TARGETID"])) == summary.n:
        return _LISTED
    return (*_LISTED[:2], "DOF_SPEC", *_LISTED[2:])


def _put_in_place(unfinished: Path, output: Path) -> None:
    """Replace the old site by the new one; a reader sees either."""
    check_folder(output)  # hours may have passed
    old = None
    if output.exists():
        old = Path(tempfile.mkdtemp(prefix=f"{TEMPORARY_PREFIX}gallery-", dir=output.parent)) / "old"
        output.rename(old)
    unfinished.rename(output)
    if old is not None:
        shutil.rmtree(old.parent, ignore_errors=True)
