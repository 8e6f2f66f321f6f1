"""MLflow as the pipeline uses it: a real database, a real server, a real bundle."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.error import URLError
from urllib.request import urlopen

import numpy as np
import pytest
import tiny
from runs import all_runs, client_of, run_folder

from ae_pipeline.config import StudyError
from ae_pipeline.runtime.files import digest_files
from ae_pipeline.scoring import bundle as bundles
from ae_pipeline.tracking import live as live_losses
from ae_pipeline.tracking.commands import ui_command
from ae_pipeline.tracking.connection import Unreachable, accepted, connected
from ae_pipeline.tracking.live import Live, watched
from ae_pipeline.tracking.publishing import publish
from ae_pipeline.tracking.registry import resolve
from ae_pipeline.tracking.settings import Server, Settings, load_settings

ROOT = Path(__file__).resolve().parents[2]


# ----------------------------------------------------------------------------- settings


@pytest.fixture(autouse=True)
def _nothing_in_the_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in ("TRACKING_URI", "REGISTRY_URI", "EXPERIMENT_NAME"):
        monkeypatch.delenv(f"MLFLOW_{name}", raising=False)
    monkeypatch.setenv("AE_PIPELINE_CACHE", str(tmp_path / "cache"))


def settings_of(text: str, root: Path) -> Settings:
    (root / "mlflow.yaml").write_text(text)
    return load_settings(root)


def test_the_file_in_the_checkout_says_what_the_defaults_are() -> None:
    import yaml

    content = yaml.safe_load((ROOT / "mlflow.yaml").read_text())
    assert Settings.model_validate(content) == Settings()
    assert set(content) == set(Settings.model_fields), "each setting is shown"


def test_default_is_an_absolute_database_under_the_project(tmp_path: Path) -> None:
    for text in ("", (ROOT / "mlflow.yaml").read_text()):
        settings = settings_of(text, tmp_path)
        assert settings.tracking_uri == f"sqlite:///{tmp_path}/data/mlflow/mlflow.db"
        assert settings.registry_uri == settings.tracking_uri
        assert settings.artifact_root == f"file://{tmp_path}/data/mlflow/artifacts"
        assert settings.experiment is None


def test_relative_places_start_at_the_file(tmp_path: Path) -> None:
    text = "tracking_uri: sqlite:///runs.db\nartifact_root: kept\n"
    settings = settings_of(text, tmp_path)
    assert settings.tracking_uri == f"sqlite:///{tmp_path}/runs.db"
    assert settings.artifact_root == f"file://{tmp_path}/kept"


def test_environment_comes_before_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "https://user:secret@mlflow.example.org")
    monkeypatch.setenv("MLFLOW_REGISTRY_URI", "https://models.example.org")
    monkeypatch.setenv("MLFLOW_EXPERIMENT_NAME", "everything")
    settings = settings_of("experiment: mine\ntracking_uri: sqlite:///runs.db\n", tmp_path)
    assert settings.tracking_uri == "https://user:secret@mlflow.example.org"
    assert settings.registry_uri == "https://models.example.org"
    assert settings.experiment == "everything"
    assert settings.artifact_root == "auto", "a server decides where artifacts are"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("tracking_url: auto", "did you mean 'tracking_uri'?"),
        ("server: {prot: 5000}", "did you mean 'port'?"),
        ("server: {port: high}", "server.port"),
        ("tracking_uri: ./mlruns", "sqlite:///"),
        ("- a list", "no settings"),
        ("a: [", "not readable as YAML"),
    ],
)
def test_a_wrong_setting_is_one_line_that_names_the_file(
    text: str, expected: str, tmp_path: Path
) -> None:
    with pytest.raises(StudyError) as error:
        settings_of(text, tmp_path)
    message = str(error.value)
    assert expected in message
    assert str(tmp_path / "mlflow.yaml") in message
    assert "\n" not in message


@pytest.mark.parametrize(
    "uri",
    ["https://anna:geheim@mlflow.example.org", "postgresql://host/mlflow?password=geheim"],
)
def test_a_password_in_the_file_is_refused_and_not_repeated(uri: str, tmp_path: Path) -> None:
    with pytest.raises(StudyError, match="MLFLOW_TRACKING_PASSWORD") as error:
        settings_of(f"tracking_uri: {uri}\n", tmp_path)
    assert "geheim" not in str(error.value)


# --------------------------------------------------------------------------- publishing


@pytest.fixture(scope="session")
def empty_database(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store without runs; making one takes seconds, so each test copies this one."""
    root = tmp_path_factory.mktemp("mlflow")
    settings = Settings(
        tracking_uri=f"sqlite:///{root}/mlflow.db", registry_uri=f"sqlite:///{root}/mlflow.db"
    )
    with connected(settings):
        pass
    return root / "mlflow.db"


@pytest.fixture
def settings(tmp_path: Path, empty_database: Path) -> Settings:
    place = tmp_path / "project" / "data" / "mlflow"
    place.mkdir(parents=True)
    shutil.copy(empty_database, place / "mlflow.db")
    (tmp_path / "project" / "mlflow.yaml").write_text("tags: {site: vienna}\n")
    return load_settings(tmp_path / "project")


@pytest.fixture(scope="session")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model of a questionnaire on disk."""
    place = tmp_path_factory.mktemp("bundle") / "model"
    bundles.save(place, tiny.table().bundle)
    return place


def test_a_run_holds_what_the_folder_holds(settings: Settings, tmp_path: Path) -> None:
    folder = run_folder(tmp_path / "out")
    published = publish(folder, settings)

    client = client_of(settings)
    run = client.get_run(published.run_id)
    experiment = client.get_experiment(run.info.experiment_id)
    assert experiment.name == "moods / spring"
    assert "opens on its summary" in experiment.tags["mlflow.note.content"]
    assert (run.info.run_name, run.info.status) == ("moods dense", "FINISHED")
    assert run.data.tags["mlflow.note.content"].startswith("## 3 of 40")
    assert run.data.tags["site"] == "vienna"
    assert run.data.tags["ae_pipeline.key"] == "4f5e"
    assert run.data.params["training.epochs"] == "3"
    assert run.data.params["model.head"] == "null"
    assert len(run.data.params["long"]) == 6000
    assert run.data.metrics["test_loss"] == 0.25
    assert "roc_area" not in run.data.metrics
    history = client.get_metric_history(published.run_id, "epoch/train_loss")
    assert [(m.step, m.value) for m in history] == [(1, 0.5), (2, 0.4)]
    assert len(client.get_metric_history(published.run_id, "epoch/validation_loss")) == 1
    dataset = run.inputs.dataset_inputs[0].dataset
    assert (dataset.name, dataset.digest) == ("moods", "ab" * 18)
    there = {file.path for file in client.list_artifacts(published.run_id)}
    assert {"summary.md", "report.html", "history.csv", "figures", "run.json"} <= there

    assert json.loads((folder / "published.json").read_text())["run_id"] == published.run_id
    assert published.run_url.startswith("http://127.0.0.1:5000/#/experiments/")
    assert published.model_uri is None
    assert not (Path.cwd() / "mlruns").exists()
    assert "MLFLOW_TRACKING_URI" not in os.environ, "the caller's environment is as it was"


def test_publishing_again_uploads_nothing(settings: Settings, tmp_path: Path) -> None:
    first = publish(run_folder(tmp_path / "out"), settings)
    before = all_runs(settings)[0]
    (tmp_path / "out" / "pseudonymised" / "late.txt").write_text("not sent")
    again = publish(tmp_path / "out", settings)
    elsewhere = publish(run_folder(tmp_path / "copy"), settings)

    assert again == elsewhere == first
    assert [run.to_dictionary() for run in all_runs(settings)] == [before.to_dictionary()]
    there = {file.path for file in client_of(settings).list_artifacts(first.run_id)}
    assert "late.txt" not in there


def test_the_same_key_of_another_kind_is_another_run(settings: Settings, tmp_path: Path) -> None:
    publish(run_folder(tmp_path / "train"), settings)
    publish(run_folder(tmp_path / "score", kind="score"), settings)
    assert len(all_runs(settings)) == 2


PUBLISHERS = """
import os, signal, sys
from pathlib import Path
from ae_pipeline import bundle
from ae_pipeline.tracking.connection import import_mlflow
from ae_pipeline.tracking.publishing import publish
from ae_pipeline.tracking.settings import load_settings
mlflow = import_mlflow()
import mlflow.pyfunc, mlflow.store.tracking.sqlalchemy_store, sklearn, torch

def deadly(method, moment):
    def wrapped(*args, **kwargs):
        calls.append(method)
        if len(calls) == moment:
            os.kill(os.getpid(), signal.SIGKILL)
        return method(*args, **kwargs)
    return wrapped

calls = []
*killed, whole = map(Path, sys.argv[1:])
for moment, place in enumerate(killed, 1):
    if os.fork() == 0:
        client = mlflow.MlflowClient
        for name in "log_artifacts log_model_artifacts create_model_version set_terminated".split():
            setattr(client, name, deadly(getattr(client, name), moment))
        publish(place / "out", load_settings(place))
        os._exit(0)
    _, status = os.wait()
    assert os.WTERMSIG(status) == signal.SIGKILL, status
publish(whole / "out", load_settings(whole))
"""


@dataclass
class Publishers:
    killed: list[Path]
    whole: Path
    terminal: tuple[str, str]


@pytest.fixture(scope="module")
def publishers(
    empty_database: Path, bundle: Path, tmp_path_factory: pytest.TempPathFactory
) -> Publishers:
    """Projects whose publisher was killed at one moment or another, and one where it was not."""
    root = tmp_path_factory.mktemp("publishers")
    *killed, whole = [root / f"project-{n}" for n in range(5)]
    for place in (*killed, whole):
        run_folder(place / "out", bundle)
        (place / "mlflow.yaml").touch()
        if place != whole:  # the last one makes its database: that is when MLflow talks most
            (place / "data/mlflow").mkdir(parents=True)
            shutil.copy(empty_database, place / "data/mlflow/mlflow.db")
    shown = {n: v for n, v in os.environ.items() if not n.startswith(("MLFLOW", "DO_NOT"))}
    done = subprocess.run(
        [sys.executable, "-c", PUBLISHERS, *map(str, killed), str(whole)],
        env=shown | {"PYTHONPATH": str(ROOT), "AE_PIPELINE_CACHE": str(root / "cache")},
        cwd=whole,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return Publishers(killed, whole, (done.stdout, done.stderr))


def test_a_killed_publish_is_continued_without_a_duplicate(publishers: Publishers) -> None:
    for place in publishers.killed:
        there = load_settings(place)
        assert [run.info.status for run in all_runs(there)] == ["RUNNING"]
        assert not (place / "out" / "published.json").exists()

        published = publish(place / "out", there)
        (run,) = all_runs(there)
        client = client_of(there)
        assert (run.info.run_id, run.info.status) == (published.run_id, "FINISHED")
        assert len(client.search_logged_models([run.info.experiment_id])) == 1
        assert [version.version for version in client.search_model_versions()] == [1]
        assert published.model_version == "1"
        assert len(client.get_metric_history(published.run_id, "epoch/train_loss")) == 2
        assert resolve(str(published.model_uri), there).is_dir()


def test_publishing_says_nothing_and_leaves_nothing_about(publishers: Publishers) -> None:
    assert publishers.terminal == ("", "")
    assert sorted(p.name for p in publishers.whole.iterdir()) == ["data", "mlflow.yaml", "out"]
    assert (publishers.whole / "out" / "published.json").exists()


def test_a_folder_without_a_run_is_one_line(settings: Settings, tmp_path: Path) -> None:
    with pytest.raises(StudyError, match="nothing to publish"):
        publish(tmp_path, settings)


@pytest.mark.parametrize(
    ("uri", "expected"),
    [
        ("http://anna:geheim@127.0.0.1:9", "MLflow at http://127.0.0.1:9 does not answer"),
        ("postgresql://nobody@127.0.0.1:9/mlflow", "MLflow at postgresql://"),
        ("sqlite:////proc/nowhere/mlflow.db", "No such file or directory"),
    ],
)
def test_an_absent_mlflow_is_said_within_seconds(
    uri: str, expected: str, settings: Settings, tmp_path: Path
) -> None:
    folder = run_folder(tmp_path / "out")
    away = settings.model_copy(update={"tracking_uri": uri, "registry_uri": uri})
    start = time.monotonic()
    with pytest.raises(Unreachable) as error:
        publish(folder, away)
    assert time.monotonic() - start < 10
    assert expected in str(error.value)
    assert "\n" not in str(error.value)
    assert "geheim" not in str(error.value)
    assert not (folder / "published.json").exists()
    publish(folder, settings)  # later, where it answers


# ------------------------------------------------------------------------------- models


def test_any_key_of_a_study_is_a_name_that_mlflow_takes() -> None:
    from mlflow.utils.validation import _validate_param_name

    for key in ("normal.eyes (closed)", "normal.Größe", "normal.a=b?", "normal." + 300 * "x"):
        _validate_param_name(accepted(key))
    assert accepted("model.latent_dim") == "model.latent_dim"


@pytest.mark.parametrize("kind", ["table", "eeg", "pictures"])
def test_the_registered_model_scores_plain_numbers_without_a_pickle(
    kind: str, settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import mlflow
    import pandas as pd

    made = getattr(tiny, kind)()
    place = tmp_path / "bundle"
    bundles.save(place, made.bundle)
    shape = made.bundle.info.shape
    folder = run_folder(tmp_path / "out", place, input_example={"shape": shape})
    published = publish(folder, settings)
    assert published.model_uri == f"runs:/{published.run_id}/model"
    assert (published.model_name, published.model_version) == ("moods", "1")

    values: Any = made.data.samples.take(slice(0, 5)).batch(slice(None))[0]
    if kind == "table":
        whole = np.maximum(values, 1).astype(int)
        values = pd.DataFrame(whole, columns=list(made.bundle.info.entries))
        values["Q1"] = [np.nan, 1, 2, 3, 4]
    monkeypatch.setenv("MLFLOW_ALLOW_PICKLE_DESERIALIZATION", "false")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", settings.tracking_uri)
    expected = bundles.load(place).predict_values(values)
    for uri in (published.model_uri, "models:/moods@newest"):
        model = mlflow.pyfunc.load_model(uri)
        pd.testing.assert_frame_equal(model.predict(values), expected)
    signature = model.metadata.signature
    if kind == "table":
        assert signature.inputs.input_names() == list(made.bundle.info.entries)
    stated = {spec.name: spec.default for spec in signature.params.params}
    assert stated["shape"] == " x ".join(map(str, ("n", *shape)))
    assert signature.outputs.input_names() == list(expected.columns)
    example = model.metadata.load_input_example()
    assert len(example) == 2
    assert np.ptp(np.asarray(example, float)) > 0  # no zeros, and nobody's data
    assert model.predict(example).notna().all(axis=None)
    if kind == "eeg":
        assert stated["sfreq_hz"] == made.bundle.info.sfreq_hz
        assert stated["reference"] == made.bundle.info.training.get("reference", "")
        with pytest.raises(Exception, match=r"sfreq_hz 99.0 given, the model takes 100.0"):
            model.predict(values, params={"sfreq_hz": 99.0})
        for other in (values.astype(float), values.tolist()):
            pd.testing.assert_frame_equal(model.predict(other), expected)
        with pytest.raises(Exception, match=r"^values of shape \(5, 7\) given, expected"):
            model.predict(np.zeros((5, 7)))

    (stored,) = Path(settings.artifact_root.removeprefix("file://")).rglob("MLmodel")
    assert not list(stored.parent.rglob("*.pkl"))
    for text in (stored.read_text(), (stored.parent / "requirements.txt").read_text()):
        assert str(tmp_path) not in text.replace(f"{settings.artifact_root}/", "")


def test_a_model_uri_leads_to_its_bundle(settings: Settings, bundle: Path, tmp_path: Path) -> None:
    published = publish(run_folder(tmp_path / "out", bundle), settings)
    for uri in (str(published.model_uri), "models:/moods@newest", "models:/moods/1"):
        found = resolve(uri, settings)
        assert (found / "bundle.json").read_bytes() == (bundle / "bundle.json").read_bytes()
    assert found.is_relative_to(tmp_path / "project"), "no copy of what is on this machine"

    with (found / "bundle.json").open("a") as file:
        file.write(" ")
    with pytest.raises(StudyError, match="changed after it was published"):
        resolve("models:/moods@newest", settings)


def test_the_newest_model_is_the_one_published_last(
    settings: Settings, bundle: Path, tmp_path: Path
) -> None:
    publish(run_folder(tmp_path / "one", bundle), settings)
    second = publish(run_folder(tmp_path / "two", bundle, key="77"), settings)
    publish(tmp_path / "one", settings)
    newest = client_of(settings).get_model_version_by_alias("moods", "newest")
    assert newest.run_id == second.run_id


@pytest.mark.parametrize(
    ("uri", "expected"),
    [
        ("models:/moods", "models:/NAME@ALIAS"),
        ("runs:/../model/x", "runs:/RUN_ID/model"),
        ("models:/moods@newest", "moods"),
        ("models:/moods/7", "moods"),
        ("runs:/0123456789abcdef/model", "0123456789abcdef"),
    ],
)
def test_a_model_uri_that_names_nothing_is_one_line(
    uri: str, expected: str, settings: Settings
) -> None:
    with pytest.raises(StudyError, match=expected) as error:
        resolve(uri, settings)
    assert "\n" not in str(error.value)


# ------------------------------------------------------------------------------- server


@pytest.fixture
def server(settings: Settings, tmp_path: Path) -> Iterator[Settings]:
    """A lab's server, which keeps the artifacts; else what `ae-pipeline ui` starts."""
    import socket

    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    local = settings.model_copy(update={"server": Server(port=port)})
    command, environment = ui_command(local)
    command.remove("--no-serve-artifacts")
    environment["MLFLOW_ARTIFACTS_DESTINATION"] = environment.pop("MLFLOW_DEFAULT_ARTIFACT_ROOT")
    with (tmp_path / "server.log").open("wb") as log:
        process = subprocess.Popen(
            command,
            env=os.environ | environment,
            cwd=tmp_path,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
    address = f"http://127.0.0.1:{port}"
    try:
        while True:
            assert process.poll() is None, (tmp_path / "server.log").read_text()
            try:
                urlopen(f"{address}/health", timeout=1)
                break
            except (URLError, TimeoutError):
                time.sleep(0.1)
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("MLFLOW_TRACKING_URI", address)
            yield load_settings(tmp_path / "project")
    finally:
        os.killpg(process.pid, 15)
        process.wait(20)


@pytest.mark.slow
def test_a_server_gets_and_shows_the_same(
    server: Settings, settings: Settings, bundle: Path, tmp_path: Path
) -> None:
    published = publish(run_folder(tmp_path / "out", bundle), server)
    assert published.run_url.startswith(server.tracking_uri)
    assert publish(tmp_path / "out", settings).run_id == published.run_id
    place = f"get-artifact?run_uuid={published.run_id}&path=report.html"
    assert urlopen(f"{server.tracking_uri}/{place}").read() == b"<h1>Moods</h1>"

    found = resolve("models:/moods@newest", server)
    assert found.is_relative_to(tmp_path / "cache")
    assert digest_files(sorted(found.iterdir())) == digest_files(sorted(bundle.iterdir()))
    shutil.rmtree(tmp_path / "project/data/mlflow/artifacts")
    assert resolve(str(published.model_uri), server) == found, "it was kept"

    with pytest.raises(StudyError, match="open http"):
        ui_command(server)


# ------------------------------------------------------------------------- for a reviewer


def test_a_night_is_a_run_with_runs_below_it(settings: Settings, tmp_path: Path) -> None:
    children = [
        {
            "name": code,
            "run_name": f"{code} unusual",
            "description": "# unusual",
            "metrics": {"score": 3.5, "p_value": None},
            "tags": {"verdict": "unusual"},
        }
        for code in ("rec-1", "rec-2")
    ]
    place = run_folder(tmp_path / "night", kind="night", children=children)
    (place / "pseudonymised/children/rec-1").mkdir(parents=True)
    (place / "pseudonymised/children/rec-1/report.html").write_text("<h1>rec-1</h1>")
    parent = publish(place, settings)
    again = publish(place, settings)
    assert again == parent
    runs = {run.info.run_name: run for run in all_runs(settings)}
    assert len(runs) == 3
    child = runs["rec-1 unusual"]
    assert child.data.tags["mlflow.parentRunId"] == parent.run_id
    assert child.data.tags["mlflow.note.content"] == "# unusual"
    assert child.data.metrics == {"score": 3.5}
    assert child.info.status == "FINISHED"
    there = [file.path for file in client_of(settings).list_artifacts(child.info.run_id)]
    assert there == ["report.html"]


def test_what_was_live_becomes_the_run_and_what_was_killed_is_closed(
    settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(live_losses, "LIVE_S", 0.05)
    live = Live(settings, "moods / spring", run_name="training now", work="w1")
    live.epoch(1, {"train_loss": 0.5, "validation_loss": None})
    live.close(30)
    (run,) = all_runs(settings)
    assert (run.info.status, run.data.metrics) == ("RUNNING", {"epoch/train_loss": 0.5})
    client = client_of(settings)
    host = run.data.tags["ae_pipeline.process"].split()[0]
    gone = client.create_run(
        run.info.experiment_id, tags={"ae_pipeline.process": f"{host} 4194303"}
    )
    elsewhere = client.create_run(
        run.info.experiment_id, tags={"ae_pipeline.process": "another-host 4194303"}
    )
    published = publish(run_folder(tmp_path / "out", work="w1"), settings)
    assert published.run_id == run.info.run_id
    finished = client.get_run(published.run_id)
    assert (finished.info.run_name, finished.info.status) == ("moods dense", "FINISHED")
    history = client.get_metric_history(published.run_id, "epoch/train_loss")
    assert [(m.step, m.value) for m in history] == [(1, 0.5), (2, 0.4)], "no epoch twice"
    assert client.get_run(gone.info.run_id).info.status == "KILLED"
    assert client.get_run(elsewhere.info.run_id).info.status == "RUNNING"


def test_short_trainings_are_told_to_mlflow_when_they_are_done(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    told: list[Any] = []

    @dataclass
    class Epoch:
        epoch: int
        is_best: bool = True
        train_loss: float = 0.5
        validation_loss: float | None = None

    monkeypatch.setattr(live_losses, "load_settings", lambda: settings)
    with watched("moods", "w", listener=told.append) as listener:
        listener(Epoch(1))
    assert len(told) == 1
    assert not all_runs(settings)
    monkeypatch.setattr(live_losses, "LIVE_AFTER_S", 0)
    monkeypatch.setattr(live_losses, "LIVE_S", 0.05)
    with watched("moods", "w", listener=told.append) as listener:
        listener(Epoch(1))
        listener(Epoch(2))
    assert len(told) == 3
    (run,) = all_runs(settings)
    assert len(client_of(settings).get_metric_history(run.info.run_id, "epoch/train_loss")) == 2


def test_pictures_by_epoch_get_a_slider_and_models_their_card(
    settings: Settings, tmp_path: Path, bundle: Path
) -> None:
    from PIL import Image

    folder = run_folder(tmp_path / "out", bundle)
    pictures = folder / "pseudonymised/reconstructions"
    pictures.mkdir()
    for epoch in (1, 2, 40):
        Image.new("RGB", (8, 8)).save(pictures / f"epoch-{epoch:05d}.png")
    (folder / "pseudonymised/model_card.md").write_text("# Card")
    published = publish(folder, settings)
    client = client_of(settings)
    images = [file.path for file in client.list_artifacts(published.run_id, "images")]
    steps = {match[1] for name in images if (match := re.search(r"step\W(\d+)\W", name))}
    assert steps == {"1", "2", "40"}
    assert client.get_model_version("moods", published.model_version).description == "# Card"
