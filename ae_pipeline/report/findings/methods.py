"""A methods paragraph ready to paste: what was done to the data and by which versions.

Everything in it is read off the bundle and the scoring's settings; nothing is claimed that was not
done. Citations are by author and year.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ae_pipeline.detectors.baselines import BASELINES
from ae_pipeline.detectors.calibration import Detection
from ae_pipeline.detectors.personfit import VIEWS
from ae_pipeline.kind import kind_of
from ae_pipeline.report.wording import count, spoken
from ae_pipeline.scoring.bundle import Bundle, BundleInfo

__all__ = ["methods_paragraph"]


def methods_paragraph(bundle: Bundle, detection: Detection) -> str:
    """The paragraph, as plain text without line breaks.

    Parameters
    ----------
    bundle : Bundle
    detection : Detection
        The rates asked for when scoring.
    """
    info = bundle.info
    sentences = [_data(info), *(_cleaning(info) if info.preprocess is not None else ())]
    sentences += [_model(bundle), _judgement(bundle, detection), _software(info)]
    return " ".join(sentence for sentence in sentences if sentence)


def _data(info: BundleInfo) -> str:
    card = info.training
    words = kind_of(info.kind).words
    things = words.cases
    if info.preprocess is not None:
        people = (
            f"{_count(card.get('recordings'), 'recording')} of "
            f"{_count(card.get('subjects'), 'participant')}"
        )
        hours = f", {card['hours']:g} h in all" if "hours" in card else ""
        left_out = card.get("channels_left_out", "")
        others = f" Not in all recordings, and left out: {left_out}." if left_out else ""
        return (
            f"Normal data were {people}{hours} ({count(len(info.entries), 'EEG channel')}: "
            f"{_listed(info.entries)}).{others}"
        )
    n = card.get(things, sum(card["parts"].values()) if "parts" in card else "n/a")
    shape = (
        f"{len(info.entries)} {words.entries}" if info.entries else " x ".join(map(str, info.shape))
    )
    return f"Normal data were {n} {things} ({shape})."


def _count(n: object, thing: str) -> str:
    return count(n, thing) if isinstance(n, int) else f"n/a {thing}s"


def _listed(names: Sequence[str]) -> str:
    return ", ".join(names) if len(names) <= 32 else f"{', '.join(names[:8])}, ..."


def _cleaning(info: BundleInfo) -> list[str]:
    """Filter, reference, bad channels and windows, in the order in which they were done."""
    clean, windows = info.preprocess, info.windows
    assert clean is not None
    assert windows is not None
    edges = [
        f"high-pass {clean.high_pass_hz:g} Hz" if clean.high_pass_hz else "",
        f"low-pass {clean.low_pass_hz:g} Hz" if clean.low_pass_hz else "",
    ]
    band = " and ".join(edge for edge in edges if edge)
    line = info.line_freq_hz
    notch = {
        "auto": f"; line noise ({line:g} Hz and harmonics) was removed by a notch where the pass "
        "band reaches it"
        if line
        else "",
        "off": "",
    }.get(str(clean.notch), f"; notch at {clean.notch} Hz")
    length_s = info.training.get("filter_length_s")
    length = f" of {length_s:g} s" if length_s else ""
    filtered = (
        f"Signals were filtered with MNE-Python's zero-phase FIR design (Hamming window"
        f"{length}, {band}{notch}; Gramfort et al. 2013)"
        if band
        else "Signals were not filtered"
    )
    reference = str(info.training.get("reference", ""))
    referenced = {
        "average": ", re-referenced to the average of the good channels",
        "none": ", kept at the reference they were recorded with",
    }.get(reference, "")
    rate = f" and resampled to {info.sfreq_hz:g} Hz (polyphase)" if info.sfreq_hz else ""
    treated = {
        "interpolate": "interpolated by spherical splines (Perrin et al. 1989) where electrode "
        "positions were known and masked elsewhere",
        "mask": "masked",
        "keep": "kept in the data",
    }[clean.bad_channels]
    bads = (
        "Before any filter, channels were checked for being flat, clipped, disconnected, bridged "
        "or dominated by line noise; bad channels left the reference, and dead ones were "
        f"{treated}."
    )
    eyes = {
        "off": "",
        "regression": "Eye movements were regressed out on the EOG channels (Gratton et al. 1983).",
        "ica": "Eye movements were removed by independent component analysis (FastICA).",
    }[clean.ocular]
    cut = {
        "stride": f"windows of {windows.length_s:g} s every {windows.stride_s:g} s",
        "epochs": f"the files' own epochs of {windows.length_s:g} s",
    }.get(
        str(windows.at),
        f"windows of {windows.length_s:g} s starting {windows.offset_s:+g} s from each event named "
        f"{', '.join(windows.at)}",
    )
    return [
        bads,
        f"{filtered}{referenced}{rate}.",
        eyes,
        f"They were cut into {cut}; no window touches a gap, a boundary or a stretch marked BAD.",
    ]


def _model(bundle: Bundle) -> str:
    info = bundle.info
    card = info.training
    parts = card.get("parts", {})
    things = kind_of(info.kind).words.many
    trained = f"{parts['train']:,} {things}" if parts.get("train") else f"the training {things}"
    architecture = info.model.architecture.model_dump(mode="json", exclude={"kind"})
    layers = ", ".join(f"{spoken(name)} {_plain(value)}" for name, value in architecture.items())
    moved = stopped = ""
    if "optimizer" in card:  # older bundles do not say
        moved = f" by {card['optimizer']} (learning rate {card['learning_rate']:g})"
    if isinstance(card.get("early_stopping"), int):
        n_epochs = count(card["early_stopping"], "epoch")
        stopped = f"; early stopping after {n_epochs} without a better validation loss"
    return (
        f"An autoencoder ({info.model.architecture.kind}, objective {info.model.objective.kind}, "
        f"{count(info.model.latent_dim, 'latent feature')}; {layers or 'no further settings'}) was "
        f"trained on {trained}{moved} for {_count(card.get('epochs'), 'epoch')} (seed "
        f"{card.get('seed', 'n/a')}{stopped})."
    )


def _plain(value: Any) -> str:
    """A setting without brackets."""
    return ", ".join(map(str, value)) if isinstance(value, list) else str(value)


def _views(bundle: Bundle) -> str:
    """The views of the autoencoder that the score adds, by name."""
    names = (name.removeprefix("score_") for name in bundle.calibration.scores)
    other = {"score", "autoencoder", *BASELINES}
    if bundle.ensemble.person is not None:
        return "views of person fit (" + ", ".join(map(spoken, VIEWS)) + ")"
    return ", ".join(["reconstruction error", *(spoken(n) for n in names if n not in other)])


def _judgement(bundle: Bundle, detection: Detection) -> str:
    info = bundle.info
    things = kind_of(info.kind).words.cases
    by = "Hochberg" if detection.dependence == "positive" else "Yekutieli"
    units = count(bundle.calibration.n_units, f"calibration {info.exchangeable_unit}")
    how = "split conformal p-values; Vovk et al. 2005"
    if info.training.get("calibrated") == "cross-conformal":
        how = (
            "cross-conformal p-values: each unit was scored by a model trained without it; Vovk "
            "2015, whose bound is weaker, an error rate of at most twice the nominal one"
        )
    first = (
        f"The score is the ensemble of {_views(bundle)}, each in robust SD of normal data. "
        f"Scores were compared with {units} that the model had not been fitted on ({how})"
    )
    flags = (
        f"{things} are flagged at a false discovery rate of {detection.error_rate:g} "
        f"(Benjamini-{by})"
    )
    if info.threshold is None:
        return f"{first}; {flags}."
    rate, low, high = bundle.calibration.alarm_rate(detection.false_alarms_per_hour)
    return (
        f"{first}; whole {flags}, and windows above the threshold at which clean calibration "
        f"recordings raise at most {detection.false_alarms_per_hour:g} events an hour (measured, "
        f"each by the threshold of the others: {rate:.1f}, 95% interval {low:.1f} to {high:.1f})."
    )


def _software(info: BundleInfo) -> str:
    from ae_pipeline.runtime.files import versions

    now = versions()
    listed = ", ".join(f"{name} {number}" for name, number in now.items())
    older = {k: v for k, v in info.versions.items() if now.get(k) != v}
    trained = ", ".join(f"{name} {number}" for name, number in older.items())
    return f"Software: {listed}" + (f" (trained with {trained})." if older else ".")
