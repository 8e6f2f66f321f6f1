"""What a kind needs whose inputs are read at once into :class:`~ae_pipeline.data.Samples`.

Derive from :class:`SamplesKind`; give it ``name``, ``layout``, ``words``, ``source`` and
``endings``, and say how to list files, read them and write them. The rest has a default.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ae_pipeline.data import Column, InputError, Layout, Samples
from ae_pipeline.kind import Alter, Float, Progress, Proposal, Source, Spread, Words

if TYPE_CHECKING:
    from ae_pipeline.analysis.completing import Completed, Completion
    from ae_pipeline.ingest.gather import Gathered
    from ae_pipeline.ingest.inputs import Failure, Input
    from ae_pipeline.outputs.run_folder import ScoreRun
    from ae_pipeline.scoring.bundle import Bundle, BundleInfo
    from ae_pipeline.study import Study

__all__ = ["SamplesKind"]


class SamplesKind:
    """A kind whose inputs are read at once; derive from it and add the entry point."""

    name: str
    layout: Layout
    words: Words
    source: type[Source]
    endings: tuple[str, ...]
    defaults: Mapping[str, Any] = {}
    sections: frozenset[str] = frozenset()
    events = False
    private = True

    # ------------------------------------------------------------- what a new kind has to say

    def files(self, path: Path | str) -> list[Path]:
        """List the files of one input: the file itself, or those of a folder, in order."""
        raise NotImplementedError

    def read(
        self, paths: Sequence[Path], source: Any, *, columns: Sequence[Column] = ()
    ) -> tuple[Samples, tuple[str, ...]]:
        """Read files as samples, with notes on what was guessed or left out.

        ``meta`` needs ``recording`` and ``subject``; series also ``window``, ``onset_s`` and
        ``duration_s``. ``columns`` are a model's: a table is read as the model knows it.
        """
        raise NotImplementedError

    def write(self, path: Path, bundle: Bundle, *, samples: Samples) -> None:
        """Write generated samples as a file that people of this field open."""
        raise NotImplementedError

    # --------------------------------------------------------------------- what may be replaced

    def members(self, file: Path) -> tuple[Path, ...]:
        """List the files that the content of one of :meth:`files` comes from."""
        return (file,)

    def write_completed(
        self,
        bundle: Bundle,
        source: Any,
        *,
        samples: Samples,
        visible: NDArray[np.bool_],
        out: Path,
    ) -> str:
        """Write completed samples; return what was filled, in words."""
        self.write(out, bundle, samples=samples)
        return f"{int((~visible).sum()):,} of {visible.size:,} values"

    def propose(self, source: Path | None) -> Proposal:
        """Return what ``init`` writes: the path, once something is found there."""
        if source is None:
            return Proposal({"source": {"kind": self.name}})
        self.files(source)
        return Proposal({"source": {"kind": self.name, "path": str(source)}})

    def gather(
        self,
        study: Study,
        advance: Callable[[int, int, str], None],
        *,
        spread: Spread | None = None,
    ) -> Gathered:
        """Read everything a study trains on."""
        from ae_pipeline.ingest.gather import Gathered
        from ae_pipeline.runtime.files import digest_files

        assert study.source.path is not None
        files = self.files(study.source.path)
        samples, notes = self.read(files, study.source)
        facts: dict[str, Any] = {self.words.cases: int(samples.meta["recording"].nunique())}
        if samples.entries:
            facts[self.words.entries] = len(samples.entries)
        digest = digest_files([member for file in files for member in self.members(file)])
        return Gathered(
            samples, {self.words.cases: digest}, notes, facts=facts, sfreq_hz=samples.sfreq_hz
        )

    def find(self, source: Any, given: Sequence[str]) -> Iterator[Input | Failure]:
        """Turn what a user named into inputs, each file one."""
        from ae_pipeline.ingest.inputs import Failure, Input

        files: list[Path] = []
        for one in given:
            try:
                files += self.files(one)
            except InputError as error:
                yield Failure(Path(one).name, "", str(error))
        for file, name in _names(dict.fromkeys(file.absolute() for file in files)).items():
            yield Input(name, "", file, self.members(file))

    def open(self, source: Any, item: Input) -> Input:
        """Return the input as it is: its files are known."""
        return item

    def samples(
        self, bundle: Bundle, source: Any, *, item: Input
    ) -> Iterator[tuple[Samples, tuple[str, ...]]]:
        """Yield all of an input."""
        from ae_pipeline.scoring.bundle import columns_of

        samples, notes = self.read([item.path], source, columns=columns_of(bundle.info))
        bundle.refuse_misfit(samples)
        yield samples, notes

    def score(
        self, run: ScoreRun, source: Any, *, item: Input, key: str, progress: Progress
    ) -> None:
        """Judge all rows and write their files."""
        from ae_pipeline.outputs.score import write_rows
        from ae_pipeline.scoring.rows import score_rows

        ((samples, notes),) = self.samples(run.bundle, source, item=item)
        result = score_rows(
            run.bundle,
            samples,
            detection=run.detection,
            advance=lambda rows: progress.advance(rows, len(samples), item.name),
        )
        write_rows(run, item, result=result, samples=samples, notes=notes, this=key)

    def alteration(self, study: Study, samples: Samples) -> Alter:
        """Return the simulated anomalies that fit the form of a sample."""
        from ae_pipeline.analysis.rehearsal import ALTERATIONS

        return ALTERATIONS[self.layout]

    def possible(self, info: BundleInfo, values: Float, *, drawn: bool) -> Float:
        """Return generated values as they are."""
        return values

    def complete(self, task: Completion, source: Any, *, item: Input) -> Completed:
        """Fill what is missing, and the entries that ``hide`` names."""
        from ae_pipeline.analysis import completing, completion

        bundle = task.bundle
        ((samples, notes),) = self.samples(bundle, source, item=item)
        values, mask = samples.batch(slice(None))
        observed = np.ones(values.shape, bool) if mask is None else mask
        scaler = bundle.autoencoder.scaler
        x = scaler.transform(values, mask)
        cue = completing.Cue(x, observed, np.asarray(samples.meta["recording"].astype(str)))
        parts = completion.PARTS[self.layout]
        measured = completing.measure(task, cue, parts=parts)
        visible = observed.copy()
        if task.hide is not None:
            hidden = completing.places_of(task.hide, bundle.info.entries, what=self.words.entries)
            visible[:, hidden] = False
        task.stage("completing")
        way = task.choose(measured[parts[0]])
        made = completion.complete(bundle, x, visible=visible, way=way)
        filled = np.where(visible, values, scaler.inverse(made))
        completed = replace(samples, values=filled, mask=None)
        said = self.write_completed(
            bundle, source, samples=completed, visible=visible, out=task.out
        )
        errors = None
        if task.hide is not None:
            errors = completing.hidden_errors(
                task, parts[0], x=x, made=made, visible=visible, observed=observed
            )
        shown = tuple(
            completing.examples(task, cue, part=part, measured=measured[part]) for part in parts
        )
        return completing.Completed(measured, errors, said, shown, notes)


def _names(files: Iterable[Path]) -> dict[Path, str]:
    """A name for each file: its stem, with the folder's and then the ending where they collide."""
    names = {file: Path(file.name.removesuffix(".gz")).stem for file in files}
    for step in range(3):
        often = Counter(names.values())
        for file, name in [(file, name) for file, name in names.items() if often[name] > 1]:
            longer = (
                f"{file.parent.name}__{name}",
                f"{name}_{file.suffix.lstrip('.').lower()}",
                f"{file.parent.parent.name}__{name}",
            )
            names[file] = longer[step]
    return names
