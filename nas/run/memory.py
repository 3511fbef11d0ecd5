"""The memory of a process that computes on CPU, where the C library is glibc; elsewhere nothing happens.

Freed memory stays in the process: a step allocates and frees hundreds of buffers of megabytes. By default glibc maps
each anew and returns it to the kernel, which then clears every page again: 40,000 page faults a step of the quickstart,
a fifth of its CPU time.

What compiling leaves behind is kept out of the way: tens of thousands of free pieces between what is in use. glibc
keeps those of more than a kilobyte in lists by size, and walks along them whenever it allocates or frees: 12 % of a
step's time.
"""

from __future__ import annotations

import ctypes

_SETTINGS = {
    # name in the environment: (parameter of `mallopt`, value)
    "MALLOC_ARENA_MAX": (-8, 1),
    "MALLOC_MMAP_MAX_": (-4, 0),
    "MALLOC_TRIM_THRESHOLD_": (-1, -1),
    "MALLOC_TOP_PAD_": (-2, 64 << 20),
}
"""Source: malloc.h and the manual page of mallopt."""

ENVIRONMENT = {name: str(value) for name, (_, value) in _SETTINGS.items()}
"""As `keep`, for a process that is to start and whose threads are there before it can call that."""

_SMALLEST, _SMALL, _LARGEST = 1 << 10, 1 << 16, 1 << 26
_SHRINK = 15 / 16  # from one size that is tried to the next
_occupied: list[int] = []


def keep() -> bool:
    """Keep freed memory in this process; whether that worked. To be called before threads start."""
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError, TypeError):  # another C library, or Windows
        return False
    return all(mallopt(parameter, value) == 1 for parameter, value in _SETTINGS.values())


def occupy_holes() -> int:
    """Take the free pieces of 1 to 64 KiB below the end of the heap until `release_holes`; returns their bytes.

    Larger ones stay for the buffers of a step. Takes some hundredths of a second.
    """
    libc = _libc()
    if libc is None:
        return 0
    end = libc.sbrk(0) - libc.mallinfo2().keepcost  # beyond is what no one has had yet
    large: list[int] = []
    size = _LARGEST
    while size >= _SMALLEST:
        block = libc.malloc(size)
        if block and block < end:
            (large if size > _SMALL else _occupied).append(block)
        else:
            libc.free(block)
            size = int(size * _SHRINK)
    for block in large:  # taken only to get at the small ones: an allocation splits a large piece where none fits
        libc.free(block)
    return sum(map(libc.malloc_usable_size, _occupied))


def release_holes() -> None:
    """Give back what `occupy_holes` took, for what compiles next."""
    libc = _libc()
    while libc is not None and _occupied:
        libc.free(_occupied.pop())


class _MallInfo(ctypes.Structure):
    """Source: malloc.h, `struct mallinfo2`."""

    _fields_ = tuple(
        (name, ctypes.c_size_t)
        for name in ("arena", "ordblks", "smblks", "hblks", "hblkhd", "usmblks", "fsmblks", "uordblks")
        + ("fordblks", "keepcost")
    )


def _libc() -> ctypes.CDLL | None:
    """The C library with its types, or None if it is another one or older than glibc 2.33."""
    try:
        libc = ctypes.CDLL(None)
        libc.malloc.argtypes, libc.malloc.restype = [ctypes.c_size_t], ctypes.c_void_p
        libc.free.argtypes, libc.free.restype = [ctypes.c_void_p], None
        libc.malloc_usable_size.argtypes, libc.malloc_usable_size.restype = [ctypes.c_void_p], ctypes.c_size_t
        libc.sbrk.argtypes, libc.sbrk.restype = [ctypes.c_ssize_t], ctypes.c_void_p
        libc.mallinfo2.argtypes, libc.mallinfo2.restype = [], _MallInfo
    except (AttributeError, OSError, TypeError):
        return None
    return libc
