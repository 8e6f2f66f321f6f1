"""Every kind of page in a real browser: usable by everyone, in light and dark, at any width.

Pictures of each go to ``AE_PIPELINE_SCREENSHOTS`` where that is set: they are to be looked at,
which no test does.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import compare_view
import pytest
import report_pages
import textbook_view
import tiny
from a_night import NIGHT

from ae_pipeline.jobs.complete import complete
from ae_pipeline.jobs.generate import generate
from ae_pipeline.report.comparison import compare_page
from ae_pipeline.report.findings import night as digest
from ae_pipeline.report.textbook import textbook_page
from ae_pipeline.scoring import bundle as bundles

if TYPE_CHECKING:
    from playwright.sync_api import Browser

pytestmark = pytest.mark.browser


def _generated(kind: str, ending: str, place: Path) -> str:
    bundles.save(place / "model", getattr(tiny, kind)().bundle)
    made = generate(str(place / "model"), 30, out=place / f"synthetic{ending}")
    return Path(made["report"]).read_text(encoding="utf-8")


def _completed(place: Path) -> str:
    trained = tiny.table()
    bundles.save(place / "model", trained.bundle)
    answers, _ = trained.data.samples.batch(slice(0, 60))
    names = trained.bundle.info.entries
    lines = [",".join(("id", *names))]
    lines += [f"p{i}," + ",".join(f"{max(a, 1):.0f}" for a in row) for i, row in enumerate(answers)]
    (place / "answers.csv").write_text("\n".join(lines) + "\n")
    made = complete(
        str(place / "model"), str(place / "answers.csv"), out=place / "out.csv", hide=names[1]
    )
    return Path(made["report"]).read_text(encoding="utf-8")


PAGES: dict[str, Callable[[Path], str]] = {
    **{name: lambda _, name=name: report_pages.page(name) for name in report_pages.PAGES},  # type: ignore[misc]
    "digest": lambda _: digest.page(NIGHT, {"sub-01": "m/a.html"}),
    "compare": lambda _: compare_page(compare_view.example_view()),
    "textbook": lambda _: textbook_page(textbook_view.example_view()),
    "generate eeg": lambda place: _generated("eeg", ".fif", place),
    "generate images": lambda place: _generated("pictures", ".png", place),
    "complete": _completed,
}


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """Each kind of page as a file, made when it is first asked for."""
    place = tmp_path_factory.mktemp("pages")

    def file(name: str) -> Path:
        found = place / name.replace(" ", "-") / "page.html"
        if not found.is_file():
            found.parent.mkdir()
            found.write_text(PAGES[name](found.parent), encoding="utf-8", errors="replace")
        return found

    return file


PHONE, POSTER = 375, 2400
SERIOUS = ("serious", "critical")


def looked_at(
    chromium: Browser, file: Path, axe: str, scheme: Literal["light", "dark"], width: int
) -> dict[str, Any]:
    """What axe finds wrong, what the page complained of, and by how much it is too wide."""
    context = chromium.new_context(
        bypass_csp=True,  # for axe only; the page's own policy is looked at below
        color_scheme=scheme,
        viewport={"width": width, "height": 900},
        reduced_motion="reduce",
    )
    try:
        tab = context.new_page()
        said: list[str] = []
        tab.on("console", lambda message: said.append(message.text))
        tab.on("pageerror", lambda error: said.append(str(error)))
        tab.goto(file.as_uri())
        kept = os.environ.get("AE_PIPELINE_SCREENSHOTS")
        if kept:
            Path(kept).mkdir(parents=True, exist_ok=True)
            name = f"{file.parent.name}-{scheme}-{width}.png"
            tab.screenshot(path=f"{kept}/{name}", full_page=True)
        overflow = tab.evaluate(
            "document.documentElement.scrollWidth - document.documentElement.clientWidth"
        )
        tab.evaluate(axe)
        result = tab.evaluate("axe.run()")
    finally:
        context.close()
    wrong = [
        f"{each['id']}: {each['help']} ({each['nodes'][0]['html'][:200]})"
        for each in result["violations"]
        if each["impact"] in SERIOUS
    ]
    return {"wrong": wrong, "said": said, "overflow": overflow, "passes": len(result["passes"])}


@pytest.mark.parametrize("name", PAGES)
def test_every_page_can_be_used_by_everyone(
    chromium: Browser, axe: str, name: str, files: Callable[[str], Path]
) -> None:
    """Contrast differs by scheme and layout by width: two of the four together see all of it."""
    file = files(name)
    looks: tuple[tuple[Literal["light", "dark"], int], ...] = (("light", PHONE), ("dark", POSTER))
    for scheme, width in looks:
        seen = looked_at(chromium, file, axe, scheme, width)
        assert seen["wrong"] == []
        assert seen["said"] == []
        assert seen["overflow"] <= 0, f"{width} px wide: {seen['overflow']} px too wide"
        assert seen["passes"] > 10  # axe did look


def test_axe_does_find_what_is_wrong(chromium: Browser, axe: str, tmp_path: Path) -> None:
    file = tmp_path / "page.html"
    file.write_text("<!doctype html><html><title>x</title><img src='data:,'><p>text</p></html>")
    assert looked_at(chromium, file, axe, "light", PHONE)["wrong"]


@pytest.mark.parametrize("name", PAGES)
def test_a_page_asks_for_nothing_beside_itself(
    chromium: Browser, name: str, files: Callable[[str], Path]
) -> None:
    file = files(name)
    tab = chromium.new_page()
    asked: list[str] = []
    refused: list[str] = []
    tab.on("request", lambda request: asked.append(request.url))
    tab.on("console", lambda message: refused.append(message.text))
    tab.goto(file.as_uri())
    tab.wait_for_load_state("load")
    tab.close()
    assert [url for url in asked if not url.startswith("data:")] == [file.as_uri()]
    assert refused == []  # its own content policy forbids nothing that it holds


def test_a_keyboard_reaches_the_content_first(
    chromium: Browser, files: Callable[[str], Path]
) -> None:
    file = files("recording")
    tab = chromium.new_page()
    tab.goto(file.as_uri())
    tab.keyboard.press("Tab")
    assert tab.evaluate("document.activeElement.getAttribute('href')") == "#main"
    tab.keyboard.press("Enter")
    assert tab.evaluate("location.hash") == "#main"
    tab.close()


def test_one_can_zoom_into_the_score_over_time(
    chromium: Browser, files: Callable[[str], Path]
) -> None:
    file = files("recording")
    tab = chromium.new_page()
    tab.goto(file.as_uri())
    span = "(() => { const r = document.querySelector('.timeline .plot').layout.xaxis.range;"
    span += " return r[1] - r[0]; })()"
    plot = tab.locator(".timeline .plot .nsewdrag").first
    plot.scroll_into_view_if_needed()
    box = plot.bounding_box()
    assert box is not None
    whole = tab.evaluate(span)
    middle = box["y"] + box["height"] / 2
    tab.mouse.move(box["x"] + box["width"] * 0.4, middle)
    tab.mouse.down()
    tab.mouse.move(box["x"] + box["width"] * 0.6, middle, steps=5)
    tab.mouse.up()
    assert tab.evaluate(span) == pytest.approx(0.2 * whole, rel=0.1)
    tab.close()
