"""The study file: the configurations of all stages put together, read, checked and written.

A study names its source; everything else has a default that fits the kind of data
(``defaults`` of its :class:`ae_pipeline.kind.Kind`), so that a study file can be three lines long.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from pydantic import Field, ValidationError, field_validator, model_validator

from ae_pipeline.config import NAME, Config, StudyError, cut, explain, from_home, parse_yaml
from ae_pipeline.detectors.calibration import Detection
from ae_pipeline.eeg.preprocess import Preprocess
from ae_pipeline.eeg.windows import Windowing
from ae_pipeline.kind import AnySource, kind_of, names
from ae_pipeline.models import Model
from ae_pipeline.runtime.operation import Operation
from ae_pipeline.training.loop import Training
from ae_pipeline.training.split import Split

__all__ = [
    "Outputs",
    "Study",
    "load_study",
    "merge_defaults",
]


class Outputs(Config):
    """Where results go."""

    root: Path = Path("derivatives")
    """Folder for results, from the study file; each study gets a folder of its name in it."""


class Study(Config):
    """Everything a run is decided by, as a study file says it.

    Examples
    --------
    >>> from ae_pipeline import Study
    >>> study = Study.model_validate(
    ...     {
    ...         "study": "answers",
    ...         "source": {"kind": "questionnaire", "path": "answers.csv", "items": ["A*"]},
    ...         "model": {"latent_dim": 4},
    ...     }
    ... )
    >>> study.kind, study.model.latent_dim, study.detection.error_rate
    ('questionnaire', 4, 0.05)
    """

    study: str = Field(pattern=NAME)
    """Name of the study: the MLflow experiment and the folder of its results."""
    hypothesis: str | None = None
    """What you expect, in one sentence; logged before training and printed atop the report."""
    primary_metric: Literal["test_loss", "roc_area"] = "test_loss"
    """The number that decides between models: test_loss needs no labels."""
    normal: dict[str, str] = Field(default_factory=dict)
    """What the normal data was, as far as you know: {task: rest, eyes: closed, age: 18-30,
    amplifier: ...}; kept with the model and shown beside its results."""
    source: AnySource
    """Where the data is and what it is."""
    preprocess: Preprocess | None = None
    """Cleaning of EEG."""
    windows: Windowing | None = None
    """Cutting of EEG."""
    split: Split = Split()
    """Who trains, calibrates and tests; never the same subject twice."""
    model: Model
    """Which autoencoder."""
    training: Training = Training()
    """How it is trained."""
    detection: Detection = Detection()
    """What a flag means."""
    outputs: Outputs = Outputs()
    """Where results go."""
    operation: Operation | None = None
    """What runs by itself, for 'run-inbox' and 'serve': {inbox: FOLDER, schedule: "0 2 * * *",
    expected: LIST, runner: process, hook: [COMMAND]}; null where nothing does."""

    @model_validator(mode="before")
    @classmethod
    def _defaults_of_kind(cls, given: Any) -> Any:
        """Fill what the file leaves open with the defaults of its kind of data."""
        if not isinstance(given, Mapping) or not isinstance(given.get("source"), Mapping):
            return given
        kind = str(given["source"].get("kind"))
        defaults = kind_of(kind).defaults if kind in names() else {}
        # a key with nothing behind it is a part left open
        return merge_defaults(defaults, {name: v for name, v in given.items() if v is not None})

    @field_validator("preprocess", "windows")
    @classmethod
    def _only_where_it_is_used(cls, part: Any, info: Any) -> Any:
        source = info.data.get("source")
        if part is None or source is None or info.field_name in kind_of(source.kind).sections:
            return part
        raise ValueError(f"a {source.kind} study has none, remove it")

    @property
    def kind(self) -> str:
        """Kind of data."""
        return self.source.kind

    def decisive(self) -> dict[str, Any]:
        """The part of the study that decides the numbers (what a key is made of)."""
        content = self.model_dump(
            mode="json",
            exclude={"outputs", "operation", "hypothesis", "primary_metric", "normal"},
        )
        content["source"].pop("path", None)  # the content of the files counts, not their place
        if content["model"]["head"] is not None:
            content["model"]["head"].pop("labels")
        return content


def merge_defaults(defaults: Mapping[str, Any], given: Mapping[str, Any]) -> dict[str, Any]:
    """``given`` over ``defaults``, part by part; another ``kind`` takes no default of the first."""
    merged = dict(defaults)
    for name, value in given.items():
        old = defaults.get(name)
        if isinstance(old, Mapping) and isinstance(value, Mapping):
            other_kind = "kind" in old and value.get("kind", old["kind"]) != old["kind"]
            merged[name] = dict(value) if other_kind else merge_defaults(old, value)
        elif value is not None or not isinstance(old, Mapping):
            merged[name] = value
    return merged


# ------------------------------------------------------------------------------- reading

PLACES = (
    ("source", "path", None),
    ("source", "montage", None),
    ("outputs", "root", "derivatives"),
    ("operation", "inbox", None),
    ("operation", "expected", None),
    ("operation", "reference", None),
)
"""Paths in a study file, with their defaults; relative ones start at its folder."""


def load_study(path: Path, overrides: Sequence[str] = ()) -> Study:
    """Read and check a study file.

    Parameters
    ----------
    path : Path
        YAML; relative paths in it start at its folder.
    overrides : sequence of str
        ``a.b=value`` with the value in YAML, as on the command line.

    Raises
    ------
    StudyError
        One line that names every wrong key or value.
    """
    if not path.is_file():
        raise StudyError(f"{path}: no such study file; write one with 'ae-pipeline init KIND'")
    try:
        text = path.read_text(encoding="utf-8-sig")
    except OSError as error:
        raise StudyError(f"{path}: cannot be read ({error.strerror})") from None
    except UnicodeDecodeError:
        raise StudyError(f"{path}: not readable as YAML (not UTF-8 text)") from None
    content = parse_yaml(text, str(path))
    if not isinstance(content, dict):
        raise StudyError(
            f"{path}: expected keys like 'study:' and 'source:'; see 'ae-pipeline init'"
        )
    # kinds first: another kind takes the fields of the first away, not those set beside it
    for override in sorted(overrides, key=lambda o: not o.partition("=")[0].endswith(".kind")):
        _set(content, override)
    for part, name, default in PLACES:
        keys = content.get(part) or {}
        place = keys.get(name, default) if isinstance(keys, dict) else None
        if name == "montage" and not Path(str(place)).suffix:  # the name of a known one
            continue
        if isinstance(place, str):
            started = path.parent.absolute() / from_home(place)
            content[part] = {**keys, name: str(started)}
    head = (content.get("model") or {}).get("head") if isinstance(content.get("model"), dict) else 0
    if isinstance(head, dict) and isinstance(head.get("labels"), str):
        head["labels"] = str(path.parent.absolute() / from_home(head["labels"]))
    try:
        return Study.model_validate(content)
    except ValidationError as error:
        raise explain(error, Study, where=str(path)) from None


def _set(content: dict[str, Any], override: str) -> None:
    name, equals, value = override.partition("=")
    override = cut(override)  # as messages quote it
    if not equals or not name:
        raise StudyError(f"--set {override}: expected KEY=VALUE, for instance training.epochs=5")
    *parents, last = name.split(".")
    for parent in parents:
        following = content.setdefault(parent, {})
        if following is None:
            following = content[parent] = {}
        if not isinstance(following, dict):
            raise StudyError(f"--set {override}: {parent} has no keys of its own")
        content = following
    new = parse_yaml(value, f"--set {override}")
    if last == "kind" and content.get("kind", new) != new:
        content.clear()
    content[last] = new


# ------------------------------------------------------------------------------- writing
