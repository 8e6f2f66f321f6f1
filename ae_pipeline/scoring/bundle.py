"""The model on disk: everything scoring needs, without a pickle anywhere.

A bundle is a folder with ``bundle.json`` (what the model is, what data it takes) and
``weights.safetensors`` (the autoencoder, the baselines, the calibration scores, as arrays). It
refuses data of another shape, unit, montage or sampling rate.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, PlainSerializer, PlainValidator, ValidationError

from ae_pipeline.config import Config, StudyError, explain
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
    "describe_columns",
    "load",
    "save",
]

FORMAT: Literal[2] = 2


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
    study: str
    kind: str
    """Name of the kind of data."""
    model: Model
    shape: tuple[int, ...]
    """Shape of one sample."""
    unit: str
    """Unit of the values the model takes: uV, 0..1 or answers."""
    entries: tuple[str, ...] = ()
    """Names of the channels or items, in order."""
    columns: tuple[dict[str, Any], ...] = ()
    """Tables: type and levels of each item."""
    positions_m: tuple[tuple[float | None, float | None, float | None], ...] = ()
    """EEG: electrode positions in metres."""
    sfreq_hz: float | None = None
    has_missing: bool = False
    source: Annotated[Source, PlainValidator(_source), PlainSerializer(_without_place)]
    """The study's source; where the data lay is not kept."""
    preprocess: Preprocess | None = None
    windows: Windowing | None = None
    detection: Detection
    threshold: float | None = None
    """EEG: a window is flagged above this score."""
    exchangeable_unit: str
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
    with write_through(folder / "weights.safetensors") as temporary:
        save_file({name: np.ascontiguousarray(array) for name, array in state.items()}, temporary)
    write_json(folder / "bundle.json", bundle.info.model_dump(mode="json"))


def load(folder: Path | str) -> Bundle:
    """Read a bundle.

    Raises
    ------
    StudyError
        Where the folder is not a bundle, is damaged, or comes from a newer version.
    """
    from safetensors import SafetensorError
    from safetensors.numpy import load_file

    folder = Path(folder)
    description, weights = folder / "bundle.json", folder / "weights.safetensors"
    if not description.is_file() or not weights.is_file():
        hint = (
            f"; did you mean {folder / 'model'}?"
            if (folder / "model/bundle.json").is_file()
            else ""
        )
        raise StudyError(f"{folder}: not a model bundle (no bundle.json and weights){hint}")
    try:
        content = json.loads(description.read_text(encoding="utf-8"))
        if isinstance(content, dict) and content.get("format", FORMAT) != FORMAT:
            raise StudyError(
                f"{folder}: bundle format {content['format']}, this version reads {FORMAT}; "
                "train it again, or use the version of ae-pipeline that wrote it"
            )
        info = BundleInfo.model_validate(content)
        state = load_file(weights)
    except (json.JSONDecodeError, UnicodeDecodeError, SafetensorError, OSError) as error:
        raise StudyError(
            f"{folder}: the bundle is damaged ({error}); train or fetch it again"
        ) from None
    except ValidationError as error:
        raise explain(error, BundleInfo, where=str(description)) from None
    groups: dict[str, dict[str, NDArray[Any]]] = {}
    for name, array in state.items():
        group, _, rest = name.partition("/")
        groups.setdefault(group, {})[rest] = array
    try:
        autoencoder = _autoencoder(info, groups["autoencoder"])
        baselines: dict[str, Scorer] = {
            name: scorer(autoencoder.scaler, **groups[name])
            for name, scorer in BASELINES.items()
            if name in groups
        }
        ensemble = Ensemble.from_state(autoencoder, groups["ensemble"])
        calibration = Calibration.from_state(groups["calibration"])
        head = None
        if info.model.head is not None and "head" in groups:
            head = FittedHead(info.model.head, info.head_classes, **groups["head"])
    except (KeyError, RuntimeError, TypeError) as error:
        said = " ".join(str(error).split("\n\t")[:2])  # PyTorch lists every layer
        raise StudyError(
            f"{folder}: the weights do not fit bundle.json ({said}); train it again"
        ) from None
    digest = digest_files([description, weights])
    return Bundle(info, ensemble, baselines, calibration, digest, head)


def _autoencoder(info: BundleInfo, state: dict[str, NDArray[Any]]) -> FittedAutoencoder:
    import torch

    from ae_pipeline.models.autoencoder import Autoencoder

    columns = columns_of(info)
    model = Autoencoder(
        info.model, info.layout, shape=info.shape, columns=columns, has_missing=info.has_missing
    )
    scaler = Scaler(state.pop("scaler.center"), state.pop("scaler.scale"))
    model.load_state_dict({name: torch.from_numpy(array) for name, array in state.items()})
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
