"""Facts in words: reasons of windows, events and recordings, for tables and pages alike."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from ae_pipeline.data import Finding
from ae_pipeline.detectors.reach import Reach
from ae_pipeline.eeg.tags import CATEGORY, Tag
from ae_pipeline.report.wording import count, listed, spoken, times
from ae_pipeline.scoring.bundle import Bundle
from ae_pipeline.scoring.examples import Example
from ae_pipeline.scoring.recording import RecordingResult
from ae_pipeline.scoring.tables import EVENT_COLUMNS, FACTS

if TYPE_CHECKING:
    import pandas as pd

__all__ = [
    "RecordingTables",
    "allowed",
    "bad_channels",
    "claims",
    "differences",
    "events_table",
    "evidence_of",
    "kinds_in_words",
    "looks",
    "reason",
    "reasons",
    "recording_tables",
    "scores_table",
    "sentence",
    "with_reasons",
]

AT_A_TIME = 4096
"""Rows whose reasons are worded together."""

VIEWS = {
    "error": "signal error",
    "relative": "shape not explained",
    "spread": "varies too little or too much",
    "latent": "combination of features unusual",
    "spectrum": "power in a band unusual",
    "own": "unlike the rest of the recording",
    "neighbours": "not what the other channels predict",
    "population": "unlike the training data",
    "surprise": "answers unlike what the others predict",
    "pattern": "a pattern explains the answers better than the questions do",
    "person_total": "profile runs against everybody's",
    "isolation": "combination of answers unusual",
}
"""What deviates, by the view of the detector that says so."""


# ----------------------------------------------------------------------- windows and rows


def reasons(frame: pd.DataFrame, usual_error: float) -> list[str]:
    """One phrase for each sample: what is unusual, how much, and where.

    Parameters
    ----------
    frame : DataFrame
        ``score_autoencoder``, ``top_view``, ``top_deviation``; ``top_ratio`` and a column that
        names the entry where there are channels or items.
    usual_error : float
        Median reconstruction error of the calibration data.
    """
    error = frame["score_autoencoder"].to_numpy() / max(usual_error, 1e-12)
    phrases = [
        f"{VIEWS[view]} ({_plain(deviation)} robust SD), error {times(t)} the usual"
        for view, deviation, t in zip(frame["top_view"], frame["top_deviation"], error, strict=True)
    ]
    if "top_ratio" not in frame:
        return phrases
    entry = next(n for n in ("top_entry", "top_channel", "top_item") if n in frame)
    return [
        f"{phrase}, most at {name} ({times(ratio)} its usual)"
        for phrase, name, ratio in zip(phrases, frame[entry], frame["top_ratio"], strict=True)
    ]


def _plain(number: float) -> str:
    return f"{number:.1f}" if abs(number) < 100 else f"{number:,.0f}"


def _usual_error(bundle: Bundle) -> float:
    return bundle.calibration.median_loss


def with_reasons(
    example: Example, bundle: Bundle, *, tags: Mapping[int, Tag] | None = None
) -> Example:
    """An example whose rows have their reasons; see :func:`scores_table`."""
    said = _reasons(example.frame, _usual_error(bundle), tags=tags or {})
    return replace(example, frame=example.frame.assign(reason=said))


def scores_table(
    frame: pd.DataFrame, bundle: Bundle, *, tags: Mapping[int, Tag] | None = None
) -> pd.DataFrame:
    """The scores file: judged samples with a reason instead of its facts.

    Parameters
    ----------
    frame : DataFrame
        From :func:`ae_pipeline.scoring.tables.contract_frame`.
    bundle : Bundle
        For the error that is usual.
    tags : mapping of window to Tag, optional
        What windows that are not flagged look like.
    """
    import pandas as pd
    import pyarrow as pa

    usual_error = _usual_error(bundle)
    parts = [  # Python's own texts are large
        pa.array(_reasons(frame[start : start + AT_A_TIME], usual_error, tags=tags or {}))
        for start in range(0, len(frame), AT_A_TIME)
    ]
    words = pa.chunked_array(parts, pa.string()).cast(pa.large_string()).combine_chunks()
    out = frame.drop(columns=[name for name in FACTS if name in frame])
    at = list(out).index("top_band") + 1
    said = pd.Series(pd.arrays.ArrowStringArray(words), index=out.index)
    out.insert(at, "reason", said.astype("string"))
    return out


def _reasons(frame: pd.DataFrame, usual_error: float, *, tags: Mapping[int, Tag]) -> list[str]:
    said = reasons(frame, usual_error)
    if tags:
        for i, (window, flagged) in enumerate(zip(frame["window"], frame["flagged"], strict=True)):
            if window in tags and not flagged:
                said[i] = f"not flagged; {looks(tags[window])}; {said[i]}"
    return said


# --------------------------------------------------------------------------------- events


def looks(tag: Tag) -> str:
    """What a window looks like and what was measured, never what caused it."""
    like = "no known kind" if tag.kind == "unexplained" else f"{spoken(tag.kind)}-like"
    return f"{like}: {evidence_of(tag)}"


def evidence_of(tag: Tag) -> str:
    """What was measured in a window, and where."""
    more = f", most in {tag.band}" if tag.kind == "unexplained" and tag.band else ""
    return sentence(tag.evidence) + more


def events_table(result: RecordingResult, scores: pd.DataFrame) -> pd.DataFrame:
    """The events file of a recording; ``scores`` is its :func:`scores_table`."""
    said = []
    for window, nearest_s in result.events[["window", "nearest_normal_s"]].itertuples(index=False):
        tag = result.tags.get(window)
        words = [] if tag is None else [looks(tag)]
        words.append(str(scores["reason"].iloc[window]))
        if nearest_s == nearest_s:
            words.append(f"nearest normal window at {nearest_s:.1f} s")
        said.append("; ".join(words))
    return result.events.assign(reason=said)[list(EVENT_COLUMNS)]


def kinds_in_words(kinds: Mapping[str, float]) -> str:
    """Whether it is the cable or the body: ``2 technical (1 clipped, 1 pop), 1 unexplained``."""
    by_category: dict[str, Counter[str]] = {}
    for kind, n in kinds.items():
        by_category.setdefault(CATEGORY[kind], Counter())[spoken(kind)] += int(n)
    said = []
    for category, counts in sorted(by_category.items(), key=lambda pair: -pair[1].total()):
        each = ", ".join(f"{n} {kind}" for kind, n in counts.most_common())
        more = "" if set(counts) == {category} else f" ({each})"
        said.append(f"{counts.total()} {category}{more}")
    return ", ".join(said)


# ----------------------------------------------------------------------------- recordings


def bad_channels(result: RecordingResult) -> pd.DataFrame:
    """``name`` and ``reason`` of each channel that is not as it should be."""
    import pandas as pd

    why = {gain.where[0]: sentence(gain) for gain in result.gains}
    why |= {bad.name: bad.reason for bad in result.plan.bads}
    return pd.DataFrame(list(why.items()), columns=["name", "reason"])


def reason(findings: Sequence[Finding], *, unit: str, verdict: str, strongest: str = "") -> str:
    """Why a recording has its verdict.

    Parameters
    ----------
    findings : sequence of Finding
        :attr:`RecordingResult.findings`.
    unit : str
        What the calibration data consists of, such as ``subject``.
    verdict : str
    strongest : str
        What to say of the strongest event.
    """
    known = {finding.kind: sentence(finding, unit) for finding in findings}
    if "event_kinds" in known and strongest:
        known["event_kinds"] += f", {strongest}"
        strongest = ""
    if verdict != "nothing flagged":
        known.pop("too_few", None)
    gain, bads = known.pop("gain_off", ""), known.pop("bad_channels", "")
    events = "; ".join([*known.values(), *([strongest] if strongest else [])])
    # what the verdict rests on comes first
    parts = [gain, bads, events] if "usual_events" in known else [gain, events, bads]
    return "; ".join(part for part in parts if part)


def sentence(finding: Finding, unit: str = "subject") -> str:
    """One finding in words; ``unit`` is what calibration data consists of."""
    numbers, where = finding.numbers, finding.where
    if finding.kind == "event_kinds":
        return kinds_in_words(numbers)
    return SENTENCES[finding.kind].format(
        **numbers,
        events=count(int(numbers.get("n_events", 0)), "event"),
        at=listed(where),
        first=next(iter(where), ""),
        others=", ".join(where[1:]),
        channels=count(len(where), "bad channel"),
        units=f"{unit}s",
    )


_AMPLITUDE = "usual amplitude {amplitude_uv:.3g} uV, in training {low_uv:.3g} to {high_uv:.3g}"

SENTENCES = {
    # what a window shows
    "flat": "{at} hardly moves in {share:.0%} of the window (under {of_usual:.0%} of its usual "
    "line length)",
    "clipped": "{share:.0%} of the samples of half a second stand at the highest and lowest value "
    "of {at}",
    "line_noise": "a line at {peak_hz:.1f} Hz, with {share:.0%} of all power above 20 Hz, at {at}",
    "muscle": "power of 30 to 45 Hz {times:.0f} times the usual, broad, at {at}",
    "alpha": "alpha power {times:.0f} times the usual, peak {peak_hz:.1f} Hz, {at}",
    "exchanged": "with {first} and {others} in each other's place {share_gone:.0%} of the "
    "deviation is gone",
    "rhythmic_sharp": "a wave repeats {rate_hz:.1f} times a second (correlation "
    "{correlation:.2f}), {at}",
    "pop": "a step of {height_uv:.0f} µV at {at} alone, {share_within_30_ms:.0%} of it within "
    "30 ms",
    "blink": "a deflection of {height_uv:.0f} µV, {width_ms:.0f} ms wide, largest at {at}",
    "slow_drift": "power under 1.6 Hz {times:.0f} times the usual, {at}",
    "unexplained": "{robust_sd:.1f} robust SD from the usual at {at}",
    # what a recording is
    "gain_off": f"gain off in all channels: {_AMPLITUDE}",
    "channel_gain_off": "gain off: amplitude {amplitude_uv:.3g} uV where {usual_uv:.3g} uV is "
    "usual",
    "bad_channels": "{channels}: {at}",
    "other_state": "power differs from training: {first}, {others} ({times:.2g} times the usual); "
    "another state, filter or reference",
    "many_events": "{events}, {per_hour:.1f} an hour, where clean recordings raise at most "
    "{most_per_hour:.1f} (p {p:.2g})",
    "far_event": "{events}, one of them {times:.1f} times as far from usual as anything in "
    "{hours:.2g} h of clean recordings",
    "usual_events": "{events}, as many as clean recordings raise",
    # how it differs from the training data
    "other_amplitude": f"{_AMPLITUDE}; another gain, unit, reference or amplifier?",
    "other_task": "task {first!r}, the model was trained on {others}; what differs by task will "
    "look abnormal",
    "other_reference": "reference {first!r}, in training {others}",
    "other_amplifier": "amplifier {first!r}, in training {others}",
    "other_age": "age {first}, in training {low:g} to {high:g}; EEG changes with age",
    # what calibration data cannot support
    "too_few": "with {n_units:.0f} calibration {units} the smallest possible p is "
    "{smallest_p:.2g}, so 'clean' cannot be promised: look at the highest windows",
    "trimmed": "The most abnormal {share:.0%} of the calibration {units} were left out by their "
    "score (detection.trim): p, q and alarm rates are no longer guaranteed and too small; set it "
    "to 0 for claims that hold.",
    "rate_not_reached": "{wanted:g} false alarms an hour cannot be promised with {n_units:.0f} "
    "calibration {units} ({hours:.2g} h): judged by the others they raised {rate:.1f} an hour "
    "({low:.1f} to {high:.1f}); add calibration recordings.",
}
"""What is said of a finding, by its kind."""


def differences(result: RecordingResult) -> tuple[str, ...]:
    """How a recording was made otherwise than the training data, a line each."""
    name = result.recording.name
    return tuple(f"{name}: {sentence(finding)}" for finding in result.mismatches)


@dataclass(frozen=True)
class RecordingTables:
    """A recording's result beside the tables that are written of it; ``row`` is without q."""

    result: RecordingResult
    scores: pd.DataFrame
    events: pd.DataFrame
    bads: pd.DataFrame
    row: dict[str, Any]


def recording_tables(bundle: Bundle, result: RecordingResult) -> RecordingTables:
    """Put everything that is found in a recording into words."""
    scores = scores_table(result.frame, bundle, tags=result.tags)
    bads, verdict = bad_channels(result), str(result.summary["verdict"])
    faults = [sentence(f) for f in result.findings if f.kind == "gain_off"]
    faults += [f"{name}: {why}" for name, why in zip(bads["name"], bads["reason"], strict=True)]
    row = {
        "warnings": list(differences(result)),
        **result.summary,
        "quality_findings": "; ".join(faults),
        "reason": reason(result.findings, unit=bundle.info.exchangeable_unit, verdict=verdict),
    }
    return RecordingTables(result, scores, events_table(result, scores), bads, row)


# ---------------------------------------------------------------------- calibration's limits


def claims(findings: Sequence[Finding], unit: str) -> tuple[str, ...]:
    """What calibration data cannot support, a sentence each."""
    return tuple(sentence(finding, unit) for finding in findings)


def allowed(reach: Reach, what: str) -> str:
    """What a number of calibration units allows; empty where a single one can be flagged."""
    if reach.fewest == 1 or not reach.n_batch:
        return ""
    rate = f"an error rate of {reach.error_rate:g}"
    more = f"{reach.needed:,} would be needed for one alone"
    if reach.fewest is None:
        return (
            f"Cannot flag at {rate} with {reach.n_calibration:,} calibration {what} (smallest "
            f"p {reach.smallest_p:.2g}); {more}."
        )
    return (
        f"With {reach.n_calibration:,} calibration {what} (smallest p {reach.smallest_p:.2g}) "
        f"flags at {rate} begin where {reach.fewest:,} of {reach.n_batch:,} are as abnormal as "
        f"can be; {more}."
    )
