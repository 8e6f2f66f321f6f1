"""Run folders as jobs leave them, and what MLflow made of them."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

from ae_pipeline.tracking.record import Record
from ae_pipeline.tracking.settings import Settings


def run_folder(place: Path, bundle: Path | None = None, **changes: Any) -> Path:
    """A finished run folder, small but with everything in it."""
    content = place / "pseudonymised"
    (content / "figures").mkdir(parents=True)
    record = {
        "kind": "train",
        "experiment": "moods / spring",
        "run_name": "moods dense",
        "key": "4f5e",
        "description": "## 3 of 40 answer sheets are unusual\n",
        "params": {"training.epochs": 3, "model.head": None, "long": "x" * 9000},
        "metrics": {"test_loss": 0.25, "roc_area": None},
        "tags": {"ae_pipeline.kind_of_data": "questionnaire"},
        "dataset": {"name": "moods", "digest": "ab" * 32, "source": "lab", "rows": 40},
        "model_name": "moods" if bundle else None,
        "input_example": {"shape": [6]},
    }
    written = Record.model_validate(record | changes).model_dump_json()
    (content / "run.json").write_text(written)
    (content / "summary.md").write_text("# Moods\n")
    (content / "report.html").write_text("<h1>Moods</h1>")
    (content / "figures" / "loss.png").write_bytes(b"\x89PNG")
    rows = ["epoch,train_loss,validation_loss,seconds", "1,0.5,0.6,0.1", "2,0.4,,0.1"]
    (content / "history.csv").write_text("\n".join(rows) + "\n")
    if bundle:
        shutil.copytree(bundle, place / "model")
    return place


def client_of(settings: Settings) -> Any:
    from mlflow import MlflowClient

    return MlflowClient(settings.tracking_uri, settings.registry_uri)


def all_runs(settings: Settings) -> list[Any]:
    client = client_of(settings)
    return list(client.search_runs([e.experiment_id for e in client.search_experiments()]))
