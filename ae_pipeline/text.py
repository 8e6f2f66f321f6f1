"""Text from files, made visible wherever a person reads it."""

from __future__ import annotations

import re

__all__ = ["LONGEST_QUOTE", "cut_quotes", "visible"]

LONGEST_QUOTE = 200
"""Characters of a value that a message quotes."""

# C0 and C1 controls but for tab and line feed, marks that turn the direction of writing around or
# separate lines, tags, and halves of characters (names of files that are not UTF-8)
_UNSEEN = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ufeff\ud800-\udfff"
    "\U000e0000-\U000e007f]"
)
_QUOTED = re.compile(r"'([^'\n]{200})[^'\n]+'|\"([^\"\n]{200})[^\"\n]+\"")


def visible(text: str) -> str:
    r"""Return the text with control characters as what they are, so that they do nothing.

    Examples
    --------
    >>> visible("a\x1b[2Jb\u202ec")
    'a[U+001B][2Jb[U+202E]c'
    """
    return _UNSEEN.sub(lambda found: f"[U+{ord(found[0]):04X}]", text)


def cut_quotes(text: str) -> str:
    """Return a message whose quotations have at most :data:`LONGEST_QUOTE` characters."""
    return _QUOTED.sub(lambda found: f"'{(found[1] or found[2])[: LONGEST_QUOTE - 1]}…'", text)
