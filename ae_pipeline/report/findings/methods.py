"""A methods paragraph ready to paste: what was done to the data and by which versions.

Everything in it is read off the bundle and the scoring's settings; nothing is claimed that was not
done. Citations are by author and year.
"""

from __future__ import annotations

from ae_pipeline.detectors.calibration import Detection
from ae_pipeline.kind import kind_of
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
        n_recordings, n_people = card.get("recordings", "n/a"), card.get("subjects", "n/a")
        people = f"{n_recordings} recordings of {n_people} people"
        hours = f", {card['hours']:g} h in all" if "hours" in card else ""
        return (
            f"Normal data were {people}{hours} ({len(info.entries)} EEG channels: "
            f"{_listed(info.entries)})."
        )
    n = card.get(things, sum(card["parts"].values()) if "parts" in card else "n/a")
    shape = (
        f"{len(info.entries)} {words.entries}" if info.entries else " x ".join(map(str, info.shape))
    )
    return f"Normal data were {n} {things} ({shape})."


def _listed(names: tuple[str, ...]) -> str:
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
    filtered = (
        f"Signals were filtered with MNE-Python's zero-phase FIR design (Hamming window, {band}"
        f"{notch}; Gramfort et al. 2013)"
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
    return (
        f"An autoencoder ({info.model.architecture.kind}, objective {info.model.objective.kind}, "
        f"{info.model.latent_dim} latent features) was trained on {trained} for "
        f"{card.get('epochs', 'n/a')} epochs (seed {card.get('seed', 'n/a')})."
    )


def _judgement(bundle: Bundle, detection: Detection) -> str:
    info = bundle.info
    things = kind_of(info.kind).words.cases
    by = "Hochberg" if detection.dependence == "positive" else "Yekutieli"
    first = (
        f"Scores were compared with {bundle.calibration.n_units} calibration "
        f"{info.exchangeable_unit}s that the model had not been fitted on (split conformal "
        "p-values; Vovk et al. 2005)"
    )
    flags = (
        f"{things} are flagged at a false discovery rate of {detection.error_rate:g} "
        f"(Benjamini-{by})"
    )
    if info.threshold is None:
        return f"{first}; {flags}."
    return (
        f"{first}; whole {flags}, and windows above the threshold at which clean calibration "
        f"recordings raise at most {detection.false_alarms_per_hour:g} events an hour."
    )


def _software(info: BundleInfo) -> str:
    from ae_pipeline.runtime.files import versions

    now = versions()
    listed = ", ".join(f"{name} {number}" for name, number in now.items())
    older = {k: v for k, v in info.versions.items() if now.get(k) != v}
    trained = ", ".join(f"{name} {number}" for name, number in older.items())
    return f"Software: {listed}" + (f" (trained with {trained})." if older else ".")
