"""Denormal numbers as zero: those nearer to zero than 1.2e-38, for which float32 has no full precision.

A CPU takes a hundred times as long for them as for others, so a set of such weights would hold up whoever comes next.
Each thread has a mode of its own, and torch sets that of the calling thread alone, while operators run in its OpenMP
threads too: those are told by a parallel region in which each takes over the caller's floating-point environment. They
are told each time, because nobody knows who started them.

Half-precision numbers that are denormal as halves are ordinary numbers of float32 and keep their values.
"""

import ctypes
import functools
import logging
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

import torch

from mtlora.kernels.library import shared_pool

log = logging.getLogger(__name__)

_ENVIRONMENT_BYTES = 256  # room for C's fenv_t: 32 where it is largest
_REGION = ctypes.CFUNCTYPE(None, ctypes.c_void_p, ctypes.c_void_p, ctypes.c_uint, ctypes.c_uint)


class _Environments(NamedTuple):
    """How floating-point environments are read, and set in all threads of the caller's pool."""

    read: Callable[[Any], int]  # C's fegetenv
    set_address: ctypes.c_void_p  # C's fesetenv
    region: Callable[[ctypes.c_void_p, Any, int, int], None]  # GOMP_parallel: calls a function in each thread


@contextmanager
def denormals_are_zero() -> Iterator[None]:
    """Within it they count as zero, in the calling thread and in those that share its operators' work."""
    before = are_zero()
    flush_denormals()
    try:
        yield
    finally:
        if not before:
            torch.set_flush_denormal(False)
            _tell_workers()


def flush_denormals() -> None:
    """From now on they count as zero, in the calling thread and in those that share its operators' work."""
    if not torch.set_flush_denormal(True):
        log.debug("this CPU knows no mode in which denormal numbers are zero")
    _tell_workers()


def are_zero() -> bool:
    """Whether denormal numbers count as zero in the calling thread."""
    return sys.float_info.min / 2 == 0.0


def _tell_workers() -> None:
    """Without an OpenMP library that can be asked, nothing: LLVM's and Intel's tell their threads themselves."""
    threads = torch.get_num_threads()
    means = _environments() if threads > 1 else None
    if means is None:
        return
    environment = ctypes.create_string_buffer(_ENVIRONMENT_BYTES)
    if means.read(environment) == 0:
        means.region(means.set_address, environment, threads, 0)


@functools.cache
def _environments() -> _Environments | None:
    _, region = shared_pool()
    if region is None:
        return None
    try:
        library = ctypes.CDLL(None)
        read, restore = library.fegetenv, library.fesetenv
    except (OSError, AttributeError, TypeError) as error:
        log.debug("floating-point environments cannot be set in OpenMP threads: %s", error)
        return None
    return _Environments(read, ctypes.cast(restore, ctypes.c_void_p), _REGION(region))
