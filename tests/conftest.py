"""What all tests share: real data, and an environment that leaves the user's own alone."""

from __future__ import annotations

import os
import shutil
import tempfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
_home = pytest.StashKey[Path]()


def pytest_configure(config: pytest.Config) -> None:
    # Here rather than in a fixture: Prefect reads its settings when it is imported, which a test
    # module may do while it is collected. Commands started by tests inherit all of it. The cache
    # of sample data stays the user's, so that they are fetched once.
    home = config.stash[_home] = Path(tempfile.mkdtemp(prefix="ae-pipeline-tests-"))
    for name in ("PREFECT_API_URL", "PREFECT_API_KEY", "PREFECT_PROFILE", "MLFLOW_RUN_ID"):
        os.environ.pop(name, None)
    os.environ.update(
        PREFECT_HOME=str(home / "prefect"),
        PREFECT_SERVER_ANALYTICS_ENABLED="false",
        DO_NOT_TRACK="true",
        MLFLOW_TRACKING_URI=f"sqlite:///{home}/mlflow.db",
        MLFLOW_REGISTRY_URI=f"sqlite:///{home}/mlflow.db",
        MLFLOW_DISABLE_TELEMETRY="true",
        MPLBACKEND="Agg",
        NO_COLOR="1",
        # Sums in one order, and two cores for whoever else needs them.
        OMP_NUM_THREADS="1",
        MKL_NUM_THREADS="1",
        OPENBLAS_NUM_THREADS="1",
    )


def pytest_unconfigure(config: pytest.Config) -> None:
    shutil.rmtree(config.stash[_home], ignore_errors=True)


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Real recordings and questionnaires that are no part of the repository."""
    place = Path(os.environ.get("AE_PIPELINE_TEST_DATA") or ROOT.parent / "shared" / "data")
    if not place.is_dir():
        pytest.skip(f"no test data at {place}; point AE_PIPELINE_TEST_DATA at it")
    return place
