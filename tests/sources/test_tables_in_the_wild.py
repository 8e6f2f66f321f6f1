"""Tables as spreadsheets, survey programs and people leave them: read as a person reads them."""

from __future__ import annotations

import datetime
from pathlib import Path
from typing import Any

import numpy as np
import openpyxl
import pandas as pd
import pyreadstat
import pytest

from ae_pipeline.data import InputError
from ae_pipeline.sources import cells, numerals, sheets
from ae_pipeline.sources.items import QuestionnaireSource
from ae_pipeline.sources.questionnaire import Table, load

WORDS = ["Never – not once", "I don’t know", "Often", "“Always”"]


def likert(n: int = 120, items: int = 6, levels: int = 5, seed: int = 0) -> pd.DataFrame:
    """Answers that go together, beside an id."""
    rng = np.random.default_rng(seed)
    drawn = rng.normal(size=(n, 1)) + 0.7 * rng.normal(size=(n, items))
    cut = np.linspace(-1.5, 1.5, levels - 1)
    frame = pd.DataFrame(np.digitize(drawn, cut) + 1, columns=[f"a{i + 1}" for i in range(items)])
    frame.insert(0, "id", [f"P{i:03d}" for i in range(n)])
    return frame


def read(path: Path, **source: Any) -> Table:
    settings: dict[str, Any] = {
        "id_column": "id",
        "items": [{"items": "a*", "range": [1, 5], "scale": "a"}],
    }
    return load([path], QuestionnaireSource(path=path, **(settings | source)))


# ------------------------------------------------------------------------------- numbers


@pytest.mark.parametrize(
    ("cells_", "delimiter", "expected"),
    [
        (["4,711", "12,500", "900"], ",", [4711, 12500, 900]),
        (["4.711", "2,5"], ";", [4711, 2.5]),
        (["3,5", "4,25"], ";", [3.5, 4.25]),
        (["1.234,5", "7"], ";", [1234.5, 7]),
        (["1,234.5", "7"], ",", [1234.5, 7]),
        (["12 500", "7"], ",", [12500, 7]),
        (["1'000", "7"], ",", [1000, 7]),
        (["0,512", "1,204"], ";", [0.512, 1.204]),
        (["1.234.567", "8"], ";", [1234567, 8]),
    ],
)
def test_numbers_are_read_however_they_are_written(
    cells_: list[str], delimiter: str, expected: list[float]
) -> None:
    text = pd.Series(cells_, dtype="str")
    found = numerals.numbers(text, numerals.signs([text], delimiter=delimiter))
    assert found.tolist() == expected


def test_thousands_are_numbers_and_leading_zeros_are_names(tmp_path: Path) -> None:
    frame = likert().assign(
        rt=[f"{v:,}" for v in range(980, 1100)],
        site=[f"{i % 7 + 1:03d}" for i in range(120)],
        token=[str(90071992547409910 + i) for i in range(120)],
    )
    frame.to_csv(tmp_path / "q.csv", index=False)
    meta = read(tmp_path / "q.csv", response_times="rt").samples.meta
    assert meta["rt"].tolist() == list(range(980, 1100))
    assert meta["site"].tolist()[:2] == ["001", "002"]
    assert meta["token"].iloc[1] == "90071992547409911"


def test_labelled_end_points_are_numbers(tmp_path: Path) -> None:
    frame = likert()
    expected = frame.iloc[:, 1:].to_numpy()
    frame.replace({1: "1 - Not at all", 5: "5 - Extremely"}).to_csv(tmp_path / "q.csv", index=False)
    table = read(tmp_path / "q.csv")
    assert table.samples.mask is not None
    assert table.samples.mask.all()
    np.testing.assert_array_equal(table.samples.values, expected)
    assert numerals.labels(["10 minutes", "20 minutes"]) == {}
    assert numerals.labels(["Extremely (7)"]) == {"Extremely (7)": 7}


# --------------------------------------------------------------------------- text as it is


def test_windows_text_is_read_in_headers_and_answers(tmp_path: Path) -> None:
    frame = likert(levels=4).replace(dict(enumerate(WORDS, 1)))
    frame.columns = ["id", *(f"a … {i}" for i in range(1, 7))]
    frame.to_csv(tmp_path / "q.csv", index=False, sep=";", encoding="cp1252")
    block = {"items": "a*", "levels": WORDS, "type": "ordinal"}
    table = read(tmp_path / "q.csv", items=[block])
    assert table.samples.entries[0] == "a … 1"
    assert table.samples.mask is not None
    assert table.samples.mask.all()
    np.testing.assert_array_equal(table.samples.values, likert(levels=4).iloc[:, 1:] - 1)


def test_a_line_separator_in_a_header_ends_no_line(tmp_path: Path) -> None:
    frame = likert().rename(columns={"a1": "a1\u2028text"})
    frame.to_csv(tmp_path / "q.csv", index=False)
    assert "a1" in read(tmp_path / "q.csv").samples.entries[0]
    assert len(read(tmp_path / "q.csv").samples) == 120


def test_stray_quotes_swallow_no_rows(tmp_path: Path) -> None:
    frame = likert()
    frame["comment"] = ""
    frame.loc[9, "comment"], frame.loc[19, "comment"] = '"ok', 'nothing to add"'
    lines = ["\t".join(frame)] + ["\t".join(map(str, row)) for row in frame.to_numpy()]
    (tmp_path / "q.tsv").write_text("\n".join(lines) + "\n")
    table = read(tmp_path / "q.tsv")
    assert len(table.samples) == 120
    assert "line 11" in table.notes[0]
    lines[3] += "\textra"
    (tmp_path / "q.tsv").write_text("\n".join(lines) + "\n")
    with pytest.raises(InputError):
        read(tmp_path / "q.tsv")


def test_a_quote_that_swallows_rows_is_named_with_its_line(tmp_path: Path) -> None:
    frame = likert()
    frame.insert(1, "comment", "")
    rows = [",".join(map(str, row)) for row in frame.to_numpy()]
    rows[4] = rows[4].replace("P004,", 'P004,"ok', 1)
    rows[7] = rows[7].replace("P007,", 'P007,fine"', 1)
    rows[9] = rows[9].replace("P009,", 'P009,"a, b"', 1)
    for seventh in (rows[7], rows[7].replace('"', '", but')):
        lines = [",".join(frame), *rows[:7], seventh, *rows[8:]]
        (tmp_path / "q.csv").write_text("\n".join(lines) + "\n")
        with pytest.raises(InputError, match="line 6"):
            read(tmp_path / "q.csv")


def test_comments_of_several_lines_are_no_stray_quotes(tmp_path: Path) -> None:
    frame = likert().assign(comment='said "yes"\nand, more')
    frame.to_csv(tmp_path / "q.csv", index=False)
    assert len(read(tmp_path / "q.csv").samples) == 120


# --------------------------------------------------------------------- answers that are none


def test_a_declared_level_or_group_is_never_missing(tmp_path: Path) -> None:
    frame = likert(levels=4).replace({1: "None", 2: "Mild", 3: "NA", 4: "Severe"})
    frame["treatment"] = ["None", "Drug"] * 60
    frame["land"] = ["NA", "DE", "FR", "ES"] * 30
    frame["sex"] = ["NA", "f", "m", "f"] * 30
    frame.to_csv(tmp_path / "q.csv", index=False)
    block = {"items": "a*", "levels": ["None", "Mild", "NA", "Severe"], "type": "ordinal"}
    table = read(tmp_path / "q.csv", items=[block], groups=["treatment", "land", "sex"])
    assert table.samples.mask is not None
    assert table.samples.mask.all()
    meta = table.samples.meta
    assert meta["treatment"].value_counts().to_dict() == {"None": 60, "Drug": 60}
    assert meta["land"].notna().all()
    assert int(meta["sex"].isna().sum()) == 30


def test_levels_ignore_case_and_blanks(tmp_path: Path) -> None:
    frame = likert(levels=3).replace({1: "Never ", 2: "some  times", 3: "ALWAYS"})
    frame.to_csv(tmp_path / "q.csv", index=False)
    block = {"items": "a*", "levels": ["never", "Some times", "Always"], "type": "ordinal"}
    table = read(tmp_path / "q.csv", items=[block])
    np.testing.assert_array_equal(table.samples.values, likert(levels=3).iloc[:, 1:] - 1)


def test_a_code_of_one_block_is_an_answer_in_another(tmp_path: Path) -> None:
    frame = likert()
    frame.loc[:9, "a1"] = 99
    for i in range(1, 4):
        frame[f"v{i}"] = (np.arange(120) * i) % 101
    blocks = [{"items": "a*", "range": [1, 5]}, {"items": "v*", "range": [0, 100]}]
    frame.to_csv(tmp_path / "q.csv", index=False)
    table = read(tmp_path / "q.csv", items=blocks, missing_codes=[99])
    assert table.samples.mask is not None
    assert int((~table.samples.mask).sum()) == 10
    assert any("99 is a possible answer" in note for note in table.notes)
    blocks[1]["missing_codes"] = [99]
    mask = read(tmp_path / "q.csv", items=blocks, missing_codes=[99]).samples.mask
    assert mask is not None
    assert int((~mask).sum()) == 10 + int((frame[["v1", "v2", "v3"]] == 99).sum().sum())


def test_few_impossible_answers_are_listed_and_masked(tmp_path: Path) -> None:
    frame = likert().astype(object)
    frame.loc[3, "a2"], frame.loc[8, "a4"] = 11, "2026-01-02"
    frame.to_csv(tmp_path / "q.csv", index=False)
    table = read(tmp_path / "q.csv")
    assert table.samples.mask is not None
    assert (~table.samples.mask).nonzero()[0].tolist() == [3, 8]
    listed = next(note for note in table.notes if "impossible" in note)
    assert "'a2'" in listed
    assert "row 4" in listed
    assert "row 9" in listed
    with pytest.raises(InputError, match="impossible_share"):
        read(tmp_path / "q.csv", impossible_share=0)
    frame["a6"] = 9  # one item of six: the study is wrong, not the people
    frame.to_csv(tmp_path / "q.csv", index=False)
    with pytest.raises(InputError, match="'a6'"):
        read(tmp_path / "q.csv", impossible_share=0.5)


# ---------------------------------------------------------------------- rows and their order


def test_a_star_is_the_order_of_the_file(tmp_path: Path) -> None:
    names = ["a1", "b1", "a2", "b2", "a3", "b3"]
    rng = np.random.default_rng(0)
    frame = pd.DataFrame(rng.integers(1, 6, (50, 6)), columns=names)
    frame.insert(0, "id", range(50))
    frame.to_csv(tmp_path / "q.csv", index=False)
    blocks = [{"items": "a*", "range": [1, 5]}, {"items": "b*", "range": [1, 5]}]
    table = read(tmp_path / "q.csv", items=blocks, presentation_order=["*"])
    by_place = sorted(table.samples.columns, key=lambda column: column.position or 0)
    assert [column.name for column in by_place] == names


def test_rows_of_one_person_stay_together(tmp_path: Path) -> None:
    from ae_pipeline.training.split import Split, divide

    visits = pd.concat([likert(seed=1), likert(seed=2)]).sort_values("id")
    visits.to_csv(tmp_path / "q.csv", index=False)
    table = read(tmp_path / "q.csv", id_column=None, subject_column="id")
    meta = table.samples.meta
    assert len(meta) == 240
    assert meta["recording"].is_unique
    assert any("240 rows of 120 people" in note for note in table.notes)
    for leave_out_below in (0, 1000):
        division = divide(meta, Split(leave_out_below=leave_out_below))
        parts = pd.Series(division.part).groupby(meta["subject"]).nunique()
        assert parts.max() == 1
        for fold in division.folds:
            inside = set(meta["subject"].iloc[fold])
            assert not inside & set(meta["subject"].drop(index=meta.index[fold]))
    with pytest.raises(InputError, match="subject_column: id"):
        read(tmp_path / "q.csv")


def test_failed_attention_checks_are_counted_beside_the_answers(tmp_path: Path) -> None:
    frame = likert().assign(check=[3] * 100 + [1] * 15 + [""] * 5)
    frame.to_csv(tmp_path / "q.csv", index=False)
    meta = read(tmp_path / "q.csv", checks={"check": 3}).samples.meta
    assert meta["checks_failed"].sum() == 15
    with pytest.raises(InputError, match="did you mean 'check'"):
        read(tmp_path / "q.csv", checks={"chek": 3})


def test_reverse_keying_is_proposed_until_it_is_decided(tmp_path: Path) -> None:
    frame = likert(300)
    frame["a3"] = 6 - frame["a3"]
    frame.to_csv(tmp_path / "q.csv", index=False)

    def noted(**block: Any) -> tuple[list[bool], str]:
        table = read(tmp_path / "q.csv", items=[{"items": "a*", "range": [1, 5], **block}])
        return [c.reverse for c in table.samples.columns], " ".join(table.notes)

    plain = [False] * 6
    third = [False, False, True, False, False, False]
    assert "reverse" not in noted()[1]
    turned, notes = noted(reverse_proposed=["a3"])
    assert turned == plain
    assert "'a3' seems reverse-keyed" in notes
    assert noted(reverse_proposed=["a3"], reverse=["a3"])[1].count("seems reverse") == 0
    turned, notes = noted(reverse="auto")
    assert turned == third
    assert "'a3'" in notes
    frame["a4"], frame["a5"] = 6 - frame["a4"], 6 - frame["a5"]
    frame.to_csv(tmp_path / "q.csv", index=False)
    turned, notes = noted(reverse="auto")
    assert turned == plain
    assert "cannot be decided" in notes


# -------------------------------------------------------------------------------- workbooks


def book(path: Path, fill: Any) -> Path:
    work = openpyxl.Workbook()
    fill(work)
    work.save(path)
    return path


def rows_into(sheet: Any, frame: pd.DataFrame, *, names: bool = True) -> None:
    if names:
        sheet.append(list(frame))
    for row in frame.itertuples(index=False):
        sheet.append(list(row))


def test_titles_footers_and_several_header_rows(tmp_path: Path) -> None:
    frame = likert()

    def fill(work: Any) -> None:
        sheet = work.active
        sheet.append(["Survey of well-being, spring"])
        sheet.append([])
        rows_into(sheet, frame)
        sheet.append(["Mean", 3.1])

    path = book(tmp_path / "title.xlsx", fill)
    found = read(path, skip_rows=2, skip_footer=1).samples
    np.testing.assert_array_equal(found.values, frame.iloc[:, 1:])

    def grouped(work: Any) -> None:
        work.active.append([None, "mood", None, None, "sleep"])
        work.active.append(["id", 1, 2, 3, 1, 2, 3])
        rows_into(work.active, frame, names=False)

    path = book(tmp_path / "two.xlsx", grouped)
    block = {"items": ["mood*", "sleep*"], "range": [1, 5]}
    found = read(path, header_rows=2, items=[block]).samples
    assert found.entries == ("mood 1", "mood 2", "mood 3", "sleep 1", "sleep 2", "sleep 3")


def test_the_sheet_with_the_data_is_read_or_the_one_that_is_named(tmp_path: Path) -> None:
    def fill(work: Any) -> None:
        work.active.title = "Notes"
        work.active.append(["1 = never"])
        rows_into(work.create_sheet("Data"), likert())
        rows_into(work.create_sheet("Pilot"), likert(20))

    path = book(tmp_path / "q.xlsx", fill)
    assert len(read(path).samples) == 120
    assert len(read(path, sheet="Pilot").samples) == len(read(path, sheet=3).samples) == 20
    with pytest.raises(InputError, match="'Notes', 'Data', 'Pilot'"):
        read(path, sheet="Datum")


def test_cells_of_workbooks_are_what_they_show(tmp_path: Path) -> None:
    def fill(work: Any) -> None:
        rows_into(work.active, likert())
        work.active["B5"] = datetime.datetime(2026, 1, 2)
        work.active["C7"] = "3 "
        work.active["D8"] = "#VALUE!"

    table = read(book(tmp_path / "q.xlsx", fill))
    assert table.samples.mask is not None
    assert list(zip(*(~table.samples.mask).nonzero(), strict=True)) == [(3, 0), (6, 2)]
    assert table.samples.values[5, 1] == 3


def test_what_a_label_calls_missing_is_no_end_of_the_range(tmp_path: Path) -> None:
    frame = likert().astype({f"a{i}": float for i in range(1, 7)})
    frame.loc[:4, "a1"] = -9.0
    labels = {-9.0: "no answer", 1.0: "never", 5.0: "always"}
    path = tmp_path / "q.sav"
    pyreadstat.write_sav(
        frame, str(path), variable_value_labels={f"a{i}": labels for i in range(1, 7)}
    )
    sheet = sheets.read(path)
    assert sheet.ranges["a1"] == (1.0, 5.0)
    assert sheet.codes["a1"] == [-9.0]


def test_stata_and_open_document_tables_are_read(tmp_path: Path) -> None:
    frame = likert()
    frame.to_stata(tmp_path / "q.dta", write_index=False)
    np.testing.assert_array_equal(read(tmp_path / "q.dta").samples.values, frame.iloc[:, 1:])


@pytest.mark.parametrize(
    ("name", "what"), [("x.mat", "MATLAB"), ("x.xdf", "XDF"), ("x.sas7bdat", "SAS")]
)
def test_a_format_that_is_not_read_is_called_by_its_name(
    tmp_path: Path, name: str, what: str
) -> None:
    (tmp_path / name).write_bytes(b"\0" * 100)
    with pytest.raises(InputError, match=what) as refused:
        cells.look(tmp_path / name)
    assert "damaged" not in str(refused.value)


def test_a_cell_far_away_and_a_million_columns_are_refused_at_once(tmp_path: Path) -> None:
    def fill(work: Any) -> None:
        work.active["A1"], work.active["XFD1048576"] = "id", 1

    with pytest.raises(InputError, match="far from the others") as refused:
        cells.look(book(tmp_path / "far.xlsx", fill))
    assert "\n" not in str(refused.value)
    for sep in (",", "\n"):
        wide = ",".join(f"a{i}" for i in range(1_000_000 if sep == "," else 60_000))
        (tmp_path / "wide.csv").write_text(f"{wide}\n1,2\n")
        with pytest.raises(InputError, match=r"column names|at most 20,000"):
            cells.look(tmp_path / "wide.csv")
