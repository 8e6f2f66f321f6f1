"""Recordings as each format's own tools write them."""

from __future__ import annotations

import struct
from datetime import UTC, datetime
from pathlib import Path

import edfio
import mne
import numpy as np
import pybv
from mffpy import Writer
from mffpy.bin_writer import BinWriter

NAMES = ["Fz", "Cz", "Pz", "Oz"]


SFREQ_HZ = 100.0


def signal(seconds: float = 12, n_channels: int = 4) -> np.ndarray:
    """Microvolts, the same each time."""
    return np.random.default_rng(3).normal(0, 20, (n_channels, round(seconds * SFREQ_HZ)))


def raw_array(data_uv: np.ndarray | None = None, names: list[str] | None = None) -> mne.io.RawArray:
    data_uv = signal() if data_uv is None else data_uv
    names = names or NAMES
    info = mne.create_info(names, SFREQ_HZ, "eeg", verbose="ERROR")
    raw = mne.io.RawArray(data_uv * 1e-6, info, verbose="ERROR")
    raw.set_annotations(mne.Annotations([1.0, 6.0], [0.0, 2.0], ["go", "BAD_move"]))
    return raw


def epochs_of(seconds: float = 1.0, n: int = 6) -> mne.EpochsArray:
    data = signal(n * seconds).reshape(4, n, -1).transpose(1, 0, 2) * 1e-6
    events = np.array([[100 * i, 0, 1 + i % 2] for i in range(n)])
    info = mne.create_info(NAMES, SFREQ_HZ, "eeg", verbose="ERROR")
    ids = {"left": 1, "right": 2}
    return mne.EpochsArray(data, info, events, tmin=-0.2, event_id=ids, verbose="ERROR")


def edf(path: Path, cls: type = edfio.Edf, signal_cls: type = edfio.EdfSignal) -> Path:
    signals = [
        signal_cls(row, SFREQ_HZ, label=name, physical_dimension="uV", physical_range=(-200, 200))
        for row, name in zip(signal(), NAMES, strict=True)
    ]
    notes = [edfio.EdfAnnotation(1.0, None, "go"), edfio.EdfAnnotation(6.0, 2.0, "BAD_move")]
    cls(signals, annotations=notes).write(path)
    return path


def write_edf(place: Path) -> Path:
    return edf(place / "a.edf")


def write_bdf(place: Path) -> Path:
    return edf(place / "a.bdf", edfio.Bdf, edfio.BdfSignal)


def write_fif(place: Path) -> Path:
    raw_array().save(place / "a_raw.fif", verbose="ERROR")
    return place / "a_raw.fif"


def write_fif_gz(place: Path) -> Path:
    raw_array().save(place / "a_raw.fif.gz", verbose="ERROR")
    return place / "a_raw.fif.gz"


def write_split_fif(place: Path) -> Path:
    raw_array(signal(600)).save(place / "a_raw.fif", split_size="1.1MB", verbose="ERROR")
    assert (place / "a_raw-1.fif").exists()
    return place / "a_raw.fif"


def write_brainvision(place: Path) -> Path:
    pybv.write_brainvision(
        data=signal() * 1e-6,
        sfreq=SFREQ_HZ,
        ch_names=NAMES,
        fname_base="a",
        folder_out=place,
        events=[
            {"onset": 100, "description": "go", "type": "Comment", "duration": 1},
            {"onset": 600, "description": "BAD_move", "type": "Comment", "duration": 200},
        ],
    )
    return place / "a.vhdr"


def write_eeglab(place: Path) -> Path:
    """What EEGLAB itself saves: a MATLAB structure."""
    return eeglab(place / "a.set", signal(), trials=1)


def eeglab(path: Path, data_uv: np.ndarray, trials: int) -> Path:
    from scipy.io import savemat

    onsets = [101.0, 601.0] if trials == 1 else [21.0 + 100 * i for i in range(trials)]
    names = ["go", "stop"] if trials == 1 else ["left", "right"] * (trials // 2)
    kinds = [("type", "O"), ("latency", "O"), ("epoch", "O")]
    events = np.array(
        [(n, o, float(i + 1)) for i, (n, o) in enumerate(zip(names, onsets, strict=True))], kinds
    )
    places = np.array(
        [(name, 0.1 * i, 0.2, 0.3) for i, name in enumerate(NAMES)],
        [("labels", "O"), ("X", "O"), ("Y", "O"), ("Z", "O")],
    )
    pnts = data_uv.shape[1]
    content = {
        "setname": "a",
        "nbchan": 4.0,
        "trials": float(trials),
        "pnts": float(pnts),
        "srate": SFREQ_HZ,
        "xmin": 0.0 if trials == 1 else -0.2,
        "xmax": (pnts - 1) / SFREQ_HZ if trials == 1 else -0.2 + (pnts - 1) / SFREQ_HZ,
        "data": data_uv.astype(np.float32),
        "chanlocs": places,
        "event": events,
        "epoch": np.array(
            [(float(i + 1), n, 0.0) for i, n in enumerate(names)],
            [("event", "O"), ("eventtype", "O"), ("eventlatency", "O")],
        )
        if trials > 1
        else np.empty((0, 0)),
        "urevent": np.empty((0, 0)),
        "icawinv": np.empty((0, 0)),
        "icasphere": np.empty((0, 0)),
        "icaweights": np.empty((0, 0)),
        "icaact": np.empty((0, 0)),
        "icachansind": np.empty((0, 0)),
    }
    savemat(path, {"EEG": content}, appendmat=False)
    return path


def write_egi_simple_binary(place: Path) -> Path:
    """EGI's simple binary, version 4: big-endian single precision, no events."""
    data = signal().astype(">f4")
    when = (2020, 1, 2, 3, 4, 5, 0)
    head = struct.pack(">i6hi5hih", 4, *when, int(SFREQ_HZ), 4, 1, 0, 0, data.shape[1], 0)
    (place / "a.raw").write_bytes(head + data.T.tobytes())
    return place / "a.raw"


def write_mff(place: Path) -> Path:
    """EGI's folder, by the package of its makers; a net has 32 electrodes and their reference."""
    bins = BinWriter(sampling_rate=round(SFREQ_HZ), data_type="EEG")
    bins.add_block(signal(n_channels=33).astype(np.float32))
    writer = Writer(str(place / "a.mff"))
    writer.addxml("fileInfo", recordTime=datetime(2020, 1, 2, 3, 4, 5, tzinfo=UTC))
    writer.add_coordinates_and_sensor_layout(device="HydroCel GSN 32 1.0")
    writer.addbin(bins)
    writer.write()
    return place / "a.mff"


def write_gdf(place: Path) -> Path:
    """GDF 1.25 byte by byte from its description (Schloegl 2006): 16 bits, an event table."""
    n, limit = len(NAMES), 200.0
    codes = np.round((signal() + limit) / (2 * limit) * 65535 - 32768).astype("<i2")
    n_records, per = codes.shape[1] // round(SFREQ_HZ), round(SFREQ_HZ)

    def each(form: str, value: object) -> bytes:
        return b"".join(struct.pack(form, value) for _ in range(n))

    fixed = b"GDF 1.25" + b" " * 160 + b"2020010203040500" + struct.pack("<q", 256 * (n + 1))
    fixed += bytes(24 + 20) + struct.pack("<qIII", n_records, 1, 1, n)
    channels = b"".join(name.encode().ljust(16) for name in NAMES) + b" " * 80 * n
    channels += b"uV".ljust(8) * n + each("<d", -limit) + each("<d", limit)
    channels += each("<q", -32768) + each("<q", 32767) + b" " * 80 * n
    channels += each("<i", per) + each("<i", 3) + bytes(32 * n)
    data = codes.reshape(n, n_records, per).transpose(1, 0, 2).tobytes()
    events = b"\x01" + round(SFREQ_HZ).to_bytes(3, "little") + struct.pack("<IIH", 1, 101, 769)
    (place / "a.gdf").write_bytes(fixed + channels + data + events)
    return place / "a.gdf"
