"""A kind of data: what the pipeline has to know of it, and where kinds are found.

Kinds are found through the entry-point group ``ae_pipeline.kinds`` and loaded by name, ours
included: a package of your own adds one without a line here. What a kind decides is asked of its
:class:`Kind`; what depends on the form of a sample only is asked of ``Samples.layout``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Protocol, Union

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, PlainValidator, SerializeAsAny, TypeAdapter

from ae_pipeline.config import Config, StudyError
from ae_pipeline.data import Layout, Samples

if TYPE_CHECKING:
    from importlib.metadata import EntryPoint

    from ae_pipeline.analysis.completing import Completed, Completion
    from ae_pipeline.ingest.gather import Gathered
    from ae_pipeline.ingest.inputs import Failure, Input
    from ae_pipeline.outputs.run_folder import ScoreRun
    from ae_pipeline.scoring.bundle import Bundle, BundleInfo
    from ae_pipeline.study import Study

__all__ = [
    "GROUP",
    "Alter",
    "AnySource",
    "Kind",
    "Progress",
    "Proposal",
    "Source",
    "Spread",
    "Words",
    "forget",
    "kind_of",
    "names",
    "provider",
    "read_source",
]

GROUP = "ae_pipeline.kinds"
"""Entry-point group in which packages name their kinds."""

Float = NDArray[np.float32]
Alter = Callable[[Samples, Float, np.random.Generator], Float]
"""Turn values (n, *shape), which may be written to, into simulated anomalies."""


class Spread(Protocol):
    """Does a piece of work for many tasks, as :func:`ae_pipeline.runtime.workers.each` does."""

    def __call__(
        self, work: Callable[[Any], Any], *, items: Sequence[Any]
    ) -> Iterable[tuple[Any, Any]]:
        """Yield each task with its result."""


@dataclass(frozen=True, kw_only=True)
class Words:
    """What the things of a kind are called; whole phrases, so that each can be translated."""

    title: str
    """The kind itself, above pages: EEG."""
    one: str
    """One sample: window."""
    many: str
    """Several samples: windows."""
    cases: str
    """What is flagged as a whole: recordings."""
    holders: str
    """Whom held-out figures are about: subjects."""
    made: str
    """Generated samples: windows."""
    entries: str
    """What a sample consists of: channels."""
    entry_column: str
    """Heading of a table's column of entries: channel_name."""
    unit: str
    """Unit in ``bundle.json``: uV."""
    unit_shown: str = ""
    """Unit in figures: µV."""
    loss: str
    """The usual loss: mean squared error."""
    scores: str
    """What a model scores, for its card: EEG recordings, window by window."""


class Source(Config):
    # Fields are not described here: a study file would show it instead of the kind's own words.
    """Where the data is; a kind derives its own, with ``kind: Literal[NAME] = NAME``."""

    not_kept: ClassVar[frozenset[str]] = frozenset({"path"})
    """Fields that a bundle leaves out: where the data lay, and how much of it was taken."""
    kind: str
    path: Path | None

    @classmethod
    def members(cls) -> tuple[type[Config], ...]:
        """The sources of all kinds that are installed."""
        return tuple(kind_of(name).source for name in names()) if cls is Source else (cls,)


class Progress(Protocol):
    """Who is told what happens (:class:`ae_pipeline.jobs.job.Progress` is one)."""

    def stage(self, name: str) -> None:
        """A stage begins."""

    def advance(self, done: float, total: float, what: str) -> None:
        """How far the stage has come."""


@dataclass(frozen=True)
class Proposal:
    """What ``init`` writes: sections of the study, and notes by dotted key."""

    content: Mapping[str, Any]
    """At least ``source``, with its ``kind``."""
    notes: Mapping[str, str] = field(default_factory=dict)


class Kind(Protocol):
    """One kind of data: its words, its defaults, and how it passes each stage.

    Derive from :class:`ae_pipeline.kinds.samples.SamplesKind`, which does most of it for data that
    is read at once. Heavy modules are imported inside methods: ``--help`` must not load them.
    """

    name: str
    """What ``source.kind`` and bundles say."""
    layout: Layout
    """Form of one sample."""
    words: Words
    source: type[Source]
    defaults: Mapping[str, Any]
    """Sections of a study where its file is silent."""
    sections: frozenset[str]
    """Which of ``preprocess`` and ``windows`` a study may have."""
    events: bool
    """Flags are events in time above a threshold; else rows, by their false discovery rate."""
    private: bool
    """Names stand for people, so that pseudonyms leave the folder in their place."""
    endings: tuple[str, ...]
    """Endings of the files that :meth:`write` and :meth:`complete` can make."""

    def propose(self, source: Path | None) -> Proposal:
        """Return what ``init`` writes, from the data where given."""

    def gather(
        self,
        study: Study,
        advance: Callable[[int, int, str], None],
        *,
        spread: Spread | None,
    ) -> Gathered:
        """Read everything a study trains on; raise InputError where nothing can be used."""

    def find(self, source: Any, given: Sequence[str]) -> Iterator[Input | Failure]:
        """Turn what a user named into inputs, in a fixed order; what is missing is a failure."""

    def open(self, source: Any, item: Input) -> Input:
        """Return an input with ``files``, for its digest, and ``content`` where that is cheap."""

    def samples(
        self, bundle: Bundle, source: Any, *, item: Input
    ) -> Iterator[tuple[Samples, tuple[str, ...]]]:
        """Yield an input part by part, as the model takes it, with the reader's notes.

        Raises InputError where it does not fit the model or must not calibrate it.
        """

    def score(
        self, run: ScoreRun, source: Any, *, item: Input, key: str, progress: Progress
    ) -> None:
        """Judge an opened input and write its files, provenance last."""

    def alteration(self, study: Study, samples: Samples) -> Alter:
        """Return the simulated anomalies that a rehearsal plants into held-out samples."""

    def possible(self, info: BundleInfo, values: Float, *, drawn: bool) -> Float:
        """Return generated values as data can be: within range, on levels.

        ``drawn`` says whether they are meant as data, rather than as what is expected.
        """

    def complete(self, task: Completion, source: Any, *, item: Input) -> Completed:
        """Fill what is missing or hidden, write ``task.out``, and measure on what is known."""

    def write(self, path: Path, bundle: Bundle, *, samples: Samples) -> None:
        """Write generated samples as a file that people of this field open."""


# ---------------------------------------------------------------------------- the registry


@cache
def _installed() -> Mapping[str, EntryPoint]:
    """Entry points by name; nothing of theirs is imported."""
    from importlib.metadata import entry_points  # reads every package's metadata

    found: dict[str, EntryPoint] = {}
    for point in entry_points(group=GROUP):
        other = found.setdefault(point.name, point)
        if other.value != point.value:
            raise StudyError(
                f"two packages provide the kind {point.name!r}: {other.value} and {point.value}; "
                "uninstall one of them"
            )
    return dict(sorted(found.items()))


def names() -> tuple[str, ...]:
    """Return the names of all kinds that are installed.

    Raises
    ------
    StudyError
        Where there are none.
    """
    if not _installed():
        raise StudyError("no kind of data is installed; install ae-pipeline again ('make venv')")
    return tuple(_installed())


@cache
def kind_of(name: str) -> Kind:
    """Return a kind by the name that study files and bundles carry.

    Raises
    ------
    StudyError
        Where it is not installed or cannot be loaded.
    """
    if name not in names():
        raise StudyError(f"kind {name!r} is not installed; expected one of {', '.join(names())}")
    point = _installed()[name]
    try:
        kind: Kind = point.load()
    except Exception as error:
        raise StudyError(f"kind {name!r} ({point.value}) cannot be loaded: {error}") from error
    if kind.name != name:
        raise StudyError(f"kind {name!r} ({point.value}) calls itself {kind.name!r}")
    return kind


def provider(name: str) -> str | None:
    """Return the package that provides a kind, as ``NAME==VERSION``; None for this one."""
    distribution = _installed()[name].dist
    if distribution is None or distribution.name == "ae-pipeline":
        return None
    return f"{distribution.name}=={distribution.version}"


def forget() -> None:
    """Look for kinds again: after a package was installed into a running process."""
    for cached in (_installed, kind_of, _sources):
        cached.cache_clear()


@cache
def _sources() -> TypeAdapter[Any]:
    """The union of the sources of all kinds, told apart by ``kind``."""
    found = tuple(kind_of(name).source for name in names())
    union: Any = Annotated[Union[found], Field(discriminator="kind")]  # noqa: UP007
    return TypeAdapter(union if len(found) > 1 else found[0])


def read_source(given: Any) -> Source:
    """Validate the ``source`` of a study or a bundle against the kind that it names.

    Raises
    ------
    ValidationError
        As for any other configuration.
    """
    if isinstance(given, Source):
        return given
    source: Source = _sources().validate_python(given)
    return source


AnySource = Annotated[SerializeAsAny[Source], PlainValidator(read_source)]
"""The source of any kind that is installed, as a field of a configuration."""
