"""Metallicity histories, to go with any star-formation history: Z(t) of the stars of each age.

A metallicity history that follows the masses (`Enriching`) takes the fraction of the mass that had formed before, so
that spectra are not linear in the masses of star formation any more: `ComposedHistories` then samples them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, Literal, Protocol, get_args

import numpy as np

from provabgs.core.arrays import FloatArray
from provabgs.core.constants import Z_RANGE_PROVABGS
from provabgs.core.errors import ConfigError
from provabgs.core.jax import jax, jnp
from provabgs.core.messages import suggestion
from provabgs.sps.histories.bases import HistoryBases
from provabgs.sps.parameters import Parameter, Values

ZPrior = Literal["log", "linear"]
"""Flat in log Z or in Z."""
GAMMA_RANGE = (4.5e-5, 1.5e-2)
"""Range of each metallicity coefficient in the published prior, absolute Z."""
Z_RANGE = (1.9e-4, 4.49e-2)
"""Range of metallicities of the other histories: a hundredth of the solar value to the published maximum."""
Z_PARAMETERS = ("metallicity",)
"""Parameters beside the gammas that have a prior of either kind."""
RISE_RANGE_DEX = (0.0, 1.5)
EDGES_GYR = (0.3, 1.0, 3.0, 6.0)
"""Default lookback times between which `Binned` has one metallicity each."""
STEP_DEX = 0.2
"""Default sigma of the step in log Z from one bin to the next."""


class Metallicity(Protocol):
    """Z(t) of one family."""

    parameters: tuple[Parameter, ...]
    follows_masses: bool
    """Whether Z depends on the masses formed."""

    def nodes(self, age: FloatArray) -> Any:
        """What `at` needs of ages ``(nage,)``, Gyr."""
        ...

    def at(self, values: Values, nodes: Any, formed: jax.Array | None) -> jax.Array:
        """Absolute Z at the ages of `nodes`.

        Parameters
        ----------
        values
            Parameter values by name, each ``(batch,)``.
        nodes
            From `nodes`.
        formed
            ``(batch, nage)`` fraction of the mass that formed before the stars of each age; None where Z does not
            follow the masses.

        Returns
        -------
        jax.Array
            ``(batch, nage)``.
        """
        ...


def _star(text: str, prior: ZPrior) -> Parameter:
    if prior not in get_args(ZPrior):
        raise ConfigError(f"model.history_options: z_prior = {prior!r}; use 'log' or 'linear'")
    kind: Literal["log-uniform", "uniform"] = "log-uniform" if prior == "log" else "uniform"
    return Parameter("metallicity", "METALLICITY", "Z", "", text, kind, Z_RANGE)


def gamma(i: int) -> Parameter:
    """Coefficient of published metallicity basis `i`, from 1."""
    text = f"weight of NMF metallicity-history basis {i}, absolute Z"
    return Parameter(f"gamma{i}", f"GAMMA{i}", rf"\gamma_{i}", "", text, "log-uniform", GAMMA_RANGE)


class NMFMetallicity:
    """``Z(t) = sum_i gamma_i z_i(t)``, clipped to the published range.

    Parameters
    ----------
    bases
        The published ones when None.
    prior
        On each coefficient.
    """

    follows_masses = False

    def __init__(self, bases: HistoryBases | None = None, prior: ZPrior = "log") -> None:
        _star("", prior)
        self.bases = bases if bases is not None else HistoryBases.published()
        gammas = (gamma(i + 1) for i in range(len(self.bases.zh)))
        self.parameters = tuple(g if prior == "log" else replace(g, prior="uniform") for g in gammas)
        self._names = tuple(p.name for p in self.parameters)

    def nodes(self, age: FloatArray) -> FloatArray:
        """Bases at the ages, ``(nbasis, nage)``."""
        return self.bases.metallicity_bases(age)

    def at(self, values: Values, nodes: FloatArray, formed: jax.Array | None = None) -> jax.Array:
        """See `Metallicity.at`.

        Parameters
        ----------
        values
            Parameter values by name, each ``(batch,)``.
        nodes
            From `nodes`.
        formed
            ``(batch, nage)`` fraction of the mass that formed before, or None.

        Returns
        -------
        jax.Array
            ``(batch, nage)`` absolute Z.
        """
        del formed
        gammas = jnp.stack([values[n] for n in self._names], axis=-1)
        return jnp.clip(gammas @ jnp.asarray(nodes, dtype=gammas.dtype), *Z_RANGE_PROVABGS)


class Constant:
    """One metallicity of all stars.

    Parameters
    ----------
    prior
        Flat in log Z or in Z.
    """

    follows_masses = False

    def __init__(self, prior: ZPrior = "log") -> None:
        self.parameters = (_star("metallicity of all stars, absolute Z", prior),)

    def nodes(self, age: FloatArray) -> int:
        """The number of ages."""
        return age.size

    def at(self, values: Values, nodes: int, formed: jax.Array | None = None) -> jax.Array:
        """See `Metallicity.at`.

        Parameters
        ----------
        values
            Parameter values by name, each ``(batch,)``.
        nodes
            From `nodes`.
        formed
            ``(batch, nage)`` fraction of the mass that formed before, or None.

        Returns
        -------
        jax.Array
            ``(batch, nage)`` absolute Z.
        """
        del formed
        return jnp.repeat(values["metallicity"][:, None], nodes, axis=1)


class Enriching:
    """Z rises linearly with the mass formed, from a floor to the metallicity of the stars that form now.

    ``Z = floor + yield * F`` with F the fraction of the mass formed before: closed-box enrichment of a gas reservoir
    that stays as large as it is. The parameters are ``metallicity = floor + yield`` and ``z_rise``, its log10 over the
    floor.

    Parameters
    ----------
    prior
        Of the metallicity of the youngest stars.
    """

    follows_masses = True

    def __init__(self, prior: ZPrior = "log") -> None:
        rise = Parameter(
            name="z_rise",
            column="Z_RISE",
            symbol=r"\Delta \log Z",
            unit="dex",
            description="log10 of the metallicity of the youngest stars over that of the first",
            prior="uniform",
            bounds=RISE_RANGE_DEX,
            natural_edges="low",
        )
        self.parameters = (_star("metallicity of the youngest stars, absolute Z", prior), rise)

    def nodes(self, age: FloatArray) -> None:
        """Nothing: ages do not enter."""
        del age

    def at(self, values: Values, nodes: Any, formed: jax.Array | None) -> jax.Array:
        """See `Metallicity.at`.

        Parameters
        ----------
        values
            Parameter values by name, each ``(batch,)``.
        nodes
            From `nodes`.
        formed
            ``(batch, nage)`` fraction of the mass that formed before, or None.

        Returns
        -------
        jax.Array
            ``(batch, nage)`` absolute Z.
        """
        del nodes
        assert formed is not None
        floor = 10.0 ** -values["z_rise"][:, None]
        return jnp.clip(values["metallicity"][:, None] * (floor + (1 - floor) * formed), *Z_RANGE_PROVABGS)


class Binned:
    """One metallicity per bin of lookback time; log Z walks from bin to bin with normal steps.

    Parameters
    ----------
    prior
        Of the metallicity of the youngest bin.
    edges_gyr
        Inner edges of the bins, Gyr, increasing.
    step_dex
        Sigma of a step.

    Raises
    ------
    ConfigError
        For edges that do not increase from above 0, or a step that is not positive.
    """

    follows_masses = False

    def __init__(
        self, prior: ZPrior = "log", edges_gyr: Sequence[float] = EDGES_GYR, step_dex: float = STEP_DEX
    ) -> None:
        edges = np.asarray(edges_gyr, dtype=float)
        if edges.ndim != 1 or edges.size < 1 or not np.all(np.diff(edges, prepend=0.0) > 0):
            raise ConfigError(
                f"model.history_options: z_options.edges_gyr = {list(edges_gyr)} must be one or more increasing ages "
                "above 0"
            )
        if not step_dex > 0:
            raise ConfigError(f"model.history_options: z_options.step_dex = {step_dex} must be above 0")
        self.edges = edges
        steps = tuple(
            Parameter(
                f"z_step{i}",
                f"Z_STEP{i}",
                rf"\Delta \log Z_{{{i}}}",
                "dex",
                f"log10 of the metallicity of age bin {i} over that of the next older",
                prior="normal",
                bounds=(-np.inf, np.inf),
                centre=0.0,
                scale=float(step_dex),
            )
            for i in range(1, edges.size + 1)
        )
        self.parameters = (_star("metallicity of the youngest age bin, absolute Z", prior), *steps)

    def nodes(self, age: FloatArray) -> FloatArray:
        """Which steps lie before each age: ``(nstep, nage)`` of 0 and 1."""
        return (np.asarray(age) > self.edges[:, None]).astype(float)

    def at(self, values: Values, nodes: FloatArray, formed: jax.Array | None = None) -> jax.Array:
        """See `Metallicity.at`.

        Parameters
        ----------
        values
            Parameter values by name, each ``(batch,)``.
        nodes
            From `nodes`.
        formed
            ``(batch, nage)`` fraction of the mass that formed before, or None.

        Returns
        -------
        jax.Array
            ``(batch, nage)`` absolute Z.
        """
        del formed
        steps = jnp.stack([values[p.name] for p in self.parameters[1:]], axis=-1)
        down = steps @ jnp.asarray(nodes, dtype=steps.dtype)
        return jnp.clip(values["metallicity"][:, None] * 10.0**-down, *Z_RANGE_PROVABGS)


KINDS: dict[str, Any] = {"nmf": NMFMetallicity, "constant": Constant, "enriching": Enriching, "bins": Binned}
"""Metallicity histories by the word that configurations use."""


def metallicity_of(name: str, prior: ZPrior = "log", options: Mapping[str, Any] | None = None) -> Metallicity:
    """The metallicity history that a configuration names.

    Parameters
    ----------
    name
        Key of `KINDS`.
    prior
        Flat in log Z or in Z.
    options
        Of that kind.

    Returns
    -------
    Metallicity
        Of that kind.

    Raises
    ------
    ConfigError
        For an unknown kind, prior or option.
    """
    if name not in KINDS:
        raise ConfigError(f"model.history_options: metallicity = {name!r}{suggestion(name, tuple(KINDS))}")
    try:
        made: Metallicity = KINDS[name](prior=prior, **(options or {}))
    except TypeError as err:
        raise ConfigError(f"model.history_options: z_options of metallicity = {name!r}: {err}") from None
    return made
