"""The digest in words: the verdict first, nothing in a name is markup."""

from __future__ import annotations

from a_night import NIGHT

from ae_pipeline.report import Listing, listing_page
from ae_pipeline.report.findings.night import Night, markdown, page, sentence


def test_the_verdict_says_what_matters() -> None:
    assert sentence(NIGHT) == (
        "3 scored, 1 flagged, 1 failed; expected 5, arrived 4: sub-07 missing."
    )
    assert sentence(Night("sleep", "")) == "Nothing new."
    many = Night("s", "", expected=30, arrived=10, missing=tuple(f"s{i}" for i in range(20)))
    assert sentence(many).endswith("s7 and 12 more missing.")


def test_names_are_text_in_both_pages() -> None:
    text, html = markdown(NIGHT), page(NIGHT, {"<b>sub-03</b>": "m/a b#.html"})
    assert "<b>" not in text
    assert "\\[waves\\](http" in text
    assert "<b>sub" not in html
    assert "m/a%20b%23.html" in html
    for words in ("2026-11-21 02:00", "Ended before it was done", "truncated"):
        assert words in text
        assert words in html
    assert "http-equiv" in html


def test_what_leaves_holds_no_name_or_reason_of_a_failure() -> None:
    names = {"sub-01": "rec-1", "sub-02": "rec-2", "<b>sub-03</b>": "rec-3", "sub-04": "rec-4"}
    masked = NIGHT.masked({**names, "sub-07": "rec-7"}.__getitem__)
    for text in (markdown(masked), page(masked)):
        assert "sub-0" not in text
        assert "truncated" not in text
        assert "rec-7 missing" in text
    assert Night.read({**NIGHT.record(), "of a later version": 1}) == NIGHT


def test_a_page_of_sections_says_so_where_one_is_empty() -> None:
    from ae_pipeline.report import Headline

    html = listing_page(
        "T",
        "K",
        headline=Headline("v"),
        listings=[Listing("Nothing here", ("a",), (), "None today.")],
    )
    assert "None today." in html
