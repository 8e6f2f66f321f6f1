"""What MLflow gets to see: finished run folders are published, models are fetched by their URI.

The run folder is the record and MLflow a view of it: :mod:`ae_pipeline.tracking.publishing` sends
what the experiment has put into ``pseudonymised/`` (and the bundle in ``model/``), once, whenever a
server can be had. A killed publish is continued by the next one. This is the only package that
imports mlflow, inside its functions.

Addresses are MLflow's own (``sqlite:////absolute/path``, ``postgresql://``, ``https://``). What
leaves the machine carries no path of it, no user name and no password.
"""

from __future__ import annotations

__all__: list[str] = []
