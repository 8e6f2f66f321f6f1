"""The frozen, unknown-key-rejecting base of every configuration; nothing else.

Each stage's configuration stands beside the stage (``Windowing`` in ``windows.py``) and
derives from :class:`Config`; ``experiment.Study`` only puts them together.
"""

from __future__ import annotations

import ast
import difflib
import inspect
import re
import sys
from functools import cache
from itertools import pairwise
from pathlib import Path
from types import UnionType
from typing import TYPE_CHECKING, Annotated, Any, Union, get_args, get_origin

from pydantic import BaseModel, ConfigDict, ValidationError

if TYPE_CHECKING:
    from pydantic.fields import FieldInfo

__all__ = [
    "NAME",
    "Config",
    "StudyError",
    "cut",
    "described",
    "explain",
    "from_home",
    "parse_yaml",
]

NAME = r"^[A-Za-z0-9][A-Za-z0-9 ._-]{0,199}$"
"""What a study may be called: folders, experiments and models get the name."""
DEEPEST, MOST_VALUES = 40, 100_000
"""Levels of a YAML file, and values on one of them."""
MOST_FINDINGS = 12
"""Wrong keys that one message names."""


class StudyError(Exception):
    """A study file, a bundle or a command line that cannot be used (exit status 2).

    The message is one line: what was given, what was expected, what to do.

    Examples
    --------
    >>> from pathlib import Path
    >>> from ae_pipeline.study import load_study
    >>> try:
    ...     load_study(Path("missing.yaml"))
    ... except StudyError as error:
    ...     print(error)
    missing.yaml: no such study file; write one with 'ae-pipeline init KIND'
    """


def parse_yaml(text: str, where: str) -> Any:
    """Read YAML as plain values.

    Raises
    ------
    StudyError
        One line: where, and what is not readable.
    """
    import yaml

    try:
        content = yaml.safe_load(text)
        _refuse_endless(content)
        return content
    except RecursionError:
        problem, line = "nested too deeply", ""
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        line = f", line {mark.line + 1}" if mark else ""
        problem = getattr(error, "problem", None) or "not text"
    except Exception as error:  # dates, numbers and tags that Python's own types refuse
        problem, line = " ".join(str(error).split())[:200], ""
    raise StudyError(f"{where}{line}: not readable as YAML ({problem})") from None


def _refuse_endless(content: Any) -> None:
    """Refuse what has no end (aliases) or is no number that anything takes (hexadecimal ones)."""
    level = [content]
    for _ in range(DEEPEST):
        following: list[Any] = []
        for each in level:
            if isinstance(each, dict):
                following += [*each.keys(), *each.values()]
            elif isinstance(each, list | tuple | set):
                following += each
            elif isinstance(each, int) and abs(each) >= 2**63:
                raise ValueError("a number has too many digits")
            elif isinstance(each, str) and _UNWRITABLE.search(each):
                raise ValueError("a text holds a null character or half of one")
            if len(following) > MOST_VALUES:
                raise ValueError("too many values")
        level = following
        if not level:
            return
    raise RecursionError


def from_home(place: str | Path) -> Path:
    """Return a place with ``~`` and ``~name`` replaced by the folder of that user.

    Raises
    ------
    StudyError
        Where there is no such user, or the text cannot be a path.
    """
    if "\0" in str(place):
        raise StudyError("a path holds a null character; remove it")
    try:
        return Path(place).expanduser()
    except RuntimeError:
        raise StudyError(f"{place}: there is no such user; write the whole path") from None


class Config(BaseModel):
    """Base of every configuration: immutable, and a misspelt key is an error."""

    model_config = ConfigDict(
        frozen=True, extra="forbid", validate_default=True, allow_inf_nan=False
    )

    @classmethod
    def members(cls) -> tuple[type[Config], ...]:
        """Return what a field of this type may hold: more where that is known at run time only."""
        return (cls,)


@cache
def described(model: type[BaseModel]) -> dict[str, str]:
    """The sentence that stands under each field of a configuration, as ``init`` prints it.

    Read from the source when it is asked for. Pydantic can do the same, but for every class at
    every start of the command, which takes a fifth of the half second that a person notices.

    Parameters
    ----------
    model : type

    Returns
    -------
    dict of str to str
        By name; inherited fields included.
    """
    found: dict[str, str] = {}
    for parent in reversed(model.__mro__):
        if not issubclass(parent, BaseModel) or parent in (BaseModel, Config):
            continue
        body = _classes(parent.__module__)[parent.__qualname__].body
        for field, below in pairwise(body):
            if isinstance(field, ast.AnnAssign) and isinstance(field.target, ast.Name):
                text = below.value if isinstance(below, ast.Expr) else None
                if isinstance(text, ast.Constant) and isinstance(text.value, str):
                    found[field.target.id] = inspect.cleandoc(text.value)
    return found


@cache
def _classes(module: str) -> dict[str, ast.ClassDef]:
    """The classes at the top of a module, from its source."""
    tree = ast.parse(inspect.getsource(sys.modules[module]))
    return {node.name: node for node in tree.body if isinstance(node, ast.ClassDef)}


def explain(error: ValidationError, model: type[BaseModel], *, where: str) -> StudyError:
    """Turn pydantic's report into one line that names the key and the nearest valid one.

    Parameters
    ----------
    error : ValidationError
        What pydantic found; every finding is listed, separated by ``; ``.
    model : type
        The configuration the data was checked against.
    where : str
        The file the data came from, for the message.

    Returns
    -------
    StudyError
        To be raised by the caller.
    """
    said: dict[str, list[str]] = {}
    given: dict[str, str] = {}
    foreign: dict[tuple[str, str, str], list[str]] = {}
    for finding in error.errors(include_url=False):
        kind, loc = finding["type"], finding["loc"]
        keys, parts = _locate(model, loc[:-1] if kind == "extra_forbidden" else loc)
        names = sorted(
            field.alias or name
            for part in {part for part in parts if _is_model(part)}
            for name, field in part.model_fields.items()
        )
        names = list(dict.fromkeys(names))
        if kind == "extra_forbidden" and _of_another_kind(model, loc):
            place = (".".join(keys), str(loc[-2]), ", ".join(names))
            foreign.setdefault(place, []).append(str(loc[-1]))
            continue
        if kind == "extra_forbidden":
            keys.append(str(loc[-1]))
            near = difflib.get_close_matches(keys[-1], names, n=1, cutoff=0.5)
            hint = f"did you mean {near[0]!r}?" if near else f"known keys: {', '.join(names)}"
            message = f"unknown key; {hint}"
        elif kind == "union_tag_invalid":
            keys.append("kind")
            context: dict[str, Any] = finding.get("ctx", {})
            message = f"{context.get('tag')!r} is not known; one of {context.get('expected_tags')}"
        elif kind == "union_tag_not_found":
            message = "needs a 'kind'"
        elif kind == "missing":
            message = "is missing; add it"
        elif kind == "model_type":
            message = f"should hold keys ({', '.join(names)})"
        elif kind == "value_error":
            message = finding["msg"].removeprefix("Value error, ")
        else:
            message = finding["msg"].replace("Input should", "should", 1)
        dotted = ".".join(keys)
        said.setdefault(dotted, []).append(message)
        given[dotted] = "" if kind in _CLEAR else f" (given {_short(finding['input'])})"
    lines = [
        (f"{cut(dotted)}: " if dotted else "") + cut(", or ".join(messages), 600) + given[dotted]
        for dotted, messages in list(said.items())[:MOST_FINDINGS]
    ]
    if len(said) > MOST_FINDINGS:
        lines.append(f"and {len(said) - MOST_FINDINGS} more")
    lines += [
        f"{dotted}: kind: {tag} has no {', '.join(others)}; drop "
        f"{'these keys' if len(others) > 1 else 'it'}; known keys: {names}"
        for (dotted, tag, names), others in foreign.items()
    ]
    return StudyError(f"{where}: " + "; ".join(lines))


def _of_another_kind(model: type[BaseModel], loc: tuple[int | str, ...]) -> bool:
    """Whether a key belongs to another kind than the one that is chosen beside it."""
    if len(loc) < 2:
        return False
    _, siblings = _locate(model, loc[:-2])
    tagged = [part for part in siblings if _is_model(part) and _tag(part) is not None]
    return any(_tag(part) == loc[-2] for part in tagged) and any(
        _field(part, str(loc[-1])) for part in tagged
    )


_UNWRITABLE = re.compile("[\0\ud800-\udfff]")
# What was given is in these messages already, or is nothing.
_CLEAR = ("extra_forbidden", "missing", "union_tag_invalid", "union_tag_not_found", "value_error")


def cut(text: str, longest: int = 200) -> str:
    """Return the text in one line, or its beginning where a message has no place for more."""
    text = " ".join(text.split())
    return text if len(text) <= longest else f"{text[: longest - 1]}…"


def _short(value: Any) -> str:
    try:
        text = repr(value)
    except (ValueError, RecursionError):  # more digits than Python writes, or no end
        return "too long to show"
    return text if len(text) <= 80 else text[:77] + "..."


def _locate(model: type[BaseModel], loc: tuple[int | str, ...]) -> tuple[list[str], list[Any]]:
    """Keys as they stand in the file, and the types that are possible there.

    Pydantic's location also names the member of a union that it tried (``conv``, ``int``), which
    nobody has typed.
    """
    keys: list[str] = []
    here: list[Any] = [model]
    for part in loc:
        fields = [_field(a, str(part)) for a in here if _is_model(a)]
        inside = [m for field in fields if field for m in _members(field.annotation)]
        if not inside:
            box = (list, tuple) if isinstance(part, int) else (dict,) if part != "[key]" else ()
            inside = [m for a in here if get_origin(a) in box for m in _members(_content(a))]
        if inside:
            keys.append(str(part))
            here = inside
        else:
            here = [a for a in here if _is_model(a) and part in (_tag(a), a.__name__)] or here
    return keys, here


def _field(model: type[BaseModel], key: str) -> FieldInfo | None:
    """A field by the key it has in a file (``from`` is no name that Python allows)."""
    by_key = {field.alias or name: field for name, field in model.model_fields.items()}
    return by_key.get(key)


def _is_model(annotation: Any) -> bool:
    return isinstance(annotation, type) and issubclass(annotation, BaseModel)


def _members(annotation: Any) -> list[Any]:
    """The alternatives of a union, however nested; anything else is its own only one."""
    if get_origin(annotation) is Annotated:
        return _members(get_args(annotation)[0])
    if get_origin(annotation) in (Union, UnionType):
        return [member for part in get_args(annotation) for member in _members(part)]
    if isinstance(annotation, type) and issubclass(annotation, Config):
        return list(annotation.members())
    return [annotation]


def _content(box: Any) -> Any:
    """What a list, a tuple or a dictionary holds."""
    return [part for part in get_args(box) if part is not ...][-1]


def _tag(model: type[BaseModel]) -> str | None:
    field = model.model_fields.get("kind")
    return None if field is None else str(field.default)
