"""Images in IDX files, the format of MNIST and its siblings, as :class:`~ae_pipeline.data.Samples`.

Conventions: an image is (row, column), float32 from 0 (black) to 1; labels are metadata and are
never shown to a model. Each image is its own recording and its own subject, named after its file
and its place in it from 0 (``t10k-00012``). Files may be gzipped; they are only read.
"""

from __future__ import annotations

import gzip
import math
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, BinaryIO, ClassVar, Literal, cast

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, PositiveInt

from ae_pipeline.data import Axis, InputError, Samples
from ae_pipeline.kind import Source

__all__ = ["MnistSource", "find", "load", "members", "read_idx"]

_DTYPES = {0x08: "u1", 0x09: "i1", 0x0B: ">i2", 0x0C: ">i4", 0x0D: ">f4", 0x0E: ">f8"}
_SETS = ("train", "t10k")
_GZIP_RATIO = 1032  # the most that gzip can compress
_PLACES = (".", "raw", "MNIST/raw")  # the second and third are where torchvision unpacks to


class MnistSource(Source):
    """Handwritten digits, or any other images in IDX files."""

    not_kept: ClassVar[frozenset[str]] = frozenset({"path", "limit", "digits"})
    kind: Literal["mnist"] = "mnist"
    """Images in IDX files (MNIST, Fashion-MNIST, ...)."""
    path: Path | None = None
    """An IDX image file or a folder of them; null takes the MNIST sample data set."""
    digits: Annotated[tuple[int, ...], Field(min_length=1)] | None = None
    """Only images with these labels, for instance [0, 1]; null takes all."""
    limit: PositiveInt | None = None
    """At most this many images of each file, from its start; null takes all."""


def find(path: Path | str) -> list[Path]:
    """List the image files of one input.

    Parameters
    ----------
    path : Path or str
        An IDX image file, or a folder that holds some (``train-images-idx3-ubyte``, gzipped or
        not; of a file and its gzipped twin the plain one is taken).

    Returns
    -------
    list of Path
        ``train`` before ``t10k``, then by name.

    Raises
    ------
    InputError
        Where there is nothing.
    """
    path = Path(path)
    if path.is_file():
        return [path]
    if not path.is_dir():
        raise InputError(f"{path}: no such file or folder; expected an IDX image file or a folder")
    for place in _PLACES:
        images = sorted((path / place).glob("*images*idx3*"), reverse=True)
        found = {file.name.removesuffix(".gz"): file for file in images}  # the plain one is last
        if found:
            return sorted(found.values(), key=lambda f: (not f.name.startswith("train"), f.name))
    raise InputError(
        f"{path}: holds no IDX image files; expected names like train-images-idx3-ubyte[.gz]"
    )


def members(image_file: Path) -> tuple[Path, ...]:
    """Files that the images and labels of one image file come from: itself, and its labels."""
    labels = _labels_beside(image_file)
    return (image_file,) if labels is None else (image_file, labels)


def read_idx(path: Path | str) -> NDArray[Any]:
    """Read one IDX file, gzipped or not.

    Parameters
    ----------
    path : Path or str

    Returns
    -------
    array
        Of the shape and type that the header states (big-endian where longer than a byte);
        read-only.

    Raises
    ------
    InputError
        Where the file is missing, is no IDX file, or is shorter or longer than it says.
    """
    path = Path(path)
    try:
        with path.open("rb") as raw:
            zipped = raw.read(2) == b"\x1f\x8b"
            raw.seek(0)
            stream = cast(BinaryIO, gzip.GzipFile(fileobj=raw)) if zipped else raw
            most = path.stat().st_size * (_GZIP_RATIO if zipped else 1)
            return _parse_idx(stream, most, path=path)
    except (EOFError, gzip.BadGzipFile, zlib.error) as error:
        raise InputError(f"{path}: damaged gzip file ({error}); fetch or copy it again") from error
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror or error})") from error


def _parse_idx(stream: BinaryIO, most: int, *, path: Path) -> NDArray[Any]:
    """Read header and content of a file that can hold at most ``most`` bytes."""
    magic = stream.read(4)
    if not magic:
        raise InputError(f"{path}: is empty; fetch or copy it again")
    if len(magic) < 4 or magic[:2] != b"\0\0" or magic[2] not in _DTYPES or not magic[3]:
        raise InputError(
            f"{path}: starts with bytes {magic.hex(' ')}, which is no IDX file; expected "
            "00 00, a type and a number of axes (00 00 08 03 for images)"
        )
    sizes = stream.read(4 * magic[3])
    shape = tuple(int(n) for n in np.frombuffer(sizes[: len(sizes) // 4 * 4], ">u4"))
    if len(shape) < magic[3]:
        raise InputError(f"{path}: ends inside its header; fetch or copy it again")
    dtype = np.dtype(_DTYPES[magic[2]])
    expected = math.prod(shape) * dtype.itemsize
    content = stream.read(min(expected, most))  # a damaged header may promise more than memory
    if len(content) < expected:
        raise InputError(
            f"{path}: truncated, {len(content):,} bytes of content where the header "
            f"({_by(shape)}) says {expected:,}; fetch or copy it again"
        )
    if stream.read(1):
        raise InputError(
            f"{path}: longer than its header says ({_by(shape)}, "
            f"{expected:,} bytes of content); fetch or copy it again"
        )
    return np.frombuffer(content, dtype).reshape(shape)


def load(paths: Sequence[Path | str], source: MnistSource) -> Samples:
    """Images of one or several inputs, with their labels where a label file stands beside.

    Parameters
    ----------
    paths : sequence of Path or str
        Image files or folders (see :func:`find`); ``source.path`` is not looked at, so that
        the caller decides between a study's data, the sample data set and other inputs.
    source : MnistSource

    Returns
    -------
    Samples
        ``values`` (n, rows, columns), float32, 0 to 1. ``meta``: ``recording`` and ``subject``
        (``t10k-00012``), ``label`` (nullable integer), ``file`` (its name), ``set`` (``train``
        or ``t10k`` where the file is named so, else missing).

    Raises
    ------
    InputError
        Where a file cannot be used, label and image counts differ, image sizes differ between
        files, or nothing is left after ``digits``.
    """
    import pandas as pd

    files = list(dict.fromkeys(file.absolute() for path in paths for file in find(path)))
    images, rows, labels = zip(*(_wanted(file, source) for file in files), strict=True)
    for file, array in zip(files, images, strict=True):
        if array.shape[1:] != images[0].shape[1:]:
            raise InputError(
                f"{file}: images of {_by(array.shape[1:])} pixels, but {files[0].name} has "
                f"{_by(images[0].shape[1:])}; use them apart"
            )
    counts = [len(array) for array in images]
    if not sum(counts):
        names = ", ".join(file.name for file in files)
        raise InputError(f"{names}: no image has a label in digits {source.digits}; change digits")
    values = np.concatenate(images, dtype=np.float32)
    values /= 255

    recording = pd.Series(
        [
            f"{name}-{row:05d}"
            for name, chosen in zip(_names(files), rows, strict=True)
            for row in chosen.tolist()
        ],
        dtype="str",
    )
    sets = np.array([p if p in _SETS else None for p in map(_prefix, files)], dtype=object)
    meta = pd.DataFrame(
        {
            "recording": recording,
            "subject": recording,
            "label": pd.Series(np.concatenate(labels), dtype="Int64"),
            "file": pd.Categorical(np.repeat([file.name for file in files], counts)),
            "set": pd.Categorical(np.repeat(sets, counts), categories=list(_SETS)),
        }
    )
    return Samples("mnist", values, meta, (Axis("row"), Axis("column")))


def _wanted(
    file: Path, source: MnistSource
) -> tuple[NDArray[np.uint8], NDArray[np.intp], NDArray[Any]]:
    """Images of one file that the source asks for, their places in it, their labels (or NaN)."""
    images = read_idx(file)
    if images.ndim != 3 or images.dtype != np.uint8 or not images.size:
        raise InputError(
            f"{file}: holds {_by(images.shape)} values of type {images.dtype}, expected a stack "
            "of images of unsigned bytes (an images-idx3-ubyte file)"
        )
    beside = _labels_beside(file)
    labels = np.full(len(images), np.nan) if beside is None else read_idx(beside)
    if labels.shape != (len(images),) or (beside is not None and labels.dtype.kind not in "iu"):
        raise InputError(
            f"{beside}: {_by(labels.shape)} labels ({labels.dtype}) for the {len(images)} images "
            f"of {file.name}; "
            "they do not belong together"
        )
    rows = np.arange(len(images))
    if source.digits is not None:
        if beside is None:
            raise InputError(
                f"{file}: digits asks for labels, but no labels-idx1 file stands beside it; "
                "put it there or drop digits"
            )
        rows = rows[np.isin(labels, source.digits)]
    rows = rows[: source.limit]
    if len(rows) < len(images):
        images, labels = images[rows], labels[rows]
    return images, rows, labels


def _labels_beside(file: Path) -> Path | None:
    """The label file of an image file, gzipped or not."""
    name = file.name.removesuffix(".gz").replace("images", "labels").replace("idx3", "idx1")
    for candidate in (file.with_name(name), file.with_name(f"{name}.gz")):
        if candidate.name != file.name and candidate.is_file():
            return candidate
    return None


def _prefix(file: Path) -> str:
    """What stands before ``images`` in a file's name (``train``, ``t10k``), else its stem."""
    head, found, _ = file.name.partition("images")
    return (head if found else file.stem).rstrip("-_.") or file.stem


def _names(files: Sequence[Path]) -> list[str]:
    """A prefix for each file's images; where two are equal the folder's name is put before."""
    prefixes = [_prefix(file) for file in files]
    names = [
        f"{file.parent.name}__{prefix}" if prefixes.count(prefix) > 1 else prefix
        for file, prefix in zip(files, prefixes, strict=True)
    ]
    if len(set(names)) < len(names):
        twice = next(name for name in names if names.count(name) > 1)
        raise InputError(f"two image files would both be named {twice!r}; use them apart")
    return names


def _by(shape: Sequence[int]) -> str:
    """``28 x 28``."""
    return " x ".join(map(str, shape))
