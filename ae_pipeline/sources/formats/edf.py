"""EDF and BDF, record by record: fast, bounded in memory, with gaps, mixed rates and Latin-1.

Conventions: microvolts, float32; times are seconds from the first record's start. Patient and
recording fields of the header are never looked at.
"""

from __future__ import annotations

import itertools
import math
import re
from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ae_pipeline.data import Annotation, InputError
from ae_pipeline.sources.formats.content import Content, Signal, check_bounds

__all__ = ["VOLTS", "read_edf", "unique_names"]

Float = NDArray[np.float32]

VOLTS = {"uV": 1e-6, "\u00b5V": 1e-6, "\u03bcV": 1e-6, "\x83\xcaV": 1e-6, "mV": 1e-3, "nV": 1e-9}
"""What a physical dimension stands for; volts otherwise, as MNE takes it."""

TAL = re.compile(rb"\x00*([+-]\d+\.?\d*)(?:\x15(\d+\.?\d*))?\x14?(.*)", re.DOTALL)
"""A time-stamped annotation list of EDF+: onset, duration, texts."""


@dataclass(frozen=True)
class _Edf:
    """Layout of an EDF or BDF file (Kemp & Olivan 2003; BioSemi's 24-bit variant)."""

    path: Path
    labels: tuple[str, ...]
    units: tuple[str, ...]
    physical: NDArray[np.float64]  # (signals, 2): minimum, maximum
    digital: NDArray[np.float64]
    per_record: tuple[int, ...]  # samples of each signal in a record
    header_bytes: int
    n_records: int
    record_s: float
    sample_bytes: int
    discontinuous: bool
    began: datetime | None

    @property
    def offsets(self) -> NDArray[np.int64]:
        """Where each signal begins in a record (bytes); the last entry is a record's length."""
        return np.concatenate([[0], np.cumsum(self.per_record)]) * self.sample_bytes

    def records(self, first: int, last: int) -> NDArray[np.uint8]:
        """Bytes of some records; read, not mapped: mapped pages would count as memory."""
        width = int(self.offsets[-1])
        offset = self.header_bytes + first * width
        data = np.fromfile(self.path, np.uint8, (last - first) * width, offset=offset)
        if len(data) < (last - first) * width:
            raise InputError(f"{self.path.name}: ends early; it changed while it was being read")
        return data.reshape(last - first, width)

    def texts(self, signal: int) -> Iterator[bytes]:
        """One signal's bytes in each record."""
        offsets = self.offsets.tolist()
        begin, end, width = offsets[signal], offsets[signal + 1], offsets[-1]
        with self.path.open("rb", buffering=0) as file:
            for record in range(self.n_records):
                file.seek(self.header_bytes + record * width + begin)
                yield file.read(end - begin)


def read_edf(path: Path) -> Content:
    """Open an EDF or BDF file.

    Raises
    ------
    InputError
        It is none, or its header is damaged.
    """
    edf, notes = _edf_layout(path)
    check_bounds(
        path.name, [per / edf.record_s for per in edf.per_record], edf.n_records * edf.record_s
    )
    talking = [i for i, label in enumerate(edf.labels) if label.endswith("DF Annotations")]
    signals = [i for i in range(len(edf.labels)) if i not in talking]
    starts_s, annotations, timing = _edf_annotations(edf, talking)
    usable = (np.ptp(edf.physical, axis=1) != 0) & (np.ptp(edf.digital, axis=1) != 0)

    def signal(rows: list[int]) -> Signal:
        return _edf_signal(edf, [signals[row] for row in rows], starts_s=starts_s)

    return Content(
        names=unique_names([edf.labels[i] for i in signals]),
        types=tuple("eeg" if usable[i] else "physical range undefined" for i in signals),
        rates_hz=tuple(edf.per_record[i] / edf.record_s for i in signals),
        positions_m=np.full((len(signals), 3), math.nan),
        annotations=annotations,
        files=(path,),
        signal=signal,
        codes=lambda row: _edf_values(edf, signals[row], starts_s=starts_s),
        volts=tuple(VOLTS.get(edf.units[i], 1.0) for i in signals),
        notes=(*notes, *timing),
        whole_numbers=bool(usable.all()),
        orig_time=edf.began,
    )


def unique_names(names: list[str]) -> tuple[str, ...]:
    """Names that occur more than once get running numbers, as MNE does it."""
    counts, seen = Counter(names), Counter[str]()
    unique = []
    for name in names:
        unique.append(f"{name}-{seen[name]}" if counts[name] > 1 else name)
        seen[name] += 1
    return tuple(unique)


def _edf_layout(path: Path) -> tuple[_Edf, tuple[str, ...]]:
    """The header, checked against the file's size."""
    size = path.stat().st_size
    with path.open("rb") as file:
        fixed = file.read(256)
        is_bdf = fixed[:8] == b"\xffBIOSEMI"
        kind = "BDF" if is_bdf else "EDF"
        if len(fixed) < 256 or not (is_bdf or re.match(rb"0[ \x00]{7}", fixed)):
            raise InputError(
                f"{path.name}: is no {path.suffix[1:].upper()} file, whatever its name says (the "
                "first bytes are not an EDF or BDF header); export it again as EDF"
            )
        try:
            header_bytes, n_signals = int(_text(fixed[184:192])), int(_text(fixed[252:256]))
            n_records, record_s = int(_text(fixed[236:244])), _number(fixed[244:252])
            described = file.read(256 * n_signals)
            if n_signals < 1 or len(described) < 256 * n_signals:
                raise ValueError
            widths = (16, 80, 8, 8, 8, 8, 8, 80, 8, 32)
            fields, at = [], 0
            for width in widths:
                column = described[at : at + width * n_signals]
                fields.append([column[i : i + width] for i in range(0, len(column), width)])
                at += width * n_signals
            per_record = tuple(int(_text(field)) for field in fields[8])
            ranges = np.array([[_number(field) for field in fields[k]] for k in (3, 4, 5, 6)])
            if min(per_record) < 0 or sum(per_record) == 0 or not np.isfinite(ranges).all():
                raise ValueError
            if not math.isfinite(record_s):
                raise ValueError
        except ValueError:
            raise InputError(
                f"{path.name}: its {kind} header is damaged (a number is expected where there is "
                "none); copy the file again or export it again"
            ) from None
    notes = []
    if record_s <= 0:
        raise InputError(
            f"{path.name}: its {kind} header gives records of {record_s:g} s, so it holds "
            "annotations only; name the file with the signal"
        )
    if header_bytes != 256 * (n_signals + 1):
        header_bytes = 256 * (n_signals + 1)
        notes.append(f"the {kind} header misstates its own length")
    record_bytes = sum(per_record) * (3 if is_bdf else 2)
    whole, rest = divmod(max(0, size - header_bytes), record_bytes)
    missing = n_records - whole
    if whole == 0 and n_records <= 0:
        raise InputError(f"{path.name}: is a header without a signal; drop the file")
    if whole == 0:
        raise InputError(
            f"{path.name}: is truncated: its header promises {n_records * record_s:g} s, the "
            f"file holds {whole * record_s:g} s; copy it again from the source"
        )
    if n_records < 0:
        notes.append("the header leaves the length open; taken from the file's size")
    elif missing == 1 and rest:
        notes.append("the last data record is incomplete and left out")
    elif missing > 0:
        notes.append(
            f"the file ends early: its header promises {n_records * record_s:g} s, it holds "
            f"{whole * record_s:g} s; read as far as it goes"
        )
    elif missing < 0:
        notes.append(f"the file holds {whole * record_s:g} s, more than its header says; all used")
    elif rest:
        notes.append("an incomplete data record after the last is left out")
    layout = _Edf(
        path=path,
        labels=tuple(_text(field) for field in fields[0]),
        units=tuple(_text(field) for field in fields[2]),
        physical=ranges[:2].T,
        digital=ranges[2:].T,
        per_record=per_record,
        header_bytes=header_bytes,
        n_records=whole,
        record_s=record_s,
        sample_bytes=3 if is_bdf else 2,
        discontinuous=fixed[192:197] in (b"EDF+D", b"BDF+D"),
        began=_began(fixed),
    )
    return layout, tuple(notes)


def _began(fixed: bytes) -> datetime | None:
    """When the recording began, as MNE has it: the date with four digits, where there is one."""
    date = None
    told = fixed[88:168].decode("latin-1").rstrip().split(" ")
    with suppress(ValueError):
        date = datetime.strptime(told[1], "%d-%b-%Y") if len(told) == 5 else None
    try:
        if date is None:
            day, month, year = (int(part) for part in fixed[168:176].decode("latin-1").split("."))
            date = datetime(year + (2000 if year < 85 else 1900), month, day)
    except ValueError:
        return None
    with suppress(ValueError):
        hour, minute, second = (int(part) for part in fixed[176:184].decode("latin-1").split("."))
        date = date.replace(hour=hour, minute=minute, second=second)
    return date.replace(tzinfo=UTC)


def _text(field: bytes) -> str:
    return field.decode("latin-1").split("\x00")[0].strip()


def _number(field: bytes) -> float:
    return float(_text(field).replace(",", "."))


def _edf_annotations(
    edf: _Edf, talking: list[int]
) -> tuple[NDArray[np.float64], tuple[Annotation, ...], tuple[str, ...]]:
    """Start of each record, and annotations, in seconds from the first record's start; notes.

    A list that keeps time has an empty first text; it need not come first, and may be missing.
    """
    starts_s = np.arange(edf.n_records, dtype=np.float64) * edf.record_s
    annotations: list[Annotation] = []
    told_s = np.full(edf.n_records, np.nan)
    for signal in talking:
        for record, content in enumerate(edf.texts(signal)):
            for tal in content.split(b"\x14\x00"):
                match = TAL.match(tal)
                if match is None:
                    continue
                onset_s, duration_s = float(match[1]), float(match[2] or 0)
                texts = match[3].split(b"\x14")
                if not texts[0] and np.isnan(told_s[record]):
                    told_s[record] = onset_s
                annotations += [
                    Annotation(onset_s, duration_s, _decoded(text)) for text in texts if text
                ]
    told = np.flatnonzero(np.isfinite(told_s))
    if not len(told):
        kept = "its records keep no time (EDF+D); taken as continuous"
        return starts_s, tuple(annotations), (kept,) if edf.discontinuous else ()
    begin_s = float(told_s[told[0]] - starts_s[told[0]])
    annotations = [replace(one, onset_s=one.onset_s - begin_s) for one in annotations]
    notes: tuple[str, ...] = ()
    if edf.discontinuous:
        # a record that keeps no time follows the one before it
        told_s[0] = begin_s if np.isnan(told_s[0]) else told_s[0]
        at = np.arange(edf.n_records)
        last = np.maximum.accumulate(np.where(np.isfinite(told_s), at, 0))
        told_s = told_s[last] + (at - last) * edf.record_s
        if len(told) < edf.n_records:
            notes = (f"{edf.n_records - len(told)} records keep no time; each follows the last",)
        starts_s = told_s - float(told_s[0])
        if (np.diff(starts_s) < edf.record_s * 0.99).any():
            raise InputError(
                f"{edf.path.name}: its data records overlap or are out of order (EDF+D); "
                "export it again as a continuous file"
            )
        check_bounds(edf.path.name, (), float(starts_s[-1]))
    return starts_s, tuple(annotations), notes


def _decoded(text: bytes) -> str:
    try:
        return text.decode("utf-8")
    except UnicodeDecodeError:
        return text.decode("latin-1")


def _edf_signal(edf: _Edf, signals: list[int], *, starts_s: NDArray[np.float64]) -> Signal:
    """Reader of signals that share a rate; gaps between records are zeros that no segment has."""
    per = edf.per_record[signals[0]]
    rate_hz = per / edf.record_s
    starts = np.round(starts_s * rate_hz).astype(np.int64)
    # records that follow each other are one piece: (first sample in time, first in file, samples)
    breaks = np.flatnonzero(np.abs(np.diff(starts) - per) > 1) + 1
    firsts = np.concatenate([[0], breaks])
    counts = np.diff(np.append(firsts, edf.n_records)) * per
    pieces = [(int(starts[r]), int(r) * per, int(n)) for r, n in zip(firsts, counts, strict=True)]
    spans = [(begin, begin + n) for begin, _, n in pieces]
    digital, physical = edf.digital[signals], edf.physical[signals]
    gains = (physical[:, 1] - physical[:, 0]) / (digital[:, 1] - digital[:, 0])
    offsets = physical[:, 0] - digital[:, 0] * gains
    microvolts = np.array([VOLTS.get(edf.units[signal], 1.0) * 1e6 for signal in signals])
    gains *= microvolts
    offsets *= microvolts
    gaps = tuple((end, begin) for (_, end), (begin, _) in itertools.pairwise(spans) if begin > end)

    def reader(start: int, stop: int) -> Float:
        out = np.zeros((len(signals), stop - start), np.float32)
        for begin, in_file, n in pieces:
            a, b = max(start, begin), min(stop, begin + n)
            if a < b:
                codes = _edf_codes(
                    edf, signals, start=a - begin + in_file, stop=b - begin + in_file
                )
                values = np.empty(b - a)  # in float64, as MNE does it
                for row, code in enumerate(codes):
                    np.multiply(code, gains[row], out=values)
                    here = out[row, a - start : b - start]
                    np.add(values, offsets[row], out=here, casting="same_kind")
        return out

    return Signal(spans[-1][1], gaps, reader)


def _edf_codes(
    edf: _Edf, signals: list[int], *, start: int, stop: int
) -> Iterator[NDArray[np.int16 | np.int32]]:
    """Samples ``start`` to ``stop`` of the file as stored, signal by signal."""
    per = edf.per_record[signals[0]]
    first, last = start // per, -(-stop // per)
    records, offsets = edf.records(first, last), edf.offsets
    for signal in signals:
        digital = _digital(records[:, offsets[signal] : offsets[signal + 1]], edf.sample_bytes)
        yield digital[start - first * per : stop - first * per]


def _digital(code: NDArray[np.uint8], sample_bytes: int) -> NDArray[np.int16 | np.int32]:
    """Stored numbers, from bytes of 16 or 24 bits each."""
    if sample_bytes == 2:
        digital: NDArray[Any] = np.ascontiguousarray(code).view("<i2")
    else:
        word = np.zeros((len(code), code.shape[1] // 3, 4), np.uint8)
        word[:, :, 1:] = code.reshape(len(code), -1, 3)
        digital = word.view("<i4") >> 8
    return digital.reshape(-1)


def _edf_values(
    edf: _Edf, signal: int, *, starts_s: NDArray[np.float64]
) -> Iterator[tuple[float, NDArray[np.float64]]]:
    """One signal in its own unit, record by record, each with its onset; BDF as it is stored."""
    (low, high), (least, most) = edf.physical[signal], edf.digital[signal]
    plain = edf.sample_bytes == 3 or most == least or high == low
    gain = 1.0 if plain else float((high - low) / (most - least))
    for onset_s, content in zip(starts_s.tolist(), edf.texts(signal), strict=True):
        values = _digital(np.frombuffer(content, np.uint8)[None], edf.sample_bytes).astype(float)
        if not plain:
            values = (values - least) * gain + low
            whole = np.rint(values)
            if abs(gain) < 0.05 and (np.abs(values - whole) <= abs(gain)).all():
                values = whole  # codes, as near as the steps of the file come to them
        yield onset_s, values
