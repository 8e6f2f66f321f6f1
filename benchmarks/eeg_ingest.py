"""Reading, cleaning and scoring EEG beside MNE and the bare forward pass; a day of 64 channels.

Three measurements, each of ratios within one run:

    python benchmarks/eeg_ingest.py ingest         30 min in memory: ours, MNE lean, MNE as written
    python benchmarks/eeg_ingest.py scoring        windows through the public interface and bare
    python benchmarks/eeg_ingest.py day --hours 24 from an EDF file to scores: times real time, and
                                                   memory above the imports, against one hour
    python benchmarks/eeg_ingest.py minute         a 5-minute EDF, cold start to finished report

The signal is a real recording repeated (``--file``, 64 channels; the sample recordings of
eegmmidb where ``AE_PIPELINE_TEST_DATA`` points). One thread, CPU seconds, interleaved rounds;
``day`` and ``minute`` also say what the clock on the wall said.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np

from ae_pipeline.data import Recording

ROOT = Path(__file__).resolve().parent.parent
SFREQ_HZ = 256.0
BAND_HZ = (1.0, 45.0)
LINE_HZ = 50.0


def real_recording(file: Path | None) -> Recording:
    """The real recording that is repeated."""
    from ae_pipeline.sources.eeg import EegSource, find, open_recording

    if file is None:
        shared = Path(os.environ.get("AE_PIPELINE_TEST_DATA", ROOT.parent / "shared/data"))
        file = shared / "eegmmidb/S001R03.edf"
    return open_recording(find([file])[0], EegSource(path=file))


def repeated(recording: Recording, seconds: float) -> np.ndarray:
    """Its signal at 256 Hz, over and over, (channels, times) float32."""
    from scipy.signal import resample_poly

    signal = recording.read(0, recording.n_times)
    signal = resample_poly(signal, round(SFREQ_HZ), round(recording.sfreq_hz), axis=1)
    whole = np.tile(signal, (1, int(np.ceil(seconds * SFREQ_HZ / signal.shape[1]))))
    return np.ascontiguousarray(whole[:, : round(seconds * SFREQ_HZ)], np.float32)


# -------------------------------------------------------------------------------- ingest


def ingest(file: Path | None, rounds: int) -> None:
    """30 minutes: band-pass, notch, average reference, 1 s windows, robust scale."""
    import mne

    from ae_pipeline.eeg.preprocess import Preprocess
    from ae_pipeline.eeg.survey import survey
    from ae_pipeline.eeg.windows import Windowing, cut

    mne.set_log_level("ERROR")
    one = real_recording(file)
    signal = repeated(one, 1800)
    recording = replace(
        one,
        sfreq_hz=SFREQ_HZ,
        n_times=signal.shape[1],
        segments=((0, signal.shape[1]),),
        annotations=(),
        reader=lambda start, stop: signal[:, start:stop],
    )
    clean = Preprocess(high_pass_hz=BAND_HZ[0], low_pass_hz=BAND_HZ[1], notch=LINE_HZ)
    windowing = Windowing(length_s=1.0, stride_s=1.0)
    info = mne.create_info(list(one.ch_names), SFREQ_HZ, "eeg")

    def ours() -> np.ndarray:
        plan = survey(recording, clean, line_freq_hz=LINE_HZ, sfreq_hz=SFREQ_HZ)
        scale = np.array(plan.amplitude_uv, np.float32)[:, None]
        return np.concatenate(
            [s.values[:] / scale for s in cut(recording, plan, windowing=windowing)]
        )

    def filtered() -> np.ndarray:
        data = mne.filter.filter_data(signal.astype(np.float64), SFREQ_HZ, *BAND_HZ)
        data = mne.filter.notch_filter(data, SFREQ_HZ, LINE_HZ)
        data -= data.mean(axis=0)
        return np.asarray(data)

    def lean() -> np.ndarray:
        data = filtered()
        low, high = np.quantile(data[:, ::16], [0.25, 0.75], axis=1)
        data /= (high - low)[:, None]
        return np.asarray(data.reshape(len(data), -1, round(SFREQ_HZ)).transpose(1, 0, 2))

    def as_written() -> np.ndarray:
        raw = mne.io.RawArray(signal * 1e-6, info, copy="both")
        raw.filter(*BAND_HZ)
        raw.notch_filter(LINE_HZ)
        raw.set_eeg_reference("average")
        epochs = mne.make_fixed_length_epochs(raw, 1.0, preload=True)
        data = epochs.get_data()
        low, high = np.percentile(data, [25, 75], axis=(0, 2))
        return np.asarray(data / (high - low)[:, None])

    contenders: dict[str, Callable[[], np.ndarray]] = {
        "ours": ours,
        "MNE lean": lean,
        "MNE as written": as_written,
    }
    times: dict[str, list[float]] = {name: [] for name in contenders}
    for _ in range(rounds):
        for name, run in contenders.items():
            begun = time.process_time()
            run()
            times[name].append(time.process_time() - begun)
    plan = survey(recording, clean, line_freq_hz=LINE_HZ, sfreq_hz=SFREQ_HZ)
    reference = filtered()
    mine = np.concatenate([s.values[:] for s in cut(recording, plan, windowing=windowing)])
    theirs = reference.reshape(len(reference), -1, round(SFREQ_HZ)).transpose(1, 0, 2)
    away = np.abs(mine - theirs).max(axis=(0, 2)) / reference.std(axis=1)
    print(f"ingest, 30 min x {len(signal)} channels x {SFREQ_HZ:g} Hz, {rounds} rounds, CPU s")
    for name, seconds in times.items():
        ratio = median(t / o for t, o in zip(seconds, times["ours"], strict=True))
        print(f"  {name:16} {median(seconds):6.2f}   {ratio:.2f} x ours")
    print(f"  largest deviation from MNE's result: {away.max():.1e} of a standard deviation")


# ------------------------------------------------------------------------------- scoring


def small_bundle(file: Path | None, folder: Path, epochs: int = 2) -> Path:
    """A model of 64 channels trained for a moment; scoring costs what a long training's does."""
    from ae_pipeline.jobs.train import train_job

    one = real_recording(file)
    write_edf(folder / "train/P1_rest.edf", repeated(one, 240), one.ch_names)
    (folder / "study.yaml").write_text(
        "study: ingest\n"
        "source: {kind: eeg, path: train}\n"
        f"preprocess: {{high_pass_hz: {BAND_HZ[0]}, low_pass_hz: {BAND_HZ[1]}, sfreq_hz: 256}}\n"
        "windows: {length_s: 1.0, stride_s: 1.0}\n"
        "model: {architecture: {kind: conv}, objective: {kind: vanilla}, latent_dim: 16}\n"
        f"training: {{epochs: {epochs}}}\n"
    )
    for step in train_job(folder / "study.yaml").steps():
        if "MLflow" not in step.name:
            step.run()
    return folder / "derivatives/ingest/model"


def scoring(file: Path | None, rounds: int) -> None:
    """Windows a CPU second: the forward pass alone, the autoencoder's score, everything."""
    import torch

    from ae_pipeline.data import Axis, Samples, Windows
    from ae_pipeline.scoring.bundle import load

    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        bundle = load(small_bundle(file, Path(folder)))
    import pandas as pd

    signal = repeated(real_recording(file), 1000)[: bundle.info.shape[0]]
    n = round(SFREQ_HZ)
    starts = np.arange(0, signal.shape[1] - n + 1, n)
    meta = pd.DataFrame(
        {
            "recording": "r",
            "subject": "s",
            "session": "",
            "window": range(len(starts)),
            "onset_s": starts / SFREQ_HZ,
            "duration_s": 1.0,
        }
    )
    axes = (Axis("channel", bundle.info.entries, unit="uV"), Axis("time", step=1 / SFREQ_HZ))
    values = Windows(np.ascontiguousarray(signal).T, starts, n)  # as a stream has it
    samples = Samples("eeg", values, meta, axes, sfreq_hz=SFREQ_HZ)
    fitted = bundle.autoencoder
    scaled = torch.from_numpy(np.asarray(values[:]) / 20)

    def bare() -> None:
        with torch.inference_mode():
            for start in range(0, len(scaled), 64):
                x = scaled[start : start + 64]
                (fitted.model.decode(fitted.model.encode(x, None).mean) - x).square().mean((1, 2))

    contenders: dict[str, Callable[[], Any]] = {
        "bare forward pass": bare,
        "autoencoder's score": lambda: fitted.score(samples),
        "all views and baselines": lambda: bundle.judge(samples),
    }
    times: dict[str, list[float]] = {name: [] for name in contenders}
    for _ in range(rounds):
        for name, run in contenders.items():
            begun = time.process_time()
            run()
            times[name].append(time.process_time() - begun)
    print(f"scoring, {len(samples)} windows of {signal.shape[0]} x {n}, {rounds} rounds")
    for name, seconds in times.items():
        pairs = zip(seconds, times["bare forward pass"], strict=True)
        ratio = median(t / b for t, b in pairs)
        rate = len(samples) / median(seconds)
        print(f"  {name:24} {rate:7,.0f} windows a CPU s   {ratio:.2f} x bare")


# ---------------------------------------------------------------------------------- day


def write_edf(path: Path, signal_uv: np.ndarray, names: tuple[str, ...], repeats: int = 1) -> Path:
    """An EDF file whose records are repeated: a day is written without holding a day."""
    import edfio

    path.parent.mkdir(parents=True, exist_ok=True)
    seconds = int(signal_uv.shape[1] / SFREQ_HZ)
    signal_uv = signal_uv[:, : round(seconds * SFREQ_HZ)].astype(np.float64)
    signals = [
        edfio.EdfSignal(
            row, SFREQ_HZ, label=name, physical_dimension="uV", physical_range=(-3000, 3000)
        )
        for row, name in zip(np.clip(signal_uv, -3000, 3000), names, strict=True)
    ]
    edfio.Edf(signals, data_record_duration=1).write(path)
    if repeats > 1:
        content = path.read_bytes()
        head = 256 * (len(names) + 1)
        header = bytearray(content[:head])
        header[236:244] = f"{seconds * repeats:<8}".encode()
        with path.open("wb") as file:
            file.write(header)
            for _ in range(repeats):
                file.write(content[head:])
    return path


def peak_mb() -> float:
    """Most memory this process has held; ``ru_maxrss`` would start at its parent's."""
    status = Path("/proc/self/status").read_text()
    return float(status.split("VmHWM:")[1].split()[0]) / 1024


def stream(model: Path, file: Path, what: str) -> None:
    """In a process of its own: from the file to scores; prints one JSON object."""
    import torch

    from ae_pipeline.eeg.survey import survey
    from ae_pipeline.eeg.windows import cut
    from ae_pipeline.scoring.bundle import load
    from ae_pipeline.scoring.recording import score_recording
    from ae_pipeline.sources.eeg import EegSource, find, open_recording

    torch.set_num_threads(int(os.environ["OMP_NUM_THREADS"]))
    bundle = load(model)
    info = bundle.info
    warm = open_recording(find([file.with_name("warm.edf")])[0], EegSource(path=file))
    source = open_recording(find([file])[0], EegSource(path=file))

    def run(recording: Recording) -> int:
        assert info.preprocess is not None
        assert info.windows is not None
        assert info.sfreq_hz is not None
        if what == "all":
            judge = bundle.by_calibration
            return len(score_recording(bundle, recording, judge=judge).frame)
        plan = survey(recording, info.preprocess, line_freq_hz=LINE_HZ, sfreq_hz=info.sfreq_hz)
        n = 0
        for samples in cut(recording, plan, windowing=info.windows):
            n += len(bundle.autoencoder.score(samples).total)
        return n

    from importlib import import_module

    for name in ("mne.filter", "pyarrow.compute", "scipy.fft", "scipy.signal"):
        import_module(name)  # what is loaded on the way is no part of a recording's memory

    before = peak_mb()
    run(warm)  # kernels, and code that is imported on the way
    cpu, wall = time.process_time(), time.monotonic()
    n_windows = run(source)
    found = {
        "windows": n_windows,
        "cpu_s": time.process_time() - cpu,
        "wall_s": time.monotonic() - wall,
        "peak_mb": peak_mb() - before,
        "imports_mb": before,
    }
    print(json.dumps(found))


def day(file: Path | None, hours: float, threads: int, what: tuple[str, ...]) -> None:
    """A long recording from its file to scores, in a process of its own each time."""
    one = real_recording(file)
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        model = small_bundle(file, folder)
        signal = repeated(one, 600)
        write_edf(folder / "warm.edf", signal[:, : round(120 * SFREQ_HZ)], one.ch_names)
        for which in what:
            peaks: dict[float, float] = {}
            for length in (1.0, hours):
                path = write_edf(folder / "long.edf", signal, one.ch_names, round(6 * length))
                done = subprocess.run(
                    [sys.executable, __file__, "stream", str(model), str(path), which],
                    env={**os.environ, "OMP_NUM_THREADS": str(threads)},
                    capture_output=True,
                    text=True,
                    check=True,
                )
                found = json.loads(done.stdout.splitlines()[-1])
                peaks[length] = found["peak_mb"]
                print(
                    f"{which}: {length:g} h, {found['windows']:,} windows of 1 s: "
                    f"{length * 3600 / found['wall_s']:,.0f} x real time on the wall "
                    f"({threads} threads), {length * 3600 / found['cpu_s']:,.0f} x in CPU time; "
                    f"peak {found['peak_mb']:.0f} MB above {found['imports_mb']:.0f} MB",
                    flush=True,
                )
                path.unlink()
            print(f"{which}: memory, {hours:g} h against 1 h: +{peaks[hours] - peaks[1.0]:.0f} MB")


def minute(file: Path | None) -> None:
    """The command, cold: a 5-minute file of 64 channels to its report, without Prefect."""
    one = real_recording(file)
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        model = small_bundle(file, folder)
        new = write_edf(folder / "new.edf", repeated(one, 300), one.ch_names)
        command = [Path(sys.executable).with_name("ae-pipeline"), "score", "--no-prefect"]
        begun, before = time.monotonic(), resource.getrusage(resource.RUSAGE_CHILDREN)
        (folder / "mlflow.yaml").write_text("")
        subprocess.run(
            [*command, "--model", model, "--out", folder / "out", new],
            cwd=folder,
            check=True,
            capture_output=True,
        )
        wall_s = time.monotonic() - begun
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        cpu_s = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
        report = folder / "out/new_report.html"
        print(
            f"minute: {wall_s:.0f} s on the wall (load {os.getloadavg()[0]:.1f} on "
            f"{os.cpu_count()} cores), {cpu_s:.0f} CPU s; report "
            f"{report.stat().st_size / 1e6:.1f} MB"
        )


def main() -> None:
    """What the command line asks for."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("what", choices=("ingest", "scoring", "day", "minute", "stream"))
    parser.add_argument("rest", nargs="*", help=argparse.SUPPRESS)
    parser.add_argument("--file", type=Path)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--hours", type=float, default=24.0)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--only", choices=("autoencoder", "all"))
    given = parser.parse_args()
    if "OMP_NUM_THREADS" not in os.environ:  # it counts before numpy is imported
        os.environ |= dict.fromkeys(("OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")
        os.environ["OMP_NUM_THREADS"] = "1"
        os.execv(sys.executable, [sys.executable, *sys.argv])
    if given.what == "stream":
        stream(Path(given.rest[0]), Path(given.rest[1]), given.rest[2])
    elif given.what == "day":
        what = (given.only,) if given.only else ("autoencoder", "all")
        day(given.file, given.hours, given.threads, what)
    elif given.what == "minute":
        minute(given.file)
    elif given.what == "ingest":
        ingest(given.file, given.rounds)
    else:
        scoring(given.file, given.rounds)


if __name__ == "__main__":
    main()
