"""Names, kinds and places of channels: one spelling for what laboratories write five ways.

Conventions: positions are metres in MNE's head frame, NaN where not known.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Sequence
from difflib import get_close_matches
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from ae_pipeline.config import StudyError
from ae_pipeline.data import SAME_PLACE

__all__ = [
    "REFERENCES",
    "electrodes",
    "harmonise",
    "is_bipolar",
    "is_lettered",
    "labels_of",
    "not_eeg",
    "positions_of",
]


class _Named(NamedTuple):
    """What names of a kind look like (upper case, prefix taken off), and who writes them so."""

    kind: str
    makers: str
    pattern: str
    beside_1020: bool = False
    """Counts only beside electrodes of the 10-20 system: elsewhere X1 and E2 are electrodes."""


NOT_EEG = (
    _Named("ECG", "all", r"E[CK]G"),
    _Named("EOG", "all", r"EOG|^[LR]OC\b|^E[12]-[AM][12]$|\bEYE\b"),
    _Named("EOG", "Neuroscan, Curry, BESA", r"^[LR]?[HV]EO[A-Z]?\d?$|^[LSI]O[12]$"),
    _Named("EOG", "Nihon Kohden, Natus", r"^PG[12]$"),
    _Named("EOG", "AASM (polysomnography)", r"^E[12]$", True),
    _Named("EMG", "all", r"EMG|CHIN|^LEG|TIBIAL"),
    _Named(
        "trigger",
        "BioSemi, Neuromag, EGI, Micromed",
        r"^STI\b|^STI ?\d|STATUS|TRIG|STIM|MARKER|EVENT|ANNOTATION|^DIN ?\d|PHOTIC|^MKR|^MARK\d",
    ),
    _Named("respiration", "all", r"RESP|THORA|ABDO|FLOW|SNOR|NASAL|BREATH|EFFORT|^(ET)?CO2"),
    _Named("pulse or oxygen", "all", r"S[PA]O2|OSAT|PULSE|PLETH|PPG|^[HP]R$|HEART|^BPM"),
    _Named("skin", "all", r"GSR|\bEDA\b|SKIN"),
    _Named("movement", "all", r"\bACC|ACCEL|GYRO|ERGO|POSITION"),
    _Named("nerve stimulator", "all", r"\bVNS"),
    _Named(
        "auxiliary",
        "all",
        r"AUX|^EXG ?\d|MISC|^DC ?\d+|^BIP ?\d|BATT|COUNTER|TEMP|LIGHT|SOUND|AUDIO",
    ),
    _Named("auxiliary", "Nihon Kohden, Natus", r"^(X|BP|BN|DIF)\d+(/BP\d)?$|^PAT$|^TECH$", True),
    _Named("reference or ground", "all", r"^(REF|GND|GROUND|CMS|DRL|REREF|(LEFT|RIGHT)[_ ]EAR)$"),
    _Named("reference or ground", "Nihon Kohden", r"^E$|^Z$|^\$[A-Z]+\d*$", True),
    _Named("not connected", "all", r"^-*$|^N\.?/?C\.?$|DUMMY|UNUSED|^EMPTY|^NONE$"),
    _Named("not connected", "Nihon Kohden, Persyst", r"^NA\d+$|^UNK\d*$|^NR\d+$|^MARK$", True),
)
"""What a name gives away; known electrode names come first."""

LEAST_1020 = 4
"""So many electrodes of the 10-20 system make a montage one of that system."""

REFERENCES = {"A1", "A2", "M1", "M2"}


@lru_cache(maxsize=1)
def electrodes() -> dict[str, tuple[float, float, float]]:
    """Names of the 10-05 system with positions in the head frame (MNE's standard montage)."""
    import mne

    known = mne.channels.get_builtin_montages()
    name = "colin27_1005" if "colin27_1005" in known else "standard_1005"
    montage = mne.channels.make_standard_montage(name)
    info = mne.create_info(montage.ch_names, 1000.0, "eeg", verbose="ERROR")
    info.set_montage(montage, verbose="ERROR")
    places = {}
    for channel in info["chs"]:
        x, y, z = (float(v) for v in channel["loc"][:3])
        places[channel["ch_name"]] = (x, y, z)
    return places


@lru_cache(maxsize=1)
def _spelling() -> dict[str, str]:
    return {name.casefold(): name for name in electrodes()}


def harmonise(name: str) -> str:
    """A channel's name as the 10-05 system spells it, as far as it is one.

    ``EEG FP1-REF`` -> Fp1, ``Fc5.`` -> FC5, ``CZ-A2`` -> Cz-A2; other names lose only prefix,
    reference suffix and dots.
    """
    bare = re.sub(r"^(EEG|POL)[ _-] *(?=[\w$-])", "", name.strip(), flags=re.IGNORECASE)
    bare = bare.rstrip(". ")
    bare = re.sub(
        r"[-_ ](REF|LER?|AVG?|AVE|CAR|AR|A1A2|A1\+A2|M1M2|M1\+M2)$", "", bare, flags=re.IGNORECASE
    )
    spelling = _spelling()
    parts = [spelling.get(part.casefold(), part) for part in bare.split("-")]
    return "-".join(parts) or name


def is_bipolar(ch_names: Sequence[str]) -> bool:
    """True where most channels are differences of electrodes without one common reference.

    One such channel (``A2-A1``) makes no montage bipolar, nor does a reference that every name
    repeats (``C3-A1``, ``C4-A1``, ...).
    """
    seconds = []
    for name in ch_names:
        first, _, second = harmonise(name).partition("-")
        if first in electrodes() and second in electrodes():
            seconds.append(second)
    return len(seconds) > len(ch_names) / 2 and (len(set(seconds)) > 1 or len(seconds) == 1)


def is_lettered(names: Sequence[str]) -> bool:
    """BioSemi's own labels A1, A2, A3, ... B1, ...; A1 is no ear lobe and C3 not C3 there."""
    return {"A1", "A3"} <= set(names)


def not_eeg(label: str, names: Sequence[str]) -> str:
    """What a channel is if its name says that it is no scalp electrode; else empty."""
    if label in electrodes() or (is_lettered(names) and re.fullmatch(r"[A-Z]\d+", label)):
        return ""
    first, _, second = label.partition("-")
    if first in REFERENCES and second in REFERENCES:
        return "difference of references"
    beside_1020 = sum(name in electrodes() for name in labels_of(names)) >= LEAST_1020
    for one in NOT_EEG:
        if re.search(one.pattern, label.upper()) and (beside_1020 or not one.beside_1020):
            return one.kind
    return ""


def positions_of(
    labels: Sequence[str], own: NDArray[np.float64], *, montage: str | None = None
) -> NDArray[np.float64]:
    """The montage's positions, else the file's own, else the standard ones by name, else NaN.

    Raises
    ------
    StudyError
        No montage of that name, or a file of positions that MNE cannot read.
    """
    unknown = (math.nan,) * 3
    if montage is not None:
        places = _montage(montage)
        known = [places.get(_plain(label), unknown) for label in labels]
        return np.array(known, float).reshape(-1, 3)
    own = np.where(np.any(own != 0, axis=1, keepdims=True), own, np.nan)
    if np.isfinite(own).all(axis=1).any():
        return own
    if is_lettered(labels):
        return np.full((len(labels), 3), math.nan)
    return np.array([electrodes().get(label, unknown) for label in labels], float).reshape(-1, 3)


def _plain(name: str) -> str:
    name = harmonise(name)
    return SAME_PLACE.get(name, name).casefold()


@lru_cache(maxsize=8)
def _montage(montage: str) -> dict[str, tuple[float, float, float]]:
    """Positions in the head frame by name, of a montage MNE knows or of a file."""
    import mne

    known = mne.channels.get_builtin_montages()
    try:
        if montage in known:
            found = mne.channels.make_standard_montage(montage)
        elif Path(montage).is_file():
            found = mne.channels.read_custom_montage(montage)
        else:
            near = get_close_matches(montage, known, 3, 0.4) or known[:3]
            raise StudyError(
                f"source.montage {montage!r}: neither a file nor a montage that MNE knows; nearest "
                f"names: {', '.join(near)}"
            )
        info = mne.create_info(found.ch_names, 1000.0, "eeg", verbose="ERROR")
        info.set_montage(found, verbose="ERROR")
    except StudyError:
        raise
    except Exception as error:
        raise StudyError(
            f"source.montage {Path(montage).name!r}: cannot be read as electrode positions "
            f"({type(error).__name__} in MNE); expected .sfp, .elc, .loc, .csd, .bvef or .txt"
        ) from None
    places = {}
    for channel in info["chs"]:
        x, y, z = (float(v) for v in channel["loc"][:3])
        places[_plain(channel["ch_name"])] = (x, y, z)
    return places


def labels_of(names: Sequence[str]) -> list[str]:
    """Harmonised names; where two would be the same both keep the file's."""
    labels = [harmonise(name) for name in names]
    counts = Counter(labels)
    return [
        label if counts[label] == 1 else name for name, label in zip(names, labels, strict=True)
    ]
