"""The head of a study: fitted on the training part, judged on subjects it was not fitted on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ae_pipeline.data import InputError
from ae_pipeline.detectors.heads import cross_validate, fit_head, head_features, judge_head
from ae_pipeline.jobs.fit import Fitted, Fitting, Prepared

if TYPE_CHECKING:
    from ae_pipeline.data import Samples
    from ae_pipeline.detectors.heads import FittedHead
    from ae_pipeline.training.known import Known
    from ae_pipeline.training.loop import FittedAutoencoder

__all__ = ["FoldHead", "judge_folds", "with_fold_head", "with_head"]

Rows = NDArray[np.int64]
FoldHead = tuple[Rows, dict[str, NDArray[np.float64]]]
"""Rows of subjects who were left out, and what a head on each kind of features says of them."""


def with_head(prepared: Prepared, fitted: Fitted) -> Fitted:
    """Fit the study's head on the training part, and judge it where no subject is left out."""
    known = prepared.known
    if known is None:
        return fitted
    samples, seed = prepared.data.samples, prepared.study.training.seed
    part = prepared.division.part
    inside = np.flatnonzero((part == "train") | (part == "validation"))
    network = fitted.ensemble.autoencoder
    latents = network.latents(samples)
    features = {
        what: head_features(what, samples, latents=latents, scaler=network.scaler)
        for what in dict.fromkeys((known.head.from_, "input"))
    }
    head = fit_head(known, features[known.head.from_], rows=inside, seed=seed)
    figures: dict[str, Any] = {
        "kind": known.head.kind,
        "target": known.head.target,
        "from": known.head.from_,
        "fitted": known.head.fitted,
        "classes": list(known.classes),
        "labelled": int(known.is_known.sum()),
        "unlabelled": int((~known.is_known).sum()),
        "held_out": None,
        "cross_validation": None,
    }
    if prepared.division.folds:  # each subject is predicted while it is left out
        return replace(fitted, head=head, head_figures=figures)
    judged: dict[str, tuple[Any, Any]] = {}
    held = np.flatnonzero(((part == "calibration") | (part == "test")) & known.is_known)
    for what, x in features.items():
        own = head if what == known.head.from_ else fit_head(known, x, rows=inside, seed=seed)

        def predict(learn: Rows, ask: Rows, x: Any = x, what: str = what) -> NDArray[np.float64]:
            if known.head.fitted == "jointly" and what != "input":
                return _predict_anew(prepared, fitted, inside=learn, outside=ask)
            return fit_head(known, x, rows=learn, seed=seed).outputs(x[ask])

        judged[what] = (
            judge_head(known, held, outputs=own.outputs(x[held])) if len(held) else None,
            cross_validate(known, inside, seed=seed, predict=predict),
        )
    for i, name in enumerate(("held_out", "cross_validation")):
        figures[name] = _beside_input(known, {what: both[i] for what, both in judged.items()})
    return replace(fitted, head=head, head_figures=figures)


def _beside_input(known: Known, judged: dict[str, Any]) -> dict[str, Any] | None:
    """Figures of the head, with those of one on simple features of the input."""
    own = judged[known.head.from_]
    if own is None or known.head.from_ == "input":
        return own  # type: ignore[no-any-return]
    return {**own, "from_input": judged["input"]}


def _predict_anew(
    prepared: Prepared, fitted: Fitted, *, inside: Rows, outside: Rows
) -> NDArray[np.float64]:
    """Outputs of rows that neither the network nor the head has seen."""
    known, part, samples = prepared.known, prepared.division.part, prepared.data.samples
    assert known is not None
    unlike = ~np.isin(known.unit, np.unique(known.unit[outside]))
    train, validation = (np.flatnonzero((part == p) & unlike) for p in ("train", "validation"))
    network, _ = Fitting(
        prepared.study,
        samples.take(train),
        samples.take(validation),
        prepared.as_long_as(fitted.history),
        labels=known.labels(train),
    ).network()
    seed = prepared.study.training.seed
    _, outputs = _fit_and_ask(
        known,
        network,
        samples=samples,
        what=known.head.from_,
        inside=inside,
        outside=outside,
        seed=seed,
    )
    return outputs


def _fit_and_ask(
    known: Known,
    network: FittedAutoencoder,
    *,
    samples: Samples,
    what: Any,
    inside: Rows,
    outside: Rows,
    seed: int,
) -> tuple[FittedHead, NDArray[np.float64]]:
    """A head on one network's features of ``inside``, and its outputs for ``outside``."""
    rows = np.concatenate([inside, outside])
    chosen = samples.take(rows)
    latents = np.zeros((0, 0)) if what == "input" else network.latents(chosen)
    x = head_features(what, chosen, latents=latents, scaler=network.scaler)
    everywhere = np.full((len(samples), x.shape[1]), np.nan)
    everywhere[rows] = x
    head = fit_head(known, everywhere, rows=inside, seed=seed)
    return head, head.outputs(x[len(inside) :])


def with_fold_head(
    prepared: Prepared, fitted: Fitted, *, inside: Rows, outside: Rows
) -> tuple[Fitted, FoldHead | None]:
    """Fit a head on one fold's network; what it and one on the input say of who is left out.

    Nothing without a head, or where ``inside`` knows one class only.
    """
    known = prepared.known
    if known is None:
        return fitted, None
    heads: dict[str, FittedHead] = {}
    outputs: dict[str, NDArray[np.float64]] = {}
    for what in dict.fromkeys((known.head.from_, "input")):
        try:
            heads[what], outputs[what] = _fit_and_ask(
                known,
                fitted.ensemble.autoencoder,
                samples=prepared.data.samples,
                what=what,
                inside=inside,
                outside=outside,
                seed=0,
            )
        except InputError:
            return fitted, None
    return replace(fitted, head=heads[known.head.from_]), (outside, outputs)


def judge_folds(known: Known | None, predicted: Sequence[FoldHead]) -> dict[str, Any] | None:
    """How right the heads of all folds are; None without any."""
    if known is None or not predicted:
        return None
    rows = np.concatenate([each[0] for each in predicted])
    is_known = known.is_known[rows]
    judged = {
        what: judge_head(
            known,
            rows[is_known],
            outputs=np.concatenate([each[1][what] for each in predicted])[is_known],
        )
        for what in predicted[0][1]
    }
    return {"folds": len(predicted), **(_beside_input(known, judged) or {})}
