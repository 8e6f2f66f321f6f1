"""Does the default questionnaire score find people who did not read the questions?

Two tables, one default setting:

* ``bfi``: 2,800 people, 25 items, into a tenth of which careless answers are planted here (random,
  one answer throughout, up and down or left and right, or one of these from somewhere in the
  middle on), with the items in a simulated order of presentation. The default setting was chosen
  on this table.
* a survey with real failed attention checks (``--survey FOLDER`` with ``items.csv`` and
  ``metrics.csv``; by default the one beside a checkout of the project, where there is one). Its
  labels are read after everything is scored.

The table goes the way a user's goes: ``init`` proposes the study, ``train`` learns from all rows
without a label and scores those that it did not learn from. Areas under the ROC curve; intervals
and differences from a paired bootstrap over persons.

    python benchmarks/careless.py                    both, three seeds of bfi (a few CPU minutes)
    python benchmarks/careless.py --only survey
"""

from __future__ import annotations

import argparse
import logging
import tempfile
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.stats import rankdata
from sklearn.decomposition import PCA
from sklearn.ensemble import IsolationForest
from sklearn.metrics import roc_auc_score, roc_curve

from ae_pipeline.ingest.gather import gather
from ae_pipeline.jobs.fit import Fitting
from ae_pipeline.jobs.init import initial_study
from ae_pipeline.jobs.train import TrainJob
from ae_pipeline.models.objectives import Vanilla
from ae_pipeline.scoring.bundle import load
from ae_pipeline.sources.sample_data import fetch
from ae_pipeline.study import load_study

Float = NDArray[np.float64]

KINDS = ("random", "straight-lining", "zig-zag", "from the middle on")
N_RESAMPLES = 2000


def plant(
    answers: Float, low: Float, high: Float, rng: np.random.Generator, share: float = 0.1
) -> tuple[Float, NDArray[np.int64], NDArray[np.int64]]:
    """Careless answers in place of some people's, columns in the order of presentation.

    Returns the answers, a kind for each person (-1 for none, else into KINDS) and the position
    at which it begins (-1 for none).
    """
    n, n_items = answers.shape
    answers = answers.copy()
    kind, onset = np.full(n, -1), np.full(n, -1)

    def made(which: int) -> Float:
        if which == 0:
            return np.array([rng.integers(a, b + 1) for a, b in zip(low, high, strict=True)], float)
        place = np.full(n_items, rng.random())
        if which == 2:
            if rng.random() < 0.5:  # up and down in single steps
                steps = int(high[0] - low[0])
                wave = np.concatenate([np.arange(steps + 1), np.arange(steps - 1, 0, -1)])
                place = (np.resize(wave, n_items) + 0.5) / (steps + 1)
            else:
                place = np.resize(rng.permutation(int(high[0] - low[0] + 1))[:2] + 0.5, n_items)
                place = place / (high[0] - low[0] + 1)
        return np.asarray(low + np.minimum((place * (high - low + 1)).astype(int), high - low))

    for i, row in enumerate(rng.permutation(n)[: round(share * n)]):
        which = i % 4
        onset[row] = 0 if which < 3 else rng.integers(n_items // 4, 3 * n_items // 4 + 1)
        new = made(which if which < 3 else int(rng.integers(3)))
        new[: onset[row]] = answers[row, : onset[row]]
        answers[row] = np.where(np.isnan(answers[row]), np.nan, new)
        kind[row] = which
    return answers, kind, onset


def through_the_pipeline(table: Path, folder: Path, **changes: Any) -> tuple[pd.DataFrame, Any]:
    """Scores of the rows that nothing was fitted on, and the bundle; as ``init`` and ``train``."""
    import yaml

    study = yaml.safe_load(initial_study("questionnaire", table, name="careless"))
    study["source"].update(changes)
    file = folder / "study.yaml"
    file.write_text(yaml.safe_dump(study))
    job = TrainJob(load_study(file), folder / "train", progress=_Silent(), fresh=True)
    for step in job.steps():
        if not step.name.startswith("publish"):
            step.run()
    return pd.read_parquet(folder / "train/scores.parquet"), load(folder / "train/model")


class _Silent:
    def __getattr__(self, name: str) -> Any:
        return lambda *_: None


def sensitivity(y: NDArray[np.bool_], score: Float, at: float = 0.05) -> float:
    """Share found where at most ``at`` of the others are flagged."""
    false, true, _ = roc_curve(y, score)
    return float(true[false <= at].max())


def bootstrap(y: NDArray[np.bool_], scores: dict[str, Float], seed: int = 0) -> dict[str, Float]:
    """Areas in resamples of persons, the same persons for all."""
    rng = np.random.default_rng(seed)
    found: dict[str, list[float]] = {name: [] for name in scores}
    while len(found[next(iter(found))]) < N_RESAMPLES:
        rows = rng.integers(0, len(y), len(y))
        if 0 < y[rows].sum() < len(y):
            for name, score in scores.items():
                rank = rankdata(score[rows])
                n = y[rows].sum()
                area = (rank[y[rows]].sum() - n * (n + 1) / 2) / (n * (len(y) - n))
                found[name].append(area)
    return {name: np.array(areas) for name, areas in found.items()}


# ------------------------------------------------------------------------------------ bfi


def planted(seeds: int, few: int | None = None) -> None:
    """Careless answers planted into bfi."""
    table = pd.read_csv(fetch("bfi") / "bfi.csv")
    items = [c for c in table if len(c) == 2 and c[0] in "ACENO" and c[1].isdigit()]
    rows = []
    for seed in range(seeds):
        rng = np.random.default_rng(seed)
        shown = [items[i] for i in rng.permutation(len(items))]
        chosen = table.iloc[np.sort(rng.permutation(len(table))[:few])].reset_index(drop=True)
        answers = chosen[shown].to_numpy(float)
        size = np.ones(len(shown))
        answers, kind, onset = plant(answers, size, 6 * size, rng)
        out = chosen.copy()
        out[shown] = answers
        out.insert(0, "person", [f"p{i:04d}" for i in range(len(out))])
        with tempfile.TemporaryDirectory() as folder:
            file = Path(folder) / "bfi.csv"
            out.drop(columns=[c for c in ("rownames", "Unnamed: 0") if c in out]).to_csv(
                file, index=False
            )
            scores, bundle = through_the_pipeline(
                file, Path(folder), id_column="person", presentation_order=shown
            )
            told = _onsets(bundle, file, Path(folder), shown)
        place = scores["recording"].str[1:].astype(int).to_numpy()
        told = told.loc[scores["recording"]].reset_index(drop=True)
        k, begun = kind[place], onset[place]
        y = k >= 0
        names = ["score", *(c for c in scores if c.startswith("score_"))]
        found = {"seed": seed, "judged": len(scores)}
        for name in names:
            found[name] = roc_auc_score(y, scores[name])
        for i, label in enumerate(KINDS):
            part = (k < 0) | (k == i)
            found[label] = roc_auc_score(y[part], scores["score"][part])
        partial = k == 3
        away = np.abs(told["onset_position"].astype(float).to_numpy() - 1 - begun)[partial]
        found |= {
            "sensitivity at 5%": sensitivity(y, scores["score"].to_numpy()),
            "onset within 5": float(np.mean(np.nan_to_num(away, nan=99) <= 5)),
            "onset named": float(np.mean(~np.isnan(away))),
            "onset named, attentive": float(told["onset_item"].notna().to_numpy()[~y].mean()),
        }
        rows.append(found)
    title = f"{few or len(table):,} people"
    print(f"\nbfi with planted careless answers, {title}, mean of {seeds} seeds (each)")
    frame = pd.DataFrame(rows).drop(columns="seed")
    for name, values in frame.items():
        each = " ".join(f"{value:.3f}" for value in values)
        print(f"  {name:28} {values.mean():.3f}   ({each})")


def _onsets(bundle: Any, file: Path, folder: Path, shown: list[str]) -> pd.DataFrame:
    study = load_study(folder / "study.yaml")
    data = gather(study, lambda *_: None)
    found = bundle.ensemble.person.onset(data.samples)
    found.index = pd.Index(data.samples.meta["recording"])
    return found


# --------------------------------------------------------------------------------- survey


def survey(folder: Path) -> None:
    """Real failed attention checks."""
    items = pd.read_csv(folder / "items.csv")
    labels = pd.read_csv(folder / "metrics.csv").set_index("subject")["infreq"]
    items = items[items["subject"].isin(labels.index)].reset_index(drop=True)
    with tempfile.TemporaryDirectory() as place:
        file = Path(place) / "items.csv"
        items.to_csv(file, index=False)
        scores, bundle = through_the_pipeline(file, Path(place))
        study = load_study(Path(place) / "study.yaml")
        data = gather(study, lambda *_: None)
        samples = data.samples
        in_sample = bundle.judge(samples).frame
        plain = study.model.model_copy(
            update={
                "likelihood": "gaussian",
                "objective": Vanilla(),
            }
        )
        plainly = study.model_copy(update={"model": plain})
        fitted, _ = Fitting(plainly, samples, None, study.training).network()
        mse = fitted.score(samples).total
    person = scores["recording"].to_numpy()
    y = (labels.loc[samples.meta["recording"]] >= 2).to_numpy()
    raw = items[list(samples.entries)].to_numpy(float)
    others = (raw.sum(0) - raw) / (len(raw) - 1)
    forest = -IsolationForest(random_state=0).fit(raw).score_samples(raw)
    away = raw - raw.mean(0)
    distance = ((away @ np.linalg.pinv(np.cov(raw.T))) * away).sum(1)
    total = -np.array([np.corrcoef(a, b)[0, 1] for a, b in zip(raw, others, strict=True)])
    pca = PCA(10).fit(raw)
    left = ((raw - pca.inverse_transform(pca.transform(raw))) ** 2).mean(1)
    found = {
        "score (default, each fifth left out)": scores.set_index("recording")["score"]
        .loc[samples.meta["recording"]]
        .to_numpy(),
        "score (default, model saw the rows)": in_sample["score"].to_numpy(),
        "Isolation Forest": forest,
        "Mahalanobis": distance,
        "person-total correlation": np.nan_to_num(total),
        "PCA-10 error": left,
        "dense autoencoder, squared error": mse,
    }
    four = ("Isolation Forest", "Mahalanobis", "dense autoencoder, squared error")
    four = (*four, "person-total correlation")
    found["mean rank of the four"] = sum(rankdata(found[name]) for name in four) / 4
    found |= {
        f"  view {c.removeprefix('score_')}": scores.set_index("recording")[c]
        .loc[samples.meta["recording"]]
        .to_numpy()
        for c in scores
        if c.startswith("score_")
    }
    drawn = bootstrap(y, found)
    own = drawn["score (default, each fifth left out)"]
    print(f"\n{folder.name}: {len(y)} people, {y.sum()} failed at least two checks")
    print(f"  {'':38} area  95% interval    found at 5%   default minus this")
    for name, score in found.items():
        low, high = np.quantile(drawn[name], [0.025, 0.975])
        less, more = np.quantile(own - drawn[name], [0.025, 0.975])
        print(
            f"  {name:38} {roc_auc_score(y, score):.3f}  {low:.3f} to {high:.3f}   "
            f"{sensitivity(y, score):.2f}          {(own - drawn[name]).mean():+.3f} "
            f"({less:+.3f} to {more:+.3f})"
        )
    assert len(person) == len(y)


def main() -> None:
    """Run what is asked for."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", choices=["bfi", "survey"])
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--few", type=int, help="so many people of bfi only")
    beside = Path(__file__).resolve().parents[1].parent / "shared/data/careless"
    parser.add_argument("--survey", type=Path, default=beside)
    given = parser.parse_args()
    logging.disable(logging.WARNING)
    warnings.simplefilter("ignore")
    if given.only != "survey":
        planted(given.seeds, given.few)
    if given.only != "bfi":
        if (given.survey / "items.csv").is_file():
            survey(given.survey)
        else:
            print(f"{given.survey}: no items.csv there; name a folder with --survey")


if __name__ == "__main__":
    main()
