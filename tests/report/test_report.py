"""Pages are parsed and looked at as a reader, a browser and an attacker would."""

from __future__ import annotations

import json
import re
from base64 import b64encode
from dataclasses import replace
from hashlib import sha256
from html.parser import HTMLParser
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from report_pages import (
    HEAD,
    PAGES,
    eeg_evidence,
    group_view,
    latents,
    page,
    recording_view,
    rows_view,
    texts,
    train_view,
    windows,
)

from ae_pipeline import report
from ae_pipeline.report.drawing import envelope, merge
from ae_pipeline.report.pages import (
    group_page,
    index_page,
    recording_page,
    rows_page,
    train_page,
)
from ae_pipeline.report.pictures.evidence import answers, image_cards, traces
from ae_pipeline.report.pictures.figures import heat_map, latent_map, score_histogram, timeline
from ae_pipeline.report.pictures.glance import strips
from ae_pipeline.report.pictures.interactive import moving_map, moving_timeline, policy, scripts
from ae_pipeline.report.tables import link
from ae_pipeline.report.views import (
    Evidence,
    GroupView,
    Headline,
    IndexEntry,
    IndexView,
    Number,
    RecordingView,
    RowsView,
    TrainView,
)
from ae_pipeline.report.wording import clean, p_value, shorten, show

SCRIPT = "<script>alert(1)</script>"
NASTY = (
    SCRIPT,
    '"><img src=x onerror=alert(1)>',
    "{{ 7 * 7 }}",
    "$\\frac{1}{$",
    "L" * 500,
    "脑电 ﷺ é 🧠",
    "bell\x07 nul\x00 esc\x1b",
    "lone \udcff surrogate",
    "\u202etxet",
    "]]>&amp;<!--",
)
VOID = {"meta", "link", "img", "br", "hr", "input", "base", "wbr"}


# ---------------------------------------------------------------------------------- reading


class Page(HTMLParser):
    """Tags with their attributes, the text, and whether every tag is closed in order."""

    def __init__(self, html: str) -> None:
        super().__init__(convert_charrefs=True)
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.open: list[str] = []
        self.badly_closed: list[str] = []
        self.scripts: list[str] = []
        self.feed(html)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        if not self.open or self.open.pop() != tag:
            self.badly_closed.append(tag)

    def handle_data(self, data: str) -> None:
        inside = self.open[-1] if self.open else ""
        if inside == "script":
            self.scripts.append(data)
        elif inside != "style":
            self.text += data

    def all(self, name: str) -> list[dict[str, str | None]]:
        return [attributes for tag, attributes in self.tags if tag == name]


def check(html: str) -> Page:
    """What every page has to be."""
    seen = Page(html)
    assert html.encode()
    assert html.startswith("<!doctype html>")
    assert seen.open == []
    assert seen.badly_closed == []
    names = {tag for tag, _ in seen.tags}
    assert not names & {"iframe", "object", "embed", "link", "base", "form"}
    # code is the package's own, each piece allowed by its digest; points are data and never run
    policy = seen.all("meta")[3]["content"] or ""
    assert "default-src 'none'" in policy
    assert "unsafe-eval" not in policy
    assert not re.search(r"script-src[^;]*unsafe", policy)
    for script in seen.scripts:
        if script in scripts():
            digest = b64encode(sha256(script.encode()).digest()).decode()
            assert f"'sha256-{digest}'" in policy
        else:
            json.loads(script)
            assert "<" not in script
    ids = [attributes["id"] for _, attributes in seen.tags if "id" in attributes]
    assert len(ids) == len(set(ids))
    for tag, attributes in seen.tags:
        for name, value in attributes.items():
            assert not name.startswith("on"), (tag, name)
            if name in ("src", "href", "xlink:href", "data", "srcset"):
                assert value is not None
                assert re.match(r"#|\./|data:image/png;base64,", value), (tag, name, value[:80])
            for used in re.findall(r"url\(#([^)]+)\)", value or ""):
                assert used in ids
    for style in re.findall(r"<style>(.*?)</style>", html, re.S):
        assert not re.search(r"@import|url\(", style)
    assert all(attributes.get("alt") for attributes in seen.all("img"))
    for svg in seen.all("svg"):
        assert svg["role"] == "img"
        assert svg["aria-label"]
    levels = [int(tag[1]) for tag, _ in seen.tags if re.fullmatch(r"h[1-6]", tag)]
    assert levels[0] == 1
    assert levels.count(1) == 1
    assert all(after - before <= 1 for before, after in pairwise(levels))
    assert {"header", "main", "footer", "title"} <= names
    assert seen.all("html")[0]["lang"] == "en"
    assert "research use, not a diagnosis" in seen.text
    policy = seen.all("meta")[3]["content"]
    assert policy is not None
    assert policy.startswith("default-src 'none'")
    assert len(html.encode()) < 10e6
    return seen


# --------------------------------------------------------------------------------- material


# ------------------------------------------------------------------------------------ pages


@pytest.mark.parametrize("name", PAGES)
def test_every_page_is_whole_and_starts_with_what_matters(name: str) -> None:
    seen = check(page(name))
    order = [
        seen.text.index(part)
        for part in (HEAD.verdict, "3 of 60", "Look at 12 to 14 s.", HEAD.baseline, "Calibrated on")
    ]
    assert order == sorted(order)
    assert seen.text.index("Calibrated on") < seen.text.index("For research use")


def test_the_same_view_gives_the_same_page() -> None:
    assert recording_page(recording_view()) == page("recording")


def test_a_recording_shows_traces_in_microvolts_events_and_bad_channels() -> None:
    seen = check(page("recording"))
    for text in ("µV", "time (s)", "threshold 2", "marked bad, not scored", "flat for 3.0 s"):
        assert text in seen.text
    assert seen.text.count("reconstruction") >= 3  # two worst, one best
    assert "10.00" in seen.text  # an event's onset
    assert "n/a" in seen.text  # its missing p


def test_a_training_page_compares_with_the_baselines_and_says_n_a_for_null() -> None:
    seen = check(page("train eeg"))
    text = " ".join(seen.text.split())
    assert "eyes closed differs from eyes open" in text
    assert "this model 0.3000 0.4200 n/a" in text
    assert "pca n/a n/a 0.3121" in text
    assert "beats the baselines: difference in loss 0.0588 (interval 0.0400 to 0.0700)" in text
    assert "4,388 parameters in all" in text
    assert "407,834" in text


def test_digits_show_original_reconstruction_and_difference() -> None:
    seen = check(page("rows mnist"))
    alts = [image["alt"] or "" for image in seen.all("img")]
    assert len(alts) == 2 * 3 * 3
    assert [alt.split()[0] for alt in alts[:3]] == ["Original", "Reconstruction", "Difference,"]
    assert "10.0" in alts[2] or "on average" in alts[2]


def test_a_person_is_shown_item_by_item_with_the_answers_the_scale_allows() -> None:
    seen = check(page("rows questionnaire"))
    labels = [svg["aria-label"] or "" for svg in seen.all("svg")]
    assert any("given" in label and "3.2 expected" in label for label in labels)
    assert not any("n/a given" in label for label in labels)
    for text in ("expected", "given", "A1", "5.0\u00a0%"):
        assert text in seen.text


def test_a_group_lists_the_worst_first_and_the_failed_with_their_reason() -> None:
    seen = check(page("group"))
    first = seen.text.index("All recordings, worst first")
    table = seen.text[first : seen.text.index("Could not be scored")]
    assert table.index("sub-03") < table.index("sub-02") < table.index("sub-01")
    assert "bad.edf" not in table
    failed = seen.text[seen.text.index("Could not be scored") :]
    assert "bad.edf: is empty; copy it again" in failed
    links = [a["href"] for a in seen.all("a")][1:]
    worst_first = ["./sub-03_report.html", "./sub-02_report.html", "./sub-01_report.html"]
    assert links == 2 * worst_first  # at a glance, and beside its scores


def test_a_strip_shows_where_a_recording_is_over_the_threshold() -> None:
    long, short = windows(400, "sub-03"), windows(10, "sub-01")  # fewer windows than bars
    long.loc[200, "score"] = 9.0
    long = long.drop(index=range(300, 340))  # a gap
    shown = strips(pd.concat([long, short]), threshold=3.0)
    assert set(shown) == {"sub-03", "sub-01"}
    gap, under, over = re.findall(r'path d="([^"]*)" style="fill', shown["sub-03"])
    place = [float(x) for x in re.findall(r"M([\d.]+),", over)]
    high = long["onset_s"][long["score"] > 3]
    seconds = np.unique(np.concatenate([high + t for t in (0, 0.999 * 2)]))
    bins = 96 * seconds // (long["onset_s"] + 2).max()
    assert place == [2 * each for each in sorted(set(bins))]  # two pixels each
    assert {float(x) for x in re.findall(r"M([\d.]+),", gap)} <= set(np.arange(140, 164))
    assert 60 < under.count("M") < 96
    assert "9" in shown["sub-03"]
    none, bars, over_ = re.findall(r'path d="([^"]*)" style="fill', shown["sub-01"])
    assert none == ""
    assert bars.count("M") + over_.count("M") == 96
    assert strips(None, 3.0) == strips(long.iloc[:0], 3.0) == {}


def test_an_event_stands_beside_the_nearest_normal_window() -> None:
    plain = eeg_evidence(("Fp1", "Cz", "O2"))
    beside = replace(plain, normal=plain.values * 0.5, normal_s=np.array([30.0, 31.5]))
    assert not traces(plain, 0, rank="worst").wide
    both = traces(beside, 1, rank="worst window 2")
    assert both.wide
    assert "nearest normal window, from 31.5" in both.alt
    assert "31.5" in both.caption
    assert both.svg.count("nearest normal window") >= 2  # for the ear and for the eye


def test_an_index_says_what_was_found_and_leads_to_the_reports_in_order() -> None:
    seen = check(page("index"))
    order = [
        seen.text.index(part)
        for part in (
            HEAD.verdict,
            "What to look at first",
            HEAD.baseline,
            "3 of 4 events were found.",
            "named: pop",
            "Yes: a z-score does.",
            "ae-pipeline init eeg",
        )
    ]
    assert order == sorted(order)
    links = [a["href"] for a in seen.all("a")][1:]
    assert links == ["./eeg/a%20b%231.html", "./eeg/a%20b%231.html", "./eeg/t.html", "./m"]
    labels = [svg["aria-label"] or "" for svg in seen.all("svg")]
    assert "blink at 16 s, not flagged" in labels[0]
    assert "negative: 2 of 10 flagged" in labels[1]
    assert len(seen.all("img")) == 3 * 3


# ------------------------------------------------------------------------------ hostile text


def test_no_name_from_a_file_becomes_markup() -> None:
    head = Headline(SCRIPT, (Number(*NASTY[:3]),), NASTY, SCRIPT, NASTY)
    facts = dict(zip(NASTY, NASTY, strict=True))
    view = replace(recording_view(NASTY), title=SCRIPT, headline=head, facts=facts, notes=NASTY)
    pages = [
        recording_page(view),
        rows_page(replace(rows_view("questionnaire", NASTY), headline=head, facts=facts)),
        group_page(replace(group_view(NASTY), headline=head)),
        train_page(
            replace(
                train_view(),
                headline=head,
                hypothesis=SCRIPT,
                worst=eeg_evidence(NASTY),
                layers=[(SCRIPT, SCRIPT, 1)],
                metrics={SCRIPT: SCRIPT, "baselines": {SCRIPT: {SCRIPT: 1.0}}},
                scores=train_view().scores.assign(part=SCRIPT),
                latents=latents(windows()).assign(subject=texts(*NASTY * 6)),
            )
        ),
        index_page(
            IndexView(
                title=SCRIPT,
                headline=head,
                entries=[
                    IndexEntry(*NASTY[:4], more=((SCRIPT, SCRIPT),), found=((SCRIPT, nasty),))
                    for nasty in (pd.DataFrame({name: texts(*NASTY) for name in NASTY[:3]}),) * 2
                ],
                first=((SCRIPT, SCRIPT),),
                commands=((SCRIPT, NASTY),),
                facts=facts,
            )
        ),
    ]
    for html in pages:
        seen = check(html)
        assert SCRIPT in seen.text
        assert "{{ 7 * 7 }}" in seen.text  # no template in a template
        assert not re.search("[\x00-\x08\x0b-\x1f\u202e\ud800-\udfff]", html)


def test_every_character_a_file_name_may_hold_stays_a_relative_address() -> None:
    for name in (*NASTY, "javascript:alert(1)", "//evil.example/x", "https://evil.example"):
        assert re.fullmatch(r"\./[A-Za-z0-9_.~/%-]*", link(name))


def test_identifiers_in_an_svg_do_not_clash_between_figures() -> None:
    html = page("recording")
    check(html)
    assert html.count("clip-path=") > 10


# -------------------------------------------------------------------------- missing and large


def test_columns_and_parts_that_do_not_exist_yet_are_left_out() -> None:
    scores = windows()[["recording", "window", "onset_s", "duration_s", "score"]]
    seen = check(
        recording_page(RecordingView(title="x", headline=Headline("Nothing."), scores=scores))
    )
    assert "No events were found." in seen.text
    assert "Bad channels" not in seen.text
    check(
        train_page(
            TrainView(
                title="x",
                what="images",
                thing="image",
                headline=Headline("Nothing."),
                history=pd.DataFrame(),
                metrics={},
                scores=pd.DataFrame(),
            )
        )
    )
    empty = pd.DataFrame({"recording": []})
    check(
        rows_page(
            RowsView(
                title="x",
                what="images",
                thing="image",
                things="images",
                headline=Headline("-"),
                scores=empty,
            )
        )
    )
    seen = check(group_page(GroupView(title="x", headline=Headline("-"), recordings=empty)))
    assert "Nothing was scored." in seen.text


def test_a_column_of_blanks_is_left_out() -> None:
    view = group_view()
    rows = view.recordings.assign(quality_findings="", events_per_hour=None)
    text = check(group_page(replace(view, recordings=rows))).text
    assert "quality findings" not in text
    assert "events an hour" not in text
    assert "usable" in text


def test_null_scores_flags_and_channels_are_coped_with() -> None:
    view = recording_view()
    scores = view.scores.assign(
        score=view.scores["score"].where(view.scores.index > 5),
        flagged=pd.Series([None, True] * 30, dtype="object"),
    )
    assert view.channel_scores is not None
    by_channel = view.channel_scores.copy()
    by_channel[:, 1] = np.nan
    evidence = eeg_evidence(("Fp1", "Cz", "O2"))
    evidence.values[:, 1] = np.nan
    dead = replace(evidence, values=evidence.values * np.nan)
    view = replace(view, scores=scores, channel_scores=by_channel, worst=evidence, best=dead)
    check(recording_page(view))


def test_a_day_of_64_channels_stays_small() -> None:
    n = 24 * 3600 * 2
    rng = np.random.default_rng(0)
    scores = windows(n)
    names = tuple(f"EEG {i:03d}" for i in range(64))
    events = pd.DataFrame(
        {"onset": rng.uniform(0, 86400, 3000), "duration": 2.0, "reason": "x" * 5000}
    )
    signal = rng.normal(0, 20, (20, 64, 1000))
    html = recording_page(
        RecordingView(
            title="day",
            headline=HEAD,
            scores=scores,
            events=events,
            threshold=2.0,
            channel_scores=rng.gamma(2, 1, (n, 64)).astype(np.float32),
            ch_names=names,
            worst=Evidence(signal, signal * 0.5, scores.head(20), 500.0, names, "µV"),
            bad_spans=[(i * 600.0, i * 600.0 + 5) for i in range(144)],
            latents=latents(scores, 16),
        )
    )
    seen = check(html)
    assert len(html.encode()) < 5e6
    assert "time (h)" in seen.text
    assert "The first 50 of 3,000." in seen.text


def test_an_envelope_keeps_the_extremes_and_breaks_at_gaps() -> None:
    x = np.arange(100_000) * 0.5
    y = np.sin(x / 1000)
    y[51_234] = 99
    y[7] = -99
    keep = (x < 20_000) | (x > 30_000)
    short_x, short_y = envelope(x[keep].astype(np.float64), y[keep])
    assert len(short_x) < 2_000
    assert np.nanmax(short_y) == y[keep].max()
    assert np.nanmin(short_y) == -99
    gap = np.flatnonzero(np.isnan(short_x))
    assert len(gap) == 1
    assert short_x[gap[0] - 1] < 20_100
    assert short_x[gap[0] + 1] > 29_900


def test_few_points_are_drawn_as_they_are() -> None:
    x, y = np.arange(10.0), np.arange(10.0) ** 2
    for drawn, given in zip(envelope(x, y), (x, y), strict=True):
        np.testing.assert_array_equal(drawn, given)


def test_overlapping_spans_become_one_and_none_is_too_thin_to_see() -> None:
    assert merge([(3.0, 4.0), (0.0, 1.0), (0.5, 2.0), (9.0, 9.0)], 0.1) == [
        (0.0, 2.0),
        (3.0, 4.0),
        (9.0, 9.1),
    ]


def test_the_package_offers_the_pages_and_their_views() -> None:
    offered = {name: getattr(report, name) for name in report.__all__}
    assert offered["train_page"] is train_page
    assert offered["Evidence"] is Evidence
    assert callable(report.plain_page)
    assert {"plain_page", "PlainView", "Section"} <= set(offered)


# --------------------------------------------------------------------------------- evidence


def test_the_channels_furthest_off_are_shown_and_a_huge_one_is_cut() -> None:
    names = tuple(f"C{i}" for i in range(20))
    values = np.random.default_rng(0).normal(0, 10, (1, 20, 250))
    off = np.zeros_like(values)
    off[0, 7] = 5_000 * (np.arange(250) == 100)
    off[0, 11] = 30
    drawn = traces(
        Evidence(values, values - off, windows().head(1), 125.0, names, "µV"), 0, rank="W"
    )
    spike = Evidence(values + off, values, windows().head(1), 125.0, names, "µV")
    assert "furthest apart in C7, C11" in drawn.alt
    assert f"by {show(5000 / 250**0.5)} µV" in drawn.alt
    assert "The 8 of 20 channels" in drawn.caption
    assert "Cut at ±" in traces(spike, 0, rank="W").caption


def test_an_unanswered_item_is_neither_drawn_nor_counted() -> None:
    given = np.array([[1.0, np.nan, 5.0]])
    expected = np.array([[1.5, 3.0, 2.0]])
    meta = pd.DataFrame({"recording": ["p1"], "score": [1.0]})
    drawn = answers(Evidence(given, expected, meta, None, ("A", "B", "C"), "answer"), 0, rank="R")
    assert "C: 5 given, 2 expected; A: 1 given, 1.5 expected." in drawn.alt
    assert "B:" not in drawn.alt


@pytest.mark.parametrize("shape", [(3, 28, 28), (3, 1, 28, 28), (3, 784)])
def test_images_are_shown_whatever_their_layout(shape: tuple[int, ...]) -> None:
    from base64 import b64decode
    from io import BytesIO

    from matplotlib.image import imread

    values = np.random.default_rng(0).uniform(size=shape)
    meta = pd.DataFrame({"recording": ["a", "b", "c"], "score": [1.0, 2.0, 3.0]})
    cards = image_cards(Evidence(values, values * 0.5, meta), "image")
    content = b64decode(cards[1].images[0][0].partition(",")[2])
    pixels = imread(BytesIO(content), format="png")[..., 0]
    plain = values.reshape(3, 28, 28)[1]
    expected = (plain - values.min()) / (values.max() - values.min())
    np.testing.assert_allclose(pixels, expected, atol=2 / 255)  # 256 greys, twice


# ---------------------------------------------------------------------------------- figures


def test_the_timeline_says_when_the_score_was_highest() -> None:
    drawn = timeline(windows(), 2.0)
    assert drawn is not None
    assert "highest 6 at 10.00 s; 3 windows flagged" in drawn.alt


def test_the_heat_map_finds_the_channel_whatever_the_order_of_rows() -> None:
    scores = windows()
    by_channel = np.ones((60, 3))
    by_channel[20, 1] = 50
    shuffled = np.random.default_rng(0).permutation(60)
    drawn = heat_map(scores.iloc[shuffled], by_channel[shuffled], ch_names=("Fp1", "Cz", "O2"))
    assert drawn is not None
    assert "highest in Cz" in drawn.alt
    ordered = heat_map(scores, by_channel, ch_names=("Fp1", "Cz", "O2"))
    assert ordered is not None
    assert drawn.svg == ordered.svg


def test_no_column_of_the_heat_map_is_empty_for_rounding() -> None:
    # half a second is 62.5 samples at 125 Hz; a minute is missing in the middle
    onset = np.round(np.arange(240) * 62.5) / 125
    onset[120:] += 60
    scores = pd.DataFrame({"onset_s": onset, "duration_s": 1.0})
    drawn = heat_map(scores, np.ones((240, 2)), ch_names=("Fp1", "Cz"))
    assert drawn is not None
    assert drawn.drawn is not None
    image = drawn.drawn.axes[0].images[0]
    grid = np.asarray(image.get_array())[0]
    empty = np.flatnonzero(~np.isfinite(grid))
    assert empty.tolist() == list(range(empty[0], empty[-1] + 1))  # the gap, and nothing else
    width = (image.get_extent()[1] - image.get_extent()[0]) / len(grid)
    assert len(empty) * width == pytest.approx(59.5, abs=2 * width)


def test_the_moving_map_shows_every_way_of_looking_and_says_what_each_point_is() -> None:
    keys = windows().assign(subject=[f"sub-{i % 3}" for i in range(len(windows()))])
    moving = moving_map(latents(keys), keys, first="score", neighbours=True)
    assert moving is not None
    assert moving.planes[:2] == ("PCA", "t-SNE")
    assert moving.colors[:2] == ("score", "subject")
    assert len(moving.data["hover"]) == len(keys)
    assert f"window {keys['window'].iloc[1]} at" in moving.data["hover"][1]
    z = latents(keys).filter(regex=r"^z").to_numpy()
    expected = np.linalg.svd(z - z.mean(0), full_matrices=False)
    first = np.array(moving.data["planes"][0]["points"][0])
    np.testing.assert_allclose(np.abs(first), np.abs(expected[0][:, 0] * expected[1][0]), atol=1e-3)
    groups = moving.data["colors"][1]["groups"]
    assert sorted(row for group in groups for row in group["rows"]) == list(range(len(keys)))


def test_umap_keeps_groups_apart_where_it_is_installed() -> None:
    pytest.importorskip("umap", reason="umap-learn is not installed (the extra umap)")
    rng = np.random.default_rng(0)
    group = np.repeat([0, 1, 2], 60)
    z = rng.normal(size=(180, 5)) + 12 * np.eye(5)[group]
    frame = pd.DataFrame(z, columns=[f"z{i:02d}" for i in range(5)])
    keys = pd.DataFrame({"recording": [f"r{i}" for i in range(180)], "score": rng.random(180)})
    moving = moving_map(pd.concat([keys[["recording"]], frame], axis=1), keys, neighbours=True)
    assert moving is not None
    assert moving.planes == ("PCA", "t-SNE", "UMAP")
    plane = np.array(moving.data["planes"][2]["points"]).T
    middles = np.stack([plane[group == g].mean(0) for g in range(3)])
    own = np.linalg.norm(plane - middles[group], axis=1)
    other = np.linalg.norm(plane - middles[(group + 1) % 3], axis=1)
    assert (own < other).all()


def test_the_moving_timeline_shows_scores_events_and_threshold_in_one_unit() -> None:
    scores = windows(400)
    events = pd.DataFrame(
        {
            "onset": [60.0, 120.0],
            "duration": [6.0, 3.0],
            "number": [1, 2],
            "score": [6.0, 3.0],
            "trial_type": "anomaly/pop",
            "channel": [SCRIPT, "Cz"],
        }
    )
    moving = moving_timeline(scores, 2.0, bad_spans=[(10.0, 20.0)], events=events)
    assert moving is not None
    data = moving.data
    per = {"s": 1, "min": 60, "h": 3600}[data["unit"]]
    assert data["time"][0] == pytest.approx(1.0 / per)
    assert data["events"]["time"] == pytest.approx([63 / per, 121.5 / per])
    assert data["bad"] == [pytest.approx([10 / per, 20 / per])]
    assert data["flagged"][0] == pytest.approx([60 / per, 66 / per])
    assert data["threshold"] == 2.0
    assert "<script" not in json.dumps(data["events"]["hover"])
    day = moving_timeline(windows(172_800), None)
    assert day is not None
    assert len(json.dumps(day.data)) < 400_000
    assert moving_timeline(scores.head(2)) is None


def test_text_from_files_is_only_text_in_the_moving_map() -> None:
    keys = windows()
    names = texts(*(NASTY[i % len(NASTY)] for i in range(len(keys))))
    keys = keys.assign(subject=names, recording=names)
    moving = moving_map(latents(keys), keys)
    assert moving is not None
    for text in [*moving.data["hover"], *(g["name"] for g in moving.data["colors"][-1]["groups"])]:
        assert not re.search(r"<(?!br>)", text)


def test_a_map_of_many_points_stays_light() -> None:
    many = pd.concat([windows()] * 200, ignore_index=True)
    many["window"] = range(len(many))
    moving = moving_map(latents(many), many)
    assert moving is not None
    assert len(moving.data["hover"]) == 2_000
    assert len(json.dumps(moving.data)) < 500_000
    assert sum(map(len, scripts())) < 1_500_000
    assert policy().count("sha256-") == 3


def test_the_latent_map_is_the_principal_plane() -> None:
    rng = np.random.default_rng(0)
    z = rng.normal(size=(500, 3)) * [0.1, 3.0, 1.0]
    frame = pd.DataFrame(z, columns=["z00", "z01", "z02"])
    expected = np.linalg.eigvalsh(np.cov(z.T))[::-1]
    share = 100 * expected / expected.sum()
    drawn = latent_map(frame)
    assert drawn is not None
    assert f"first component ({share[0]:.0f}\u00a0%)" in drawn.svg
    assert f"second component ({share[1]:.0f}\u00a0%)" in drawn.svg


@pytest.mark.parametrize("dim", [1, 2, 12])
def test_a_latent_map_of_any_size_is_drawn(dim: int) -> None:
    frame = latents(windows(), dim)
    assert latent_map(frame) is not None
    assert latent_map(frame.head(2)) is None


def test_a_histogram_marks_the_lowest_flagged_score_where_there_is_no_threshold() -> None:
    scores = pd.DataFrame({"score": [1.0, 2.0, 3.0, 4.0], "flagged": [False, False, True, True]})
    drawn = score_histogram(scores, by=None)
    assert drawn is not None
    assert "lowest flagged 3" in drawn.alt


def test_a_user_s_matplotlib_settings_neither_change_nor_are_changed() -> None:
    import matplotlib

    plain = timeline(windows(), 2.0)
    with matplotlib.rc_context({"font.size": 30, "svg.fonttype": "path", "axes.grid": False}):
        before = dict(matplotlib.rcParams)
        assert timeline(windows(), 2.0) == plain
        assert dict(matplotlib.rcParams) == before


def test_threads_draw_the_same_as_one() -> None:
    from concurrent.futures import ThreadPoolExecutor

    with ThreadPoolExecutor(3) as pool:
        drawn = list(pool.map(lambda _: timeline(windows(), 2.0), range(6)))
    assert len({str(one.svg) for one in drawn if one is not None}) == 1
    assert None not in drawn


# ----------------------------------------------------------------------------------- colours


def luminance(color: str) -> float:
    """Relative luminance as WCAG 2.2 defines it."""
    parts = [int(color[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in parts]
    return float(np.dot([0.2126, 0.7152, 0.0722], linear))


def contrast(a: str, b: str) -> float:
    low, high = sorted((luminance(a), luminance(b)))
    return (high + 0.05) / (low + 0.05)


@pytest.mark.parametrize("theme", [0, 1], ids=["light", "dark"])
def test_text_and_lines_have_enough_contrast(theme: int) -> None:
    html = index_page(IndexView(title="x", headline=Headline("-"), entries=[]))
    blocks = re.findall(r":root \{(.*?)\}", html, re.S)
    colors: dict[str, str] = dict(re.findall(r"--([\w-]+): (#\w{6})", blocks[theme]))
    for text in ("ink", "muted", "link"):
        for ground in ("paper", "raised"):
            assert contrast(colors[text], colors[ground]) >= 4.5, (text, ground)
    assert contrast(colors["ink"], colors["warn"]) >= 4.5
    for line in ("flag", "warn-edge", *(f"c{i}" for i in range(1, 9))):
        assert contrast(colors[line], colors["paper"]) >= 3, line


def test_no_placeholder_colour_is_left_in_a_page() -> None:
    for name in PAGES:
        assert not re.search(r"#0102[0-9a-f]{2}", page(name))


# ----------------------------------------------------------------------------------- wording


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (None, "n/a"),
        (float("nan"), "n/a"),
        (pd.NA, "n/a"),
        (pd.NaT, "n/a"),
        (np.float32("nan"), "n/a"),
        (True, "yes"),
        (np.bool_(False), "no"),
        (1234567, "1,234,567"),
        (np.int64(-3), "−3"),
        (0.123456, "0.123"),
        (12.0, "12"),
        (12345.6, "12,346"),
        (1e-6, "1e-06"),
        (float("inf"), "∞"),
        ([1, 2.5], "1, 2.5"),
        ("a\nb\x00", "a b\ufffd"),
    ],
)
def test_a_value_reads_as_a_person_writes_it(value: Any, text: str) -> None:
    assert show(value) == text


def test_long_names_lose_their_middle() -> None:
    assert shorten("abcdefghij", 10) == "abcdefghij"
    assert shorten("abcdefghijk", 10) == "abcdef…ijk"
    assert p_value(0.00001) == "< 0.0001"
    assert clean("ok é 脑 🧠") == "ok é 脑 🧠"


# --------------------------------------------------------------------------------- real data


def test_a_real_recording_beside_its_principal_components(shared_data: Path) -> None:
    mne = pytest.importorskip("mne")
    raw = mne.io.read_raw_edf(shared_data / "eegmat" / "Subject04_2.edf", verbose="error")
    raw.pick([name for name in raw.ch_names if "ECG" not in name and "A2-A1" not in name])
    signal = raw.get_data(stop=30 * 500) * 1e6
    stacked = signal.reshape(len(signal), 15, 1000).transpose(1, 0, 2)
    flat = stacked.reshape(15, -1)
    u, s, v = np.linalg.svd(flat - flat.mean(axis=0), full_matrices=False)
    rebuilt = ((u[:, :4] * s[:4]) @ v[:4] + flat.mean(axis=0)).reshape(stacked.shape)
    off = np.sqrt(((stacked - rebuilt) ** 2).mean(axis=2))
    scores = pd.DataFrame(
        {"recording": "Subject04_2", "onset_s": np.arange(15) * 2.0, "duration_s": 2.0}
    ).assign(score=off.mean(axis=1), flagged=off.mean(axis=1) > 20)
    order = np.argsort(-off.mean(axis=1))[:3]
    names = tuple(raw.ch_names)
    meta = scores.iloc[order].reset_index(drop=True)
    html = recording_page(
        RecordingView(
            title="Subject04_2",
            headline=HEAD,
            scores=scores,
            channel_scores=off,
            ch_names=names,
            worst=Evidence(stacked[order], rebuilt[order], meta, 500.0, names, "µV"),
        )
    )
    seen = check(html)
    strongest = names[int(off[order[0]].argmax())]
    drawn = [svg["aria-label"] or "" for svg in seen.all("svg")]
    first = next(label for label in drawn if label.startswith("Most abnormal window 1"))
    assert f"furthest apart in {strongest}" in first
    assert f"by {show(float(off[order[0]].max()))} µV" in first
    assert len(html.encode()) < 4e6


def test_a_picture_file_has_the_colours_of_the_light_page() -> None:
    import io

    from matplotlib.image import imread

    from ae_pipeline.report import drawing
    from ae_pipeline.report.pages import _environment

    css = _environment().loader.get_source(_environment(), "style.css")[0]  # type: ignore[union-attr]
    light = dict(re.findall(r"--(\w+): (#[0-9a-f]{6});", css.partition("@media")[0]))
    named = {"ink": drawing.INK, "muted": drawing.MUTED, "grid": drawing.GRID, "span": drawing.SPAN}
    named |= {f"c{i + 1}": color for i, color in enumerate(drawing.SERIES)}
    assert {name: light[name] for name in named} == named
    assert len({*named.values(), drawing.FLAG, drawing.PAPER}) == len(named) + 2
    found = timeline(windows(), 2.0)
    assert found is not None
    pixels = np.rint(255 * imread(io.BytesIO(found.png()))[..., :3]).astype(int).reshape(-1, 3)
    blue = [int(drawing.SERIES[0][i : i + 2], 16) for i in (1, 3, 5)]
    assert (np.abs(pixels - blue).sum(1) < 6).any()
