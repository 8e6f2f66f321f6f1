"""What the textbook's page shows, of a run that did not take place."""

from __future__ import annotations

import numpy as np
import pandas as pd

from ae_pipeline.report.textbook import TextbookView


def example_view() -> TextbookView:
    """Figures of a run that did not take place."""
    rng = np.random.default_rng(0)
    digits = rng.random((15, 28, 28)).astype(np.float32)
    return TextbookView(
        numbers={
            "train_loss": 0.1061,
            "train_loss_after": 0.1059,
            "test_loss": 0.1072,
            "text_train_loss": 0.1166,
            "test_squared_error": 0.012,
            "pca_squared_error": 0.0341,
            "n_train": 60_000,
            "n_test": 10_000,
        },
        history=pd.DataFrame({"epoch": [1, 2], "train_loss": [0.2, 0.1061], "seconds": [1.0, 1.0]}),
        steps=pd.DataFrame({"step": [1, 2], "loss": [0.11, 0.1], "running_loss": [0.11, 0.105]}),
        layers=[("encoder: Linear", "10", 203_530), ("decoder: Linear", "784", 204_304)],
        samples=digits[:10],
        sample_labels=["5", *"041921314"],
        latents=rng.normal(size=(5, 10)),
        originals=digits,
        reconstructions=digits,
        labels=list("721041495906901"),
    )
