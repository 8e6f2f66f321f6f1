"""The run folder: where things are, what they are made of, and whether they are done.

The folder is the only record. Files appear whole or not at all (written beside their place,
flushed, renamed); ``provenance.json`` is written last, so that its presence means done. One
function, :func:`key`, decides whether work is done and names cache entries. This is the only
module that knows paths and digests.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ae_pipeline.text import visible

if TYPE_CHECKING:
    import pandas as pd

__all__ = [
    "STEP_VERSION",
    "cache_dir",
    "digest_files",
    "digest_json",
    "harmless",
    "held",
    "is_alive",
    "key",
    "locked",
    "project_root",
    "read_json",
    "recover_folder",
    "replace_folder",
    "sweep",
    "versions",
    "write_bytes",
    "write_folder",
    "write_frame",
    "write_json",
    "write_text",
    "write_through",
]

STEP_VERSION: dict[str, int] = {"preprocess": 6, "train": 7, "score": 10}
"""Bumped whenever a step's numbers change, so that older results count as not done.

``preprocess``, ``train`` and ``score`` are guarded by golden numbers in the tests.
"""


# ------------------------------------------------------------------------------- places


def project_root(start: Path | None = None) -> Path:
    """Nearest folder at or above ``start`` that holds ``mlflow.yaml``, else the user's data folder.

    Parameters
    ----------
    start : Path, optional
        Where to begin; the current folder by default.
    """
    here = (start or Path.cwd()).resolve()
    for folder in (here, *here.parents):
        if (folder / "mlflow.yaml").is_file():
            return folder
    import platformdirs

    return Path(platformdirs.user_data_dir("ae-pipeline"))


def cache_dir(name: str) -> Path:
    """Folder for what can be made again: fetched data sets, materialised training signals.

    ``AE_PIPELINE_CACHE`` in the environment overrides the user's cache folder.
    """
    root = os.environ.get("AE_PIPELINE_CACHE")
    if not root:
        import platformdirs

        root = platformdirs.user_cache_dir("ae-pipeline")
    folder = Path(root).expanduser().absolute() / name
    folder.mkdir(parents=True, exist_ok=True)
    return folder


# ------------------------------------------------------------------------ atomic writing


@contextmanager
def write_through(path: Path) -> Iterator[Path]:
    """Give a temporary path beside ``path``; what was written there becomes ``path`` at once.

    The temporary name keeps the ending (MNE and pandas look at it). An exception inside leaves
    nothing behind and the old file untouched.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.parent / f".{os.getpid()}-{os.urandom(4).hex()}.{path.name}"
    try:
        yield temporary
        with temporary.open("rb+") as file:
            os.fsync(file.fileno())
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def write_bytes(path: Path, content: bytes) -> Path:
    """Write ``content`` to ``path``, whole or not at all."""
    with write_through(path) as temporary:
        temporary.write_bytes(content)
    return path


def write_text(path: Path, text: str) -> Path:
    """Write UTF-8 text to ``path``, whole or not at all; what people read has no unseen characters.

    Half characters, of file names that are not UTF-8, are written as Python and JSON escape them.
    """
    text = visible(text) if path.suffix in (".html", ".md", ".txt") else text
    return write_bytes(path, text.encode(errors="backslashreplace"))


def write_json(path: Path, content: Any) -> Path:
    """Write JSON to ``path``, whole or not at all. NaN and infinity are refused."""
    text = json.dumps(content, indent=2, ensure_ascii=False, allow_nan=False, default=_plain)
    return write_text(path, text + "\n")


def _plain(content: Any) -> Any:
    """What JSON lacks: NumPy's numbers as numbers, sets in one order, paths and dates as text."""
    if hasattr(content, "tolist"):
        return content.tolist()
    return sorted(content) if isinstance(content, set | frozenset) else str(content)


def read_json(path: Path) -> Any:
    """Read a JSON file."""
    return json.loads(path.read_text(encoding="utf-8"))


def write_frame(path: Path, frame: pd.DataFrame) -> Path:
    """Write a table by its ending: ``.parquet``, ``.tsv`` (missing as ``n/a``) or ``.csv``.

    In ``.csv`` and ``.tsv`` a text cell or column name that a spreadsheet would run as a formula
    (it starts with ``=``, ``+``, ``-`` or ``@``) is prefixed with an apostrophe.
    """
    with write_through(path) as temporary:
        if path.suffix == ".parquet":
            frame.to_parquet(temporary, index=False)
        else:
            tab = path.suffix == ".tsv"
            harmless(frame).to_csv(
                temporary, index=False, sep="\t" if tab else ",", na_rep="n/a" if tab else ""
            )
    return path


@contextmanager
def write_folder(place: Path) -> Iterator[Path]:
    """Give an empty folder beside ``place``; it becomes ``place`` at once when the block ends."""
    place.parent.mkdir(parents=True, exist_ok=True)
    temporary = place.parent / f".{os.getpid()}-{os.urandom(4).hex()}.{place.name}"
    temporary.mkdir()
    try:
        yield temporary
        replace_folder(temporary, place)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def replace_folder(new: Path, place: Path) -> None:
    """Put the folder ``new`` at ``place``; what stood there is removed after the exchange.

    A kill between the two renames is made good by :func:`recover_folder`.
    """
    recover_folder(place)
    old = _aside(place)
    if place.exists():
        os.rename(place, old)
    os.rename(new, place)
    shutil.rmtree(old, ignore_errors=True)


def recover_folder(place: Path) -> None:
    """Finish or undo a :func:`replace_folder` that was killed."""
    old = _aside(place)
    if old.exists() and not place.exists():
        os.rename(old, place)
    shutil.rmtree(old, ignore_errors=True)


def _aside(place: Path) -> Path:
    return place.parent / f".{place.name}.replaced"


@contextmanager
def locked(path: Path, on_wait: Callable[[], None] | None = None) -> Iterator[None]:
    """Hold an exclusive lock named by the file ``path``; the kernel frees it on a crash.

    The file is removed afterwards. ``on_wait`` is called once where somebody else holds the lock.
    """
    from filelock import FileLock

    with held(path) as mine:
        if mine:
            yield
            return
    if on_wait is not None:
        on_wait()
    with FileLock(path):
        try:
            yield
        finally:
            _remove_held(path)


@contextmanager
def held(path: Path) -> Iterator[bool]:
    """As :func:`locked`, without waiting: False where somebody else holds the lock."""
    from filelock import FileLock, Timeout

    path.parent.mkdir(parents=True, exist_ok=True)
    lock = FileLock(path)
    try:
        lock.acquire(timeout=0)
    except Timeout:
        yield False
        return
    try:
        yield True
    finally:
        _remove_held(path)
        lock.release()


def _remove_held(path: Path) -> None:
    """Remove a lock's file while it is held: whoever opened it before finds out and tries again."""
    with suppress(OSError):  # Windows keeps open files
        path.unlink()


TEMPORARY = re.compile(r"\.(?P<process>\d+)-[0-9a-f]{8}\..+", re.DOTALL)
"""Names of what is being written."""


def sweep(folder: Path, older_s: float = 600, *, dry_run: bool = False) -> list[Path]:
    """Remove what processes that were killed have left half-written in a folder.

    What is younger than ``older_s`` is left alone: a process of another machine may be at it.

    Returns
    -------
    list of Path
        What was removed, or would be.
    """
    import time

    found = []
    for path in folder.iterdir() if folder.is_dir() else ():
        match = TEMPORARY.fullmatch(path.name)
        if match is None or is_alive(int(match["process"])):
            continue
        if time.time() - path.lstat().st_mtime < older_s:
            continue
        found.append(path)
        if dry_run:
            continue
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path, ignore_errors=True)
        else:
            path.unlink(missing_ok=True)
    return found


def is_alive(process: int) -> bool:
    """Whether a process of this machine runs."""
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except (PermissionError, OverflowError):
        return True
    return True


# ------------------------------------------------------------------------------ digests


def digest_files(files: Iterable[Path]) -> str:
    """SHA-256 over the contents of files, in the given order; names do not count."""
    total = hashlib.sha256()
    for file in files:
        with file.open("rb") as stream:
            total.update(hashlib.file_digest(stream, "sha256").digest())
    return total.hexdigest()


def digest_json(content: Any) -> str:
    """SHA-256 of a JSON-able object, independent of the order of keys."""
    text = json.dumps(content, sort_keys=True, ensure_ascii=False, default=_plain)
    return hashlib.sha256(text.encode()).hexdigest()


def key(step: str, inputs: Any, *, config: Any, bundle: str | None = None) -> str:
    """Name of a piece of work: equal keys mean equal results.

    Parameters
    ----------
    step : str
        A key of :data:`STEP_VERSION`.
    inputs : JSON-able
        Digest or digests of what goes in.
    config : JSON-able
        The part of the configuration the step reads, and no other.
    bundle : str, optional
        Digest of the model.
    """
    parts = {
        "step": step,
        "version": STEP_VERSION[step],
        "inputs": inputs,
        "config": config,
        "bundle": bundle,
    }
    return digest_json(parts)


def versions() -> Mapping[str, str]:
    """Versions of this package and of those that decide its numbers."""
    from importlib.metadata import PackageNotFoundError, version

    found = {}
    for name in ("ae-pipeline", "torch", "numpy", "mne", "scikit-learn", "pandas"):
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            found[name] = "not installed"
    return found


_DANGEROUS = re.compile(r"^[\s]*[=+\-@\t\r]")


def harmless(frame: pd.DataFrame) -> pd.DataFrame:
    """The same table with no text that a spreadsheet would run as a formula.

    Texts (and column names) that start with ``=``, ``+``, ``-``, ``@``, a tab or a return get an
    apostrophe before them; numbers stay as they are.
    """

    def safe(cell: Any) -> Any:
        return f"'{cell}" if isinstance(cell, str) and _DANGEROUS.match(cell) else cell

    out = frame.copy()
    for name in out.columns:
        if out[name].dtype.kind == "O":  # text, mixed and categories
            out[name] = out[name].astype(object).map(safe, na_action="ignore")
    out.columns = [safe(str(name)) for name in out.columns]
    return out
