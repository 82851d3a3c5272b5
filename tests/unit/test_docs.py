"""Links of the documentation lead somewhere, code names pages that exist, and prose keeps one width."""

from __future__ import annotations

import importlib.util
import re
from collections.abc import Iterator
from pathlib import Path
from xml.etree import ElementTree

import pytest

ROOT = Path(__file__).resolve().parents[2]
DOCS = ROOT / "docs"
MADE = {"_build", "_api"}
"""Folders that Sphinx writes."""
PAGES = sorted(
    page
    for page in (*DOCS.rglob("*.md"), ROOT / "README.md", ROOT / "CONTRIBUTING.md")
    if not MADE & set(page.relative_to(ROOT).parts)
)
WIDTH = 100
CODE = ("provabgs", "mocks", "pipelines", "data", "tests", "bench", "studies", "notebooks")
KINDS = {".py", ".toml", ".md", ".ipynb"}


def prose(text: str) -> Iterator[str]:
    """Lines outside tables, headings, images, and code (fenced or indented)."""
    fenced = False
    for line in text.splitlines():
        if line.lstrip().startswith("```"):
            fenced = not fenced
        elif not fenced and not line.startswith(("|", "#", "!", "    ", "  |")):
            yield line


def too_wide(text: str) -> list[str]:
    """Lines of prose beyond `WIDTH`; a line of one word (an address) cannot be broken."""
    return [line for line in prose(text) if len(line) > WIDTH and " " in line.strip()]


def relative_links(text: str) -> list[str]:
    """Targets of links and images that are files."""
    return re.findall(r"\]\((?!https?:|#)([^)#\s]+)", re.sub(r"```.*?```", "", text, flags=re.DOTALL))


def named_pages(text: str) -> set[str]:
    """Pages named as ``docs/NAME.md`` in code and comments."""
    return set(re.findall(r"docs/[\w/]+\.md", text))


@pytest.mark.parametrize("page", PAGES, ids=lambda p: str(p.relative_to(ROOT)))
def test_links_lead_somewhere(page: Path) -> None:
    missing = [link for link in relative_links(page.read_text()) if not (page.parent / link).exists()]
    assert not missing, f"{page.relative_to(ROOT)} links to {', '.join(missing)}"


@pytest.mark.parametrize("page", PAGES, ids=lambda p: str(p.relative_to(ROOT)))
def test_prose_keeps_its_width(page: Path) -> None:
    wide = too_wide(page.read_text())
    assert not wide, f"{page.relative_to(ROOT)}: wrap at {WIDTH} characters: {wide[0]!r}"


def test_code_names_pages_that_exist() -> None:
    files = [p for folder in CODE for p in sorted((ROOT / folder).rglob("*")) if p.suffix in KINDS and p.is_file()]
    assert len(files) > 100
    lost = {
        f"{p.relative_to(ROOT)} names {page}"
        for p in files
        if p != Path(__file__).resolve()
        for page in named_pages(p.read_text())
        if not (ROOT / page).exists()
    }
    assert not lost, "\n".join(sorted(lost))


def test_each_page_is_in_a_table_of_contents() -> None:
    index = (DOCS / "index.md").read_text()
    for page in PAGES:
        if page.parent == DOCS / "guide":
            assert f"guide/{page.stem}\n" in index, f"{page.name} is missing from docs/index.md"


def test_figures_are_shown_somewhere() -> None:
    shown = {Path(link).name for page in PAGES for link in relative_links(page.read_text())}
    assert {p.name for p in (DOCS / "figures").glob("*.png")} <= shown


def quoted_messages(text: str) -> list[list[str]]:
    """Messages in the first column of tables, each in the pieces between its dots."""
    cells = [row.split("|")[1] for row in text.splitlines() if row.startswith("| ")]
    spans = [span for cell in cells for span in re.findall(r"`([^`]+ [^`]+)`", cell)]
    return [[piece.strip(" ,") for piece in span.split("...") if piece.strip(" ,")] for span in spans]


def test_messages_of_the_troubleshooting_page_exist() -> None:
    places = [p for folder in CODE[:3] for kind in ("py", "js") for p in (ROOT / folder).rglob(f"*.{kind}")]
    source = "\n".join(p.read_text() for p in (*places, ROOT / "Makefile"))
    messages = quoted_messages((DOCS / "guide" / "troubleshooting.md").read_text())
    assert len(messages) > 7
    assert ["is no gallery", "and not empty"] in messages
    assert not [piece for message in messages for piece in message if piece not in source]


@pytest.mark.parametrize(
    ("text", "wide", "links", "pages"),
    [
        ("word " * 30, 1, [], set()),
        ("| " + "cell " * 40 + "|", 0, [], set()),
        ("```\n" + "code " * 40 + "\n```", 0, [], set()),
        ("see [a](guide/none.md) and ![b](../figures/c.png)", 0, ["guide/none.md", "../figures/c.png"], set()),
        ("(docs/guide/none.md)", 0, [], {"docs/guide/none.md"}),
    ],
)
def test_the_checks_see_what_they_should(text: str, wide: int, links: list[str], pages: set[str]) -> None:
    assert len(too_wide(text)) == wide
    assert relative_links(text) == links
    assert named_pages(text) == pages


def made(script: str) -> object:
    """A script of docs/, as a module."""
    spec = importlib.util.spec_from_file_location(script, DOCS / f"{script}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_page_of_figures_is_up_to_date() -> None:
    assert (DOCS / "guide" / "figures.md").read_text() == made("figure_list").page(), (  # type: ignore[attr-defined]
        "run python docs/figure_list.py"
    )


def test_diagrams_are_those_of_their_script() -> None:
    diagrams = made("diagrams").DIAGRAMS  # type: ignore[attr-defined]
    assert len(diagrams) == 3
    for name, draw in diagrams.items():
        assert (DOCS / "figures" / f"{name}.svg").read_text() == draw().svg(), "run python docs/diagrams.py"
        texts = ElementTree.fromstring(draw().svg()).iter("{http://www.w3.org/2000/svg}text")
        assert all(0 < float(t.attrib["x"]) < draw().width and 0 < float(t.attrib["y"]) < draw().height for t in texts)
