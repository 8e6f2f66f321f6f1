"""Many recordings, measured: ``python operation.py WHAT [--data FOLDER]``.

nights    200 recordings (crops of real ones with small differences): the first night, the second,
          one touched, one changed
workers   recordings a minute with one, two and four processes, and with twice and four times as
          many recordings
one-more  core-seconds of one more recording of 12 s in ``score``, two processes, pages and
          publishing included: 8 recordings against 24
overhead  what Prefect and MLflow add to a run of 60 s, both servers up
"""

from __future__ import annotations

import argparse
import os
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "tests")]
COMMAND = (sys.executable, "-m", "ae_pipeline")
CROP_S = 12


def crops(data: Path, n: int) -> Iterator[tuple[str, np.ndarray, tuple[str, ...], int]]:
    """Crops of the recordings in a folder, each moved a little and with a little noise."""
    from ae_pipeline.sources import eeg

    source = eeg.EegSource(path=data, pattern="*.edf")
    opened = [eeg.open_recording(f, source) for f in eeg.find([data], "*.edf")]
    usual = opened[0].ch_names
    opened = [r for r in opened if r.ch_names == usual]
    rng = np.random.default_rng(0)
    for number in range(n):
        recording = opened[number % len(opened)]
        length = round(CROP_S * recording.sfreq_hz)
        start = int(rng.integers(0, recording.n_times - length))
        signal = recording.read(start, start + length)
        noise = rng.normal(scale=0.1, size=signal.shape)
        yield f"R{number:04d}_rest", signal + noise, usual, round(recording.sfreq_hz)


def fill(place: Path, data: Path, n: int) -> None:
    import lab

    place.mkdir(parents=True, exist_ok=True)
    for name, signal, names, sfreq_hz in crops(data, n):
        lab.write_edf(place / f"{name}.edf", signal.astype(float), names, sfreq_hz)


def project(place: Path, data: Path, n: int, runner: str = "sequential") -> Path:
    study = place / "study.yaml"
    study.write_text(
        "study: bench\n"
        f"source: {{kind: eeg, path: {place}/training}}\n"
        "preprocess: {high_pass_hz: 1, low_pass_hz: 40}\n"
        "windows: {length_s: 1, stride_s: 0.5}\n"
        "model: {architecture: {kind: dense, hidden: [32]}, objective: {kind: vanilla}, "
        "latent_dim: 4}\n"
        "training: {epochs: 3}\n"
        f"operation: {{inbox: inbox, settle_s: 0, runner: {runner}}}\n"
    )
    (place / "mlflow.yaml").touch()
    if not (place / "training").exists():
        fill(place / "training", data, 9)
        fill(place / "inbox", data, n)
    return study


def timed(place: Path, *arguments: str) -> tuple[float, str]:
    started = time.monotonic()
    done = subprocess.run(
        [*COMMAND, *arguments],
        cwd=place,
        env=os.environ
        | {"PYTHONPATH": str(ROOT), "AE_PIPELINE_CACHE": str(place / "cache"), "NO_COLOR": "1"},
        stdout=subprocess.PIPE,
        stderr=(place / "log").open("ab"),
        text=True,
        check=False,
    )
    return time.monotonic() - started, done.stdout.splitlines()[0] if done.stdout else "?"


def nights(place: Path, data: Path, n: int) -> None:
    study = str(project(place, data, n, "{kind: process, workers: 2}"))
    print(f"nothing but the start of the process: {timed(place, '--help')[0]:.1f} s")
    timed(place, "train", study, "--no-prefect")
    steps = {
        "first night": lambda: None,
        "second night": lambda: None,
        "one touched": lambda: (place / "inbox/R0000_rest.edf").touch(),
        "one changed": lambda: fill_one(place / "inbox/R0001_rest.edf", data),
        "all read (--verify)": lambda: None,
    }
    for name, change in steps.items():
        change()
        more = ["--verify"] if "verify" in name else []
        seconds, verdict = timed(place, "run-inbox", study, "--no-prefect", *more)
        print(f"{name}: {seconds:.1f} s: {verdict}", flush=True)
    print(f"status: {timed(place, 'status', study)[0]:.2f} s")


def fill_one(file: Path, data: Path) -> None:
    import lab

    _, signal, names, sfreq_hz = next(crops(data, 1))
    lab.write_edf(file, signal[:, ::-1].astype(float), names, sfreq_hz)


def workers(place: Path, data: Path, n: int) -> None:
    study = str(project(place, data, 4 * n))
    timed(place, "train", study, "--no-prefect")
    shutil.move(place / "inbox", place / "all")
    for count, times in ((1, 1), (2, 1), (4, 1), (2, 2), (2, 4)):
        shutil.rmtree(place / "derivatives/bench-inbox", ignore_errors=True)
        shutil.rmtree(place / "inbox", ignore_errors=True)
        (place / "inbox").mkdir()
        for file in sorted((place / "all").iterdir())[: n * times]:
            shutil.copy(file, place / "inbox")
        runner = f"{{kind: process, workers: {count}}}" if count > 1 else "sequential"
        project(place, data, n, runner)
        seconds, verdict = timed(place, "run-inbox", study, "--no-prefect")
        rate = 60 * n * times / seconds
        print(
            f"{n * times} recordings, {count} worker(s): {seconds:.1f} s, {rate:.0f} a minute: "
            f"{verdict}",
            flush=True,
        )


def one_more(place: Path, data: Path, n: int) -> None:
    study = str(project(place, data, 3 * n))
    timed(place, "train", study, "--no-prefect")
    used = {}
    for count in (n, 3 * n):
        (place / f"{count}").mkdir()
        for file in sorted((place / "inbox").iterdir())[:count]:
            shutil.copy(file, place / f"{count}")
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        model = ["--model", "derivatives/bench/model", "--out", f"scored-{count}"]
        timed(place, "score", *model, "--jobs", "2", "--no-prefect", f"{count}")
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        used[count] = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
        pages = len(list((place / f"scored-{count}").glob("R*_report.html")))
        print(f"{count} recordings, {pages} pages: {used[count]:.1f} core-seconds", flush=True)
    print(f"one more: {(used[3 * n] - used[n]) / (2 * n):.2f} core-seconds")


OVERHEAD = """
import json, sys, time
from dataclasses import dataclass, field
from pathlib import Path
from ae_pipeline.jobs.job import Step, run_plainly

@dataclass
class Minute:
    kind: str = "train"
    title: str = "minute"
    exit_status: int = 0
    result: dict = field(default_factory=dict)
    def steps(self):
        for i in range(30):
            yield Step(f"step {i}", lambda: time.sleep(2))
    def summary(self):
        return "# done"

import flows
from ae_pipeline.tracking import connection, publishing
from ae_pipeline.tracking.settings import load_settings
with flows.using():
    flows.run_job(Minute())  # imports, and the server's first answers
    started = time.monotonic()
    run_plainly(Minute())
    plain = time.monotonic() - started
    started = time.monotonic()
    flows.run_job(Minute())
    flow = time.monotonic() - started
settings = load_settings()
folder = Path(sys.argv[1])
with connection.connected(settings):
    import mlflow.pyfunc, PIL.Image
record = folder / "pseudonymised/run.json"
times = []
for n in range(3):
    content = json.loads(record.read_text())
    record.write_text(json.dumps({**content, "key": f"again {n}"}))
    started = time.monotonic(); cpu = time.process_time()
    publishing.publish(folder, settings)
    times.append((time.monotonic() - started, time.process_time() - cpu))
print(json.dumps({"plain": plain, "flow": flow, "publish": times}))
"""


def overhead(place: Path, data: Path, n: int) -> None:
    study = str(project(place, data, 1))
    timed(place, "train", study, "--no-prefect")
    environment = os.environ | {"PYTHONPATH": str(ROOT), "AE_PIPELINE_CACHE": str(place / "cache")}
    environment["PREFECT_HOME"] = str(place / "data/prefect")
    with (place / "up").open("wb") as log:
        up = subprocess.Popen(
            [*COMMAND, "up", "--port", "4311"], cwd=place, env=environment, stderr=log, stdout=log
        )
    try:
        while "stop with" not in (place / "up").read_text():
            time.sleep(1)
        done = subprocess.run(
            [sys.executable, "-c", OVERHEAD, "derivatives/bench"],
            cwd=place,
            env=environment | {"MLFLOW_TRACKING_URI": "http://127.0.0.1:5000"},
            capture_output=True,
            text=True,
            check=False,
        )
        print(done.stdout or done.stderr[-2000:])
    finally:
        up.terminate()
        up.wait()


BENCHMARKS = {
    "nights": (nights, 200),
    "workers": (workers, 40),
    "one-more": (one_more, 8),
    "overhead": (overhead, 1),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("what", choices=[*BENCHMARKS])
    default = os.environ.get("AE_PIPELINE_TEST_DATA") or ROOT.parent / "shared" / "data"
    parser.add_argument("--data", type=Path, default=Path(default) / "eegmat")
    parser.add_argument("-n", type=int, default=None, help="recordings")
    given = parser.parse_args()
    place = Path(tempfile.mkdtemp(prefix="ae-pipeline-bench-"))
    try:
        measure, n = BENCHMARKS[given.what]
        measure(place, given.data, given.n or n)
    finally:
        shutil.rmtree(place, ignore_errors=True)


if __name__ == "__main__":
    main()
