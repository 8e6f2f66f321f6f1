"""What is lost, repeated or half-written when everything goes wrong: ``python faults.py -n 100``.

Recordings arrive in an inbox and a model is trained, again and again, while the process is killed
(SIGKILL) at random moments of reading, training, scoring and publishing. After each kill every
file is looked at; after every fifth an undisturbed run follows and everything is counted. Then the
other faults, one row each: a full disk (a small tmpfs, as root), an output that cannot be written
to, MLflow away for a part, its database lost, two runs at once, the clock set back.

lost        arrived, and not scored after an undisturbed run
repeated    complete before a run, and made again by it
half        a file that cannot be read, or differs from the digest in its provenance
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "tests")]

os.environ |= {"OMP_NUM_THREADS": "1", "MPLBACKEND": "Agg", "MLFLOW_DISABLE_TELEMETRY": "true"}
AWAY = "postgresql://nobody@127.0.0.1:9/none"


@dataclass
class Count:
    tried: int = 0
    lost: int = 0
    repeated: int = 0
    half: int = 0
    notes: list[str] = field(default_factory=list)


class Lab:
    """A study, its model, its inbox, and an eye on every result."""

    def __init__(self, place: Path) -> None:
        import lab

        self.place, self.made, self.lab = place, 0, lab
        self.looked_at: set[Path] = set()
        self.study = lab.write_study(place, 3)
        with self.study.open("a") as file:
            file.write("operation: {inbox: inbox, settle_s: 0}\n")
        (place / "mlflow.yaml").touch()
        (place / "inbox").mkdir()
        os.chdir(place)
        os.environ["AE_PIPELINE_CACHE"] = str(place / "cache")
        os.environ.pop("MLFLOW_TRACKING_URI", None)

    @property
    def results(self) -> Path:
        return self.place / "derivatives/small-inbox"

    def arrive(self, n: int = 1) -> None:
        for _ in range(n):
            signal_uv = self.lab.noise(seconds=5, seed=1000 + self.made)
            self.lab.write_edf(self.place / f"inbox/N{self.made:03d}_rest.edf", signal_uv)
            self.made += 1

    def night(self) -> None:
        from ae_pipeline.jobs.job import run_plainly
        from ae_pipeline.jobs.night import _job, night_job

        _job.cache_clear()
        run_plainly(night_job(self.study))

    def train(self, seed: int) -> None:
        from ae_pipeline.jobs.job import run_plainly
        from ae_pipeline.jobs.train import train_job

        run_plainly(train_job(self.study, None, overrides=[f"training.seed={seed}"]))

    def complete(self) -> dict[str, int]:
        """Provenance of what is done, and when it was written."""
        found = {}
        for file in self.results.glob("small-*/*_provenance.json"):
            content = json.loads(file.read_text())
            outputs = [file.parent / name for name in content["outputs"]]
            if content["status"] == "done" and all(o.is_file() for o in outputs):
                found[str(file)] = file.stat().st_mtime_ns
        return found

    def check(self, count: Count, before: dict[str, int], all_files: bool = True) -> None:
        """Nothing complete was made again, and no file (that is new) is half a file."""
        import pandas as pd

        from ae_pipeline.runtime.files import digest_files

        now = self.complete()
        count.repeated += sum(now.get(file) != when for file, when in before.items())
        for file in (self.place / "derivatives").rglob("*"):
            hidden = any(part.startswith(".") for part in file.relative_to(self.place).parts)
            if not file.is_file() or hidden or (not all_files and file in self.looked_at):
                continue
            if "_provenance" not in file.name and file.parent.name.startswith("small-"):
                self.looked_at.add(file)
            try:
                if file.suffix == ".json":
                    json.loads(file.read_text())
                elif file.suffix == ".parquet":
                    pd.read_parquet(file)
                elif file.suffix == ".html" and not file.read_text().rstrip().endswith("</html>"):
                    raise ValueError("cut off")
            except Exception as error:
                count.half += 1
                count.notes.append(f"{file.name}: {error}")
        for file in now if all_files else now.keys() - before.keys():
            content = json.loads(Path(file).read_text())
            for name, digest in content["outputs"].items():
                if digest_files([Path(file).parent / name]) != digest:
                    count.half += 1
                    count.notes.append(f"{name} is not what its provenance says")

    def missing(self) -> int:
        done = {Path(file).name for file in self.complete()}
        names = {f"{path.stem}_provenance.json" for path in (self.place / "inbox").glob("*.edf")}
        return len(names - done)

    def settle(self, count: Count) -> None:
        """An undisturbed run, after which everything has to be there."""
        before = self.complete()
        status = forked(self.night)
        if status:
            count.notes.append(f"the undisturbed run ended with {status}")
        self.check(count, before)
        count.lost += self.missing()


def forked(work: Callable[[], Any], kill_after_s: float | None = None) -> int:
    """Run work in a child process; 0 where it went well, -9 where it was killed."""
    sys.stdout.flush()
    child = os.fork()
    if child == 0:
        status = 1
        try:
            with open(os.devnull, "w") as quiet:
                os.dup2(quiet.fileno(), 2)
            work()
            status = 0
        except BaseException as error:
            Path("last-error").write_text(repr(error))
        os._exit(status)
    if kill_after_s is not None:
        time.sleep(kill_after_s)
        with contextlib.suppress(ProcessLookupError):
            os.kill(child, signal.SIGKILL)
    _, status = os.waitpid(child, 0)
    return -os.WTERMSIG(status) if os.WIFSIGNALED(status) else os.WEXITSTATUS(status)


def kills(lab: Lab, n: int, rng: random.Random, settle_every: int) -> dict[str, Count]:
    """Kills at random moments of training and of nights."""
    counts = {"SIGKILL in training": Count(), "SIGKILL in a night": Count()}
    typical = {}
    started = time.monotonic()
    forked(lambda: lab.train(0))
    typical["train"] = time.monotonic() - started
    lab.arrive(2)
    started = time.monotonic()
    forked(lab.night)
    typical["night"] = time.monotonic() - started
    seed = 1
    while (killed := sum(count.tried for count in counts.values())) < n:
        training = killed % 3 == 0
        count = counts["SIGKILL in training" if training else "SIGKILL in a night"]
        if training:
            work: Callable[[], None] = lambda: lab.train(seed)  # noqa: B023, E731
        else:
            lab.arrive()
            work = lab.night
        before = lab.complete()
        moment = rng.uniform(0, typical["train" if training else "night"])
        if forked(work, moment) == -signal.SIGKILL:
            count.tried += 1
        elif training:
            seed += 1
        lab.check(count, before, all_files=False)
        if killed % 10 == 9:
            summed = [
                sum(getattr(c, f) for c in counts.values()) for f in ("lost", "repeated", "half")
            ]
            print(f"{killed + 1} kills: lost, repeated, half-written {summed}", file=sys.stderr)
        if killed % settle_every == settle_every - 1:
            lab.settle(counts["SIGKILL in a night"])
            status = forked(lambda: lab.train(seed))  # noqa: B023
            model = lab.place / "derivatives/small/model/bundle.json"
            counts["SIGKILL in training"].lost += int(status != 0 or not model.is_file())
            seed += 1
    lab.settle(counts["SIGKILL in a night"])
    return counts


def open_runs(lab: Lab) -> tuple[int, int]:
    """Runs in MLflow that are left open, and keys that stand there twice."""
    from mlflow import MlflowClient

    client = MlflowClient(f"sqlite:///{lab.place}/data/mlflow/mlflow.db")
    runs = [
        run
        for experiment in client.search_experiments()
        for run in client.search_runs([experiment.experiment_id], max_results=5000)
    ]
    keys = [r.data.tags.get("ae_pipeline.key") for r in runs if r.info.status == "FINISHED"]
    return sum(run.info.status == "RUNNING" for run in runs), len(keys) - len(set(keys))


def disk_full(lab: Lab) -> Count:
    count = Count(1)
    place = lab.results
    kept = place.with_name("kept")
    shutil.move(place, kept)
    place.mkdir()
    used = sum(f.stat().st_size for f in kept.rglob("*") if f.is_file()) // 1024
    mount = ["mount", "-t", "tmpfs", "-o", f"size={4 * used + 600}k", "tmpfs", str(place)]
    if os.geteuid() or subprocess.run(mount, capture_output=True, check=False).returncode:
        place.rmdir()
        shutil.move(kept, place)
        return Count(0, notes=["needs root for a small tmpfs"])
    try:
        shutil.copytree(kept, place, dirs_exist_ok=True)
        free = shutil.disk_usage(place).free
        (place / ".filler").write_bytes(bytes(max(0, free - 200_000)))
        lab.arrive(3)
        before = lab.complete()
        status = forked(lab.night)
        if status != 1:
            count.notes.append(f"a full disk ended with {status}")
        lab.check(count, before)
        (place / ".filler").unlink()
        lab.settle(count)
    finally:
        shutil.copytree(place, kept, dirs_exist_ok=True)
        subprocess.run(["umount", "-l", str(place)], check=True)
        place.rmdir()
        shutil.move(kept, place)
    return count


def unwritable(lab: Lab) -> Count:
    count = Count(1)
    lab.arrive()
    before = lab.complete()
    folder = next(lab.results.glob("small-*"))
    # root may write anywhere, so that a file stands where the folder has to be
    moved = folder.with_name("moved")
    folder.rename(moved)
    folder.write_text("in the way")
    status = forked(lab.night)
    if not status:
        count.notes.append("it did not notice")
    folder.unlink()
    moved.rename(folder)
    lab.check(count, before)
    lab.settle(count)
    return count


def mlflow_away(lab: Lab) -> Count:
    count = Count(1)
    lab.arrive()
    os.environ["MLFLOW_TRACKING_URI"] = AWAY
    before = lab.complete()
    forked(lab.night)
    lab.check(count, before)
    nights = sorted(lab.results.glob("nights/*"))
    if (nights[-1] / "published.json").exists():
        count.notes.append("published although nobody was there")
    os.environ.pop("MLFLOW_TRACKING_URI")
    lab.settle(count)
    if not (nights[-1] / "published.json").exists():
        count.lost += 1
        count.notes.append("not published later")
    return count


def database_lost(lab: Lab) -> Count:
    count = Count(1)
    before = lab.complete()
    shutil.rmtree(lab.place / "data/mlflow")
    shutil.rmtree(lab.place / "data/prefect", ignore_errors=True)
    shutil.rmtree(lab.results / ".seen")
    lab.arrive()
    forked(lab.night)
    lab.check(count, before)
    lab.settle(count)
    return count


def two_at_once(lab: Lab) -> Count:
    count = Count(1)
    lab.arrive(4)
    before = lab.complete()
    other = os.fork()
    if other == 0:
        os._exit(forked(lab.night))
    forked(lab.night)
    os.waitpid(other, 0)
    done = lab.complete()
    lab.check(count, before)
    count.repeated += len(done) - len(set(done))
    lab.settle(count)
    # and two that know nothing of each other's lock: scoring into the same folder
    from ae_pipeline.jobs.job import run_plainly
    from ae_pipeline.jobs.score import score_job

    inputs = [str(lab.place / "inbox")]
    out, model = lab.place / "derivatives/together", str(lab.place / "derivatives/small/model")

    def score() -> None:
        run_plainly(score_job(model, inputs, out=out))

    first = os.fork()
    if first == 0:
        os._exit(forked(score))
    forked(score)
    os.waitpid(first, 0)
    failed = [f for f in out.glob("*_provenance.json") if '"failed"' in f.read_text()]
    count.lost += len(failed) + lab.made - len(list(out.glob("*_provenance.json")))
    return count


def clock_set_back(lab: Lab) -> Count:
    count = Count(1)
    lab.arrive(2)
    ahead = time.time() + 10 * 24 * 3600
    os.utime(lab.place / f"inbox/N{lab.made - 1:03d}_rest.edf", (ahead, ahead))
    night = max(lab.results.glob("nights/*")) / "night.json"
    content = json.loads(night.read_text())
    night.write_text(json.dumps({**content, "began": "2036-01-01T02:00:00+00:00"}))
    before = lab.complete()
    forked(lab.night)
    lab.check(count, before)
    lab.settle(count)
    return count


def others(lab: Lab) -> dict[str, Count]:
    """The other faults, one after another on the same results."""
    faults = {
        "disk full": disk_full,
        "output unwritable": unwritable,
        "MLflow away": mlflow_away,
        "databases and cache lost": database_lost,
        "two at once": two_at_once,
        "clock set back": clock_set_back,
    }
    return {name: fault(lab) for name, fault in faults.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("-n", type=int, default=100, help="kills")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--settle", type=int, default=5, help="undisturbed run after so many")
    parser.add_argument("--kills-only", action="store_true")
    given = parser.parse_args()
    import mlflow.pyfunc
    import mlflow.store.tracking.sqlalchemy_store  # noqa: F401
    import mne  # noqa: F401
    import sklearn.ensemble  # noqa: F401

    import ae_pipeline.jobs.retrain  # noqa: F401

    place = Path(tempfile.mkdtemp(prefix="ae-pipeline-faults-"))
    rng = random.Random(given.seed)
    try:
        lab = Lab(place)
        counts = kills(lab, given.n, rng, given.settle)
        still_open, twice = open_runs(lab)
        if not given.kills_only:
            counts |= others(lab)
    finally:
        os.chdir("/")
        shutil.rmtree(place, ignore_errors=True)
    print("| fault | times | lost | repeated | half-written |")
    print("|---|---|---|---|---|")
    for name, c in counts.items():
        print(f"| {name} | {c.tried} | {c.lost} | {c.repeated} | {c.half} |")
    print(f"\nMLflow after the kills: {still_open} runs left open, {twice} published twice")
    for name, c in counts.items():
        for note in c.notes:
            print(f"{name}: {note}")
    bad = sum(c.lost + c.repeated + c.half for c in counts.values()) + still_open + twice
    sys.exit(1 if bad else 0)


if __name__ == "__main__":
    main()
