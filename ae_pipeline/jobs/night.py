"""A run of an inbox: score what is new, once; say what happened; publish it.

:class:`NightJob` is a job like training and scoring. It holds a lock that the kernel frees when
its process dies, and it can be killed at any moment: what is complete then stays, what is not is
made by the next run, which says that this one did not end.
"""

from __future__ import annotations

import logging
import os
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass, replace
from datetime import UTC, date, datetime, timedelta
from functools import lru_cache, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ae_pipeline.config import StudyError
from ae_pipeline.ingest.inbox import Arrival, Inbox, Pin, note_inbox, open_inbox
from ae_pipeline.ingest.inputs import Failure
from ae_pipeline.jobs.job import Progress, Step
from ae_pipeline.jobs.score import ScoreJob
from ae_pipeline.outputs.masking import SHARED, Masking
from ae_pipeline.outputs.night import NightRun, copies_of, write_night
from ae_pipeline.outputs.publish import publish
from ae_pipeline.outputs.run_folder import score_config
from ae_pipeline.outputs.score import begin_score, write_failure
from ae_pipeline.report.findings import night as digest
from ae_pipeline.report.findings.night import Night
from ae_pipeline.runtime import workers
from ae_pipeline.runtime.files import (
    STEP_VERSION,
    held,
    read_json,
    sweep,
    write_folder,
    write_json,
)
from ae_pipeline.runtime.messages import kept, unexpected
from ae_pipeline.runtime.operation import Sequential, due_between
from ae_pipeline.tracking.registry import model_folder, registered_name

if TYPE_CHECKING:
    from ae_pipeline.scoring.bundle import Bundle

__all__ = [
    "NightJob",
    "night_job",
    "pin_model",
]

_LOG = logging.getLogger(__name__)

GRACE = timedelta(minutes=10)
"""A run this late still counts as the scheduled one."""
HOOK_S = 60


def night_job(
    study: Path,
    since: date | None = None,
    *,
    until: date | None = None,
    verify: bool = False,
    model: str | None = None,
    progress: Progress | None = None,
) -> NightJob:
    """Prepare a run of a study's inbox.

    Parameters
    ----------
    study : Path
        Study file with ``operation.inbox``.
    since, until : date, optional
        A backfill: everything that arrived on these days and that the model of the study has not
        scored with this version of the software.
    verify : bool
        Read every file, also where size and time are unchanged.
    model : str, optional
        A backfill with this model, into its own folder; the study keeps its own.
    progress : Progress, optional

    Raises
    ------
    StudyError
        Where the study cannot be used.
    """
    overrides = [] if model is None else [f"operation.model={model}"]
    return NightJob(
        open_inbox(study, overrides),
        since,
        until=until,
        verify=verify,
        other_model=model is not None,
        progress=progress or Progress(),
    )


class NightJob:
    """From an inbox to scored recordings and a digest."""

    kind = "inbox"

    def __init__(
        self,
        inbox: Inbox,
        since: date | None,
        *,
        until: date | None,
        verify: bool,
        other_model: bool,
        progress: Progress,
    ) -> None:
        self.inbox = inbox
        self.since, self.until, self.verify = since, until, verify
        self.other_model = other_model
        self.progress = progress
        self.title = inbox.study.study
        self.exit_status = 0
        self.result: dict[str, Any] = {}
        self.todo: list[Arrival] = []
        self.outcomes: dict[str, dict[str, Any]] = {}
        self._lock = ExitStack()
        self._begun = False
        self.mine = False

    # --------------------------------------------------------------------------- looking

    def begin(self) -> bool:
        """Take the lock and look into the inbox; False where there is nothing to score."""
        if self._begun:
            return bool(self.todo)
        self._begun = True
        place = self.inbox.place
        _refuse_unwritable(place)
        self.mine = self._lock.enter_context(held(place / ".night.lock"))
        if not self.mine:
            running = [night for _, night in self.inbox.nights() if night["status"] == "begun"]
            since = f" since {running[-1]['began']}" if running else ""
            self.result = {"verdict": f"Another run is at work{since}; it does what is new."}
            return False
        self.progress.stage("looking into the inbox")
        self._clock = time.monotonic()
        note_inbox(self.inbox)
        now = datetime.now().astimezone()
        killed = self._close_killed()
        missed = self._missed(now)
        for folder in (place, *(p for p in place.glob("*") if p.is_dir())):
            sweep(folder)
        self.night = Night(
            self.title,
            now.isoformat(timespec="seconds"),
            process=f"{socket.gethostname()} {os.getpid()}",
            missed_runs=tuple(moment.strftime("%Y-%m-%d %H:%M") for moment in missed),
            killed_runs=tuple(killed),
            notes=self._clock_note(now),
        )
        self.folder = _new_folder(place / "nights", now)
        self._keep()
        self.pin = self._pinned()
        self.arrivals = self.inbox.look(
            self.pin, self.verify, since=self.since, until=self.until, backfill=self.other_model
        )
        self.todo = [a for a in self.arrivals if a.state in ("new", "changed")]
        found = ", ".join(f"{n} {state}" for state, n in _counted(self.arrivals).items())
        _LOG.info(f"{len(self.arrivals)} inputs: {found}" if found else "nothing is there")
        return bool(self.todo)

    def _pinned(self) -> Pin:
        if self.other_model:
            return pin_model(self.inbox, keep=False)
        return self.inbox.pin() or pin_model(self.inbox)

    def _close_killed(self) -> list[str]:
        """Runs that began and did not end: we hold the lock, so nobody is at work on them."""
        killed = []
        for folder, night in self.inbox.nights():
            if night["status"] == "begun":
                killed.append(str(night["began"]))
                write_json(folder / "night.json", {**night, "status": "killed"})
                shutil.rmtree(folder / SHARED, ignore_errors=True)
        return killed

    def _missed(self, now: datetime) -> list[datetime]:
        """Scheduled times since the last run at which nothing ran."""
        schedule, nights = self.inbox.operation.schedule, self.inbox.nights()
        if schedule is None or not nights:
            return []
        last = datetime.fromisoformat(nights[-1][1]["began"])
        due = due_between(schedule, last, end=now, zone=self.inbox.operation.time_zone)
        return [moment for moment in due if now - moment > GRACE]

    def _clock_note(self, now: datetime) -> tuple[str, ...]:
        nights = self.inbox.nights()
        if not nights or datetime.fromisoformat(nights[-1][1]["began"]) <= now:
            return ()
        return (f"The clock was set back: the last run began {nights[-1][1]['began']}.",)

    def _keep(self) -> None:
        write_json(self.folder / "night.json", self.night.record())

    # ----------------------------------------------------------------------------- steps

    def steps(self) -> Iterator[Step]:
        """Score each recording (one step each, or one for all where they run side by side)."""
        with self._lock:
            self.begin()
            if not self.mine:
                return
            if self.todo:
                yield from self._scoring()
                yield Step("put the group together", self._group)
            yield Step("write the digest", self._digest)
            yield Step("publish to MLflow", self._publish)
            if self.inbox.operation.hook:
                yield Step("tell whom it concerns", self._hook)

    def summary(self) -> str:
        """Markdown: the digest, with pseudonyms."""
        file = self.folder / SHARED / "digest.md" if self.mine else Path()
        return file.read_text(encoding="utf-8") if file.is_file() else self.result["verdict"]

    def _scoring(self) -> Iterator[Step]:
        runner = self.inbox.operation.runner
        self._begin_results()
        works = [self._work(arrival) for arrival in self.todo]
        if isinstance(runner, Sequential):
            for work in works:
                name = Masking().recording(work.arrival.item.name)  # Prefect sees it
                yield Step(f"score {name}", partial(self._one, work))
        else:
            yield Step(f"score {len(works)} inputs", partial(self._all, works))

    def _work(self, arrival: Arrival) -> _Work:
        return _Work(
            replace(self.inbox),
            arrival,
            str(self.inbox.model(self.pin.model_id)),
            self._copies,
            remember=not self.other_model,
        )

    def _begin_results(self) -> None:
        job = self._score_job()
        begin_score(job.run)

    def _score_job(self) -> ScoreJob:
        model = str(self.inbox.model(self.pin.model_id))
        return _job(model, str(self._results), copies=self._copies)

    @property
    def _copies(self) -> str:
        return str(copies_of(self.folder))

    @property
    def _results(self) -> Path:
        return self.inbox.results(self.pin.model_id)

    def _one(self, work: _Work) -> None:
        self._took(work.arrival.item.name, _score(work))

    def _all(self, works: Sequence[_Work]) -> None:
        for work, outcome in workers.each(self.inbox.operation.runner, _score, items=works):
            name = work.arrival.item.name
            if isinstance(outcome, workers.Died):
                reason = (
                    "the process that scored it died twice (out of memory, or a reader's fault)"
                )
                outcome = _set_aside(work, reason)
            self._took(name, outcome)

    def _took(self, name: str, outcome: dict[str, Any]) -> None:
        self.outcomes[name] = outcome
        done, total = len(self.outcomes), len(self.todo)
        self.progress.advance(done, total, name)
        reason = f": {outcome['reason']}" if outcome["reason"] else ""
        _LOG.info(f"{done} of {total}, {name}: {outcome['state']}{reason}")
        if outcome["state"] == "failed":
            self.exit_status = 1

    def _group(self) -> None:
        job = self._score_job()
        job.progress = self.progress
        job.put_together()

    # ---------------------------------------------------------------------------- digest

    def _digest(self) -> None:
        done = {name: o for name, o in self.outcomes.items() if o["state"] == "done"}
        by_state = {
            state: tuple(a.item.name for a in self.arrivals if a.state == state)
            for state in ("writing", "older", "unchanged", "failed")
        }
        moved = tuple(n for n, o in self.outcomes.items() if o["state"] == "writing")
        expected = self.inbox.expected(self.arrivals)
        self.night = replace(
            self.night,
            status="done",
            ended=datetime.now().astimezone().isoformat(timespec="seconds"),
            model_id=self.pin.model_id,
            scored=tuple(done),
            flagged=_flagged(self._results, done) if done else {},
            failed={n: o["reason"] for n, o in self.outcomes.items() if o["state"] == "failed"},
            set_aside={a.item.name: a.because for a in self.arrivals if a.state == "failed"},
            writing=by_state["writing"] + moved,
            older=by_state["older"],
            unchanged=len(by_state["unchanged"]),
            gone=tuple(self.inbox.gone()),
            expected=None if expected is None else expected.expected,
            arrived=None if expected is None else expected.arrived,
            missing=() if expected is None else expected.missing,
            seconds=round(time.monotonic() - self._clock, 1),
        )
        write_night(
            NightRun(
                self.night,
                self.folder,
                inbox=self.inbox.place,
                results=self._results,
                model_digest=self.pin.digest,
                inputs=tuple(str(a.digest) for a in self.todo),
                is_newest=not self.other_model,
            )
        )
        self._keep()
        self.result = {
            "verdict": digest.sentence(self.night),
            "out": str(self._results),
            "report": str(self.inbox.place / "digest.html"),
            "scored": len(done),
            "flagged": len(self.night.flagged),
            "failed": list(self.night.failed.values()),
            "missing": list(self.night.missing),
            "missed_runs": list(self.night.missed_runs),
        }

    def _publish(self) -> None:
        """Send this night and those that could not be published when they ended."""
        own = self.inbox.study.outputs.root / self.title
        waiting = [own] if (own / "provenance.json").is_file() else []
        waiting = [place for place in waiting if not (place / "published.json").is_file()]
        waiting += [
            folder
            for folder, night in self.inbox.nights()
            if night["status"] == "done" and _worth_publishing(night)
            if not (folder / "published.json").is_file()
        ]
        if not waiting:
            return
        self.progress.stage("publishing to MLflow")
        for folder in waiting:
            found = publish(folder)
            if not found:
                return  # MLflow is away: the next run tries again
            if folder == self.folder:
                self.result |= found

    def _hook(self) -> None:
        command = self.inbox.operation.hook
        text = (self.folder / SHARED / "digest.md").read_text(encoding="utf-8")
        place = str(self.folder / SHARED / "digest.html")
        environment = os.environ | {
            "AE_PIPELINE_DIGEST": place,
            "AE_PIPELINE_VERDICT": text.splitlines()[2],
        }
        try:
            done = subprocess.run(
                list(command),
                input=text,
                text=True,
                env=environment,
                capture_output=True,
                timeout=HOOK_S,
                check=False,
            )
        except (OSError, subprocess.TimeoutExpired) as error:
            _LOG.warning(f"operation.hook {command[0]}: {error}")
            return
        if done.returncode:
            said = " ".join(done.stderr.split())[:200]
            _LOG.warning(f"operation.hook {command[0]}: exit status {done.returncode} {said}")


def _refuse_unwritable(place: Path) -> None:
    """Refuse a folder that cannot be written to, in one line."""
    existing = next(p for p in (place, *place.parents) if p.exists())
    if not existing.is_dir() or not os.access(existing, os.W_OK | os.X_OK):
        raise StudyError(f"{place}: {existing} cannot be written to; change outputs.root")


def _worth_publishing(night: Mapping[str, Any]) -> bool:
    """A night in which nothing happened is no run in MLflow; its digest says so."""
    return any(night[name] for name in ("scored", "failed", "missed_runs", "killed_runs"))


def _counted(arrivals: Sequence[Arrival]) -> dict[str, int]:
    counts: dict[str, int] = {}
    for arrival in arrivals:
        counts[arrival.state] = counts.get(arrival.state, 0) + 1
    return counts


def _new_folder(place: Path, now: datetime) -> Path:
    """A folder that sorts by time; two in one second, or a clock set back, get the next name."""
    name = now.astimezone(UTC).strftime("%Y-%m-%dT%H-%M-%SZ")
    existing = sorted(p.name for p in place.glob("*")) if place.is_dir() else []
    if existing and name <= existing[-1]:
        stem, _, number = existing[-1].partition("Z")
        name = f"{stem}Z{int(number.lstrip('+') or 0) + 1:+04d}"
    folder = place / name
    folder.mkdir(parents=True)
    return folder


# ------------------------------------------------------------------------------- one input


@dataclass(frozen=True)
class _Work:
    """One input, its place and its model; plain values, as it goes to other processes."""

    inbox: Inbox
    arrival: Arrival
    bundle: str
    copies: str
    """Where those that may be flagged stand without names, for MLflow."""
    remember: bool
    """Whether the inbox is to know it as done: not for another model's backfill."""


@lru_cache(maxsize=2)
def _job(bundle: str, out: str, *, copies: str) -> ScoreJob:
    """The scoring of a model into a folder; each process loads the model once."""
    from ae_pipeline.scoring.bundle import load

    job = ScoreJob(
        load(bundle), [], out=Path(out), error_rate=None, progress=Progress(), fresh=False
    )
    job.run = replace(job.run, copies=Path(copies))
    return job


def _results_of(work: _Work) -> Path:
    return work.inbox.results(Path(work.bundle).name)


def _score(work: _Work) -> dict[str, Any]:
    """Score one input: ``state`` is done, failed or writing, ``reason`` says why not done."""
    item = work.arrival.item
    out = _results_of(work)
    job = _job(work.bundle, str(out), copies=work.copies)
    before = _now_stats(work)
    try:
        with kept():  # the digest says what came of it
            job.score_input(item)
    except Exception as error:
        return _set_aside(work, unexpected(error, work.arrival.path, out=out))
    file = out / f"{item.name}_provenance.json"
    if before != _now_stats(work):
        file.unlink(missing_ok=True)  # half of one content and half of another
        return {"state": "writing", "reason": "changed while it was read"}
    provenance = read_json(file)
    if provenance["status"] == "failed" and provenance["input"] is None:
        provenance["input"] = work.arrival.digest
        write_json(file, provenance)
    _remember(work, before, provenance=provenance)
    reason = provenance["summary"].get("reason", "") if provenance["status"] == "failed" else ""
    return {"state": provenance["status"], "reason": reason}


def _set_aside(work: _Work, reason: str) -> dict[str, Any]:
    """Record an input as failed; it is tried again when it changes."""
    item, out = work.arrival.item, _results_of(work)
    run = _job(work.bundle, str(out), copies=work.copies).run
    write_failure(run, Failure(item.name, item.subject, reason), digest=work.arrival.digest)
    _remember(work, work.arrival.files, provenance=read_json(out / f"{item.name}_provenance.json"))
    return {"state": "failed", "reason": reason}


def _remember(
    work: _Work, files: Mapping[str, list[int]], *, provenance: Mapping[str, Any]
) -> None:
    if not work.remember:
        return
    arrival = work.arrival
    failed = provenance["status"] == "failed"
    work.inbox.remember(
        arrival.path,
        {
            "path": arrival.path,
            "name": arrival.item.name,
            "files": dict(files),
            "digest": arrival.digest if failed else provenance["input"],
            "status": provenance["status"],
            "reason": provenance["summary"].get("reason", "") if failed else "",
            "model_id": provenance["model_id"],
            "model": provenance["model"],
            "config": provenance["config"],
            "version": STEP_VERSION["score"],
            "finished": provenance["finished"],
            "because": arrival.because,
        },
    )


def _now_stats(work: _Work) -> dict[str, list[int]]:
    return work.inbox.stats_now(work.arrival)


def _flagged(results: Path, scored: Mapping[str, Any]) -> dict[str, str]:
    """What of the newly scored is flagged, with the reason; people of tables by their number."""
    import pandas as pd

    file = results / "recordings.parquet"
    if file.is_file():
        frame = pd.read_parquet(file)
        frame = frame[frame["recording"].isin(list(scored)) & frame["flagged"].astype(bool)]
        return {
            str(row["recording"]): f"{row['verdict']}: {row['reason']}"
            for _, row in frame.iterrows()
        }
    together = pd.read_parquet(results / "scores.parquet", columns=["recording", "flagged"])
    flagged = set(together.loc[together["flagged"].astype(bool), "recording"])
    found = {}
    for name in scored:
        own = pd.read_parquet(results / f"{name}_scores.parquet", columns=["recording"])
        count = int(own["recording"].isin(flagged).sum())
        if count:
            found[name] = f"{count} of {len(own)} rows"
    return found


# -------------------------------------------------------------------------------- the pin


def pin_model(inbox: Inbox, *, keep: bool = True) -> Pin:
    """Look the study's model up, copy it beside the results, and (``keep``) stay with it.

    Raises
    ------
    StudyError
        Where there is no such model.
    """
    from ae_pipeline.scoring.bundle import copy, load

    asked = inbox.asked
    place, version = _find_model(inbox, asked)
    bundle: Bundle = load(place)
    own = inbox.model(bundle.model_id)
    if not own.is_dir():
        with write_folder(own) as new:
            copy(place, new)
    pin = Pin(
        asked,
        bundle.model_id,
        bundle.digest,
        datetime.now().astimezone().isoformat(timespec="seconds"),
        version,
        score_config(bundle.info.detection),
    )
    if keep:
        write_json(inbox.place / "model.json", asdict(pin))
        _LOG.info(f"this inbox is scored by {pin.model_id} until the study names another")
    return pin


def _find_model(inbox: Inbox, asked: str) -> tuple[Path, str]:
    if asked:
        version = asked.rpartition("/")[2] if asked.startswith("models:/") else ""
        return model_folder(asked), version
    name = registered_name(inbox.study.study)
    try:
        return model_folder(f"models:/{name}@champion"), "champion"
    except StudyError:
        own = inbox.study.outputs.root / inbox.study.study / "model"
    if not own.is_dir():
        raise StudyError(
            f"{inbox.file}: there is no model yet; train one with 'ae-pipeline train "
            f"{inbox.file.name}', or name one under operation.model"
        )
    return own, ""
