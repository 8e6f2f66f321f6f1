"""What a study says of a table: which columns are items, and how people answer them."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from fnmatch import fnmatchcase
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import BeforeValidator, Field, model_validator

from ae_pipeline.config import Config
from ae_pipeline.data import Column, InputError
from ae_pipeline.kind import Source
from ae_pipeline.sources import wording

if TYPE_CHECKING:
    import pandas as pd

__all__ = [
    "ItemBlock",
    "QuestionnaireSource",
    "as_answered",
    "block_of",
    "codes_of",
    "group_columns",
    "is_answer",
    "match",
    "possible_range",
]


def _listed(given: Any) -> Any:
    """Let ``items: A*`` stand for ``items: [A*]``."""
    return (given,) if isinstance(given, str | dict | Config) else given


def _no_switch(given: Any) -> Any:
    """Refuse what YAML made of an unquoted yes or no, before it counts as 1 or 0."""
    if isinstance(given, bool):
        raise ValueError("write words such as 'yes' and 'no' in quotes")
    return given


_Names = Annotated[tuple[str, ...], BeforeValidator(_listed)]
_Code = Annotated[float | str, BeforeValidator(_no_switch)]


class ItemBlock(Config):
    """Items that are answered in the same way."""

    items: Annotated[_Names, Field(min_length=1)]
    """Columns by name or by pattern (* and ?), for instance [A1, A2] or "A*"."""
    scale: str = ""
    """Name of the scale that the items belong to, for totals and figures; empty for none."""
    range: tuple[float, float] | None = None
    """Lowest and highest possible answer (not the observed ones), for instance [1, 6]."""
    levels: tuple[str, ...] = ()
    """Possible answers in ascending order where they are words; then leave range empty."""
    missing_codes: Annotated[tuple[_Code, ...] | None, BeforeValidator(_listed)] = None
    """Codes that mean 'no answer' in this block; null takes those of source.missing_codes that
    are no possible answer here."""
    reverse: Literal["auto"] | _Names = ()
    """Items of this block to turn round (lowest + highest - answer), by name or pattern; auto
    turns those that run against the rest of the block."""
    reverse_proposed: _Names = ()
    """Items that seem reverse-keyed; nothing is turned round before they stand under reverse."""
    type: Literal["auto", "continuous", "ordinal", "nominal", "binary"] = "auto"
    """What the answers are; auto: whole numbers in a range of at most 10 values are ordinal."""

    @model_validator(mode="before")
    @classmethod
    def _named_alone(cls, given: Any) -> Any:
        """A bare name or pattern is a block of which nothing else is known."""
        return {"items": (given,)} if isinstance(given, str) else given

    @model_validator(mode="after")
    def _consistent(self) -> ItemBlock:
        if self.range is not None:
            low, high = self.range
            if not (math.isfinite(low) and math.isfinite(high) and low < high):
                raise ValueError(f"range [{low:g}, {high:g}] must be finite, the lowest first")
        if self.levels and self.range is not None:
            raise ValueError("give range (for numbers) or levels (for words), not both")
        if self.levels and self.type in ("auto", "continuous"):
            raise ValueError("levels are words; say type: ordinal, nominal or binary")
        if len(set(self.levels)) < len(self.levels):
            raise ValueError("a word stands twice in levels")
        if self.bounds is None and (self.reverse or self.type not in ("auto", "continuous")):
            why = "reverse keying" if self.reverse else f"type: {self.type}"
            raise ValueError(f"{why} needs the possible range, for instance range: [1, 5]")
        if self.bounds is not None and self.type in ("ordinal", "nominal", "binary"):
            low, high = self.bounds
            if not (low.is_integer() and high.is_integer()):
                raise ValueError(f"type: {self.type} needs a range of whole numbers")
            if self.type == "binary" and high - low != 1:
                raise ValueError("type: binary needs two possible answers, as in range: [0, 1]")
        return self

    def turned(self, names: Sequence[str], *, where: str = "", strict: bool = False) -> list[str]:
        """Items that the study says are reverse-keyed."""
        named = () if self.reverse == "auto" else self.reverse
        return match(named, names, where=where, strict=strict)

    @property
    def bounds(self) -> tuple[float, float] | None:
        """Lowest and highest possible answer; words count from 0."""
        return (0.0, float(len(self.levels) - 1)) if self.levels else self.range


class QuestionnaireSource(Source):
    """A table of answers: one person a row, one item a column."""

    kind: Literal["questionnaire"] = "questionnaire"
    """Answers to questions, in a table."""
    path: Path
    """CSV, TSV, Excel, ODS, SPSS (.sav) or Stata (.dta) file, or a folder of them; delimiter,
    encoding and decimal commas are detected."""
    id_column: str | None = None
    """Column that identifies a row, never shown to a model; null numbers the rows."""
    subject_column: str | None = None
    """Column that identifies a person where one has several rows (visits, REDCap events); the
    rows of one person are never divided between training and test. Null: one person a row."""
    header_rows: Annotated[int, Field(ge=1, le=5)] = 1
    """Rows that hold the column names; of several, the first that names every column counts, else
    they are joined."""
    skip_rows: Annotated[int, Field(ge=0, le=1000)] = 0
    """Rows above the column names (a title)."""
    skip_footer: Annotated[int, Field(ge=0, le=1000)] = 0
    """Rows below the last person (totals, remarks)."""
    sheet: str | int | None = None
    """Sheet of a workbook, by name or by number from 1; null takes the one with most cells."""
    decimal: Literal[".", ","] | None = None
    """Decimal sign; null finds it in the numbers."""
    thousands: Literal[",", ".", " ", "'"] | None = None
    """Sign between thousands; null finds it in the numbers."""
    encoding: str | None = None
    """Encoding of a text file, for instance utf-8 or cp1252; null finds it."""
    items: Annotated[tuple[ItemBlock, ...], BeforeValidator(_listed), Field(min_length=1)]
    """Names, patterns ("A*") or blocks of items; every other column is kept as metadata only."""
    missing_codes: Annotated[tuple[_Code, ...], BeforeValidator(_listed)] = ()
    """Codes that mean 'no answer', for instance [-9, 99, refused]; empty cells and NA always do. A
    code within the range of a block is an answer there, unless the block's own missing_codes say
    otherwise."""
    impossible_share: Annotated[float, Field(ge=0, le=1)] = 0.01
    """Share of answers that may be impossible (outside the range, or no number): so few are listed
    and count as missing; with more of them the table is refused."""
    presentation_order: _Names | None = None
    """All items in the order people saw them; ["*"] where that is the order of the columns."""
    checks: Annotated[dict[str, _Code], Field(default_factory=dict)]
    """Attention checks: column -> right answer, for instance {Q17: 4}; they are no items, and the
    number of failed ones is reported beside each person."""
    response_times: _Names = ()
    """Columns of response times, by name or pattern; kept beside the answers, never a feature."""
    groups: _Names | None = None
    """Columns such as age and gender, by which the share of flagged people is shown; null takes
    those whose names say so."""


def possible_range(source: QuestionnaireSource, column: Column) -> tuple[float, float] | None:
    """Lowest and highest possible answer of an item; None where the study declares none."""
    if column.levels:
        return column.levels[0], column.levels[-1]
    return block_of(source, column.name).bounds


def as_answered(
    source: QuestionnaireSource,
    columns: Sequence[Column],
    *,
    values: NDArray[np.floating[Any]],
    mask: NDArray[np.bool_] | None = None,
) -> pd.DataFrame:
    """Answers as people gave them: the way back from :func:`load`.

    Parameters
    ----------
    source : QuestionnaireSource
    columns : sequence of Column
        Items of the model.
    values : array of shape (n, items)
        As models have them; what is no possible answer becomes the nearest one.
    mask : array of bool, optional
        False leaves a cell empty.

    Returns
    -------
    DataFrame
        One column an item, reverse keying undone, answers in words where the study has words.
    """
    import pandas as pd

    out: dict[str, Any] = {}
    for j, column in enumerate(columns):
        block = block_of(source, column.name)
        answers = np.array(values[:, j], dtype=np.float64)
        if column.levels:
            levels = np.array(column.levels)
            answers = levels[np.abs(answers[:, None] - levels).argmin(1)]
        bounds = possible_range(source, column)
        if bounds is not None:
            answers = np.clip(answers, *bounds)
            if column.reverse:
                answers = sum(bounds) - answers
        column_cells: Any = answers
        if block.levels:
            column_cells = np.array(block.levels, dtype=object)[answers.astype(int)]
        elif column.levels and all(level.is_integer() for level in column.levels):
            column_cells = pd.array(answers.astype(int), dtype="Int64")
        series = pd.Series(column_cells)
        out[column.name] = series if mask is None else series.where(mask[:, j])
    return pd.DataFrame(out)


_GROUP_WORD = re.compile(
    r"(?<![a-z])(age|alter|gender|sex|geschlecht|education|bildung|group|site|country|language)"
    r"(?![a-z])",
    re.IGNORECASE,
)


def is_answer(block: ItemBlock, code: float | str) -> bool:
    """Whether a code is a possible answer of a block."""
    if block.levels:
        return str(code) in block.levels
    if block.bounds is None or isinstance(code, str):
        return False
    low, high = block.bounds
    return low <= code <= high


def codes_of(source: QuestionnaireSource, block: ItemBlock) -> tuple[float | str, ...]:
    """Codes of missing answers in a block."""
    if block.missing_codes is not None:
        return block.missing_codes
    return tuple(code for code in source.missing_codes if not is_answer(block, code))


def group_columns(names: Sequence[str], source: QuestionnaireSource) -> list[str]:
    """Columns by which flags are counted: those of the study, else those named like groups.

    Parameters
    ----------
    names : sequence of str
        Columns that are neither id nor item.
    source : QuestionnaireSource
    """
    if source.groups is not None:
        return match(source.groups, names, where="source.groups", strict=False)
    return [name for name in names if _GROUP_WORD.search(name)]


def block_of(source: QuestionnaireSource, name: str) -> ItemBlock:
    """The block that an item belongs to."""
    return next(b for b in source.items if match(b.items, [name], where="", strict=False))


def match(
    patterns: Sequence[str], names: Sequence[str], *, where: str, strict: bool = True
) -> list[str]:
    """Names that are given or match a pattern, each one once, in the order asked for."""
    found: dict[str, None] = {}
    for pattern in patterns:
        hits = [pattern] if pattern in names else [n for n in names if fnmatchcase(n, pattern)]
        if strict and not hits:
            near = wording.nearest(pattern, names)
            raise InputError(f"{where}: {pattern!r} matches no column; {near}")
        found |= dict.fromkeys(hits)
    return list(found)
