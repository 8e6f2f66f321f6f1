"""README and docs are true: they build without a warning, and what they tell to type works."""

from __future__ import annotations

import importlib.util
import re
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest
import yaml

from ae_pipeline.data import InputError
from ae_pipeline.models import Model
from ae_pipeline.sources.sample_data import fetch

ROOT = Path(__file__).resolve().parent.parent
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]

BLOCK = re.compile(
    r"(?:^[ ]*<!-- not run: (?P<reason>.+?) -->\n)?"
    r"^(?P<indent>[ ]*)```(?P<kind>[^\n]*)\n(?P<text>.*?)^(?P=indent)```$",
    re.M | re.S,
)


@dataclass(frozen=True)
class Block:
    """A piece of code in a page; ``reason`` where it is not run."""

    kind: str
    text: str
    reason: str | None


def blocks(page: Path) -> list[Block]:
    found = []
    for match in BLOCK.finditer(page.read_text(encoding="utf-8")):
        lines = [line.removeprefix(match["indent"]) for line in match["text"].splitlines()]
        found.append(Block(match["kind"], "\n".join(lines), match["reason"]))
    return [block for block in found if not block.kind.startswith("{")]  # Sphinx's own


def name(page: Path) -> str:
    return str(page.relative_to(ROOT))


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_every_code_block_is_run_or_says_why_not(page: Path) -> None:
    for block in blocks(page):
        assert block.reason or block.kind in ("bash", "python", "yaml"), block.text
    # four spaces make a code block too, one that nobody would run; continued list items have three
    outside = BLOCK.sub("", page.read_text(encoding="utf-8"))
    assert re.findall(r"(?<=\n\n) {4}\S.*", outside) == []


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize(
    "page",
    [page for page in PAGES if any(b.kind == "bash" and not b.reason for b in blocks(page))],
    ids=name,
)
def test_what_a_page_tells_to_type_works(page: Path, tmp_path: Path, typed: dict[str, str]) -> None:
    """In a folder as the page assumes it: recordings, new-recordings and answers.csv are there.

    What is typed is typed; only the study file that ``init`` has written is then told to train
    for two epochs.
    """
    try:
        eeg, bfi = (fetch(sample, lambda line: None) for sample in ("eeg", "bfi"))
    except InputError as error:
        pytest.skip(str(error))
    (tmp_path / "mlflow.yaml").write_text("")
    (tmp_path / "recordings").symlink_to(eeg / "recordings")
    (tmp_path / "new-recordings").symlink_to(eeg / "new")
    (tmp_path / "answers.csv").symlink_to(bfi / "bfi.csv")
    lines = [b.text for b in blocks(page) if b.kind == "bash" and not b.reason]
    shorter = r"\g<0>\nsed -i 's/^  epochs: .*/  epochs: 2/' study.yaml"
    lines = [
        re.sub(r"^ae-pipeline init .*-o study\.yaml.*$", shorter, x, flags=re.M) for x in lines
    ]
    done = subprocess.run(
        ["bash", "-euxo", "pipefail", "-c", "\n".join(lines)],
        cwd=tmp_path,
        env=typed,
        capture_output=True,
        text=True,
        stdin=subprocess.DEVNULL,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_pieces_of_study_files_are_valid(page: Path) -> None:
    for block in blocks(page):
        if block.kind == "yaml" and not block.reason:
            content = yaml.safe_load(block.text)
            if "model" in content:
                Model.model_validate(content["model"])


@pytest.mark.slow
def test_the_documentation_builds_without_a_warning(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "sphinx", "-q", "-W", "--keep-going", "-b", "html"]
    done = subprocess.run(
        [*command, "-d", tmp_path / "trees", ROOT / "docs", tmp_path / "html"],
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "html/reference/api.html").stat().st_size > 50_000


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_links_within_the_project_lead_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\(([^)#]+)(?:#[^)]*)?\)", page.read_text(encoding="utf-8")):
        if not re.match(r"[a-z]+:", target):
            assert (page.parent / target).exists(), target


def test_every_figure_of_the_explanation_is_one_that_the_script_makes(tmp_path: Path) -> None:
    script = ROOT / "docs/figures.py"
    spec = importlib.util.spec_from_file_location("figures", script)
    assert spec is not None
    assert spec.loader is not None
    figures = importlib.util.module_from_spec(spec)
    sys.modules["figures"] = figures
    spec.loader.exec_module(figures)
    pages = sorted((ROOT / "docs/explanation").glob("*.md"))
    page = "".join(page.read_text(encoding="utf-8") for page in pages)
    shown = re.findall(r"```\{figure\} figures/(\w+)\.png\n:alt: \S.+\n\n\S", page)
    assert sorted(shown) == sorted(figures.FIGURES)
    for name in shown:
        assert 5_000 < (figures.HERE / f"{name}.png").stat().st_size < 120_000
    try:
        few = ["latents", "anomaly", "flags", "completion"]
        made = figures.draw(figures.Runs(200, 1), tmp_path, few)
    except InputError as error:
        pytest.skip(str(error))
    assert all(file.read_bytes().startswith(b"\x89PNG") for file in made)
