"""Colours and rc settings that all figures share, and how figures are made and saved."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure

CAMERA_COLOURS: dict[str, str] = {"b": "#3a78b5", "r": "#c8553d", "z": "#7d5a9e"}
"""DESI's cameras; any other takes `OTHER_CAMERA`."""
OTHER_CAMERA = "#5f6b6d"
MODEL = "#111111"
BAND_68 = "#f2a541"
BAND_95 = "#f9dcae"
MASK = "#d9d9d9"
CLIPPED = "#b5179e"
PRIOR = "#8a8a8a"
TRUTH = "#1b9e77"

RC: dict[str, object] = {
    "font.size": 9.0,
    "axes.titlesize": 10.0,
    "axes.labelsize": 9.0,
    "legend.fontsize": 8.0,
    "legend.frameon": False,
    "axes.linewidth": 0.7,
    "xtick.direction": "in",
    "ytick.direction": "in",
    "xtick.top": True,
    "ytick.right": True,
    "xtick.minor.visible": True,
    "ytick.minor.visible": True,
    "mathtext.fontset": "dejavusans",
    "savefig.dpi": 130,
}


@contextmanager
def style() -> Iterator[None]:
    """Draw in the package's style, and leave matplotlib's settings as they were."""
    with mpl.rc_context(RC):  # type: ignore[arg-type]
        yield


def new_figure(width: float, height: float) -> Figure:
    """A figure of that many inches, without pyplot and its global state."""
    return Figure(figsize=(width, height), layout="constrained")


def save(figure: Figure, path: Path) -> Path:
    """Write a figure; its folder is made when missing."""
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path)
    return path


def camera_colour(camera: str) -> str:
    """Colour of a camera."""
    return CAMERA_COLOURS.get(camera.lower(), OTHER_CAMERA)


def no_minor(ax: Axes) -> None:
    """Leave out minor ticks where they say nothing."""
    ax.minorticks_off()
