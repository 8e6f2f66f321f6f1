"""BrainVision triples whose files were renamed without their headers."""

from __future__ import annotations

import re
import tempfile
import warnings
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import mne

__all__ = ["open_brainvision", "parts_of"]

PARTS = {b"DataFile": (".eeg", ".dat", ".avg"), b"MarkerFile": (".vmrk", ".amrk")}


def parts_of(path: Path) -> dict[str, Path]:
    """Return the files a header names, or those of its own stem where a named one is missing.

    Parameters
    ----------
    path : Path
        A ``.vhdr`` or ``.ahdr`` file.
    """
    header = path.read_bytes()
    found = {}
    for key, endings in PARTS.items():
        match = re.search(rb"(?m)^%s[ \t]*=[ \t]*(.+?)\s*$" % key, header)
        if match is None:
            continue
        named = match[1].decode("utf-8", "surrogateescape").replace("$b", path.stem)
        beside = (path.with_suffix(end) for end in (*endings, *map(str.upper, endings)))
        candidates = (path.with_name(Path(named.replace("\\", "/")).name), *beside)
        known = next((file for file in candidates if file.is_file()), None)
        if known is not None:
            found[key.decode()] = known
    return found


def open_brainvision(path: Path) -> mne.io.BaseRaw:
    """Open lazily, by the files of the same stem where the header names others."""
    import mne

    header, renamed = path.read_bytes(), []
    for key, file in parts_of(path).items():
        line = re.search(rf"(?m)^{key}[ \t]*=[ \t]*(.+?)\s*$".encode(), header)
        assert line is not None
        if line[1].decode("utf-8", "surrogateescape").replace("$b", path.stem) != file.name:
            whole = f"{key}={file.absolute()}".encode("utf-8", "surrogateescape")
            header = header[: line.start()] + whole + b"\r\n" + header[line.end() :].lstrip()
            renamed.append(file.name)
    if not renamed:
        return mne.io.read_raw_brainvision(path, preload=False, verbose="WARNING")
    with tempfile.TemporaryDirectory() as folder:
        corrected = Path(folder) / path.name
        corrected.write_bytes(header)
        raw = mne.io.read_raw_brainvision(corrected, preload=False, verbose="WARNING")
    warnings.warn(
        "the header names files that are not there; those of its own stem are used", stacklevel=2
    )
    return raw
