from __future__ import annotations

import json
import multiprocessing
import os
import stat
import subprocess
import sys
import threading
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ae_pipeline.outputs.masking import pseudonyms
from ae_pipeline.runtime import files as folder
from ae_pipeline.runtime.files import (
    STEP_VERSION,
    cache_dir,
    digest_files,
    digest_json,
    key,
    locked,
    project_root,
    read_json,
    recover_folder,
    replace_folder,
    versions,
    write_bytes,
    write_folder,
    write_frame,
    write_json,
    write_text,
    write_through,
)


def tree(place: Path) -> dict[str, str]:
    """Every file below ``place`` with its text."""
    return {str(f.relative_to(place)): f.read_text() for f in place.rglob("*") if f.is_file()}


# ------------------------------------------------------------------------------- places


def test_the_nearest_folder_with_mlflow_yaml_is_the_root(tmp_path: Path) -> None:
    (tmp_path / "mlflow.yaml").touch()
    inner = tmp_path / "a"
    deep = inner / "b" / "c"
    deep.mkdir(parents=True)
    assert project_root(deep) == tmp_path.resolve()
    (inner / "mlflow.yaml").touch()
    assert project_root(deep) == inner.resolve()


def test_the_current_folder_is_where_the_search_begins(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "mlflow.yaml").touch()
    monkeypatch.chdir(tmp_path)
    assert project_root() == tmp_path.resolve()


def test_without_mlflow_yaml_the_root_is_the_users_data_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "home"))
    assert project_root(tmp_path).name == "ae-pipeline"
    assert project_root(tmp_path).is_absolute()


def test_the_cache_can_be_put_elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AE_PIPELINE_CACHE", str(tmp_path / "cache"))
    assert cache_dir("mnist") == tmp_path / "cache" / "mnist"
    assert cache_dir("mnist").is_dir()


def test_an_empty_setting_does_not_put_the_cache_into_the_current_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AE_PIPELINE_CACHE", "")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    assert cache_dir("x") != tmp_path / "x"


# ------------------------------------------------------------------------ atomic writing


def test_a_file_is_replaced_whole(tmp_path: Path) -> None:
    place = tmp_path / "new" / "a.txt"
    write_text(place, "ä first")
    assert write_bytes(place, b"second") == place
    assert tree(tmp_path) == {"new/a.txt": "second"}


def test_a_failure_while_writing_leaves_the_old_file_and_nothing_else(tmp_path: Path) -> None:
    place = write_text(tmp_path / "a.txt", "old")

    def fail() -> None:
        with write_through(place) as temporary:
            temporary.write_text("half")
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fail()
    assert tree(tmp_path) == {"a.txt": "old"}


def test_a_reader_never_sees_half_a_file(tmp_path: Path) -> None:
    place = write_text(tmp_path / "a.txt", "0" * 200_000)
    done = threading.Event()
    seen = []

    def read() -> None:
        while not done.is_set():
            seen.append(place.read_text())

    reader = threading.Thread(target=read)
    reader.start()
    for digit in "123456789":
        write_text(place, digit * 200_000)
    done.set()
    reader.join()
    assert seen
    assert all(len(text) == 200_000 and len(set(text)) == 1 for text in seen)


def test_the_temporary_name_keeps_the_ending(tmp_path: Path) -> None:
    with write_through(tmp_path / "a_annot.fif") as temporary:
        assert temporary.name.endswith("a_annot.fif")
        assert temporary.parent == tmp_path
        temporary.touch()


def test_new_files_and_folders_follow_the_users_umask(tmp_path: Path) -> None:
    before = os.umask(0o027)
    try:
        write_text(tmp_path / "a.txt", "a")
        with write_folder(tmp_path / "run") as temporary:
            write_text(temporary / "b.txt", "b")
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "a.txt").stat().st_mode) == 0o640
    assert stat.S_IMODE((tmp_path / "run").stat().st_mode) == 0o750


def test_a_folder_appears_whole_or_not_at_all(tmp_path: Path) -> None:
    place = tmp_path / "run"
    with write_folder(place) as temporary:
        write_text(temporary / "old.txt", "old")
        assert not place.exists()

    def fail() -> None:
        with write_folder(place) as temporary:
            write_text(temporary / "new.txt", "new")
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fail()
    assert tree(tmp_path) == {"run/old.txt": "old"}
    with write_folder(place) as temporary:
        write_text(temporary / "new.txt", "new")
    assert tree(tmp_path) == {"run/new.txt": "new"}
    assert [p.name for p in tmp_path.iterdir()] == ["run"]


@pytest.mark.parametrize("renames", [0, 1, 2])
def test_a_kill_while_a_folder_is_exchanged_is_made_good(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, renames: int
) -> None:
    place, new = tmp_path / "run", tmp_path / "new"
    write_text(place / "a.txt", "old")
    write_text(new / "a.txt", "new")

    class Killed(BaseException):
        pass

    left, real = renames, os.rename

    def rename(source: Path, target: Path) -> None:
        nonlocal left
        if left == 0:
            raise Killed
        left -= 1
        real(source, target)

    def rmtree(*args: Any, **more: Any) -> None:
        if left == 0 and renames == 2:
            raise Killed

    with monkeypatch.context() as patch:
        patch.setattr(folder.os, "rename", rename)
        patch.setattr(folder.shutil, "rmtree", rmtree)
        with pytest.raises(Killed):
            replace_folder(new, place)

    recover_folder(place)
    assert tree(place) == {"a.txt": "new" if renames == 2 else "old"}
    assert not [p for p in tmp_path.iterdir() if p.name.endswith(".replaced")]


def test_what_a_kill_put_aside_is_not_lost_when_the_next_exchange_fails(tmp_path: Path) -> None:
    write_text(tmp_path / ".run.replaced" / "a.txt", "old")
    with pytest.raises(FileNotFoundError):
        replace_folder(tmp_path / "missing", tmp_path / "run")
    recover_folder(tmp_path / "run")
    assert tree(tmp_path) == {"run/a.txt": "old"}


# --------------------------------------------------------------------------------- json


def test_json_comes_back_as_it_went(tmp_path: Path) -> None:
    content = {"ä": [1, 2.5, None, True, "x"], "b": {}}
    assert read_json(write_json(tmp_path / "a.json", content)) == content
    assert "ä" in (tmp_path / "a.json").read_text(encoding="utf-8")


def test_numpys_numbers_are_numbers_in_json(tmp_path: Path) -> None:
    content = {
        "loss": np.float32(0.5),
        "n": np.int64(3),
        "beats": np.bool_(True),
        "curve": np.array([1.0, 2.0]),
        "path": Path("a") / "b",
        "day": date(2026, 1, 2),
        "names": {"b", "a"},
    }
    assert read_json(write_json(tmp_path / "a.json", content)) == {
        "loss": 0.5,
        "n": 3,
        "beats": True,
        "curve": [1.0, 2.0],
        "path": "a/b",
        "day": "2026-01-02",
        "names": ["a", "b"],
    }


@pytest.mark.parametrize("value", [float("nan"), float("inf"), np.float32("nan")])
def test_json_refuses_what_is_no_number_and_writes_nothing(tmp_path: Path, value: Any) -> None:
    with pytest.raises(ValueError, match="JSON"):
        write_json(tmp_path / "a.json", {"a": value})
    assert not list(tmp_path.iterdir())


# ------------------------------------------------------------------------------- frames


@pytest.fixture
def frame() -> pd.DataFrame:
    return pd.DataFrame(
        {
            "name": ["=cmd|' /C calc'!A0", "-2", None],
            "kind": pd.Categorical(["@x", "plain", "plain"]),
            "onset": [-1.5, np.nan, 3.0],
            "n": pd.array([1, None, 3], dtype="Int64"),
            "+sum": ["a", "b", "c"],
        }
    )


def test_tables_for_spreadsheets_hold_no_formulas(tmp_path: Path, frame: pd.DataFrame) -> None:
    text = write_frame(tmp_path / "a.csv", frame).read_text()
    assert text.splitlines() == [
        "name,kind,onset,n,'+sum",
        "'=cmd|' /C calc'!A0,'@x,-1.5,1,a",
        "'-2,plain,,,b",
        ",plain,3.0,3,c",
    ]


def test_missing_values_are_na_in_bids_tables(tmp_path: Path, frame: pd.DataFrame) -> None:
    lines = write_frame(tmp_path / "a.tsv", frame).read_text().splitlines()
    assert lines[2].split("\t") == ["'-2", "plain", "n/a", "n/a", "b"]


def test_writing_a_table_leaves_the_frame_alone(tmp_path: Path, frame: pd.DataFrame) -> None:
    before = frame.copy()
    write_frame(tmp_path / "a.csv", frame)
    pd.testing.assert_frame_equal(frame, before)


def test_parquet_keeps_values_as_they_are(tmp_path: Path, frame: pd.DataFrame) -> None:
    place = write_frame(tmp_path / "a.parquet", frame)
    pd.testing.assert_frame_equal(pd.read_parquet(place), frame)


# -------------------------------------------------------------------------------- locks


def _increase(lock: Path, counter: Path, times: int) -> None:
    for _ in range(times):
        with locked(lock):
            counter.write_text(str(int(counter.read_text()) + 1))


def test_a_lock_lets_one_process_in_at_a_time(tmp_path: Path) -> None:
    counter = write_text(tmp_path / "n", "0")
    context = multiprocessing.get_context("spawn")
    work = [
        context.Process(target=_increase, args=(tmp_path / "locks" / "n.lock", counter, 50))
        for _ in range(3)
    ]
    for process in work:
        process.start()
    for process in work:
        process.join()
    assert counter.read_text() == "150"
    assert not list((tmp_path / "locks").iterdir())


def test_waiting_for_a_lock_is_told_once(tmp_path: Path) -> None:
    told: list[str] = []
    entered = threading.Event()

    def wait() -> None:
        with locked(tmp_path / "a.lock", lambda: told.append("waiting")):
            entered.set()

    with locked(tmp_path / "a.lock", lambda: told.append("never")):
        other = threading.Thread(target=wait)
        other.start()
        assert not entered.wait(0.3)
    other.join(10)
    assert entered.is_set()
    assert told == ["waiting"]


def test_a_killed_process_leaves_no_lock_behind(tmp_path: Path) -> None:
    code = (
        "import os, pathlib, sys; from ae_pipeline.runtime.files import locked\n"
        "with locked(pathlib.Path(sys.argv[1])): os.kill(os.getpid(), 9)"
    )
    place = tmp_path / "a.lock"
    assert subprocess.run([sys.executable, "-c", code, str(place)], check=False).returncode == -9
    assert place.exists()
    with locked(place, lambda: pytest.fail("still locked")):
        pass


# ------------------------------------------------------------------------------ digests


def test_a_digest_covers_every_file_in_order_but_no_name(tmp_path: Path) -> None:
    a, b = write_text(tmp_path / "a", "one"), write_text(tmp_path / "b", "two")
    renamed = write_text(tmp_path / "c", "one")
    assert digest_files([a, b]) == digest_files([renamed, b])
    assert digest_files([a, b]) != digest_files([b, a])
    assert digest_files([a, b]) != digest_files([write_text(tmp_path / "d", "onetwo")])
    write_text(b, "twO")
    assert digest_files([a, b]) != digest_files([renamed, write_text(tmp_path / "e", "two")])


def test_digests_do_not_change_between_releases(tmp_path: Path) -> None:
    # Every run folder made so far would count as not done.
    assert digest_files([write_text(tmp_path / "a", "one")]) == (
        "fe8d7a873dc48961a6af334c996b2cb3ce37149d5ce9c9253952a54c6a92c1ad"
    )
    assert digest_json({"b": [1, 2.5, None], "a": "ä"}) == (
        "cecd50ae940f833ef54a5705dbf8e0655dd0f8a6fcc280d68f14f9d2133d569f"
    )


@given(st.dictionaries(st.text(), st.integers() | st.text() | st.none(), max_size=6))
def test_the_order_of_keys_does_not_count(content: dict[str, Any]) -> None:
    assert digest_json(content) == digest_json(dict(reversed(content.items())))


def test_a_set_has_the_same_digest_in_every_process() -> None:
    code = (
        "from ae_pipeline.runtime.files import digest_json; "
        "print(digest_json({'a': set('abcdef')}))"
    )
    found = {
        subprocess.run(
            [sys.executable, "-c", code],
            env=os.environ | {"PYTHONHASHSEED": seed},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for seed in "12"
    }
    assert len(found) == 1


def test_a_key_changes_with_everything_that_decides_a_result(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    keys = [
        key("score", ["d1"], config={"a": 1}, bundle="b1"),
        key("train", ["d1"], config={"a": 1}, bundle="b1"),
        key("score", ["d2"], config={"a": 1}, bundle="b1"),
        key("score", ["d1"], config={"a": 2}, bundle="b1"),
        key("score", ["d1"], config={"a": 1}, bundle="b2"),
        key("score", ["d1"], config={"a": 1}),
    ]
    assert len(set(keys)) == len(keys)
    assert key("score", ["d1"], config={"a": 1}, bundle="b1") == keys[0]
    monkeypatch.setitem(STEP_VERSION, "score", STEP_VERSION["score"] + 1)
    assert key("score", ["d1"], config={"a": 1}, bundle="b1") not in keys


def test_a_step_without_a_version_has_no_key() -> None:
    with pytest.raises(KeyError):
        key("dream", [], config={})


# --------------------------------------------------------------------------- identities


def test_pseudonyms_are_stable_within_a_project_and_differ_between_projects(
    tmp_path: Path,
) -> None:
    one, two = tmp_path / "one", tmp_path / "two"
    first = pseudonyms(["anna", "bert"], "sub", root=one)
    assert first == pseudonyms(["bert", "anna"], "sub", root=one)
    assert set(first.values()).isdisjoint(pseudonyms(["anna", "bert"], "sub", root=two).values())
    assert all(code.startswith("sub-") and "anna" not in code for code in first.values())


def test_no_two_of_many_people_share_a_pseudonym(tmp_path: Path) -> None:
    people = [f"{i}" for i in range(70_000)]
    assert len(set(pseudonyms(people, "sub", root=tmp_path).values())) == len(people)


def test_only_the_user_can_read_the_secret_of_the_pseudonyms(tmp_path: Path) -> None:
    pseudonyms(["anna"], "sub", root=tmp_path)
    secret = tmp_path / "data" / ".pseudonym-key"
    assert stat.S_IMODE(secret.stat().st_mode) == 0o600
    assert len(secret.read_bytes()) == 32


def test_versions_name_what_decides_the_numbers() -> None:
    found = versions()
    assert found["numpy"] == np.__version__
    assert {"ae-pipeline", "torch", "mne", "scikit-learn"} <= set(found)
    assert json.dumps(dict(found))
