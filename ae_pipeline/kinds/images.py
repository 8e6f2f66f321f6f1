"""Images in IDX files: MNIST and its siblings."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ae_pipeline.config import StudyError
from ae_pipeline.data import Column, Layout, Samples
from ae_pipeline.kind import Float, Kind, Proposal, Source, Spread, Words
from ae_pipeline.kinds.samples import SamplesKind
from ae_pipeline.sources import images
from ae_pipeline.sources.images import MnistSource

if TYPE_CHECKING:
    from ae_pipeline.analysis.completing import Completed, Completion
    from ae_pipeline.ingest.gather import Gathered
    from ae_pipeline.ingest.inputs import Input
    from ae_pipeline.scoring.bundle import Bundle, BundleInfo
    from ae_pipeline.study import Study

__all__ = ["KIND", "Images"]

HALVES = ("lower", "upper", "left", "right")


class Images(SamplesKind):
    """Handwritten digits, or any other images of 0 to 1."""

    name = "mnist"
    layout: Layout = "grid"
    source: type[Source] = MnistSource
    endings: tuple[str, ...] = (".png", "idx3-ubyte", "idx3-ubyte.gz")
    private = False
    words = Words(
        title="images",
        one="image",
        many="images",
        cases="images",
        holders="images",
        made="images",
        entries="pixels",
        entry_column="pixels_from",
        unit="0..1",
        loss="binary cross-entropy",
        scores="images",
    )
    defaults: Mapping[str, Any] = {
        "split": {"validation": 0.1},
        "model": {
            "architecture": {
                "kind": "dense",
                "hidden": [256],
                "code_activation": "leaky_relu",
                "init": "glorot",
            },
            "objective": {"kind": "vanilla"},
            "latent_dim": 10,
        },
        "training": {"epochs": 15, "optimizer": "rmsprop", "early_stopping": 5},
    }

    def files(self, path: Path | str) -> list[Path]:
        """List the image files of a file or folder."""
        return images.find(path)

    def members(self, file: Path) -> tuple[Path, ...]:
        """List an image file and the labels beside it."""
        return images.members(file)

    def read(
        self, paths: Sequence[Path], source: Any, *, columns: Sequence[Column] = ()
    ) -> tuple[Samples, tuple[str, ...]]:
        """Read images with their labels."""
        return images.load(paths, source), ()

    def write(self, path: Path, bundle: Bundle, *, samples: Samples) -> None:
        """Write an IDX file, or a sheet in one PNG."""
        from ae_pipeline.outputs.export import write_images

        write_images(path, np.asarray(samples.values))

    def propose(self, source: Path | None) -> Proposal:
        """Return the path; without one the sample data set."""
        if source is None:
            return Proposal({"source": {"kind": self.name, "path": None}})
        return super().propose(source)

    def gather(
        self,
        study: Study,
        advance: Callable[[int, int, str], None],
        *,
        spread: Spread | None = None,
    ) -> Gathered:
        """Read all images; those of the sample data set where the study names none."""
        from ae_pipeline.sources.sample_data import fetch

        place = study.source.path or fetch("mnist")
        named = study.source.model_copy(update={"path": place})
        study = study.model_copy(update={"source": named})
        return super().gather(study, advance, spread=spread)

    def samples(
        self, bundle: Bundle, source: Any, *, item: Input
    ) -> Iterator[tuple[Samples, tuple[str, ...]]]:
        """Yield all images of a file, whatever digits the model was trained on."""
        return super().samples(bundle, source.model_copy(update={"digits": None}), item=item)

    def possible(self, info: BundleInfo, values: Float, *, drawn: bool) -> Float:
        """Return images as files have them: in 255 steps from black to white."""
        return (np.rint(255 * np.clip(values, 0, 1)) / 255).astype(np.float32)

    def complete(self, task: Completion, source: Any, *, item: Input) -> Completed:
        """Complete a half of each image."""
        from ae_pipeline.analysis import completing, completion

        bundle = task.bundle
        ((samples, notes),) = self.samples(bundle, source, item=item)
        asked = task.hide or "lower"
        if asked not in HALVES:
            raise StudyError(f"--hide {asked}: expected {', '.join(HALVES)}")
        x = np.asarray(samples.values[:])
        observed = np.ones(x.shape, bool)
        cue = completing.Cue(x, observed, np.asarray(samples.meta["recording"].astype(str)))
        measured = completing.measure(task, cue, parts=("half",))
        height, width = bundle.info.shape
        visible = observed.copy()
        region = {
            "lower": (slice(None), slice(height // 2, None)),
            "upper": (slice(None), slice(0, height // 2)),
            "left": (slice(None), slice(None), slice(0, width // 2)),
            "right": (slice(None), slice(None), slice(width // 2, None)),
        }[asked]
        visible[region] = False
        task.stage("completing")
        way = task.choose(measured["half"])
        made = completion.complete(bundle, x, visible=visible, way=way)
        completed = replace(samples, values=np.where(visible, x, made))
        self.write(task.out, bundle, samples=completed)
        few = slice(0, completing.MOST)
        hidden = completing.hidden_errors(
            task, "half", x=x[few], made=made[few], visible=visible[few], observed=observed[few]
        )
        hidden["what"] = f"{asked} half"
        return completing.Completed(
            measured,
            hidden,
            f"the {asked} half of {len(x):,} images",
            (completing.examples(task, cue, part="half", measured=measured["half"]),),
            notes,
        )


KIND: Kind = Images()
