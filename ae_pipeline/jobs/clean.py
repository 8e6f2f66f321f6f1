"""Retention: what can be removed, and why; nothing that is a result or a record.

What killed processes have left, unfinished trainings that nobody resumes, caches that have not
been used for a while; runs that a person has deleted in MLflow go with MLflow's own ``gc``.
"""

from __future__ import annotations

import shutil
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from ae_pipeline.runtime.files import cache_dir, sweep

__all__ = ["Leftover", "leftovers", "remove"]

DAY_S = 24 * 3600


@dataclass(frozen=True)
class Leftover:
    """A file or folder that nobody needs."""

    path: Path
    why: str
    size: int
    """Bytes."""


def leftovers(roots: Sequence[Path], days: float = 30) -> list[Leftover]:
    """What can be removed below folders of results and in the user's cache.

    Parameters
    ----------
    roots : sequence of Path
        Folders of results (``outputs.root`` of studies).
    days : float
        Unfinished trainings and cached things are kept for so many days after their last use.
    """
    found: dict[Path, Leftover] = {}
    for path, why in (*_half_written(roots), *_unfinished(roots, days), *_cached(days)):
        found.setdefault(path, Leftover(path, why, _size(path)))
    return list(found.values())


def _half_written(roots: Sequence[Path]) -> Iterator[tuple[Path, str]]:
    for root in roots:
        folders = [root, *(f for f in root.rglob("*") if f.is_dir() and not f.is_symlink())]
        for folder in folders if root.is_dir() else ():
            for path in sweep(folder, dry_run=True):
                yield path, "half-written by a process that was killed"


def _unfinished(roots: Sequence[Path], days: float) -> Iterator[tuple[Path, str]]:
    for root in roots:
        for place in sorted(root.glob(".*")) if root.is_dir() else ():
            began = any((place / name).exists() for name in ("checkpoint.safetensors", "growth"))
            if place.is_dir() and began and _age_s(place) > days * DAY_S:
                yield place, f"training that nobody has resumed for {days:g} days"


def _cached(days: float) -> Iterator[tuple[Path, str]]:
    for name in ("signals", "models"):
        for place in sorted(cache_dir(name).iterdir()):
            if _age_s(place) > days * DAY_S:
                yield place, f"cached {name}, unused for {days:g} days; made again when needed"


def _age_s(place: Path) -> float:
    """Seconds since anything in it was written or read."""
    files = [place, *(place.rglob("*") if place.is_dir() else ())]
    stats = [file.lstat() for file in files]
    newest = max(
        max(s.st_mtime, s.st_atime if f.is_file() else 0) for s, f in zip(stats, files, strict=True)
    )
    return float(time.time() - newest)


def _size(path: Path) -> int:
    if not path.is_dir() or path.is_symlink():
        return path.lstat().st_size
    return sum(file.lstat().st_size for file in path.rglob("*") if not file.is_dir())


def remove(found: Sequence[Leftover]) -> None:
    """Remove them; a link is removed and not followed."""
    for each in found:
        if each.path.is_dir() and not each.path.is_symlink():
            shutil.rmtree(each.path, ignore_errors=True)
        else:
            each.path.unlink(missing_ok=True)
