"""Does a flag mean what it says? Fresh simulations through the package's own calibration.

Scores are simulated, everything after them is the real thing
(``ae_pipeline.detectors.calibration``). A window's score is ``exp(level + spread * noise)``:
subjects differ in level and spread, recordings of one subject resemble each other, and the noise
of neighbouring windows is correlated (0.9), as that of overlapping windows is. Every simulation
draws new subjects for calibration and for the batch that is judged. What is claimed is a mean over
simulations, so that is what is tested: one- sided, simulations as the unit; "held" unless the mean
lies above the claim with p < 0.01.

    python benchmarks/calibration.py               500 simulations (some CPU minutes)
    python benchmarks/calibration.py --quick       100 of them
    python benchmarks/calibration.py --views       the default detector against each of its views
    python benchmarks/calibration.py --eeg FOLDER  real recordings, every subject left out in turn
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.signal import lfilter
from scipy.stats import t as student

from ae_pipeline.detectors.calibration import Calibration, Detection
from ae_pipeline.detectors.conformal import adjusted, conformal_p
from ae_pipeline.detectors.events import find_events

Float = NDArray[np.float64]
Figures = dict[str, float]
Simulation = Callable[[np.random.Generator], Figures]

LEVELS = (0.01, 0.05, 0.1)
ERROR_RATES = (0.05, 0.1)
GRID = np.geomspace(0.001, 0.6, 40)
LENGTH_S, STRIDE_S = 2.0, 1.0
ALARMS_PER_HOUR = 6.0
HELD_P = 0.01


# ------------------------------------------------------------------------------ simulation


@dataclass(frozen=True)
class World:
    """How log scores vary: standard deviations of subjects, recordings and windows.

    ``spread`` is how much subjects differ in ``noise``; windows of 2 s come once a second, two
    minutes of them a recording.
    """

    subject: float = 0.5
    recording: float = 0.15
    noise: float = 0.4
    spread: float = 0.25
    correlation: float = 0.9
    n_windows: int = 120

    def recordings(
        self, rng: np.random.Generator, n_subjects: int, each: int = 1, n_odd: int = 0
    ) -> pd.DataFrame:
        """Windows of recordings; the first ``n_odd`` of them hold bursts of large scores."""
        n, m = n_subjects * each, self.n_windows
        level = np.repeat(rng.normal(0, self.subject, n_subjects), each)
        level = level + rng.normal(0, self.recording, n)
        spread = np.repeat(self.noise * np.exp(rng.normal(0, self.spread, n_subjects)), each)
        steps = rng.normal(size=(n, m))
        steps[:, 1:] *= np.sqrt(1 - self.correlation**2)  # the first has the lasting variance
        noise = lfilter([1.0], [1.0, -self.correlation], steps, axis=1)
        bursts = np.zeros((n, m))
        for row in range(n_odd):
            for start in rng.integers(0, m, size=3):
                bursts[row, start : start + 6] = 2.5
        return pd.DataFrame(
            {
                "recording": np.repeat(np.arange(n), m),
                "subject": np.repeat(np.arange(n_subjects), each * m),
                "onset_s": np.tile(np.arange(m) * STRIDE_S, n),
                "duration_s": LENGTH_S,
                "score": np.exp(level[:, None] + spread[:, None] * noise + bursts).ravel(),
            }
        )


def rows(rng: np.random.Generator, n: int, n_odd: int = 0) -> Float:
    """Scores of respondents or images, heavy-tailed; the first ``n_odd`` are abnormal."""
    scores = np.exp(rng.standard_t(5, n))
    scores[:n_odd] *= np.exp(rng.normal(6, 1, n_odd))
    return scores


def calibrate(frame: pd.DataFrame, unit: str = "subject") -> Calibration:
    return Calibration.from_frame(frame, np.zeros((len(frame), 0), np.float32), unit=unit)


def calibrate_rows(scores: Float) -> Calibration:
    return calibrate(pd.DataFrame({"recording": range(len(scores)), "score": scores}), "row")


def windows_of(frame: pd.DataFrame) -> Float:
    """Scores by (recording, window)."""
    return frame["score"].to_numpy().reshape(frame["recording"].nunique(), -1)


def p_values(calibration: Calibration, frame: pd.DataFrame) -> Float:
    """Of each recording."""
    scores = map(calibration.recording_score, windows_of(frame))
    return np.array([calibration.recording_p(score) for score in scores])


def hours_each(frame: pd.DataFrame) -> float:
    return float(frame["onset_s"].max() + LENGTH_S) / 3600


def count_alarms(frame: pd.DataFrame, threshold: float) -> NDArray[np.int64]:
    """Events of each recording."""
    scores = windows_of(frame)
    onset = np.arange(scores.shape[1]) * STRIDE_S
    duration = np.full(scores.shape[1], LENGTH_S)
    return np.array(
        [len(find_events(onset, duration, scores=each, threshold=threshold)) for each in scores]
    )


def simulate(n: int, one: Simulation, seed: int = 0) -> pd.DataFrame:
    """A row of figures for each simulation, each from a generator of its own."""
    seeds = np.random.SeedSequence(seed).spawn(n)
    return pd.DataFrame([one(np.random.default_rng(each)) for each in seeds])


def chance_below(values: pd.Series, claim: float) -> float:
    """One-sided p of a mean over simulations as far above the claim, were the claim true."""
    error = values.sem()
    if error == 0:
        return float(values.mean() <= claim)
    return float(student.sf((values.mean() - claim) / error, len(values) - 1))


# --------------------------------------------------------------------------------- studies


def shares(p: Float, levels: Sequence[float] = LEVELS) -> Figures:
    """Share of p-values at or under each level."""
    return {f"p <= {a:g}": float((p <= a).mean()) for a in levels}


def discoveries(flagged: NDArray[np.bool_], n_odd: int) -> tuple[float, float]:
    """False discovery proportion; share of the abnormal (the first ``n_odd``) that are flagged."""
    false = flagged[n_odd:].sum() / max(1, flagged.sum())
    return float(false), float(flagged[:n_odd].mean())


def corrected(p: Float, n_odd: int) -> Figures:
    """What each correction makes of a batch."""
    figures = {}
    for name, dependence in (("BH", "positive"), ("BY", "any")):
        q = adjusted(p, dependence)
        for rate in ERROR_RATES:
            false, power = discoveries(q <= rate, n_odd)
            figures |= {f"FDP {name} {rate:g}": false, f"power {name} {rate:g}": power}
    return figures


def judge_recordings(
    rng: np.random.Generator,
    n_subjects: int,
    each: int = 1,
    world: World | None = None,
    n_odd: int = 0,
    fresh: World | None = None,
    fresh_each: int = 1,
    levels: Sequence[float] = LEVELS,
) -> Figures:
    """A hundred recordings of fresh subjects against ``each`` of every calibration subject."""
    world = world or World()
    calibration = calibrate(world.recordings(rng, n_subjects, each))
    p = p_values(
        calibration, (fresh or world).recordings(rng, 100 // fresh_each, fresh_each, n_odd)
    )
    return shares(p[n_odd:], levels) | (corrected(p, n_odd) if n_odd else {})


def judge_rows(
    rng: np.random.Generator, n_calibration: int, n_odd: int = 0, batch: int = 200
) -> Figures:
    """Respondents or images, each for itself."""
    calibration = calibrate_rows(rows(rng, n_calibration))
    p = conformal_p(rows(rng, batch, n_odd), calibration.scores["score"])
    return shares(p[n_odd:]) | (corrected(p, n_odd) if n_odd else {})


def left_out_in_turn(
    rng: np.random.Generator, n_subjects: int, each: int, levels: Sequence[float]
) -> Figures:
    """Few subjects: calibration scores come from models without the subject, new ones from all.

    The model is the mean feature vector of its subjects; a score is the distance from it.
    """

    def features(n: int, per: int) -> Float:
        subject = np.repeat(rng.normal(size=(n, 1, 4)), per, 0)
        return subject + 0.3 * rng.normal(size=(n * per, 1, 4)) + rng.normal(size=(n * per, 40, 4))

    own, new = features(n_subjects, each), features(50, 1)
    subject = np.repeat(np.arange(n_subjects), each)
    without = np.array([own[subject != one].mean((0, 1)) for one in subject])
    scores = ((own - without[:, None]) ** 2).sum(2)
    frame = pd.DataFrame(
        {
            "recording": np.repeat(np.arange(len(own)), 40),
            "subject": np.repeat(subject, 40),
            "onset_s": np.tile(np.arange(40) * STRIDE_S, len(own)),
            "duration_s": LENGTH_S,
            "score": scores.ravel(),
        }
    )
    total = ((new - own.mean((0, 1))) ** 2).sum(2)
    calibration = calibrate(frame)
    fresh = map(calibration.recording_score, total)
    return shares(np.array([calibration.recording_p(score) for score in fresh]), levels)


def each_its_own_voice(
    rng: np.random.Generator, n_subjects: int, each: int, world: World, levels: Sequence[float]
) -> Figures:
    """Several recordings a subject, each wrongly taken for a unit of its own."""
    calibration = calibrate(world.recordings(rng, n_subjects, each), "recording")
    return shares(p_values(calibration, world.recordings(rng, 100)), levels)


def blocks_of_one_subject(
    rng: np.random.Generator, n_windows: int, n_recordings: int, levels: Sequence[float]
) -> Figures:
    """One subject: a quarter of 24 blocks of each recording calibrates whole new recordings."""
    world = World(subject=0, spread=0, n_windows=n_windows)
    frame = world.recordings(rng, 1, n_recordings)
    length_s = n_windows * STRIDE_S / 24
    chosen = np.array([rng.permutation(24) < 6 for _ in range(n_recordings)])
    block = (frame["onset_s"] // length_s).astype(int)
    inside = frame["onset_s"] % length_s <= length_s - LENGTH_S
    kept = frame[chosen[frame["recording"], block] & inside].reset_index(drop=True)
    return shares(p_values(calibrate(kept, "block"), world.recordings(rng, 50)), levels)


def judge_windows(rng: np.random.Generator, n_subjects: int) -> Figures:
    """What is promised for windows (events an hour) and what is not (their p-values)."""
    own, fresh = World().recordings(rng, n_subjects), World().recordings(rng, 200)
    calibration, hours = calibrate(own), hours_each(fresh)
    threshold = calibration.event_threshold(ALARMS_PER_HOUR)
    counts = count_alarms(fresh, threshold)
    rate = float(counts.mean()) / hours
    left_out, low, high = calibration.alarm_rate(ALARMS_PER_HOUR)
    detection = Detection(false_alarms_per_hour=ALARMS_PER_HOUR)
    tops = windows_of(fresh).max(1)
    verdicts = [
        calibration.compare_events(int(n), hours, top=float(top), detection=detection).kind
        != "usual_events"
        for n, top in zip(counts[:50], tops, strict=False)
    ]
    p = conformal_p(windows_of(fresh), calibration.scores["score"])
    figures = {
        "calibration": float(calibration.alarms(threshold).mean()) / hours,
        "left out": left_out,
        "fresh": rate,
        "within interval": float(low <= rate <= high),
        "above interval": float(rate > high),
        "more than twice": float((counts / hours > 2 * ALARMS_PER_HOUR).mean()),
        "unexplained": float(np.mean(verdicts)),
        "any q <= 0.1": float(np.mean([(adjusted(each) <= 0.1).any() for each in p[:50]])),
    }
    for a in LEVELS:
        figures[f"p <= {a:g}"] = float((p <= a).mean())
        figures[f"twice {a:g}"] = float(((p <= a).mean(1) > 2 * a).mean())
    return figures


def trade_off(rng: np.random.Generator, shares_odd: Sequence[float], windowed: bool) -> Figures:
    """False discovery proportion and power, of both ways to flag, over a grid of levels.

    The share of abnormal ones in the batch is one of those given, and nobody knows which.
    """
    n_odd = round(100 * rng.choice(shares_odd))
    if windowed:
        calibration = calibrate(World().recordings(rng, 1000))
        reference = calibration.recording_scores
        batch = windows_of(World().recordings(rng, 100, n_odd=n_odd))
        new = np.array([calibration.recording_score(each) for each in batch])
    else:
        reference = calibrate_rows(rows(rng, 1000)).scores["score"]
        new = rows(rng, 100, n_odd)
    return curves(conformal_p(new, reference), n_odd) | {
        f"{what} quantile {level:g}": figure
        for level in GRID
        for what, figure in zip(
            ("FDP", "power"),
            discoveries(new > np.quantile(reference, 1 - level), n_odd),
            strict=True,
        )
    }


def curves(p: Float, n_odd: int) -> Figures:
    """False discovery proportion and power of Benjamini-Hochberg over the grid of levels."""
    q = adjusted(p)
    figures = {}
    for level in GRID:
        false, power = discoveries(q <= level, n_odd)
        figures |= {f"FDP BH {level:g}": false, f"power BH {level:g}": power}
    return figures


def power_at(means: Mapping[str, float], name: str, wanted: float) -> tuple[float, float]:
    """Level at which the mean false discovery proportion is as wanted, and the power there."""
    false = np.maximum.accumulate([means[f"FDP {name} {level:g}"] for level in GRID])
    power = [means[f"power {name} {level:g}"] for level in GRID]
    if not false[0] <= wanted <= false[-1]:
        return float("nan"), float("nan")
    return (
        float(np.interp(wanted, false, GRID)),
        float(np.interp(wanted, false, power)),
    )


# ---------------------------------------------------------------------------------- tables


def table(head: Sequence[str], lines: Sequence[Sequence[str]]) -> str:
    parts = [f"| {' | '.join(head)} |", "|" + "---|" * len(head)]
    return "\n".join([*parts, *(f"| {' | '.join(line)} |" for line in lines), ""])


def against(values: pd.Series, claim: float) -> str:
    """Mean (standard error), and whether the claim held."""
    held = "held" if chance_below(values, claim) >= HELD_P else "**not held**"
    return f"{values.mean():.4f} ({values.sem():.4f}) {held}"


def report_p(n: int) -> None:
    print("## p-values: mean share of normal ones with p <= a (standard error)\n")
    units: dict[str, Simulation] = {
        **{
            f"recordings, {m} calibration subjects": partial(judge_recordings, n_subjects=m)
            for m in (20, 100, 400)
        },
        **{
            f"rows, {m} calibration rows": partial(judge_rows, n_calibration=m) for m in (100, 1000)
        },
    }
    lines = []
    for name, one in units.items():
        figures = simulate(n, one)
        smallest = 1 / (int("".join(c for c in name if c.isdigit())) + 1)
        cells = [
            against(figures[f"p <= {a:g}"], a) if smallest <= a else "not attainable"
            for a in LEVELS
        ]
        lines.append([name, f"{smallest:.4f}", *cells])
    print(table(["unit", "smallest p", *(f"a = {a:g}" for a in LEVELS)], lines))
    print("Seven subjects, each left out in turn (a = 0.125 and 0.25 are the attainable levels):\n")
    figures = simulate(n, partial(left_out_in_turn, n_subjects=7, each=1, levels=(0.125, 0.25)))
    print(table(list(figures), [[against(figures[f"p <= {a:g}"], a) for a in (0.125, 0.25)]]))


def report_discoveries(n: int) -> None:
    print("## False discoveries: mean false discovery proportion where a tenth is abnormal\n")
    units: dict[str, Simulation] = {
        "100 recordings, 100 calibration subjects": partial(
            judge_recordings, n_subjects=100, n_odd=10
        ),
        "100 recordings, 1000 calibration subjects": partial(
            judge_recordings, n_subjects=1000, n_odd=10
        ),
        "100 recordings, two of each subject; 1000 subjects": partial(
            judge_recordings, n_subjects=1000, n_odd=10, fresh_each=2
        ),
        "200 rows, 1000 calibration rows": partial(judge_rows, n_calibration=1000, n_odd=20),
        "200 rows, 5000 calibration rows": partial(judge_rows, n_calibration=5000, n_odd=20),
    }
    lines = []
    for name, one in units.items():
        figures = simulate(n, one)
        for rate in ERROR_RATES:
            cells = [name, f"{rate:g}"]
            for method in ("BH", "BY"):
                cells.append(against(figures[f"FDP {method} {rate:g}"], rate))
                cells.append(f"{figures[f'power {method} {rate:g}'].mean():.2f}")
            lines.append(cells)
    head = ["batch", "q", "Benjamini-Hochberg", "power", "Benjamini-Yekutieli", "power"]
    print(table(head, lines))


def report_units(n: int) -> None:
    print("## What is not exchangeable: the claim tested where it may not hold\n")
    alike = World(subject=1, recording=0.02, noise=0.1, spread=0.05)
    lines = []
    for m, levels in ((10, (0.05, 0.1)), (50, (0.01, 0.1))):
        for name, world in (("", World()), (" that resemble each other", alike)):
            units: dict[str, Simulation] = {
                "one voice a subject (ours)": partial(
                    judge_recordings, n_subjects=m, each=2, world=world, levels=levels
                ),
                "each recording a voice": partial(
                    each_its_own_voice, n_subjects=m, each=2, world=world, levels=levels
                ),
            }
            for how, one in units.items():
                figures = simulate(n, one)
                what = f"{m} subjects, two recordings each{name}; {how}"
                lines += [[what, f"{a:g}", against(figures[f"p <= {a:g}"], a)] for a in levels]
    for n_windows in (40, 360, 1200):
        fresh = World(n_windows=n_windows)
        figures = simulate(n, partial(judge_recordings, n_subjects=100, fresh=fresh))
        what = f"new recordings {n_windows / 120:.2g} times as long as those of calibration"
        lines += [[what, f"{a:g}", against(figures[f"p <= {a:g}"], a)] for a in (0.05, 0.1)]
    for n_windows, n_recordings in ((180, 4), (600, 4), (1800, 4)):
        figures = simulate(
            n,
            partial(
                blocks_of_one_subject,
                n_windows=n_windows,
                n_recordings=n_recordings,
                levels=(0.1, 0.2),
            ),
        )
        what = f"one subject, blocks of {n_recordings} recordings of {n_windows // 60} min"
        lines += [[what, f"{a:g}", against(figures[f"p <= {a:g}"], a)] for a in (0.1, 0.2)]
    print(table(["calibration", "a", "share with p <= a"], lines))


def report_windows(n: int) -> None:
    print(f"## Windows: {ALARMS_PER_HOUR:g} false alarms an hour wanted\n")
    lines, naive = [], []
    for m in (10, 20, 50, 100, 200):
        figures = simulate(n, partial(judge_windows, n_subjects=m))
        mean, fresh = figures.mean(), figures["fresh"]
        lines.append(
            [
                f"{m} ({m * hours_each(World().recordings(np.random.default_rng(0), 1)):.1f} h)",
                f"{mean['calibration']:.2f}",
                f"{mean['left out']:.2f}",
                against(fresh, ALARMS_PER_HOUR),
                f"{fresh.quantile(0.05):.1f} to {fresh.quantile(0.95):.1f}",
                f"{mean['within interval']:.0%}; {mean['above interval']:.0%} above",
                f"{mean['more than twice']:.1%}",
                f"{mean['unexplained']:.1%}",
            ]
        )
        cells = []
        for a in LEVELS:
            cells += [against(figures[f"p <= {a:g}"], a), f"{mean[f'twice {a:g}']:.1%}"]
        naive.append([str(m), *cells, f"{mean['any q <= 0.1']:.1%}"])
    head = ["calibration subjects", "on calibration", "each left out", "new recordings, mean"]
    head += ["5% to 95% of simulations", "interval holds that of new ones"]
    head += ["new recordings with more than twice", "verdict unexplained"]
    print(table(head, lines))
    print("p-values of windows against all calibration windows, which nothing is promised for:\n")
    head = ["calibration subjects"]
    for a in LEVELS:
        head += [f"windows with p <= {a:g}", f"recordings with more than {2 * a:g} of them"]
    print(table([*head, "recordings with a window of q <= 0.1"], naive))


def report_power(n: int) -> None:
    print("## Power at equal realised false discovery proportion\n")
    print("BH against flagging what lies above a quantile of the calibration scores (1000 units,")
    print("batches of 100), set afterwards so that both realise the same; in lines with several")
    print("shares a batch has one of them, and nobody knows which.\n")
    lines, fixed = [], []
    mixed = (0.02, 0.1, 0.3)
    batches = [(False, (0.02,)), (False, (0.1,)), (False, (0.3,)), (False, mixed)]
    for windowed, given in [*batches, (True, (0.1,)), (True, mixed)]:
        means = simulate(n, partial(trade_off, shares_odd=given, windowed=windowed)).mean()
        start = ["recordings" if windowed else "rows", " or ".join(f"{x:.0%}" for x in given)]
        for wanted in (0.05, 0.1):
            level, quantile = power_at(means, "quantile", wanted)
            power = f"{power_at(means, 'BH', wanted)[1]:.2f}"
            lines.append([*start, f"{wanted:g}", power, f"{quantile:.2f}", f"{1 - level:.4f}"])
        cells = []
        for name, level in (("BH", 0.1), ("quantile", 0.05), ("quantile", 0.01)):
            for what in ("FDP", "power"):
                values = [means[f"{what} {name} {each:g}"] for each in GRID]
                cells.append(f"{np.interp(level, GRID, values):.2f}")
        fixed.append([*start, *cells])
    head = [
        "batch of",
        "abnormal",
        "realised",
        "power, BH",
        "power, quantile",
        "quantile to be set",
    ]
    print(table(head, lines))
    print("The same with levels set beforehand: realised false discovery proportion, and power.\n")
    head = ["batch of", "abnormal", "BH, q 0.1", "power", "0.95 quantile", "power"]
    print(table([*head, "0.99 quantile", "power"], fixed))


# ------------------------------------------------------------------------------- real data


def report_views(n: int) -> None:
    """The default detector and each of its views, on real digits."""
    import torch

    from ae_pipeline.data import Axis, Samples
    from ae_pipeline.detectors.ensemble import Ensemble
    from ae_pipeline.models import Model
    from ae_pipeline.models.autoencoder import Autoencoder
    from ae_pipeline.models.scaler import Scaler
    from ae_pipeline.sources.images import read_idx
    from ae_pipeline.sources.sample_data import fetch
    from ae_pipeline.training.loop import Training, fit

    torch.set_num_threads(1)
    torch.manual_seed(0)
    place = fetch("mnist")

    def samples(values: NDArray[Any]) -> Samples:
        meta = pd.DataFrame({"recording": "r", "subject": "s"}, index=range(len(values)))
        values = np.ascontiguousarray(values, np.float32)
        return Samples("mnist", values, meta, (Axis("row"), Axis("column")))

    def images(part: str) -> tuple[NDArray[Any], NDArray[Any]]:
        digit = read_idx(place / f"{part}-labels-idx1-ubyte")
        return read_idx(place / f"{part}-images-idx3-ubyte") / 255, digit

    values, digit = images("train")
    known = values[digit != 0][:12_000]
    train, held = samples(known[:10_000]), samples(known[10_000:])
    content = {"architecture": {"kind": "dense", "hidden": [256]}, "objective": {"kind": "vanilla"}}
    model = Model.model_validate({**content, "latent_dim": 10})
    training = Training(epochs=15, optimizer="rmsprop", batch_size=256)
    autoencoder = Autoencoder(model, "grid", shape=(28, 28))
    fitted, _ = fit(autoencoder, train, held, Scaler.fit(train), training)
    ensemble = Ensemble.fit(fitted, train, reference=held, seed=0)

    def scores(given: Samples) -> dict[str, Float]:
        seen = ensemble.view_scores(given)
        return {"default detector": seen.total, **seen.deviations}

    values, digit = images("t10k")
    normal = scores(samples(values[digit != 0]))
    odd = {
        "a digit never seen": values[digit == 0],
        "upside down": values[digit != 0][:, ::-1],
        "half as bright": values[digit != 0] / 2,
        "a noisy pixel in ten": np.where(
            np.random.default_rng(0).random((1000, 28, 28)) < 0.1, 1 - values[:1000], values[:1000]
        ),
    }
    lines = []
    for kind, given in odd.items():
        abnormal = scores(samples(given))
        cells = []
        for name, own in normal.items():
            one = partial(_from_pools, normal=own, abnormal=abnormal[name])
            cells.append(f"{power_at(simulate(n, one).mean(), 'BH', 0.1)[1]:.2f}")
        lines.append([kind, *cells])
    print("## Power of each view where the realised false discovery proportion is 0.1\n")
    print("Real digits, 1000 of those held out to calibrate, 10 of 100 abnormal, drawn anew.\n")
    print(table(["abnormal", *normal], lines))


def _from_pools(rng: np.random.Generator, normal: Float, abnormal: Float) -> Figures:
    drawn = rng.permutation(normal)[:1090]
    new = np.append(rng.choice(abnormal, 10, replace=False), drawn[:90])
    return curves(conformal_p(new, drawn[90:]), 10)


def report_eeg(folder: Path, pattern: str, epochs: int) -> None:
    """Every subject of a folder scored by a model that was trained without it."""
    from ae_pipeline.sources import eeg

    # one subject is what init takes for one
    study_of = partial(_study, pattern=pattern)
    source = study_of(folder)["source"]
    found = eeg.find([folder], pattern, subject_pattern=source["subject_pattern"])
    subjects = sorted({item.subject for item in found})
    lines, p_values, n_alarms, hours = [], [], 0, 0.0
    for subject in subjects:
        with tempfile.TemporaryDirectory() as place:
            others = [item.path for item in found if item.subject != subject]
            own = [item.path for item in found if item.subject == subject]
            print(f"without {subject}: {len(others)} recordings", file=sys.stderr)
            recordings, smallest = _leave_out(Path(place), others, own, study_of, epochs)
        for row in recordings.itertuples():
            seconds = row.n_events / row.events_per_hour * 3600 if row.n_events else row.duration_s
            n_alarms, hours = n_alarms + int(row.n_events), hours + seconds / 3600
            p_values.append(row.p_value)
            cells = [f"{row.p_value:.3f}", f"{smallest:.3f}", f"{row.events_per_hour:.1f}"]
            lines.append([str(row.recording), *cells, str(row.verdict)])
    print(f"## Real EEG: {len(subjects)} subjects, each left out of everything in turn\n")
    print("Descriptive: few recordings, and nobody knows that all of them are normal.\n")
    print(table(["recording", "p", "smallest p", "alarms an hour", "verdict"], lines))
    p = np.array(p_values)
    for a in (0.1, 0.2, 0.5):
        print(f"p <= {a:g}: {(p <= a).mean():.2f} of {len(p)} recordings")
    print(f"{n_alarms} alarms in {hours:.2f} h: {n_alarms / hours:.1f} an hour\n")


def _study(folder: Path, pattern: str) -> dict[str, Any]:
    import yaml

    from ae_pipeline.jobs.init import initial_study

    study = yaml.safe_load(initial_study("eeg", folder, name="calibration"))
    study["source"]["pattern"] = pattern
    return study


def _leave_out(
    place: Path,
    others: Sequence[Path],
    own: Sequence[Path],
    study_of: Callable[[Path], dict[str, Any]],
    epochs: int,
) -> tuple[pd.DataFrame, float]:
    """Train on recordings, score others; the latter's rows, and the smallest p there is."""
    import yaml

    from ae_pipeline.jobs.job import run_plainly
    from ae_pipeline.jobs.score import score_job
    from ae_pipeline.jobs.train import train_job
    from ae_pipeline.scoring.bundle import load

    links = place / "recordings"
    links.mkdir()
    for path in others:
        for member in path.parent.glob(f"{path.stem}.*"):  # headers have their data beside them
            (links / member.name).symlink_to(member.resolve())
    study = study_of(links)
    rate = min(100.0, study["preprocess"]["sfreq_hz"])
    study["preprocess"] |= {"sfreq_hz": rate, "low_pass_hz": min(40.0, 0.4 * rate)}
    study["windows"] = {"length_s": LENGTH_S, "stride_s": STRIDE_S}
    study["model"] = {"architecture": {"kind": "dense", "hidden": [64]}, "latent_dim": 8}
    study["training"] = {"epochs": epochs, "early_stopping": None, "device": "cpu"}
    study["detection"] = {"false_alarms_per_hour": ALARMS_PER_HOUR}
    (place / "study.yaml").write_text(yaml.safe_dump(study))
    run_plainly(train_job(place / "study.yaml", place / "trained"))
    job = score_job(str(place / "trained/model"), [str(path) for path in own], out=place / "scored")
    run_plainly(job)
    smallest = load(place / "trained/model").calibration.smallest_p
    return pd.read_parquet(place / "scored/recordings.parquet"), smallest


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--quick", action="store_true", help="100 simulations instead of 500")
    parser.add_argument("--views", action="store_true", help="only this, on real digits")
    parser.add_argument("--eeg", type=Path, metavar="FOLDER", help="only this, on real recordings")
    parser.add_argument("--pattern", default="**/*", help="which files of the folder")
    parser.add_argument("--epochs", type=int, default=5)
    given = parser.parse_args()
    n = 100 if given.quick else 500
    if given.eeg:
        with tempfile.TemporaryDirectory() as home:  # nothing of this belongs among real runs
            os.environ["MLFLOW_TRACKING_URI"] = f"sqlite:///{home}/mlflow.db"
            os.environ["AE_PIPELINE_CACHE"] = f"{home}/cache"
            report_eeg(given.eeg, given.pattern, given.epochs)
    elif given.views:
        report_views(n)
    else:
        print(f"{n} simulations, fixed seed\n")
        for report in (report_p, report_discoveries, report_units, report_windows, report_power):
            report(n)


if __name__ == "__main__":
    main()
