"""What each column of a table is: an identity, a time, an item, or something beside them."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from ae_pipeline.sources import cells, likert, numerals

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["Seen", "exporter", "is_time", "listed", "none_item", "recoded", "seen", "who"]

_ID_NAME = re.compile(
    r"(.*[_.\- ])?(id|pid|uid|subject|subj|sub|participant|respondent|person|case|code|vp|record|"
    r"response ?id|responseid|proband|sujeto|participante)"
    r"([_.\- ]?(id|nr|no|number|code))?",
    re.IGNORECASE,
)
_NO_ID_WORD = re.compile(r"name|mail|phone|date|time|comment|text", re.IGNORECASE)
_TIME_WORD = re.compile(
    r"(?<![a-z])(rt|times?|duration|latency|ms|sec|seconds|elapse|reaction)(?![a-z])|elapse$|"
    r"^(group|interview)time|time$|page submit|(first|last) click|reaktionszeit|dauer|duraci[oó]n",
    re.IGNORECASE,
)
_NO_ITEM_WORD = re.compile(
    r"(?<![a-z])(age|alter|edad|gender|sex|geschlecht|sexo|education|bildung|income|einkommen|weight"
    r"|height|year|month|day|date|score|sum|total|mean|average|group|condition|session|wave|site"
    r"|country|platform|language|name|mail|email|phone|index|trial|order|urban|engnat|hand|religion"
    r"|orientation|race|ethnicity|voted|married|marital|familysize|occupation|nationality|screenw"
    r"|screenh|zip|plz|visit|click count)(?![a-z])",
    re.IGNORECASE,
)
_MOST_WORDS = 3
"""Words of a name; longer ones are questions, in which "day" says nothing."""
_PROGRAM = re.compile(
    r"start ?date|end ?date|status|response ?type|ip ?address|progress|finished|recorded ?date|"
    r"response ?id|recipient ?(last|first) ?name|recipient ?email|external.*reference|"
    r"location ?(latitude|longitude)|distribution ?channel|user ?language|q_.*|submitdate|lastpage|"
    r"startlanguage|seed|token|datestamp|ipaddr|refurl|redcap_.*|.*_complete|.*_timestamp|"
    r"(respondent|collector) ?id|email ?address|first ?name|last ?name|custom ?data.*|timestamp|"
    r"zeitstempel|marca temporal|username|nombre de usuario",
    re.IGNORECASE,
)
_COPY = re.compile(
    r"(?:(?:r|rev|rec|inv)[_.](?P<a>.+)|"
    r"(?P<b>.+?)(?:[_.]?(?:r|rev|reversed?|rec|recoded|inv|umgepolt)|[_.](?:i|u|k)))",
    re.IGNORECASE,
)
NINES = (8, 9, 77, 88, 97, 98, 99, 777, 888, 998, 999, 9999)
CODES = [-1, -7, *(-code for code in NINES), *NINES]


@dataclass(frozen=True)
class Seen:
    """What a column holds.

    Parameters
    ----------
    name : str
    text : Series of str
        As it stands, empty cells missing.
    numbers : Series of float
        NaN where a cell is no number.
    words : tuple of str
        Different cells that are no number.
    n : int
        Cells that are not empty.
    """

    name: str
    text: pd.Series[str]
    numbers: pd.Series[float]
    words: tuple[str, ...]
    n: int

    @property
    def numeric(self) -> bool:
        """Whether it holds numbers, but for at most two words that say there is no answer."""
        n_words = self.n - int(self.numbers.notna().sum())
        return bool(self.n) and len(self.words) <= 2 and n_words < 0.2 * self.n

    @property
    def values(self) -> NDArray[np.float64]:
        """Different numbers, ascending."""
        found: NDArray[np.float64] = np.unique(self.numbers.dropna().to_numpy(np.float64))
        return found

    @property
    def scale(self) -> NDArray[np.float64]:
        """Different numbers that are no usual code of missing answers."""
        values = self.values
        bulk = values[~np.isin(values, CODES)]
        if not len(bulk):
            return values
        near = (values >= bulk[0] - 1) & (values <= bulk[-1] + 1)
        return np.asarray(values[near], dtype=np.float64)

    @property
    def few(self) -> bool:
        """Whether its numbers are few whole ones."""
        scale = self.scale
        return 0 < len(scale) <= likert.MOST_LEVELS + 1 and bool(np.all(scale == np.rint(scale)))

    @property
    def dates(self) -> bool:
        """Whether a spreadsheet made dates of some of its numbers."""
        made = [word for word in self.words if numerals.DATE.fullmatch(word.strip())]
        return bool(len(made) == len(self.words) > 0 and self.numbers.notna().any())


def seen(name: str, text: pd.Series[str], signs: numerals.Signs) -> Seen:
    """Look at one column."""
    text = text.mask(text.str.strip().isin([e for e in cells.EMPTY if e != "None"]))
    numbers = numerals.answers(text, signs)
    words = tuple(sorted(text[numbers.isna()].dropna().str.strip().unique()))
    if words == ("None",):  # Python's word for nothing, among numbers
        text, words = text.mask(text.str.strip() == "None"), ()
    return Seen(name, text, numbers, words, int(text.notna().sum()))


def exporter(names: Sequence[str], imported: bool) -> str | None:
    """The program that wrote a table, by its columns.

    Parameters
    ----------
    names : sequence of str
    imported : bool
        A row of import codes stands below the names.
    """
    lower = {name.casefold() for name in names}
    if imported or {"responseid", "startdate"} <= lower or {"response id", "start date"} <= lower:
        return "Qualtrics"
    if {"redcap_event_name", "redcap_repeat_instance"} & lower or (
        "record_id" in lower and any(name.endswith("_complete") for name in lower)
    ):
        return "REDCap"
    if {"lastpage", "startlanguage"} & lower or any(re.search(r"\[(SQ)?\w+\]$", n) for n in names):
        return "LimeSurvey"
    if {"respondent id", "collector id"} & lower:
        return "SurveyMonkey"
    if names and names[0].casefold() in ("timestamp", "zeitstempel", "marca temporal"):
        return "Google Forms"
    return None


def who(columns: Sequence[Seen]) -> tuple[str | None, str | None, str]:
    """The column that identifies a row, the one that identifies a person, and why."""
    by_name = [one for one in columns if _ID_NAME.fullmatch(one.name)]
    unnamed = [one for one in columns if one.name == "Unnamed: 0"]
    speech = [
        one
        for one in columns
        if not (one.numbers.notna().any() or _NO_ID_WORD.search(one.name))
        and not one.text.str.contains(r"\s|.{41}", regex=True, na=False).any()
    ]
    for one in by_name:  # a person with several rows
        n_ids = one.text.nunique()
        if one.text.isna().any() or n_ids < 5 or not 1.3 <= len(one.text) / n_ids <= 50:
            continue
        counts = one.text.value_counts()
        if (counts > 1).mean() < 0.3 or one.few:
            continue
        unique = next((o.name for o in by_name if o.text.is_unique and o.text.notna().all()), None)
        return unique, one.name, f"{one.name}: {len(one.text):,} rows of {n_ids:,} people"
    for one in [*by_name, *unnamed, *speech]:
        if one.text.is_unique and one.text.notna().all():
            return one.name, None, "guessed: no value stands twice"
    if by_name:
        return None, None, f"{by_name[0].name} repeats or has gaps, so rows are numbered"
    return None, None, "no column looks like an id, so rows are numbered"


def none_item(one: Seen) -> str | None:
    """Why a column cannot be an item, by its name; None where it may be one."""
    if _PROGRAM.fullmatch(one.name):
        return "written by the survey program"
    if len(one.name.split()) <= _MOST_WORDS and _NO_ITEM_WORD.search(one.name):
        return "by its name"
    return None


def is_time(one: Seen, *, block: bool) -> bool:
    """Whether a column holds durations, by its values; a single one needs a name for it too.

    Durations are positive, nearly all different, and some are several times the usual one.
    """
    values = one.numbers.dropna().to_numpy(np.float64)
    if len(values) < 5 or not one.numeric:
        return False
    usual = float(np.median(values))
    many = len(np.unique(values)) > min(20, 0.3 * len(values))
    if not block:
        return bool(_TIME_WORD.search(one.name)) and many and values.min() >= 0 and not one.few
    skewed = float(np.quantile(values, 0.98)) > 2 * usual
    return many and values.min() >= 0 and usual > 100 and skewed


def recoded(one: Seen, others: dict[str, Seen]) -> str | None:
    """The column that this one repeats, turned round or not; None for a column of its own."""
    told = _COPY.fullmatch(one.name)
    base = others.get((told["a"] or told["b"]) if told else "")
    if base is None or base.name == one.name:
        return None
    both = one.numbers.notna() & base.numbers.notna()
    a, b = one.numbers[both], base.numbers[both]
    if len(a) < 10 or a.nunique() < 2:
        return None
    same = a.nunique() == b.nunique() and abs(float(np.corrcoef(a, b)[0, 1])) > 0.9999
    return base.name if same else None


def listed(names: Sequence[str]) -> str:
    """Names, the first few of many."""
    more = f" and {len(names) - 12} more" if len(names) > 12 else ""
    return ", ".join(names[:12]) + more
