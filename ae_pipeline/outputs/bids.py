"""BIDS derivatives of a recording."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from ae_pipeline.data import Recording
from ae_pipeline.report.findings.reasons import RecordingTables
from ae_pipeline.runtime.files import write_frame, write_json, write_through
from ae_pipeline.sources.finding import entities_of

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["bids_folder", "write_annotations", "write_bids"]


EVENT_SIDECAR = {
    "onset": {"Description": "Start of the event from the start of the recording", "Units": "s"},
    "duration": {"Description": "Length of the event", "Units": "s"},
    "trial_type": {"Description": "Kind of the deviation; anomaly/unexplained where not known"},
    "channel": {"Description": "Channels that deviate, strongest first", "Delimiter": ","},
    "score": {"Description": "Largest score of the event's windows; higher is more abnormal"},
    "p_value": {
        "Description": "Share of calibration windows at least as abnormal as the event's worst; "
        "descriptive, because windows of one recording depend on each other"
    },
    "false_alarms_per_hour": {
        "Description": "Events at least as large that clean calibration recordings raise",
        "Units": "1/h",
    },
    "reason": {"Description": "Why, in words"},
    "model_id": {"Description": "Model that found it"},
}


def bids_folder(name: str) -> Path | None:
    """Where BIDS tools look for what belongs to a recording; None without a BIDS name."""
    entities = entities_of(name)
    if "task" not in entities:
        return None
    session = [f"ses-{entities['ses']}"] if "ses" in entities else []
    return Path(f"sub-{entities['sub']}", *session, "eeg")


def write_bids(out: Path, tables: RecordingTables) -> list[str]:
    """Events and channel states where mne-bids and other BIDS tools find them.

    Returns
    -------
    list of str
        Paths below ``out``; empty where the recording has no BIDS name.
    """
    import pandas as pd

    recording = tables.result.recording
    folder = bids_folder(recording.name)
    if folder is None:
        return []
    bads = dict(zip(tables.bads["name"], tables.bads["reason"], strict=True))
    channels = pd.DataFrame(
        {
            "name": recording.file_names,
            "type": "EEG",
            "units": "uV",
            "status": ["bad" if name in bads else "good" for name in recording.ch_names],
            "status_description": [bads.get(name, "n/a") for name in recording.ch_names],
        }
    )
    channels = channels[[name not in recording.filled for name in recording.ch_names]]
    stem = folder / f"{recording.name}_desc-anomaly"
    write_frame(out / f"{stem}_events.tsv", tables.events)
    write_json(out / f"{stem}_events.json", EVENT_SIDECAR)
    write_frame(out / f"{stem}_channels.tsv", channels)
    return [f"{stem.as_posix()}_{ending}" for ending in BIDS_ENDINGS]


BIDS_ENDINGS = ("events.tsv", "events.json", "channels.tsv")


def write_annotations(path: Path, events: pd.DataFrame, *, recording: Recording) -> None:
    """Events as MNE's annotations, with channels as the file spells them.

    So they go onto the recording as MNE opens it; without a channel an event is about the whole
    head, and channels that the file lacks are nobody's.
    """
    import mne

    spelled = dict(zip(recording.ch_names, recording.file_names, strict=True))
    channels = [
        tuple(
            spelled.get(c, c)
            for c in str(names).split(",")
            if c and c not in recording.filled and c != "n/a"
        )
        for names in events["channel"]
    ]
    annotations = mne.Annotations(
        events["onset"].to_numpy(float),
        events["duration"].to_numpy(float),
        events["trial_type"].astype(str).tolist(),
        ch_names=channels if len(events) else None,
    )
    with write_through(path) as temporary:
        annotations.save(temporary, overwrite=True, verbose="ERROR")
