from __future__ import annotations

from pathlib import Path

import numpy as np

from ae_pipeline.sources import cells, wording


def test_a_table_is_read_as_it_is_written_without_being_told_how(tmp_path: Path) -> None:
    file = tmp_path / "answers.csv"
    file.write_bytes("id;Größe;A1\nx;1,5;3\ny;;\n".encode("latin-1"))
    layout = cells.look(file)
    assert layout.names == ("id", "Größe", "A1")
    assert cells.in_words(layout) == "separated by semicolons, Windows-1252"
    frame, _, signs = cells.read(layout, ["Größe", "A1"], missing={})
    assert signs.decimal == ","
    np.testing.assert_array_equal(frame["Größe"], np.array([1.5, np.nan], np.float32))
    assert frame["id"].tolist() == ["x", "y"]
    assert cells.count_rows(file) == 3


def test_cells_count_as_missing_column_by_column(tmp_path: Path) -> None:
    file = tmp_path / "answers.csv"
    file.write_text("id,A1,A2\nNA,-9,-9\n")
    frame, _, _ = cells.read(cells.look(file), ["A1", "A2"], missing={"id": [""], "A1": ["-9"]})
    assert frame.loc[0, "id"] == "NA"
    assert np.isnan(frame.loc[0, "A1"])
    assert frame.loc[0, "A2"] == -9


def test_words_in_a_column_of_numbers_are_pointed_out(tmp_path: Path) -> None:
    file = tmp_path / "answers.csv"
    file.write_text("A1,A2\n1,2\nmany,2\n")
    frame, refused, _ = cells.read(cells.look(file), ["A1", "A2"], missing={})
    assert refused["A1"].tolist() == [False, True]
    assert "A2" not in refused
    assert np.isnan(frame.loc[1, "A1"])


def test_messages_name_the_first_few_and_count_the_rest() -> None:
    assert wording.rows(np.arange(1, 8)) == "rows 1, 2, 3, 4, 5 and 2 more"
    assert wording.rows(np.array([4])) == "row 4"
    assert wording.items(["A1"]) == "item 'A1'"
    assert wording.quoted(map(str, range(9))).endswith("'7' and 1 more")
    assert wording.count(1204, "answer") == "1,204 answers"
    assert wording.nearest("a1", ["A1", "B1"]) == "did you mean 'A1'?"
