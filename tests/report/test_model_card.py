"""The model card says what a reviewer asks, and nobody's name."""

from __future__ import annotations

import tiny

from ae_pipeline.report.findings.model_card import model_card


def test_the_card_says_what_for_from_what_and_what_not() -> None:
    for trained in (tiny.eeg(), tiny.table()):
        info = trained.bundle.info
        text = model_card(info, {"test_loss": 0.25, "parameters": 99}, model_id="tiny-1234")
        for words in ("Intended use", "Not a diagnosis", "Calibration", "Limits", "Data and"):
            assert words in text
        assert "test loss: 0.25" in text
        assert all(claim in text for claim in info.claims)
        assert info.training_digest[:16] in text
        assert "Anna" not in text
        assert "Berta" not in text
