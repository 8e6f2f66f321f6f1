"""Every format but EDF and BDF, through MNE; what MNE says is never shown as it is.

Conventions: MNE reads volts; microvolts, float32 leave this module. Epochs are laid end to end,
in their order, each with an annotation of its event's name at its time zero; nothing is filtered
or windowed across their edges.
"""

from __future__ import annotations

import glob
import io
import logging
import re
import threading
import warnings
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext, redirect_stdout
from dataclasses import replace
from importlib.util import find_spec
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ae_pipeline.data import Annotation, InputError
from ae_pipeline.sources.finding import EPOCHS
from ae_pipeline.sources.formats.ant import is_ant, read_ant
from ae_pipeline.sources.formats.brainvision import open_brainvision, parts_of
from ae_pipeline.sources.formats.content import Content, Signal, check_bounds, scale_of
from ae_pipeline.sources.formats.curry import curry_events
from ae_pipeline.sources.formats.fif import is_endless
from ae_pipeline.sources.formats.headers import check_header
from ae_pipeline.sources.formats.matlab import is_damaged, is_v73
from ae_pipeline.sources.formats.neuroscan import open_neuroscan
from ae_pipeline.sources.formats.nihon import PARTS, blocks_begin, open_nihon, types_of

if TYPE_CHECKING:
    import mne

__all__ = ["open_raw", "read_mne"]

Float = NDArray[np.float32]

NEDF_BLOCK = 5
"""Samples that NEDF stores together; MNE reads only from the first of a block on."""

BOUNDARY_99 = re.compile(r"-99(\.0*)?")

CODES_S = 60.0
"""How much of a trigger channel is read at once."""

COMPANIONS = {".data": (".head",), ".dat": (".dap", ".rs3", ".cef", ".ceo")} | {
    ".cdt": (".dpa", ".dpo", ".cef", ".ceo"),
    ".eeg": (*PARTS, ".pnt"),
}
"""Files that stand beside a recording without being named in it (Nicolet, Curry, Nihon Kohden)."""


def read_mne(path: Path) -> Content:
    """Open through ``mne.io.read_raw``, or as epochs where the file holds those.

    Raises
    ------
    InputError
        MNE cannot open it.
    """
    if path.suffix.lower() == ".fif" and path.is_file() and is_endless(path):
        raise InputError(_unreadable(path, ValueError("its tags lead back to themselves")))
    if path.suffix.lower() == ".set" and path.is_file() and is_v73(path):
        lacking = [name for name in ("pymatreader", "h5py") if find_spec(name) is None]
        if lacking:
            raise InputError(
                f"{path.name}: is saved as MATLAB 7.3, which needs the package "
                f"{' and '.join(lacking)} to be read; install it (pip install {' '.join(lacking)}) "
                "or save it as MATLAB 6 in EEGLAB"
            )
    if path.suffix.lower() == ".set" and path.is_file() and is_damaged(path):
        raise InputError(_unreadable(path, ValueError("lengths in it contradict each other")))
    if is_ant(path):
        return read_ant(path)
    if path.suffix.lower() in (".vhdr", ".ahdr", ".lay") and path.is_file():
        check_header(path)
    # readers print, and what we print are results
    with warnings.catch_warnings(record=True) as caught, _unheard(), redirect_stdout(io.StringIO()):
        warnings.simplefilter("always")
        try:
            content = _content(path)
        except InputError:
            raise
        except Exception as error:
            try:
                if not _may_hold_epochs(path, error):
                    raise error
                content = _epoch_content(path, _epochs(path))
            except Exception:
                # MNE's own words may quote the header, where names stand
                raise InputError(_unreadable(path, error)) from None
    warned = [str(one.message) for one in caught]
    said = dict.fromkeys(_told(text, path) for text in warned if not USUAL_WARNINGS.search(text))
    notes = [f"MNE: {text}" for text in said][:MOST_WARNINGS]
    return replace(content, notes=(*content.notes, *notes))


def open_raw(path: Path) -> mne.io.BaseRaw | None:
    """Open as MNE does; None where MNE cannot read it as one continuous recording."""
    import mne

    if EPOCHS.search(path.name) or is_ant(path):
        return None
    with warnings.catch_warnings(), _unheard(), _unseen(path):
        warnings.simplefilter("ignore")
        try:
            raw = _raw(path)
        except Exception:  # whatever a reader of MNE raises
            return None
    if isinstance(raw, mne.BaseEpochs) or (path.suffix.lower() == ".eeg" and blocks_begin(raw)):
        return None
    return raw


def _told(warning: str, path: Path) -> str:
    """A warning in one line, without paths and without what it quotes from a header."""
    text = " ".join(warning.split())
    for place in (str(path), str(path.parent), path.name, path.stem):
        text = text.replace(place, "...")
    text = re.sub(r"\S*[/\\]\S+", "...", text)
    if re.search("subject|patient|birth|name of", text, re.IGNORECASE):
        text = "something about the subject is not as it should be; it is not used"
    text = "".join(c if c.isprintable() else "?" for c in text)
    return text if len(text) <= MOST_QUOTED else text[: MOST_QUOTED - 3] + "..."


def _content(path: Path) -> Content:
    import mne

    opened = _epochs(path) if EPOCHS.search(path.name) else _raw(path)
    if isinstance(opened, mne.BaseEpochs):  # of Curry files, too
        return _epoch_content(path, opened)
    return _raw_content(path, opened)


@contextmanager
def _unheard() -> Iterator[None]:
    """What MNE logs quotes paths and headers; what it warns of is kept and becomes a note.

    The package that reads Curry logs to the root, and would have it print from then on.
    """
    root, silent = logging.getLogger(), logging.NullHandler()
    loggers = (logging.getLogger("mne"), root)
    root.addHandler(silent)
    for logger in loggers:
        logger.addFilter(_nothing)
    try:
        yield
    finally:
        root.removeHandler(silent)
        for logger in loggers:
            logger.removeFilter(_nothing)


def _unseen(path: Path) -> AbstractContextManager[Any]:
    """The package that reads MFF prints; what we print are results."""
    return redirect_stdout(io.StringIO()) if path.suffix.lower() == ".mff" else nullcontext()


def _nothing(record: logging.LogRecord) -> bool:
    return False


def _microvolts(volts: NDArray[np.float64]) -> Float:
    """Beyond float32 lies no EEG: infinite, and counted as not a number."""
    with np.errstate(over="ignore", invalid="ignore"):
        values: Float = (volts * 1e6).astype(np.float32)
    return values


def _may_hold_epochs(path: Path, error: Exception) -> bool:
    """Whether MNE's refusal to read a continuous recording may be for its being epochs."""
    name = path.name.lower()
    said = str(error)
    return (name.endswith(".set") and "trials" in said) or (
        name.endswith((".fif", ".fif.gz")) and "No raw data" in said
    )


def _raw(path: Path) -> mne.io.BaseRaw | mne.BaseEpochs:
    import mne

    if path.suffix.lower() == ".raw":  # EGI's simple binary, which read_raw does not know
        return mne.io.read_raw_egi(path, preload=False, verbose="WARNING")
    if path.suffix.lower() == ".data":  # Nicolet, whose kind of channels MNE wants to be told
        return mne.io.read_raw_nicolet(path, "eeg", preload=False, verbose="WARNING")
    if path.suffix.lower() in (".vhdr", ".ahdr"):
        return open_brainvision(path)
    if path.suffix.lower() == ".eeg":
        return open_nihon(path)
    if path.suffix.lower() == ".cnt":  # or MNE would let ANT's library try, which may not return
        return open_neuroscan(path)
    return mne.io.read_raw(path, preload=False, verbose="WARNING")


def _epochs(path: Path) -> mne.BaseEpochs:
    import mne

    if path.suffix.lower() == ".set":
        return mne.io.read_epochs_eeglab(path, verbose="ERROR")
    return mne.read_epochs(path, preload=False, verbose="ERROR")


def _raw_content(path: Path, raw: mne.io.BaseRaw) -> Content:
    kind = path.suffix.lower()
    cuts = blocks_begin(raw) if kind == ".eeg" else ()

    def signal(rows: list[int]) -> Signal:
        values = _mne_values(raw, rows, path=path, cuts=cuts)
        return Signal(int(raw.n_times), (), lambda start, stop: _microvolts(values(start, stop)))

    def codes(row: int) -> Iterator[tuple[float, NDArray[np.float64]]]:
        read = _mne_values(raw, [row], path=path, cuts=cuts)
        step, sfreq_hz = max(1, round(CODES_S * raw.info["sfreq"])), float(raw.info["sfreq"])
        for start in range(0, int(raw.n_times), step):
            yield start / sfreq_hz, read(start, min(start + step, int(raw.n_times)))[0]

    annotations = tuple(
        Annotation(float(one["onset"]) - raw.first_time, float(one["duration"]), text)
        for one in raw.annotations
        if (text := str(one["description"]).replace("\0", ""))
    )
    if kind == ".set":  # EEGLAB's code for a boundary where its types are numbers
        annotations = tuple(
            replace(one, description="boundary") if BOUNDARY_99.fullmatch(one.description) else one
            for one in annotations
        )
    if kind in (".cdt", ".dat"):
        annotations = curry_events(path, float(raw.info["sfreq"])) or annotations
    usual = 1.0 if kind in (".fif", ".gz") else 1e-6
    content = _of_info(
        raw.info,
        annotations=annotations,
        files=_files(path, raw),
        signal=signal,
        orig_time=raw.annotations.orig_time,
        first_time_s=float(raw.first_time),
        codes=codes,
        volts=tuple(scale_of(raw._orig_units.get(name, "")) or usual for name in raw.ch_names),
    )
    if kind == ".eeg":
        return replace(content, types=types_of(content.names, content.types))
    return content


def _epoch_content(path: Path, epochs: mne.BaseEpochs) -> Content:
    """Epochs laid end to end; time zero of each is annotated with its event's name."""
    if not len(epochs):
        raise InputError(f"{path.name}: holds no epochs (all were dropped); drop the file")
    n_each, sfreq_hz = len(epochs.times), float(epochs.info["sfreq"])
    names = {code: name for name, code in epochs.event_id.items()}
    zero_s = max(0.0, -float(epochs.tmin))
    lock = threading.Lock()

    def signal(rows: list[int]) -> Signal:
        def reader(start: int, stop: int) -> Float:
            first, last = start // n_each, -(-stop // n_each)
            with lock, warnings.catch_warnings():
                warnings.simplefilter("ignore")
                try:
                    data = epochs[first:last].get_data(picks=rows, verbose="ERROR")
                except Exception as error:
                    raise InputError(
                        f"{path.name}: epoch {first + 1} and on cannot be read "
                        f"({type(error).__name__} in MNE); save the epochs again"
                    ) from None
            joined = np.moveaxis(data, 1, 0).reshape(len(rows), -1)
            begin = start - first * n_each
            return _microvolts(joined[:, begin : begin + stop - start])

        n_times = len(epochs) * n_each
        return Signal(n_times, (), reader, tuple(range(n_each, n_times, n_each)))

    content = _of_info(
        epochs.info,
        annotations=tuple(
            Annotation(number * n_each / sfreq_hz + zero_s, 0.0, names.get(code, str(code)))
            for number, code in enumerate(epochs.events[:, 2].tolist())
        ),
        files=_files(path, epochs),
        signal=signal,
    )
    note = (
        f"the file holds {len(epochs)} epochs of {n_each / sfreq_hz:.4g} s ({epochs.tmin:g} to "
        f"{epochs.tmax:g} s around their events); onsets count along the epochs laid end to end"
    )
    return replace(content, notes=(note,), epoched=True)


def _of_info(info: mne.Info, **content: Any) -> Content:
    check_bounds(content["files"][0].name, [float(info["sfreq"])], 0.0)
    spots = [channel["loc"][:3] for channel in info["chs"]]
    line_freq_hz = info.get("line_freq")
    return Content(
        names=tuple(info["ch_names"]),
        types=tuple(info.get_channel_types()),
        rates_hz=(float(info["sfreq"]),) * len(info["ch_names"]),
        positions_m=np.array(spots, np.float64).reshape(-1, 3),
        bads=tuple(info["bads"]),
        line_freq_hz=None if not line_freq_hz else float(line_freq_hz),
        **content,
    )


MOST_WARNINGS, MOST_QUOTED = 5, 200
"""How many warnings are passed on, and how many characters of each."""

USUAL_WARNINGS = re.compile(r"naming conventions|'boundary' events|deprecated", re.IGNORECASE)
"""Of no consequence here: a FIF file's name, boundaries that segments respect."""


def _unreadable(path: Path, error: Exception) -> str:
    """Why MNE could not open a file, in one line without the file's content."""
    kind = path.suffix.lstrip(".").upper() or "EEG"
    said = str(error)
    if lacking := re.search(r"the module (\w+).* is needed", said):
        why = f"needs the package {lacking[1]} to be read; install it (pip install {lacking[1]})"
    elif "Unsupported file type" in said:
        why = f"is in no format that MNE reads by its ending ({path.suffix or 'none'}); use EDF"
    elif isinstance(error, FileNotFoundError):
        why = "a file that belongs to it is missing (data or markers); keep all parts together"
    else:
        why = (
            f"cannot be read as {kind} ({type(error).__name__} in MNE): damaged, truncated or "
            "another format; open it in the program that wrote it and export it again"
        )
    return f"{path.name}: {why}"


def _mne_values(
    raw: mne.io.BaseRaw, rows: list[int], *, path: Path, cuts: tuple[int, ...] = ()
) -> Callable[[int, int], NDArray[np.float64]]:
    lock = threading.Lock()
    step = NEDF_BLOCK if path.suffix.lower() == ".nedf" else 1

    def reader(start: int, stop: int) -> NDArray[np.float64]:
        begin = start - start % step
        with lock, warnings.catch_warnings(), _unseen(path):
            warnings.simplefilter("ignore")
            try:
                edges = [begin, *(cut for cut in cuts if begin < cut < stop), stop]
                data = np.concatenate([raw[rows, a:b][0] for a, b in pairwise(edges)], axis=1)
            except Exception as error:
                raise InputError(
                    f"{path.name}: cannot be read from {start / raw.info['sfreq']:.1f} s on "
                    f"({type(error).__name__} in MNE): the signal is shorter than its header "
                    "says; copy the file again from the source"
                ) from None
        values: NDArray[np.float64] = data[:, start - begin :]
        return values

    return reader


def _files(path: Path, content: mne.io.BaseRaw | mne.BaseEpochs) -> tuple[Path, ...]:
    """The named file, then every other that the content comes from."""
    if path.is_dir():
        return tuple(sorted(file for file in path.rglob("*") if file.is_file()))
    named = getattr(content, "filenames", None) or [getattr(content, "filename", None)]
    parts = [Path(part) for part in named if part]
    if path.suffix.lower() == ".set" and path.with_suffix(".fdt").is_file():
        parts.append(path.with_suffix(".fdt"))
    if EPOCHS.search(path.name):  # later parts of a split file
        parts += path.parent.glob(f"{glob.escape(path.name.split('.fif')[0])}-[0-9]*.fif*")
    if path.suffix.lower() in (".vhdr", ".ahdr"):
        parts += parts_of(path).values()
    parts += [path.with_suffix(end) for end in COMPANIONS.get(path.suffix.lower(), ())]
    parts += [path.with_name(path.name + end) for end in COMPANIONS.get(path.suffix.lower(), ())]
    others = {part.resolve() for part in parts if part.is_file()} - {path.resolve()}
    return (path, *sorted(others))
