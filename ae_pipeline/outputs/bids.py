"""BIDS derivatives of a recording."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from ae_pipeline.data import Recording
from ae_pipeline.report.findings.reasons import RecordingTables
from ae_pipeline.runtime.files import write_frame, write_json, write_through
from ae_pipeline.sources.finding import entities_of

if TYPE_CHECKING:
    import mne
    import pandas as pd

__all__ = ["annotations_of", "bids_folder", "in_file_spelling", "write_annotations", "write_bids"]


EVENT_SIDECAR = {
    "onset": {
        "Description": "Start of the event from the start of the recording, on the clock: gaps of "
        "a discontinuous file count",
        "Units": "s",
    },
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
            "status": ["bad" if name in bads else "good" for name in recording.file_names],
            "status_description": [bads.get(name, "n/a") for name in recording.file_names],
        }
    )
    channels = channels[[name not in recording.filled for name in recording.ch_names]]
    stem = folder / f"{recording.name}_desc-anomaly"
    write_frame(out / f"{stem}_events.tsv", tables.events)
    write_json(out / f"{stem}_events.json", EVENT_SIDECAR)
    write_frame(out / f"{stem}_channels.tsv", channels)
    return [f"{stem.as_posix()}_{ending}" for ending in BIDS_ENDINGS]


BIDS_ENDINGS = ("events.tsv", "events.json", "channels.tsv")


def in_file_spelling(tables: RecordingTables) -> RecordingTables:
    """Events and bad channels with names as the file spells them; channels it lacks are left out.

    So they go onto the recording as MNE opens it. An event without a channel is about all of them.
    """
    import pandas as pd

    recording = tables.result.recording
    spelled = {
        name: in_file
        for name, in_file in zip(recording.ch_names, recording.file_names, strict=True)
        if name not in recording.filled
    }
    events, bads = tables.events, tables.bads
    channels = [
        ",".join(spelled[name] for name in str(names).split(",") if name in spelled) or None
        for names in events["channel"]
    ]
    kept = bads[bads["name"].isin(list(spelled))]
    return replace(
        tables,
        events=events.assign(channel=pd.Series(channels, index=events.index, dtype=object)),
        bads=kept.assign(name=kept["name"].map(spelled)),
    )


def annotations_of(events: pd.DataFrame, recording: Recording) -> mne.Annotations:
    """Return events as annotations that can be added to those of the recording in MNE.

    Parameters
    ----------
    events : DataFrame
        ``onset`` and ``duration`` in seconds from the recording's start, gaps included;
        ``channel`` as the file spells them.
    recording : Recording

    Returns
    -------
    mne.Annotations
        With the recording's own ``orig_time``, at times as MNE counts them: without the gaps of a
        discontinuous file (EDF+D), and from ``orig_time`` on where there is one.
    """
    import mne

    onset_s = events["onset"].to_numpy(float)
    ends_s = onset_s + events["duration"].to_numpy(float)
    begin, end = (
        np.array([recording.time_in_file_s(at) for at in times]) for times in (onset_s, ends_s)
    )
    channels = [tuple(str(n).split(",")) if isinstance(n, str) else () for n in events["channel"]]
    return mne.Annotations(
        begin + (0.0 if recording.orig_time is None else recording.first_time_s),
        end - begin,
        events["trial_type"].astype(str).tolist(),
        orig_time=recording.orig_time,
        ch_names=channels if len(events) else None,
    )


def write_annotations(path: Path, events: pd.DataFrame, *, recording: Recording) -> None:
    """Write :func:`annotations_of` a recording for MNE."""
    with write_through(path) as temporary:
        annotations_of(events, recording).save(temporary, overwrite=True, verbose="ERROR")
