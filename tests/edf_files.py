"""EDF files with gaps."""

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
