"""Parameters as objects: what a model, an observation or a noise term declares, and everything else reads.

A `Parameter` says all that is known of one number; a `ParameterSet` is the ordered set that one fit has. Priors, the
unit cube that samplers explore, the linear block of stellar masses, monitored quantities, catalog columns, plot labels
and the tables of the documentation follow from the set: nothing restates a name, an edge or a position.

The default model declares the parameters of the published catalog in its order (Hahn et al. 2023, arXiv:2202.01809,
table 1), so that a row of `PROVABGS_MCMC` and a row of our draws hold the same thirteen numbers.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, field, fields, replace
from functools import cached_property
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike

from provabgs.core.arrays import FloatArray, IntArray
from provabgs.core.errors import ConfigError, InputError
from provabgs.core.messages import suggestion

PriorKind = Literal["uniform", "log-uniform", "flat-dirichlet", "normal", "student-t"]
Role = Literal["linear", "shape", "dust", "gas", "nuisance"]
Edges = Literal["none", "low", "high", "both"]
Values = Mapping[str, Any]
"""Parameter values by name, each ``(batch,)``: the form in which histories, dust and emission take them."""


@dataclass(frozen=True)
class Quantity:
    """One number of a posterior, with all that tables and figures need to show it.

    Attributes
    ----------
    name
        Name used in Python and in configurations.
    column
        Upper-case name used in catalog tables.
    symbol
        LaTeX for axis labels, without dollar signs.
    unit
        Unit, empty when dimensionless.
    description
        What it is, in one line.
    """

    name: str
    column: str
    symbol: str
    unit: str
    description: str

    @property
    def label(self) -> str:
        """Axis label, LaTeX with unit; ``dex`` is not written."""
        unit = f" [{self.unit}]" if self.unit and not self.unit.startswith("dex") else ""
        return f"${self.symbol}${unit}"


@dataclass(frozen=True)
class Parameter(Quantity):
    """One parameter of a fit.

    Attributes
    ----------
    prior
        Kind of the default prior. ``"flat-dirichlet"``: this parameter and its neighbours of the same kind are the
        fractions of one simplex. ``"normal"``: mean and width may belong to the galaxy (see
        `provabgs.inference.priors`). ``"student-t"``: two degrees of freedom.
    bounds
        Lower and upper edge of the default prior; for ``"normal"`` and ``"student-t"`` the support.
    role
        ``"linear"``: total mass and fractions, in which spectra are linear. ``"shape"``: histories otherwise.
        ``"dust"``, ``"gas"``. ``"nuisance"``: of the observation or the noise.
    hard_bounds
        Whether the edges are those of a table, beyond which no configuration may set them.
    natural_edges
        Edges that nature has too (optical depth 0, age 0, fractions 0 and 1): a posterior that ends there is no alarm.
    matters_when_small
        Whether a value near the lower edge changes the light as much as any other: samplers start there as often
        (`provabgs.inference.samplers.start`). The prior is what it is.
    centre, scale
        Of ``"normal"`` and ``"student-t"`` priors, where they do not belong to the galaxy. Scale 0: held at the centre.
    """

    prior: PriorKind
    bounds: tuple[float, float]
    role: Role = "shape"
    hard_bounds: bool = False
    natural_edges: Edges = "none"
    matters_when_small: bool = False
    centre: float = 1.0
    scale: float = 0.0

    def __post_init__(self) -> None:
        low, high = self.bounds
        if self.matters_when_small and self.prior != "uniform":
            raise ConfigError(f"parameter {self.name!r}: matters_when_small needs a uniform prior, not {self.prior}")
        if not low < high or (self.prior == "log-uniform" and low <= 0):
            raise ConfigError(
                f"parameter {self.name!r}: bounds {self.bounds} must increase (and be > 0 in a log prior)"
            )
        if self.prior != "normal" and not np.isfinite([low, high]).all():
            raise ConfigError(f"parameter {self.name!r}: bounds {self.bounds} of a {self.prior} prior must be finite")

    def as_dict(self) -> dict[str, Any]:
        """All fields as plain values, for JSON; infinite edges become None."""
        return asdict(self) | {"bounds": [b if np.isfinite(b) else None for b in self.bounds]}

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Parameter:
        """Inverse of `as_dict`."""
        known = {f.name for f in fields(cls)}
        low, high = (s if b is None else float(b) for b, s in zip(data["bounds"], (-np.inf, np.inf), strict=True))
        return cls(**{k: v for k, v in data.items() if k in known and k != "bounds"}, bounds=(low, high))


@dataclass(frozen=True, eq=False)
class ParameterSet:
    """The ordered parameters of a model or of a fit; hashable, equal where all entries are.

    Attributes
    ----------
    parameters
        In the order of theta's columns.

    Raises
    ------
    ConfigError
        When two parameters share a name or a column.
    """

    parameters: tuple[Parameter, ...] = field(default=())

    def __post_init__(self) -> None:
        object.__setattr__(self, "parameters", tuple(self.parameters))
        for what in ("name", "column"):
            values = [getattr(p, what) for p in self.parameters]
            if twice := sorted({v for v in values if values.count(v) > 1}):
                raise ConfigError(f"two parameters of this model have the {what} {twice[0]!r}; rename one of them")

    # ---- as a collection ---------------------------------------------------------------------------------------------

    def __eq__(self, other: object) -> bool:
        return self is other or (isinstance(other, ParameterSet) and self.parameters == other.parameters)

    def __hash__(self) -> int:
        return self._hash

    @cached_property
    def _hash(self) -> int:
        return hash(self.parameters)

    def __len__(self) -> int:
        return len(self.parameters)

    def __iter__(self) -> Iterator[Parameter]:
        return iter(self.parameters)

    def __contains__(self, name: object) -> bool:
        return name in self._index

    def __getitem__(self, name: str) -> Parameter:
        return self.parameters[self.index(name)]

    def extended(self, *more: Parameter) -> ParameterSet:
        """A set with further parameters after those of this one."""
        return ParameterSet((*self.parameters, *more))

    @property
    def size(self) -> int:
        """Number of parameters: the length of theta's last axis."""
        return len(self.parameters)

    @cached_property
    def names(self) -> tuple[str, ...]:
        """Names in order."""
        return tuple(p.name for p in self.parameters)

    @cached_property
    def columns(self) -> tuple[str, ...]:
        """Catalog columns in order."""
        return tuple(p.column for p in self.parameters)

    @cached_property
    def _index(self) -> dict[str, int]:
        return {p.name: i for i, p in enumerate(self.parameters)}

    def index(self, name: str) -> int:
        """Position of a parameter on theta's last axis.

        Raises
        ------
        ConfigError
            For a name that this set lacks.
        """
        try:
            return self._index[name]
        except KeyError:
            raise ConfigError(f"no parameter {name!r}{suggestion(name, self.names)}") from None

    def indices(self, names: Iterable[str]) -> IntArray:
        """Positions of several parameters, ``(n,)``."""
        return np.array([self.index(n) for n in names], dtype=np.int64)

    def of_role(self, *roles: Role) -> tuple[Parameter, ...]:
        """Parameters of the given roles, in order."""
        return tuple(p for p in self.parameters if p.role in roles)

    # ---- theta -------------------------------------------------------------------------------------------------------

    def check(self, theta: Any, what: str = "theta") -> None:
        """Refuse parameter vectors of another length: JAX would read a wrong column without a word.

        Parameters
        ----------
        theta
            ``(..., size)`` array of NumPy or JAX; under `jax.jit` its shape is known, so that checking is free.
        what
            How the message names it.

        Raises
        ------
        InputError
            Names the parameters that are expected.
        """
        shape = np.shape(theta)
        if not shape or shape[-1] != self.size:
            raise InputError(
                f"{what} has shape {shape}, expected (..., {self.size}) for the parameters {', '.join(self.names)}"
            )

    def values(self, theta: Any) -> dict[str, Any]:
        """Columns of theta ``(..., size)`` by name, each ``(...)``."""
        self.check(theta)
        return {name: theta[..., i] for i, name in enumerate(self.names)}

    def get(self, theta: Any, name: str) -> Any:
        """One column of theta.

        Parameters
        ----------
        theta
            ``(..., size)`` parameter vectors.
        name
            Parameter name.

        Returns
        -------
        array
            ``(...)``, the parameter's unit.

        Raises
        ------
        InputError
            When the last axis of theta does not have `size` entries.
        ConfigError
            For an unknown name.
        """
        self.check(theta)
        return theta[..., self.index(name)]

    def select(self, theta: Any, part: ParameterSet) -> Any:
        """The columns of theta that another set has, in its order.

        Parameters
        ----------
        theta
            ``(..., size)`` parameter vectors.
        part
            Set whose parameters are all in this one.

        Returns
        -------
        array
            ``(..., part.size)``.

        Raises
        ------
        InputError
            When the last axis of theta does not have `size` entries.
        ConfigError
            When `part` has a parameter that this set lacks.
        """
        self.check(theta)
        if self.names[: part.size] == part.names:
            return theta[..., : part.size]
        return theta[..., self.indices(part.names)]

    def theta(self, values: Mapping[str, ArrayLike], default: float | None = None) -> FloatArray:
        """Parameter vectors ``(..., size)`` from values by name.

        Parameters
        ----------
        values
            Scalars or arrays ``(...)`` that broadcast together.
        default
            Value of parameters that are not named; None: each must be.

        Returns
        -------
        FloatArray
            ``(..., size)``, each parameter in its own unit.

        Raises
        ------
        ConfigError
            For an unknown or a missing name.
        """
        for name in values:
            self.index(name)
        if default is None and (missing := [n for n in self.names if n not in values]):
            raise ConfigError(f"no value for parameter {missing[0]!r}; this model has {', '.join(self.names)}")
        columns = [np.asarray(values.get(n, default), dtype=np.float64) for n in self.names]
        return np.stack(np.broadcast_arrays(*columns), axis=-1)

    # ---- the unit cube -----------------------------------------------------------------------------------------------

    @cached_property
    def groups(self) -> tuple[tuple[int, ...], ...]:
        """Positions that one transform handles together: each simplex, and every other parameter alone."""
        groups: list[tuple[int, ...]] = []
        for i, p in enumerate(self.parameters):
            simplex = p.prior == "flat-dirichlet"
            if simplex and groups and self.parameters[groups[-1][-1]].prior == "flat-dirichlet":
                groups[-1] = (*groups[-1], i)
            else:
                groups.append((i,))
        return tuple(groups)

    @cached_property
    def coordinates(self) -> tuple[str, ...]:
        """Names of the unit cube's coordinates: parameters, and one fewer than its fractions for a simplex."""
        names: list[str] = []
        for group in self.groups:
            first = self.parameters[group[0]]
            simplex = first.prior == "flat-dirichlet"
            names += [f"x_{self.names[i]}" for i in group[:-1]] if simplex else [first.name]
        return tuple(names)

    @cached_property
    def linear_coordinates(self) -> IntArray:
        """Coordinates of the total mass and the fractions: those that are integrated analytically."""
        return np.array([k for k, linear in enumerate(self._is_linear) if linear], dtype=np.int64)

    @cached_property
    def nonlinear_coordinates(self) -> IntArray:
        """All other coordinates, in order."""
        return np.array([k for k, linear in enumerate(self._is_linear) if not linear], dtype=np.int64)

    @cached_property
    def small_coordinates(self) -> tuple[int, ...]:
        """Places among `nonlinear_coordinates` of parameters that matter when they are small."""
        free = [self.coordinates[k] for k in self.nonlinear_coordinates]
        return tuple(i for i, name in enumerate(free) if name in self and self[name].matters_when_small)

    @cached_property
    def _is_linear(self) -> tuple[bool, ...]:
        out: list[bool] = []
        for group in self.groups:
            first = self.parameters[group[0]]
            n = len(group) - 1 if first.prior == "flat-dirichlet" else 1
            out += [first.role == "linear"] * n
        return tuple(out)

    def with_bounds(self, bounds: Mapping[str, tuple[float, float]]) -> ParameterSet:
        """The same set with other edges of the priors named.

        Raises
        ------
        ConfigError
            For an unknown name, a prior without edges, edges out of order, or edges beyond a table's.
        """
        out = list(self.parameters)
        for name, (low, high) in bounds.items():
            if name not in self or self[name].prior not in ("uniform", "log-uniform"):
                boxes = tuple(p.name for p in self.parameters if p.prior in ("uniform", "log-uniform"))
                raise ConfigError(f"prior_bounds.{name}: no such prior with edges{suggestion(name, boxes)}")
            known = self[name]
            if not (np.isfinite([low, high]).all() and low < high) or (known.prior == "log-uniform" and low <= 0):
                raise ConfigError(f"prior_bounds.{name}: ({low}, {high}) must be finite and increasing")
            if known.hard_bounds and not known.bounds[0] <= low < high <= known.bounds[1]:
                raise ConfigError(f"prior_bounds.{name}: ({low}, {high}) reach beyond the tables' {known.bounds}")
            out[self.index(name)] = replace(known, bounds=(float(low), float(high)))
        return ParameterSet(tuple(out))

    # ---- text --------------------------------------------------------------------------------------------------------

    def to_json(self) -> str:
        """The set as JSON: what a catalog stores beside the draws."""
        return json.dumps([p.as_dict() for p in self.parameters], sort_keys=True)

    @classmethod
    def from_json(cls, text: str) -> ParameterSet:
        """Inverse of `to_json`."""
        return cls(tuple(Parameter.from_dict(d) for d in json.loads(text)))
