"""Weights of galaxies that a survey missed (redshift failures, fiber assignment), and what is wrong with them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from provabgs.core.arrays import BoolArray, FloatArray
from provabgs.core.errors import InputError

OnBad = Literal["raise", "flag"]


class GalaxyWeights(NamedTuple):
    """Weights of galaxies, and which of them can be used."""

    weight: FloatArray
    """``(n,)`` product of all weights; NaN where one of them is bad."""
    usable: BoolArray
    """``(n,)`` True where every weight is finite and > 0."""
    counts: dict[str, int]
    """Rows that are not usable, by reason."""


def combine_weights(
    named: Mapping[str, ArrayLike],
    n: int | None = None,
    on_bad: OnBad = "flag",
    targetid: ArrayLike | None = None,
    label: str = "weights",
) -> GalaxyWeights:
    """Multiply weights such as W_ZFAIL (redshift failures) and W_FIBASSIGN (fiber assignment).

    A weight is one over the chance that such a galaxy got a good redshift, so it is finite and > 0. The published
    catalog writes 0 where no weight is known; a 0 is treated like NaN.

    Parameters
    ----------
    named
        ``(n,)`` weights by name.
    n
        Number of galaxies, needed only when there are no weights at all (then they are 1).
    on_bad
        ``"raise"``: refuse bad weights. ``"flag"``: mark their rows as not usable and count them by reason.
    targetid
        ``(n,)`` TARGETID, to name a bad row by; its position is given when None.
    label
        File or catalog, for the message.

    Returns
    -------
    GalaxyWeights
        Product, usable rows and counts.

    Raises
    ------
    InputError
        For lengths that differ; for a bad weight when `on_bad` is ``"raise"``, naming the first row.
    """
    arrays = {k: np.asarray(v, dtype=np.float64) for k, v in named.items()}
    sizes = {a.shape for a in arrays.values()} | ({(n,)} if n is not None else set())
    if len(sizes) != 1 or len(next(iter(sizes))) != 1:
        raise InputError(f"weights {', '.join(arrays) or '(none)'} have shapes {sorted(sizes)}; give one per galaxy")
    weight = np.ones(next(iter(sizes)))
    usable = np.ones(weight.shape, dtype=bool)
    counts: dict[str, int] = {}
    for name, w in arrays.items():
        for reason, bad in (("NaN", np.isnan(w)), ("zero", w == 0), ("negative or infinite", (w < 0) | np.isinf(w))):
            if bad.any() and on_bad == "raise":
                raise InputError(f"{label}: {_refusal(name, reason, w, bad, targetid)}")
            if n_bad := int((bad & usable).sum()):
                counts[f"{name} {reason}"] = n_bad
            usable &= ~bad
        weight = weight * np.where(usable, w, np.nan)
    return GalaxyWeights(weight, usable, counts)


def _refusal(name: str, reason: str, w: FloatArray, bad: BoolArray, targetid: ArrayLike | None) -> str:
    """Name the first bad weight and the cure."""
    if bad.all():
        return f"column {name} holds no usable weight: all values are {reason}"
    first = int(np.argmax(bad))
    row = f"row {first}" if targetid is None else f"TARGETID {np.asarray(targetid)[first]}"
    return (
        f"{name} of {row} is {w[first]:g} ({int(bad.sum())} of {w.size} are {reason}); leave these galaxies out, for "
        f"example by -w '{name} > 0', or give weights > 0"
    )


def likelihood_weights(weight: FloatArray) -> FloatArray:
    """Weights for a likelihood: scaled to Kish's effective number of galaxies, ``(sum w)^2 / sum w^2``.

    With weights of that sum the likelihood is as informative as the spread of the weights allows, whatever their unit.

    Parameters
    ----------
    weight
        ``(n,)`` finite, > 0.

    Returns
    -------
    numpy.ndarray
        ``(n,)``.
    """
    return weight * (weight.sum() / np.sum(weight**2))
