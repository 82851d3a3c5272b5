"""How many compiled functions a process keeps: a few megabytes each, one for each set of shapes that galaxies have.

What is dropped is compiled anew when it is asked for, or read from the folder of `provabgs.core.jax` in a few tenths
of a second; the machine code is the same.
"""

from __future__ import annotations

import gc
from collections import OrderedDict
from collections.abc import Callable
from functools import wraps
from threading import Lock
from typing import Any, Generic, ParamSpec, TypeVar

from jax.extend.backend import get_backend

from provabgs.core.jax import jax
from provabgs.core.memory import give_back

MOST_SHAPES = 16
"""Sets of shapes that one function is kept compiled for: size classes times kinds of data."""
MOST_COMPILED = 300
"""Compiled functions of a process, small and large, beyond which all are dropped between fits."""

P = ParamSpec("P")
R = TypeVar("R")


def shape_of(tree: Any) -> Any:
    """Structure of a pytree, shapes and types of its arrays: what a compilation is for."""
    leaves, structure = jax.tree.flatten(tree)
    return structure, *((jax.numpy.shape(x), jax.numpy.result_type(x)) for x in leaves)


class CompiledByShape(Generic[P, R]):
    """`jax.jit` of a function whose arguments come in many shapes: the compilations least recently used are dropped.

    Parameters
    ----------
    function
        Of arrays and pytrees of them.
    most
        Sets of shapes that are kept.
    """

    def __init__(self, function: Callable[P, R], most: int = MOST_SHAPES) -> None:
        self._function, self._most = function, most
        self._kept: OrderedDict[Any, Any] = OrderedDict()
        self._lock = Lock()

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> R:
        """The function's value."""
        key = shape_of((args, kwargs))
        with self._lock:
            if key not in self._kept:
                self._kept[key] = self._compile()
                if len(self._kept) > self._most:
                    self._kept.popitem(last=False)[1].clear_cache()
            self._kept.move_to_end(key)
            compiled = self._kept[key]
        value: R = compiled(*args, **kwargs)
        return value

    def _compile(self) -> Any:
        """A function object of its own, for JAX keeps what it compiles by the object; of the same name, as on disk."""

        @wraps(self._function)
        def own(*args: P.args, **kwargs: P.kwargs) -> R:
            return self._function(*args, **kwargs)

        return jax.jit(own)

    def __len__(self) -> int:
        return len(self._kept)


def compiled_by_shape(function: Callable[P, R]) -> CompiledByShape[P, R]:
    """`CompiledByShape` that keeps `MOST_SHAPES`."""
    return CompiledByShape(function)


def n_compiled() -> int:
    """Compiled functions that the process holds."""
    return len(get_backend().live_executables())


def tidy(most: int = MOST_COMPILED) -> None:
    """Between fits: drop all compiled functions if there are more than so many, and give free memory back."""
    if n_compiled() > most:
        jax.clear_caches()
        gc.collect()
    give_back()
