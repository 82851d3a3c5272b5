"""What a process keeps from fit to fit: tables of so many bytes, compiled functions for so many shapes."""

from __future__ import annotations

import gc
from typing import NamedTuple

import numpy as np
import pytest

from provabgs.core import memory
from provabgs.core.arrays import FloatArray
from provabgs.core.compilations import CompiledByShape, n_compiled, tidy
from provabgs.core.jax import jax, jnp
from provabgs.core.memory import BoundedCache, give_back, resident_bytes
from provabgs.inference.compressed.interpolation_points import _point_basis, held_out, point_basis
from provabgs.inference.compressed.training import N_HELD_OUT, N_TRAIN, training_set
from provabgs.sps.library import SSPLibrary
from provabgs.sps.model import SPSModel

MIB = 1 << 20


class Table(NamedTuple):
    """A table as caches keep it."""

    name: str
    nbytes: int


def tables(most_bytes: int) -> tuple[BoundedCache[[str, int], Table], list[str]]:
    """A cache, and the names of what had to be made."""
    made: list[str] = []

    def make(name: str, nbytes: int) -> Table:
        made.append(name)
        return Table(name, nbytes)

    return BoundedCache(make, most_bytes), made


def test_a_cache_drops_what_was_asked_for_longest_ago() -> None:
    cache, made = tables(100)
    first = cache("a", 40)
    cache("b", 40)
    assert cache("a", 40) is first
    cache("c", 40)  # b goes
    assert cache("a", 40) is first
    assert (cache.held_bytes, len(cache), made) == (80, 2, ["a", "b", "c"])
    cache("b", 40)
    assert made == ["a", "b", "c", "b"]


def test_a_cache_counts_bytes_not_results() -> None:
    cache, _ = tables(100)
    for k in range(50):
        cache(str(k), 2)
    assert len(cache) == 50
    cache("large", 90)
    assert len(cache) == 6
    cache("larger than all", 1000)  # the newest is kept whatever it takes
    assert (len(cache), cache.held_bytes) == (1, 1000)


def test_keywords_are_other_results() -> None:
    cache, made = tables(100)
    cache("a", nbytes=1)
    cache("a", nbytes=2)
    cache("a", nbytes=2)
    assert made == ["a", "a"]


def test_compiled_functions_are_bounded_and_give_the_same_bits() -> None:
    def function(x: jax.Array, tables: dict[str, jax.Array]) -> jax.Array:
        return jnp.sum(jnp.sin(x) * tables["a"])

    plain, bounded = jax.jit(function), CompiledByShape(function, most=3)
    rng = np.random.default_rng(0)
    galaxies = [(rng.standard_normal(n), {"a": rng.standard_normal(n)}) for n in range(5, 25)]
    expected = [float(plain(*g)) for g in galaxies]
    before = n_compiled()
    for _ in range(2):  # the second time all have been dropped
        assert [float(bounded(*g)) for g in galaxies] == expected
    assert len(bounded) == 3
    gc.collect()
    assert n_compiled() - before <= 3


def test_other_types_and_structures_are_other_shapes() -> None:
    bounded = CompiledByShape(lambda x, y: x if y is None else x + y)
    assert bounded(jnp.ones(2), None).dtype == jnp.float64
    assert bounded(jnp.ones(2, jnp.float32), None).dtype == jnp.float32
    assert np.asarray(bounded(jnp.ones(2), jnp.ones(2))).tolist() == [2.0, 2.0]
    bounded(jnp.zeros(2), None)
    assert len(bounded) == 3


def test_bounded_functions_can_be_mapped_and_differentiated() -> None:
    bounded = CompiledByShape(lambda x: jnp.sum(x**2))
    assert np.asarray(jax.vmap(bounded)(jnp.ones((3, 2)))).tolist() == [2.0, 2.0, 2.0]
    assert np.asarray(jax.grad(bounded)(jnp.ones(2))).tolist() == [2.0, 2.0]


def test_tidy_drops_compiled_functions_beyond_a_bound() -> None:
    function = jax.jit(lambda x: x * 3 + 1)
    function(jnp.ones(7))
    tidy(most=n_compiled())
    assert n_compiled() > 0
    tidy(most=0)
    assert n_compiled() == 0
    assert float(function(jnp.ones(7))[0]) == 4.0


def test_free_memory_is_given_back(monkeypatch: pytest.MonkeyPatch) -> None:
    kept = []
    for _ in range(4000):  # 125 MiB in pieces that the C library would keep for others, and small ones in between
        kept.append((bytearray(32 << 10), bytearray(200)))
    pieces = [small for _, small in kept]
    full = resident_bytes()
    del kept
    give_back()
    assert len(pieces) == 4000
    assert full - resident_bytes() > 80 * MIB
    monkeypatch.setattr(memory.ctypes, "CDLL", lambda name: (_ for _ in ()).throw(OSError(name)))
    give_back()  # without glibc


def test_memory_of_no_process_is_zero() -> None:
    assert resident_bytes() > 10 * MIB
    assert resident_bytes(2**30) == 0


def test_a_basis_takes_few_megabytes_and_knows_how_many(library: SSPLibrary) -> None:
    """Dozens are kept: none may hold on to the composites that it was learnt from."""
    model = SPSModel(library)
    basis = point_basis(model, 4000.0, 6000.0)
    arrays: list[FloatArray] = [x for x in vars(basis).values() if isinstance(x, np.ndarray)]
    held = sum(x.nbytes if x.base is None else x.base.nbytes for x in (*arrays, *basis.ssps))
    assert held == basis.nbytes
    assert held < 6e6


def test_bases_of_many_windows_are_bounded_and_made_anew_with_the_same_bits(
    library: SSPLibrary, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = SPSModel(library)
    _point_basis.clear()
    first = point_basis(model, 4000.0, 4500.0)
    monkeypatch.setattr(_point_basis, "most_bytes", 3 * first.nbytes)
    assert point_basis(model, 4000.0, 4500.0) is first
    for low in np.arange(4000.0, 6000.0, 250.0):
        point_basis(model, low, low + 500)
        assert _point_basis.held_bytes <= 3 * first.nbytes
    again = point_basis(model, 4000.0, 4500.0)
    assert again is not first
    for name in ("wave", "r", "cardinal_by_wave", "held_out_level", "held_out_u"):
        np.testing.assert_array_equal(getattr(again, name), getattr(first, name))


def test_held_out_composites_are_those_of_the_training_set(library: SSPLibrary) -> None:
    model = SPSModel(library)
    basis, t = point_basis(model, 4000.0, 6000.0), training_set(model)
    which = np.array([N_HELD_OUT - 1, 0, 17])
    spectra = held_out(model, basis, which)
    expected = t.spectra[N_TRAIN + which, basis.columns.start - t.first : basis.columns.stop - t.first]
    np.testing.assert_allclose(spectra * basis.held_out_level[which], expected, rtol=1e-6, atol=1e-30)
    assert np.sqrt(np.mean(spectra**2)) == pytest.approx(1, abs=0.3)
