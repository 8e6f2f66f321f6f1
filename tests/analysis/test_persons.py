"""Tables about persons and items: harmless to open, and true."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import pytest
from respondents import N_ITEMS, careless, people, trained

from ae_pipeline.analysis import persons
from ae_pipeline.detectors import personfit
from ae_pipeline.jobs.job import run_plainly
from ae_pipeline.jobs.train import train_job
from ae_pipeline.runtime.files import harmless


@pytest.mark.parametrize("start", ["=", "+", "-", "@", "\t", " ="])
def test_no_cell_runs_as_a_formula(start: str) -> None:
    frame = pd.DataFrame({f"{start}name": [f"{start}1+1", "fine", None], "number": [-1.0, 2, 3]})
    safe = harmless(frame)
    assert safe.iloc[0, 0] == f"'{start}1+1"
    assert safe.iloc[1, 0] == "fine"
    assert pd.isna(safe.iloc[2, 0])
    assert safe.columns[0].startswith("'")
    assert safe["number"].tolist() == [-1, 2, 3]


def test_rates_of_flags_are_counted_by_group_and_quarter() -> None:
    n = 400
    rng = np.random.default_rng(0)
    frame = pd.DataFrame({"score": rng.random(n), "group_gender": np.repeat([1, 2], n // 2)})
    frame["group_age"] = np.arange(n) % 80 + 6
    frame["flagged"] = (frame["group_gender"] == 2) & (np.arange(n) % 4 == 0)
    rates = persons.flag_rates(frame)
    gender = rates[rates["by"] == "gender"].set_index("value")
    assert gender.loc["1", "share_flagged"] == 0
    assert gender.loc["2", "share_flagged"] == pytest.approx(0.25)
    assert gender.loc["2", "low"] < 0.25 < gender.loc["2", "high"]
    age = rates[rates["by"] == "age"]
    assert len(age) == persons.N_GROUPS
    assert age["people"].sum() == n


def test_totals_are_means_after_reverse_keying_over_what_was_answered() -> None:
    samples = people(20, 3)
    totals = persons.scale_totals(samples)
    assert list(totals) == [f"{what}_S{i}" for i in range(4) for what in ("total", "sum")]
    assert samples.mask is not None
    own = samples.values[0, :5][samples.mask[0, :5]]
    assert totals["total_S0"][0] == pytest.approx(own.mean())
    n_items = sum(column.block == "S0" for column in samples.columns)
    assert totals["sum_S0"][0] == pytest.approx(own.mean() * n_items)


def test_answers_stand_beside_what_was_expected_in_the_order_people_saw_them() -> None:
    person = trained().person
    assert person is not None
    samples = careless(people(6, 4), "random")
    predictions = person.predict_answers(samples)
    frame = pd.DataFrame({"recording": samples.meta["recording"], "score": np.arange(6.0)})
    shown = persons.answers_frame(samples, predictions, frame=frame, n_shown=2)
    assert list(dict.fromkeys(shown["recording"])) == ["p5", "p4"]
    assert shown["position"][:3].is_monotonic_increasing
    first = shown.iloc[0]
    j = int(first["item"][1:])
    given = samples.values[5, j]
    assert first["answer"] == (6 - given if samples.columns[j].reverse else given)
    assert first["probability"] == pytest.approx(np.exp(-first["surprise"]), abs=2e-3)


def test_items_that_ask_the_same_or_go_with_nothing_are_remarked() -> None:
    person = trained().person
    assert person is not None
    samples = people(300, 5)
    values = samples.values.copy()
    values[:, 1] = values[:, 0]
    values[:, 19] = np.random.default_rng(0).integers(1, 6, 300)
    from dataclasses import replace

    mask = np.ones(values.shape, bool)
    values = np.where(values == 0, 3, values)
    values[:, 1] = values[:, 0]
    samples = replace(samples, values=values, mask=mask)
    latents = np.random.default_rng(1).standard_normal((300, 4)).astype(np.float32)
    latents[:, 2] = values[:, 5]
    items = persons.items_frame(samples, person.predict_answers(samples), latents=latents)
    assert len(items) == N_ITEMS
    assert items["nearest_item"][0] == "I01"
    assert "asks the same as I01" in items["remark"][0]
    assert "goes with no other item" in items["remark"][19]
    assert items["latent"][5] == "z02"
    assert items["latent_r"][5] == pytest.approx(1)


def test_a_person_has_indices_groups_and_totals() -> None:
    person = trained().person
    assert person is not None
    samples = people(30, 6)
    samples.meta["age"] = 30
    source = SimpleNamespace(groups=None)
    frame = persons.persons_frame(
        person, samples, source=source, predictions=person.predict_answers(samples)
    )
    wanted = {
        "index_longstring",
        "index_irv",
        "index_mahalanobis",
        "index_lz",
        "index_person_total",
    }
    assert wanted | {"onset_item", "group_age", "total_S0"} <= set(frame)
    assert len(frame) == 30


def test_a_part_of_the_people_at_a_time_comes_to_the_same_as_all_at_once(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    person = trained().person
    assert person is not None
    samples = people(120, 7)
    frame = pd.DataFrame({"recording": samples.meta["recording"], "score": np.arange(120.0)})
    latents = np.random.default_rng(1).standard_normal((120, 4)).astype(np.float32)
    source = SimpleNamespace(groups=None)

    def everything() -> list[Any]:
        surprise, views = person.surprise_and_views(samples)
        return [
            surprise,
            *views.values(),
            *persons.describe(person, samples, source=source, frame=frame, latents=latents),
        ]

    whole = everything()
    monkeypatch.setattr(personfit, "CHUNK", 17)
    for module in (personfit, persons):
        monkeypatch.setattr(module, "MANY_ROWS", 50)
    for one, parts in zip(whole, everything(), strict=True):
        if isinstance(one, pd.DataFrame):
            pd.testing.assert_frame_equal(one, parts, rtol=1e-4, atol=1e-5)
        else:
            np.testing.assert_allclose(one, parts, rtol=1e-4, atol=1e-5)


def test_answers_in_a_small_part_of_a_continuous_range_are_told_apart(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    drawn = rng.normal(size=(150, 1)) + 0.7 * rng.normal(size=(150, 6))
    frame = pd.DataFrame(np.digitize(drawn, [-1, 0, 1, 2]), columns=[f"a{i}" for i in range(6)])
    frame["a5"] = 0  # one answer only
    frame.insert(0, "id", range(150))
    frame.to_csv(tmp_path / "q.csv", index=False)
    (tmp_path / "study.yaml").write_text(
        "study: sliders\n"
        "source: {kind: questionnaire, path: q.csv, id_column: id,"
        " items: [{items: 'a*', range: [0, 100], scale: a}]}\n"
        "model: {architecture: {kind: dense, hidden: [8]}, objective: {kind: masked},"
        " latent_dim: 2}\n"
        "training: {epochs: 2}\n"
        "detection: {trim: 0.1}\n"
    )
    run_plainly(train_job(tmp_path / "study.yaml", out=tmp_path / "trained"))
    items = pd.read_csv(tmp_path / "trained" / "items.csv", keep_default_na=False)
    only = items["remark"].str.startswith("one answer only")
    assert items["item"][only].tolist() == ["a5"]
    told = json.loads((tmp_path / "trained" / "items.json").read_text())
    assert set(told) == set(items)
