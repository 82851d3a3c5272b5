"""Diagrams of the pages on how provabgs works, as SVG: ``python docs/diagrams.py`` draws them into docs/figures.

Each has a light card of its own, so that it reads on light and dark pages alike.
"""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from pathlib import Path

FIGURES = Path(__file__).parent / "figures"
CARD, INK, SOFT = "#fbfaf6", "#1d2733", "#5b6673"
COLOURS = {"data": "#cfe3f5", "model": "#fde2c0", "answer": "#cdebd9", "check": "#e7dcf3", "plain": "#eceae2"}
"""Fills that colour-blind readers tell apart; what a colour means is also said in words."""
FONT = "font-family='Helvetica, Arial, sans-serif'"


class Diagram:
    """Boxes with text, and arrows between them, on a card.

    Parameters
    ----------
    width, height
        Size, pixels.
    title
        What the picture says, for those who cannot see it.
    """

    def __init__(self, width: int, height: int, title: str) -> None:
        self.width, self.height = width, height
        self.parts = [
            f"<svg xmlns='http://www.w3.org/2000/svg' viewBox='0 0 {width} {height}' role='img'>",
            f"<title>{escape(title)}</title>",
            "<defs><marker id='head' viewBox='0 0 10 10' refX='9' refY='5' markerWidth='8' markerHeight='8' "
            f"orient='auto-start-reverse'><path d='M 0 0 L 10 5 L 0 10 z' fill='{INK}'/></marker></defs>",
            f"<rect width='{width}' height='{height}' rx='14' fill='{CARD}'/>",
        ]

    def box(self, x: float, y: float, w: float, h: float, lines: Sequence[str], kind: str) -> None:
        """A box; its first line is a heading.

        Parameters
        ----------
        x, y, w, h
            Left, top, width and height.
        lines
            Text.
        kind
            Key of `COLOURS`.
        """
        self.parts.append(
            f"<rect x='{x}' y='{y}' width='{w}' height='{h}' rx='9' fill='{COLOURS[kind]}' stroke='{INK}' "
            "stroke-width='1.2'/>"
        )
        top = y + h / 2 - 9 * (len(lines) - 1)
        for k, line in enumerate(lines):
            weight, size, colour = ("bold", 15, INK) if k == 0 else ("normal", 13, INK)
            self.text(x + w / 2, top + 18 * k, line, size=size, weight=weight, colour=colour)

    def text(
        self, x: float, y: float, line: str, *, size: int = 13, weight: str = "normal", colour: str = SOFT
    ) -> None:
        """Text centred at a point."""
        self.parts.append(
            f"<text x='{x}' y='{y}' {FONT} font-size='{size}' font-weight='{weight}' fill='{colour}' "
            f"text-anchor='middle' dominant-baseline='central'>{escape(line)}</text>"
        )

    def arrow(self, *points: tuple[float, float], dashed: bool = False) -> None:
        """An arrow along points."""
        path = " ".join(f"{x},{y}" for x, y in points)
        dash = " stroke-dasharray='5 4'" if dashed else ""
        self.parts.append(
            f"<polyline points='{path}' fill='none' stroke='{INK}' stroke-width='1.5'{dash} marker-end='url(#head)'/>"
        )

    def svg(self) -> str:
        """The picture."""
        return "\n".join([*self.parts, "</svg>", ""])


def light() -> Diagram:
    """From a star formation history to a posterior."""
    d = Diagram(900, 470, "From a star formation history to a model spectrum, compared with data, to a posterior")
    y, h = 56, 92
    d.text(450, 26, "The model: what a galaxy emits", size=15, weight="bold", colour=INK)
    boxes = (
        ("Histories", "when stars formed,", "of which metallicity"),
        ("Stars", "light of each age:", "the SSP library"),
        ("Dust", "young stars more", "than old stars"),
        ("Observation", "redshift, dispersion,", "pixels, filters, fiber"),
    )
    for k, lines in enumerate(boxes):
        d.box(24 + 222 * k, y, 186, h, lines, "model")
        if k:
            d.arrow((24 + 222 * k - 36, y + h / 2), (24 + 222 * k - 3, y + h / 2))
    d.box(690, 206, 186, 74, ("Model data", "spectrum and bands"), "model")
    d.arrow((783, y + h), (783, 203))
    d.box(24, 206, 186, 74, ("Measured data", "spectrum and bands"), "data")
    d.box(300, 196, 300, 94, ("Comparison", "differences in units of the noise:", "photons + errors of calibration",
                              "and of the stellar library"), "check")  # fmt: skip
    d.arrow((210, 243), (297, 243))
    d.arrow((690, 243), (603, 243))
    d.box(
        300,
        340,
        300,
        92,
        ("Posterior", "draws: galaxies that the data allow", "masses, SFR, metallicity, age, dust"),
        "answer",
    )
    d.arrow((450, 290), (450, 337))
    d.text(508, 315, "sampler")
    d.box(24, 346, 186, 80, ("Is it converged?", "R-hat, sample size:", "STATUS"), "check")
    d.box(690, 346, 186, 80, ("Does it fit?", "residuals, tension:", "FLAG"), "check")
    d.arrow((300, 386), (213, 386))
    d.arrow((600, 386), (687, 386))
    return d


def inference() -> Diagram:
    """Which variables are integrated, which are sampled."""
    d = Diagram(900, 426, "Noise templates and masses are integrated analytically; eight parameters are sampled")
    rows: tuple[tuple[tuple[tuple[str, ...], str], ...], ...] = (
        (
            (("Data", "7,000 pixels and 5 bands,", "Gaussian noise"), "data"),
            (
                ("Noise templates", "errors of library, cameras, fiber:", "linear, Gaussian: integrated exactly"),
                "plain",
            ),
            (("Compression", "100-250 numbers that keep ln L,", "checked for each galaxy"), "check"),
        ),
        (
            (("Eight parameters", "burst, metallicity, dust,", "fiber fraction: sampled"), "model"),
            (("Masses of four bases", "linear and positive: integrated,", "given the eight parameters"), "model"),
            (("Marginal likelihood", "of the eight parameters"), "plain"),
        ),
        (
            (("Draws", "masses from their conditional:", "twelve dimensions"), "answer"),
            (("Importance sampling", "independent tempered populations,", "one pool of weighted draws"), "check"),
            (("Criterion", "chains over the pool:", "R-hat 1.01, ESS 400"), "check"),
        ),
    )
    for i, row in enumerate(rows):
        for k, (lines, kind) in enumerate(row):
            d.box(30 + 295 * k, 26 + 140 * i, 250, 94, lines, kind)
    for y in (73, 213):
        d.arrow((280, y), (322, y))
        d.arrow((575, y), (617, y))
    d.arrow((745, 120), (745, 163))
    d.arrow((745, 260), (745, 283), (450, 283), (450, 303))
    d.arrow((575, 340), (617, 340))
    d.arrow((620, 366), (578, 366), dashed=True)
    d.text(598, 412, "not yet met: more draws", size=11)
    d.arrow((325, 353), (283, 353))
    return d


def levels() -> Diagram:
    """From galaxies to a population."""
    d = Diagram(
        900,
        250,
        "Each galaxy is fitted alone; a population is inferred from all posteriors with their prior divided out",
    )
    for k, name in enumerate(("galaxy 1", "galaxy 2", "galaxy n")):
        y = 28 + 68 * k
        d.box(24, y, 170, 54, (f"Data of {name}",), "data")
        d.box(268, y, 200, 54, ("Draws under", "the fit's prior p0"), "answer")
        d.arrow((194, y + 27), (265, y + 27))
        d.arrow((468, y + 27), (545, 122))
    d.box(548, 76, 150, 92, ("Catalog", "one file format,", "queries, gallery"), "plain")
    d.arrow((698, 122), (735, 122))
    d.box(738, 66, 142, 112, ("Population", "density, mass", "function: draws", "weighted by 1/p0"), "check")
    d.text(330, 236, "one fit per galaxy, no galaxy knows of the others")
    d.text(790, 236, "hierarchical")
    return d


DIAGRAMS = {"how_light": light, "how_inference": inference, "how_levels": levels}


def main() -> None:
    """Draw all."""
    for name, draw in DIAGRAMS.items():
        (FIGURES / f"{name}.svg").write_text(draw().svg())


if __name__ == "__main__":
    main()
