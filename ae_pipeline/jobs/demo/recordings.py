"""The demo's recordings: one person, events planted in new ones."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from ae_pipeline.analysis.evaluate import named_events
from ae_pipeline.jobs.demo.demonstration import Demonstration, Made, Outcome, share
from ae_pipeline.report import Number
from ae_pipeline.report.pictures.truth import recording_strip
from ae_pipeline.report.wording import spoken
from ae_pipeline.stats import poisson_interval

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["Recordings"]


class Recordings(Demonstration):
    """EEG of one person."""

    name = "eeg"
    sample = "eeg"
    title = "EEG: 16 recordings of one person, events planted in 4 of the 5 new ones"
    short = "EEG"
    long = "the EEG"
    planted = "planted events"
    wrong_flag = "false alarm"
    quick_epochs = 8
    caution = (
        "The EEG is one channel (A1-Cz) of one person: nothing is claimed about other people, "
        "and naming the right channel is no achievement here."
    )
    own = (
        "A folder of recordings (EDF, BDF, BrainVision, EEGLAB, FIF, BIDS)",
        "ae-pipeline init eeg recordings/ -o study.yaml",
        "recordings",
        "new-recordings/",
    )

    def prepare(self, data: Path, place: Path) -> tuple[Path, Path]:
        """Return the two folders of the sample data set."""
        return data / "recordings", data / "new"

    def truth(self, place: Path, new: Path) -> Path:
        """Return the events that were planted."""
        return new / "events.tsv"

    def counts(self, outcome: Outcome) -> tuple[int, int, int]:
        """Return how many events were planted and found, and false alarms."""
        truth = outcome.truth
        wrong = truth["event_scores"]["any_overlap"]["false_alarms"]
        return int(truth["events"]), int(truth["found"]), int(wrong)

    def page(self, outcome: Outcome) -> Made:
        """The recording with the highest score: its signal, its score, and what was planted."""
        from ae_pipeline.runtime.files import read_json
        from ae_pipeline.sources.eeg import EegSource, open_recording
        from ae_pipeline.sources.finding import find

        scores, events = outcome.scores, _events(outcome)
        worst = str(scores["recording"].iloc[int(scores["score"].to_numpy().argmax())])
        found = next(each for each in find([outcome.new]) if each.name == worst)
        recording = open_recording(found, EegSource(path=outcome.new))
        rows = scores[scores["recording"].astype(str) == worst]
        own = events[events["recording"] == worst]
        picture = recording_strip(
            recording.read(0, recording.n_times)[0],
            recording.sfreq_hz,
            scores=rows,
            labelled=own,
            threshold=read_json(outcome.place / "training/model/bundle.json")["threshold"],
        )
        where = f"{self.name}/new-data"
        link = (
            f"Open the recording with the highest score: {len(own)} events planted, "
            f"{int((own['named'] != '').sum())} flagged, {int(own['right'].sum())} named right"
        )
        others = ("All five new recordings, worst first", f"{where}/group_report.html")
        return f"{where}/{worst}_report.html", link, (picture,), (others,)

    def numbers(self, outcome: Outcome) -> tuple[Number, ...]:
        """Return how many were named right, and false alarms."""
        return (_names(outcome), _alarms(outcome))

    def tables(self, outcome: Outcome) -> tuple[tuple[str, pd.DataFrame], ...]:
        """Return what was found against what was planted."""
        import pandas as pd

        events = _events(outcome)
        by = events.groupby("strength", sort=False)
        counts = pd.DataFrame(
            {
                "planted": by.size(),
                "found": by["named"].agg(lambda names: int((names != "").sum())),
                "named_right": by["right"].sum().astype(int),
            }
        ).reset_index()
        wrong = events[~events["right"]]
        missed = wrong.assign(
            planted=wrong["trial_type"].map(_plain),
            named=wrong["named"].map(lambda name: _plain(name) or "not flagged"),
        )[["recording", "onset", "strength", "planted", "named"]]
        frames = [("Found against planted.", counts)]
        return (*frames, ("Not flagged, or named something else.", missed))


def _events(outcome: Outcome) -> pd.DataFrame:
    """The planted events, each beside what it was named."""
    import pandas as pd

    files = sorted((outcome.place / "new-data").rglob("*_desc-anomaly_events.tsv"))
    frames = [
        pd.read_csv(file, sep="\t", na_values="n/a").assign(
            recording=file.name.removesuffix("_desc-anomaly_events.tsv")
        )
        for file in files
    ]
    return named_events(pd.concat(frames, ignore_index=True), outcome.labels)


def _names(outcome: Outcome) -> Number:
    events = _events(outcome)
    strong = events[events["strength"] == "strong"]
    right = int(strong["right"].sum())
    return Number(
        "Strong events named right", f"{right} of {len(strong)}", share(right, len(strong))
    )


def _alarms(outcome: Outcome) -> Number:
    """False alarms as a Poisson rate: none in a few minutes says little."""
    counted = outcome.truth["event_scores"]
    n, hours = counted["any_overlap"]["false_alarms"], counted["hours"]
    low, high = (expected / hours for expected in poisson_interval(n))
    return Number(
        "False alarms",
        str(n),
        f"in {60 * hours:.0f} minutes: {low:.0f} to {high:.0f} an hour (95%)",
    )


def _plain(kind: str) -> str:
    return spoken(kind.removeprefix("anomaly/"))
