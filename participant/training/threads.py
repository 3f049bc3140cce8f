"""Linear algebra on one thread."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from threadpoolctl import threadpool_limits


@contextmanager
def one_blas_thread() -> Iterator[None]:
    """Keep BLAS to one thread in the block.

    L-BFGS over some ten thousand weights makes thousands of short vector products. Shared among
    threads, their waiting for each other costs thirty times the processor time of the work.
    """
    with threadpool_limits(limits=1, user_api="blas"):
        yield
