"""The first screen of a report as Markdown, for MLflow and for messages."""

from __future__ import annotations

import re
from collections.abc import Sequence

from ae_pipeline.report.views import Headline
from ae_pipeline.text import visible

__all__ = ["escaped", "headline_markdown"]


def headline_markdown(
    title: str, headline: Headline, *, hypothesis: str | None = None, below: Sequence[str] = ()
) -> str:
    """Return a title, the verdict in the third line, numbers, notes and next steps.

    Parameters
    ----------
    title : str
    headline : Headline
    hypothesis : str, optional
    below : sequence of str
        Lines of Markdown that stand before the last one.
    """
    lines = [f"# {escaped(title)}", "", escaped(headline.verdict), ""]
    if hypothesis:
        lines += [f"*Hypothesis, stated before training:* {escaped(hypothesis)}", ""]
    if headline.baseline:
        lines += [escaped(headline.baseline), ""]
    lines += ["| | | |", "|---|---|---|"]
    lines += [
        f"| {escaped(n.label)} | {escaped(n.value)} | {escaped(n.note)} |" for n in headline.numbers
    ]
    if headline.warnings:
        lines += ["", *(f"- **Note:** {escaped(warning)}" for warning in headline.warnings)]
    if headline.next_steps:
        lines += ["", "Next:", "", *(f"1. {escaped(step)}" for step in headline.next_steps)]
    return "\n".join([*lines, "", *below, "_Research use, not a diagnosis._", ""])


def escaped(text: str) -> str:
    """Return text from files as text: nothing in it is Markdown or HTML."""
    text = visible(" ".join(text.split()))
    return re.sub(r"([\\`*\[\]<>|#~])", r"\\\1", text).replace("\\<", "&lt;").replace("\\>", "&gt;")
