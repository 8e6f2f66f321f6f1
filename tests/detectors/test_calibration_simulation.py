"""What is claimed of p, q and alarms, on fresh simulations; more of them in ``benchmarks``.

Means over simulations are tested one-sided with simulations as the unit. Seeds are fixed.
"""

from __future__ import annotations

import importlib.util
import sys
from functools import partial
from pathlib import Path
from types import ModuleType

import numpy as np
import pandas as pd
import pytest

FILE = Path(__file__).resolve().parents[2] / "benchmarks" / "calibration.py"
N = 200


@pytest.fixture(scope="module")
def bench() -> ModuleType:
    spec = importlib.util.spec_from_file_location("calibration_benchmark", FILE)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    return module


def held(bench: ModuleType, values: pd.Series, claim: float) -> bool:
    return bool(bench.chance_below(values, claim) >= bench.HELD_P)


def test_the_test_itself_tells_a_broken_claim_from_one_that_holds(bench: ModuleType) -> None:
    shares = pd.Series(np.random.default_rng(0).binomial(50, 0.05, N) / 50)
    assert held(bench, shares, 0.05)
    assert not held(bench, shares, 0.04)


@pytest.mark.parametrize("n_subjects", [20, 100])
def test_normal_recordings_have_small_p_no_more_often_than_said(
    bench: ModuleType, n_subjects: int
) -> None:
    figures = bench.simulate(N, partial(bench.judge_recordings, n_subjects=n_subjects))
    for a in (0.01, 0.05, 0.1):
        attainable = np.floor(a * (n_subjects + 1)) / (n_subjects + 1)
        shares = figures[f"p <= {a:g}"]
        assert held(bench, shares, a)
        assert shares.mean() >= attainable - 4 * shares.sem()  # and no less often than they can


def test_normal_rows_have_small_p_no_more_often_than_said(bench: ModuleType) -> None:
    figures = bench.simulate(N, partial(bench.judge_rows, n_calibration=200))
    for a in (0.01, 0.05, 0.1):
        assert held(bench, figures[f"p <= {a:g}"], a)


def test_few_subjects_left_out_in_turn_keep_the_share_of_small_p(bench: ModuleType) -> None:
    levels = (0.125, 0.25)
    one = partial(bench.left_out_in_turn, n_subjects=7, each=1, levels=levels)
    figures = bench.simulate(N, one)
    for a in levels:
        assert held(bench, figures[f"p <= {a:g}"], a)


@pytest.mark.parametrize("kind", ["recordings", "rows"])
def test_the_share_of_false_discoveries_is_no_larger_than_asked_for(
    bench: ModuleType, kind: str
) -> None:
    one = (
        partial(bench.judge_recordings, n_subjects=200, n_odd=30)
        if kind == "recordings"
        else partial(bench.judge_rows, n_calibration=1000, n_odd=20)
    )
    figures = bench.simulate(N, one)
    for method in ("BH", "BY"):
        for rate in bench.ERROR_RATES:
            assert held(bench, figures[f"FDP {method} {rate:g}"], rate)
    assert figures["FDP BH 0.1"].mean() > 0.04  # and not by flagging nothing
    assert figures["power BH 0.1"].mean() > 0.8


def test_recordings_of_one_subject_count_as_little_more_than_one(bench: ModuleType) -> None:
    # two recordings that hardly differ: the smallest p cannot be smaller than subjects allow
    alike = bench.World(subject=1, recording=0.02, noise=0.1, spread=0.05)
    one = partial(bench.judge_recordings, n_subjects=50, each=2, world=alike, levels=(0.01, 1 / 51))
    figures = bench.simulate(N, one)
    assert held(bench, figures[f"p <= {1 / 51:g}"], 1 / 51)
    assert held(bench, figures["p <= 0.01"], 0.01)
    each = partial(bench.each_its_own_voice, n_subjects=50, each=2, world=alike, levels=(0.01,))
    assert not held(bench, bench.simulate(N, each)["p <= 0.01"], 0.01)


def test_blocks_of_one_subject_judge_longer_recordings_fairly(bench: ModuleType) -> None:
    one = partial(bench.blocks_of_one_subject, n_windows=600, n_recordings=4, levels=(0.1, 0.2))
    figures = bench.simulate(N, one)
    for a in (0.1, 0.2):
        assert held(bench, figures[f"p <= {a:g}"], a)


@pytest.mark.parametrize("n_subjects", [50])
def test_new_recordings_raise_no_more_alarms_than_asked_for(
    bench: ModuleType, n_subjects: int
) -> None:
    figures = bench.simulate(N, partial(bench.judge_windows, n_subjects=n_subjects))
    assert held(bench, figures["fresh"], bench.ALARMS_PER_HOUR)
    assert figures["fresh"].mean() > 1  # and not by raising none
    assert held(bench, figures["unexplained"], 0.05)
    assert figures["above interval"].mean() < 0.05


def alarms(bench: ModuleType, rng: np.random.Generator, left_out: bool) -> dict[str, float]:
    """Alarms an hour of recordings judged by twenty others."""
    frame = bench.World().recordings(rng, 21)
    hours, rates = bench.hours_each(frame), []
    for one in range(21) if left_out else (20,):
        own = frame["recording"] == one
        if left_out:
            limit = bench.calibrate(frame).event_threshold(bench.ALARMS_PER_HOUR, without=one)
        else:
            others = bench.calibrate(frame[~own].reset_index(drop=True))
            limit = others.event_threshold(bench.ALARMS_PER_HOUR)
            assert others.false_alarms_per_hour(limit) <= bench.ALARMS_PER_HOUR
        rates.append(bench.count_alarms(frame[own], limit)[0] / hours)
    return {"rate": float(np.mean(rates))}


def test_calibration_recordings_left_out_raise_as_many_alarms_as_new_ones(
    bench: ModuleType,
) -> None:
    left = bench.simulate(60, partial(alarms, bench, left_out=True), seed=1)["rate"]
    new = bench.simulate(600, partial(alarms, bench, left_out=False), seed=2)["rate"]
    assert abs(left.mean() - new.mean()) < 3 * np.hypot(left.sem(), new.sem())


def test_windows_of_few_subjects_have_small_p_more_often_than_it_says(bench: ModuleType) -> None:
    # why nothing is promised for the p-value of a window
    def one(rng: np.random.Generator) -> dict[str, float]:
        calibration = bench.calibrate(bench.World().recordings(rng, 10))
        fresh = bench.World().recordings(rng, 50)["score"].to_numpy()
        p = bench.conformal_p(fresh, calibration.scores["score"])
        return {"share": float((p <= 0.01).mean())}

    assert not held(bench, bench.simulate(N, one)["share"], 0.015)


def test_with_few_subjects_the_rate_that_is_shown_is_the_one_to_expect(bench: ModuleType) -> None:
    # ten recordings of two minutes cannot hold 6 an hour; what they show of themselves says so
    figures = bench.simulate(N, partial(bench.judge_windows, n_subjects=10))
    assert figures["fresh"].mean() < 12
    assert held(bench, figures["fresh"] - figures["left out"], 0)
