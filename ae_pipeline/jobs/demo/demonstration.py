"""One data set of the demo: what is fetched, altered and scored, and what is said of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ae_pipeline.detectors.baselines import BASELINES
from ae_pipeline.report import Evidence, Number
from ae_pipeline.report.pictures.truth import strips_by_kind
from ae_pipeline.stats import share_interval

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["Demonstration", "Made", "Outcome", "share"]

Made = tuple[str, str, tuple[Any, ...], tuple[tuple[str, str], ...]]
"""Page to open, what its link says, pictures, and further pages."""

SIMPLE = {
    "pca": "principal components",
    "robust_z": "a robust z-score",
    "isolation_forest": "Isolation Forest",
}


class Demonstration:
    """A data set whose rows were altered; derive from it."""

    name: str
    """Name of the kind of data, and of the folder."""
    sample: str
    """Name among the sample data sets."""
    title: str
    short: str
    long: str
    planted: str
    """What is to be found."""
    wrong_flag = "wrong flag"
    rows: str
    """What a row is, several of them."""
    quick_epochs: int
    caution = ""
    """What must not be concluded from it."""
    own: tuple[str, str, str, str]
    """For data of one's own: words, first command, name of the study, what is scored."""

    def prepare(self, data: Path, place: Path) -> tuple[Path, Path]:
        """Return what is trained on and what is scored, written below ``place``."""
        raise NotImplementedError

    def truth(self, place: Path, new: Path) -> Path:
        """Return the file that says what was altered."""
        return place / "data/truth.csv"

    def counts(self, outcome: Outcome) -> tuple[int, int, int]:
        """Return how many were planted, found, and flagged wrongly."""
        flagged, planted = outcome.flagged(), outcome.is_planted()
        found = int((flagged & planted).sum())
        return int(outcome.truth["positives"]), found, int((flagged & ~planted).sum())

    def page(self, outcome: Outcome) -> Made:
        """Return what to open and to look at first."""
        picture = strips_by_kind(
            outcome.scores.assign(kind=outcome.kinds()), outcome.kind_names(), what=self.rows
        )
        link = f"Open the report: the most suspicious {self.rows}, each beside what was expected"
        return f"{self.name}/new-data/report.html", link, (picture,), ()

    def cards(self, outcome: Outcome) -> Evidence | None:
        """Return samples to show beside their reconstruction."""
        return None

    def numbers(self, outcome: Outcome) -> tuple[Number, ...]:
        """Return figures that stand after how many were found."""
        n = outcome.n_found
        flagged = n + outcome.n_wrong
        wrong = Number(
            "Wrong among the flagged",
            f"{outcome.n_wrong} of {flagged}",
            f"{share(outcome.n_wrong, flagged)}; at most 5 % were allowed on average"
            if flagged
            else "",
        )
        return (wrong,)

    def tables(self, outcome: Outcome) -> tuple[tuple[str, pd.DataFrame], ...]:
        """Return what was found against what was planted."""
        import pandas as pd

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


@dataclass(frozen=True, eq=False)
class Outcome:
    """One data set of the demo, scored.

    Parameters
    ----------
    of : Demonstration
        Which data set.
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

    of: Demonstration
    place: Path
    new: Path
    scores: pd.DataFrame
    labels: pd.DataFrame
    truth: Mapping[str, Any]

    @property
    def n_planted(self) -> int:
        """Events, or rows."""
        return self.of.counts(self)[0]

    @property
    def n_found(self) -> int:
        """Those of them that are flagged."""
        return self.of.counts(self)[1]

    @property
    def n_wrong(self) -> int:
        """Flags (events, rows) on what nobody has touched."""
        return self.of.counts(self)[2]

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

    def flagged(self) -> pd.Series[Any]:
        """Whether each row is flagged."""
        return self.scores["flagged"].astype(bool)

    def is_planted(self) -> pd.Series[Any]:
        """Whether each row was altered."""
        by_id = self.labels.drop_duplicates("id").set_index("id")["label"]
        return self.scores["recording"].astype(str).map(by_id) == 1


def share(k: int, n: int) -> str:
    """95% interval of a share (Wilson)."""
    if not n:
        return ""
    low, high = share_interval(k, n)
    return f"{100 * low:.0f} to {100 * high:.0f} % (95%)"
