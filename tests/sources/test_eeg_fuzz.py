"""Damaged headers of every kind: a recording comes out, or one line says why not; no traceback."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from bids_files import data_set
from eeg_files import (
    write_bdf,
    write_brainvision,
    write_edf,
    write_eeglab,
    write_egi_simple_binary,
    write_fif,
)
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ae_pipeline.data import InputError
from ae_pipeline.eeg.preprocess import Preprocess
from ae_pipeline.eeg.survey import survey
from ae_pipeline.eeg.windows import Windowing, count_windows
from ae_pipeline.sources.eeg import EegSource, find, open_recording

HEADERS: dict[str, tuple[Callable[[Path], Path], str, int]] = {
    "EDF+": (write_edf, "", 256 * 6),
    "BDF+": (write_bdf, "", 256 * 6),
    "BrainVision header": (write_brainvision, ".vhdr", 2000),
    "BrainVision markers": (write_brainvision, ".vmrk", 600),
    "EEGLAB": (write_eeglab, "", 4000),
    "FIF": (write_fif, "", 4000),
    "EGI simple binary": (write_egi_simple_binary, "", 36),
}
"""Format -> (who writes it, which of its files is damaged, how far its header reaches)."""

SLOW = settings(
    max_examples=40,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)


def used(path: Path) -> None:
    """As far as a recording goes before a model sees it."""
    recording = open_recording(find([path])[0], EegSource(path=path))
    assert np.isfinite(recording.read(0, min(recording.n_times, 5000))).any()
    config = Preprocess(high_pass_hz=1.0, low_pass_hz=None, notch="off")
    plan = survey(recording, config, line_freq_hz=None, sfreq_hz=min(recording.sfreq_hz, 100.0))
    count_windows(recording, plan, windowing=Windowing(length_s=1.0))


def told(path: Path) -> None:
    """Used, or refused in one line that names the file."""
    complaint = path.name
    try:
        used(path)
    except InputError as error:
        complaint = str(error)
    assert "\n" not in complaint
    assert path.name in complaint or path.stem in complaint


@pytest.mark.parametrize("name", HEADERS)
@SLOW
@given(data=st.data())
def test_no_damaged_header_ends_in_a_traceback(
    tmp_path: Path, name: str, data: st.DataObject
) -> None:
    write, ending, reach = HEADERS[name]
    place = tmp_path / "".join(c for c in name if c.isalnum())
    if not place.exists():
        place.mkdir()
        write(place)
    kept = place / "kept.bin"
    path = next(p for p in sorted(place.glob("a*")) if not ending or p.suffix == ending)
    if not kept.exists():
        kept.write_bytes(path.read_bytes())
    content = bytearray(kept.read_bytes())
    last = min(reach, len(content)) - 1
    edits = data.draw(
        st.lists(st.tuples(st.integers(0, last), st.integers(0, 255)), min_size=1, max_size=6)
    )
    for at, value in edits:
        content[at] = value
    path.write_bytes(bytes(content[: data.draw(st.one_of(st.none(), st.integers(0, last)))]))
    told(place / "a.vhdr" if ending else path)


@SLOW
@given(
    which=st.sampled_from(["channels.tsv", "events.tsv", "eeg.json", "electrodes.tsv"]),
    edits=st.lists(st.tuples(st.integers(0, 400), st.integers(0, 255)), min_size=1, max_size=5),
)
def test_no_damaged_sidecar_ends_in_a_traceback(
    tmp_path: Path, which: str, edits: list[tuple[int, int]]
) -> None:
    root = tmp_path / "root"
    if not root.exists():
        data_set(root, seconds=10)
    sidecar = next(root.rglob(f"*_{which}"))
    whole = sidecar.read_bytes()
    content = bytearray(whole)
    for at, value in edits:
        content[min(at, len(content) - 1)] = value
    sidecar.write_bytes(bytes(content))
    try:
        with contextlib.suppress(InputError):  # which names the sidecar
            used(next(root.rglob("*.vhdr")))
    finally:
        sidecar.write_bytes(whole)
