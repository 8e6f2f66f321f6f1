"""Pseudonyms in place of names."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from ae_pipeline.runtime.files import locked, project_root, write_text, write_through

if TYPE_CHECKING:
    import pandas as pd

__all__ = [
    "pseudonyms",
]


def pseudonyms(names: Iterable[str], kind: str, *, root: Path | None = None) -> dict[str, str]:
    """Stable pseudonyms (``sub-1f3a9c02b7d4``) for identities in all that leaves the folder.

    Keyed with a secret that is made once under the project's root, so that nobody can try names
    against the published pseudonyms.
    """
    place = (root or project_root()) / "data" / ".pseudonym-key"
    if not place.is_file():
        with locked(place.with_suffix(".lock")):
            if not place.is_file():
                with write_through(place) as temporary:
                    temporary.touch(mode=0o600)
                    temporary.write_bytes(os.urandom(32))
    secret = place.read_bytes()

    def code(name: str) -> str:
        return hashlib.blake2b(name.encode(), key=secret, digest_size=6).hexdigest()

    return {name: f"{kind}-{code(name)}" for name in names}


def _masked(frame: pd.DataFrame, names: Mapping[str, Mapping[str, str]]) -> pd.DataFrame:
    """A frame with pseudonyms for recordings and subjects, and no session."""
    out = frame.copy()
    for column, codes in names.items():
        if column in out:
            out[column] = out[column].astype(object).map(codes).astype("string")
    if "session" in out:
        out["session"] = ""
    if "reason" in out and "verdict" in out:  # a failure's reason names its file
        failed = (out["verdict"] == "failed").fillna(False)
        out.loc[failed, "reason"] = "failed; see the local report"
    return out


def _pseudonyms(frame: pd.DataFrame, kind: str) -> dict[str, dict[str, str]]:
    """The map that stays here; images are nobody, so they keep their names."""
    if kind == "mnist":
        return {}
    return {
        column: pseudonyms(sorted(set(frame[column].dropna().astype(str))), short)
        for column, short in (("recording", "rec"), ("subject", "sub"))
    }


def _copy_masked(source: Path, target: Path, *, names: Mapping[str, str]) -> None:
    """Copy a text with pseudonyms for names; nothing where a name would still stand in it."""
    import html
    import re

    if not source.is_file():
        return
    text = source.read_text(encoding="utf-8")
    for name, code in names.items():  # the recording first: its name may hold the subject's
        for shape in {name, html.escape(name), html.escape(name, quote=False)} - {""}:
            text = re.sub(rf"(?<![A-Za-z0-9]){re.escape(shape)}(?![A-Za-z0-9])", code, text)
    if not any(name and name.lower() in text.lower() for name in names if len(name) > 2):
        write_text(target, text)
