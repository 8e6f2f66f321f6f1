"""What the columns of a table mean, in a JSON file beside it, as BIDS describes TSV files."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING

from ae_pipeline.runtime.files import write_frame, write_json

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["DESCRIPTIONS", "dictionary", "write_described"]

DESCRIPTIONS: dict[str, str] = {
    "id": "Who: the id column of the table, else the number of the row.",
    "score": "Anomaly score: higher is more unlike the training data. No unit.",
    "p_value": "Conformal p-value: share of calibration respondents with at least this score.",
    "q_value": "p-value adjusted for the respondents judged together (false discovery rate).",
    "flagged": "Whether q_value is at or under detection.error_rate.",
    "proposed": "Whether p_value is at or under 0.1: suggested for review, nothing is promised.",
    "top_item": "Item whose answer adds most to the score.",
    "reason": "The score in words.",
    "score_NAME": "Score of one detector or one view alone; higher is more abnormal.",
    "predicted_NAME": "Prediction of the head (model.head).",
    "probability_NAME": "Probability of a class by the head, named TARGET_CLASS.",
    "onset_item": "Item from which on answers follow earlier answers rather than the questions; "
    "empty where the evidence does not bear it.",
    "onset_position": "Place of onset_item in the order of presentation, from 1.",
    "onset_evidence": "Natural logarithm of the likelihood ratio from onset_item on: answers "
    "predicted by earlier answers against answers predicted by the other items.",
    "index_answered": "Number of items answered.",
    "index_longstring": "Longest run of one answer, as given, in the order of presentation; "
    "missing answers are passed over (Johnson, 2005). High is careless.",
    "index_irv": "Intra-individual response variability (Dunn et al., 2018): standard deviation "
    "(divisor n) of the person's answers as given, as positions from 0 to 1 in the possible range, "
    "within items of one range, averaged over ranges by the number of answers. In answer units, "
    "multiply by highest minus lowest. Unusual at both ends.",
    "index_mahalanobis": "Squared Mahalanobis distance of the answers, positions from 0 to 1, with "
    "a shrunk covariance; scaled up to all items where some are missing. High is careless.",
    "index_even_odd": "Correlation of the means of odd with those of even items over scales, "
    "stepped up by Spearman and Brown (Jackson, 1976). High is consistent, low is careless.",
    "index_synonyms": "Correlation over pairs of items that correlate at least .60 in the training "
    "set. Low is careless.",
    "index_antonyms": "Correlation over pairs of items that correlate -.60 or less in the training "
    "set. High is careless.",
    "index_person_total": "Correlation of the answers with the training set's mean answers, within "
    "scales (Donlon and Fischer, 1968). Low is careless.",
    "index_guttman_errors": "Normed Guttman errors within scales, 0 to 1 (Emons, 2008). High is "
    "careless.",
    "index_lz": "Standardised log likelihood of the answers given the others (Drasgow et al., "
    "1985), about normal for people who answer as the model says. Low, negative values are misfit.",
    "index_response_time": "Response time as a multiple of the usual one (geometric mean over "
    "columns). Low is careless.",
    "group_NAME": "Column of the table that groups respondents.",
    "total_NAME": "Mean of the answers given to the items of the scale, after reverse keying.",
    "sum_NAME": "total_NAME times the number of items of the scale: the sum of the answers after "
    "reverse keying, a missing answer counted as the person's mean on the scale.",
    "checks_failed": "Attention checks (source.checks) that were answered wrongly.",
    "item": "Item, as its column is called.",
    "mean_error": "Mean surprise of its answers: minus natural logarithm of the probability that "
    "the other answers give them.",
    "answered": "Respondents who answered it.",
    "share_missing": "Share of respondents who did not.",
    "scale": "Scale it belongs to.",
    "predicted": "Share of the entropy of its answers that the other answers take away; 0 goes "
    "with nothing.",
    "carries": "Mean over latent features of the squared correlation with the item.",
    "latent": "Latent feature that it correlates with most.",
    "latent_r": "That correlation.",
    "nearest_item": "Item whose answers are most like its own.",
    "nearest_r": "Correlation with nearest_item, after reverse keying.",
    "remark": "What is odd about it: one answer only, goes with no other item, asks the same.",
}
"""What each column means; NAME stands for the rest of a column's name."""


def dictionary(frame: pd.DataFrame) -> dict[str, dict[str, str]]:
    """Return a description of each column, ready to be written as JSON.

    Parameters
    ----------
    frame : DataFrame
    """
    found = {}
    for name in map(str, frame.columns):
        general = re.sub(r"^(score|predicted|probability|group|total|sum)_.+", r"\1_NAME", name)
        text = DESCRIPTIONS.get(name) or DESCRIPTIONS.get(general, "")
        found[name] = {"Description": text.replace("_NAME", f"_{name.partition('_')[2]}")}
    return found


def write_described(path: Path, frame: pd.DataFrame) -> None:
    """Write a table and, beside it, the JSON file that describes its columns."""
    write_frame(path, frame)
    write_json(path.with_suffix(".json"), dictionary(frame))
