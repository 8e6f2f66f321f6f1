"""Whatever stands in a study file or after --set is accepted or refused in one line."""

from __future__ import annotations

import json
import random
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ae_pipeline.config import StudyError
from ae_pipeline.runtime.files import digest_json
from ae_pipeline.study import Study, load_study

FULL: dict[str, dict[str, Any]] = {
    "eeg": {
        "study": "s",
        "source": {"kind": "eeg", "path": "recordings"},
        "model": {"head": {"kind": "classify", "target": "group", "from": "latents"}},
        "operation": {"inbox": "inbox", "schedule": "0 2 * * *", "expected": "list.txt"},
        "normal": {"task": "rest"},
    },
    "mnist": {"study": "s", "source": {"kind": "mnist"}},
    "questionnaire": {
        "study": "s",
        "source": {
            "kind": "questionnaire",
            "path": "a.csv",
            "items": [{"items": ["Q*"], "range": [1, 5], "reverse": ["Q2"]}],
        },
    },
}
RAW = (
    "2026-13-45",
    "2026-02-30 25:61:61",
    "!!bool maybe",
    "!!int x",
    "!!float x",
    "!!timestamp x",
    "!!binary '*'",
    "!!set {a, b}",
    "!!omap [a]",
    "!!python/object/apply:os.system [true]",
    "9" * 5000,
    "-" + "9" * 4000,
    "0x" + "f" * 5000,
    "1" + ":59" * 3000,
    "1e400",
    "-.inf",
    ".nan",
    "[" * 3000,
    "[" * 300 + "]" * 300,
    "{a: " * 300 + "}" * 300,
    "&a [*a]",
    "&a {b: *a}",
    "{[1]: 2}",
    "{? {a: b}: c}",
    "{1: 2, null: 3, true: 4}",
    "<<",
    "=",
    "~nosuchuser",
    "~nosuchuser/x",
    '"a\\0b"',
    '"\\ud800"',
    '"\\x1b[2J"',
    "'*'",
    "'('",
    "'[a-'",
    "'(?P<subject>'",
    "'(a+)+$'",
    "../../..",
    "/dev/null",
    "[]",
    "{}",
    "[[]]",
    "[null]",
    "''",
    "null",
    "-1",
    "0",
    "1e-300",
    "10000000000",
    "true",
    "1e308",
)


def leaves(content: Mapping[str, Any], above: tuple[str, ...] = ()) -> Iterator[str]:
    for name, value in content.items():
        yield ".".join((*above, name))
        if isinstance(value, Mapping):
            yield from leaves(value, (*above, name))


def written(folder: Path, kind: str) -> Path:
    file = folder / "study.yaml"
    file.write_text(yaml.safe_dump(FULL[kind]))
    return file


def keys_of(kind: str) -> list[str]:
    with tempfile.TemporaryDirectory() as folder:
        study = load_study(written(Path(folder), kind))
    return sorted(set(leaves(study.model_dump(mode="json", by_alias=True))))


KEYS = [(kind, key) for kind in FULL for key in keys_of(kind)]
plain = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8) | st.dates()
anything = st.recursive(
    plain,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner),
    max_leaves=6,
)


def accepted_or_refused(file: Path, *overrides: str) -> Study | None:
    try:
        study = load_study(file, overrides)
    except StudyError as error:
        said = str(error)
        assert "\n" not in said
        assert len(said) < 3000
        return None
    digest_json(study.decisive())
    json.dumps(study.model_dump(mode="json"), allow_nan=False)
    return study


@pytest.mark.parametrize("kind", FULL)
def test_every_key_takes_odd_words_or_refuses_them(kind: str, tmp_path: Path) -> None:
    file = written(tmp_path, kind)
    draw = random.Random(0)
    for key in [key for of, key in KEYS if of == kind]:
        for word in draw.sample(RAW, 4):  # each word many times; all 10,000 take minutes
            accepted_or_refused(file, f"{key}={word}")


@given(st.sampled_from(KEYS), anything)
@settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
def test_every_key_takes_anything_or_refuses_it(place: tuple[str, str], value: Any) -> None:
    kind, key = place
    with tempfile.TemporaryDirectory() as folder:
        text = yaml.safe_dump(value, default_flow_style=True, allow_unicode=True)
        accepted_or_refused(written(Path(folder), kind), f"{key}={text}")


@given(st.binary(max_size=200) | st.text(max_size=200).map(lambda t: t.encode(errors="replace")))
@settings(max_examples=100, deadline=None)
def test_any_file_is_refused(content: bytes) -> None:
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "study.yaml"
        file.write_bytes(content)
        assert accepted_or_refused(file) is None


@pytest.mark.parametrize("word", RAW)
def test_a_file_of_one_odd_word_is_refused(word: str, tmp_path: Path) -> None:
    file = tmp_path / "study.yaml"
    file.write_text(word)
    assert accepted_or_refused(file) is None


def test_what_was_found_is_refused_by_name(tmp_path: Path) -> None:
    file = written(tmp_path, "eeg")
    for override in ("source.path=~nosuchuser/x", "source.channels=[]", "training.epochs=.inf"):
        with pytest.raises(StudyError):
            load_study(file, [override])
