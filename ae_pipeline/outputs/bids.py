"""Results as BIDS derivatives, and as annotations for MNE."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from ae_pipeline import __version__
from ae_pipeline.data import Recording
from ae_pipeline.report.findings.reasons import RecordingTables
from ae_pipeline.runtime.files import read_json, write_frame, write_json, write_text, write_through
from ae_pipeline.scoring.bundle import Bundle
from ae_pipeline.sources.bids import bids_root
from ae_pipeline.sources.finding import entities_of

if TYPE_CHECKING:
    import mne
    import pandas as pd

__all__ = [
    "EVENT_ENDINGS",
    "annotations_of",
    "bids_folder",
    "in_file_spelling",
    "source_dataset",
    "write_annotations",
    "write_dataset",
    "write_events",
]


EVENT_SIDECAR = {
    "Description": "What is unusual in the recording, one row an event",
    "onset": {
        "Description": "Start of the event from the start of the recording, on the clock: gaps of "
        "a discontinuous file count",
        "Units": "s",
    },
    "duration": {"Description": "Length of the event", "Units": "s"},
    "trial_type": {"Description": "Kind of the deviation; anomaly/unexplained where not known"},
    "channel": {
        "Description": "Channels that deviate, as the file names them, strongest first",
        "Delimiter": ",",
    },
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

CHANNEL_SIDECAR = {
    "Description": "Channels that were scored and which of them are bad",
    "status_description": {"Description": "Why a channel is bad and what was done about it"},
}

EVENT_ENDINGS = tuple(
    f"desc-anomaly_{ending}"
    for ending in ("events.tsv", "events.json", "channels.tsv", "channels.json")
)
"""Events of a recording; the last two only where it has a BIDS name."""

IGNORED = (
    *(f"/*.{ending}" for ending in ("parquet", "html", "fif", "npz", "csv", "txt")),
    *(f"/*_{ending}" for ending in ("bads.tsv", "items.tsv", "features.tsv", "desc-quality.tsv")),
    *("/*_events.tsv", "/*_events.json", "/*provenance.json", "/persons.json", "/items.json"),
    *("/published.json", "/pseudonyms.json", "/pseudonymised", "/pseudonymised/**"),
)
"""What BIDS has no name for, so that validators pass over it."""

README = """# {name}

Made by ae-pipeline {version} with the model {model}. Research use, not a diagnosis.

- `group_report.html` (tables and images: `report.html`) is where to begin.
- `scores.parquet` has one row a window, image or person; `recordings.parquet` one a recording.
- `sub-*/**/*_desc-anomaly_events.tsv` are the events of recordings with BIDS names; those of others
  lie beside this file.
- `*_desc-anomaly_annot.fif` holds the same events for MNE, `*_bads.tsv` the bad channels.
- `*_provenance.json` says what each result was made from.
"""


def bids_folder(name: str) -> Path | None:
    """Where BIDS tools look for what belongs to a recording; None without a BIDS name."""
    entities = entities_of(name)
    if "task" not in entities:
        return None
    session = [f"ses-{entities['ses']}"] if "ses" in entities else []
    return Path(f"sub-{entities['sub']}", *session, "eeg")


def write_events(out: Path, tables: RecordingTables) -> list[str]:
    """Write events, and channel states where the recording has a BIDS name.

    Those of a recording with a BIDS name stand where mne-bids and other BIDS tools find them, all
    others in ``out``.

    Parameters
    ----------
    out : Path
    tables : RecordingTables
        :func:`in_file_spelling`.

    Returns
    -------
    list of str
        Paths below ``out``.
    """
    recording = tables.result.recording
    folder = bids_folder(recording.name)
    stem = (folder or Path()) / recording.name
    events, sidecar, channels, about = (f"{stem.as_posix()}_{end}" for end in EVENT_ENDINGS)
    write_frame(out / events, tables.events)
    write_json(out / sidecar, EVENT_SIDECAR)
    if folder is None:
        return [events, sidecar]
    for ending in EVENT_ENDINGS:  # earlier versions wrote events twice
        (out / f"{recording.name}_{ending}").unlink(missing_ok=True)
    write_frame(out / channels, _channels(recording, tables.bads))
    write_json(out / about, CHANNEL_SIDECAR)
    return [events, sidecar, channels, about]


def _channels(recording: Recording, bad: pd.DataFrame) -> pd.DataFrame:
    import pandas as pd

    bads = dict(zip(bad["name"], bad["reason"], strict=True))
    channels = pd.DataFrame(
        {
            "name": recording.file_names,
            "type": "EEG",
            "units": "uV",
            "status": ["bad" if name in bads else "good" for name in recording.file_names],
            "status_description": [bads.get(name, "n/a") for name in recording.file_names],
        }
    )
    return channels[[name not in recording.filled for name in recording.ch_names]]


def source_dataset(path: Path) -> dict[str, str] | None:
    """Return what ``SourceDatasets`` says of the BIDS data set a recording is from; None outside.

    Other folders are not named: they may have a person's name.
    """
    root = bids_root(path)
    if root is None:
        return None
    doi = read_json(root / "dataset_description.json").get("DatasetDOI")
    return {"URL": root.as_uri()} | ({"DOI": doi} if isinstance(doi, str) and doi else {})


def write_dataset(out: Path, bundle: Bundle, *, sources: Sequence[dict[str, str]]) -> None:
    """Write what makes a folder of results a BIDS derivative.

    Parameters
    ----------
    out : Path
    bundle : Bundle
    sources : sequence of dict
        :func:`source_dataset` of what was scored.
    """
    import pandas as pd

    name = f"{bundle.info.study}: anomaly scores and latent features"
    about = {
        "Name": name,
        "BIDSVersion": "1.10.0",
        "DatasetType": "derivative",
        "GeneratedBy": [
            {
                "Name": "ae-pipeline",
                "Version": __version__,
                "Description": f"Scores of the autoencoder {bundle.model_id}",
            }
        ],
    }
    write_json(
        out / "dataset_description.json", about | ({"SourceDatasets": sources} if sources else {})
    )
    write_text(out / ".bidsignore", "\n".join(IGNORED) + "\n")
    text = README.format(name=name, version=__version__, model=bundle.model_id)
    write_text(out / "README.md", text)
    kinds = {"desc-anomaly": "Events that deviate from the training data, and bad channels"}
    frame = pd.DataFrame({"desc_id": list(kinds), "description": list(kinds.values())})
    write_frame(out / "descriptions.tsv", frame)
    said = {"Description": "What the desc entities in the names of files stand for"}
    write_json(out / "descriptions.json", said)


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
