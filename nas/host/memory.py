"""Settings of glibc's allocator for processes that compute on CPU; no effect elsewhere.

Freed memory stays in the process. A step allocates and frees hundreds of buffers of megabytes. By
default glibc maps each of them and unmaps it again, and the kernel clears every page each time:
40,000 page faults per step of the quickstart, a fifth of its CPU time.

Fragments that compilation leaves behind are kept out of the way. Compilation leaves tens of
thousands of free pieces between those in use. glibc keeps pieces above one kilobyte in lists by
size, and walks these lists at each allocation and release: 12 % of the time of a step.
"""

from __future__ import annotations

import ctypes

_SETTINGS = {
    "MALLOC_ARENA_MAX": (-8, 1),
    "MALLOC_MMAP_MAX_": (-4, 0),
    "MALLOC_TRIM_THRESHOLD_": (-1, -1),
    "MALLOC_TOP_PAD_": (-2, 64 << 20),
}
"""{environment variable: (parameter of `mallopt`, value)}.

Source: malloc.h and the manual page of mallopt.
"""

ENVIRONMENT = {name: str(value) for name, (_, value) in _SETTINGS.items()}
"""Environment of a new process with the effect of `retain_freed_memory`.

For processes that have threads before they can call the function.
"""

_SMALLEST = 1 << 10
_SMALL = 1 << 16
_LARGEST = 1 << 26
_SHRINK = 15 / 16
"""Ratio of a size that `reserve_fragments` tries to the size before it."""
_reserved: list[int] = []
"""Addresses of the fragments that `reserve_fragments` holds."""


def retain_freed_memory() -> bool:
    """Keep freed memory in this process. Call this before threads start.

    Returns:
      Whether the C library accepted the settings.
    """
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError, TypeError):  # another C library, or Windows
        return False
    return all(mallopt(parameter, value) == 1 for parameter, value in _SETTINGS.values())


def reserve_fragments() -> int:
    """Allocate all free pieces of 1 to 64 KiB below the end of the heap, until `release_fragments`.

    Larger pieces stay free for the buffers of a step. This takes some hundredths of a second.

    Returns:
      Bytes that are reserved.
    """
    libc = _libc()
    if libc is None:
        return 0
    # Memory beyond this address has never been allocated.
    end = libc.sbrk(0) - libc.mallinfo2().keepcost
    large: list[int] = []
    size = _LARGEST
    while size >= _SMALLEST:
        block = libc.malloc(size)
        if block and block < end:
            (large if size > _SMALL else _reserved).append(block)
        else:
            libc.free(block)
            size = int(size * _SHRINK)
    # Large pieces had to be allocated too: an allocation splits a large piece when no small one
    # fits.
    for block in large:
        libc.free(block)
    return sum(map(libc.malloc_usable_size, _reserved))


def release_fragments() -> None:
    """Free what `reserve_fragments` allocated, for the next compilation."""
    libc = _libc()
    while libc is not None and _reserved:
        libc.free(_reserved.pop())


class _MallInfo(ctypes.Structure):
    """`struct mallinfo2`. Source: malloc.h."""

    _fields_ = tuple(
        (name, ctypes.c_size_t)
        for name in (
            "arena",
            "ordblks",
            "smblks",
            "hblks",
            "hblkhd",
            "usmblks",
            "fsmblks",
            "uordblks",
            "fordblks",
            "keepcost",
        )
    )


def _libc() -> ctypes.CDLL | None:
    """The C library with its types, or None if it is not glibc or older than glibc 2.33."""
    try:
        libc = ctypes.CDLL(None)
        libc.malloc.argtypes = [ctypes.c_size_t]
        libc.malloc.restype = ctypes.c_void_p
        libc.free.argtypes = [ctypes.c_void_p]
        libc.free.restype = None
        libc.malloc_usable_size.argtypes = [ctypes.c_void_p]
        libc.malloc_usable_size.restype = ctypes.c_size_t
        libc.sbrk.argtypes = [ctypes.c_ssize_t]
        libc.sbrk.restype = ctypes.c_void_p
        libc.mallinfo2.argtypes = []
        libc.mallinfo2.restype = _MallInfo
    except (AttributeError, OSError, TypeError):
        return None
    return libc
