"""Threads of the linear algebra."""

from __future__ import annotations

from contextlib import AbstractContextManager
from functools import lru_cache

from threadpoolctl import ThreadpoolController

ONE_THREAD = {
    "OMP_NUM_THREADS": "1",
    "OPENBLAS_NUM_THREADS": "1",
    "MKL_NUM_THREADS": "1",
    "NUMEXPR_NUM_THREADS": "1",
    "XLA_FLAGS": "--xla_cpu_multi_thread_eigen=false intra_op_parallelism_threads=1",
}
"""Environment of a process that fits: one core each, for a node full of processes must not fight over threads."""


def one_thread() -> AbstractContextManager[object]:
    """Linear algebra of NumPy and SciPy on one thread while the context lasts.

    Products of a fit are small: threads that wait for each other cost twenty to seventy times what they do. A joint fit
    took 3.8 s of processor time on two busy cores without, 2.4 s with (three galaxies; docs/studies/speed.md).
    """
    return _libraries().limit(limits=1, user_api="blas")


@lru_cache(maxsize=1)
def _libraries() -> ThreadpoolController:
    """Finding the libraries takes milliseconds; once is enough."""
    return ThreadpoolController()
