"""Formats of clinics, written byte by byte from their descriptions and read as written.

No file from a laboratory is at hand for any of them, and only ANT has a library that writes one.
"""

from __future__ import annotations

import ctypes
import struct
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from ae_pipeline.data import Recording
from ae_pipeline.sources.eeg import EegSource, open_recording
from ae_pipeline.sources.finding import find

NAMES = ["Fz", "Cz", "Pz", "Oz"]
SFREQ_HZ = 250
STEP_UV = 0.1
"""Of formats that store whole numbers."""


def signal(seconds: float = 8) -> np.ndarray:
    """Microvolts, the same each time."""
    return np.random.default_rng(4).normal(0, 20, (len(NAMES), round(seconds * SFREQ_HZ)))


def codes(dtype: str = "<i2") -> np.ndarray:
    """The signal in steps, (channels, times)."""
    return np.round(signal() / STEP_UV).astype(dtype)


def opened(path: Path) -> Recording:
    return open_recording(find([path])[0], EegSource(path=Path()))


def write_nicolet(place: Path) -> Path:
    """A head in text and 16 bits, sample by sample."""
    lines = {
        "start_ts": "2020-01-02 03:04:05.000",
        "num_samples": signal().shape[1],
        "sample_freq": SFREQ_HZ,
        "conversion_factor": STEP_UV,
        "num_channels": len(NAMES),
        "elec_names": f"[{','.join(NAMES)}]",
        "pat_id": 1,
        "adm_id": 2,
        "rec_id": 3,
        "duration_in_sec": 8,
        "sample_bytes": 2,
    }
    head = "".join(f"{name}={value}\n" for name, value in lines.items())
    (place / "a.head").write_text(head)
    (place / "a.data").write_bytes(codes().T.tobytes())
    return place / "a.data"


def write_persyst(place: Path) -> Path:
    """Sections of text (a comment at 1 s) and 16 bits, sample by sample."""
    channels = "".join(f"{name}-Ref={i + 1}\n" for i, name in enumerate(NAMES))
    (place / "a.lay").write_text(
        f"[FileInfo]\nFile=a.dat\nFileType=Interleaved\nSamplingRate={SFREQ_HZ}\n"
        f"HeaderLength=0\nCalibration={STEP_UV}\nWaveformCount={len(NAMES)}\nDataType=0\n"
        f"[ChannelMap]\n{channels}"
        "[Patient]\nFirst=A\nLast=B\nSex=\nBirthDate=01/02/80\nHand=\nID=1\n"
        "TestDate=01/02/2020\nTestTime=03:04:05\n"
        "[SampleTimes]\n0=0.0\n[Comments]\n1.0,0.5,0,100,go\n"
    )
    (place / "a.dat").write_bytes(codes().T.tobytes())
    return place / "a.lay"


def write_neuroscan(place: Path) -> Path:
    """The SETUP and ELECTLOC structures, 32 bits, an event table with one event at 1 s."""
    n, times = len(NAMES), signal().shape[1]
    head = bytearray(900 + 75 * n)
    head[0:12] = b"Version 3.0\0"
    head[225:247] = b"01/02/20  03:04:05    "
    head[225 : 225 + 10], head[235 : 235 + 12] = b"01/02/20\0\0", b"03:04:05\0\0\0\0"
    struct.pack_into("<H", head, 370, n)
    struct.pack_into("<H", head, 376, SFREQ_HZ)
    struct.pack_into("<i", head, 864, times)
    data_at = len(head)
    struct.pack_into("<i", head, 886, data_at + 4 * n * times)
    for i, name in enumerate(NAMES):
        at = 900 + 75 * i
        head[at : at + len(name)] = name.encode()
        struct.pack_into("<ff", head, at + 19, 10.0 * i, 5.0 + i)
        struct.pack_into("<f", head, at + 59, 1.0)  # sensitivity
        struct.pack_into("<f", head, at + 71, 204.8 * STEP_UV)  # calibration
    event = struct.pack("<HBcl", 7, 0, b"\0", data_at + 4 * n * SFREQ_HZ)
    table = struct.pack("<Bll", 1, len(event), 0) + event
    (place / "a.cnt").write_bytes(bytes(head) + codes("<i4").T.tobytes() + table)
    return place / "a.cnt"


def write_nedf(place: Path) -> Path:
    """10,240 bytes of XML; blocks of an accelerometer and five samples of 24 bits and a trigger."""
    names = "".join(f"<C{i}>{name}</C{i}>" for i, name in enumerate(NAMES))
    xml = (
        "<nedf><NEDFversion>1.4</NEDFversion>"
        "<NumberOfChannelsOfAccelerometer>3</NumberOfChannelsOfAccelerometer>"
        f"<EEGSettings><TotalNumberOfChannels>{len(NAMES)}</TotalNumberOfChannels>"
        f"<EEGSamplingRate>{SFREQ_HZ}</EEGSamplingRate><EEGMontage>{names}</EEGMontage>"
        f"<NumberOfRecordsOfEEG>{signal().shape[1]}</NumberOfRecordsOfEEG></EEGSettings>"
        "<StepDetails><StartDate_firstEEGTimestamp>1577934245000</StartDate_firstEEGTimestamp>"
        "</StepDetails></nedf>"
    )
    steps = np.round(signal() * 1e-6 / (2.4 / (6.0 * 8388607))).astype(">i4").T
    bits = np.ascontiguousarray(steps).view("u1").reshape(-1, len(NAMES), 4)[:, :, 1:]
    row = np.dtype([("eeg", "u1", (len(NAMES), 3)), ("trigger", ">i4")])
    blocks = np.zeros(len(bits) // 5, [("acceleration", ">u2", (3,)), ("rows", row, (5,))])
    blocks["rows"]["eeg"] = bits.reshape(-1, 5, len(NAMES), 3)
    (place / "a.nedf").write_bytes(xml.encode().ljust(10240, b"\0") + blocks.tobytes())
    return place / "a.nedf"


def write_ant(place: Path) -> Path:
    """By the library of its makers, which antio brings along (antio itself only reads)."""
    import antio.libeep

    eep = ctypes.CDLL(str(Path(antio.libeep.__file__).with_name("libEep.so")))
    eep.libeep_init()
    channels = eep.libeep_create_channel_info()
    for name in NAMES:
        eep.libeep_add_channel(channels, name.encode(), b"ref", b"uV")
    file = eep.libeep_write_cnt(str(place / "a.cnt").encode(), SFREQ_HZ, channels, 0)
    assert file >= 0
    person = eep.libeep_create_recinfo()
    eep.libeep_set_date_of_birth(person, 1980, 1, 2)
    eep.libeep_set_start_time(person, ctypes.c_int64(1577934245))
    eep.libeep_add_recording_info(file, person)
    data = np.ascontiguousarray(signal().T, np.float32)
    eep.libeep_add_samples(file, data.ctypes.data_as(ctypes.c_void_p), len(data))
    eep.libeep_close(file)
    return place / "a.cnt"


def write_curry(place: Path) -> Path:
    """Curry 7: parameters and labels in text, single precision sample by sample."""
    n = len(NAMES)

    def listed(name: str, rows: list[str]) -> str:
        return (
            f"\n{name} START\n{name} END\n{name} START_LIST # x\n"
            + "".join(f"{row}\n" for row in rows)
            + f"{name} END_LIST\n"
        )

    when = {"Year": 2020, "Month": 1, "Day": 2, "Hour": 3, "Min": 4, "Sec": 5, "Millisec": 0}
    start = "".join(f"Start{name} = {value}\n" for name, value in when.items())
    (place / "a.dap").write_text(
        f"DATA_PARAMETERS START\nNumSamples = {signal().shape[1]}\nNumChannels = {n}\n"
        f"NumTrials = 1\nSampleFreqHz = {SFREQ_HZ}\nTriggerOffsetUsec = 0\n"
        f"DataFormat = FLOAT\nDataByteOrder = INTEL\nDataSampOrder = SAMP\n"
        f"SampleTimeUsec = {1e6 / SFREQ_HZ:g}\n{start}AmplifierInfo = \nDATA_PARAMETERS END\n"
        f"DEVICE_PARAMETERS START\nDataUnit = uV\nNumChanThisGroup = {n}\n"
        "DEVICE_PARAMETERS END\n"
    )
    places = [f"{10.0 * i} {5.0 + i} 80.0" for i in range(n)]
    (place / "a.rs3").write_text(listed("LABELS", NAMES) + listed("SENSORS", places))
    (place / "a.dat").write_bytes(signal().T.astype("<f4").tobytes())
    return place / "a.dat"


FORMATS: dict[str, tuple[Callable[[Path], Path], float]] = {
    "Nicolet": (write_nicolet, STEP_UV),
    "Persyst": (write_persyst, STEP_UV),
    "Neuroscan CNT": (write_neuroscan, STEP_UV),
    "NEDF": (write_nedf, 0.05),
    "ANT CNT": (write_ant, 0.05),
    "Curry": (write_curry, 1e-3),
}
"""Format -> (who writes it, tolerance in microvolts: a step of the format)."""


@pytest.mark.parametrize("name", FORMATS)
def test_format_of_a_clinic_is_read_as_it_was_written(tmp_path: Path, name: str) -> None:
    write, tolerance_uv = FORMATS[name]
    recording = opened(write(tmp_path))
    expected = signal()
    assert recording.ch_names == tuple(NAMES)
    assert recording.sfreq_hz == SFREQ_HZ
    assert recording.n_times == expected.shape[1]
    np.testing.assert_allclose(recording.read(0, recording.n_times), expected, atol=tolerance_uv)
    np.testing.assert_allclose(recording.read(507, 523), expected[:, 507:523], atol=tolerance_uv)
    assert len(recording.files) == {"Nicolet": 2, "Persyst": 2, "Curry": 3}.get(name, 1)
    assert [found.path for found in find([tmp_path])] == [recording.path]  # of a folder, too
    if name in ("Persyst", "Neuroscan CNT"):
        assert [round(one.onset_s, 2) for one in recording.annotations] == [1.0]
