"""The command that fills what is missing or hidden, and says how well it can.

What is completed: of a table the answers that are missing; of a recording the channels that it
lacks or that are bad; of images a half; and whatever ``hide`` names. EEG is completed as the model
sees it: cleaned, re-referenced, at the model's rate.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from ae_pipeline import report
from ae_pipeline.analysis import completion
from ae_pipeline.analysis.completion import PARTS, Part, Simple, Way
from ae_pipeline.config import StudyError
from ae_pipeline.data import SAME_PLACE, InputError, Recording, Samples
from ae_pipeline.eeg.cleaning import apply
from ae_pipeline.eeg.preprocess import Plan
from ae_pipeline.eeg.survey import survey
from ae_pipeline.eeg.windows import cut
from ae_pipeline.ingest.inputs import Failure, Input, find_inputs, open_input, rows_of
from ae_pipeline.ingest.origin import origin, source_of
from ae_pipeline.outputs import export as restore
from ae_pipeline.outputs.export import open_model
from ae_pipeline.report.pictures import portraits
from ae_pipeline.runtime.files import digest_files, read_json, write_frame, write_json, write_text
from ae_pipeline.scoring.bundle import Bundle, columns_of
from ae_pipeline.sources.items import as_answered

__all__ = ["complete"]

Float = NDArray[np.float32]
Mask = NDArray[np.bool_]
MOST = 1_000
"""Samples that completion is measured on."""

BLOCK_S = 10.0
"""Windows within so many seconds count as one for an interval."""

N_SHOWN = 6
HALVES = ("lower", "upper", "left", "right")


@dataclass(frozen=True)
class _Cue:
    """What is known of an input, in network units: values, where known, whose they are."""

    x: Float
    observed: Mask
    unit: NDArray[Any]
    average_reference: bool = False


def complete(
    model: str,
    given: str,
    *,
    out: Path,
    hide: str | None = None,
    way: str = "auto",
    study: Path | None = None,
    seed: int = 0,
    progress: Any = None,
) -> dict[str, Any]:
    """Write an input with its missing or hidden parts predicted, and a report of the errors.

    Parameters
    ----------
    model : str
        Bundle's folder, ``runs:/ID/model`` or ``models:/NAME@ALIAS``.
    given : str
        One recording, table or file of images.
    out : Path
        As in :func:`ae_pipeline.jobs.generate.generate`.
    hide : str, optional
        What to hide and predict although it is known: channels or items (``Fz,Cz``), seconds
        (``12-13.5``), or a half of images (``lower``, ``upper``, ``left``, ``right``).
    way : {'auto', 'one_pass', 'iterated', 'optimised'}
        auto takes the one that measures best on what is known of the input.
    study : Path, optional
        Study file, where it does not lie beside the model: the simple ways learn from its data.
    seed : int
    progress : Progress, optional

    Returns
    -------
    dict
        ``out``, ``report``, ``verdict``, ``measured``, ``hidden`` (errors on what ``hide`` named),
        ``completed`` (how much was filled).

    Raises
    ------
    StudyError
        Where model, ``out``, ``hide`` or ``way`` cannot be used.
    InputError
        Where the input cannot.
    """
    if way not in ("auto", *completion.WAYS):
        raise StudyError(f"--way {way}: expected auto, {', '.join(completion.WAYS)}")
    place, bundle = open_model(model, out)
    source = source_of(bundle.info)
    found = list(find_inputs(source, [given]))
    failed = next((item for item in found if isinstance(item, Failure)), None)
    if failed is not None:
        raise InputError(failed.reason)
    if len(found) != 1:
        raise StudyError(f"{given}: stands for {len(found)} inputs; complete one at a time")
    item = found[0]
    assert isinstance(item, Input)
    simple, why_not = None, ""
    if bundle.info.kind != "eeg":
        try:
            simple = _simple(bundle, origin(place, bundle.info, study=study).train)
        except InputError as error:
            why_not = f"No simple ways to hold the model against: {error}"
    job = _Job(bundle, source, item, out, hide, way, simple, seed, progress)
    result = {"eeg": _eeg, "mnist": _images, "questionnaire": _table}[bundle.info.kind](job)
    warnings = (why_not, _seen_before(place, item))
    return _report(job, result, warnings=tuple(line for line in warnings if line))


def _seen_before(place: Path, item: Input) -> str:
    """A warning where the training's own record names the input."""
    provenance = place.parent / "provenance.json"
    files = item.files
    if item.found is not None:
        files = (item.path,)
    if not provenance.is_file() or not files:
        return ""
    trained = read_json(provenance).get("inputs", {})
    if item.name in trained or digest_files(files) in trained.values():
        return "The model was trained on this input: on other data its errors are larger."
    return ""


@dataclass(frozen=True)
class _Job:
    bundle: Bundle
    source: Any
    item: Input
    out: Path
    hide: str | None
    way: str
    simple: Simple | None
    seed: int
    progress: Any

    def stage(self, name: str) -> None:
        """Tell whoever listens."""
        if self.progress is not None:
            self.progress.stage(name)

    def choose(self, measured: Mapping[str, Any]) -> Way:
        """The way that was asked for, or measured best."""
        chosen: Any = measured["way"] if self.way == "auto" else self.way
        return cast(Way, chosen)


@dataclass(frozen=True)
class _Result:
    """``measured`` by part; ``hidden`` errors on what was hidden by name; ``shown`` samples."""

    measured: dict[str, dict[str, Any]]
    hidden: dict[str, Any] | None
    completed: str
    shown: tuple[tuple[str, list[tuple[str, Float]], list[str]], ...]
    notes: tuple[str, ...] = ()


def _simple(bundle: Bundle, train: Samples) -> Simple:
    few = train.take(np.random.default_rng(0).permutation(len(train))[:10_000])
    values, mask = few.batch(slice(None))
    observed = np.ones(values.shape, bool) if mask is None else mask
    return Simple.fit(bundle.autoencoder.scaler.transform(values, mask), observed)


def _measure(job: _Job, cue: _Cue, *, parts: tuple[Part, ...]) -> dict[str, dict[str, Any]]:
    """Completion of every part, on what is known of the input."""
    job.stage("measuring on what is known")
    few = np.random.default_rng(job.seed).permutation(len(cue.x))[:MOST]
    few.sort()
    return {
        part: completion.measure(
            job.bundle,
            cue.x[few],
            observed=cue.observed[few],
            unit=cue.unit[few],
            part=part,
            simple=job.simple,
            seed=job.seed,
            average_reference=cue.average_reference,
        )
        for part in parts
    }


def _hidden_errors(
    job: _Job, part: Part, *, x: Float, made: Float, visible: Mask, observed: Mask
) -> dict[str, Any]:
    """Errors on what ``hide`` named, beside the simple ways."""
    hidden = observed & ~visible
    errors = {"model": completion.error(made, x, hidden=hidden)[0]}
    for name, simply in completion.simple_ways(job.bundle, part, simple=job.simple).items():
        errors[name] = completion.error(simply(x, visible), x, hidden=hidden)[0]
    best = min(errors, key=lambda name: errors[name])
    return {"what": job.hide, "entries": int(hidden.sum()), "errors": errors, "best": best}


def _examples(
    job: _Job, cue: _Cue, *, part: Part, measured: Mapping[str, Any]
) -> tuple[str, list[tuple[str, Float]], list[str]]:
    """Some samples hidden in part, completed by the model and by the best simple way."""
    rows = np.linspace(0, len(cue.x) - 1, min(N_SHOWN, len(cue.x))).astype(int)
    x, observed = cue.x[rows], cue.observed[rows]
    visible = completion.hide(part, observed, rng=np.random.default_rng(job.seed + 1))
    if part == "channels" and cue.average_reference:
        x = completion.without_hidden_reference(
            x, visible, scale=job.bundle.autoencoder.scaler.scale
        )
    ways = completion.simple_ways(job.bundle, part, simple=job.simple)
    model = completion.complete(job.bundle, x, visible=visible, way=job.choose(measured))
    made = {"model": np.where(visible, x, model)}
    if measured["best_simple"] is not None:
        name = measured["best_simple"]
        made[name.replace("_", " ")] = np.where(visible, x, ways[name](x, visible))
    scale = job.bundle.autoencoder.scaler.inverse
    truth = scale(np.where(observed, x, np.nan))
    columns = {"truth": truth} | {name: scale(values) for name, values in made.items()}
    if (
        job.bundle.info.layout == "series"
    ):  # one panel a window, what is hidden drawn over each other
        first = {**columns}
        panels = []
        for i in range(len(rows)):
            gone = int((~visible[i]).sum(1).argmax())  # a channel that was hidden
            others = [np.where(~visible[i, gone], v[i, gone], np.nan) for v in first.values()]
            others[0] = first["truth"][i, gone]
            name = job.bundle.info.entries[gone]
            panels.append((name, np.stack(others)[:, None]))
        return part, panels, list(columns)
    cue_shown = np.where(visible, truth, 0.0 if job.bundle.info.layout == "grid" else np.nan)
    rows_shown = [("cue", cue_shown), *columns.items()]
    return part, rows_shown, [str(i + 1) for i in range(len(rows))]


# ------------------------------------------------------------------------- tables and images


def _table(job: _Job) -> _Result:
    bundle = job.bundle
    columns = columns_of(bundle.info)
    samples, notes = rows_of(job.source, job.item, columns=columns)
    bundle.refuse_misfit(samples)
    values, mask = samples.batch(slice(None))
    observed = np.ones(values.shape, bool) if mask is None else mask
    x = bundle.autoencoder.scaler.transform(values, mask)
    cue = _Cue(x, observed, np.asarray(samples.meta["recording"].astype(str)))
    measured = _measure(job, cue, parts=PARTS["table"])
    visible = observed.copy()
    if job.hide is not None:
        visible[:, _named(job.hide, bundle.info.entries, what="items")] = False
    job.stage("completing")
    way = job.choose(measured["items"])
    made = completion.complete(bundle, x, visible=visible, way=way)
    filled = np.where(visible, values, bundle.autoencoder.scaler.inverse(made))
    frame = as_answered(job.source, columns, values=filled)
    hidden = None
    if job.hide is not None:
        hidden = _hidden_errors(job, "items", x=x, made=made, visible=visible, observed=observed)
    frame.insert(0, job.source.id_column or "id", samples.meta["recording"])
    names = np.array(bundle.info.entries)
    frame["completed"] = [" ".join(names[~row]) for row in visible]
    write_frame(job.out, frame)
    n = int((~visible).sum())
    return _Result(
        measured,
        hidden,
        f"{n:,} of {visible.size:,} answers",
        (_examples(job, cue, part="items", measured=measured["items"]),),
        notes,
    )


def _named(text: str, names: tuple[str, ...], *, what: str) -> NDArray[np.int64]:
    """Places of channels or items by name."""
    asked = [name.strip() for name in text.split(",") if name.strip()]
    known = {SAME_PLACE.get(name, name): i for i, name in enumerate(names)}
    unknown = [name for name in asked if SAME_PLACE.get(name, name) not in known]
    if unknown or not asked:
        raise StudyError(
            f"--hide {text}: {unknown[0] if unknown else 'nothing'!r} is none of the model's "
            f"{what} ({', '.join(names[:6])}{' ...' if len(names) > 6 else ''})"
        )
    if len(asked) >= len(names):
        raise StudyError(f"--hide {text}: hides everything; leave some {what} to see")
    return np.array([known[SAME_PLACE.get(name, name)] for name in asked])


def _images(job: _Job) -> _Result:
    bundle = job.bundle
    samples, notes = rows_of(job.source, job.item, columns=())
    bundle.refuse_misfit(samples)
    asked = job.hide or "lower"
    if asked not in HALVES:
        raise StudyError(f"--hide {asked}: expected {', '.join(HALVES)}")
    x = np.asarray(samples.values[:])
    observed = np.ones(x.shape, bool)
    cue = _Cue(x, observed, np.asarray(samples.meta["recording"].astype(str)))
    measured = _measure(job, cue, parts=PARTS["grid"])
    height, width = bundle.info.shape
    visible = observed.copy()
    region = {
        "lower": (slice(None), slice(height // 2, None)),
        "upper": (slice(None), slice(0, height // 2)),
        "left": (slice(None), slice(None), slice(0, width // 2)),
        "right": (slice(None), slice(None), slice(width // 2, None)),
    }[asked]
    visible[region] = False
    job.stage("completing")
    made = completion.complete(bundle, x, visible=visible, way=job.choose(measured["half"]))
    restore.write_images(job.out, np.where(visible, x, made))
    few = slice(0, MOST)
    hidden = _hidden_errors(
        job, "half", x=x[few], made=made[few], visible=visible[few], observed=observed[few]
    )
    hidden["what"] = f"{asked} half"
    return _Result(
        measured,
        hidden,
        f"the {asked} half of {len(x):,} images",
        (_examples(job, cue, part="half", measured=measured["half"]),),
        notes,
    )


# -------------------------------------------------------------------------------------- EEG


def _eeg(job: _Job) -> _Result:
    bundle, info = job.bundle, job.bundle.info
    assert info.preprocess is not None
    assert info.windows is not None
    assert info.sfreq_hz is not None
    recording, lacking = _padded(open_input(job.source, job.item), info.entries)
    hidden_names: tuple[str, ...] = ()
    span = None if job.hide is None else _seconds(job.hide)
    if job.hide is not None and span is None:
        hidden_names = tuple(
            info.entries[i] for i in _named(job.hide, info.entries, what="channels")
        )
    job.stage("reading")
    plan = survey(
        recording,
        info.preprocess,
        line_freq_hz=info.source.get("line_freq_hz"),
        sfreq_hz=info.sfreq_hz,
    )
    unknown = np.isin(info.entries, [*lacking, *plan.bad_names])
    if unknown.all():
        raise InputError(f"{job.item.name}: no channel of the model is usable")
    cue = _windows(job, recording, plan=plan, unknown=unknown)
    measured = _measure(job, cue, parts=PARTS["series"])
    signal, parts = _clean_signal(recording, plan, sfreq_hz=info.sfreq_hz)
    x = bundle.autoencoder.scaler.transform(signal[None])[0]
    observed = np.repeat(~unknown[:, None], signal.shape[1], 1)
    visible = observed & ~np.isin(info.entries, hidden_names)[:, None]
    if not visible.any():
        raise StudyError(f"--hide {job.hide}: nothing that is known would be left to see")
    part: Part = "channels"
    if span is not None:
        part = "time"
        visible[
            :,
            _within(
                span,
                parts,
                n_times=signal.shape[1],
                sfreq_hz=info.sfreq_hz,
                length=info.shape[1],
                job=job,
            ),
        ] = False
    job.stage("completing")
    made = _overlapping(bundle, x, visible=visible, parts=parts, way=job.choose(measured[part]))
    completed = np.where(visible, signal, bundle.autoencoder.scaler.inverse(made[None])[0])
    marks = [(0.0, signal.shape[1] / info.sfreq_hz, f"completed {n}") for n in lacking]
    if span is not None:
        marks.append((span[0], span[1] - span[0], "completed"))
    restore.write_signal(job.out, info, signal_uv=completed, annotations=marks)
    hidden = None
    if job.hide is not None:
        hidden = _hidden_errors(
            job, part, x=x[None], made=made[None], visible=visible[None], observed=observed[None]
        )
    names = [n for n, row in zip(info.entries, visible, strict=True) if not row.any()]
    what = [f"channels {', '.join(names)}"] if names else []
    what += [f"{span[0]:g} to {span[1]:g} s"] if span is not None else []
    return _Result(
        measured,
        hidden,
        " and ".join(what) or "nothing: no channel is missing or bad",
        tuple(_examples(job, cue, part=p, measured=measured[p]) for p in PARTS["series"]),
        (*recording.notes, *plan.notes),
    )


def _padded(recording: Recording, entries: tuple[str, ...]) -> tuple[Recording, tuple[str, ...]]:
    """The recording with all of the model's channels; those that it lacks are silent."""
    have = {SAME_PLACE.get(name, name) for name in recording.ch_names}
    lacking = tuple(name for name in entries if SAME_PLACE.get(name, name) not in have)
    present = tuple(name for name in entries if name not in lacking)
    if not lacking:
        return recording.pick(entries), ()
    if not present:
        raise InputError(f"recording {recording.name!r} has none of the model's channels")
    known = recording.pick(present)
    index = np.array([i for i, name in enumerate(entries) if name in present])
    reader = known.reader

    def read(start: int, stop: int) -> Float:
        out = np.zeros((len(entries), stop - start), np.float32)
        out[index] = reader(start, stop)
        return out

    positions = np.full((len(entries), 3), np.nan)
    positions[index] = known.positions_m
    padded = replace(
        known, ch_names=entries, file_names=entries, positions_m=positions, reader=read
    )
    return padded, lacking


def _seconds(text: str) -> tuple[float, float] | None:
    """``12-13.5`` as (12.0, 13.5)."""
    match = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*-\s*(\d+(?:\.\d+)?)\s*", text)
    return None if match is None else (float(match[1]), float(match[2]))


def _windows(job: _Job, recording: Recording, *, plan: Plan, unknown: NDArray[np.bool_]) -> _Cue:
    """Windows side by side, for measuring."""
    info = job.bundle.info
    assert info.windows is not None
    beside = info.windows.model_copy(update={"stride_s": info.windows.length_s})
    values, onsets = [], []
    for samples in cut(recording, plan, windowing=beside):
        values.append(samples.batch(slice(None))[0])
        onsets.append(samples.meta["onset_s"].to_numpy())
    x = job.bundle.autoencoder.scaler.transform(np.concatenate(values))
    observed = np.repeat(~unknown[None, :, None], x.shape[2], 2)
    observed = np.repeat(observed, len(x), 0)
    unit = np.floor(np.concatenate(onsets) / BLOCK_S).astype(int)
    return _Cue(x, observed, unit, plan.reference == "average")


def _clean_signal(
    recording: Recording, plan: Plan, *, sfreq_hz: float
) -> tuple[Float, list[tuple[int, int]]]:
    """The cleaned signal from the recording's start, silent in gaps, and where its segments lie."""
    blocks = [(block.onset_s, block.segment, block.clean) for block in apply(plan, recording)]
    ends = [round(onset * sfreq_hz) + clean.shape[1] for onset, _, clean in blocks]
    signal = np.zeros((len(recording.ch_names), max(ends)), np.float32)
    parts: dict[int, tuple[int, int]] = {}
    for (_, segment, clean), end in zip(blocks, ends, strict=True):
        start = end - clean.shape[1]
        signal[:, start:end] = clean
        parts[segment] = (parts.get(segment, (start, end))[0], end)
    return signal, list(parts.values())


def _within(
    span: tuple[float, float],
    parts: list[tuple[int, int]],
    *,
    n_times: int,
    sfreq_hz: float,
    length: int,
    job: _Job,
) -> slice:
    start, stop = (round(second * sfreq_hz) for second in span)
    if not 0 <= start < stop <= n_times or not any(a < start and stop < b for a, b in parts):
        raise StudyError(
            f"--hide {job.hide}: expected seconds within the recording's {n_times / sfreq_hz:.1f} "
            "s of uninterrupted signal, for instance 12-12.5"
        )
    if stop - start > length // 2:
        raise StudyError(
            f"--hide {job.hide}: {span[1] - span[0]:g} s are more than half of the model's window "
            f"({length / sfreq_hz:g} s); hide a shorter stretch"
        )
    return slice(start, stop)


def _overlapping(
    bundle: Bundle, x: Float, *, visible: Mask, parts: list[tuple[int, int]], way: Way
) -> Float:
    """Completion of a long signal by overlapping windows, those in whose middle it lies first."""
    length = bundle.info.shape[1]
    total = np.zeros_like(x)
    weight = np.zeros(x.shape[1], np.float32)
    taper = np.hanning(length + 2)[1:-1].astype(np.float32)
    for start, stop in parts:
        if stop - start < length:
            continue
        starts = np.unique(
            np.append(np.arange(start, stop - length, max(1, length // 4)), stop - length)
        )
        needed = [s for s in starts if not visible[:, s : s + length].all()]
        for first in range(0, len(needed), 64):
            chosen = needed[first : first + 64]
            seen = np.stack([visible[:, s : s + length] for s in chosen])
            cues = np.stack([x[:, s : s + length] for s in chosen])
            for s, made in zip(
                chosen, completion.complete(bundle, cues, visible=seen, way=way), strict=True
            ):
                total[:, s : s + length] += taper * made
                weight[s : s + length] += taper
    return np.where(weight > 0, total / np.maximum(weight, 1e-9), x).astype(np.float32)


# -------------------------------------------------------------------------------- the report


def _report(job: _Job, result: _Result, *, warnings: tuple[str, ...]) -> dict[str, Any]:
    """The figures as JSON and a page, beside the completed file."""
    import pandas as pd

    info = job.bundle.info
    sentences = [completion.sentence(found) for found in result.measured.values()]
    rows = [
        {
            "hidden": part,
            "by": {"model": f"model, {found['way']}", "variance": "best constant"}.get(
                name, name
            ).replace("_", " "),
            "mean_squared_error": error,
            "best": "best" if name == min(found["errors"], key=found["errors"].get) else "",
        }
        for part, found in result.measured.items()
        for name, error in sorted(found["errors"].items(), key=lambda pair: pair[1])
    ]
    ways = [
        {"hidden": part, "way": way.replace("_", " "), "mean_squared_error": error}
        for part, found in result.measured.items()
        for way, error in sorted(found["tried"].items(), key=lambda pair: pair[1])
    ]
    caption = (
        "Known values hidden and completed, in network units; the variance of what was hidden is "
        "what the best constant reaches."
    )
    frames = [(caption, pd.DataFrame(rows))]
    frames.append(("Ways of the model, on the part that chose between them.", pd.DataFrame(ways)))
    sections = [report.Section("How well it completes", tuple(sentences), (), tuple(frames))]
    if result.hidden is not None:
        errors = result.hidden["errors"]
        table = pd.DataFrame(
            [{"by": n.replace("_", " "), "mean_squared_error": e} for n, e in errors.items()]
        ).sort_values("mean_squared_error")
        words = f"{result.hidden['what']} was hidden: {result.hidden['entries']:,} known values."
        title = "What was hidden by name"
        sections.append(report.Section(title, (words,), (), (("Errors on it.", table),)))
    pictures = tuple(
        portraits.rows_of(
            info.layout,
            shown,
            steps=steps,
            names=("",) if info.layout == "series" else info.entries,
            sfreq_hz=info.sfreq_hz,
            caption={
                "channels": "Windows with channels hidden: one of the hidden channels.",
                "time": "Windows with a stretch of time hidden.",
                "half": "Images with their lower half hidden.",
                "items": "People with some answers hidden.",
            }[part],
        )
        for part, shown, steps in result.shown
    )
    sections.append(report.Section("Examples", (), pictures))
    numbers = tuple(
        report.Number(
            f"Hidden {part}",
            f"{found['errors']['model']:.3g}",
            "mean squared error"
            + (
                f"; {found['best_simple'].replace('_', ' ')} "
                f"{found['errors'][found['best_simple']]:.3g}"
                if found["best_simple"]
                else ""
            ),
        )
        for part, found in result.measured.items()
    )
    verdict = f"Completed: {result.completed}. {sentences[0]}"
    view = report.PlainView(
        what="Completion",
        title=job.item.name,
        headline=report.Headline(
            verdict,
            numbers,
            ("Use the simple way where it is better", "Mark completed values as what they are"),
            "",
            ("Completed values are predictions, not data.", *warnings),
        ),
        sections=tuple(sections),
        facts={"Study": info.study, "Model": job.bundle.model_id, "File": job.out.name},
        notes=result.notes,
    )
    page = job.out.with_name(f"{job.out.name}_report.html")
    write_text(page, report.plain_page(view))
    figures = {
        "model": job.bundle.model_id,
        "completed": result.completed,
        "measured": result.measured,
        "hidden": result.hidden,
        "warnings": list(warnings),
    }
    write_json(job.out.with_name(f"{job.out.name}_report.json"), figures)
    return {"verdict": verdict, "out": str(job.out), "report": str(page), **figures}
