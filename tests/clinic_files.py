"""Recordings of clinics' systems, by their makers' libraries."""

from __future__ import annotations

import ctypes
import struct
from pathlib import Path

import numpy as np

NAMES = ["Fz", "Cz", "Pz", "Oz"]


SFREQ_HZ = 250


def signal(seconds: float = 8) -> np.ndarray:
    """Microvolts, the same each time."""
    return np.random.default_rng(4).normal(0, 20, (len(NAMES), round(seconds * SFREQ_HZ)))


def write_ant(place: Path, patient: bool = True) -> Path:
    """By the library of its makers, which antio brings along (antio itself only reads)."""
    import antio.libeep

    eep = ctypes.CDLL(str(Path(antio.libeep.__file__).with_name("libEep.so")))
    eep.libeep_init()
    channels = eep.libeep_create_channel_info()
    for name in NAMES:
        eep.libeep_add_channel(channels, name.encode(), b"ref", b"uV")
    file = eep.libeep_write_cnt(str(place / "a.cnt").encode(), SFREQ_HZ, channels, 0)
    assert file >= 0
    if patient:
        person = eep.libeep_create_recinfo()
        eep.libeep_set_date_of_birth(person, 1980, 1, 2)
        eep.libeep_set_start_time(person, ctypes.c_int64(1577934245))
        eep.libeep_add_recording_info(file, person)
    data = np.ascontiguousarray(signal().T, np.float32)
    eep.libeep_add_samples(file, data.ctypes.data_as(ctypes.c_void_p), len(data))
    eep.libeep_close(file)
    return place / "a.cnt"


def write_ant_that_crashes(place: Path) -> Path:
    """The first channel is said to be stored as the 65,536th of four."""
    path = write_ant(place)
    whole, order = path.read_bytes(), struct.pack("<4H", 0, 1, 2, 3)
    assert whole.count(order) == 1
    path.write_bytes(whole.replace(order, struct.pack("<4H", 65535, 1, 2, 3)))
    return path
