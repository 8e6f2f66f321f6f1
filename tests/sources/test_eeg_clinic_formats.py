"""Formats of clinics, written byte by byte from their descriptions and read as written.

No file from a laboratory is at hand for any of them, and only ANT has a library that writes one.
"""

from __future__ import annotations

import re
import struct
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from clinic_files import NAMES, SFREQ_HZ, signal, write_ant, write_ant_that_crashes

from ae_pipeline.data import InputError, Recording
from ae_pipeline.sources.eeg import EegSource, open_recording
from ae_pipeline.sources.finding import find
from ae_pipeline.sources.formats.ant import is_ant
from ae_pipeline.sources.formats.curry import curry_events
from ae_pipeline.sources.formats.nihon import types_of

STEP_UV = 0.1
"""Of formats that store whole numbers."""


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


def curry_texts() -> tuple[str, str]:
    """Parameters, and labels with places."""
    n = len(NAMES)

    def listed(name: str, rows: list[str]) -> str:
        return (
            f"\n{name} START\n{name} END\n{name} START_LIST # x\n"
            + "".join(f"{row}\n" for row in rows)
            + f"{name} END_LIST\n"
        )

    when = {"Year": 2020, "Month": 1, "Day": 2, "Hour": 3, "Min": 4, "Sec": 5, "Millisec": 0}
    start = "".join(f"Start{name} = {value}\n" for name, value in when.items())
    parameters = (
        f"DATA_PARAMETERS START\nNumSamples = {signal().shape[1]}\nNumChannels = {n}\n"
        f"NumTrials = 1\nSampleFreqHz = {SFREQ_HZ}\nTriggerOffsetUsec = 0\n"
        f"DataFormat = FLOAT\nDataByteOrder = INTEL\nDataSampOrder = SAMP\n"
        f"SampleTimeUsec = {1e6 / SFREQ_HZ:g}\n{start}AmplifierInfo = \nDATA_PARAMETERS END\n"
        f"DEVICE_PARAMETERS START\nDataUnit = uV\nNumChanThisGroup = {n}\n"
        "DEVICE_PARAMETERS END\n"
    )
    places = [f"{10.0 * i} {5.0 + i} 80.0" for i in range(n)]
    return parameters, listed("LABELS", NAMES) + listed("SENSORS", places)


def write_curry(place: Path) -> Path:
    """Curry 7: parameters and labels in text, single precision sample by sample."""
    parameters, labels = curry_texts()
    (place / "a.dap").write_text(parameters)
    (place / "a.rs3").write_text(labels)
    (place / "a.dat").write_bytes(signal().T.astype("<f4").tobytes())
    return place / "a.dat"


def write_later_curry(place: Path, version: int, ends: tuple[str, str]) -> Path:
    """Curry 8 and 9: everything in one text; three events of two types, one in Latin-1."""
    header, events = ends
    (place / f"a.cdt{header}").write_text(
        f"FileVersion = {version}\n{''.join(curry_texts())}", encoding="utf-8"
    )
    rows = [(250, 7), (500, 7), (625, 9)]
    numbers = "".join(f"{at} 0 {kind} 0 {at} {at} 0 0 0 0 0\n" for at, kind in rows)
    (place / f"a.cdt{events}").write_text(
        f"NUMBER_LIST START\nNUMBER_LIST END\nNUMBER_LIST START_LIST # x\n{numbers}"
        "NUMBER_LIST END_LIST\nREMARK_LIST START_LIST # x\ngo\nöffnen\n\nREMARK_LIST END_LIST\n",
        encoding="latin-1",
    )
    (place / "a.cdt").write_bytes(signal().T.astype("<f4").tobytes())
    return place / "a.cdt"


def write_curry8(place: Path) -> Path:
    return write_later_curry(place, 804, (".dpa", ".cef"))


def write_curry9(place: Path) -> Path:
    return write_later_curry(place, 902, (".dpo", ".ceo"))


def write_nihon(place: Path, comment: bytes = b"go") -> Path:
    """Blocks of control, of 2 s and of 6 s; offset 16 bits, a column of marks behind the channels.

    Channels are numbers of a list that is known (FZ, CZ, PZ) or renamed in the .21E (Oz).
    """
    version, numbers, first_s = b"EEG-1100A V01.00", (16, 17, 18, 19), 2
    calibration = (3199.902 + 3200) / 65535
    offset = -3200 + 32768 * calibration
    steps = np.round((signal() - offset) / calibration).astype("<i2").view("<u2") + np.uint16(32768)
    head = bytearray(0x1800)
    head[0:16] = head[0x81:0x91] = version
    head[0x91], head[0x17FE] = 1, 1
    struct.pack_into("<I", head, 0x92, 0x400)
    head[0x400 + 17] = 2
    content = bytes(head)
    for row, piece in enumerate(np.split(steps, [first_s * SFREQ_HZ], axis=1)):
        head = bytearray(content)
        struct.pack_into("<I", head, 0x400 + 18 + 20 * row, len(head))
        block = bytearray(0x27 + 10 * len(numbers))
        n_times = piece.shape[1]
        struct.pack_into("<HI", block, 0x1A, 0xC000 | SFREQ_HZ, n_times * 10 // SFREQ_HZ)
        block[0x26] = len(numbers)
        block[0x27::10] = bytes(numbers)
        marks = np.zeros((1, n_times), "<u2")
        content = bytes(head) + bytes(block) + np.concatenate([piece, marks]).T.tobytes()
    (place / "a.EEG").write_bytes(content)
    (place / "a.21E").write_text("[ELECTRODE]\n0019=Oz\n[SD_DEF]\n0001=0\n")
    (place / "a.PNT").write_bytes(version.ljust(0x40, b"\0") + b"20200102030405")
    log = bytearray(0x500)
    log[0:16] = version
    log[0x91] = 1
    struct.pack_into("<I", log, 0x92, 0x300)
    struct.pack_into("<I", log, 0x92 + 22 * 20, 0x400)  # fractions of seconds
    for at, row in ((0x300, comment.ljust(20, b"\0") + b"000001"), (0x400, b"\0" * 24 + b"500000")):
        log[at + 1 : at + 17] = version
        log[at + 0x12] = 1
        log[at + 0x14 : at + 0x14 + 45] = row.ljust(45, b"0")
    (place / "a.LOG").write_bytes(bytes(log))
    return place / "a.EEG"


FORMATS: dict[str, tuple[Callable[[Path], Path], float]] = {
    "Nicolet": (write_nicolet, STEP_UV),
    "Persyst": (write_persyst, STEP_UV),
    "Neuroscan CNT": (write_neuroscan, STEP_UV),
    "NEDF": (write_nedf, 0.05),
    "ANT CNT": (write_ant, 0.05),
    "Curry 7": (write_curry, 1e-3),
    "Curry 8": (write_curry8, 1e-3),
    "Curry 9": (write_curry9, 1e-3),
    "Nihon Kohden": (write_nihon, STEP_UV),
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
    np.testing.assert_allclose(recording.read(490, 523), expected[:, 490:523], atol=tolerance_uv)
    np.testing.assert_allclose(recording.read(507, 523), expected[:, 507:523], atol=tolerance_uv)
    files = {"Nicolet": 2, "Persyst": 2, "Curry 7": 3, "Curry 8": 3, "Curry 9": 3}
    assert len(recording.files) == {**files, "Nihon Kohden": 4}.get(name, 1)
    assert [found.path for found in find([tmp_path])] == [recording.path]  # of a folder, too
    events = [(round(one.onset_s, 2), one.description) for one in recording.annotations]
    assert [one for one in events if "boundary" not in one[1]] == EVENTS.get(name, [])
    assert recording.segments == (
        ((0, 500), (500, 2000)) if name == "Nihon Kohden" else ((0, 2000),)
    )


EVENTS = {
    "Persyst": [(1.0, "go")],
    "Neuroscan CNT": [(1.0, "7")],
    "Curry 8": [(1.0, "go"), (2.0, "öffnen"), (2.5, "9")],
    "Curry 9": [(1.0, "go"), (2.0, "öffnen"), (2.5, "9")],
    "Nihon Kohden": [(1.5, "go")],
}


@pytest.mark.parametrize(
    "name", sorted(set(FORMATS) - {"Persyst"})
)  # which has no length to fall short of
def test_truncated_file_of_a_clinic_is_one_line(tmp_path: Path, name: str) -> None:
    path = FORMATS[name][0](tmp_path)
    path.write_bytes(path.read_bytes()[: -(path.stat().st_size // 3)])
    with pytest.raises(InputError) as error:
        opened(path)
    assert path.name in str(error.value)
    assert "\n" not in str(error.value)
    assert re.search("copy the file again|export it again", str(error.value))


def test_events_of_nihon_kohden_in_latin_1_are_kept(tmp_path: Path) -> None:
    recording = opened(write_nihon(tmp_path, "öffnen".encode("latin-1")))
    assert [a.description for a in recording.annotations if a.onset_s == 1.5] == ["öffnen"]


def test_names_of_nihon_kohden_that_would_not_be_read_are_asked_for(tmp_path: Path) -> None:
    path = write_nihon(tmp_path)
    (tmp_path / "a.21E").rename(tmp_path / "a.21e")
    assert [found.path for found in find([tmp_path])] == [path]
    with pytest.raises(InputError, match=r"rename it to a\.21E"):
        opened(path)


def test_anonymised_ant_is_read_though_its_library_crashes_on_the_missing_patient(
    tmp_path: Path,
) -> None:
    path = write_ant(tmp_path, patient=False)
    code = f"import antio.parser as p; p.read_subject_info(antio.read_cnt({str(path)!r}))"
    assert (
        subprocess.run([sys.executable, "-c", f"import antio; {code}"], check=False).returncode < 0
    )
    np.testing.assert_allclose(opened(path).read(0, 2000), signal(), atol=0.05)


def test_ant_that_crashes_its_library_is_one_line_and_the_process_lives(tmp_path: Path) -> None:
    path = write_ant_that_crashes(tmp_path)
    with pytest.raises(InputError) as error:
        opened(path)
    assert re.fullmatch(
        r"a\.cnt: crashed antio, .* \(SIG[A-Z]+\); the file is damaged; .*", str(error.value)
    )


def test_two_formats_of_one_ending_are_told_by_their_content(tmp_path: Path) -> None:
    assert is_ant(write_ant(tmp_path))
    assert not is_ant(write_neuroscan(tmp_path))


def test_curry_events_with_a_lost_remark_are_not_guessed(tmp_path: Path) -> None:
    path = write_curry9(tmp_path)
    events = path.with_name("a.cdt.ceo")
    events.write_bytes(events.read_bytes().replace(b"go\n", b""))
    with pytest.raises(ValueError, match="differ in length"):
        curry_events(path, SFREQ_HZ)
    with pytest.raises(InputError, match=r"^a\.cdt: "):
        opened(path)


def test_midline_electrodes_in_capitals_are_eeg() -> None:
    names = ("FZ", "X1", "DC01", "Mark1")
    assert types_of(names, ("misc", "bio", "misc", "stim")) == ("eeg", "bio", "misc", "stim")
