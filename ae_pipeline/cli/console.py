"""What a terminal shows: progress, tables, exit status."""

from __future__ import annotations

import logging
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from ae_pipeline.jobs.job import Progress
from ae_pipeline.runtime.messages import Message, heard, unexpected
from ae_pipeline.text import cut_quotes, visible

if TYPE_CHECKING:
    from ae_pipeline.jobs.job import Job

__all__ = ["console", "err", "print_result", "print_worst", "report_error", "tell"]


def report_error(error: Exception) -> int:
    """Print one line about an error, and return the exit status.

    The traceback of one that nobody has foreseen goes to a file.
    """
    if hasattr(error, "format_message") and hasattr(error, "exit_code"):  # a usage error of typer's
        context = getattr(error, "ctx", None)
        if type(error).__name__ == "NoArgsIsHelpError":
            err(error.format_message())
        else:
            err(f"error: {error.format_message()}")
            if context is not None:
                err(f"next: {context.command_path} --help")
        return int(error.exit_code)
    if isinstance(error, typer.Abort):
        return 130
    if type(error).__name__ == "TrainingError":
        err(f"error: {error}")
        return 1
    if isinstance(error, OSError):
        what = error.strerror or error
        err(f"error: {error.filename or 'a file'}: {what}; free it or name another place")
        return 1
    err(f"error: {unexpected(error, 'ae-pipeline')}")
    return 1


def err(line: str) -> None:
    """Print a message to standard error; what it quotes from files does nothing there."""
    print(visible(cut_quotes(line)), file=sys.stderr, flush=True)


def tell(line: object) -> None:
    """Print a line of the results to standard output."""
    print(visible(str(line)))


@contextmanager
def console() -> Iterator[Progress]:
    """Show progress on a terminal as a bar, elsewhere as a line a stage; warnings come last."""
    shown = _Bars() if sys.stderr.isatty() else _Lines()
    try:
        with shown, heard(shown.hear):
            yield shown
            shown.close()
    finally:
        for line in shown.warnings:
            err(f"warning: {line}")


class _Lines(Progress):
    """Progress line by line; warnings are kept for the end, each one once."""

    def __init__(self) -> None:
        self.warnings: dict[str, None] = {}
        self.last = time.monotonic()

    def hear(self, message: Message) -> None:
        if message.level >= logging.WARNING:
            self.warnings[message.text] = None
        else:
            self.say(message.text)

    def say(self, line: str) -> None:
        err(f"  {line}")

    def __enter__(self) -> None:
        """Nothing to begin."""

    def __exit__(self, *_: object) -> None:
        """Nothing to end."""

    def close(self) -> None:
        """Say that the current stage is done."""

    def stage(self, name: str) -> None:
        err(f"- {name}")

    def training(self, event: Any) -> None:
        if hasattr(event, "is_best") and (
            time.monotonic() - self.last > 10 or event.epoch in (1, event.n_epochs)
        ):
            self.last = time.monotonic()
            err(f"  {_epoch(event)}")


class _Bars(_Lines):
    """Progress as a bar for the current stage and a line for each one that is done."""

    def __init__(self) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn
        from rich.progress import Progress as Bars

        super().__init__()
        self.console = Console(stderr=True)
        # The time that is left is what one looks for: all else gives way on a narrow terminal.
        width = self.console.width
        bar, note = (24, 44) if width >= 110 else (10, 28) if width >= 70 else (6, 0)
        columns = [
            TextColumn(
                "{task.description}", table_column=_column(max(12, width - bar - note - 20))
            ),
            BarColumn(bar_width=bar),
            TextColumn("{task.fields[note]}", table_column=_column(note)),
            TimeElapsedColumn(),
            TimeRemainingColumn(),
        ]
        shown = columns if note else (*columns[:2], columns[4])
        self.bars = Bars(*shown, console=self.console, transient=True)
        self.task: Any = None
        self.name = ""
        self.started = 0.0

    def __enter__(self) -> None:
        self.bars.start()

    def __exit__(self, *_: object) -> None:
        self._remove()
        self.bars.stop()

    def say(self, line: str) -> None:
        self.console.print(f"  {visible(cut_quotes(line))}", markup=False, highlight=False)

    def stage(self, name: str) -> None:
        self.close()
        self.name = name = visible(name)
        self.task = self.bars.add_task(name, total=None, note="")
        self.started = time.monotonic()

    def close(self) -> None:
        if self.task is not None:
            took = time.monotonic() - self.started
            self._remove()
            text = f"[green]\u2713[/] {self.name} [dim]{took:.0f} s[/]"
            self.console.print(text, highlight=False)

    def _remove(self) -> None:
        if self.task is not None:
            self.bars.remove_task(self.task)
            self.task = None

    def advance(self, done: float, total: float, what: str) -> None:
        if self.task is not None:
            self.bars.update(self.task, completed=done, total=total, note=visible(what[:40]))

    def training(self, event: Any) -> None:
        if self.task is None:
            return
        if hasattr(event, "is_best"):
            self.bars.update(
                self.task, completed=event.epoch, total=event.n_epochs, note=_epoch(event)
            )
        elif event.batch % 10 == 0:
            done = event.epoch - 1 + event.batch / event.n_batches
            self.bars.update(self.task, completed=done, total=event.n_epochs)


def _column(width: int) -> Any:
    """A column of text that is cut where it is longer."""
    from rich.table import Column

    return Column(no_wrap=True, overflow="ellipsis", max_width=width)


def _epoch(event: Any) -> str:
    validation = event.validation_loss
    held_out = "" if validation is None else f", validation {validation:.4f}"
    return f"epoch {event.epoch}/{event.n_epochs}: loss {event.train_loss:.4f}{held_out}"


def print_result(job: Job) -> None:
    """Print a job's verdict, what to do next, and where its results are."""
    result = job.result
    if "verdict" in result:
        tell(result["verdict"])
    for line in getattr(job, "findings", ()):
        tell(line)
    if job.kind == "score":
        print_worst(Path(result["out"]))
        if "report" in result:  # else nothing could be scored: the reasons are what there is
            tell(f"next: open {result['report']}")
    elif getattr(job, "findings", ()):
        tell(f"next: open {result['report']}")
        tell("then: ae-pipeline init eeg YOUR_RECORDINGS/ -o study.yaml (or questionnaire, mnist)")
        return
    elif job.kind == "train":
        tell(f"next: ae-pipeline score --model {result['bundle']} --out RESULTS YOUR_DATA")
    for name in ("run", "bundle", "out", "report"):
        if name in result:
            tell(f"{name}: {result[name]}")


def print_worst(out: Path, n: int = 8) -> None:
    """Print the most abnormal inputs of a results folder, as a table as wide as the terminal."""
    import pandas as pd
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    file, names = out / "recordings.parquet", ["recording", "verdict", "events_per_hour"]
    if not file.is_file():
        file, names = out / "scores.parquet", ["recording", "flagged"]
    if not file.is_file():
        return
    frame = pd.read_parquet(file, columns=[*names, "score", "p_value", "q_value"])
    worst = frame.sort_values("score", ascending=False, kind="stable").head(n)
    table = Table(box=None, pad_edge=False, header_style="bold")
    for name in worst:
        short = {"p_value": "p", "q_value": "q", "events_per_hour": "events/h"}
        label = short.get(str(name), str(name))
        left = name in ("recording", "verdict")
        table.add_column(label, justify="left" if left else "right", overflow="fold")
    for row in worst.itertuples(index=False):
        table.add_row(*(Text(_cell(value)) for value in row))
    Console(highlight=False).print(table)
    if len(frame) > n:
        tell(f"... and {len(frame) - n:,} more in {file.name}")


def _cell(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.3g}" if value == value else "n/a"
    if isinstance(value, bool):
        return "yes" if value else "no"
    return visible(str(value))
