"""EDF files with gaps, and with headers and annotation lists that no library would write."""

from __future__ import annotations

from pathlib import Path

import numpy as np


def write_edf(
    path: Path,
    data: np.ndarray,
    labels: list[str],
    sfreq_hz: float = 100.0,
    rates: dict[str, float] | None = None,
    **keys: object,
) -> Path:
    import edfio

    rates = rates or {}
    signals = []
    for row, label in zip(data, labels, strict=True):
        rate = rates.get(label, sfreq_hz)
        values = np.interp(
            np.arange(int(len(row) / sfreq_hz * rate)) / rate * sfreq_hz,
            *[np.arange(len(row)), row],
        )
        physical = (-np.ceil(np.abs(row).max() + 1), np.ceil(np.abs(row).max() + 1))
        signals.append(
            edfio.EdfSignal(
                values, rate, label=label, physical_dimension="uV", physical_range=physical
            )
        )
    edfio.Edf(signals, data_record_duration=1.0, **keys).write(path)
    return path


def discontinuous(
    path: Path,
    data: np.ndarray,
    gap_after: int,
    gap_s: int,
    names: tuple[str, ...] = ("Fz", "Cz"),
) -> Path:
    """An EDF+D whose records from ``gap_after`` on start ``gap_s`` later."""
    import edfio

    onset_s = gap_after + 1.5
    room = edfio.EdfAnnotation(0.0, None, "makes room in every record")
    marks = [room, edfio.EdfAnnotation(onset_s, 0.25, "mark")]
    write_edf(path, data, list(names), annotations=marks)
    content = bytearray(path.read_bytes())
    content[192:197] = b"EDF+D"
    moves = [(b"+%.1f" % onset_s, b"+%.1f" % (onset_s + gap_s))]
    moves += [(b"+%d" % r, b"+%d" % (r + gap_s)) for r in range(gap_after, data.shape[1] // 100)]
    for old, new in moves:
        at = content.index(old + (b"\x15" if b"." in old else b"\x14\x14"), 256 * (len(names) + 2))
        end = content.index(b"\x00\x00\x00", at)
        content[at : end + len(new) - len(old)] = new + content[at + len(old) : end]
    path.write_bytes(content)
    return path


def tal(onset: str, text: str = "") -> bytes:
    """A time-stamped annotation list; without a text it keeps the time of its record."""
    return f"{onset}\x14{text}\x14\x00".encode()


def bare(
    path: Path,
    rows: np.ndarray,
    names: tuple[str, ...],
    *,
    sfreq_hz: int = 100,
    units: tuple[str, ...] | None = None,
    lists: dict[int, bytes] | None = None,
    kind: str = "",
    record_s: str = "1",
    physical: float = 3276.7,
) -> Path:
    """An EDF or BDF (by its ending) of records of one second, header fields as they are given.

    ``lists`` maps records to annotation lists; with it the file has an annotation signal.
    """
    is_bdf = path.suffix == ".bdf"
    size, top = (3, 2**23) if is_bdf else (2, 2**15)
    labels, dimensions = list(names), list(units or ("uV",) * len(names))
    if lists is not None:
        labels, dimensions = [*labels, f"{path.suffix[1:4].upper()} Annotations"], [*dimensions, ""]
    n, n_records = len(labels), rows.shape[1] // sfreq_hz
    per = [sfreq_hz] * len(names) + [120 // size] * (lists is not None)

    def column(values: list[object], width: int) -> bytes:
        return b"".join(str(value).encode("latin-1")[:width].ljust(width) for value in values)

    header = b"\xffBIOSEMI" if is_bdf else b"0".ljust(8)
    header += b" " * 160 + b"01.01.8500.00.00" + column([256 * (n + 1)], 8) + column([kind], 44)
    header += column([n_records, record_s], 8) + column([n], 4) + column(labels, 16) + b" " * 80 * n
    header += column(dimensions, 8) + column([-physical] * n, 8) + column([physical] * n, 8)
    header += column([1 - top] * n, 8) + column([top - 1] * n, 8) + b" " * 80 * n
    header += column(per, 8) + b" " * 32 * n
    codes = np.rint(rows / physical * (top - 1)).astype("<i4")
    with path.open("wb") as file:
        file.write(header)
        for record in range(n_records):
            for row in codes[:, record * sfreq_hz : (record + 1) * sfreq_hz]:
                wide = np.ascontiguousarray(row).view(np.uint8).reshape(-1, 4)
                file.write(wide[:, :size].tobytes())
            if lists is not None:
                file.write(lists.get(record, b"").ljust(120, b"\0"))
    return path
