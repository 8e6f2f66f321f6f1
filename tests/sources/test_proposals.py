"""What ``init`` makes of tables as survey programs export them."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from ae_pipeline.data import InputError
from ae_pipeline.jobs.init import initial_study
from ae_pipeline.sources import likert
from ae_pipeline.sources.items import QuestionnaireSource
from ae_pipeline.sources.proposal import propose
from ae_pipeline.sources.questionnaire import Table, load

N = 90
AGREEMENT = ["Strongly disagree", "Disagree", "Neutral", "Agree", "Strongly agree"]


def answers(names: list[str], levels: int = 5, *, seed: int = 0, low: int = 1) -> pd.DataFrame:
    """Answers of one scale."""
    rng = np.random.default_rng(seed)
    drawn = rng.normal(size=(N, 1)) + 0.7 * rng.normal(size=(N, len(names)))
    cut = np.linspace(-1.5, 1.5, levels - 1)
    return pd.DataFrame(np.digitize(drawn, cut) + low, columns=names)


def proposed(frame: pd.DataFrame, path: Path, **how: Any) -> tuple[dict[str, Any], Table]:
    """The proposal for a table, and the table read with it."""
    frame.to_csv(path, index=False, **how)
    section, comments = propose(path)
    section["comments"] = comments
    source = {key: value for key, value in section.items() if key != "comments"}
    return section, load([path], QuestionnaireSource.model_validate(source))


def items(section: dict[str, Any], table: Table) -> list[int]:
    """Items in each block."""
    scales = [column.block for column in table.samples.columns]
    return [scales.count(block["scale"]) for block in section["items"]]


def test_qualtrics(tmp_path: Path) -> None:
    body = answers([f"Q1_{i}" for i in range(1, 9)]).astype(str)
    n = len(body)
    body.insert(0, "StartDate", ["2026-03-01 10:00:00"] * n)
    body.insert(1, "Status", ["0"] * n)
    body.insert(2, "IPAddress", [f"10.0.0.{i}" for i in range(n)])
    body.insert(3, "Progress", ["100"] * n)
    body.insert(4, "Duration (in seconds)", [str(200 + 7 * i) for i in range(n)])
    body.insert(5, "Finished", ["1"] * n)
    body.insert(6, "ResponseId", [f"R_{i:05d}" for i in range(n)])
    head = pd.DataFrame(
        [
            [f"How much do you agree?\nPlease choose. - {name}" for name in body],
            [f'{{"ImportId":"{name}"}}' for name in body],
        ],
        columns=list(body),
    )
    section, table = proposed(pd.concat([head, body]), tmp_path / "q.csv")
    assert section["header_rows"] == 3
    assert section["id_column"] == "ResponseId"
    assert section["response_times"] == ["Duration (in seconds)"]
    assert len(table.samples) == N
    assert items(section, table) == [8]
    assert "Qualtrics" in section["comments"]["path"]


def test_limesurvey(tmp_path: Path) -> None:
    names = [f"G01Q01[SQ{i:03d}]" for i in range(1, 8)]
    frame = answers(names).map(lambda level: f"A{level}")
    frame.insert(0, "id", range(1, N + 1))
    frame.insert(1, "submitdate", "2026-03-01")
    frame.insert(2, "lastpage", 3)
    frame.insert(3, "startlanguage", "de")
    frame["interviewtime"] = np.linspace(100, 900, N).round(2)
    section, table = proposed(frame, tmp_path / "q.csv", sep=";")
    (block,) = section["items"]
    assert block["levels"] == ["A1", "A2", "A3", "A4", "A5"]
    assert table.samples.entries == tuple(names)
    assert section["response_times"] == ["interviewtime"]
    assert "LimeSurvey" in section["comments"]["path"]


def test_redcap(tmp_path: Path) -> None:
    parts = []
    for event in ("baseline_arm_1", "followup_arm_1"):
        frame = answers([f"phq9_{i}" for i in range(1, 10)], 4, seed=len(event), low=0)
        for k in range(1, 4):
            frame[f"meds___{k}"] = (np.arange(N) % (k + 1) == 0).astype(int)
        frame["phq9_complete"] = 2
        frame.insert(0, "record_id", range(1, N + 1))
        frame.insert(1, "redcap_event_name", event)
        parts.append(frame)
    section, table = proposed(pd.concat(parts).sort_values("record_id"), tmp_path / "q.csv")
    assert section["subject_column"] == "record_id"
    assert section["id_column"] is None
    assert items(section, table) == [9, 3]
    assert [c.type for c in table.samples.columns] == ["ordinal"] * 9 + ["binary"] * 3
    assert table.samples.meta["subject"].nunique() == N
    assert "REDCap" in section["comments"]["path"]


def test_surveymonkey(tmp_path: Path) -> None:
    topics = ["Pay", "Hours", "Team", "Tools", "Rooms", "Food"]
    body = answers(topics).map(lambda level: AGREEMENT[level - 1])
    first = ["Respondent ID", "Collector ID", "How far do you agree?", *[""] * 5]
    second = ["", "", *topics]
    rows = [[str(118_000 + i), "77", *row] for i, row in enumerate(body.to_numpy().tolist())]
    with (tmp_path / "q.csv").open("w", newline="") as file:
        csv.writer(file).writerows([first, second, *rows])
    section, _ = propose(tmp_path / "q.csv")
    table = load([tmp_path / "q.csv"], QuestionnaireSource.model_validate(section))
    assert section["header_rows"] == 2
    assert section["id_column"] == "Respondent ID"
    assert table.samples.entries[0] == "How far do you agree? Pay"
    assert section["items"][0]["levels"] == AGREEMENT
    np.testing.assert_array_equal(table.samples.values, answers(topics) - 1)


def test_google_forms(tmp_path: Path) -> None:
    questions = ["I feel calm", "I sleep well", "I laugh often", "My day is full", "I have time"]
    frame = answers(questions)
    frame.insert(0, "Timestamp", [f"01/03/2026 10:{i % 60:02d}:{i // 60:02d}" for i in range(N)])
    frame.insert(1, "How old are you?", np.arange(N) % 60 + 18)
    frame["Anything else?"] = [f"text {i}" for i in range(N)]
    section, table = proposed(frame, tmp_path / "q.csv")
    assert table.samples.entries == tuple(questions)
    assert "Google Forms" in section["comments"]["path"]
    assert "Anything else?" in section["comments"]["path"]
    words = frame.copy()
    words[questions] = frame[questions].map(lambda level: AGREEMENT[level - 1])
    section, table = proposed(words, tmp_path / "w.csv")
    assert table.samples.entries == tuple(questions)
    assert {column.type for column in table.samples.columns} == {"ordinal"}


@pytest.mark.parametrize(
    "words",
    [
        AGREEMENT,
        ["Never", "Rarely", "Sometimes", "Often", "Always"],
        ["Not at all", "Several days", "More than half the days", "Nearly every day"],
        ["Nunca", "Casi nunca", "A veces", "A menudo", "Siempre"],
        [
            "Totalmente en desacuerdo",
            "En desacuerdo",
            "Ni de acuerdo ni en desacuerdo",
            "De acuerdo",
            "Totalmente de acuerdo",
        ],
        ["Nie", "Selten", "Manchmal", "Oft", "Immer"],
        [
            "Stimme überhaupt nicht zu",
            "Stimme eher nicht zu",
            "Teils/teils",
            "Stimme eher zu",
            "Stimme voll und ganz zu",
        ],
        ["Very dissatisfied", "Dissatisfied", "Neutral", "Satisfied", "Very satisfied"],
        ["None", "Mild", "Moderate", "Severe"],
    ],
)
def test_words_of_three_languages_are_put_in_order(tmp_path: Path, words: list[str]) -> None:
    frame = answers([f"q{i}" for i in range(1, 7)], len(words), low=0)
    text = frame.map(lambda level: words[level])
    text.iloc[::7, 0] = text.iloc[::7, 0].str.upper()
    text.iloc[::9, 1] = " " + text.iloc[::9, 1] + " "
    section, table = proposed(text, tmp_path / "q.csv")
    (block,) = section["items"]
    assert [level.casefold() for level in block["levels"]] == [word.casefold() for word in words]
    np.testing.assert_array_equal(table.samples.values, frame)


def test_an_end_that_nobody_chose_is_a_level_all_the_same() -> None:
    assert likert.in_order(AGREEMENT[1:]) == tuple(AGREEMENT)
    assert likert.in_order(["A2", "A5"]) == ("A1", "A2", "A3", "A4", "A5")
    assert likert.in_order(["male", "female"]) is None


def test_times_are_known_by_their_values_and_items_named_like_times_stay(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    frame = answers([f"ms{i}" for i in range(1, 7)])  # a scale of mood
    for i in range(1, 4):
        frame[f"x{i}"] = rng.lognormal(8, 0.8, N).round()
    section, table = proposed(frame, tmp_path / "q.csv")
    assert section["response_times"] == ["x1", "x2", "x3"]
    assert table.samples.shape == (6,)


def test_recoded_copies_and_orders_of_presentation_are_no_items(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    frame = answers([f"a{i}" for i in range(1, 7)])
    frame["a2_r"] = 6 - frame["a2"]
    for i in range(6):
        frame[f"pos{i + 1}"] = 0
    frame.iloc[:, -6:] = np.array([rng.permutation(6) + 1 for _ in range(N)])
    section, table = proposed(frame, tmp_path / "q.csv")
    assert table.samples.entries == tuple(f"a{i}" for i in range(1, 7))
    assert "a2_r (recoded copy of a2)" in section["comments"]["path"]
    assert "pos1" in section["comments"]["path"]


def test_a_zero_below_the_scale_is_proposed_as_missing_and_widens_nothing(tmp_path: Path) -> None:
    frame = pd.concat([answers([f"a{i}" for i in range(1, 9)], seed=i) for i in range(5)])
    frame.iloc[::50, 3] = 0
    section, table = proposed(frame, tmp_path / "q.csv")
    (block,) = section["items"]
    assert block["range"] == [1, 5]
    assert block["missing_codes"] == [0]
    assert table.samples.mask is not None
    assert int((~table.samples.mask).sum()) == 9


def test_a_code_of_one_block_does_not_empty_another(tmp_path: Path) -> None:
    frame = answers([f"lik{i}" for i in range(1, 7)])
    frame.iloc[:6, 0] = 99
    for i in range(1, 5):
        frame[f"vas{i}"] = np.linspace(0, 100, N).round() if i % 2 else np.arange(N) + 11
    section, table = proposed(frame, tmp_path / "q.csv")
    assert [block.get("missing_codes") for block in section["items"]] == [[99], None]
    assert section["items"][0]["range"] == [1, 5]
    assert table.samples.mask is not None
    assert int((~table.samples.mask).sum()) == 6


def test_an_even_split_of_a_block_is_said_to_be_undecidable(tmp_path: Path) -> None:
    frame = answers([f"a{i}" for i in range(1, 7)])
    frame[["a4", "a5", "a6"]] = 6 - frame[["a4", "a5", "a6"]]
    section, _ = proposed(frame, tmp_path / "q.csv")
    assert "reverse_proposed" not in section["items"][0]
    said = section["comments"]["items.0.reverse"]
    assert "cannot be decided" in said
    assert "a1, a2, a3" in said
    assert "a4, a5, a6" in said


def test_every_column_has_a_role_and_a_reason(tmp_path: Path) -> None:
    frame = answers([f"a{i}" for i in range(1, 7)])
    frame["age"], frame["single3"], frame["nothing"] = 30, np.arange(N) % 4, None
    frame["comment"] = [f"words {i}" for i in range(N)]
    section, _ = proposed(frame, tmp_path / "q.csv")
    for name in ("age", "single3", "nothing", "comment"):
        assert name in section["comments"]["path"]


def test_answers_that_became_dates_are_named_not_dropped(tmp_path: Path) -> None:
    frame = answers([f"a{i}" for i in range(1, 7)]).astype(object)
    frame = frame.replace({2: "02.Jan", 3: "03.Mrz"})
    with pytest.raises(InputError, match=r"dates .* in a1, a2"):
        proposed(frame, tmp_path / "q.csv", sep=";")


def test_titles_and_footers_are_found(tmp_path: Path) -> None:
    frame = answers([f"a{i}" for i in range(1, 7)])
    frame.insert(0, "id", [f"P{i}" for i in range(N)])
    text = frame.to_csv(index=False)
    path = tmp_path / "q.csv"
    path.write_text(f"Survey of spring\n\n{text}\nTotal,3,3,3,3,3,3\n")
    section, _ = propose(path)
    assert section["skip_rows"] == 2
    table = load([path], QuestionnaireSource.model_validate(section))
    np.testing.assert_array_equal(table.samples.values, frame.iloc[:, 1:])


@pytest.mark.slow
def test_published_inventories_are_proposed_as_their_codebooks_say(shared_data: Path) -> None:
    place = shared_data / "psychometrics"
    section, _ = propose(place / "duckworth-grit-scale-data" / "data.csv")
    scales = {block["scale"]: block for block in section["items"]}
    assert {"GS", "VCL", "E", "N", "A", "C", "O"} == set(scales)
    assert all(scales[name]["range"] == [1, 5] for name in "ENACO")
    assert scales["A"]["reverse_proposed"] == ["A1", "A3", "A5", "A7"]
    section, _ = propose(place / "FTI-data" / "data.csv")
    assert section["items"][0]["items"] == ["Q*A"]
    assert {"Q1E", "Q56E"} <= set(section["response_times"])


def test_no_study_is_written_that_could_not_be_trained(tmp_path: Path) -> None:
    answers([f"a{i}" for i in range(1, 7)]).head(4).to_csv(tmp_path / "q.csv", index=False)
    with pytest.raises(InputError, match="too few"):
        initial_study("questionnaire", tmp_path / "q.csv")
    answers([f"a{i}" for i in range(1, 7)]).to_csv(tmp_path / "q.csv", index=False)
    assert "a*" in initial_study("questionnaire", tmp_path / "q.csv")
