"""Threads of the linear algebra."""

from __future__ import annotations

from contextlib import AbstractContextManager
from functools import lru_cache

from threadpoolctl import ThreadpoolController


def one_thread() -> AbstractContextManager[object]:
    """Linear algebra of NumPy and SciPy on one thread while the context lasts.

    Products of the sampler are small: threads that wait for each other cost twenty to seventy times what they do.
    """
    return _libraries().limit(limits=1, user_api="blas")


@lru_cache(maxsize=1)
def _libraries() -> ThreadpoolController:
    """Finding the libraries takes milliseconds; once is enough."""
    return ThreadpoolController()
