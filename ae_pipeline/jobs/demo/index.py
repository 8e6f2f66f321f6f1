"""What the demo found, held against what was planted: the parts of its index page.

Everything is read from the folders that training and scoring have left, in the form of
``evaluate``'s result; nothing is measured anew but what a name is worth.
"""

from __future__ import annotations

from collections.abc import Sequence

from ae_pipeline.jobs.demo.demonstration import Demonstration, Outcome, share
from ae_pipeline.kind import kind_of
from ae_pipeline.report import Headline, IndexEntry, IndexView, Number
from ae_pipeline.report.wording import span

__all__ = ["entry_of", "index_of", "sentence_of"]


def sentence_of(outcome: Outcome) -> str:
    """What was found, in one sentence for the terminal and the page."""
    n, total, wrong = outcome.n_found, outcome.n_planted, outcome.n_wrong
    share = f"all {total}" if n == total else f"{n} of {total}"
    flags = outcome.of.wrong_flag
    wrongly = f"{wrong or 'no'} {flags}{'s' if wrong != 1 else ''}"
    area = outcome.truth["scorers"]["score"]["roc_area"]
    name, simple = outcome.best_simple()
    return (
        f"{share} {outcome.of.planted} flagged, with {wrongly}; area under the ROC curve "
        f"{area:.2f}, of the best simple method ({name.removeprefix('a ')}) "
        f"{simple['roc_area']:.2f}."
    )


def entry_of(outcome: Outcome) -> IndexEntry:
    """The part of the page about one data set."""
    said = sentence_of(outcome)
    href, link, pictures, more = outcome.of.page(outcome)
    return IndexEntry(
        title=outcome.of.title,
        verdict=said[0].upper() + said[1:],
        href=href,
        kind=kind_of(outcome.of.name).words.title,
        link=link,
        numbers=_numbers(outcome),
        pictures=pictures,
        cards=outcome.of.cards(outcome),
        baseline=_baseline(outcome),
        found=outcome.of.tables(outcome),
        more=(
            *more,
            ("How the model was trained, and on what", f"{outcome.of.name}/training/report.html"),
        ),
    )


def index_of(
    outcomes: Sequence[Outcome], entries: Sequence[IndexEntry], *, quick: bool
) -> IndexView:
    """The whole page."""
    found = _listed([f"{o.n_found} of {o.n_planted} {o.of.planted}" for o in outcomes])
    better = [o.of.long for o in outcomes if o.beats_simple()]
    enough = [o.of.long for o in outcomes if not o.beats_simple()]
    parts = []
    if better:
        parts.append(f"For {_listed(better)}, no: the model tells more than every simple method.")
    if enough:
        parts.append(
            f"For {_listed(enough)}, yes: it does not clearly beat the best simple method."
        )
    n = len(outcomes)
    warnings = [
        "The data are real; what is abnormal in them was planted by this demo, so that the truth "
        "is known. How your own anomalies look, only your own data can say.",
    ]
    warnings += [o.of.caution for o in outcomes if o.of.caution]
    if quick:
        warnings.append("This was the quick demo: fewer epochs than the models deserve.")
    return IndexView(
        title="What is normal in these data, and what is not",
        headline=Headline(
            f"{found} were found in {'real data' if n == 1 else f'{n} real data sets'} by "
            f"{'a model' if n == 1 else 'models'} trained on what is taken for normal.",
            tuple(_tile(o) for o in outcomes),
            baseline=" ".join(parts),
            warnings=tuple(warnings),
        ),
        entries=entries,
        first=tuple(
            (f"{o.of.short}: {e.link[0].lower()}{e.link[1:]}", e.href)
            for o, e in zip(outcomes, entries, strict=False)
        ),
        commands=_commands([o.of for o in outcomes]),
    )


# ------------------------------------------------------------------------------ numbers


def _tile(outcome: Outcome) -> Number:
    wrong = outcome.n_wrong
    n_flags = f"{wrong} false alarm{'s' if wrong != 1 else ''}"
    return Number(
        f"{outcome.of.short}: {outcome.of.planted} found",
        f"{outcome.n_found} of {outcome.n_planted}",
        f"{share(outcome.n_found, outcome.n_planted)}, {n_flags}",
    )


def _numbers(outcome: Outcome) -> tuple[Number, ...]:
    own = outcome.truth["scorers"]["score"]
    name, simple = outcome.best_simple()
    low, high = own["interval"] or (None, None)
    unit = f"{outcome.truth['units']} {outcome.truth['unit']}s"
    area = Number(
        "Area under the ROC curve",
        f"{own['roc_area']:.3f}",
        f"over {unit}" if low is None else f"{low:.3f} to {high:.3f} (95%), over {unit}",
    )
    beside = Number(
        "Best simple method",
        f"{simple['roc_area']:.3f}",
        name + ("" if not simple["interval"] else f", {span(simple['interval'], 3)}"),
    )
    n, total = outcome.n_found, outcome.n_planted
    found = Number("Found", f"{n} of {total}", share(n, total))
    return (found, *outcome.of.numbers(outcome), area, beside)


def _baseline(outcome: Outcome) -> str:
    name, simple = outcome.best_simple()
    by = f"{simple['difference']:+.3f}".replace("-", "−")
    bounds = simple["difference_interval"]
    within = "" if bounds is None else f" ({span(bounds, 3)}, 95%)".replace("-", "−")
    beats = outcome.beats_simple()
    if beats:
        return f"No: {name} tells less; the model's area is larger by {by}{within}."
    if beats is None:
        return (
            f"Yes: {name} cannot be told from the model; difference in area {by}{within}. A "
            "network is not needed to find deviations as plain as these."
        )
    return f"Yes, and better: {name} tells more; difference in area {by}{within}."


def _listed(words: Sequence[str]) -> str:
    return words[0] if len(words) == 1 else f"{', '.join(words[:-1])} and {words[-1]}"


# ----------------------------------------------------------------------------- commands


def _commands(shown: Sequence[Demonstration]) -> tuple[tuple[str, tuple[str, ...]], ...]:
    found = []
    for words, first, name, new in (each.own for each in shown):
        lines = (
            first,
            "ae-pipeline train study.yaml",
            f"ae-pipeline score --model derivatives/{name}/model --out results {new}",
        )
        found.append((words, lines))
    return (*found, ("All runs of this demo side by side, in MLflow", ("ae-pipeline ui",)))
