"""What the demo found, held against what was planted: the parts of its index page.

Everything is read from the folders that training and scoring have left, in the form of
``evaluate``'s result; nothing is measured anew but what a name is worth.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ae_pipeline.analysis.evaluate import named_events
from ae_pipeline.detectors.baselines import BASELINES
from ae_pipeline.kind import kind_of
from ae_pipeline.report import Evidence, Headline, IndexEntry, IndexView, Number
from ae_pipeline.report.pictures.truth import recording_strip, strips_by_kind
from ae_pipeline.report.wording import span, spoken
from ae_pipeline.stats import poisson_interval, share_interval

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["Outcome", "entry_of", "index_of", "sentence_of"]

TITLES = {
    "eeg": "EEG: 16 recordings of one person, events planted in 4 of the 5 new ones",
    "questionnaire": "Questionnaire: 2,800 people, 25 Big Five items, some answering carelessly",
    "mnist": "Handwritten digits: 70,000 images, some of the new ones turned or negative",
}
SHORT = {"eeg": "EEG", "questionnaire": "Questionnaire", "mnist": "Digits"}
LONG = {"eeg": "the EEG", "questionnaire": "the questionnaire", "mnist": "the digits"}
WHAT = {
    "eeg": "planted events",
    "questionnaire": "careless respondents",
    "mnist": "altered images",
}
SIMPLE = {
    "pca": "principal components",
    "robust_z": "a robust z-score",
    "isolation_forest": "Isolation Forest",
}
N_CARDS = 6


@dataclass(frozen=True, eq=False)
class Outcome:
    """One data set of the demo, scored.

    Parameters
    ----------
    kind : str
    place : Path
        Holds ``training`` and ``new-data``.
    new : Path
        The file or folder that was scored.
    scores : DataFrame
        ``scores.parquet`` of the new data.
    labels : DataFrame
        What was planted: events (EEG), or ``id``, ``label`` and ``kind`` of rows.
    truth : mapping
        From ``evaluate``.
    """

    kind: str
    place: Path
    new: Path
    scores: pd.DataFrame
    labels: pd.DataFrame
    truth: Mapping[str, Any]

    @property
    def n_planted(self) -> int:
        """Events, or rows."""
        return int(self.truth["events" if self.kind == "eeg" else "positives"])

    @property
    def n_found(self) -> int:
        """Those of them that are flagged."""
        if self.kind == "eeg":
            return int(self.truth["found"])
        return int((self._flagged() & self._is_planted()).sum())

    @property
    def n_wrong(self) -> int:
        """Flags (events, rows) on what nobody has touched."""
        if self.kind == "eeg":
            return int(self.truth["event_scores"]["any_overlap"]["false_alarms"])
        return int((self._flagged() & ~self._is_planted()).sum())

    def best_simple(self) -> tuple[str, Mapping[str, Any]]:
        """The best simple method by its area, and what ``evaluate`` says of it."""
        scorers = self.truth["scorers"]
        name = max(BASELINES, key=lambda each: scorers[f"score_{each}"]["roc_area"])
        return SIMPLE[name], scorers[f"score_{name}"]

    def beats_simple(self) -> bool | None:
        """Whether the model tells more than the best simple method; None if not told apart."""
        interval = self.best_simple()[1]["difference_interval"]
        if interval is None or interval[0] <= 0 <= interval[1]:
            return None
        return bool(interval[0] > 0)

    def kinds(self) -> pd.Series[Any]:
        """What was done to each row of ``scores``."""
        by_id = self.labels.drop_duplicates("id").set_index("id")["kind"]
        return self.scores["recording"].astype(str).map(by_id)

    def kind_names(self) -> list[str]:
        """What may have been done to a row, nothing first."""
        return list(dict.fromkeys(self.labels.sort_values("label", kind="stable")["kind"]))

    def _flagged(self) -> pd.Series[Any]:
        return self.scores["flagged"].astype(bool)

    def _is_planted(self) -> pd.Series[Any]:
        by_id = self.labels.drop_duplicates("id").set_index("id")["label"]
        return self.scores["recording"].astype(str).map(by_id) == 1


def sentence_of(outcome: Outcome) -> str:
    """What was found, in one sentence for the terminal and the page."""
    n, total, wrong = outcome.n_found, outcome.n_planted, outcome.n_wrong
    share = f"all {total}" if n == total else f"{n} of {total}"
    flags = "false alarm" if outcome.kind == "eeg" else "wrong flag"
    wrongly = f"{wrong or 'no'} {flags}{'s' if wrong != 1 else ''}"
    area = outcome.truth["scorers"]["score"]["roc_area"]
    name, simple = outcome.best_simple()
    return (
        f"{share} {WHAT[outcome.kind]} flagged, with {wrongly}; area under the ROC curve "
        f"{area:.2f}, of the best simple method ({name.removeprefix('a ')}) "
        f"{simple['roc_area']:.2f}."
    )


def entry_of(outcome: Outcome) -> IndexEntry:
    """The part of the page about one data set."""
    make = _eeg if outcome.kind == "eeg" else _rows
    said = sentence_of(outcome)
    href, link, pictures, more = make(outcome)
    return IndexEntry(
        title=TITLES[outcome.kind],
        verdict=said[0].upper() + said[1:],
        href=href,
        kind=kind_of(outcome.kind).words.title,
        link=link,
        numbers=_numbers(outcome),
        pictures=pictures,
        cards=_cards(outcome) if outcome.kind == "mnist" else None,
        baseline=_baseline(outcome),
        found=_tables(outcome),
        more=(
            *more,
            ("How the model was trained, and on what", f"{outcome.kind}/training/report.html"),
        ),
    )


def index_of(
    outcomes: Sequence[Outcome], entries: Sequence[IndexEntry], *, quick: bool
) -> IndexView:
    """The whole page."""
    found = _listed([f"{o.n_found} of {o.n_planted} {WHAT[o.kind]}" for o in outcomes])
    better = [LONG[o.kind] for o in outcomes if o.beats_simple()]
    enough = [LONG[o.kind] for o in outcomes if not o.beats_simple()]
    parts = []
    if better:
        parts.append(f"For {_listed(better)}, no: the model tells more than every simple method.")
    if enough:
        parts.append(
            f"For {_listed(enough)}, yes: it does not clearly beat the best simple method."
        )
    n = len(outcomes)
    warnings = [
        "The data are real; what is abnormal in them was planted by this demo, so that the truth "
        "is known. How your own anomalies look, only your own data can say.",
    ]
    if any(o.kind == "eeg" for o in outcomes):
        warnings.append(
            "The EEG is one channel (A1-Cz) of one person: nothing is claimed about other people, "
            "and naming the right channel is no achievement here."
        )
    if quick:
        warnings.append("This was the quick demo: fewer epochs than the models deserve.")
    return IndexView(
        title="What is normal in these data, and what is not",
        headline=Headline(
            f"{found} were found in {'real data' if n == 1 else f'{n} real data sets'} by "
            f"{'a model' if n == 1 else 'models'} trained on what is taken for normal.",
            tuple(_tile(o) for o in outcomes),
            baseline=" ".join(parts),
            warnings=tuple(warnings),
        ),
        entries=entries,
        first=tuple((f"{SHORT[e.kind]}: {e.link[0].lower()}{e.link[1:]}", e.href) for e in entries),
        commands=_commands([o.kind for o in outcomes]),
    )


# ------------------------------------------------------------------------------ numbers


def _share(k: int, n: int) -> str:
    """95% interval of a share (Wilson)."""
    if not n:
        return ""
    low, high = share_interval(k, n)
    return f"{100 * low:.0f} to {100 * high:.0f} % (95%)"


def _tile(outcome: Outcome) -> Number:
    wrong = outcome.n_wrong
    n_flags = f"{wrong} false alarm{'s' if wrong != 1 else ''}"
    return Number(
        f"{SHORT[outcome.kind]}: {WHAT[outcome.kind]} found",
        f"{outcome.n_found} of {outcome.n_planted}",
        f"{_share(outcome.n_found, outcome.n_planted)}, {n_flags}",
    )


def _numbers(outcome: Outcome) -> tuple[Number, ...]:
    own = outcome.truth["scorers"]["score"]
    name, simple = outcome.best_simple()
    low, high = own["interval"] or (None, None)
    unit = f"{outcome.truth['units']} {outcome.truth['unit']}s"
    area = Number(
        "Area under the ROC curve",
        f"{own['roc_area']:.3f}",
        f"over {unit}" if low is None else f"{low:.3f} to {high:.3f} (95%), over {unit}",
    )
    beside = Number(
        "Best simple method",
        f"{simple['roc_area']:.3f}",
        name + ("" if not simple["interval"] else f", {span(simple['interval'], 3)}"),
    )
    n, total = outcome.n_found, outcome.n_planted
    found = Number("Found", f"{n} of {total}", _share(n, total))
    if outcome.kind == "eeg":
        return (found, _names(outcome), _alarms(outcome), area, beside)
    flagged = n + outcome.n_wrong
    wrong = Number(
        "Wrong among the flagged",
        f"{outcome.n_wrong} of {flagged}",
        f"{_share(outcome.n_wrong, flagged)}; at most 5 % were allowed on average"
        if flagged
        else "",
    )
    return (found, wrong, area, beside)


def _names(outcome: Outcome) -> Number:
    events = _events(outcome)
    strong = events[events["strength"] == "strong"]
    right = int(strong["right"].sum())
    return Number(
        "Strong events named right", f"{right} of {len(strong)}", _share(right, len(strong))
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


def _baseline(outcome: Outcome) -> str:
    name, simple = outcome.best_simple()
    by = f"{simple['difference']:+.3f}".replace("-", "−")
    bounds = simple["difference_interval"]
    within = "" if bounds is None else f" ({span(bounds, 3)}, 95%)".replace("-", "−")
    beats = outcome.beats_simple()
    if beats:
        return f"No: {name} tells less; the model's area is larger by {by}{within}."
    if beats is None:
        return (
            f"Yes: {name} cannot be told from the model; difference in area {by}{within}. A "
            "network is not needed to find deviations as plain as these."
        )
    return f"Yes, and better: {name} tells more; difference in area {by}{within}."


def _listed(words: Sequence[str]) -> str:
    return words[0] if len(words) == 1 else f"{', '.join(words[:-1])} and {words[-1]}"


# ---------------------------------------------------------------------------------- EEG


def _events(outcome: Outcome) -> pd.DataFrame:
    """The planted events, each beside what it was named."""
    import pandas as pd

    files = sorted((outcome.place / "new-data").glob("*_desc-anomaly_events.tsv"))
    frames = [
        pd.read_csv(file, sep="\t", na_values="n/a").assign(
            recording=file.name.removesuffix("_desc-anomaly_events.tsv")
        )
        for file in files
    ]
    return named_events(pd.concat(frames, ignore_index=True), outcome.labels)


_Made = tuple[str, str, tuple[Any, ...], tuple[tuple[str, str], ...]]


def _eeg(outcome: Outcome) -> _Made:
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
    where = f"{outcome.kind}/new-data"
    link = (
        f"Open the recording with the highest score: {len(own)} events planted, "
        f"{int((own['named'] != '').sum())} flagged, {int(own['right'].sum())} named right"
    )
    others = ("All five new recordings, worst first", f"{where}/group_report.html")
    return f"{where}/{worst}_report.html", link, (picture,), (others,)


# --------------------------------------------------------------------------------- rows


def _rows(outcome: Outcome) -> _Made:
    kinds = outcome.kinds()
    names = outcome.kind_names()
    what = "people" if outcome.kind == "questionnaire" else "images"
    pictures = [
        strips_by_kind(outcome.scores.assign(kind=kinds), names, what=what),
    ]
    link = f"Open the report: the most suspicious {what}, each beside what was expected"
    if outcome.kind == "questionnaire":
        pictures.append(_answers(outcome))
    return f"{outcome.kind}/new-data/report.html", link, tuple(pictures), ()


def _answers(outcome: Outcome) -> Any:
    """What the most suspicious person answered, and what was expected."""
    import pandas as pd

    from ae_pipeline.report.pictures.evidence import answers

    table = pd.read_csv(outcome.place / "new-data/answers.csv", dtype={"id": str})
    first = table[table["id"] == table["id"].iloc[0]]
    meta = outcome.scores[outcome.scores["recording"].astype(str) == first["id"].iloc[0]]
    meta = meta[["recording", "score", "p_value"]]
    shown = Evidence(
        first["answer"].to_numpy(float)[None],
        first["expected"].to_numpy(float)[None],
        meta.assign(
            reason=outcome.kinds()[meta.index].map(
                "the most suspicious of all; in truth: {}".format
            )
        ),
        entries=tuple(first["item"].astype(str)),
        unit="answer",
        levels=[range(1, 7)] * len(first),
    )
    return answers(shown, 0, rank="Most suspicious person")


def _tables(outcome: Outcome) -> tuple[tuple[str, pd.DataFrame], ...]:
    """Found against labelled."""
    import pandas as pd

    if outcome.kind == "eeg":
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
    kinds, flagged = outcome.kinds(), outcome.scores["flagged"].astype(bool)
    names = outcome.kind_names()
    rows = [
        {
            "what": name,
            "new": int((kinds == name).sum()),
            "found": int((flagged & (kinds == name)).sum()),
        }
        for name in names
    ]
    return (("Found against planted.", pd.DataFrame(rows)),)


def _plain(kind: str) -> str:
    return spoken(kind.removeprefix("anomaly/"))


def _cards(outcome: Outcome) -> Evidence:
    """Altered images, flagged and missed, beside what the model makes of them."""
    from ae_pipeline.scoring import bundle as bundles
    from ae_pipeline.sources.images import MnistSource, load

    kinds, flagged = outcome.kinds(), outcome.scores["flagged"].astype(bool)
    rows: list[int] = []
    for name in outcome.kind_names()[1:]:
        for hit in (True, False):
            own = np.flatnonzero((kinds == name) & (flagged == hit))
            rows += own[:2].tolist() if hit else own[:1].tolist()
    chosen = sorted(rows[:N_CARDS])
    samples = load([outcome.new], MnistSource()).take(np.array(chosen))
    model = bundles.load(outcome.place / "training/model").autoencoder
    meta = outcome.scores.iloc[chosen][["score", "p_value"]].assign(
        label=[str(kinds.iloc[i]) for i in chosen],
        reason=["flagged" if flagged.iloc[i] else "not flagged" for i in chosen],
    )
    return Evidence(
        np.asarray(samples.values[:], float), model.reconstruct(samples).astype(float), meta
    )


# ----------------------------------------------------------------------------- commands


def _commands(kinds: Sequence[str]) -> tuple[tuple[str, tuple[str, ...]], ...]:
    own = {
        "eeg": (
            "A folder of recordings (EDF, BDF, BrainVision, EEGLAB, FIF, BIDS)",
            "ae-pipeline init eeg recordings/ -o study.yaml",
            "recordings",
            "new-recordings/",
        ),
        "questionnaire": (
            "A questionnaire (CSV, TSV, Excel, SPSS)",
            "ae-pipeline init questionnaire answers.csv -o study.yaml",
            "answers",
            "new-answers.csv",
        ),
        "mnist": (
            "Images (IDX)",
            "ae-pipeline init mnist images/ -o study.yaml",
            "images",
            "new-images/",
        ),
    }
    found = []
    for words, first, name, new in (own[kind] for kind in kinds):
        lines = (
            first,
            "ae-pipeline train study.yaml",
            f"ae-pipeline score --model derivatives/{name}/model --out results {new}",
        )
        found.append((words, lines))
    return (*found, ("All runs of this demo side by side, in MLflow", ("ae-pipeline ui",)))
