"""A first study file that fits the data: what ``ae-pipeline init`` writes."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from ae_pipeline.config import StudyError, described
from ae_pipeline.study import DEFAULTS, Study, _merge

__all__ = [
    "initial_study",
    "study_file",
]

KINDS = ("eeg", "mnist", "questionnaire")


def initial_study(kind: str, source: Path | None = None, *, name: str | None = None) -> str:
    """A commented study file, from the data where given.

    Parameters
    ----------
    kind : {'eeg', 'mnist', 'questionnaire'}
    source : Path, optional
        Data to look at; without it the file holds defaults and a path to fill in.
    name : str, optional
        Name of the study; from the source otherwise.

    Returns
    -------
    str
        YAML.

    Raises
    ------
    StudyError
        Unknown kind.
    InputError
        The data cannot be used.
    """
    if kind not in KINDS:
        raise StudyError(f"init {kind}: expected one of {', '.join(KINDS)}")
    title = name or f"my-{kind}-study"
    if source is None:
        content: dict[str, Any] = {"study": title, "source": {"kind": kind}}
        if kind == "questionnaire":
            content["source"]["items"] = ["Q*"]
        if kind == "mnist":
            content["source"]["path"] = None
        return study_file(content)
    title = name or _name_of(source)
    if kind == "eeg":
        return _from_recordings(title, source)
    if kind == "mnist":
        from ae_pipeline.sources import images as mnist

        mnist.find(source)
        return study_file({"study": title, "source": {"kind": kind, "path": str(source)}})
    from ae_pipeline.sources.cells import count_rows
    from ae_pipeline.sources.proposal import propose

    section, comments = propose(source)
    section["path"] = str(source)
    notes = {f"source.{key}": text for key, text in comments.items()}
    content = {"study": title, "source": section}
    n_rows = count_rows(source)
    if n_rows > MANY_PEOPLE:
        epochs = max(FEWEST_EPOCHS, round(200 * MANY_PEOPLE / n_rows))
        content["training"] = {"epochs": epochs, "early_stopping": max(3, epochs // 10)}
        notes["training.epochs"] = (
            f"About {n_rows:,} rows make many steps an epoch: {epochs} are enough to look at; try "
            "more before you compare models."
        )
    return study_file(content, notes)


MANY_PEOPLE = 4_000
"""People above which fewer than the usual 200 epochs are proposed, in proportion."""

FEWEST_EPOCHS = 10


def _name_of(source: Path) -> str:
    stem = source.resolve().name.split(".")[0]
    safe = "".join(c if c.isascii() and (c.isalnum() or c in "_-") else "-" for c in stem)
    return safe.strip("-_") or "study"


def _from_recordings(title: str, source: Path) -> str:
    from ae_pipeline.eeg.filters import lowest_high_pass_hz
    from ae_pipeline.eeg.preprocess import Preprocess
    from ae_pipeline.eeg.windows import Windowing
    from ae_pipeline.sources import eeg

    seen = eeg.describe(eeg.find([source]))
    preprocess: dict[str, Any] = {"sfreq_hz": seen.sfreq_hz}
    windows: dict[str, Any] = {}
    notes = {
        "preprocess.sfreq_hz": f"The lowest rate of the {seen.n_recordings} recordings found is "
        f"{seen.sfreq_hz:g} Hz; scoring refuses recordings below this rate.",
    }
    left_out = []
    if seen.exclude:
        left_out.append("Left out here: what is no EEG channel by its name or type.")
    # where recordings share few channels it is the other recordings that have to go
    partial = seen.partial if len(seen.ch_names) >= len(seen.partial) else ()
    if seen.partial:
        more = " ..." if len(seen.partial) > 10 else "."
        left_out.append(f"Not in every recording: {', '.join(seen.partial[:10])}{more}")
        if not partial:
            left_out.append("These stay: recordings without the channels of most are left out.")
    notes["source.exclude"] = " ".join(left_out)
    if seen.failed:
        name, reason = seen.failed[0]
        notes["source.pattern"] = (
            f"{len(seen.failed)} of the files found cannot be used; the first, {name}: {reason}"
        )
    default = Preprocess()
    fits = lowest_high_pass_hz(seen.segment_s)
    if default.high_pass_hz is not None and fits > default.high_pass_hz:
        preprocess["high_pass_hz"] = fits
        notes["preprocess.high_pass_hz"] = (
            f"Raised: uninterrupted stretches last {seen.segment_s:.3g} s here, and the kernel of "
            "a lower high-pass would not fit into them."
        )
    nyquist = seen.sfreq_hz / 2
    if default.low_pass_hz is not None and default.low_pass_hz > 0.9 * nyquist:
        preprocess["low_pass_hz"] = round(0.8 * nyquist, 1)
    length_s, stride_s = Windowing().length_s, Windowing().stride_s
    if seen.segment_s < 2 * length_s:
        length_s = round(min(length_s, seen.segment_s / 2), 2)
        windows = {"length_s": length_s, "stride_s": min(stride_s, length_s / 2)}
        notes["windows.length_s"] = (
            f"Shortened: uninterrupted stretches last {seen.segment_s:.3g} s here."
        )
    if seen.epoched:
        preprocess["high_pass_hz"] = None
        notes["preprocess.high_pass_hz"] = (
            "null: the files hold epochs, which are high-passed before they are cut; a kernel of "
            "several seconds does not fit into them."
        )
        windows = {"length_s": round(seen.segment_s, 4), "at": "epochs"}
        notes["windows.length_s"] = f"The files' own epochs last {seen.segment_s:.4g} s."
    exclude = [*seen.exclude, *partial]
    section: dict[str, Any] = {
        "kind": "eeg",
        "path": str(source),
        "subject_pattern": seen.subject_pattern,
        "exclude": exclude,
    }
    if seen.line_freq_hz:
        section["line_freq_hz"] = seen.line_freq_hz
        notes["source.line_freq_hz"] = "As the recordings or their sidecars state it."
    content = {"study": title, "source": section, "preprocess": preprocess, "windows": windows}
    return study_file(content, notes)


def study_file(given: Mapping[str, Any], notes: Mapping[str, str] | None = None) -> str:
    """A study file with every default written out and explained.

    Parameters
    ----------
    given : mapping
        What is already known: at least ``study`` and ``source.kind``; the rest from defaults.
    notes : mapping of dotted key to str, optional
        Further comments on single keys (why ``init`` chose a value).

    Returns
    -------
    str
        YAML with comments.
    """
    kind = given["source"]["kind"]
    content = _merge(DEFAULTS[kind], given)
    content["source"] = {"path": "path/to/the/data", **content["source"]}
    lines = [
        "# A study: one file that decides everything. Change what you like, then check it with",
        "#   ae-pipeline validate THIS_FILE",
        "# and run it with",
        "#   ae-pipeline train THIS_FILE",
        "",
    ]
    unused = () if kind == "eeg" else ("preprocess", "windows")
    lines += _yaml_lines(Study, content, path="", notes=notes or {}, skip=unused)
    return "\n".join(lines) + "\n"


def _yaml_lines(
    model: type[BaseModel],
    content: Mapping[str, Any],
    *,
    path: str,
    notes: Mapping[str, str],
    skip: Iterable[str] = (),
    indent: str = "",
) -> list[str]:
    lines: list[str] = []
    for own, field in model.model_fields.items():
        if own in skip:
            continue
        name = field.alias or own
        dotted = f"{path}{name}"
        lines += _comment(
            f"{described(model).get(own, '')} {_sentence(notes.get(dotted, ''))}", indent
        )
        value = content.get(name, field.get_default(call_default_factory=True))
        inner = _model_for(field.annotation, value)
        if isinstance(value, (list, tuple)) and value and isinstance(value[0], Mapping):
            lines.append(f"{indent}{name}:")
            lines += _yaml_rows(value, dotted, notes=notes, indent=indent + "  ")
        elif inner is not None and not isinstance(value, (list, tuple)):
            filled = value.model_dump(mode="json") if isinstance(value, BaseModel) else value or {}
            lines.append(f"{indent}{name}:")
            lines += _yaml_lines(
                inner, filled, path=f"{dotted}.", notes=notes, skip=(), indent=indent + "  "
            )
        else:
            lines.append(f"{indent}{name}: {_yaml_value(value)}")
        if not indent:
            lines.append("")
    return lines


def _yaml_rows(
    rows: Sequence[Any], path: str, *, notes: Mapping[str, str], indent: str
) -> Iterator[str]:
    """One line for each block of a list; a note that several of them share stands once."""
    said: set[str] = set()
    for number, row in enumerate(rows):
        for dotted, note in notes.items():
            parent, _, name = dotted.rpartition(".")
            if parent == f"{path}.{number}" and f"{name}: {note}" not in said:
                said.add(f"{name}: {note}")
                yield from _comment(f"{name}: {_sentence(note)}", indent)
        yield f"{indent}- {_yaml_value(row)}"


def _comment(text: str, indent: str) -> list[str]:
    import textwrap

    start = f"{indent}# "
    return textwrap.wrap(text, 96, initial_indent=start, subsequent_indent=start)


def _sentence(note: str) -> str:
    note = note.strip()
    return note and note[0].upper() + note[1:] + ("" if note.endswith((".", "?", "!")) else ".")


def _model_for(annotation: Any, value: Any) -> type[BaseModel] | None:
    """The configuration class behind a field, chosen by ``kind`` where there are several."""
    if isinstance(value, BaseModel):
        return type(value)
    found = _models(annotation)
    if isinstance(value, Mapping) and "kind" in value:
        found = [m for m in found if m.model_fields["kind"].default == value["kind"]]
    if value is None or not found:
        return None
    return found[0]


def _models(annotation: Any) -> list[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    return [model for part in getattr(annotation, "__args__", ()) for model in _models(part)]


def _yaml_value(value: Any) -> str:
    import json

    import yaml

    if isinstance(value, BaseModel):
        value = value.model_dump(mode="json")
    value = json.loads(json.dumps(value, default=str))  # tuples to lists, paths to text
    text = yaml.safe_dump(
        value, default_flow_style=True, sort_keys=False, allow_unicode=True, width=10**6
    )
    return text.removesuffix("\n").removesuffix("\n...").strip()
