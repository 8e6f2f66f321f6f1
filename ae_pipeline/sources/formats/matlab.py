"""Whether a MATLAB file is whole, before SciPy's compiled reader takes its word for it.

Damaged lengths in a MATLAB 5 file (EEGLAB's ``.set``) make that reader write where it must not,
which ends the process instead of raising. The structure is walked here first: every length has to
fit into what holds it. Compressed parts are left alone (zlib checks them), as are MATLAB 7.3
files, which are HDF5.
"""

from __future__ import annotations

import math
import mmap
import struct
from pathlib import Path

__all__ = ["is_damaged", "is_v73"]

MATRIX, COMPRESSED = 14, 15
SIZES = {1: 1, 2: 1, 3: 2, 4: 2, 5: 4, 6: 4, 7: 4, 9: 8, 12: 8, 13: 8, 16: 1, 17: 2, 18: 4}
"""Bytes of one value of each data type."""

CELL, STRUCT, OBJECT, CHAR, SPARSE = 1, 2, 3, 4, 5
NUMERIC = range(6, 16)
MOST_DEEP = 32


class _Damaged(Exception):
    """A length that does not fit."""


def is_v73(path: Path) -> bool:
    """Return whether a file is MATLAB 7.3, which is HDF5 behind 512 bytes of its own."""
    with path.open("rb") as file:
        return file.read(10) == b"MATLAB 7.3" or file.read(512)[502:510] == b"\x89HDF\r\n\x1a\n"


def is_damaged(path: Path) -> bool:
    """True where an uncompressed MATLAB 5 file holds a length that cannot be.

    Parameters
    ----------
    path : Path
        Any file; one that is no MATLAB 5 file is not this function's to judge.
    """
    with path.open("rb") as file:
        head = file.read(128)
        if len(head) < 128 or not head.startswith(b"MATLAB 5.0"):
            return False
        order = {b"IM": "<", b"MI": ">"}.get(head[126:128])
        if order is None:
            return True
        with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
            try:
                at = 128
                while at < len(content):
                    kind, start, stop, following = _element(
                        content, at, end=len(content), order=order
                    )
                    if kind == MATRIX:
                        _matrix(content, start, end=stop, order=order, depth=0)
                    elif kind == COMPRESSED:
                        following = stop  # not padded
                    else:
                        raise _Damaged
                    at = following
            except (_Damaged, struct.error):
                return True
    return False


def _element(content: mmap.mmap, at: int, *, end: int, order: str) -> tuple[int, int, int, int]:
    """Data type of an element, where its data begin and end, and where the next one is."""
    if at + 8 > end:
        raise _Damaged
    kind, size = struct.unpack_from(f"{order}II", content, at)
    if kind >> 16:  # up to four bytes stand in the tag itself
        kind, size = kind & 0xFFFF, kind >> 16
        if size > 4:
            raise _Damaged
        return kind, at + 4, at + 4 + size, at + 8
    start, stop = at + 8, at + 8 + size
    if stop > end:
        raise _Damaged
    return kind, start, stop, min(end, stop + -size % 8)


def _matrix(content: mmap.mmap, at: int, *, end: int, order: str, depth: int) -> None:
    """Check one array and all arrays in it."""
    if at == end:  # an empty one
        return
    if depth > MOST_DEEP:
        raise _Damaged
    kind, start, stop, at = _element(content, at, end=end, order=order)
    if kind != 6 or stop - start != 8:
        raise _Damaged
    flags = struct.unpack_from(f"{order}I", content, start)[0]
    of_class, is_complex = flags & 0xFF, bool(flags & 0x0800)
    if of_class in (16, 17):  # functions and opaque objects have a form of their own
        return
    kind, start, stop, at = _element(content, at, end=end, order=order)
    if kind not in (5, 6) or stop - start < 8 or (stop - start) % 4 or stop - start > 4 * 32:
        raise _Damaged
    sizes = struct.unpack_from(f"{order}{(stop - start) // 4}i", content, start)
    if min(sizes) < 0:
        raise _Damaged
    count = math.prod(sizes)
    kind, start, stop, at = _element(content, at, end=end, order=order)
    if kind not in (1, 2, 16):
        raise _Damaged
    if of_class in NUMERIC:
        for _ in range(2 if is_complex else 1):
            kind, start, stop, at = _element(content, at, end=end, order=order)
            if kind not in SIZES or stop - start != count * SIZES[kind]:
                raise _Damaged
    elif of_class == CHAR:
        kind, start, stop, at = _element(content, at, end=end, order=order)
        if kind not in SIZES or (stop - start) % SIZES[kind] or count > stop - start:
            raise _Damaged
    elif of_class == CELL:
        _arrays(content, at, end=end, order=order, count=count, depth=depth)
    elif of_class in (STRUCT, OBJECT):
        if of_class == OBJECT:
            *_, at = _element(content, at, end=end, order=order)
        kind, start, stop, at = _element(content, at, end=end, order=order)
        length = struct.unpack_from(f"{order}i", content, start)[0] if stop - start == 4 else 0
        if kind != 5 or not 0 < length <= 1024:
            raise _Damaged
        kind, start, stop, at = _element(content, at, end=end, order=order)
        if kind != 1 or (stop - start) % length:
            raise _Damaged
        names = [content[i : i + length] for i in range(start, stop, length)]
        if any(b"\x00" not in name for name in names):
            raise _Damaged
        _arrays(content, at, end=end, order=order, count=count * len(names), depth=depth)
    elif of_class != SPARSE:
        raise _Damaged


def _arrays(content: mmap.mmap, at: int, *, end: int, order: str, count: int, depth: int) -> None:
    """As many arrays as are promised."""
    if count * 8 > end - at:
        raise _Damaged
    for _ in range(count):
        kind, start, stop, at = _element(content, at, end=end, order=order)
        if kind != MATRIX:
            raise _Damaged
        _matrix(content, start, end=stop, order=order, depth=depth + 1)
