"""Pseudonyms in place of names, in the data that pages and tables are then made from."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from ae_pipeline.kind import kind_of
from ae_pipeline.runtime.files import locked, project_root, write_through
from ae_pipeline.scoring.bundle import BundleInfo
from ae_pipeline.scoring.examples import Example

if TYPE_CHECKING:
    import pandas as pd

    from ae_pipeline.report.findings.reasons import RecordingTables

__all__ = ["IDENTITIES", "PLAIN", "SHARED", "Masking", "pseudonyms"]

SHARED = "pseudonymised"
"""Subfolder with what may leave this machine."""

IDENTITIES = {"recording": "rec", "subject": "sub"}
"""Columns that name somebody, and what their pseudonyms begin with."""


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


@dataclass(frozen=True)
class Masking:
    """Who is named in a copy of the results.

    Parameters
    ----------
    hides : bool
        Recordings and subjects get pseudonyms; else everything stays as it is.
    hides_notes : bool
        Nothing that readers noted: those of tables quote names of files.
    """

    hides: bool = True
    hides_notes: bool = True

    @classmethod
    def of(cls, info: BundleInfo) -> Masking:
        """What leaves of a model's results: images are nobody, so they keep their names."""
        return cls(kind_of(info.kind).private, info.layout == "table")

    def recording(self, name: str) -> str:
        """Return what a recording, a respondent or an input is called."""
        return pseudonyms([name], "rec")[name] if self.hides else name

    def subject(self, name: str) -> str:
        """Return what a person is called."""
        return pseudonyms([name], "sub")[name] if self.hides else name

    def names(self, frame: pd.DataFrame) -> dict[str, dict[str, str]]:
        """Return the map that stays here: the pseudonyms of each column that names somebody."""
        if not self.hides:
            return {}
        return {
            column: pseudonyms(sorted(set(frame[column].dropna().astype(str))), short)
            for column, short in IDENTITIES.items()
            if column in frame
        }

    def frame(self, frame: pd.DataFrame) -> pd.DataFrame:
        """Return a table without names, sessions, and reasons that name a file."""
        if not self.hides:
            return frame
        out = frame.copy()
        for column, codes in self.names(frame).items():
            out[column] = out[column].astype(object).map(codes).astype("string")
        if "session" in out:
            out["session"] = ""
        if "reason" in out and "verdict" in out:  # a failure's reason names its file
            failed = (out["verdict"] == "failed").fillna(False)
            out.loc[failed, "reason"] = "failed; see the local report"
        return out

    def example(self, example: Example) -> Example:
        """Return samples to look at, without names."""
        return replace(example, frame=self.frame(example.frame))

    def notes(self, notes: Iterable[str]) -> tuple[str, ...]:
        """Return what readers noted, where it may be told."""
        return () if self.hides_notes else tuple(notes)

    def tables(self, tables: RecordingTables) -> RecordingTables:
        """Return a recording's result and tables, without names."""
        result, recording = tables.result, tables.result.recording
        known = {
            "recording": self.recording(recording.name),
            "subject": self.subject(recording.subject),
            "session": "",
        }
        masked = replace(
            result,
            recording=replace(
                recording, name=known["recording"], subject=known["subject"], session=""
            ),
            frame=self.frame(result.frame),
            worst=self.example(result.worst),
            best=self.example(result.best),
            summary=result.summary | known,
        )
        return replace(
            tables, result=masked, scores=self.frame(tables.scores), row=tables.row | known
        )


PLAIN = Masking(hides=False, hides_notes=False)
"""For the copy that stays."""
