"""Settings of the documentation: ``make docs`` builds it into ``build/docs``."""

from __future__ import annotations

import re
from typing import Any

from ae_pipeline import __version__

project = "ae-pipeline"
author = "The ae-pipeline developers"
copyright = "The ae-pipeline developers"
version = release = __version__

extensions = [
    "myst_parser",
    "sphinx.ext.autodoc",
    "sphinx.ext.napoleon",
    "sphinx.ext.viewcode",
]
source_suffix = {".md": "markdown"}
myst_enable_extensions = ["colon_fence", "deflist", "dollarmath"]
myst_heading_anchors = 3

napoleon_google_docstring = False
napoleon_use_rtype = False
autodoc_typehints = "none"  # numpydoc sections say types with their shapes and units
autodoc_member_order = "bysource"
autodoc_default_options = {"members": True, "exclude-members": "model_config, model_post_init"}
# A docstring refers to what stands beside it in the source, which has no page of its own here.
suppress_warnings = ["ref.python"]

html_theme = "furo"
html_title = "ae-pipeline"
html_static_path: list[str] = []
exclude_patterns: list[str] = []


def _literally(
    _app: Any, what: str, _name: str, _obj: Any, _options: Any, lines: list[str]
) -> None:
    """Shapes like (n, *shape), globs and norms |x| are meant as they stand.

    So are the small tables in a module's docstring: its lines stay lines.
    """
    for i, line in enumerate(lines):
        parts = line.split("``")
        parts[::2] = [re.sub(r"(?<!\\)([*|])", r"\\\1", part) for part in parts[::2]]
        lines[i] = "``".join(parts)
        if what == "module" and line:
            lines[i] = f"| {lines[i]}"


def setup(app: Any) -> None:
    """Before napoleon turns sections into fields, which need their own stars."""
    app.connect("autodoc-process-docstring", _literally, priority=400)
