"""The model on disk: everything scoring needs, without a pickle anywhere.

A bundle is a folder with ``bundle.json`` (what the model is, what data it takes) and
``weights.safetensors`` (the autoencoder, the baselines, the calibration scores, as arrays). It
refuses data of another shape, unit, montage or sampling rate.

A bundle may come from a stranger: :func:`load` takes nothing for granted, and whatever is wrong
with one is a :class:`StudyError`.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from math import isfinite, prod
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import (
    Field,
    PlainSerializer,
    PlainValidator,
    PositiveFloat,
    PositiveInt,
    ValidationError,
)

from ae_pipeline.config import NAME, Config, StudyError, explain
from ae_pipeline.data import Column, InputError, Layout, Samples, Scorer, axes_of
from ae_pipeline.detectors.baselines import BASELINES
from ae_pipeline.detectors.calibration import Calibration, Detection
from ae_pipeline.detectors.ensemble import Ensemble, ViewInputs
from ae_pipeline.detectors.heads import FittedHead
from ae_pipeline.eeg.preprocess import Preprocess
from ae_pipeline.eeg.windows import Windowing
from ae_pipeline.kind import Source, kind_of
from ae_pipeline.models import Model
from ae_pipeline.models.scaler import Scaler
from ae_pipeline.runtime.files import digest_files, write_json, write_through
from ae_pipeline.scoring.judge import Judge, Judged, known_columns, raw_columns
from ae_pipeline.stats import robust_sd
from ae_pipeline.training.loop import FittedAutoencoder

if TYPE_CHECKING:
    import pandas as pd

__all__ = [
    "Bundle",
    "BundleInfo",
    "columns_of",
    "copy",
    "describe_columns",
    "load",
    "save",
]

FORMAT: Literal[2] = 2

OF_RECORDING = (
    *("score", "p_value", "flagged", "score_own", "score_neighbours", "score_population"),
    *("score_state", "top_band", "top_view", "top_deviation", "top_entry", "top_ratio"),
)
"""EEG: columns that need the recording beside the window."""
DESCRIPTION, WEIGHTS = "bundle.json", "weights.safetensors"
LARGEST = 2**26
"""Bytes of a description, and entries of a sample."""
ALIKE = (
    ("autoencoder/scaler.", "center scale"),
    ("ensemble/", "center below above"),
    ("ensemble/", "band_center band_spread"),
    ("ensemble/", "population_center population_spread"),
    ("ensemble/", "sum_center sum_spread"),
    ("ensemble/person.", "low high mean profile width"),
    ("ensemble/person.forest.", "left right feature threshold depth"),
    ("isolation_forest/", "left right feature threshold depth"),
    ("pca/", "mean residual"),
    ("robust_z/", "center spread"),
)
"""Arrays of one shape: NumPy would stretch a shorter one."""
MAY_BE_NAN = "/person.easiness"
"""The one array in which NaN says something: an item has fewer levels than another."""


def _source(given: Any) -> Source:
    """A source as ``bundle.json`` has it; inputs are given by name, so its path says nothing."""
    if isinstance(given, Source):
        return given
    return kind_of(given["kind"]).source.model_validate({**given, "path": "."})


def _without_place(source: Source) -> dict[str, Any]:
    return source.model_dump(mode="json", exclude=set(source.not_kept))


class BundleInfo(Config):
    """Contents of ``bundle.json``."""

    format: Literal[2] = FORMAT
    study: str = Field(pattern=NAME)
    kind: str
    """Name of the kind of data."""
    model: Model
    shape: tuple[PositiveInt, ...] = Field(min_length=1)
    """Shape of one sample."""
    unit: str
    """Unit of the values the model takes: uV, 0..1 or answers."""
    entries: tuple[str, ...] = ()
    """Names of the channels or items, in order."""
    columns: tuple[dict[str, Any], ...] = ()
    """Tables: type and levels of each item."""
    positions_m: tuple[tuple[float | None, float | None, float | None], ...] = ()
    """EEG: electrode positions in metres."""
    sfreq_hz: PositiveFloat | None = None
    has_missing: bool = False
    source: Annotated[Source, PlainValidator(_source), PlainSerializer(_without_place)]
    """The study's source; where the data lay is not kept."""
    preprocess: Preprocess | None = None
    windows: Windowing | None = None
    detection: Detection
    threshold: float | None = None
    """EEG: a window is flagged above this score."""
    exchangeable_unit: Literal["subject", "recording", "block", "row"]
    """What the calibration statements are about: subject, recording, block or row."""
    claims: tuple[str, ...] = ()
    """What must not be claimed."""
    training: dict[str, Any]
    """What the normal data was and how the model was trained; no identities."""
    training_digest: str
    head_classes: tuple[str, ...] = ()
    """Classes that the head tells apart, in the order of its outputs."""
    rehearsal: dict[str, Any] = Field(default_factory=dict)
    """How well each scorer told planted deviations from held-out data."""
    versions: dict[str, str]

    @property
    def line_freq_hz(self) -> float | None:
        """EEG: the mains frequency that the study declares."""
        return getattr(self.source, "line_freq_hz", None)

    @property
    def layout(self) -> Layout:
        """Form of one sample: tables declare their columns, series have a rate."""
        return "table" if self.columns else "grid" if self.sfreq_hz is None else "series"


@dataclass(frozen=True)
class Bundle:
    """A model ready to score."""

    info: BundleInfo
    ensemble: Ensemble
    baselines: dict[str, Scorer]
    calibration: Calibration
    digest: str = ""
    head: FittedHead | None = None

    @property
    def autoencoder(self) -> FittedAutoencoder:
        """The network with its scale."""
        return self.ensemble.autoencoder

    @property
    def by_calibration(self) -> Judge:
        """The judge with the model's own rates."""
        return Judge(self.calibration, self.info.detection, self.info.threshold)

    @property
    def model_id(self) -> str:
        """Short name of exactly this model."""
        return f"{self.info.study}-{self.digest[:10]}"

    def view_inputs(self, samples: Samples) -> ViewInputs:
        """The first half of :meth:`judge`; of few samples, because it keeps a copy of them."""
        return self.ensemble.view_inputs(samples, keep=True)

    def judge(self, samples: Samples, inputs: ViewInputs | None = None) -> Judged:
        """Score samples with every scorer and compare with the calibration data.

        Parameters
        ----------
        samples : Samples
        inputs : ViewInputs, optional
            What :meth:`view_inputs` made of them, where that is known already.

        Raises
        ------
        InputError
            Where the samples are not what the model was trained on.
        """
        self.refuse_misfit(samples)
        columns, scores, latents = raw_columns(
            self.ensemble, self.baselines, samples=samples, inputs=inputs
        )
        columns |= self.by_calibration.samples(columns["score"])
        if self.info.entries:
            columns["top_entry"], columns["top_ratio"] = self.top_entries(scores.by_entry)
        if self.head is not None:
            columns |= self.head.predict(samples, latents, self.autoencoder.scaler)
        return Judged(known_columns(samples), columns, scores.by_entry, latents)

    def top_entries(
        self, by_entry: NDArray[np.float32]
    ) -> tuple[NDArray[np.object_], NDArray[np.float32]]:
        """The channel or item that deviates most from its own usual error, and how many times.

        Each entry is compared with itself: some channels are always hard to reconstruct.
        """
        ratio = by_entry / self.calibration.usual_error
        top = ratio.argmax(1)
        names = np.array(self.info.entries, dtype=object)
        return names[top], ratio[np.arange(len(top)), top]

    def judge_values(self, values: NDArray[Any] | pd.DataFrame) -> pd.DataFrame:
        """Score plain numbers in the units of the data.

        Parameters
        ----------
        values : array of shape (n, *shape) or DataFrame
            Windows in microvolts, images in 0 to 1, or answers (columns by item name; missing
            ones NaN).

        Returns
        -------
        DataFrame
            ``score``, ``score_NAME``, ``p_value`` and what deviates most, one row a sample.
        """
        import pandas as pd

        info, table = self.info, bool(self.info.columns)
        if table and isinstance(values, pd.DataFrame):
            missing = [name for name in info.entries if name not in values]
            if missing:
                raise InputError(
                    f"the table lacks the model's columns {', '.join(missing[:5])}; it needs "
                    f"{len(info.entries)} items by name"
                )
            values = values[list(info.entries)]
        try:
            array = np.asarray(values, dtype=np.float32)
        except (TypeError, ValueError) as error:
            raise InputError(f"the values are not all numbers ({error})") from None
        if array.ndim == 2 and array.shape[1] == np.prod(info.shape):
            array = array.reshape(-1, *info.shape)
        if not array.size or array.shape[1:] != info.shape:
            raise InputError(f"values of shape {array.shape} given, expected (n, *{info.shape})")
        observed = np.isfinite(array)
        if not table and not observed.all():
            raise InputError("the values hold NaN or infinity; remove those windows or images")
        self._refuse_other_unit(array)
        samples = Samples(
            info.kind,
            np.where(observed, array, np.float32(0)),
            pd.DataFrame(index=range(len(array))),
            axes_of(info.layout, info.entries, sfreq_hz=info.sfreq_hz, unit=info.unit),
            observed if table else None,
            columns_of(info),
            info.sfreq_hz,
        )
        return self.judge(samples).frame

    @property
    def input_facts(self) -> dict[str, str | float]:
        """Form and unit of the samples, and what was done to windows before."""
        info, clean = self.info, self.info.preprocess
        facts: dict[str, str | float] = {
            "unit": info.unit,
            "shape": " x ".join(map(str, ("n", *info.shape))),
        }
        if clean is None or info.sfreq_hz is None:
            return facts
        return facts | {
            "sfreq_hz": float(info.sfreq_hz),
            "high_pass_hz": float(clean.high_pass_hz or 0),
            "low_pass_hz": float(clean.low_pass_hz or info.sfreq_hz / 2),
            "reference": str(info.training.get("reference", "")),
            "channels": ",".join(info.entries),
        }

    def predict_values(
        self, values: NDArray[Any] | pd.DataFrame, stated: Mapping[str, Any] | None = None
    ) -> pd.DataFrame:
        """Return what can be said of plain numbers alone and is equal to what ``score`` writes.

        Of EEG that leaves out the ensemble's score and what follows from it: they compare a
        window with its own recording before the reference, which the windows do not show.

        Parameters
        ----------
        values
            As :meth:`judge_values` takes them; EEG filtered, referenced and at the model's rate.
        stated : mapping, optional
            What is known of them; refused where it differs from :attr:`input_facts`.
        """
        for name, expected in self.input_facts.items():
            if stated and stated.get(name, expected) != expected:
                raise InputError(f"{name} {stated[name]} given, the model takes {expected}")
        frame = self.judge_values(values)
        if self.ensemble.population is None:
            return frame
        return frame.drop(columns=[name for name in OF_RECORDING if name in frame])

    def _refuse_other_unit(self, array: NDArray[np.float32]) -> None:
        """Numbers that cannot be in the model's unit, whatever they show."""
        if self.info.layout == "grid":
            low, high = float(array.min()), float(array.max())
            if low < 0 or high > 1:
                raise InputError(f"pixels of {low:g} to {high:g} given, expected 0 (black) to 1")
        elif self.info.layout == "series":
            spread = float(robust_sd(array))
            usual = float(np.median(self.autoencoder.scaler.scale))
            if spread > 1e4 * usual or 0 < spread < 1e-4 * usual:
                raise InputError(
                    f"windows with a deviation of {spread:.3g} given, where the model knows "
                    f"{usual:.3g} microvolts; convert them to microvolts"
                )
        else:
            for answers, column in zip(array.T, columns_of(self.info), strict=True):
                known = answers[np.isfinite(answers)]
                odd = known[~np.isin(known, np.asarray(column.levels, np.float32))]
                if column.levels and len(odd):
                    raise InputError(
                        f"item {column.name!r} holds {odd[0]:g}, which is none of its answers "
                        f"({', '.join(f'{level:g}' for level in column.levels)})"
                    )

    def refuse_misfit(self, samples: Samples) -> None:
        """Raise InputError where samples are not what the model was trained on."""
        expected, given = self.info.shape, samples.shape
        if samples.kind != self.info.kind:
            raise InputError(f"the model is for {self.info.kind} data, not {samples.kind}")
        if self.info.entries and samples.entries != self.info.entries:
            lacking = [name for name in self.info.entries if name not in samples.entries]
            surplus = [name for name in samples.entries if name not in self.info.entries]
            what = kind_of(self.info.kind).words.entries
            detail = "; ".join(
                f"{word} {', '.join(names[:5])}{' ...' if len(names) > 5 else ''}"
                for word, names in (("missing", lacking), ("unknown", surplus))
                if names
            )
            raise InputError(
                f"{what} differ from the model's {len(self.info.entries)} "
                f"({detail or 'another order'}); use a model trained on this montage"
            )
        if given != expected:
            raise InputError(f"samples of shape {given} given, the model takes {expected}")
        if samples.sfreq_hz != self.info.sfreq_hz:
            raise InputError(
                f"samples at {samples.sfreq_hz} Hz given, the model takes {self.info.sfreq_hz} Hz"
            )


# --------------------------------------------------------------------------------- disk


def save(folder: Path, bundle: Bundle) -> None:
    """Write a bundle into an existing folder (atomic as a whole by the caller's folder)."""
    from safetensors.numpy import save_file

    state = {f"autoencoder/{k}": v for k, v in bundle.autoencoder.state().items()}
    state |= {f"ensemble/{k}": v for k, v in bundle.ensemble.state().items()}
    for name, scorer in bundle.baselines.items():
        state |= {f"{name}/{k}": v for k, v in scorer.state().items()}
    state |= {f"calibration/{k}": v for k, v in bundle.calibration.state().items()}
    if bundle.head is not None:
        state |= {f"head/{k}": v for k, v in bundle.head.state().items()}
    folder.mkdir(parents=True, exist_ok=True)
    weights = folder / WEIGHTS
    with write_through(weights) as temporary:
        save_file({name: np.ascontiguousarray(array) for name, array in state.items()}, temporary)
    description = bundle.info.model_dump(mode="json") | {"weights_digest": digest_files([weights])}
    write_json(folder / DESCRIPTION, description)


def copy(folder: Path, to: Path) -> None:
    """Copy a bundle into a folder, and nothing else that lies beside it."""
    to.mkdir(parents=True, exist_ok=True)
    for name in (DESCRIPTION, WEIGHTS):
        shutil.copyfile(_file(folder, name), to / name)


def _file(folder: Path, name: str) -> Path:
    if (folder / name).is_symlink():
        raise StudyError(f"{folder / name}: is a link, which a model must not hold; copy the file")
    return folder / name


def load(folder: Path | str) -> Bundle:
    """Read a bundle.

    Raises
    ------
    StudyError
        Where the folder is not a bundle, is damaged, or comes from a newer version.
    """
    folder = Path(folder)
    description, weights = (_file(folder, name) for name in (DESCRIPTION, WEIGHTS))
    if not description.is_file() or not weights.is_file():
        hint = (
            f"; did you mean {folder / 'model'}?"
            if (folder / "model" / DESCRIPTION).is_file()
            else ""
        )
        raise StudyError(f"{folder}: not a model bundle (no bundle.json and weights){hint}")
    try:
        info, state = _read(description, weights)
    except StudyError as error:
        raise StudyError(f"{folder}: {str(error).removeprefix(f'{folder}: ')}") from None
    except ValidationError as error:
        raise explain(error, BundleInfo, where=str(description)) from None
    except Exception as error:  # whatever somebody has written there
        raise StudyError(
            f"{folder}: the bundle is damaged ({_brief(error)}); train or fetch it again"
        ) from None
    try:
        bundle = _assembled(info, state)
        _try(bundle)
    except Exception as error:
        raise StudyError(
            f"{folder}: the weights do not fit bundle.json ({_brief(error)}); train it again"
        ) from None
    return replace(bundle, digest=digest_files([description, weights]))


def _brief(error: Exception) -> str:
    """The beginning of a message in one line: PyTorch lists every layer."""
    if isinstance(error, RecursionError):
        return "nested too deeply"
    said = " ".join(" ".join(str(error).split("\n\t")[:2]).split()) or type(error).__name__
    return said if len(said) <= 200 else f"{said[:199]}…"


def _read(description: Path, weights: Path) -> tuple[BundleInfo, dict[str, NDArray[Any]]]:
    """The contents of both files; every number is one."""
    from safetensors.numpy import load_file

    if description.stat().st_size > LARGEST:
        raise ValueError(f"{DESCRIPTION} is larger than {LARGEST >> 20} MB")
    content = json.loads(
        description.read_text(encoding="utf-8"), parse_constant=_finite, parse_float=_finite
    )
    if isinstance(content, dict):
        if content.get("format", FORMAT) != FORMAT:
            raise StudyError(
                f"bundle format {_brief(ValueError(content['format']))}, this version reads "
                f"{FORMAT}; train it again, or use the version of ae-pipeline that wrote it"
            )
        digest = content.pop("weights_digest", None)  # older versions wrote none
        if digest is not None and digest != digest_files([weights]):
            raise ValueError(f"{WEIGHTS} is not the file that {DESCRIPTION} was written with")
    info = BundleInfo.model_validate(content)
    if prod(info.shape) > LARGEST:
        raise ValueError(f"a sample of {prod(info.shape):.1e} numbers")
    if info.entries and len(info.entries) != info.shape[0]:
        raise ValueError(f"{len(info.entries)} names for {info.shape[0]} entries")
    return info, load_file(weights)


def _finite(text: str) -> float:
    if not isfinite(number := float(text)):
        raise ValueError(f"{text[:20]} is not a finite number")
    return number


def _assembled(info: BundleInfo, state: dict[str, NDArray[Any]]) -> Bundle:
    for prefix, names in ALIKE:
        arrays = [state[prefix + name] for name in names.split() if prefix + name in state]
        if len({array.shape for array in arrays}) > 1:
            raise ValueError(f"{prefix}{names.replace(' ', ', ')} are not of one shape")
    groups: dict[str, dict[str, NDArray[Any]]] = {}
    for name, array in state.items():
        if (
            array.dtype.kind == "f"
            and not name.endswith(MAY_BE_NAN)
            and not np.isfinite(array).all()
        ):
            raise ValueError(f"{name} holds NaN or infinity")
        group, _, rest = name.partition("/")
        groups.setdefault(group, {})[rest] = array
    autoencoder = _autoencoder(info, groups["autoencoder"])
    baselines: dict[str, Scorer] = {
        name: scorer(autoencoder.scaler, **groups[name])
        for name, scorer in BASELINES.items()
        if name in groups
    }
    ensemble = Ensemble.from_state(autoencoder, groups["ensemble"])
    calibration = Calibration.from_state(groups["calibration"])
    if len(calibration.entry_median) not in (0, len(info.entries)):
        raise ValueError("calibration/entry_median is not one number an entry")
    head = None
    if info.model.head is not None and "head" in groups:
        head = FittedHead(info.model.head, info.head_classes, **groups["head"])
    return Bundle(info, ensemble, baselines, calibration, head=head)


def _try(bundle: Bundle) -> None:
    """Score a plain sample: arrays of other shapes are found before anything is written."""
    info = bundle.info
    plain = np.zeros((2, *info.shape), np.float32)
    for index, column in enumerate(columns_of(info)):
        plain[:, index] = column.levels[0] if column.levels else 0
    with np.errstate(all="ignore"):
        frame = bundle.judge_values(plain)
    if not np.isfinite(frame["score"]).all():
        raise ValueError("a plain sample has no score")


def _autoencoder(info: BundleInfo, state: dict[str, NDArray[Any]]) -> FittedAutoencoder:
    import torch

    from ae_pipeline.models.autoencoder import Autoencoder

    columns = columns_of(info)
    scaler = Scaler(state.pop("scaler.center"), state.pop("scaler.scale"))
    if not (scaler.scale > 0).all():
        raise ValueError("scaler.scale is not a positive number an entry")
    weights = {name: torch.from_numpy(array) for name, array in state.items()}

    def empty() -> Autoencoder:
        return Autoencoder(
            info.model, info.layout, shape=info.shape, columns=columns, has_missing=info.has_missing
        )

    with torch.device("meta"):  # without memory: what does not fit may be as large as it says
        expected = {name: each.shape for name, each in empty().state_dict().items()}
    given = {name: each.shape for name, each in weights.items()}
    odd = [name for name in {**expected, **given} if expected.get(name) != given.get(name)]
    if odd:
        raise ValueError(f"{', '.join(odd[:3])}: missing, unknown or of another shape")
    model = empty()
    model.load_state_dict(weights)
    model.eval()
    return FittedAutoencoder(model, scaler)


def columns_of(info: BundleInfo) -> tuple[Column, ...]:
    """The model's items, for tables."""
    return tuple(
        Column(
            **{
                **c,
                "levels": tuple(c["levels"]),
                "bounds": tuple(c["bounds"]) if c.get("bounds") else None,
            }
        )
        for c in info.columns
    )


def describe_columns(columns: tuple[Column, ...]) -> tuple[dict[str, Any], ...]:
    """Columns as ``bundle.json`` has them."""
    return tuple(asdict(column) for column in columns)
