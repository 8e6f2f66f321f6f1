"""The words of each page, held in a file that an editor can read and change.

Texts are those of small fixed studies; numbers with decimals, digests, times and versions are
written as ``#``. Where a text was changed on purpose, write the files anew and look at the diff:

    AE_PIPELINE_SNAPSHOTS=write pytest tests/report/test_words_of_pages.py
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path

import lab
import numpy as np
import pandas as pd
import pytest
import tiny

from ae_pipeline.jobs.complete import complete
from ae_pipeline.jobs.generate import generate
from ae_pipeline.jobs.job import run_plainly
from ae_pipeline.jobs.night import night_job
from ae_pipeline.jobs.score import score_job
from ae_pipeline.jobs.train import train_job
from ae_pipeline.report.comparison import compare_page
from ae_pipeline.report.pages import index_page
from ae_pipeline.report.views import CompareView, Headline, IndexEntry, IndexView, Number

SNAPSHOTS = Path(__file__).parent / "snapshots"
AWAY = "postgresql://nobody@127.0.0.1:9/none"
RECORDINGS = ("train-recordings", "recording", "group", "digest")
TABLES = ("train-table", "rows", "generated", "completed")
MOST_ROWS = 4  # of a table


class Words(HTMLParser):
    """The visible text of a page, a line for each block; of a picture what it says aloud."""

    BLOCKS = frozenset(
        [
            *("p", "li", "h1", "h2", "h3", "h4", "tr", "figcaption", "caption", "summary", "div"),
            *("dt", "dd", "section", "header"),
        ]
    )

    def __init__(self, html: str) -> None:
        super().__init__(convert_charrefs=True)
        self.lines = [""]
        self.hidden = 0
        self.rows = 0
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag in self.BLOCKS:
            self.lines.append("")
        if tag == "table":
            self.rows = 0
        if tag == "tr":
            self.rows += 1
        if tag in ("td", "th"):
            self.lines[-1] += " | "
        if tag == "svg" and not self.hidden:
            self.lines += [f"[{dict(attrs).get('aria-label')}]", ""]
        self.hidden += tag in ("style", "script", "svg", "title")

    def handle_endtag(self, tag: str) -> None:
        self.hidden -= tag in ("style", "script", "svg", "title")
        if tag in self.BLOCKS:
            self.lines.append("")
        if tag == "table":
            self.rows = 0

    def handle_data(self, data: str) -> None:
        if not self.hidden and self.rows <= MOST_ROWS:
            self.lines[-1] += data


def words(html: str) -> str:
    """The words of a page without what differs from run to run."""
    lines = (" ".join(line.split()).strip("| ") for line in Words(html).lines)
    kept = [line for line in lines if line and not line.startswith("Version of ")]
    text = "\n".join(kept)
    text = re.sub(r"\b[0-9a-f]{8,}\b", "#", text)
    text = re.sub(r"\d{4}-\d\d-\d\d[T ]\d\d:\d\d\S*", "#", text)
    text = re.sub(r"(Software: ).*", r"\1#", text)
    text = re.sub(r"[−-]?\d[\d,]*\.\d+(e[+-]?\d+)?|\de-\d+", "#", text)
    text = re.sub(r"\b\d[\d,]{2,}\b|\b\d+(?= ms wide| µV| times)", "#", text)
    return re.sub(r"\d+(\s?%)|\b\d+( s\.)", r"#\1\2", text) + "\n"


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    found = tmp_path_factory.mktemp("pages")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("AE_PIPELINE_CACHE", str(found / "cache"))
        patch.setenv("MLFLOW_TRACKING_URI", AWAY)
        patch.chdir(found)
        (found / "mlflow.yaml").touch()
        yield found


@pytest.fixture(scope="module")
def recordings(place: Path) -> dict[str, str]:
    place = place / "eeg"
    study = lab.write_study(place)
    operation = json.dumps({"inbox": "inbox", "settle_s": 0})
    study.write_text(f"{study.read_text()}detection: {{error_rate: 0.6}}\noperation: {operation}\n")
    for name, gain in (("S07_rest", 30), ("S08_rest", 1)):
        signal = lab.noise(seconds=10, seed=len(name) + gain)
        signal[1, 300:500] *= gain
        lab.write_edf(place / f"inbox/{name}.edf", signal)
    (place / "inbox/S09_rest.edf").write_bytes(b"no recording")
    run_plainly(train_job(study))
    job = night_job(study)
    run_plainly(job)
    results = job.inbox.results(job.pin.model_id)
    files = {
        "train-recordings": place / "derivatives/small/report.html",
        "recording": results / "S07_rest_report.html",
        "group": results / "group_report.html",
        "digest": job.inbox.place / "digest.html",
    }
    return {name: file.read_text() for name, file in files.items()}


@pytest.fixture(scope="module")
def answers(place: Path) -> dict[str, str]:
    place = place / "table"
    place.mkdir()
    for name, n, seed in (("answers", 80, 0), ("others", 30, 1)):
        samples = tiny.answers(n, seed)
        values = np.where(samples.mask, samples.values, np.nan)
        frame = pd.DataFrame(values, columns=list(samples.entries)).astype("Int64")
        frame.insert(0, "id", [f"{name}-{i:03d}" for i in range(n)])
        frame.to_csv(place / f"{name}.csv", index=False)
    study = place / "study.yaml"
    study.write_text(
        "study: answers\n"
        "source: {kind: questionnaire, path: answers.csv, id_column: id,\n"
        "         items: [{items: 'Q*', range: [1, 5]}]}\n"
        "model: {architecture: {kind: dense, hidden: [16]}, latent_dim: 1}\n"
        "training: {epochs: 5, early_stopping: null}\n"
    )
    run_plainly(train_job(study, place / "trained"))
    model, others = str(place / "trained/model"), str(place / "others.csv")
    run_plainly(score_job(model, [others], out=place / "scored"))
    generate(model, 20, out=place / "made.csv")
    complete(model, others, out=place / "whole.csv", hide="Q1")
    files = {
        "train-table": "trained/report.html",
        "rows": "scored/report.html",
        "generated": "made.csv_report.html",
        "completed": "whole.csv_report.html",
    }
    return {name: (place / file).read_text() for name, file in files.items()}


def _compare() -> str:
    rows = []
    for i, (model, objective) in enumerate((("conv-denoising-16", "denoising"), ("pca-16", ""))):
        row = {"model": model, "objective": objective, "seeds": 2, "parameters": 4388 - 400 * i}
        row |= {"seconds": 12.0, "behind": 0.02 * i, "told_apart": bool(i)}
        for name in ("test_loss", "downstream", "detection", "behind"):
            row |= {name: row.get(name, 0.4 + 0.1 * i), f"{name}_low": 0.3, f"{name}_high": 0.6}
        rows.append(row | {"test_loss_least": 0.39, "test_loss_most": 0.42})
    head = Headline("Of 2 models, conv-denoising-16 is best.", (Number("Models", "2"),))
    return compare_page(
        CompareView(
            title="a comparison",
            what="EEG",
            headline=head,
            table=pd.DataFrame(rows),
            failed=(("dense-vanilla-16", "out of memory"),),
        )
    )


def _index() -> str:
    entry = IndexEntry("Recordings", "4 of 4 events were found.", "eeg/report.html", "EEG")
    return index_page(
        IndexView(
            title="The demo",
            headline=Headline("Everything was found."),
            entries=[entry],
            first=(("Start with the recordings", "eeg/report.html"),),
            commands=(("Your own data", ("ae-pipeline init eeg FOLDER",)),),
        )
    )


def holds(name: str, html: str) -> None:
    file, text = SNAPSHOTS / f"{name}.txt", words(html)
    if os.environ.get("AE_PIPELINE_SNAPSHOTS") == "write":
        file.parent.mkdir(exist_ok=True)
        file.write_text(text, encoding="utf-8")
    assert text.splitlines() == file.read_text(encoding="utf-8").splitlines()


@pytest.mark.slow
@pytest.mark.parametrize("name", RECORDINGS)
def test_a_page_about_recordings_says_the_same(recordings: dict[str, str], name: str) -> None:
    holds(name, recordings[name])


@pytest.mark.slow
@pytest.mark.parametrize("name", TABLES)
def test_a_page_about_a_table_says_the_same(answers: dict[str, str], name: str) -> None:
    holds(name, answers[name])


def test_a_page_about_models_or_results_says_the_same() -> None:
    holds("compare", _compare())
    holds("index", _index())


def test_a_snapshot_stands_for_each_page() -> None:
    known = {*RECORDINGS, *TABLES, "compare", "index"}
    assert {file.stem for file in SNAPSHOTS.glob("*.txt")} == known
