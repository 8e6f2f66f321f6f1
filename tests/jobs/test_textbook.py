"""The worked example: the study is the text's, the page shows what a run came to."""

from __future__ import annotations

from html.parser import HTMLParser

import numpy as np
import pandas as pd
import torch
from textbook_view import example_view

from ae_pipeline.jobs.demo.textbook import STUDY
from ae_pipeline.models.autoencoder import Autoencoder
from ae_pipeline.report.textbook import textbook_page
from ae_pipeline.study import Study, load_study
from ae_pipeline.training.optimizer import optimizer_of
from ae_pipeline.training.split import divide


def the_study() -> Study:
    return load_study(STUDY)


def the_model() -> Autoencoder:
    return Autoencoder(the_study().model, "grid", shape=(28, 28))


def test_the_model_has_the_texts_parameters() -> None:
    model = the_model()
    counts = [sum(p.numel() for p in side.parameters()) for side in (model.encoder, model.decoder)]
    assert counts == [203_530, 204_304]
    assert sum(p.numel() for p in model.parameters()) == 407_834


def test_the_model_is_the_texts() -> None:
    model = the_model()
    kinds = [type(layer).__name__ for layer in model.encoder]
    assert kinds == ["Flatten", "Linear", "ReLU", "Linear"]
    assert model.code_activation.negative_slope == 0.3
    x = torch.rand(4, 28, 28)
    parameters = model(x)
    expected = torch.nn.functional.binary_cross_entropy(torch.sigmoid(parameters), x)
    torch.testing.assert_close(model.likelihood.loss(parameters, x), expected)
    limit = (6 / (784 + 256)) ** 0.5  # Glorot and Bengio, 2010
    weight = model.encoder[1].weight
    assert 0.99 * limit < weight.abs().max() <= limit
    assert not model.encoder[1].bias.any()


def test_training_is_the_texts() -> None:
    training = the_study().training
    optimizer = optimizer_of(training, the_model())
    assert isinstance(optimizer, torch.optim.RMSprop)
    assert {k: optimizer.defaults[k] for k in ("lr", "alpha", "eps", "momentum")} == {
        "lr": 1e-3,
        "alpha": 0.9,
        "eps": 1e-7,
        "momentum": 0,
    }
    assert (training.epochs, training.batch_size, training.early_stopping) == (50, 256, None)
    assert -(-60_000 // training.batch_size) == 235


def test_all_official_training_images_train_and_the_others_calibrate_and_test() -> None:
    sets = np.repeat(["train", "t10k"], [60_000, 10_000])
    names = np.arange(70_000).astype(str)
    meta = pd.DataFrame({"recording": names, "subject": names, "set": sets})
    division = divide(meta, the_study().split)
    assert set(division.part[:60_000]) == {"train"}
    assert set(division.part[60_000:]) == {"calibration", "test"}


class Words(HTMLParser):
    """The text of a page, and how often each tag stands in it."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.text, self.tags = "", {}
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: object) -> None:
        self.tags[tag] = self.tags.get(tag, 0) + 1

    def handle_data(self, data: str) -> None:
        self.text += data


def test_the_page_holds_what_the_text_shows() -> None:
    view = example_view()
    words = Words(textbook_page(view))
    for said in ("0.1166", "0.1061", "0.1072", "not given", "203,530 + 204,304 = 407,834", "z9"):
        assert said in words.text
    assert str(round(255 * float(view.samples[0, 0, 0]))) in words.text
    assert words.tags["img"] == 10 + 2 * 15
    assert words.text.count("reconstruction") >= 3
