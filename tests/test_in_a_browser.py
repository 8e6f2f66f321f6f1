"""Every kind of page in a real browser: usable by everyone, in light and dark, at any width."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import pytest
from test_report import PAGES, page

if TYPE_CHECKING:
    from playwright.sync_api import Browser

pytestmark = pytest.mark.browser

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


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("name", PAGES)
def test_every_page_can_be_used_by_everyone(
    chromium: Browser, axe: str, name: str, scheme: Literal["light", "dark"], tmp_path: Path
) -> None:
    file = tmp_path / "page.html"
    file.write_text(page(name), encoding="utf-8", errors="replace")
    for width in (PHONE, POSTER):
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
    chromium: Browser, name: str, tmp_path: Path
) -> None:
    file = tmp_path / "page.html"
    file.write_text(page(name), encoding="utf-8", errors="replace")
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


def test_a_keyboard_reaches_the_content_first(chromium: Browser, tmp_path: Path) -> None:
    file = tmp_path / "page.html"
    file.write_text(page("recording"), encoding="utf-8", errors="replace")
    tab = chromium.new_page()
    tab.goto(file.as_uri())
    tab.keyboard.press("Tab")
    assert tab.evaluate("document.activeElement.getAttribute('href')") == "#main"
    tab.keyboard.press("Enter")
    assert tab.evaluate("location.hash") == "#main"
    tab.close()


def test_one_can_zoom_into_the_score_over_time(chromium: Browser, tmp_path: Path) -> None:
    file = tmp_path / "page.html"
    file.write_text(page("recording"), encoding="utf-8", errors="replace")
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
