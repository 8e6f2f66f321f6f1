"""Every column that is written for people is described beside it, and in the documentation."""

from __future__ import annotations

import json
from pathlib import Path

import pandas as pd

from ae_pipeline.outputs.dictionary import DESCRIPTIONS, dictionary, write_described

DOCS = Path(__file__).parents[2] / "docs" / "reference" / "data-dictionary.md"


def test_columns_are_described_in_a_file_beside_the_table(tmp_path: Path) -> None:
    frame = pd.DataFrame(columns=["id", "index_lz", "sum_anx", "total_anx", "score_pca", "item"])
    write_described(tmp_path / "persons.csv", frame)
    told = json.loads((tmp_path / "persons.json").read_text())
    assert list(told) == list(frame)
    assert all(entry["Description"] for entry in told.values())
    assert "total_anx" in told["sum_anx"]["Description"]


def test_an_unknown_column_is_kept_without_a_claim() -> None:
    assert dictionary(pd.DataFrame(columns=["shoe"]))["shoe"]["Description"] == ""


def test_the_page_of_the_documentation_is_the_dictionary() -> None:
    page = DOCS.read_text()
    assert all(f"| `{name}` | {text} |" in page for name, text in DESCRIPTIONS.items())
