"""Whether a FIF file comes to an end, before MNE follows its tags.

A FIF file is a chain of tags, each of which may name the place of the next. A damaged one can name
a place that was passed already, and whoever follows goes round for ever, holding every tag.
"""

from __future__ import annotations

import struct
from pathlib import Path

__all__ = ["is_endless"]

TAG = struct.Struct(">iIii")
"""Kind, data type, size in bytes, place of the next tag (0: behind this one; -1: none)."""


def is_endless(path: Path) -> bool:
    """True where the tags of a FIF file lead back to themselves.

    Parameters
    ----------
    path : Path
        Any file; compressed ones carry a checksum and are not looked at.
    """
    seen: set[int] = set()
    at, length = 0, path.stat().st_size
    with path.open("rb") as file:
        while 0 <= at <= length - TAG.size:
            if at in seen:
                return True
            seen.add(at)
            file.seek(at)
            _, _, size, following = TAG.unpack(file.read(TAG.size))
            if following < 0:
                return False
            at = following or at + TAG.size + size
    return at < 0
