"""Windows of all recordings of a study, on disk."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ae_pipeline.data import InputError, Recording, RobustStats, Samples, Windows
from ae_pipeline.eeg.cleaning import apply
from ae_pipeline.eeg.features import fit_robust_stats
from ae_pipeline.eeg.preprocess import Plan
from ae_pipeline.eeg.sampling import sample_windows
from ae_pipeline.eeg.windows import grid_of, meta_of, samples_of, some_names
from ae_pipeline.runtime.files import write_through

if TYPE_CHECKING:
    from ae_pipeline.eeg.windows import Float, Grid, Windowing

__all__ = [
    "materialise",
]

STATS = tuple(field.name for field in fields(RobustStats))


def materialise(
    parts: Sequence[tuple[Recording, Plan]], windowing: Windowing, *, path: Path
) -> Samples:
    """All windows of many recordings, on one memory-mapped file.

    Parameters
    ----------
    parts : sequence of (Recording, Plan)
        With the same channels in the same order, cleaned to the same rate.
    windowing : Windowing
    path : Path
        Folder for ``signal.npy``, cleaned segments end to end, (times, channels), with what the
        reference took away and each recording's robust statistics beside it. What is there already
        is used as it is: name the folder by a key of everything that goes in.

    Returns
    -------
    Samples
        Without ``raw``; ``meta`` as in :func:`cut`, the recordings in the given order.

    Raises
    ------
    InputError
        Channels or rates differ between recordings, or a recording has no window.
    """
    import pandas as pd

    if not parts:
        raise InputError("no recording to cut into windows; check source.path and source.pattern")
    for recording, plan in parts[1:]:
        _check_alike(recording, plan, *parts[0])
    grids = [grid_of(recording, plan, windowing=windowing) for recording, plan in parts]
    metas, starts, total = [], [], 0
    for (recording, plan), grid in zip(parts, grids, strict=True):
        metas.append(
            meta_of(recording, plan, grid=grid, onsets_s=np.concatenate(grid.onsets_s), done=0)
        )
        for segment, here in enumerate(grid.starts):
            starts.append(here + total)
            total += plan.n_out(segment)
    shape = (int(total), len(parts[0][1].ch_names))  # MNE counts in numpy integers
    every, length = np.concatenate(starts), grids[0].length
    files = path / "signal.npy", path / "common.npy", path / "robust_stats.npz"
    names = [recording.name for recording, _ in parts]

    def opened() -> tuple[Float | None, Float | None, dict[str, RobustStats] | None]:
        signal, common = _opened(files[0], shape), _opened(files[1], (shape[0], 1))
        return signal, common, _opened_stats(files[2], names)

    signal, common, stats = opened()
    if signal is None or common is None or stats is None:
        with (
            write_through(files[0]) as temporary,
            write_through(files[1]) as beside,
            write_through(files[2]) as known,
        ):
            written = _write_signal(parts, temporary, beside=beside, shape=shape)
            windows = [Windows(array, every, length) for array in written]
            _write_stats(parts, grids, windows=windows, file=known)
        signal, common, stats = opened()
    assert signal is not None
    assert common is not None
    assert stats is not None
    average = any(plan.reference == "average" for _, plan in parts)
    samples = samples_of(
        Windows(signal, every, length),
        pd.concat(metas, ignore_index=True),
        plan=parts[0][1],
        common=Windows(common, every, length) if average else None,
    )
    return replace(samples, robust_stats=stats)


def _opened(file: Path, shape: tuple[int, int]) -> Float | None:
    """A signal that was written earlier; None where there is none or it is damaged."""
    if not file.is_file():
        return None
    try:
        # copy-on-write: torch warns of arrays it could not write to, the file stays as it is
        signal: Float = np.load(file, mmap_mode="c", allow_pickle=False)
    except (ValueError, OSError):
        return None
    return signal if signal.shape == shape and signal.dtype == np.float32 else None


def _write_signal(
    parts: Sequence[tuple[Recording, Plan]], file: Path, *, beside: Path, shape: tuple[int, int]
) -> tuple[Float, Float]:
    signal = np.lib.format.open_memmap(file, mode="w+", dtype=np.float32, shape=shape)
    common = np.lib.format.open_memmap(beside, mode="w+", dtype=np.float32, shape=(shape[0], 1))
    at = 0
    for recording, plan in parts:
        for block in apply(plan, recording):
            n = block.clean.shape[1]
            signal[at : at + n] = block.clean.T
            common[at : at + n] = block.common.T
            at += n
    signal.flush()
    common.flush()
    return signal, common


def _write_stats(
    parts: Sequence[tuple[Recording, Plan]],
    grids: Sequence[Grid],
    *,
    windows: Sequence[Windows],
    file: Path,
) -> None:
    """From cleaned signal and what the reference took away; scoring takes the same windows.

    By the recording's number: its name may hold what an archive's member may not.
    """
    state: dict[str, NDArray[Any]] = {"n": np.array(len(parts))}
    done = 0
    for number, ((_, plan), grid) in enumerate(zip(parts, grids, strict=True)):
        chosen = [*sample_windows(plan, grid).values()]
        if chosen:
            rows = np.concatenate(chosen) + done
            signal, common = (each[rows] for each in windows)
            signal += common
            stats = fit_robust_stats(signal, plan.sfreq_hz)
            if stats is not None:
                state |= {f"{number}_{name}": array for name, array in vars(stats).items()}
        done += sum(len(starts) for starts in grid.starts)
    with file.open("wb") as stream:
        np.savez(stream, allow_pickle=False, **state)


def _opened_stats(file: Path, names: list[str]) -> dict[str, RobustStats] | None:
    """What was written earlier; None where there is nothing or it is damaged."""
    from zipfile import BadZipFile

    if not file.is_file():
        return None
    try:
        with np.load(file, allow_pickle=False) as state:
            if int(state["n"]) != len(names):
                return None
            return {
                name: RobustStats(*(state[f"{i}_{part}"] for part in STATS))
                for i, name in enumerate(names)
                if f"{i}_center" in state
            }
    except (ValueError, OSError, KeyError, BadZipFile):
        return None


def _check_alike(recording: Recording, plan: Plan, first: Recording, first_plan: Plan) -> None:
    """Recordings that are to stand in one array need the same channels and the same rate."""
    if recording.ch_names != first.ch_names:
        extra = [name for name in recording.ch_names if name not in first.ch_names]
        lacking = [name for name in first.ch_names if name not in recording.ch_names]
        found = [f"has {some_names(extra)} more"] if extra else []
        found += [f"lacks {some_names(lacking)}"] if lacking else []
        raise InputError(
            f"recording {recording.name!r} {' and '.join(found) or 'has the same channels in '}"
            f"{'' if found else 'another order'} compared with {first.name!r}; set source.pick to "
            "the channels common to all, put the others under source.exclude, or drop the file"
        )
    if plan.sfreq_hz != first_plan.sfreq_hz:
        raise InputError(
            f"recording {recording.name!r} is cleaned to {plan.sfreq_hz:g} Hz, {first.name!r} to "
            f"{first_plan.sfreq_hz:g} Hz; set preprocess.sfreq_hz to the lower"
        )
