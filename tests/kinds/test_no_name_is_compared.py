"""No stage asks for the name of a kind of data: it reads the source for it."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path
from typing import get_args

import pytest

from ae_pipeline import data
from ae_pipeline.kind import kind_of, names

PACKAGE = Path(data.__file__).parent
CHANNEL_TYPES = (
    "ingest/inbox.py",
    "sources/channels.py",
    "sources/choice.py",
    "sources/eeg.py",
    "sources/formats/",
    "sources/units.py",
)
"""Here "eeg" is MNE's type of a channel or a suffix of BIDS."""
ASKING = ("get", "pop", "startswith", "endswith", "removeprefix", "removesuffix")


def decisions(tree: ast.AST) -> Iterator[ast.AST]:
    """Comparisons with a kind's name, dictionaries by kind, and what is looked up in them."""
    for node in ast.walk(tree):
        parts: list[ast.AST | None] = []
        match node:
            case ast.Compare():
                parts = [node.left, *node.comparators]
            case ast.Dict():
                parts = [*node.keys]
            case ast.Subscript() if not is_literal(node):
                parts = [node.slice]
            case ast.match_case():
                parts = [node.pattern]
            case ast.Call(func=ast.Attribute(attr=attr)) if attr in ASKING:
                parts = [*node.args]
        for part in parts:
            yield from () if part is None else constants(part)


def is_literal(node: ast.Subscript) -> bool:
    return isinstance(node.value, ast.Name) and node.value.id == "Literal"


def constants(part: ast.AST) -> Iterator[ast.Constant]:
    for inner in ast.walk(part):
        if isinstance(inner, ast.Constant) and inner.value in ("eeg", "mnist", "questionnaire"):
            yield inner


def found_in(file: Path) -> list[str]:
    place = file.relative_to(PACKAGE).as_posix()
    known = {"eeg"} if place.startswith(CHANNEL_TYPES) else set()
    return [
        f"{place}:{node.lineno}: {node.value!r}"
        for node in decisions(ast.parse(file.read_text(encoding="utf-8")))
        if node.value not in known
    ]


def test_no_stage_decides_by_the_name_of_a_kind() -> None:
    files = [file for file in PACKAGE.rglob("*.py") if file.parent.name != "kinds"]
    assert len(files) > 100
    assert [line for file in files for line in found_in(file)] == []


@pytest.mark.parametrize(
    "text",
    [
        'x.kind == "eeg"',
        'kind in ("mnist", y)',
        '{"eeg": 1}[kind]',
        'by_kind["questionnaire"]',
        'by_kind.get("mnist")',
        'match kind:\n    case "eeg":\n        pass',
    ],
)
def test_a_decision_is_found(text: str) -> None:
    assert list(decisions(ast.parse(text)))


def test_a_layout_is_no_name_of_a_kind() -> None:
    layouts = get_args(data.Layout)
    assert len(layouts) == 3
    assert not set(layouts) & set(names())
    assert {kind_of(name).layout for name in names()} == set(layouts)
