"""Which model of a comparison to take, and why.

Losses are means per entry on data that nothing was fitted on, natural logarithm; intervals (95%)
are over subjects or rows.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from ae_pipeline.jobs.compare.grid import LINEAR, Outcome, in_words
from ae_pipeline.report.wording import listed, number
from ae_pipeline.stats import mean_interval

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["choose", "tabulate"]


def tabulate(outcomes: Sequence[Outcome]) -> tuple[pd.DataFrame, pd.DataFrame]:
    """One row a model, seeds together.

    Parameters
    ----------
    outcomes : sequence of Outcome
        Failed ones are left out.

    Returns
    -------
    table : DataFrame
        ``model``, ``architecture``, ``objective``, ``latent_dim``, ``seeds``, ``test_loss`` with
        ``_low`` and ``_high`` (95%, over units) and ``_least`` and ``_most`` (over seeds),
        ``downstream`` (the study's head, else a linear probe) and ``detection`` with ``_low``
        and ``_high``, ``parameters``,
        ``seconds``, ``epochs`` (means over seeds).
    losses : DataFrame
        Mean loss of each unit (rows) by each model (columns), over seeds.
    """
    import pandas as pd

    by_model: dict[str, list[Outcome]] = {}
    for outcome in outcomes:
        if not outcome.reason:
            by_model.setdefault(outcome.cell.model, []).append(outcome)
    rows, columns = [], {}
    for model, group in by_model.items():
        cell = group[0].cell
        units = pd.concat([o.units for o in group if o.units is not None])
        columns[model] = units.groupby("unit")["loss"].mean()
        test = np.array([o.test_loss for o in group], float)
        probes = [o.probe for o in group if o.probe is not None]
        right = np.mean(probes, 0) if probes else np.array([])
        right = right[np.isfinite(right)]
        score, bounds_of_score = np.nan, None
        heads = [o.head for o in group if o.head is not None]
        if heads:
            score, *bounds_of_score = (float(v) for v in np.mean(heads, 0))
        elif len(right):
            score, bounds_of_score = float(right.mean()), mean_interval(right)
        found = np.array([o.detection for o in group], float)
        bounds = [o.detection_interval for o in group if o.detection_interval is not None]
        low, high = np.mean(bounds, 0) if bounds else (np.nan, np.nan)
        rows.append(
            {
                "model": model,
                "architecture": cell.architecture,
                "objective": cell.objective,
                "latent_dim": cell.latent_dim,
                "seeds": len(group),
                "test_loss": test.mean(),
                **_ends("test_loss", mean_interval(columns[model].to_numpy())),
                "test_loss_least": test.min(),
                "test_loss_most": test.max(),
                "downstream": score,
                **_ends("downstream", bounds_of_score),
                "detection": found.mean(),
                "detection_low": low,
                "detection_high": high,
                "parameters": group[0].parameters,
                "seconds": np.mean([o.seconds or 0.0 for o in group]),
                "epochs": np.mean([np.nan if o.epochs is None else o.epochs for o in group]),
            }
        )
    return pd.DataFrame(rows), pd.DataFrame(columns)


def _ends(name: str, bounds: list[float] | None) -> dict[str, float]:
    low, high = bounds or (np.nan, np.nan)
    return {f"{name}_low": low, f"{name}_high": high}


def choose(
    table: pd.DataFrame, losses: pd.DataFrame, *, primary: str
) -> tuple[pd.DataFrame, dict[str, Any]]:
    """Which model to take by the study's primary metric, and why.

    Best is the least held-out loss (``test_loss``) or the largest rehearsal area (``roc_area``).
    Another model cannot be told from it where the interval of their difference holds zero, or
    where the losses of different seeds overlap.

    Parameters
    ----------
    table, losses : DataFrame
        From :func:`tabulate`.
    primary : {'test_loss', 'roc_area'}

    Returns
    -------
    table : DataFrame
        Best first, with ``behind`` (difference from the best), ``behind_low``, ``behind_high``
        and ``told_apart``.
    choice : dict
        ``model``, ``reason`` (sentences), ``smallest`` (the one with the fewest parameters that
        cannot be told from the best), ``by_halves`` (mean loss of what is chosen on one half of
        the units, on the other).
    """
    by_loss = primary == "test_loss"
    column = "test_loss" if by_loss else "detection"
    table = table.sort_values(column, ascending=by_loss, ignore_index=True, kind="stable")
    best = table.iloc[0]
    spans, apart = [], []
    for _, row in table.iterrows():
        if by_loss:
            gaps = (losses[row["model"]] - losses[best["model"]]).to_numpy()
            bounds = mean_interval(gaps[np.isfinite(gaps)])
            several = best["seeds"] > 1 and row["seeds"] > 1
            overlap = several and row["test_loss_least"] <= best["test_loss_most"]
            apart.append(bounds is not None and bounds[0] > 0 and not overlap)
            spans.append(bounds or [np.nan, np.nan])
        else:
            apart.append(best["detection_low"] > np.nanmax([row["detection_high"], row[column]]))
            spans.append([np.nan, np.nan])
    low, high = np.array(spans, float).T
    table = table.assign(
        behind=(table[column] - best[column]).abs(),
        behind_low=low,
        behind_high=high,
        told_apart=np.array(apart, bool),
    )
    alike = table[~table["told_apart"]]
    smallest = alike.sort_values("parameters", kind="stable").iloc[0]["model"]
    by_halves = _by_halves(losses) if by_loss else None
    return table, {
        "model": best["model"],
        "smallest": smallest,
        "by_halves": by_halves,
        "reason": _reason(table, alike, smallest=smallest, by_halves=by_halves, by_loss=by_loss),
    }


def _by_halves(losses: pd.DataFrame) -> float | None:
    """What is chosen on one half of the units, judged on the other: free of the choice's luck."""
    if len(losses) < 4:
        return None
    order = np.random.default_rng(0).permutation(len(losses))
    halves = (losses.iloc[order[::2]], losses.iloc[order[1::2]])
    found = [float(other[one.mean().idxmin()].mean()) for one, other in (halves, halves[::-1])]
    return float(np.mean(found))


def _reason(
    table: pd.DataFrame,
    alike: pd.DataFrame,
    *,
    smallest: str,
    by_halves: float | None,
    by_loss: bool,
) -> str:
    best = table.iloc[0]
    words, form = ("held-out loss", number) if by_loss else ("rehearsal area", "{:.3f}".format)
    value = form(best["test_loss" if by_loss else "detection"])
    said = [f"{in_words(best['model'])} has the best {words}, {value}"]
    if len(table) > 1:
        second = table.iloc[1]
        gap = f"{second['behind']:.2g}"
        if second["behind_low"] == second["behind_low"]:
            gap += f" (95% interval {second['behind_low']:.2g} to {second['behind_high']:.2g})"
        said[0] += f"; the next, {in_words(second['model'])}, is {gap} behind"
    others = [in_words(model) for model in alike["model"] if model != best["model"]]
    if others:
        said.append(f"It cannot be told from {listed(others, 4)}")
        if smallest != best["model"]:
            said.append(
                f"The smallest of these is {in_words(smallest)}: take it unless you know why"
            )
    linear = [name for name in (best["model"], smallest) if name.partition("-")[0] in LINEAR]
    if linear:
        said.append("The linear model is enough")
    if by_halves is not None:
        said.append(
            "Chosen on one half of the held-out data and judged on the other, the loss is "
            f"{number(by_halves)}"
        )
    return ". ".join(said) + "."
