from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from pydantic import ValidationError

from ae_pipeline.data import InputError
from ae_pipeline.jobs import init as initial
from ae_pipeline.kinds import questionnaire as kind
from ae_pipeline.sources.items import ItemBlock, QuestionnaireSource, group_columns
from ae_pipeline.sources.proposal import propose
from ae_pipeline.sources.questionnaire import Table, find, load

PLAIN = "who,A1,A2,B1,age\nx01,1,2,0,31\nx02,5,,1,\nx03,3,4,1,47\n"


@pytest.fixture
def write(tmp_path: Path) -> Any:
    """Write a table and give its path."""

    def write_table(content: str | bytes = PLAIN, name: str = "answers.csv") -> Path:
        path = tmp_path / name
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return path

    return write_table


def read(path: Path, columns: Any = None, **source: Any) -> Table:
    """Load a table with blocks A (1 to 5) and B (0 to 1) unless told otherwise."""
    blocks = [{"items": "A*", "range": [1, 5]}, {"items": "B*", "range": [0, 1]}]
    settings = {"id_column": "who", "items": blocks} | source
    return load([path], QuestionnaireSource(path=path, **settings), columns=columns)


def refusal(path: Path, columns: Any = None, **source: Any) -> str:
    """The one line with which a table is refused; it names the file."""
    with pytest.raises(InputError) as caught:
        read(path, columns, **source)
    message = str(caught.value)
    assert "\n" not in message
    assert str(path) in message
    return message


# --------------------------------------------------------------------- values and mask


def test_missing_answers_are_masked_and_the_others_are_as_given(write: Any) -> None:
    samples = read(write()).samples
    np.testing.assert_array_equal(samples.values, [[1, 2, 0], [5, 0, 1], [3, 4, 1]])
    assert samples.mask is not None
    np.testing.assert_array_equal(samples.mask, [[1, 1, 1], [1, 0, 1], [1, 1, 1]])
    assert samples.values.dtype == np.float32
    assert samples.entries == ("A1", "A2", "B1")


def test_the_id_is_the_identity_and_other_columns_are_metadata_only(write: Any) -> None:
    samples = read(write()).samples
    assert samples.meta["recording"].tolist() == ["x01", "x02", "x03"]
    assert (samples.meta["subject"] == samples.meta["recording"]).all()
    assert samples.meta["age"].tolist()[::2] == [31, 47]
    assert "who" not in samples.meta
    pattern_for_all = read(write(), items=["*"]).samples
    assert pattern_for_all.entries == ("A1", "A2", "B1", "age")


def test_rows_are_numbered_where_there_is_no_id(write: Any) -> None:
    table = read(write("A1,B1\n1,0\n\n2,1\n"), id_column=None)
    assert table.samples.meta["recording"].tolist() == ["row-0001", "row-0003"]


def test_ids_stay_text(write: Any) -> None:
    path = write("who,A1,B1\n007,1,0\nNA,2,1\n 8 ,3,1\n")
    assert read(path).samples.meta["recording"].tolist() == ["007", "NA", "8"]


def test_columns_named_like_an_identity_are_kept_under_another_name(write: Any) -> None:
    table = read(write("who,subject,A1,B1\nx,s1,1,0\ny,s2,2,1\n"))
    assert table.samples.meta["subject"].tolist() == ["x", "y"]
    assert table.samples.meta["subject_"].tolist() == ["s1", "s2"]
    assert any("kept as 'subject_'" in note for note in table.notes)


def test_missing_codes_count_in_items_however_they_are_written(write: Any) -> None:
    path = write("who,A1,A2,B1,age\na,-9,5,1,-9\nb,1,refused,0,30\nc,-9.0,2,NA,99\n")
    samples = read(path, missing_codes=[-9, "refused"]).samples
    assert samples.mask is not None
    np.testing.assert_array_equal(samples.mask, [[0, 1, 1], [1, 0, 1], [0, 1, 0]])
    assert samples.meta["age"].tolist() == [-9, 30, 99]


def test_reverse_keying_uses_the_possible_range_not_the_observed(write: Any) -> None:
    path = write("who,A1,A2\na,1,2\nb,2,\nc,3,4\n")
    block = {"items": "A*", "range": [1, 6], "reverse": ["A2"]}
    samples = read(path, items=[block]).samples
    np.testing.assert_array_equal(samples.values, [[1, 5], [2, 0], [3, 3]])
    assert samples.columns[1].levels == (1, 2, 3, 4, 5, 6)


def test_types_follow_from_the_declared_range(write: Any) -> None:
    path = write(
        "who,A1,B1,C1,D1,E1,F1\na,1,0,1,17,2.5,1\nb,2,1,2,80,1,2\nc,2,0,3,5,4,3\n",
    )
    blocks = [
        {"items": "A*", "range": [1, 5], "scale": "alpha"},
        {"items": "B*", "range": [0, 1]},
        {"items": "C*", "range": [1, 3], "type": "nominal"},
        {"items": "D*", "range": [0, 100]},
        {"items": "E*", "range": [1, 5]},
        "F*",
    ]
    table = read(path, items=blocks)
    types = [column.type for column in table.samples.columns]
    assert types == ["ordinal", "binary", "nominal", "continuous", "continuous", "continuous"]
    assert table.samples.columns[0].levels == (1, 2, 3, 4, 5)
    assert table.samples.columns[0].block == "alpha"
    assert table.samples.columns[1].levels == (0, 1)
    assert table.samples.columns[3].levels == ()
    assert any("between whole numbers in item 'E1'" in note for note in table.notes)
    assert any("no possible range declared for item 'F1'" in note for note in table.notes)


def test_answers_in_words_are_coded_by_their_declared_order(write: Any) -> None:
    path = write("who,A1\na,often\nb,never\nc,\nd,sometimes\n")
    block = {"items": "A*", "levels": ["never", "sometimes", "often"], "type": "ordinal"}
    samples = read(path, items=[block | {"reverse": "A1"}]).samples
    np.testing.assert_array_equal(samples.values[:, 0], [0, 2, 1])  # nobody answered in row 3
    assert samples.columns[0].levels == (0, 1, 2)
    message = refusal(path, items=[block | {"levels": ["never", "often"]}])
    assert "'A1' has 1 answer not among its levels (row 4)" in message


def test_rows_and_columns_without_any_answer_are_left_out_and_said(write: Any) -> None:
    table = read(write("who,A1,A2,B1\na,1,,0\nb,,,\nc,2,,1\n"))
    assert table.samples.meta["recording"].tolist() == ["a", "c"]
    assert table.samples.entries == ("A1", "B1")
    assert any("no item answered in row 2; left out" in note for note in table.notes)
    assert any("item 'A2' answered by nobody; left out" in note for note in table.notes)


def test_one_answer_only_is_said_but_refused_where_all_items_are_so(write: Any) -> None:
    table = read(write("who,A1,A2,B1\na,1,3,0\nb,2,3,1\n"))
    assert any("same answer to item 'A2'" in note for note in table.notes)
    assert "nothing to learn" in refusal(write("who,A1,A2\na,1,3\nb,1,3\n"), items=["A*"])


def test_presentation_order_and_response_times_are_carried_beside_the_answers(write: Any) -> None:
    path = write("who,A1,A2,B1,rt_1,rt_2\na,1,2,0,3.5,2\nb,2,3,1,-9,4\n")
    table = read(path, presentation_order=["B1", "A*"], response_times="rt_*", missing_codes=[-9])
    assert table.presentation_order == (2, 0, 1)
    assert table.response_times == ("rt_1", "rt_2")
    assert table.samples.meta["rt_1"].isna().tolist() == [False, True]
    assert table.samples.entries == ("A1", "A2", "B1")
    assert read(path, presentation_order="*").presentation_order == (0, 1, 2)
    assert "presentation_order leaves out item 'B1'" in refusal(path, presentation_order=["A*"])


# ----------------------------------------------------------------------- ways of writing


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (PLAIN, "separated by commas, UTF-8"),
        (PLAIN.replace(",", ";"), "separated by semicolons, UTF-8"),
        (PLAIN.replace(",", "\t"), "separated by tabs"),
        ("sep=;\r\n" + PLAIN.replace(",", ";").replace("\n", "\r\n"), "semicolons"),
        ("\ufeff" + PLAIN, "byte-order mark"),
        (PLAIN.encode("utf-16"), "UTF-16"),
        (PLAIN.replace("x01", "Zoë").encode("cp1252"), "Windows-1252"),
        (PLAIN.replace("x01", "Zoë"), "UTF-8"),
        (PLAIN.replace("31", '"3,1"'), "commas"),
        (PLAIN.replace(",", ", "), "commas"),
        (PLAIN + "\n\n", "3 rows"),
        (PLAIN.replace("\n", ",\n"), "commas"),
    ],
)
def test_the_same_table_reads_alike_however_it_is_written(
    write: Any, content: str | bytes, told: str
) -> None:
    table = read(write(content))
    np.testing.assert_array_equal(table.samples.values, [[1, 2, 0], [5, 0, 1], [3, 4, 1]])
    assert table.samples.meta["recording"].iloc[0] in ("x01", "Zoë")
    assert list(table.samples.meta) == ["recording", "subject", "age"]
    assert told in table.notes[0]


@pytest.mark.parametrize(
    "content",
    ["who;A1;B1;age\na;1,5;0;2,5\nb;2;1;3\n", 'who,A1,B1,age\na,"1,5",0,"2,5"\nb,2,1,3\n'],
)
def test_decimal_commas_are_read_and_said(write: Any, content: str) -> None:
    table = read(write(content))
    np.testing.assert_array_equal(table.samples.values, [[1.5, 0], [2, 1]])
    assert table.samples.meta["age"].tolist() == [2.5, 3]
    assert "decimal commas" in table.notes[0]


def test_row_names_as_r_writes_them_can_be_the_id(write: Any) -> None:
    for content in ('"","A1","B1"\n"61617",1,0\n"61618",2,1\n', "A1 B1\n7 1 0\n8 2 1\n"):
        path = write(content.replace(" ", "\t"))
        samples = read(path, id_column="Unnamed: 0").samples
        np.testing.assert_array_equal(samples.values, [[1, 0], [2, 1]])


def test_a_header_with_commas_in_its_questions_does_not_hide_the_tabs(write: Any) -> None:
    path = write("who\tI am sad, down, low\tI sleep well\na\t1\t2\nb\t2\t3\n")
    samples = read(path, items=["I *"]).samples
    assert samples.entries == ("I am sad, down, low", "I sleep well")


def test_an_item_name_with_brackets_is_a_name_first(write: Any) -> None:
    path = write("who,Q[1],Q[2]\na,1,2\nb,2,3\n")
    assert read(path, items=["Q[1]"]).samples.entries == ("Q[1]",)


# --------------------------------------------------------------------------- several files


def test_tables_of_two_sites_are_one_and_ids_are_unique_over_both(
    write: Any, tmp_path: Path
) -> None:
    first = write("who,A1,B1\na,1,0\nb,,\n", "one.csv")
    second = write("who;B1;A1\nc;1;2\n", "two.csv")
    source = QuestionnaireSource(
        path=tmp_path,
        id_column="who",
        items=["A1", "B1"],  # names: the order is the study's
    )
    assert find(tmp_path) == [first, second]
    table = load([tmp_path], source)
    assert table.samples.meta["recording"].tolist() == ["a", "c"]
    np.testing.assert_array_equal(table.samples.values, [[1, 0], [2, 1]])
    assert any(note == "one.csv: no item answered in row 2; left out" for note in table.notes)
    write("who,A1,B1\na,3,1\n", "two.csv")
    with pytest.raises(InputError, match=r"two\.csv: row 1 has the id of row 1 of one\.csv"):
        load([tmp_path], source)
    numbered = load([tmp_path], source.model_copy(update={"id_column": None}))
    assert numbered.samples.meta["recording"].tolist() == ["one__row-0001", "two__row-0001"]
    write("who,A1,B1,A2\nd,1,0,3\n", "two.csv")
    with pytest.raises(InputError, match=r"two\.csv: items differ from one\.csv \('A2'\)"):
        load([tmp_path], source.model_copy(update={"items": (ItemBlock(items="[AB]*"),)}))


# -------------------------------------------------------------------- held to a model


def test_scoring_holds_a_table_to_the_items_and_types_of_the_model(write: Any) -> None:
    columns = read(write()).samples.columns
    other = write("B1,A2,who,A1,A9\n1,2,z1,4,5\n", "new.csv")
    table = read(other, columns)
    np.testing.assert_array_equal(table.samples.values, [[4, 2, 1]])  # one person is enough
    assert table.samples.columns == columns
    unanswered = write("B1,A2,who,A1\n1,,z1,4\n,,z2,2\n", "new.csv")
    samples = read(unanswered, columns).samples
    assert samples.entries == ("A1", "A2", "B1")
    assert samples.mask is not None
    np.testing.assert_array_equal(samples.mask, [[1, 0, 1], [1, 0, 0]])


def test_scoring_reverse_keys_as_training_did(write: Any) -> None:
    items = [{"items": "A*", "range": [1, 5], "reverse": ["A2"]}]
    trained = read(write(), items=items)
    scored = read(write("who,A2,A1\nn,2,1\n", "new.csv"), trained.samples.columns, items=items)
    np.testing.assert_array_equal(scored.samples.values, [[1, 4]])
    np.testing.assert_array_equal(trained.samples.values[0], [1, 4])


def test_a_table_that_does_not_fit_the_model_is_refused(write: Any) -> None:
    columns = read(write()).samples.columns
    lacking = write("who,A1,B1\na,1,0\n", "new.csv")
    assert "item 'A2' of the model missing from the table" in refusal(lacking, columns)
    between = write("who,A1,A2,B1\na,1,2.5,0\n", "new.csv")
    message = refusal(between, columns)
    assert "'A2' has 1 answer other than the whole numbers from 1 to 5" in message


# ------------------------------------------------------------------------------ bad input


@pytest.mark.parametrize(
    ("content", "settings", "expected"),
    [
        (b"", {}, "is empty"),
        (b" \n \n", {}, "is empty"),
        ("who,A1,B1\n", {}, "has a header but no rows"),
        (b"PK\x03\x04\x14\0", {}, "is no text table"),
        (PLAIN, {"id_column": "Who"}, "no id column 'Who'; did you mean 'who'?"),
        (PLAIN, {"id_column": "zzz"}, "no id column 'zzz'; there are 'who', 'A1'"),
        (PLAIN, {"items": ["A1", "a2"]}, "'a2' matches no column; did you mean 'A2'?"),
        (PLAIN, {"items": ["Z*"]}, "'Z*' matches no column"),
        (PLAIN, {"items": ["who"]}, "the id column 'who' cannot be an item"),
        (PLAIN, {"items": ["A*", "A1"]}, "item 'A1' is in two blocks"),
        (
            PLAIN,
            {"items": [{"items": "A*", "range": [1, 5], "reverse": ["A3"]}]},
            "reverse: 'A3' matches no column; there are 'A1', 'A2'",
        ),
        (
            "who,A1,B1\ns,1,0\nt,2,1\ns,3,1\nu,3,1\nt,3,1\n",
            {},
            "id column 'who' holds the same id in rows 1, 3 (2 ids stand more than once)",
        ),
        ("who,A1,B1\ns,1,0\n,2,1\n", {}, "id column 'who' is empty in row 2"),
        (
            "who,A1,A2,B1\na,1,good,0\nb,2,3,1\nc,4,bad,x\n",
            {},
            "item 'A2' has 2 answers that are no numbers (rows 1, 3), and so has item 'B1'",
        ),
        (
            "who,A1,A2,B1\na,1,7,0\nb,2,3,2\nc,4,55,1\n",
            {},
            "item 'A2' has 2 answers outside its range 1 to 5 (7, 55; rows 1, 3), and so has "
            "item 'B1'; put codes of missing answers under missing_codes, or correct range",
        ),
        ("who,A1,B1\na,inf,0\nb,2,1\n", {"items": ["A1"]}, "1 answer beyond 1e+09"),
        ("who,A1,B1\na,1e30,0\nb,2,1\n", {"items": ["A1"]}, "1 answer beyond 1e+09"),
        ("who,A1,A1\na,1,0\n", {}, "column name 'A1' stands more than once"),
        ("who,A1,B1\na,1,0\nb,1,0,7,9\n", {}, "row 2 has 5 fields where the header has 3 names"),
        ("who,A1,B1\na,1,0,7,9\n", {}, "more fields than the header has names (3)"),
        ('who,A1,B1\na,"1,0\nb,1\n', {}, "line 2 opens a quote that is never closed"),
        ("who,A1,B1\na,,\nb,,NA\n", {}, "nobody answered any item"),
        (b"\xef\xbb\xbfwho,A1,B1\na\xff,1,0\n", {}, "is not UTF-8-SIG throughout"),
    ],
)
def test_a_table_that_cannot_be_used_is_refused_in_one_line(
    write: Any, content: str | bytes, settings: dict[str, Any], expected: str
) -> None:
    assert expected in refusal(write(content), **settings)


def test_a_file_that_is_not_there_is_said(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no such file or folder"):
        find(tmp_path / "none.csv")
    with pytest.raises(InputError, match="holds no tables"):
        find(tmp_path)


def test_messages_and_notes_name_no_person_and_quote_no_text(write: Any) -> None:
    texts = [refusal(write("who,A1,B1\nErika M,secret,0\nErika M,2,1\n"))]
    texts.append(refusal(write("who,A1,B1\nErika M,1,0\nErika M,2,1\n")))
    texts += read(write("who,A1,B1\nErika M,1,0\nMax,,\nPia,3,1\n")).notes
    assert not [text for text in texts if "Erika" in text or "secret" in text or "Max" in text]


# -------------------------------------------------------------------------- configuration


@pytest.mark.parametrize(
    ("block", "message"),
    [
        ({"range": [5, 1]}, "the lowest first"),
        ({"reverse": "A1"}, "reverse keying needs the possible range"),
        ({"type": "ordinal"}, "type: ordinal needs the possible range"),
        ({"type": "binary", "range": [1, 5]}, "two possible answers"),
        ({"type": "ordinal", "range": [0.5, 3]}, "whole numbers"),
        ({"levels": ["no", "yes"]}, "say type"),
        ({"levels": ["no", "yes"], "range": [0, 1], "type": "binary"}, "not both"),
        ({"levels": ["no", "no"], "type": "binary"}, "stands twice"),
    ],
)
def test_a_block_that_contradicts_itself_is_refused(block: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        ItemBlock.model_validate({"items": "A*"} | block)


def test_an_unquoted_yes_is_no_missing_code() -> None:
    with pytest.raises(ValidationError, match="in quotes"):
        QuestionnaireSource.model_validate(
            {"path": "a.csv", "items": "A*", "missing_codes": [True]}
        )


def test_names_patterns_and_blocks_may_be_mixed_and_survive_json() -> None:
    given = {"path": "a.csv", "items": ["A1", {"items": "B*", "range": [1, 5]}]}
    source = QuestionnaireSource.model_validate(given)
    assert [block.items for block in source.items] == [("A1",), ("B*",)]
    assert QuestionnaireSource.model_validate_json(source.model_dump_json()) == source


# ------------------------------------------------------------------------------ real data


def test_the_careless_survey_is_proposed_and_read_as_published(shared_data: Path) -> None:
    path = shared_data / "careless" / "items.csv"
    section, comments = propose(path)
    assert section["id_column"] == "subject"
    assert {block["scale"]: tuple(block["range"]) for block in section["items"]} == {
        "7u": (0, 3),
        "7d": (0, 3),
        "gad7": (0, 3),
        "pswq": (0, 4),
        "bis": (1, 4),
        "bas": (1, 4),
        "shaps": (0, 3),
    }
    assert section["missing_codes"] == []
    assert "platform" in comments["path"]

    table = load([path], QuestionnaireSource.model_validate(section))
    truth = pd.read_csv(path)
    items = [name for name in truth if name not in ("platform", "subject")]
    assert table.samples.entries == tuple(items)
    np.testing.assert_array_equal(table.samples.values, truth[items])
    assert {column.type for column in table.samples.columns} == {"ordinal"}
    assert set(table.samples.meta["platform"]) == {"mturk", "prolific"}
    assert section["path"] == str(path)


def inventory(n: int = 600) -> pd.DataFrame:
    """Answers of a five-factor kind, with known reverse-keyed items and codes."""
    rng = np.random.default_rng(1)
    frame = pd.DataFrame({"": np.arange(61617, 61617 + n)})
    for factor, turned in (("A", (1,)), ("C", (4, 5)), ("N", ())):
        trait = rng.normal(size=n)
        for i in range(1, 6):
            signed = -trait if i in turned else trait
            raw = 3.5 + 1.2 * signed + rng.normal(size=n)
            frame[f"{factor}{i}"] = np.clip(np.rint(raw), 1, 6).astype(int)
    frame.loc[rng.choice(n, 9, replace=False), "A2"] = -9
    frame.loc[rng.choice(n, 9, replace=False), "C3"] = 99
    return frame.assign(gender=rng.integers(1, 3, n), age=rng.integers(16, 80, n))


def test_a_proposal_finds_blocks_ranges_codes_and_items_turned_round(write: Any) -> None:
    truth = inventory()
    path = write(truth.to_csv(index=False))
    section, comments = propose(path)
    assert section["id_column"] == "Unnamed: 0"
    assert [block["items"] for block in section["items"]] == [["A*"], ["C*"], ["N*"]]
    assert all(block["range"] == [1, 6] for block in section["items"])
    assert section["missing_codes"] == [-9, 99]
    proposed = [block.get("reverse_proposed") for block in section["items"]]
    assert proposed == [["A1"], ["C4", "C5"], None]
    assert [block.get("reverse") for block in section["items"]] == [[], [], None]
    assert "gender, age" in comments["path"]

    samples = load([path], QuestionnaireSource.model_validate(section)).samples
    assert samples.shape == (15,)
    assert samples.mask is not None
    assert (~samples.mask).sum() == 18
    assert samples.meta["recording"].iloc[0] == "61617"


def test_a_proposal_leaves_out_what_is_no_item(write: Any) -> None:
    rng = np.random.default_rng(2)
    n = 40
    frame = pd.DataFrame(
        {
            "Name": [f"person {i}" for i in range(n)],
            "pid": [f"p{i:03d}" for i in range(n)],
            "gad7_q01": rng.integers(0, 4, n),
            "gad7_q02": rng.integers(0, 4, n),
            "vas_1": rng.integers(0, 101, n),
            "vas_2": rng.integers(0, 101, n),
            "rt_1": rng.random(n),
            "rt_2": rng.random(n),
            "comment": ["fine"] * n,
            "lonely3": rng.integers(0, 4, n),
        }
    )
    frame["gad7_q02"] = frame["gad7_q02"].astype(str)
    frame.loc[:3, "gad7_q02"] = "refused"
    section, _ = propose(write(frame.to_csv(index=False, sep=";")))
    assert section["id_column"] == "pid"
    assert [block["items"] for block in section["items"]] == [["gad7_q*"], ["vas_*"]]
    assert section["missing_codes"] == ["refused"]
    assert section["response_times"] == ["rt_1", "rt_2"]


def test_a_table_without_items_is_not_proposed(write: Any) -> None:
    with pytest.raises(InputError, match="no columns look like items"):
        propose(write("who,age\na,3\nb,4\n"))


# ---------------------------------------------------------------------------------- size


def test_many_rows_need_a_few_times_the_memory_of_their_values(write: Any) -> None:
    import tracemalloc

    n = 50_000
    answers = np.random.default_rng(0).integers(1, 6, (n, 50))
    frame = pd.DataFrame(answers, columns=[f"A{i}" for i in range(50)])
    path = write(frame.to_csv(index=False))
    tracemalloc.start()
    try:
        samples = read(path, id_column=None, items=[{"items": "A*", "range": [1, 5]}]).samples
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    np.testing.assert_array_equal(samples.values, answers)
    assert peak < 6 * samples.values.nbytes


# ------------------------------------------------------------------ too few, or implausible


def test_more_items_than_people_is_said_with_what_can_still_be_trusted(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    frame = pd.DataFrame(rng.integers(1, 6, (30, 100)), columns=[f"Q{i}" for i in range(100)])
    path = tmp_path / "few.csv"
    frame.to_csv(path, index=False)
    source = QuestionnaireSource(path=path, items=[{"items": "Q*", "range": [1, 5]}])
    (note,) = [n for n in load([path], source).notes if "too few" in n]
    assert note.startswith("30 people and 100 items")
    assert "longstring" in note
    assert "cannot" in note
    assert "\n" not in note


def test_an_implausible_age_is_reported_with_its_row(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    frame = pd.DataFrame(rng.integers(1, 6, (120, 4)), columns=["Q1", "Q2", "Q3", "Q4"])
    frame["age"] = 40
    frame.loc[4, "age"] = 3
    path = tmp_path / "ages.csv"
    frame.to_csv(path, index=False)
    source = QuestionnaireSource(path=path, items=[{"items": "Q*", "range": [1, 5]}])
    (note,) = [n for n in load([path], source).notes if "implausible" in n]
    assert "'age' has 1 implausible value (3; row 5)" in note


def test_groups_are_those_named_or_those_whose_names_say_so(tmp_path: Path) -> None:
    path = tmp_path / "x.csv"
    columns = ["age", "gender", "platform", "wage"]
    guess = QuestionnaireSource(path=path, items="Q*")
    assert group_columns(columns, guess) == ["age", "gender"]
    told = QuestionnaireSource(path=path, items="Q*", groups="platform")
    assert group_columns(columns, told) == ["platform"]


def test_a_large_table_is_proposed_fewer_epochs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rng = np.random.default_rng(0)
    table = pd.DataFrame(rng.integers(1, 6, (400, 6)), columns=[f"q{i}" for i in range(6)])
    table.to_csv(tmp_path / "t.csv", index=False)
    assert "epochs: 200" in initial.initial_study("questionnaire", tmp_path / "t.csv")
    monkeypatch.setattr(kind, "MANY_PEOPLE", 40)
    proposed = initial.initial_study("questionnaire", tmp_path / "t.csv")
    assert "epochs: 20\n" in proposed
    assert "About 401 rows" in proposed
