"""Memory of ``ae-pipeline train`` on EEG as the recordings grow: what is mapped is not held.

    python benchmarks/memory.py                 2 and 8 hours of 32 channels, one epoch; minutes

Recordings of noise (half an hour each, 250 Hz, EDF) of eight subjects are trained on by the real
command in a process of its own. Twice a second its status tells what it holds: *held* are pages
that belong to the process (``RssAnon``), which a machine must have; *mapped* are pages of files
(``RssFile``: the cache of the signal, the libraries), which the kernel takes back when it needs
them.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from edfio import Edf, EdfSignal

ROOT = Path(__file__).resolve().parent.parent
SFREQ_HZ, N_CHANNELS, LENGTH_S, N_SUBJECTS = 250, 32, 1800, 8
STUDY = """\
study: memory
source: {kind: eeg, path: recordings, subject_pattern: "(S[0-9]+)_"}
preprocess: {high_pass_hz: 1, low_pass_hz: 45, sfreq_hz: 250}
windows: {length_s: 2, stride_s: 1}
model: {architecture: {kind: dense, hidden: [64]}, objective: {kind: vanilla}, latent_dim: 16}
training: {epochs: 1}
"""


def write(place: Path, hours: float) -> int:
    """Recordings of so many hours together; their samples as float32, in bytes."""
    n_files = round(hours * 3600 / LENGTH_S)
    (place / "recordings").mkdir(parents=True)
    n_times = SFREQ_HZ * LENGTH_S
    for number in range(n_files):
        rng = np.random.default_rng(number)
        shared = rng.normal(0, 10, n_times)
        signals = [
            EdfSignal(
                shared + rng.normal(0, 10, n_times),
                SFREQ_HZ,
                label=f"E{channel + 1}",
                physical_dimension="uV",
                physical_range=(-200, 200),
            )
            for channel in range(N_CHANNELS)
        ]
        Edf(signals).write(place / f"recordings/S{number % N_SUBJECTS:02d}_{number:03d}.edf")
    (place / "study.yaml").write_text(STUDY)
    (place / "mlflow.yaml").touch()
    return n_files * n_times * N_CHANNELS * 4


def status(process: int) -> dict[str, float]:
    """Megabytes by the kernel's names."""
    lines = Path(f"/proc/{process}/status").read_text().splitlines()
    return {
        line.split(":")[0]: int(line.split()[1]) / 1024
        for line in lines
        if line.startswith(("RssAnon", "RssFile"))
    }


def train(place: Path) -> dict[str, float]:
    """Peaks of the command, in megabytes, and its seconds."""
    began = time.monotonic()
    with (place / "log").open("wb") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "ae_pipeline", "train", "study.yaml", "--no-prefect"],
            cwd=place,
            stdout=log,
            stderr=log,
            env={
                **os.environ,
                "PYTHONPATH": str(ROOT),
                "AE_PIPELINE_CACHE": str(place / "cache"),
                "MALLOC_ARENA_MAX": "2",
            },
        )
    peaks: dict[str, float] = {}
    while process.poll() is None:
        now = status(process.pid)
        peaks |= {name: max(value, peaks.get(name, 0.0)) for name, value in now.items()}
        time.sleep(0.5)
    if process.returncode or not peaks:
        raise SystemExit(f"{process.returncode}: {(place / 'log').read_text()[-3000:]}")
    return peaks | {"seconds": time.monotonic() - began}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--hours", type=float, nargs="+", default=[2, 8])
    given = parser.parse_args()
    print("| hours | signal as float32 | held at most | mapped at most | seconds |")
    print("|---|---|---|---|---|")
    for hours in given.hours:
        with tempfile.TemporaryDirectory() as name:
            size = write(Path(name), hours)
            found = train(Path(name))
        print(
            f"| {hours:g} | {size / 2**20:.0f} MB | {found['RssAnon']:.0f} MB | "
            f"{found['RssFile']:.0f} MB | {found['seconds']:.0f} |",
            flush=True,
        )


if __name__ == "__main__":
    main()
