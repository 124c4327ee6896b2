"""Memory that was needed for something large goes back to the system: the C library would keep most of it.

Its rule is made for programs that need the same again soon. Here a large request is rare, and the machine small. Only
glibc has such a rule; elsewhere nothing is done.
"""

from __future__ import annotations

from functools import cache
from typing import Any

_M_MMAP_THRESHOLD, _M_ARENA_MAX = -3, -8
_OWN_PAGES_FROM = 256 * 1024  # bytes of one block
_ARENAS = 2


def expect_large() -> None:
    """Large blocks come from the system, each by itself, from now on, and go back to it as soon as they are free."""
    _library()


def give_back() -> None:
    """Give back what is free; takes some milliseconds."""
    library = _library()
    if library is not None:
        library.malloc_trim(0)


@cache
def _library() -> Any:
    import ctypes  # half a megabyte, for those who need it

    library = ctypes.CDLL(None)
    if not hasattr(library, "malloc_trim"):
        return None
    library.mallopt(_M_MMAP_THRESHOLD, _OWN_PAGES_FROM)
    library.mallopt(_M_ARENA_MAX, _ARENAS)
    return library
