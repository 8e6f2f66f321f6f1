"""What leaves is made from masked data: equal numbers, no name, and every page."""

from __future__ import annotations

import json
import re
from html.parser import HTMLParser
from pathlib import Path

import lab
import pandas as pd
import pytest

from ae_pipeline.jobs.job import run_plainly
from ae_pipeline.jobs.night import NightJob, night_job
from ae_pipeline.jobs.train import train_job
from ae_pipeline.outputs.masking import Masking

NAMES = ("42", "1", "one", "p", "rec")
"""Subjects that are called as numbers, words of the pages and prefixes of pseudonyms are."""

AWAY = "postgresql://nobody@127.0.0.1:9/none"


@pytest.fixture(scope="module")
def job(tmp_path_factory: pytest.TempPathFactory) -> NightJob:
    """A night in which everybody is flagged."""
    place = tmp_path_factory.mktemp("lab")
    study = lab.write_study(place)
    operation = json.dumps({"inbox": "inbox", "settle_s": 0})
    study.write_text(f"{study.read_text()}detection: {{error_rate: 0.6}}\noperation: {operation}\n")
    for seed, name in enumerate(NAMES):
        signal = lab.noise(seconds=10, seed=seed)
        signal[1, 300:500] *= 30
        lab.write_edf(place / f"inbox/{name}.edf", signal)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("AE_PIPELINE_CACHE", str(place / "cache"))
        patch.setenv("MLFLOW_TRACKING_URI", AWAY)
        patch.chdir(place)
        (place / "mlflow.yaml").touch()
        run_plainly(train_job(study))
        night = night_job(study)
        run_plainly(night)
        patch.undo()
    return night


@pytest.fixture
def codes(job: NightJob, monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    monkeypatch.chdir(job.inbox.file.parent)
    return {name: Masking().recording(name) for name in NAMES}


class Page(HTMLParser):
    """The text of a page by cells of tables, and all of it."""

    def __init__(self, html: str) -> None:
        super().__init__(convert_charrefs=True)
        self.cells: list[str] = []
        self.words: list[str] = []
        self.within: list[str] = []
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag in ("td", "th"):
            self.cells.append("")
        if tag in ("td", "th", "script", "style"):
            self.within.append(tag)

    def handle_endtag(self, tag: str) -> None:
        if self.within and self.within[-1] == tag:
            self.within.pop()

    def handle_data(self, data: str) -> None:
        if self.within and self.within[-1] in ("script", "style"):
            return
        if self.within:
            self.cells[-1] += data
        self.words.append(data)


def copies(job: NightJob) -> Path:
    return job.folder / "pseudonymised" / "children"


def test_every_flagged_recording_has_its_page_and_no_other(
    job: NightJob, codes: dict[str, str]
) -> None:
    assert set(job.night.scored) == set(job.night.flagged) == set(NAMES)
    assert {place.name for place in copies(job).iterdir()} == set(codes.values())
    for code in codes.values():
        files = {file.name for file in (copies(job) / code).iterdir()}
        assert files == {"report.html", "events.tsv", "summary.md"}


def test_tables_of_the_copy_say_the_same_numbers(job: NightJob, codes: dict[str, str]) -> None:
    results = job.inbox.results(job.pin.model_id)
    for name, code in codes.items():
        own = Page((results / f"{name}_report.html").read_text())
        copy = Page((copies(job) / code / "report.html").read_text())
        assert len(own.cells) > 50
        assert copy.cells == own.cells
        different = [
            (a, b) for a, b in zip(own.words, copy.words, strict=True) if a != b and a.strip()
        ]
        # the title and the captions of the examples name the recording
        assert different
        assert all(code in b and b.replace(code, name) == a for a, b in different)
        events = [
            pd.read_csv(file, sep="\t")
            for file in (
                results / f"{name}_desc-anomaly_events.tsv",
                copies(job) / code / "events.tsv",
            )
        ]
        pd.testing.assert_frame_equal(*events)


def test_no_page_or_table_that_leaves_holds_a_name(job: NightJob, codes: dict[str, str]) -> None:
    for file in (job.folder / "pseudonymised").rglob("*"):
        if file.suffix in (".md", ".json"):
            # times hold any number
            text = re.sub(r"\d{4}-\d\d-\d\d[ T][\d:]+", "", file.read_text())
            assert not re.search(r"(?<![\w.-])(one|42)(?![\w.-])", text), file
    run = json.loads((job.folder / "pseudonymised/run.json").read_text())
    assert {child["name"] for child in run["children"]} == set(codes.values())
    assert run["metrics"]["flagged"] == len(NAMES)
    page = (job.folder / "pseudonymised/digest.html").read_text()
    listed = Page(page).cells
    assert set(codes.values()) <= set(listed)
    assert not set(NAMES) & set(listed)


def test_a_trained_models_tables_leave_without_names(job: NightJob, codes: dict[str, str]) -> None:
    place = job.inbox.file.parent / "derivatives/small"
    for name in ("scores", "latents"):
        own = pd.read_parquet(place / f"{name}.parquet")
        copy = pd.read_parquet(place / f"pseudonymised/{name}.parquet")
        assert not set(own["subject"]) & set(copy["subject"])
        assert copy["recording"].str.startswith("rec-").all()
        hidden = ["recording", "subject"]
        pd.testing.assert_frame_equal(own.drop(columns=hidden), copy.drop(columns=hidden))
    own, copy = (
        Page((folder / "report.html").read_text()) for folder in (place, place / "pseudonymised")
    )
    assert len(own.cells) == len(copy.cells)
    names = set(pd.read_parquet(place / "scores.parquet")["subject"])
    assert not names & {cell.strip() for cell in copy.cells}
