"""From a model's samples back to files people open: tables as answered, EEG, images.

Everything is written whole or not at all. EEG is FIF or EDF in its own units with names and
positions; images are IDX, or one PNG sheet; tables are CSV or TSV.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ae_pipeline.config import StudyError
from ae_pipeline.kind import Kind, kind_of
from ae_pipeline.runtime.files import write_bytes, write_through
from ae_pipeline.scoring import bundle as bundles
from ae_pipeline.scoring.bundle import Bundle, BundleInfo
from ae_pipeline.tracking.registry import model_folder

__all__ = [
    "check_ending",
    "open_model",
    "sheet",
    "write_epochs",
    "write_images",
    "write_signal",
]


def check_ending(kind: Kind, path: Path) -> None:
    """Refuse a file that is there, or whose ending does not say what it is to hold.

    Raises
    ------
    StudyError
        Before anything is computed.
    """
    if path.is_dir():
        raise StudyError(f"--out {path}: is a folder; name a file")
    if not path.name.endswith(kind.endings):
        raise StudyError(
            f"--out {path.name}: {kind.name} data is written as {', '.join(kind.endings)}; "
            "give the file one of these endings"
        )
    if path.exists():  # it may be somebody's data, the input even
        raise StudyError(f"--out {path}: exists already; name another file, or remove it")


def _info(info: BundleInfo) -> Any:
    """MNE's description of the model's channels."""
    import mne

    assert info.sfreq_hz is not None
    made = mne.create_info(list(info.entries), info.sfreq_hz, "eeg")
    positions = np.array(info.positions_m or [(None,) * 3] * len(info.entries), dtype=float)
    known = np.isfinite(positions).all(1)
    if known.any():
        places = {n: p for n, p, k in zip(info.entries, positions, known, strict=True) if k}
        montage = mne.channels.make_dig_montage(places, coord_frame="head")
        made.set_montage(montage, on_missing="ignore", verbose="ERROR")
    return made


def write_signal(
    path: Path,
    info: BundleInfo,
    *,
    signal_uv: NDArray[np.floating[Any]],
    annotations: Sequence[tuple[float, float, str]] = (),
) -> None:
    """A continuous signal as FIF or EDF.

    Parameters
    ----------
    path : Path
    info : BundleInfo
        Names, positions and rate of the channels.
    signal_uv : array of shape (channels, times)
    annotations : sequence of (onset_s, duration_s, description)
    """
    import mne

    volts = np.asarray(signal_uv, dtype=np.float64) * 1e-6
    raw = mne.io.RawArray(volts, _info(info), verbose="ERROR")
    if annotations:
        onset, duration, text = zip(*annotations, strict=True)
        raw.set_annotations(mne.Annotations(onset, duration, text), verbose="ERROR")
    with write_through(path) as temporary:
        if path.suffix == ".edf":
            mne.export.export_raw(temporary, raw, fmt="edf", overwrite=True, verbose="ERROR")
        else:
            raw.save(temporary, overwrite=True, verbose="ERROR")


def write_epochs(path: Path, info: BundleInfo, *, windows_uv: NDArray[np.floating[Any]]) -> None:
    """Windows (n, channels, times) as MNE epochs, one an event called ``synthetic``."""
    import mne

    volts = np.asarray(windows_uv, dtype=np.float64) * 1e-6
    length = volts.shape[2]
    events = np.column_stack(
        [np.arange(len(volts)) * length, np.zeros(len(volts)), [1] * len(volts)]
    )
    epochs = mne.EpochsArray(
        volts, _info(info), events.astype(int), event_id={"synthetic": 1}, verbose="ERROR"
    )
    with write_through(path) as temporary:
        epochs.save(temporary, overwrite=True, verbose="ERROR")


def write_images(path: Path, images: NDArray[np.floating[Any]]) -> None:
    """Images (n, rows, columns) of 0 to 1 as an IDX file, or as a sheet in one PNG."""
    import gzip

    pixels = np.rint(255 * np.clip(images, 0, 1)).astype(np.uint8)
    if path.suffix == ".png":
        import io

        from matplotlib.image import imsave

        file = io.BytesIO()
        imsave(file, sheet(pixels), cmap="gray", vmin=0, vmax=255, format="png")
        write_bytes(path, file.getvalue())
        return
    header = bytes([0, 0, 0x08, 3]) + np.array(pixels.shape, ">u4").tobytes()
    content = header + pixels.tobytes()
    write_bytes(path, gzip.compress(content, mtime=0) if path.suffix == ".gz" else content)


def sheet(images: NDArray[Any], columns: int | None = None) -> NDArray[Any]:
    """Images (n, rows, columns) beside and below each other, two pixels apart."""
    n, height, width = images.shape
    columns = columns or min(n, max(1, round(np.sqrt(n * 1.6))))
    lines = -(-n // columns)
    out = np.full((lines * (height + 2) - 2, columns * (width + 2) - 2), images.max(), images.dtype)
    for i, image in enumerate(images):
        row, column = divmod(i, columns)
        top, left = row * (height + 2), column * (width + 2)
        out[top : top + height, left : left + width] = image
    return out


def open_model(model: str, out: Path) -> tuple[Path, Bundle]:
    """A model's folder and the model, to write data of its kind to the file ``out``.

    Raises
    ------
    StudyError
        Where the model cannot be read or the file's ending says another kind of data.
    """
    place = model_folder(model)
    bundle = bundles.load(place)
    check_ending(kind_of(bundle.info.kind), out)
    return place, bundle
