"""The page of all figures, from the pages that show them: ``python docs/figure_list.py`` writes guide/figures.md."""

from __future__ import annotations

import re
import textwrap
from pathlib import Path

DOCS = Path(__file__).parent
PAGE = DOCS / "guide" / "figures.md"
HEAD = """\
# All figures

Each figure of this documentation, with the page that explains it: sample, command and commit are
there. `python docs/figure_list.py` writes this page.
"""
IMAGE = re.compile(r"!\[([^\]]*)\]\(([^)]*figures/([\w-]+\.(?:png|svg)))\)")


def figures() -> dict[str, list[tuple[str, str, str]]]:
    """Page -> its heading, and the figures first shown there as (file, alternative text, heading)."""
    found: dict[str, list[tuple[str, str, str]]] = {}
    seen: set[str] = set()
    for page in [*sorted(DOCS.glob("guide/*.md")), *sorted(DOCS.glob("studies/*.md")), *sorted(DOCS.glob("*.md"))]:
        if page == PAGE:
            continue
        text = page.read_text()
        heading = text.partition("\n")[0].lstrip("# ")
        for alt, _, name in IMAGE.findall(text):
            if name not in seen:
                seen.add(name)
                found.setdefault(page.relative_to(DOCS).as_posix(), []).append((name, " ".join(alt.split()), heading))
    return found


def page() -> str:
    """The page's text."""
    parts = [HEAD]
    for place, shown in figures().items():
        link = place.removeprefix("guide/") if place.startswith("guide/") else f"../{place}"
        parts.append(f"\n## [{shown[0][2]}]({link})\n")
        for name, alt, _ in shown:
            parts.append(f"\n![{alt}](../figures/{name})\n")
            if alt:
                parts.append("\n" + textwrap.fill(f"*{alt}.*", 100) + "\n")
    return "".join(parts)


if __name__ == "__main__":
    PAGE.write_text(page())
