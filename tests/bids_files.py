"""A BIDS data set as mne-bids writes it."""

from __future__ import annotations

import warnings
from pathlib import Path

import mne
import mne_bids
import numpy as np

NAMES = ["Fp1", "Fz", "Cz", "Pz", "Oz", "VEOG", "ECG1"]


def data_set(root: Path, subject: str = "01", task: str = "rest", seconds: float = 20) -> Path:
    """A BIDS root as mne-bids writes it; the path of its recording."""
    rng = np.random.default_rng(1)
    info = mne.create_info(NAMES, 200.0, ["eeg"] * 5 + ["eog", "ecg"], verbose="ERROR")
    info["line_freq"] = 60
    raw = mne.io.RawArray(rng.normal(0, 2e-5, (7, int(200 * seconds))), info, verbose="ERROR")
    raw.set_montage("standard_1005", verbose="ERROR")
    raw.set_annotations(mne.Annotations([2.0, 5.5], [0.0, 1.0], ["go", "BAD_jump"]))
    raw.info["bads"] = ["Pz"]
    raw.info["subject_info"] = {"his_id": "Erika", "sex": 2, "last_name": "Mustermann"}
    raw.set_meas_date(None)
    place = mne_bids.BIDSPath(subject=subject, task=task, root=root, datatype="eeg")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        written = mne_bids.write_raw_bids(
            raw, place, format="BrainVision", allow_preload=True, verbose="ERROR", overwrite=True
        )
    return Path(written.fpath)
