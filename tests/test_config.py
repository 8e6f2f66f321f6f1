from __future__ import annotations

from typing import Annotated, Any, Literal

import pytest
from pydantic import Field, ValidationError, model_validator

from ae_pipeline.config import Config, StudyError, described, explain


class Dense(Config):
    kind: Literal["dense"] = "dense"
    hidden: tuple[int, ...] = (256,)


class Conv(Config):
    kind: Literal["conv"] = "conv"
    kernel: int = 7


class Item(Config):
    name: str
    range: tuple[float, float] = (1, 5)


class Model(Config):
    architecture: Annotated[Dense | Conv, Field(discriminator="kind")] = Dense()
    latent_dim: int = Field(16, gt=0)
    """How many numbers describe a sample."""
    batch_size: Literal["auto"] | int = "auto"


class Source(Config):
    items: list[str | Item] = Field(default_factory=list)
    scales: dict[str, Item] = Field(default_factory=dict)
    low_hz: float = 1
    high_hz: float | None = None

    @model_validator(mode="after")
    def _ordered(self) -> Source:
        if self.high_hz is not None and self.high_hz <= self.low_hz:
            raise ValueError("EEG pass band is empty; raise high_hz")
        return self


class Whole(Config):
    study: str
    model: Model = Model()
    source: Source | None = None


def complaint(given: Any) -> str:
    with pytest.raises(ValidationError) as caught:
        Whole.model_validate(given)
    error = explain(caught.value, Whole, where="study.yaml")
    assert isinstance(error, StudyError)
    assert "\n" not in str(error)
    return str(error)


def test_configs_are_frozen() -> None:
    with pytest.raises(ValidationError, match="frozen"):
        Model().latent_dim = 3  # type: ignore[misc]


def test_the_sentence_under_a_field_describes_it() -> None:
    assert described(Model)["latent_dim"] == "How many numbers describe a sample."


def test_a_wrong_default_is_an_error_too() -> None:
    class Wrong(Config):
        length_s: float = "long"  # type: ignore[assignment]

    with pytest.raises(ValidationError):
        Wrong()


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({"study": "a", "modle": {}}, "modle: unknown key; did you mean 'model'?"),
        (
            {"study": "a", "model": {"latent_dims": 3}},
            "model.latent_dims: unknown key; did you mean 'latent_dim'?",
        ),
        (
            {"study": "a", "model": {"zzz": 3}},
            "model.zzz: unknown key; known keys: architecture, batch_size, latent_dim",
        ),
        ({}, "study: is missing; add it"),
        (
            {"study": "a", "model": {"latent_dim": "many"}},
            "model.latent_dim: should be a valid integer, "
            "unable to parse string as an integer (given 'many')",
        ),
        (
            {"study": "a", "model": {"latent_dim": -1}},
            "model.latent_dim: should be greater than 0 (given -1)",
        ),
        (
            {"study": "a", "model": {"architecture": {"kind": "cnn"}}},
            "model.architecture.kind: 'cnn' is not known; one of 'dense', 'conv'",
        ),
        (
            {"study": "a", "model": {"architecture": {"kernel": 3}}},
            "model.architecture: needs a 'kind'",
        ),
        (
            {"study": "a", "model": 5},
            "model: should hold keys (architecture, batch_size, latent_dim) (given 5)",
        ),
        (
            {"study": "a", "source": {"low_hz": 5, "high_hz": 2}},
            "source: EEG pass band is empty; raise high_hz",
        ),
        (["a"], "should hold keys (model, source, study) (given ['a'])"),
    ],
)
def test_an_error_names_the_key_and_what_to_do(given: Any, expected: str) -> None:
    assert complaint(given) == f"study.yaml: {expected}"


def test_the_name_of_a_unions_member_is_no_part_of_a_key() -> None:
    kernel = {"kind": "conv", "kernel": "x"}
    assert "model.architecture.kernel: should be" in complaint(
        {"study": "a", "model": {"architecture": kernel}}
    )
    hint = complaint({"study": "a", "model": {"architecture": {"kind": "conv", "kernl": 3}}})
    assert hint.endswith("model.architecture.kernl: unknown key; did you mean 'kernel'?")


def test_a_hint_comes_from_the_chosen_member_of_a_union_only() -> None:
    text = complaint({"study": "a", "model": {"architecture": {"kind": "conv", "hidden": [3]}}})
    assert text.endswith("known keys: kernel, kind")


def test_alternatives_of_one_key_are_said_in_one_place() -> None:
    text = complaint({"study": "a", "model": {"batch_size": "big"}})
    assert text == (
        "study.yaml: model.batch_size: should be 'auto', or should be a valid integer, "
        "unable to parse string as an integer (given 'big')"
    )


def test_places_in_lists_and_dictionaries_are_named() -> None:
    wrong = {"name": "a", "rnage": [0, 4]}
    assert "source.scales.bfi.rnage: unknown key; did you mean 'range'?" in complaint(
        {"study": "a", "source": {"scales": {"bfi": wrong}}}
    )
    assert "source.items.1.rnage: unknown key; did you mean 'range'?" in complaint(
        {"study": "a", "source": {"items": ["x", wrong]}}
    )


def test_every_finding_is_listed() -> None:
    text = complaint({"model": {"latent_dim": 0, "oops": 1}})
    assert text.count("; ") >= 2
    for part in ("study: is missing", "model.latent_dim: should be", "model.oops: unknown"):
        assert part in text


def test_what_was_given_is_cut_where_it_is_long() -> None:
    assert len(complaint({"study": ["x" * 500]})) < 160
