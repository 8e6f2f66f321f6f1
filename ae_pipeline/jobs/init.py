"""A first study file that fits the data: what ``ae-pipeline init`` writes."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from ae_pipeline.config import Config, described
from ae_pipeline.kind import kind_of
from ae_pipeline.study import Study, merge_defaults

__all__ = [
    "initial_study",
    "study_file",
]


def initial_study(kind: str, source: Path | None = None, *, name: str | None = None) -> str:
    """A commented study file, from the data where given.

    Parameters
    ----------
    kind : str
        Name of a kind that is installed.
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
    proposal = kind_of(kind).propose(source)
    title = name or (f"my-{kind}-study" if source is None else _name_of(source))
    return study_file({"study": title, **proposal.content}, proposal.notes)


def _name_of(source: Path) -> str:
    stem = source.resolve().name.split(".")[0]
    safe = "".join(c if c.isascii() and (c.isalnum() or c in "_-") else "-" for c in stem)
    return safe.strip("-_") or "study"


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
    kind = kind_of(given["source"]["kind"])
    content = merge_defaults(kind.defaults, given)
    content["source"] = {"path": "path/to/the/data", **content["source"]}
    lines = [
        "# A study: one file that decides everything. Change what you like, then check it with",
        "#   ae-pipeline validate THIS_FILE",
        "# and run it with",
        "#   ae-pipeline train THIS_FILE",
        "",
    ]
    unused = {"preprocess", "windows"} - kind.sections
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
    if isinstance(annotation, type) and issubclass(annotation, Config):
        return list(annotation.members())
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
