"""Where sample data comes from: mirrors by pooch, packages by their registry's own client.

A source puts files, or archives that hold them, into an empty folder; :func:`collect` finds the
wanted ones in there. A package is only read: none of its code runs.
"""

from __future__ import annotations

import gzip
import importlib.util
import os
import re
import shutil
import subprocess
import sys
import tarfile
import tempfile
import zipfile
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePath
from typing import IO
from urllib.parse import urlsplit

__all__ = [
    "Source",
    "Unavailable",
    "Unreachable",
    "collect",
    "holds_files",
    "mirror",
    "npm",
    "pip",
    "pip_source",
    "run_client",
]

Gather = Callable[[Path], None]
"""Puts files, or archives that hold them, into an empty folder."""


class Unavailable(Exception):
    """A source that does not give what it should; the message is a short reason."""


class Unreachable(Unavailable):
    """A host that does not answer at all; its other addresses need not be tried."""


@dataclass(frozen=True)
class Source:
    """One way to get a data set, and what to call it."""

    label: str
    gather: Gather


# ----------------------------------------------------------- reading what came in

_ARCHIVES = (".zip", ".whl", ".tgz", ".tar.gz", ".tar")
_UNREADABLE = (
    OSError,
    EOFError,
    RuntimeError,  # a zip with a password
    zlib.error,
    tarfile.TarError,
    zipfile.BadZipFile,
)
LARGEST_BYTES = 200_000_000
"""Bytes of one file; the largest wanted has 47 million, an archive bomb has more."""


def holds_files(place: Path) -> bool:
    """Return whether a folder is there and holds anything but hidden files."""
    return place.is_dir() and any(not p.name.startswith(".") for p in place.iterdir())


def collect(root: Path, wanted: Sequence[str]) -> dict[str, bytes]:
    """Contents of the wanted files, wherever below ``root`` and in whatever archive."""
    found: dict[str, bytes] = {}
    for place, _, names in os.walk(root):
        for name in sorted(names):
            path = Path(place, name)
            try:
                with path.open("rb") as stream:
                    for piece, content in _pieces(name, stream, wanted=wanted):
                        found.setdefault(piece, content)
            except _UNREADABLE as error:
                raise Unavailable(f"{name} cannot be read ({type(error).__name__})") from None
    missing = [name for name in wanted if name not in found]
    if missing:
        raise Unavailable(f"holds no {', '.join(missing)}")
    return found


def _pieces(
    name: str, stream: IO[bytes], *, wanted: Sequence[str], depth: int = 2
) -> Iterator[tuple[str, bytes]]:
    """Wanted files in one file, which may be one itself, its gzipped form, or an archive."""
    base = PurePath(name).name.replace(".idx", "-idx")  # some mirrors of MNIST write it so
    if base in wanted:
        yield base, _read(stream, base)
    elif base.removesuffix(".gz") in wanted:
        with gzip.open(stream) as plain:
            yield base.removesuffix(".gz"), _read(plain, base)
    elif base.endswith(_ARCHIVES) and depth:
        for member, content in _members(base, stream):
            yield from _pieces(member, content, wanted=wanted, depth=depth - 1)


def _members(name: str, stream: IO[bytes]) -> Iterator[tuple[str, IO[bytes]]]:
    if name.endswith((".zip", ".whl")):
        with zipfile.ZipFile(stream) as archive:
            for entry in archive.infolist():
                if not entry.is_dir():
                    with archive.open(entry) as member:
                        yield entry.filename, member
    else:
        with tarfile.open(fileobj=stream) as tar:
            for item in tar:
                part = tar.extractfile(item) if item.isfile() else None
                if part is not None:
                    yield item.name, part


def _read(stream: IO[bytes] | gzip.GzipFile, name: str) -> bytes:
    content = stream.read(LARGEST_BYTES + 1)
    if len(content) > LARGEST_BYTES:
        raise Unavailable(f"{name} is larger than {LARGEST_BYTES // 1_000_000} MB")
    return content


# ------------------------------------------------------------------------- mirrors


def mirror(*urls: str, md5s: Sequence[str] = ()) -> Source:
    """Files of one public host, by pooch."""
    hashes: list[str | None] = [f"md5:{md5}" for md5 in md5s]
    hashes += [None] * (len(urls) - len(md5s))
    host = urlsplit(urls[0]).hostname or urls[0]

    def gather(scratch: Path) -> None:
        import pooch

        pooch.get_logger().setLevel("ERROR")
        downloader = pooch.HTTPDownloader(progressbar=False, timeout=(5, 30))
        for url, known in zip(urls, hashes, strict=True):
            name = PurePath(urlsplit(url).path).name
            try:
                pooch.retrieve(url, known, name, scratch, downloader=downloader)
            except OSError as error:  # all of requests' own derive from it
                status = getattr(getattr(error, "response", None), "status_code", None)
                if status is None:
                    raise Unreachable("no connection") from None
                raise Unavailable(f"answers {status} for {name}") from None
            except ValueError:
                raise Unavailable(f"{name} is not the published file (its md5 differs)") from None

    return Source(host, gather)


# ------------------------------------------------------------------------ packages


def npm(package: str) -> Source:
    """The archive of an npm package; packing a published one runs none of its scripts."""

    def gather(scratch: Path) -> None:
        client = shutil.which("npm")
        if client is None:
            raise Unavailable("npm is not installed")
        flags = ["--ignore-scripts", "--prefer-offline", "--fetch-retries=0"]
        # npm's time-out covers a whole download: ask for something small first
        run_client([client, "view", package, "version", *flags, "--fetch-timeout=8000"], scratch)
        run_client([client, "pack", package, *flags, f"--pack-destination={scratch}"], scratch)

    return Source(f"npm package {package}", gather)


def pip(requirement: str) -> Source:
    """The wheel of a Python package, as pip finds it."""

    def gather(scratch: Path) -> None:
        _run_pip(["--only-binary=:all:", requirement], scratch)

    return Source(f"PyPI package {requirement}", gather)


def pip_source(name: str, version: str, *, sha256: str) -> Source:
    """The source archive of a Python package, of which nothing is run.

    ``pip download`` of a source archive asks its build backend for metadata, and setuptools
    answers by running the package's ``setup.py``. So a backend that answers by itself stands in
    front of setuptools; and pip compares the archive's digest before it asks, so that it is
    certain which archive is asked about.
    """

    def gather(scratch: Path) -> None:
        with tempfile.TemporaryDirectory(prefix="ae-pipeline-") as place:
            backend = Path(place, "setuptools")
            backend.mkdir()
            (backend / "__init__.py").touch()
            (backend / "build_meta.py").write_text(_STAND_IN.format(name=name, version=version))
            wanted = Path(place, "wanted.txt")
            wanted.write_text(f"{name}=={version} --hash=sha256:{sha256}\n")
            paths = [place, *filter(None, [os.environ.get("PYTHONPATH")])]
            more = {
                "PYTHONPATH": os.pathsep.join(paths),
                "PIP_USE_PEP517": "1",  # as a variable: newer versions of pip lose the flag
            }
            flags = ["--no-binary=:all:", "--no-build-isolation", f"--requirement={wanted}"]
            _run_pip(flags, scratch, more=more)

    return Source(f"PyPI package {name}=={version}", gather)


_STAND_IN = '''\
"""Answers pip's question for a package's metadata without looking at the package."""
import pathlib, sys

def get_requires_for_build_wheel(config_settings=None):
    return []

def prepare_metadata_for_build_wheel(metadata_directory, config_settings=None):
    info = pathlib.Path(metadata_directory, "{name}-{version}.dist-info")
    info.mkdir()
    text = "Metadata-Version: 2.1\\nName: {name}\\nVersion: {version}\\n"
    (info / "METADATA").write_text(text)
    return info.name

def build_wheel(*_, **__):
    raise RuntimeError("nothing is built here")

__legacy__ = sys.modules[__name__]
'''
"""Stands in for ``setuptools.build_meta`` while a source archive is downloaded."""


def _run_pip(what: Sequence[str], scratch: Path, *, more: Mapping[str, str] | None = None) -> None:
    if importlib.util.find_spec("pip") is None:
        raise Unavailable("this Python has no pip")
    command = [sys.executable, "-m", "pip", "download", "--no-deps", "--no-input"]
    command += ["--disable-pip-version-check", "--timeout=6", "--retries=1", f"--dest={scratch}"]
    run_client([*command, *what], scratch, more=more)


def run_client(command: Sequence[str], cwd: Path, *, more: Mapping[str, str] | None = None) -> None:
    """Run a registry's client; what it says matters only where it fails."""
    try:
        done = subprocess.run(
            command,
            cwd=cwd,
            env=os.environ | (more or {}),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=600,
        )
    except subprocess.TimeoutExpired:
        raise Unavailable("gave up after 10 minutes") from None
    except OSError as error:
        raise Unavailable(f"{command[0]} cannot be run ({error.strerror})") from None
    if done.returncode:
        lines = [line.strip() for line in done.stderr.splitlines()]
        errors = [line for line in lines if re.match(r"(npm )?err(or|!)", line, re.IGNORECASE)]
        said = (errors or [line for line in lines if line] or ["it said nothing"])[0]
        raise Unavailable(f"could not be fetched ({said[:120]})")
