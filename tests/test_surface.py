"""The public surface: what a user may rely on, and that its examples do what they show."""

from __future__ import annotations

import doctest
import importlib
import inspect
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import ae_pipeline
from ae_pipeline.config import StudyError
from ae_pipeline.data import InputError
from ae_pipeline.estimator import Autoencoder
from ae_pipeline.study import Study

ROOT = Path(__file__).resolve().parent.parent
PUBLIC = {
    "Autoencoder": Autoencoder,
    "InputError": InputError,
    "Study": Study,
    "StudyError": StudyError,
}
METHODS = {
    "decision_function",
    "fit",
    "fit_predict",
    "fit_transform",
    "get_feature_names_out",
    "get_metadata_routing",
    "get_params",
    "inverse_transform",
    "predict",
    "sample",
    "score",
    "score_samples",
    "set_output",
    "set_params",
    "transform",
}


def test_the_surface_is_exactly_this() -> None:
    assert set(ae_pipeline.__all__) == {*PUBLIC, "__version__"}
    assert {name: getattr(ae_pipeline, name) for name in PUBLIC} == PUBLIC
    assert set(ae_pipeline.__all__) <= set(dir(ae_pipeline))
    with pytest.raises(AttributeError, match="no attribute 'Autoencoders'"):
        ae_pipeline.Autoencoders  # noqa: B018


def test_the_estimator_has_these_methods_and_parameters() -> None:
    methods = {n for n, _ in inspect.getmembers(Autoencoder, callable) if not n.startswith("_")}
    assert {n for n in methods if not n.endswith("_request")} == METHODS
    assert list(inspect.signature(Autoencoder).parameters) == [
        "architecture",
        "objective",
        "latent_dim",
        "likelihood",
        "kind",
        "shape",
        "epochs",
        "batch_size",
        "learning_rate",
        "optimizer",
        "early_stopping",
        "validation_fraction",
        "contamination",
        "device",
        "random_state",
    ]


def test_the_reference_begins_with_the_surface() -> None:
    page = (ROOT / "docs/reference/api.md").read_text(encoding="utf-8")
    public, internal = page.split("## Internal modules")
    for name in PUBLIC:
        assert f"ae_pipeline.{name}" in public
        assert f":: ae_pipeline.{name}" not in internal


def examples() -> dict[str, doctest.DocTest]:
    """Every docstring of the surface that has an example, its own methods among them."""
    finder = doctest.DocTestFinder()
    found: list[doctest.DocTest] = finder.find(ae_pipeline, "ae_pipeline", ae_pipeline, globs={})
    for name, thing in PUBLIC.items():
        module: Any = importlib.import_module(thing.__module__)
        found += finder.find(thing, name, module, globs={name: thing})
    return {test.name: test for test in found if test.examples}


EXAMPLES = examples()


@pytest.mark.parametrize("name", EXAMPLES)
def test_the_example_does_what_it_shows(name: str) -> None:
    said: list[str] = []
    flags = doctest.NORMALIZE_WHITESPACE
    result = doctest.DocTestRunner(optionflags=flags).run(EXAMPLES[name], out=said.append)
    assert result.failed == 0, "".join(said)


def test_everything_public_has_an_example() -> None:
    own = {n for n, thing in vars(Autoencoder).items() if n[0] != "_" and inspect.isfunction(thing)}
    assert set(EXAMPLES) >= {*PUBLIC, "ae_pipeline", *(f"Autoencoder.{n}" for n in own)}


def test_each_name_loads_no_more_than_it_needs() -> None:
    code = (
        "import sys, ae_pipeline; ae_pipeline.Study; ae_pipeline.InputError; "
        "ae_pipeline.StudyError; print(*sys.modules)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT
    )
    assert {"torch", "mne", "mlflow", "prefect", "sklearn"}.isdisjoint(done.stdout.split())
