"""Workbooks and SPSS files read like the CSV file of the same answers."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from ae_pipeline.data import InputError
from ae_pipeline.sources import sheets
from ae_pipeline.sources.items import QuestionnaireSource
from ae_pipeline.sources.proposal import propose
from ae_pipeline.sources.questionnaire import load


def answers() -> pd.DataFrame:
    rng = np.random.default_rng(0)
    frame = pd.DataFrame(
        rng.integers(1, 6, (40, 4)).astype(float), columns=["A1", "A2", "A3", "A4"]
    )
    frame.insert(0, "id", [f"p{i}" for i in range(40)])
    frame.loc[3, "A2"] = np.nan
    frame["age"] = 30
    return frame


def written(tmp_path: Path, ending: str) -> Path:
    path, frame = tmp_path / f"answers{ending}", answers()
    if ending == ".csv":
        frame.to_csv(path, index=False)
    elif ending == ".xlsx":
        frame.to_excel(path, index=False)
    else:
        import pyreadstat

        labels = {name: {1: "never", 6: "always"} for name in ("A1", "A2", "A3", "A4")}
        pyreadstat.write_sav(frame, str(path), variable_value_labels=labels)
    return path


@pytest.mark.parametrize("ending", [".xlsx", ".sav"])
def test_answers_are_those_of_the_csv_file(tmp_path: Path, ending: str) -> None:
    source = QuestionnaireSource(
        path=tmp_path, id_column="id", items=[{"items": ["A*"], "range": (1, 6), "reverse": "A2"}]
    )
    expected = load([written(tmp_path, ".csv")], source)
    found = load([written(tmp_path, ending)], source)
    np.testing.assert_array_equal(found.samples.values, expected.samples.values)
    np.testing.assert_array_equal(found.samples.mask, expected.samples.mask)
    assert found.samples.meta["recording"].tolist() == expected.samples.meta["recording"].tolist()
    assert ("workbook" if ending == ".xlsx" else "SPSS") in found.notes[0]


def test_value_labels_give_the_possible_range(tmp_path: Path) -> None:
    section, comments = propose(written(tmp_path, ".sav"))
    assert section["items"][0]["range"] == [1, 6]  # nobody answered 6
    assert "labels" in comments["items.0.range"]
    assert propose(written(tmp_path, ".csv"))[0]["items"][0]["range"] == [1, 5]


def test_codes_of_missing_answers_that_the_file_declares_count_as_missing(tmp_path: Path) -> None:
    import pyreadstat

    frame = answers()
    frame.loc[[5, 6], "A1"] = 99.0
    path = tmp_path / "answers.sav"
    pyreadstat.write_sav(frame, str(path), missing_ranges={"A1": [99]})
    source = QuestionnaireSource(path=path, id_column="id", items=["A*"])
    table = load([path], source)
    assert table.samples.mask is not None
    assert not table.samples.mask[[5, 6], 0].any()
    assert "declares codes of missing answers" in table.notes[0]


@pytest.mark.parametrize("name", ["broken.xlsx", "broken.sav"])
def test_a_damaged_file_is_refused_in_one_line(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    path.write_bytes(b"no such format" * 20)
    with pytest.raises(InputError, match="cannot be read as") as refused:
        sheets.read(path)
    assert "\n" not in str(refused.value)


def test_an_empty_workbook_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "empty.xlsx"
    pd.DataFrame().to_excel(path, index=False)
    with pytest.raises(InputError, match="workbook is empty"):
        sheets.read(path)
