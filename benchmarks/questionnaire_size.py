"""Seconds and memory of ``train`` and ``score`` on a questionnaire of many people.

    python benchmarks/questionnaire_size.py                          20,000 people, 50 items
    python benchmarks/questionnaire_size.py --people 1000000 --items 30     minutes

Ordinal answers (1 to 5) of five correlated factors, some items turned round, 2% missing, 7% of the
people careless in one of three ways. The real commands run in processes of their own on the study
that ``init`` proposes.
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
import pandas as pd

ROOT = Path(__file__).resolve().parent.parent
N_FACTORS = 5
AT_ONCE = 100_000


def write(place: Path, n_people: int, n_items: int) -> None:
    """A table of answers, a part of the people at a time."""
    rng = np.random.default_rng(0)
    factor = np.arange(n_items) % N_FACTORS
    load = rng.uniform(0.45, 0.75, n_items) * np.where(rng.random(n_items) < 0.3, -1, 1)
    root = np.linalg.cholesky(np.full((N_FACTORS, N_FACTORS), 0.2) + 0.8 * np.eye(N_FACTORS))
    cuts = np.linspace(-1.4, 1.2, 4)
    for start in range(0, n_people, AT_ONCE):
        n = min(AT_ONCE, n_people - start)
        common = (rng.standard_normal((n, N_FACTORS)) @ root.T)[:, factor] * load
        wish = common + rng.standard_normal((n, n_items)) * np.sqrt(1 - load**2)
        answers = 1 + np.searchsorted(cuts, wish)
        kind = rng.random(n)
        anything = rng.integers(1, 6, (n, n_items))
        answers[kind < 0.03] = anything[kind < 0.03]
        straight = (kind >= 0.03) & (kind < 0.05)
        answers[straight] = anything[straight, :1]
        begins = rng.integers(n_items // 3, n_items, n)
        later = ((kind >= 0.05) & (kind < 0.07))[:, None] & (np.arange(n_items) >= begins[:, None])
        answers[later] = anything[later]
        table = pd.DataFrame(answers, columns=[f"q{j:02d}" for j in range(n_items)])
        table = table.mask(rng.random(table.shape) < 0.02).astype("Int8")
        table.insert(0, "id", [f"p{start + i:07d}" for i in range(n)])
        table["age"] = rng.integers(16, 80, n)
        table.to_csv(place, index=False, mode="a", header=not start)


def timed(place: Path, *command: str) -> tuple[float, float]:
    """Seconds of a command, and gigabytes that it held at most."""
    began = time.monotonic()
    with (place / "log").open("wb") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "ae_pipeline", *command],
            cwd=place,
            stdout=log,
            stderr=log,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
        )
        _, status, used = os.wait4(process.pid, 0)
    if status:
        raise SystemExit(f"{command[0]}: {(place / 'log').read_text()[-3000:]}")
    return time.monotonic() - began, used.ru_maxrss / 2**20


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--people", type=int, default=20_000)
    parser.add_argument("--items", type=int, default=50)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        place = Path(name)
        (place / "mlflow.yaml").touch()
        write(place / "answers.csv", given.people, given.items)
        timed(place, "init", "questionnaire", "answers.csv", "-o", "study.yaml")
        study = (place / "study.yaml").read_text()
        ordered = study.replace("presentation_order: null", 'presentation_order: ["*"]')
        (place / "study.yaml").write_text(ordered)
        print(f"{given.people:,} people, {given.items} items")
        print("| | seconds | held at most |\n|---|---|---|")
        for command in (
            ("train", "study.yaml", "--out", "run"),
            ("score", "--model", "run/model", "--out", "scored", "answers.csv"),
        ):
            seconds, held = timed(place, *command)
            print(f"| {command[0]} | {seconds:.0f} | {held:.1f} GB |", flush=True)


if __name__ == "__main__":
    main()
