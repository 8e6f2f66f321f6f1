"""Nihon Kohden (``.EEG`` with ``.PNT``, ``.21E``, ``.LOG``): what MNE's reader needs help with."""

from __future__ import annotations

import re
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from ae_pipeline.data import InputError
from ae_pipeline.sources.channels import electrodes, harmonise

if TYPE_CHECKING:
    import mne

__all__ = ["PARTS", "blocks_begin", "open_nihon", "types_of"]

MOST_NUMBERS = 1024

PARTS = (".PNT", ".21E", ".LOG")
"""Patient and date, channel names, events; beside the ``.EEG``, in capitals."""


def open_nihon(path: Path) -> mne.io.BaseRaw:
    """Open lazily; events in another encoding than UTF-8 are taken as Latin-1, not dropped.

    Raises
    ------
    InputError
        Channel names or events stand in a file in small letters, which MNE would not see.
    """
    import mne

    beside = {file.name for file in path.parent.iterdir()}
    for part in (path.with_suffix(end) for end in PARTS[1:]):
        small = part.with_suffix(part.suffix.lower()).name
        if small in beside and part.name not in beside:
            raise InputError(
                f"{path.name}: {small} would not be read, and channels or events be wrong; rename "
                f"it to {part.name}"
            )
    _check_names(path)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        raw = mne.io.read_raw_nihon(path, preload=False, verbose="WARNING")
    if any(re.search("Could not decode log", str(one.message)) for one in caught):
        return mne.io.read_raw_nihon(path, preload=False, encoding="latin-1", verbose="WARNING")
    for one in caught:
        warnings.warn(one.message, stacklevel=2)
    return raw


def _check_names(path: Path) -> None:
    """Numbers of channels are one byte; MNE makes room for whatever the list of names says."""
    names = path.with_suffix(".21E")
    if not names.is_file():
        return
    for line in names.read_bytes().decode("latin-1").splitlines():
        number = line.partition("=")[0].strip()
        if number.lstrip("-").isdigit() and (
            len(number) > 5 or not 0 <= int(number) < MOST_NUMBERS
        ):
            raise InputError(
                f"{path.name}: {names.name} numbers a channel {number[:20]}; channels are numbered "
                f"0 to {MOST_NUMBERS - 1}. The file is damaged; copy it again"
            )


def types_of(names: Sequence[str], types: Sequence[str]) -> tuple[str, ...]:
    """MNE takes any name with a capital Z or X for no EEG; FZ, CZ and PZ are."""
    return tuple(
        "eeg" if kind in ("misc", "bio") and harmonise(name) in electrodes() else kind
        for name, kind in zip(names, types, strict=True)
    )


def blocks_begin(raw: mne.io.BaseRaw) -> tuple[int, ...]:
    """Samples at which another block of the file begins: MNE cannot read over them at once."""
    edges = [one["onset"] for one in raw.annotations if one["description"] == "EDGE boundary"]
    return tuple(round(edge * raw.info["sfreq"] + 0.5) for edge in edges)
