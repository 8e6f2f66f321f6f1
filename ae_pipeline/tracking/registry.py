"""Models in MLflow: stored, registered, named by an alias, and fetched again."""

from __future__ import annotations

import re
import tempfile
from collections.abc import Mapping
from importlib.metadata import version as installed
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from ae_pipeline.config import StudyError, from_home
from ae_pipeline.kind import provider
from ae_pipeline.runtime.files import cache_dir, digest_files, read_json, write_folder
from ae_pipeline.tracking.connection import KEY, LONGEST_TAG, Unreachable, connected, cut, quoted
from ae_pipeline.tracking.record import Record
from ae_pipeline.tracking.settings import Settings, load_settings

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import LoggedModel, Run

    from ae_pipeline.scoring.bundle import Bundle

__all__ = [
    "aliases",
    "model_folder",
    "point",
    "promote",
    "registered_name",
    "resolve",
    "send_model",
]

ALIAS = "newest"
CHAMPION = "champion"
DIGEST = "ae_pipeline.bundle"
REASON = "ae_pipeline.promoted_because"
LONGEST_MODEL_DESCRIPTION = 5000
MODEL_URI = re.compile(
    r"runs:/(?P<run>[^/]+)/(?P<path>[^/]+)"
    r"|models:/(?P<name>[^/@]+)(@(?P<alias>[^/@]+)|/(?P<version>\d+))"
)


# MLflow stores this text beside the bundle and runs it to load the model (models from code):
# nothing is pickled. The names of predict's arguments are MLflow's.
MODEL_CODE = """\
import mlflow
import numpy as np
import pandas as pd

from ae_pipeline.scoring import bundle


class Detector(mlflow.pyfunc.PythonModel):
    def load_context(self, context):
        self.bundle = bundle.load(context.artifacts["bundle"])

    def predict(self, context, model_input: {takes}, params=None):
        if isinstance(model_input, dict):  # what MLflow makes of a table with a signature
            model_input = pd.DataFrame(model_input)
        return self.bundle.predict_values(model_input, params)


mlflow.models.set_model(Detector())
"""


REQUIRED = ("mlflow", "numpy", "pandas", "pydantic", "safetensors", "scikit-learn", "torch")


def send_model(client: MlflowClient, run: Run, *, record: Record, name: str, folder: Path) -> None:
    """Store and register the bundle; what an earlier, killed call has done is taken up."""
    from mlflow.entities import LoggedModelOutput
    from mlflow.exceptions import MlflowException

    run_id, experiment = run.info.run_id, run.info.experiment_id
    found = client.search_logged_models([experiment], f"source_run_id = '{run_id}'")
    model = found[0] if found else None
    if model is None:
        tags = {KEY: record.key, DIGEST: _digest(folder)}
        model = client.create_logged_model(experiment, "model", source_run_id=run_id, tags=tags)
    if str(model.status) != "READY":
        with tempfile.TemporaryDirectory() as place:
            _save_model(Path(place), folder, record=record, model=model, run_id=run_id)
            client.log_model_artifacts(model.model_id, f"{place}/pyfunc")
        client.finalize_logged_model(model.model_id, "READY")
    outputs = client.get_run(run_id).outputs
    if outputs is None or not outputs.model_outputs:
        client.log_outputs(run_id, [LoggedModelOutput(model.model_id, step=0)])

    registered = list(client.search_model_versions(f"run_id = '{run_id}'"))
    if not registered:
        try:
            client.get_registered_model(name)
        except MlflowException as error:
            if error.error_code != "RESOURCE_DOES_NOT_EXIST":
                raise
            client.create_registered_model(name)
        registered = [
            client.create_model_version(
                name,
                f"models:/{model.model_id}",
                run_id=run_id,
                tags={KEY: record.key},
                description=cut(_card(folder) or record.description, LONGEST_MODEL_DESCRIPTION),
                model_id=model.model_id,
            )
        ]
    client.set_registered_model_alias(name, ALIAS, str(registered[0].version))


def _card(bundle: Path) -> str:
    """The model card of a run folder; empty where it has none."""
    file = bundle.parent / "pseudonymised" / "model_card.md"
    return file.read_text(encoding="utf-8") if file.is_file() else ""


def _save_model(
    place: Path, folder: Path, *, record: Record, model: LoggedModel, run_id: str
) -> None:
    """Write the bundle as an MLflow model to ``place/pyfunc``."""
    import mlflow.pyfunc
    import numpy as np
    from mlflow.models import Model, infer_signature
    from mlflow.types import Schema, TensorSpec

    from ae_pipeline.scoring import bundle

    detector = bundle.load(folder)
    table = bool(detector.info.columns)
    signature = example = None
    if record.input_example is not None:
        example = _example(detector)
        facts = detector.input_facts
        signature = infer_signature(example, detector.predict_values(example), facts)
        if table:
            # As tensors, since MLflow refuses whole numbers for columns declared as decimal.
            number = np.dtype("float64")
            signature.inputs = Schema([TensorSpec(number, (-1,), name) for name in example])
        else:
            # MLflow would take one width of numbers and no lists; the bundle checks what it gets.
            signature.inputs = None
    takes = "pd.DataFrame" if table else "np.ndarray"
    code = place / "detector.py"
    code.write_text(MODEL_CODE.format(takes=takes), encoding="utf-8")
    # MLflow writes down where the parts came from; a copy keeps this machine's paths out of it.
    bundle.copy(folder, place / "model")
    required = [f"{name}=={installed(name).split('+')[0]}" for name in REQUIRED]
    required += [own] if (own := provider(detector.info.kind)) else []
    mlflow.pyfunc.save_model(
        place / "pyfunc",
        python_model=str(code),
        artifacts={"bundle": str(place / "model")},
        signature=signature,
        input_example=example,
        pip_requirements=[f"ae-pipeline=={installed('ae-pipeline')}", *required],
        mlflow_model=Model(
            artifact_path=model.artifact_location,
            model_uuid=model.model_id,
            run_id=run_id,
            model_id=model.model_id,
        ),
    )


def _example(detector: Bundle) -> Any:
    """Two samples that the model itself draws: they look like data and are nobody's."""
    import numpy as np
    import pandas as pd
    import torch

    fitted = detector.autoencoder
    codes = detector.ensemble.draw_codes(2, np.random.default_rng(0))
    device = next(fitted.model.parameters()).device
    with torch.inference_mode():
        parameters = fitted.model.decode(torch.from_numpy(codes).to(device))
        mean = fitted.model.likelihood.mean(parameters).cpu().numpy()
    values = fitted.scaler.inverse(mean).astype(np.float32)
    info = detector.info
    if info.layout == "grid":
        return values.clip(0, 1)
    if info.layout == "series":
        return values
    table = pd.DataFrame(values, columns=list(info.entries)).astype(float)
    for item in info.columns:
        if item["levels"]:
            levels = np.array(item["levels"], float)
            away = np.abs(table[item["name"]].to_numpy()[:, None] - levels)
            table[item["name"]] = levels[away.argmin(1)]
    return table


def _digest(bundle: Path) -> str:
    return digest_files(sorted(file for file in bundle.rglob("*") if file.is_file()))


def resolve(uri: str, settings: Settings) -> Path:
    """Folder of the bundle that a model URI names; fetched once, then kept in the cache.

    Parameters
    ----------
    uri : str
        ``runs:/RUN_ID/model``, ``models:/NAME@ALIAS`` or ``models:/NAME/VERSION``.
    settings : Settings
        From :func:`load_settings`.

    Raises
    ------
    StudyError
        Where the URI has another form, names nothing, or MLflow cannot be had.
    """
    form = MODEL_URI.fullmatch(uri)
    if form is None:
        raise StudyError(
            f"model {uri!r}: expected a bundle's folder, runs:/RUN_ID/model, models:/NAME@ALIAS "
            "or models:/NAME/VERSION"
        )
    try:
        with connected(settings) as client:
            model = _named(client, form.groupdict())
            if model is None:
                raise StudyError(f"model {uri!r}: its run in MLflow holds no such model")
            return _fetch(model, settings)
    except Unreachable as error:
        raise StudyError(f"model {uri!r} cannot be had from {error}") from error


def _named(client: MlflowClient, parts: Mapping[str, str | None]) -> LoggedModel | None:
    run_id, path, name = parts["run"], parts["path"] or "model", parts["name"]
    if name and parts["alias"]:
        run_id = client.get_model_version_by_alias(name, parts["alias"]).run_id
    elif name:
        run_id = client.get_model_version(name, str(parts["version"])).run_id
    outputs = client.get_run(run_id).outputs if run_id else None
    made = outputs.model_outputs if outputs else []
    models = (client.get_logged_model(output.model_id) for output in made)
    return next((model for model in models if model.name == path), None)


def _fetch(model: LoggedModel, settings: Settings) -> Path:
    """The model's bundle, where it lies if that is this machine, else from the cache."""
    from mlflow.artifacts import download_artifacts

    expected = model.tags.get(DIGEST, "")
    if not re.fullmatch("[0-9a-f]{64}", expected):
        raise StudyError(f"model {model.model_id} in MLflow was not published by ae-pipeline")
    location = f"{model.artifact_location.rstrip('/')}/artifacts/model"
    if urlsplit(location).scheme in ("", "file"):
        bundle = Path(download_artifacts(location, tracking_uri=settings.tracking_uri))
        _verify(bundle, expected, model_id=model.model_id)
        return bundle
    place = cache_dir("models") / expected
    if not place.is_dir():
        with write_folder(place) as new:
            fetched = download_artifacts(location, None, None, str(new), settings.tracking_uri)
            _verify(Path(fetched), expected, model_id=model.model_id)
    return place / "model"


def _verify(bundle: Path, expected: str, *, model_id: str) -> None:
    if _digest(bundle) != expected:
        raise StudyError(f"model {model_id} in MLflow was changed after it was published")


def aliases(settings: Settings, name: str) -> dict[str, str]:
    """Version of each alias of a registered model; empty where there is no such model."""
    from contextlib import suppress

    with connected(settings) as client:
        from mlflow.exceptions import MlflowException

        with suppress(MlflowException):
            found = client.get_registered_model(name).aliases
            return {alias: str(version) for alias, version in found.items()}
    return {}


def point(settings: Settings, name: str, *, alias: str, version: str) -> None:
    """Let an alias of a registered model name a version."""
    with connected(settings) as client:
        client.set_registered_model_alias(name, alias, version)


def promote(settings: Settings, model: str, *, reason: str) -> dict[str, str | None]:
    """Make a model the champion of its name; the reason is kept with the version.

    Parameters
    ----------
    settings : Settings
    model : str
        ``models:/NAME@ALIAS``, ``models:/NAME/VERSION``, ``runs:/RUN_ID/model``, or the folder of
        a bundle that has been published.
    reason : str
        Why, in a person's words.

    Returns
    -------
    dict
        ``name``, ``version``, and ``replaced``: the version that was champion before, or None.

    Raises
    ------
    StudyError
        Where the reason is empty, the model is not registered, or MLflow cannot be had.
    """
    if not reason.strip():
        raise StudyError("--reason: say in a sentence why this model is to be the champion")
    try:
        with connected(settings) as client:
            name, version = _registered(client, model)
            replaced = client.get_registered_model(name).aliases.get(CHAMPION)
            client.set_model_version_tag(name, version, REASON, cut(reason, LONGEST_TAG))
            if replaced is not None and str(replaced) != version:
                client.set_model_version_tag(name, version, "ae_pipeline.replaced", str(replaced))
                client.set_registered_model_alias(name, "former", str(replaced))
            client.set_registered_model_alias(name, CHAMPION, version)
    except Unreachable as error:
        raise StudyError(f"model {model!r}: {error}") from error
    return {
        "name": name,
        "version": version,
        "replaced": None if replaced is None else str(replaced),
    }


def _registered(client: MlflowClient, model: str) -> tuple[str, str]:
    """Name and version that a user's way of naming a model stands for."""
    form = MODEL_URI.fullmatch(model)
    parts: dict[str, str | None] = {} if form is None else form.groupdict()
    if form is None:
        record = from_home(model).absolute().parent / "published.json"
        if not record.is_file():
            raise StudyError(
                f"model {model!r}: expected models:/NAME@ALIAS, models:/NAME/VERSION, "
                "runs:/RUN_ID/model, or the model folder of a training that was published"
            )
        known = read_json(record)
        if not known.get("model_name"):
            raise StudyError(f"model {model!r}: its run registered no model")
        return str(known["model_name"]), str(known["model_version"])
    if parts["run"]:
        versions = list(client.search_model_versions(f"run_id = '{quoted(parts['run'])[1:-1]}'"))
        if not versions:
            raise StudyError(f"model {model!r}: its run registered no model")
        return str(versions[0].name), str(versions[0].version)
    name = str(parts["name"])
    if parts["alias"]:
        return name, str(client.get_model_version_by_alias(name, parts["alias"]).version)
    return name, str(client.get_model_version(name, str(parts["version"])).version)


def model_folder(model: str) -> Path:
    """A bundle's folder from what a user names a model by."""
    if model.startswith(("runs:/", "models:/")):
        return resolve(model, load_settings())
    return from_home(model)


def registered_name(title: str) -> str:
    """Name of a study's model: MLflow allows no slash or colon; spaces are awkward in a URI."""
    return "".join(c if c.isalnum() or c in "-_." else "-" for c in title)
