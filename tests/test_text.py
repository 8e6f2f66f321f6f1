"""Text of files does nothing to a terminal, a log or a page."""

from __future__ import annotations

import logging
import re
from pathlib import Path

import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ae_pipeline.cli.console import console, err, print_worst, tell
from ae_pipeline.report.markdown import escaped
from ae_pipeline.runtime.files import read_json, write_json, write_text
from ae_pipeline.text import LONGEST_QUOTE, cut_quotes, visible

EVIL = "sub-\x1b[2J\x1b]0;x\x07\u202egnp.exe\u2066\u2028\r\x9b31m\x00\udcff"
SEEN = "sub-[U+001B][2J[U+001B]]0;x[U+0007][U+202E]gnp.exe"
HIDDEN = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069\u2028\ud800-\udfff]")


@given(st.text(st.characters(codec=None)))
def test_nothing_unseen_is_left_and_the_rest_is_as_it_was(text: str) -> None:
    shown = visible(text)
    assert not HIDDEN.search(shown)
    assert visible(shown) == shown
    shown.encode()


def test_a_terminal_shows_what_is_there(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    with console():
        logging.getLogger("ae_pipeline.test").warning(EVIL)
        logging.getLogger("ae_pipeline.test").info(EVIL)
    err(EVIL)
    tell(EVIL)
    frame = {"recording": [EVIL.replace("\udcff", "")], "flagged": [True], "score": [1.0]}
    pd.DataFrame(frame).assign(p_value=0.5, q_value=0.5).to_parquet(tmp_path / "scores.parquet")
    print_worst(tmp_path)
    said = capsys.readouterr()
    assert not HIDDEN.search(said.out + said.err)
    assert said.out.count(SEEN) == 2
    assert said.err.count(SEEN) == 3


def test_pages_and_summaries_show_what_is_there(tmp_path: Path) -> None:
    assert SEEN.replace("[", "\\[").replace("]", "\\]") in escaped(EVIL)
    for name in ("page.html", "summary.md", "methods.txt"):
        content = write_text(tmp_path / name, EVIL).read_text(encoding="utf-8")
        assert SEEN in content
        assert not HIDDEN.search(content)
    assert read_json(write_json(tmp_path / "a.json", {"name": EVIL})) == {"name": EVIL}


def test_a_quotation_is_short_and_a_path_is_whole() -> None:
    path = "/a" * 300
    said = cut_quotes(f"{path}: column '{'x' * 10**6}' holds \"{'y' * 500}\"; fix 'z'")
    assert path in said
    assert len(said) < len(path) + 2 * LONGEST_QUOTE + 60
    assert said.endswith("fix 'z'")
