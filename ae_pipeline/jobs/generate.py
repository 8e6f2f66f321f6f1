"""New samples from a trained model, and how far they can be told from real ones.

Codes come from the prior of a variational model (Kingma and Welling, 2014), or, for any model,
from the Gaussian mixture that was fitted to the training codes (Ghosh et al., 2020). The decoder
says how each entry is distributed, and entries are drawn from that: answers are levels of their
item within its range. Of EEG and images the mean is taken; EEG gets back, as noise, the power
that reconstructions lack in each band, because a code of a few numbers carries no noise.

Every file of generated data says that it is synthetic.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from ae_pipeline import report
from ae_pipeline.analysis import likeness
from ae_pipeline.config import StudyError
from ae_pipeline.data import InputError, Samples, axes_of
from ae_pipeline.detectors.ensemble import bands
from ae_pipeline.ingest.origin import Origin, origin
from ae_pipeline.jobs.job import Progress
from ae_pipeline.kind import kind_of
from ae_pipeline.outputs.export import open_model
from ae_pipeline.report.pictures import portraits
from ae_pipeline.report.wording import bracketed, fixed
from ae_pipeline.runtime.files import write_json, write_text
from ae_pipeline.scoring.bundle import Bundle, columns_of

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["Drawn", "decode", "draw", "generate"]

_LOG = logging.getLogger(__name__)

Codes = Literal["auto", "prior", "density"]
BATCH = 256
N_SHOWN = 8
STEPS = (-2.0, -1.0, 0.0, 1.0, 2.0)
"""Where a latent feature is put, in its standard deviations."""


@dataclass(frozen=True)
class Drawn:
    """Generated samples, their codes (n, latent_dim), and where these came from."""

    samples: Samples
    codes: NDArray[np.float32]
    source: Literal["prior", "density"]


def draw(
    bundle: Bundle, n: int, *, seed: int = 0, codes: Codes = "auto", noise: bool = True
) -> Drawn:
    """Generate samples.

    Parameters
    ----------
    bundle : Bundle
    n : int
        How many.
    seed : int
    codes : {'auto', 'prior', 'density'}
        Where codes come from; auto takes the prior of a variational model.
    noise : bool
        Draw entries around what the decoder expects, rather than taking that itself.

    Raises
    ------
    StudyError
        Where the model has no such density.
    """
    rng = np.random.default_rng(seed)
    gaussian = bundle.info.model.objective.bottleneck == "gaussian"
    if codes == "auto":
        codes = "prior" if gaussian else "density"
    if codes == "prior":
        if not gaussian:
            raise StudyError(
                f"--codes prior: a {bundle.info.model.objective.kind} model has no prior over its "
                "codes; use density, or train with model.objective: {kind: variational}"
            )
        z = rng.standard_normal((n, bundle.info.model.latent_dim)).astype(np.float32)
    else:
        ensemble = bundle.ensemble
        if not len(ensemble.means) or not np.isfinite(ensemble.means).all():
            raise StudyError(
                "the model holds no density over its codes, so nothing can be drawn from it; "
                "train it again, or use a variational model"
            )
        z = ensemble.draw_codes(n, rng)
    values = decode(bundle, z, rng=rng if noise else None)
    return Drawn(_samples(bundle, values), z, codes)


def decode(
    bundle: Bundle, z: NDArray[np.float32], *, rng: np.random.Generator | None = None
) -> NDArray[np.float32]:
    """What codes (n, latent_dim) stand for, in the data's own units, (n, *shape).

    Parameters
    ----------
    bundle : Bundle
    z : array
    rng : Generator, optional
        Entries are drawn; without, they are what is expected.
    """
    import torch

    model, scaler = bundle.autoencoder.model, bundle.autoencoder.scaler
    device = next(model.parameters()).device
    parts = []
    with torch.inference_mode():
        for start in range(0, len(z), BATCH):
            parameters = model.decode(torch.from_numpy(z[start : start + BATCH]).to(device))
            mean = model.likelihood.mean(parameters).cpu().numpy()
            if rng is not None and bundle.info.columns:
                mean = _draw_answers(bundle, parameters, mean=mean, rng=rng)
            parts.append(mean)
    units = np.concatenate(parts)
    if rng is not None and bundle.ensemble.band_center.size:
        units = units + _lacking_noise(bundle, units, rng=rng)
    values = scaler.inverse(units)
    return kind_of(bundle.info.kind).possible(bundle.info, values, drawn=rng is not None)


def _draw_answers(
    bundle: Bundle, parameters: Tensor, *, mean: NDArray[np.float32], rng: np.random.Generator
) -> NDArray[np.float32]:
    """An answer for each item, in network units, as probable as the decoder says."""
    import torch

    columns, likelihood = columns_of(bundle.info), bundle.autoencoder.model.likelihood
    n, k = mean.shape
    out = mean.copy()
    n_levels = [len(column.levels) for column in columns]
    discrete = np.array(
        [_has_probabilities(likelihood, j, n_levels=n_levels[j]) for j in range(k)], dtype=bool
    )
    if discrete.any():
        most = max(n_levels)
        log_p = np.full((most, n, k), -np.inf)
        for level in range(most):
            place = [min(level, m - 1) / max(m - 1, 1) for m in n_levels]
            x = torch.tensor(place, dtype=parameters.dtype, device=parameters.device).expand(n, k)
            loss = likelihood.loss_per_entry(parameters, x.contiguous()).cpu().numpy()
            there = discrete & (level < np.array(n_levels))
            log_p[level][:, there] = -loss[:, there]
        p = np.exp(log_p[:, :, discrete] - log_p[:, :, discrete].max(0))
        cumulative = (p / p.sum(0)).cumsum(0)
        chosen = (rng.random(cumulative.shape[1:]) > cumulative).sum(0)
        out[:, discrete] = chosen / (np.maximum(np.array(n_levels)[discrete], 2) - 1)
    if (~discrete).any():
        # a median of squared errors is 0.455 variances of a normal distribution
        sd = np.sqrt(bundle.calibration.usual_error / 0.455)[~discrete]
        out[:, ~discrete] += sd * rng.standard_normal((n, int((~discrete).sum())))
    return out.astype(np.float32)


def _has_probabilities(likelihood: Any, column: int, *, n_levels: int) -> bool:
    """Whether the loss of an item's level is the logarithm of its probability."""
    family = likelihood.uniform or likelihood.by_column[column][0]
    if n_levels < 2 or family in ("gaussian", "huber"):
        return False
    return family != "bernoulli" or n_levels == 2


def _lacking_noise(
    bundle: Bundle, units: NDArray[np.float32], *, rng: np.random.Generator
) -> NDArray[np.float32]:
    """Noise with the power that reconstructions usually lack in each channel and band."""
    center = bundle.ensemble.band_center  # (channels, bands): log of signal over reconstruction
    n, n_channels, n_times = units.shape
    sfreq_hz = float(bundle.info.sfreq_hz or 1)
    freqs_hz = np.fft.rfftfreq(n_times, 1 / sfreq_hz)
    taper = np.hanning(n_times + 1)[:-1]
    power = np.abs(np.fft.rfft(units * taper.astype(np.float32), axis=2)) ** 2
    density = np.zeros((n_channels, len(freqs_hz)))
    for b, (low, high) in enumerate(bands(sfreq_hz, n_times)):
        here = (freqs_hz >= low) & (freqs_hz < high)
        usual = power[:, :, here].mean((0, 2))
        lacking = usual * np.maximum(np.expm1(np.minimum(center[:, b], 20.0)), 0.0)
        density[:, here] = lacking[:, None] / np.square(taper).sum()
    waves = rng.standard_normal((2, n, n_channels, len(freqs_hz)), dtype=np.float32)
    spectrum = np.sqrt(density * n_times / 2) * (waves[0] + 1j * waves[1])
    return np.asarray(np.fft.irfft(spectrum, n_times, axis=2), dtype=np.float32)


def _samples(bundle: Bundle, values: NDArray[np.float32]) -> Samples:
    import pandas as pd

    info = bundle.info
    names = [f"synthetic-{i:05d}" for i in range(len(values))]
    axes = axes_of(info.layout, info.entries, sfreq_hz=info.sfreq_hz, unit=info.unit)
    mask = np.ones(values.shape, bool) if info.columns else None
    meta = pd.DataFrame({"recording": names, "subject": names})
    return Samples(info.kind, values, meta, axes, mask, columns_of(info), info.sfreq_hz)


# ------------------------------------------------------------------------------ the command


def generate(
    model: str,
    n: int,
    *,
    out: Path,
    seed: int = 0,
    codes: Codes = "auto",
    noise: bool = True,
    study: Path | None = None,
    progress: Progress | None = None,
) -> dict[str, Any]:
    """Write generated data, and a report that holds it against real data.

    Parameters
    ----------
    model : str
        Bundle's folder, ``runs:/ID/model`` or ``models:/NAME@ALIAS``.
    n : int
        Windows, images or rows.
    out : Path
        EEG: ``.fif`` (``-epo.fif`` for epochs) or ``.edf``; images: ``idx3-ubyte`` or ``.png``;
        tables: ``.csv`` or ``.tsv``.
    seed, codes, noise
        As in :func:`draw`.
    study : Path, optional
        Study file, where it does not lie beside the model.
    progress : Progress, optional

    Returns
    -------
    dict
        ``out``, ``report``, ``figures``, ``verdict``.

    Raises
    ------
    StudyError
        Where the model or ``out`` cannot be used.
    """
    if n < 1:
        raise StudyError(f"-n {n}: how many samples to generate; at least 1")
    progress = progress or Progress()
    place, bundle = open_model(model, out)
    drawn = draw(bundle, n, seed=seed, codes=codes, noise=noise)
    kind_of(bundle.info.kind).write(out, bundle, samples=drawn.samples)
    real: Origin | None = None
    why_not = ""
    try:
        progress.stage("reading real data to compare with")
        real = origin(place, bundle.info, study=study)
    except InputError as error:
        why_not = str(error)
        _LOG.warning(f"no comparison with real data: {error}")
    progress.stage("comparing")
    found = None
    if real is not None:
        few = n < 200
        more = draw(bundle, 1000, seed=seed + 1, codes=codes, noise=noise) if few else drawn
        scaler = bundle.autoencoder.scaler
        found = likeness.compare(more.samples, real.held_out, train=real.train, scaler=scaler)
    figures = {
        "model": bundle.model_id,
        "codes": drawn.source,
        "seed": seed,
        "noise": noise,
        "synthetic": True,
        "likeness": None if found is None else found.figures,
    }
    view = _view(bundle, drawn, found=found, real=real, why_not=why_not, name=out.name)
    page = out.with_name(f"{out.name}_report.html")
    write_text(page, report.plain_page(view))
    write_json(out.with_name(f"{out.name}_report.json"), figures)
    return {
        "verdict": view.headline.verdict,
        "out": str(out),
        "report": str(page),
        "figures": figures,
    }


# -------------------------------------------------------------------------------- the report


def _view(
    bundle: Bundle,
    drawn: Drawn,
    *,
    found: likeness.Likeness | None,
    real: Origin | None,
    why_not: str,
    name: str,
) -> report.PlainView:
    info = bundle.info
    things = kind_of(info.kind).words.made
    words = {"prior": "the model's prior", "density": "the density of the training codes"}
    warnings = ["This data is synthetic: nobody recorded or answered it."]
    numbers: tuple[report.Number, ...] = (report.Number("Generated", f"{len(drawn.samples):,}"),)
    if found is None:
        verdict = f"{len(drawn.samples):,} {things} drawn from {words[drawn.source]}."
        warnings.append(f"Nothing is said about how real they look: {why_not}")
    else:
        figures = found.figures
        two, copied = figures["two_samples"], figures["copies"]
        verdict = f"{_told_apart(two)}; {_memorised(copied)}."
        near = copied["nearest_is_training"]
        numbers += (
            report.Number(
                "Told from real",
                fixed(two["area"], 2),
                f"area under the curve {bracketed(two['interval'])}; 0.5 is not at all; training "
                f"against held-out data {fixed(two['training_data'], 2)}",
            ),
            report.Number(
                "Nearest is training data",
                fixed(near["value"], 2),
                f"of the generated {bracketed(near['interval'])}; 0.5 where nothing was memorised",
            ),
            report.Number(
                "Difference of correlations",
                fixed(figures["correlation_difference"]["value"], 2),
                f"training data {fixed(figures['correlation_difference']['training_data'], 2)}",
            ),
        )
    headline = report.Headline(
        verdict,
        numbers,
        (
            "Look at the generated samples and the traversals below",
            "Use them to try a pipeline or to teach; do not mix them with data",
        ),
        "",
        tuple(warnings),
    )
    sections = [_examples(bundle, drawn, real=real)]
    if found is not None:
        sections.append(_comparison(found))
    sections.append(_traversals(bundle, drawn, real=real))
    facts = {
        "Study": info.study,
        "Model": bundle.model_id,
        "Codes": words[drawn.source],
        "File": name,
    }
    return report.PlainView(
        what="Generated data",
        title=info.study,
        headline=headline,
        sections=tuple(sections),
        facts=facts,
    )


def _told_apart(two: dict[str, Any]) -> str:
    area, span = two["area"], two["interval"]
    if area is None:
        return "Too few samples to say whether a classifier tells generated from real"
    if span[0] <= 0.5:
        return "A classifier cannot tell generated from real"
    if area < 0.75:
        return f"A classifier tells generated from real a little better than chance ({area:.2f})"
    return f"A classifier tells generated from real: they differ (area {area:.2f})"


def _memorised(copied: dict[str, Any]) -> str:
    return {
        None: "whether training data was memorised cannot be said",
        False: "no sign that training data was memorised",
        True: "generated samples lie nearer to training data than to other real data: some of it "
        "may be memorised",
    }[copied["memorised"]]


def _examples(bundle: Bundle, drawn: Drawn, *, real: Origin | None) -> report.Section:
    info = bundle.info
    rows = [("generated", np.asarray(drawn.samples.values[:N_SHOWN]))]
    if real is not None:
        few = np.linspace(0, len(real.held_out) - 1, N_SHOWN).astype(int)
        rows.append(("real, held out", real.held_out.batch(few)[0]))
    n = min(len(values) for _, values in rows)
    rows = [(name, values[:n]) for name, values in rows]
    steps = [str(i + 1) for i in range(n)]
    caption = "Generated samples" + (" beside real ones of the held-out part." if real else ".")
    drawn_rows = portraits.rows_of(
        info.layout,
        rows,
        steps=steps,
        names=info.entries,
        sfreq_hz=info.sfreq_hz,
        caption=caption,
    )
    return report.Section("Samples", (), (drawn_rows,))


def _comparison(found: likeness.Likeness) -> report.Section:
    figures = found.figures
    copied = figures["copies"]
    pictures = (
        portraits.marginal_scatter(found.marginals),
        portraits.correlation_maps(found.names, found.real, generated=found.generated),
        portraits.power_lines(found.freqs_hz, found.real_power, generated=found.generated_power),
    )
    text = (
        f"Distance of the marginals {figures['marginal_distance']['value']:.3f} (training against "
        f"held-out data {figures['marginal_distance']['training_data']:.3f}; 0 alike, 1 apart).",
        f"Nearest training sample: of generated data {copied['distance_to_training']:.3f} away, of "
        f"held-out data {copied['held_out_to_training']:.3f} (medians, network units); identical "
        f"to a training sample {copied['identical']:.1%} of the generated, "
        f"{copied['held_out_identical']:.1%} of the held-out.",
    )
    worst = found.marginals.sort_values("distance", ascending=False).head(20).round(3)
    return report.Section(
        "Generated against real",
        text,
        tuple(each for each in pictures if each is not None),
        (("The entries whose distributions differ most, in network units.", worst),),
    )


def _traversals(bundle: Bundle, drawn: Drawn, *, real: Origin | None) -> report.Section:
    """One feature moved at a time, and the way from one sample to another."""
    info = bundle.info
    cloud = bundle.ensemble.draw_codes(2_000, np.random.default_rng(0))
    center, spread = np.median(cloud, 0), cloud.std(0)
    effects = []
    for i in range(info.model.latent_dim):
        codes = np.repeat(center[None], len(STEPS), 0)
        codes[:, i] += np.array(STEPS) * spread[i]
        effects.append(decode(bundle, codes.astype(np.float32)))
    scale = bundle.autoencoder.scaler
    moved = [float(np.abs(np.diff(scale.transform(e)[[0, -1]], axis=0)).mean()) for e in effects]
    order = np.argsort(moved)[::-1][:12]
    rows = [(f"z{i:02d}", effects[i]) for i in order]
    steps = [f"{step:+g} SD" for step in STEPS]
    first = portraits.rows_of(
        info.layout,
        rows,
        steps=steps,
        names=info.entries,
        sfreq_hz=info.sfreq_hz,
        caption="Each row moves one latent feature and holds the others at their median; "
        "strongest first.",
    )
    share = np.linspace(0, 1, N_SHOWN, dtype=np.float32)[:, None]
    ends = drawn.codes if len(drawn.codes) > 1 else cloud[:2]
    if real is not None and len(real.held_out) > 7:
        few = real.held_out.take(np.linspace(0, len(real.held_out) - 1, 8).astype(int))
        ends = bundle.autoencoder.latents(few)
    ways = []
    for i in range(0, min(len(ends) - 1, 7), 2):
        codes = (1 - share) * ends[i] + share * ends[i + 1]
        ways.append((f"way {i // 2 + 1}", decode(bundle, codes.astype(np.float32))))
    second = portraits.rows_of(
        info.layout,
        ways,
        steps=[f"{100 * float(s):.0f} %" for s in share[:, 0]],
        names=info.entries,
        sfreq_hz=info.sfreq_hz,
        caption="The straight way between the codes of two samples"
        + (" of the held-out part." if real is not None else "."),
    )
    return report.Section("What the latent features do", (), (first, second))
